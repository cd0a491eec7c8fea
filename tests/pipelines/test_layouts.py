"""The small data sets have the public ones' layout: compared with the lists as published where they are at hand."""

from __future__ import annotations

import csv
import re
import urllib.request
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.sources.frame_folder import image_files
from pipelines.sources.tiktok import sequence_ids
from tests.layouts.people import draw, landscape, portrait
from tests.layouts.server import served
from tests.layouts.ted_talks import COLUMNS, Talk, TedTalks, write_ted_talks
from tests.layouts.tiktok import write_tiktok
from tests.layouts.ubc_fashion import NAMES, write_ubc_fashion, write_url_lists

TALKS = {"VM6HZqQKhok": Talk(identity=1, partition="train", ranges=((0, 9), (12, 20))), "4E_1AB1rsSw": Talk(identity=2, partition="test", ranges=((3, 12),))}  # fmt: skip
ID = re.compile(r"[\w-]{11}#\d{6}#\d{6}")
BOX = re.compile(r"\d+-\d+-\d+-\d+")


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> TedTalks:
    return write_ted_talks(tmp_path_factory.mktemp("ted"), TALKS, size=64)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _is_committed_layout(rows: list[dict[str, str]]) -> None:
    assert rows
    assert all(tuple(row) == COLUMNS and ID.fullmatch(row["video_id"]) and BOX.fullmatch(row["bbox"]) for row in rows)
    assert {(row["start"], row["end"], row["fps"], row["partition"]) for row in rows} == {("0", "0", "10.0", "train")}


def test_the_committed_ted_list_is_broken_as_the_published_one(talks: TedTalks) -> None:
    _is_committed_layout(_rows(talks.committed))


def test_the_published_ted_list_has_that_layout(media: Path) -> None:
    rows = _rows(media / "metadata" / "ted-metadata.csv")
    _is_committed_layout(rows)
    assert len(rows) == 1320


def test_the_full_ted_list_names_ranges_and_boxes_of_its_talks(talks: TedTalks) -> None:
    rows = _rows(talks.ted384)
    assert [(row["video_id"], int(row["start"]), int(row["end"]), row["partition"]) for row in rows] == [
        ("VM6HZqQKhok", 0, 9, "train"),
        ("VM6HZqQKhok", 12, 20, "train"),
        ("4E_1AB1rsSw", 3, 12, "test"),
    ]
    with av.open(str(talks.videos / "VM6HZqQKhok.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames, stream.average_rate) == (96, 64, 20, 24)
    assert {(row["bbox"], row["width"], row["height"]) for row in rows} == {("32-0-96-64", "96", "64")}


def test_ids_of_the_published_tiktok_list_are_the_sequences(media: Path) -> None:
    assert {row["folder_name"] for row in _rows(media / "metadata" / "TikTok_info.csv")} == sequence_ids("1-340")


def test_asset_names_are_as_in_the_published_ubc_list(media: Path) -> None:
    published = {row["folder_name"] for row in _rows(media / "metadata" / "UBC_test_info.csv")}
    assert all(re.fullmatch(r"[\w+-]{11}", name) for name in published)
    assert all(re.fullmatch(r"[\w+-]{11}", name) for name in NAMES)


def test_listed_urls_are_served(tmp_path: Path) -> None:
    made = write_ubc_fashion(tmp_path, {"train": [1, 2], "test": [3]}, frames=3)
    with served(made.served) as host:
        write_url_lists(made, host)
        urls = {path.stem: path.read_text().splitlines() for path in (made.train, made.test)}
        assert {name: len(lines) for name, lines in urls.items()} == {"fashion_train": 2, "fashion_test": 1}
        for url in [*urls["fashion_train"], *urls["fashion_test"]]:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.headers["Content-Type"] == "video/mp4"
                assert answer.read() == (made.served / "images" / "I" / url.rsplit("/", 1)[1]).read_bytes()


def test_frames_masks_and_maps_have_the_same_names(tmp_path: Path) -> None:
    root = write_tiktok(tmp_path, {"00007": 1}, frames=3)
    names = {kind: [path.name for path in image_files(root / "00007" / kind)] for kind in ("images", "masks", "densepose")}
    assert all(found == ["0001.png", "0002.png", "0003.png"] for found in names.values())


def test_shapes_of_people() -> None:
    square = draw(1, 3, 96)
    assert portrait(square).frames.shape == (3, 96, 72, 3)
    np.testing.assert_array_equal(portrait(square).truth.mask, portrait(square).truth.iuv[..., 0] > 0)
    wide = landscape(square)
    assert wide.shape == (3, 96, 128, 3)
    np.testing.assert_array_equal(wide[:, :, 16:-16], square.frames)
