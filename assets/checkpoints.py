"""Networks that train: the stages of a method."""

from typing import Any

import dagster as dg

from assets.checks import simple
from assets.partitions import MODELS_ON_DATASETS
from assets.resources import LakeResource
from assets.step import Result, Step, inline_png, open_step, picture, result
from assets.training_rows import training_rows
from pipelines.code_version import code_version

CODE = code_version("models")

_LOSS_FALL = 0.7  # what training must at least do to the probe loss


def _stage_asset(stage: str, deps: list[dg.AssetsDefinition], description: str) -> dg.AssetsDefinition:
    checks = [
        dg.AssetCheckSpec(
            "loss_falls", asset=stage, description=f"Mean probe loss of the last fifth is at most {_LOSS_FALL} of the first fifth."
        )
    ]

    @dg.asset(
        name=stage,
        partitions_def=MODELS_ON_DATASETS,
        group_name="training",
        kinds={"pytorch"},
        deps=deps,
        code_version=CODE,
        check_specs=checks,
        description=description,
        pool="gpu",
    )
    def train(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
        from models.train import train_stage

        step = open_step(context, lake.open())
        trained = train_stage(step.lake, step.dataset, step.model, stage, step.lineage(["training_rows"]))
        return _shown(step, stage, trained)

    return train


def _shown(step: Step, stage: str, trained: Any) -> Result:
    from dataclasses import asdict

    import pyarrow.compute as pc

    from eval.chart import loss_curve_png
    from models.train import pictures_of
    from models.training_loop import loss_fall

    rows = step.lake.read("checkpoints", where=pc.field("checkpoint_id") == trained.row["checkpoint_id"])
    fall = loss_fall(trained.records)
    pictures: dict[str, Any] = {"samples": picture(pictures_of(trained.folder)[-1])} if pictures_of(trained.folder) else {}
    shown = result(
        step,
        "checkpoints",
        rows,
        ["checkpoint_id", "stage", "steps", "seconds", "parameters", "parent"],
        version=dg.DataVersion(trained.row["digest"]),
        checkpoint=dg.MetadataValue.path(str(trained.folder)),
        loss_curve=inline_png("loss curve", loss_curve_png([asdict(record) for record in trained.records])),
        reused=trained.reused,
        loss_fall=fall if fall is not None else "too few probes",
        final_loss=trained.records[-1].loss or 0.0,
        **pictures,
    )
    check = simple(stage, "loss_falls", fall is not None and fall <= _LOSS_FALL, warn=True, ratio=fall if fall is not None else -1.0)
    return shown._replace(asset_key=dg.AssetKey(stage), check_results=[check])


stage_1 = _stage_asset("stage_1", [training_rows], "First stage: single frames; for AnimateAnyone both UNets and the pose guider.")
stage_2 = _stage_asset("stage_2", [stage_1], "Second stage: windows of frames; for AnimateAnyone the temporal layers alone.")
