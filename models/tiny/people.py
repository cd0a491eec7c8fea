"""The people that the tiny networks learn from: performers drawn once, kept as plain arrays, identities apart from everybody else's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.training_loop import replace_folder
from pipelines.code_version import code_version
from pipelines.progress import Progress

# The demo's people are 0.. (training) and 1000.. (test); nobody is in two of the four ranges.
TRAINING_IDENTITIES = range(2000, 2160)
UNSEEN_IDENTITIES = range(3000, 3024)

_DRAWN_BY = ("pipelines/performers",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Casting:
    """Who is drawn and how: every identity in `clips` performances of `frames` frames at 24 per second, of which each `every`-th is kept."""

    identities: tuple[int, int]  # first, one after the last
    styles: tuple[str, ...] = ("dance", "talk", "fashion")  # clip i of an identity takes style (identity + i) modulo their number
    clips: int = 2
    frames: int = 24
    every: int = 3
    size: int = 128
    truth: tuple[str, ...] = ("keypoints", "scores")  # fields of pipelines.performers.Truth that are kept


@dataclass(frozen=True, slots=True)
class People:
    """N frames of `size` px. `truth` has the casting's fields, each [N, ...]; `identity`, `clip` [N] say where a frame is from."""

    frames: npt.NDArray[np.uint8]
    truth: dict[str, npt.NDArray[Any]]
    identity: npt.NDArray[np.int64]
    clip: npt.NDArray[np.int64]


def cast(identities: range, **choices: Any) -> Casting:
    """A casting of a range of identities."""
    return Casting(identities=(identities.start, identities.stop), **choices)


def draw(casting: Casting, cache: Path) -> People:
    """The frames and truth of a casting; drawn once per version of the drawing code, then read from `cache` (memory-mapped, changes stay private)."""
    folder = folder_of(casting, cache)
    if not (folder / "identity.npy").is_file():
        _draw_into(folder, casting)
    arrays = {path.stem: np.load(path, mmap_mode="c") for path in folder.glob("*.npy")}
    truth = {name: arrays[name] for name in casting.truth}
    return People(arrays["frames"], truth, arrays["identity"], arrays["clip"])


def folder_of(casting: Casting, cache: Path) -> Path:
    """Where `draw` keeps a casting; its name stands for who is drawn, how, and by which code."""
    words = json.dumps([asdict(casting), code_version(*_DRAWN_BY)], sort_keys=True)
    return cache / hashlib.sha256(words.encode()).hexdigest()[:16]


def plan_of(casting: Casting) -> list[tuple[int, int]]:
    """(identity, clip of that identity) of every clip, in the order in which `People.clip` counts them."""
    return [(identity, clip) for identity in range(*casting.identities) for clip in range(casting.clips)]


def _draw_into(folder: Path, casting: Casting) -> None:
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    plan = plan_of(casting)
    bar = Progress(len(plan), "clips", "performers")
    for number, (identity, clip) in enumerate(plan):
        for name, values in _performance(casting, identity, clip).items():
            parts.setdefault(name, []).append(values)
        count = len(parts["frames"][-1])
        parts.setdefault("identity", []).append(np.full(count, identity))
        parts.setdefault("clip", []).append(np.full(count, number))
        bar.update(1)
    bar.close()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    partial.mkdir(parents=True, exist_ok=True)
    for name, pieces in parts.items():
        np.save(partial / f"{name}.npy", np.concatenate(pieces))
    replace_folder(partial, folder)


def _performance(casting: Casting, identity: int, clip: int) -> dict[str, npt.NDArray[Any]]:
    from pipelines.performers import perform

    # what is not kept is not drawn
    made = perform(frames=-(-casting.frames // casting.every), size=casting.size, **direction(casting, identity, clip))
    return {"frames": made.frames, **{name: getattr(made.truth, name) for name in casting.truth}}


def direction(casting: Casting, identity: int, clip: int) -> dict[str, Any]:
    """What `perform` is asked for one clip, without how long and how large."""
    from pipelines.performers.camera import FULL_BODY, UPPER_BODY

    style = casting.styles[(identity + clip) % len(casting.styles)]
    seeds: Sequence[int] = [int(s) for s in np.random.SeedSequence([7, identity, clip]).generate_state(2) % (1 << 30)]
    return {
        "identity": identity, "motion": seeds[0], "background": seeds[1], "style": style, "fps": Fraction(24, casting.every),
        "framing": UPPER_BODY if style == "talk" else FULL_BODY,  # as the data sets have it
    }  # fmt: skip
