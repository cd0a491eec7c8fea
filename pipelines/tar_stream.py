"""A tar's bytes, whatever it is compressed with, for tarfile: no header can make it ask for more memory than a header needs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # the largest read: of a file's content, and of a header that holds a long name

# What a damaged stream makes the readers raise.
DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile)

_OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}


class TarStream(io.BufferedReader):
    """Refuses a single read beyond CHUNK with tarfile.ReadError: tarfile holds headers in memory, and a few compressed bytes can claim gigabytes."""

    def read(self, size: int | None = -1) -> bytes:
        """As of every file."""
        if size is None or not 0 <= size <= CHUNK:
            raise tarfile.ReadError(f"it has a header of {size} bytes")
        return super().read(size)


def open_tar(archive: Path) -> TarStream:
    """Plain, gzip, bzip2 or xz, told by the first bytes; closing it closes the file. Raises OSError."""
    with archive.open("rb") as file:
        head = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), io.FileIO)
    return TarStream(opener(archive))


def is_tar(archive: Path) -> bool:
    """Whether it begins as a tar."""
    try:
        with open_tar(archive) as stream, tarfile.open(fileobj=stream, mode="r:"):
            return True
    except (*DAMAGE, OSError):
        return False
