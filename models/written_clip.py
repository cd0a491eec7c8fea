"""A generated clip on its way into an mp4: pieces of a few frames, of which memory never holds more than one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from pipelines.clip import Frames
from pipelines.full_disk import telling_full_disk
from pipelines.video import encode_video


def write_pieces(path: Path, pieces: Iterable[Frames], frames: int, fps: Fraction, comment: str) -> None:
    """Write uint8 pieces [n, H, W, 3] that are `frames` frames in all (even H and W); the file appears whole or not at all.

    They are collected in an unnamed temporary file (of TMPDIR) and encoded from there, so memory does not grow with the clip.
    Raises UserError where the disk is full, ValueError where the pieces hold another number of frames.
    """
    with telling_full_disk(tempfile.gettempdir(), "nothing was written; run the command again"), tempfile.TemporaryFile() as file:
        shape: tuple[int, ...] = ()
        held = 0
        for piece in pieces:
            shape, held = piece.shape[1:], held + len(piece)
            file.write(np.ascontiguousarray(piece).data)
        file.flush()
        if held != frames:
            raise ValueError(f"{held} frames were made for {path.name}, {frames} were asked for")
        encode_video(path, np.memmap(file, np.uint8, "r", shape=(frames, *shape)), fps, comment=comment)
