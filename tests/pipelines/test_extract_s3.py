"""Extraction into a bucket: the same rows as in a folder, the weights' lock kept there, and clips that every reader can open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines.weights as weights_module
from benchmarks.fault_drill.servers import drill_servers
from pipelines.clip import Clip, Frames
from pipelines.clip_frames import local_clip, stamped_frames
from pipelines.errors import UserError
from pipelines.extract import Rows, SerialEngine, extract
from pipelines.extract_worker import Result, Task, WorkerSpec
from pipelines.lake import Lake, digest_rows
from pipelines.storage import local_beside
from pipelines.tables import TABLES
from pipelines.video import decode_frames, encode_video, iterate_clip
from pipelines.weights import find_weights
from tests.pipelines.s3_server import Faults, S3Server, s3_server

FEW = ("videos", "clips", "poses", "clip_embeddings", "removals")
FRAMES = 6


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def bucket(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    for name, value in {
        "AWS_ENDPOINT_URL": server.endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "ROTOSCOPE_CACHE": str(tmp_path / "cache"),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for name in [name for name in TABLES if name not in FEW]:
        monkeypatch.delitem(TABLES, name)
    yield f"s3://lakes/{tmp_path.name}"
    server.set_faults(Faults())


@dataclass
class Means:
    """Mean colours; finds a weights file, as networks do."""

    name: str = "means"
    version: int = 1
    tables: tuple[str, ...] = ("poses",)

    def weights_digest(self) -> str:
        return weights_module.digest_of(find_weights("drilled"))

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        return lambda clip, frames: {"poses": [{"keypoints": image.mean(axis=(0, 1))[:2].tolist()} for image in frames]}


class Watched(SerialEngine):
    """Keeps what it was asked for."""

    spec: WorkerSpec | None = None

    def run(self, worker: WorkerSpec, tasks: Sequence[Task], time_limit_s: float) -> Iterator[Result | None]:
        self.spec = worker
        yield from super().run(worker, tasks, time_limit_s)


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A role whose file is one that this test writes."""
    file = tmp_path / "weights" / "drilled.bin"
    file.parent.mkdir()
    file.write_bytes(b"first")
    known = next(iter(weights_module.WEIGHTS.values()))
    role = replace(known, role="drilled", file="drilled.bin", sha256=None, non_commercial=False)
    monkeypatch.setitem(weights_module.WEIGHTS, "drilled", role)
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(file.parent))
    return file


def _filled(root: str) -> Lake:
    """A lake with one video of a clip."""
    lake = Lake(root).create()
    video = lake.root / "videos" / "noise.mp4"
    encode_video(video, np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 48, 3), dtype=np.uint8), Fraction(25))
    lake.write("clips", [{"dataset": "d", "clip_id": "c", "video_id": "v", "uri": lake.put(video), "status": "ok", "split": "test",
                          "start_frame": 0, "end_frame": FRAMES, "time_base_num": 1, "time_base_den": 25, "fps_num": 25, "fps_den": 1,
                          "width": 48, "height": 32}])  # fmt: skip
    return lake


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_bucket_gets_the_rows_and_the_lock_that_a_folder_gets(bucket: str, weights: Path, tmp_path: Path) -> None:
    remote, local, engine = _filled(bucket), _filled(str(tmp_path / "lake")), Watched()
    reports = [extract([Means()], lake.clips("d"), lake, engine, progress=False) for lake in (local, remote)]
    assert [report.failures for report in reports] == [(), ()]
    assert digest_rows("poses", remote.read("poses")) == digest_rows("poses", local.read("poses"))
    assert remote.read("poses").num_rows == FRAMES
    assert engine.spec is not None
    assert engine.spec.shared_storage  # the last was the bucket: machines of a cluster can reach it
    assert remote.storage.read("weights.lock") == local.storage.read("weights.lock")
    weights.write_bytes(b"other!")
    fresh = Lake(bucket)
    fresh.storage.forget_copy("weights.lock")  # as on another machine
    with pytest.raises(UserError, match=r"weights.lock.*was used before"):
        extract([Means()], fresh.clips("d"), fresh, "serial", progress=False)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_way_of_reading_opens_a_clip_of_a_bucket(bucket: str) -> None:
    (clip,) = _filled(bucket).clips("d")
    assert clip.uri.startswith("s3://")
    whole = decode_frames(clip)
    np.testing.assert_array_equal(whole, decode_frames(local_clip(clip)))
    np.testing.assert_array_equal(whole, np.concatenate(list(iterate_clip(clip, 4))))
    np.testing.assert_array_equal(whole[[4, 0]], decode_frames(clip, [4, 0]))
    assert sum(1 for _ in stamped_frames(clip)) == FRAMES
    assert local_beside(clip.uri, "noise.mp4").read_bytes() == Path(local_clip(clip).uri).read_bytes()


def test_local_clips_stay_as_they_are(tmp_path: Path) -> None:
    span: dict[str, Any] = {"start_frame": 0, "end_frame": 1, "start_pts": None, "end_pts": None}
    shape: dict[str, Any] = {"time_base": Fraction(1, 25), "fps": Fraction(25), "width": 48, "height": 32}
    clip = Clip(dataset="d", clip_id="c", video_id="v", uri=str(tmp_path / "a.mp4"), **span, **shape)
    assert local_clip(clip) is clip
    assert local_beside(clip.uri, "b.npz") == tmp_path / "b.npz"
    assert local_beside("a.mp4", "b.npz") == Path("b.npz")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_links_to_rows_under_servers_that_misbehave(bucket: str, server: S3Server, tmp_path: Path) -> None:
    def disturb(on: bool) -> int:
        done = server.faults_done()
        server.set_faults(Faults(kinds=("fail", "stall", "lost", "truncate"), every=11) if on else Faults())
        return done

    folder = tmp_path / "drill"
    folder.mkdir()
    assert drill_servers(folder, 8, bucket, disturb, "serial", print).endswith("PASS")
