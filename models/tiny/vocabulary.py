"""Words as CLIP's byte-pair tokenizer files: merges learnt from sentences, so that each of their words is one token."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
_VOCABULARY = 2000  # tokens at most; what the sentences need is far less
_ALPHABET = [chr(c) for c in range(ord("!"), ord("~") + 1) if not chr(c).isupper()]


def sentences() -> list[str]:
    """Every word that a performer's caption can have, and the prompts of the clothing classes.

    Made from what captions are made of, not from drawn people, so that the vocabulary does not depend on who is drawn.
    """
    from pipelines.extractors.caption import NOUNS
    from pipelines.extractors.clothing import NAMES, PROMPT
    from pipelines.performers.background import place_of
    from pipelines.performers.body import sample_appearance
    from pipelines.performers.description import COLOURS, describe
    from pipelines.performers.motion import STYLES

    places = sorted({place_of(seed) for seed in range(200)})
    looks = [sample_appearance(identity) for identity in range(40)]
    told = [describe(look, style, place) for look, (style, place) in zip(looks * 10, product(STYLES, places), strict=False)]
    return [*told, *(PROMPT.format(name) for name in NAMES), " ".join(COLOURS), " ".join(NOUNS), " ".join(places)]


def make_tokenizer(lines: Iterable[str]) -> Any:
    """A CLIPTokenizer whose start and end tokens have the two largest numbers, as in CLIP."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import CLIPTokenizer

    rules = CLIPTokenizer()._tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = rules.normalizer, rules.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, min_frequency=1, show_progress=False, initial_alphabet=_ALPHABET, end_of_word_suffix="</w>"
    )
    learner.train_from_iterator(sorted(set(lines)), trainer)
    merges = [tuple(pair) for pair in _merges(learner)]
    symbols = [*_ALPHABET, *(f"{letter}</w>" for letter in _ALPHABET), *("".join(pair) for pair in merges), BOS, EOS]
    return CLIPTokenizer(vocab={symbol: i for i, symbol in enumerate(dict.fromkeys(symbols))}, merges=merges, model_max_length=77)


def _merges(learner: Any) -> list[list[str]]:
    import json

    merges: list[list[str]] = json.loads(learner.to_str())["model"]["merges"]
    return merges


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json, and CLIP's older pair vocab.json and merges.txt."""
    import json

    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    lines = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]) + "\n")
