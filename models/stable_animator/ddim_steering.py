"""Face optimisation for a DDIM sampler (Table 5's Stable Diffusion backbone): the prediction becomes x0, is steered, and becomes a prediction again."""

# F = frames of the clip, C h w = latents, a = cumulative alpha

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from models.noise import Objective, clean_estimate
from models.stable_animator.sampler import Steer


def steered_prediction(prediction: Tensor, noisy: Tensor, alpha: Tensor, objective: Objective, steer: Callable[[Tensor], Tensor]) -> Tensor:
    """The eps or v whose x0 at the noisy latents [F, C, h, w] is steer(x0); alpha: a, below 1, broadcasts.

    eps = (x_t - sqrt(a) x0) / sqrt(1 - a),   v = (sqrt(a) x_t - x0) / sqrt(1 - a)
    """
    clean = steer(clean_estimate(noisy, prediction, alpha, objective))
    if objective == "epsilon":
        return (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
    return (alpha.sqrt() * noisy - clean) / (1 - alpha).sqrt()


class SteeredScheduler:
    """A DDIM scheduler of diffusers (models/noise.make_scheduler) whose steps go towards a steered x0; for models/sampling_loop.sample_windows.

    The sampler hands it the guided, fused prediction of the whole clip, as `face_optimisation.steering` wants it. The noise level that the
    face optimisation asks for is sigma = sqrt((1 - a) / a), that of the same signal-to-noise ratio.
    """

    def __init__(self, scheduler: Any, objective: Objective, steer: Steer) -> None:
        self.scheduler, self.objective, self._steer = scheduler, objective, steer

    @property
    def timesteps(self) -> Tensor:
        """[N] the levels of `set_timesteps`, highest first."""
        return self.scheduler.timesteps

    def set_timesteps(self, steps: int) -> None:
        """As the scheduler's own."""
        self.scheduler.set_timesteps(steps)

    def step(self, prediction: Tensor, timestep: int, latents: Tensor, eta: float = 0.0) -> Any:
        """As the scheduler's own, of the steered prediction."""
        levels = self.timesteps.tolist()
        alpha = self.scheduler.alphas_cumprod[timestep].to(latents)
        # at zero terminal SNR a = 0: there is no face to see in pure noise, and sigma is finite all the same
        sigma = float(((1 - alpha) / alpha.clamp(min=1e-8)).sqrt())

        def steer(clean: Tensor) -> Tensor:
            return self._steer(clean, levels.index(timestep), len(levels), sigma)

        return self.scheduler.step(steered_prediction(prediction, latents, alpha, self.objective, steer), timestep, latents, eta=eta)
