"""The truth extractor hands on exactly what was drawn."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.clip import Clip
from pipelines.errors import ClipError
from pipelines.extractors.face_embedding import TEMPLATE
from pipelines.extractors.truth import Truth
from pipelines.masks import decode_rle, unpack_array
from pipelines.performers import PerformerVideo, truth_path, write_dataset
from pipelines.performers import Truth as Annotations
from pipelines.tables import FEATURE_KEY, SPARSE, TABLES
from pipelines.video import read_video


@pytest.fixture
def video(tmp_path: Path) -> PerformerVideo:
    return write_dataset(tmp_path, identities=[1], test_identities=[], clips_per_identity=1, frames=8, size=64)[0]


def _clip(video: PerformerVideo, start: int, end: int) -> Clip:
    return Clip(
        dataset="performers_dance", clip_id="c", video_id="v", uri=str(video.path), start_frame=start, end_frame=end,
        start_pts=None, end_pts=None, time_base=Fraction(1, 24), fps=Fraction(24), width=64, height=64,
    )  # fmt: skip


def test_rows_are_the_annotations_of_the_clips_frames(video: PerformerVideo) -> None:
    rows = Truth().load("cpu")(_clip(video, 2, 7), read_video(video.path)[2:7])
    truth = Annotations.load(truth_path(video.path))
    assert set(rows) == set(Truth.tables)
    for t in range(5):
        np.testing.assert_array_equal(np.reshape(rows["poses"][t]["keypoints"], (133, 2)), truth.keypoints[2 + t])
        np.testing.assert_array_equal(decode_rle(rows["body_masks"][t]["rle"], 64, 64), truth.mask[2 + t])
        iuv = rows["densepose"][t]
        np.testing.assert_array_equal(unpack_array(iuv["iuv"], iuv["shape"], iuv["dtype"]), truth.iuv[2 + t])
    for t in range(4):
        flow = rows["flow"][t]
        np.testing.assert_array_equal(unpack_array(flow["flow"], flow["shape"], flow["dtype"]), truth.flow[2 + t].transpose(2, 0, 1))
    assert rows["flow"][4] == {"flow": None, "shape": None, "dtype": None}


def test_words_are_told_once_per_clip(video: PerformerVideo) -> None:
    rows = Truth().load("cpu")(_clip(video, 2, 5), read_video(video.path)[2:5])
    truth = Annotations.load(truth_path(video.path))
    clothing = rows["clothing"][0]
    assert clothing["names"][int(np.argmax(clothing["probabilities"]))] == str(truth.clothing)
    assert sum(clothing["probabilities"]) == 1
    assert rows["actions"][0]["action_class"] == str(truth.action)
    start, end = rows["captions"][0]["character"]
    assert rows["captions"][0]["caption"][start:end] in ("woman", "man")


def test_rows_hold_the_tables_value_columns(video: PerformerVideo) -> None:
    rows = Truth().load("cpu")(_clip(video, 0, 3), read_video(video.path)[:3])
    for table, of_table in rows.items():
        sparse = table in SPARSE
        assert len(of_table) == (1 if sparse else 3)
        values = {name for name, _ in TABLES[table].columns} - {*FEATURE_KEY, "error", "reason"} | ({"frame"} if sparse else set())
        assert all(set(row) == values for row in of_table)


def test_the_warp_takes_the_face_near_the_template(video: PerformerVideo) -> None:
    row = Truth().load("cpu")(_clip(video, 0, 1), read_video(video.path)[:1])["faces"][0]
    warp, points = np.reshape(row["warp"], (2, 3)), np.reshape(row["points"], (5, 2))
    assert np.abs(points @ warp[:, :2].T + warp[:, 2] - TEMPLATE).mean() < 12  # px of 112: a drawn face, not the mean face
    assert row["embedding"] is None
    assert row["embedding_reason"]


@pytest.mark.parametrize("damage", ["missing", "torn", "short"])
def test_truth_that_cannot_be_used_is_a_clip_error(video: PerformerVideo, damage: str) -> None:
    path, end = truth_path(video.path), 8
    if damage == "missing":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:500])
    else:
        end = 9
    frames = np.zeros((end, 64, 64, 3), np.uint8)
    with pytest.raises(ClipError) as caught:
        Truth().load("cpu")(_clip(video, 0, end), frames)
    assert caught.value.code == "missing_truth"


def test_a_crop_sees_its_part_in_its_own_pixels(video: PerformerVideo) -> None:
    clip = replace(_clip(video, 2, 4), crop=(10, 4, 40, 50), width=40, height=50)
    rows = Truth().load("cpu")(clip, read_video(video.path)[2:4, 4:54, 10:50])
    truth = Annotations.load(truth_path(video.path))
    np.testing.assert_allclose(np.reshape(rows["poses"][1]["keypoints"], (133, 2)), truth.keypoints[3] - [10, 4], atol=1e-5)
    np.testing.assert_array_equal(decode_rle(rows["body_masks"][1]["rle"], 50, 40), truth.mask[3, 4:54, 10:50])
    np.testing.assert_allclose(rows["faces"][0]["boxes"], truth.face_box[2] - [10, 4, 10, 4], atol=1e-5)
