"""Jobs, the weekly re-evaluation, and the sensor for new predictions."""

import json
from typing import Any

import dagster as dg
from pydantic import Field

from assets.checkpoints import NAMES
from assets.home import lake_root
from assets.partitions import DATASETS, MODELS, model_partition
from assets.run_marks import end_the_dead
from assets.tiny import SHIPPED
from pipelines.lake import Lake
from pipelines.tables import FEATURES

_DATA = dg.AssetSelection.assets("videos", "clips", *FEATURES, "screening", "screening_verdicts", "dataset_card")
_TRAINING = dg.AssetSelection.assets("training_rows", *NAMES)
_CLIPS = dg.AssetSelection.assets("predictions", "scores")

prepare = dg.define_asset_job(
    "prepare", _DATA, executor_def=dg.in_process_executor, description="One data set: videos, clips, features, screening."
)
tiny = dg.define_asset_job(
    "tiny",
    dg.AssetSelection.assets(*(["tiny", name] for name in SHIPPED)),
    executor_def=dg.in_process_executor,
    description="The tiny family: check what is shipped, or train it again.",
)
train = dg.define_asset_job(
    "train",
    _TRAINING | _CLIPS,
    executor_def=dg.in_process_executor,
    description="One model on one data set: train its stages, animate, score.",
)
animate = dg.define_asset_job(
    "animate",
    _CLIPS,
    executor_def=dg.in_process_executor,
    description="One model on one data set: animate and score (also clips made elsewhere).",
)
rescore = dg.define_asset_job(
    "rescore",
    dg.AssetSelection.assets("scores"),
    executor_def=dg.in_process_executor,
    description="Score stored clips again.",
)
benchmark = dg.define_asset_job(
    "benchmark",
    dg.AssetSelection.assets("benchmark", "report"),
    executor_def=dg.in_process_executor,
    description="The table and the page of one data set.",
)


ablation_table = dg.define_asset_job(
    "ablation_table",
    dg.AssetSelection.assets("ablation"),
    executor_def=dg.in_process_executor,
    description="Lay one ablation table out from the models that were run.",
)
accuracy = dg.define_asset_job(
    "accuracy",
    dg.AssetSelection.assets("extractor_accuracy"),
    executor_def=dg.in_process_executor,
    description="How right the extractors are on a data set of performers.",
)
maintain = dg.define_asset_job(
    "maintain",
    dg.AssetSelection.assets("merged_tables", "vacuumed_tables"),
    executor_def=dg.in_process_executor,
    description="Merge small parts of the tables, and delete parts that no kept version needs.",
)


@dg.op
def run_demo(context: dg.OpExecutionContext) -> None:
    """Materialize the whole demo, each part in a run of its own in this instance."""
    from assets.home import open_lake
    from assets.run import run_demo as run

    done, _ = run(context.instance, open_lake())
    context.log.info(f"report: {done.report}")


@dg.job(description="The whole demo from drawn people to the report, as `make demo` runs it.", executor_def=dg.in_process_executor)
def demo() -> None:
    """One click."""
    run_demo()


class AblateConfig(dg.Config):
    """Which ablation table to run."""

    ablation: str = Field(description="Paper and table, for example hfca_3; the partitions of the asset `ablation` are the list.")
    dataset: str = Field(default="performers_dance", description="Data set to train on and to score.")
    base: str = Field(default="demo", description="Size of the models: demo, brief or paper.")
    seeds: list[int] = Field(default=[0, 1, 2], description="Seeds of their training.")


@dg.op
def run_ablation(context: dg.OpExecutionContext, config: AblateConfig) -> None:
    """Train, animate and score every model of the table, each in a run of its own in this instance, and lay the table out."""
    from assets.ablated import Request, ablate
    from assets.home import open_lake

    request = Request.named(config.ablation, dataset=config.dataset, base=config.base, seeds=tuple(config.seeds))
    done = ablate(context.instance, open_lake(), request, context.log.info)
    context.log.info(f"page: {done.written.page}")


@dg.job(
    description="An ablation table of a paper, as `rotoscope ablate` runs it; what is there already is kept.",
    executor_def=dg.in_process_executor,
)
def ablate() -> None:
    """One click, after choosing the table in the launchpad."""
    run_ablation()


@dg.schedule(
    job=rescore,
    cron_schedule="0 3 * * 1",
    name="weekly_rescore",
    description="Mondays at three: score every stored prediction again, ignoring cached scores; the check `reproduces` fails when unchanged inputs give another number.",
)
def weekly_rescore(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """One run per model that has scores."""
    scored = sorted(context.instance.get_materialized_partitions(dg.AssetKey("scores")))
    if not scored:
        return dg.SkipReason("nothing has been scored yet")
    config = {"ops": {"scores": {"config": {"ignore_cache": True}}}}
    return [
        dg.RunRequest(run_key=f"{context.scheduled_execution_time.isoformat()}-{key}", partition_key=key, run_config=config)
        for key in scored
    ]


@dg.schedule(
    job=prepare,
    cron_schedule="30 4 * * *",
    name="daily_downloads",
    description="At half past four: prepare data sets again of which a host refused files for now (throttled, or not reachable).",
)
def daily_downloads(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """One run per data set with files that may come at another time."""
    from assets.retries import unfinished

    waiting = unfinished(Lake(lake_root()))
    if not waiting:
        return dg.SkipReason("no data set waits for a file from the web")
    return [dg.RunRequest(run_key=f"{context.scheduled_execution_time.isoformat()}-{name}", partition_key=name) for name in waiting]


@dg.sensor(
    job=animate,
    name="new_predictions",
    minimum_interval_seconds=60,
    description="Scores every new folder of generated clips under <lake>/inbox/: NAME with a manifest.json, or DATASET/METHOD without one.",
)
def new_predictions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """One run per folder that is new or has changed."""
    from assets.inbox import unseen

    seen = json.loads(context.cursor or "{}")
    found = unseen(Lake(lake_root()), seen)
    for problem in found.problems:
        context.log.error(problem)
    if not found.folders:
        return dg.SensorResult(
            skip_reason=f"no new folder in the inbox{' (one or more cannot be read, see the log)' if found.problems else ''}",
            cursor=json.dumps(found.cursor),
        )
    requests = [
        dg.RunRequest(
            run_key=f"{folder}-{found.cursor[str(folder)]}",
            partition_key=model_partition(dataset, model),
            run_config={"ops": {"predictions": {"config": {"folder": str(folder)}}}},
        )
        for folder, dataset, model in found.folders
    ]
    models = MODELS.build_add_request(sorted({model for _, _, model in found.folders}))
    datasets = DATASETS.build_add_request(sorted({dataset for _, dataset, _ in found.folders}))
    return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=[models, datasets], cursor=json.dumps(found.cursor))


@dg.sensor(
    name="ended_processes",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Ends runs whose process was killed, so that no later run waits for a pool that they hold.",
)
def ended_processes(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Starts nothing."""
    ended = end_the_dead(context.instance)
    return dg.SkipReason(f"ended, because their process is gone: {', '.join(ended)}" if ended else "every run has its process")


JOBS: list[Any] = [prepare, tiny, train, animate, rescore, benchmark, ablation_table, accuracy, maintain, demo, ablate]
