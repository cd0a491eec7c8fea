"""Clips of performers with their words: what networks of motion and of language learn from. Drawn once, then read from a folder."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.training_loop import replace_folder
from pipelines.code_version import code_version
from pipelines.progress import Progress

# C = clips, T = frames of a clip, S = side in px

_NEVER = -1.0  # a box of nobody
_CLOSE_SHARE = 0.3  # of clips of other styles than talks that show the upper body only


@dataclass(frozen=True, kw_only=True, slots=True)
class Shooting:
    """Who is filmed and how. Clip i of an identity takes style (identity + i) modulo their number."""

    identities: tuple[int, int]  # first, one after the last
    styles: tuple[str, ...]
    clips: int = 2
    frames: int = 1
    fps: int = 24
    size: int = 128
    flow: bool = False  # keep the optical flow too


@dataclass(frozen=True, slots=True)
class Scenes:
    """frames [C, T, S, S, 3] uint8; boxes [C, T, 4] px of what is seen of the person, -1 where nothing is; words [C] each.

    flow [C, T - 1, S, S, 2] float16 px, flow_valid [C, T - 1, S, S], mask [C, T - 1, S, S] of the person: empty unless asked for.
    """

    frames: npt.NDArray[np.uint8]
    boxes: npt.NDArray[np.float32]
    identity: npt.NDArray[np.int64]
    clothing: list[str]
    action: list[str]
    caption: list[str]
    flow: npt.NDArray[np.float16]
    flow_valid: npt.NDArray[np.bool_]
    mask: npt.NDArray[np.bool_]


def styles() -> tuple[str, ...]:
    """Every style and action of the performers, in their order."""
    from pipelines.performers.motion import STYLES

    return tuple(STYLES)


def shoot(shooting: Shooting, cache: Path) -> Scenes:
    """The clips of a shooting; drawn once per version of the drawing code, then memory-mapped."""
    words = json.dumps([asdict(shooting), code_version("pipelines/performers", "models/tiny/footage.py")], sort_keys=True)
    folder = cache / f"footage-{hashlib.sha256(words.encode()).hexdigest()[:16]}"
    if not (folder / "words.json").is_file():
        _shoot_into(folder, shooting)
    return read_scenes(folder)


def read_scenes(folder: Path) -> Scenes:
    """What `shoot` wrote."""
    arrays = {path.stem: np.load(path, mmap_mode="c") for path in folder.glob("*.npy")}
    told: list[list[str]] = json.loads((folder / "words.json").read_text())
    clothing, action, caption = (list(column) for column in zip(*told, strict=True))
    return Scenes(
        arrays["frames"], arrays["boxes"], arrays["identity"], clothing, action, caption,
        arrays["flow"], arrays["flow_valid"], arrays["mask"],
    )  # fmt: skip


def _shoot_into(folder: Path, shooting: Shooting) -> None:
    plan = [(identity, clip) for identity in range(*shooting.identities) for clip in range(shooting.clips)]
    parts: dict[str, list[npt.NDArray[Any]]] = {}
    words: list[tuple[str, ...]] = []
    bar = Progress(len(plan), "clips", "performers")
    for identity, clip in plan:
        arrays, told = _take(shooting, identity, clip)
        words.append(told)
        for name, values in arrays.items():
            parts.setdefault(name, []).append(values)
        bar.update(1)
    bar.close()
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    partial.mkdir(parents=True, exist_ok=True)
    for name, pieces in parts.items():
        np.save(partial / f"{name}.npy", np.stack(pieces))
    (partial / "words.json").write_text(json.dumps(words))
    replace_folder(partial, folder)


def _take(shooting: Shooting, identity: int, clip: int) -> tuple[dict[str, npt.NDArray[Any]], tuple[str, ...]]:
    from pipelines.performers import FULL_BODY, UPPER_BODY, perform

    style = shooting.styles[(identity + clip) % len(shooting.styles)]
    seeds = np.random.SeedSequence([11, identity, clip]).generate_state(3)
    close = style == "talk" or seeds[2] < _CLOSE_SHARE * 2**32
    made = perform(
        identity, int(seeds[0] >> 2), frames=shooting.frames, size=shooting.size, fps=Fraction(shooting.fps),
        background=int(seeds[1] >> 2), style=style, framing=UPPER_BODY if close else FULL_BODY,
    )  # fmt: skip
    truth, kept = made.truth, slice(None) if shooting.flow else slice(0)
    arrays: dict[str, npt.NDArray[Any]] = {
        "frames": made.frames,
        "boxes": np.stack([_box(mask) for mask in truth.mask]),
        "identity": np.array(identity),
        "flow": truth.flow[kept],
        "flow_valid": truth.flow_valid[kept],
        "mask": truth.mask[:-1][kept],
    }
    return arrays, (str(truth.clothing), str(truth.action), str(truth.caption))


def _box(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.full(4, _NEVER, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)
