"""Extraction on Ray: the same rows as in-process, and clips that hang or kill their worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.clip import Clip, Frames
from pipelines.errors import UserError
from pipelines.extract import Rows, extract
from pipelines.lake import Lake, digest_rows
from pipelines.video import encode_video

pytestmark = pytest.mark.slow
FRAMES = 3


@dataclass
class Moody:
    """Mean colours; clip ids say how the clip behaves."""

    folder: str  # where a clip that dies once leaves its mark
    name: str = "moody"
    version: int = 1
    tables: tuple[str, ...] = ("poses",)
    load_error: bool = False

    def weights_digest(self) -> str:
        return "none"

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        if self.load_error:
            raise UserError("weights for 'moody' are missing")
        return self._run

    def _run(self, clip: Clip, frames: Frames) -> Rows:
        mark = Path(self.folder) / clip.clip_id
        if clip.clip_id.startswith("slow"):
            time.sleep(2)
        if clip.clip_id.startswith("hangs"):
            time.sleep(600)
        if clip.clip_id.startswith("dies_always") or (clip.clip_id.startswith("dies_once") and not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        means = frames.reshape(len(frames), -1, 3).mean(axis=1)
        return {"poses": [{"keypoints": mean.tolist(), "scores": [1.0]} for mean in means]}


@pytest.fixture(scope="module")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clip]:
    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    encode_video(path, np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 48, 3), dtype=np.uint8), Fraction(25))

    def make(clip_id: str) -> Clip:
        span = {"start_frame": 0, "end_frame": FRAMES, "start_pts": None, "end_pts": None}
        shape = {"time_base": Fraction(1, 25), "fps": Fraction(25), "width": 48, "height": 32}
        return Clip(dataset="moods", clip_id=clip_id, video_id="noise", uri=str(path), **span, **shape)

    return make


@pytest.fixture(scope="module")
def ray_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two actors on a local Ray in a folder of its own (short: Ray's sockets live in it)."""
    import tempfile

    from ray import cloudpickle

    from pipelines.engine import RayEngine

    patch = pytest.MonkeyPatch()
    patch.delenv("RAY_ADDRESS", raising=False)
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import test files
    with tempfile.TemporaryDirectory(prefix="rr", ignore_cleanup_errors=True) as folder:
        yield RayEngine(num_cpus=2, temp_dir=Path(folder))
    patch.undo()


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_moody_clips_get_their_codes_and_the_others_the_same_rows_as_serial(
    tmp_path: Path, make_clip: Callable[[str], Clip], ray_engine: Any
) -> None:
    good = [make_clip(f"good{i}") for i in range(6)]
    moody = [make_clip(name) for name in ("hangs", "dies_always", "dies_once")]
    serial, parallel = Lake(tmp_path / "serial").create(), Lake(tmp_path / "parallel").create()
    extractor = Moody(folder=str(tmp_path))
    extract([extractor], [*good, make_clip("dies_once")][:6], serial, "serial", progress=False)
    report = extract([extractor], [*good[:3], *moody, *good[3:]], parallel, ray_engine, progress=False, time_limit_s=5)
    assert sorted((clip, code) for clip, _, code, _ in report.failures) == [
        ("dies_always", "worker_died"),
        ("hangs", "timeout"),
    ]
    assert report.extracted == 7
    held = parallel.read("poses")
    assert held.num_rows == 7 * FRAMES + 2
    same = [row for row in held.to_pylist() if row["clip_id"].startswith("good")]
    assert same == serial.rows("poses")
    assert digest_rows("poses", serial.read("poses")) == digest_rows(
        "poses", held.filter([r["clip_id"].startswith("good") for r in held.to_pylist()])
    )
    assert extract([extractor], [*good, *moody], parallel, ray_engine, progress=False).already_done == 9


@pytest.mark.filterwarnings("ignore")
def test_a_clip_is_late_by_its_worker_s_clock_not_by_the_driver_s(
    tmp_path: Path, make_clip: Callable[[str], Clip], ray_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that believes every clip to be at work for 100 s already, as one that was busy or waited for a node would."""
    from pipelines import engine_slot

    begin = engine_slot.Slot.begin

    def begin_early(slot: Any) -> None:
        begin(slot)
        slot.since -= 100

    monkeypatch.setattr(engine_slot.Slot, "begin", begin_early)
    clips = [make_clip(name) for name in ("slow0", "slow1", "slow2", "hangs")]
    report = extract([Moody(folder=str(tmp_path))], clips, Lake(tmp_path / "lake").create(), ray_engine, progress=False, time_limit_s=6)
    assert [(clip, code) for clip, _, code, _ in report.failures] == [("hangs", "timeout")]
    assert report.extracted == 3
    assert report.seconds < 60


@pytest.mark.filterwarnings("ignore")
def test_weights_that_a_worker_misses_are_the_user_s_error(tmp_path: Path, make_clip: Callable[[str], Clip], ray_engine: Any) -> None:
    lake = Lake(tmp_path).create()
    with pytest.raises(UserError, match="weights for 'moody' are missing"):
        extract([Moody(folder=str(tmp_path), load_error=True)], [make_clip("good")], lake, ray_engine, progress=False)
    assert lake.read("poses").num_rows == 0


@pytest.mark.filterwarnings("ignore")
def test_an_address_where_nobody_answers_is_the_user_s_error(
    tmp_path: Path, make_clip: Callable[[str], Clip], ray_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match="unset RAY_ADDRESS"):
        extract([Moody(folder=str(tmp_path))], [make_clip("good")], Lake(tmp_path).create(), ray_engine, progress=False)


SCRIPT = """
import sys, time
from fractions import Fraction
from pathlib import Path
import pipelines.extract as module
from pipelines.clip import Clip
from pipelines.lake import Lake

class Slow:
    name, version, tables = "slow", 1, ("hands", "poses")
    def weights_digest(self): return "none"
    def load(self, device):
        def run(clip, frames):
            time.sleep(float(sys.argv[3]))
            poses = [{"scores": [float(f.mean())]} for f in frames]
            return {"poses": poses, "hands": [{"valid": [True, True]} for f in frames]}
        return run

def clip(i):
    span = {"start_frame": 0, "end_frame": 3, "start_pts": None, "end_pts": None}
    shape = {"time_base": Fraction(1, 25), "fps": Fraction(25), "width": 48, "height": 32}
    return Clip(dataset="d", clip_id=f"c{i}", video_id="noise", uri=sys.argv[2], **span, **shape)

module._COMMIT_CLIPS = 1
lake = Lake(Path(sys.argv[1])).create()
report = module.extract([Slow()], [clip(i) for i in range(12)], lake, "serial", progress=False)
print(report.already_done, report.extracted)
"""


def test_kill_9_in_the_middle_and_a_second_run_leave_every_row_once(tmp_path: Path, make_clip: Callable[[str], Clip]) -> None:
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    lake, video = tmp_path / "lake", make_clip("x").uri
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}

    def command(seconds: str) -> list[str]:
        return [sys.executable, str(script), str(lake), video, seconds]

    process = subprocess.Popen(command("0.3"), env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and _rows(lake) < 4 * FRAMES:
        time.sleep(0.05)
    process.kill()
    process.wait()
    done = len({row["clip_id"] for row in Lake(lake).rows("poses")})
    assert 4 <= done < 12
    again = subprocess.run(command("0"), env=environment, capture_output=True, text=True, check=True)
    already, extracted = map(int, again.stdout.split())
    assert (already, already + extracted) == (done, 12)
    for table in ("poses", "hands"):
        keys = [(row["clip_id"], row["frame"]) for row in Lake(lake).rows(table)]
        assert sorted(keys) == sorted((f"c{i}", frame) for i in range(12) for frame in range(FRAMES))


def _rows(lake: Path) -> int:
    try:
        return Lake(lake).read("poses").num_rows
    except UserError:  # not created yet
        return 0
