"""Video files: what is in them, their frames, and writing them. Rotation metadata is always applied."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError

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
    container: str


def _open(path: Path) -> Any:
    """Open a container; every failure becomes a ClipError with its code."""
    import av

    try:
        if path.stat().st_size == 0:
            raise ClipError("empty_file", path.name, "the file has zero bytes", "copy or download it again")
        return av.open(os.fspath(path))
    except (PermissionError, FileNotFoundError) as error:
        raise ClipError("unreadable", path.name, str(error), "check that the file is there and may be read") from None
    except (av.error.FFmpegError, OSError) as error:
        cause = f"no readable video container ({error.strerror or error})"
        raise ClipError("not_a_video", path.name, cause, "re-encode it, or remove it from the folder") from None


def _stream(container: Any, name: str) -> Any:
    if not container.streams.video:
        raise ClipError("not_a_video", name, "the container holds no video stream", "remove it from the folder")
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    return stream


def _upright(frame: Any) -> Frames:
    """[H, W, 3] RGB of one decoded frame, turned as its display matrix asks (PyAV: counter-clockwise degrees)."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def probe(path: Path) -> VideoInfo:
    """Read the container's index and its first frame; packets are counted, not decoded.

    Raises ClipError: empty_file, not_a_video, unreadable, no_frames, truncated.
    """
    import av

    with _open(path) as container:
        stream = _stream(container, path.name)
        try:
            stamps = sorted(p.pts if p.pts is not None else -1 for p in container.demux(stream) if p.size)
        except av.error.FFmpegError as error:
            raise ClipError("truncated", path.name, f"reading stopped with: {error}", "copy or download it again") from None
        promised, time_base = stream.frames, Fraction(stream.time_base)
        rate = stream.average_rate or stream.guessed_rate
        codec, name = stream.codec_context.name, container.format.name.split(",")[0]
    if not stamps:
        raise ClipError("no_frames", path.name, "the video stream holds no frame", "remove it from the folder")
    if promised - len(stamps) > _TOLERATED_MISSING:
        raise ClipError(
            "truncated",
            path.name,
            f"the header says {promised} frames, the file holds {len(stamps)}",
            "copy or download it again, or re-mux what is there with `ffmpeg -i in.mp4 -c copy out.mp4`",
        )
    if rate is None:
        raise ClipError("not_a_video", path.name, "the stream has no frame rate", "re-encode it with a frame rate")
    first = _first_frame(path)
    image = _upright(first)
    frames = min(len(stamps), promised) if promised else len(stamps)  # GIF ends with an empty packet
    return VideoInfo(
        width=image.shape[1],
        height=image.shape[0],
        rotation_deg=-round(first.rotation) % 360,
        fps=Fraction(rate),
        variable_frame_rate=_is_variable(stamps),
        time_base=time_base,
        frames=frames,
        duration_s=float(frames / Fraction(rate)),
        codec=codec,
        container=name,
    )


def _is_variable(stamps: Sequence[int]) -> bool:
    """Whether over 1 % of the steps between frames differ from the median step by more than rounding (one tick or 5 %)."""
    steps = np.diff(np.asarray(stamps))
    if len(steps) < 2:
        return False
    usual = np.median(steps)
    return bool((np.abs(steps - usual) > max(1.0, 0.05 * usual)).mean() > 0.01)


def _first_frame(path: Path) -> Any:
    for _, frame in _decode(path, path.name):
        return frame
    raise ClipError("no_frames", path.name, "no frame can be decoded", "re-encode it, or remove it from the folder")


def _decode(path: Path, subject: str, seek_pts: int | None = None) -> Iterator[tuple[int, Any]]:
    """(index, frame) in presentation order from the start, or from the key frame at or before `seek_pts`."""
    import av

    with _open(path) as container:
        stream = _stream(container, path.name)
        if seek_pts is not None:
            container.seek(seek_pts, stream=stream, backward=True)
        try:
            yield from enumerate(container.decode(stream))
        except av.error.FFmpegError as error:
            raise ClipError("decode_error", subject, f"decoding stopped with: {error}", "re-encode the video") from None


def iterate_frames(path: Path) -> Iterator[tuple[int, int | None, Frames]]:
    """(index, pts, [H, W, 3] upright RGB) of every frame, in presentation order. Raises ClipError."""
    for index, frame in _decode(path, path.name):
        yield index, frame.pts, _upright(frame)


def read_video(path: Path) -> Frames:
    """All frames of a file, [T, H, W, 3]. Raises ClipError."""
    frames = [image for _, _, image in iterate_frames(path)]
    if not frames:
        raise ClipError("no_frames", path.name, "no frame can be decoded", "re-encode it, or remove it from the folder")
    return np.stack(frames)


def _clip_frames(clip: Clip) -> Iterator[tuple[int, Any]]:
    """(clip-relative index, frame) of the clip's frames; seeks by timestamp where the file has usable ones."""
    if clip.start_pts is None or clip.end_pts is None or clip.start_frame == 0:
        for index, frame in _decode(Path(clip.uri), clip.clip_id):
            if index >= clip.end_frame:
                return
            if index >= clip.start_frame:
                yield index - clip.start_frame, frame
        return
    position = 0
    for _, frame in _decode(Path(clip.uri), clip.clip_id, seek_pts=clip.start_pts):
        if frame.pts is None or frame.pts < clip.start_pts:
            continue
        if frame.pts >= clip.end_pts:
            return
        yield position, frame
        position += 1


def decode_frames(clip: Clip, frames: Sequence[int] | None = None) -> Frames:
    """[T, H, W, 3] upright RGB of the clip, or of the clip-relative indices `frames` (sorted or not, in their order).

    Raises ClipError: decode_error when the file yields fewer frames than the clip has, and the codes of opening a file.
    """
    wanted = None if frames is None else set(frames)
    last = clip.num_frames - 1 if wanted is None else max(wanted)
    found: dict[int, Frames] = {}
    for position, frame in _clip_frames(clip):
        if wanted is None or position in wanted:
            found[position] = _upright(frame)
        if position >= last:
            break
    order = range(clip.num_frames) if frames is None else frames
    missing = [index for index in order if index not in found]
    if missing:
        raise ClipError(
            "decode_error",
            clip.clip_id,
            f"{len(missing)} of {len(order)} frames cannot be decoded (first: {missing[0]})",
            "re-encode the video, or remove it from the folder",
        )
    return np.stack([found[index] for index in order])


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
