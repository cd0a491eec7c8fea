"""Ray clusters: a node that leaves during the run, and two runs at once on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow
FRAMES, CLIPS = 3, 24

# One script for all: a run of its own process, so that Ray's global state never leaks from one test into another.
SCRIPT = """
import json, os, sys, threading, time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
import ray
from pipelines.clip import Clip
from pipelines.engine import RayEngine
from pipelines.extract import extract
from pipelines.lake import Lake, digest_rows

mode, folder, video, temp, clips = sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])

@dataclass
class Logged:
    log: str
    name: str = "logged"
    version: int = 1
    tables: tuple = ("poses",)
    def weights_digest(self): return ""
    def load(self, device):
        def run(clip, frames):
            time.sleep(0.3)
            node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
            with open(self.log, "a") as file:
                file.write(f"{clip.clip_id} {node}\\n")
            return {"poses": [{"keypoints": [float(f.mean())]} for f in frames]}
        return run

def clip(i):
    span = {"start_frame": 0, "end_frame": 3, "start_pts": None, "end_pts": None}
    shape = {"time_base": Fraction(1, 25), "fps": Fraction(25), "width": 48, "height": 32}
    return Clip(dataset="d", clip_id=f"c{i:02d}", video_id="v", uri=video, **span, **shape)

def remove_later(cluster, node, log):
    def body():
        while not log.exists() or len(log.read_text().splitlines()) < 6:
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)
    thread = threading.Thread(target=body, daemon=True)
    thread.start()

engine, log = RayEngine(num_cpus=2, temp_dir=Path(temp)), folder / "log"
if mode == "serial":
    engine = "serial"
if mode == "nodes":
    from ray.cluster_utils import Cluster
    os.environ["RAY_TMPDIR"] = temp  # Cluster notes its address in <this>/ray, which only ray.init makes
    Path(temp, "ray").mkdir()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": temp, "include_dashboard": False})
    leaving = cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    engine = RayEngine()
    remove_later(cluster, leaving, log)
from ray import cloudpickle
cloudpickle.register_pickle_by_value(sys.modules["__main__"])
lake = Lake(folder / "lake").create()
report = extract([Logged(log=str(log))], [clip(i) for i in range(clips)], lake, engine, progress=False)
lines = [line.split() for line in log.read_text().splitlines()]
print(json.dumps({"failures": report.failures, "extracted": report.extracted, "seen": sorted(name for name, _ in lines),
                  "nodes": len({node for _, node in lines}), "digest": digest_rows("poses", lake.read("poses"))}))
if mode == "nodes":
    cluster.shutdown()
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fractions import Fraction

    from pipelines.video import encode_video

    path = tmp_path_factory.mktemp("video") / "noise.mp4"
    encode_video(path, np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 48, 3), dtype=np.uint8), Fraction(25))
    return path


def start(mode: str, folder: Path, video: Path, temp: str, clips: int = CLIPS) -> subprocess.Popen[str]:
    folder.mkdir(parents=True)
    script = folder / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))
    # An earlier ray.init of this process left its token and mode in the environment, which a cluster without a token refuses.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"PYTHONPATH": os.getcwd()}
    if mode == "nodes":
        environment["RAY_AUTH_MODE"] = "disabled"
    command = [sys.executable, str(script), mode, str(folder), str(video), temp, str(clips)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    import json

    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err[-3000:]
    answer: dict[str, object] = json.loads(out.strip().splitlines()[-1])
    return answer


def test_a_node_that_leaves_costs_at_most_what_it_had_at_hand(tmp_path: Path, video: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="rn", ignore_cleanup_errors=True) as temp:
        answer = finish(start("nodes", tmp_path / "nodes", video, temp))
    assert answer["failures"] == []
    assert answer["extracted"] == CLIPS
    assert answer["nodes"] == 2  # both worked before one left
    seen = answer["seen"]
    assert isinstance(seen, list)
    assert len(set(seen)) == CLIPS
    assert len(seen) <= CLIPS + 2  # a clip that finished on the lost node before its rows arrived may run again
    plain = finish(start("serial", tmp_path / "serial", video, ""))
    assert answer["digest"] == plain["digest"]


def test_two_runs_on_one_machine_do_not_meet(tmp_path: Path, video: Path) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ra", ignore_cleanup_errors=True) as first,
        tempfile.TemporaryDirectory(prefix="rb", ignore_cleanup_errors=True) as second,
    ):
        both = [start("local", tmp_path / name, video, temp, 10) for name, temp in (("a", first), ("b", second))]
        answers = [finish(process) for process in both]
    for answer in answers:
        assert (answer["failures"], answer["extracted"], answer["nodes"]) == ([], 10, 1)
        assert answer["seen"] == [f"c{i:02d}" for i in range(10)]
    assert answers[0]["digest"] == answers[1]["digest"]
