"""From a folder of generated clips to rows; of one model on one split only the newest predictions stay."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from assets.step import Step
from eval.import_predictions import import_foreign
from eval.predictions import import_predictions
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import MANIFEST, DrivenBy, PredictionManifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """Imported predictions; missing: held-out clips without one; reused: clips that were there already."""

    prediction_id: str
    folder: Path
    missing: int
    reused: int


def make_predictions(step: Step, driving: DrivenBy) -> Predicted:
    """Generate with the step's model, and import. Raises UserError where no clip could be made."""
    from models.generate import generate

    generated = generate(step.lake, step.dataset, step.model, driving)
    if not generated.manifest.clips:
        raise UserError(f"{step.model} made no clip: {next(iter(generated.failures.values()), 'nothing was asked for')}")
    return _import(step, generated.folder, generated.reused)


def import_folder(step: Step, folder: str, driving: DrivenBy) -> Predicted:
    """Import clips made elsewhere: with a manifest, or in one of the layouts of docs/predictions.md (paired first, the report is logged).

    Raises UserError when the manifest speaks of another data set or model, and for `driving` "cross": who drives stands in the manifest.
    """
    if driving == "cross":
        raise UserError(
            f'folder {folder}: who drives its clips stands in its manifest ("driving", "driving_clip_id"); leave driving as self'
        )
    path = Path(folder)
    if (path / MANIFEST).is_file():
        return _import(step, path, reused=0)
    made = import_foreign(
        step.lake, path, dataset=step.dataset.name, split=held_out_split(step.lake, step.dataset.name), protocol=step.dataset.protocol,
        method=step.model.method, variant=step.model.variant, seed=step.model.seed, show=step.context.log.info, lineage=step.lineage(["clips"]),
    )  # fmt: skip
    return _finish(step, path, made, reused=0)


def held_out_split(lake: Lake, dataset: str) -> str:
    """The one split that is animated. Raises UserError where there are none, or several."""
    splits = sorted({clip.split for clip in lake.clips(dataset) if clip.split is not None} - {"train"})
    if len(splits) != 1:
        raise UserError(
            f"data set {dataset} has {len(splits) or 'no'} splits to test on ({', '.join(splits)}); write a manifest that names one"
        )
    return splits[0]


def _import(step: Step, folder: Path, reused: int) -> Predicted:
    manifest = import_predictions(step.lake, folder, step.lineage(["clips", "poses", "checkpoints"]))
    return _finish(step, folder, manifest, reused)


def _finish(step: Step, folder: Path, manifest: PredictionManifest, reused: int) -> Predicted:
    if (manifest.dataset, manifest.method, manifest.seed) != (step.dataset.name, step.model.method, step.model.seed):
        raise UserError(
            f"{folder}: the manifest is of {manifest.method} on {manifest.dataset}, not of {step.model} on {step.dataset.name}; materialize its own partition"
        )
    step.lake.delete("predictions", _superseded(manifest), step.lineage([]))
    wanted = {clip.clip_id for clip in step.lake.clips(step.dataset.name, manifest.split)}
    wanted = wanted & set(step.dataset.training_clips) if step.dataset.training_clips else wanted
    return Predicted(
        prediction_id=manifest.prediction_id, folder=folder, missing=len(wanted - {clip.clip_id for clip in manifest.clips}), reused=reused
    )


def of_model(step: Step) -> pa.Table:
    """All rows of the step's model on its data set, whoever drives: what the version of the asset is made of."""
    where = pc.field("dataset") == step.dataset.name
    for column in ("method", "variant", "seed"):
        where = where & (pc.field(column) == getattr(step.model, column))
    return step.lake.read("predictions", where=where)


def _superseded(manifest: PredictionManifest) -> pc.Expression:
    """Older predictions of the same model; those that another person drives and those of the clips' own motion do not replace each other."""
    crossed = pc.field("driving_clip_id").is_valid()
    same = (pc.field("prediction_id") != manifest.prediction_id) & (crossed if manifest.driving == "cross" else ~crossed)
    for column in ("dataset", "split", "method", "variant", "seed"):
        same = same & (pc.field(column) == getattr(manifest, column))
    return same
