"""The UCF101 source: official splits, groups as subjects, action classes, and lists that are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources.ucf101 import TERMS, action_of, scan_ucf101
from pipelines.sources.ucf101_lists import group_of, read_lists
from tests.layouts.tiktok import as_zip
from tests.layouts.ucf101 import write_ucf101

GROUPS = {"YoYo": {1: 1, 2: 2}, "HandstandPushups": {1: 3, 2: 4}}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ucf101(tmp_path_factory.mktemp("ucf"), GROUPS, frames=4, size=72)


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "ucf101"))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake").create()


def scan(lake: Lake, place: Path, **options: Any) -> dict[str, dict[str, Any]]:
    rows = scan_ucf101(lake, "ucf101", {"folder": str(place), "accept_terms": True, **options})
    return {row["video_id"]: row for row in rows}


def test_files_have_split_subject_and_action(lake: Lake, folder: Path) -> None:
    rows = scan(lake, folder)
    assert {name: (row["status"], row["split"], row["subject"], action_of(row["annotations"])) for name, row in rows.items()} == {
        "HandstandPushups/v_HandStandPushups_g01_c01.avi": ("ok", "test", "HandstandPushups_g01", "HandstandPushups"),
        "HandstandPushups/v_HandStandPushups_g02_c01.avi": ("ok", "train", "HandstandPushups_g02", "HandstandPushups"),
        "YoYo/v_YoYo_g01_c01.avi": ("ok", "test", "YoYo_g01", "YoYo"),
        "YoYo/v_YoYo_g02_c01.avi": ("ok", "train", "YoYo_g02", "YoYo"),
    }
    row = rows["YoYo/v_YoYo_g01_c01.avi"]
    assert (row["frames"], row["width"], row["height"], row["codec"], row["container"]) == (4, 96, 72, "mpeg4", "avi")
    assert (row["licence"], row["terms_url"], row["terms_accepted"]) == (TERMS.licence, TERMS.url, True)
    lake.write("videos", list(rows.values()))  # every column fits the table
    assert lake.read("videos").num_rows == 4


def test_the_inner_folder_and_lists_named_apart_will_do(lake: Lake, folder: Path, tmp_path: Path) -> None:
    whole = scan(lake, folder)
    assert scan(lake, folder / "UCF-101") == whole  # lists beside it
    moved = Path(shutil.move(folder / "ucfTrainTestlist", tmp_path / "elsewhere"))
    assert scan(lake, folder, lists=str(moved)) == whole
    with pytest.raises(UserError, match="no ucfTrainTestlist in or beside"):
        scan(lake, folder)


def test_archive_and_zip_of_lists_are_unpacked_into_the_lake(lake: Lake, folder: Path, tmp_path: Path) -> None:
    whole = scan(lake, folder)
    archive = as_zip(folder / "UCF-101", tmp_path / "UCF101.zip")
    lists = as_zip(folder / "ucfTrainTestlist", tmp_path / "UCF101TrainTestSplits-RecognitionTask.zip")
    rows = scan_ucf101(lake, "ucf101", {"archive": str(archive), "lists": str(lists), "accept_terms": True})
    assert {row["video_id"]: row["sha256"] for row in rows} == {name: row["sha256"] for name, row in whole.items()}
    assert all(lake.path(row["uri"]).is_relative_to(lake.root / "videos" / "ucf101") for row in rows)


def test_missing_unlisted_odd_and_broken_files_are_rows(lake: Lake, folder: Path) -> None:
    classes = folder / "UCF-101"
    (classes / "YoYo" / "v_YoYo_g01_c01.avi").unlink()
    (classes / "YoYo" / "v_YoYo_g02_c01.avi").write_text("no film")
    source = classes / "HandstandPushups" / "v_HandStandPushups_g01_c01.avi"
    shutil.copy(source, classes / "YoYo" / "v_YoYo_g09_c01.avi")
    shutil.copy(source, classes / "YoYo" / "holiday.avi")
    shutil.copy(source, classes / "YoYo" / "v_Archery_g01_c01.avi")
    rows = scan(lake, folder)
    assert {name: (row["status"], row["code"]) for name, row in rows.items() if row["status"] != "ok"} == {
        "YoYo/v_YoYo_g01_c01.avi": ("failed", "truncated"),
        "YoYo/v_YoYo_g02_c01.avi": ("failed", "not_a_video"),
        "YoYo/v_YoYo_g09_c01.avi": ("dropped", "bad_annotation"),
        "YoYo/holiday.avi": ("dropped", "bad_annotation"),
        "YoYo/v_Archery_g01_c01.avi": ("dropped", "bad_annotation"),
    }
    lake.write("videos", list(rows.values()))


def test_only_the_wanted_classes(lake: Lake, folder: Path) -> None:
    for classes in (["YoYo"], "YoYo"):
        assert {row["subject"] for row in scan(lake, folder, classes=classes).values()} == {"YoYo_g01", "YoYo_g02"}


def test_a_group_in_both_lists_would_leak_people(lake: Lake, folder: Path) -> None:
    listed = folder / "ucfTrainTestlist" / "trainlist01.txt"
    with listed.open("a") as file:
        file.write("YoYo/v_YoYo_g01_c02.avi 2\n")
    with pytest.raises(UserError, match=r"1 groups are in both lists \(first: YoYo_g01\)"):
        scan(lake, folder)


LISTS: dict[str, tuple[str, Callable[[str], str], str]] = {
    "another form": ("trainlist01.txt", lambda text: text + "YoYo/yo.avi 2\n", "trainlist01.txt:3: 'YoYo/yo.avi 2' is not"),
    "a label that is none": ("trainlist01.txt", lambda text: text.replace(" 2", " two"), "is not"),
    "another label": ("trainlist01.txt", lambda text: text.replace(" 2", " 1"), "class YoYo has index 1 here and 2 in classInd.txt"),
    "an unknown class": ("testlist01.txt", lambda text: text + "Archery/v_Archery_g01_c01.avi\n", "class Archery is not in classInd.txt"),
    "a video in both": ("testlist01.txt", lambda text: text + "YoYo/v_YoYo_g02_c01.avi\n", "is listed twice"),
    "a class twice": ("classInd.txt", lambda text: text + "3 YoYo\n", "listed twice"),
    "an index twice": ("classInd.txt", lambda text: text + "2 Archery\n", "listed twice"),
    "no index": ("classInd.txt", lambda text: text + "Archery\n", "is not `<index> <Class>`"),
}


@pytest.mark.parametrize("fault", LISTS)
def test_lists_that_cannot_be_right_are_refused(lake: Lake, folder: Path, fault: str) -> None:
    name, change, said = LISTS[fault]
    path = folder / "ucfTrainTestlist" / name
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=said):
        scan(lake, folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"accept_terms": False}, "terms are not accepted .*crcv.ucf.edu.*accept_terms"),
        ({"colour": "red"}, "no option 'colour'; there are: archive, folder"),
        ({"split": "04"}, "no split '04'; there are: 01, 02, 03"),
        ({"split": "02"}, "trainlist02.txt: the list cannot be read"),
        ({"classes": ["Archery"]}, "no class 'Archery' in classInd.txt; there are: HandstandPushups, YoYo"),
        ({"classes": "YoYo,Yo"}, "no class 'Yo'"),
        ({"classes": []}, "classes is empty"),
        ({"lists": "nowhere"}, "no such folder or file"),
        ({"folder": None}, "give the option archive"),
    ],
)
def test_options_that_cannot_be_used_are_refused(lake: Lake, folder: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        scan(lake, folder, **options)


def test_a_folder_without_classes_is_refused(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="a class folder"):
        scan(lake, tmp_path / "empty")


def test_groups_and_lists(folder: Path) -> None:
    assert group_of("YoYo/v_YoYo_g07_c02.avi") == "YoYo_g07"
    assert group_of("YoYo/v_Archery_g07_c02.avi") is None
    assert group_of("v_YoYo_g07_c02.avi") is None
    assert read_lists(folder / "ucfTrainTestlist", "01").classes == {"HandstandPushups": 1, "YoYo": 2}
    assert action_of(None) is None
    assert action_of("videos/tiktok/00001") is None
