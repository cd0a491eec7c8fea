"""UCF101's official lists: classInd.txt, trainlistNN.txt and testlistNN.txt, read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import UserError

SPLITS: tuple[str, ...] = ("01", "02", "03")

_NAME = re.compile(r"v_([A-Za-z]+)_g(\d{2})_c(\d{2})\.avi")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lists:
    """One official split: class name -> index (from 1), and "<Class>/<file>" -> "train" or "test"."""

    classes: dict[str, int]
    split_of: dict[str, str]


def group_of(video_id: str) -> str | None:
    """ "YoYo/v_YoYo_g07_c02.avi" -> "YoYo_g07", the people and scene that its clips share; None for a name of another form.

    The folder names the class. The prefix of a file may differ from it in case (HandstandPushups holds v_HandStandPushups_...).
    """
    folder, _, file = video_id.partition("/")
    match = _NAME.fullmatch(file)
    return f"{folder}_g{match[2]}" if match and match[1].casefold() == folder.casefold() else None


def is_lists_folder(folder: Path) -> bool:
    """Whether the three kinds of lists are in it."""
    return (folder / "classInd.txt").is_file() and any(folder.glob("trainlist*.txt")) and any(folder.glob("testlist*.txt"))


def read_lists(folder: Path, split: str) -> Lists:
    """The lists of split "01", "02" or "03".

    Raises UserError with file and line for: a missing file, a line of another form, a class that classInd.txt does not know
    or numbers otherwise, a video listed twice, and a group (the same people in the same scene) in both train and test.
    """
    if split not in SPLITS:
        raise UserError(f"ucf101: no split {split!r}; there are: {', '.join(SPLITS)}")
    classes = _read_classes(folder / "classInd.txt")
    split_of: dict[str, str] = {}
    for part in ("train", "test"):
        for where, video in _videos(folder / f"{part}list{split}.txt", classes):
            if video in split_of:
                raise UserError(f"{where}: {video} is listed twice; use the official lists unchanged")
            split_of[video] = part
    _refuse_shared_groups(split_of, folder, split)
    return Lists(classes=classes, split_of=split_of)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """("<file>:<line>", text) of the lines that are not blank."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the list cannot be read ({error}); the option lists names the folder ucfTrainTestlist") from None
    return ((f"{path}:{number}", line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip())


def _read_classes(path: Path) -> dict[str, int]:
    classes: dict[str, int] = {}
    for where, line in _lines(path):
        index, _, name = line.partition(" ")
        if not index.isdigit() or not name.isalpha():
            raise UserError(f"{where}: {line!r} is not `<index> <Class>`; use the official lists unchanged")
        if name in classes or int(index) in classes.values():
            raise UserError(f"{where}: class {line!r} is listed twice; use the official lists unchanged")
        classes[name] = int(index)
    return classes


def _videos(path: Path, classes: dict[str, int]) -> Iterator[tuple[str, str]]:
    """("<file>:<line>", "<Class>/<file>"); the lists of training videos carry the class index, those of test videos need not."""
    for where, line in _lines(path):
        video, _, label = line.partition(" ")
        name = video.partition("/")[0]
        if group_of(video) is None or (label and not label.isdigit()):
            raise UserError(f"{where}: {line!r} is not `<Class>/v_<Class>_g<group>_c<clip>.avi [index]`; use the official lists unchanged")
        if name not in classes:
            raise UserError(f"{where}: class {name} is not in classInd.txt; use the three lists of one download")
        if label and int(label) != classes[name]:
            raise UserError(
                f"{where}: class {name} has index {label} here and {classes[name]} in classInd.txt; use the lists of one download"
            )
        yield where, video


def _refuse_shared_groups(split_of: dict[str, str], folder: Path, split: str) -> None:
    groups: dict[str, set[str | None]] = {"train": set(), "test": set()}
    for video, part in split_of.items():
        groups[part].add(group_of(video))
    shared = sorted(group for group in groups["train"] & groups["test"] if group)
    if shared:
        cause = f"{len(shared)} groups are in both lists (first: {shared[0]}), so people of the test videos would be trained on"
        raise UserError(f"{folder}: trainlist{split}.txt and testlist{split}.txt: {cause}; use the official lists unchanged")
