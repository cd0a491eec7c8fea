"""ControlNet for poses (Zhang et al. 2023; HIA Sec. 3.2): residuals for the denoiser's down blocks and middle block."""

# R = references, N = rows of the denoiser (R * frames)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from models.pose_guider import widened_input


def controlnet_of(unet: Any, channels: int = 3, widths: Sequence[int] = (16, 32, 96, 256)) -> Any:
    """A fresh ControlNetModel with the encoder of `unet`; its zero convolutions make it change nothing.

    channels: of the condition image; the number of widths sets its stride, 2^(len - 1), which must be that of the latents.
    """
    from diffusers import ControlNetModel

    return ControlNetModel.from_unet(unet, conditioning_channels=channels, conditioning_embedding_out_channels=tuple(widths))


def take_more_channels(controlnet: Any, channels: int) -> Any:
    """The same ControlNet for condition images of more channels; the new ones have zero weights (HIA: the three of the blur map behind the pose).

    It starts as the pretrained network, whatever is in the new channels. Changes and returns `controlnet`.
    """
    embedding = controlnet.controlnet_cond_embedding
    embedding.conv_in = widened_input(embedding.conv_in, channels)
    controlnet.register_to_config(conditioning_channels=channels)
    return controlnet


def control_residuals(
    controlnet: Any, noisy: Tensor, timesteps: Tensor, tokens: Tensor, image: Tensor, dropped: Tensor | None = None
) -> dict[str, Any]:
    """Arguments `down_block_additional_residuals` and `mid_block_additional_residual` of a UNet2DConditionModel or UNetMotionModel.

    noisy [N, C, h, w] frames folded into rows, timesteps [N], tokens [N, S, D], image [N, channels, H, W] in [0, 1].
    dropped: [R] bool, each for N / R consecutive rows: zero residuals, which are no residuals. The network runs for them, too:
    a row's fate changes neither what other workers run nor which parameters get gradients.
    """
    down, middle = controlnet(noisy, timesteps, encoder_hidden_states=tokens, controlnet_cond=image, return_dict=False)
    if dropped is not None:
        keep = (~dropped).repeat_interleave(len(noisy) // len(dropped)).to(noisy)[:, None, None, None]
        down, middle = [value * keep for value in down], middle * keep
    return {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}
