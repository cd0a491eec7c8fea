"""The digest of a file, or of a folder of files; read once as long as they do not change."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path


def digest_of(path: Path, without: Collection[str] = ()) -> str:
    """sha256 of a file; of a folder: over the relative names and digests of its files, in the order of their names.

    without: names of files that do not count.
    """
    if path.is_file():
        status = path.stat()
        return _file_digest(path, status.st_size, status.st_mtime_ns)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file() and file.name not in without:
            digest.update(f"{file.relative_to(path).as_posix()} {digest_of(file)}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:  # size and time are part of the cache's key
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
