"""YOLOX boxes: against rtmlib on the same graph, against COCO's boxes with a real network, and through clips."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.random_networks import yolox_graph
from pipelines.boxes import People, iou
from pipelines.clip import Frames
from pipelines.errors import MissingWeightsError
from pipelines.extractors.person_box import PeopleFinder, PersonBox, Yolox, largest_track, person_rows
from pipelines.tables import TABLES
from tests.small_clips import clip_of


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.delenv("ROTOSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def _frames(count: int, height: int = 90, width: int = 160, seed: int = 0) -> Frames:
    """Blurred noise: smooth pictures, so that resizing keeps something for the networks to see."""
    import cv2

    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in noise])


def _image(path: Path) -> Frames:
    from PIL import Image

    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (128, 128), (60, 60), (700, 333)])
def test_boxes_are_rtmlib_s_on_the_same_graph(tmp_path: Path, shape: tuple[int, int]) -> None:
    rtmlib = pytest.importorskip("rtmlib")
    path = yolox_graph(tmp_path / "yolox.onnx", (128, 128), seed=3)
    oracle = rtmlib.YOLOX(str(path), model_input_size=(128, 128), nms_thr=0.45, score_thr=0.3)
    frames = _frames(3, *shape)
    for image, (boxes, scores) in zip(frames, Yolox(path)(frames), strict=True):
        expected = oracle(np.ascontiguousarray(image[..., ::-1]))  # rtmlib takes BGR
        assert len(boxes) > 5
        np.testing.assert_allclose(boxes, expected, atol=1e-3)
        assert (scores > 0.3).all()
        assert (np.diff(scores) <= 0).all()


def test_only_people_are_kept_of_many_classes(tmp_path: Path) -> None:
    rtmlib = pytest.importorskip("rtmlib")
    path = yolox_graph(tmp_path / "yolox.onnx", (128, 128), classes=4)
    oracle = rtmlib.YOLOX(str(path), model_input_size=(128, 128), nms_thr=0.45, score_thr=0.3, det_mode="multiclass")
    frames = _frames(2)
    for image, (boxes, _) in zip(frames, Yolox(path)(frames), strict=True):
        expected, classes = oracle(np.ascontiguousarray(image[..., ::-1]))
        assert 0 < len(boxes) < len(expected)
        np.testing.assert_allclose(boxes, expected[classes == 0], atol=1e-3)


class _Seen:
    """Stands where the session is and keeps what it was given."""

    outputs = ("output",)
    size = (64, 64)

    def __init__(self, raw: np.ndarray | None = None) -> None:
        self.images: list[np.ndarray] = []
        self.raw = np.zeros((84, 85), np.float32) if raw is None else raw

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        self.images.append(images)
        return [np.stack([self.raw] * len(images))]


def test_the_network_gets_blue_first_0_to_255_and_grey_padding(tmp_path: Path) -> None:
    yolox = Yolox(yolox_graph(tmp_path / "yolox.onnx", (64, 64)))
    yolox._session = seen = _Seen()  # type: ignore[assignment]
    red = np.zeros((2, 32, 64, 3), np.uint8)
    red[..., 0] = 200
    assert [len(boxes) for boxes, _ in yolox(red)] == [0, 0]
    (images,) = seen.images
    assert images.shape == (2, 3, 64, 64)
    assert images[0, :, 5, 5].tolist() == [0, 0, 200]
    assert images[0, :, 60, 5].tolist() == [114] * 3


def test_a_planted_person_is_where_the_cell_and_stride_say(tmp_path: Path) -> None:
    """Cell (x 2, y 1) of stride 16 with offset 0.5 and log sides log 2, log 3; the canvas is the frame at half size."""
    raw = np.zeros((84, 85), np.float32)
    raw[64 + 1 * 4 + 2, :6] = [0.5, 0.5, np.log(2), np.log(3), 0.9, 0.8]
    raw[3, [4, 9]] = 0.99  # another class, in another cell
    yolox = Yolox(yolox_graph(tmp_path / "yolox.onnx", (64, 64)))
    yolox._session = _Seen(raw)  # type: ignore[assignment]
    ((boxes, scores),) = yolox(np.zeros((1, 128, 128, 3), np.uint8))
    centre, half = np.array([2.5, 1.5]) * 16, np.array([2, 3]) * 16 / 2
    np.testing.assert_allclose(boxes, [np.concatenate([centre - half, centre + half]) * 2], rtol=1e-5)
    np.testing.assert_allclose(scores, [0.72], rtol=1e-5)


def _walker(calls: list[int]):  # type: ignore[no-untyped-def]
    """A detector whose person stands at x = 4 times the frame's grey level; counts the frames it saw."""

    def detect(frames: Frames) -> list[tuple[np.ndarray, np.ndarray]]:
        calls.append(len(frames))
        left = frames[:, 0, 0, 0].astype(np.float32) * 4
        return [(np.array([[x, 0, x + 40, 80]], np.float32), np.array([0.9], np.float32)) for x in left]

    return detect


def test_frames_are_batched_and_a_clip_is_detected_once(tmp_path: Path) -> None:
    frames = np.broadcast_to(np.arange(11, dtype=np.uint8)[:, None, None, None], (11, 90, 160, 3)).copy()
    calls: list[int] = []
    find = PeopleFinder(_walker(calls), every=1)
    people = find(frames, 4)
    assert calls == [4, 4, 3]
    assert find(frames, 4) is people  # the second extractor of the same clip
    assert calls == [4, 4, 3]
    np.testing.assert_array_equal(find(frames.copy(), 2)[5].boxes, people[5].boxes)
    assert calls[3:] == [2] * 5 + [1]


def test_detection_in_every_fourth_frame_follows_the_same_person(tmp_path: Path) -> None:
    frames = np.broadcast_to(np.arange(11, dtype=np.uint8)[:, None, None, None], (11, 90, 160, 3)).copy()
    calls: list[int] = []
    sparse = PeopleFinder(_walker(calls), every=4)(frames, 16)
    assert calls == [4]  # frames 0, 4, 8 and the last
    for full, some in zip(PeopleFinder(_walker([]), every=1)(frames, 16), sparse, strict=True):
        np.testing.assert_allclose(full.boxes, some.boxes, atol=1e-3)
        np.testing.assert_array_equal(full.tracks, some.tracks)


def test_the_subject_is_large_and_persistent_not_first() -> None:
    small, large = (0.0, 0.0, 10.0, 20.0), (50.0, 0.0, 90.0, 80.0)
    people = [_people({0: small, 1: large}), _people({1: large}), _people({0: small}), _people({})]
    assert largest_track(people) == 1
    rows = person_rows(people, 1)
    assert [row["subject"] for row in rows] == [1, 0, -1, -1]
    assert rows[3] == {"boxes": [], "box_scores": [], "tracks": [], "subject": -1}
    assert largest_track([_people({})]) == -1


def _people(boxes: dict[int, tuple[float, float, float, float]]) -> People:
    values = np.array(list(boxes.values()), np.float32).reshape(-1, 4)
    return People(values, np.ones(len(boxes), np.float32), np.array(list(boxes), np.int32))


def _with_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights" / "person_box").mkdir(parents=True)
    yolox_graph(tmp_path / "weights" / "person_box" / "yolox_l.onnx", (64, 64))
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path / "weights"))


def test_rows_fit_the_table_and_do_not_depend_on_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_weights(tmp_path, monkeypatch)
    frames = _frames(5)
    extractor = PersonBox()
    rows = extractor.load("cpu")(clip_of(frames), frames)["person_boxes"]
    one = replace(extractor, batch_frames=1).load("cpu")(clip_of(frames), frames.copy())["person_boxes"]
    assert len(rows) == 5
    for a, b in zip(rows, one, strict=True):
        np.testing.assert_allclose(a["boxes"], b["boxes"], atol=1e-2)
        assert a["tracks"] == b["tracks"]
    columns = TABLES["person_boxes"].schema
    key = {"dataset": "d", "clip_id": "c", "extractor": "e", "version": 1, "weights_digest": ""}
    table = pa.Table.from_pylist([{**key, "frame": t, **row} for t, row in enumerate(rows)], schema=columns)
    assert table.column("tracks").null_count == 0


def test_the_digest_covers_what_changes_rows_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingWeightsError, match="yolox_l"):
        PersonBox().weights_digest()
    _with_weights(tmp_path, monkeypatch)
    digest = PersonBox().weights_digest()
    assert digest == PersonBox(batch_frames=2).weights_digest()
    assert digest != PersonBox(every=5).weights_digest()


# --- a real network --------------------------------------------------------------------------------------------------


def test_boxes_agree_with_coco_s(media: Path, weights_dir: Path) -> None:
    """Measured: IoU 0.91, 0.87, 0.85 for the three annotated people who are not 10 px wide."""
    truth = json.loads((media / "annotated" / "coco_wholebody.json").read_text())
    yolox = Yolox(weights_dir / "yolox_nano.onnx")
    for image in truth["images"]:
        ((boxes, _),) = yolox(_image(media / "annotated" / image["file_name"])[None])
        people = [a for a in truth["annotations"] if a["image_id"] == image["id"] and a["num_keypoints"]]
        expected = np.array([a["bbox"] for a in people], np.float32)
        expected[:, 2:] += expected[:, :2]
        assert len(boxes) == len(people)
        assert iou(expected, boxes).max(axis=1).min() > 0.8


def test_a_dancer_is_one_track_all_through(media: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.video import read_video

    shutil.copy(weights_dir / "yolox_nano.onnx", tmp_path)
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    frames = read_video(media / "videos" / "juggle_fullbody.mp4")[:21]
    extractor = PersonBox(role="person_box_small")
    rows = extractor.load("cpu")(clip_of(frames), frames)["person_boxes"]
    assert {row["tracks"][row["subject"]] for row in rows} == {rows[0]["tracks"][rows[0]["subject"]]}
    sparse = replace(extractor, every=5).load("cpu")(clip_of(frames), frames)["person_boxes"]
    subjects = [[np.array(row["boxes"], np.float32).reshape(-1, 4)[row["subject"]] for row in part] for part in (rows, sparse)]
    overlap = [iou(a[None], b[None])[0, 0] for a, b in zip(*subjects, strict=True)]
    assert min(overlap) > 0.7  # moving boxes between detections stays on the person
