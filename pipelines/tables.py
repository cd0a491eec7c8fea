"""Every table of the lake, by name; its columns, key and units are in clip_tables.py, feature_tables.py and result_tables.py."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.clip_tables import CLIP_TABLES
from pipelines.feature_tables import FEATURE_TABLES
from pipelines.result_tables import RESULT_TABLES
from pipelines.table_spec import FEATURE_KEY as FEATURE_KEY
from pipelines.table_spec import TEXT
from pipelines.table_spec import TableSpec as TableSpec


def one_of(column: str, values: Iterable[str]) -> pc.Expression:
    """Rows whose text column holds one of the values; of no values, no row (a plain empty list has no type, and Arrow refuses it)."""
    return pc.field(column).isin(pa.array(list(values), TEXT))


TABLES: dict[str, TableSpec] = {spec.name: spec for spec in (*CLIP_TABLES, *FEATURE_TABLES, *RESULT_TABLES)}
FEATURES: tuple[str, ...] = (
    "person_boxes",
    "poses",
    "body_masks",
    "faces",
    "hands",
    "densepose",
    "flow",
    "latents",
    "clip_embeddings",
    "actions",
    "clothing",
    "captions",
)
SPARSE: frozenset[str] = frozenset({"actions", "clothing", "captions"})  # their rows name their frames; all others have one per frame
