"""SAM's masks against its own processor; MediaPipe's and SAM's masks on a photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.boxes import People
from pipelines.clip import Frames
from pipelines.errors import ClipError, MissingWeightsError
from pipelines.extractors.body_mask import BodyMask, MaskNetwork, window_of
from pipelines.extractors.person_box import PersonBox
from pipelines.masks import decode_rle, unpack_array
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


def _save(folder: Path) -> object:
    from transformers import Sam2Config, Sam2HieraDetConfig, Sam2MaskDecoderConfig, Sam2Model, Sam2PromptEncoderConfig, Sam2VisionConfig
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor

    trunk = Sam2HieraDetConfig(
        hidden_size=8, num_attention_heads=1, image_size=[128, 128], blocks_per_stage=[1, 2, 2, 1], embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2], window_size_per_stage=[8, 4, 4, 4], global_attention_blocks=[4],
        window_positional_embedding_background_size=[7, 7],
    )  # fmt: skip
    vision = Sam2VisionConfig(backbone_config=trunk, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=32,
                              backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]])  # fmt: skip
    prompts = Sam2PromptEncoderConfig(hidden_size=32, image_size=128, patch_size=16, mask_input_channels=4)
    decoder = Sam2MaskDecoderConfig(hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16)
    model = Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)).eval()
    model.save_pretrained(folder)
    Sam2ImageProcessor(size={"height": 128, "width": 128}, mask_size={"height": 32, "width": 32}).save_pretrained(folder)
    return model


def test_soft_masks_are_the_sigmoid_of_the_logits_for_the_person_s_box(tmp_path: Path) -> None:
    from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor
    from transformers.models.sam2.processing_sam2 import Sam2Processor

    model = _save(tmp_path / "person_mask")
    frames = noise(3)
    rows = BodyMask(batch_frames=2).load("cpu")(clip_of(frames), frames)["body_masks"]
    processor = Sam2Processor(Sam2ImageProcessor.from_pretrained(tmp_path / "person_mask"))
    inputs = processor(images=frames[2], input_boxes=[[[0.0, 4.0, 60.0, 50.5]]], return_tensors="pt")
    with torch.no_grad():
        logits = model(pixel_values=inputs["pixel_values"], input_boxes=inputs["input_boxes"], multimask_output=False).pred_masks
    large = processor.post_process_masks(logits, inputs["original_sizes"], binarize=False)[0][0, 0]
    soft = unpack_array(rows[2]["soft"], rows[2]["soft_shape"], rows[2]["soft_dtype"])
    np.testing.assert_allclose(soft / 255, large.sigmoid(), atol=0.5 / 255 + 1e-5)
    hard = decode_rle(rows[2]["rle"], 72, 96)
    assert np.array_equal(hard, soft >= 128)
    assert rows[2]["area_px"] == hard.sum()
    assert not unpack_array(rows[1]["soft"], rows[1]["soft_shape"], "uint8").any()  # the subject is not in this frame


def test_with_a_margin_the_network_sees_the_box_alone(tmp_path: Path) -> None:
    _save(tmp_path / "person_mask")
    frames, margin = noise(3), 1.2
    rows = BodyMask(margin=margin).load("cpu")(clip_of(frames), frames)["body_masks"]
    network, whole = (MaskNetwork(tmp_path / "person_mask", "cpu", shown) for shown in (margin, None))
    box = np.array([0.0, 4.0, 60.0, 50.5], np.float32)  # inside the frame
    x1, y1, x2, y2 = window_of(box, (72, 96), margin).astype(int)
    assert (x1, y1, x2, y2) == (0, 0, 66, 56)  # floor, ceil of 30 +- 36 and 27.25 +- 27.9, inside the frame
    alone = whole.rows(np.ascontiguousarray(frames[2:, y1:y2, x1:x2]), [box])[0]
    soft = unpack_array(rows[2]["soft"], rows[2]["soft_shape"], rows[2]["soft_dtype"])
    assert soft.shape == (72, 96)
    np.testing.assert_array_equal(soft[y1:y2, x1:x2], unpack_array(alone["soft"], alone["soft_shape"], alone["soft_dtype"]))
    assert not soft[y2:].any()
    assert not soft[:, x2:].any()
    changed = frames.copy()
    changed[:, y2:], changed[:, :, x2:] = 0, 255
    assert network.rows(changed[2:], [box]) == [rows[2]]


def test_how_much_is_shown_is_part_of_the_digest(tmp_path: Path) -> None:
    _save(tmp_path / "person_mask")
    assert len({BodyMask(margin=margin).weights_digest() for margin in (None, 1.2, 1.3)}) == 3


def test_nobody_in_the_clip_is_no_person(tmp_path: Path) -> None:
    _save(tmp_path / "person_mask")
    frames = np.zeros((2, 40, 40, 3), np.uint8)
    with pytest.raises(ClipError) as error:
        BodyMask().load("cpu")(clip_of(frames), frames)
    assert error.value.code == "no_person"


def _iou(rows: list[dict[str, object]], media: Path) -> float:
    from PIL import Image

    truth = np.array(Image.open(media / "masks" / "portrait_for_mask_mask.png"))[..., 2] == 255  # blue is the person, red the background
    found = decode_rle(rows[0]["rle"], rows[0]["height"], rows[0]["width"])  # type: ignore[arg-type]
    return float((truth & found).sum() / (truth | found).sum())


def _portrait(media: Path) -> Frames:
    from PIL import Image

    return np.array(Image.open(media / "images" / "portrait_for_mask.jpg").convert("RGB"))[None]


def test_mediapipe_finds_the_person_of_a_photograph(media: Path) -> None:
    pytest.importorskip("mediapipe", reason="the extra mediapipe is not installed")
    from pipelines.extractors.mediapipe import MediaPipe

    frames = _portrait(media)
    overlap = _iou(MediaPipe().load("cpu")(clip_of(frames), frames)["body_masks"], media)
    assert overlap > 0.95  # 0.9567 when measured


def test_sam_finds_the_person_of_a_photograph(media: Path, weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real detector
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(weights_dir))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    extractor = BodyMask(person=PersonBox(role="person_box_small"))
    try:
        extractor.weights_digest()
    except MissingWeightsError as error:
        pytest.skip(str(error))
    frames = _portrait(media)
    assert _iou(extractor.load("cpu")(clip_of(frames), frames)["body_masks"], media) > 0.9
