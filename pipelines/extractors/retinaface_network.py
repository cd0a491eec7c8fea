"""RetinaFace (Deng et al. 2020) in PyTorch, with the names of the public state dicts, so that they load strictly.

Two sizes of the widely used PyTorch version: MobileNet 0.25 (64 channels, leaky) and ResNet-50 (256 channels).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

_ANCHORS = 2  # per cell
_LEVELS = (1, 2, 3)  # strides 8, 16, 32
# MobileNet 0.25: (input, output channels, stride) of each depthwise block; stage 1 starts with a plain convolution to 8.
_STAGES = (
    ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)),
    ((64, 128, 2), *((128, 128, 1),) * 5),
    ((128, 256, 2), (256, 256, 1)),
)


def load_network(path: Path) -> nn.Module:
    """The network of a state dict, opened with weights_only=True. Raises UserError where a tensor is missing or one too many."""
    import torch

    try:
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state = {name.removeprefix("module."): tensor for name, tensor in loaded.items()}
    except Exception as error:  # a pickle with code in it, or no pickle of tensors at all
        raise UserError(f"{path} is no plain state dict ({str(error)[:200]}); fetch it again") from None
    network = build_network(resnet="body.layer4.0.conv1.weight" in state)
    wrong = sorted(network.state_dict().keys() ^ state.keys())
    if wrong:
        raise UserError(f"{path} is no RetinaFace that we know; missing or unexpected: {', '.join(wrong[:5])}")
    network.load_state_dict(state, strict=True)
    return network.eval().requires_grad_(False)


def build_network(*, resnet: bool) -> nn.Module:
    """ResNet-50 or MobileNet 0.25 with pyramid, context modules and heads; random weights."""
    widths, channels = ((512, 1024, 2048), 256) if resnet else ((64, 128, 256), 64)
    leak = 0.1 if channels <= 64 else 0.0
    outputs = {f"output{level}": _convolution(width, channels, 1, leak) for level, width in zip(_LEVELS, widths, strict=True)}
    merges = {f"merge{level}": _convolution(channels, channels, 3, leak) for level in (1, 2)}
    contexts = {f"ssh{level}": _context(channels, leak) for level in _LEVELS}
    heads = {"ClassHead": _head(channels, 2), "BboxHead": _head(channels, 4), "LandmarkHead": _head(channels, 10)}
    return _tree(body=_resnet() if resnet else _mobilenet(), fpn=_tree(**outputs, **merges), **contexts, **heads)


def forward(network: Any, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[N, 3, H, W] -> offsets [N, A, 4], face probability [N, A], points [N, A, 10]; anchors of stride 8 first."""
    import torch
    from torch.nn.functional import interpolate

    levels = _features(network.body, images)
    low, middle, high = (getattr(network.fpn, f"output{i}")(level) for i, level in zip(_LEVELS, levels, strict=True))
    middle = network.fpn.merge2(middle + interpolate(high, size=middle.shape[2:], mode="nearest"))
    low = network.fpn.merge1(low + interpolate(middle, size=low.shape[2:], mode="nearest"))
    maps = [_in_context(getattr(network, f"ssh{i}"), level) for i, level in zip(_LEVELS, (low, middle, high), strict=True)]
    offsets, scores, points = (
        torch.cat([head.conv1x1(x).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, size)) for head, x in zip(heads, maps, strict=True)], 1)
        for heads, size in ((network.BboxHead, 4), (network.ClassHead, 2), (network.LandmarkHead, 10))
    )
    return offsets, scores.softmax(-1)[..., 1], points


def _features(body: Any, x: Tensor) -> list[Tensor]:
    """Maps of strides 8, 16, 32."""
    if hasattr(body, "stage1"):
        stages = [body.stage1, body.stage2, body.stage3]
    else:
        x = body.layer1(body.maxpool(body.relu(body.bn1(body.conv1(x)))))
        stages = [body.layer2, body.layer3, body.layer4]
    maps = []
    for stage in stages:
        x = stage(x)
        maps.append(x)
    return maps


def _in_context(module: Any, x: Tensor) -> Tensor:
    """Receptive fields of 3, 5 and 7 side by side (SSH, Najibi et al. 2017)."""
    import torch

    shared = module.conv5X5_1(x)
    parts = [module.conv3X3(x), module.conv5X5_2(shared), module.conv7x7_3(module.conv7X7_2(shared))]
    return torch.cat(parts, dim=1).relu()


# --- parts ---------------------------------------------------------------------------------------------------------------


def _tree(**children: nn.Module) -> nn.Module:
    """Named modules without a forward of their own."""
    from torch import nn

    tree = nn.Module()
    for name, child in children.items():
        tree.add_module(name, child)
    return tree


def _convolution(inputs: int, outputs: int, size: int, leak: float | None, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution and batch norm, then ReLU of slope `leak` below 0 (None: no ReLU)."""
    from torch import nn

    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([] if leak is None else [nn.LeakyReLU(leak)]))


def _context(channels: int, leak: float) -> nn.Module:
    half, quarter = channels // 2, channels // 4
    return _tree(
        conv3X3=_convolution(channels, half, 3, None),
        conv5X5_1=_convolution(channels, quarter, 3, leak),
        conv5X5_2=_convolution(quarter, quarter, 3, None),
        conv7X7_2=_convolution(quarter, quarter, 3, leak),
        conv7x7_3=_convolution(quarter, quarter, 3, None),
    )


def _head(channels: int, values: int) -> nn.ModuleList:
    from torch import nn

    return nn.ModuleList([_tree(conv1x1=nn.Conv2d(channels, _ANCHORS * values, 1)) for _ in _LEVELS])


def _mobilenet() -> nn.Module:
    from torch import nn

    stages = [[_separable(*block) for block in stage] for stage in _STAGES]
    stages[0].insert(0, _convolution(3, 8, 3, 0.1, stride=2))
    return _tree(**{f"stage{i}": nn.Sequential(*stage) for i, stage in enumerate(stages, 1)})


def _separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    from torch import nn

    return nn.Sequential(*_convolution(inputs, inputs, 3, 0.1, stride, groups=inputs), *_convolution(inputs, outputs, 1, 0.1))


def _resnet() -> nn.Module:
    from torchvision.models import resnet50

    body: nn.Module = resnet50(weights=None)
    del body.fc  # the classifier is no part of the detector
    return body
