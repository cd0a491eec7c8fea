"""Generated clips."""

import enum

import dagster as dg
import pyarrow.compute as pc
from pydantic import Field

from assets.checkpoints import STAGES
from assets.checks import schema_check, schema_spec, simple
from assets.partitions import MODELS_ON_DATASETS, TO_DATASET
from assets.resources import LakeResource
from assets.step import Result, data_version, open_step, result
from assets.training_rows import SIGNAL_TABLES
from pipelines.code_version import code_version

CODE = code_version("models", "pipelines/prediction_manifest.py", "pipelines/video.py")


class Driving(enum.Enum):
    """Whose motion is followed; the names are what a run's configuration says (`DrivenBy`)."""

    self = "self"
    cross = "cross"


class PredictionsConfig(dg.Config):
    """Where generated clips come from."""

    driving: Driving = Field(
        default=Driving.self,
        description="self: each clip follows its own motion. cross: that of a held-out clip of somebody else, retargeted; such clips have no "
        "ground truth, so they are scored and laid out under the cross-identity protocol, beside the others.",
    )

    folder: str | None = Field(
        default=None, description="A folder of clips made elsewhere, with its manifest.json; empty = generate with the model."
    )


_CHECKS = [
    schema_spec("predictions"),
    dg.AssetCheckSpec("complete", asset="predictions", description="Every held-out clip has a generated one."),
]


@dg.asset(
    partitions_def=MODELS_ON_DATASETS,
    group_name="generation",
    kinds={"pytorch", "video"},
    code_version=CODE,
    check_specs=_CHECKS,
    pool="gpu",
    deps=[STAGES[-1], *(dg.AssetDep(name, partition_mapping=TO_DATASET) for name in ("poses", *SIGNAL_TABLES))],
)
def predictions(context: dg.AssetExecutionContext, config: PredictionsConfig, lake: LakeResource) -> Result:
    """Held-out clips animated from their first frame and the driving poses, their own or another person's: mp4 files with a manifest."""
    from assets.predicted import import_folder, make_predictions, of_model

    step = open_step(context, lake.open())
    made = import_folder(step, config.folder, config.driving.value) if config.folder else make_predictions(step, config.driving.value)
    rows = step.lake.read("predictions", where=pc.field("prediction_id") == made.prediction_id)
    complete = simple(
        "predictions",
        "complete",
        rows.num_rows > 0 and set(rows["status"].to_pylist()) == {"ok"} and not made.missing,
        warn=True,
        missing=made.missing,
    )
    columns = ["clip_id", "frames", "width", "height", "status", "uri"]
    return result(
        step,
        "predictions",
        rows,
        columns,
        checks=[schema_check("predictions", rows), complete],
        version=data_version("predictions", of_model(step)),
        driving=config.driving.value,
        prediction_id=made.prediction_id,
        folder=dg.MetadataValue.path(str(made.folder)),
        reused=made.reused,
    )
