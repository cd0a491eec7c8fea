"""Networks that train: the stages of a method, one asset each.

A variant has some of the stages: AnimateAnyone trains stage_1 and stage_2, HFCA stage_1b between them, HIA four of them, and an
ablation may leave one out. The stages that it does not have are materialized all the same, with the words that it has none and with the
data version of the network that stands before: what follows goes on, and nobody who looks at the page waits for a partition that never
comes. (An output that is not yielded would say so too, but Dagster 1.13 then skips every step behind it, up to the scores.)
"""

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

_STAGES = {
    "stage_1": "First stage, mostly single frames: the networks that make a picture of a person in a pose.",
    "stage_1b": "Between the first and the second, where a variant has it: HFCA's adaptation to actions and clothes, a ControlNet on the reference.",
    "stage_2": "Second stage: for most methods the temporal layers on windows of frames; for HIA supervision of faces and hands.",
    "stage_3": "Third stage, of HIA: the temporal layers at half the resolution.",
    "stage_4": "Fourth stage, of HIA: the temporal layers at full resolution.",
}
NAMES = tuple(_STAGES)
"""Every stage that a variant may have, in the order in which they are trained."""


def _stage_asset(stage: str, before: dg.AssetsDefinition, description: str) -> dg.AssetsDefinition:
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
        deps=[before],
        code_version=CODE,
        check_specs=checks,
        description=description,
        pool="gpu",
    )
    def train(context: dg.AssetExecutionContext, lake: LakeResource) -> Result:
        from models.train import checkpoint_ids, train_stage

        step = open_step(context, lake.open())
        ids = checkpoint_ids(step.lake, step.dataset, step.model)
        if stage not in ids:
            return _absent(step, stage, ids)
        return _shown(step, stage, train_stage(step.lake, step.dataset, step.model, stage, step.lineage(["training_rows"])))

    return train


def _absent(step: Step, stage: str, ids: dict[str, str]) -> Result:
    """The materialization of a stage that the variant does not have; its data version is that of the network before it."""
    from models.train import checkpoint_row

    model = f"{step.model.method}:{step.model.variant}"
    said = f"{model} has no {stage}, so nothing was trained here; it has {' and '.join(ids) if ids else 'no stage at all'}"
    step.context.log.info(said)
    before = [name for name in NAMES[: NAMES.index(stage)] if name in ids]
    row = checkpoint_row(step.lake, ids[before[-1]]) if before else None
    return dg.MaterializeResult(
        asset_key=stage,
        metadata={"no such stage": said, "stands in": before[-1] if before else "nothing before it"},
        data_version=dg.DataVersion(row["digest"] if row else "nothing trained"),
        check_results=[simple(stage, "loss_falls", True, warn=True, note=said)],
    )


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
        trained_for=f"{trained.row['method']}:{trained.row['variant']}",  # another variant, where they share the stage
        loss_fall=fall if fall is not None else "too few probes",
        final_loss=trained.records[-1].loss or 0.0,
        **pictures,
    )
    check = simple(stage, "loss_falls", fall is not None and fall <= _LOSS_FALL, warn=True, ratio=fall if fall is not None else -1.0)
    return shown._replace(asset_key=dg.AssetKey(stage), check_results=[check])


def _chain() -> list[dg.AssetsDefinition]:
    """Every stage, each behind the one before; the first behind the training rows."""
    made: list[dg.AssetsDefinition] = []
    for stage, description in _STAGES.items():
        made.append(_stage_asset(stage, made[-1] if made else training_rows, description))
    return made


STAGES = _chain()
