"""Face detectors' decoding by independent restatement, the subject's face, and real faces told apart."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from itertools import combinations, product
from math import ceil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks.random_networks import scrfd_graph, simcc_graph, yolox_graph
from pipelines.clip import Frames
from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors.face_embedding import RECOGNISERS, TEMPLATE, FaceEmbedder, similarity_warp
from pipelines.extractors.faces import FaceExtractor, Faces, face_rows, subject_face
from pipelines.extractors.retinaface import RetinaFace, anchors_of, decode, load_retinaface, load_retinaface_small
from pipelines.extractors.retinaface_network import build_network, forward, load_network
from pipelines.extractors.scrfd import Scrfd, load_scrfd
from pipelines.tables import TABLES
from tests.small_clips import clip_of

SMALL = FaceExtractor(name="faces_small", role="face_detector_small", open_detector=load_retinaface_small)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    torch.set_num_threads(1)
    monkeypatch.delenv("ROTOSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def _frames(count: int, height: int, width: int) -> Frames:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def _image(path: Path) -> Frames:
    from PIL import Image

    return np.array(Image.open(path).convert("RGB"))


# --- SCRFD -----------------------------------------------------------------------------------------------------------


class _Planted:
    """In the place of the session: one face, put where SCRFD's own training targets would put it."""

    outputs = tuple("abcdefghi")

    def __init__(self, size: tuple[int, int], box: np.ndarray, points: np.ndarray) -> None:
        self.size, self.images = size, np.zeros(0)
        self._raw = [np.zeros((2 * (size[0] // s) * (size[1] // s), width), np.float32) for width in (1, 4, 10) for s in (8, 16, 32)]
        x, y = (int(value // 16) for value in (box[:2] + box[2:]) / 2)  # the cell of stride 16 that holds the centre
        for anchor in range(2):  # both anchors see it; suppression leaves the better one
            row = (y * (size[1] // 16) + x) * 2 + anchor
            corner = np.array([x, y]) * 16
            self._raw[1][row] = 0.7 + 0.2 * anchor
            self._raw[4][row] = np.concatenate([corner - box[:2], box[2:] - corner]) / 16
            self._raw[7][row] = ((points - corner) / 16).ravel()

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        self.images = images
        return [np.stack([raw] * len(images)) for raw in self._raw]


def test_a_planted_face_is_found_at_full_resolution(tmp_path: Path) -> None:
    """The 1280x960 frame is detected at 320x256; box and points are those of the frame."""
    detector = Scrfd(scrfd_graph(tmp_path / "scrfd.onnx", (256, 320)))
    box, points = np.array([100.0, 60, 180, 170]), np.array([[120.0, 90], [160, 92], [140, 110], [124, 140], [158, 141]])
    detector._session = planted = _Planted((256, 320), box, points)  # type: ignore[assignment]
    frame = np.zeros((1, 960, 1280, 3), np.uint8)
    frame[..., 0] = 255
    (faces,) = detector(frame)
    scale = 320 / 1280
    np.testing.assert_allclose(faces.boxes, box[None] / scale, rtol=1e-5)
    np.testing.assert_allclose(faces.points, points[None] / scale, rtol=1e-5)
    np.testing.assert_allclose(faces.scores, [0.9], rtol=1e-6)
    np.testing.assert_allclose(planted.images[0, :, 5, 5], [127.5 / 128, -127.5 / 128, -127.5 / 128])  # RGB
    np.testing.assert_allclose(planted.images[0, :, 250, 5], [-127.5 / 128] * 3)  # black below


def test_decoding_is_the_published_one_anchor_by_anchor(tmp_path: Path) -> None:
    size = (64, 96)
    path = scrfd_graph(tmp_path / "scrfd.onnx", size)
    detector = Scrfd(path)
    frames = _frames(2, 128, 192)
    for faces, image in zip(detector(frames), frames, strict=True):
        boxes, scores, points = _scrfd_by_hand(detector, image, size)
        assert len(faces.boxes) > 10
        np.testing.assert_allclose(faces.boxes, boxes, atol=1e-2)
        np.testing.assert_allclose(faces.scores, scores, atol=1e-5)
        np.testing.assert_allclose(faces.points, points, atol=1e-2)


def _scrfd_by_hand(detector: Scrfd, image: Frames, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One anchor at a time; suppression by torchvision on boxes grown by the last pixel."""
    import cv2
    from torchvision.ops import nms

    small = cv2.resize(image, size[::-1]).astype(np.float32)
    raw = detector._session.run(((small - 127.5) / 128).transpose(2, 0, 1)[None])
    found = []
    for level, stride in enumerate((8, 16, 32)):
        cells = [(x * stride, y * stride) for y in range(size[0] // stride) for x in range(size[1] // stride) for _ in range(2)]
        for (x, y), score, far, five in zip(cells, *(raw[level + kind][0] for kind in (0, 3, 6)), strict=True):
            left, top, right, bottom = far * stride
            box = [x - left, y - top, x + right, y + bottom]
            points = [(x + five[2 * i] * stride, y + five[2 * i + 1] * stride) for i in range(5)]
            found.append((float(score[0]), box, points))
    kept = [face for face in found if face[0] >= 0.5]
    boxes, scores = np.array([box for _, box, _ in kept]) * 2, np.array([score for score, _, _ in kept])
    order = nms(torch.from_numpy(boxes + np.array([0, 0, 1, 1])), torch.from_numpy(scores), 0.4).numpy()
    return boxes[order], scores[order], np.array([points for _, _, points in kept])[order] * 2


def test_a_graph_with_a_batch_gives_what_one_without_gives(tmp_path: Path) -> None:
    frames = _frames(3, 64, 96)
    one = Scrfd(scrfd_graph(tmp_path / "one.onnx", (64, 96)))(frames)
    many = Scrfd(scrfd_graph(tmp_path / "many.onnx", (64, 96), leave_batch_out=False))(frames)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_allclose(a.boxes, b.boxes, atol=1e-3)
        np.testing.assert_allclose(a.points, b.points, atol=1e-3)


def test_a_graph_without_points_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected 9"):
        Scrfd(simcc_graph(tmp_path / "pose.onnx", (64, 48)))


# --- RetinaFace ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 50), (500, 333)])
def test_anchors_are_the_published_ones(height: int, width: int) -> None:
    """Restated with loops in relative coordinates: borders count as whole cells."""
    expected = []
    for sides, step in (((16, 32), 8), ((64, 128), 16), ((256, 512), 32)):
        for i, j in product(range(ceil(height / step)), range(ceil(width / step))):
            expected += [[(j + 0.5) * step / width, (i + 0.5) * step / height, side / width, side / height] for side in sides]
    np.testing.assert_allclose(anchors_of(height, width) / [width, height, width, height], expected, rtol=1e-5)


def test_decoding_undoes_the_encoding_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    anchors = anchors_of(64, 64)
    centre, size = rng.uniform(0, 64, (len(anchors), 2)), rng.uniform(4, 60, (len(anchors), 2))
    points = rng.uniform(0, 64, (len(anchors), 5, 2))
    offsets = np.concatenate([(centre - anchors[:, :2]) / (0.1 * anchors[:, 2:]), np.log(size / anchors[:, 2:]) / 0.2], axis=1)
    five = (points - anchors[:, None, :2]) / (0.1 * anchors[:, None, 2:])
    boxes, found = decode(offsets.astype(np.float32), five.reshape(-1, 10).astype(np.float32), anchors)
    np.testing.assert_allclose(boxes, np.concatenate([centre - size / 2, centre + size / 2], axis=1), atol=1e-2)
    np.testing.assert_allclose(found, points, atol=1e-2)


@pytest.mark.parametrize("resnet", [False, True])
def test_a_state_dict_loads_by_name_and_gives_a_prediction_per_anchor(tmp_path: Path, resnet: bool) -> None:
    state = {f"module.{name}" if resnet else name: tensor for name, tensor in build_network(resnet=resnet).state_dict().items()}
    torch.save(state, tmp_path / "faces.pth")
    network = load_network(tmp_path / "faces.pth")
    with torch.inference_mode():
        offsets, scores, points = forward(network, torch.randn(2, 3, 70, 50))
    count = len(anchors_of(70, 50))
    assert (offsets.shape, scores.shape, points.shape) == ((2, count, 4), (2, count), (2, count, 10))
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_missing_or_foreign_tensor_and_a_pickle_with_code_are_refused(tmp_path: Path) -> None:
    import pickle

    state = build_network(resnet=False).state_dict()
    less = dict(list(state.items())[1:])
    torch.save(less, tmp_path / "less.pth")
    with pytest.raises(UserError, match="missing or unexpected"):
        load_network(tmp_path / "less.pth")
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(UserError, match=r"extra\.weight"):
        load_network(tmp_path / "more.pth")
    (tmp_path / "code.pth").write_bytes(pickle.dumps(_Harmful()))
    with pytest.raises(UserError, match="no plain state dict"):
        load_network(tmp_path / "code.pth")


class _Harmful:
    """Unpickling it would leave the process; SystemExit is no Exception."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('code from a pickle ran')",))


def test_the_network_sees_the_frame_in_full_size_blue_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(build_network(resnet=False).state_dict(), tmp_path / "faces.pth")
    seen = []

    def spy(network: object, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(images)
        return forward(network, images)

    monkeypatch.setattr("pipelines.extractors.retinaface.forward", spy)
    red = np.zeros((2, 50, 70, 3), np.uint8)
    red[..., 0] = 255
    RetinaFace(tmp_path / "faces.pth")(red)
    assert seen[0].shape == (2, 3, 50, 70)
    assert seen[0][0, :, 3, 3].tolist() == [-104, -117, 255 - 123]


# --- the subject's face ----------------------------------------------------------------------------------------------


def _face(x: float, y: float, side: float) -> tuple[list[float], np.ndarray]:
    return [x, y, x + side, y + side], TEMPLATE / 112 * side + (x, y)


def _faces(*placed: tuple[float, float, float]) -> Faces:
    found = [_face(*place) for place in placed]
    boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    points = np.array([points for _, points in found], np.float32).reshape(-1, 5, 2)
    return Faces(boxes, np.full(len(found), 0.9, np.float32), points)


def test_the_subject_s_face_has_its_nose_in_the_person_s_box_and_is_not_the_largest() -> None:
    faces = _faces((0, 0, 60), (110, 12, 30), (125, 60, 10)).by_area()
    person = np.array([[100, 10, 160, 100]], np.float32)
    assert subject_face(faces, person) == 1
    assert subject_face(faces, np.zeros((0, 4), np.float32)) == -1
    assert subject_face(_faces(), person) == -1
    assert subject_face(_faces((0, 0, 60)), person) == -1  # somebody else's


class _Means(FaceEmbedder):
    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, images, warps):  # type: ignore[no-untyped-def]
        self.calls.append(len(images))
        return np.array([[image.shape[1], 3, 4] for image in images], np.float32)


def test_rows_hold_all_faces_by_area_and_one_embedding() -> None:
    person = np.array([[100, 10, 160, 100]], np.float32)
    found = [_faces((110, 12, 30), (0, 0, 60)).by_area(), _faces(), _faces((110, 20, 30))]
    embedder = _Means()
    rows = face_rows(np.zeros((3, 120, 160, 3), np.uint8), found, [person, person, person[:0]], embedder)
    assert embedder.calls == [1]  # one call for the frames that have the subject's face
    assert [row["subject"] for row in rows] == [1, -1, -1]
    assert rows[0]["boxes"] == [0, 0, 60, 60, 110, 12, 140, 42]
    assert rows[0]["embedding"] == [160, 3, 4]  # raw, not of unit length
    assert rows[0]["embedding_norm"] == pytest.approx(np.linalg.norm([160, 3, 4]))
    np.testing.assert_allclose(rows[0]["warp"], similarity_warp(found[0].points[1]).ravel())
    assert rows[1]["boxes"] == []
    assert [row["embedding_reason"] for row in rows] == [None, "no face", "no face"]
    assert face_rows(np.zeros((1, 9, 9, 3), np.uint8), found[:1], [person], None)[0]["embedding_reason"] == "no recogniser"


@pytest.mark.parametrize("role", ["face_detector", "face_detector_retinaface", "face_detector_small"])
def test_rows_fit_the_table_and_do_not_depend_on_the_batch(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openers = {"face_detector": load_scrfd, "face_detector_retinaface": load_retinaface, "face_detector_small": load_retinaface_small}
    extractor = FaceExtractor(name="faces", role=role, open_detector=openers[role])
    monkeypatch.setenv("ROTOSCOPE_ACCEPT_TERMS", "face_detector")
    with pytest.raises(MissingWeightsError):
        extractor.weights_digest()
    yolox_graph(tmp_path / "yolox_l.onnx", (64, 64), seed=3)
    scrfd_graph(tmp_path / "scrfd_10g_bnkps.onnx", (64, 96))
    torch.manual_seed(0)
    torch.save(build_network(resnet=True).state_dict(), tmp_path / "detection_Resnet50_Final.pth")
    torch.save(build_network(resnet=False).state_dict(), tmp_path / "retinaface_mobilenet0.25.pth")
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    assert len(bytes.fromhex(extractor.weights_digest())) == 32
    frames = _frames(3, 64, 96)
    rows = extractor.load("cpu")(clip_of(frames), frames)["faces"]
    one = replace(extractor, batch_frames=1).load("cpu")(clip_of(frames), frames.copy())["faces"]
    key = {"dataset": "d", "clip_id": "c", "extractor": "faces", "version": 1, "weights_digest": ""}
    pa.Table.from_pylist([{**key, "frame": t, **row} for t, row in enumerate(rows)], schema=TABLES["faces"].schema)
    assert len(rows) == 3
    for a, b in zip(rows, one, strict=True):
        # random weights make offsets, and so boxes, of any size
        np.testing.assert_allclose(a["boxes"], b["boxes"], rtol=1e-3, atol=1e-2)
        assert a["subject"] == b["subject"]


# --- real faces ------------------------------------------------------------------------------------------------------


def test_faces_that_retinaface_finds_tell_people_apart(media: Path, weights_dir: Path) -> None:
    """Measured: same person 0.66 and 0.72 (two photographs), different people 0 at most."""
    with (media / "metadata" / "face_pairs.csv").open() as file:
        pairs = [(row["file_a"], row["file_b"], row["same_person"]) for row in csv.DictReader(file)]
    names = sorted({name for pair in pairs for name in pair[:2] if (media / "images" / name).exists()})
    detector = RetinaFace(weights_dir / "retinaface_mobilenet0.25.pth", score=0.8)
    embedder = FaceEmbedder(weights_dir / "mobilefacenet.onnx", RECOGNISERS["face_recogniser_small"])
    unit = {}
    for name in names:
        image = _image(media / "images" / name)
        faces = detector(image[None])[0].by_area()
        (embedding,) = embedder([image], [similarity_warp(faces.points[0])])
        unit[name] = embedding / np.linalg.norm(embedding)
    cosine = {frozenset(pair): float(unit[pair[0]] @ unit[pair[1]]) for pair in combinations(names, 2)}
    known = [(cosine[frozenset((a, b))], kind != "0") for a, b, kind in pairs if a in unit and b in unit]
    same, different = [value for value, alike in known if alike], [value for value, alike in known if not alike]
    assert (len(same), len(different)) >= (3, 2)
    assert min(same) > max(different) + 0.4


def test_five_points_are_in_the_order_of_the_template(media: Path, weights_dir: Path) -> None:
    detector = RetinaFace(weights_dir / "retinaface_mobilenet0.25.pth", score=0.8)
    for name in ("face_A1_obama.jpg", "face_B1_biden.jpg", "two_AB.jpg", "fashion_fullbody.png"):
        for points in detector(_image(media / "images" / name)[None])[0].points:
            eye_a, eye_b, nose, mouth_a, mouth_b = points
            assert eye_a[0] < nose[0] < eye_b[0]
            assert max(eye_a[1], eye_b[1]) < nose[1] < min(mouth_a[1], mouth_b[1])
            warp = similarity_warp(points)
            np.testing.assert_allclose(points @ warp[:, :2].T + warp[:, 2], TEMPLATE, atol=9)


def test_rows_of_a_talking_woman_are_hers(media: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.extractors.person_box import PersonBox
    from pipelines.video import read_video

    for name in ("yolox_nano.onnx", "retinaface_mobilenet0.25.pth", "mobilefacenet.onnx"):
        shutil.copy(weights_dir / name, tmp_path)
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    frames = read_video(media / "videos" / "talk_woman_578.mp4")[:30:6]
    rows = replace(SMALL, person=PersonBox(role="person_box_small")).load("cpu")(clip_of(frames), frames)["faces"]
    embeddings = np.array([row["embedding"] for row in rows])
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert (unit @ unit[0]).min() > 0.8  # one woman
    np.testing.assert_allclose([row["embedding_norm"] for row in rows], np.linalg.norm(embeddings, axis=1), rtol=1e-5)
