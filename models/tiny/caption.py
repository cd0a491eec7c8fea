"""The tiny captioner: BLIP (Li et al. 2022) in transformers' form with few channels, learnt from the performers' captions."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.tiny.clip import LEARNT_FROM, MEASURED_ON, SIZE, normalised, picture, save_half, words_shooting, write_preprocessor
from models.tiny.degradation import rng_of
from models.tiny.footage import Scenes, shoot
from models.tiny.job import TinyJob
from models.tiny.vocabulary import sentences
from models.training_loop import LoopConfig, LossAt
from pipelines.clip import Frames
from pipelines.extractors.caption import captioner, character_span

_BATCH = 48
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")  # as BLIP's: BERT's and the decoder's start
_GARMENTS = ("top", "t-shirt", "sweater", "shirt", "dress", "skirt", "shorts", "trousers")


@cache
def make_tokenizer() -> Any:
    """A BertTokenizer of the words of `sentences`."""
    from transformers import BertTokenizer

    rules = BertTokenizer()._tokenizer
    pieces = (rules.pre_tokenizer.pre_tokenize_str(rules.normalizer.normalize_str(line)) for line in sentences())
    words = sorted({word for line in pieces for word, _ in line})
    return BertTokenizer(vocab={word: i for i, word in enumerate((*_SPECIAL, *words))}, bos_token="[DEC]")


def make_blip() -> Any:
    """An untrained BlipForConditionalGeneration."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    shape = {"hidden_size": 96, "intermediate_size": 288, "num_attention_heads": 4}
    text = {
        **shape, "num_hidden_layers": 2, "encoder_hidden_size": 96, "vocab_size": len(make_tokenizer()), "max_position_embeddings": 64,
        "bos_token_id": _SPECIAL.index("[DEC]"), "pad_token_id": 0, "eos_token_id": _SPECIAL.index("[SEP]"),
        "sep_token_id": _SPECIAL.index("[SEP]"), "projection_dim": 96,
    }  # fmt: skip
    vision = {**shape, "num_hidden_layers": 3, "image_size": SIZE, "patch_size": 8, "projection_dim": 96}
    return BlipForConditionalGeneration(BlipConfig(text_config=text, vision_config=vision, projection_dim=96, image_text_hidden_size=64))


def loss_of(network: Any, scenes: Scenes) -> LossAt:
    """Next-word cross-entropy of the caption given the picture; the whole frame, since a caption also names the place."""
    device, tokenizer = next(network.parameters()).device, make_tokenizer()

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        rng = rng_of(generator)
        clips, moments = rng.integers(len(scenes.frames), size=_BATCH), rng.integers(scenes.frames.shape[1], size=_BATCH)
        nobody = np.full(4, -1, np.float32)
        shown = np.stack([picture(scenes.frames[c, t], nobody, rng) for c, t in zip(clips, moments, strict=True)])
        tokens = tokenizer([scenes.caption[c] for c in clips], padding=True, return_tensors="pt").to(device)
        words, mask = tokens["input_ids"].clone(), tokens["attention_mask"]
        words[:, 0] = _SPECIAL.index("[DEC]")
        labels = words.masked_fill(mask == 0, -100)
        pixels = normalised(torch.from_numpy(shown).to(device))
        return network(pixel_values=pixels, input_ids=words, attention_mask=mask, labels=labels).loss

    return loss_at


def export(network: nn.Module, folder: Path) -> None:
    """model.safetensors (float16), config.json, preprocessor_config.json and the tokenizer's files."""
    save_half(network, folder)
    write_preprocessor(folder, "BlipImageProcessor", SIZE)
    make_tokenizer().save_pretrained(folder)


def facts_in(caption: str) -> tuple[list[str], list[str], str]:
    """(garments, colours in their order, what is done) of a caption; words joined by a hyphen may have come apart."""
    from pipelines.performers.description import COLOURS

    joined = caption.lower().replace(" - ", "-").replace(" / ", "/")
    garments = re.findall(rf"\b(?:{'|'.join(sorted(_GARMENTS, key=len, reverse=True))})\b", joined)
    colours = re.findall(rf"\b(?:{'|'.join(sorted(COLOURS, key=len, reverse=True))})\b", joined)
    done = re.search(r" is (doing \S+|\S+)", joined)
    return garments, colours, done.group(1) if done else ""


def scores(describe: Callable[[Frames], str], scenes: Scenes) -> dict[str, float]:
    """Shares of first frames whose caption has the right garments, all the right colours, the right action, and a word for a person."""
    rows = []
    for frames, truth in zip(scenes.frames, scenes.caption, strict=True):
        caption = describe(np.array(frames[0]))
        pairs = list(zip(facts_in(caption), facts_in(truth), strict=True))
        rows.append([*(got == wanted for got, wanted in pairs), pairs[1][0][:1] == pairs[1][1][:1], character_span(caption) is not None])
    shares = np.mean(rows, axis=0)
    names = ("right_garments", "all_colours_right", "right_action", "first_colour_right", "names_a_person")
    return {name: float(share) for name, share in zip(names, shares, strict=True)}


JOB = TinyJob(
    name="caption",
    title="Tiny captioner",
    purpose="A sentence about a performer, their clothes, what they do and where, by a small BLIP, for Rotoscope's demo.",
    loop=LoopConfig(steps=2200, learning_rate=2e-3, warmup_steps=100, decay="cosine", weight_decay=2e-2, clip_norm=1.0),
    draw=lambda cache: shoot(words_shooting(LEARNT_FROM), cache),
    build=make_blip,
    loss_of=loss_of,
    export=export,
    packed=True,
    measure=lambda folder, cache: scores(captioner(folder, "cpu"), shoot(words_shooting(MEASURED_ON), cache)),
    trained_on=f"performers {LEARNT_FROM.start}..{LEARNT_FROM.stop - 1}",
    measured_on=f"performers {MEASURED_ON.start}..{MEASURED_ON.stop - 1}, never trained on",
)
