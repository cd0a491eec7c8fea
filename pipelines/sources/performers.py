"""The synthetic people: videos drawn by code into the lake, with exact ground truth beside each.

Four data sets, shaped like the published ones: performers_dance like TikTok, performers_talk like TED-talks,
performers_fashion like UBC Fashion, and performers_actions, whose rows name their class as those of UCF101 do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipelines.errors import UserError
from pipelines.forget import Removed, mark_removed, removed
from pipelines.lake import Lake
from pipelines.performers import PerformerVideo, write_dataset
from pipelines.performers.actions import ACTIONS
from pipelines.performers.recipe import Recipe
from pipelines.sources.performers_processes import Arguments, draw_ahead
from pipelines.sources.scan import scan_file
from pipelines.sources.terms import chosen_options

# The demo's data set: people of the test split are never seen in training.
DEMO_OPTIONS: dict[str, Any] = {
    "train_identities": 14,
    "test_identities": 4,
    "train_clips": 2,  # per identity
    "test_clips": 1,
    "frames": 36,
    "size": 128,
    "seed": 0,
}

_DANCE: dict[str, Any] = DEMO_OPTIONS | {
    "fps": 24,
    "framing": "full",  # full | upper (hips up)
    "places": None,  # only these, one text with commas or a list: studio, room, stage, street, park; None = any
    "blur": 0.0,  # share of a frame's time that the shutter is open, 0..1
    "persons": 1,  # up to 3; the truth is that of the one whom the row names
    "cuts": 0,  # hard cuts in each video
}

OPTIONS: dict[str, dict[str, Any]] = {
    "performers": _DANCE,
    "performers_dance": _DANCE,
    "performers_talk": _DANCE
    | {"train_identities": 10, "test_identities": 3, "frames": 75, "fps": 25, "framing": "upper", "places": "stage,studio"},
    "performers_fashion": _DANCE
    | {"train_identities": 8, "test_identities": 3, "train_clips": 1, "frames": 120, "fps": 30, "places": "studio"},
    "performers_actions": _DANCE
    | {"train_identities": 22, "test_identities": 11, "frames": 50, "fps": 25, "classes": None},  # classes: as places; None = all
}
"""Every option of each of the kinds, with its default. size: px of the side, or "WIDTHxHEIGHT"."""

_STYLES = {"performers_talk": "talk", "performers_fashion": "fashion"}
# Nobody is in two of the data sets; test people are far from every training person, however many there are.
_FIRST_IDENTITY = {"performers": 0, "performers_dance": 0, "performers_talk": 200, "performers_fashion": 400, "performers_actions": 600}
_MOST_IDENTITIES = {"performers": 900, "performers_dance": 900} | dict.fromkeys(("performers_talk", "performers_fashion"), 200)
_MOST_IDENTITIES["performers_actions"] = 300
_FIRST_TEST_IDENTITY = 1000
_ACTION = "action:"  # before the class, in the column `annotations`, as in the rows of UCF101


def scan_performers(
    lake: Lake,
    name: str,
    options: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
    kind: str = "performers",
) -> list[dict[str, Any]]:
    """Draw what is missing and give one row of `videos` per clip; `options` as OPTIONS[kind].

    Who was removed by `rotoscope forget` is not drawn again: their rows fail with code `removed`.
    Raises UserError for unknown options and for values that cannot be had.
    """
    chosen = chosen_options(name, options, OPTIONS[kind])
    train, test = _people(name, kind, chosen)
    gone = removed(lake)

    def skip(video: PerformerVideo) -> bool:
        return bool(mark_removed(gone, [_known(name, video)])[0].get("code"))

    folder = lake.root / "videos" / name
    same: dict[str, Any] = {
        "folder": folder,
        "name": name,
        "frames": _whole(name, chosen, "frames", 1),
        "size": _size(name, chosen["size"]),
        "seed": _whole(name, chosen, "seed", 0),
        "recipe": _recipe(name, kind, chosen),
    }
    splits: list[tuple[Sequence[int], Sequence[int], int]] = [
        (train, [], _whole(name, chosen, "train_clips", 1)),
        ([], test, _whole(name, chosen, "test_clips", 1)),
    ]
    calls = [
        same | {"identities": trained, "test_identities": unseen, "clips_per_identity": clips}
        for trained, unseen, clips in splits
        if trained or unseen
    ]
    videos = _drawn(calls, skip, progress)
    lake.put(folder)
    return [_row(lake, name, gone, video) for video in videos]


def _drawn(
    calls: Sequence[Arguments], skip: Callable[[PerformerVideo], bool], progress: Callable[[int, int], None] | None
) -> list[PerformerVideo]:
    """All videos of the calls; those without a file are drawn by several processes where they are many, then what is not whole by this one."""
    planned = [video for call in calls for video in write_dataset(**call, skip=lambda _: True)]
    wanted = [video for video in planned if not skip(video)]
    reached = 0

    def say(done: int) -> None:
        nonlocal reached
        if progress is not None and done >= reached:  # what was drawn ahead is looked at again
            reached = done
            progress(done, len(planned))

    missing = [video for video in wanted if not video.path.is_file()]
    draw_ahead(calls, missing, lambda: say(sum(video.path.is_file() for video in wanted)))

    def after(before: int) -> Callable[[int, int], None]:
        return lambda done, _: say(before + done)

    done = 0
    for call in calls:
        done += len(write_dataset(**call, skip=skip, progress=after(done)))
    return planned


def scan_performers_dance(lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None) -> Any:
    """Dances to a beat, the whole body in view."""
    return scan_performers(lake, name, options, progress, "performers_dance")


def scan_performers_talk(lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None) -> Any:
    """Talks with gestures, from the hips up, on a stage or in a studio."""
    return scan_performers(lake, name, options, progress, "performers_talk")


def scan_performers_fashion(lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None) -> Any:
    """Walks, poses and full turns in a plain studio."""
    return scan_performers(lake, name, options, progress, "performers_fashion")


def scan_performers_actions(lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None) -> Any:
    """Labelled actions; the class is in the column `annotations`."""
    return scan_performers(lake, name, options, progress, "performers_actions")


def _known(name: str, video: PerformerVideo) -> dict[str, Any]:
    """What the row says before the file is looked at."""
    return {
        "dataset": name,
        "video_id": video.path.name,
        "split": video.split,
        "subject": video.subject,
        "licence": "Apache-2.0 (drawn by Rotoscope)",
        "terms_accepted": True,
        "annotations": f"{_ACTION}{video.action}" if video.action else None,
    }


def _row(lake: Lake, name: str, gone: Removed, video: PerformerVideo) -> dict[str, Any]:
    known = _known(name, video)
    (marked,) = mark_removed(gone, [known])
    if marked.get("code"):
        return {**marked, "uri": lake.uri(video.path)}
    return scan_file(lake, video.path, **known)


def _people(name: str, kind: str, chosen: Mapping[str, Any]) -> tuple[range, range]:
    """(training, test) identities."""
    most, first = _MOST_IDENTITIES[kind], _FIRST_IDENTITY[kind]
    counts = [_whole(name, chosen, option, 0, most) for option in ("train_identities", "test_identities")]
    if not any(counts):
        raise UserError(f"data set {name}: train_identities and test_identities are both 0; give at least one person")
    test = _FIRST_TEST_IDENTITY + first
    return range(first, first + counts[0]), range(test, test + counts[1])


def _whole(name: str, chosen: Mapping[str, Any], option: str, least: int, most: int = 1 << 30) -> int:
    value = chosen[option]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UserError(f"data set {name}: {option}={value!r}; give a whole number in {least}..{most}")
    return value


def _size(name: str, given: Any) -> int | tuple[int, int]:
    """A side, or (height, width) of "WIDTHxHEIGHT" or [width, height]."""
    sides = given.lower().split("x") if isinstance(given, str) else given if isinstance(given, list | tuple) else [given, given]
    try:
        width, height = (int(side) for side in sides)
    except (TypeError, ValueError):
        width = height = 0
    if not all(64 <= side <= 1024 and side % 2 == 0 for side in (width, height)):
        raise UserError(f"data set {name}: size={given!r}; give an even side of 64..1024 px, or WIDTHxHEIGHT, for example 128 or 96x128")
    return width if width == height else (height, width)


def _several(given: Any) -> tuple[str, ...]:
    names = given.split(",") if isinstance(given, str) else given or ()
    return tuple(str(name).strip() for name in names)


def _recipe(name: str, kind: str, chosen: Mapping[str, Any]) -> Recipe:
    actions = _several(chosen["classes"]) or tuple(ACTIONS) if kind == "performers_actions" else ()
    unknown = sorted(set(actions) - set(ACTIONS))
    if unknown:
        raise UserError(f"data set {name}: no class {unknown[0]!r}; there are: {', '.join(ACTIONS)}")
    try:
        return Recipe(
            style=_STYLES.get(kind, "dance"),
            classes=actions,
            fps=_whole(name, chosen, "fps", 1, 120),
            framing=chosen["framing"],
            places=_several(chosen["places"]),  # type: ignore[arg-type]  # checked by the recipe
            blur=float(chosen["blur"]),
            persons=_whole(name, chosen, "persons", 1),
            cuts=_whole(name, chosen, "cuts", 0),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"data set {name}: {error}") from None
