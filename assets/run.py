"""Commands as runs: every command that makes something executes jobs of the code location in the project's instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.compute as pc

from assets.definitions import definitions
from assets.partitions import add_partitions, model_partition
from models.model_key import ModelKey
from pipelines.errors import RotoscopeError, UserError
from pipelines.lake import Lake
from pipelines.progress import Progress
from pipelines.sources import registry
from pipelines.sources.performers import DEMO_OPTIONS

DEMO = "performers_dance"
DEMO_MODELS = ("copy_reference:default:0", "animate_anyone:demo:0")


DEMO_EXTRACTORS = ("dwpose_tiny", "scrfd_tiny")  # poses train and drive; beside them `truth`, to judge them by and to say where regions are


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a command left: the data set, the page (None when nothing was scored), the contact sheet, and how many videos and clips failed."""

    dataset: str
    report: Path | None
    sheet: Path | None
    failed: int
    usable: int


@lru_cache(maxsize=1)
def _code_location() -> dg.Definitions:
    return definitions()


def execute(instance: dg.DagsterInstance, job: str, partition: str | None = None, config: Mapping[str, Any] | None = None) -> None:
    """Run one job to its end. Raises UserError for what the user can mend, and for a check that blocks."""
    settings = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **(config or {})}
    try:
        _code_location().resolve_job_def(job).execute_in_process(instance=instance, partition_key=partition, run_config=settings)
    except dg.DagsterExecutionStepExecutionError as error:  # pragma: no cover - depends on where Dagster wraps
        cause = error.user_exception
        raise cause if isinstance(cause, RotoscopeError) else error from cause
    except dg.DagsterError as error:
        if type(error).__name__ == "DagsterAssetCheckFailedError":
            raise UserError(f"job {job} stopped at a check: {error}; `dg dev` shows it") from None
        raise
    finally:
        Progress.listener = None  # the run's log is closed


def prepare(instance: dg.DagsterInstance, lake: Lake, dataset: registry.Dataset, *, engine: str = "ray") -> Outcome:
    """Register a data set, and materialize its videos, clips and features."""
    registry.register(lake, dataset)
    add_partitions(instance, dataset.name, [])
    execute(
        instance,
        "prepare",
        dataset.name,
        {"resources": {"lake": {"config": {"root": lake.address}}, "engine": {"config": {"engine": engine}}}},
    )
    return outcome(lake, dataset)


def run_model(instance: dg.DagsterInstance, lake: Lake, dataset: str, model: str) -> None:
    """Train (where the method trains), animate and score one model."""
    from models.methods import method_named

    key = ModelKey.parse(model)
    method = method_named(key.method)
    method.config(key.variant)  # an unknown variant is an error before any run
    add_partitions(instance, dataset, [str(key)])
    execute(instance, "train" if method.stages else "animate", model_partition(dataset, str(key)), _on(lake))


def run_benchmark(instance: dg.DagsterInstance, lake: Lake, dataset: str) -> Path:
    """The table and the page; returns the page."""
    execute(instance, "benchmark", dataset, _on(lake))
    return lake.root / "reports" / f"{dataset}_{registry.load(lake, dataset).protocol}.html"


def run_demo(instance: dg.DagsterInstance, lake: Lake) -> Outcome:
    """Drawn people, their features, two models, the table and the page."""
    dataset = registry.Dataset(
        name=DEMO, kind="performers", options=DEMO_OPTIONS, extractors=(*DEMO_EXTRACTORS, "truth"), training_extractor=DEMO_EXTRACTORS[0]
    )
    done = prepare(instance, lake, dataset)
    execute(instance, "tiny")
    execute(instance, "accuracy", DEMO, _on(lake))
    for model in DEMO_MODELS:
        run_model(instance, lake, DEMO, model)
    page = run_benchmark(instance, lake, DEMO)
    return Outcome(dataset=DEMO, report=page, sheet=done.sheet, failed=done.failed, usable=done.usable)


def outcome(lake: Lake, dataset: registry.Dataset) -> Outcome:
    """What the lake holds of a data set now."""
    mine = pc.field("dataset") == dataset.name
    failed_videos = lake.read("videos", ["video_id"], mine & (pc.field("status") == "failed")).num_rows
    failed_clips = {row["clip_id"] for row in lake.rows("clips", mine & (pc.field("status") == "failed"), ["clip_id"])}
    with_error = {row["clip_id"] for row in lake.rows("poses", mine & (pc.field("frame") < 0), ["clip_id", "frame"])}
    usable = {clip.clip_id for clip in lake.clips(dataset.name)} - with_error
    sheet = lake.root / "reports" / f"{dataset.name}_{dataset.extractors[0]}.jpg"
    return Outcome(
        dataset=dataset.name,
        report=None,
        sheet=sheet if sheet.is_file() else None,
        failed=failed_videos + len(failed_clips | with_error),
        usable=len(usable),
    )


def _on(lake: Lake) -> dict[str, Any]:
    return {"resources": {"lake": {"config": {"root": lake.address}}}}
