"""Clips of another lab in a folder: finding them, reading what they say of themselves, and their frames.

DIR/<clip id or video id>/frames/000000.png ...   with meta.json beside frames/   (docs/predictions.md)
DIR/<id>/000000.png ...                           the same without the inner folder
DIR/<id>.mp4 .mov .webm .mkv .avi .gif            one video per clip; lossy
DIR/<id>.png                                      a strip: all frames of the clip side by side, left to right
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.clip import Frames
from pipelines.errors import ClipError, UserError
from pipelines.image_sequence import image_paths, read_image
from pipelines.sources.frame_folder import image_files
from pipelines.video import read_video

VIDEOS = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".gif")
_LOSSY_IMAGES = (".jpg", ".jpeg")
META = ("method", "weights_id", "commit", "resolution_native", "fps", "ref_index", "crop_box_in_source", "padding", "seed", "steps", "cfg",
        "frame_rule", "lossy", "uses_truth_sharpness")  # fmt: skip
Kind = Literal["frames", "video", "strip"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ForeignClip:
    """One clip as it lies in the folder."""

    name: str  # clip id or video id, as the file or folder is called
    path: Path  # folder of images, video, or strip
    kind: Kind
    meta: Mapping[str, Any]  # of meta.json; {} without one

    @property
    def lossy(self) -> bool:
        """Whether frames lost something on their way into this format, or, as meta.json says, before that."""
        if self.kind == "frames":
            return bool(self.meta.get("lossy")) or any(path.suffix.lower() in _LOSSY_IMAGES for path in self.path.iterdir())
        return self.kind == "video" or bool(self.meta.get("lossy"))

    @property
    def gray(self) -> bool:
        """Whether its first image has one channel."""
        return self.kind != "video" and _is_gray(self.path if self.kind == "strip" else image_paths(self.path)[0])

    def frames(self, expected: int) -> Frames:
        """[T, H, W, 3] uint8 RGB without the recorded padding; a strip is cut into `expected` frames. Raises ClipError."""
        if self.kind == "frames":
            _check_numbers(self.name, [path.name for path in image_paths(self.path)])
        frames = cut_strip(self.path, self.name, expected) if self.kind == "strip" else read_video(self.path)
        return _unpadded(self.name, frames, self.meta.get("padding"))


def foreign_clips(folder: Path) -> list[ForeignClip]:
    """Clips of a folder, sorted by name. Raises UserError: no folder, nothing in it, one clip twice, a bad meta.json."""
    if not folder.is_dir():
        raise UserError(f"--predictions {folder}: no such folder")
    found = [clip for path in sorted(folder.iterdir()) if not path.name.startswith(".") and (clip := _clip(folder, path))]
    if not found:
        raise UserError(f"--predictions {folder}: no folder of frames, no video ({' '.join(VIDEOS)}) and no .png strip in it")
    twice = sorted({clip.name for clip in found if [other.name for other in found].count(clip.name) > 1})
    if twice:
        raise UserError(f"--predictions {folder}: {twice[0]} is there more than once; keep one file or folder per clip")
    return found


def _clip(folder: Path, path: Path) -> ForeignClip | None:
    if path.is_dir():
        inner = path / "frames" if (path / "frames").is_dir() else path
        if not image_files(inner):
            return None
        return ForeignClip(name=path.name, path=inner, kind="frames", meta=_meta(path / "meta.json"))
    kind: Kind | None = "video" if path.suffix.lower() in VIDEOS else "strip" if path.suffix.lower() == ".png" else None
    return None if kind is None else ForeignClip(name=path.stem, path=path, kind=kind, meta=_meta(folder / f"{path.stem}.json"))


def _is_gray(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode in ("1", "L", "LA")
    except (OSError, SyntaxError, ValueError):
        return False  # what cannot be read is said where it is read


def _meta(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error})") from None
    unknown = sorted(set(meta) - set(META)) if isinstance(meta, dict) else ["(no object)"]
    if unknown:
        raise UserError(f"{path}: unknown field {unknown[0]!r}; the fields are: {', '.join(META)}")
    if not isinstance(meta.get("ref_index"), int | None) or isinstance(meta.get("ref_index"), bool):
        raise UserError(f"{path}: ref_index must be a frame number or null, not {meta['ref_index']!r}")
    crop = meta.get("crop_box_in_source")
    if crop is not None and not (isinstance(crop, list) and len(crop) == 4 and all(type(side) is int for side in crop)):
        raise UserError(f"{path}: crop_box_in_source must be [left, top, right, bottom] in pixels or null, not {crop!r}")
    if type(meta.get("seed", 0)) is not int or not isinstance(meta.get("method", ""), str):
        raise UserError(f"{path}: seed must be a whole number and method a name, not {meta.get('seed')!r} and {meta.get('method')!r}")
    for name in ("lossy", "uses_truth_sharpness"):
        if not isinstance(meta.get(name), bool | None):
            raise UserError(f"{path}: {name} must be true or false, not {meta[name]!r}")
    return dict(meta)


def _check_numbers(name: str, files: Sequence[str]) -> None:
    """Images of one clip differ in one number only, which counts from 0 or 1 without a gap, so that frame k is frame k.

    Raises ClipError: truncated (a file that does not belong), frame_count (a gap, a number twice, another start).
    """
    parts = [re.fullmatch(r"(.*?)(\d+)(\D*)", Path(file).stem) for file in files]
    odd = next((file for file, part in zip(files, parts, strict=True) if part is None or part[1] != (parts[0] or part)[1]), None)
    if odd is not None:
        raise ClipError("truncated", name, f"{odd} is not numbered as {files[0]} is, so the frames have no order",
                        "name the frames 000000.png, 000001.png ... and leave nothing else in the folder")  # fmt: skip
    numbers = [int(part[2]) for part in parts if part is not None]
    for number, expected in zip(numbers, itertools.count(min(numbers[0], 1)), strict=False):
        if number != expected:
            raise ClipError("frame_count", name, f"the images count {', '.join(map(str, numbers[:3]))} ...; {expected} is not where it "
                            "should be", "number them from 0 or 1 on, without a gap and each once")  # fmt: skip


def cut_strip(path: Path, name: str, expected: int) -> Frames:
    """[expected, H, W, 3] pictures that stand side by side in one image. Raises ClipError (frame_count, unreadable image)."""
    strip = read_image(path)
    height, width, _ = strip.shape
    if width % expected:
        raise ClipError("frame_count", name, f"a strip {width} px wide does not hold {expected} frames of one width",
                        "put exactly the clip's frames side by side")  # fmt: skip
    return np.ascontiguousarray(strip.reshape(height, expected, width // expected, 3).swapaxes(0, 1))


def _unpadded(name: str, frames: Frames, padding: Any) -> Frames:
    """padding: [left, top, right, bottom] px that the method added, or null."""
    if padding is None:
        return frames
    if not (isinstance(padding, list) and len(padding) == 4 and all(type(p) is int and p >= 0 for p in padding)):
        raise ClipError("bad_annotation", name, f"meta.json: padding is {padding!r}", "give [left, top, right, bottom] in pixels, or null")
    left, top, right, bottom = padding
    height, width = frames.shape[1:3]
    if left + right >= width or top + bottom >= height:
        raise ClipError("bad_annotation", name, f"padding {padding} leaves nothing of {width}x{height}", "correct meta.json")
    return np.ascontiguousarray(frames[:, top : height - bottom, left : width - right])
