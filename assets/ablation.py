"""One ablation table of a paper, laid out from the models that were run."""

from typing import Any

import dagster as dg
from pydantic import Field

from assets.benchmark import benchmark
from assets.checks import simple
from assets.partitions import ABLATIONS_ON_DATASETS, TO_DATASET
from assets.resources import LakeResource
from assets.step import Result
from pipelines.code_version import code_version

_CHECKS = [
    dg.AssetCheckSpec("every_row", asset="ablation", description="Every row of the table that is ours was run, with every seed."),
]


class AblationConfig(dg.Config):
    """Which of the models that were run stand in the table."""

    base: str | None = Field(
        default=None,
        description="Size of the models: demo, brief or paper; none = the demo's, as the table needs it. A switch is `<base>-<switch>`.",
    )
    seeds: list[int] = Field(default=[0, 1, 2], description="Seeds of their training.")


# the benchmark's rows are read, so that a table is stale when they are newer
@dg.asset(
    partitions_def=ABLATIONS_ON_DATASETS,
    group_name="evaluation",
    kinds={"html"},
    code_version=code_version("eval", "models/ablations.py"),
    check_specs=_CHECKS,
    deps=[dg.AssetDep(benchmark, partition_mapping=TO_DATASET)],
)
def ablation(context: dg.AssetExecutionContext, config: AblationConfig, lake: LakeResource) -> Result:
    """An ablation table of a paper beside ours: means over seeds, which metric moves beyond the interval, where the full method does not win."""
    from assets.ablated import Request, write_table

    parts = dg.MultiPartitionKey.keys_by_dimension.fget(context.partition_key)  # type: ignore[attr-defined]
    request = Request.named(parts["ablation"], dataset=parts["dataset"], base=config.base, seeds=tuple(config.seeds))
    written = write_table(lake.open(), request)
    shown: dict[str, Any] = {
        "page": dg.MetadataValue.path(str(written.page)),
        "link": dg.MetadataValue.url(written.page.as_uri()),
        "table": dg.MetadataValue.md(written.page.with_suffix(".md").read_text(encoding="utf-8")),
    }
    check = simple("ablation", "every_row", not written.not_run, warn=True, not_run=list(written.not_run))
    return dg.MaterializeResult(metadata=shown, check_results=[check])
