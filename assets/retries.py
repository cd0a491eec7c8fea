"""Data sets whose files from the web may come at another time."""

from __future__ import annotations

import pyarrow.compute as pc

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources.registry import registered


def unfinished(lake: Lake) -> list[str]:
    """Registered data sets with files that were not downloaded for a reason that may pass; what is private or removed stays so."""
    where = (pc.field("code") == "not_downloaded") & (pc.field("availability") == "other")
    try:
        waiting = {row["dataset"] for row in lake.rows("videos", where, ["dataset"])}
    except UserError:  # there is no lake yet
        return []
    return sorted(waiting & set(registered(lake)))
