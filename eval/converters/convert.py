"""convert(): a method's output folder becomes one folder per clip, frames/000000.png and meta.json (docs/converters.md)."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.converters.delivered import Delivered, find_delivered
from eval.converters.layout import Layout
from eval.converters.take import Taken, clip_frames, size_and_length, taken
from eval.foreign_clips import META
from eval.page import write_file
from eval.pairing import clip_names
from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.lake import Lake

ASPECT_TOLERANCE = 0.02  # of width over height; sides that were only rounded to even numbers stay inside


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What the files do not say of how they were made; None = not known, and not recorded."""

    weights_id: str | None = None
    commit: str | None = None
    seed: int | None = None
    steps: int | None = None
    cfg: float | str | None = None
    reference_frame: int | None = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """One clip that can be converted: size (width, height) of its frames, and which of the file's frames they are."""

    delivered: Delivered
    size: tuple[int, int]
    taken: Taken


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a folder holds, before anything is written. problems: (file or clip, what is wrong)."""

    layout: Layout
    folder: Path
    clips: int  # of the split
    planned: Mapping[str, Planned]
    missing: tuple[str, ...]  # clip ids without a file
    problems: tuple[tuple[str, str], ...] = field(default=())

    def text(self) -> str:
        """The report for people: counts, the clips, then what does not fit."""
        counts = f"{self.layout.title}: {len(self.planned)} of {self.clips} clips can be converted"
        parts = [
            counts,
            *([f"{len(self.problems)} problems"] if self.problems else []),
            *([f"{len(self.missing)} missing"] if self.missing else []),
        ]
        lines = [", ".join(parts), *(_planned_line(self.folder, planned) for planned in self.planned.values())]
        lines += [f"  problem: {name}: {text}" for name, text in self.problems]
        lines += [f"  missing: {clip_id}" for clip_id in self.missing]
        unchecked = [] if self.layout.verified else [f"  note: {self.layout.source}"]
        return "\n".join([*lines, *unchecked, *(f"  note: {note}" for note in self.layout.notes)])


def _planned_line(folder: Path, planned: Planned) -> str:
    delivered = planned.delivered
    where = delivered.paths[0].relative_to(folder.resolve()).as_posix()
    many = f" and {len(delivered.paths) - 1} more" if len(delivered.paths) > 1 else ""
    text = f"  {delivered.clip.clip_id}: {where}{many}, {len(planned.taken.frames)} frames of {planned.size[0]}x{planned.size[1]}"
    return text + (f"; {planned.taken.said}" if planned.taken.said else "")


def plan_conversion(lake: Lake, layout: Layout, folder: Path, *, dataset: str, split: str, given: Mapping[str, str] | None = None) -> Plan:
    """Find a method's clips and check their lengths and sizes; writes nothing. Raises UserError (folder, data set, split)."""
    clips = lake.clips(dataset, split)
    if not clips:
        raise UserError(f"--dataset {dataset} --split {split}: no usable clips in this lake; see `rotoscope status`")
    findings = find_delivered(layout, folder, clip_names(clips), given)
    planned, problems = {}, list(findings.problems)
    for clip in clips:
        delivered = findings.found.get(clip.clip_id)
        try:
            if delivered is not None:
                planned[clip.clip_id] = _planned(layout, delivered)
        except ClipError as error:
            problems.append((clip.clip_id, f"{error.code}: {error.reason}"))
    answered = {*findings.found, *(name for name, _ in problems)}
    missing = tuple(clip.clip_id for clip in clips if clip.clip_id not in answered)
    return Plan(layout=layout, folder=folder, clips=len(clips), planned=planned, missing=missing, problems=tuple(problems))


def _planned(layout: Layout, delivered: Delivered) -> Planned:
    width, height, length = size_and_length(layout, delivered)
    return Planned(
        delivered=delivered, size=(width, height), taken=taken(layout, delivered.clip.clip_id, length, delivered.clip.num_frames)
    )


def convert(plan: Plan, out: Path, settings: Settings, show: Callable[[str], None] = print) -> list[str]:
    """Write every planned clip; returns the ids of those that were written, and says the others.

    A folder of an earlier conversion of the same method is replaced. Raises UserError: nothing to convert, or something
    else lies where a clip is to be written.
    """
    if not plan.planned:
        raise UserError(f"--from {plan.folder}: no clip of {plan.layout.title} can be converted; the lines above say why")
    written = []
    for clip_id, planned in plan.planned.items():
        try:
            frames, chosen = clip_frames(plan.layout, planned.delivered)
        except ClipError as error:
            show(f"  problem: {clip_id}: {error.code}: {error.reason}")
            continue
        meta = meta_of(plan.layout, planned.delivered, (frames.shape[2], frames.shape[1]), chosen, settings)
        _write(out / clip_id, frames, meta)
        written.append(clip_id)
    return written


def meta_of(layout: Layout, delivered: Delivered, size: tuple[int, int], chosen: Taken, settings: Settings) -> dict[str, Any]:
    """What meta.json says of a clip; only what is known. size: (width, height) of its frames."""
    said: dict[str, Any] = {
        "method": layout.method,
        "weights_id": settings.weights_id,
        "commit": settings.commit,
        "resolution_native": list(size),
        "fps": _file_rate(layout, delivered),
        "crop_box_in_source": crop_box(layout, delivered.clip, size),
        "seed": int(delivered.said["seed"]) if "seed" in delivered.said else settings.seed,
        "steps": settings.steps,
        "cfg": delivered.said.get("cfg") if settings.cfg is None else settings.cfg,
        "frame_rule": frame_rule(layout, chosen),
        "lossy": True if layout.kind == "video" else None,
        "uses_truth_sharpness": True if layout.sees_truth else None,
    }
    known = {name: value for name, value in said.items() if value is not None}
    return {name: value for name, value in {**known, "ref_index": settings.reference_frame}.items() if name in META}


def frame_rule(layout: Layout, chosen: Taken) -> str:
    """In words, how the frames came out of the file."""
    parts = [{"frames": "single images in the order of their numbers", "strip": "pictures of a strip, left to right",
              "video": "frames of a video"}[layout.kind]]  # fmt: skip
    if layout.panels is not None:
        parts.append(f"panel {layout.panels.index + 1} of {layout.panels.columns}")
    return "; ".join([*parts, *([chosen.said] if chosen.said else [])])


def crop_box(layout: Layout, clip: Clip, size: tuple[int, int]) -> list[int] | None:
    """[left, top, right, bottom] of the clip that the method saw; None where that is the whole clip, or nothing of it.

    A method that covers its size scales the clip until both sides are filled and cuts out the middle.
    """
    if layout.fit != "covered":
        return None
    aspect = size[0] / size[1]
    if abs(aspect / (clip.width / clip.height) - 1) <= ASPECT_TOLERANCE:
        return None
    width, height = min(clip.width, round(clip.height * aspect)), min(clip.height, round(clip.width / aspect))
    left, top = (clip.width - width) // 2, (clip.height - height) // 2
    return [left, top, left + width, top + height]


def _file_rate(layout: Layout, delivered: Delivered) -> float | None:
    from pipelines.video import probe

    return float(probe(delivered.paths[0]).fps) if layout.kind == "video" else None


def _write(folder: Path, frames: Frames, meta: Mapping[str, Any]) -> None:
    """frames/000000.png ... and meta.json; the folder appears whole or not at all."""
    from PIL import Image

    _require_ours(folder, str(meta["method"]))
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    try:
        (partial / "frames").mkdir(parents=True)
        for i, frame in enumerate(frames):
            Image.fromarray(frame).save(partial / "frames" / f"{i:06d}.png", compress_level=1)
        write_file(partial / "meta.json", json.dumps(meta, indent=2, ensure_ascii=False) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _require_ours(folder: Path, method: str) -> None:
    """Raise UserError unless there is nothing, or an earlier conversion of the same method."""
    if not folder.exists():
        return
    try:
        earlier = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        earlier = {}
    if not isinstance(earlier, dict) or earlier.get("method") != method:
        raise UserError(f"--to: {folder} is there and is no conversion of {method}; give an empty folder")
