"""docs/protocols.md names every protocol with its source and the faults it keeps, and every metric; the README counts them."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.metrics import METRICS
from eval.protocols import PROTOCOLS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(PROTOCOLS))
def test_a_protocol_is_documented_with_source_and_faults(name: str) -> None:
    protocol = PROTOCOLS[name]
    assert any(line.startswith("| ") and f"`{name}`" in line.split("|")[1] for line in TEXT.splitlines())
    faults = "; ".join(protocol.known_faults) or "none"
    assert f"- `{name}`. Source: {protocol.source}. Kept faults: {faults}." in TEXT


@pytest.mark.parametrize("metric", list(METRICS))
def test_a_metric_is_documented(metric: str) -> None:
    region = METRICS[metric].region
    name = f"{metric.removesuffix(f'_{region}')}_R" if region and METRICS[metric].group == "regions" else metric
    assert f"`{name}`" in TEXT
    assert region is None or METRICS[metric].group != "regions" or f"`{region}`" in TEXT


def test_the_readme_counts_them() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(PROTOCOLS) == 14
    assert f"the fourteen protocols and {len(METRICS)} metrics" in readme
