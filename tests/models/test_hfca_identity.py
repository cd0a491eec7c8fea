"""HFCA's identity preservation (Eq. 1 to 3): nothing for equal images, gradients that reach the prediction, gates, and the cap on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from models.clip_dataset import Batch
from models.face_warp import aligned_faces
from models.guidance import Condition
from models.hfca.config import IdentityPreservation
from models.hfca.identity_preservation import (
    IdentityPreservationLoss,
    Judged,
    mask_box,
    region_masks,
    template_box,
    with_gradient_share,
)
from models.hfca.judges import judge_files, perceptual_of, recogniser_of, style_network
from models.identity_loss import identity_distance
from models.latents import LatentCodec
from models.lean_decoding import decoder_of
from models.signals import Signals
from models.stage_loss import Denoised
from models.style_loss import style_loss
from pipelines.errors import MissingWeightsError
from pipelines.extractors.face_embedding import similarity_warp

SIZE = (32, 32)
CONFIG = IdentityPreservation(least_face_px=4.0, crop_margin=8, recogniser=None, perceptual=None)  # crops are the whole picture
FACE = np.array([[12, 11], [19, 11], [15.5, 15], [13, 19], [18, 19]], np.float32)
N = 2


def _signals(rows: int, **changed: Any) -> Signals:
    body = torch.zeros(rows, 1, *SIZE)
    body[:, :, 4:30, 6:26] = 1.0
    made: dict[str, Any] = {
        "face_warps": torch.from_numpy(similarity_warp(FACE)).repeat(rows, 1, 1),
        "face_found": torch.ones(rows, dtype=torch.bool),
        "face_boxes": torch.tensor([[[9.0, 7.0, 23.0, 23.0]]]).repeat(rows, 1, 1),
        "hand_boxes": torch.tensor([[[6.0, 24.0, 10.0, 28.0], [22.0, 24.0, 26.0, 28.0]]]).repeat(rows, 1, 1),
        "body_mask": body,
    }
    return Signals(**(made | changed))


def _judged(codec: LatentCodec, *, same: bool = False, **changed: Any) -> Judged:
    """Two one-step x0, which are the reference's own latents where `same`."""
    torch.manual_seed(0)
    latents = torch.randn(N, 16, 8, 8)
    with torch.no_grad():
        image = decoder_of(codec)(latents)
    made = {
        "latents": latents if same else latents + 0.5 * torch.randn(N, 16, 8, 8),
        "timesteps": torch.tensor([0, 249]),
        "signals": _signals(N),
        "reference_image": image,
        "reference_signals": _signals(N),
    }
    return Judged(**(made | changed))


@pytest.fixture
def module(codec: LatentCodec) -> IdentityPreservationLoss:
    return _module(codec)


def _module(codec: LatentCodec, **changed: Any) -> IdentityPreservationLoss:
    config = replace(CONFIG, **changed)
    made = IdentityPreservationLoss(config, decoder_of(codec), recogniser_of(config), perceptual_of(config))
    if made.recogniser is not None:
        # an untrained recogniser sees all faces as nearly one: centre its embeddings, as the batch norm of a trained one does
        images = _judged(codec).reference_image
        seen = made.recogniser(aligned_faces(images, _signals(N).face_warps))  # type: ignore[arg-type]
        made.recogniser.features.running_mean.copy_(seen.mean(dim=0))  # type: ignore[union-attr, operator]
    return made


def _values(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(loss.detach()) for name, loss in losses.items()}


# --- the losses ------------------------------------------------------------------------------------------------------


def test_equal_images_have_no_loss(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    same, other = _values(module.losses(_judged(codec, same=True))), _values(module.losses(_judged(codec)))
    assert set(same) == set(other) == {"face", "style"}
    for name in same:
        assert other[name] > 0
        assert abs(same[name]) < 2e-2 * other[name]


def test_the_face_is_equation_1_of_the_whole_picture(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    judged, recogniser = _judged(codec), module.recogniser
    assert recogniser is not None
    with torch.no_grad():
        images = decoder_of(codec)(judged.latents)
        f_gen, f_ref = (recogniser(aligned_faces(each, judged.signals.face_warps)) for each in (images, judged.reference_image))  # type: ignore[arg-type]
        expected = CONFIG.face * identity_distance(f_ref, f_gen, CONFIG.l2_weight, CONFIG.l2_on).mean()
    assert float(module.losses(judged)["face"]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("region", ["clothing", "person", "full"])
def test_the_style_is_equation_3_in_its_region(codec: LatentCodec, region: Any) -> None:
    module, judged = _module(codec, region=region), _judged(codec)
    assert module.perceptual is not None
    mask = region_masks(judged.signals, region, judged.reference_image)
    with torch.no_grad():
        images = decoder_of(codec)(judged.latents)
        masks = (None, None) if region == "full" else (mask, mask)
        expected = CONFIG.style * style_loss(module.perceptual, judged.reference_image, images, *masks).mean()
    assert float(module.losses(judged)["style"].detach()) == pytest.approx(float(expected), rel=1e-3)


def test_clothing_is_the_body_without_face_and_hands() -> None:
    clothing, person, full = (region_masks(_signals(1), region, torch.empty(1, 3, *SIZE)) for region in ("clothing", "person", "full"))  # type: ignore[arg-type]
    assert full.all()
    assert person.sum() == 26 * 20
    assert not clothing[0, 0, 8:22, 10:22].any()  # the face
    assert not clothing[0, 0, 25:27, 7:9].any()  # a hand
    assert clothing[0, 0, 23:30, 12:20].all()
    assert ((person - clothing) >= 0).all()


def test_bodies_are_compared_at_one_scale_and_no_larger_than_said(codec: LatentCodec) -> None:
    """The same texture at a smaller size has another Gram matrix; both pictures shrink by the same factor."""
    judged = _judged(codec, same=True)
    values = [_values(_module(codec, body_px=side).losses(judged))["style"] for side in (256, 16)]
    assert all(abs(value) < 1e-5 for value in values)
    smaller = replace(judged.reference_signals, body_mask=judged.reference_signals.body_mask * (torch.arange(32) < 20))
    assert torch.isfinite(_module(codec, body_px=16).losses(replace(judged, reference_signals=smaller))["style"])


# --- gates -----------------------------------------------------------------------------------------------------------


def test_noisy_samples_are_not_judged(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    assert module.losses(_judged(codec, timesteps=torch.tensor([250, 999]))) == {}
    both = _values(module.losses(_judged(codec)))
    one = _values(module.losses(_judged(codec, timesteps=torch.tensor([0, 250]))))
    other = _values(module.losses(_judged(codec, timesteps=torch.tensor([250, 0]))))
    for name in both:
        assert both[name] == pytest.approx((one[name] + other[name]) / 2, rel=1e-4)


def test_faces_must_be_found_in_both_and_large_enough(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    nowhere = torch.zeros(N, dtype=torch.bool)
    for changed in (
        {"signals": _signals(N, face_found=nowhere)},
        {"reference_signals": _signals(N, face_found=nowhere)},
        {"signals": _signals(N, face_warps=torch.from_numpy(similarity_warp(FACE + 500)).repeat(N, 1, 1))},
    ):
        assert set(module.losses(_judged(codec, **changed))) == {"style"}
    side = 112 / float(torch.linalg.det(torch.from_numpy(similarity_warp(FACE))[:, :2]) ** 0.5)
    assert set(_module(codec, least_face_px=side - 0.1).losses(_judged(codec))) == {"face", "style"}
    assert set(_module(codec, least_face_px=side + 0.1).losses(_judged(codec))) == {"style"}


def test_an_empty_region_has_no_style(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    nobody = torch.zeros(N, 1, *SIZE)
    for which in ("signals", "reference_signals"):
        assert set(module.losses(_judged(codec, **{which: _signals(N, body_mask=nobody)}))) == {"face"}


def test_switches_leave_losses_out(codec: LatentCodec) -> None:
    assert set(_module(codec, face=0.0).losses(_judged(codec))) == {"style"}
    assert set(_module(codec, style=0.0).losses(_judged(codec))) == {"face"}
    assert _module(codec, enabled=False).losses(_judged(codec)) == {}


def test_missing_signals_are_named(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    with pytest.raises(ValueError, match=r"\['face_warps', 'face_found'\]"):
        module.losses(_judged(codec, signals=Signals()))


# --- gradients -------------------------------------------------------------------------------------------------------


def _denoised(codec: LatentCodec, prediction: Tensor, factor: float = 1.0) -> Denoised:
    """A batch of two references whose one-step x0 is the prediction itself."""
    torch.manual_seed(0)
    latents = torch.randn(2, 1, 16, 8, 8)
    with torch.no_grad():
        image = decoder_of(codec)(latents.flatten(0, 1))
    batch = Batch(
        reference_image=image,
        reference_latent=latents[:, 0],
        latents=latents,
        pose=torch.empty(0),
        signals=_signals(2),
        reference_signals=_signals(2),
    )
    condition = Condition(
        reference_latent=latents[:, 0], image_tokens=torch.empty(0), pose=torch.empty(0), dropped=torch.zeros(2, dtype=torch.bool)
    )
    return Denoised(
        batch=batch,
        condition=condition,
        timesteps=torch.tensor([10, 20]),
        noisy=latents,
        prediction=prediction,
        regression=factor * (prediction - latents).square().mean(),
        estimate=prediction * 1.0,
    )


def test_gradients_reach_the_prediction_and_are_capped(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    for factor in (1.0, 1e-3):  # a diffusion loss with a large and with a small gradient
        prediction = torch.randn(2, 1, 16, 8, 8, requires_grad=True)
        denoised = _denoised(codec, prediction, factor)
        (base,) = torch.autograd.grad(denoised.regression, prediction, retain_graph=True)
        for name, loss in module.losses(Judged.of(denoised)).items():
            (free,) = torch.autograd.grad(loss, prediction, retain_graph=True)
            assert (free.abs().amax(dim=(1, 2, 3, 4)) > 0).all()
            capped, ratio = with_gradient_share(loss, denoised.regression, denoised.prediction, 0.2)
            assert float(capped.detach()) == pytest.approx(float(loss.detach()), rel=1e-4, abs=1e-6), name
            there = base[free != 0].norm()  # only where the loss pulls at all
            assert ratio == pytest.approx(float(free.norm() / there), rel=1e-4)
            (held,) = torch.autograd.grad(capped, prediction, retain_graph=True)
            expected = free * min(1.0, 0.2 * float(there / free.norm()))
            torch.testing.assert_close(held, expected, rtol=1e-3, atol=1e-9)
            assert held.norm() <= 0.2 * there * 1.001


def test_the_extra_loss_is_the_sum_and_notes_its_shares(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    prediction = torch.randn(2, 1, 16, 8, 8, requires_grad=True)
    denoised = _denoised(codec, prediction)
    extra = module(denoised)
    assert float(extra.detach()) == pytest.approx(sum(_values(module.losses(Judged.of(denoised))).values()), rel=1e-4)
    assert {name: len(ratios) for name, ratios in module.shares.items()} == {"face": 1, "style": 1}
    (extra + denoised.regression).backward()
    assert prediction.grad is not None
    with torch.no_grad():  # probes ask for the value alone
        assert float(module(_denoised(codec, prediction.detach()))) == pytest.approx(float(extra.detach()), rel=1e-4)
    assert len(module.shares["face"]) == 1


def test_a_step_against_the_gradient_lowers_both_losses(codec: LatentCodec, module: IdentityPreservationLoss) -> None:
    judged = _judged(codec)
    latents = judged.latents.clone().requires_grad_()
    for name in ("face", "style"):
        loss = module.losses(replace(judged, latents=latents))[name]
        (gradient,) = torch.autograd.grad(loss, latents)
        moved = module.losses(replace(judged, latents=latents.detach() - 1e-2 * gradient / gradient.abs().max()))[name]
        assert float(moved) < float(loss.detach())


# --- boxes and networks ----------------------------------------------------------------------------------------------


def test_the_template_box_is_where_the_recogniser_looks() -> None:
    warp = torch.from_numpy(similarity_warp(FACE))
    box = template_box(warp, SIZE)
    assert box is not None
    x1, y1, x2, y2 = box
    assert (x1 < FACE[:, 0].min(), y1 < FACE[:, 1].min(), x2 > FACE[:, 0].max(), y2 > FACE[:, 1].max()) == (True,) * 4
    assert x2 - x1 == pytest.approx(y2 - y1, rel=0.2)
    assert template_box(torch.from_numpy(similarity_warp(FACE - 300)), SIZE) is None
    images = torch.rand(1, 3, *SIZE)
    cut = images.clone()
    outside = torch.ones(SIZE, dtype=torch.bool)
    outside[int(y1) : int(y2) + 2, int(x1) : int(x2) + 2] = False
    cut[:, :, outside] = 0.123
    assert torch.equal(aligned_faces(cut, warp[None]), aligned_faces(images, warp[None]))


def test_the_mask_box_holds_the_mask() -> None:
    mask = torch.zeros(1, 20, 30)
    mask[0, 4:9, 11:25] = 0.3
    assert mask_box(mask) == (11, 4, 25, 9)


def test_stand_ins_are_fixed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = style_network(None), style_network(None)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert not any(parameter.requires_grad for parameter in first.parameters())
    assert judge_files(CONFIG) == []


def test_the_tiny_vgg_is_loaded_by_torchvisions_names(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import save_file

    from pipelines.extractors.lpips import LPIPS_TINY, vgg16_layers

    torch.manual_seed(0)
    layers = vgg16_layers(LPIPS_TINY.widths)
    save_file(
        {f"features.{name}": value.half().contiguous() for name, value in layers.state_dict().items()}, tmp_path / "model.safetensors"
    )
    monkeypatch.setattr("models.hfca.judges.find_weights", lambda role: tmp_path / "model.safetensors")
    network = style_network("vgg_tiny")
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = layers.half().float()[:9](((images + 1) / 2 - mean) / std)
    torch.testing.assert_close(network(images)[1], x, rtol=1e-4, atol=1e-5)


def test_missing_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr("pipelines.weights._TINY", tmp_path)
    with pytest.raises(MissingWeightsError, match="rotoscope tiny train vgg"):
        style_network("vgg_tiny")
    with pytest.raises(MissingWeightsError, match="rotoscope tiny train vgg"):
        judge_files(replace(CONFIG, perceptual="vgg_tiny"))
    assert judge_files(replace(CONFIG, enabled=False, perceptual="vgg_tiny")) == []
