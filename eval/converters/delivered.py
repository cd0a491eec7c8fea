"""Which files of a method's output answer which clip. Nothing is decoded, and what fits nothing is named."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eval.converters.layout import Layout
from pipelines.clip import Clip
from pipelines.errors import UserError

_ENDINGS = {"frames": (".png",), "strip": (".png",), "video": (".mp4", ".gif")}


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivered:
    """One clip as the method wrote it: one file, or its images by number."""

    clip: Clip
    paths: tuple[Path, ...]
    numbers: tuple[int, ...] = ()  # of single images
    said: Mapping[str, str] = field(default_factory=dict)  # seed, cfg: what the file's name says of the sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """found: by clip id; problems: (file or clip, what is wrong with it)."""

    found: Mapping[str, Delivered]
    problems: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Match:
    path: Path
    clip: Clip
    number: int | None
    said: Mapping[str, str]


def find_delivered(layout: Layout, folder: Path, names: Mapping[str, Clip], given: Mapping[str, str] | None = None) -> Findings:
    """Match every file under `folder` against the layout.

    names: clip or video name -> clip. given: path under `folder` (a file, or a folder of it) -> clip or video name, for
    methods whose file names do not say it. Raises UserError: no such folder; `given` names a clip that is not there.
    """
    if not folder.is_dir():
        raise UserError(f"--from {folder}: no such folder")
    own, problems = _own_names(layout, names)
    matches = []
    for path in _files(layout, folder):
        match = _given_match(layout, folder, path, names, given or {}) or _match(layout, path, own)
        if isinstance(match, str):
            problems.append((path.relative_to(folder).as_posix(), match))
        elif match is not None:
            matches.append(match)
    return _gathered(layout, folder, matches, problems)


def read_names(path: Path) -> dict[str, str]:
    """--names: CSV with the columns `path` and `clip`. Raises UserError."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--names {path}: {error}") from None
    if not rows or not {"path", "clip"} <= set(rows[0]):
        raise UserError(f"--names {path}: must have the columns path (below --from) and clip (clip id or video id), and at least one row")
    return {row["path"].strip("/"): row["clip"] for row in rows}


def _files(layout: Layout, folder: Path) -> list[Path]:
    return sorted(path for path in folder.resolve().rglob("*") if path.suffix.lower() in _ENDINGS[layout.kind] and path.is_file())


def _own_names(layout: Layout, names: Mapping[str, Clip]) -> tuple[dict[str, Clip], list[tuple[str, str]]]:
    """Names in the method's writing; those that two clips share in it are left out and said."""
    own: dict[str, Clip] = {}
    twice = set()
    for name, clip in names.items():
        written = layout.own_name(name)
        if own.setdefault(written, clip).clip_id != clip.clip_id:
            twice.add(written)
    for written in twice:
        del own[written]
    return own, [(name, f"several clips are called so in {layout.title}'s file names; use clip ids") for name in sorted(twice)]


def _given_match(layout: Layout, folder: Path, path: Path, names: Mapping[str, Clip], given: Mapping[str, str]) -> _Match | None:
    relative = path.relative_to(folder.resolve())
    name = next((given[part.as_posix()] for part in (relative, *relative.parents) if part.as_posix() in given), None)
    if name is None:
        return None
    if name not in names:
        raise UserError(f"--names: {relative.as_posix()} is said to answer {name!r}, which is no clip or single-clip video of the split")
    found = layout.expression(None).fullmatch(path.as_posix())
    if found is None:
        return None  # lies beside what the layout describes
    return _made(path, names[name], found.groupdict())


def _match(layout: Layout, path: Path, own: Mapping[str, Clip]) -> _Match | str | None:
    """A match; why there is none though the file is of this layout; None for any other file."""
    if "{clip}" in layout.pattern:
        found = layout.expression(own).fullmatch(path.as_posix())
        if found is not None:
            return _ambiguous(layout, found["clip"], own) or _made(path, own[found["clip"]], found.groupdict())
    if layout.expression(None).fullmatch(path.as_posix()) is None:
        return None
    return "its name fits the layout, but holds no name of a clip or single-clip video of the split; say which it is with --names"


def _ambiguous(layout: Layout, name: str, own: Mapping[str, Clip]) -> str:
    """`ref_a_b.mp4` is clip a_b with reference ref, or clip b with reference ref_a."""
    if "{any}_{clip}" not in layout.pattern:
        return ""
    others = [other for other in own if name.endswith(f"_{other}") and own[other].clip_id != own[name].clip_id]
    return f"may be of {name} or of {others[0]}; say which with --names" if others else ""


def _made(path: Path, clip: Clip, groups: Mapping[str, str | None]) -> _Match:
    number = groups.get("frame")
    said = {name: value for name in ("seed", "cfg") if (value := groups.get(name)) is not None}
    return _Match(path=path, clip=clip, number=None if number is None else int(number), said=said)


def _gathered(layout: Layout, folder: Path, matches: Iterable[_Match], problems: list[tuple[str, str]]) -> Findings:
    """One entry per clip; a clip with two files, or images in two folders, is a problem."""
    of_clip: dict[str, list[_Match]] = {}
    for match in matches:
        of_clip.setdefault(match.clip.clip_id, []).append(match)
    found = {}
    for clip_id, group in of_clip.items():
        places = sorted({(match.path.parent if layout.kind == "frames" else match.path).as_posix() for match in group})
        problem = (
            _numbering(group) if len(places) == 1 else f"is there more than once: {_short(folder, places)}; point --from at one of them"
        )
        if problem:
            problems.append((clip_id, problem))
        else:
            found[clip_id] = _delivered(group)
    return Findings(found=found, problems=tuple(problems))


def _short(folder: Path, places: Sequence[str]) -> str:
    root = folder.resolve().as_posix() + "/"
    return ", ".join(place.removeprefix(root) for place in places[:3])


def _numbering(group: Sequence[_Match]) -> str:
    """Why single images have no order: they must count from 0 or 1, without a gap, each number once."""
    numbers = sorted(match.number for match in group if match.number is not None)
    for number, expected in zip(numbers, range(min(numbers[0], 1) if numbers else 0, 1 << 62), strict=False):
        if number != expected:
            return f"its images count {', '.join(map(str, numbers[:3]))} ...; {expected} is not where it should be"
    return ""


def _delivered(group: Sequence[_Match]) -> Delivered:
    ordered = sorted(group, key=lambda match: match.number or 0)
    numbers = tuple(match.number for match in ordered if match.number is not None)
    return Delivered(clip=ordered[0].clip, paths=tuple(match.path for match in ordered), numbers=numbers, said=ordered[0].said)
