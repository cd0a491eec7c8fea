"""The table as LaTeX, Markdown, CSV and Parquet: same numbers, nothing that breaks out of a cell; ablations against their base."""

from __future__ import annotations

import csv
import io
import re
from typing import Any

import pyarrow.parquet as pq
import pytest

from eval.ablation import ablation_tables
from eval.latex import table_latex
from eval.metrics import METRICS
from eval.table import benchmark_table
from eval.table_files import FORMATS, rows_as, rows_parquet
from pipelines.errors import UserError


def row(metric: str, value: float | None, method: str = "hfca", **changed: Any) -> dict[str, Any]:
    named = {"protocol": "disco", "dataset": "tiktok", "split": "tiktok_disco10", "prediction_id": f"{method}-{changed.get('variant')}",
             "method": method, "variant": "demo", "seed": 0, "metric": metric, "value": value, "low": None, "high": None,
             "better": METRICS[metric].better, "clips": 5, "frames": 80, "windows": None, "note": None}  # fmt: skip
    return {**named, **changed}


ROWS = [
    row("l1", 2.934e-4, low=2.5e-4, high=3.1e-4),
    row("l1", 4.0e-4, "copy_reference"),
    row("ssim", -0.5, low=-0.6, high=-0.4),
    row("ssim", 0.25, "copy_reference"),
    row("ssim_face", 0.5),
    row("fvd", None, note="no window & <b>"),
]
EVIL = r"a & b_c \input{x} 100% | <b> [1]"


def _rows_of(latex: str) -> list[str]:
    return [line for line in latex.splitlines() if line.endswith(r"\\")]


def test_latex_has_best_values_intervals_and_arrows() -> None:
    latex = table_latex(benchmark_table(ROWS))
    assert latex.startswith("% \\usepackage{booktabs}\n")
    assert latex.count("usepackage") == 2  # booktabs and graphicx, once each
    assert r"\textbf{2.93E-04}" in latex
    assert r"{\tiny 2.50E-04--3.10E-04}" in latex
    assert r"{\tiny $-$0.6000--$-$0.4000}" in latex
    assert r"L1 $\downarrow$ & SSIM $\uparrow$" in latex
    assert "2.87E-04" in latex  # StableAnimator's, printed as 2.87 times 1E-4
    assert r"no window \& \textless{}b\textgreater{}" in latex
    for kind in ("table", "tabular"):
        assert latex.count(rf"\begin{{{kind}}}") == latex.count(rf"\end{{{kind}}}") == 3  # main, face, printed


def test_latex_rows_fit_their_columns_and_braces_close() -> None:
    evil = [{**line, "variant": EVIL, "note": EVIL} for line in ROWS]
    latex = table_latex(benchmark_table(evil), ablation_tables([*evil, row("l1", 1.0, variant="long name of a variant" * 3)]))
    assert latex.isascii()
    assert r"\input{" not in latex
    widths = re.findall(r"\\begin\{tabular\}\{(l r*)\}".replace(" ", ""), latex)
    for spec, body in zip(widths, latex.split(r"\begin{tabular}")[1:], strict=True):
        lines = _rows_of(body.split(r"\end{tabular}")[0])
        assert lines
        assert all(len(re.findall(r"(?<!\\)&", line)) == len(spec) - 1 for line in lines)
    bare = re.sub(r"\\[{}]", "", latex)
    assert bare.count("{") == bare.count("}")


def test_parquet_and_csv_hold_the_rows_in_the_tables_order() -> None:
    rows = pq.read_table(io.BytesIO(rows_parquet(ROWS))).to_pylist()
    assert [(r["method"], r["metric"]) for r in rows] == [
        ("copy_reference", "l1"), ("copy_reference", "ssim"), ("hfca", "l1"), ("hfca", "ssim"), ("hfca", "fvd"), ("hfca", "ssim_face"),
    ]  # fmt: skip
    assert [r["best"] for r in rows] == [False, True, True, False, False, False]
    assert rows[-1]["group"] == "regions"
    assert rows[2]["title"] == "L1"
    assert {r["value"] for r in rows} == {r["value"] for r in ROWS}
    lines = list(csv.DictReader(io.StringIO(rows_as(ROWS, "csv"))))
    assert [float(line["value"]) for line in lines if line["value"]] == [r["value"] for r in rows if r["value"] is not None]


def test_markdown_stays_a_table() -> None:
    text = rows_as([{**line, "variant": EVIL} for line in ROWS], "markdown")
    assert "<b>" not in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.lstrip().startswith("| Method")]
    assert len(tables) == 3  # main, face, printed
    for lines in tables:
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
    assert "**2.93E-04** (2.50E-04 – 3.10E-04)" in text
    assert "MRAA (HFCA, Table 1)" in text


def test_unknown_formats_are_named() -> None:
    assert set(FORMATS) == {"text", "markdown", "latex", "csv"}
    assert all(rows_as(ROWS, style).strip() for style in FORMATS)
    with pytest.raises(UserError, match="latex"):
        rows_as(ROWS, "word")


def test_an_ablation_is_against_its_base() -> None:
    rows = [row("l1", 0.3, variant="demo-no_pose"), row("l1", 0.1), row("l1", 0.2, variant="demo-w"), row("l1", 0.5, "copy_reference"),
            row("l1", 0.7, variant="demo-w", seed=4, prediction_id="other"), row("l1", 0.9, "hia"), row("fvd", None)]  # fmt: skip
    (section,) = ablation_tables(rows)
    assert "HFCA" in section.title
    assert "demo" in section.title
    assert [(line.detail, line.cells[0].value, line.cells[0].interval) for line in section.lines] == [
        ("demo, seed 0", "0.1000", ""),
        ("demo-w, seed 0", "0.2000", "+0.1000"),
        ("demo-w, seed 4", "0.7000", ""),  # no base with that seed
        ("demo-no_pose, seed 0", "0.3000", "+0.2000"),
    ]
    assert section.lines[0].cells[0].best
    assert section.notes == ("No difference is given for demo-w (seed 4): demo was not made with that seed.",)
    assert all(section.notes[0] in rows_as(rows, style).replace("\n", " ") for style in ("text", "markdown", "latex"))
    assert ablation_tables(ROWS) == ()
    assert "0.2000 (+0.1000)" in rows_as(rows, "text")


def test_a_checkpoint_that_was_trained_longer_is_no_ablation() -> None:
    assert ablation_tables([row("l1", 0.2, variant="demo"), row("l1", 0.1, variant="shipped")]) == ()
    assert len(ablation_tables([row("l1", 0.2, variant="demo"), row("l1", 0.1, variant="demo-no_pose")])) == 1
