"""Face optimisation: chunked gradients are the whole one, what lies outside of faces stays, the loss falls, and the rules stop it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLTemporalDecoder
from safetensors.torch import save_file
from torch import Tensor, nn

from models.face_warp import aligned_faces
from models.noise import NoiseConfig, Objective, add_noise, clean_estimate, make_scheduler, target_of
from models.sampling_loop import STEPPED_AT_ONCE, sample_windows
from models.stable_animator.ddim_steering import steered_prediction, steered_steps
from models.stable_animator.face_optimisation import (
    PAPER_HJB,
    PUBLIC_HJB,
    FaceTarget,
    Hjb,
    face_gradient,
    face_losses,
    optimise_faces,
    steering,
)
from models.stable_animator.face_region import box_warps, landmark_boxes, landmark_warps, latent_masks
from models.stable_animator.recogniser import TINY, TINY_FILE, load_differentiable, load_tiny
from models.stable_animator.sampler import Steer
from models.stable_animator.temporal_codec import TemporalCodec, conditioning_latent
from models.tiny.face_recogniser import FaceRecogniserNetwork
from pipelines.errors import UserError
from pipelines.extractors.face_embedding import TEMPLATE

BOXES = torch.tensor([[4.0, 4, 14, 16], [6.0, 4, 16, 16], [0, 0, 0, 0], [6.0, 4, 16, 14], [6.0, 6, 16, 16]])
HJB = Hjb(steps=2, chunk=2, stop_cosine=None)


@pytest.fixture
def codec() -> TemporalCodec:
    """An untrained temporal autoencoder: 24x24 pixels to 4x12x12 latents."""
    torch.manual_seed(0)
    return TemporalCodec(
        AutoencoderKLTemporalDecoder(
            block_out_channels=(32, 32),
            down_block_types=("DownEncoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=4,
            scaling_factor=0.5,
        )
    )


@pytest.fixture
def recogniser() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 8, stride=8), nn.Tanh(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(72, 16)).requires_grad_(
        False
    )


@pytest.fixture
def make_target(codec: TemporalCodec, recogniser: nn.Module) -> Callable[..., FaceTarget]:
    def make(boxes: Tensor = BOXES) -> FaceTarget:
        reference = torch.randn(16, generator=torch.Generator().manual_seed(2))
        return FaceTarget(
            decode=codec.decode_frames, recogniser=recogniser, reference=reference, boxes=boxes, warps=box_warps(boxes), scale=2
        )

    return make


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(5, 4, 12, 12, generator=torch.Generator().manual_seed(4))


# --- gradients -------------------------------------------------------------------------------------------------------


def test_the_chunks_gradients_add_up_to_the_whole_one(make_target: Callable[..., FaceTarget], latents: Tensor) -> None:
    """The loss is a mean over frames with a face; the reference here is one graph over all chunks."""
    target, whole = make_target(), latents.clone().requires_grad_()
    parts = torch.arange(5).split(2)
    losses = torch.cat([face_losses(whole[rows], target, HJB, rows) for rows in parts])
    assert len(losses) == 4  # one frame has no face
    losses.mean().backward()
    gradient, loss = face_gradient(latents, target, HJB)
    assert loss == pytest.approx(losses.mean().item(), rel=1e-5)
    assert whole.grad is not None
    torch.testing.assert_close(gradient, whole.grad, rtol=1e-4, atol=1e-7)
    assert gradient[3].abs().max() > 0


def test_a_decoder_of_single_frames_gives_the_same_gradient_in_any_chunks(
    make_target: Callable[..., FaceTarget], codec: TemporalCodec, latents: Tensor
) -> None:
    alone = replace(make_target(), decode=lambda part: torch.cat([codec.decode_frames(one[None]) for one in part]))
    (one, first), (all_of_them, second) = (face_gradient(latents, alone, replace(HJB, chunk=chunk)) for chunk in (1, 5))
    assert first == pytest.approx(second, rel=1e-5)
    torch.testing.assert_close(one, all_of_them, rtol=1e-4, atol=1e-7)


def test_decoding_the_face_alone_sees_the_same_face(recogniser: nn.Module, latents: Tensor) -> None:
    """Where the decoder works place by place, the crop's loss and gradient are the whole frame's."""

    def decode(part: Tensor) -> Tensor:
        return F.interpolate(part[:, :3].tanh(), scale_factor=2.0, mode="nearest")

    target = FaceTarget(decode=decode, recogniser=recogniser, reference=torch.randn(16), boxes=BOXES, warps=box_warps(BOXES), scale=2)
    (whole, first), (cropped, second) = (face_gradient(latents, target, replace(HJB, decode=kind)) for kind in ("frames", "face"))  # type: ignore[arg-type]
    assert first == pytest.approx(second, rel=1e-5)
    torch.testing.assert_close(whole, cropped, rtol=1e-4, atol=1e-7)


# --- steps -----------------------------------------------------------------------------------------------------------


def test_two_steps_bring_the_faces_nearer(make_target: Callable[..., FaceTarget], latents: Tensor) -> None:
    target = make_target()
    before = face_gradient(latents, target, HJB)[1]
    after = face_gradient(optimise_faces(latents, target, HJB, HJB.rate_at(0, 10)), target, HJB)[1]
    assert after < before - 1e-4


def test_outside_of_the_face_nothing_moves(make_target: Callable[..., FaceTarget], latents: Tensor) -> None:
    target = make_target()
    moved = optimise_faces(latents, target, HJB, 0.1)
    inside = latent_masks(BOXES, (12, 12), 2, HJB.dilation).bool().expand_as(latents)
    assert torch.equal(moved[~inside], latents[~inside])
    assert torch.equal(moved[2], latents[2])  # no face there
    assert (moved[0] != latents[0]).any()
    free = optimise_faces(latents, target, replace(HJB, mask_grad=False), 0.1)
    assert not torch.equal(free[~inside], latents[~inside])


def test_adam_moves_by_about_its_rate_and_never_beyond_the_clamp(make_target: Callable[..., FaceTarget], latents: Tensor) -> None:
    ten = replace(HJB, steps=10, stop_growth=None, mask_grad=False)
    free = optimise_faces(latents, make_target(), replace(ten, clamp=None), 0.1)
    assert 0.5 < (free - latents).abs().max().item() <= 1.02  # ten steps of .1
    tight = optimise_faces(latents, make_target(), replace(ten, clamp=0.2), 0.1)
    assert (tight - latents).abs().max().item() <= 0.2 * 0.1 * 10 + 1e-6


def test_a_face_that_is_there_already_is_left_alone(make_target: Callable[..., FaceTarget], latents: Tensor) -> None:
    target = make_target(BOXES[:1])
    with torch.no_grad():
        there = replace(target, reference=target.recogniser(aligned_faces(target.decode(latents[:1]).clamp(-1, 1), target.warps))[0])
    assert torch.equal(optimise_faces(latents[:1], there, replace(HJB, stop_cosine=0.75), 0.1), latents[:1])


def test_a_loss_that_doubles_goes_back_to_the_best(make_target: Callable[..., FaceTarget], latents: Tensor) -> None:
    """A recogniser that turns round after the first look: the first latents were the best."""
    looks: list[int] = []

    class Fickle(nn.Module):
        def forward(self, faces: Tensor) -> Tensor:
            looks.append(len(faces))
            shown = faces.mean((1, 2, 3))[:, None] * 1e-3
            return torch.cat([shown + (1.0 if len(looks) == 1 else -1.0), torch.full_like(shown, 1.0)], 1)

    target = replace(make_target(BOXES[:1]), recogniser=Fickle(), reference=torch.tensor([1.0, 0.5]))
    assert torch.equal(optimise_faces(latents[:1], target, replace(HJB, steps=5), 0.1), latents[:1])
    assert len(looks) == 2  # not five


def test_without_any_face_nothing_happens(make_target: Callable[..., FaceTarget], latents: Tensor) -> None:
    assert optimise_faces(latents, make_target(torch.zeros(5, 4)), HJB, 0.1) is latents


def test_presets_are_those_of_their_sources() -> None:
    assert [i for i in range(25) if PUBLIC_HJB.active(i, 25, 1.0)] == list(range(21))
    assert all(PAPER_HJB.active(i, 25, 1.0) for i in range(25))
    assert [sigma for sigma in (700.0, 20.0, 1.0, 0.1, 0.09) if Hjb().active(0, 25, sigma)] == [20.0, 1.0, 0.1]
    assert not Hjb(enabled=False, sigma_range="paper").active(0, 25, 1.0)
    assert (PUBLIC_HJB.steps, PAPER_HJB.steps) == (3, 10)
    # three steps of ours are the released code's; ten take as far together
    assert Hjb().rate_at(5, 25) == pytest.approx(PUBLIC_HJB.rate_at(5, 25)) == pytest.approx(0.1 * 0.8)
    assert 10 * PAPER_HJB.rate_at(5, 25) == pytest.approx(3 * PUBLIC_HJB.rate_at(5, 25))


def test_steering_follows_the_noise_levels(make_target: Callable[..., FaceTarget], latents: Tensor) -> None:
    steer = steering(make_target(), HJB)
    assert steer is not None
    assert steer(latents, 0, 10, 500.0) is latents
    assert not torch.equal(steer(latents, 5, 10, 1.0), latents)
    assert steering(None, HJB) is None
    assert steering(make_target(), replace(HJB, enabled=False)) is None


@pytest.mark.parametrize("objective", ["v", "epsilon"])
def test_a_ddim_prediction_is_steered_through_its_x0(objective: str, latents: Tensor) -> None:
    """The prediction that comes back stands for the steered x0 at the same noisy latents."""
    noise, alpha = torch.randn_like(latents), torch.tensor(0.4)
    noisy = add_noise(latents, noise, alpha)
    prediction = target_of(latents, noise, alpha, objective)  # type: ignore[arg-type]
    other = torch.randn_like(latents)
    steered = steered_prediction(prediction, noisy, alpha, objective, lambda x0: other)  # type: ignore[arg-type]
    torch.testing.assert_close(clean_estimate(noisy, steered, alpha, objective), other, rtol=1e-3, atol=1e-4)  # type: ignore[arg-type]
    same = steered_prediction(prediction, noisy, alpha, objective, lambda x0: x0)  # type: ignore[arg-type]
    torch.testing.assert_close(same, prediction, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("objective", ["v", "epsilon"])
def test_a_steered_ddim_sampler_goes_where_it_is_steered(objective: Objective) -> None:
    """Steering sees the whole clip, however many frames are stepped at once."""
    frames = STEPPED_AT_ONCE + 5
    latents = torch.randn(frames, 4, 8, 8)
    config = NoiseConfig(objective=objective, zero_terminal_snr=objective == "v")
    there, seen = torch.randn_like(latents), list[tuple[int, int, float]]()

    def towards(clean: Tensor, i: int, steps: int, sigma: float) -> Tensor:
        assert len(clean) == frames
        seen.append((i, steps, sigma))
        return there

    def unmoved(clean: Tensor, i: int, steps: int, sigma: float) -> Tensor:
        return clean

    def sampled(steer: Steer | None) -> Tensor:
        scheduler = make_scheduler(config)
        correct = None if steer is None else steered_steps(scheduler, objective, steer)
        whole = [list(range(frames))]
        return sample_windows(lambda x, *_: 0.3 * x, latents.clone(), scheduler, 4, lambda _: whole, correct=correct)

    torch.testing.assert_close(sampled(towards), there, rtol=0, atol=0.1)  # a of the last step is not quite 1
    assert [(i, n) for i, n, _ in seen] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [s for *_, s in seen] == sorted((s for *_, s in seen), reverse=True)
    torch.testing.assert_close(sampled(unmoved), sampled(None), rtol=1e-3, atol=1e-3)


# --- where faces are -------------------------------------------------------------------------------------------------


def test_a_box_crop_is_a_bilinear_resize_of_the_box() -> None:
    image = torch.rand(1, 3, 40, 40) * 2 - 1
    crop = aligned_faces(image, box_warps(torch.tensor([[6.0, 10, 20, 30]])))
    expected = F.interpolate(image[:, :, 10:30, 6:20], (112, 112), mode="bilinear", align_corners=False)
    torch.testing.assert_close(crop[..., 8:-8, 8:-8], expected[..., 8:-8, 8:-8], rtol=0, atol=1e-4)  # the resize repeats its border


def test_masks_are_boxes_in_latent_pixels() -> None:
    boxes = torch.tensor([[8.0, 16, 24, 40], [0, 0, 0, 0]])
    masks = latent_masks(boxes, (8, 8), 8)
    assert masks.shape == (2, 1, 8, 8)
    assert masks[0, 0].nonzero().tolist() == [[y, x] for y in (2, 3, 4) for x in (1, 2)]
    assert masks[1].sum() == 0
    full = torch.zeros(1, 1, 64, 64)
    full[:, :, 16:40, 8:24] = 1
    assert torch.equal(masks[:1], F.interpolate(full, (8, 8), mode="nearest"))
    wide = latent_masks(boxes, (8, 8), 8, dilation=2)
    assert wide[0, 0].nonzero().tolist() == [[y, x] for y in range(7) for x in range(5)]
    assert wide[1].sum() == 0


def _points(frames: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """A face whose five points lie on the template, landmarks all around."""
    points = np.zeros((frames, 133, 2), np.float32)
    points[:, 23:91] = TEMPLATE[2]
    for rows, place in ((slice(36, 42), 0), (slice(42, 48), 1), (48, 3), (54, 4)):
        points[:, 23:91][:, rows] = TEMPLATE[place]
    points[:, 23], points[:, 24] = (30, 40), (90, 100)
    return points, np.ones((frames, 133), np.float32)


def test_boxes_come_from_visible_landmarks() -> None:
    points, scores = _points()
    scores[1, 23:91] = 0
    boxes = landmark_boxes(points, scores, (128, 128))
    assert boxes[0].tolist() == pytest.approx([27, 22, 93, 103])
    assert boxes[1].tolist() == [0, 0, 0, 0]
    assert landmark_boxes(points, scores, (50, 60))[0].tolist() == pytest.approx([27, 22, 60, 50])  # inside of the image


def test_landmarks_on_the_template_need_no_alignment() -> None:
    points, scores = _points(1)
    boxes = landmark_boxes(points, scores, (128, 128))
    warps = landmark_warps(points, boxes)
    torch.testing.assert_close(warps[0], torch.tensor([[1.0, 0, 0], [0, 1, 0]]), rtol=0, atol=1e-4)
    coinciding = points * 0 + 50
    torch.testing.assert_close(landmark_warps(coinciding, boxes), box_warps(boxes))


# --- codec and recogniser --------------------------------------------------------------------------------------------


def test_the_temporal_codec_scales_and_decodes_chunks_of_neighbours(codec: TemporalCodec) -> None:
    images = torch.rand(5, 3, 24, 24) * 2 - 1
    latents = codec.encode(images)
    with torch.no_grad():
        torch.testing.assert_close(latents, codec.autoencoder.encode(images).latent_dist.mean * 0.5)
        raw = codec.autoencoder.decode(latents[:4] / 0.5, num_frames=4).sample.clamp(-1, 1)
    torch.testing.assert_close(codec.decode(latents)[:4], raw)
    assert not torch.equal(codec.decode(latents, 1), codec.decode(latents, 4))  # the decoder sees neighbours
    generator = torch.Generator().manual_seed(0)
    still = conditioning_latent(codec, images[:1], 0.0, generator)
    torch.testing.assert_close(still, latents[:1] / 0.5)  # unscaled
    assert not torch.equal(conditioning_latent(codec, images[:1], 0.0, generator, sample=True), still)
    assert not torch.equal(conditioning_latent(codec, images[:1], 0.02, generator), still)


def test_a_tiny_recogniser_is_loaded_by_name(tmp_path: Path) -> None:
    network = FaceRecogniserNetwork((16, 24, 32), 20, people=5)
    weights = {name: value.detach().half() for name, value in network.state_dict().items() if name != "people"}
    save_file(weights, tmp_path / "model.safetensors")
    faces = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(load_tiny(tmp_path / "model.safetensors")(faces), network(faces), rtol=0, atol=0.02)
    assert not any(p.requires_grad for p in load_differentiable(None).parameters())  # the stand-in
    save_file({**weights, "other": torch.zeros(1)}, tmp_path / "odd.safetensors")
    with pytest.raises(UserError, match=r"unexpected \['other'\]"):
        load_tiny(tmp_path / "odd.safetensors")
    save_file({name: value for name, value in weights.items() if name != "stem.bias"}, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match=r"missing \['stem.bias'\]"):
        load_tiny(tmp_path / "less.safetensors")


def test_the_shipped_recogniser_in_torch_is_the_extractor_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """ONNX Runtime and torch agree on the same weights, also when they come from the file that the training job writes beside."""
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper

    from pipelines.extractors.face_embedding import RECOGNISERS, FaceEmbedder
    from pipelines.weights import find_weights

    shipped = find_weights(TINY)
    frames = [np.random.default_rng(i).integers(0, 255, (112, 112, 3), dtype=np.uint8) for i in range(2)]
    truth = FaceEmbedder(shipped, RECOGNISERS[TINY])(frames, [np.eye(2, 3, dtype=np.float32)] * 2)
    images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(load_differentiable(TINY)(images), torch.from_numpy(truth), rtol=1e-3, atol=1e-3)
    held = {
        tensor.name.removesuffix(".half"): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in onnx.load(str(shipped)).graph.initializer
    }
    norms = iter([value.flatten() for name, value in held.items() if name.startswith("onnx::")])
    named = {name: value for name, value in held.items() if not name.startswith("onnx::")}
    for level in range(3):  # the exporter folds the norms' gains and biases
        named |= {f"norm.{level}.weight": next(norms), f"norm.{level}.bias": next(norms)}
    save_file(named, tmp_path / TINY_FILE)
    import models.stable_animator.recogniser as recogniser

    monkeypatch.setattr(recogniser, "find_weights", lambda role: tmp_path / "model.onnx")
    with torch.no_grad():
        torch.testing.assert_close(recogniser.load_differentiable(TINY)(images), torch.from_numpy(truth), rtol=1e-3, atol=1e-3)


def test_an_optimised_face_is_nearer_for_a_recogniser_that_the_optimiser_never_saw(tmp_path: Path) -> None:
    """Two performers behind the demo's autoencoder, their latents under noise of deviation 0.5; the shipped recognisers, one of them unseen."""
    pytest.importorskip("onnx")
    from models.autoencoders import autoencoder_folder
    from models.clip_dataset import to_signed
    from models.latents import LatentCodec
    from models.stable_animator.face_optimisation import embedding_of
    from models.stable_animator.temporal_codec import differentiable
    from models.tiny.people import cast, draw

    people = draw(cast(range(3000, 3002), clips=1, frames=2, every=1), tmp_path)
    codec, judges = (
        LatentCodec.load(autoencoder_folder("demo")),
        [load_differentiable(TINY), load_differentiable("face_recogniser_second_tiny")],
    )
    points, scores = (np.asarray(people.truth[name], np.float32) for name in ("keypoints", "scores"))
    boxes = landmark_boxes(points, scores, (128, 128))
    warps, images = landmark_warps(points, boxes), to_signed(np.array(people.frames))
    clean = codec.encode(images)
    noisy = clean + 0.5 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))

    def cosine(judge: nn.Module, latents: Tensor, first: int) -> float:
        rows = slice(first, first + 2)
        with torch.no_grad():
            made, own = (
                embedding_of(judge, codec.decode(latents), warps[rows]),
                embedding_of(judge, images[first : first + 1], warps[first : first + 1]),
            )
        return F.cosine_similarity(made, own, dim=1).mean().item()

    gains = []
    for first in (0, 2):
        rows = slice(first, first + 2)
        reference = embedding_of(judges[0], images[first : first + 1], warps[first : first + 1])[0]
        target = FaceTarget(
            decode=differentiable(codec), recogniser=judges[0], reference=reference, boxes=boxes[rows], warps=warps[rows], scale=8
        )
        moved = optimise_faces(noisy[rows], target, Hjb(steps=2, crop="aligned", stop_cosine=None), 0.075)
        gains.append([cosine(judge, moved, first) - cosine(judge, noisy[rows], first) for judge in judges])
    own, unseen = np.mean(gains, axis=0)
    assert own > 0.1
    assert unseen > 0
