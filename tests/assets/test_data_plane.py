"""Screening, cards, upkeep, export and forgetting, on a small data set of drawn people."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow.compute as pc
import pytest
from click.testing import CliRunner

from assets.cli import cli
from assets.retries import unfinished
from assets.run import execute, prepare
from models.training_rows import TRAIN_SPLITS, clips_of_splits
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.screen_verdicts import kept_clips
from pipelines.sources.registry import Dataset, register
from pipelines.video import probe

NAME = "performers_tiny"
DATASET = Dataset(
    name=NAME,
    kind="performers",
    options={"train_identities": 2, "test_identities": 1, "train_clips": 1, "test_clips": 1, "frames": 12, "size": 64},
)


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("plane") / "lake").create()
    prepare(instance, lake, DATASET, engine="serial")
    return lake


@pytest.fixture
def lake(prepared: Lake, tmp_path: Path) -> Lake:
    """A copy that a test may change."""
    shutil.copytree(prepared.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


def test_every_clip_is_scored_judged_and_shown(prepared: Lake) -> None:
    clips = {clip.clip_id for clip in prepared.clips(NAME)}
    assert {row["clip_id"] for row in prepared.rows("screening")} == clips
    assert {row["clip_id"] for row in prepared.rows("screening_verdicts")} == clips
    pages = [path.name for path in (prepared.root / "reports").iterdir()]
    assert any(name.startswith(f"screening-{NAME}") for name in pages)
    assert "Apache-2.0" in (prepared.root / "reports" / f"{NAME}_card.md").read_text()


def test_a_rule_decides_only_where_the_data_set_names_it(lake: Lake) -> None:
    everything = clips_of_splits(lake, DATASET, TRAIN_SPLITS)
    strict = replace(DATASET, screening="strict")
    with pytest.raises(UserError, match="run the screening step with this rule first"):
        clips_of_splits(lake, strict, TRAIN_SPLITS)
    from pipelines.screen_verdicts import verdicts_into

    verdicts_into(lake, NAME, strict.rule)
    kept = kept_clips(lake, NAME, strict.rule)
    assert {clip.clip_id for clip in clips_of_splits(lake, strict, TRAIN_SPLITS)} == kept & {clip.clip_id for clip in everything}
    assert len(kept) < len(everything)  # 64 px are under the strict rule's short side


def test_upkeep_changes_no_row(lake: Lake, instance: dg.DagsterInstance) -> None:
    before = lake.read("poses")
    settings = {"resources": {"lake": {"config": {"root": lake.address}}}, "ops": {"vacuumed_tables": {"config": {"retention_days": 0.0}}}}
    execute(instance, "maintain", config=settings)
    assert lake.read("poses").equals(before)
    assert len(lake.files("poses")) == 1


def test_clips_are_exported_with_their_frames(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTOSCOPE_HOME", lake.address)
    clip = lake.clips(NAME)[0]
    done = CliRunner().invoke(cli, ["export-clips", NAME, "--output", str(tmp_path / "out"), "--clip", clip.clip_id])
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"{clip.clip_id}.mp4"]
    assert probe(tmp_path / "out" / f"{clip.clip_id}.mp4").frames == clip.num_frames


def test_what_is_forgotten_stays_forgotten(lake: Lake, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROTOSCOPE_HOME", lake.address)
    clip = lake.clips(NAME)[0]
    done = CliRunner().invoke(cli, ["forget", clip.video_id, "--yes"])
    assert done.exit_code == 0, done.output
    assert "forgot 1 videos, 1 clips" in done.output
    for table in ("clips", "poses", "screening", "screening_faces", "screening_verdicts"):
        assert not lake.rows(table, pc.field("clip_id") == clip.clip_id), table
    with pytest.raises(UserError, match="failed_share"):  # one of three videos failed: over the limit
        prepare(instance, lake, DATASET, engine="serial")
    prepare(instance, lake, replace(DATASET, failed_share_limit=0.5), engine="serial")
    rows = lake.rows("videos", pc.field("video_id") == clip.video_id)
    assert [(row["status"], row["code"]) for row in rows] == [("failed", "removed")]
    assert clip.clip_id not in {other.clip_id for other in lake.clips(NAME)}


def test_only_what_may_come_later_is_tried_again(lake: Lake) -> None:
    register(lake, DATASET)
    row = {"dataset": NAME, "uri": "x", "status": "failed", "code": "not_downloaded"}
    lake.write("videos", [{**row, "video_id": "private", "availability": "private"}])
    assert unfinished(lake) == []
    lake.write("videos", [{**row, "video_id": "throttled", "availability": "other"}])
    assert unfinished(lake) == [NAME]
