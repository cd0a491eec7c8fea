"""The video stream of one file, through PyAV: opening, seeking, and decoding no more than what was asked for.

Two facts of FFmpeg shape this file. A seek may land behind the frame that was asked for (it searches decoding stamps, and MPEG
transport and program streams list no key frames at all), so where it landed is always checked. And a frame that no other
frame refers to may be left undecoded without changing any other frame.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip import Frames
from pipelines.errors import ClipError

# Containers without an index of key frames: seeking in them lands late, and frames would be missing or others.
_UNSEEKABLE = frozenset({"mpegts", "mpeg"})
# Codecs whose "non-reference" frames are referred to by nothing. Not HEVC: there the word holds within one temporal layer only.
_SKIPS_SAFELY = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video"})
_READ_LIMIT_S = 60.0  # for opening a file, and for each read: a network drive that hangs becomes an error


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet as the container lists it, in decoding order."""

    pts: int | None
    key: bool


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """(container, video stream) of a file; every failure to open becomes a ClipError.

    Raises ClipError: empty_file, not_a_video, unreadable.
    """
    with _container(path) as container:
        streams = [stream for stream in container.streams.video if stream.codec_context is not None]
        if not container.streams.video:
            raise ClipError("not_a_video", path.name, "the container holds no video stream", "remove it from the folder")
        if not streams:
            raise ClipError("not_a_video", path.name, "the video's codec is not known", "re-encode it, for example as H.264")
        streams[0].thread_type = "AUTO"
        yield container, streams[0]


def _container(path: Path) -> Any:
    import av

    try:
        if path.stat().st_size == 0:
            raise ClipError("empty_file", path.name, "the file has zero bytes", "copy or download it again")
        return av.open(os.fspath(path), metadata_errors="replace", timeout=_READ_LIMIT_S)
    except (PermissionError, FileNotFoundError) as error:
        raise ClipError("unreadable", path.name, str(error), "check that the file is there and may be read") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        cause = f"no readable video container ({getattr(error, 'strerror', None) or error})"
        raise ClipError("not_a_video", path.name, cause, "re-encode it, or remove it from the folder") from None


def upright(frame: Any) -> Frames:
    """[H, W, 3] RGB of one decoded frame, turned as its display matrix asks (PyAV: counter-clockwise degrees)."""
    image = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(image, turns)) if turns else image


def list_packets(container: Any, stream: Any, name: str, until_pts: int | None = None) -> list[Packet]:
    """Packets from where the container stands, undecoded and without those that are never shown.

    until_pts: reading ends at the first key frame at or after it (what follows in decoding order may come before it in
    presentation, up to there). Raises ClipError truncated.
    """
    import av

    packets = []
    try:
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue
            if until_pts is not None and packet.is_keyframe and packet.pts is not None and packet.pts >= until_pts:
                packets.append(Packet(packet.pts, True))
                packets += _leading(container, stream, packet.pts)
                break
            packets.append(Packet(packet.pts, bool(packet.is_keyframe)))
    except av.error.FFmpegError as error:
        raise ClipError("truncated", name, f"reading stopped with: {error}", "copy or download it again") from None
    return packets


def _leading(container: Any, stream: Any, key_pts: int) -> Iterator[Packet]:
    """Packets right behind a key frame in decoding order and before it in presentation (an open group of pictures)."""
    for packet in container.demux(stream):
        if not packet.size or packet.pts is None or packet.pts >= key_pts:
            return
        yield Packet(packet.pts, False)


def seek_before(container: Any, stream: Any, pts: int) -> bool:
    """Stand at a key frame whose stamp is at or before `pts`; False where the container has no such place (then open it again)."""
    import av

    if container.format.name in _UNSEEKABLE:
        return False
    step = max(1, round(1 / float(stream.time_base)))  # one second
    back, first = 0, stream.start_time or 0
    while pts - back >= first:
        try:
            container.seek(pts - back, stream=stream, backward=True)
            landed = next((packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard), None)
            if landed is not None and landed <= pts:
                container.seek(pts - back, stream=stream, backward=True)
                return True
        except av.error.FFmpegError:
            return False
        back = max(step, 2 * back)
    return False


def decoded(path: Path, subject: str, seek_pts: int | None = None) -> Iterator[Any]:
    """Frames in presentation order from the start, or from a key frame at or before `seek_pts`. Raises ClipError.

    From the first damaged frame on one thread decodes: what FFmpeg's threads conceal differs from run to run.
    """
    for done, frame in enumerate(_decoded(path, subject, seek_pts, threads=0)):
        if frame.is_corrupt:
            yield from islice(_decoded(path, subject, seek_pts, threads=1), done, None)
            return
        yield frame


def _decoded(path: Path, subject: str, seek_pts: int | None, threads: int) -> Iterator[Any]:
    """threads: 0 as many as FFmpeg likes."""
    import av

    with opened(path) as (container, stream):
        stream.codec_context.thread_count = threads
        if seek_pts is not None and not seek_before(container, stream, seek_pts):
            yield from _decoded(path, subject, None, threads)
            return
        try:
            yield from container.decode(stream) if seek_pts is None else _decoded_to(container, stream, seek_pts)
        except av.error.FFmpegError as error:
            raise ClipError("decode_error", subject, f"decoding stopped with: {error}", "re-encode the video") from None


def _decoded_to(container: Any, stream: Any, pts: int) -> Iterator[Any]:
    """Decode on from here; before `pts` only frames that others refer to."""
    codec = stream.codec_context
    skips = codec.name in _SKIPS_SAFELY
    for packet in container.demux(stream):
        codec.skip_frame = "NONREF" if skips and packet.pts is not None and packet.pts < pts else "DEFAULT"
        yield from packet.decode()


def stamps_between(path: Path, start_pts: int, end_pts: int) -> list[int] | None:
    """Stamps in [start_pts, end_pts) in presentation order, undecoded; None where seeking or the stamps are not to be relied on."""
    with opened(path) as (container, stream):
        if not seek_before(container, stream, start_pts):
            return None
        packets = list_packets(container, stream, path.name, until_pts=end_pts)
    return sorted_stamps(packets, start_pts, end_pts)


def sorted_stamps(packets: Sequence[Packet], start_pts: int | None = None, end_pts: int | None = None) -> list[int] | None:
    """Stamps in order, those in [start_pts, end_pts) if given; None where one is missing or there twice."""
    stamps = sorted(packet.pts for packet in packets if packet.pts is not None)
    if len(stamps) < len(packets) or len(set(stamps)) < len(stamps):
        return None
    return [s for s in stamps if (start_pts is None or s >= start_pts) and (end_pts is None or s < end_pts)]


def sparse(path: Path, subject: str, stamps: Set[int]) -> Iterator[Any]:
    """The frames with these stamps, in presentation order, decoding as little as possible.

    Groups of pictures that hold none of them are passed over, each group is left after its last wanted frame, and within
    it only frames that others refer to, or that are wanted, are decoded. Frames that cannot be had are missing. Raises ClipError.
    """
    import av

    with opened(path) as (container, stream):
        first, last = min(stamps), max(stamps)
        if not seek_before(container, stream, first):
            raise ClipError("decode_error", subject, "the container cannot be sought", "re-mux it")
        fed = needed_packets(list_packets(container, stream, subject, until_pts=last + 1), stamps)
        seek_before(container, stream, first)
        try:
            yield from (frame for frame in _fed(container, stream, fed, stamps) if frame.pts in stamps)
        except av.error.FFmpegError as error:
            raise ClipError("decode_error", subject, f"decoding stopped with: {error}", "re-encode the video") from None


def needed_packets(packets: Sequence[Packet], stamps: Set[int]) -> list[bool]:
    """For each packet (decoding order, the first is a key frame) whether a wanted frame depends on it.

    A wanted frame needs its group of pictures from the key frame to itself; one that is shown before its key frame (an
    open group) needs the group before as well.
    """
    keys = [number for number, packet in enumerate(packets) if packet.key]
    fed = [False] * len(packets)
    for group, start in enumerate(keys):
        end = keys[group + 1] if group + 1 < len(keys) else len(packets)
        wanted = [number for number in range(start, end) if packets[number].pts in stamps]
        if not wanted:
            continue
        leads = any((packets[number].pts or 0) < (packets[start].pts or 0) for number in wanted)
        begin = keys[group - 1] if leads and group else start
        fed[begin : wanted[-1] + 1] = [True] * (wanted[-1] + 1 - begin)
    return fed


def _fed(container: Any, stream: Any, fed: Sequence[bool], stamps: Set[int]) -> Iterator[Any]:
    """Decode the packets that `fed` marks; the decoder is emptied wherever packets were left out."""
    codec = stream.codec_context
    skips = codec.name in _SKIPS_SAFELY
    number, last, broken = 0, max((i for i, wanted in enumerate(fed) if wanted), default=-1), False
    for packet in container.demux(stream):
        if number > last:
            break
        if not packet.size or packet.is_discard:
            continue
        if fed[number]:
            if broken:
                yield from codec.decode(None)
                codec.flush_buffers()
            codec.skip_frame = "NONREF" if skips and packet.pts not in stamps else "DEFAULT"
            yield from packet.decode()
        broken, number = not fed[number], number + 1
    yield from codec.decode(None)
