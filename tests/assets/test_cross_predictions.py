"""Clips that another person drives, chosen in the configuration of a run: made, scored and laid out beside those of their own motion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.compute as pc
import pytest

from assets.generated import Driving, predictions
from assets.partitions import add_partitions, model_partition
from assets.run import execute, prepare, run_benchmark
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.prediction_manifest import read_manifest
from pipelines.sources.registry import Dataset
from pipelines.video import probe

NAME, MODEL = "performers_crossed", "copy_reference:default:0"
OPTIONS = {"train_identities": 1, "test_identities": 2, "train_clips": 1, "test_clips": 1, "frames": 8, "size": 64}
CROSS = {"ops": {"predictions": {"config": {"driving": "cross"}}}}


def test_the_launchpad_offers_whose_motion_is_followed() -> None:
    field = predictions.op.config_schema.as_field().config_type.fields["driving"]  # type: ignore[attr-defined]
    assert not field.is_required
    assert sorted(value.config_value for value in field.config_type.inner_type.enum_values) == ["cross", "self"]
    assert "held-out clip of somebody else" in field.description
    assert [choice.name for choice in Driving] == [choice.value for choice in Driving] == ["self", "cross"]


class Project:
    """A lake of two held-out people with poses, and an instance of its own."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.lake, self.instance = Lake(folder / "lake").create(), instance
        prepare(instance, self.lake, Dataset(name=NAME, kind="performers", options=OPTIONS), engine="serial")
        add_partitions(instance, NAME, [MODEL])

    def animate(self, config: dict[str, Any] | None = None) -> None:
        on_lake = {"resources": {"lake": {"config": {"root": self.lake.address}}}}
        execute(self.instance, "animate", model_partition(NAME, MODEL), {**on_lake, **(config or {})})

    def rows(self, *, crossed: bool) -> list[dict[str, Any]]:
        driver = pc.field("driving_clip_id")
        return list(self.lake.rows("predictions", driver.is_valid() if crossed else driver.is_null()))

    def version(self, asset: str) -> str:
        record = self.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records[0]
        return record.event_log_entry.asset_materialization.tags["dagster/data_version"]  # type: ignore[union-attr,index]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("crossed")
    with dg.DagsterInstance.local_temp(str(folder)) as instance, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROTOSCOPE_HOME", str(folder / "lake"))
        made = Project(folder, instance)
        made.animate(CROSS)  # before there is any clip of its own motion
        yield made


@pytest.mark.slow
def test_each_person_follows_the_other(project: Project) -> None:
    rows = project.rows(crossed=True)
    assert len(rows) == 2
    assert {row["driving_clip_id"] for row in rows} == {row["clip_id"] for row in rows}
    assert all(row["driving_clip_id"] != row["clip_id"] for row in rows)
    folder = project.lake.path(rows[0]["uri"]).parent
    assert read_manifest(folder).driving == "cross"
    assert probe(project.lake.path(rows[0]["uri"])).frames == 8


@pytest.mark.slow
def test_scores_and_table_are_those_of_the_cross_identity_protocol(project: Project) -> None:
    scores = project.lake.rows("scores", pc.field("status") == "ok")
    assert {row["protocol"] for row in scores} == {"cross_identity_demo"}
    measured = {row["metric"] for row in scores}
    assert {"csim", "csim_second", "pose_error", "flicker_own"} <= measured
    assert not {"psnr", "ssim", "l1"} & measured  # there is no true clip
    page = run_benchmark_of(project)
    assert "Driven by another person" not in page.read_text()  # all of the page is
    rows = {row["metric"]: row for row in project.lake.rows("benchmark", pc.field("protocol") == "cross_identity_demo")}
    assert rows["csim"]["value"] > 0.9  # copied pictures show the reference's own face
    assert rows["flicker_own"]["value"] < 0.5
    assert rows["pose_error"]["value"] > 1  # and do not move as the driver does


def run_benchmark_of(project: Project) -> Path:
    return run_benchmark(project.instance, project.lake, NAME).with_name(f"{NAME}_cross_identity_demo.html")


@pytest.mark.slow
def test_both_kinds_stand_beside_each_other_and_neither_replaces_the_other(project: Project) -> None:
    crossed, version = project.rows(crossed=True), project.version("predictions")
    project.animate()
    assert project.rows(crossed=True) == crossed
    assert len(project.rows(crossed=False)) == 2
    both = project.version("predictions")
    assert both != version
    assert {row["protocol"] for row in project.lake.rows("scores")} == {"demo_standin", "cross_identity_demo"}
    page = run_benchmark(project.instance, project.lake, NAME)
    assert page.name == f"{NAME}_demo_standin.html"
    assert "Driven by another person" in page.read_text()
    project.animate(CROSS)  # nothing new
    assert project.version("predictions") == both


@pytest.mark.slow
def test_a_folder_says_itself_who_drives(project: Project) -> None:
    with pytest.raises(UserError, match="who drives its clips stands in its manifest"):
        project.animate({"ops": {"predictions": {"config": {"driving": "cross", "folder": str(project.lake.root)}}}})
