"""I3D, the inflated Inception-v1 of Carreira and Zisserman (2017), with the names of the converted Kinetics weights.

Convolutions and poolings pad as TensorFlow's "SAME" does: just enough for ceil(size / stride) outputs, the odd pixel
at the end. The file is i3d_pretrained_400.pt: DeepMind's Kinetics-400 network under the layer names of the paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.extractors.pretrained_folder import fill, load_state

if TYPE_CHECKING:
    from torch import Tensor, nn

CLASSES = 400
# Outputs of: the 1x1 branch; 1x1 and 3x3 of the second; 1x1 and 3x3 of the third; the 1x1 after pooling (paper, figure 3).
_MIXED = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
_Sizes = tuple[int, int, int]  # time, height, width
_POOL_BEFORE: dict[str, tuple[_Sizes, _Sizes]] = {  # kernel, stride
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def load_network(path: Path, batch_norm_eps: float) -> nn.Module:
    """The network of a state dict, in evaluation mode. Raises UserError where a tensor is missing, unknown or misshapen."""
    network: nn.Module = fill(build_network(batch_norm_eps), load_state(path), path)
    return network


def build_network(batch_norm_eps: float) -> nn.Module:
    """Random weights; batch_norm_eps: what is added to every variance before its root is taken."""
    from torch import nn

    network: nn.Module = type("I3D", (nn.Module,), {})()  # the name is for messages
    network.add_module("Conv3d_1a_7x7", _unit(3, 64, 7, 2, batch_norm_eps))
    network.add_module("Conv3d_2b_1x1", _unit(64, 64, 1, 1, batch_norm_eps))
    network.add_module("Conv3d_2c_3x3", _unit(64, 192, 3, 1, batch_norm_eps))
    channels = 192
    for name, outputs in _MIXED.items():
        network.add_module(name, _mixed(channels, outputs, batch_norm_eps))
        channels = outputs[0] + outputs[2] + outputs[4] + outputs[5]
    network.add_module("logits", nn.ModuleDict({"conv3d": nn.Conv3d(channels, CLASSES, 1)}))
    return network.eval()


def forward(network: Any, x: Tensor) -> Tensor:
    """[N, 3, S, 224, 224] in -1..1 -> [N, 400] logits before the softmax, mean over time."""
    from torch.nn.functional import avg_pool3d

    x = _max_pool(_activate(network.Conv3d_1a_7x7, x), (1, 3, 3), (1, 2, 2))
    x = _activate(network.Conv3d_2c_3x3, _activate(network.Conv3d_2b_1x1, x))
    for name in _MIXED:
        if name in _POOL_BEFORE:
            x = _max_pool(x, *_POOL_BEFORE[name])
        x = _branches(getattr(network, name), x)
    # The paper pools 2 x 7 x 7 with stride 1 here. 16 frames leave two time steps, so that is the mean of the two; the
    # logits are linear, and their mean over time after 1 x 7 x 7 is the same number up to rounding. It also takes fewer than 9 frames.
    logits: Tensor = network.logits["conv3d"](avg_pool3d(x, (1, 7, 7), stride=1))
    return logits.mean(dim=2).flatten(1)


# --- parts ---------------------------------------------------------------------------------------------------------------


def _unit(inputs: int, outputs: int, size: int, stride: int, batch_norm_eps: float) -> nn.ModuleDict:
    from torch import nn

    convolution = nn.Conv3d(inputs, outputs, size, stride, bias=False)
    return nn.ModuleDict({"conv3d": convolution, "bn": nn.BatchNorm3d(outputs, eps=batch_norm_eps)})


def _mixed(inputs: int, outputs: tuple[int, ...], batch_norm_eps: float) -> nn.ModuleDict:
    from torch import nn

    first, second_1x1, second, third_1x1, third, pooled = outputs
    shapes = {
        "b0": (inputs, first, 1),
        "b1a": (inputs, second_1x1, 1),
        "b1b": (second_1x1, second, 3),
        "b2a": (inputs, third_1x1, 1),
        "b2b": (third_1x1, third, 3),
        "b3b": (inputs, pooled, 1),
    }
    return nn.ModuleDict({name: _unit(*shape, 1, batch_norm_eps) for name, shape in shapes.items()})


def _activate(unit: Any, x: Tensor) -> Tensor:
    """ReLU of the batch norm of the convolution."""
    convolution = unit["conv3d"]
    activated: Tensor = unit["bn"](convolution(_pad(x, convolution.kernel_size, convolution.stride))).relu_()
    return activated


def _branches(block: Any, x: Tensor) -> Tensor:
    import torch

    second, third = _activate(block["b1a"], x), _activate(block["b2a"], x)
    pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
    return torch.cat(
        [
            _activate(block["b0"], x),
            _activate(block["b1b"], second),
            _activate(block["b2b"], third),
            _activate(block["b3b"], pooled),
        ],
        dim=1,
    )


def _max_pool(x: Tensor, kernel: _Sizes, stride: _Sizes) -> Tensor:
    """Zeros pad, as good as minus infinity because everything here comes out of a ReLU."""
    from torch.nn.functional import max_pool3d

    return max_pool3d(_pad(x, kernel, stride), kernel, stride)


def _pad(x: Tensor, kernel: _Sizes, stride: _Sizes) -> Tensor:
    """Zeros before and after each axis: max((ceil(n / s) - 1) s + k - n, 0) in all, the smaller half before."""
    from torch.nn.functional import pad

    sides: list[int] = []
    for size, k, s in zip(x.shape[:1:-1], kernel[::-1], stride[::-1], strict=True):  # width first, as torch wants it
        missing = max((-(-size // s) - 1) * s + k - size, 0)
        sides += [missing // 2, missing - missing // 2]
    return pad(x, sides) if any(sides) else x
