"""docs/tables.ipynb runs from top to bottom on a lake, without Jupyter, and stores no output; so do the queries of the README."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eval.__main__ import main
from eval.benchmark import benchmark
from eval.protocols import DEMO_STANDIN
from pipelines.query import query

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "tables.ipynb"
DOCUMENTS = ("README.md", "docs/predictions.md")
QUERIES = [sql for name in DOCUMENTS for sql in re.findall(r'rotoscope query "([^"]+)"', (ROOT / name).read_text(encoding="utf-8"))]


def test_the_notebook_opens_the_tables(scored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, _ = scored
    benchmark(tiny.lake, protocol="demo_standin", dataset="performers_test", split="test")
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tiny.lake.root))
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    for cell in cells:
        assert cell["outputs"] == []
        exec("".join(cell["source"]), names)
    assert len(names["wide"]) == 2
    assert len(names["worst"]) == 5
    assert names["worst"]["l1"].is_monotonic_decreasing
    assert len(names["history"]) == 2 * len(DEMO_STANDIN.metrics)


def test_a_papers_table_from_the_command_line(scored: Any) -> None:
    tiny, _ = scored
    done = CliRunner().invoke(main, ["table", "--home", str(tiny.lake.root), "--paper", "hfca", "--table", "1", "--format", "latex"])
    assert done.exit_code == 0, done.output
    assert r"HFCA & 2.56E-04 & 30.27 & 0.763 & 0.187 & 43.12 & 39.57 & 168.27 \\" in done.output


@pytest.fixture
def benchmarked(scored: Any) -> Any:
    tiny, _ = scored
    benchmark(tiny.lake, protocol="demo_standin", dataset="performers_test", split="test")
    return tiny.lake


def test_the_queries_of_the_documents_run(benchmarked: Any) -> None:
    assert len(QUERIES) >= 3
    answers = {sql: query(benchmarked, sql) for sql in QUERIES}
    (cells,) = [answer for sql, answer in answers.items() if "from benchmark" in sql]
    assert cells.column_names == ["method", "metric", "value", "low", "high"]
    assert cells.num_rows == 2 * len(DEMO_STANDIN.metrics)
    (flags,) = [answer for sql, answer in answers.items() if "truth_sharpness" in sql]
    assert flags.num_rows > 0


def test_the_readme_reads_tables_with_pandas_and_duckdb(benchmarked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(benchmarked.root.parent)  # its lake is the folder `lake`
    start, pivot, means = block.strip().split("\n\n")[0], *block.strip().splitlines()[-2:]
    names: dict[str, Any] = {}
    exec(start, names)
    assert eval(pivot, names).shape[0] == 2
    assert eval(means, names).df()["value"].notna().all()
