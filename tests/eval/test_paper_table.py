"""The papers' tables come out as printed, impossible values are marked, and ours stand below only where they compare."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from eval.grid import FORMATS, Grid, as_csv, as_latex, as_markdown, escape_latex, render
from eval.metrics import METRICS
from eval.metrics.psnr_overflow import PSNR_OVERFLOW
from eval.paper_table import lake_grids, paper_grids
from eval.published.cells import printed_cells
from eval.published.matching import OVERFLOW_FLOOR_DB, impossible, l1_ceiling_db, source_of
from models.ablations import rows_here
from pipelines.errors import UserError
from pipelines.lake import Lake

TABLES = sorted({(cell.row["paper"], cell.row["table"]) for cell in printed_cells()})
MERGED = {("pose_animate", "Table 2a")}  # the text at hand runs two rows of this table into one line
_NUMBER = re.compile(r"\d[\d.]*(E-\d+)?[G%]?")


def ours(**changed: object) -> dict[str, object]:
    row = {"protocol": "disco", "dataset": "tiktok", "split": "tiktok_disco10", "prediction_id": "p", "method": "hfca", "variant": "demo",
           "seed": 3, "metric": "l1", "value": 2.5e-4, "low": None, "high": None, "clips": 10, "note": None}  # fmt: skip
    return {**row, **changed}


def numbers(line: str) -> list[str]:
    plain = re.sub(r"\*\*|</?[bu]>|[|/]|(?<=\s)-(?=\s)", " ", line)
    return [token for token in plain.split() if _NUMBER.fullmatch(token)]


@pytest.fixture(scope="session")
def papers() -> Path:
    """Texts of the papers (not part of the project)."""
    beside = Path(os.environ.get("ROTOSCOPE_TEST_MEDIA", "/nonexistent")).parent / "papers"
    folder = Path(os.environ.get("ROTOSCOPE_TEST_PAPERS", beside))
    if not (folder / "hfca.txt").is_file():
        pytest.skip("ROTOSCOPE_TEST_PAPERS names no folder of the papers' texts")
    return folder


def at_the_end(values: list[str], line: list[str]) -> bool:
    return line[-len(values) :] == values


def in_order(values: list[str], line: list[str]) -> bool:
    rest = iter(line)
    return all(value in rest for value in values)


def values_of(grid: Grid) -> list[list[str]]:
    return [[text.removesuffix("†") for text in row[1:] if text != "–"] for row in grid.rows]


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_every_cell_is_in_the_paper(papers: Path, paper: str, table: str) -> None:
    lines = [numbers(line) for line in (papers / f"{paper}.txt").read_text(encoding="utf-8").splitlines()]
    (grid,) = paper_grids(paper, table)
    found, place = in_order if (paper, table) in MERGED else at_the_end, 0
    for row, values in zip(grid.rows, values_of(grid), strict=True):  # rows in the paper's order
        here = next((i for i in range(place, len(lines)) if found(values, lines[i])), None)
        assert here is not None, f"{row[0]}: {values}"
        place = here if found is in_order else here + 1


def block(rows: list[list[str]], lines: list[list[str]], start: int) -> list[int]:
    """The next line of each row from a line on; empty where one is missing."""
    places: list[int] = []
    for values in rows:
        here = next((i for i in range(places[-1] + 1 if places else start, len(lines)) if at_the_end(values, lines[i])), None)
        if here is None:
            return []
        places.append(here)
    return places


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_the_paper_has_no_row_that_is_not_laid_out(papers: Path, paper: str, table: str) -> None:
    """Every line of numbers between the first and the last row, and just beside them, is one of the rows."""
    if (paper, table) in MERGED:
        pytest.skip("two rows stand in one line of the text at hand")
    lines = [numbers(line) for line in (papers / f"{paper}.txt").read_text(encoding="utf-8").splitlines()]
    rows = values_of(paper_grids(paper, table)[0])
    starts = [i for i in range(len(lines)) if at_the_end(rows[0], lines[i])]  # a row may stand in another table as well
    places = min((found for i in starts if (found := block(rows, lines, i))), key=lambda found: found[-1] - found[0])
    fewest = min(len(values) for values in rows)
    around = range(max(0, places[0] - 2), min(len(lines), places[-1] + 3))
    assert [i for i in around if i not in places and len(lines[i]) >= fewest] == []


@pytest.mark.parametrize(("paper", "table"), TABLES)
def test_every_row_that_we_have_run_stands_below_the_printed_ones(paper: str, table: str) -> None:
    """For each printed row a number of ours under the table's own protocol and split: all come out, in a block of their own."""
    source, labels = source_of(paper, table), rows_here(paper, table)
    cells = [
        cell.row
        for cell in printed_cells()
        if (cell.row["paper"], cell.row["table"]) == (paper, table) and cell.row["metric_id"] in METRICS
    ]
    models = list(labels) or [(method, "paper") for method in dict.fromkeys(row["method_id"] for row in cells)]
    rows = [ours(protocol=source.protocol, dataset=row["dataset_id"], split=source.splits[row["dataset_id"]][0], method=method, variant=variant,
                 metric=row["metric_id"], value=0.123) for row in cells for method, variant in models]  # fmt: skip
    (alone,), (grid,) = paper_grids(paper, table), paper_grids(paper, table, rows, labels_of=rows_here)
    assert grid.rows[: len(alone.rows)] == alone.rows
    below = grid.rows[len(alone.rows) :]
    assert len(below) == (len(models) if cells else 0)
    assert all("measured here" in row[0] for row in below)
    if labels:
        assert [row[0].partition(" (measured")[0] for row in below] == [*labels.values()]


def test_every_cell_of_the_packaged_file_is_laid_out_once() -> None:
    cells = printed_cells()
    assert len(cells) == 687
    for paper, table in TABLES:
        (grid,) = paper_grids(paper, table)
        laid = sorted(value for values in values_of(grid) for value in values)
        assert laid == sorted(cell.text for cell in cells if (cell.row["paper"], cell.row["table"]) == (paper, table))


def test_known_rows_as_printed() -> None:
    (grid,) = paper_grids("hfca", "1")
    assert grid.head == ("Method", "L1 ↓", "PSNR ↑", "SSIM ↑", "LPIPS ↓", "FID ↓", "FID-VID ↓", "FVD ↓")
    assert grid.rows[0] == ("MRAA", "6.43E-04", "28.79", "0.673", "0.245", "85.42", "103.52", "658.12")
    assert [g.title.split(",")[1].split()[1] for g in paper_grids("hia", "1")] == ["1a", "1b"]
    (both,) = paper_grids("stable_animator", "Table 1")
    assert both.rows[0][:5] == ("MRAA", "3.21", "3.62", "–", "26.62")


def test_impossible_values_are_marked() -> None:
    cells = [cell for cell in printed_cells() if cell.row["metric_id"] == "psnr_overflow"]
    under = [cell for cell in cells if impossible(cell.row, [])]
    assert {cell.text for cell in under} == {"22.94", "24.10", "22.25", "23.45", "18.86", "23.05", "23.14", "2389", "24.07", "0.931"}
    assert len(under) == 11  # 23.45 is printed twice
    assert PSNR_OVERFLOW.low == pytest.approx(OVERFLOW_FLOOR_DB, abs=1e-3)
    (grid,) = paper_grids("stable_animator", "2")
    assert [row[2] for row in grid.rows] == ["24.10†", "22.25†", "23.45†", "27.17", "28.85"]
    assert sum("its own L1 allows" in note for note in grid.notes) == 3


def test_a_corrected_psnr_cannot_pass_the_ceiling_of_its_l1() -> None:
    assert l1_ceiling_db(2.87e-4, 65536) == pytest.approx(22.6, abs=0.05)
    assert l1_ceiling_db(5.10e-5, 512 * 896) == pytest.approx(20.8, abs=0.06)
    cells = {cell.row["metric_id"]: dict(cell.row) for cell in printed_cells() if cell.row["paper"] == "hia" and cell.row["method"] == "HIA"
             and cell.row["table"] == "Table 1b"}  # fmt: skip
    assert impossible(cells["psnr"], list(cells.values())) == ""
    assert "20.75 dB" in impossible({**cells["psnr"], "value": 24.0}, list(cells.values()))
    assert impossible({**cells["psnr"], "value": 24.0}, []) == ""


@pytest.mark.parametrize("changed", [{"protocol": "standard"}, {"split": "tiktok_335_340"}, {"dataset": "ted_talks"}, {"value": None}])
def test_ours_stand_below_only_where_they_compare(changed: dict[str, object]) -> None:
    (same,) = paper_grids("hfca", "1", [ours(), ours(metric="fvd", value=170.123)])
    assert same.rule_before == 6
    assert same.rows[6] == ("HFCA (measured here: demo, seed 3)", "2.50E-04", "–", "–", "–", "–", "–", "170.12")
    (other,) = paper_grids("hfca", "1", [ours(**changed)])
    assert len(other.rows) == 6
    assert any("not certain" in note for note in other.notes)


def test_ours_are_shown_in_the_scale_of_the_column() -> None:
    (grid,) = paper_grids("stable_animator", "1", [ours()])
    assert grid.rows[-1][1] == "2.50"
    assert source_of("pose_animate", "Table 1").protocol == "pose_animate_wild"


def test_before_there_is_a_lake_the_papers_stand_alone(tmp_path: Path) -> None:
    assert lake_grids(Lake(tmp_path / "none"), "hfca", "1") == paper_grids("hfca", "1")
    assert not (tmp_path / "none").exists()


def test_what_is_known_of_a_cell_is_said_once() -> None:
    (fashion,) = paper_grids("animate_anyone", "1")
    assert fashion.title == "AnimateAnyone, Table 1 (ubc_fashion) as printed"
    assert "SD-2V (LPIPS): possibly swapped with the DreamPose* LPIPS (0.095)" in fashion.notes
    assert "Ours: the same configuration is printed with other values in Tables 4-6" in fashion.notes
    (hfca,) = paper_grids("hfca", "5")
    assert (
        'HFCA (STODE: temporal modelling only ("0" row)), FID-VID 4430: read as 44.30, the decimal point is lost in the text' in hfca.notes
    )
    assert len(set(hfca.notes)) == len(hfca.notes)
    (asked,) = paper_grids("stable_animator", "6")
    assert not any("protocol disco" in note for note in asked.notes)
    (both,) = paper_grids("hfca", "1")
    assert sum(note.startswith("all rows (PSNR): ") for note in both.notes) == 1


def test_unknown_papers_tables_and_formats_are_named() -> None:
    with pytest.raises(UserError, match="hfca"):
        paper_grids("nobody", "1")
    for table in ("9", "", "1*"):
        with pytest.raises(UserError, match="Table 5"):
            paper_grids("hfca", table)
    with pytest.raises(UserError, match="latex"):
        render(paper_grids("hfca", "1")[0], "word")


def test_text_from_outside_stays_text() -> None:
    evil = Grid(
        title="t", head=("Method", "FVD ↓"), rows=((r"a & b_c \input{x} 100% | <b> [1]", "1"), ("[2] é", "2")), bold=frozenset({(0, 1)})
    )
    latex = as_latex(evil)
    assert r"a \& b\_c \textbackslash{}input\{x\} 100\%" in latex
    assert r"\textbf{1} \\" in latex
    assert "\n{}[2] e" in latex
    assert latex.isascii()
    assert "<b>" not in as_markdown(evil)
    assert as_markdown(evil).splitlines()[4].count(" | ") == 1
    assert as_csv(evil).splitlines()[0] == "Method,FVD ↓"
    assert escape_latex("a\nb") == "a b"
    assert escape_latex("*a") == "{}*a"
    assert all(render(evil, style).strip() for style in FORMATS)
