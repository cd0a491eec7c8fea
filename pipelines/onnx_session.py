"""The one place where ONNX graphs are opened: which provider, how many threads, which precision, how batches are cut.

Asked for CUDA and got the CPU is an error, never a slow success. On CUDA the graph runs in half precision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from pipelines.errors import UserError

Floats = npt.NDArray[np.float32]

_OPEN: WeakValueDictionary[tuple[object, ...], OnnxSession] = WeakValueDictionary()
# ONNX Runtime has no exception type of its own for memory; these are the words of its CPU and CUDA allocators.
_MEMORY_WORDS = ("failed to allocate", "out of memory", "bad allocation", "bad_alloc", "cudamalloc", "cublas_status_alloc_failed")


class OnnxSession:
    """A graph with one image input [N, 3, H, W].

    provider: what ONNX Runtime runs it on;  size: (H, W) of the input, None where the graph leaves it open;
    batch: the N that the graph was exported for, None where any N is allowed.
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1) -> None:
        """Open it on "cpu", "cuda" or "cuda:1". Raises UserError when that provider is not there or the file is no graph."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 1: results do not depend on the machine's number of cores
        options.log_severity_level = 3
        wanted, settings = _provider(device)
        self.provider: str = "none"
        if wanted in onnxruntime.get_available_providers():
            graph = half_precision(path) if wanted.startswith("CUDA") else path.read_bytes()
            self._session = _open(graph, path, options, [(wanted, settings)])
            self.provider = self._session.get_providers()[0]
        if self.provider != wanted:
            raise UserError(
                f"ONNX Runtime cannot run {path.name} on {device}: asked for {wanted}, got {self.provider}; "
                "install the GPU build (pip install onnxruntime-gpu), or choose the device cpu"
            )
        held = self._session.get_inputs()[0]
        self._name, self._dtype = held.name, np.float16 if held.type == "tensor(float16)" else np.float32
        self.outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        self.batch: int | None = held.shape[0] if isinstance(held.shape[0], int) else None
        height, width = held.shape[2:4] if len(held.shape) == 4 else (None, None)
        self.size: tuple[int, int] | None = (height, width) if isinstance(height, int) and isinstance(width, int) else None

    def run(self, images: Floats) -> list[Floats]:
        """Every output of the graph for [N, 3, H, W], first dimension N, float32.

        A graph of fixed batch gets the images in such parts, the last one padded. Raises MemoryError where ONNX Runtime
        cannot allocate.
        """
        step = self.batch or max(len(images), 1)
        parts = [self._part(images[start : start + step], step) for start in range(0, len(images), step)]
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]

    def _part(self, images: Floats, step: int) -> list[Floats]:
        padded = images.astype(self._dtype, copy=False)
        if len(images) < step:
            padded = np.zeros((step, *images.shape[1:]), self._dtype)
            padded[: len(images)] = images
        outputs = [np.asarray(output, np.float32) for output in self._call(np.ascontiguousarray(padded))]
        if step == 1:  # a graph for one image may leave the batch dimension out, as SCRFD's [anchors, 1]
            outputs = [output if len(output) == 1 else output[None] for output in outputs]
        return [output[: len(images)] for output in outputs]

    def _call(self, images: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        try:
            outputs: list[npt.NDArray[Any]] = self._session.run(None, {self._name: images})
        except Exception as error:
            if any(word in str(error).lower() for word in _MEMORY_WORDS):
                raise MemoryError(str(error)) from error
            raise
        return outputs


def open_session(path: Path, device: str = "cpu", threads: int = 1) -> OnnxSession:
    """The session of a file; the extractors of one process share it while one of them holds it."""
    status = path.stat()
    key = (path.resolve(), status.st_size, status.st_mtime_ns, device, threads)
    session = _OPEN.get(key)
    if session is None:
        session = _OPEN[key] = OnnxSession(path, device, threads)
    return session


def planes(images: npt.NDArray[np.uint8], table: Floats, order: tuple[int, int, int] = (0, 1, 2)) -> Floats:
    """uint8 [N, H, W, 3] -> float32 [N, 3, H, W]: output channel k is table[:, k] of input channel order[k]; table [256, 3].

    A look-up is cheaper than arithmetic in float32, and exact to the last bit where the table was made in float64.
    """
    import cv2

    batch = np.empty((len(images), 3, *images.shape[1:3]), np.float32)
    columns = [np.ascontiguousarray(table[:, k]) for k in range(3)]
    for image, target in zip(images, batch, strict=True):
        channels = cv2.split(image)
        for k in range(3):
            cv2.LUT(channels[order[k]], columns[k], dst=target[k])
    return batch


def half_precision(path: Path) -> bytes:
    """The graph with float16 weights and activations, float32 inputs and outputs. Raises UserError without the package onnx."""
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise UserError(f"half precision on CUDA needs the package onnx ({error}); run: pip install -e '.[gpu]'") from None
    graph = onnx.load(str(path))
    if graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16:
        return path.read_bytes()
    converted: bytes = convert_float_to_float16(graph, keep_io_types=True).SerializeToString()
    return converted


def _provider(device: str) -> tuple[str, dict[str, Any]]:
    kind, _, number = device.partition(":")
    if kind == "cuda":
        return "CUDAExecutionProvider", {"device_id": int(number or 0)}
    if kind != "cpu":
        raise UserError(f"no device {device!r}; there are: cpu, cuda, cuda:0, cuda:1 ...")
    return "CPUExecutionProvider", {}


def _open(graph: bytes, path: Path, options: Any, providers: list[tuple[str, dict[str, Any]]]) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:
        if any(word in str(error).lower() for word in _MEMORY_WORDS):
            raise MemoryError(str(error)) from error
        raise UserError(f"{path} cannot be opened as an ONNX graph ({str(error)[:200]}); fetch the file again") from None
