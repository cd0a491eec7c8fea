"""Extractors against the truth in a lake: exact rows are exactly right, shifted ones are off by the shift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.accuracy_section import accuracy_rows
from eval.extractor_accuracy import accuracy_text, extractor_accuracy
from pipelines.errors import UserError
from pipelines.extractors.clothing import NAMES
from pipelines.lake import Lake
from pipelines.masks import encode_rle, pack_array

T, SIDE = 4, 64


def _clip(clip: str, subject: str) -> dict[str, Any]:
    return {"dataset": "d", "clip_id": clip, "video_id": clip, "uri": f"videos/{clip}.mp4", "split": "test", "subject": subject, "start_frame": 0,
            "end_frame": T, "fps_num": 24, "fps_den": 1, "width": SIDE, "height": SIDE, "status": "ok"}  # fmt: skip


def _rows(clip: str, extractor: str, shift: float, embedding: Any) -> dict[str, list[dict[str, Any]]]:
    generator = np.random.default_rng(0)
    keypoints, scores = generator.uniform(10, 50, (133, 2)) + np.array([shift, 0]), np.ones(133)
    scores[0] = 0.5  # hidden: not judged
    mask = np.zeros((SIDE, SIDE), bool)
    mask[10:50, 20 + int(shift) : 40 + int(shift)] = True
    iuv = np.zeros((SIDE, SIDE, 3), np.uint8)
    iuv[mask] = (3, 100, 100 + int(5 * shift))
    flow = np.zeros((2, SIDE, SIDE), np.float16) + np.float16(shift)
    packed_iuv, iuv_shape, iuv_type = pack_array(iuv)
    packed, shape, kind = pack_array(flow)
    key = {"dataset": "d", "clip_id": clip, "extractor": extractor, "version": 1, "weights_digest": "0" * 64, "error": None}
    five = np.array([[20, 20], [30, 20], [25, 25], [21, 30], [29, 30]]) + np.array([shift, 0])
    chances = np.full(12, 0.05)
    chances[0 if shift < 2 else 1] = 0.5
    dense = [{**key, "frame": t} for t in range(T)]
    return {
        "poses": [{**k, "keypoints": keypoints.ravel().tolist(), "scores": scores.tolist()} for k in dense],
        "body_masks": [{**k, "rle": encode_rle(mask), "height": SIDE, "width": SIDE, "area_px": int(mask.sum())} for k in dense],
        "densepose": [{**k, "iuv": packed_iuv, "shape": iuv_shape, "dtype": iuv_type} for k in dense],
        "flow": [{**k, "flow": packed if k["frame"] < T - 1 else None, "shape": shape, "dtype": kind} for k in dense],
        "clothing": [{**key, "frame": 0, "names": list(NAMES), "probabilities": chances.tolist()}],
        "faces": [{**k, "boxes": [15.0, 15.0, 35.0, 35.0], "box_scores": [1.0], "points": five.ravel().tolist(), "subject": 0,
                   "embedding": embedding} for k in dense],
    }  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path).create()
    people = {"a": [1.0, 0.1], "b": [0.1, 1.0]}
    lake.write("clips", [_clip("1", "a"), _clip("2", "a"), _clip("3", "b")])
    rows: dict[str, list[dict[str, Any]]] = {}
    for clip, person in (("1", "a"), ("2", "a"), ("3", "b")):
        for extractor, shift in (("truth", 0.0), ("exact", 0.0), ("shifted", 2.0)):
            for table, made in _rows(clip, extractor, shift, None if extractor == "truth" else people[person]).items():
                rows.setdefault(table, []).extend(made)
    for table, made in rows.items():
        lake.write(table, made)
    return lake


def _values(lake: Lake) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["method"], row["metric"]): row for row in extractor_accuracy(lake, dataset="d", split="test")}


def test_exact_rows_are_right_and_shifted_ones_are_off_by_the_shift(lake: Lake) -> None:
    values = _values(lake)
    exact = {name: row["value"] for (extractor, name), row in values.items() if extractor == "exact"}
    for name in ("keypoint_error", "uv_error", "flow_epe_body", "flow_epe_background", "face_point_error"):
        assert exact.pop(name) == 0
    assert set(exact.values()) == {1.0}
    assert len(exact) == 10
    assert values["shifted", "keypoint_error"]["value"] == pytest.approx(100 * 2 / 40)  # 2 px of a body of 40 px
    assert values["shifted", "mask_iou"]["value"] == pytest.approx(18 / 22)
    assert values["shifted", "flow_epe_body"]["value"] == pytest.approx(2 * 2**0.5)
    assert values["shifted", "face_point_error"]["value"] == pytest.approx(100 * 2 / 20)
    assert values["shifted", "clothing_accuracy"]["value"] == 0
    assert values["shifted", "uv_error"]["value"] == pytest.approx(10 / 2 / 255)


def test_rows_carry_clips_frames_and_an_interval_and_are_written(lake: Lake) -> None:
    row = _values(lake)["shifted", "keypoint_error"]
    assert (row["clips"], row["frames"]) == (3, 3 * T)
    assert row["low"] <= row["value"] <= row["high"]
    assert "few clips" in row["note"]
    stored = {(r["method"], r["metric"]): r["value"] for r in lake.rows("benchmark")}
    assert stored["shifted", "keypoint_error"] == pytest.approx(row["value"])
    assert "keypoint error" in accuracy_text([row])


def test_failed_clips_are_counted_not_judged(lake: Lake) -> None:
    failed = [{**row, "extractor": "exact", "keypoints": None, "scores": None, "error": "no_person", "reason": "nobody"}
              for row in _rows("3", "exact", 0.0, None)["poses"]]  # fmt: skip
    lake.write("poses", failed)
    row = _values(lake)["exact", "oks"]
    assert row["clips"] == 2
    assert "1 clips failed" in row["note"]


def test_without_truth_there_is_nothing_to_judge(lake: Lake) -> None:
    with pytest.raises(UserError, match="truth"):
        extractor_accuracy(lake, dataset="d", split="train")


def test_the_page_shows_each_extractor_with_its_columns_in_order(lake: Lake) -> None:
    assert accuracy_rows(lake, "d", "test") == []
    extractor_accuracy(lake, dataset="d", split="test")
    rows = accuracy_rows(lake, "d", "test")
    assert [row.extractor for row in rows] == sorted(row.extractor for row in rows)
    exact = {row.what: row for row in rows if row.extractor == "exact"}
    assert (exact["mask IoU"].value, exact["mask IoU"].better) == ("1", "higher")
    assert next(iter(exact)) == "OKS, 17 body joints"
    assert all(row.note for row in rows if not row.interval)
