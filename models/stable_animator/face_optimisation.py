"""Face optimisation (Sec. 3.2, Algorithm 1's inner loop): Adam moves the predicted latents until their faces look like the reference's.

The paper derives it from the Hamilton-Jacobi-Bellman equation; what the derivation allows, and all that it asks for, is to replace x_pred.
"""

# F = frames, n = frames of a decoder's chunk, C h w = latents, D = numbers of an embedding

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.face_warp import aligned_faces
from models.lean_decoding import Decode, crop_warps, decode_crop, latent_crop
from models.stable_animator.face_region import Crop, latent_masks

SigmaRange = Literal["paper", "public", "range"]
Rate = Literal["scaled", "public", "constant"]

_PUBLIC_SHARE = 20 / 25  # the released code optimises at indices 0..20 of 25
_RATE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class Hjb:
    """When and how faces are optimised. The defaults are ours; PUBLIC_HJB and PAPER_HJB are the released code's and the paper's."""

    enabled: bool = True
    steps: int = 3  # of Adam, at each noise level [R]
    sigma_range: SigmaRange = "range"  # paper: every step; public: the first four fifths; range: low <= sigma <= high [D]
    low: float = 0.1  # [D]
    high: float = 20.0  # [D] above it a one-step prediction shows no face
    rate: Rate = "scaled"  # (.3 / steps) (1 - i / N) [D]; public: .1 (1 - i / N) [R]; constant: .1
    mask_grad: bool = True  # the gradient stays in the dilated face box [D]
    dilation: int = 2  # latent pixels [D]
    crop: Crop = "box"  # [R] the box, stretched; aligned: by eyes, nose and mouth, as the recogniser was trained
    boxes: Literal["landmarks", "driving"] = "landmarks"  # where target faces are: retargeted landmarks [D], or the driving clip's boxes
    decode: Literal["frames", "face"] = "frames"  # what is decoded for the loss: whole frames [R], or the latents around the faces
    margin: int = 4  # latent pixels around those
    chunk: int = 4  # frames that are decoded, judged and differentiated at a time
    checkpointing: bool = False  # the decoder's blocks forget their activations: less memory, one more pass
    stop_cosine: float | None = 0.75  # stop above this mean cosine: more turns into adversarial texture [D]
    stop_growth: float | None = 2.0  # stop where the loss is this many times the first one, and go back to the best [D]
    clamp: float | None = 3.0  # |change| <= clamp * rate * k after k steps [D]

    def active(self, i: int, steps: int, sigma: float) -> bool:
        """Whether step i of N at this noise level is optimised."""
        if not self.enabled or self.sigma_range == "paper":
            return self.enabled
        return i <= _PUBLIC_SHARE * steps if self.sigma_range == "public" else self.low <= sigma <= self.high

    def rate_at(self, i: int, steps: int) -> float:
        """Adam's learning rate at step i of N: Adam moves every coordinate by about this in each of its steps, whatever the gradient."""
        if self.rate == "constant":
            return _RATE
        return (_RATE if self.rate == "public" else 3 * _RATE / self.steps) * (1 - i / steps)


PUBLIC_HJB = Hjb(sigma_range="public", rate="public", mask_grad=False, checkpointing=True, stop_cosine=None, stop_growth=None, clamp=None)
# Algorithm 1; the rate is not given there, so it stays ours: ten steps at the released code's would move latents by their whole deviation
PAPER_HJB = Hjb(steps=10, sigma_range="paper", mask_grad=False, checkpointing=True, stop_cosine=None, stop_growth=None, clamp=None)


@dataclass(frozen=True, kw_only=True)
class FaceTarget:
    """Whose face the frames of a clip must show, and where."""

    decode: Decode  # differentiable: latents [n, C, h, w] of neighbouring frames -> images [n, 3, H, W] about [-1, 1]
    recogniser: nn.Module  # [n, 3, 112, 112] in [-1, 1] -> [n, D]
    reference: Tensor  # [D] the reference face by the same recogniser, cropped in the same way
    boxes: Tensor  # [F, 4] px of the image; zeros where there is no face: such frames are left alone
    warps: Tensor  # [F, 2, 3] px of the image -> px of the crop
    scale: int  # image pixels per latent pixel

    @property
    def seen(self) -> Tensor:
        """[F] bool: frames with a face."""
        return (self.boxes[:, 2] > self.boxes[:, 0]) & (self.boxes[:, 3] > self.boxes[:, 1])


def embedding_of(recogniser: nn.Module, images: Tensor, warps: Tensor) -> Tensor:
    """[n, D] raw embeddings of faces of images [n, 3, H, W], clamped to [-1, 1] as pictures are."""
    return recogniser(aligned_faces(images.clamp(-1, 1), warps))


def face_losses(latents: Tensor, target: FaceTarget, hjb: Hjb, rows: Tensor) -> Tensor:
    """[m] |1 - cos(Arc(Decoder(x)), Arc(y))| of the m frames with a face in one chunk; latents [n, C, h, w] are frames `rows` [n] of the clip."""
    seen, warps = target.seen[rows], target.warps[rows]
    if hjb.decode == "face":
        boxes = target.boxes[rows][seen]
        around = (*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist())
        crop = latent_crop(around, target.scale, (latents.shape[-2], latents.shape[-1]), hjb.margin)
        images, warps = decode_crop(target.decode, latents, crop), crop_warps(warps, crop, target.scale)
    else:
        images = target.decode(latents)
    embeddings = embedding_of(target.recogniser, images[seen].float(), warps[seen])
    return (1 - F.cosine_similarity(embeddings, target.reference[None], dim=-1)).abs()


@torch.enable_grad()
def face_gradient(latents: Tensor, target: FaceTarget, hjb: Hjb) -> tuple[Tensor, float]:
    """(gradient [F, C, h, w], mean loss) of the faces of a clip's latents, in chunks of `hjb.chunk` frames.

    The loss is a mean over frames, and the decoder mixes frames of one chunk alone: adding up the chunks' gradients gives the whole one,
    while activations of one chunk exist at a time. Frames without a face have none. 0 and NaN-free where nobody is seen.
    """
    count, gradient, total = int(target.seen.sum()), torch.zeros_like(latents), 0.0
    for rows in torch.arange(len(latents)).split(hjb.chunk):
        if not target.seen[rows].any():
            continue
        part = latents[rows].detach().requires_grad_()
        loss = face_losses(part, target, hjb, rows).sum() / count
        gradient[rows] = torch.autograd.grad(loss, part)[0]
        total += loss.item()
    return gradient, total


def optimise_faces(predicted: Tensor, target: FaceTarget, hjb: Hjb, rate: float) -> Tensor:
    """x_op [F, C, h, w] from x_pred: `hjb.steps` steps of Adam on the faces' distance to the reference's (Algorithm 1)."""
    if not target.seen.any():
        return predicted  # the released code divides by the number of faces
    moved = predicted.detach().clone().requires_grad_()
    adam = torch.optim.Adam([moved], lr=rate)
    mask = _mask(predicted, target, hjb)
    best, least, first = predicted, float("inf"), None
    for k in range(1, hjb.steps + 1):
        gradient, loss = face_gradient(moved.detach(), target, hjb)
        first = loss if first is None else first
        if loss < least and hjb.stop_growth is not None:  # what a stop goes back to
            best, least = moved.detach().clone(), loss
        if hjb.stop_growth is not None and loss > hjb.stop_growth * first:
            return best
        if hjb.stop_cosine is not None and 1 - loss > hjb.stop_cosine:
            break
        moved.grad = gradient.mul_(mask)
        adam.step()
        _keep_close(moved, predicted, None if hjb.clamp is None else hjb.clamp * rate * k)
    return moved.detach()


def _mask(predicted: Tensor, target: FaceTarget, hjb: Hjb) -> Tensor:
    """[F, 1, h, w] where the gradient counts; Adam leaves a coordinate alone whose gradients were all zero."""
    if not hjb.mask_grad:
        return predicted.new_ones(1)
    height, width = predicted.shape[-2:]
    return latent_masks(target.boxes, (height, width), target.scale, hjb.dilation).to(predicted)


@torch.no_grad()
def _keep_close(moved: Tensor, predicted: Tensor, most: float | None) -> None:
    if most is not None:
        moved.copy_(predicted + (moved - predicted).clamp(-most, most))


def steering(target: FaceTarget | None, hjb: Hjb) -> Callable[[Tensor, int, int, float], Tensor] | None:
    """`sampler.sample_edm`'s steer for that target; None where nothing is optimised."""
    if target is None or not hjb.enabled:
        return None

    def steer(predicted: Tensor, i: int, steps: int, sigma: float) -> Tensor:
        if not hjb.active(i, steps, sigma):
            return predicted
        return optimise_faces(predicted.float(), target, hjb, hjb.rate_at(i, steps)).to(predicted)

    return steer
