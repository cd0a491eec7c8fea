"""Sources: every file becomes a row, with a reason where it cannot be used."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources import registry
from pipelines.sources.folder import dataset_name, find_videos, scan_folder
from pipelines.sources.scan import sha256_of
from pipelines.sources.store import scan_into
from pipelines.video import encode_video


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good videos (one of them twice), three bad ones, and files that are none."""
    place = tmp_path / "My Videos!"
    (place / "deep" / "er").mkdir(parents=True)
    (place / ".hidden").mkdir()
    rng = np.random.default_rng(0)
    for path in (place / "a.mp4", place / "deep" / "er" / "b.MP4"):
        encode_video(path.with_suffix(".mp4"), rng.integers(0, 255, (10, 64, 64, 3), np.uint8), Fraction(25))
    (place / "deep" / "er" / "b.mp4").rename(place / "deep" / "er" / "b.MP4")
    shutil.copy(place / "a.mp4", place / "z copy.mp4")
    shutil.copy(place / "a.mp4", place / ".hidden" / "secret.mp4")
    (place / "empty.mov").touch()
    (place / "words.avi").write_text("not a film")
    (place / "notes.txt").write_text("no video")
    return place


def test_a_folder_is_searched_recursively_and_bad_files_are_rows(tmp_path: Path, folder: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    rows = {row["video_id"]: row for row in scan_folder(lake, folder, "d")}
    assert {name: (row["status"], row.get("code")) for name, row in rows.items()} == {
        "a.mp4": ("ok", None),
        "deep/er/b.MP4": ("ok", None),
        "z copy.mp4": ("dropped", "duplicate"),
        "empty.mov": ("failed", "empty_file"),
        "words.avi": ("failed", "not_a_video"),
    }
    assert rows["a.mp4"]["sha256"] == sha256_of(folder / "a.mp4")
    assert "a.mp4" in rows["z copy.mp4"]["reason"]
    lake.write("videos", list(rows.values()))  # every column fits the table
    assert lake.read("videos").num_rows == 5


def test_names_of_data_sets_are_plain(folder: Path) -> None:
    assert dataset_name(folder) == "folder_my_videos"


def test_a_folder_that_is_none_or_holds_nothing_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        find_videos(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no file ends in"):
        find_videos(tmp_path)


def test_rows_of_files_that_are_gone_go(tmp_path: Path, folder: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    dataset = registry.register(lake, registry.folder_dataset(folder))
    scan_into(lake, dataset)
    (folder / "empty.mov").unlink()
    scan_into(lake, dataset)
    assert "empty.mov" not in lake.read("videos")["video_id"].to_pylist()
    assert lake.read("videos").num_rows == 4


def test_a_registered_data_set_comes_back_as_it_was(tmp_path: Path, folder: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    dataset = registry.folder_dataset(folder, ("mediapipe",), ("clip",))
    registry.register(lake, dataset)
    assert registry.load(lake, dataset.name) == dataset
    assert registry.registered(lake) == ["folder_my_videos"]
    with pytest.raises(UserError, match="folder_my_videos"):
        registry.load(lake, "another")


def test_extractors_that_are_known_already_stand_behind_new_ones(tmp_path: Path, folder: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    first, second = (registry.folder_dataset(folder, names) for names in (("mediapipe", "truth"), ("dwpose", "mediapipe")))
    assert registry.and_known_extractors(lake, first) == first
    registry.register(lake, first)
    assert registry.and_known_extractors(lake, second).extractors == ("dwpose", "mediapipe", "truth")
    assert registry.and_known_extractors(lake, first) == first


def test_the_truth_stays_behind_the_extractors_that_a_method_is_taught_by() -> None:
    """Extractors of two methods, whichever is run first: actions are a network's, not the annotation, which holds no tokens."""
    plain = registry.Dataset(name="people", kind="performers_dance", extractors=("dwpose_tiny", "truth"), training_extractor="dwpose_tiny")
    both = registry.seen_through(plain, ("dwpose_tiny", "action_tiny", "truth"))
    assert both.extractors == ("dwpose_tiny", "action_tiny", "truth")
    assert both.extractor_of("actions") == "action_tiny"
    assert registry.seen_through(both, plain.extractors) == both
    judged_by_itself = registry.Dataset(name="people", kind="performers_dance")
    assert registry.seen_through(judged_by_itself, ("dwpose_tiny",)).extractors == ("truth", "dwpose_tiny")


def test_wrong_options_of_a_source_are_users_errors(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    with pytest.raises(UserError, match="no source 'tape'"):
        registry.Dataset(name="d", kind="tape")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no option 'people'"):
        registry.scan(lake, registry.Dataset(name="d", kind="performers", options={"people": 3}))


def test_performers_are_split_by_identity_and_drawn_once(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    options = {"train_identities": 2, "test_identities": 1, "train_clips": 2, "test_clips": 1, "frames": 4}
    dataset = registry.Dataset(name="performers_x", kind="performers", options=options)
    rows = registry.scan(lake, dataset)
    subjects = {split: {row["subject"] for row in rows if row["split"] == split} for split in ("train", "test")}
    assert len(rows) == 5
    assert len(subjects["train"]) == 2
    assert not subjects["train"] & subjects["test"]
    times = {row["uri"]: lake.path(row["uri"]).stat().st_mtime_ns for row in rows}
    again = registry.scan(lake, dataset)
    assert {row["uri"]: lake.path(row["uri"]).stat().st_mtime_ns for row in again} == times
