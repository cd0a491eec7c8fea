"""Temporal layers (AnimateAnyone Sec. 3.2.3): AnimateDiff's motion modules (Guo et al. 2024) inside the denoiser."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def with_motion(unet2d: Any, adapter: Any) -> Any:
    """UNetMotionModel with the weights of `unet2d` and the motion modules of `adapter`."""
    from diffusers import UNetMotionModel
    from diffusers.utils import logging

    logging.get_logger("diffusers.models.modeling_utils").setLevel(
        logging.ERROR
    )  # from_unet2d casts to the dtype that it has: its warning is empty
    return UNetMotionModel.from_unet2d(unet2d, adapter)


def zero_motion_output(unet: Any) -> list[str]:
    """Zero the output projection of every motion module, so that fresh temporal layers change nothing; returns their names.

    MotionAdapter's own random initialisation does not do this. Not for modules that were trained.
    """
    names = []
    for name, module in unet.named_modules():
        if "motion_modules" in name and name.endswith(".proj_out") and isinstance(module, nn.Linear):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
            names.append(name)
    return names


def motion_parameters(unet: Any) -> dict[str, nn.Parameter]:
    """Parameters of the temporal layers, by name."""
    return {name: parameter for name, parameter in unet.named_parameters() if "motion_modules" in name}


class PerFrameGroupNorm(nn.GroupNorm):
    """Group normalisation of [B, C, F, h, w] with statistics of each frame alone."""

    def forward(self, clips: Tensor) -> Tensor:
        folded = super().forward(clips.transpose(1, 2).flatten(0, 1))
        return folded.unflatten(0, (clips.shape[0], clips.shape[2])).transpose(1, 2)


def normalise_per_frame(unet: Any) -> list[str]:
    """Normalise each frame by itself where motion modules begin; returns the names of the changed norms.

    The original AnimateDiff and Moore-AnimateAnyone do so, and weights made there expect it; diffusers pools the statistics over the clip.
    Parameters and their names stay.
    """
    names = [name for name, module in unet.named_modules() if "motion_modules" in name and isinstance(module, nn.GroupNorm)]
    for name in names:
        pooled = unet.get_submodule(name)
        own = PerFrameGroupNorm(pooled.num_groups, pooled.num_channels, pooled.eps)
        own.weight, own.bias = pooled.weight, pooled.bias
        unet.get_submodule(name.rpartition(".")[0]).norm = own
    return names
