"""Prompts and picture prompts: the published layouts open, and give what transformers and diffusers give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models import pretrained_networks
from models.image_prompt_attention import cross_sites
from models.ip_adapter import ImagePrompts, fresh_ip_adapter, load_ip_adapter, parts_of, read_ip_adapter
from models.picture_encoder import PictureEncoder
from models.pretrained_networks import (
    base_unet_folder,
    controlnet_folder,
    image_encoder_folder,
    ip_adapter_file,
    ip_adapter_folder,
    text_encoder_folder,
)
from models.text_tokens import TextTokens
from models.tiny import clip as tiny_clip
from models.tiny.vocabulary import make_tokenizer, save_tokenizer, sentences
from models.unet_shape import UnetShape, make_unet
from pipelines.errors import MissingWeightsError, UserError

SHAPE = UnetShape(channels=(16, 32), layers=1, heads=2, token_dim=32, norm_groups=4, latent_channels=4)
DIM = 24  # numbers of a picture's embedding
PROMPT = "a woman in a red t-shirt is waving"


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny CLIP, untrained, as its job exports it."""
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tiny_clip.export(tiny_clip.make_clip(), folder)
    return folder


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text_encoder/ and tokenizer/ as in Stable Diffusion's folder."""
    from transformers import CLIPTextConfig, CLIPTextModel

    folder = tmp_path_factory.mktemp("sd")
    tokenizer = make_tokenizer(sentences())
    (folder / "tokenizer").mkdir()
    save_tokenizer(tokenizer, folder / "tokenizer")
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    return folder


# --- prompts -------------------------------------------------------------------------------------------------


def test_prompts_are_what_transformers_makes_of_them(stable_diffusion: Path) -> None:
    from transformers import CLIPTextModel, CLIPTokenizer

    tower = CLIPTextModel.from_pretrained(stable_diffusion / "text_encoder").eval()
    tokenizer = CLIPTokenizer.from_pretrained(stable_diffusion / "tokenizer")
    ids = tokenizer([PROMPT, ""], padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        expected = tower(ids)[0]  # as StableDiffusionPipeline.encode_prompt
    made = TextTokens.load(stable_diffusion)([PROMPT, ""])
    assert made.shape == (2, 77, 32)
    torch.testing.assert_close(made, expected)


def test_the_tiny_clip_reads_prompts_as_its_generators_learnt_them(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.tiny import latent_people

    monkeypatch.setattr(latent_people, "pretrained_folder", lambda *_: clip_folder)
    text = TextTokens.load(clip_folder)
    assert text.width == 96
    torch.testing.assert_close(text([PROMPT, ""]), latent_people.encode_captions([PROMPT, ""]))


def test_a_words_places_are_those_of_its_tokens() -> None:
    text = TextTokens.fresh(16)
    (place,) = text.places_of(PROMPT, "woman")
    ids = text.tokenizer(PROMPT)["input_ids"]
    assert text.tokenizer.decode([ids[place]]).strip() == "woman"
    assert text.length_of(PROMPT) == len(ids)
    assert text.length_of("") == 2
    assert text.places_of("A WOMAN", "woman") == [2]
    assert len(text.places_of("the zzgrble walks", "zzgrble")) > 1  # a word in several pieces
    for word in ("man", ""):  # no part of a word, and not nothing
        with pytest.raises(UserError, match="does not have the word"):
            text.places_of(PROMPT, word)


def test_a_fresh_tower_is_the_same_for_the_same_seed_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = TextTokens.fresh(16, seed=1)([PROMPT])
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, TextTokens.fresh(16, seed=1)([PROMPT]))
    assert not torch.equal(first, TextTokens.fresh(16, seed=2)([PROMPT]))


# --- picture prompts -----------------------------------------------------------------------------------------


def _adapter() -> tuple[Any, ImagePrompts]:
    unet = make_unet(SHAPE).eval()
    prompts = fresh_ip_adapter(unet, DIM)
    for name in cross_sites(unet):
        nn.init.normal_(unet.attn_processors[name].to_v_ip.weight, std=0.3)
    return unet, prompts


def _saved(unet: Any, prompts: ImagePrompts, path: Path) -> Path:
    layers = {name: unet.attn_processors[name] for name in cross_sites(unet)}
    parts = parts_of(prompts, layers)
    save_file({f"{part}.{name}": value.contiguous() for part, named in parts.items() for name, value in named.items()}, path)
    return path


def test_a_published_file_gives_the_numbers_that_diffusers_gives(tmp_path: Path) -> None:
    path = _saved(*_adapter(), tmp_path / "ip-adapter_tiny.safetensors")
    plain = make_unet(SHAPE).eval()
    theirs = make_unet(SHAPE).eval()
    theirs.load_state_dict(plain.state_dict())
    parts = read_ip_adapter(path)
    theirs._load_ip_adapter_weights([{name: dict(part) for name, part in parts.items()}], low_cpu_mem_usage=False)
    prompts = load_ip_adapter(plain, parts)
    noisy, times, text, picture = torch.randn(2, 4, 8, 8), torch.tensor([500, 20]), torch.randn(2, 7, 32), torch.randn(2, DIM)
    with torch.no_grad():
        expected = theirs(noisy, times, encoder_hidden_states=text, added_cond_kwargs={"image_embeds": [picture[:, None]]}).sample
        made = plain(noisy, times, encoder_hidden_states=torch.cat([text, prompts(picture)], dim=1)).sample
        null = theirs(noisy, times, encoder_hidden_states=text, added_cond_kwargs={"image_embeds": [0 * picture[:, None]]}).sample
        nothing = plain(noisy, times, encoder_hidden_states=torch.cat([text, prompts.null(2)], dim=1)).sample
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(nothing, null, rtol=0, atol=1e-5)
    assert (made - nothing).abs().max() > 1e-3


def test_a_scale_of_0_is_the_base(tmp_path: Path) -> None:
    path, plain = _saved(*_adapter(), tmp_path / "ip-adapter_tiny.safetensors"), make_unet(SHAPE).eval()
    noisy, text = torch.randn(1, 4, 8, 8), torch.randn(1, 7, 32)
    with torch.no_grad():
        expected = plain(noisy, torch.tensor([9]), encoder_hidden_states=text).sample
        prompts = load_ip_adapter(plain, read_ip_adapter(path), scale=0.0)
        tokens = torch.cat([text, prompts(torch.randn(1, DIM))], dim=1)
        torch.testing.assert_close(plain(noisy, torch.tensor([9]), encoder_hidden_states=tokens).sample, expected)


def test_an_adapter_of_another_unet_or_kind_is_refused(tmp_path: Path) -> None:
    path = _saved(*_adapter(), tmp_path / "ip-adapter_tiny.safetensors")
    wider = make_unet(UnetShape(channels=(16, 16), layers=1, heads=2, token_dim=32, norm_groups=4, latent_channels=4))
    with pytest.raises(UserError, match="another UNet's"):
        load_ip_adapter(wider, read_ip_adapter(path))
    save_file({"image_proj.latents": torch.zeros(1)}, tmp_path / "plus.safetensors")
    with pytest.raises(UserError, match="no plain IP-Adapter"):
        read_ip_adapter(tmp_path / "plus.safetensors")


def test_a_projection_is_kept_as_a_part_of_a_checkpoint(tmp_path: Path) -> None:
    from models.checkpoint import load_part

    prompts = ImagePrompts(dim=DIM, token_dim=32, tokens=4)
    prompts.save_pretrained(tmp_path)
    picture = torch.randn(2, DIM)
    assert torch.equal(load_part(ImagePrompts, tmp_path)(picture), prompts(picture))


def test_pictures_are_seen_as_the_tiny_extractor_sees_them(clip_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.tiny.ip_adapter import embeddings_of
    from pipelines.extractors import clip_image

    monkeypatch.setattr(clip_image, "folder_of", lambda *_: clip_folder)
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 56, 3), dtype=np.uint8)
    eye = PictureEncoder.load(clip_folder)
    assert eye.dim == 64
    torch.testing.assert_close(eye(frames), embeddings_of(frames), rtol=1e-4, atol=1e-5)


def test_a_vision_tower_alone_opens_too(tmp_path: Path) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    fresh = PictureEncoder.fresh(dim=8)
    model = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8, projection_dim=8
        )
    )
    model.vision_model.load_state_dict(fresh.vision.state_dict())
    model.visual_projection.load_state_dict(fresh.projection.state_dict())
    model.save_pretrained(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    torch.testing.assert_close(PictureEncoder.load(tmp_path)(frames), fresh(frames))


# --- where they lie ------------------------------------------------------------------------------------------


def test_local_folders_are_found_with_their_subfolders(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "models").mkdir()
    assert base_unet_folder(str(tmp_path)) == tmp_path / "unet"
    assert controlnet_folder(str(tmp_path)) == tmp_path
    assert text_encoder_folder(str(tmp_path)) == tmp_path
    assert image_encoder_folder(str(tmp_path)) == tmp_path  # no image_encoder in it: the folder itself
    assert ip_adapter_folder(str(tmp_path)) == tmp_path / "models"
    with pytest.raises(UserError, match=r"must hold one ip-adapter\*.safetensors, it has \[\]"):
        ip_adapter_file(str(tmp_path))
    for name in ("ip-adapter_sd15.safetensors", "ip-adapter-plus_sd15.safetensors"):
        (tmp_path / "models" / name).touch()
    assert ip_adapter_file(str(tmp_path)).name == "ip-adapter_sd15.safetensors"


def test_tiny_networks_that_are_not_shipped_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained_networks, "SHIPPED", tmp_path)
    named = {"base_unet": base_unet_folder, "controlnet": controlnet_folder, "ip_adapter": ip_adapter_file, "clip": text_encoder_folder}
    for job, folder_of in {**named, "clip ": image_encoder_folder}.items():
        with pytest.raises(MissingWeightsError, match=f"rotoscope tiny train {job.strip()}"):
            folder_of("demo")
        (tmp_path / job.strip()).mkdir(exist_ok=True)
        (tmp_path / job.strip() / "card.json").touch()
        (tmp_path / job.strip() / "ip-adapter_tiny.safetensors").touch()
        assert folder_of("demo").is_relative_to(tmp_path / job.strip())
        (tmp_path / job.strip() / "card.json").unlink()
