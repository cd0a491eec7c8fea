"""CLIP embeddings against transformers' processor and diffusers' own resizing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import MissingWeightsError, UserError
from pipelines.extractors.clip_image import CLIP_HUGE, CLIP_LARGE, resize_svd
from tests.small_clips import clip_of, noise

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("own_weights")


def _save(folder: Path) -> object:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 56}
    model = CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=12, image_size=224, **sizes)).eval()
    model.save_pretrained(folder)
    return model


def test_large_is_the_direct_resize_and_clip_s_processor(tmp_path: Path) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessor

    model = _save(tmp_path / "image_encoder")
    frames = noise(3, 300, 200)
    rows = CLIP_LARGE.load("cpu")(clip_of(frames), frames)["clip_embeddings"]
    images = [Image.fromarray(frame).resize((224, 224)) for frame in frames]
    with torch.no_grad():
        expected = model(**CLIPImageProcessor()(images, return_tensors="pt")).image_embeds
    np.testing.assert_allclose([row["embedding"] for row in rows], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(300, 500), (100, 160), (1000, 700)])
def test_huge_resizes_as_svd_does(shape: tuple[int, int]) -> None:
    from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as svd

    frames = noise(1, *shape)
    x = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255 * 2 - 1
    expected = (svd._resize_with_antialiasing(x, (224, 224)) + 1) / 2
    torch.testing.assert_close(resize_svd(frames), expected, atol=1e-5, rtol=0)


def test_rows_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    import dataclasses

    _save(tmp_path / "svd_image_encoder" / "image_encoder")
    frames = noise(5)
    parts = [dataclasses.replace(CLIP_HUGE, batch_frames=n).load("cpu")(clip_of(frames), frames)["clip_embeddings"] for n in (2, 16)]
    np.testing.assert_allclose([r["embedding"] for r in parts[0]], [r["embedding"] for r in parts[1]], atol=1e-5)


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="clip_image_encoder"):
        CLIP_LARGE.weights_digest()
    _save(tmp_path / "image_encoder")
    (tmp_path / "image_encoder" / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="cannot be opened as CLIPVisionModelWithProjection"):
        CLIP_LARGE.load("cpu")
    (tmp_path / "image_encoder" / "config.json").unlink()
    with pytest.raises(MissingWeightsError, match=r"config\.json"):
        CLIP_LARGE.load("cpu")
