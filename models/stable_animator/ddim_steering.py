"""Face optimisation for a DDIM sampler (Table 5's Stable Diffusion backbone): the prediction becomes x0, is steered, and becomes a prediction again."""

# F = frames of the clip, C h w = latents, a = cumulative alpha

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from models.noise import Objective, clean_estimate
from models.sampling_loop import Correct
from models.stable_animator.sampler import Steer


def steered_prediction(prediction: Tensor, noisy: Tensor, alpha: Tensor, objective: Objective, steer: Callable[[Tensor], Tensor]) -> Tensor:
    """The eps or v whose x0 at the noisy latents [F, C, h, w] is steer(x0); alpha: a, below 1, broadcasts.

    eps = (x_t - sqrt(a) x0) / sqrt(1 - a),   v = (sqrt(a) x_t - x0) / sqrt(1 - a)
    """
    clean = steer(clean_estimate(noisy, prediction, alpha, objective))
    if objective == "epsilon":
        return (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
    return (alpha.sqrt() * noisy - clean) / (1 - alpha).sqrt()


def steered_steps(scheduler: Any, objective: Objective, steer: Steer) -> Correct:
    """For models/sampling_loop.sample_windows with this DDIM scheduler of diffusers: every step goes towards the steered x0 of the whole clip.

    The noise level that the face optimisation asks for is sigma = sqrt((1 - a) / a), that of the same signal-to-noise ratio.
    """

    def correct(prediction: Tensor, latents: Tensor, timestep: int) -> Tensor:
        levels = scheduler.timesteps.tolist()
        alpha = scheduler.alphas_cumprod[timestep].to(latents)
        # at zero terminal SNR a = 0: there is no face to see in pure noise, and sigma is finite all the same
        sigma = float(((1 - alpha) / alpha.clamp(min=1e-8)).sqrt())
        place = levels.index(timestep)
        return steered_prediction(prediction, latents, alpha, objective, lambda clean: steer(clean, place, len(levels), sigma))

    return correct
