"""Merging and deleting read a bounded part of a table at a time, and the log is summed up every ten commits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import pipelines.lake
from pipelines.lake import Lake
from pipelines.parts import Part, groups_of

COMMITS = 12


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake").create()
    for number in range(COMMITS):
        made.write("training_log", [_row(number, step) for step in range(3)])
    return made


def _row(number: int, step: int) -> dict[str, Any]:
    return {"checkpoint_id": f"c{number:02d}", "step": step, "loss": float(number)}


@pytest.fixture
def whole_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many parts each read of all columns took; three of this test's parts are what may be rewritten at a time."""
    seen: list[int] = []
    plain = Lake._scan

    def scan(self: Lake, spec: Any, parts: Sequence[Part], columns: Sequence[str], where: Any) -> pa.Table:
        if list(columns) == spec.schema.names and where is None:
            seen.append(len(parts))
        return plain(self, spec, parts, columns, where)

    monkeypatch.setattr(Lake, "_scan", scan)
    return seen


def _weigh(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.lake_rows import spec_of
    from pipelines.parts import parts_of

    heaviest = max(part.weight for part in parts_of(lake.open_table("training_log"), spec_of("training_log")))
    monkeypatch.setattr(pipelines.lake, "_REWRITE_BYTES", 3 * heaviest)
    monkeypatch.setattr(pipelines.lake, "_SMALL_PART_BYTES", heaviest + 1)


def test_merging_reads_groups_of_neighbours_and_keeps_every_row(
    lake: Lake, whole_reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = lake.read("training_log")
    _weigh(lake, monkeypatch)
    whole_reads.clear()
    lake.compact("training_log")
    assert whole_reads == [3] * (COMMITS // 3)
    assert len(lake.files("training_log")) == COMMITS // 3
    assert lake.read("training_log").equals(before)
    found = lake.read("training_log", where=pc.field("checkpoint_id") == "c04")
    assert found["loss"].to_pylist() == [4.0] * 3


def test_a_deletion_all_over_the_table_is_one_commit_in_groups(lake: Lake, whole_reads: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    _weigh(lake, monkeypatch)
    whole_reads.clear()
    version = lake.version("training_log")
    assert lake.delete("training_log", pc.field("step") == 1) == version + 1
    assert whole_reads == [3] * (COMMITS // 3) + [COMMITS // 3]  # the last one publishes what is left, for people
    assert [(row["checkpoint_id"], row["step"]) for row in lake.rows("training_log")] == [
        (f"c{number:02d}", step) for number in range(COMMITS) for step in (0, 2)
    ]


def test_an_upsert_all_over_the_table_replaces_each_row_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    _weigh(lake, monkeypatch)
    lake.write("training_log", [{**_row(number, 2), "loss": -1.0} for number in range(COMMITS)])
    rows = lake.rows("training_log")
    assert len(rows) == 3 * COMMITS
    assert [row["loss"] for row in rows if row["step"] == 2] == [-1.0] * COMMITS
    assert [row["loss"] for row in rows if row["step"] == 1] == [float(number) for number in range(COMMITS)]


def test_groups_keep_neighbours_together_and_never_lose_a_part() -> None:
    parts = [Part(path=f"p{n}", size=10 + n, bounds={"clip_id": (f"c{9 - n}", f"c{9 - n}")}) for n in range(10)]
    groups = list(groups_of(parts, 30))
    assert [part for group in groups for part in group] == parts[::-1]
    assert all(sum(part.weight for part in group) <= 30 or len(group) == 1 for group in groups)
    assert [len(group) for group in groups_of(parts[:1], 1)] == [1]
    assert list(groups_of([], 30)) == []


def test_the_log_is_summed_up_every_ten_commits_in_new_and_older_lakes(lake: Lake) -> None:
    from deltalake import DeltaTable

    last = json.loads((lake.root / "delta" / "training_log" / "_delta_log" / "_last_checkpoint").read_text())
    assert 1 <= last["version"] <= 10
    older = DeltaTable(lake.root / "delta" / "training_log")
    older.alter.set_table_properties({"delta.checkpointInterval": "100"})
    lake.create()
    version = lake.version("training_log")
    assert lake.open_table("training_log").metadata().configuration["delta.checkpointInterval"] == "10"
    lake.create()
    assert lake.version("training_log") == version
