"""The tiny CLIP (Radford et al. 2021): pictures of performers and their captions in one space, as a CLIPModel of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.tiny.degradation import degraded, rng_of
from models.tiny.footage import Scenes, Shooting, shoot, styles
from models.tiny.job import TinyJob
from models.tiny.vocabulary import make_tokenizer, save_tokenizer, sentences
from models.training_loop import LoopConfig, LossAt
from pipelines.clip import Frames
from pipelines.extractors.clip_image import MEAN, STD
from pipelines.extractors.clothing import NAMES, PROMPT, probabilities, prompt_embeddings
from pipelines.extractors.person_crops import crop_of
from pipelines.extractors.pretrained_folder import load_strictly

# Words need many outfits: with 320 people the clothes of each were learnt by heart (97 % of them right, and 31 % of unseen people's).
LEARNT_FROM, MEASURED_ON = range(10_000, 16_000), range(20_000, 20_336)

SIZE, PATCH, SHARED = 64, 8, 64  # px of the square picture, px of a patch, numbers of an embedding
_BATCH = 64
_CROP_SHARE = 0.6  # of pictures that show the person's box; the others show the whole frame
_PROMPT_SHARE, _SHORT_SHARE = 0.3, 0.2  # of texts: the clothing prompt, the caption up to its verb; the rest is the whole caption
_LARGEST_SCALE = 100.0  # of the cosines, as CLIP's


def make_clip() -> Any:
    """An untrained CLIPModel with the vocabulary of `sentences`."""
    from transformers import CLIPConfig, CLIPModel

    tokenizer = make_tokenizer(sentences())
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 77, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id, "projection_dim": SHARED,
    }  # fmt: skip
    vision = {
        "hidden_size": 96, "intermediate_size": 288, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": SIZE,
        "patch_size": PATCH, "projection_dim": SHARED,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=SHARED, logit_scale_init_value=2.3))


def picture(frame: Frames, box: npt.NDArray[np.float32], rng: np.random.Generator) -> Frames:
    """[64, 64, 3]: the person or the whole frame, moved, mirrored, degraded; the aspect is not kept, as in the extractors."""
    side = frame.shape[0]
    low, high = np.zeros(2), np.full(2, float(side))
    if rng.random() < _CROP_SHARE and box[0] >= 0:
        low, high = box[:2].astype(np.float64), box[2:].astype(np.float64)
    extent = high - low
    low, high = low + rng.uniform(-0.08, 0.08, 2) * extent, high + rng.uniform(-0.08, 0.08, 2) * extent
    (x1, y1), (x2, y2) = np.clip(np.floor(low), 0, side - 4).astype(int), np.clip(np.ceil(high), 4, side).astype(int)
    small = cv2.resize(degraded(frame[y1 : max(y2, y1 + 4), x1 : max(x2, x1 + 4)], rng), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    out: Frames = small[:, ::-1] if rng.random() < 0.5 else small
    return out


def text_of(clothing: str, caption: str, rng: np.random.Generator) -> str:
    """One of the texts that fit a picture."""
    kind = rng.random()
    if kind < _PROMPT_SHARE:
        return PROMPT.format(clothing)
    return caption.split(" is ")[0] if kind < _PROMPT_SHARE + _SHORT_SHARE else caption


def fits(text: str, clothing: str, caption: str) -> bool:
    """Whether a text is true of a picture with these words."""
    return caption.startswith(text) or text == PROMPT.format(clothing)


def contrastive_loss(images: Tensor, texts: Tensor, matches: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric cross-entropy where a text may fit several pictures: all that fit share the target.

    images, texts [N, D] unit;  matches [N, N] bool, text i fits picture j.
    """
    logits, wanted = scale * texts @ images.T, matches.float()
    by_text = functional.cross_entropy(logits, wanted / wanted.sum(1, keepdim=True))
    by_image = functional.cross_entropy(logits.T, wanted.T / wanted.T.sum(1, keepdim=True))
    return (by_text + by_image) / 2


def normalised(pictures: Tensor) -> Tensor:
    """[N, 64, 64, 3] uint8 -> [N, 3, 64, 64] as CLIP wants it."""
    mean, std = (torch.tensor(values, device=pictures.device).reshape(3, 1, 1) for values in (MEAN, STD))
    return (pictures.permute(0, 3, 1, 2).float() / 255 - mean) / std


def loss_of(network: Any, scenes: Scenes) -> LossAt:
    """Random frames, each with one of its texts; and the zero-shot question that the clothing extractor asks: which of the twelve prompts fits.

    Without it the prompts of garments that nobody wears were never learnt, and drew every other picture.
    """
    device, tokenizer = next(network.parameters()).device, make_tokenizer(sentences())
    prompts = tokenizer([PROMPT.format(name) for name in NAMES], padding=True, return_tensors="pt").to(device)

    def loss_at(step: int, generator: torch.Generator) -> Tensor:
        rng = rng_of(generator)
        clips = rng.choice(len(scenes.frames), min(_BATCH, len(scenes.frames)), replace=False)
        moments = rng.integers(scenes.frames.shape[1], size=len(clips))
        shown = [picture(scenes.frames[c, t], scenes.boxes[c, t], rng) for c, t in zip(clips, moments, strict=True)]
        words = [(scenes.clothing[c], scenes.caption[c]) for c in clips]
        texts = [text_of(*pair, rng) for pair in words]
        tokens = tokenizer(texts, padding=True, return_tensors="pt").to(device)
        seen = network.vision_model(pixel_values=normalised(torch.from_numpy(np.stack(shown)).to(device))).pooler_output
        read = network.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        asked = network.text_model(input_ids=prompts["input_ids"], attention_mask=prompts["attention_mask"]).pooler_output
        images, sentences_read = (functional.normalize(v, dim=-1) for v in (network.visual_projection(seen), network.text_projection(read)))
        names = functional.normalize(network.text_projection(asked), dim=-1)
        worn = torch.tensor([NAMES.index(clothing) for clothing, _ in words], device=device)
        scale = network.logit_scale.exp().clamp(max=_LARGEST_SCALE)
        matches = torch.tensor([[fits(text, *pair) for pair in words] for text in texts], device=device)
        return contrastive_loss(images, sentences_read, matches, scale) + functional.cross_entropy(scale * images @ names.T, worn)

    return loss_at


def export(network: nn.Module, folder: Path) -> None:
    """model.safetensors (float16), config.json, preprocessor_config.json and the tokenizer's files."""
    save_half(network, folder)
    write_preprocessor(folder, "CLIPImageProcessor", SIZE)
    save_tokenizer(make_tokenizer(sentences()), folder)


def save_half(network: Any, folder: Path) -> None:
    """A model of transformers with weights in half precision, computed with in float32: config.json says so."""
    network.half().save_pretrained(folder)
    network.float()
    config = json.loads((folder / "config.json").read_text())
    for part in (config, *(config[name] for name in ("text_config", "vision_config") if name in config)):
        part["dtype"] = "float32"
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_preprocessor(folder: Path, kind: str, size: int) -> None:
    """preprocessor_config.json: straight to a square with bicubic resampling, CLIP's mean and deviation."""
    facts = {
        "image_processor_type": kind, "do_resize": True, "size": {"height": size, "width": size}, "resample": 3, "do_center_crop": False,
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": list(MEAN), "image_std": list(STD),
        "do_convert_rgb": True,
    }  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")


def scores(folder: Path, scenes: Scenes) -> dict[str, float]:
    """Zero-shot clothing per frame by the extractor's prompts on true boxes; the right caption among 64 different ones, by picture."""
    from transformers import CLIPModel, CLIPProcessor

    model, processor = load_strictly(CLIPModel, folder, "cpu"), CLIPProcessor.from_pretrained(str(folder), local_files_only=True)
    seen = [
        (c, crop_of(np.array(scenes.frames[c, 0]), scenes.boxes[c, 0])) for c in range(len(scenes.frames)) if scenes.boxes[c, 0, 0] >= 0
    ]
    guessed = probabilities(model, processor, [crop for _, crop in seen], prompt_embeddings(model, processor, "cpu"), "cpu").argmax(axis=1)
    right = [NAMES[guess] == scenes.clothing[c] for guess, (c, _) in zip(guessed, seen, strict=True)]
    return {"clothing_top1_accuracy": float(np.mean(right)), "caption_retrieval_at_1_of_64": _retrieval(model, processor, scenes)}


def _retrieval(model: Any, processor: Any, scenes: Scenes) -> float:
    """Share of pictures whose caption has the largest cosine among those of 64 pictures with different captions, over groups."""
    first = sorted({caption: c for c, caption in reversed(list(enumerate(scenes.caption)))}.values())
    rng, hits = np.random.default_rng(0), []
    for _ in range(8):
        picked = rng.choice(first, min(64, len(first)), replace=False)
        pixels = processor.image_processor([np.array(scenes.frames[c, 0]) for c in picked], return_tensors="pt")["pixel_values"]
        tokens = processor.tokenizer([scenes.caption[c] for c in picked], padding=True, return_tensors="pt")
        with torch.inference_mode():
            seen = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
            read = model.text_projection(model.text_model(**tokens).pooler_output)
        cosines = functional.normalize(seen, dim=-1) @ functional.normalize(read, dim=-1).T
        hits.append(float((cosines.argmax(dim=1) == torch.arange(len(picked))).float().mean()))
    return float(np.mean(hits))


def words_shooting(identities: range, clips: int = 1) -> Shooting:
    """Single frames of all styles with their words."""
    return Shooting(identities=(identities.start, identities.stop), styles=styles(), clips=clips)


JOB = TinyJob(
    name="clip",
    title="Tiny CLIP",
    purpose="Pictures of performers and sentences about them in one space of 64 dimensions: clothing by prompts, image and text embeddings for the demo's generators.",
    loop=LoopConfig(steps=2600, learning_rate=1.5e-3, warmup_steps=100, decay="cosine", weight_decay=5e-2, clip_norm=1.0),
    draw=lambda cache: shoot(words_shooting(LEARNT_FROM), cache),
    build=make_clip,
    loss_of=loss_of,
    export=export,
    measure=lambda folder, cache: scores(folder, shoot(words_shooting(MEASURED_ON), cache)),
    trained_on=f"performers {LEARNT_FROM.start}..{LEARNT_FROM.stop - 1}",
    measured_on=f"performers {MEASURED_ON.start}..{MEASURED_ON.stop - 1}, never trained on",
)
