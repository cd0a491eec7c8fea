"""docs/tables.ipynb runs from top to bottom on a lake, without Jupyter, and stores no output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from eval.__main__ import main
from eval.benchmark import benchmark
from eval.protocols import DEMO_STANDIN

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tables.ipynb"


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
