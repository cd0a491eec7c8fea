"""What an ablation's training took: shared stages stand in each row, resumed and untrained models do not mislead."""

from __future__ import annotations

from pathlib import Path

from eval.ablation_study import Run, Study, Wanted
from eval.training_cost import cost_grid, training_costs
from pipelines.lake import Lake

CHAINS = {"demo": ("first", "late"), "demo-short": ("first",), "demo-bare": ()}
SECONDS = {("first", 0): 100.0, ("first", 1): 110.0, ("first", 2): 400.0, ("late", 0): 20.0, ("late", 1): 22.0, ("late", 2): 24.0}


def _study(lake: Lake) -> Study:
    """Three variants with three seeds: one of two stages, one that stops after the shared first one, one that needs no training."""
    lake.write("checkpoints", [{"checkpoint_id": f"{stage}{seed}", "method": "hfca", "stage": f"{stage} stage", "seed": seed, "steps": 60,
                                "parent": f"first{seed}" if stage == "late" else "", "seconds": taken}
                               for (stage, seed), taken in SECONDS.items()])  # fmt: skip
    runs = {}
    for variant, chain in CHAINS.items():
        rows = [{"prediction_id": f"{variant}-{seed}", "seed": seed, "metric": "psnr", "value": 20.0} for seed in (2, 0, 1)]
        runs[f"row {variant}"] = Run(Wanted(label=f"row {variant}", method="hfca", variant=variant), rows, [])
        lake.write("predictions", [{"prediction_id": row["prediction_id"], "clip_id": clip, "seed": row["seed"], "variant": variant,
                                    "checkpoint_id": f"{chain[-1]}{row['seed']}" if chain else ""}
                                   for row in rows for clip in ("a", "b")])  # fmt: skip
    return Study(protocol="demo", dataset="people", split="test", full="row demo", runs=runs)


def test_each_row_has_its_stages_and_their_sum_as_the_median_over_seeds(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    costs = training_costs(lake, _study(lake))
    assert [(cost.variant, cost.seed, cost.seconds) for cost in costs] == [
        *(("demo", seed, SECONDS["first", seed] + SECONDS["late", seed]) for seed in (0, 1, 2)),
        *(("demo-short", seed, SECONDS["first", seed]) for seed in (0, 1, 2)),
    ]
    grid = cost_grid(costs)
    assert grid is not None
    assert grid.head == ("Row", "first stage", "late stage", "all stages")
    assert grid.rows == (
        ("row demo", "110 s (60 steps)", "22 s (60 steps)", "132 s"),
        ("row demo-short", "110 s (60 steps)", "–", "110 s"),
    )


def test_a_stage_whose_time_is_not_known_leaves_no_sum(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    study = _study(lake)
    lake.write("checkpoints", [{**row, "seconds": None} for row in lake.rows("checkpoints") if row["stage"] == "late stage"])
    grid = cost_grid(training_costs(lake, study))
    assert grid is not None
    assert grid.rows[0] == ("row demo", "110 s (60 steps)", "– (60 steps)", "–")


def test_nothing_trained_is_no_table(tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    study = _study(lake)
    bare = Study(protocol="demo", dataset="people", split="test", full="row demo-bare", runs={"row demo-bare": study.runs["row demo-bare"]})
    assert training_costs(lake, bare) == ()
    assert cost_grid(()) is None
