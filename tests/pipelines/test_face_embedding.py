"""Face alignment and the ONNX recogniser."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from skimage.transform import SimilarityTransform

from pipelines.errors import UserError
from pipelines.extractors.face_embedding import RECOGNISERS, TEMPLATE, FaceEmbedder, Recogniser, align, similarity_warp


def _apply(warp: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ warp[:, :2].T + warp[:, 2]


def test_the_warp_undoes_a_similarity() -> None:
    turn = np.deg2rad(25)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = (TEMPLATE @ rotation.T * 3.1 + (400, -70)).astype(np.float32)
    np.testing.assert_allclose(_apply(similarity_warp(points), points), TEMPLATE, atol=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_warp_is_the_least_squares_one(seed: int) -> None:
    points = (TEMPLATE * 2 + np.random.default_rng(seed).normal(0, 8, (5, 2))).astype(np.float32)
    oracle = SimilarityTransform.from_estimate(points, TEMPLATE)
    np.testing.assert_allclose(similarity_warp(points), oracle.params[:2], rtol=1e-4, atol=1e-3)


def test_coinciding_points_are_an_error() -> None:
    with pytest.raises(ValueError, match="coincide"):
        similarity_warp(np.ones((5, 2), np.float32))


def test_alignment_is_black_outside_the_image() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    crop = align(image, np.array([[1, 0, 20], [0, 1, 0]], np.float32))
    assert crop[10, 40].tolist() == [200] * 3
    assert crop[10, 5].tolist() == [0] * 3


def _graph(path: Path, batch: int | str) -> Path:
    """A "recogniser" that gives the mean of every input channel: [N, 3, 112, 112] -> [N, 3]."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    node = helper.make_node("ReduceMean", ["face", "axes"], ["embedding"], keepdims=0)
    inputs = [helper.make_tensor_value_info("face", TensorProto.FLOAT, [batch, 3, 112, 112])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 3])]
    model = helper.make_model(
        helper.make_graph([node], "mean", inputs, outputs, [axes]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(model, path)
    return path


IDENTITY = np.array([[1, 0, 0], [0, 1, 0]], np.float32)


@pytest.mark.parametrize("batch", [1, 2, "N"])
def test_faces_are_normalised_in_rgb_and_batched_as_the_graph_allows(tmp_path: Path, batch: int | str) -> None:
    embedder = FaceEmbedder(_graph(tmp_path / "mean.onnx", batch), Recogniser(role="test"))
    colours = [(255, 0, 127.5), (0, 255, 0), (51, 51, 51)]
    images = [np.broadcast_to(np.array(colour).astype(np.uint8), (112, 112, 3)) for colour in colours]
    embeddings = embedder(images, [IDENTITY] * 3)
    np.testing.assert_allclose(embeddings, (np.floor(colours) - 127.5) / 127.5, atol=1e-5)
    assert embedder.provider == "CPUExecutionProvider"


def test_imagenet_statistics_are_a_setting_of_the_weights(tmp_path: Path) -> None:
    embedder = FaceEmbedder(_graph(tmp_path / "mean.onnx", 1), RECOGNISERS["face_recogniser_small"])
    (embedding,) = embedder([np.full((112, 112, 3), 255, np.uint8)], [IDENTITY])
    np.testing.assert_allclose(embedding, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-4)


def test_cuda_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(UserError, match="onnxruntime-gpu"):
        FaceEmbedder(_graph(tmp_path / "mean.onnx", 1), Recogniser(role="test"), "cuda")


def test_the_same_person_scores_above_different_people(media: Path, weights_dir: Path) -> None:
    """Measured: same person 0.68 and 0.72 (two photographs), different people 0.08 at most."""
    pytest.importorskip("mediapipe")
    with (media / "metadata" / "face_pairs.csv").open() as file:
        pairs = [(row["file_a"], row["file_b"], row["same_person"]) for row in csv.DictReader(file)]
    names = sorted({name for pair in pairs for name in pair[:2] if (media / "images" / name).exists()})
    embeddings = dict(zip(names, _embeddings([media / "images" / name for name in names], weights_dir), strict=True))
    cosine = {frozenset(pair): float(embeddings[pair[0]] @ embeddings[pair[1]]) for pair in combinations(names, 2)}
    known = [(cosine[frozenset((a, b))], same) for a, b, same in pairs if a in embeddings and b in embeddings]
    same = [value for value, kind in known if kind != "0"]
    different = [value for value, kind in known if kind == "0"]
    assert len(same) >= 3
    assert len(different) >= 2
    assert min(same) > max(different) + 0.5


def _embeddings(paths: list[Path], weights_dir: Path) -> list[np.ndarray]:
    """Unit-length embeddings by the small recogniser, faces found by MediaPipe."""
    from PIL import Image

    from pipelines.extractors.mediapipe import _IBUG, _holistic, five_points

    embedder = FaceEmbedder(weights_dir / "mobilefacenet.onnx", RECOGNISERS["face_recogniser_small"])
    found = []
    for path in paths:
        image = np.array(Image.open(path).convert("RGB"))
        (person,) = _holistic(image[None])
        assert person.mesh is not None
        (embedding,) = embedder([image], [similarity_warp(five_points(person.mesh[_IBUG]))])
        found.append(embedding / np.linalg.norm(embedding))
    return found
