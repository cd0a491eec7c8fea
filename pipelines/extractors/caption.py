"""Captions: BLIP (Li et al. 2022) on the first frame, with the place of the word for the person and its CLIP tokens."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipelines.clip import Clip, Frames
from pipelines.extractors.person_box import digest_of_lines
from pipelines.extractors.pretrained_folder import folder_digest, folder_of, half_on_cuda, load_strictly

Rows = dict[str, list[dict[str, Any]]]

NOUNS = ("woman", "man", "girl", "boy", "person", "lady", "guy", "child", "kid", "baby", "dancer", "model", "actor", "actress",
         "singer", "athlete", "player", "performer", "speaker", "gentleman", "women", "men", "people")  # fmt: skip
_NOUN = re.compile(rf"\b({'|'.join(NOUNS)})\b", re.IGNORECASE)
MAX_TOKENS = 20  # words of a caption, as BLIP's captioning demo asks
_FILES = ("config.json", "preprocessor_config.json", "tokenizer.json")
_TOKENIZER_FILES = ("vocab.json", "merges.txt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """One row at frame 0. `character` and `tokens` are null where the caption names no person; prompt: given in BLIP's place."""

    name: str = "caption"
    role: str = "caption"
    tokenizer: str = "sd15_tokenizer"
    prompt: str | None = None
    batch_frames: int = 1
    version = 1
    tables = ("captions",)

    def weights_digest(self) -> str:
        """sha256 over the network and the tokenizer that the indices are for; a given prompt in the network's place."""
        network = f"prompt {self.prompt}" if self.prompt is not None else folder_digest(self.role, *_FILES)
        return digest_of_lines(network, folder_digest(self.tokenizer, *_TOKENIZER_FILES), str(MAX_TOKENS), *NOUNS)

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        """From a clip and its frames to rows."""
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(str(folder_of(self.tokenizer, *_TOKENIZER_FILES)), local_files_only=True)
        given = self.prompt
        describe = (lambda frame: given) if given is not None else captioner(folder_of(self.role, *_FILES), device)

        def extract(clip: Clip, frames: Frames) -> Rows:
            caption = describe(frames[0])
            span = character_span(caption)
            tokens = None if span is None else token_indices(tokenizer, caption, span)
            return {"captions": [{"frame": 0, "caption": caption, "character": span, "tokens": tokens}]}

        return extract


def character_span(caption: str) -> list[int] | None:
    """[start, end) characters of the first word for a person, or None."""
    found = _NOUN.search(caption)
    return None if found is None else list(found.span())


def token_indices(tokenizer: Any, caption: str, span: list[int]) -> list[int]:
    """Places, in the tokenised caption (0 is the start token), of the tokens that share a character with the span; cut at 77 tokens."""
    offsets = tokenizer(caption, truncation=True, max_length=77, return_offsets_mapping=True)["offset_mapping"]
    return [i for i, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]


def captioner(folder: Any, device: str) -> Callable[[Frames], str]:
    """From a frame [H, W, 3] to a sentence, by the BLIP of a folder."""
    import torch
    from transformers import BlipForConditionalGeneration, BlipProcessor

    model = load_strictly(BlipForConditionalGeneration, folder, device)
    processor = BlipProcessor.from_pretrained(str(folder), local_files_only=True)

    def describe(frame: Frames) -> str:
        pixels = processor.image_processor([frame], return_tensors="pt")["pixel_values"].to(device)
        with torch.inference_mode(), half_on_cuda(device):
            tokens = model.generate(pixel_values=pixels, max_new_tokens=MAX_TOKENS, do_sample=False, num_beams=1)
        caption: str = processor.tokenizer.decode(tokens[0], skip_special_tokens=True)
        return caption.strip()

    return describe
