"""Lean decoding gives the values and gradients of plain decoding, and holds one chunk's activations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.face_warp import aligned_faces
from models.latents import LatentCodec
from models.lean_decoding import crop_warps, decode_crop, decode_in_chunks, decoder_of, latent_crop


def _gradient(codec: LatentCodec, latents: Tensor, chunk: int | None) -> tuple[Tensor, Tensor]:
    decode, leaf = decoder_of(codec), latents.clone().requires_grad_()
    images = decode(leaf) if chunk is None else decode_in_chunks(decode, leaf, chunk)
    (gradient,) = torch.autograd.grad(images.square().sum(), leaf)
    return images.detach(), gradient


@pytest.mark.parametrize("chunk", [1, 2, 3, 8])
def test_chunks_have_the_values_and_gradients_of_plain_decoding(codec: LatentCodec, chunk: int) -> None:
    latents = torch.randn(5, 16, 8, 8)
    (images, gradient), (plain, expected) = _gradient(codec, latents, chunk), _gradient(codec, latents, None)
    torch.testing.assert_close(images, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


def test_the_decoder_is_the_codecs_without_its_clamp(codec: LatentCodec) -> None:
    latents = 3 * torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(decoder_of(codec)(latents).detach().clamp(-1, 1), codec.decode(latents), rtol=0, atol=1e-6)


def _saved_bytes(codec: LatentCodec, latents: Tensor, chunk: int | None) -> int:
    """What the graph keeps between forward and backward, the decoder's own weights aside."""
    held: dict[int, int] = {}
    weights = {p.data_ptr() for p in codec.autoencoder.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        decode, leaf = decoder_of(codec), latents.clone().requires_grad_()
        images = decode(leaf) if chunk is None else decode_in_chunks(decode, leaf, chunk)
    assert images.requires_grad
    return sum(held.values())


def test_nothing_is_kept_for_the_backward_pass(codec: LatentCodec) -> None:
    latents = torch.randn(6, 16, 8, 8)
    assert _saved_bytes(codec, latents, 1) < 0.05 * _saved_bytes(codec, latents, None)


def test_without_gradients_nothing_is_recomputed(codec: LatentCodec) -> None:
    calls: list[int] = []

    def decode(latents: Tensor) -> Tensor:
        calls.append(len(latents))
        return decoder_of(codec)(latents)

    with torch.no_grad():
        decode_in_chunks(decode, torch.randn(5, 16, 8, 8, requires_grad=True), 2)
    assert calls == [2, 2, 1]


def test_a_crop_holds_its_box_and_the_margin() -> None:
    assert latent_crop((33.0, 40.0, 50.0, 63.9), 8, (20, 16), margin=2) == (2, 3, 9, 10)
    assert latent_crop((0.0, 0.0, 9.0, 160.0), 8, (20, 16)) == (0, 0, 6, 20)
    with pytest.raises(ValueError, match="outside"):
        latent_crop((400.0, 0.0, 500.0, 9.0), 8, (20, 16))


def test_a_decoded_crop_is_that_of_the_image_behind_the_margin(codec: LatentCodec) -> None:
    """Exactly so for a decoder of convolutions alone, when the margin is as wide as what a pixel sees."""
    latents, decode = torch.randn(1, 16, 12, 12), decoder_of(codec)
    crop = latent_crop((20.0, 20.0, 28.0, 28.0), 4, (12, 12), margin=4)
    with torch.no_grad():
        part, whole = decode_crop(decode, latents, crop), decode(latents)
    left, top = 20 - 4 * crop[0], 20 - 4 * crop[1]
    torch.testing.assert_close(part[..., top : top + 8, left : left + 8], whole[..., 20:28, 20:28], rtol=0, atol=1e-5)


def test_a_warp_finds_the_same_face_in_the_crop() -> None:
    image, crop = torch.rand(1, 3, 40, 40), (2, 3, 9, 10)
    warp = torch.tensor([[[8.0, 0.5, -150.0], [-0.5, 8.0, -120.0]]])
    part = image[..., 12:40, 8:36]
    torch.testing.assert_close(aligned_faces(part, crop_warps(warp, crop, 4)), aligned_faces(image, warp), rtol=0, atol=1e-4)
