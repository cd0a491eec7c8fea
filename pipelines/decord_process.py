"""decord in a process of its own: it leaks memory and can hang, so it is restarted now and then and killed when it is late.

The parent writes one JSON line per request to the child's standard input ({"path", "indices"}); the child answers with one JSON
line ({"frames", "shape"} or {"error"}) and, if it has frames, their raw bytes.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from pipelines.clip import Frames
from pipelines.errors import ClipError
from pipelines.orphan import child_environment, end_with_parent

CLIPS_PER_PROCESS = 32  # then a new one takes over, and what leaked is gone
_START_S, _PER_FRAME_S = 20.0, 0.2


def available() -> bool:
    """Whether decord is installed (it has no wheels outside x86-64 Linux)."""
    return importlib.util.find_spec("decord") is not None


class DecordProcess:
    """One child at a time, started when first needed."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "pipelines.decord_process")) -> None:
        self._command = list(command)
        self._child: subprocess.Popen[bytes] | None = None
        self._clips = 0
        self._lock = threading.Lock()  # a reader that was given up may still be at work in its thread

    def frames(self, path: Path, indices: Sequence[int], subject: str, limit_s: float | None = None) -> tuple[Frames, int]:
        """([T, H, W, 3] RGB as stored (no rotation), frames of the whole file) for indices from 0 in presentation order.

        limit_s: wall-clock time after which the child is killed; None: 20 s and 0.2 s per frame up to the last index.
        Raises ClipError: decode_error, timeout, worker_died.
        """
        with self._lock:
            return self._frames(path, indices, subject, limit_s)

    def _frames(self, path: Path, indices: Sequence[int], subject: str, limit_s: float | None) -> tuple[Frames, int]:
        if self._clips >= CLIPS_PER_PROCESS:
            self.close()
        child = self._child or self._start()
        self._clips += 1
        limit = limit_s if limit_s is not None else _START_S + _PER_FRAME_S * (max(indices) + 1)
        deadline = time.monotonic() + limit
        try:
            return self._ask(child, {"path": os.path.abspath(path), "indices": list(indices)}, subject, deadline)
        except TimeoutError:
            self.close()
            raise ClipError("timeout", subject, f"decord took longer than {limit:.0f} s", "re-encode the video") from None
        except (BrokenPipeError, EOFError):
            self.close()
            raise ClipError("worker_died", subject, "the process that held decord died", "re-encode the video") from None
        except ClipError:
            raise
        except BaseException:  # interrupted (Ctrl-C, a time limit): its answer must not be taken for that to the next request
            self.close()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        self._child = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
        )
        self._clips = 0
        atexit.register(self.close)
        return self._child

    def _ask(self, child: subprocess.Popen[bytes], request: dict[str, Any], subject: str, deadline: float) -> tuple[Frames, int]:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.flush()
        answer = json.loads(_read_line(child.stdout, deadline))
        if "error" in answer:
            raise ClipError("decode_error", subject, f"decord: {answer['error']}", "re-encode the video")
        frames = np.empty(answer["shape"], np.uint8)
        _read_into(child.stdout, frames.reshape(-1).data, deadline)
        return frames, int(answer["frames"])

    def close(self) -> None:
        """Kill the child, if there is one."""
        child, self._child, self._clips = self._child, None, 0
        atexit.unregister(self.close)
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not sent to a child that hung
                    pipe.close()


def _read_into(pipe: IO[bytes], target: memoryview, deadline: float) -> None:
    """Fill `target` from a pipe. Raises TimeoutError, EOFError."""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        done = 0
        while done < len(target):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            count = os.readv(pipe.fileno(), [target[done:]])
            if not count:
                raise EOFError
            done += count


def _read_line(pipe: IO[bytes], deadline: float) -> bytes:
    line, byte = bytearray(), bytearray(1)
    while not line.endswith(b"\n"):
        _read_into(pipe, memoryview(byte), deadline)
        line += byte
    return bytes(line)


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """The child's loop: one request after the other, until the parent closes the pipe."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    for line in requests:
        request = json.loads(line)
        try:
            # decord's own default passes neighbours off as frames that it could not decode; 0 makes that an error
            reader = decord.VideoReader(request["path"], ctx=decord.cpu(0), fault_tol=0)
            frames = np.ascontiguousarray(reader.get_batch(request["indices"]).asnumpy())
            answer = {"frames": len(reader), "shape": frames.shape}
        except Exception as error:  # whatever stops decord is the parent's to report
            frames, answer = None, {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[-1:]}"}
        answers.write(json.dumps(answer).encode() + b"\n")
        if frames is not None:
            answers.write(frames.data)
        answers.flush()


if __name__ == "__main__":
    end_with_parent()
    pipe_out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the libraries print must not get between the answers
    _serve(sys.stdin.buffer, pipe_out)
