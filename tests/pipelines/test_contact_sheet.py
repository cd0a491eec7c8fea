"""The contact sheet shows what was extracted, and never breaks."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.contact_sheet import _CAPTION, _TILE, contact_sheet
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.masks import encode_rle
from pipelines.video import encode_video

FRAMES, HEIGHT, WIDTH = 4, 64, 96
KEY = {"dataset": "d", "extractor": "e", "version": 1, "weights_digest": "w"}


def _clip_row(clip_id: str, uri: str, **status: Any) -> dict[str, Any]:
    row = {"dataset": "d", "clip_id": clip_id, "video_id": f"{clip_id}.mp4", "uri": uri, "width": WIDTH, "height": HEIGHT}
    rate = {"time_base_num": 1, "time_base_den": 25, "fps_num": 25, "fps_den": 1}
    return {**row, **rate, "start_frame": 0, "end_frame": FRAMES, "status": "ok", **status}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A good clip, one whose extraction failed, one whose video is gone, one without rows, one that was dropped."""
    lake = Lake(tmp_path / "lake").create()
    video = lake.root / "videos" / "a.mp4"
    encode_video(video, np.full((FRAMES, HEIGHT, WIDTH, 3), 90, np.uint8), Fraction(25))
    files = {"a": "videos/a.mp4", "b": "videos/a.mp4", "c": "videos/gone.mp4", "d": "videos/a.mp4"}
    dropped = _clip_row("e", "", status="dropped", code="too_short", reason="2 frames")
    lake.write("clips", [*(_clip_row(clip, uri) for clip, uri in files.items()), dropped])
    points = np.random.default_rng(0).uniform(10, 60, (133, 2)).astype(np.float32)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[10:50, 70:90] = True
    for clip in ("a", "c"):
        keys = [{**KEY, "clip_id": clip, "frame": frame} for frame in range(FRAMES)]
        lake.write("poses", [{**key, "keypoints": points.ravel().tolist(), "scores": [1.0] * 133} for key in keys])
        lake.write("body_masks", [{**key, "rle": encode_rle(mask), "height": HEIGHT, "width": WIDTH} for key in keys])
        lake.write("faces", [{**key, "boxes": [70.0, 2.0, 92.0, 9.0]} for key in keys])
        lake.write("hands", [{**key, "boxes": [0.0] * 4 + [2.0, 50.0, 20.0, 62.0], "valid": [False, True]} for key in keys])
    lake.write("poses", [{**KEY, "clip_id": "b", "frame": -1, "error": "no_person", "reason": "nobody"}])
    return lake


def _tiles(path: Path, columns: int) -> list[np.ndarray]:
    sheet = np.array(Image.open(path).convert("RGB"))
    rows, width = sheet.shape[0] // (_TILE + _CAPTION), sheet.shape[1] // _TILE
    assert width == columns
    return [np.asarray(tile) for row in np.vsplit(sheet, rows) for tile in np.hsplit(row, width)]


def test_good_clips_show_frames_and_the_others_a_reason(lake: Lake, tmp_path: Path) -> None:
    path = contact_sheet(lake, "d", "e", tmp_path / "out" / "sheet.png", columns=3, frames_per_clip=2)
    tiles = _tiles(path, 3)
    assert len(tiles) == 6
    failed = [tuple(tile[5, 5]) == (70, 20, 20) for tile in tiles]
    assert failed == [False, False, True, True, True, True]  # a, a, b failed, c gone, d without rows, e dropped


def test_skeleton_mask_and_boxes_are_drawn(lake: Lake, tmp_path: Path) -> None:
    tile = _tiles(contact_sheet(lake, "d", "e", tmp_path / "sheet.png", columns=3, frames_per_clip=2), 3)[0]
    colours = {tuple(colour) for colour in tile.reshape(-1, 3).tolist()}
    for drawn in ((255, 220, 0), (255, 80, 200), (255, 255, 255)):  # face box, right hand box, mask and face points
        assert drawn in colours
    assert (0, 255, 120) not in colours  # the left hand has no box
    assert (tile.max(axis=-1) - tile.min(axis=-1) > 100).sum() > 300  # coloured limbs on grey


def test_many_clips_are_thinned_out(lake: Lake, tmp_path: Path) -> None:
    sheet = contact_sheet(lake, "d", "e", tmp_path / "sheet.jpg", columns=4, frames_per_clip=1, most_clips=2)
    assert len(_tiles(sheet, 4)) == 4  # one row: the first clip, the last clip, two blanks


def test_a_data_set_without_clips_and_an_odd_name_are_the_user_s_errors(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no clips"):
        contact_sheet(lake, "nothing", "e", tmp_path / "sheet.png")
    with pytest.raises(UserError, match=r"\.jpg or \.png"):
        contact_sheet(lake, "d", "e", tmp_path / "sheet.bmp")
