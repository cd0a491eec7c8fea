"""The cache of latents against the autoencoder called by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import UserError
from pipelines.extractors.latents import SCALE, Latents
from pipelines.masks import unpack_array
from tests.small_clips import clip_of, noise

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("own_weights")


def _save(folder: Path) -> object:
    from diffusers import AutoencoderKL

    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    network = AutoencoderKL(block_out_channels=(8, 8, 8, 8), norm_num_groups=4, **blocks).eval()
    network.save_pretrained(folder)
    return network


def test_mean_and_std_are_the_posterior_s_times_the_scale(tmp_path: Path) -> None:
    network = _save(tmp_path / "sd_vae")
    frames = noise(3, 32, 48)
    rows = Latents(size=(32, 32), batch_frames=2).load("cpu")(clip_of(frames), frames)["latents"]
    x = torch.from_numpy(frames[:, :, 8:40]).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        posterior = network.encode(x).latent_dist
    for name, expected in (("mean", posterior.mean), ("std", posterior.std)):
        got = np.stack([unpack_array(row[name], row["shape"], row["dtype"]) for row in rows])
        assert got.shape == (3, 4, 4, 4)
        assert got.dtype == np.float16
        np.testing.assert_allclose(got, expected.numpy() * SCALE, rtol=2e-3, atol=1e-4)
    assert rows[0]["codec"] == "sd_vae:32x32:centre:scale=0.18215"


def test_another_size_is_another_digest(tmp_path: Path) -> None:
    _save(tmp_path / "sd_vae")
    assert Latents(size=(32, 32)).weights_digest() != Latents(size=(64, 32)).weights_digest()


def test_a_size_that_is_no_multiple_of_8_is_refused() -> None:
    with pytest.raises(UserError, match="multiples of 8"):
        Latents(size=(500, 501))


def test_weights_with_a_missing_key_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    _save(tmp_path / "sd_vae")
    path = tmp_path / "sd_vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state.pop("quant_conv.weight")
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(UserError, match="AutoencoderKL"):
        Latents(size=(32, 32)).load("cpu")
