"""The papers' ablation tables: every printed row is there, every variant of a method that exists is offered, and stages are shared."""

from __future__ import annotations

import pytest

from assets.checkpoints import NAMES
from eval.metrics import METRICS
from eval.published.cells import printed_cells
from models.ablation_plan import Plan, PlannedStage, steps_of
from models.ablations import ABLATIONS, Ablation, AblationRow, ablation_named, not_offered, rows_here
from models.methods import methods
from models.train import recipe_of
from pipelines.errors import UserError

AWAITED: frozenset[str] = frozenset()
"""Methods that are registered and whose ablations are still being written. Take a name off the list when its rows are all offered."""

NUMBERED = [ablation for ablation in ABLATIONS.values() if ablation.printed]
REGISTERED = [ablation for ablation in ABLATIONS.values() if ablation.method in methods()]


@pytest.mark.parametrize("ablation", NUMBERED, ids=lambda ablation: ablation.name)
def test_the_rows_are_those_that_the_paper_prints_in_its_order(ablation: Ablation) -> None:
    cells = [cell.row for cell in printed_cells() if (cell.row["paper"], cell.row["table"]) == (ablation.paper, f"Table {ablation.table}")]
    assert [row.printed for row in ablation.rows] == list(dict.fromkeys(row["variant"] for row in cells))


def test_every_ablation_table_of_the_papers_is_there() -> None:
    printed = {(cell.row["paper"], cell.row["table"]) for cell in printed_cells() if cell.row["variant"]}
    # whose variants are MagicAnimate's two kinds of poses, and the method that people were asked about
    compares = {("pose_animate", f"Table {number}") for number in ("1", "2a", "2b")} | {("stable_animator", "Table 6")}
    assert {(ablation.paper, f"Table {ablation.table}") for ablation in NUMBERED} == printed - compares


def test_every_part_is_meant_for_a_metric_that_judges() -> None:
    for ablation in ABLATIONS.values():
        for row in ablation.rows:
            assert bool(row.aims) == (row.printed != ablation.full and row.switch is not None), (ablation.name, row.printed)
            assert all(METRICS[metric].judges for metric in row.aims)
            assert (row.switch is None) == bool(row.external)


@pytest.mark.parametrize("ablation", REGISTERED, ids=lambda ablation: ablation.name)
@pytest.mark.parametrize("base", ["demo", "brief", "paper"])
def test_every_row_of_a_method_that_exists_is_one_of_its_variants(ablation: Ablation, base: str) -> None:
    missing = {label for label in not_offered(ablation, base) if ablation.row(label).switch is not None}
    if ablation.method in AWAITED:
        pytest.xfail(f"{ablation.method} does not offer {sorted(missing)} yet") if missing else None
    assert not missing


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_stage_of_every_variant_is_an_asset_in_the_assets_order(name: str) -> None:
    method = methods()[name]
    for variant in method.variants:
        stages = method.stages_of(variant)
        assert list(stages) == sorted(stages, key=NAMES.index), variant


def test_variants_that_differ_only_in_sampling_or_later_stages_share_what_comes_before() -> None:
    for name, method in methods().items():
        base = method.default_variant
        for variant in method.variants:
            if not variant.startswith(f"{base}-"):
                continue
            shared = [stage for stage in method.stages_of(variant) if stage in method.stages_of(base)
                      and recipe_of(name, variant, stage) == recipe_of(name, base, stage)]  # fmt: skip
            assert shared == list(method.stages_of(variant))[: len(shared)], variant  # sharing never begins behind a difference


def test_tables_are_found_as_people_write_them() -> None:
    assert ablation_named("hfca", "3") is ablation_named("hfca", "Table 3") is ABLATIONS["hfca_3"]
    assert ablation_named("pose_animate", "Figure 5").name == "pose_animate_figure_5"
    with pytest.raises(UserError, match="the ablations of hfca are: 3, 4, 5"):
        ablation_named("hfca", "1")
    with pytest.raises(UserError, match="there are: animate_anyone, hfca, hia"):
        ablation_named("nobody", "1")


def test_a_row_says_its_variant_at_every_size() -> None:
    named = rows_here("hfca", "Table 3")
    assert named[("hfca", "demo-no_ipm")] == named[("hfca", "paper-no_ipm")] == "IPM: w/o"
    assert named[("hfca", "brief")] == "IPM: w/"
    assert rows_here("hfca", "Table 1") == {}
    assert not any(label == "FaceFusion" for label in rows_here("stable_animator", "Table 3").values())


def test_rows_that_are_not_ours_or_not_there_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.methods.methods", lambda: {})
    said = not_offered(ABLATIONS["stable_animator_3"], "demo")
    assert "program of others" in said["FaceFusion"]
    assert said["Ours"] == "there is no method stable_animator yet"


def test_labels_must_differ() -> None:
    rows = (AblationRow(printed="a", switch=""), AblationRow(printed="a", switch="b"))
    with pytest.raises(ValueError, match="must differ"):
        Ablation(paper="p", table="1", method="m", about="", full="a", rows=rows)


def test_steps_are_found_wherever_a_stages_settings_hold_their_loop() -> None:
    assert steps_of({"network": {"steps": 9}, "settings": {"loop": {"steps": 4}}}) == 4
    assert steps_of({"size": (1, 2)}) is None
    for name, method in methods().items():
        for stage in method.stages_of(method.default_variant):
            assert steps_of(method.stage_config(method.default_variant, stage)), name


def test_an_estimate_is_from_what_was_trained_here_or_from_what_the_demo_is_made_for() -> None:
    known, unknown = (PlannedStage(checkpoint_id=name, stage="stage_1", models=(name,), steps=30, seconds=seconds)
                      for name, seconds in (("a", 90.0), ("b", None)))  # fmt: skip
    both = Plan(base="demo", models=(), missing=(known, unknown), there=0).estimate()
    assert both.startswith("training: about 1.5 min, as such stages took here before; and 1 stages of a kind that was never trained here")
    assert both.endswith("3 CPU-minutes a model, 3 min")
    assert Plan(base="unwarped", models=(), missing=(unknown,), there=0).estimate().endswith("3 CPU-minutes a model, 3 min")
    assert Plan(base="paper", models=(), missing=(unknown,), there=0).estimate().endswith("never trained here")
    assert Plan(base="demo", models=(), missing=(), there=3).estimate() == "nothing to train; clips and scores that are there are kept"
