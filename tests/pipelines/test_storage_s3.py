"""The lake in a bucket: the same calls on a real S3 server as on a folder, and what happens when the server fails."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pytest

from pipelines import storage as storage_module
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.lake_maintenance import vacuum_rows
from pipelines.query import query
from pipelines.storage import Storage, local_file
from pipelines.tables import TABLES
from tests.pipelines.s3_server import Faults, S3Server, s3_server

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the server and its client, not of ours
FEW = ("videos", "clips", "training_log", "poses", "removals")
_PREFIX = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    named = {"AWS_ENDPOINT_URL": server.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    for name, value in {
        **named,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "ROTOSCOPE_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in [name for name in TABLES if name not in FEW]:  # one round of requests per table: few suffice here
        monkeypatch.delitem(TABLES, name)
    yield f"s3://lakes/{next(_PREFIX)}"
    server.set_faults(Faults())


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.slow)])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    return Lake(request.getfixturevalue("bucket") if request.param == "bucket" else tmp_path / "lake").create()


def _log(step: int, loss: float) -> dict[str, object]:
    return {"checkpoint_id": "c", "step": step, "loss": loss}


def _clip(name: str) -> dict[str, object]:
    clip = {"dataset": "d", "clip_id": name, "video_id": "v", "uri": "videos/a.mp4", "status": "ok", "split": "test"}
    numbers = {
        "start_frame": 0,
        "end_frame": 4,
        "time_base_num": 1,
        "time_base_den": 30,
        "fps_num": 30,
        "fps_den": 1,
        "width": 8,
        "height": 8,
    }
    return {**clip, **numbers}


def test_a_bucket_holds_a_lake(bucket: str) -> None:
    lake = Lake(bucket).create()
    lake.write("training_log", [_log(0, 1.0), _log(1, 2.0)])
    lake.write("training_log", [_log(1, 9.0)])
    assert Lake(bucket).read("training_log")["loss"].to_pylist() == [1.0, 9.0]
    assert query(lake, "select sum(loss) s from training_log").to_pylist() == [{"s": 10.0}]


def test_upserts_deletes_merges_versions_and_snapshots(lake: Lake) -> None:
    first = lake.write("training_log", [_log(step, float(step)) for step in range(4)])
    lake.write("training_log", [_log(1, 9.0), _log(7, 7.0)], {"asset": "x"})
    lake.delete("training_log", pc.field("step") == 2)
    lake.compact("training_log")
    assert lake.read("training_log")["loss"].to_pylist() == [0.0, 9.0, 3.0, 7.0]
    assert lake.read("training_log", version=first)["loss"].to_pylist() == [0.0, 1.0, 2.0, 3.0]
    assert len(lake.files("training_log")) == 1
    assert {"version": first + 1, "asset": "x"} in lake.lineage("training_log")
    snapshot = pd.read_parquet(io.BytesIO(lake.storage.read("tables/training_log.parquet")))
    assert snapshot["loss"].tolist() == [0.0, 9.0, 3.0, 7.0]
    assert query(lake, "select max(step) high from training_log").to_pylist() == [{"high": 7}]
    assert vacuum_rows(lake, "training_log", pc.field("step") == 2).deleted
    with pytest.raises(UserError, match="a part of this version"):
        lake.read("training_log", version=first)


def test_writers_at_once_lose_nothing(lake: Lake) -> None:
    def work(first: int) -> None:
        for step in range(first, first + 4):
            Lake(lake.address).write("training_log", [_log(step, 0.0), _log(1000, float(first))])

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lake.read("training_log")["step"].to_pylist() == [0, 1, 2, 3, 100, 101, 102, 103, 200, 201, 202, 203, 1000]


def test_files_go_there_and_back(lake: Lake) -> None:
    video = lake.root / "videos" / "a.mp4"
    video.write_bytes(b"first")
    assert lake.put(video) == "videos/a.mp4"
    lake.write("clips", [_clip("c1")])
    (clip,) = lake.clips("d", "test")
    assert local_file(clip.uri).read_bytes() == b"first"
    assert lake.path("videos/a.mp4").read_bytes() == b"first"
    lake.storage.write("videos/a.mp4", b"second!")
    assert lake.path("videos/a.mp4").read_bytes() == b"second!"
    lake.write_text("datasets/d.json", "{}")
    assert (lake.read_text("datasets/d.json"), lake.list_files("datasets")) == ("{}", ["datasets/d.json"])
    with pytest.raises(FileNotFoundError):
        lake.read_text("weights.lock")


@pytest.mark.slow
def test_commits_survive_failing_stalling_and_lost_answers(bucket: str, server: S3Server) -> None:
    lake = Lake(bucket).create()
    server.set_faults(Faults(kinds=("fail", "lost", "stall"), every=7))
    for step in range(6):
        lake.write("training_log", [_log(step, float(step)), _log(1000, float(step))])
    assert server.faults_done() > 10
    server.set_faults(Faults())
    assert lake.read("training_log")["step"].to_pylist() == [*range(6), 1000]
    assert lake.read("training_log")["loss"].to_pylist()[-1] == 5.0


@pytest.mark.slow
def test_a_commit_whose_answer_was_lost_counts_once(bucket: str, server: S3Server) -> None:
    lake = Lake(bucket).create()
    before = lake.version("training_log")
    server.set_faults(Faults(kinds=("lost",), methods=("PUT",), path="training_log/_delta_log", times=1))
    assert lake.write("training_log", [_log(0, 1.0)]) == before + 1
    assert server.faults_done() == 1
    assert lake.read("training_log")["loss"].to_pylist() == [1.0]


@pytest.mark.slow
def test_a_store_that_stays_down_is_explained_and_nothing_is_half_done(
    bucket: str, server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_ATTEMPTS", 2)
    lake = Lake(bucket).create()
    lake.write("training_log", [_log(0, 1.0)])
    server.set_faults(Faults(kinds=("fail",), methods=("PUT",)))
    with pytest.raises(UserError, match=r"did not answer after 2 attempts.*AWS_ENDPOINT_URL"):
        lake.write("training_log", [_log(0, 5.0), _log(1, 5.0)])
    server.set_faults(Faults())
    assert Lake(bucket).read("training_log")["loss"].to_pylist() == [1.0]


def test_other_roots_and_plain_http_are_users_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="s3://bucket/prefix"):
        Lake("gs://bucket/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    with pytest.raises(UserError, match="AWS_ALLOW_HTTP=true"):
        Storage.of("s3://bucket").exists("x")
