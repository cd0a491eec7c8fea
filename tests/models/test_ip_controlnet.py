"""IP+CtrlN: sparse-causal attention, ControlNet residuals as diffusers adds them, and the clip that comes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from models.animator import Driving, Reference
from models.baselines.ip_controlnet import BRIEF, IP_CONTROLNET, PAPER, VARIANTS, IpControlnet, animate, denoise_pass, network_of
from models.clip_dataset import TrainingClip
from models.controlled_unet import FRESH, ControlledUnet, load_base
from models.ddim import STABLE_DIFFUSION, DdimSchedule
from models.latents import LatentCodec
from models.signals import Signals
from models.sparse_causal_attention import SparseCausal, SparseCausalAttention
from pipelines.errors import UserError

CONFIG = replace(
    BRIEF,
    size=(32, 32),
    networks=replace(FRESH, shape=replace(FRESH.shape, latent_channels=16), guider_widths=(4, 8, 8)),
    sampling=replace(BRIEF.sampling, steps=2, frames=4),
)
FRAMES, PLACES = 4, 9


@pytest.fixture
def layer() -> Attention:
    return Attention(query_dim=16, heads=2, dim_head=8).eval()


def _attended(layer: Attention, hidden: Tensor, frames: int) -> Tensor:
    shared = SparseCausal()
    with shared.over(frames):
        out: Tensor = SparseCausalAttention(shared)(layer, hidden)
    return out


# --- attention -----------------------------------------------------------------------------------------------


def test_frame_0_and_a_single_frame_are_plain(layer: Attention) -> None:
    hidden = torch.randn(FRAMES, PLACES, 16)
    plain = AttnProcessor2_0()(layer, hidden)
    torch.testing.assert_close(_attended(layer, hidden, FRAMES)[0], plain[0])
    torch.testing.assert_close(_attended(layer, hidden[:1], 1), plain[:1])
    torch.testing.assert_close(_attended(layer, hidden, 1), plain)  # four clips of one frame
    torch.testing.assert_close(SparseCausalAttention(SparseCausal())(layer, hidden), plain)


def test_every_frame_looks_at_the_first_and_at_the_one_before(layer: Attention) -> None:
    hidden = torch.randn(FRAMES, PLACES, 16)
    made = _attended(layer, hidden, FRAMES)
    for i in range(1, FRAMES):
        context = torch.cat([hidden[0], hidden[i - 1]])[None]
        torch.testing.assert_close(made[i], AttnProcessor2_0()(layer, hidden[i : i + 1], context)[0])


def test_a_frame_changes_itself_and_the_next_one_alone(layer: Attention) -> None:
    hidden = torch.randn(6, PLACES, 16)
    other = hidden.clone()
    other[2] = torch.randn(PLACES, 16)
    changed = (_attended(layer, hidden, 6) - _attended(layer, other, 6)).abs().amax(dim=(1, 2)) > 1e-5
    assert changed.tolist() == [False, False, True, True, False, False]


def test_reordering_places_or_clips_reorders_the_result(layer: Attention) -> None:
    hidden = torch.randn(2 * FRAMES, PLACES, 16)
    places = torch.randperm(PLACES)
    made = _attended(layer, hidden, FRAMES)
    torch.testing.assert_close(_attended(layer, hidden[:, places], FRAMES), made[:, places])
    torch.testing.assert_close(_attended(layer, hidden.roll(FRAMES, 0), FRAMES), made.roll(FRAMES, 0))


def test_frames_that_look_alike_are_permuted_with_their_predecessors(layer: Attention) -> None:
    """Frames 1 and 3 with equal predecessors: exchanging them exchanges their results."""
    a, b, c = torch.randn(3, PLACES, 16)
    first, second = _attended(layer, torch.stack([a, b, a, c]), 4), _attended(layer, torch.stack([a, c, a, b]), 4)
    torch.testing.assert_close(first[[1, 3]], second[[3, 1]])


# --- the ControlNet ------------------------------------------------------------------------------------------


def _base() -> tuple[ControlledUnet, Any, Any]:
    unet, controlnet, _ = load_base(replace(FRESH, shape=replace(FRESH.shape, latent_channels=16), guider_widths=(4, 8, 8)))
    return ControlledUnet(unet, controlnet, DdimSchedule.of(STABLE_DIFFUSION, 4)), unet, controlnet


def test_poses_act_as_in_the_controlnet_pipeline_of_diffusers() -> None:
    """The call of StableDiffusionControlNetPipeline, with its scale of 1 and no guess mode."""
    network, unet, controlnet = _base()
    latents, text, pose = torch.randn(2, 16, 8, 8), torch.randn(2, 77, 32), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        time = torch.tensor(network.schedule.timestep(3))
        down, mid = controlnet(
            latents, time, encoder_hidden_states=text, controlnet_cond=pose, conditioning_scale=1.0, guess_mode=False, return_dict=False
        )
        expected = unet(
            latents, time, encoder_hidden_states=text, timestep_cond=None, cross_attention_kwargs=None,
            down_block_additional_residuals=down, mid_block_additional_residual=mid, added_cond_kwargs=None, return_dict=False,
        )[0]  # fmt: skip
        plain = unet(latents, time, encoder_hidden_states=text).sample
        torch.testing.assert_close(network.noise(latents, 3, text, pose), expected, rtol=0, atol=1e-6)
    assert (expected - plain).abs().max() > 1e-3


def test_without_condition_sampling_is_the_controlnet_pipelines() -> None:
    """The whole loop against StableDiffusionControlNetPipeline with the same noise, prompt and pose; only frame 0, which sees itself."""
    from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionControlNetPipeline

    config = replace(CONFIG, noise=STABLE_DIFFUSION, sampling=replace(CONFIG.sampling, steps=4, guidance_scale=3.0, picture_scale=0.0))
    network = network_of(config)
    unet, controlnet, text = load_base(config.networks)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, set_alpha_to_one=False
    )
    vae = AutoencoderTiny(latent_channels=16, encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
                          num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1))  # fmt: skip
    pipeline = StableDiffusionControlNetPipeline(
        vae, text.tower, text.tokenizer, unet, controlnet, scheduler, None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    noise, pose, tokens = torch.randn(1, 16, 8, 8), torch.rand(1, 3, 32, 32), text(["", "a man is walking"])
    expected = pipeline(
        prompt_embeds=tokens[1:], negative_prompt_embeds=tokens[:1], image=pose, num_inference_steps=4, guidance_scale=3.0, eta=0.0,
        latents=noise.clone(), output_type="latent", height=32, width=32,
    ).images  # fmt: skip
    made = denoise_pass(network, noise, pose, (tokens, network.prompts.null(2)))
    torch.testing.assert_close(made, expected, rtol=1e-3, atol=1e-4)


# --- clips ---------------------------------------------------------------------------------------------------


@pytest.fixture
def scene(clips: list[TrainingClip]) -> tuple[Reference, Driving]:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    points = clips[1].keypoints * (32 / 48)
    reference = Reference(image=image, points=points[0], scores=clips[1].scores[0], signals=Signals(caption="a woman is dancing"))
    return reference, Driving(points=points[:6], scores=clips[1].scores[:6])


def _latents(network: IpControlnet, frames: int, poses: Tensor, picture: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(picture)
    embedding = network.prompts(torch.randn(1, network.eye.dim, generator=rng))
    tokens = network.text(["", "a man"]), torch.cat([network.prompts.null(1), embedding])
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(9))
    return denoise_pass(network, noise, poses[:frames], tokens)


def test_a_clip_has_a_frame_for_each_pose_and_follows_its_seed(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    ticks: list[int] = []
    made, again, other = (
        np.concatenate(list(animate(CONFIG, codec, *scene, seed=seed, advance=lambda: ticks.append(1)))) for seed in (0, 0, 1)
    )
    assert made.shape == (6, 32, 32, 3)
    assert np.array_equal(made, again)
    assert not np.array_equal(made, other)
    assert len(ticks) == 3 * 2


def test_equal_poses_give_equal_frames_and_picture_and_pose_matter() -> None:
    network = network_of(CONFIG)
    poses = torch.rand(1, 3, 32, 32).expand(3, -1, -1, -1).clone()
    still = _latents(network, 3, poses)
    torch.testing.assert_close(still, still[:1].expand_as(still), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(_latents(network, 3, poses, picture=1), still, atol=1e-3)
    poses[2] = torch.rand(3, 32, 32)
    moved = _latents(network, 3, poses)
    torch.testing.assert_close(moved[:2], still[:2], rtol=1e-4, atol=1e-4)  # a later frame changes no earlier one
    assert (moved[2] - still[2]).abs().max() > 1e-3


def test_without_sparse_causal_attention_frames_know_nothing_of_each_other() -> None:
    network, poses = network_of(replace(CONFIG, sampling=replace(CONFIG.sampling, sparse_causal=False))), torch.rand(3, 3, 32, 32)
    together = _latents(network, 3, poses)
    torch.testing.assert_close(together[2:], _latents(network, 1, poses[2:]), rtol=1e-3, atol=1e-4)


def test_variants_and_stages() -> None:
    assert {"paper", "demo", "brief", "demo-no_sparse_causal"} <= set(VARIANTS)
    assert (PAPER.sampling.steps, PAPER.sampling.guidance_scale, PAPER.sampling.frames, PAPER.size) == (50, 7.5, 16, (512, 512))
    assert IP_CONTROLNET.stages_of("demo") == ()
    assert IP_CONTROLNET.needs == ("caption",)
    with pytest.raises(UserError, match="no variant 'huge'"):
        IP_CONTROLNET.config("huge")
    animator = IP_CONTROLNET.load("brief", None)
    assert animator.sampler["sampling"]["steps"] == 3
