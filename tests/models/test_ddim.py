"""DDIM in both directions: diffusers' own steps downwards, and the way back."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from models.ddim import STABLE_DIFFUSION, DdimSchedule
from models.frame_passes import frame_passes, shared_ticks
from models.noise import NoiseConfig

_STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1,
                     "set_alpha_to_one": False}  # fmt: skip


@pytest.mark.parametrize("steps", [4, 10, 50])
def test_steps_down_are_those_of_diffusers(steps: int) -> None:
    theirs = DDIMScheduler(**_STABLE_DIFFUSION)
    theirs.set_timesteps(steps)
    ours = DdimSchedule.of(STABLE_DIFFUSION, steps)
    assert list(ours.timesteps)[::-1] == theirs.timesteps.tolist()
    latents = torch.randn(2, 4, 8, 8)
    for level in range(steps, 0, -1):
        noise = torch.randn_like(latents)
        expected = theirs.step(noise, ours.timestep(level), latents, eta=0.0).prev_sample
        latents = ours.move(latents, noise, level, level - 1)
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)


def test_steps_up_are_those_of_diffusers() -> None:
    theirs = DDIMInverseScheduler(**_STABLE_DIFFUSION)
    theirs.set_timesteps(20)
    ours, latents, noise = DdimSchedule.of(STABLE_DIFFUSION, 20), torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    for level in range(1, 20):  # their first step starts at timestep 1 as ours at level 1
        expected = theirs.step(noise, theirs.timesteps[level], latents).prev_sample
        torch.testing.assert_close(ours.move(latents, noise, level, level + 1), expected, rtol=1e-4, atol=1e-4)


def test_v_is_turned_into_the_noise_that_it_means() -> None:
    schedule = DdimSchedule.of(NoiseConfig(), 5)
    clean, noise = torch.randn(1, 4, 8, 8, dtype=torch.float64), torch.randn(1, 4, 8, 8, dtype=torch.float64)
    for level in range(1, 6):
        alpha = schedule.alphas[level].double()
        noisy, v = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        torch.testing.assert_close(schedule.noise_of(v, noisy, level), noise)
        torch.testing.assert_close(
            schedule.move(noisy, noise, level, 0),
            schedule.alphas[0].double().sqrt() * clean + (1 - schedule.alphas[0].double()).sqrt() * noise,
        )


def test_down_undoes_up_where_the_noise_is_the_same() -> None:
    schedule, latents, noise = DdimSchedule.of(NoiseConfig(), 5), torch.randn(1, 4, 8, 8).double(), torch.randn(1, 4, 8, 8).double()
    torch.testing.assert_close(schedule.move(schedule.move(latents, noise, 0, 4), noise, 4, 0), latents)


def test_a_schedule_has_no_more_steps_than_training() -> None:
    with pytest.raises(ValueError, match="steps=1001"):
        DdimSchedule.of(STABLE_DIFFUSION, 1001)


@pytest.mark.parametrize("frames", [1, 2, 8, 9, 10, 31])
def test_passes_make_every_frame_once_and_show_it_its_predecessor(frames: int) -> None:
    passes = frame_passes(frames, 9)
    new = [frame for chosen, repeated in passes for frame in chosen[repeated:]]
    assert new == list(range(frames))
    for chosen, _ in passes:
        assert chosen[0] == 0
        assert len(chosen) <= 9
    for chosen, repeated in passes[1:]:
        assert chosen[1] == chosen[repeated] - 1
    with pytest.raises(ValueError, match="most=2"):
        frame_passes(5, 2)


def test_ticks_of_several_passes_are_those_of_one() -> None:
    seen: list[int] = []
    tick = shared_ticks(lambda: seen.append(1), 3)
    for _ in range(3 * 10):
        tick()
    assert len(seen) == 10
    shared_ticks(None, 1)()
