"""Commands as runs: every command that makes something executes jobs of the code location in the project's instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import dagster as dg
import pyarrow.compute as pc
from dagster._core.utils import make_new_run_id

from assets.definitions import definitions
from assets.demo import DEMO, DEMO_METHODS, DemoPlan, plan_demo
from assets.partitions import add_partitions, model_partition
from assets.pool_wait import watched
from assets.run_marks import end_the_dead, marked
from models.model_key import ModelKey
from pipelines.errors import RotoscopeError, UserError
from pipelines.lake import Lake
from pipelines.progress import Progress
from pipelines.sources import registry


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
    """Run one job to its end. Raises UserError for what the user can mend, and for a check that blocks; KeyboardInterrupt on Ctrl-C."""
    settings = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}, **(config or {})}
    chosen, run_id = _code_location().resolve_job_def(job), make_new_run_id()
    end_the_dead(instance)
    try:
        with marked(instance, run_id), watched(instance, run_id, chosen.graph.pools, _say):
            chosen.execute_in_process(instance=instance, partition_key=partition, run_config=settings, run_id=run_id)
    except dg.DagsterExecutionInterruptedError:  # what Dagster makes of Ctrl-C; no Exception, so nobody above would know it
        raise KeyboardInterrupt from None
    except dg.DagsterExecutionStepExecutionError as error:  # pragma: no cover - depends on where Dagster wraps
        cause = error.user_exception
        raise cause if isinstance(cause, RotoscopeError) else error from cause
    except dg.DagsterError as error:
        if type(error).__name__ == "DagsterAssetCheckFailedError":
            raise UserError(f"job {job} stopped at a check: {error}; `dg dev` shows it") from None
        raise
    finally:
        Progress.listener = None  # the run's log is closed


def _say(text: str) -> None:
    click.echo(text, err=True)


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
    from models.companions import all_companions
    from models.methods import method_named

    key = ModelKey.parse(model)
    stages = method_named(key.method).stages_of(key.variant)  # an unknown variant is an error before any run
    for name in all_companions(key, dataset):
        _prepare_companion(instance, lake, name, registry.load(lake, dataset))
    add_partitions(instance, dataset, [str(key)])
    execute(instance, "train" if stages else "animate", model_partition(dataset, str(key)), _on(lake))


def _prepare_companion(instance: dg.DagsterInstance, lake: Lake, name: str, like: registry.Dataset) -> None:
    """Draw the people of a data set that a stage learns from too, and see them through the same extractors; others must be there. Raises UserError."""
    if name.startswith(registry.DRAWN):
        wanted = _companion(lake, name, like)
        if not lake.clips(name) or set(wanted.extractors) != set(registry.load(lake, name).extractors):
            prepare(instance, lake, wanted)
    registry.load(lake, name)


def _companion(lake: Lake, name: str, like: registry.Dataset) -> registry.Dataset:
    """As it is registered; where it is not, with the other one's choices of whose rows train. With the other one's extractors in both cases."""
    if name in registry.registered(lake):
        return registry.seen_through(registry.load(lake, name), like.extractors)
    made = registry.source_dataset(name, {}, like.extractors)
    return replace(made, training_extractor=like.training_extractor, signal_extractors=like.signal_extractors)


def run_benchmark(instance: dg.DagsterInstance, lake: Lake, dataset: str) -> Path:
    """The table and the page; returns the page."""
    execute(instance, "benchmark", dataset, _on(lake))
    return lake.root / "reports" / f"{dataset}_{registry.load(lake, dataset).protocol}.html"


def demo_dataset() -> registry.Dataset:
    """The demo's people: drawn, seen through the learned extractors."""
    return plan_demo().dataset


def run_demo(instance: dg.DagsterInstance, lake: Lake, methods: Sequence[str] = DEMO_METHODS) -> tuple[Outcome, DemoPlan]:
    """Drawn people, their features, the floor and these methods (or "all"), the table and the page."""
    plan = plan_demo(methods)
    done = prepare(instance, lake, registry.and_known_extractors(lake, plan.dataset))
    execute(instance, "tiny")
    execute(instance, "accuracy", DEMO, _on(lake))
    for model in plan.models:
        run_model(instance, lake, DEMO, model)
    page = run_benchmark(instance, lake, DEMO)
    return Outcome(dataset=DEMO, report=page, sheet=done.sheet, failed=done.failed, usable=done.usable), plan


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
