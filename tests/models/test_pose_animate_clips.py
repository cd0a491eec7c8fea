"""PoseAnimate from a reference and a driving motion to a clip: frame 0, passes, modules that can be switched, and what users hear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.animator import Driving, Reference
from models.clip_dataset import TrainingClip
from models.controlled_unet import FRESH
from models.latents import LatentCodec
from models.pose_animate.config import BASES, BRIEF, DEMO, PAPER, VARIANTS, Pata, PoseAnimateConfig, ablations
from models.pose_animate.frame_embedding import FrameTask, one_after_the_other
from models.pose_animate.inversion import Branches, reconstruct
from models.pose_animate.method import POSE_ANIMATE
from models.pose_animate.network import network_of
from models.pose_animate.sampling import aligned, animate, denoise_pass, embeddings_of, pose_images, prepare
from models.signals import Signals
from models.training_free_method import TrainingFreeAnimator
from pipelines.errors import MissingWeightsError, UserError

CONFIG = replace(
    BRIEF, size=(32, 32), networks=replace(FRESH, shape=replace(FRESH.shape, latent_channels=16), guider_widths=(4, 8, 8)), pata=Pata(transitions=1),
    sampling=replace(BRIEF.sampling, steps=2, frames=4),
)  # fmt: skip
FRAMES = 4  # of the driving clip; with the source and the transition one pass of 5 frames and another of 3


@pytest.fixture
def scene(clips: list[TrainingClip]) -> tuple[Reference, Driving]:
    """The first clip's person and the second one's motion, with arms that rise, on a canvas of 32x32."""
    points = clips[1].keypoints[:FRAMES] * (32 / 48)
    points[:, [7, 8, 9, 10], 1] -= 4.0 * np.arange(1, FRAMES + 1, dtype=np.float32)[:, None]
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 4:30, 10:22] = 1
    signals = Signals(body_mask=mask, caption="a woman in a red dress is walking", character="woman")
    reference = Reference(image=image, points=clips[0].keypoints[3] * (32 / 48), scores=clips[0].scores[3], signals=signals)
    return reference, Driving(points=points, scores=clips[1].scores[:FRAMES].copy())


def _clip(config: PoseAnimateConfig, codec: LatentCodec, scene: tuple[Reference, Driving], **options: Any) -> np.ndarray:
    return np.concatenate(list(animate(config, codec, *scene, seed=0, **options)))


def _first(driving: Driving, frames: int) -> Driving:
    return replace(driving, points=driving.points[:frames], scores=driving.scores[:frames])


def test_a_clip_has_a_frame_for_each_driving_pose_and_ticks_once_per_level(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    ticks: list[int] = []
    made = _clip(CONFIG, codec, scene, advance=lambda: ticks.append(1))
    assert made.shape == (FRAMES, 32, 32, 3)
    assert made.dtype == np.uint8
    assert len(ticks) == 2
    assert not np.array_equal(made[0], made[-1])  # poses move
    assert np.array_equal(made, _clip(CONFIG, codec, scene))


def test_frame_0_is_the_sources_reconstruction_whatever_follows_it(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    """Frame 0 looks at itself alone and has the source's embeddings and pose: the trajectory of Eq. 6."""
    network, poses = network_of(CONFIG), aligned(*scene, CONFIG)
    source = prepare(network, codec, scene[0])
    branches = Branches(network, source.prompts, CONFIG.sampling.guidance_scale, "cond")
    expected = reconstruct(branches, source.trajectory, source.embeddings, pose_images(poses, [0], CONFIG))
    for frames in ([0, 1, 2], [0, 4]):
        embeddings = embeddings_of(network, source, poses, frames, {}, one_after_the_other)
        made = denoise_pass(network, source, poses, frames, torch.stack([embeddings[f] for f in frames]), lambda: None)
        torch.testing.assert_close(made[:1], expected, rtol=1e-3, atol=1e-4)


def test_each_pass_optimises_new_frames_only(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    asked: list[int] = []

    def counted(work: Callable[[FrameTask], Tensor], tasks: Sequence[FrameTask]) -> list[Tensor]:
        asked.append(len(tasks))
        return one_after_the_other(work, tasks)

    made = _clip(CONFIG, codec, scene, run_frames=counted)
    assert asked == [4, 1]  # the transition and every driving pose, once; the second pass has frame 4's from the first
    animator = TrainingFreeAnimator(CONFIG, codec, partial(animate, run_frames=counted), "")
    assert np.array_equal(animator(*scene, seed=5), made)  # nothing is drawn


@pytest.fixture
def two_frames(codec: LatentCodec, scene: tuple[Reference, Driving]) -> Callable[[PoseAnimateConfig], np.ndarray]:
    """The clip's first two frames; those of the plain config are made once."""

    def made(config: PoseAnimateConfig) -> np.ndarray:
        if config not in _KEPT:
            _KEPT[config] = _clip(config, codec, (scene[0], _first(scene[1], 2)))
        return _KEPT[config]

    return made


_KEPT: dict[PoseAnimateConfig, np.ndarray] = {}


@pytest.mark.parametrize("switch", sorted({*ablations(BRIEF)} - {"angle"}))
def test_every_switch_changes_the_clip(two_frames: Callable[[PoseAnimateConfig], np.ndarray], switch: str) -> None:
    changed, plain = two_frames(ablations(CONFIG)[switch]), two_frames(CONFIG)
    assert changed.shape == plain.shape
    assert not np.array_equal(changed, plain)


def test_angles_change_the_way_and_nothing_else(scene: tuple[Reference, Driving]) -> None:
    straight, turned = (aligned(*scene, config) for config in (CONFIG, ablations(CONFIG)["angle"]))
    assert not np.allclose(straight.points[1], turned.points[1])
    assert np.array_equal(straight.points[2:], turned.points[2:])


def test_without_pacm_nothing_is_optimised(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    def refused(work: Callable[[FrameTask], Tensor], tasks: Sequence[FrameTask]) -> list[Tensor]:
        raise AssertionError("no frame may be optimised")

    config = ablations(CONFIG)["no_pacm"]
    assert len(_clip(config, codec, scene, run_frames=refused)) == FRAMES
    source = prepare(network_of(config), codec, scene[0])
    assert torch.equal(source.embeddings, source.prompts.conditional.expand(2, -1, -1))


def test_the_body_mask_and_the_caption_matter(
    codec: LatentCodec, scene: tuple[Reference, Driving], two_frames: Callable[[PoseAnimateConfig], np.ndarray]
) -> None:
    signals, short = scene[0].signals, _first(scene[1], 2)
    assert signals.body_mask is not None
    for other in (replace(signals, body_mask=1 - signals.body_mask), replace(signals, caption="a man in the snow", character="man")):
        assert not np.array_equal(_clip(CONFIG, codec, (replace(scene[0], signals=other), short)), two_frames(CONFIG))


def test_what_is_missing_is_said(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    bare = replace(scene[0], signals=Signals())
    strict = replace(CONFIG, mgdm=replace(CONFIG.mgdm, without_mask="error"))
    with pytest.raises(UserError, match=r"needs the body mask .*-no_mgdm"):
        _clip(strict, codec, (bare, scene[1]))
    with pytest.raises(UserError, match="needs a prompt"):
        _clip(replace(CONFIG, prompt=""), codec, (bare, scene[1]))
    with pytest.raises(UserError, match="does not have the word 'robot'"):
        _clip(CONFIG, codec, (replace(bare, signals=Signals(caption="a dog", character="robot")), scene[1]))
    nobody = replace(scene[1], scores=np.zeros_like(scene[1].scores))
    with pytest.raises(UserError, match="no body joint is visible both"):
        _clip(CONFIG, codec, (scene[0], nobody))
    assert len(_clip(CONFIG, codec, (bare, _first(scene[1], 1)))) == 1  # the brief variant has a prompt and takes the pose's hull


def test_a_clip_of_one_frame_without_transitions(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    assert len(_clip(ablations(CONFIG)["no_pata"], codec, (scene[0], _first(scene[1], 1)))) == 1


def test_a_pass_of_transition_frames_alone_gives_nothing_out(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    short = replace(ablations(CONFIG)["no_pacm"], pata=Pata(transitions=3), sampling=replace(CONFIG.sampling, frames=2))
    assert len(_clip(short, codec, (scene[0], _first(scene[1], 1)))) == 1


def test_gradients_through_checkpoints_are_the_same(codec: LatentCodec, scene: tuple[Reference, Driving]) -> None:
    saved = replace(CONFIG, checkpointing=True)
    torch.testing.assert_close(
        prepare(network_of(saved), codec, scene[0]).embeddings, prepare(network_of(CONFIG), codec, scene[0]).embeddings
    )


def test_variants_of_the_method() -> None:
    assert set(BASES) == {"demo", "brief", "paper"}
    assert {f"{base}-no_{module}" for base in BASES for module in ("pata", "pacm", "dcam", "mgdm")} <= set(VARIANTS)
    assert POSE_ANIMATE.stages_of("paper-no_pacm") == ()
    assert POSE_ANIMATE.needs == ("caption", "body_mask")
    with pytest.raises(UserError, match="no variant 'huge'"):
        POSE_ANIMATE.stages_of("huge")
    with pytest.raises(UserError, match="no stage 'stage_1'"):
        POSE_ANIMATE.train("stage_1")
    with pytest.raises(UserError, match="no stage 'stage_1'"):
        POSE_ANIMATE.stage_config("demo", "stage_1")


def test_the_papers_numbers() -> None:
    sampling, pacm = PAPER.sampling, PAPER.pacm
    assert (sampling.steps, sampling.guidance_scale, sampling.frames, PAPER.size) == (50, 7.5, 16, (512, 512))
    assert sampling.steps * pacm.inner_steps == 250
    assert PAPER.dcam.weights == (0.7, 0.15, 0.15)
    assert PAPER.noise.objective == "epsilon"


def test_networks_that_are_not_there_are_named() -> None:
    absent = replace(DEMO, networks=replace(DEMO.networks, unet="nobody/nothing"))
    with pytest.raises(MissingWeightsError, match="nobody/nothing"):
        absent.networks.folders()


def test_the_brief_variant_loads_and_its_identity_holds_all_settings() -> None:
    animator = POSE_ANIMATE.load("brief", None)
    assert animator.size == (128, 128)
    assert animator.sampler["pacm"]["inner_steps"] == 1
    assert len(animator.sampler["weights"]) == 64
