"""The frames of a clip by two decoders: PyAV here, decord in a process that can be killed.

Which comes first was measured per way of asking (docs/clips.md): PyAV is faster in all three, so decord only takes over where
PyAV fails. The frames of both carry the same index; their colours may differ by rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.crop import cut_out
from pipelines.decord_process import DecordProcess, available
from pipelines.errors import ClipError
from pipelines.frame_part import FramePart
from pipelines.image_sequence import image_frames
from pipelines.storage import local_file
from pipelines.video_stream import decoded, sparse, stamps_between

Decoder = Literal["auto", "pyav", "decord"]
Pattern = Literal["whole", "range", "sparse"]

ORDER: dict[Pattern, tuple[Decoder, ...]] = {"whole": ("pyav", "decord"), "range": ("pyav", "decord"), "sparse": ("pyav", "decord")}
_SPARSE_STEP = 2  # at least so many frames per wanted frame, on average, before single frames are looked for


def pattern_of(clip: Clip, indices: Sequence[int]) -> Pattern:
    """sparse: single frames far apart; whole: from the first frame of the file; range: from another."""
    if indices and (max(indices) - min(indices) + 1) >= _SPARSE_STEP * len(set(indices)) and len(set(indices)) > 1:
        return "sparse"
    return "whole" if clip.start_frame == 0 else "range"


def local_clip(clip: Clip) -> Clip:
    """The clip with a uri that any program can open: of an s3:// one, a local copy, fetched again when the object changes.

    Raises UserError where the bucket does not answer; a missing object is a missing file for whoever opens it.
    """
    return replace(clip, uri=str(local_file(clip.uri))) if clip.uri.startswith("s3://") else clip


def read_clip(clip: Clip, indices: Sequence[int], decoder: Decoder = "auto") -> Frames:
    """[T, H, W, 3] upright, cropped RGB of clip-relative `indices`. Raises the ClipError of the decoder that was asked first."""
    if not len(indices):
        return np.empty((0, clip.height, clip.width, 3), np.uint8)
    if min(indices) < 0 or max(indices) >= clip.num_frames:
        raise IndexError(f"clip {clip.clip_id} has {clip.num_frames} frames; asked for {min(indices)} to {max(indices)}")
    clip = local_clip(clip)
    if Path(clip.uri).is_dir():
        return _filled(clip, indices, _cut(clip, _images_of_folder(clip, indices)))
    pattern = pattern_of(clip, indices)
    failure: ClipError | None = None
    for name in ORDER[pattern] if decoder == "auto" else (decoder,):
        try:
            return _READERS[name](clip, indices, pattern)
        except ClipError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _images_of_folder(clip: Clip, indices: Sequence[int]) -> Iterator[tuple[int, Frames]]:
    wanted = sorted(set(indices))
    yield from zip(wanted, image_frames(Path(clip.uri), [clip.start_frame + index for index in wanted]), strict=False)


def _by_pyav(clip: Clip, indices: Sequence[int], pattern: Pattern) -> Frames:
    """The cheapest way first; where that misses a frame (a seek that landed late, a bad index), by counting from the start."""
    wanted, part = frozenset(indices), FramePart(clip.clip_id, clip.crop)
    for frames in _ways(clip, wanted, pattern)[:-1]:
        try:
            return _filled(clip, indices, ((i, part(frame)) for i, frame in frames() if i in wanted))
        except ClipError as error:
            if error.code not in ("decode_error", "truncated"):
                raise
    return _filled(clip, indices, ((i, part(frame)) for i, frame in _counted(clip, max(wanted)) if i in wanted))


def _ways(clip: Clip, wanted: frozenset[int], pattern: Pattern) -> list[Callable[[], Iterator[tuple[int, Any]]]]:
    """Ways to get (clip-relative index, frame), cheapest first; the last is always counting."""
    ways: list[Callable[[], Iterator[tuple[int, Any]]]] = [lambda: _counted(clip, max(wanted))]
    if clip.start_pts is not None and clip.end_pts is not None:
        if clip.start_frame > 0:
            ways.insert(0, lambda: _sought(clip, max(wanted)))
        if pattern == "sparse":
            ways.insert(0, lambda: _picked(clip, wanted))
    return ways


def _counted(clip: Clip, last: int) -> Iterator[tuple[int, Any]]:
    for index, frame in enumerate(decoded(Path(clip.uri), clip.clip_id)):
        if index >= clip.start_frame:
            yield index - clip.start_frame, frame
        if index >= clip.start_frame + last:
            return


def _sought(clip: Clip, last: int) -> Iterator[tuple[int, Any]]:
    """From the key frame before the clip's first stamp to its last, or to index `last`."""
    assert clip.start_pts is not None
    assert clip.end_pts is not None
    position = 0
    for frame in decoded(Path(clip.uri), clip.clip_id, seek_pts=clip.start_pts):
        if frame.pts is None or frame.pts < clip.start_pts:
            continue
        if position == 0 and frame.pts != clip.start_pts:
            raise ClipError("decode_error", clip.clip_id, "the clip's first frame is not where its stamp says", "re-mux the video")
        if frame.pts >= clip.end_pts or position > last:
            return
        yield position, frame
        position += 1


def _picked(clip: Clip, wanted: frozenset[int]) -> Iterator[tuple[int, Any]]:
    """Single frames by their stamps."""
    assert clip.start_pts is not None
    assert clip.end_pts is not None
    stamps = stamps_between(Path(clip.uri), clip.start_pts, clip.end_pts)
    if stamps is None or len(stamps) != clip.num_frames:
        raise ClipError("decode_error", clip.clip_id, "the container's stamps do not count the clip's frames", "re-mux the video")
    places = {stamps[index]: index for index in wanted}
    for frame in sparse(Path(clip.uri), clip.clip_id, places.keys()):
        yield places[frame.pts], frame


@cache
def decord_process() -> DecordProcess:
    """The one child of this process."""
    return DecordProcess()


def _by_decord(clip: Clip, indices: Sequence[int], pattern: Pattern) -> Frames:
    """By frame number. Refused where decord and PyAV count differently: rotation, variable rate, hidden frames."""
    from pipelines.video import probe

    if not available():
        raise ClipError("decode_error", clip.clip_id, "decord is not installed", "re-encode the video")
    info = probe(Path(clip.uri))
    if info.rotation_deg or info.variable_frame_rate:
        raise ClipError("decode_error", clip.clip_id, "decord does not know rotation and variable rates", "re-encode the video")
    wanted = sorted(set(indices))
    frames, held = decord_process().frames(Path(clip.uri), [clip.start_frame + index for index in wanted], clip.clip_id)
    if held != info.frames or frames.shape[1:3] != (info.height, info.width):
        raise ClipError("decode_error", clip.clip_id, f"decord counts {held} frames, the container {info.frames}", "re-mux the video")
    return _filled(clip, indices, _cut(clip, zip(wanted, frames, strict=True)))


def _cut(clip: Clip, images: Iterable[tuple[int, Frames]]) -> Iterator[tuple[int, Frames]]:
    return ((index, cut_out(clip.clip_id, image, clip.crop)) for index, image in images)


_READERS: dict[str, Callable[[Clip, Sequence[int], Pattern], Frames]] = {"pyav": _by_pyav, "decord": _by_decord}


def _filled(clip: Clip, indices: Sequence[int], images: Iterator[tuple[int, Frames]]) -> Frames:
    """[T, H, W, 3] from (index, image) pairs that come once each. Raises ClipError where some are missing or of another size."""
    places: dict[int, list[int]] = {}
    for place, index in enumerate(indices):
        places.setdefault(index, []).append(place)
    filled: Frames | None = None
    for index, image in images:
        if filled is None:
            filled = np.empty((len(indices), *image.shape), np.uint8)
        if image.shape != filled.shape[1:]:
            raise ClipError("decode_error", clip.clip_id, "the size of the frames changes within the clip", "re-encode the video")
        filled[places.pop(index)] = image
    if filled is None or places:
        cause = f"{sum(map(len, places.values()))} of {len(indices)} frames cannot be decoded (first: {min(places)})"
        raise ClipError("decode_error", clip.clip_id, cause, "re-encode the video, or remove it from the folder")
    return filled


def iterate_images(clip: Clip) -> Iterator[Frames]:
    """[H, W, 3] frames of a clip in order, cropped. A frame that the stream skips is read in another way, on its own."""
    clip, done = local_clip(clip), 0
    try:
        for image in _streamed(clip):
            yield np.ascontiguousarray(image)
            done += 1
    except ClipError as error:
        if error.code not in ("decode_error", "truncated"):
            raise
    for index in range(done, clip.num_frames):
        yield read_clip(clip, [index])[0]


def _streamed(clip: Clip) -> Iterator[Frames]:
    if Path(clip.uri).is_dir():
        return (image for _, image in _cut(clip, _images_of_folder(clip, range(clip.num_frames))))
    last = clip.num_frames - 1
    frames = _sought(clip, last) if clip.start_frame and clip.start_pts is not None and clip.end_pts is not None else _counted(clip, last)
    part = FramePart(clip.clip_id, clip.crop)
    return (part(frame) for _, frame in frames)


def stamped_frames(clip: Clip) -> Iterator[tuple[Any, Frames | None, int | None]]:
    """(decoded frame, None, stamp) of every frame, stamps counted from the clip's first frame; (None, image, None) where the frame must
    be cropped or turned, comes from a folder, or has no stamp to go by. Raises ClipError where fewer frames come than the clip has.
    """
    clip = local_clip(clip)
    plain = clip.crop is None and clip.start_pts is not None and clip.end_pts is not None and not Path(clip.uri).is_dir()
    frames = _sought(clip, clip.num_frames - 1) if plain else iter(())
    first = next(frames, None)
    if first is None or first[1].rotation:
        yield from ((None, image, None) for image in iterate_images(clip))
        return
    done = 0
    for _, frame in chain([first], frames):
        yield frame, None, frame.pts - (clip.start_pts or 0)
        done += 1
    if done != clip.num_frames:
        raise ClipError("decode_error", clip.clip_id, f"{done} of {clip.num_frames} frames decode", "re-encode the video")
