"""Whole-body keypoints by SimCC networks: against rtmlib on the same graphs, and the faults of public extractors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.random_networks import simcc_graph, yolox_graph
from pipelines.boxes import People
from pipelines.clip import Frames
from pipelines.errors import ClipError, MissingWeightsError, UserError
from pipelines.extractors.dwpose import MOST_PEOPLE, DWPose, Subject, most_covering, pose_rows, pose_subject, subject_boxes
from pipelines.extractors.person_box import PersonBox
from pipelines.extractors.rtmpose import RTMPose, with_feet
from pipelines.extractors.simcc import NORMALISED, SimCC, box_geometry, decode, warp_box
from pipelines.keypoints import BODY, FEET
from pipelines.onnx_session import planes
from pipelines.tables import TABLES
from tests.small_clips import clip_of

SIZE = (96, 72)  # of the test's networks (height, width): the published aspect
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000  # COCO


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.delenv("ROTOSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def _frames(count: int, height: int = 120, width: int = 160) -> Frames:
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (count, 24, 32, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC) for image in noise])


def _people(boxes: dict[int, tuple[float, float, float, float]]) -> People:
    values = np.array(list(boxes.values()), np.float32).reshape(-1, 4)
    return People(values, np.ones(len(boxes), np.float32), np.array(list(boxes), np.int32))


# --- the network's own pre- and post-processing ----------------------------------------------------------------------


@pytest.mark.parametrize("box", [(20, 10, 60, 110), (5, 40, 150, 80), (-30, -20, 90, 70), (100, 60, 200, 170), (33.3, 20.7, 71.9, 99.1)])
def test_keypoints_are_rtmlib_s_on_the_same_graph(tmp_path: Path, box: tuple[float, ...]) -> None:
    """Tall, wide, and boxes that reach over the edge; through both pre- and post-processings."""
    rtmlib = pytest.importorskip("rtmlib")
    path = simcc_graph(tmp_path / "pose.onnx", SIZE)
    oracle, network = rtmlib.RTMPose(str(path), model_input_size=SIZE[::-1]), SimCC(path)
    frames, boxes = _frames(3), np.array([box] * 3, np.float32)
    points, scores = network(list(frames), boxes)
    for t in range(3):
        expected, confidence = oracle(frames[t], bboxes=boxes[t : t + 1])
        np.testing.assert_allclose(points[t], expected[0], atol=1e-3)
        np.testing.assert_allclose(scores[t], confidence[0], atol=1e-5)
    assert np.ptp(points.reshape(-1, 2), axis=0).min() > 30  # the graph looks at the picture


def test_a_maximum_maps_back_to_the_pixel_it_came_from() -> None:
    """A dot in the frame, warped to the input, found at argmax / 2, is the dot again: geometry without any network."""
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[118:123, 158:163] = 255  # centre (160, 120)
    boxes = np.array([[100, 40, 220, 190], [140, 100, 180, 140]], np.float32)
    centres, extents = box_geometry(boxes, (384, 288))
    np.testing.assert_allclose(extents[:, 0] / extents[:, 1], 288 / 384, rtol=1e-6)
    for centre, extent in zip(centres, extents, strict=True):
        crop = warp_box(frame, centre, extent, (384, 288))
        y, x = np.argwhere(crop[..., 0] > 127).mean(axis=0)
        found = np.array([x, y]) / (288, 384) * extent + centre - extent / 2
        np.testing.assert_allclose(found, (160, 120), atol=0.5)


def test_the_box_is_padded_by_a_quarter_before_it_gets_the_aspect() -> None:
    centres, extents = box_geometry(np.array([[0, 0, 30, 100], [0, 0, 100, 30]], np.float32), (384, 288))
    np.testing.assert_allclose(centres, [[15, 50], [50, 15]])
    np.testing.assert_allclose(extents, [[93.75, 125], [125, 125 / 0.75]])


def test_normalisation_is_imagenet_s_on_red_green_blue() -> None:
    red = np.zeros((1, 2, 2, 3), np.uint8)
    red[..., 0] = 255
    expected = np.array([(255 - 123.675) / 58.395, -116.28 / 57.12, -103.53 / 57.375])
    np.testing.assert_allclose(planes(red, NORMALISED)[0, :, 0, 0], expected, rtol=1e-6)


def test_points_without_score_keep_their_place_and_scores_stay_in_0_to_1() -> None:
    """Never -1: an interpolation between frames must not be pulled to the corner."""
    x, y = np.full((1, 2, 8), -3, np.float32), np.full((1, 2, 10), -3, np.float32)
    x[0, 0, 5], y[0, 0, 7] = -1, -1
    x[0, 1, 2], y[0, 1, 9] = 4, 2
    points, scores = decode(x, y)
    np.testing.assert_array_equal(points, [[[2.5, 3.5], [1, 4.5]]])
    np.testing.assert_array_equal(scores, [[0, 1]])


def test_a_graph_that_is_no_whole_body_network_is_an_error(tmp_path: Path) -> None:
    network = SimCC(simcc_graph(tmp_path / "body.onnx", SIZE, keypoints=17))
    with pytest.raises(UserError, match="no whole-body SimCC"):
        network([_frames(1)[0]], np.array([[0, 0, 50, 80]], np.float32))


# --- choosing and keeping the person ---------------------------------------------------------------------------------


def _network(scores: dict[float, float], calls: list[int] | None = None):  # type: ignore[no-untyped-def]
    """A "network": every keypoint at the box's corner, scored by the box's left edge."""

    def pose(frames: Sequence[Frames], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if calls is not None:
            calls.append(len(boxes))
        value = np.array([scores[float(box[0])] for box in boxes], np.float32)
        return np.repeat(boxes[:, None, :2], 133, axis=1), np.repeat(value[:, None], 133, axis=1)

    return pose


BYSTANDER, DANCER = (0.0, 0.0, 60.0, 90.0), (100.0, 10.0, 140.0, 80.0)


def test_the_best_body_is_the_subject_not_the_first_or_largest_detection() -> None:
    frames = np.zeros((4, 100, 160, 3), np.uint8)
    people = [_people({0: BYSTANDER, 1: DANCER})] * 4
    subject = pose_subject(clip_of(frames), frames, people, _network({0.0: 0.4, 100.0: 0.8}), 3)
    assert subject.track == 1
    assert (subject.keypoints == (100, 10)).all()
    np.testing.assert_allclose(subject.scores, 0.8)


def test_one_lucky_frame_does_not_make_a_subject() -> None:
    frames = np.zeros((5, 100, 160, 3), np.uint8)
    people = [_people({0: BYSTANDER})] * 4 + [_people({0: BYSTANDER, 1: DANCER})]
    assert pose_subject(clip_of(frames), frames, people, _network({0.0: 0.5, 100.0: 0.9}), 8).track == 0


def test_a_frame_without_the_person_is_a_row_of_zeros() -> None:
    frames = np.zeros((3, 100, 160, 3), np.uint8)
    people = [_people({0: DANCER}), _people({}), _people({0: DANCER})]
    subject = pose_subject(clip_of(frames), frames, people, _network({100.0: 0.8}), 8)
    rows = pose_rows(frames, people, subject)
    assert {table: len(held) for table, held in rows.items()} == {"person_boxes": 3, "poses": 3, "hands": 3}
    assert [row["subject"] for row in rows["person_boxes"]] == [0, -1, 0]
    assert rows["poses"][1] == {"keypoints": [0.0] * 266, "scores": [0.0] * 133}
    assert rows["hands"][1]["valid"] == [False, False]
    assert rows["hands"][2]["movement_valid"] == [False, False]  # no movement out of nothing


def test_a_clip_without_people_is_no_person() -> None:
    frames = np.zeros((3, 100, 160, 3), np.uint8)
    with pytest.raises(ClipError) as error:
        pose_subject(clip_of(frames), frames, [_people({})] * 3, _network({}), 8)
    assert error.value.code == "no_person"


def test_crops_of_many_frames_share_a_call() -> None:
    frames = np.zeros((7, 100, 160, 3), np.uint8)
    calls: list[int] = []
    pose_subject(clip_of(frames), frames, [_people({0: BYSTANDER, 1: DANCER})] * 7, _network({0.0: 0.4, 100.0: 0.8}, calls), 4)
    assert calls == [4, 4, 4, 2]


def test_a_crowd_is_posed_as_far_as_it_covers_most() -> None:
    crowd = _people({i: (0.0, 0.0, 10.0 + i, 10.0) for i in range(3 * MOST_PEOPLE)})
    assert most_covering([crowd]) == list(range(3 * MOST_PEOPLE - 1, 2 * MOST_PEOPLE - 1, -1))
    assert most_covering([_people({})]) == []


# --- the merge for HIA -----------------------------------------------------------------------------------------------


def test_feet_come_from_the_second_network_and_nothing_else() -> None:
    body = Subject(0, np.ones((3, 133, 2), np.float32), np.full((3, 133), 0.5, np.float32))
    feet = np.full((2, 133, 2), 7, np.float32), np.full((2, 133), 0.9, np.float32)
    merged = with_feet(body, [0, 2], *feet)
    assert (merged.keypoints[[0, 2], FEET] == 7).all()
    assert (merged.scores[[0, 2], FEET] == np.float32(0.9)).all()
    others = np.delete(np.arange(133), np.arange(17, 23))
    assert (merged.keypoints[:, others] == 1).all()
    assert (merged.keypoints[1] == 1).all()
    assert (body.keypoints == 1).all()


def test_boxes_of_a_track_leave_out_the_frames_without_it() -> None:
    times, boxes = subject_boxes([_people({3: DANCER}), _people({}), _people({1: BYSTANDER, 3: DANCER})], 3)
    assert times == [0, 2]
    np.testing.assert_array_equal(boxes, [DANCER, DANCER])


# --- the extractors --------------------------------------------------------------------------------------------------


@pytest.fixture
def _networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    yolox_graph(folder / "yolox_l.onnx", (64, 64), seed=3)
    simcc_graph(folder / "dw-ll_ucoco_384.onnx", SIZE, seed=1)
    simcc_graph(folder / "rtmw-dw-x-l_simcc-cocktail14_270e-384x288_20231122.onnx", SIZE, seed=2)
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(folder))


@pytest.mark.usefixtures("_networks")
@pytest.mark.parametrize("extractor", [DWPose(), RTMPose()], ids=["dwpose", "rtmpose"])
def test_rows_fit_their_tables_and_do_not_depend_on_the_batch(extractor: DWPose | RTMPose) -> None:
    frames = _frames(5)
    rows = extractor.load("cpu")(clip_of(frames), frames)
    one = replace(extractor, batch_frames=1).load("cpu")(clip_of(frames), frames.copy())
    key = {"dataset": "d", "clip_id": "c", "extractor": extractor.name, "version": 1, "weights_digest": ""}
    assert set(rows) == set(extractor.tables)
    for table, held in rows.items():
        pa.Table.from_pylist([{**key, "frame": t, **row} for t, row in enumerate(held)], schema=TABLES[table].schema)
        assert len(held) == 5
    for a, b in zip(rows["poses"], one["poses"], strict=True):
        np.testing.assert_allclose(a["keypoints"], b["keypoints"], atol=1e-2)
    assert np.any([row["scores"] for row in rows["poses"]])


@pytest.mark.usefixtures("_networks")
def test_rtmpose_rows_are_its_own_with_dwpose_s_feet() -> None:
    frames = _frames(3)
    rows = RTMPose().load("cpu")(clip_of(frames), frames)
    own = DWPose(role="rtmpose").load("cpu")(clip_of(frames), frames)
    boxes = [np.array(row["boxes"], np.float32).reshape(-1, 4)[row["subject"]] for row in rows["person_boxes"]]
    from pipelines.weights import find_weights

    feet, _ = SimCC(find_weights("dwpose"))(list(frames), np.stack(boxes))
    for t in range(3):
        merged, plain = (np.array(part["poses"][t]["keypoints"]).reshape(133, 2) for part in (rows, own))
        np.testing.assert_allclose(merged[FEET], feet[t, FEET], atol=1e-2)
        np.testing.assert_array_equal(np.delete(merged, np.arange(17, 23), 0), np.delete(plain, np.arange(17, 23), 0))
        assert not np.allclose(merged[FEET], plain[FEET])


@pytest.mark.usefixtures("_networks")
def test_extractors_of_one_worker_share_the_person_detector() -> None:
    person = PersonBox()
    finder = person.finder("cpu")
    assert person.finder("cpu") is finder
    assert replace(person, batch_frames=1).finder("cpu") is finder
    assert replace(person, every=3).finder("cpu") is not finder


@pytest.mark.usefixtures("_networks")
def test_digests_differ_by_network_and_by_the_person_boxes_settings() -> None:
    digests = {DWPose().weights_digest(), RTMPose().weights_digest(), DWPose(person=PersonBox(every=2)).weights_digest()}
    assert len(digests) == 3
    assert DWPose(batch_frames=1, threads=2).weights_digest() in digests


@pytest.mark.parametrize("extractor", [DWPose(), RTMPose()], ids=["dwpose", "rtmpose"])
def test_missing_weights_are_named(extractor: DWPose | RTMPose) -> None:
    with pytest.raises(MissingWeightsError):
        extractor.weights_digest()


def test_keypoints_agree_with_coco_s_annotations(media: Path, weights_dir: Path) -> None:
    """OKS of DWPose on two annotated photographs; needs the published network beside the other test weights."""
    network_file, detector_file = weights_dir / "dw-ll_ucoco_384.onnx", weights_dir / "yolox_nano.onnx"
    if not network_file.exists():
        pytest.skip("ROTOSCOPE_TEST_WEIGHTS holds no dw-ll_ucoco_384.onnx")
    from PIL import Image

    from pipelines.extractors.person_box import Yolox

    truth = json.loads((media / "annotated" / "coco_wholebody.json").read_text())
    network, detect = SimCC(network_file), Yolox(detector_file)
    for image in truth["images"]:
        frame = np.array(Image.open(media / "annotated" / image["file_name"]).convert("RGB"))
        ((boxes, _),) = detect(frame[None])
        points, _ = network([frame] * len(boxes), boxes)
        for person in (a for a in truth["annotations"] if a["image_id"] == image["id"] and a["num_keypoints"]):
            assert max(_oks(found[BODY], person) for found in points) > 0.7


def _oks(points: np.ndarray, annotation: dict[str, object]) -> float:
    truth = np.array(annotation["keypoints"], float).reshape(17, 3)
    squared = ((points - truth[:, :2]) ** 2).sum(axis=1)
    similarity = np.exp(-squared / (2 * float(str(annotation["area"])) * (2 * SIGMAS) ** 2))
    return float(similarity[truth[:, 2] > 0].mean())


def test_extractors_travel_to_workers() -> None:
    import pickle

    from pipelines.extractors.faces import FaceExtractor
    from pipelines.extractors.scrfd import load_scrfd

    extractors = [DWPose(batch_frames=3), RTMPose(), PersonBox(every=4)]
    assert pickle.loads(pickle.dumps(extractors)) == extractors
    faces = FaceExtractor(name="faces_scrfd", role="face_detector", open_detector=load_scrfd)
    assert pickle.loads(pickle.dumps(faces)) == faces


@pytest.mark.usefixtures("_networks")
def test_memory_that_runs_out_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine halves batch_frames on MemoryError; it must not be turned into a failed clip on the way."""
    frames = _frames(4)
    run = DWPose().load("cpu")
    run(clip_of(frames), frames)

    def full(*_: object) -> None:
        raise MemoryError("Failed to allocate memory")

    monkeypatch.setattr(SimCC, "__call__", full)
    with pytest.raises(MemoryError):
        run(clip_of(frames), frames)
