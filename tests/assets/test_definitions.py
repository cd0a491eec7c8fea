"""The code location: what is in it, and that loading it stays light."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
import pytest

from assets.checkpoints import NAMES as STAGES
from assets.definitions import definitions
from assets.tiny import TINY
from pipelines.code_version import ROOT
from pipelines.tables import FEATURES


@pytest.fixture(scope="module")
def location() -> dg.Definitions:
    return definitions()


def _keys(location: dg.Definitions) -> set[str]:
    return {key.to_user_string() for key in location.resolve_all_asset_keys()}


def test_every_step_is_an_asset_with_group_kinds_description_and_code_version(location: dg.Definitions) -> None:
    expected = {
        "videos",
        "clips",
        *FEATURES,
        "screening",
        "screening_verdicts",
        "dataset_card",
        "merged_tables",
        "vacuumed_tables",
        "training_rows",
        *(f"tiny/{name}" for name in TINY),
        *STAGES,
        "predictions",
        "scores",
        "benchmark",
        "extractor_accuracy",
        "report",
        "ablation",
    }
    assert _keys(location) == expected
    for spec in location.resolve_all_asset_specs():
        assert all((spec.group_name, spec.kinds, spec.description, spec.code_version)), spec.key


def test_partitions_are_datasets_and_models_never_clips(location: dg.Definitions) -> None:
    for spec in location.resolve_all_asset_specs():
        if spec.key.path[0] == "tiny" or spec.key.to_user_string() in {"merged_tables", "vacuumed_tables"}:
            continue
        definition = spec.partitions_def
        names = {"dataset"} if isinstance(definition, dg.DynamicPartitionsDefinition) else {d.name for d in definition.partitions_defs}  # type: ignore[union-attr]
        assert names in ({"dataset"}, {"dataset", "model"}, {"dataset", "ablation"})


def test_data_flows_from_videos_to_the_report(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    upstream, frontier = set[str](), {dg.AssetKey("report")}
    while frontier:
        parents = {parent for key in frontier for parent in graph.get(key).parent_keys}
        upstream |= {key.to_user_string() for key in parents}
        frontier = parents
    assert {"videos", "clips", "poses", "training_rows", *STAGES, "predictions", "scores", "benchmark"} <= upstream


def test_each_stage_depends_on_the_one_before(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    before = ["training_rows", *STAGES]
    for parent, stage in zip(before, STAGES, strict=False):
        assert graph.get(dg.AssetKey(stage)).parent_keys == {dg.AssetKey(parent)}
    assert dg.AssetKey(STAGES[-1]) in graph.get(dg.AssetKey("predictions")).parent_keys


def test_jobs_schedule_and_sensor_are_there(location: dg.Definitions) -> None:
    jobs = {job.name for job in location.resolve_all_job_defs()}
    assert {"prepare", "train", "animate", "benchmark", "rescore", "demo", "tiny", "ablate", "ablation_table"} <= jobs
    assert location.resolve_schedule_def("weekly_rescore").cron_schedule == "0 3 * * 1"
    assert location.resolve_sensor_def("new_predictions").job_name == "animate"


def test_blocking_checks_guard_schema_and_coverage(location: dg.Definitions) -> None:
    graph = location.resolve_asset_graph()
    blocking = {(key.asset_key.to_user_string(), key.name) for key in graph.asset_check_keys if graph.get_check_spec(key).blocking}
    assert {
        ("poses", "coverage"),
        ("clips", "schema"),
        ("videos", "failed_share"),
        ("scores", "reproduces"),
        ("tiny/autoencoder", "digests"),
    } <= blocking


def test_loading_the_code_location_loads_no_network_library() -> None:
    code = "from assets.definitions import definitions; definitions(); import sys; print([m for m in ('torch', 'ray', 'cv2', 'diffusers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_every_job_of_the_tiny_family_is_an_asset() -> None:
    from models.tiny.registry import jobs

    assert set(TINY) == set(jobs())
