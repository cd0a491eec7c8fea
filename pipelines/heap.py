"""The heap of a process that extracts: few arenas, and Arrow in the same heap, so that what one thread has freed serves the next.

glibc gives each of up to 8 threads per core an arena of its own and keeps most of what is freed in it. Every clip is decoded by new threads
(ours and FFmpeg's), so that in time each arena would hold the memory of a clip's frames, and the process would grow over its first hundreds of
clips. Arrow's default allocator keeps pages for each of its threads, five times of what merging small parts has in use.
"""

from __future__ import annotations

import ctypes
import os

import pyarrow as pa

ARENAS = 2
VARIABLE = "MALLOC_ARENA_MAX"  # what glibc itself reads when a process starts
_M_ARENA_MAX, _M_MMAP_THRESHOLD = -8, -3  # names of mallopt, malloc.h
_LARGE = 1 << 20


def keep_heap_small() -> None:
    """Of this process, from now on. The arenas stay as they are where MALLOC_ARENA_MAX is set or the C library is not glibc."""
    pa.set_memory_pool(pa.system_memory_pool())
    if VARIABLE not in os.environ:
        _tell_malloc(_M_ARENA_MAX, ARENAS)


def map_large_blocks() -> None:
    """Blocks of a megabyte and more go back to the system when they are freed, in whichever arena: for a process that has its arenas already.

    It costs page faults, so workers that start with few arenas do without it.
    """
    _tell_malloc(_M_MMAP_THRESHOLD, _LARGE)


def give_back_freed_pages() -> None:
    """What this process has freed goes back to the system, from the middle of its heap as well: for the moment between two phases of work.

    A millisecond; where the C library is not glibc, nothing.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _tell_malloc(name: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(name, value)


def limit_arenas_of_children() -> None:
    """Of the processes that this one starts from now on; a value that the user has set stays."""
    os.environ.setdefault(VARIABLE, str(ARENAS))
