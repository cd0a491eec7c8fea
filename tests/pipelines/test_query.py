"""SQL over the lake, and what it says when it cannot."""

from __future__ import annotations

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
        ("select * from poems", "tables: benchmark, body_masks"),
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
