"""A convolutional network of an ONNX file, run node by node in torch, so that gradients go through it to the picture.

For frozen networks that losses look through: ArcFace's recognisers are published as ONNX files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipelines.errors import UserError

Operator = Callable[[Mapping[str, Any], list[Tensor]], Tensor]
"""(attributes of the node, its inputs) -> its output."""


class OnnxInTorch(nn.Module):
    """The function of an ONNX file with one input and one output [N, ...], differentiable in the input. Its weights are frozen."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        graph = _graph_of(path)
        self._nodes = [_node(node) for node in graph.node]
        unknown = sorted({kind for kind, *_ in self._nodes} - set(OPERATORS) - {"Constant"})
        if unknown:
            raise UserError(
                f"{path} uses the ONNX operators {unknown}, which are not run in torch here; give a plain convolutional network"
            )
        self._constants: dict[str, str] = {}
        for number, (name, value) in enumerate(_constants_of(graph)):
            self.register_buffer(f"constant_{number}", value)
            self._constants[name] = f"constant_{number}"
        given = next(value for value in graph.input if value.name not in self._constants)
        self._input, self._one_by_one = given.name, given.type.tensor_type.shape.dim[0].dim_value == 1
        self._output = graph.output[0].name
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """A graph that was made for one picture sees them one after the other."""
        return torch.cat([self._run(part) for part in images.split(1)]) if self._one_by_one else self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        values = {self._input: images, **{name: getattr(self, buffer) for name, buffer in self._constants.items()}}
        for kind, attributes, inputs, output in self._nodes:
            if kind != "Constant":
                values[output] = OPERATORS[kind](attributes, [values[name] for name in inputs if name])
        return values[self._output]


def _graph_of(path: Path) -> Any:
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"reading {path} for training needs the package onnx ({error}); run: pip install onnx") from None
    return onnx.load(str(path)).graph


def _node(node: Any) -> tuple[str, dict[str, Any], list[str], str]:
    from onnx import helper

    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    return node.op_type, attributes, list(node.input), node.output[0]


def _constants_of(graph: Any) -> list[tuple[str, Tensor]]:
    """Weights and constant nodes by name."""
    from onnx import numpy_helper

    held = [(tensor.name, tensor) for tensor in graph.initializer]
    held += [(node.output[0], node.attribute[0].t) for node in graph.node if node.op_type == "Constant"]
    return [(name, torch.from_numpy(numpy_helper.to_array(tensor).copy())) for name, tensor in held]


def _convolved(attributes: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    x, weight, *bias = inputs
    pads = attributes.get("pads", [0, 0, 0, 0])
    padded = F.pad(x, (pads[1], pads[3], pads[0], pads[2])) if any(pads) else x
    stride, dilation = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    return F.conv2d(padded, weight, bias[0] if bias else None, tuple(stride), 0, tuple(dilation), attributes.get("group", 1))


def _fully_connected(attributes: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    """Gemm: alpha A' B' + beta C."""
    first = inputs[0].T if attributes.get("transA") else inputs[0]
    second = inputs[1].T if attributes.get("transB") else inputs[1]
    out = attributes.get("alpha", 1.0) * (first @ second)
    return out + attributes.get("beta", 1.0) * inputs[2] if len(inputs) > 2 else out


def _batch_normalised(attributes: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    x, weight, bias, mean, variance = inputs
    return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=attributes.get("epsilon", 1e-5))


def _instance_normalised(attributes: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    return F.instance_norm(inputs[0], weight=inputs[1], bias=inputs[2], eps=attributes.get("epsilon", 1e-5))


def _clipped(attributes: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    """Bounds as attributes (the older operator) or as inputs."""
    low, high = inputs[1:] if len(inputs) > 1 else (attributes.get("min"), attributes.get("max"))
    return inputs[0].clamp(low, high)


def _leaky(_: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    """PRelu; the slopes broadcast as ONNX has them, [C, 1, 1] or [1, C, 1, 1]."""
    x, slope = inputs
    return torch.where(x >= 0, x, slope * x)


def _reshaped(_: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    """A 0 in the shape keeps the input's size."""
    x, shape = inputs
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape.tolist())])


def _cast(attributes: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    from onnx import helper

    wanted = torch.from_numpy(helper.tensor_dtype_to_np_dtype(attributes["to"]).type([0])).dtype
    return inputs[0].to(wanted)


def _unsqueezed(attributes: Mapping[str, Any], inputs: list[Tensor]) -> Tensor:
    axes = attributes["axes"] if "axes" in attributes else inputs[1].tolist()
    out = inputs[0]
    for axis in sorted(axes):
        out = out.unsqueeze(axis)
    return out


OPERATORS: dict[str, Operator] = {
    "Add": lambda _, x: x[0] + x[1],
    "BatchNormalization": _batch_normalised,
    "Cast": _cast,
    "Clip": _clipped,
    "Concat": lambda a, x: torch.cat(x, dim=a["axis"]),
    "Conv": _convolved,
    "Flatten": lambda a, x: x[0].flatten(a.get("axis", 1)),
    "Gather": lambda a, x: x[0].index_select(a.get("axis", 0), x[1].reshape(-1)).reshape(x[1].shape),
    "Gemm": _fully_connected,
    "GlobalAveragePool": lambda _, x: x[0].mean(dim=(2, 3), keepdim=True),
    "Identity": lambda _, x: x[0],
    "InstanceNormalization": _instance_normalised,
    "MatMul": lambda _, x: x[0] @ x[1],
    "Mul": lambda _, x: x[0] * x[1],
    "PRelu": _leaky,
    "Relu": lambda _, x: x[0].relu(),
    "Reshape": _reshaped,
    "Shape": lambda _, x: torch.tensor(x[0].shape),
    "Sigmoid": lambda _, x: x[0].sigmoid(),
    "Sub": lambda _, x: x[0] - x[1],
    "Unsqueeze": _unsqueezed,
}
