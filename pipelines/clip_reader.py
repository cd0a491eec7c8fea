"""Frames of clips for a worker: the next clip is decoded while the networks look at this one, within a bound of memory.

At most two clips are held, the one at work and one ahead. A clip of up to IN_MEMORY_BYTES is decoded into memory; a larger one
into an unnamed temporary file (of TMPDIR), in pieces, and mapped: extractors read it like any array, and the kernel keeps of it
what fits. So memory is bounded by 2 * IN_MEMORY_BYTES for any number and length of clips.
"""

from __future__ import annotations

import errno
import tempfile
import threading
from collections import deque

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.video import decode_frames, iterate_clip

IN_MEMORY_BYTES = 1 << 30  # 14 s of 1280x720 at 27 frames a second
_CHUNK_BYTES = 64 << 20


def read_frames(clip: Clip) -> Frames:
    """[T, H, W, 3] of a clip, in memory or mapped. Raises ClipError as decode_frames, UserError where the temporary folder is full."""
    frame_bytes = clip.height * clip.width * 3
    if clip.num_frames * frame_bytes <= IN_MEMORY_BYTES:
        return decode_frames(clip)
    return _mapped(clip, max(1, _CHUNK_BYTES // frame_bytes))


def _mapped(clip: Clip, chunk: int) -> Frames:
    try:
        with tempfile.TemporaryFile() as file:
            for part in iterate_clip(clip, chunk):
                file.write(part.data)
            held = file.tell() // (clip.height * clip.width * 3)
            if held < clip.num_frames:
                raise ClipError("decode_error", clip.clip_id, f"{held} of {clip.num_frames} frames can be decoded", "re-encode the video")
            file.flush()
            return np.memmap(file, np.uint8, "r", shape=(clip.num_frames, clip.height, clip.width, 3))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise UserError(
            f"the temporary folder {tempfile.gettempdir()} is full: clip {clip.clip_id} is too long for memory and is unpacked there; "
            "free some space, or set TMPDIR to a folder on a larger disk, and run the command again"
        ) from None


class _Decoding:
    """One clip that is being decoded in a thread of its own."""

    def __init__(self, clip: Clip) -> None:
        self.clip = clip
        self._outcome: Frames | BaseException | None = None
        # A daemon: a decoder that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._decode, name=f"decode {clip.clip_id}", daemon=True)
        self._thread.start()

    def _decode(self) -> None:
        try:
            self._outcome = read_frames(self.clip)
        except BaseException as error:  # raised again where the clip is taken
            self._outcome = error

    def result(self) -> Frames:
        self._thread.join()
        assert self._outcome is not None
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


class ClipReader:
    """Hands out the frames of clips; those that were announced are decoded ahead, one at a time, in the order of the announcements."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._announced: deque[Clip] = deque()
        self._early: deque[Clip] = deque(maxlen=4)  # taken before their announcement came, which is then too late
        self._ahead: _Decoding | None = None

    def announce(self, clip: Clip) -> None:
        """This clip will be taken soon. Returns at once; may be called from any thread."""
        with self._lock:
            if clip in self._early:
                self._early.remove(clip)
                return
            self._announced.append(clip)
            self._start_next()

    def take(self, clip: Clip) -> Frames:
        """Its frames; raises what decoding it raised."""
        with self._lock:
            ahead, self._ahead = self._ahead, None
            if clip in self._announced:
                self._announced.remove(clip)
            elif ahead is None or ahead.clip != clip:
                self._early.append(clip)
        try:
            if ahead is not None and ahead.clip == clip:
                return ahead.result()
            if ahead is not None:  # announced, but another clip came first; two decoders at once would break the bound
                ahead._thread.join()
            return read_frames(clip)
        finally:
            with self._lock:
                self._start_next()

    def _start_next(self) -> None:
        if self._ahead is None and self._announced:
            self._ahead = _Decoding(self._announced.popleft())
