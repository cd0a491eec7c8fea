"""Noise levels and samplers: EDM's identities, SVD's list, the released code's distribution, and samplers that are exact where the solution is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch import Tensor

from models.stable_animator.edm import SigmaConfig, cosine_interpolated, denoising_weight, draw_sigmas, preconditioning, sampling_sigmas
from models.stable_animator.sampler import Churn, initial_latents, sample_edm


def test_preconditioning_at_its_ends() -> None:
    """Without noise the answer is the input; with nothing but noise it is the network's, whose input has unit deviation."""
    ends = preconditioning(torch.tensor([1e-6, 1e6], dtype=torch.float64))
    torch.testing.assert_close(ends.c_skip, torch.tensor([1.0, 0.0], dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(ends.c_out, torch.tensor([0.0, -1.0], dtype=torch.float64), rtol=0, atol=1e-6)
    torch.testing.assert_close(
        ends.c_in * torch.tensor([1e-6, 1e6]).double(), torch.tensor([0.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-5
    )
    assert preconditioning(torch.tensor([math.e])).c_noise.item() == pytest.approx(0.25)


def test_preconditioning_with_the_true_v_gives_the_clean_latents() -> None:
    """F = (x - (s^2 + 1) x0) / (s sqrt(s^2 + 1)) is v of the variance-preserving point c_in x (Salimans & Ho 2022)."""
    clean, noise, sigma = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([0.1, 1.0, 30.0])[:, None]
    noisy = clean + sigma * noise
    v = (noise - sigma * clean) / (sigma.square() + 1).sqrt()
    given = preconditioning(sigma)
    torch.testing.assert_close(given.c_skip * noisy + given.c_out * v, clean, rtol=0, atol=1e-4)


def test_the_skip_is_the_best_linear_estimate_of_small_latents() -> None:
    """Of x0 with deviation s from x0 + sigma n nobody linear does better: a grid of other factors around it has a larger error."""
    std, generator = 0.15, torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 200_000, generator=generator)
    for sigma in (0.05, 0.15, 0.6):
        noisy = clean * std + sigma * noise
        skip = float(preconditioning(torch.tensor([sigma]), std).c_skip)
        errors = {factor: float((factor * skip * noisy - clean * std).square().mean()) for factor in (0.9, 1.0, 1.1)}
        assert min(errors, key=errors.__getitem__) == 1.0
        assert errors[1.0] == pytest.approx(std**2 * sigma**2 / (std**2 + sigma**2), rel=0.01)
    assert preconditioning(torch.tensor([3.0]), 1.0).c_skip.item() == pytest.approx(0.1)


def test_the_weight_makes_every_level_count_the_same() -> None:
    sigma = torch.logspace(-2, 2, 9)
    torch.testing.assert_close(denoising_weight(sigma) * preconditioning(sigma).c_out.square(), torch.ones(9))


def test_sampling_levels_are_those_of_svd_s_scheduler() -> None:
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction", use_karras_sigmas=True,
        sigma_min=0.002, sigma_max=700.0, timestep_spacing="leading", timestep_type="continuous", steps_offset=1, interpolation_type="linear",
    )  # fmt: skip
    scheduler.set_timesteps(25)
    ours = sampling_sigmas(25)
    torch.testing.assert_close(ours, scheduler.sigmas.float(), rtol=1e-4, atol=1e-5)
    assert [round(float(sigma), 1) for sigma in ours[:3]] == [700.0, 545.7, 421.6]
    assert ours[-2:].tolist() == pytest.approx([0.002, 0.0])
    assert float(initial_latents(torch.ones(1), 700.0)) == pytest.approx(float(scheduler.init_noise_sigma), abs=1e-3)


def test_cosine_interp_has_the_quantiles_of_the_released_code() -> None:
    # 1, 25, 50, 75 and 99 % of sigma; u = 0 is the highest level
    found = cosine_interpolated(torch.tensor([0.99, 0.75, 0.5, 0.25, 0.01], dtype=torch.float64), SigmaConfig())
    assert found.tolist() == pytest.approx([0.0099, 0.25, 0.71, 2.03, 58.0], rel=0.02)
    ends = cosine_interpolated(torch.tensor([0.0, 1.0], dtype=torch.float64), SigmaConfig())
    assert ends.tolist() == pytest.approx([700.0, 0.002], rel=1e-3)


@pytest.mark.parametrize(("name", "median", "spread"), [("svd", 2.01, 1.6), ("svd_xt", 2.72, 1.6), ("edm", 0.30, 1.2)])
def test_lognormal_levels(name: str, median: float, spread: float) -> None:
    drawn = draw_sigmas(SigmaConfig(distribution=name), 20_000, torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    assert drawn.median().item() == pytest.approx(median, rel=0.05)
    assert drawn.log().std().item() == pytest.approx(spread, rel=0.05)


def test_drawn_cosine_levels_follow_their_quantile_function() -> None:
    drawn = draw_sigmas(SigmaConfig(), 20_000, torch.Generator().manual_seed(0))
    assert drawn.median().item() == pytest.approx(0.71, rel=0.05)
    other = draw_sigmas(replace(SigmaConfig(), largest=10.0), 1000, torch.Generator().manual_seed(0))
    assert float(other.max()) <= 10.0 + 1e-3


# --- samplers --------------------------------------------------------------------------------------------------------


def _gaussian(x: Tensor, sigma: float) -> Tensor:
    """The exact denoiser of data N(3, 0.25): D = (s^2 m + d^2 x) / (s^2 + d^2)."""
    return (sigma**2 * 3.0 + 0.25 * x) / (sigma**2 + 0.25)


def _exact(x: Tensor, sigma: float) -> Tensor:
    """Where the flow takes x at sigma: the distance to the mean shrinks with sqrt(s^2 + d^2)."""
    return 3.0 + (x - 3.0) * 0.5 / math.sqrt(sigma**2 + 0.25)


def test_a_point_distribution_is_reached_in_any_number_of_steps() -> None:
    there = torch.randn(2, 4, 3, 3)
    start = initial_latents(torch.randn(2, 4, 3, 3), 700.0)
    for sampler in ("euler", "heun"):
        made = sample_edm(lambda x, sigma: there, start, sampling_sigmas(3), sampler=sampler)  # type: ignore[arg-type]
        torch.testing.assert_close(made, there, rtol=0, atol=1e-3)


def test_heun_is_a_higher_order_than_euler() -> None:
    start = torch.linspace(-20, 20, 8)[:, None, None, None]
    truth = _exact(start, 10.0)

    def error(sampler: str, steps: int) -> float:
        return float((sample_edm(_gaussian, start, sampling_sigmas(steps, 0.02, 10.0), sampler=sampler) - truth).abs().max())  # type: ignore[arg-type]

    assert error("euler", 20) / error("euler", 40) == pytest.approx(2, rel=0.25)
    assert error("heun", 20) / error("heun", 40) > 3.4
    assert error("heun", 40) < error("euler", 40) / 10


def test_euler_is_the_scheduler_s() -> None:
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction", use_karras_sigmas=True,
        sigma_min=0.002, sigma_max=700.0, timestep_spacing="leading", timestep_type="continuous", steps_offset=1,
    )  # fmt: skip
    scheduler.set_timesteps(5)
    x = start = initial_latents(torch.randn(1, 4, 3, 3, generator=torch.Generator().manual_seed(0)), 700.0)
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, timestep)
        sigma = float(scheduler.sigmas[scheduler.step_index])
        given = preconditioning(torch.tensor([sigma]))
        x = scheduler.step((_gaussian(x, sigma) - given.c_skip * x) / given.c_out, timestep, x).prev_sample
        assert scaled.shape == x.shape
    torch.testing.assert_close(sample_edm(_gaussian, start, sampling_sigmas(5)), x, rtol=0, atol=1e-3)


def test_churn_adds_noise_between_its_bounds_alone() -> None:
    churn = Churn(amount=40.0, smallest=0.05, largest=50.0)
    assert churn.gamma(60.0, 100) == churn.gamma(0.01, 100) == 0.0
    assert churn.gamma(1.0, 100) == pytest.approx(0.4)
    assert churn.gamma(1.0, 10) == pytest.approx(math.sqrt(2) - 1)


def test_the_stochastic_sampler_keeps_the_distribution() -> None:
    """Churned and denoised exactly, samples still follow the data's distribution; the noise is the generator's."""
    start = initial_latents(torch.randn(4000, 1, 1, 1, generator=torch.Generator().manual_seed(0)), 80.0)

    def sample(seed: int) -> Tensor:
        levels, noise = sampling_sigmas(40, 0.01, 80.0), torch.Generator().manual_seed(seed)
        return sample_edm(_gaussian, start, levels, sampler="heun", churn=Churn(noise_std=1.0), generator=noise)

    made = sample(1)
    assert made.mean().item() == pytest.approx(3.0, abs=0.03)
    assert made.std().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(made, sample(1))
    assert not torch.equal(made, sample(2))


def test_steering_replaces_the_prediction_of_every_step_but_not_heun_s_correction() -> None:
    seen: list[tuple[int, int, float]] = []

    def steer(predicted: Tensor, i: int, steps: int, sigma: float) -> Tensor:
        seen.append((i, steps, sigma))
        return torch.full_like(predicted, 7.0)

    start, levels = torch.zeros(1, 1, 1, 1), sampling_sigmas(4, 0.1, 10.0)
    euler = sample_edm(_gaussian, start, levels, steer=steer)
    torch.testing.assert_close(euler, torch.full_like(euler, 7.0), rtol=0, atol=1e-4)
    assert [(i, n) for i, n, _ in seen] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [s for *_, s in seen] == pytest.approx(levels[:-1].tolist())
    # the last step has no correction: where it goes is the steered prediction alone
    torch.testing.assert_close(sample_edm(_gaussian, start, levels, sampler="heun", steer=steer), euler, rtol=0, atol=1e-4)
