"""Performers as the generators see them: latents of the shipped autoencoder, and captions as the text tower's last hidden states."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.autoencoders import autoencoder_folder
from models.clip_dataset import to_signed
from models.latents import LatentCodec
from models.tiny.people import Casting, People, direction, draw, folder_of, plan_of
from models.training_loop import replace_folder
from pipelines.extractors.pretrained_folder import folder_of as pretrained_folder
from pipelines.extractors.pretrained_folder import load_strictly
from pipelines.progress import Progress

# N = frames, C h w = channels, height, width of a packed latent, M = clips

_ENCODED_AT_ONCE = 32
_SMALLEST_PX = 64  # a caption does not depend on the size of the frames

_TEXT_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class LatentPeople:
    """People with their latents [N, 2, C, h, w] float16, as they are and mirrored; text [M + 1, 77, D] by clip, last the empty caption's."""

    people: People
    latents: npt.NDArray[np.float16]
    text: Tensor
    captions: list[str]

    def drawn(self, chosen: Tensor, mirrored: Tensor) -> Tensor:
        """Latents [B, C, h, w] float32 of frames `chosen` [B]."""
        return torch.from_numpy(self.latents[chosen.numpy(), mirrored.long().numpy()].astype(np.float32))

    def told(self, chosen: Tensor, dropped: Tensor | None = None) -> Tensor:
        """Hidden states [B, 77, D] of the captions of frames `chosen` [B]; the empty caption's where `dropped` [B]."""
        rows = torch.from_numpy(self.people.clip[chosen.numpy()].copy())
        return self.text[rows if dropped is None else torch.where(dropped, len(self.captions), rows)]


def latent_people(casting: Casting, cache: Path) -> LatentPeople:
    """A casting through the shipped autoencoder and text tower; encoded once per drawing and autoencoder, kept beside the drawings.

    Raises MissingWeightsError where the text tower is not shipped.
    """
    captions = captions_of(casting, cache)
    text = encode_captions([*captions, ""])
    people = draw(casting, cache)
    return LatentPeople(people, _latents_of(casting, people, cache), text, captions)


def captions_of(casting: Casting, cache: Path) -> list[str]:
    """The truth's caption of every clip, [M]."""
    from pipelines.performers import perform

    path = cache / f"{folder_of(casting, cache).name}-captions.json"
    if not path.is_file():
        told = [str(perform(frames=1, size=_SMALLEST_PX, **direction(casting, *which)).truth.caption) for which in plan_of(casting)]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_text(json.dumps(told))
        partial.replace(path)
    captions: list[str] = json.loads(path.read_text())
    return captions


@torch.no_grad()
def encode_captions(captions: Sequence[str]) -> Tensor:
    """[M, 77, D] float32: last hidden states of the tiny CLIP's text tower, padded to its length as Stable Diffusion does it, without a mask."""
    from transformers import CLIPModel, CLIPTokenizer

    folder = pretrained_folder("clip_tiny", *_TEXT_FILES)
    tower: Any = load_strictly(CLIPModel, folder, "cpu").float().text_model
    tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    length = tower.config.max_position_embeddings if hasattr(tower, "config") else tokenizer.model_max_length
    tokens = tokenizer(list(captions), padding="max_length", truncation=True, max_length=length, return_tensors="pt")["input_ids"]
    return torch.cat([tower(input_ids=part).last_hidden_state for part in tokens.split(64)])


def _latents_of(casting: Casting, people: People, cache: Path) -> npt.NDArray[np.float16]:
    codec = LatentCodec.load(autoencoder_folder("demo"))
    folder = cache / f"{folder_of(casting, cache).name}-latents-{codec.fingerprint()}"
    if not (folder / "latents.npy").is_file():
        _encode_into(folder, people, codec)
    latents: npt.NDArray[np.float16] = np.load(folder / "latents.npy", mmap_mode="r")
    return latents


def _encode_into(folder: Path, people: People, codec: LatentCodec) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    partial.mkdir(parents=True, exist_ok=True)
    parts = []
    bar = Progress(len(people.frames), "frames", "latents")
    for start in range(0, len(people.frames), _ENCODED_AT_ONCE):
        images = to_signed(np.array(people.frames[start : start + _ENCODED_AT_ONCE]))
        parts.append(torch.stack([codec.encode(images), codec.encode(images.flip(-1))], dim=1).half().numpy())
        bar.update(len(images))
    bar.close()
    np.save(partial / "latents.npy", np.concatenate(parts))
    replace_folder(partial, folder)
