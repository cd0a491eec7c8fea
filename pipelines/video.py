"""Video files and folders of images: what is in them, their frames, and writing them. Rotation metadata is always applied.

Whoever wants frames of a clip calls `decode_frames` (all at once) or `iterate_clip` (in pieces, for long or large clips).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.clip_frames import Decoder, iterate_images, read_clip
from pipelines.errors import ClipError
from pipelines.image_sequence import image_frames, image_paths
from pipelines.video_stream import decoded, list_packets, opened, upright

# Containers may promise a frame or two that the codec never shows (edit lists, a cut last GOP): not worth a rejection.
_TOLERATED_MISSING = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """What a container says of its first video stream, without decoding it."""

    width: int  # upright, in pixels
    height: int
    rotation_deg: int  # clockwise turn that makes the stored frame upright: 0, 90, 180, 270
    fps: Fraction  # average
    variable_frame_rate: bool
    time_base: Fraction  # seconds per pts tick
    frames: int  # packets with data
    duration_s: float
    codec: str
    container: str  # "frames" for a folder of images


def probe(path: Path, fps: Fraction | None = None) -> VideoInfo:
    """Read the container's index and its first frame; packets are counted, not decoded.

    fps: the rate of a folder of numbered images, which holds none itself; files state their own and it is not looked at.
    Raises ClipError: empty_file, not_a_video, unreadable, no_frames, truncated.
    """
    if path.is_dir():
        return _probe_folder(path, fps)
    with opened(path) as (container, stream):
        packets = list_packets(container, stream, path.name)
        promised, time_base = stream.frames, Fraction(stream.time_base)
        rate = stream.average_rate or stream.guessed_rate
        codec, name = stream.codec_context.name, container.format.name.split(",")[0]
        hidden = _hidden(container, stream) if promised > len(packets) + _TOLERATED_MISSING else 0
    _check_packets(path, len(packets), promised - hidden)
    if rate is None:
        raise ClipError("not_a_video", path.name, "the stream has no frame rate", "re-encode it with a frame rate")
    first = next(decoded(path, path.name), None)
    if first is None:
        raise ClipError("no_frames", path.name, "no frame can be decoded", "re-encode it, or remove it from the folder")
    image = upright(first)
    frames = min(len(packets), promised) if promised else len(packets)  # GIF ends with an empty packet
    return VideoInfo(
        width=image.shape[1],
        height=image.shape[0],
        rotation_deg=-round(first.rotation) % 360,
        fps=Fraction(rate),
        variable_frame_rate=_is_variable(sorted(-1 if packet.pts is None else packet.pts for packet in packets)),
        time_base=time_base,
        frames=frames,
        duration_s=float(frames / Fraction(rate)),
        codec=codec,
        container=name,
    )


def _hidden(container: Any, stream: Any) -> int:
    """Packets that an edit list hides: a part of the file that is meant not to be shown."""
    container.seek(0)
    return sum(1 for packet in container.demux(stream) if packet.size and packet.is_discard)


def _check_packets(path: Path, held: int, promised: int) -> None:
    if not held:
        raise ClipError("no_frames", path.name, "the video stream holds no frame", "remove it from the folder")
    if promised - held > _TOLERATED_MISSING:
        raise ClipError(
            "truncated",
            path.name,
            f"the header says {promised} frames, the file holds {held}",
            "copy or download it again, or re-mux what is there with `ffmpeg -i in.mp4 -c copy out.mp4`",
        )


def _probe_folder(folder: Path, fps: Fraction | None) -> VideoInfo:
    if fps is None or fps <= 0:
        raise ClipError("not_a_video", folder.name, "a folder of images states no frame rate", "say the frames per second of its source")
    paths = image_paths(folder)
    height, width, _ = next(image_frames(folder, [0])).shape
    return VideoInfo(
        width=width,
        height=height,
        rotation_deg=0,
        fps=fps,
        variable_frame_rate=False,
        time_base=1 / fps,
        frames=len(paths),
        duration_s=float(len(paths) / fps),
        codec=paths[0].suffix[1:].lower(),
        container="frames",
    )


def _is_variable(stamps: Sequence[int]) -> bool:
    """Whether over 1 % of the steps between frames differ from the median step by more than rounding (one tick or 5 %)."""
    steps = np.diff(np.asarray(stamps))
    if len(steps) < 2:
        return False
    usual = np.median(steps)
    return bool((np.abs(steps - usual) > max(1.0, 0.05 * usual)).mean() > 0.01)


def iterate_frames(path: Path) -> Iterator[tuple[int, int | None, Frames]]:
    """(index, pts, [H, W, 3] upright RGB) of every frame, in presentation order; images have no pts. Raises ClipError."""
    if path.is_dir():
        for index, image in enumerate(image_frames(path)):
            yield index, None, image
        return
    for index, frame in enumerate(decoded(path, path.name)):
        yield index, frame.pts, upright(frame)


def read_video(path: Path) -> Frames:
    """All frames of a file or of a folder of images, [T, H, W, 3]. Raises ClipError."""
    frames = [image for _, _, image in iterate_frames(path)]
    if not frames:
        raise ClipError("no_frames", path.name, "no frame can be decoded", "re-encode it, or remove it from the folder")
    return np.stack(frames)


def decode_frames(clip: Clip, frames: Sequence[int] | None = None, *, decoder: Decoder = "auto") -> Frames:
    """[T, H, W, 3] upright RGB of the clip, or of the clip-relative indices `frames` (sorted or not, in their order), cropped to clip.crop.

    Memory is T * H * W * 3 bytes and one frame (10 s of 3840x2160 at 30 fps: 7.5 GB); `iterate_clip` has a bound.
    decoder: "auto" takes the faster one and the other where it fails; "pyav" and "decord" take one.
    Raises ClipError: decode_error when the file yields fewer frames than the clip has, bad_annotation for a crop outside the
    frame, and the codes of opening a file.
    """
    return read_clip(clip, range(clip.num_frames) if frames is None else frames, decoder)


def iterate_clip(clip: Clip, chunk: int) -> Iterator[Frames]:
    """The clip's frames as [t, H, W, 3], t = chunk (fewer in the last one), in order and cropped; each is decoded once.

    Memory is that of two chunks and the decoder's own frames, whatever the clip's length. Raises ClipError as decode_frames;
    ValueError for a chunk below 1.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk} must be 1 or more")
    held: list[Frames] = []
    for image in iterate_images(clip):
        held.append(image)
        if len(held) == chunk:
            yield np.stack(held)
            held = []
    if held:
        yield np.stack(held)


def encode_video(path: Path, frames: Frames, fps: Fraction, *, comment: str = "") -> None:
    """Write [T, H, W, 3] uint8 RGB (even H and W) as H.264, yuv420p, visually lossless (crf 16); the file appears whole or not at all."""
    import av

    _, height, width, _ = frames.shape
    if height % 2 or width % 2:
        raise ValueError(f"H.264 in yuv420p needs even sizes, got {width}x{height}")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(os.fspath(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            container.metadata["comment"] = comment
            # without mbtree equal frames give equal bytes; with it they did not at 32 and 64 px
            options = {"crf": "16", "preset": "fast", "threads": "1", "x264-params": "mbtree=0"}
            stream = container.add_stream("libx264", rate=fps, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for image in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            container.mux(stream.encode(None))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
