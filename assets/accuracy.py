"""How right the extractors are, where the truth is known."""

import dagster as dg

from assets.partitions import DATASETS
from assets.resources import LakeResource
from assets.step import Result, open_step
from pipelines.code_version import code_version

_JUDGED = ("poses", "body_masks", "densepose", "flow", "clothing", "faces")


@dg.asset(
    partitions_def=DATASETS,
    group_name="evaluation",
    kinds={"parquet"},
    code_version=code_version("eval/extractor_accuracy.py", "pipelines/accuracy.py"),
    deps=list(_JUDGED),
)
def extractor_accuracy(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
    """Every extractor's rows of the test split against those of `truth`, as rows of the benchmark table (performers only)."""
    from eval.extractor_accuracy import accuracy_text
    from eval.extractor_accuracy import extractor_accuracy as judge

    step = open_step(context, lake.open())
    rows = judge(step.lake, dataset=step.dataset.name, split="test", lineage=step.lineage(list(_JUDGED)))
    return dg.MaterializeResult(metadata={"rows": len(rows), "table": dg.MetadataValue.md(f"```\n{accuracy_text(rows)}\n```")})
