"""LaTeX tables: well formed for every table of the papers and for text from outside; compiled for real where there is pdfLaTeX."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from eval.ablation import ablation_tables
from eval.grid import NEEDS, TALLEST, Grid, as_latex
from eval.latex import table_latex
from eval.metrics import METRICS
from eval.paper_table import paper_grids
from eval.published.cells import printed_cells
from eval.table import benchmark_table

PAPERS = sorted({(cell.row["paper"], cell.row["table"]) for cell in printed_cells()})
EVIL = r"[*] a & b_c^2 ~#$ \input{x} {100%} | <b> “é” ü ↑×† 人 \\ \end{tabular}"


def evil_grid(rows: int) -> Grid:
    return Grid(
        title=EVIL,
        head=("Method", EVIL, "FVD ↓"),
        rows=tuple((EVIL, str(i), f"-{i}.5") for i in range(rows)),
        notes=(EVIL, "two\nlines\n\nand a paragraph"),
        bold=frozenset({(0, 1), (rows - 1, 2)}),
        rule_before=rows // 2,
    )


def evil_benchmark(*metrics: str) -> str:
    """A benchmark table of the given metrics whose names and notes come from outside, with two variants."""
    rows: list[dict[str, Any]] = [
        {"protocol": "disco", "dataset": "tiktok", "split": "tiktok_disco10", "prediction_id": f"p{seed}", "method": method,
         "variant": f"{EVIL}{seed}", "seed": seed, "metric": metric, "value": -0.5 * seed or 2e-4, "low": -0.6, "high": 1.5,
         "better": METRICS[metric].better, "clips": 5, "frames": 80, "windows": None, "note": EVIL}
        for seed, method in enumerate(("hfca", "hfca", EVIL)) for metric in metrics
    ]  # fmt: skip
    return table_latex(benchmark_table(rows), ablation_tables(rows))


@cache
def all_documents() -> dict[str, str]:
    papers = {f"{paper} {table}": as_latex(grid) for paper, table in PAPERS for grid in paper_grids(paper, table)}
    return {**papers, "evil": as_latex(evil_grid(3)), "long": as_latex(evil_grid(2 * TALLEST + 5)), "benchmark": evil_benchmark(*METRICS)}


def commands(latex: str) -> list[str]:
    """Environments in their order: begin table, begin tabular, end tabular ..."""
    return [" ".join(found) for found in re.findall(r"\\(begin|end)\{(\w+)\}", latex)]


def assert_balanced(latex: str) -> None:
    """Every environment and every group is closed in its turn."""
    opened: list[str] = []
    for command in commands(latex):
        kind, name = command.split()
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []
    depth = 0
    for brace in re.findall(r"(?<!\\)(?:\\\\)*([{}])", latex):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0


def assert_escaped(latex: str) -> None:
    """No character that TeX would act on is left: alignments only between cells, math closed within its line, no comment."""
    assert latex.isascii()
    for line in latex.removeprefix(NEEDS).splitlines():
        text = line.removesuffix("%")  # ends of lines within a resized box
        bare = re.sub(r"\\([&%$#_{}]|\\)", "", text)
        assert not re.search(r"[#_^~%]", re.sub(r"\$[^$]*\$", "", bare)) or line.startswith("% "), line
        assert bare.count("$") % 2 == 0, line


def assert_rows_fit(latex: str) -> None:
    for spec, body in re.findall(r"\\begin\{tabular\}\{(l r*)\}(.*?)\\end\{tabular\}".replace(" ", ""), latex, flags=re.DOTALL):
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(rows) >= 2
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(spec) - 1, row


@pytest.mark.parametrize("name", list(all_documents()))
def test_every_table_is_well_formed(name: str) -> None:
    latex = all_documents()[name]
    assert latex.startswith(NEEDS)
    assert commands(latex)[:2] == ["begin table", "begin tabular"]
    assert_balanced(latex)
    assert_escaped(latex)
    assert_rows_fit(latex)


def test_the_checks_can_fail() -> None:
    for broken in (r"\begin{table}", r"{\begin{table}\end{table}", r"\begin{a}\begin{b}\end{a}\end{b}"):
        with pytest.raises((AssertionError, IndexError)):
            assert_balanced(broken)
    for broken in ("a_b", "50% of it", "$x", "é", "#1", "a ~ b"):
        with pytest.raises(AssertionError):
            assert_escaped(broken)
    with pytest.raises(AssertionError):
        assert_rows_fit("\\begin{tabular}{lrr}\na & 1 \\\\\nb & 1 & 2 \\\\\n\\end{tabular}")


def test_a_long_table_becomes_several_with_all_rows_once() -> None:
    rows = 2 * TALLEST + 5
    latex = as_latex(evil_grid(rows))
    assert commands(latex).count("begin tabular") == 3
    assert latex.count(", continued}") == 2
    assert latex.count("and a paragraph") == 1
    values = [int(v) for v in re.findall(r"& (?:\\textbf\{)?(\d+)\}? & ", latex)]
    assert values == list(range(rows))
    assert latex.count(r"\midrule") == 4  # three heads, and the line between the papers' rows and ours


def test_a_wide_head_is_broken() -> None:
    (grid,) = paper_grids("stable_animator", "1")
    assert r"\shortstack[r]{PSNR* \\ unseen100 $\uparrow$}" in as_latex(grid)
    assert r"& Mem $\downarrow$ \\" in as_latex(grid)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_every_table_compiles_within_the_page(tmp_path: Path) -> None:
    documents = all_documents()
    inputs = []
    for number, latex in enumerate(documents.values()):
        (tmp_path / f"t{number}.tex").write_text(latex, encoding="utf-8")
        inputs.append(rf"\input{{t{number}}}\clearpage")
    preamble = "\n".join(line.removeprefix("% ") for line in NEEDS.splitlines())
    text = "\n".join([r"\documentclass{article}", preamble, r"\begin{document}", *inputs, r"\end{document}"])
    (tmp_path / "all.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert not re.search(r"Overfull|Float too large", done.stdout)
    pages = re.search(r"\((\d+) pages", done.stdout)
    assert pages is not None
    assert int(pages[1]) >= len(documents)
