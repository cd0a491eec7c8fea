"""Where videos come from."""

import dagster as dg

from assets.checks import failed_share_spec, schema_check, schema_spec, status_check
from assets.partitions import DATASETS
from assets.resources import LakeResource
from assets.step import Result, open_step, result
from pipelines.code_version import code_version
from pipelines.sources import store

CODE = code_version("pipelines/sources", "pipelines/video.py", "pipelines/performers")


@dg.asset(
    partitions_def=DATASETS,
    group_name="sources",
    kinds={"video", "parquet"},
    code_version=CODE,
    check_specs=[schema_spec("videos"), failed_share_spec("videos")],
)
def videos(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
    """Every file of the data set, probed and hashed; one that cannot be used is a row with its reason."""
    step = open_step(context, lake.open())
    store.scan_into(step.lake, step.dataset, step.lineage([]))
    rows = step.rows("videos")
    checks = [schema_check("videos", rows), status_check(step, "videos", rows)]
    return result(
        step,
        "videos",
        rows,
        ["video_id", "status", "code", "frames", "width", "height", "codec"],
        checks=checks,
        bytes=sum(rows["bytes"].drop_null().to_pylist()),
    )
