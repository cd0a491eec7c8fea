"""The papers' numbers stand beside ours only under their protocol, data set and split, in our units, with what is doubtful said."""

from __future__ import annotations

from typing import Any

import pytest

from eval.grid import as_text
from eval.metrics import METRICS
from eval.published.beside import MARK, in_our_unit, printed_beside
from eval.published.cells import Printed, printed_cells
from eval.published.matching import source_of, true_value
from eval.table import benchmark_table, table_text


def ours(**changed: Any) -> dict[str, Any]:
    row = {"protocol": "disco", "dataset": "tiktok", "split": "tiktok_disco10", "prediction_id": "p", "method": "hfca", "variant": "demo",
           "seed": 3, "metric": "l1", "value": 2.5e-4, "low": None, "high": None, "clips": 10, "frames": 1, "windows": 1, "note": None}  # fmt: skip
    return {**row, **changed}


@pytest.mark.parametrize(
    ("protocol", "dataset", "split", "says"),
    [
        ("standard", "tiktok", "tiktok_disco10", "No paper printed numbers under the protocol standard"),
        ("demo_standin", "performers_dance", "test", "No paper printed numbers under the protocol demo_standin"),
        ("disco", "performers_dance", "test", "No paper printed numbers on performers_dance"),
        ("disco", "tiktok", "tiktok_335_340", "another split (tiktok_disco10, not tiktok_335_340)"),
        ("disco", "tiktok", "hia_41", "another split"),
        ("hia_native", "ubc_fashion", "ubc_100", "No paper printed numbers on ubc_fashion"),
    ],
)
def test_nothing_is_shown_elsewhere_and_one_line_says_so(protocol: str, dataset: str, split: str, says: str) -> None:
    beside = printed_beside(protocol, dataset, split)
    assert beside.lines == ()
    assert beside.grid() is None
    assert says in beside.line
    text = table_text(benchmark_table([ours(protocol=protocol, dataset=dataset, split=split)]))
    assert text.endswith(beside.line)
    assert MARK not in text


def test_every_cell_that_matches_is_there_and_no_other() -> None:
    for protocol, dataset, split in (
        ("disco", "tiktok", "tiktok_disco10"),
        ("hia_native", "tiktok", "hia_41"),
        ("disco", "ubc_fashion", "ubc_100"),
    ):
        beside = printed_beside(protocol, dataset, split)
        wanted = [in_our_unit(c) for c in printed_cells() if c.row["dataset_id"] == dataset and c.row["metric_id"] in METRICS
                  and source_of(c.row["paper"], c.row["table"]).protocol == protocol]  # fmt: skip
        shown = [text.removesuffix(MARK) for line in beside.lines for text in line.cells if text != "–"]
        assert sorted(shown) == sorted(wanted)
        assert len(wanted) > 20


def test_units_are_ours_with_the_digits_that_were_printed() -> None:
    for cell in printed_cells():
        value = true_value(cell.row)
        if value is not None and cell.row["metric_id"] in METRICS:
            assert float(in_our_unit(cell)) == pytest.approx(value, rel=1e-9), cell

    def one(text: str, **row: Any) -> str:
        return in_our_unit(Printed(text=text, row={"value": float(text), "scale": 1.0, "corrected_value": None, "metric_id": "l1", **row}))

    assert one("2.87", scale=1e-4) == "2.87E-04"
    assert one("94.88", metric_id="frame_consistency", scale=1e-2) == "94.88"
    assert METRICS["frame_consistency"].high == 100
    assert one("95.6", metric_id="user_motion", scale=1e-2) == "0.956"
    assert one("3027", corrected_value=30.27) == "30.27"
    assert one("284.8") == "284.8"


def test_impossible_and_doubtful_values_are_marked() -> None:
    beside = printed_beside("disco", "unseen100", "test")
    marked = {cell for line in beside.lines for cell in line.cells if cell.endswith(MARK)}
    assert marked == {f"{value}{MARK}" for value in ("22.94", "24.10", "22.25", "23.45", "18.86", "23.05", "23.14")}
    assert len(beside.notes(beside.lines)) == len(beside.doubts) + 8  # 23.45 is printed twice
    assert len(beside.notes(beside.comparisons)) == len(beside.doubts) + 1
    assert "not certain" in beside.line
    assert all("not certain" in doubt for doubt in beside.doubts)
    assert "list of test videos is not published" in beside.doubts[0]


def test_tables_that_vary_one_method_stand_apart() -> None:
    beside = printed_beside("disco", "tiktok", "tiktok_disco10")
    assert {line.where for line in beside.ablations} == {f"HFCA, Table {n}" for n in (3, 4, 5)}
    assert "AnimateAnyone" in {line.name for line in beside.comparisons}
    grid = beside.grid(ablations=False)
    assert grid is not None
    assert "STODE" not in as_text(grid)
    text = table_text(benchmark_table([ours(), ours(metric="csim", value=0.5)]))
    assert "MRAA (HFCA, Table 1)" in text
    (measured,) = [line.split() for line in text.splitlines() if "measured here" in line]
    assert measured[-9:] == ["2.50E-04", "–", "–", "–", "–", "–", "–", "–", "0.500"]
