"""Checks that a step makes of its own rows. Errors block what is downstream; warnings are shown."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc

from assets.step import Step
from pipelines.tables import SPARSE, TABLES


def schema_spec(table: str) -> dg.AssetCheckSpec:
    """Spec of `schema_check`."""
    return dg.AssetCheckSpec("schema", asset=table, blocking=True, description="Columns are the table's, keys are complete and unique.")


def schema_check(table: str, rows: pa.Table) -> dg.AssetCheckResult:
    """Columns, types, and unique complete keys of what was read back."""
    spec = TABLES[table]
    keys = rows.select(list(spec.key))
    distinct = keys.group_by(list(spec.key)).aggregate([]).num_rows
    nulls = sum(keys[name].null_count for name in spec.key)
    right = rows.schema.names == spec.schema.names and [f.type for f in rows.schema] == [f.type for f in spec.schema]
    return dg.AssetCheckResult(
        check_name="schema",
        asset_key=table,
        passed=bool(right and distinct == rows.num_rows and nulls == 0),
        metadata={"rows": rows.num_rows, "distinct_keys": distinct, "null_keys": nulls},
    )


def failed_share_spec(table: str) -> dg.AssetCheckSpec:
    """Spec of `failed_share_check`."""
    return dg.AssetCheckSpec(
        "failed_share",
        asset=table,
        blocking=True,
        description="The share that failed is within the data set's limit (a user's own folder only warns).",
    )


def failed_share_check(step: Step, table: str, failed: int, total: int, codes: Sequence[str | None]) -> dg.AssetCheckResult:
    """Share of failures against the data set's limit."""
    share = failed / total if total else 0.0
    severity = dg.AssetCheckSeverity.WARN if step.dataset.kind == "folder" else dg.AssetCheckSeverity.ERROR
    counts = {code: list(codes).count(code) for code in sorted({code for code in codes if code})}
    return dg.AssetCheckResult(
        check_name="failed_share",
        asset_key=table,
        passed=share <= step.dataset.failed_share_limit,
        severity=severity,
        metadata={"failed": failed, "total": total, "share": share, "limit": step.dataset.failed_share_limit, "codes": counts},
    )


def status_check(step: Step, table: str, rows: pa.Table) -> dg.AssetCheckResult:
    """`failed_share_check` of a table with a status column; dropped rows are decisions, not failures."""
    failed = rows.filter(pc.field("status") == "failed")
    return failed_share_check(step, table, failed.num_rows, rows.num_rows, failed["code"].to_pylist())


def coverage_spec(table: str) -> dg.AssetCheckSpec:
    """Spec of `coverage_check`."""
    return dg.AssetCheckSpec(
        "coverage", asset=table, blocking=True, description="Every usable clip has rows: a row for each frame, or one that says why not."
    )


def coverage_check(step: Step, table: str, rows: pa.Table, extractors: Sequence[str]) -> dg.AssetCheckResult:
    """Rows per clip and extractor: the clip's frames (of a sparse table: some), or a single row that says why not."""
    missing = []
    counts = _frames_of(rows)
    for clip in step.lake.clips(step.dataset.name):
        for name in extractors:
            held = counts.get((clip.clip_id, name), {})
            if not any(failed or table in SPARSE or frames == clip.num_frames for frames, failed in held.values()):
                missing.append(f"{clip.clip_id} ({name})")
    return dg.AssetCheckResult(
        check_name="coverage", asset_key=table, passed=not missing, metadata={"missing": len(missing), "first": missing[:5]}
    )


def _frames_of(rows: pa.Table) -> dict[tuple[str, str], dict[tuple[int, str], tuple[int, bool]]]:
    counted = (
        rows.group_by(["clip_id", "extractor", "version", "weights_digest"]).aggregate([("frame", "count"), ("frame", "min")]).to_pylist()
    )
    held: dict[tuple[str, str], dict[tuple[int, str], tuple[int, bool]]] = {}
    for row in counted:
        held.setdefault((row["clip_id"], row["extractor"]), {})[row["version"], row["weights_digest"]] = (
            row["frame_count"],
            row["frame_min"] < 0,
        )
    return held


def simple(asset: str | list[str], name: str, passed: bool, *, warn: bool = False, **metadata: Any) -> dg.AssetCheckResult:
    """A check's result; `warn` shows instead of blocking."""
    severity = dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        check_name=name, asset_key=dg.AssetKey.from_coercible(asset), passed=passed, severity=severity, metadata=metadata
    )
