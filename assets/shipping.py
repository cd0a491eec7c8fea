"""A method's checkpoint for the project to ship: trained for hours on many performers, scored on people it never saw, packed, with a card.

The same assets as every other training: a data set of drawn people, its features, the stages, predictions and scores. Only the number of
people and of steps is larger than in the demo.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.compute as pc

from assets.demo import plan_demo
from assets.run import prepare, run_benchmark, run_model
from eval.method_names import FLOORS
from models.diffusion_method import DiffusionMethod
from models.methods import method_named
from models.model_key import ModelKey
from models.shipped_checkpoint import FOLDER, SHIPPED, ship
from models.stable_animator.method import StableAnimatorMethod
from models.train import checkpoint_ids, current_checkpoint
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources import registry

PEOPLE = "performers_many"
# One short dance each: that a method has seen many people matters more than that it has seen them long.
OPTIONS: Mapping[str, Any] = {"train_identities": 300, "train_clips": 1, "test_identities": 8, "test_clips": 1, "frames": 36, "seed": 1}
SCORES = ("psnr", "ssim", "l1", "pose_error", "csim", "csim_second", "flicker", "flicker_background", "flicker_still")


def ship_method(
    instance: dg.DagsterInstance, lake: Lake, method: str, *, seed: int = 0, out: Path | None = None
) -> tuple[Path, dict[str, Any]]:
    """Train, score and pack; returns the folder and its card. What is there already in the lake is kept. Raises UserError."""
    known = _shipped_by(method)
    if known is None or known.shipped_from is None:
        raise UserError(f"{method} has no variant to ship a checkpoint of; give another method")
    plan = plan_demo([method]).dataset
    prepare(instance, lake, registry.and_known_extractors(lake, registry.Dataset(
        name=PEOPLE, kind="performers_dance", options=dict(OPTIONS), training_extractor=plan.training_extractor, protocol=plan.protocol,
        extractors=tuple(name for name in plan.extractors if name != "truth"),
    )))  # fmt: skip
    key = ModelKey(method=method, variant=known.shipped_from, seed=seed)
    for model in (*(f"{floor}:{method_named(floor).default_variant}:0" for floor in FLOORS), str(key)):
        run_model(instance, lake, PEOPLE, model)
    run_benchmark(instance, lake, PEOPLE)
    return pack(lake, known, key, out)


def _shipped_by(method: str) -> DiffusionMethod | None:
    """The method whose checkpoints can be packed; of StableAnimator's two backbones SVD's."""
    known = method_named(method)
    known = known.of(SHIPPED) if isinstance(known, StableAnimatorMethod) else known
    return known if isinstance(known, DiffusionMethod) else None


def pack(lake: Lake, known: DiffusionMethod, key: ModelKey, out: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """The trained checkpoint as it is shipped, with card.json and README.md. Raises UserError where it is not trained or scored."""
    dataset = registry.load(lake, PEOPLE)
    found = current_checkpoint(lake, dataset, key)
    if found is None:
        raise UserError(f"{key} trains nothing, so there is nothing to ship")
    folder = out or FOLDER / key.method
    card = _card(lake, dataset, key)
    beside = {"card.json": json.dumps(card, indent=1) + "\n", "README.md": _text(card, known.additions(known.chosen(key.variant)))}
    ship(found[1], folder, known.bases(known.chosen(key.variant)), beside)
    return folder, card


def _card(lake: Lake, dataset: registry.Dataset, key: ModelKey) -> dict[str, Any]:
    ids = checkpoint_ids(lake, dataset, key)
    rows = {row["checkpoint_id"]: row for row in lake.rows("checkpoints", pc.field("dataset") == PEOPLE)}
    test, train = int(OPTIONS["test_identities"]), int(OPTIONS["train_identities"])
    return {
        "model": str(key),
        "checkpoint_id": [*ids.values()][-1],
        "trained_on": f"{PEOPLE}: {train} people, one clip of {OPTIONS['frames']} frames each, poses by {dataset.training_extractor}",
        "measured_on": f"{test} clips of {test} people in no training clip, before packing; protocol {dataset.protocol}",
        "scores": _scores(lake, dataset, key.method, key.variant),
        **{f"scores_of_{floor}": _scores(lake, dataset, floor, None) for floor in FLOORS},
        "stages": {
            stage: {"steps": rows[name]["steps"], "seconds": round(rows[name]["seconds"]), "parameters": rows[name]["parameters"]}
            for stage, name in ids.items()
        },
        "probe_loss": {stage: _curve(lake, name) for stage, name in ids.items()},
    }


def _scores(lake: Lake, dataset: registry.Dataset, method: str, variant: str | None) -> dict[str, float]:
    where = (pc.field("dataset") == PEOPLE) & (pc.field("protocol") == dataset.protocol) & (pc.field("method") == method)
    rows = [row for row in lake.rows("benchmark", where) if variant in (None, row["variant"])]
    return {row["metric"]: round(row["value"], 4) for name in SCORES for row in rows if row["metric"] == name and row["value"] is not None}


def _curve(lake: Lake, checkpoint_id: str) -> list[tuple[int, float]]:
    rows = lake.rows("training_log", pc.field("checkpoint_id") == checkpoint_id, ["step", "probe_loss"])
    return sorted((row["step"], round(row["probe_loss"], 4)) for row in rows if row["probe_loss"] is not None)


def _text(card: Mapping[str, Any], additions: Sequence[str]) -> str:
    """The card as Markdown."""
    floors = [card[f"scores_of_{floor}"] for floor in FLOORS]
    facts = {
        "trained on": card["trained_on"],
        "measured on": card["measured_on"],
        **{
            f"{name.replace('_', ' ')} (copying; warping)": f"{value} ({'; '.join(str(floor.get(name, '-')) for floor in floors)})"
            for name, value in card["scores"].items()
        },
        **{stage.replace("_", " "): f"{made['steps']} steps in {made['seconds']} s" for stage, made in card["stages"].items()},
        "additions": ", ".join(additions) or "none",
        "checkpoint": card["checkpoint_id"],
        "licence": "Apache-2.0",
    }
    lines = [
        f"# {card['model']}, packed",
        "",
        "Differences to the tiny family's base networks, quantised (`models/shipped_checkpoint.py`). It learnt from performers alone and "
        "knows no real people.",
        "",
        "| fact | value |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in facts.items()),
        "",
        f"Made by `rotoscope tiny ship {card['model'].split(':')[0]}`.",
        "",
    ]
    return "\n".join(lines)
