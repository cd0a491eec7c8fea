"""The one maker of ONNX sessions."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pipelines.errors import UserError
from pipelines.onnx_session import OnnxSession, half_precision, open_session, planes


def _mean_graph(path: Path, batch: int | str, kind: int = TensorProto.FLOAT) -> Path:
    """[N, 3, 4, 6] -> mean of every channel [N, 3]."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    node = helper.make_node("ReduceMean", ["images", "axes"], ["means"], keepdims=0)
    inputs = [helper.make_tensor_value_info("images", kind, [batch, 3, 4, 6])]
    outputs = [helper.make_tensor_value_info("means", kind, [batch, 3])]
    graph = helper.make_graph([node], "mean", inputs, outputs, [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


IMAGES = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 2, 5, 8, "N"])
def test_any_number_of_images_goes_through_a_graph_of_any_batch(tmp_path: Path, batch: int | str) -> None:
    session = OnnxSession(_mean_graph(tmp_path / "mean.onnx", batch))
    (means,) = session.run(IMAGES)
    np.testing.assert_allclose(means, IMAGES.mean(axis=(2, 3)), atol=1e-6)
    assert session.batch == (None if batch == "N" else batch)
    assert session.size == (4, 6)
    assert session.provider == "CPUExecutionProvider"


def test_a_graph_of_half_precision_gets_halves(tmp_path: Path) -> None:
    session = OnnxSession(_mean_graph(tmp_path / "half.onnx", "N", TensorProto.FLOAT16))
    (means,) = session.run(IMAGES)
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, IMAGES.mean(axis=(2, 3)), atol=2e-3)


def test_half_precision_for_cuda_keeps_inputs_and_values(tmp_path: Path) -> None:
    """What CUDA is given: float16 inside, float32 outside, values to a half's precision."""
    import onnxruntime

    from benchmarks.random_networks import simcc_graph

    path = simcc_graph(tmp_path / "pose.onnx", (64, 48), keypoints=5)
    halves = onnxruntime.InferenceSession(half_precision(path), providers=["CPUExecutionProvider"])
    assert halves.get_inputs()[0].type == "tensor(float)"
    held = {tensor.data_type for tensor in onnx.load_from_string(half_precision(path)).graph.initializer}
    assert TensorProto.FLOAT16 in held
    assert TensorProto.FLOAT not in held
    images = np.random.default_rng(1).normal(size=(2, 3, 64, 48)).astype(np.float32)
    for half, full in zip(halves.run(None, {"images": images}), OnnxSession(path).run(images), strict=True):
        assert half.dtype == np.float32
        np.testing.assert_allclose(half, full, atol=0.02)


def test_half_precision_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _mean_graph(tmp_path / "mean.onnx", 1)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"\.\[gpu\]"):
        half_precision(path)


def test_cuda_without_cuda_and_unknown_devices_are_errors(tmp_path: Path) -> None:
    import onnxruntime

    path = _mean_graph(tmp_path / "mean.onnx", 1)
    with pytest.raises(UserError, match="no device 'tpu'"):
        OnnxSession(path, "tpu")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(UserError, match="onnxruntime-gpu"):
            OnnxSession(path, "cuda:1")


def test_a_provider_that_falls_back_to_the_cpu_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime lists CUDA but opens the graph on the CPU when a library is missing."""
    import onnxruntime

    cpu = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda graph, options, providers: cpu(graph, options, providers=["CPUExecutionProvider"])
    )
    with pytest.raises(UserError, match="asked for CUDAExecutionProvider, got CPUExecutionProvider"):
        OnnxSession(_mean_graph(tmp_path / "mean.onnx", 1), "cuda")


def test_a_file_that_is_no_graph_is_the_user_s_error(tmp_path: Path) -> None:
    (tmp_path / "page.onnx").write_text("<html>404</html>")
    with pytest.raises(UserError, match="cannot be opened as an ONNX graph"):
        OnnxSession(tmp_path / "page.onnx")


@pytest.mark.parametrize("words", ["Failed to allocate memory for requested buffer of size 9", "std::bad_alloc", "CUDA out of memory"])
def test_memory_that_runs_out_is_a_memory_error(tmp_path: Path, words: str) -> None:
    session = OnnxSession(_mean_graph(tmp_path / "mean.onnx", 1))

    class Full:
        def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
            raise RuntimeError(words)

    session._session = Full()
    with pytest.raises(MemoryError):
        session.run(IMAGES)


def test_an_error_that_is_not_memory_stays_what_it_is(tmp_path: Path) -> None:
    session = OnnxSession(_mean_graph(tmp_path / "mean.onnx", "N"))
    with pytest.raises(Exception, match="images") as error:
        session.run(IMAGES[:, :2])
    assert not isinstance(error.value, MemoryError)


def test_extractors_share_a_session_while_one_holds_it(tmp_path: Path) -> None:
    path = _mean_graph(tmp_path / "mean.onnx", 1)
    session = open_session(path)
    assert open_session(path) is session
    assert open_session(path, threads=2) is not session
    first = id(session)
    del session
    gc.collect()
    assert open_session(path).run(IMAGES)[0].shape == (5, 3), first


def test_planes_are_looked_up_per_channel() -> None:
    rng = np.random.default_rng(0)
    images, table = rng.integers(0, 256, (3, 5, 7, 3), dtype=np.uint8), rng.normal(size=(256, 3)).astype(np.float32)
    swapped = planes(images, table, order=(2, 1, 0))
    for k in range(3):
        np.testing.assert_array_equal(planes(images, table)[:, k], table[images[..., k], k])
        np.testing.assert_array_equal(swapped[:, k], table[images[..., 2 - k], k])
    np.testing.assert_array_equal(planes(images[:, :, ::-1], table), planes(images, table)[..., ::-1])  # any memory layout
