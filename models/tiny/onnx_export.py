"""Networks of the tiny family as ONNX files: any batch size, weights in half precision, arithmetic in float32."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipelines.errors import UserError

_LEAST = 256  # numbers; smaller weights stay as they are
_OPSET = 17


def export_onnx(network: nn.Module, example: Tensor, path: Path, outputs: Sequence[str], name: str = "images") -> None:
    """Write `network` as a graph with one input [N, ...] and these outputs, N open.

    example: one input, [1, ...]. Weights are stored as float16 and widened on loading: half the file, and what the CPU
    computes is float32 throughout. Raises UserError without the package onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(f"writing ONNX files needs the package onnx ({error}); run: pip install onnx") from None
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    with warnings.catch_warnings():
        # the exporter that traces; the newer one needs another package and leaves the batch dimension fixed in some layers
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("ignore", "Converting a tensor to a Python")  # group norm looks at its sizes, which only N changes
        torch.onnx.export(
            network.eval().to(memory_format=torch.contiguous_format), (example,), str(partial), dynamo=False, opset_version=_OPSET,
            input_names=[name], output_names=list(outputs), dynamic_axes={each: {0: "N"} for each in (name, *outputs)},
        )  # fmt: skip
    graph = onnx.load(str(partial))
    _halve_weights(graph)
    onnx.checker.check_model(graph)
    partial.write_bytes(graph.SerializeToString())
    os.replace(partial, path)


def _halve_weights(model: Any) -> None:
    """Large float32 initialisers become float16 with a Cast behind them."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < _LEAST:
            continue
        held, name = numpy_helper.to_array(tensor), tensor.name
        tensor.CopyFrom(numpy_helper.from_array(held.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)
