"""The noise schedule against known values, and the algebra of v-prediction."""

from __future__ import annotations

import pytest
import torch

from models.noise import (
    NoiseConfig,
    add_noise,
    alpha_bar,
    diffusion_loss,
    draw_noise,
    linear_estimate,
    loss_weight,
    make_scheduler,
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
    result = sample_windows(predict, torch.randn(6, 4, 2, 2), scheduler, 10, windows)
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
