"""HIA's three techniques of Sec. 3.4, the blur map of a driving clip, and the whole way from clip to clip."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.animator import Driving, Reference
from models.checkpoint import read_manifest, verify
from models.clip_dataset import ClipStore, TrainingClip
from models.clip_sampling import generate_latents
from models.demo_additions import DemoAdditions
from models.hia.config import PAPER, HiaConfig, Sampling
from models.hia.method import HIA
from models.hia.network import HiaCondition, fresh_network
from models.hia.sampling import (
    animation_cfg,
    driving_blur,
    initial_reference_noise,
    make_latents,
    pieces,
    prompt_travel,
    with_frames,
    with_sharpness,
)  # fmt: skip
from models.hia.stages import stage_loss, start, train_stage
from models.latents import LatentCodec
from models.noise import make_scheduler
from models.reference_attention import ReferenceBank
from models.signals import Signals
from models.stage_training import StageRun
from tests.models.tiny_hia import SIZE, TINY, awake, condition_for, with_signals

IDENTITY = {"checkpoint_id": "0" * 16, "method": "hia", "variant": "tiny", "dataset": "tests"}


# --- initial reference noise ----------------------------------------------------------------------------------


def test_the_reference_weighs_three_percent_at_the_start() -> None:
    """gamma = .571: sqrt(alpha_bar_T) = .0300, in the schedule that trains and in the one that samples, which is the same."""
    scheduler = make_scheduler(PAPER.noise)
    assert float(scheduler.alphas_cumprod[-1].sqrt()) == pytest.approx(0.0300, abs=5e-5)
    assert float(scheduler.alphas_cumprod[124]) == pytest.approx(0.729, abs=1e-3)
    scheduler.set_timesteps(PAPER.sampling.steps)
    assert int(scheduler.timesteps[0]) == 999
    latent = torch.randn(1, 4, 8, 8)
    noise = initial_reference_noise(latent, 3, scheduler, seed=0)
    without = initial_reference_noise(torch.zeros_like(latent), 3, scheduler, seed=0)
    torch.testing.assert_close(noise - without, 0.03 * latent.expand(3, -1, -1, -1), rtol=2e-3, atol=1e-6)
    assert not torch.equal(without[0], without[1])


def test_training_and_sampling_share_one_shifted_schedule(codec: LatentCodec, clips: list[TrainingClip]) -> None:
    network = fresh_network(TINY)
    loss = stage_loss("stage_1", network, with_signals(clips), codec, seed=0)
    expected = make_scheduler(PAPER.noise).alphas_cumprod
    assert torch.equal(loss.scheduler.alphas_cumprod, expected)
    assert torch.equal(network.scheduler.alphas_cumprod, expected)
    plain = make_scheduler(replace(PAPER.noise, shift_gamma=1.0)).alphas_cumprod
    assert float(plain[-1].sqrt()) == pytest.approx(0.0397, abs=5e-5)
    assert float(plain[124]) == pytest.approx(0.825, abs=1e-3)


# --- animation-cfg --------------------------------------------------------------------------------------------


class _Linear:
    """A toy denoiser: the noise is 0, or 1 where the condition is not dropped."""

    noise, additions = PAPER.noise, PAPER.additions

    def __init__(self) -> None:
        self.unconditional = 0

    def __call__(self, noisy: Tensor, timesteps: Tensor, condition: HiaCondition) -> Tensor:
        self.unconditional += int(condition.dropped.all())
        return torch.zeros_like(noisy) if condition.dropped.all() else torch.ones_like(noisy)


def _one_step(sampling: Sampling) -> tuple[float, int]:
    """(the guided noise that one step of a toy sampler used, unconditional passes)."""
    network, condition = _Linear(), condition_for(TINY, each=2)
    whole = with_frames(condition, condition.pose, condition.blur)
    start_at = torch.zeros(2, 16, 8, 8)
    made = generate_latents(network, whole, replace(sampling, steps=1), 0, guided=animation_cfg(sampling), noise=start_at)
    alpha = make_scheduler(PAPER.noise).alphas_cumprod[-1]
    return float(-(made * alpha.sqrt() / (1 - alpha).sqrt()).mean()), network.unconditional


@pytest.mark.parametrize(
    ("form", "scale", "noise"),
    [("usual", 1.5, 1.5), ("from_conditional", 0.5, 1.5), ("printed", -1.5, 1.5), ("printed", 1.5, -1.5), ("usual", 1.0, 1.0)],
)
def test_the_three_forms_on_a_linear_model(form: Any, scale: float, noise: float) -> None:
    """e_u = 0, e_c = 1: as printed, every positive weight leads away from the condition."""
    guided, passes = _one_step(Sampling(acfg_form=form, guidance_scale=scale))
    assert guided == pytest.approx(noise, rel=1e-4)
    assert passes == (0 if scale == 1.0 else 1)


@pytest.mark.parametrize("sampling", [Sampling(acfg=False, steps=3), Sampling(guidance_scale=2.0, steps=3)])
def test_a_reference_that_is_read_once_gives_the_same_clip(sampling: Sampling) -> None:
    torch.manual_seed(0)
    network, condition, read = fresh_network(TINY).eval(), condition_for(TINY, each=6), list[int]()
    network.appearance.register_forward_pre_hook(lambda module, inputs: read.append(1))
    whole, windowed = with_frames(condition, condition.pose, condition.blur), replace(sampling, window=4, overlap=2)

    def made() -> Tensor:
        read.clear()
        return generate_latents(network, whole, windowed, 0, guided=animation_cfg(windowed))

    once, times = made(), len(read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReferenceBank, "remembering", lambda bank: nullcontext())
        torch.testing.assert_close(made(), once, rtol=0, atol=0)
    assert (times, len(read)) == (1, 2 * 3)  # windows x steps


def test_without_animation_cfg_the_unconditional_branch_never_runs() -> None:
    guided, passes = _one_step(Sampling(acfg=False))
    assert guided == pytest.approx(1.0, rel=1e-4)
    assert passes == 0


# --- prompt travelling ----------------------------------------------------------------------------------------


def test_windows_travel_from_step_to_step_and_cover_everything() -> None:
    sampling = Sampling(steps=25)
    windows_at = prompt_travel(50, sampling, seed=0)
    windows = [windows_at(step) for step in range(25)]
    assert len({tuple(w[0] for w in step) for step in windows}) > 5
    for step in windows:
        assert {frame for window in step for frame in window} == set(range(50))
        assert {len(window) for window in step} == {16}
    assert [prompt_travel(50, sampling, seed=0)(step) for step in range(25)] == windows
    assert [prompt_travel(50, sampling, seed=1)(step) for step in range(25)] != windows


def _latents(config: HiaConfig, condition: HiaCondition, **changes: Any) -> Tensor:
    torch.manual_seed(0)
    network = awake(fresh_network(config))
    whole = with_frames(condition, condition.pose, condition.blur)
    return make_latents(network, whole, replace(config.sampling, **changes), seed=0)


def test_each_technique_changes_the_clip() -> None:
    condition = condition_for(TINY, each=9)
    full = _latents(TINY, condition)
    assert torch.equal(full, _latents(TINY, condition))
    for change in ({"acfg": False}, {"irn": False}):
        assert not torch.allclose(_latents(TINY, condition, **change), full, atol=1e-3)


def test_without_temporal_layers_borders_of_windows_do_not_matter() -> None:
    """Each frame is denoised by itself, so travelling windows and fixed ones agree: nothing but the windows differs."""
    condition = condition_for(TINY, each=9)
    torch.testing.assert_close(_latents(TINY, condition, prompt_travel=False), _latents(TINY, condition), rtol=1e-3, atol=1e-3)


# --- the blur map of a driving clip -----------------------------------------------------------------------------


@pytest.fixture
def driving(clips: list[TrainingClip]) -> Driving:
    store = ClipStore(with_signals(clips), SIZE, _NoCodec(), needs=("hands",))  # type: ignore[arg-type]
    scale = SIZE[0] / 48
    points = clips[0].keypoints * scale
    return Driving(
        points=points, scores=clips[0].scores, fps=12.0, signals=store._signals(0, range(12), store._view(0, np.random.default_rng(0)))
    )


class _NoCodec:
    """Signals need no latents."""


def test_the_map_is_that_of_the_driving_clip(driving: Driving) -> None:
    assert driving_blur(TINY, driving) is driving.signals.blur
    assert driving_blur(replace(TINY, blur=replace(TINY.blur, enabled=False)), driving)[[0, 1]].abs().max() == 0


def test_retargeting_in_the_sampler_would_leave_the_map_behind() -> None:
    with pytest.raises(ValueError, match="blur map"):
        replace(TINY.sampling, retarget="limb")


def test_sharpness_can_be_a_constant(driving: Driving) -> None:
    blur = driving.signals.blur
    assert blur is not None
    constant = with_sharpness(blur, 0.4)
    hand = (blur > 0).any(dim=1)
    assert torch.equal(constant[:, :2], blur[:, :2])
    assert sorted({round(float(value), 6) for value in constant[:, 2][hand]}) == pytest.approx([0.4])
    assert constant[:, 2][~hand].abs().max() == 0
    config = replace(TINY, sampling=replace(TINY.sampling, sharpness="constant", clean_sharpness=0.4))
    made = driving_blur(config, driving)
    assert isinstance(made, Tensor)
    assert torch.equal(made, constant)


def test_a_clip_without_hands_is_an_error(driving: Driving) -> None:
    with pytest.raises(ValueError, match="hands"):
        driving_blur(TINY, replace(driving, signals=Signals()))


# --- from clips to a clip ----------------------------------------------------------------------------------------


def _run(stage: str, out: Path, parent: Path | None = None) -> StageRun:
    return StageRun(stage=stage, out=out, seed=0, parent=parent, identity=IDENTITY, config=TINY.as_dict(), additions=[])


def test_four_stages_make_an_animator(tmp_path: Path, codec: LatentCodec, clips: list[TrainingClip], driving: Driving) -> None:
    config = replace(TINY, additions=DemoAdditions(hint=True, warp=True))
    given, parent = with_signals(clips), None
    for stage in TINY.stages:
        out = tmp_path / stage
        records = train_stage(_run(stage, out, parent), given, config, codec)
        assert records[-1].step == 3
        assert all(record.loss is None or np.isfinite(record.loss) for record in records)
        verify(out)
        assert read_manifest(out)["stage"] == stage
        parent = out
    assert parent is not None
    network = start("stage_4", config, parent, seed=0)
    assert network.temporal
    image = (np.random.default_rng(0).random((*SIZE, 3)) * 255).astype(np.uint8)
    reference = Reference(image=image, points=driving.points[0], scores=driving.scores[0])
    made = list(pieces(network.eval(), codec, config, reference, driving, 0))
    assert [len(part) for part in made] == [8, 4]
    assert made[0].dtype == np.uint8
    assert made[0].shape[1:] == (*SIZE, 3)
    again = list(pieces(network.eval(), codec, config, reference, driving, 0))
    assert all(np.array_equal(a, b) for a, b in zip(made, again, strict=True))


def test_half_resolution_trains_on_a_quarter_of_the_latents(codec: LatentCodec, clips: list[TrainingClip]) -> None:
    network = start("stage_3", TINY, None, seed=0)
    batch = stage_loss("stage_3", network, with_signals(clips), codec, seed=0).batch(0)
    assert batch.latents.shape[-2:] == (4, 4)
    assert batch.pose.shape[-2:] == (16, 16)
    assert batch.signals.blur is not None
    assert batch.signals.blur.shape[-2:] == (16, 16)


def test_stage_4_draws_windows_and_single_frames(codec: LatentCodec, clips: list[TrainingClip]) -> None:
    loss = stage_loss("stage_4", fresh_network(TINY), with_signals(clips), codec, seed=0)
    lengths = [loss.batch(micro).latents.shape[1] for micro in range(40)]
    assert set(lengths) == {1, 4}
    assert 10 <= lengths.count(1) <= 30


def test_regional_steps_are_drawn_below_125(codec: LatentCodec, clips: list[TrainingClip]) -> None:
    loss = stage_loss("stage_2", fresh_network(TINY), with_signals(clips), codec, seed=0)
    drawn = torch.cat([loss._timesteps(1, 2, torch.Generator().manual_seed(i)) for i in range(300)])
    assert int(drawn.min()) == 0
    assert int(drawn.max()) == 124


def test_one_clip_can_be_learnt(codec: LatentCodec, make_clip: Callable[..., TrainingClip]) -> None:
    """The same pair at the same noise over and over: stage 1 takes a good part of the loss away; the encoder alone then still lowers stage 2's a little."""
    torch.manual_seed(0)
    network, given = fresh_network(TINY), with_signals([make_clip("alone")])
    for stage, steps, rate, share in (("stage_1", 25, 6e-3, 0.6), ("stage_2", 10, 1e-2, 0.995)):
        loss = stage_loss(stage, network, given, codec, seed=0)
        batch, optimizer = loss.batch(0), torch.optim.Adam(list(network.trainable(stage).values()), lr=rate)
        losses = []
        for _ in range(steps):
            value = loss.of(batch, torch.Generator().manual_seed(1), 0.0)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        assert losses[-1] < share * losses[0]


def test_the_method_refuses_a_stage_without_its_parent(tmp_path: Path, clips: list[TrainingClip]) -> None:
    from pipelines.errors import UserError

    with pytest.raises(UserError, match="stage_2 continues from stage_1"):
        HIA.train("stage_2", variant="brief", clips=clips, parent=None, out=tmp_path / "x", seed=0, identity=IDENTITY)
    with pytest.raises(UserError, match="has no stage 'stage_2'"):
        HIA.train("stage_2", variant="brief-no_regional", clips=clips, parent=tmp_path, out=tmp_path / "x", seed=0, identity=IDENTITY)
