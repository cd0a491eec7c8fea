"""What is left when a run is interrupted: no process, no temporary file, and every committed row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines.clip_reader as reader
from pipelines.clip import Clip, Frames
from pipelines.clip_reader import ClipReader
from pipelines.decord_process import DecordProcess
from pipelines.errors import ClipError
from pipelines.extract_worker import Task, Worker, WorkerSpec
from pipelines.guarded import GuardedProcess
from pipelines.video import encode_video

RUN = """
import sys, time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from ray import cloudpickle
from pipelines.clip import Clip
from pipelines.engine import RayEngine
from pipelines.extract import extract
from pipelines.lake import Lake
import pipelines.extract

folder, video, temp = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

@dataclass
class Slow:
    log: str
    name: str = "slow"
    version: int = 1
    tables: tuple = ("poses",)
    def weights_digest(self): return ""
    def load(self, device):
        def run(clip, frames):
            with open(self.log, "a") as file:
                file.write(clip.clip_id + "\\n")
            time.sleep(0.5)
            return {"poses": [{} for _ in frames]}
        return run

cloudpickle.register_pickle_by_value(sys.modules["__main__"])
shape = {"start_pts": None, "end_pts": None, "time_base": Fraction(1, 25), "fps": Fraction(25), "width": 48, "height": 32}
clips = [Clip(dataset="d", clip_id=f"c{i}", video_id="v", uri=video, start_frame=0, end_frame=3, **shape) for i in range(200)]
pipelines.extract._COMMIT_CLIPS = 50
extract([Slow(str(folder / "log"))], clips, Lake(folder / "lake").create(), RayEngine(num_cpus=2, temp_dir=Path(temp)), progress=False)
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    encode_video(path, np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8), Fraction(25))
    return path


@pytest.fixture
def clip(video: Path) -> Clip:
    span: dict[str, Any] = {"start_frame": 0, "end_frame": 3, "start_pts": None, "end_pts": None}
    shape: dict[str, Any] = {"time_base": Fraction(1, 25), "fps": Fraction(25), "width": 48, "height": 32}
    return Clip(dataset="d", clip_id="c", video_id="v", uri=str(video), **span, **shape)


# --- the Ray engine --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("signals", "group"), [((signal.SIGINT,), True), ((signal.SIGINT,), False), ((signal.SIGKILL,), False)])
def test_no_process_of_ray_outlives_its_driver(tmp_path: Path, video: Path, signals: tuple[signal.Signals, ...], group: bool) -> None:
    """Ctrl-C reaches the whole group of the terminal; kill only the driver."""
    with tempfile.TemporaryDirectory(prefix="ri", ignore_cleanup_errors=True) as temp:
        process = _started(tmp_path, video, temp)
        for sent in signals:
            os.killpg(process.pid, sent) if group else process.send_signal(sent)
        _, err = process.communicate(timeout=60)
        assert process.returncode != 0
        if signal.SIGINT in signals:
            assert "KeyboardInterrupt" in err
            assert _committed(tmp_path / "lake") > 0  # what was finished was worth keeping
        deadline = time.monotonic() + 30
        while _processes_of(temp) and time.monotonic() < deadline:
            time.sleep(0.5)
        assert _processes_of(temp) == []


def _started(folder: Path, video: Path, temp: str) -> subprocess.Popen[str]:
    """A driver that has finished a few clips, in a process group of its own."""
    (folder / "run.py").write_text(RUN)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(folder / "run.py"), str(folder), str(video), temp]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log, deadline = folder / "log", time.monotonic() + 90
    while not (log.exists() and len(log.read_text().splitlines()) > 6) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert log.exists()
    return process


def _committed(root: Path) -> int:
    from pipelines.lake import Lake

    return len(Lake(root).rows("poses"))


def _processes_of(temp: str) -> list[str]:
    """Command lines and environments that name the folder of this Ray."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if temp.encode() in (folder / "cmdline").read_bytes() and "State:\tZ" not in (folder / "status").read_text():
                found.append(f"{folder.name} {(folder / 'cmdline').read_bytes().decode(errors='replace')[:100]}")
    return found


# --- children of the decoders ----------------------------------------------------------------------------------------

PARENT = """
import sys, time
from pathlib import Path
from pipelines.{module} import {name}
child = {name}([sys.executable, "-c", {hangs!r}])
print(child._start().pid, flush=True)
time.sleep(60)
"""
HANGS = "from pipelines.orphan import end_with_parent\nend_with_parent()\nimport time\nprint('x', flush=True)\nwhile True: time.sleep(1)"


@pytest.mark.parametrize(("module", "name"), [("guarded", "GuardedProcess"), ("decord_process", "DecordProcess")])
def test_a_child_that_hangs_ends_with_a_killed_parent(module: str, name: str) -> None:
    script = PARENT.format(module=module, name=name, hangs=HANGS)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(0.5)  # the child must have seen its parent
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(child)


def _alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_both_children_look_after_their_parent() -> None:
    """The loop of each child starts with it."""
    for module in ("guarded", "decord_process"):
        main = Path(f"pipelines/{module}.py").read_text().partition('if __name__ == "__main__":')[2]
        assert main.index("end_with_parent()") < main.index("_serve(")


class _Late(BaseException):
    pass


@pytest.fixture
def interrupted() -> Iterator[None]:
    """A signal in half a second, as a time limit or Ctrl-C."""

    def late(*_: Any) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


ECHO = "import sys, time\nfor line in sys.stdin:\n    time.sleep(1.0 if 'slow' in line else 0)\n    print({answer}, flush=True)"


def test_an_interrupted_request_never_answers_the_next_one(interrupted: None) -> None:
    """The answer comes late, into the pipe of the request behind it."""
    child = GuardedProcess([sys.executable, "-c", ECHO.format(answer="'{\"ok\": ' + line + '}'")])
    with pytest.raises(_Late):
        child.ask({"slow": 1}, "slow", 10)
    assert child._process is None
    assert child.ask({"quick": 1}, "quick", 10) == {"quick": 1}
    child.close()


def test_an_interrupted_decord_never_answers_the_next_one(interrupted: None) -> None:
    code = ECHO.format(answer="'{\"error\": \"' + ('slow' if 'slow' in line else 'quick') + '\"}'")
    child = DecordProcess([sys.executable, "-c", code])
    with pytest.raises(_Late):
        child.frames(Path("slow"), [0], "slow")
    assert child._child is None
    with pytest.raises(ClipError, match="quick"):
        child.frames(Path("quick"), [0], "quick")
    child.close()


def test_threads_take_turns_at_one_child() -> None:
    child = GuardedProcess([sys.executable, "-c", ECHO.format(answer="'{\"ok\": ' + line + '}'")])
    wrong: list[Any] = []

    def ask(number: int) -> None:
        wrong.extend(n for n in range(number, number + 40) if child.ask({"n": n}, str(n), 10) != {"n": n})

    threads = [threading.Thread(target=ask, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child.close()
    assert wrong == []


def test_crashed_children_leave_no_zombie() -> None:
    child = GuardedProcess([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    for _ in range(3):
        with pytest.raises(ClipError, match="exit status -9"):
            child.ask({}, "x", 10)
    mine = f"PPid:\t{os.getpid()}\n"
    zombies = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            text = status.read_text()
            zombies += [text] if mine in text and "State:\tZ" in text else []
    assert zombies == []


# --- the reader and the clock ----------------------------------------------------------------------------------------


def test_an_announcement_that_comes_late_decodes_nothing(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    """Announcing and taking are two calls of the engine, which may arrive the other way round."""
    decoded: list[str] = []

    def decode(clip: Clip) -> Frames:
        decoded.append(clip.clip_id)
        return np.zeros((1, 1, 1, 3), np.uint8)

    monkeypatch.setattr(reader, "decode_frames", decode)
    ahead = ClipReader()
    ahead.take(clip)
    ahead.announce(clip)
    other = replace(clip, clip_id="other")
    ahead.announce(other)
    ahead.take(other)
    assert decoded == ["c", "other"]


def test_a_long_clip_leaves_no_file_behind(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor would a kill: the file has no name while it is written."""
    monkeypatch.setattr(reader, "IN_MEMORY_BYTES", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[str]] = []
    whole = reader.iterate_clip

    def spied(clip: Clip, chunk: int) -> Iterator[Frames]:
        for part in whole(clip, chunk):
            seen.append(os.listdir(tmp_path))
            yield part

    monkeypatch.setattr(reader, "iterate_clip", spied)
    assert reader.read_frames(clip).shape == (3, 32, 48, 3)
    assert seen
    assert not any(seen)


def test_the_clock_of_a_clip_runs_while_it_is_at_work_only(clip: Clip) -> None:
    class Waits:
        name, version, tables = "waits", 1, ("poses",)

        def weights_digest(self) -> str:
            return ""

        def load(self, device: str) -> Any:
            def run(clip: Clip, frames: Frames) -> Any:
                time.sleep(0.2)
                times.append(worker.seconds_on(task))
                times.append(worker.seconds_on(replace(task, clip=replace(clip, clip_id="next"))))
                return {"poses": [{} for _ in frames]}

            return run

    times: list[float] = []
    worker = Worker(WorkerSpec(extractors=(Waits(),), digests={"waits": ""}))
    worker.load()
    task = Task(clip=clip, extractors=("waits",))
    time.sleep(0.3)  # in a queue
    assert worker.seconds_on(task) == 0
    worker.run(task)
    assert 0.2 <= times[0] < 0.5 + 5
    assert times[1] == 0
    assert worker.seconds_on(task) == 0
