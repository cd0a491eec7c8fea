"""One stage of one model on one data set: from training rows to a checkpoint row. What is there already is not trained again.

A checkpoint is known by what made it and not by the name of a variant: variants that differ only in a later stage, or in sampling,
share the stages before it.
"""

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
from models.clip_dataset import TrainingClip
from models.companions import companions_of
from models.methods import method_named
from models.model_key import ModelKey
from models.training_loop import StepRecord, loss_fall, settle_threads
from models.training_rows import load_training_clips, training_facts
from pipelines.code_version import code_version
from pipelines.errors import UserError
from pipelines.lake import Lake, digest_rows
from pipelines.sources.registry import Dataset, load


@dataclass(frozen=True, kw_only=True, slots=True)
class StageResult:
    """A trained stage. `reused`: it was there already."""

    row: Mapping[str, Any]
    records: list[StepRecord]
    folder: Path
    reused: bool


def training_code(method: str) -> str:
    """Code version of everything that shapes a training run."""
    return code_version(*method_named(method).training_code)


def checkpoint_ids(lake: Lake, dataset: Dataset, key: ModelKey) -> dict[str, str]:
    """Stage -> id of its checkpoint, first stage first; empty for a variant that trains nothing.

    16 hex digits over what determines a checkpoint: method, seed, stage, data set, the stage's settings, the parent's id, training
    rows, pretrained files, code. Raises UserError for an unknown variant.
    """
    method = method_named(key.method)
    stages = method.stages_of(key.variant)
    if not stages:
        return {}
    known = [training_rows_digest(lake, dataset.name, key.method), method.weights_digest(key.variant), training_code(key.method)]
    ids: dict[str, str] = {}
    parent = None
    for stage in stages:
        beside = [training_rows_digest(lake, name, key.method) for name in companions_of(key, stage, dataset.name)]
        parent = _digest([key.method, key.seed, stage, dataset.name, method.stage_config(key.variant, stage), parent, *known, *beside])
        ids[stage] = parent
    return ids


def checkpoint_id_of(lake: Lake, dataset: Dataset, key: ModelKey, stage: str) -> str:
    """The id of one stage's checkpoint. Raises UserError for a stage that the variant does not have."""
    ids = checkpoint_ids(lake, dataset, key)
    if stage not in ids:
        raise UserError(f"{key.method}:{key.variant} has no {stage}; it has: {', '.join(ids) or 'nothing to train'}")
    return ids[stage]


def recipe_of(method: str, variant: str, stage: str) -> str:
    """16 hex digits over the settings of a stage and of those before it: variants with one recipe can use each other's checkpoint."""
    known = method_named(method)
    stages = known.stages_of(variant)
    before = stages[: stages.index(stage) + 1]
    return _digest([method, [[name, known.stage_config(variant, name)] for name in before]])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def training_rows_digest(lake: Lake, dataset: str, method: str) -> str:
    """Content digest of the rows that a method trains on."""
    return digest_rows("training_rows", lake.read("training_rows", where=(pc.field("dataset") == dataset) & (pc.field("method") == method)))


def checkpoint_row(lake: Lake, checkpoint_id: str) -> dict[str, Any] | None:
    """The row of a checkpoint whose folder is whole, or None."""
    rows = lake.rows("checkpoints", pc.field("checkpoint_id") == checkpoint_id)
    if not rows or not (lake.path(rows[0]["uri"]) / "manifest.json").is_file():
        return None
    return rows[0]


def current_checkpoint(lake: Lake, dataset: Dataset, key: ModelKey) -> tuple[str, Path] | None:
    """(id, folder) of the last stage; None for a variant without stages. Raises UserError when it is not trained yet."""
    ids = checkpoint_ids(lake, dataset, key)
    if not ids:
        return None
    wanted = [*ids.values()][-1]
    row = checkpoint_row(lake, wanted)
    if row is None:
        raise UserError(
            f"{key} is not trained on {dataset.name} as its data, config and code are today; materialize {' and '.join(ids)} first"
        )
    return wanted, lake.path(row["uri"])


def train_stage(lake: Lake, dataset: Dataset, key: ModelKey, stage: str, lineage: Mapping[str, Any] | None = None) -> StageResult:
    """Train (or resume, or find) one stage; writes `checkpoints` and `training_log`. Raises UserError."""
    checkpoint_id = checkpoint_id_of(lake, dataset, key, stage)
    # beside those of other variants and seeds: they share checkpoints, and the encoded clips that lie there
    folder = lake.root / "checkpoints" / dataset.name / key.method / f"{stage}-{checkpoint_id}"
    known = checkpoint_row(lake, checkpoint_id)
    if known is not None:
        verify(folder)
        return StageResult(row=known, records=_records(lake, checkpoint_id), folder=folder, reused=True)
    settle_threads()
    method, parent = method_named(key.method), _parent(lake, dataset, key, stage)
    clips = _clips(lake, dataset, key, stage)
    started = time.monotonic()
    identity = {
        "checkpoint_id": checkpoint_id,
        "method": key.method,
        "variant": key.variant,
        "dataset": dataset.name,
        "recipe": recipe_of(key.method, key.variant, stage),
    }
    said = {**identity, **training_facts(lake, dataset, key.method)}
    records = method.train(stage, variant=key.variant, clips=clips, parent=parent, out=folder, seed=key.seed, identity=said)
    lake.put(folder)
    # the loop's own clock goes on where a run that was stopped left it; this one began today, and counts what is before the loop
    seconds = max(time.monotonic() - started, records[-1].seconds)
    facts = {"stage": stage, "seed": key.seed, "uri": lake.uri(folder), "seconds": seconds}
    facts["config"] = json.dumps(method.stage_config(key.variant, stage), sort_keys=True)
    row = {**identity, **facts, **_trained(read_manifest(folder), records), **_made_from(lake, dataset, key.method)}
    lake.write("training_log", [_log_row(checkpoint_id, record) for record in records], lineage)
    lake.write("checkpoints", [row], lineage)  # last: a row means that all of it is there
    return StageResult(row=row, records=records, folder=folder, reused=False)


def _clips(lake: Lake, dataset: Dataset, key: ModelKey, stage: str) -> list[TrainingClip]:
    """The data set's training clips, and behind them those of the stage's companions."""
    others = [load(lake, name) for name in companions_of(key, stage, dataset.name)]
    return [clip for each in (dataset, *others) for clip in load_training_clips(lake, each, key.method)]


def _trained(manifest: Mapping[str, Any], records: list[StepRecord]) -> dict[str, Any]:
    return {
        "parent": manifest["parent"],
        "digest": files_digest(manifest),
        "steps": records[-1].step,
        "parameters": manifest["trained_parameters"],
        "metrics": json.dumps({"loss_fall": loss_fall(records), "additions": manifest["additions"]}),
    }


def _made_from(lake: Lake, dataset: Dataset, method: str) -> dict[str, Any]:
    return {
        "training_rows_digest": training_rows_digest(lake, dataset.name, method),
        "training_rows_version": lake.version("training_rows"),
        "code_version": training_code(method),
    }


def files_digest(manifest: Mapping[str, Any]) -> str:
    """One sha256 over the digests of a checkpoint's files."""
    return hashlib.sha256(json.dumps(manifest["files"], sort_keys=True).encode()).hexdigest()


def _parent(lake: Lake, dataset: Dataset, key: ModelKey, stage: str) -> Path | None:
    ids = checkpoint_ids(lake, dataset, key)
    position = [*ids].index(stage)
    if position == 0:
        return None
    before = [*ids][position - 1]
    row = checkpoint_row(lake, ids[before])
    if row is None:
        raise UserError(f"{key}: {stage} continues from {before}, which is not trained on {dataset.name} yet; materialize it first")
    return lake.path(row["uri"])


_LOGGED = ("step", "loss", "probe_loss", "learning_rate", "gradient_norm", "seconds")
_LOGGED_MAPPINGS = ("by_noise", "metrics")  # as JSON


def _log_row(checkpoint_id: str, record: StepRecord) -> dict[str, Any]:
    mappings = {name: getattr(record, name) for name in _LOGGED_MAPPINGS}
    texts = {name: None if value is None else json.dumps(value) for name, value in mappings.items()}
    return {"checkpoint_id": checkpoint_id, **{name: getattr(record, name) for name in _LOGGED}, **texts}


def _records(lake: Lake, checkpoint_id: str) -> list[StepRecord]:
    rows = lake.rows("training_log", pc.field("checkpoint_id") == checkpoint_id, [*_LOGGED, *_LOGGED_MAPPINGS])
    return [StepRecord(**{**row, **{name: json.loads(row[name] or "null") for name in _LOGGED_MAPPINGS}}) for row in rows]


def pictures_of(folder: Path) -> list[Path]:
    """Periodic pictures of a stage, first to last."""
    return sorted(folder.with_name(f"{folder.name}.pictures").glob("*.png"))
