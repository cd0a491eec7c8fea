"""End to end at the smallest size: drawn people to the report, twice; trace; schedule; sensor; kill and resume."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow.compute as pc
import pytest

from assets import jobs
from assets.partitions import model_partition
from assets.run import execute, prepare, run_benchmark, run_model
from pipelines.code_version import ROOT
from pipelines.lake import Lake
from pipelines.prediction_manifest import read_manifest, write_manifest
from pipelines.query import query
from pipelines.sources.registry import Dataset, load
from pipelines.sources.scan import sha256_of
from pipelines.trace import Node, trace

pytestmark = pytest.mark.slow

NAME = "performers_small"
OPTIONS = {"train_identities": 2, "test_identities": 1, "train_clips": 1, "test_clips": 1, "frames": 20}
MODELS = ("copy_reference:default:0", "animate_anyone:brief:0")


class Project:
    """A lake and an instance of its own."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.lake, self.instance = Lake(folder / "lake").create(), instance

    def run(self) -> Path:
        """Everything, from drawing to the report."""
        prepare(self.instance, self.lake, Dataset(name=NAME, kind="performers", options=OPTIONS), engine="serial")
        for model in MODELS:
            run_model(self.instance, self.lake, NAME, model)
        return run_benchmark(self.instance, self.lake, NAME)

    def versions(self) -> dict[str, str]:
        """Newest data version of every asset and partition."""
        found = {}
        for key in self.instance.get_asset_keys():
            for partition in sorted(self.instance.get_materialized_partitions(key)):
                records = self.instance.fetch_materializations(
                    dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
                ).records
                tags = records[0].event_log_entry.asset_materialization.tags or {}  # type: ignore[union-attr]
                if "dagster/data_version_is_user_provided" in tags:
                    found[f"{key.to_user_string()} {partition}"] = tags["dagster/data_version"]
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("project")
    with dg.DagsterInstance.local_temp(str(folder)) as instance:
        os.environ["ROTOSCOPE_HOME"] = str(folder / "lake")
        made = Project(folder, instance)
        made.page = made.run()  # type: ignore[attr-defined]
        yield made
        del os.environ["ROTOSCOPE_HOME"]


def test_the_table_holds_both_models_and_the_page_is_self_contained(project: Project) -> None:
    rows = query(project.lake, "select method, count(*) n from benchmark group by 1 order by 1").to_pylist()
    assert [row["method"] for row in rows] == ["animate_anyone", "copy_reference"]
    assert rows[0]["n"] == rows[1]["n"] >= 7
    page = (project.lake.root / "reports" / f"{NAME}_demo_standin.html").read_text()
    assert page.count("data:video/mp4;base64,") >= 3
    assert "animate_anyone" in page
    assert pd.read_parquet(project.lake.root / "tables" / "benchmark.parquet")["value"].notna().any()


def test_training_fell_and_its_log_pictures_and_checkpoints_are_there(project: Project) -> None:
    stages = query(project.lake, "select stage, steps, uri, parent, digest from checkpoints order by stage").to_pylist()
    assert [stage["stage"] for stage in stages] == ["stage_1", "stage_2"]
    first = project.lake.path(stages[0]["uri"])
    assert (first / "denoising_unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert list(first.with_name(f"{first.name}.pictures").glob("*.png"))
    assert (
        json.loads((project.lake.path(stages[1]["uri"]) / "manifest.json").read_text())["parent"]
        == json.loads((first / "manifest.json").read_text())["checkpoint_id"]
    )


def test_a_second_run_without_change_gives_the_same_data_versions_and_trains_nothing(project: Project) -> None:
    before, trained = project.versions(), project.lake.version("checkpoints")
    project.run()
    assert project.versions() == before
    assert {name.split()[0] for name in before} >= {
        "videos",
        "clips",
        "poses",
        "training_rows",
        "stage_1",
        "stage_2",
        "predictions",
        "scores",
        "benchmark",
    }
    assert project.lake.version("checkpoints") == trained


def _videos(node: Node) -> list[Node]:
    return ([node] if node.title == "video" else []) + [video for child in node.made_from for video in _videos(child)]


def test_trace_walks_from_a_cell_to_the_bytes_of_the_videos(project: Project) -> None:
    node = trace(project.lake, dataset=NAME, method="animate_anyone", metric="psnr")
    videos = _videos(node)
    assert {video.facts["id"] for video in videos} == set(project.lake.read("videos")["video_id"].to_pylist())
    for video in videos:
        assert sha256_of(project.lake.path(video.facts["uri"])) == video.facts["sha256"]
    titles = "\n".join(node.lines())
    for link in ("prediction", "checkpoint", "stage=stage_2", "stage=stage_1", "training rows", "matches=True", "poses"):
        assert link in titles


def test_the_weekly_schedule_scores_again_and_notices_another_number(project: Project) -> None:
    context = dg.build_schedule_context(
        instance=project.instance, scheduled_execution_time=pd.Timestamp("2026-11-23 03:00", tz="UTC").to_pydatetime()
    )
    requests = jobs.weekly_rescore(context)
    assert {request.partition_key for request in requests} == {str(model_partition(NAME, model)) for model in MODELS}  # type: ignore[union-attr]
    key = model_partition(NAME, MODELS[0])
    execute(project.instance, "rescore", key, requests[0].run_config)  # type: ignore[index]
    assert _last_check(project, "reproduces").passed
    rows = project.lake.rows("scores", pc.field("metric") == "psnr")
    project.lake.write("scores", [{**row, "sum": row["sum"] + 1.0} for row in rows])
    with pytest.raises(Exception, match="reproduces"):
        execute(project.instance, "rescore", key, requests[0].run_config)  # type: ignore[index]
    assert not _last_check(project, "reproduces").passed


def _last_check(project: Project, name: str) -> dg.AssetCheckEvaluation:
    key = dg.AssetCheckKey(dg.AssetKey("scores"), name)
    record = project.instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    evaluation = record.event.asset_check_evaluation  # type: ignore[union-attr]
    assert evaluation is not None
    return evaluation


def test_the_sensor_scores_a_new_folder_of_predictions_once(project: Project) -> None:
    row = next(row for row in project.lake.rows("predictions") if row["method"] == "copy_reference")
    folder = project.lake.root / "inbox" / "another_lab"
    shutil.copytree(project.lake.path(row["uri"]).parent, folder)
    manifest = read_manifest(folder)
    write_manifest(
        folder,
        type(manifest)(**{**{name: getattr(manifest, name) for name in manifest.__slots__}, "method": "another_lab", "variant": "paper"}),
    )
    context = dg.build_sensor_context(instance=project.instance)
    found = jobs.new_predictions(context)
    request = found.run_requests[0]  # type: ignore[union-attr]
    assert str(request.partition_key) == str(model_partition(NAME, "another_lab:paper:0"))
    project.instance.add_dynamic_partitions("model", ["another_lab:paper:0"])
    execute(project.instance, "animate", request.partition_key, request.run_config)
    assert (
        query(
            project.lake, "select count(*) n from scores s join predictions p using (prediction_id) where p.method = 'another_lab'"
        ).to_pylist()[0]["n"]
        > 0
    )
    again = jobs.new_predictions(dg.build_sensor_context(instance=project.instance, cursor=found.cursor))  # type: ignore[union-attr]
    assert not again.run_requests  # type: ignore[union-attr]


def test_the_sensor_scores_clips_without_a_manifest_by_the_names_of_their_folders(project: Project) -> None:
    rows = [row for row in project.lake.rows("predictions") if row["method"] == "copy_reference"]
    folder = project.lake.root / "inbox" / NAME / "their_method"
    folder.mkdir(parents=True)
    for row in rows:
        shutil.copy(project.lake.path(row["uri"]), folder / f"{row['clip_id']}.mp4")
    assert not _requests(project)  # somebody may still be copying
    for path in (folder, *folder.iterdir()):
        os.utime(path, (1e9, 1e9))
    (request,) = _requests(project)
    assert str(request.partition_key) == str(model_partition(NAME, "their_method:imported:0"))
    project.instance.add_dynamic_partitions("model", ["their_method:imported:0"])
    execute(project.instance, "animate", request.partition_key, request.run_config)
    where = "from scores join predictions p using (prediction_id, clip_id) where"
    floor, theirs = (query(project.lake, f"select metric, sum(sum) s {where} p.method = '{m}' group by 1 order by 1").to_pylist()
                     for m in ("copy_reference", "their_method"))  # fmt: skip
    assert floor == theirs
    assert query(project.lake, f"select distinct scores.lossy {where} p.method = 'their_method'").to_pylist() == [{"lossy": True}]


def _requests(project: Project) -> list[dg.RunRequest]:
    found = jobs.new_predictions(dg.build_sensor_context(instance=project.instance))
    return [r for r in getattr(found, "run_requests", None) or [] if "their_method" in str(r.partition_key)]


def _kill_when(folder: Path, environment: dict[str, str], ready: Path, pattern: str) -> None:
    """Start the run, wait until a file appears, kill -9 the whole process group."""
    code = f"from tests_entry import go; go({str(folder)!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not any(ready.glob(pattern)):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_kill_in_extraction_and_one_in_training_lose_and_double_nothing(tmp_path: Path, project: Project) -> None:
    (tmp_path / "tests_entry.py").write_text(_ENTRY)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "ROTOSCOPE_HOME": str(tmp_path / "lake")}
    lake = tmp_path / "lake"
    _kill_when(tmp_path, environment, lake / "delta" / "poses", "part-*.parquet")
    _kill_when(tmp_path, environment, lake / "checkpoints", f"{NAME}/*/.latents-*/*.safetensors")
    subprocess.run(
        [sys.executable, "-c", f"from tests_entry import go; go({str(tmp_path)!r})"],
        env=environment,
        cwd=ROOT,
        check=True,
        timeout=400,
        capture_output=True,
    )
    for table in ("poses", "body_masks", "faces", "hands", "densepose"):
        mine, whole = Lake(lake).read(table), project.lake.read(table)
        assert mine.drop_columns(["reason"]).equals(whole.drop_columns(["reason"])), table
    mine, whole = (place.read("checkpoints", ["stage", "digest"]).to_pylist() for place in (Lake(lake), project.lake))
    assert mine == whole  # the killed and resumed training gives the same weights, bit for bit


_ENTRY = f"""
import dagster as dg
from pathlib import Path
from assets.run import prepare, run_model
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset
import pipelines.extract as extract
extract._COMMIT_CLIPS = 1  # so that a kill falls between commits

def go(folder):
    lake = Lake(Path(folder) / "lake").create()
    Path(folder, "dagster").mkdir(exist_ok=True)
    one_at_a_time = {{"concurrency": {{"pools": {{"default_limit": 1, "granularity": "op"}}}}}}  # as in dagster.yaml
    with dg.DagsterInstance.local_temp(str(Path(folder, "dagster")), overrides=one_at_a_time) as instance:
        prepare(instance, lake, Dataset(name={NAME!r}, kind="performers", options={OPTIONS!r}), engine="serial")
        run_model(instance, lake, {NAME!r}, {MODELS[1]!r})
"""


def test_the_registered_dataset_can_be_materialized_again_by_name(project: Project) -> None:
    assert load(project.lake, NAME).options == OPTIONS
