"""Prompts as Stable Diffusion 1.5 reads them: CLIP's text tower, last hidden states, padded to its full length."""

# N = prompts, S = tokens of a prompt (77), D = their width

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.errors import UserError
from pipelines.extractors.caption import token_indices
from pipelines.extractors.pretrained_folder import load_strictly


class TextTokens(nn.Module):
    """[N, S, D] of N prompts. The end token fills what is left of a prompt and is not masked, as in Stable Diffusion."""

    def __init__(self, tokenizer: Any, tower: Any) -> None:
        super().__init__()
        self.tokenizer, self.tower = tokenizer, tower.eval().requires_grad_(False)

    @classmethod
    def load(cls, folder: Path) -> TextTokens:
        """From text_encoder/ and tokenizer/ of a Stable Diffusion folder, or from a whole CLIPModel with its tokenizer (the tiny family's).

        Raises UserError where the weights do not fit.
        """
        from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

        split = (folder / "text_encoder").is_dir()
        tokenizer = CLIPTokenizer.from_pretrained(str(folder / "tokenizer" if split else folder), local_files_only=True)
        if split:
            return cls(tokenizer, load_strictly(CLIPTextModel, folder / "text_encoder", "cpu").float())
        return cls(tokenizer, load_strictly(CLIPModel, folder, "cpu").float().text_model)

    @classmethod
    def fresh(cls, width: int, seed: int = 0) -> TextTokens:
        """An untrained tower over the tiny family's vocabulary: the same weights for the same seed. Tells prompts apart, knows nothing of them."""
        from transformers import CLIPTextConfig, CLIPTextModel

        from models.tiny.vocabulary import make_tokenizer, sentences

        tokenizer = make_tokenizer(sentences())
        config = CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1, num_attention_heads=2,
            max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(tokenizer, CLIPTextModel(config))

    @property
    def width(self) -> int:
        """D."""
        size: int = self.tower.config.hidden_size
        return size

    @torch.no_grad()
    def forward(self, prompts: Sequence[str]) -> Tensor:
        """[N, S, D] float32; a prompt longer than S tokens is cut."""
        length = self.tower.config.max_position_embeddings
        tokens = self.tokenizer(list(prompts), padding="max_length", truncation=True, max_length=length, return_tensors="pt")["input_ids"]
        return self.tower(input_ids=tokens.to(next(self.tower.parameters()).device)).last_hidden_state

    def places_of(self, prompt: str, word: str) -> list[int]:
        """Which of the prompt's S tokens spell its first `word` (0 is the start token). Raises UserError where they are not among them."""
        found = re.search(rf"\b{re.escape(word)}\b", prompt, re.IGNORECASE) if word else None
        places = token_indices(self.tokenizer, prompt, list(found.span())) if found is not None else []
        if not places:
            raise UserError(f"the prompt {prompt!r} does not have the word {word!r} for its character; give a word of the prompt")
        return places

    def length_of(self, prompt: str) -> int:
        """Tokens of the prompt with start and end token, at most S."""
        limit: int = self.tower.config.max_position_embeddings
        return min(len(self.tokenizer(prompt)["input_ids"]), limit)
