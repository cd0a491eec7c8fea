"""Clips as files of their own, for export and preview; everything else reads clips where they are.

copy   packets from the key frame on, nothing is decoded: as fast as the disk. The file begins before the clip (lead_in_frames)
       and may end behind it (tail_frames); an edit list tells players to begin at the clip's first frame.
exact  only the clip's frames, encoded again; their number is checked in the file that was written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.clip import Clip
from pipelines.clip_frames import local_clip, stamped_frames
from pipelines.errors import ClipError
from pipelines.video_stream import list_packets, opened, seek_before, upright

Mode = Literal["copy", "exact"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """What was written. The clip is frames [lead_in_frames, lead_in_frames + frames) of the file's packets in presentation order."""

    path: Path
    mode: Mode
    frames: int  # of the clip
    lead_in_frames: int  # before the clip, from its key frame
    tail_frames: int  # behind it, which its last frames refer to
    start_s: float  # of the clip's first frame, from the first frame of the file; the lead-in's length


def export_clip(clip: Clip, path: Path, mode: Mode) -> Export:
    """Write a clip as mp4; the file appears whole or not at all.

    copy needs timestamps and an unturned, uncropped clip; exact takes every clip (sizes that are odd lose their last row or column).
    Raises ClipError: decode_error where the clip cannot be copied or the frames written are not those asked for, and the codes of reading.
    """
    return copy_clip(clip, path) if mode == "copy" else encode_clip(clip, path)


def copy_clip(clip: Clip, path: Path) -> Export:
    """Remux the packets from the key frame at or before the clip's first frame to the last that its frames refer to."""
    clip = local_clip(clip)
    if clip.start_pts is None or clip.end_pts is None or clip.crop is not None or Path(clip.uri).is_dir():
        raise _not_copied(clip, "only a part of a file with timestamps, uncropped, can be copied")
    with opened(Path(clip.uri)) as (source, stream):
        if not seek_before(source, stream, clip.start_pts):
            raise _not_copied(clip, f"a {source.format.name} file lists no key frames")
        listed = list_packets(source, stream, clip.clip_id, until_pts=clip.end_pts)
        inside = [packet.pts is not None and clip.start_pts <= packet.pts < clip.end_pts for packet in listed]
        if sum(inside) != clip.num_frames:
            raise _not_copied(clip, f"{sum(inside)} packets carry stamps of its {clip.num_frames} frames")
        count = max(number for number, shown in enumerate(inside) if shown) + 1
        seek_before(source, stream, clip.start_pts)
        with _written(path) as target:
            _copy_packets(source, stream, target, count, clip.start_pts)
    stamps = [packet.pts for packet in listed[:count] if packet.pts is not None]
    lead_in = sum(stamp < clip.start_pts for stamp in stamps)
    return Export(
        path=path, mode="copy", frames=clip.num_frames, lead_in_frames=lead_in, tail_frames=count - lead_in - clip.num_frames,
        start_s=float((clip.start_pts - min(stamps)) * clip.time_base),
    )  # fmt: skip


def _not_copied(clip: Clip, cause: str) -> ClipError:
    return ClipError("decode_error", clip.clip_id, f"it cannot be copied: {cause}", "export it with mode exact")


def _copy_packets(source: Any, stream: Any, target: Any, count: int, start_pts: int) -> None:
    """`count` packets, their stamps counted from the clip's first frame: what comes before it is negative, and so in the edit list."""
    copy = target.add_stream_from_template(stream)
    copy.time_base = stream.time_base
    for packet in source.demux(stream):
        if not count:
            return
        if not packet.size or packet.is_discard:
            continue
        packet.pts = packet.pts - start_pts
        packet.dts = None if packet.dts is None else packet.dts - start_pts
        packet.stream = copy
        target.mux(packet)
        count -= 1


def encode_clip(clip: Clip, path: Path, *, crf: int = 18, preset: str = "veryfast") -> Export:
    """Encode the clip's frames as H.264, yuv420p, with their own stamps (at clip.fps where they must be turned or cropped). Raises ClipError."""
    with _written(path) as target:
        stream: Any = None
        for picture, stamp in _pictures(clip):
            if stream is None:
                stream = target.add_stream("libx264", rate=clip.fps, options={"crf": str(crf), "preset": preset})
                stream.width, stream.height, stream.pix_fmt = picture.width & ~1, picture.height & ~1, "yuv420p"
                stream.codec_context.time_base = clip.time_base if stamp is not None else 1 / clip.fps
            if (picture.width & ~1, picture.height & ~1) != (stream.width, stream.height):
                raise ClipError("decode_error", clip.clip_id, "the size of the frames changes within the clip", "re-encode the video")
            target.mux(stream.encode(picture))
        target.mux(stream.encode(None))  # a clip without frames has raised before
    _check_written(clip, path)
    return Export(path=path, mode="exact", frames=clip.num_frames, lead_in_frames=0, tail_frames=0, start_s=0.0)


def _pictures(clip: Clip) -> Iterator[tuple[Any, int | None]]:
    """(picture to encode, its stamp from the clip's start) of every frame.

    A frame that is neither turned nor cropped goes from decoder to encoder as it is, without becoming RGB.
    """
    import av

    for number, (frame, image, stamp) in enumerate(stamped_frames(clip)):
        picture = frame
        if image is None and (frame.width % 2 or frame.height % 2):
            image = upright(frame)
        if image is not None:
            even = np.ascontiguousarray(image[: image.shape[0] & ~1, : image.shape[1] & ~1])
            picture = av.VideoFrame.from_ndarray(even, format="rgb24")
        picture.pts, picture.time_base = (number, 1 / clip.fps) if stamp is None else (stamp, clip.time_base)
        picture.pict_type = 0  # the encoder chooses its own key frames
        yield picture, stamp


def _check_written(clip: Clip, path: Path) -> None:
    with opened(path) as (container, stream):
        held = len(list_packets(container, stream, path.name))
    if held != clip.num_frames:
        path.unlink()
        raise ClipError("decode_error", clip.clip_id, f"{held} of {clip.num_frames} frames were written", "re-encode the video")


@contextmanager
def _written(path: Path) -> Iterator[Any]:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with av.open(os.fspath(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            yield container
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
