"""Captions against BLIP called by hand; the word for the person and its tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.errors import UserError
from pipelines.extractors.caption import Caption, character_span, token_indices
from tests.small_clips import clip_of, noise

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("own_weights")


def _tokenizer(folder: Path) -> object:
    """CLIP's tokenizer over single letters."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(str(folder))
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.mark.parametrize(
    ("caption", "word"),
    [("a woman in a red dress", "woman"), ("A Man with a dog", "Man"), ("a manual for a dancer", "dancer"), ("a red chair", None)],
)
def test_the_character_is_the_first_word_for_a_person(caption: str, word: str | None) -> None:
    span = character_span(caption)
    assert (None if span is None else caption[span[0] : span[1]]) == word


def test_tokens_of_the_character_spell_it(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path / "tokenizer")
    span = character_span("a woman dances")
    assert span == [2, 7]
    tokens = token_indices(tokenizer, "a woman dances", span)
    ids = tokenizer("a woman dances")["input_ids"]
    assert tokenizer.decode([ids[i] for i in tokens]).strip() == "woman"
    assert tokens == [2, 3, 4, 5, 6]


def test_a_given_prompt_needs_no_captioner(tmp_path: Path) -> None:
    _tokenizer(tmp_path / "sd15_tokenizer" / "tokenizer")
    frames = noise(2)
    rows = Caption(prompt="a girl").load("cpu")(clip_of(frames), frames)["captions"]
    assert rows == [{"frame": 0, "caption": "a girl", "character": [2, 6], "tokens": [2, 3, 4, 5]}]
    assert Caption(prompt="a girl").weights_digest() != Caption(prompt="a boy").weights_digest()


def _save_blip(folder: Path) -> tuple[object, object]:
    from transformers import BertTokenizerFast, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "woman", "dances", "red", "[DEC]", "[ENC]"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(words)})
    tokenizer.save_pretrained(folder)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": len(words), "bos_token_id": 10, "pad_token_id": 0, "eos_token_id": 3, "sep_token_id": 3, "encoder_hidden_size": 16}
    config = BlipConfig(text_config={**size, **ids}, vision_config={**size, "image_size": 32, "patch_size": 8})
    model = BlipForConditionalGeneration(config).eval()
    model.save_pretrained(folder)
    processor = BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    processor.image_processor.save_pretrained(folder)
    return model, processor


def test_the_caption_is_blip_s_own_of_the_first_frame(tmp_path: Path) -> None:
    from PIL import Image

    model, processor = _save_blip(tmp_path / "caption")
    _tokenizer(tmp_path / "sd15_tokenizer" / "tokenizer")
    frames = noise(2)
    (row,) = Caption().load("cpu")(clip_of(frames), frames)["captions"]
    pixels = processor(images=Image.fromarray(frames[0]), return_tensors="pt")["pixel_values"]
    expected = processor.tokenizer.decode(model.generate(pixel_values=pixels, max_new_tokens=20)[0], skip_special_tokens=True)
    assert row["caption"] == expected.strip()
    assert row["frame"] == 0
    assert row["caption"]


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    _save_blip(tmp_path / "caption")
    _tokenizer(tmp_path / "sd15_tokenizer" / "tokenizer")
    (tmp_path / "caption" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="BlipForConditionalGeneration"):
        Caption().load("cpu")
