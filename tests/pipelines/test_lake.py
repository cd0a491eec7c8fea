"""The lake: upserts, atomicity, concurrent writers, and that plain readers stay right."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import write_deltalake

from pipelines.errors import UserError
from pipelines.lake import Lake, digest_rows
from pipelines.tables import TABLES


def _pose(clip: str, frame: int, x: float = 0.0) -> dict[str, object]:
    return {
        "dataset": "d",
        "clip_id": clip,
        "frame": frame,
        "extractor": "e",
        "version": 1,
        "weights_digest": "",
        "keypoints": [x] * 266,
        "scores": [1.0] * 133,
    }


def _log(step: int, loss: float) -> dict[str, object]:
    return {"checkpoint_id": "c", "step": step, "loss": loss}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake").create()


def test_every_table_has_its_key_first_and_only_types_that_delta_knows() -> None:
    for spec in TABLES.values():
        names = [name for name, _ in spec.columns]
        assert set(spec.key) <= set(names)
        assert len(set(names)) == len(names)
        for _, kind in spec.columns:
            assert not any(
                check(kind)
                for check in (pa.types.is_unsigned_integer, pa.types.is_float16, pa.types.is_fixed_size_list, pa.types.is_duration)
            )


def test_rows_come_back_as_written_and_sorted(lake: Lake) -> None:
    lake.write("poses", [_pose("b", 1, 2.5), _pose("b", 0), _pose("a", 0)])
    rows = lake.rows("poses")
    assert [(r["clip_id"], r["frame"]) for r in rows] == [("a", 0), ("b", 0), ("b", 1)]
    assert rows[2]["keypoints"][0] == 2.5


def test_a_second_write_of_a_key_replaces_the_row_and_only_it(lake: Lake) -> None:
    lake.write("training_log", [_log(0, 1.0), _log(1, 2.0)])
    lake.write("training_log", [_log(2, 3.0)])
    lake.write("training_log", [_log(1, 9.0)])
    assert [(r["step"], r["loss"]) for r in lake.rows("training_log")] == [(0, 1.0), (1, 9.0), (2, 3.0)]


def test_a_write_is_one_version_and_old_versions_stay_readable(lake: Lake) -> None:
    first = lake.write("training_log", [_log(0, 1.0)])
    second = lake.write("training_log", [_log(0, 5.0)])
    assert second == first + 1
    assert lake.read("training_log", version=first)["loss"].to_pylist() == [1.0]


def test_compaction_and_deletion_keep_the_content(lake: Lake) -> None:
    for step in range(5):
        lake.write("training_log", [_log(step, float(step))])
    before = digest_rows("training_log", lake.read("training_log"))
    lake.compact("training_log")
    assert len(lake.files("training_log")) == 1
    assert digest_rows("training_log", lake.read("training_log")) == before
    lake.delete("training_log", pc.field("step") == 3)
    assert lake.read("training_log")["step"].to_pylist() == [0, 1, 2, 4]


def test_the_content_digest_ignores_order_and_times_and_sees_values() -> None:
    schema = TABLES["training_log"].schema
    rows = [{**_log(0, 1.0), "seconds": 1.0}, {**_log(1, 2.0), "seconds": 2.0}]
    table = pa.Table.from_pylist(rows, schema=schema)
    shuffled = pa.Table.from_pylist([{**r, "seconds": 7.0} for r in reversed(rows)], schema=schema)
    changed = pa.Table.from_pylist([rows[0], _log(1, 2.5)], schema=schema)
    assert digest_rows("training_log", table) == digest_rows("training_log", shuffled)
    assert digest_rows("training_log", table) != digest_rows("training_log", changed)


def test_lineage_travels_with_the_commit(lake: Lake) -> None:
    version = lake.write("training_log", [_log(0, 1.0)], {"asset": "stage_1", "inputs": {"training_rows": 3}})
    assert lake.lineage("training_log")[0] == {"version": version, "asset": "stage_1", "inputs": {"training_rows": 3}}


def test_unknown_table_column_and_double_key_are_users_errors(lake: Lake) -> None:
    with pytest.raises(UserError, match="there are: actions, benchmark"):
        lake.read("nonsense")
    with pytest.raises(UserError, match="no column colour"):
        lake.write("training_log", [{**_log(0, 1.0), "colour": 1}])
    with pytest.raises(UserError, match="two rows for one key"):
        lake.write("training_log", [_log(0, 1.0), _log(0, 2.0)])


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match=r"cannot be written.*ROTOSCOPE_HOME"):
        Lake(tmp_path / "file" / "lake").create()


def test_reading_where_no_lake_is_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rotoscope demo"):
        Lake(tmp_path).read("videos")


def test_paths_inside_the_lake_are_stored_relative(lake: Lake, tmp_path: Path) -> None:
    inside, outside = lake.root / "videos" / "a.mp4", tmp_path / "b.mp4"
    assert lake.uri(inside) == "videos/a.mp4"
    assert lake.path(lake.uri(inside)) == inside
    assert lake.path(lake.uri(outside)) == outside


def test_an_older_lake_gets_new_columns_and_tables(tmp_path: Path) -> None:
    root = tmp_path / "lake"
    new = {"terms_url", "terms_accepted", "crop"}
    old = pa.schema([field for field in TABLES["videos"].schema if field.name not in new])
    row = {"dataset": "d", "video_id": "a", "status": "ok"}
    write_deltalake(root / "delta" / "videos", pa.Table.from_pylist([row], schema=old))
    lake = Lake(root).create()
    assert lake.rows("videos")[0]["terms_url"] is None
    lake.write("videos", [{"dataset": "d", "video_id": "b", "terms_url": "https://example.org", "crop": [0, 0, 4, 4]}])
    assert lake.read("videos")["terms_url"].to_pylist() == [None, "https://example.org"]
    assert lake.read("videos", version=0)["video_id"].to_pylist() == ["a"]
    lake.write("videos", [{**row, "terms_url": "new"}])
    assert lake.read("videos")["terms_url"].to_pylist() == ["new", "https://example.org"]
    assert lake.read("removals").num_rows == 0
    assert lake.version("videos") == Lake(root).create().version("videos")


def test_an_upsert_opens_only_parts_that_may_hold_its_keys(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.write("poses", [_pose(f"a{i:03}", 0) for i in range(40)])
    lake.write("poses", [_pose(f"b{i:03}", 0) for i in range(40)])
    before = set(lake.files("poses"))
    opened: list[int] = []
    scan = Lake._scan
    monkeypatch.setattr(Lake, "_scan", lambda self, spec, parts, *rest: opened.append(len(parts)) or scan(self, spec, parts, *rest))
    lake.write("poses", [_pose("c", 0)])
    assert opened == []
    lake.write("poses", [_pose("b0055", 0)])  # between two ids of the second part: looked for there, not found, nothing rewritten
    assert opened == [1]
    assert before < set(lake.files("poses"))
    lake.write("poses", [_pose("b005", 0, 7.0)])
    assert len(before & set(lake.files("poses"))) == 1
    assert lake.rows("poses", pc.field("clip_id") == "b005")[0]["keypoints"][0] == 7.0
    assert lake.read("poses").num_rows == 82


def test_a_filter_opens_only_parts_whose_bounds_allow_it(lake: Lake) -> None:
    for name in "abc":
        lake.write("poses", [_pose(f"{name}{i}", 0) for i in range(3)])
    data = lake.dataset("poses")
    assert len(list(data.get_fragments())) == 3
    assert len(list(data.get_fragments(pc.field("clip_id") == "b1"))) == 1
    assert len(list(data.get_fragments(pc.field("clip_id").isin(["a1", "b1"]) & (pc.field("frame") == 0)))) == 2
    assert len(list(data.get_fragments(pc.field("frame") == 5))) == 0


def _write_steps(root: Path, first: int) -> None:
    for step in range(first, first + 8):
        Lake(root).write("training_log", [_log(step, float(first)), _log(1000, float(first))])


def test_concurrent_writers_lose_nothing_and_double_nothing(lake: Lake) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_steps, args=(lake.root, 100 * i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    steps = lake.read("training_log")["step"].to_pylist()
    assert steps == sorted({100 * i + j for i in range(3) for j in range(8)} | {1000})


def _write_until_killed(root: Path) -> None:
    step = 0
    while True:
        Lake(root).write("training_log", [_log(step % 7, float(step)), _log(100 + step, 0.0)])
        Lake(root).compact("training_log")
        step += 1


def _until_rows(lake: Lake, rows: int, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while lake.read("training_log").num_rows < rows:
        assert time.monotonic() < ends, f"the writer has not added its rows within {seconds} s"
        time.sleep(0.05)


@pytest.mark.slow
def test_pandas_duckdb_and_delta_agree_after_overwrite_compaction_and_kill(lake: Lake) -> None:
    for delay in (0.0, 0.13, 0.31):
        rows = lake.read("training_log").num_rows
        writer = multiprocessing.get_context("spawn").Process(target=_write_until_killed, args=(lake.root,))
        writer.start()
        _until_rows(lake, rows + 10, seconds=240)  # it is at work, however slow the machine; then a moment of any of its writes
        time.sleep(delay)
        os.kill(writer.pid or 0, signal.SIGKILL)
        writer.join()
        lake.write("training_log", [_log(5000, 0.0)])  # the next commit publishes whatever the killed one left behind
        snapshot = lake.root / "tables" / "training_log.parquet"
        ours = lake.read("training_log").to_pandas()
        theirs = duckdb.sql(f"select * from read_parquet({lake.files('training_log')!r}) order by checkpoint_id, step").df()
        assert len(ours) > 7
        assert not ours.duplicated(["checkpoint_id", "step"]).any()
        pd.testing.assert_frame_equal(pd.read_parquet(snapshot), ours)
        assert theirs["step"].tolist() == ours["step"].tolist()
