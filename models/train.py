"""One stage of one model on one data set: from training rows to a checkpoint row. What is there already is not trained again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from models.checkpoint import read_manifest, verify
from models.methods import Method, method_named
from models.model_key import ModelKey
from models.training_loop import StepRecord, loss_fall, settle_threads
from models.training_rows import load_training_clips
from pipelines.code_version import code_version
from pipelines.errors import UserError
from pipelines.lake import Lake, digest_rows
from pipelines.sources.registry import Dataset

CODE = (
    "models/training_loop.py",
    "models/clip_dataset.py",
    "models/noise.py",
    "models/latents.py",
    "models/reference_attention.py",
    "models/pose_guider.py",
    "models/temporal_attention.py",
    "models/guidance.py",
    "models/image_tokens.py",
    "pipelines/keypoints.py",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """A trained stage. `reused`: it was there already."""

    row: Mapping[str, Any]
    records: list[StepRecord]
    folder: Path
    reused: bool


def training_code(method: str) -> str:
    """Code version of everything that shapes a training run."""
    return code_version(*CODE, *(f"models/{method}/{name}.py" for name in ("network", "stages")))


def checkpoint_id_of(lake: Lake, dataset: Dataset, key: ModelKey, stage: str) -> str:
    """16 hex digits over what determines a checkpoint: config, seed, training rows, pretrained files, code, and the parent's id."""
    method = method_named(key.method)
    position = method.stages.index(stage)
    parent = checkpoint_id_of(lake, dataset, key, method.stages[position - 1]) if position else None
    config = {name: value for name, value in method.config(key.variant).items() if name != "sampling"}
    data, files, code = training_rows_digest(lake, dataset, key.method), method.weights_digest(key.variant), training_code(key.method)
    known = [str(key), stage, dataset.name, config, parent, data, files, code]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def training_rows_digest(lake: Lake, dataset: Dataset, method: str) -> str:
    """Content digest of the rows that a method trains on."""
    return digest_rows(
        "training_rows", lake.read("training_rows", where=(pc.field("dataset") == dataset.name) & (pc.field("method") == method))
    )


def checkpoint_row(lake: Lake, checkpoint_id: str) -> dict[str, Any] | None:
    """The row of a checkpoint whose folder is whole, or None."""
    rows = lake.rows("checkpoints", pc.field("checkpoint_id") == checkpoint_id)
    if not rows or not (lake.path(rows[0]["uri"]) / "manifest.json").is_file():
        return None
    return rows[0]


def current_checkpoint(lake: Lake, dataset: Dataset, key: ModelKey) -> tuple[str, Path] | None:
    """(id, folder) of the last stage; None for a method without stages. Raises UserError when it is not trained yet."""
    stages = method_named(key.method).stages
    if not stages:
        return None
    wanted = checkpoint_id_of(lake, dataset, key, stages[-1])
    row = checkpoint_row(lake, wanted)
    if row is None:
        raise UserError(
            f"{key} is not trained on {dataset.name} as its data, config and code are today; materialize {' and '.join(stages)} first"
        )
    return wanted, lake.path(row["uri"])


def train_stage(lake: Lake, dataset: Dataset, key: ModelKey, stage: str, lineage: Mapping[str, Any] | None = None) -> StageResult:
    """Train (or resume, or find) one stage; writes `checkpoints` and `training_log`."""
    method = method_named(key.method)
    checkpoint_id = checkpoint_id_of(lake, dataset, key, stage)
    folder = lake.root / "checkpoints" / dataset.name / str(key).replace(":", "-") / f"{stage}-{checkpoint_id}"
    known = checkpoint_row(lake, checkpoint_id)
    if known is not None:
        verify(folder)
        return StageResult(row=known, records=_records(lake, checkpoint_id), folder=folder, reused=True)
    settle_threads()
    parent = _parent(lake, dataset, key, stage, method)
    clips = load_training_clips(lake, dataset, key.method)
    started = time.monotonic()
    identity = {"checkpoint_id": checkpoint_id, "method": key.method, "variant": key.variant, "dataset": dataset.name}
    records = method.train(stage, variant=key.variant, clips=clips, parent=parent, out=folder, seed=key.seed, identity=identity)
    manifest = read_manifest(folder)
    lake.put(folder)
    row = {
        **identity,
        "stage": stage,
        "seed": key.seed,
        "parent": manifest["parent"],
        "config": json.dumps(manifest["config"], sort_keys=True),
        "uri": lake.uri(folder),
        "digest": files_digest(manifest),
        "steps": records[-1].step,
        "seconds": time.monotonic() - started,
        "parameters": manifest["trained_parameters"],
        "training_rows_digest": training_rows_digest(lake, dataset, key.method),
        "training_rows_version": lake.version("training_rows"),
        "code_version": training_code(key.method),
        "metrics": json.dumps({"loss_fall": loss_fall(records), "additions": manifest["additions"]}),
    }
    lake.write("training_log", [_log_row(checkpoint_id, record) for record in records], lineage)
    lake.write("checkpoints", [row], lineage)  # last: a row means that all of it is there
    return StageResult(row=row, records=records, folder=folder, reused=False)


def files_digest(manifest: Mapping[str, Any]) -> str:
    """One sha256 over the digests of a checkpoint's files."""
    return hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()


def _parent(lake: Lake, dataset: Dataset, key: ModelKey, stage: str, method: Method) -> Path | None:
    position = method.stages.index(stage)
    if position == 0:
        return None
    before = method.stages[position - 1]
    row = checkpoint_row(lake, checkpoint_id_of(lake, dataset, key, before))
    if row is None:
        raise UserError(f"{key}: {stage} continues from {before}, which is not trained on {dataset.name} yet; materialize it first")
    return lake.path(row["uri"])


def _log_row(checkpoint_id: str, record: StepRecord) -> dict[str, Any]:
    return {
        "checkpoint_id": checkpoint_id,
        "step": record.step,
        "loss": record.loss,
        "probe_loss": record.probe_loss,
        "learning_rate": record.learning_rate,
        "gradient_norm": record.gradient_norm,
        "seconds": record.seconds,
    }


def _records(lake: Lake, checkpoint_id: str) -> list[StepRecord]:
    columns = ["step", "loss", "probe_loss", "learning_rate", "gradient_norm", "seconds"]
    return [StepRecord(**row) for row in lake.rows("training_log", pc.field("checkpoint_id") == checkpoint_id, columns)]


def pictures_of(folder: Path) -> list[Path]:
    """Periodic pictures of a stage, first to last."""
    return sorted(folder.with_name(f"{folder.name}.pictures").glob("*.png"))
