"""One call for both kinds of denoiser: frames as rows (UNet2DConditionModel) or as clips (UNetMotionModel)."""

# R = references, K = targets or frames per reference, C h w = latent channels, height, width, S D = tokens and their width

from __future__ import annotations

from typing import Any

from torch import Tensor


def sees_frames(denoiser: Any) -> bool:
    """Whether the frames of a clip see each other in motion modules."""
    from diffusers import UNetMotionModel

    return isinstance(denoiser, UNetMotionModel)


def denoise(denoiser: Any, noisy: Tensor, timesteps: Tensor, tokens: Tensor, **residuals: Any) -> Tensor:
    """What `denoiser` predicts for noisy latents [R, K, C, h, w]; same shape.

    timesteps: [R], or [R * K] where every frame has its own (not with motion modules). tokens [R, S, D] serve all frames of their reference,
    [R * K, S, D] one each. residuals: those of pose_controlnet.control_residuals, frames folded into rows.
    """
    references, each = noisy.shape[:2]
    context = tokens if len(tokens) == references * each else tokens.repeat_interleave(each, dim=0)
    if sees_frames(denoiser):
        return denoiser(noisy.transpose(1, 2), timesteps, encoder_hidden_states=context, **residuals).sample.transpose(1, 2)
    per_row = timesteps if len(timesteps) == references * each else timesteps.repeat_interleave(each, dim=0)
    out = denoiser(noisy.flatten(0, 1), per_row, encoder_hidden_states=context, **residuals).sample
    return out.unflatten(0, (references, each))
