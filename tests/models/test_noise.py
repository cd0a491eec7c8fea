"""The noise schedule against known values, and the algebra of v-prediction."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from models.noise import (
    NoiseConfig,
    Objective,
    add_noise,
    alpha_bar,
    clean_estimate,
    diffusion_loss,
    draw_noise,
    linear_estimate,
    loss_weight,
    make_scheduler,
    plain_betas,
    shift_of_size,
    shifted_betas,
    target_of,
)
from models.sampling_loop import sample_windows

PLAIN = NoiseConfig(objective="epsilon", zero_terminal_snr=False, min_snr_gamma=None, noise_offset=0.0)


def test_zero_terminal_snr_leaves_no_signal_at_the_last_step() -> None:
    scheduler = make_scheduler(NoiseConfig())
    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0, abs=1e-7)
    assert float(scheduler.alphas_cumprod[500]) == pytest.approx(0.241, abs=1e-3)


def test_the_plain_schedule_is_that_of_stable_diffusion() -> None:
    scheduler = make_scheduler(PLAIN)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), (1 - betas).cumprod(0), rtol=1e-4, atol=1e-7)
    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0.00466, abs=1e-5)


def test_sampling_begins_at_the_last_training_step() -> None:
    scheduler = make_scheduler(NoiseConfig())
    scheduler.set_timesteps(20)
    assert scheduler.timesteps.tolist() == list(range(999, 0, -50))
    assert scheduler.timesteps[-1] == 49


def test_v_and_the_noisy_sample_give_back_x0_and_noise() -> None:
    """x0 = sqrt(a) x_t - sqrt(1 - a) v and eps = sqrt(1 - a) x_t + sqrt(a) v: a rotation (Salimans & Ho 2022)."""
    x0, noise, alpha = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2), torch.rand(5, 1, 1, 1)
    noisy, v = add_noise(x0, noise, alpha), target_of(x0, noise, alpha, "v")
    torch.testing.assert_close(alpha.sqrt() * noisy - (1 - alpha).sqrt() * v, x0, rtol=0, atol=1e-5)
    torch.testing.assert_close((1 - alpha).sqrt() * noisy + alpha.sqrt() * v, noise, rtol=0, atol=1e-5)
    assert target_of(x0, noise, alpha, "epsilon") is noise


def test_noise_and_target_agree_with_diffusers() -> None:
    scheduler = make_scheduler(NoiseConfig())
    x0, noise, times = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2), torch.tensor([0, 49, 500, 999])
    alpha = alpha_bar(scheduler, times, x0)
    torch.testing.assert_close(add_noise(x0, noise, alpha), scheduler.add_noise(x0, noise, times), rtol=0, atol=1e-6)
    torch.testing.assert_close(target_of(x0, noise, alpha, "v"), scheduler.get_velocity(x0, noise, times), rtol=0, atol=1e-6)


def test_min_snr_weights_are_those_of_the_paper() -> None:
    """eps: min(SNR, g) / SNR; v: min(SNR + 1, g) / (SNR + 1), g = 5 (Hang et al. 2023)."""
    snr = torch.tensor([0.0, 0.5, 4.0, 5.0, 50.0]).view(-1, 1)
    alpha = snr / (1 + snr)
    v = loss_weight(alpha, NoiseConfig()).flatten()
    torch.testing.assert_close(v, torch.tensor([1, 1, 1, 5 / 6, 5 / 51]), rtol=1e-4, atol=1e-6)
    epsilon = loss_weight(alpha[1:], NoiseConfig(objective="epsilon", zero_terminal_snr=False)).flatten()
    torch.testing.assert_close(epsilon, torch.tensor([1, 1, 1, 0.1]), rtol=1e-4, atol=1e-6)
    assert torch.equal(loss_weight(alpha, PLAIN), torch.ones_like(alpha))


def test_the_loss_is_a_weighted_mean_square() -> None:
    weight = torch.tensor([1.0, 3.0]).view(2, 1)
    assert float(diffusion_loss(torch.zeros(2, 4), torch.ones(2, 4), weight)) == pytest.approx(2.0)


def test_noise_offset_shifts_whole_channels() -> None:
    config = NoiseConfig(noise_offset=0.5)
    noise = draw_noise(torch.Size((400, 2, 8, 8)), config, torch.Generator().manual_seed(0))
    plain = draw_noise(torch.Size((400, 2, 8, 8)), NoiseConfig(noise_offset=0.0), torch.Generator().manual_seed(0))
    shift = noise - plain
    torch.testing.assert_close(shift, shift[..., :1, :1].expand_as(shift), rtol=0, atol=1e-6)
    assert float(shift[..., 0, 0].std()) == pytest.approx(0.5, rel=0.1)


def test_epsilon_at_zero_snr_is_refused() -> None:
    with pytest.raises(ValueError, match="zero SNR"):
        NoiseConfig(objective="epsilon")


@pytest.mark.parametrize("config", [NoiseConfig(), PLAIN], ids=["v", "epsilon"])
def test_ddim_with_the_true_prediction_arrives_at_the_truth(config: NoiseConfig) -> None:
    """One data point: the best predictor knows x0, so every DDIM step stays on the line from noise to x0."""
    scheduler = make_scheduler(config)
    truth = torch.randn(6, 4, 2, 2)

    def predict(latents: torch.Tensor, window: list[int], timestep: int) -> torch.Tensor:
        alpha = alpha_bar(scheduler, torch.full((len(window),), timestep), latents)
        noise = (latents - alpha.sqrt() * truth[window]) / (1 - alpha).sqrt()
        return target_of(truth[window], noise, alpha, config.objective)

    windows = [[0, 1, 2, 3], [2, 3, 4, 5]]
    result = sample_windows(predict, torch.randn(6, 4, 2, 2), scheduler, 10, lambda _: windows)
    torch.testing.assert_close(result, truth, rtol=0, atol=1e-5)


def test_the_linear_estimate_is_the_regression_of_v_on_the_noisy_sample() -> None:
    alpha, s = torch.tensor(0.6), 0.3
    generator = torch.Generator().manual_seed(0)
    x0, noise = s * torch.randn(400_000, generator=generator), torch.randn(400_000, generator=generator)
    noisy, v = add_noise(x0, noise, alpha), target_of(x0, noise, alpha, "v")
    slope = (noisy * v).mean() / noisy.square().mean()
    assert linear_estimate(torch.ones(()), alpha, s).item() == pytest.approx(slope.item(), abs=3e-3)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.999])
def test_a_sample_without_signal_is_estimated_exactly(alpha: float) -> None:
    a, noise = torch.tensor(alpha), torch.randn(50, generator=torch.Generator().manual_seed(1))
    x0 = torch.zeros(50)
    estimate = linear_estimate(add_noise(x0, noise, a), a, 1e-6)
    torch.testing.assert_close(estimate, target_of(x0, noise, a, "v"), atol=1e-5, rtol=1e-4)


def test_unit_variance_needs_no_skip() -> None:
    assert linear_estimate(torch.ones(3), torch.tensor(0.5), 1.0).abs().max() == 0


LINEAR = NoiseConfig(objective="epsilon", zero_terminal_snr=False, schedule="linear", min_snr_gamma=None, noise_offset=0.0)


@pytest.mark.parametrize(("gamma", "terminal"), [(1.0, 0.0397), (0.571, 0.0300), (0.5, 0.0281), (0.25, 0.0199)])
def test_the_shifted_schedule_keeps_a_share_of_the_reference(gamma: float, terminal: float) -> None:
    """sqrt(alpha_bar) at the last step: what HIA's initial noise keeps of the reference latent."""
    scheduler = make_scheduler(replace(LINEAR, shift_gamma=gamma))
    assert float(scheduler.alphas_cumprod[-1].sqrt()) == pytest.approx(terminal, abs=6e-5)


def test_the_shifted_schedule_in_the_range_of_regional_supervision() -> None:
    shifted, plain = make_scheduler(replace(LINEAR, shift_gamma=0.571)), make_scheduler(LINEAR)
    assert float(shifted.alphas_cumprod[124]) == pytest.approx(0.729, abs=6e-4)
    assert float((1 - shifted.alphas_cumprod[124]).sqrt()) == pytest.approx(0.52, abs=3e-3)
    assert float(plain.alphas_cumprod[124]) == pytest.approx(0.825, abs=6e-4)
    assert float((1 - plain.alphas_cumprod[124]).sqrt()) == pytest.approx(0.42, abs=3e-3)


@pytest.mark.parametrize("config", [LINEAR, PLAIN], ids=["linear", "scaled_linear"])
def test_shifting_multiplies_the_signal_to_noise_ratio(config: NoiseConfig) -> None:
    def snr(betas: torch.Tensor) -> torch.Tensor:
        alpha = (1 - betas).cumprod(0)
        return alpha / (1 - alpha)

    betas = plain_betas(config)
    torch.testing.assert_close(snr(shifted_betas(betas, 0.3)), 0.3 * snr(betas), rtol=1e-9, atol=0)
    torch.testing.assert_close(shifted_betas(betas, 1.0), betas, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(make_scheduler(config).betas.double(), betas, rtol=1e-5, atol=1e-8)


def test_the_last_steps_of_public_schedules_differ() -> None:
    assert float(make_scheduler(LINEAR).alphas_cumprod[-1]) == pytest.approx(0.00158, abs=1e-5)
    assert float(make_scheduler(PLAIN).alphas_cumprod[-1]) == pytest.approx(0.00466, abs=1e-5)


def test_gamma_follows_the_size() -> None:
    assert shift_of_size(896, 512) == pytest.approx(0.571, abs=1e-3)
    assert shift_of_size(512, 512) == 1.0
    assert shift_of_size(256, 256) == 1.0
    with pytest.raises(ValueError, match="shift_gamma=0"):
        NoiseConfig(shift_gamma=0.0)


@pytest.mark.parametrize("objective", ["v", "epsilon"])
def test_the_one_step_estimate_of_a_true_prediction_is_the_truth(objective: Objective) -> None:
    x0, noise, alpha = torch.randn(5, 4, 2, 2), torch.randn(5, 4, 2, 2), 0.05 + 0.9 * torch.rand(5, 1, 1, 1)
    prediction = target_of(x0, noise, alpha, objective)
    torch.testing.assert_close(clean_estimate(add_noise(x0, noise, alpha), prediction, alpha, objective), x0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [NoiseConfig(), PLAIN, replace(LINEAR, shift_gamma=0.571)], ids=["v", "epsilon", "shifted"])
def test_a_ddim_step_is_equation_12_of_the_paper(config: NoiseConfig) -> None:
    """Song et al. 2021, eta 0: x_s = sqrt(a_s) x0 + sqrt(1 - a_s) eps, written out beside diffusers'."""
    scheduler = make_scheduler(config)
    scheduler.set_timesteps(10)
    noisy, prediction = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    for now, then in pairwise(scheduler.timesteps.tolist()):
        alpha, later = scheduler.alphas_cumprod[now], scheduler.alphas_cumprod[then]
        x0 = clean_estimate(noisy, prediction, alpha, config.objective)
        eps = prediction if config.objective == "epsilon" else (1 - alpha).sqrt() * noisy + alpha.sqrt() * prediction
        theirs = scheduler.step(prediction, now, noisy, eta=0.0).prev_sample
        torch.testing.assert_close(add_noise(x0, eps, later), theirs, rtol=1e-5, atol=1e-5)
