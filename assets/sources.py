"""Where videos come from."""

from typing import Any

import dagster as dg
import pyarrow.compute as pc

from assets.checks import failed_share_spec, schema_check, schema_spec, status_check
from assets.partitions import DATASETS
from assets.resources import LakeResource
from assets.step import Result, open_step, reasons, result
from pipelines.availability import availability_table
from pipelines.code_version import code_version
from pipelines.sources import store

_FETCHING = tuple(f"pipelines/fetch{part}.py" for part in ("", "_pace", "_rows", "_safety", "_youtube", "_youtube_worker"))
CODE = code_version(
    "pipelines/sources",
    "pipelines/video.py",
    "pipelines/performers",
    "pipelines/archive.py",
    "pipelines/tar_stream.py",
    "pipelines/forget.py",
    *_FETCHING,
)


@dg.asset(
    partitions_def=DATASETS,
    group_name="sources",
    kinds={"video", "parquet"},
    pool="crawl",
    code_version=CODE,
    check_specs=[schema_spec("videos"), failed_share_spec("videos")],
)
def videos(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
    """Every file of the data set, probed and hashed; one that cannot be used is a row with its reason."""
    step = open_step(context, lake.open())
    store.scan_into(step.lake, step.dataset, step.lineage([]))
    rows = step.rows("videos")
    checks = [schema_check("videos", rows), status_check(step, "videos", rows)]
    fetched = rows["source_url"].null_count < rows.num_rows
    shown: dict[str, Any] = {"availability": dg.MetadataValue.md(availability_table(rows.to_pylist()))} if fetched else {}
    broken = rows.filter(pc.field("status") != "ok").select(["video_id", "code", "reason"]).to_pylist()
    shown["failures"] = reasons([tuple(row.values()) for row in broken])
    return result(
        step,
        "videos",
        rows,
        ["video_id", "status", "code", "frames", "width", "height", "codec"],
        checks=checks,
        bytes=sum(rows["bytes"].drop_null().to_pylist()),
        **shown,
    )
