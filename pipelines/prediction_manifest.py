"""A folder of generated clips: one video per clip and manifest.json beside them.

This file format is all that methods and evaluation share: whoever can write it is scored by the same command as ours.

    {"format": 1, "method": "animate_anyone", "variant": "tiny", "seed": 0, "checkpoint_id": "...", "sampler": "ddim-20-cfg3.5",
     "dataset": "performers_dance", "split": "test",
     "clips": [{"clip_id": "...", "file": "....mp4", "sha256": "...", "frames": 48, "reference_frame": 0}]}

Cross-identity driving says `"driving": "cross"`, and of each clip whose motion it follows (`"driving_clip_id"`): then `clip_id` is the
clip whose person is shown, the file is as long as the driving clip, and there is no true clip to compare frames with.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from pipelines.errors import UserError

DrivenBy = Literal["self", "cross"]
"""Whose motion is followed: the clip's own, or another person's."""

MANIFEST = "manifest.json"
FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedClip:
    """One generated clip; frame k answers frame k of the true clip, or of the driving clip where there is another one."""

    clip_id: str
    file: str  # name inside the folder
    sha256: str  # of the file's bytes
    frames: int  # number of frames in the file
    reference_frame: int | None  # clip frame that the method was shown; None: the reference is not a frame of this clip
    lossy: bool = False  # the frames went through a lossy format before this file was written
    truth_sharpness: bool = False  # the method was given something measured on the true clip's pixels (sharpness, motion blur)
    driving_clip_id: str | None = None  # clip of another person whose motion is followed; None = its own motion

    def __post_init__(self) -> None:
        if Path(self.file).is_absolute() or ".." in Path(self.file).parts:
            raise UserError(f"clip {self.clip_id}: file {self.file!r} must be a name inside the folder of the manifest")
        if self.reference_frame is not None and not 0 <= self.reference_frame < max(1, self.frames):
            raise UserError(
                f"clip {self.clip_id}: reference_frame is {self.reference_frame}, not in 0..{self.frames - 1}; null: no frame of this clip"
            )
        if self.frames < 1:
            raise UserError(f"clip {self.clip_id}: frames is {self.frames}; leave a clip that was not generated out of the manifest")


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionManifest:
    """What a folder of generated clips says of itself."""

    method: str  # id of models/methods.py, or a name of your own
    variant: str  # "" for the plain method
    seed: int
    checkpoint_id: str  # "" for a method without weights, or of another lab
    sampler: str  # everything that changes the frames at generation time: sampler, steps, guidance, windows
    dataset: str
    split: str
    clips: tuple[PredictedClip, ...]
    driving: str = "self"  # one of DrivenBy

    def __post_init__(self) -> None:
        if self.driving not in get_args(DrivenBy):
            raise UserError(f"driving is {self.driving!r} in the manifest; it is one of: {', '.join(get_args(DrivenBy))}")
        odd = next((clip.clip_id for clip in self.clips if (clip.driving_clip_id is None) == (self.driving == "cross")), None)
        if odd is not None:
            raise UserError(f"clip {odd}: driving_clip_id names another person's clip where driving is 'cross', and nowhere else")
        ids = [clip.clip_id for clip in self.clips]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise UserError(f"clip {twice[0]} is listed more than once in the manifest; list each clip once")

    @property
    def prediction_id(self) -> str:
        """16 hex digits over all that identifies these clips, except their bytes."""
        named = [self.method, self.variant, self.seed, self.checkpoint_id, self.sampler, self.dataset, self.split]
        named += [self.driving] if self.driving != "self" else []  # ids of manifests from before there was a choice stay
        return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def sha256_of_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def predicted_clip(path: Path, *, clip_id: str, frames: int, reference_frame: int | None, **flags: bool) -> PredictedClip:
    """The manifest entry of a finished video file (hashes it). flags: `lossy`, `truth_sharpness`."""
    return PredictedClip(
        clip_id=clip_id,
        file=path.name,
        sha256=sha256_of_file(path),
        frames=frames,
        reference_frame=reference_frame,
        driving_clip_id=None,
        **flags,
    )


def write_manifest(folder: Path, manifest: PredictionManifest) -> Path:
    """Write manifest.json whole or not at all; every listed file must be there already.

    Raises UserError for a listed file that is missing.
    """
    for clip in manifest.clips:
        if not (folder / clip.file).is_file():
            raise UserError(
                f"{folder / clip.file} is listed for clip {clip.clip_id} but is not there; write the videos first, the manifest last"
            )
    path = folder / MANIFEST
    partial = folder / f".{MANIFEST}.{uuid.uuid4().hex}.part"
    partial.write_text(json.dumps({"format": FORMAT, **asdict(manifest)}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, path)
    return path


def read_manifest(folder: Path) -> PredictionManifest:
    """Read and check a manifest strictly: unknown, missing or wrongly typed fields are errors.

    Raises UserError, which names the file and the field.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(
            f"{folder} holds no {MANIFEST}; generated clips are scored by the manifest that lists them (see `python -m eval score --help`)"
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}); write it again with `pipelines.prediction_manifest.write_manifest`") from None
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise UserError(f"{path}: `format` must be {FORMAT}; this version of Rotoscope reads no other")
    clips = raw.get("clips")
    if not isinstance(clips, list):
        raise UserError(f"{path}: `clips` must be a list of clips")
    entries = tuple(PredictedClip(**_checked(path, f"clips[{i}]", PredictedClip, clip)) for i, clip in enumerate(clips))
    return PredictionManifest(**_checked(path, "manifest", PredictionManifest, {**raw, "clips": entries}))


_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "int | None": (int, type(None)),
    "str | None": (str, type(None)),
    "tuple[PredictedClip, ...]": (tuple,),
}


def _checked(path: Path, where: str, kind: type, values: Any) -> dict[str, Any]:
    """`values` when they are the fields of the dataclass `kind`, each of its type; fields with a default may be left out."""
    if not isinstance(values, dict):
        raise UserError(f"{path}: {where} must be an object, not {type(values).__name__}")
    types = {field.name: str(field.type) for field in fields(kind)}
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    wrong = sorted((set(types) ^ set(values)) - (optional - set(values)))
    if wrong:
        problem = "is missing" if wrong[0] in types else "is unknown"
        raise UserError(f"{path}: {where}: field {wrong[0]!r} {problem}; the fields are: {', '.join(types)}")
    for name, value in values.items():
        if not isinstance(value, _TYPES[types[name]]) or (isinstance(value, bool) and types[name] != "bool"):
            raise UserError(f"{path}: {where}.{name} must be {types[name]}, not {value!r}")
    return values
