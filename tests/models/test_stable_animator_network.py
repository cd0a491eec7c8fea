"""StableAnimator at the smallest size, made of the real classes: what a fresh network is, what trains, guidance, windows and whole clips."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.animator import Driving, Reference
from models.clip_dataset import PoseStyle
from models.clip_sampling import DrawnPoses
from models.demo_additions import DemoAdditions
from models.latents import LatentCodec
from models.signals import Signals
from models.stable_animator.config import NetworkConfig, Sampling, StableAnimatorConfig
from models.stable_animator.edm import preconditioning
from models.stable_animator.face_optimisation import Hjb
from models.stable_animator.id_adapter import spatial_sites, temporal_sites
from models.stable_animator.network import StableAnimator, SvdCondition, fresh_network, nothing_dropped, null_condition
from models.stable_animator.sampling import (
    animate,
    behind_anchor,
    clip_denoiser,
    face_target,
    generate_latents,
    guided,
    initial_noise,
    with_reference_pose,
)
from models.stable_animator.variants import BRIEF, VARIANTS
from pipelines.errors import UserError
from pipelines.keypoints import draw_skeleton

TINY = replace(
    BRIEF,
    size=(32, 32),
    network=NetworkConfig(
        channels=(32, 32), layers=1, heads=(2, 2), token_dim=16, time_dim=8, pose_widths=(4, 8, 8), face_dim=8, face_layers=1, face_heads=2,
        face_head_dim=8, pose_drawing="binary",
    ),
    sampling=replace(BRIEF.sampling, steps=2, window=4, overlap=2, guidance_scale=1.0),
)  # fmt: skip


def _condition(pose: Tensor | None, clips: int = 1) -> SvdCondition:
    generator = torch.Generator().manual_seed(5)
    return SvdCondition(
        reference_latent=torch.randn(clips, 16, 8, 8, generator=generator),
        image_tokens=torch.randn(clips, 1, 16, generator=generator),
        face=torch.randn(clips, 8, generator=generator),
        pose=pose,
        **nothing_dropped(clips),
    )


def _network(config: StableAnimatorConfig = TINY) -> StableAnimator:
    torch.manual_seed(0)
    return fresh_network(config, 16).eval()


def _awake(network: StableAnimator) -> StableAnimator:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.2)
    return network


@pytest.fixture
def noisy() -> Tensor:
    return torch.randn(1, 3, 16, 8, 8, generator=torch.Generator().manual_seed(2)) * 3


POSE = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(3))
SIGMA = torch.tensor([2.0])


# --- one pass --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_fresh_network_is_svd_s_denoiser(noisy: Tensor) -> None:
    """Fresh PoseNet and face tokens change nothing: what comes out is c_skip x + c_out F of the bare UNet."""
    network, bare = _network(), _network(replace(TINY, network=replace(TINY.network, face_method="none")))
    bare.unet.load_state_dict({name: value for name, value in network.unet.state_dict().items() if "id_to_" not in name})
    condition = _condition(POSE)
    given = preconditioning(SIGMA)
    stem = torch.cat([noisy * given.c_in, condition.reference_latent[:, None].expand(-1, 3, -1, -1, -1)], dim=2)
    told = torch.tensor([TINY.network.time_ids])
    v = bare.unet(stem, given.c_noise, encoder_hidden_states=condition.image_tokens, added_time_ids=told).sample
    made = network(noisy, SIGMA, condition)
    torch.testing.assert_close(made, given.c_skip * noisy + given.c_out * v, rtol=0, atol=1e-5)
    torch.testing.assert_close(bare(noisy, SIGMA, condition), made, rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_condition_is_heard_and_can_be_dropped(noisy: Tensor) -> None:
    network, condition = _awake(_network()), _condition(POSE)
    whole = network(noisy, SIGMA, condition)
    for name in nothing_dropped(1):
        less = replace(condition, **{name: torch.tensor([True])})
        assert (network(noisy, SIGMA, less) - whole).abs().max() > 1e-4, name
    other = _condition(1 - POSE)
    null = network(noisy, SIGMA, null_condition(condition))
    changed = replace(other, reference_latent=other.reference_latent + 1, image_tokens=other.image_tokens + 1, face=other.face + 1)
    assert torch.equal(network(noisy, SIGMA, null_condition(changed)), null)


@torch.no_grad()
def test_conditions_are_dropped_clip_by_clip() -> None:
    network, condition = _awake(_network()), _condition(torch.cat([POSE, POSE]), clips=2)
    noisy, sigma = torch.randn(2, 3, 16, 8, 8), torch.tensor([2.0, 0.5])
    mixed = null_condition(condition)
    mixed = replace(mixed, **{name: torch.tensor([False, True]) for name in nothing_dropped(2)})
    both = network(noisy, sigma, mixed)
    torch.testing.assert_close(both[:1], network(noisy, sigma, condition)[:1], rtol=0, atol=1e-5)
    torch.testing.assert_close(both[1:], network(noisy, sigma, null_condition(condition))[1:], rtol=0, atol=1e-5)


def test_a_pose_reaches_its_own_frame(noisy: Tensor) -> None:
    network = _awake(_network())
    features = network._pose_features(_condition(POSE), 3)
    moved = network._pose_features(_condition(POSE[[2, 0, 1]]), 3)
    assert features is not None
    assert moved is not None
    torch.testing.assert_close(moved, features[[2, 0, 1]])


@pytest.mark.parametrize(
    ("face_method", "face_encoder", "has_adapters"), [("ours", True, True), ("ip_adapter", False, True), ("none", True, False)]
)
def test_face_methods(face_method: str, face_encoder: bool, has_adapters: bool) -> None:
    network = _network(replace(TINY, network=replace(TINY.network, face_method=face_method, face_encoder=face_encoder)))  # type: ignore[arg-type]
    assert any("id_to_" in name for name, _ in network.unet.named_parameters()) == has_adapters
    assert (network.face_encoder is not None) == has_adapters
    assert network.context(_condition(POSE)).shape == (1, 5 if has_adapters else 1, 16)
    assert set(network.parts()) == ({"unet", "pose_net", "face_encoder"} if has_adapters else {"unet", "pose_net"})


# --- what trains -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trainable", ["attentions", "all"])
def test_only_the_listed_parameters_get_gradients(noisy: Tensor, trainable: str) -> None:
    network = _awake(_network(replace(TINY, stage_1=replace(TINY.stage_1, trainable=trainable))))  # type: ignore[arg-type]
    chosen = network.trainable()
    network(noisy, SIGMA, _condition(POSE)).square().mean().backward()
    named = {f"{part}.{name}": p for part, module in network.parts().items() for name, p in module.named_parameters()}
    assert {name for name, p in named.items() if p.requires_grad} == set(chosen)
    assert all(p.grad is None for name, p in named.items() if name not in chosen)
    assert {name for name, p in named.items() if p.grad is not None} == set(chosen)
    assert all(p.grad is None for p in network.image_tokens.parameters())
    assert {name.split(".")[0] for name in chosen} == {"unet", "pose_net", "face_encoder"}
    resnets = {name for name in named if name.startswith("unet.") and "attentions" not in name}
    assert (resnets & set(chosen) == set()) == (trainable == "attentions")
    assert any("temporal_transformer_blocks" in name for name in chosen)
    assert any("id_to_k" in name for name in chosen)


# --- guidance and windows --------------------------------------------------------------------------------------------


@torch.no_grad()
def test_guidance_of_scale_one_is_the_conditional_branch(noisy: Tensor) -> None:
    network, condition = _awake(_network()), _condition(POSE)
    conditional, unconditional = network(noisy, SIGMA, condition), network(noisy, SIGMA, null_condition(condition))
    assert torch.equal(guided(network, noisy, SIGMA, condition, 1.0), conditional)
    torch.testing.assert_close(guided(network, noisy, SIGMA, condition, 3.0), 3 * conditional - 2 * unconditional, rtol=0, atol=1e-4)


class Recorder:
    """A network that answers with its poses' brightness and says which windows it saw."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []

    def __call__(self, noisy: Tensor, sigma: Tensor, condition: SvdCondition) -> Tensor:
        assert condition.pose is not None
        value = condition.pose.mean((1, 2, 3)) * 1000
        self.seen.append([round(float(v)) for v in value])
        return value[None, :, None, None, None].expand_as(noisy)


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 23])
def test_windows_cover_the_clip_and_hold_the_anchor(frames: int) -> None:
    """A network without memory gives the same whatever the windows are."""
    network, poses = Recorder(), torch.arange(frames).float()[:, None, None, None].expand(-1, 3, 2, 2) / 1000
    denoise = clip_denoiser(network, _condition(None), poses, replace(TINY.sampling, guidance_scale=1.0))
    made = denoise(torch.zeros(frames, 16, 8, 8), 1.0)
    torch.testing.assert_close(made[:, 0, 0, 0], torch.arange(frames).float(), rtol=0, atol=1e-3)
    assert all(window[0] == 0 for window in network.seen)
    assert {frame for window in network.seen for frame in window} == set(range(frames))
    assert len(set(map(len, network.seen))) == 1


def test_noise_of_a_tile_is_repeated() -> None:
    tile = initial_noise(10, (2, 3, 3), TINY.sampling, seed=0)
    assert torch.equal(tile[:4], tile[4:8])
    assert not torch.equal(tile[0], tile[1])
    own = initial_noise(10, (2, 3, 3), replace(TINY.sampling, noise="independent"), seed=0)
    assert len({frame.sum().item() for frame in own}) == 10
    assert not torch.equal(tile, initial_noise(10, (2, 3, 3), TINY.sampling, seed=1))


# --- whole clips -----------------------------------------------------------------------------------------------------


def _figure(frames: int) -> tuple[np.ndarray, np.ndarray]:
    body = np.array([(12, 6), (11, 5), (13, 5), (10, 6), (14, 6), (8, 12), (17, 12), (6, 17), (19, 17), (6, 22), (19, 22), (10, 20), (15, 20),
                     (10, 26), (15, 26), (10, 31), (15, 31)])  # fmt: skip
    points = np.zeros((133, 2), np.float32)
    points[:17] = body
    points[17:] = body[0]
    points[23:91] += np.random.default_rng(0).uniform(-4, 4, (68, 2)).astype(np.float32)
    walk = np.linspace(0, 6, frames, dtype=np.float32)
    return points[None] + np.stack([walk, np.zeros_like(walk)], -1)[:, None], np.ones((frames, 133), np.float32)


def _scene(frames: int = 6) -> tuple[Reference, Driving]:
    points, scores = _figure(frames)
    image = np.random.default_rng(1).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    own, own_scores = _figure(1)
    signals = Signals(face_embeddings=torch.randn(1, 8, generator=torch.Generator().manual_seed(0)))
    return Reference(image=image, points=own[0], scores=own_scores[0], signals=signals), Driving(points=points, scores=scores)


def test_the_reference_s_pose_goes_in_front_and_its_frame_is_dropped(codec: LatentCodec) -> None:
    reference, driving = _scene()
    points, scores = with_reference_pose(reference, driving)
    assert points.shape == (7, 133, 2)
    assert np.array_equal(points[0], reference.points)
    assert np.array_equal(points[1:], driving.points)
    assert scores.shape == (7, 133)
    network = _awake(_network())
    made = np.concatenate(list(animate(network, codec, TINY, None, reference, driving, 0)))
    assert made.shape == (6, 32, 32, 3)
    assert made.dtype == np.uint8
    loose = replace(TINY, sampling=replace(TINY.sampling, anchor_reference_pose=False))
    assert np.concatenate(list(animate(network, codec, loose, None, reference, driving, 0))).shape == (6, 32, 32, 3)


def test_steering_behind_the_anchor_leaves_it_alone() -> None:
    steer = behind_anchor(lambda predicted, i, steps, sigma: predicted + 1)
    assert steer is not None
    assert steer(torch.zeros(4, 1, 1, 1), 0, 1, 1.0).flatten().tolist() == [0, 1, 1, 1]
    assert behind_anchor(None) is None


@pytest.mark.parametrize("frames", [1, 7])
def test_clips_of_any_length_are_animated_the_same_way_twice(codec: LatentCodec, frames: int) -> None:
    network, scene = _awake(_network()), _scene(frames)
    steps: list[None] = []
    first = np.concatenate(list(animate(network, codec, TINY, None, *scene, 0, lambda: steps.append(None))))
    assert first.shape == (frames, 32, 32, 3)
    assert len(steps) == TINY.sampling.steps
    assert np.array_equal(first, np.concatenate(list(animate(network, codec, TINY, None, *scene, 0))))
    assert not np.array_equal(first, np.concatenate(list(animate(network, codec, TINY, None, *scene, 1))))


@pytest.mark.parametrize(("sampler", "crop"), [("euler", "box"), ("heun", "aligned")])
def test_faces_are_optimised_in_both_samplers(codec: LatentCodec, sampler: str, crop: str) -> None:
    network, (reference, driving) = _awake(_network()), _scene(3)
    torch.manual_seed(7)
    judge = nn.Sequential(nn.Conv2d(3, 4, 16, stride=16), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 49, 8)).requires_grad_(False).eval()
    hjb = Hjb(steps=1, sigma_range="paper", crop=crop, stop_cosine=None)  # type: ignore[arg-type]
    config = replace(TINY, recogniser="any", sampling=replace(TINY.sampling, hjb=hjb, sampler=sampler, churn=Sampling().churn))  # type: ignore[arg-type]
    steered = np.concatenate(list(animate(network, codec, config, judge, reference, driving, 0)))
    plain = np.concatenate(list(animate(network, codec, config, None, reference, driving, 0)))
    assert steered.shape == plain.shape
    assert not np.array_equal(steered, plain)
    unseen = replace(driving, scores=driving.scores * 0)
    assert face_target(codec, judge, replace(reference, scores=reference.scores * 0), unseen, hjb, 4) is None
    target = face_target(codec, judge, reference, unseen, hjb, 4)
    assert target is not None
    assert not target.seen.any()


def test_driving_boxes_are_those_of_the_signals(codec: LatentCodec) -> None:
    reference, driving = _scene(2)
    hjb, judge = Hjb(boxes="driving"), nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
    with pytest.raises(UserError, match="needs the driving clip's face boxes"):
        face_target(codec, judge, reference, driving, hjb, 4)
    boxes = torch.tensor([[[4.0, 4, 12, 12]], [[0.0, 0, 0, 0]]])
    own = replace(reference, signals=replace(reference.signals, face_boxes=boxes[:1]))
    target = face_target(codec, judge, own, replace(driving, signals=Signals(face_boxes=boxes)), hjb, 4)
    assert target is not None
    assert target.seen.tolist() == [True, False]
    assert torch.equal(target.boxes, boxes[:, 0])


def test_poses_are_drawn_in_the_style_asked_for() -> None:
    points, scores = _figure(2)
    scores = scores * 0.5
    drawn = DrawnPoses(points, scores, (32, 32), PoseStyle(style="confidence"))[[1]]
    expected = draw_skeleton(points[1], scores[1], 32, 32, style="confidence")
    torch.testing.assert_close(drawn[0], torch.from_numpy(expected).permute(2, 0, 1).float() / 255)
    assert (drawn != DrawnPoses(points, scores, (32, 32), PoseStyle())[[1]]).any()


def test_a_face_of_another_recogniser_is_refused(codec: LatentCodec) -> None:
    reference, driving = _scene(2)
    other = replace(reference, signals=Signals(face_embeddings=torch.zeros(1, 512)))
    with pytest.raises(UserError, match="512 numbers, this variant's face encoder takes 8"):
        list(animate(_network(), codec, TINY, None, other, driving, 0))
    nobody = replace(reference, signals=Signals())
    assert len(list(animate(_network(), codec, TINY, None, nobody, driving, 0))) == 1


def test_generated_latents_follow_the_windows(noisy: Tensor) -> None:
    """A network whose answer is the pose's brightness is followed to the end by either sampler."""
    poses = torch.arange(5).float()[:, None, None, None].expand(-1, 3, 2, 2) / 1000
    for sampler in ("euler", "heun"):
        sampling = replace(TINY.sampling, guidance_scale=1.0, sampler=sampler, steps=3)  # type: ignore[arg-type]
        made = generate_latents(Recorder(), _condition(None), poses, torch.zeros(1, 16, 8, 8), replace(TINY, sampling=sampling), 0)
        torch.testing.assert_close(made[:, 0, 0, 0], torch.arange(5).float(), rtol=0, atol=1e-2)


# --- what the demo adds ----------------------------------------------------------------------------------------------

WARPED = replace(TINY, additions=DemoAdditions(residual=True, warp=True, residual_scale=0.5, skip_std=0.2))


def test_the_warped_reference_stands_beside_the_noisy_latents_frame_by_frame(noisy: Tensor) -> None:
    network, warped, seen = _network(WARPED), torch.randn(1, 5, 16, 8, 8), list[Tensor]()

    def silent(stem: Tensor, *_: object, **__: object) -> SimpleNamespace:
        seen.append(stem)
        return SimpleNamespace(sample=torch.zeros_like(stem[:, :, :16]))

    network.unet.forward = silent
    whole = replace(_condition(None), warped=warped)
    made = network(noisy, torch.tensor([2.0]), whole.at([0, 3, 4], torch.zeros(3, 3, 64, 64)))
    torch.testing.assert_close(seen[0][:, :, 16:], warped[:, [0, 3, 4]])
    torch.testing.assert_close(made, noisy * 0.2**2 / (4 + 0.2**2))  # the linear estimate, where the network is silent
    network(noisy, torch.tensor([2.0]), null_condition(whole.at([0, 3, 4], torch.zeros(3, 3, 64, 64))))
    assert not seen[1][:, :, 16:].any()


def test_what_is_generated_is_the_anchor_and_the_difference_to_it() -> None:
    anchor, wanted = torch.randn(2, 3, 16, 8, 8).unbind()

    class Knows:
        def __call__(self, noisy: Tensor, sigma: Tensor, condition: SvdCondition) -> Tensor:
            return ((wanted - anchor) / 0.5)[None]

    sampling, seen = replace(WARPED.sampling, steps=3, window=4), list[Tensor]()
    config = replace(WARPED, sampling=sampling)

    def steer(predicted: Tensor, i: int, steps: int, sigma: float) -> Tensor:
        seen.append(predicted)
        return predicted + 1

    poses = torch.zeros(3, 3, 64, 64)
    torch.testing.assert_close(generate_latents(Knows(), _condition(None), poses, anchor, config, 0), wanted, rtol=0, atol=1e-4)
    steered = generate_latents(Knows(), _condition(None), poses, anchor, config, 0, steer=steer)
    torch.testing.assert_close(seen[-1], wanted, rtol=0, atol=1e-4)  # faces are looked at in latents, not in differences
    torch.testing.assert_close(steered, wanted + 1, rtol=0, atol=1e-4)


def test_a_hint_is_refused() -> None:
    with pytest.raises(ValueError, match=r"additions\.hint=False"):
        replace(TINY, additions=DemoAdditions(hint=True))


def test_shared_noise_is_one_frame_s() -> None:
    cool = initial_noise(6, (2, 3, 3), replace(TINY.sampling, noise="shared", noise_std=0.5), seed=0)
    assert torch.equal(cool, cool[:1].expand_as(cool))
    alone = initial_noise(1, (2, 3, 3), replace(TINY.sampling, noise="independent"), seed=0)
    assert torch.equal(cool[0], alone[0] * 0.5)


# --- the paper's size ------------------------------------------------------------------------------------------------


def test_the_paper_s_network_has_svd_s_size_and_runs_at_576_x_1024() -> None:
    """On tensors without storage: 1,524.6 million parameters in SVD's UNet, half of them in its attentions; 16 spatial cross-attentions."""
    with torch.device("meta"):
        network = fresh_network(replace(VARIANTS["paper"], base_unet=None, image_encoder=None), 4).to(
            "meta"
        )  # diffusers makes its mixing factors on the CPU whatever is asked
    base = {name: p.numel() for name, p in network.unet.named_parameters() if "id_to_" not in name}
    assert sum(base.values()) == 1_524_623_082
    assert sum(count for name, count in base.items() if "attentions" in name) / 1e6 == pytest.approx(770.4, abs=0.1)
    assert len(spatial_sites(network.unet)) == len(temporal_sites(network.unet)) == 16
    chosen = network.trainable()
    assert all("attentions" in name for name in chosen if name.startswith("unet."))
    height, width = VARIANTS["paper"].size
    condition = SvdCondition(
        reference_latent=torch.empty(1, 4, height // 8, width // 8, device="meta"), image_tokens=torch.empty(1, 1, 1024, device="meta"),
        face=torch.empty(1, 512, device="meta"), pose=torch.empty(16, 3, height, width, device="meta"), **nothing_dropped(1),
    )  # fmt: skip
    noisy = torch.empty(1, 16, 4, height // 8, width // 8, device="meta")
    with torch.no_grad():
        assert network(noisy, torch.ones(1, device="meta"), condition).shape == noisy.shape
        assert network.context(condition).shape == (1, 5, 1024)
