"""Perceptual hashes, near-duplicate clips and identity leaks: against independent libraries and brute force."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.fft import dctn

from pipelines.performers.performer import perform
from pipelines.screen_duplicates import Pair, clip_distance, groups_of, near_pairs, nearest
from pipelines.screen_hash import close_pairs, distances, perceptual_hash, signed, unsigned
from pipelines.screen_leaks import leaks_between, mean_face

Hashes = npt.NDArray[np.uint64]


def _noise(seed: int, shape: tuple[int, ...] = (90, 120, 3)) -> npt.NDArray[np.uint8]:
    import cv2

    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.uint8)


def _bits(a: int, b: int) -> int:
    return bin(a ^ b).count("1")


def _hash(image: npt.NDArray[np.uint8]) -> int:
    value = perceptual_hash(image)
    assert value is not None
    return value


def test_the_hash_is_the_sign_pattern_of_scipys_dct() -> None:
    image = _noise(0, (32, 32, 3))
    low = dctn(image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32), norm="ortho")[1:9, 1:9].ravel()
    expected = int("".join("1" if value > np.median(low) else "0" for value in low), 2)
    assert perceptual_hash(image) == expected
    assert bin(expected).count("1") == 32  # a median splits 64 coefficients in halves


def test_size_brightness_and_compression_hardly_move_the_hash_and_another_picture_does() -> None:
    import cv2

    for seed in range(5):
        image = _noise(seed)
        half = cv2.resize(image, (60, 45), interpolation=cv2.INTER_AREA)
        pressed = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_COLOR)
        darker = (image * 0.7).astype(np.uint8)
        assert max(_bits(_hash(image), _hash(np.asarray(other))) for other in (half, pressed, darker)) <= 6
        assert _bits(_hash(image), _hash(_noise(seed + 100))) >= 12


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_frame_without_structure_has_no_hash(level: int) -> None:
    assert perceptual_hash(np.full((40, 40, 3), level, np.uint8)) is None


def test_hashes_survive_the_tables_signed_integers() -> None:
    values = [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]
    assert unsigned([signed(value) for value in values]).tolist() == values


@pytest.mark.parametrize("radius", [0, 1, 3, 6, 7, 8])
def test_multi_index_hashing_finds_exactly_the_pairs_of_brute_force(radius: int) -> None:
    rng = np.random.default_rng(radius)
    centres = rng.integers(0, 1 << 63, 40, dtype=np.uint64) * np.uint64(2)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 10), replace=False)) for _ in range(400)]
    hashes = np.array([int(centres[i % 40]) ^ flip for i, flip in enumerate(flips)], np.uint64)
    found = {(int(i), int(j)) for left, right in close_pairs(hashes, radius) for i, j in zip(left, right, strict=True)}
    table = distances(hashes[:, None], hashes[None])
    expected = {(int(i), int(j)) for i, j in zip(*np.nonzero(table <= radius), strict=True) if i < j}
    assert found == expected
    assert expected  # the case is not empty


def test_candidates_come_in_bounded_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.screen_hash._MOST_CANDIDATES", 50)
    hashes = np.repeat(np.arange(3, dtype=np.uint64), 20)
    blocks = list(close_pairs(hashes, 0))
    assert sum(len(left) for left, _ in blocks) == 3 * 190
    assert max(len(left) for left, _ in blocks) <= 70


def _clips(seed: int, clips: int) -> dict[str, list[int]]:
    """Clips of 1 to 6 hashes, many of them copies with some bits flipped."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[int]] = {}
    for number in range(clips):
        if number and rng.random() < 0.6:
            source = found[f"c{rng.integers(number):03d}"]
            flips = [sum(1 << int(bit) for bit in rng.choice(63, rng.integers(0, 7), replace=False)) for _ in source]
            found[f"c{number:03d}"] = [value ^ flip for value, flip in zip(source, flips, strict=True)][: rng.integers(1, 7)]
        else:
            found[f"c{number:03d}"] = [signed(int(value)) for value in rng.integers(0, 1 << 63, rng.integers(1, 7), dtype=np.uint64)]
    return found


@pytest.mark.parametrize("radius", [2.0, 4.5, 8.0])
def test_near_pairs_and_groups_equal_comparing_every_pair(radius: float) -> None:
    clips = _clips(int(radius), 120)
    videos = {clip: clip for clip in clips}
    unique = {clip: np.unique(unsigned(values)) for clip, values in clips.items()}
    expected = [
        Pair(a, b, distance) for a, b in combinations(sorted(clips), 2) if (distance := clip_distance(unique[a], unique[b])) <= radius
    ]
    assert near_pairs(clips, videos, radius) == expected
    assert len(expected) >= 10
    groups = groups_of(expected, radius)
    reached = {clip: {clip} for clip in clips}  # transitive closure, the slow way
    for _ in range(len(clips)):
        for pair in expected:
            joined = reached[pair.first] | reached[pair.second]
            for clip in joined:
                reached[clip] = joined
    assert groups == {clip: min(members) for clip, members in reached.items() if len(members) > 1}


def test_clips_of_one_video_are_no_pair_and_the_nearest_is_told() -> None:
    clips = {"a": [1, 2], "b": [1, 2], "c": [1, 3], "d": [], "e": [-1]}
    videos = {"a": "v", "b": "v", "c": "w", "d": "x", "e": "y"}
    pairs = near_pairs(clips, videos)
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "c"), ("b", "c")]
    assert nearest(pairs) == {"a": ("c", pairs[0].distance), "b": ("c", pairs[0].distance), "c": ("a", pairs[0].distance)}


def test_one_shared_title_card_makes_no_pair() -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.integers(0, 1 << 62, 5).tolist() for _ in range(2))
    assert near_pairs({"a": [7, *a], "b": [7, *b]}, {"a": "a", "b": "b"}) == []


def test_the_same_performance_at_another_size_and_rate_is_a_pair_and_another_performer_is_not() -> None:
    from pipelines.screen_frames import hashes_of, reduced_luma

    def hashes(identity: int, size: int, step: int) -> list[int]:
        frames = perform(identity, identity, frames=24, size=size, background=identity).frames[::step]
        return hashes_of(np.stack([reduced_luma(image) for image in frames]))

    clips = {"a": hashes(3, 128, 1), "b": hashes(3, 64, 2), "c": hashes(4, 128, 1)}
    pairs = near_pairs(clips, {clip: clip for clip in clips}, 6)
    assert [(pair.first, pair.second) for pair in pairs] == [("a", "b")]


# --- identity leaks --------------------------------------------------------------------------------------------------


def test_the_mean_face_is_a_unit_vector_that_long_embeddings_do_not_rule() -> None:
    mean = mean_face([[100.0, 0.0], [0.0, 1.0], None, []])
    assert mean is not None
    np.testing.assert_allclose(mean, [np.sqrt(0.5)] * 2, rtol=1e-6)
    assert mean_face([None, [], [0.0, 0.0]]) is None
    assert mean_face([[1.0, 0.0], [-1.0, 0.0]]) is None


def test_leaks_equal_brute_force_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(90, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    faces = {f"c{i:02d}": row for i, row in enumerate(rows)}
    splits = {clip: ("train", "test", "val", None)[i % 4] for i, clip in enumerate(faces)}
    whole = leaks_between(faces, splits)
    monkeypatch.setattr("pipelines.screen_leaks._BLOCK", 7)
    assert {clip: leak.clip_id for clip, leak in leaks_between(faces, splits).items()} == {c: leak.clip_id for c, leak in whole.items()}
    for clip, leak in whole.items():
        others = [other for other in faces if splits[other] not in (None, splits[clip])]
        best = max(others, key=lambda other: float(faces[clip] @ faces[other]))
        assert leak.clip_id == best
        assert leak.similarity == pytest.approx(float(faces[clip] @ faces[best]), abs=1e-5)
    assert set(whole) == {clip for clip in faces if splits[clip] is not None}


def test_many_clips_of_one_person_in_one_split_are_no_leak() -> None:
    face = np.array([1, 0], np.float32)
    assert leaks_between({"a": face, "b": face}, {"a": "train", "b": "train"}) == {}
    assert leaks_between({"a": face, "b": face}, {"a": "train", "b": None}) == {}


def test_the_threshold_parts_same_and_different_people(media: Path, weights_dir: Path) -> None:
    """Photographs through the recogniser that the thresholds name; the five points are MediaPipe's."""
    import csv

    from PIL import Image

    from pipelines.clip import Frames
    from pipelines.extractors.face_embedding import RECOGNISERS, FaceEmbedder, similarity_warp
    from pipelines.extractors.mediapipe import _holistic, five_points
    from pipelines.keypoints import FACE
    from pipelines.screen_rule import SAME_PERSON

    embedder = FaceEmbedder(weights_dir / "mobilefacenet.onnx", RECOGNISERS["face_recogniser_small"])

    def embed(name: str) -> npt.NDArray[np.float32]:
        image: Frames = np.asarray(Image.open(media / "images" / name).convert("RGB"))
        person = _holistic(image[None])[0]
        mean = mean_face([embedder([image], [similarity_warp(five_points(person.keypoints[FACE]))])[0].tolist()])
        assert mean is not None
        return mean

    limit = dict(SAME_PERSON)[128]
    with (media / "metadata" / "face_pairs.csv").open() as file:
        pairs = [row for row in csv.DictReader(file) if all((media / "images" / row[name]).exists() for name in ("file_a", "file_b"))]
    judged = [(row["same_person"], float(embed(row["file_a"]) @ embed(row["file_b"]))) for row in pairs if row["same_person"] in "01"]
    assert len(judged) >= 4
    for same, cosine in judged:
        assert (cosine >= limit) == (same == "1"), (same, cosine)
