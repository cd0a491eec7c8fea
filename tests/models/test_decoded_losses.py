"""From a noise prediction through the one-step x0 and the decoder to losses in pixels: what regional supervision and identity preservation train on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.face_warp import aligned_faces
from models.identity_loss import identity_loss, judgeable_faces
from models.iresnet import IResNet
from models.latents import LatentCodec
from models.lean_decoding import decode_in_chunks, decoder_of
from models.noise import NoiseConfig, Objective, add_noise, alpha_bar, clean_estimate, make_scheduler, target_of
from models.region_loss import box_masks, masked_mse
from models.style_loss import Vgg19, style_loss
from pipelines.extractors.face_embedding import similarity_warp

HIA = NoiseConfig(objective="epsilon", zero_terminal_snr=False, schedule="linear", shift_gamma=0.571, min_snr_gamma=None, noise_offset=0.0)
HFCA = NoiseConfig(objective="epsilon", zero_terminal_snr=False, min_snr_gamma=None, noise_offset=0.0)
V = NoiseConfig()
FACE = np.array([[10, 12], [21, 12], [15.5, 18], [12, 23], [19, 23]], np.float32)
BOXES = torch.tensor([[[6.0, 6.0, 26.0, 28.0]], [[6.0, 6.0, 26.0, 28.0]]])


class _Step:
    """Two samples at t < 125 with a truth, and every loss of a prediction for them."""

    def __init__(self, codec: LatentCodec, config: NoiseConfig) -> None:
        self.decode, self.objective = decoder_of(codec), config.objective
        self.x0, self.noise, self.times = torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8), torch.tensor([3, 124])
        self.alpha = alpha_bar(make_scheduler(config), self.times, self.x0)
        self.noisy = add_noise(self.x0, self.noise, self.alpha)
        with torch.no_grad():
            self.target = self.decode(self.x0)
        self.recogniser, self.vgg = IResNet((1, 1, 1, 1), (4, 4, 6, 8, 8), size=16), Vgg19((6, 8))
        self.warps = torch.from_numpy(similarity_warp(FACE)).expand(2, 2, 3)
        faces = aligned_faces(self.target, self.warps)
        # an untrained recogniser sees all faces as nearly one: centre its embeddings, as the batch norm of a trained one does
        self.recogniser.features.running_mean.copy_(self.recogniser(faces).mean(dim=0))  # type: ignore[union-attr, operator]
        self.reference = self.recogniser(faces)
        self.mask = box_masks(BOXES, (32, 32))

    def truth(self) -> Tensor:
        return target_of(self.x0, self.noise, self.alpha, self.objective).clone()

    def losses(self, prediction: Tensor) -> Tensor:
        """[3] regional, identity and style."""
        images = decode_in_chunks(self.decode, clean_estimate(self.noisy, prediction, self.alpha, self.objective))
        judged = judgeable_faces(self.times, self.warps, torch.tensor([True, True]), t_max=125, least_px=8)
        identity = identity_loss(self.recogniser, images, self.warps, self.reference, judged)
        style = style_loss(self.vgg, self.target, images, self.mask, self.mask)
        return torch.stack([masked_mse(images, self.target, self.mask).mean(), identity, style.mean()])


@pytest.mark.parametrize("config", [HIA, HFCA, V], ids=["hia", "hfca", "v"])
def test_the_true_prediction_has_no_loss(codec: LatentCodec, config: NoiseConfig) -> None:
    step = _Step(codec, config)
    of_truth, of_noise = step.losses(step.truth()), step.losses(step.truth() + torch.randn(2, 16, 8, 8))
    assert (of_noise > 0).all()
    assert (of_truth.abs() < 2e-2 * of_noise).all()


@pytest.mark.parametrize("config", [HIA, V], ids=["epsilon", "v"])
@pytest.mark.parametrize("which", [0, 1, 2], ids=["regional", "identity", "style"])
def test_every_loss_reaches_the_prediction_and_falls_against_its_gradient(codec: LatentCodec, config: NoiseConfig, which: int) -> None:
    step = _Step(codec, config)
    prediction = (step.truth() + 0.5 * torch.randn(2, 16, 8, 8)).requires_grad_()
    loss = step.losses(prediction)[which]
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert (gradient.abs().amax(dim=(1, 2, 3)) > 0).all()
    assert step.losses(prediction.detach() - 1e-2 * gradient / gradient.abs().max())[which] < loss


def test_less_noise_makes_the_same_error_smaller(codec: LatentCodec) -> None:
    """Why supervision in pixels is for small t: the error of x0 is sqrt((1 - a) / a) times that of the prediction."""
    errors = []
    for time in (10, 124, 700):
        alpha = alpha_bar(make_scheduler(HIA), torch.tensor([time]), torch.zeros(1, 1, 1, 1))
        x0, noise, mistake = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
        objective: Objective = "epsilon"
        estimate = clean_estimate(add_noise(x0, noise, alpha), noise + mistake, alpha, objective)
        ratio = float((estimate - x0).norm() / mistake.norm())
        assert ratio == pytest.approx(float(((1 - alpha) / alpha).sqrt()), rel=1e-3)
        errors.append(ratio)
    assert errors == sorted(errors)
    assert errors[0] < 0.3
    assert errors[1] < 0.7 < errors[2]
