"""Zero-shot clothing against CLIPProcessor and CLIPModel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipelines.boxes import People
from pipelines.clip import Frames
from pipelines.errors import ClipError, UserError
from pipelines.extractors.clothing import NAMES, PROMPT, Clothing, sampled
from pipelines.extractors.person_box import PersonBox
from tests.small_clips import clip_of, noise

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.usefixtures("own_weights")


BOX = np.array([[-5.0, 4.0, 60.0, 50.5]], np.float32)


@pytest.fixture(autouse=True)
def _person(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector's boxes, planted: the subject is in every frame but the second."""
    tracks = np.zeros(1, np.int32)

    def find(frames: Frames, batch_frames: int) -> list[People]:
        gone = People(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
        black = not frames.any()
        return [gone if black or i == 1 else People(BOX, np.ones(1, np.float32), tracks) for i in range(len(frames))]

    monkeypatch.setattr(PersonBox, "finder", lambda self, device: find)
    monkeypatch.setattr(PersonBox, "weights_digest", lambda self: "boxes")


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


def _save(folder: Path) -> tuple[object, object]:
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    tokenizer = _tokenizer(folder)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    ids = {"vocab_size": 190, "bos_token_id": 188, "eos_token_id": 189, "pad_token_id": 189}
    vision = {**size, "image_size": 32, "patch_size": 8}
    model = CLIPModel(CLIPConfig(text_config={**size, **ids}, vision_config=vision, projection_dim=12)).eval()
    with torch.no_grad():
        model.logit_scale.fill_(float(np.log(100)))  # as in the published network
    model.save_pretrained(folder)
    processor = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32), tokenizer)
    processor.image_processor.save_pretrained(folder)
    return model, processor


def test_probabilities_are_clip_s_own_over_the_person_s_crop(tmp_path: Path) -> None:
    model, processor = _save(tmp_path / "clip_large")
    (row,) = Clothing(batch_frames=2).load("cpu")(clip_of(noise(3)), noise(3))["clothing"]
    crops = [frame[4:51, 0:60] for frame in noise(3)[[0, 2]]]
    inputs = processor(text=[PROMPT.format(name) for name in NAMES], images=crops, return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = model(**inputs).logits_per_image.softmax(-1).mean(0).numpy()
    np.testing.assert_allclose(row["probabilities"], expected, atol=1e-5)
    assert row["frame"] == 0
    assert row["names"] == list(NAMES)
    assert len(NAMES) == 12
    assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("frames", "picked"), [(3, [0, 1, 2]), (8, list(range(8))), (80, [5, 15, 25, 35, 45, 55, 65, 75])])
def test_eight_frames_are_spread_over_theclip_of(frames: int, picked: list[int]) -> None:
    assert sampled(frames) == picked


def test_nobody_is_no_person_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    _save(tmp_path / "clip_large")
    black = np.zeros((2, 40, 40, 3), np.uint8)
    with pytest.raises(ClipError) as error:
        Clothing().load("cpu")(clip_of(black), black)
    assert error.value.code == "no_person"
    (tmp_path / "clip_large" / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="CLIPModel"):
        Clothing().load("cpu")
