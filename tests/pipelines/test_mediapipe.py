"""MediaPipe's rows: empty scenes are refused, skeletons sit on people."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.clip import Frames
from pipelines.errors import ClipError
from pipelines.extractors.mediapipe import _IBUG, MediaPipe, _holistic, drop_doubled_hand, five_points, profile_score
from pipelines.keypoints import FACE, LEFT_HAND, RIGHT_HAND
from pipelines.masks import decode_rle, unpack_array
from tests.small_clips import clip_of

pytest.importorskip("mediapipe", reason="the extra mediapipe is not installed")

# Spread of the annotators for each body joint, COCO (Lin et al. 2014); OKS = mean exp(-d^2 / (2 area (2 sigma)^2))
SIGMAS = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000


@pytest.fixture(autouse=True)
def _no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROTOSCOPE_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _image(path: Path) -> Frames:
    from PIL import Image

    return np.array(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("scene", ["black", "noise"])
def test_a_scene_without_people_is_no_person(scene: str) -> None:
    frames = np.zeros((3, 120, 160, 3), np.uint8)
    if scene == "noise":
        frames = np.random.default_rng(0).integers(0, 256, frames.shape, dtype=np.uint8)
    with pytest.raises(ClipError) as error:
        MediaPipe().load("cpu")(clip_of(frames), frames)
    assert error.value.code == "no_person"


def test_the_digest_is_stable_and_covers_the_networks() -> None:
    assert MediaPipe().weights_digest() == MediaPipe().weights_digest()
    assert len(bytes.fromhex(MediaPipe().weights_digest())) == 32


def test_face_indices_are_mirror_images_of_each_other() -> None:
    """The canonical mesh is symmetric: iBUG's mirror pairs must be mirror pairs of the mesh, too."""
    from pipelines.keypoints import MIRROR

    assert len(set(_IBUG)) == 68
    mesh_twin = {_IBUG[i]: _IBUG[MIRROR[23 + i] - 23] for i in range(68)}
    assert mesh_twin[33] == 263  # outer corners of the eyes
    assert mesh_twin[61] == 291  # corners of the mouth
    assert mesh_twin[234] == 454  # sides of the face
    assert all(mesh_twin[mesh_twin[i]] == i for i in mesh_twin)


def _mesh(yaw_deg: float) -> np.ndarray:
    """A mesh whose eyes, forehead and chin have frontal proportions, turned about the vertical axis."""
    mesh = np.zeros((468, 2), np.float32)
    half = 37 / 2 * np.cos(np.deg2rad(yaw_deg))
    mesh[_IBUG[36:42]], mesh[_IBUG[42:48]] = (100 - half, 40), (100 + half, 40)
    mesh[10], mesh[152] = (100, 0), (100, 100)
    return mesh


def test_the_face_score_falls_where_the_eyes_collapse() -> None:
    scores = [profile_score(_mesh(yaw)) for yaw in (0, 30, 55, 65, 90)]
    assert scores[0] == scores[1] == 1
    assert 1 > scores[2] > scores[3] > 0
    assert scores[4] == 0


def test_one_hand_found_twice_stays_with_the_nearer_arm() -> None:
    keypoints, scores = np.zeros((133, 2), np.float32), np.ones(133, np.float32)
    hand = np.random.default_rng(0).uniform(0, 50, (21, 2))
    keypoints[LEFT_HAND], keypoints[RIGHT_HAND] = hand, hand + 2
    keypoints[9], keypoints[10] = hand[0] + 100, hand[0] + 5
    drop_doubled_hand(keypoints, scores)
    assert (scores[LEFT_HAND] == 0).all()
    assert (scores[RIGHT_HAND] == 1).all()
    keypoints[LEFT_HAND] += 200
    scores[:] = 1
    drop_doubled_hand(keypoints, scores)
    assert scores.min() == 1


# --- real people -----------------------------------------------------------------------------------------------------


def test_keypoints_agree_with_coco_s_annotations(media: Path) -> None:
    """Measured: OKS 0.91 and 0.66 on the two images; face points 5 % of the face's height."""
    truth = json.loads((media / "annotated" / "coco_wholebody.json").read_text())
    scores = []
    for image in truth["images"]:
        (person,) = _holistic(_image(media / "annotated" / image["file_name"])[None])
        people = [a for a in truth["annotations"] if a["image_id"] == image["id"] and a["num_keypoints"]]
        best = max(people, key=lambda a: _oks(person.keypoints, a))
        scores.append(_oks(person.keypoints, best))
        face = np.array(best["face_kpts"]).reshape(68, 3)
        error = np.hypot(*(person.keypoints[FACE] - face[:, :2]).T).mean()
        assert error < 0.08 * np.ptp(face[:, 1])
    assert min(scores) > 0.6
    assert np.mean(scores) > 0.75


def _oks(keypoints: np.ndarray, annotation: dict[str, object]) -> float:
    truth = np.array(annotation["keypoints"], float).reshape(17, 3)
    squared = ((keypoints[:17] - truth[:, :2]) ** 2).sum(axis=1)
    similarity = np.exp(-squared / (2 * float(str(annotation["area"])) * (2 * SIGMAS) ** 2))
    return float(similarity[truth[:, 2] > 0].mean())


def test_rows_of_a_dancer_are_on_the_dancer(media: Path) -> None:
    from pipelines.video import read_video

    frames = read_video(media / "videos" / "juggle_fullbody.mp4")[:6]
    _, height, width, _ = frames.shape
    rows = MediaPipe().load("cpu")(clip_of(frames), frames)
    assert {table: len(held) for table, held in rows.items()} == dict.fromkeys(("poses", "body_masks", "faces", "hands"), 6)
    for pose, mask, face, hand in zip(rows["poses"], rows["body_masks"], rows["faces"], rows["hands"], strict=True):
        points, scores = np.array(pose["keypoints"]).reshape(133, 2), np.array(pose["scores"])
        assert ((points[scores > 0.3] >= 0) & (points[scores > 0.3] <= (width, height))).all()
        assert scores[[18, 21]].tolist() == [0, 0]  # no small toes
        hard = decode_rle(mask["rle"], height, width)
        soft = unpack_array(mask["soft"], mask["soft_shape"], mask["soft_dtype"])
        np.testing.assert_array_equal(hard, soft >= 128)
        torso = points[[5, 6, 11, 12]].round().astype(int)
        assert hard[torso[:, 1], torso[:, 0]].mean() >= 0.75
        x1, y1, x2, y2 = face["boxes"]
        assert x1 < points[0, 0] < x2  # the nose is in the face's box
        assert y1 < points[0, 1] < y2
        assert face["embedding_reason"] == "no recogniser"
        assert points[5, 0] > points[6, 0]  # he faces us: his left shoulder is on the right
        if all(hand["valid"]):
            assert hand["boxes"][0] > hand["boxes"][4]  # so is his left hand


def test_rows_do_not_depend_on_what_ran_before(media: Path) -> None:
    from pipelines.video import read_video

    frames = read_video(media / "videos" / "talk_woman_578.mp4")[:5]
    run = MediaPipe().load("cpu")
    first, second = run(clip_of(frames), frames), run(clip_of(frames), frames)
    assert first == second


def test_five_points_of_a_photograph_are_in_template_order(media: Path) -> None:
    (person,) = _holistic(_image(media / "images" / "face_A1_obama.jpg")[None])
    assert person.mesh is not None
    eye_a, eye_b, nose, mouth_a, mouth_b = five_points(person.mesh[_IBUG])
    assert eye_a[0] < nose[0] < eye_b[0]
    assert mouth_a[0] < nose[0] < mouth_b[0]
    assert max(eye_a[1], eye_b[1]) < nose[1] < min(mouth_a[1], mouth_b[1])
    assert person.face_score == 1
