"""ONNX graphs with the inputs and outputs of published networks and random weights, for comparing what is done around them.

Small convolutions whose outputs depend on the whole picture; what they "detect" is noise, the same noise for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]


def yolox_graph(path: Path, size: tuple[int, int], classes: int = 1, batch: int | str = "N", seed: int = 0, bias: float = 0.0) -> Path:
    """[N, 3, H, W] -> [N, A, 5 + classes]: for strides 8, 16, 32 one convolution as wide as the stride, scores by a sigmoid.

    bias: the lower, the fewer boxes.
    """
    rng = np.random.default_rng(seed)
    graph = _Graph(batch, size)
    levels = []
    for stride in (8, 16, 32):
        kernel = rng.normal(0, 1, (5 + classes, 3, stride, stride)) / (255 * stride * np.sqrt(3))
        shape = graph.constant([0, 5 + classes, -1])
        flat = graph.node("Reshape", graph.convolution("images", kernel, stride), shape)
        levels.append(graph.node("Transpose", flat, perm=[0, 2, 1]))
    joined = graph.node("Concat", *levels, axis=1)
    geometry = graph.node("Mul", graph.columns(joined, 0, 4), graph.constant(np.array([2, 2, 3, 3], np.float32)))
    steep = graph.node("Mul", graph.columns(joined, 4, 5 + classes), graph.constant(np.float32(5)))
    # Cells that see nothing but padding would score alike, and the order of equals is nobody's definition.
    anchors = sum((size[0] // stride) * (size[1] // stride) for stride in (8, 16, 32))
    steep = graph.node("Add", steep, graph.constant(rng.normal(bias, 0.5, (1, anchors, 1)).astype(np.float32)))
    return graph.save(path, [graph.node("Concat", geometry, graph.node("Sigmoid", steep), axis=2)], ["output"])


def simcc_graph(path: Path, size: tuple[int, int], keypoints: int = 133, batch: int | str = "N", seed: int = 0, width: int = 8) -> Path:
    """[N, 3, H, W] -> simcc_x [N, K, 2 W], simcc_y [N, K, 2 H] in 0..1: three convolutions of `width` channels, one matrix each."""
    rng = np.random.default_rng(seed)
    graph, at = _Graph(batch, size), "images"
    for inputs, outputs in ((3, width), (width, width), (width, keypoints)):
        kernel = rng.normal(0, 1 / np.sqrt(inputs * 16), (outputs, inputs, 4, 4))
        at = graph.node("Tanh", graph.convolution(at, kernel, 4 if outputs != keypoints else 2, pad=1))
    flat = graph.node("Reshape", at, graph.constant([0, keypoints, -1]))
    cells = int(np.prod([_after(side) for side in size]))
    bins = [rng.normal(0, 1 / np.sqrt(cells), (cells, 2 * side)).astype(np.float32) for side in (size[1], size[0])]
    maps = [graph.node("Sigmoid", graph.node("MatMul", flat, graph.constant(matrix))) for matrix in bins]
    return graph.save(path, maps, ["simcc_x", "simcc_y"])


def scrfd_graph(path: Path, size: tuple[int, int], seed: int = 0, *, leave_batch_out: bool = True) -> Path:
    """[1, 3, H, W] -> scores, distances and points of strides 8, 16, 32; two anchors per cell; the published one has no batch."""
    rng = np.random.default_rng(seed)
    graph = _Graph(1 if leave_batch_out else "N", size)
    outputs = []
    for values in (1, 4, 10):
        for stride in (8, 16, 32):
            kernel = rng.normal(0, 1, (2 * values, 3, stride, stride)) * 4 / (stride * np.sqrt(3))
            rows = graph.node("Transpose", graph.convolution("images", kernel, stride), perm=[0, 2, 3, 1])
            shape = [-1, values] if leave_batch_out else [0, -1, values]
            flat = graph.node("Reshape", rows, graph.constant(shape))
            outputs.append(graph.node("Sigmoid", flat) if values == 1 else graph.node("Abs", flat) if values == 4 else flat)
    return graph.save(path, outputs, [f"{kind}_{stride}" for kind in ("score", "bbox", "kps") for stride in (8, 16, 32)])


def _after(side: int) -> int:
    """Cells left of one side after simcc_graph's convolutions of 4 with padding 1 and strides 4, 4, 2."""
    for stride in (4, 4, 2):
        side = (side - 2) // stride + 1
    return side


class _Graph:
    """Collects nodes and constants; every method returns the name of what it made."""

    def __init__(self, batch: int | str, size: tuple[int, int]) -> None:
        self._input = helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, *size])
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, value: npt.NDArray[np.float32] | np.float32 | Sequence[int]) -> str:
        array = np.array(value, np.int64) if isinstance(value, list) else np.asarray(value, np.float32)
        self._constants.append(numpy_helper.from_array(array, f"c{len(self._constants)}"))
        return f"c{len(self._constants) - 1}"

    def node(self, kind: str, *inputs: str, **settings: Any) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], **settings))
        return name

    def convolution(self, inputs: str, kernel: npt.NDArray[np.float64], stride: int, pad: int = 0) -> str:
        return self.node("Conv", inputs, self.constant(kernel.astype(np.float32)), strides=[stride, stride], pads=[pad] * 4)

    def columns(self, inputs: str, start: int, end: int) -> str:
        return self.node("Slice", inputs, *(self.constant([value]) for value in (start, end, 2)))

    def save(self, path: Path, outputs: Sequence[str], names: Sequence[str]) -> Path:
        for output, name in zip(outputs, names, strict=True):
            self._nodes.append(helper.make_node("Identity", [output], [name]))
        # The shapes are left to ONNX's own inference.
        infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
        graph = helper.make_graph(self._nodes, "random", [self._input], infos, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)
        return path
