"""The code location. Nothing heavy loads here: networks, Ray and torch load when an asset runs."""

import dagster as dg


@dg.definitions
def definitions() -> dg.Definitions:
    """All assets, checks, jobs, the schedule and the sensor."""
    from assets import (
        ablation,
        accuracy,
        benchmark,
        checkpoints,
        clips,
        features,
        generated,
        jobs,
        resources,
        scores,
        screening,
        sources,
        tiny,
        training_rows,
        upkeep,
    )

    return dg.Definitions(
        assets=[
            sources.videos,
            clips.clips,
            features.features,
            screening.screening,
            *upkeep.ASSETS,
            training_rows.training_rows,
            *tiny.NETWORKS,
            *checkpoints.STAGES,
            generated.predictions,
            scores.scores,
            accuracy.extractor_accuracy,
            benchmark.benchmark,
            benchmark.report,
            ablation.ablation,
        ],
        jobs=jobs.JOBS,
        schedules=[jobs.weekly_rescore, jobs.daily_downloads],
        sensors=[jobs.new_predictions, jobs.ended_processes],
        executor=dg.in_process_executor,  # one process a run: it loads torch once, and while it lives the run is alive
        resources={"lake": resources.LakeResource(), "engine": resources.EngineResource()},
    )
