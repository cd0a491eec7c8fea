"""What a method's data set reads."""

import dagster as dg
import pyarrow.compute as pc

from assets.checks import schema_check, schema_spec
from assets.features import CODE as FEATURES_CODE
from assets.partitions import MODELS_ON_DATASETS, TO_DATASET
from assets.resources import LakeResource
from assets.step import Result, open_step, result
from pipelines.code_version import code_version

CODE = code_version("models/training_rows.py", "models/signal_rows.py", "models/companions.py")

# what methods read beside poses (models/signal_rows.py says which of them a method needs)
SIGNAL_TABLES = ("body_masks", "faces", "hands", "densepose", "actions", "clothing", "captions")
DEPS = [dg.AssetDep(name, partition_mapping=TO_DATASET) for name in ("clips", "poses", *SIGNAL_TABLES, "screening_verdicts")]


@dg.asset(
    partitions_def=MODELS_ON_DATASETS,
    group_name="training",
    kinds={"parquet"},
    code_version=f"{CODE}-{FEATURES_CODE}",
    check_specs=[schema_spec("training_rows")],
    deps=DEPS,
)
def training_rows(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
    """Usable training clips with poses and what else the method needs, their eligible reference frames, and the versions that they came from."""
    from models.companions import write_rows_of_model

    step = open_step(context, lake.open())
    left_out = write_rows_of_model(step.lake, step.dataset, step.model, step.lineage(["clips", "poses", *SIGNAL_TABLES]))
    rows = step.lake.read("training_rows", where=(pc.field("dataset") == step.dataset.name) & (pc.field("method") == step.model.method))
    columns = ["clip_id", "video_id", "subject", "split", "frames", "extractor"]
    return result(
        step, "training_rows", rows, columns, checks=[schema_check("training_rows", rows)], subjects=len(set(rows["subject"].to_pylist())),
        left_out=", ".join(f"{count} without {name}" for name, count in left_out.items()) or "no clip",
    )  # fmt: skip
