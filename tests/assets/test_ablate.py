"""`rotoscope ablate` with a toy method under a paper's name: what is shared is trained once, a kill costs nothing, and the table says what moved."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

from assets.ablate_command import ablate as command
from assets.ablated import Outcome, Request, _longest, ablate, page_of, planned, prepared, written_table
from assets.demo import DemoPlan
from assets.partitions import model_partition
from assets.run import _code_location, prepare
from eval.training_cost import ModelCost
from models.ablations import ABLATIONS
from models.model_key import ModelKey
from models.train import checkpoint_ids, recipe_of
from pipelines.code_version import ROOT
from pipelines.errors import MissingWeightsError, UserError
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset, load, register
from tests.toy_method import JOURNAL, STEP_SECONDS, ToyMethod, toy_methods

NAME = "performers_toy"
OPTIONS = {"train_identities": 1, "test_identities": 2, "train_clips": 1, "test_clips": 1, "frames": 8}
SEEDS = (0,)
REQUEST = Request(ablation=ABLATIONS["hfca_5"], dataset=NAME, base="demo", seeds=SEEDS)


class Project:
    """A lake with drawn people, an instance, and the journal of the toy's trainings."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.lake, self.instance, self.journal = Lake(folder / "lake").create(), instance, folder / "journal"
        self.said: list[str] = []

    def run(self, request: Request = REQUEST) -> Outcome:
        """The ablation, as the command runs it."""
        self.said = []
        return ablate(self.instance, self.lake, request, self.said.append)

    def trainings(self) -> list[list[str]]:
        """[checkpoint id, stage, variant, seed] of each training that began."""
        return [line.split() for line in self.journal.read_text().splitlines()] if self.journal.exists() else []


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder = tmp_path_factory.mktemp("ablate")
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.local_temp(str(folder)) as instance:
        made = Project(folder, instance)
        patch.setenv("ROTOSCOPE_HOME", str(made.lake.root))
        patch.setenv(JOURNAL, str(made.journal))
        patch.setattr("models.methods.methods", toy_methods)
        _code_location.cache_clear()  # its resources remember the lake of whoever asked first
        prepare(instance, made.lake, Dataset(name=NAME, kind="performers", options=OPTIONS), engine="serial")
        yield made
    _code_location.cache_clear()


@pytest.fixture(scope="module")
def done(project: Project) -> Outcome:
    """The ablation after its first run."""
    assert any("3 are not" in line for line in planned(project.lake, load(project.lake, NAME), REQUEST).lines())
    return project.run()


def test_each_shared_stage_is_trained_once(project: Project, done: Outcome) -> None:
    """Three variants that all begin with one stage_1, two of them to the end: 3 stages in place of 7."""
    trained = [(stage, seed) for _, stage, _, seed in project.trainings()]
    assert sorted(trained) == sorted((stage, str(seed)) for seed in SEEDS for stage in ("stage_1", "stage_1b", "stage_2"))
    assert len(project.lake.rows("checkpoints")) == len(trained)
    assert not done.failed
    assert not done.written.not_run
    assert (done.clips, done.missing_clips) == (3 * len(SEEDS) * 2, 0)


def test_ids_follow_what_trains_and_not_the_name(project: Project, done: Outcome) -> None:
    dataset = load(project.lake, NAME)
    ids = {variant: checkpoint_ids(project.lake, dataset, ModelKey(method="hfca", variant=variant, seed=0))
           for variant in ("demo", "demo-no_stode", "demo-temporal_only", "demo-no_ipm")}  # fmt: skip
    assert ids["demo"] == ids["demo-temporal_only"]
    assert ids["demo-no_stode"] == {"stage_1": ids["demo"]["stage_1"]}
    assert not set(ids["demo-no_ipm"].values()) & set(ids["demo"].values())  # stage_1 differs, and so everything behind it
    other_seed = checkpoint_ids(project.lake, dataset, ModelKey(method="hfca", variant="demo", seed=1))
    assert not set(other_seed.values()) & set(ids["demo"].values())
    assert recipe_of("hfca", "demo", "stage_2") == recipe_of("hfca", "demo-temporal_only", "stage_2")


def test_a_stage_that_a_variant_lacks_says_so_and_stops_nothing(project: Project, done: Outcome) -> None:
    """It is materialized with words, and with the data version of the network that predictions are made with."""
    short = model_partition(NAME, "hfca:demo-no_stode:0")
    versions = {stage: _newest(project, stage, short) for stage in ("stage_1", "stage_1b", "stage_2", "stage_4")}
    for stage in ("stage_1b", "stage_2", "stage_4"):
        said = versions[stage].metadata["no such stage"].value
        assert said == f"hfca:demo-no_stode has no {stage}, so nothing was trained here; it has stage_1"
        assert versions[stage].tags["dagster/data_version"] == versions["stage_1"].tags["dagster/data_version"]
    assert _newest(project, "scores", short)
    whole = _newest(project, "stage_2", model_partition(NAME, "hfca:demo-temporal_only:0"))
    assert whole.metadata["reused"].value is True
    assert whole.metadata["trained_for"].value == "hfca:demo"


def _newest(project: Project, asset: str, partition: str) -> dg.AssetMaterialization:
    records = project.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[str(partition)]), limit=1
    ).records
    found = records[0].asset_materialization
    assert found is not None
    return found


@pytest.mark.slow
def test_a_second_run_does_nothing_twice(project: Project, done: Outcome) -> None:
    before, version = project.trainings(), project.lake.version("checkpoints")
    clips = {path: path.stat().st_mtime_ns for path in (project.lake.root / "generated" / NAME).rglob("*.mp4")}
    numbers = project.lake.read("scores")
    again = project.run()
    assert project.trainings() == before
    assert project.lake.version("checkpoints") == version
    assert {path: path.stat().st_mtime_ns for path in clips} == clips
    assert project.lake.read("scores").equals(numbers)
    assert any("nothing to train" in line for line in project.said)
    assert again.written.study.differences == done.written.study.differences


def test_only_what_differs_is_planned_for_the_next_table_and_then_trained(project: Project, done: Outcome) -> None:
    next_table = Request(ablation=ABLATIONS["hfca_3"], dataset=NAME, base="demo", seeds=SEEDS)
    plan = planned(project.lake, load(project.lake, NAME), next_table)
    assert plan.lines()[0] == "2 models; 3 stages are trained already, 3 are not"
    assert {model for stage in plan.missing for model in stage.models} == {"hfca:demo-no_ipm:0"}
    assert all(stage.seconds is not None for stage in plan.missing)  # now there is something to go by


def test_the_table_keeps_the_papers_numbers_and_ours_apart(project: Project, done: Outcome) -> None:
    page = page_of(project.lake, REQUEST)
    rows = list(csv.DictReader(page.with_suffix(".csv").read_text(encoding="utf-8").splitlines()))
    printed = {(row["row"], row["metric"]): row["value"] for row in rows if row["source"] == "printed"}
    assert printed["STODE: w/o", "SSIM ↑"] == "0.541"
    ours = [row for row in rows if row["source"] == f"{NAME}/test/demo_standin"]
    assert {row["row"] for row in ours} == {"STODE: w/", "STODE: w/o", 'STODE: temporal modelling only ("0" row)'}
    tinted = next(row for row in ours if row["row"].startswith("STODE: temporal") and row["metric"] == "psnr")
    assert tinted["verdict"] == "worse"  # four times the tint is further from the truth on every clip and seed
    assert float(tinted["difference_high"]) < 0
    html = page.read_text(encoding="utf-8")
    assert html.index("Printed by the paper") < html.index("0.541") < html.index('class="ours"')
    assert html.count('<div class="curve">') == 3 * len(SEEDS)
    for suffix in (".md", ".tex", ".txt"):
        assert "STODE" in page.with_suffix(suffix).read_text(encoding="utf-8")


def test_what_training_took_stands_in_the_table_and_beside_the_budget(project: Project, done: Outcome) -> None:
    assert re.fullmatch(r"training took \d+ s at most \(demo(-\w+)?, seed 0\): within the 3 CPU-minutes of this size", done.longest)
    taken = {row["stage"]: row["seconds"] for row in project.lake.rows("checkpoints")}
    page = page_of(project.lake, REQUEST)
    lines = [line for line in page.with_suffix(".md").read_text(encoding="utf-8").splitlines() if line.endswith(" s |")]
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines}
    assert set(cells) == {"STODE: w/", "STODE: w/o", 'STODE: temporal modelling only ("0" row)'}
    assert cells["STODE: w/"][-1] == f"{sum(taken[stage] for stage in ('stage_1', 'stage_1b', 'stage_2')):.0f} s"
    assert cells["STODE: w/o"][1:-1] == ["–", "–"]  # one stage, shared
    assert "What training took" in page.read_text(encoding="utf-8")
    slow = ModelCost(label="STODE: w/", variant="demo", seed=0, stages={"stage_1": (9, 150.0), "stage_2": (9, 90.0)})
    assert _longest("demo", [slow]).startswith(
        "training took 240 s at most (demo, seed 0): over the 3 CPU-minutes of this size; other work"
    )
    assert _longest("paper", [slow]) == _longest("demo", []) == ""


def test_the_command_shows_lists_and_refuses(project: Project, done: Outcome) -> None:
    options = ["--paper", "hfca", "--table", "5", "--dataset", NAME, "--seeds", "0", "--base", "demo"]
    shown = _invoke(*options, "--show")
    assert shown.exit_code == 0, shown.output
    assert "STODE: w/o" in shown.output
    assert "Which metric moves" in shown.output
    plan = _invoke(*options, "--plan")
    assert "nothing to train" in plan.output
    listed = _invoke("--list", "--base", "demo").output
    assert "--paper hfca --table 3: Identity Preservation Module (Table 3)" in listed
    assert "IPM: w/o: hfca:demo-no_ipm" in listed
    assert "Ours: there is no method stable_animator yet (full)" in listed
    for wrong, said in (
        (["--paper", "hfca"], "give --paper and --table"),
        ([*options, "--seeds", "0,x"], "--seeds 0,x"),
        ([*options, "--base", "huge"], "no variant huge yet"),
        (["--paper", "hia", "--table", "2", "--dataset", NAME], "no method 'hia'"),
    ):
        refused = _invoke(*wrong)
        assert isinstance(refused.exception, UserError), wrong
        assert said in str(refused.exception)
    with pytest.raises(UserError, match="was not scored"):
        written_table(project.lake, Request(ablation=ABLATIONS["hfca_5"], dataset=NAME, base="demo", seeds=(7,)))


def test_the_demos_people_are_made_when_missing_and_seen_through_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake, made = Lake(tmp_path).create(), list[Dataset]()
    monkeypatch.setattr("assets.ablated.prepare", lambda instance, lake, dataset: made.append(register(lake, dataset)))
    monkeypatch.setattr(
        "assets.ablated.plan_demo", lambda methods: DemoPlan(dataset=_demo("dwpose_tiny", "clothing_tiny"), models=(), left_out={})
    )
    request = Request(ablation=ABLATIONS["hfca_5"], dataset="performers_dance", base="demo", seeds=(0,))
    instance = dg.DagsterInstance.ephemeral()
    prepared(instance, lake, request)
    assert made[0].extractors == ("dwpose_tiny", "clothing_tiny", "truth")
    register(lake, _demo("dwpose_tiny", "scrfd_tiny"))
    assert prepared(instance, lake, request).extractors == ("dwpose_tiny", "scrfd_tiny", "clothing_tiny", "truth")
    with pytest.raises(UserError, match="no data set 'nobody'"):
        prepared(instance, lake, Request(ablation=ABLATIONS["hfca_5"], dataset="nobody", base="demo", seeds=(0,)))


def test_a_row_whose_weights_are_not_at_hand_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking(ToyMethod):
        def weights_digest(self, variant: str) -> str:
            if variant == lacking:
                raise MissingWeightsError(f"a file of {variant} is not at hand")
            return ""

    monkeypatch.setattr("models.methods.methods", lambda: {"hfca": Lacking("hfca")})
    lacking = "demo-no_stode"
    assert REQUEST.missing() == {"STODE: w/o": "a file of demo-no_stode is not at hand"}
    assert REQUEST.labels() == ["STODE: w/", 'STODE: temporal modelling only ("0" row)']
    lacking = "demo"
    with pytest.raises(UserError, match="hfca_5 cannot be run with --base demo: a file of demo is not at hand"):
        REQUEST.labels()


def _demo(*extractors: str) -> Dataset:
    return Dataset(name="performers_dance", kind="performers", extractors=(*extractors, "truth"), training_extractor=extractors[0])


def _invoke(*arguments: str) -> object:
    return CliRunner().invoke(command, list(arguments))


_ENTRY = f"""
import sys
from pathlib import Path
import dagster as dg
import models.methods
from tests.toy_method import toy_methods
models.methods.methods = toy_methods
from assets.ablated import Request, ablate
from assets.run import prepare
from models.ablations import ABLATIONS
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset
folder = Path(sys.argv[1])
lake = Lake(folder / "lake").create()
(folder / "dagster").mkdir(exist_ok=True)
with dg.DagsterInstance.local_temp(str(folder / "dagster")) as instance:
    prepare(instance, lake, Dataset(name={NAME!r}, kind="performers", options={OPTIONS!r}), engine="serial")
    ablate(instance, lake, Request(ablation=ABLATIONS["hfca_5"], dataset={NAME!r}, base="demo", seeds={SEEDS!r}), print)
"""


@pytest.mark.slow
def test_a_killed_ablation_goes_on_and_ends_with_the_same_networks(project: Project, done: Outcome, tmp_path: Path) -> None:
    environment = {**os.environ, JOURNAL: str(tmp_path / "journal"), STEP_SECONDS: "0.3", "ROTOSCOPE_HOME": str(tmp_path / "lake")}
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _ENTRY, str(tmp_path)], cwd=ROOT, env=environment, start_new_session=True
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "journal").exists() or len((tmp_path / "journal").read_text().splitlines()) < 3:
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.0)  # into stage_2 of the first model
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    begun = [line.split()[0] for line in (tmp_path / "journal").read_text().splitlines()]
    assert len(begun) == 3
    there = {row["checkpoint_id"] for row in Lake(tmp_path / "lake").rows("checkpoints")}
    assert there == set(begun[:2])
    again = [sys.executable, "-W", "ignore", "-c", _ENTRY, str(tmp_path)]
    subprocess.run(again, cwd=ROOT, env={**environment, STEP_SECONDS: "0"}, check=True, timeout=300)
    after = [line.split()[0] for line in (tmp_path / "journal").read_text().splitlines()]
    assert after[3] == begun[2]  # the one that was cut off goes on
    assert len(after) == 3 * len(SEEDS) + 1  # and no other training begins twice
    mine, whole = (
        {row["checkpoint_id"]: row["digest"] for row in lake.rows("checkpoints")} for lake in (Lake(tmp_path / "lake"), project.lake)
    )
    assert mine == whole
    rows, log = (Lake(tmp_path / "lake").rows(table) for table in ("checkpoints", "training_log"))
    resumed = next(row for row in rows if row["checkpoint_id"] == begun[2])
    clock = max(entry["seconds"] for entry in log if entry["checkpoint_id"] == begun[2])
    assert resumed["seconds"] >= clock > 0.3  # what was trained before the kill counts, and only it was slow
