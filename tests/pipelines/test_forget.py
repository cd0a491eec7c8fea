"""What is forgotten is gone from every row, file and old part, and stays gone."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.errors import UserError
from pipelines.forget import forget, mark_removed, removed
from pipelines.lake import Lake
from pipelines.lake_maintenance import merge, named_versions, vacuum
from pipelines.sources.folder import scan_folder

EMBEDDING = [float(x) for x in np.random.default_rng(7).normal(size=64).astype(np.float32)]
OTHER = [float(x) for x in np.random.default_rng(8).normal(size=64).astype(np.float32)]
KEY = {"extractor": "e", "version": 1, "weights_digest": ""}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Two people, one clip each, in one part; the first one's video lies in the lake, and a model was trained on it."""
    made = Lake(tmp_path / "lake").create()
    for name in ("ann", "bob"):
        (made.root / "videos" / f"{name}.mp4").write_bytes(name.encode())
        (made.root / "videos" / f"{name}.truth.json").write_text("{}")
        _generated(made, name)
    videos = [
        {"dataset": "d", "video_id": n, "uri": f"videos/{n}.mp4", "sha256": f"sha-{n}", "subject": n, "status": "ok"}
        for n in ("ann", "bob")
    ]
    made.write("videos", videos)
    made.write(
        "clips", [{"dataset": "d", "clip_id": f"c-{n}", "video_id": n, "uri": f"videos/{n}.mp4", "status": "ok"} for n in ("ann", "bob")]
    )
    faces = [("ann", EMBEDDING), ("bob", OTHER)]
    made.write("faces", [{"dataset": "d", "clip_id": f"c-{n}", "frame": 0, **KEY, "embedding": e} for n, e in faces])
    version = made.write("training_rows", [{"dataset": "d", "method": "m", "clip_id": "c-ann"}])
    made.write("training_rows", [{"dataset": "d", "method": "other", "clip_id": "c-bob"}])
    first = {"checkpoint_id": "k1", "dataset": "d", "method": "m", "training_rows_version": version}
    unrelated = {"checkpoint_id": "k3", "dataset": "d", "method": "other", "training_rows_version": version + 1}
    made.write("checkpoints", [first, {**first, "checkpoint_id": "k2", "parent": "k1", "dataset": "e"}, unrelated])
    return made


def _generated(lake: Lake, name: str) -> None:
    folder = lake.root / "generated" / "d" / "p"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"c-{name}.mp4").write_bytes(b"generated")
    row = {"prediction_id": "p", "clip_id": f"c-{name}", "dataset": "d", "uri": f"generated/d/p/c-{name}.mp4"}
    lake.write("predictions", [row])
    lake.write("scores", [{"protocol": "x", "split": "test", "prediction_id": "p", "clip_id": f"c-{name}", "metric": "l1", "dataset": "d"}])
    listed = [{"clip_id": f"c-{n}"} for n in ("ann", "bob")]
    lake.write_text("generated/d/p/manifest.json", '{"clips": ' + str(listed).replace("'", '"') + "}")


def _holds(root: Path, values: list[float]) -> list[str]:
    """Parquet files under the root in which any list of floats equals the values: every file, whether a commit names it or not."""
    found = []
    for path in root.rglob("*.parquet"):
        if "_delta_log" in path.parts:
            continue
        table = pq.ParquetFile(path).read()
        for name in table.column_names:
            if pa.types.is_list(table[name].type) and any(row == values for row in table[name].to_pylist()):
                found.append(str(path))
    return found


def test_no_part_snapshot_or_file_holds_the_person_any_more(lake: Lake) -> None:
    assert _holds(lake.root, EMBEDDING)
    (lake.root / "reports" / "d_demo.html").write_text("<img>")
    (lake.root / "reports" / "elsewhere_demo.html").write_text("<img>")
    latents = lake.root / "checkpoints" / "d" / "m" / ".latents-1" / "c-ann.npy"
    latents.parent.mkdir(parents=True)
    latents.write_bytes(b"latents")
    report = forget(lake, video="ann", dataset="d")
    assert _holds(lake.root, EMBEDDING) == []
    assert _holds(lake.root, OTHER)
    assert report.clips == ("c-ann",)
    assert report.rows == {"videos": 1, "clips": 1, "faces": 1, "training_rows": 1, "predictions": 1, "scores": 1}
    assert set(report.files) == {"videos/ann.mp4", "videos/ann.truth.json", "generated/d/p/c-ann.mp4"}
    left = {path.name for path in lake.root.rglob("*") if path.is_file() and "delta" not in path.parts and "tables" not in path.parts}
    assert left == {"bob.mp4", "bob.truth.json", "c-bob.mp4", "manifest.json", "elsewhere_demo.html"}
    assert "c-ann" not in lake.read_text("generated/d/p/manifest.json")
    assert "ann" not in pq.read_table(lake.root / "tables" / "videos.parquet")["video_id"].to_pylist()
    for table in ("videos", "clips", "faces", "predictions", "scores"):
        assert lake.read(table).num_rows == 1


def test_checkpoints_and_their_descendants_are_flagged_and_stay(lake: Lake) -> None:
    report = forget(lake, person="ann")
    assert report.checkpoints == ("k1", "k2")
    flags = {row["checkpoint_id"]: row["trained_on_removed"] for row in lake.rows("checkpoints")}
    assert flags == {"k1": True, "k2": True, "k3": None}
    assert ("person", "ann") in removed(lake)


def test_it_does_not_come_back_and_the_users_own_file_stays(lake: Lake, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    own, kept = folder / "carl.mp4", folder / "dora.mp4"
    own.write_bytes(b"carl")
    kept.write_bytes(b"dora")
    lake.write("videos", scan_folder(lake, folder, "mine", None))
    report = forget(lake, video="carl.mp4" if "carl.mp4" in lake.read("videos")["video_id"].to_pylist() else "carl")
    assert report.outside == (str(own),)
    assert own.read_bytes() == b"carl"
    assert any("outside the lake" in line for line in report.lines())
    again = {Path(row["uri"]).name: row["code"] for row in mark_removed(removed(lake), scan_folder(lake, folder, "mine", None))}
    assert again["carl.mp4"] == "removed"
    assert again["dora.mp4"] != "removed"
    os.rename(own, folder / "renamed.mp4")  # the bytes are known by their digest
    again = {Path(row["uri"]).name: row["code"] for row in mark_removed(removed(lake), scan_folder(lake, folder, "mine", None))}
    assert again["renamed.mp4"] == "removed"


def test_the_same_bytes_in_another_data_set_go_too_and_a_shared_file_stays(lake: Lake) -> None:
    copy: dict[str, Any] = {"dataset": "f", "video_id": "copy", "uri": "videos/bob.mp4", "sha256": "sha-ann", "status": "ok"}
    lake.write("videos", [copy])
    report = forget(lake, video="sha-ann")
    assert report.videos == ("d/ann", "f/copy")
    assert (lake.root / "videos" / "bob.mp4").exists()  # bob's row still names it
    assert not (lake.root / "videos" / "ann.mp4").exists()


def test_twice_is_once_and_nothing_is_an_error(lake: Lake) -> None:
    forget(lake, video="ann")
    assert forget(lake, video="ann").rows == {}
    with pytest.raises(UserError, match=r"nothing in .* matches 'zed'"):
        forget(lake, video="zed")
    with pytest.raises(UserError, match="either a video"):
        forget(lake)


def _aged(lake: Lake, days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def _log(step: int) -> dict[str, Any]:
    return {"checkpoint_id": "c", "step": step, "loss": float(step)}


def test_vacuum_keeps_what_is_young_named_or_live(lake: Lake) -> None:
    named = lake.write("training_rows", [{"dataset": "x", "method": "m", "clip_id": "1"}])
    lake.write("benchmark", [{"protocol": "p", "split": "s", "prediction_id": "q", "metric": "l1"}], {"inputs": {"training_rows": named}})
    for _ in range(2):
        lake.write("training_rows", [{"dataset": "x", "method": "m", "clip_id": "1", "frames": 2}])
    assert vacuum(lake, "training_rows").deleted == ()  # all younger than 90 days
    assert named in named_versions(lake)["training_rows"]
    done = vacuum(lake, "training_rows", now=_aged(lake, 91))
    assert len(done.deleted) == 1  # the version between
    assert done.bytes > 0
    assert lake.read("training_rows", where=pc.field("dataset") == "x", version=named)["frames"].to_pylist() == [None]
    assert lake.read("training_rows", where=pc.field("dataset") == "x")["frames"].to_pylist() == [2]


def test_vacuum_ends_old_versions_with_a_reason_and_removes_parts_of_failed_commits(lake: Lake) -> None:
    old = lake.write("training_log", [_log(0)])
    reader = lake.dataset("training_log")
    lake.write("training_log", [{**_log(0), "loss": 5.0}])
    orphan = lake.root / "delta" / "training_log" / "part-orphan.parquet"
    pq.write_table(lake.read("training_log"), orphan)
    vacuum(lake, "training_log")
    assert orphan.exists()  # it may belong to a commit that is being made
    assert reader.to_table()["loss"].to_pylist() == [0.0]  # an old reader goes on
    assert "part-orphan.parquet" in vacuum(lake, "training_log", now=_aged(lake, 100)).deleted
    with pytest.raises(UserError, match="a part of this version of table training_log is gone"):
        lake.read("training_log", version=old)
    assert lake.read("training_log")["loss"].to_pylist() == [5.0]


def test_merging_makes_one_part(lake: Lake) -> None:
    for step in range(4):
        lake.write("training_log", [_log(step)])
    done = merge(lake, "training_log")
    assert (done.parts_before, done.parts_after) == (4, 1)
    assert merge(lake, "training_log").version == done.version
    assert lake.read("training_log")["step"].to_pylist() == [0, 1, 2, 3]
