"""A full disk in the words of an error: which one, and what to do."""

from __future__ import annotations

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.errors import UserError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NOTHING_LEFT = 64 << 20  # bytes; below it a disk is named as the full one


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that a disk or quota is full; libraries written in Rust and C++ only say so in words."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    text = str(error)
    return os.strerror(errno.ENOSPC) in text or os.strerror(errno.EDQUOT) in text


@contextmanager
def telling_full_disk(folder: Path | str, kept: str) -> Iterator[None]:
    """Turn a full disk inside into a UserError that names the disk of `folder` and what is `kept`; everything else passes."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not is_disk_full(error):
            raise
        raise UserError(_message(str(folder), kept)) from error


def _message(folder: str, kept: str) -> str:
    places = [folder] if "://" in folder else list(dict.fromkeys([folder, tempfile.gettempdir()]))
    full = [place for place in places if _free(place) < _NOTHING_LEFT] or places
    return f"a disk is full: {' or '.join(full)}; free some space or choose another folder, then run the same command again ({kept})"


def _free(folder: str) -> float:
    """Bytes; no bound where it cannot be told."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return math.inf
