"""SQL over the lake, and what it says when it cannot."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pandas as pd
import pytest

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.query import query, save


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(tmp_path / "lake").create()
    made.write("training_log", [{"checkpoint_id": "c", "step": step, "loss": 1.0 / (step + 1)} for step in range(4)])
    made.write("checkpoints", [{"checkpoint_id": "c", "stage": "stage_1"}])
    return made


def test_tables_can_be_joined_and_empty_ones_read(lake: Lake) -> None:
    rows = query(lake, "select stage, count(*) n, min(loss) low from training_log join checkpoints using (checkpoint_id) group by 1")
    assert rows.to_pylist() == [{"stage": "stage_1", "n": 4, "low": 0.25}]
    assert query(lake, "select count(*) n from poses").to_pylist() == [{"n": 0}]


def test_replaced_rows_are_not_seen(lake: Lake) -> None:
    lake.write("training_log", [{"checkpoint_id": "c", "step": 0, "loss": 9.0}])
    assert query(lake, "select count(*) n, max(loss) high from training_log").to_pylist() == [{"n": 4, "high": 9.0}]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select colour from training_log", "columns of training_log: checkpoint_id, step, loss"),
        ("select * from poems", "tables: actions, benchmark, body_masks"),
        ("selec", "syntax error"),
        ("select * from read_csv('/etc/passwd')", "file system operations are disabled"),
        ("copy training_log to 'x.csv'", "file system operations are disabled"),
    ],
)
def test_what_cannot_run_is_explained(lake: Lake, sql: str, said: str) -> None:
    with pytest.raises(UserError, match="the query cannot run") as caught:
        query(lake, sql)
    assert said in str(caught.value)


@pytest.mark.parametrize(("ending", "read"), [("parquet", pd.read_parquet), ("csv", pd.read_csv), ("json", pd.read_json)])
def test_rows_are_saved_in_three_formats(lake: Lake, tmp_path: Path, ending: str, read: object) -> None:
    rows = query(lake, "select step, loss from training_log order by step")
    path = save(rows, tmp_path / f"x.{ending}")
    assert read(path)["loss"].tolist() == pytest.approx(rows["loss"].to_pylist())  # type: ignore[operator]
    assert [file.name for file in tmp_path.glob("*.part")] == []


def test_another_ending_or_folder_is_a_users_error(lake: Lake, tmp_path: Path) -> None:
    rows = query(lake, "select 1 as one")
    with pytest.raises(UserError, match=r"\.parquet, \.csv, \.json"):
        save(rows, tmp_path / "x.xlsx")
    with pytest.raises(UserError, match="there is no folder"):
        save(rows, tmp_path / "nowhere" / "x.csv")


@pytest.mark.parametrize(
    "sql",
    [
        "set enable_external_access = true; select * from read_csv('/etc/passwd')",
        "attach 'other.db'",
        "install httpfs",
        "select * from glob('/etc/*')",
        "select * from '/etc/passwd'",
        "select * from lake",  # a name of Python, not of the lake
        "insert into training_log select * from training_log",
    ],
)
def test_nothing_but_the_tables_can_be_reached(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the query cannot run"):
        query(lake, sql)
    assert not list(tmp_path.glob("*.db"))
    assert query(lake, "select count(*) n from training_log").to_pylist() == [{"n": 4}]


@pytest.mark.parametrize("sql", ["", "  ", "-- words"])
def test_no_statement_is_a_users_error(lake: Lake, sql: str) -> None:
    with pytest.raises(UserError, match="write a SELECT"):
        query(lake, sql)


def test_bytes_are_saved_as_json_and_csv(lake: Lake, tmp_path: Path) -> None:
    rows = query(lake, "select 1 as frame, '\\xFF\\xFE'::blob as rle, 'nan'::double as loss, [1.5, null] as points")
    saved = json.loads(save(rows, tmp_path / "x.json").read_text())
    assert base64.b64decode(saved[0]["rle"]) == b"\xff\xfe"
    assert saved[0]["loss"] is None
    assert saved[0]["points"] == [1.5, None]
    assert base64.b64decode(pd.read_csv(save(rows, tmp_path / "x.csv"))["rle"][0]) == b"\xff\xfe"


@pytest.mark.parametrize("ending", ["csv", "json"])
def test_integers_stay_integers_where_some_are_missing(lake: Lake, tmp_path: Path, ending: str) -> None:
    rows = query(lake, "select * from (values (1, 2097153::bigint), (2, null)) as t(frame, height)")
    text = save(rows, tmp_path / f"x.{ending}").read_text()
    assert "2097153" in text
    assert "2097153." not in text


def test_no_rows_are_saved_too(lake: Lake, tmp_path: Path) -> None:
    rows = query(lake, "select step from training_log where step > 99")
    assert json.loads(save(rows, tmp_path / "x.json").read_text()) == []
    assert save(rows, tmp_path / "x.csv").read_text() == "step\n"
