"""Regional supervision: only inside masks, only where little noise is left, and identity by the recogniser's own embedding of the reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from models.face_warp import aligned_faces
from models.hia.config import Regional
from models.hia.regional_supervision import RegionalSupervision, Regions, regions_of
from models.iresnet import IResNet
from models.latents import LatentCodec
from models.lean_decoding import decoder_of
from models.signals import Signals
from models.torch_recognisers import stand_in_recogniser
from pipelines.extractors.face_embedding import similarity_warp

FACE = np.array([[10, 6], [21, 6], [15.5, 12], [12, 17], [19, 17]], np.float32)
EARLY = torch.tensor([3, 124])


@pytest.fixture
def recogniser() -> IResNet:
    return stand_in_recogniser()


def _signals(frames: int) -> Signals:
    face, hands = torch.tensor([8.0, 4.0, 24.0, 20.0]), torch.tensor([[0.0, 24.0, 8.0, 32.0], [24.0, 24.0, 32.0, 32.0]])
    return Signals(
        hand_boxes=hands.expand(frames, 2, 4).clone(),
        face_boxes=face.expand(frames, 1, 4).clone(),
        face_warps=torch.from_numpy(similarity_warp(FACE)).expand(frames, 2, 3).clone(),
        face_found=torch.ones(frames, dtype=torch.bool),
    )


@pytest.fixture
def latents() -> Tensor:
    return torch.randn(2, 16, 8, 8)


@pytest.fixture
def regions(codec: LatentCodec, recogniser: IResNet, latents: Tensor) -> Regions:
    images = decoder_of(codec)(latents).detach()
    return regions_of(images, _signals(2), images[:1], _signals(1), recogniser)


@pytest.fixture
def supervision(codec: LatentCodec, recogniser: IResNet) -> RegionalSupervision:
    return RegionalSupervision(decoder_of(codec), recogniser, Regional())


def test_the_true_latents_have_no_regional_loss(supervision: RegionalSupervision, latents: Tensor, regions: Regions) -> None:
    terms = supervision.terms(latents, EARLY, regions)
    assert float(terms.face) == pytest.approx(0, abs=1e-12)
    assert float(terms.hands) == pytest.approx(0, abs=1e-12)
    other = supervision.terms(latents + torch.randn_like(latents), EARLY, regions)
    assert float(other.face) > 1e-6  # the untrained decoder hardly moves
    assert float(other.hands) > 1e-6


def test_the_reference_itself_has_no_cosine_loss(supervision: RegionalSupervision, latents: Tensor, regions: Regions) -> None:
    """Frame 0 is the reference image here: psi_pre = psi_ref."""
    of_itself = supervision.terms(latents[:1], EARLY[:1], regions.rows(torch.tensor([True, False])))
    assert float(of_itself.cosine) == pytest.approx(0, abs=1e-5)


def test_pixels_outside_the_masks_do_not_matter(codec: LatentCodec, recogniser: IResNet, latents: Tensor, regions: Regions) -> None:
    """Equation 1 against a decoder that is the identity: what changes outside face and hands changes nothing, inside it does."""
    plain = RegionalSupervision(lambda images: images, recogniser, Regional(cosine=0.0))
    inside = (regions.face + regions.hands) > 0
    elsewhere = torch.where(inside.expand_as(regions.images), regions.images, torch.randn_like(regions.images))
    assert float(plain(elsewhere, EARLY, regions)) == 0
    assert float(plain(torch.where(inside.expand_as(regions.images), regions.images + 0.5, regions.images), EARLY, regions)) > 0


def test_equation_1_is_the_mean_squared_error_inside_the_mask(recogniser: IResNet, regions: Regions) -> None:
    """A difference of d in the hands alone: L_hand = d^2, L_face = 0."""
    plain = RegionalSupervision(lambda images: images, recogniser, Regional())
    terms = plain.terms(regions.images + 0.3 * regions.hands, EARLY, regions)
    assert float(terms.hands) == pytest.approx(0.09, rel=1e-5)
    assert float(terms.face) == 0


def test_noisy_rows_are_left_out(supervision: RegionalSupervision, latents: Tensor, regions: Regions) -> None:
    wrong = latents + torch.randn_like(latents)
    alone = supervision(wrong[:1], EARLY[:1], regions.rows(torch.tensor([True, False])))
    torch.testing.assert_close(supervision(wrong, torch.tensor([3, 125]), regions), alone)
    assert float(supervision(wrong, torch.tensor([125, 999]), regions)) == 0


def test_without_face_and_hands_the_terms_are_zero(supervision: RegionalSupervision, latents: Tensor, regions: Regions) -> None:
    nobody = replace(
        regions, face=torch.zeros_like(regions.face), hands=torch.zeros_like(regions.hands), found=torch.zeros(2, dtype=torch.bool)
    )
    assert float(supervision(latents + 1, EARLY, nobody)) == 0


def test_a_face_that_the_reference_lacks_is_not_judged(codec: LatentCodec, recogniser: IResNet, latents: Tensor) -> None:
    images = decoder_of(codec)(latents).detach()
    faceless = replace(_signals(1), face_found=torch.tensor([False]))
    assert not regions_of(images, _signals(2), images[:1], faceless, recogniser).found.any()


def test_gradients_reach_the_latents_and_not_the_recogniser(supervision: RegionalSupervision, latents: Tensor, regions: Regions) -> None:
    wrong = (latents + torch.randn_like(latents)).requires_grad_()
    supervision(wrong, EARLY, regions).backward()
    assert wrong.grad is not None
    assert (wrong.grad.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert all(parameter.grad is None for parameter in supervision.recogniser.parameters())


def test_missing_signals_are_named(codec: LatentCodec, recogniser: IResNet, latents: Tensor) -> None:
    images = decoder_of(codec)(latents).detach()
    with pytest.raises(ValueError, match="hand_boxes"):
        regions_of(images, replace(_signals(2), hand_boxes=None), images[:1], _signals(1), recogniser)


def test_the_stand_in_is_the_same_every_time_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    faces = aligned_faces(torch.rand(1, 3, 32, 32), torch.from_numpy(similarity_warp(FACE))[None])
    torch.random.set_rng_state(before)
    first = stand_in_recogniser()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first(faces), stand_in_recogniser()(faces))
    assert not torch.equal(first(faces), stand_in_recogniser(seed=1)(faces))
