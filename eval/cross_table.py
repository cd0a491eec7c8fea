"""The section of a report for clips that another person drives."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.compute as pc

from eval.protocol import Protocol
from eval.protocols import PROTOCOLS
from eval.table import Section, benchmark_table
from pipelines.lake import Lake


def cross_sections(lake: Lake, dataset: str, split: str) -> list[Section]:
    """Sections of every cross-identity protocol that has numbers on the split; none where nobody was driven by another."""
    crossed = [protocol for protocol in PROTOCOLS.values() if protocol.driven_by == "cross"]
    return [section for protocol in crossed for section in _sections(lake, protocol, dataset, split)]


def _sections(lake: Lake, protocol: Protocol, dataset: str, split: str) -> list[Section]:
    where = (pc.field("protocol") == protocol.name) & (pc.field("dataset") == dataset) & (pc.field("split") == split)
    rows = lake.rows("benchmark", where)
    if not any(row["value"] is not None for row in rows):
        return []
    table = benchmark_table(rows)
    return [
        replace(section, title=f"Driven by another person: {section.title.lower() or 'frames'} ({protocol.name})")
        for section in table.sections
    ]
