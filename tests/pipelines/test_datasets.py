"""Data sets by name: registered once, found again."""

from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources.registry import Dataset, folder_dataset, load, register, registered, source_dataset, with_free_name
from pipelines.tables import one_of


def test_two_folders_of_one_name_are_two_data_sets(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    one, two = (folder_dataset(tmp_path / place / "videos") for place in ("a", "b"))
    assert one.name == two.name
    register(lake, one)
    assert with_free_name(lake, one).name == one.name
    other = with_free_name(lake, two)
    assert other.name != one.name
    register(lake, other)
    assert with_free_name(lake, two).name == other.name


def test_a_source_is_kept_with_its_options(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    made = register(lake, source_dataset("tiktok", {"archive": "a.zip"}, ("mediapipe", "truth"), name="dance"))
    assert registered(lake) == ["dance"]
    assert load(lake, "dance") == made
    assert made.training_extractor == "mediapipe"


def test_an_unknown_source_lists_what_there_is() -> None:
    with pytest.raises(UserError, match="no source 'vine'; there are: folder, performers, tiktok"):
        Dataset(name="x", kind="vine")  # type: ignore[arg-type]


def test_a_data_set_that_loses_everything_leaves_the_others_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    row = {"video_id": "v", "uri": "v.mp4", "status": "ok"}
    lake.write("videos", [{"dataset": "one", **row}, {"dataset": "two", **row}])
    lake.delete("videos", (pc.field("dataset") == "one") & ~one_of("video_id", []))
    assert [held["dataset"] for held in lake.rows("videos")] == ["two"]
