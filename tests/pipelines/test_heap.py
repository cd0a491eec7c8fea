"""A process that decodes in ever new threads keeps no freed frames in their arenas."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pyarrow as pa
import pytest

from pipelines.heap import VARIABLE, keep_heap_small, limit_arenas_of_children

_KEPT = """
import sys, threading
from pathlib import Path
import numpy as np
import pipelines.heap

def anonymous_mb():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")) / 1024

def decode():
    gate.wait()
    for _ in range(4):
        with one_at_a_time:  # so that what stays depends on the arenas alone, not on how the threads are scheduled
            frames = np.full(6 << 20, 1, np.uint8)
            del frames
    gate.wait()

for name in sys.argv[1:]:
    getattr(pipelines.heap, name)()
before, gate, one_at_a_time = anonymous_mb(), threading.Barrier(12), threading.Lock()
threads = [threading.Thread(target=decode) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(anonymous_mb() - before)
"""


def _kept_mb(*calls: str) -> float:
    """MB that stay after 12 threads have used and freed 6 MB each, in a fresh process that made these calls first."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run([sys.executable, "-c", _KEPT, *calls], env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout)


_HOLES = """
import ctypes
from pathlib import Path
import pipelines.heap

def anonymous_mb():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon")) / 1024

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
before, size = anonymous_mb(), 64 << 10  # below what malloc maps
blocks = [libc.malloc(size) for _ in range(800)]
for block in blocks: ctypes.memset(block, 1, size)
for block in blocks[:-1]: libc.free(block)  # the last one holds the heap's top
held = anonymous_mb() - before
pipelines.heap.give_back_freed_pages()
print(held, anonymous_mb() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="pages are kept by glibc")
def test_what_was_freed_below_a_kept_block_goes_back() -> None:
    held, left = map(float, subprocess.run([sys.executable, "-c", _HOLES], check=True, capture_output=True, text=True).stdout.split())
    assert held > 45
    assert left < 5


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_what_threads_have_freed_does_not_pile_up() -> None:
    assert _kept_mb() > 40
    assert _kept_mb("keep_heap_small") < 25
    assert _kept_mb("map_large_blocks") < 10


def test_arrow_shares_the_heap_and_children_learn_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pa.default_memory_pool()
    try:
        keep_heap_small()
        assert pa.default_memory_pool().backend_name == "system"
    finally:
        pa.set_memory_pool(before)
    monkeypatch.setenv(VARIABLE, "7")
    limit_arenas_of_children()
    assert os.environ[VARIABLE] == "7"
    monkeypatch.delenv(VARIABLE)
    limit_arenas_of_children()
    assert os.environ[VARIABLE] == "2"
    monkeypatch.delenv(VARIABLE)
