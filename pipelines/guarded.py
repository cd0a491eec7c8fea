"""Looking into unknown media in a process that can be killed: native decoders crash and hang on broken files.

The parent writes one JSON line per request to the child's standard input; the child answers with one JSON line. The child lives on
for the next file; after a crash or a time limit the next request starts another one. Use `guarded_probe` instead of video.probe and
`guarded_split` instead of split.split_video where files come from outside.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import IO, Any

from pipelines.errors import ClipError, UserError
from pipelines.orphan import child_environment, end_with_parent
from pipelines.split_rule import SplitRule
from pipelines.video import VideoInfo

PROBE_LIMIT_S = 60.0
_SPLIT_LIMIT_S, _SPLIT_PER_FRAME_S = 60.0, 0.5
_ENDS_IN_S = 0.2  # what a crashing process needs from closing its pipes to its end
_MOST_MEMORY_BYTES = 8 << 30  # address space of the child: headers may promise any size


def guarded_probe(path: Path, fps: Fraction | None = None, *, limit_s: float = PROBE_LIMIT_S) -> VideoInfo:
    """video.probe in the child. Raises its ClipErrors, and worker_died, timeout, out_of_memory."""
    request = {"do": "probe", "path": os.path.abspath(path), "fps": None if fps is None else str(fps)}
    answer = _child().ask(request, path.name, limit_s)
    fractions = {field.name for field in fields(VideoInfo) if field.type == "Fraction"}
    values: dict[str, Any] = {name: Fraction(value) if name in fractions else value for name, value in answer.items()}
    return VideoInfo(**values)


def guarded_split(video: Mapping[str, Any], path: Path, rule: SplitRule, *, limit_s: float | None = None) -> list[dict[str, Any]]:
    """split.split_video in the child; a video that crashes or hangs it raises ClipError worker_died, timeout or out_of_memory.

    limit_s: default 60 s and half a second per frame that the container promises.
    """
    limit = limit_s if limit_s is not None else _SPLIT_LIMIT_S + _SPLIT_PER_FRAME_S * (video["frames"] or 0)
    request = {"do": "split", "path": os.path.abspath(path), "video": dict(video), "rule": asdict(rule)}
    rows: list[dict[str, Any]] = _child().ask(request, str(video["video_id"]), limit)
    return rows


class GuardedProcess:
    """One child at a time, started when first needed; threads wait for each other."""

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "pipelines.guarded")) -> None:
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def ask(self, request: Mapping[str, Any], subject: str, limit_s: float) -> Any:
        """The answer to one request. Raises the child's ClipError or UserError, or worker_died, timeout."""
        with self._lock:
            answer = self._answer(request, subject, limit_s)
        if "clip_error" in answer:
            raise ClipError(*answer["clip_error"])
        if "user_error" in answer:
            raise UserError(answer["user_error"])
        return answer["ok"]

    def _answer(self, request: Mapping[str, Any], subject: str, limit_s: float) -> Any:
        process = self._process or self._start()
        try:
            return _exchange(process, json.dumps(request, default=str).encode() + b"\n", time.monotonic() + limit_s)
        except TimeoutError:
            process.kill()
            self.close()
            raise ClipError("timeout", subject, f"not read in {limit_s:g} s", "re-encode the video, or remove it") from None
        except (BrokenPipeError, EOFError):
            code = self.close()
            raise ClipError("worker_died", subject, f"the decoder crashed on it (exit status {code})", "re-encode the video") from None
        except BaseException:  # interrupted (Ctrl-C): its answer must not be taken for that to the next request
            process.kill()
            self.close()
            raise

    def _start(self) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._process = subprocess.Popen(self._command, env=child_environment(), **pipes)  # type: ignore[call-overload]
        atexit.register(self.close)
        return self._process

    def close(self) -> int | None:
        """Kill the child, if there is one; its exit status (its own, where it is ending already)."""
        process, self._process = self._process, None
        atexit.unregister(self.close)
        if process is None:
            return None
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # a request that it did not read
            process.stdin.close()
        try:
            process.wait(_ENDS_IN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return process.returncode


@cache
def _child() -> GuardedProcess:
    return GuardedProcess()


def _exchange(process: subprocess.Popen[bytes], line: bytes, deadline: float) -> Any:
    """Raises TimeoutError, EOFError, BrokenPipeError."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    answer = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not answer.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            part = os.read(process.stdout.fileno(), 1 << 16)
            if not part:
                raise EOFError
            answer += part
    return json.loads(answer)


# --- the child -------------------------------------------------------------------------------------------------------


def _answer(request: dict[str, Any]) -> Any:
    from pipelines.split import split_video
    from pipelines.video import probe

    path = Path(request["path"])
    if request["do"] == "split":
        return split_video(request["video"], path, SplitRule(**request["rule"]))
    info = asdict(probe(path, None if request["fps"] is None else Fraction(request["fps"])))
    return {name: str(value) if isinstance(value, Fraction) else value for name, value in info.items()}


def _serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    for line in requests:
        request = json.loads(line)
        name = Path(request["path"]).name
        try:
            answer = {"ok": _answer(request)}
        except ClipError as error:
            answer = {"clip_error": error.args}
        except UserError as error:
            answer = {"user_error": str(error)}
        except MemoryError:
            cause = f"it wants more than {_MOST_MEMORY_BYTES >> 30} GiB to be decoded"
            answer = {"clip_error": ("out_of_memory", name, cause, "re-encode it at a smaller size")}
        except Exception as error:  # whatever else stops a decoder
            answer = {"clip_error": ("decode_error", name, f"{type(error).__name__}: {error}"[:500], "re-encode the video")}
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    end_with_parent()
    pipe_out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the libraries print must not get between the answers
    _serve(sys.stdin.buffer, pipe_out)
