"""The table, and the page that shows it."""

import dagster as dg

from assets.checks import schema_check, schema_spec, simple
from assets.partitions import DATASETS, TO_DATASET
from assets.resources import LakeResource
from assets.scores import scores
from assets.step import Result, open_step, result
from pipelines.code_version import code_version

_CHECKS = [
    schema_spec("benchmark"),
    dg.AssetCheckSpec(
        "beats_copy_reference",
        asset="benchmark",
        description="Every trained method is better than copying the reference, in every metric that says so.",
    ),
]


_SPEC = dg.AssetSpec(
    "benchmark",
    group_name="evaluation",
    kinds={"parquet"},
    code_version=code_version("eval"),
    partitions_def=DATASETS,
    deps=[dg.AssetDep(scores, partition_mapping=TO_DATASET)],
    description="One row per model and metric: value, 95 % interval, clips, frames, windows; and the history of each number.",
)


# a multi-asset of one, because the job `benchmark` needs the name that the asset's step would have
@dg.multi_asset(name="write_benchmark", specs=[_SPEC], check_specs=_CHECKS)
def benchmark(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
    """One row per model and metric: value, 95 % interval, clips, frames, windows; and the history of each number."""
    from assets.benchmarked import floor_verdict, write_benchmark

    step = open_step(context, lake.open())
    rows, text = write_benchmark(step)
    losers = floor_verdict(rows)
    checks = [schema_check("benchmark", rows), simple("benchmark", "beats_copy_reference", not losers, warn=True, not_better=losers)]
    return result(
        step,
        "benchmark",
        rows,
        ["method", "variant", "metric", "value", "low", "high"],
        checks=checks,
        table_text=dg.MetadataValue.md(f"```\n{text}\n```"),
    )


@dg.asset(partitions_def=DATASETS, group_name="evaluation", kinds={"html"}, code_version=code_version("eval"), deps=[benchmark])
def report(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
    """A self-contained page: the table, clips side by side, loss curves, and what ran from which versions."""
    from assets.benchmarked import write_page

    step = open_step(context, lake.open())
    path = write_page(step)
    shown = {
        "page": dg.MetadataValue.path(str(path)),
        "link": dg.MetadataValue.url(path.as_uri()),
        "table": dg.MetadataValue.md(path.with_suffix(".md").read_text()),
    }
    return dg.MaterializeResult(metadata={**shown, "bytes": path.stat().st_size})
