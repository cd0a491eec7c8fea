"""Signals follow the fitted picture: a mark in the source is found in the fitted image, in its box, and in the face's crop; mirrored as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from models import clip_signals as module
from models.clip_dataset import ClipStore, TrainingClip, to_signed
from models.clip_signals import ClipSignals, FaceSignals, PackedFrames, fit_signals
from models.densepose_image import densepose_images
from models.face_warp import aligned_faces
from models.fitting import Box, centre_box, fit_frames, fit_points, random_box
from models.latents import LatentCodec
from models.mirror import mirrored_points, mirrored_signals
from models.motion_blur_map import HandSignals
from models.region_loss import box_masks
from models.signal_rows import signals_of_rows
from models.signals import SignalName, Signals
from pipelines.clip import Clip
from pipelines.errors import UserError
from pipelines.extractors.body_mask import mask_row
from pipelines.extractors.face_embedding import TEMPLATE, similarity_warp
from pipelines.keypoints import MIRROR
from pipelines.masks import pack_array
from pipelines.performers.performer import perform

HEIGHT, WIDTH, FRAMES = 96, 120, 6
MARK = (66, 40)  # x, y of a bright mark in the face
FIVE = np.array([[52, 36], [74, 35], [64, 46], [55, 56], [73, 55]], np.float32)


def _packed(arrays: np.ndarray) -> PackedFrames:
    return PackedFrames([pack_array(array) for array in arrays])


def _image() -> np.ndarray:
    image = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    image[0, MARK[1] - 2 : MARK[1] + 3, MARK[0] - 2 : MARK[0] + 3] = 255
    return image


@pytest.fixture
def signals() -> ClipSignals:
    """A face with a mark, a left hand, a mask of the mark, and IUV of drawn people, in every frame but the first, which shows nothing."""
    rng = np.random.default_rng(0)
    seen = np.arange(FRAMES) > 0
    boxes = np.tile(np.array([[46, 28, 80, 62]], np.float32), (FRAMES, 1)) * seen[:, None]
    warps = np.where(seen[:, None, None], similarity_warp(FIVE)[None], np.array([[[1, 0, 0], [0, 1, 0]]], np.float32)).astype(np.float32)
    hand_boxes = np.zeros((FRAMES, 2, 4), np.float32)
    hand_boxes[1:, 0] = (20, 50, 40, 70)
    movement = np.zeros((FRAMES, 2, 2), np.float32)
    movement[1:, 0] = (1.5, -0.5)
    masks = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    masks[1:] = _image()[0, ..., 0]
    return ClipSignals(
        frames=FRAMES,
        fps=30.0,
        hands=HandSignals(
            boxes=hand_boxes, valid=hand_boxes.any(axis=-1), movement=movement, sharpness=np.full((FRAMES, 2), 50, np.float32)
        ),
        sharpness_p99=100.0,
        faces=FaceSignals(boxes=boxes, warps=warps, found=seen, embeddings=rng.normal(size=(FRAMES, 8)).astype(np.float32) * seen[:, None]),
        body_mask=_packed(masks),
        densepose=_packed(rng.integers(0, 25, (FRAMES, HEIGHT, WIDTH, 3)).astype(np.uint8)),
        drawn_charts=True,
        clothing=np.full(12, 1 / 12, np.float32),
        actions=_packed(np.stack([np.full((4, 3), k, np.float16) for k in range(3)])),
        action_starts=(0, 8, 16),
        caption="a woman dances",
        character="woman",
    )


def _centroid(image: np.ndarray) -> np.ndarray:
    bright = image.astype(float)
    rows, columns = np.indices(bright.shape)
    return np.array([(columns * bright).sum(), (rows * bright).sum()]) / bright.sum()


def _same(first: Signals, second: Signals) -> None:
    for field in fields(Signals):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert type(a) is type(b), field.name
        if isinstance(a, Tensor):
            torch.testing.assert_close(a, b, rtol=0, atol=2e-4, msg=lambda text, name=field.name: f"{name}: {text}")
        else:
            assert a == b


def _boxes_of(size: tuple[int, int]) -> list[Box]:
    return [centre_box(WIDTH, HEIGHT, size), random_box(WIDTH, HEIGHT, size, np.random.default_rng(3))]


@pytest.mark.parametrize("size", [(96, 96), (64, 48), (144, 180)])
@pytest.mark.parametrize("flip", [False, True])
def test_a_mark_is_where_points_boxes_masks_and_warps_say(signals: ClipSignals, size: tuple[int, int], flip: bool) -> None:
    for box in _boxes_of(size):
        picture, fitted = fit_frames(_image(), box, size), fit_signals(signals, box, size, [2])
        point = fit_points(np.array(MARK, np.float32), box, size)
        if flip:
            picture, fitted = np.ascontiguousarray(picture[:, :, ::-1]), mirrored_signals(fitted, size[1])
            point = np.array([size[1] - 1 - point[0], point[1]])
        assert fitted.face_boxes is not None
        assert fitted.face_warps is not None
        assert fitted.body_mask is not None
        np.testing.assert_allclose(_centroid(picture[0, ..., 0]), point, atol=0.4)
        np.testing.assert_allclose(_centroid(fitted.body_mask[0, 0].numpy()), point, atol=0.4)
        inside = box_masks(fitted.face_boxes, size)[0, 0].numpy() > 0
        assert (picture[0, ..., 0][~inside] == 0).all()
        crop = aligned_faces(to_signed(picture), fitted.face_warps)[0, 0].numpy() + 1
        warp = fitted.face_warps[0].numpy()
        there = warp[:, :2] @ point + warp[:, 2]
        np.testing.assert_allclose(_centroid(crop), there, atol=0.6)
        np.testing.assert_allclose(there, _in_template(flip), atol=1.0)


def _in_template(flip: bool) -> np.ndarray:
    """Where the mark lies in an aligned face: left in the mirror where it was right."""
    warp = similarity_warp(FIVE)
    x, y = warp[:, :2] @ np.array(MARK) + warp[:, 2]
    return np.array([2 * TEMPLATE[:, 0].mean() - x if flip else x, y])


def test_what_is_not_there_is_zero_also_in_the_mirror(signals: ClipSignals) -> None:
    fitted = fit_signals(signals, (10, 0, 96, 96), (48, 48), [0])
    for shown in (fitted, mirrored_signals(fitted, 48)):
        assert shown.face_found is not None
        assert shown.face_found.tolist() == [False]
        for name in ("hand_boxes", "face_boxes", "face_embeddings", "blur", "body_mask"):
            assert getattr(shown, name).abs().max() == 0, name
        assert shown.face_warps is not None
        assert shown.face_warps[0].tolist() == [[1, 0, 0], [0, 1, 0]]


def test_a_mirror_of_a_mirror_is_the_clip(signals: ClipSignals) -> None:
    fitted = fit_signals(signals, centre_box(WIDTH, HEIGHT, (64, 80)), (64, 80))
    mirrored = mirrored_signals(fitted, 80)
    _same(mirrored_signals(mirrored, 80), fitted)
    for name in ("blur", "hand_boxes", "face_boxes", "face_warps", "body_mask", "densepose"):
        assert not torch.equal(getattr(mirrored, name), getattr(fitted, name)), name
    rng = np.random.default_rng(1)
    points, scores = rng.uniform(0, 80, (3, 133, 2)).astype(np.float32), rng.uniform(size=(3, 133)).astype(np.float32)
    twice = mirrored_points(*mirrored_points(points, scores, 80), 80)
    np.testing.assert_allclose(twice[0], points, atol=1e-4)
    np.testing.assert_array_equal(twice[1], scores)
    once = mirrored_points(points, scores, 80)
    np.testing.assert_allclose(once[0][:, 5, 0], 79 - points[:, 6, 0], rtol=1e-5)  # the left shoulder is where the right one was
    assert MIRROR[5] == 6


def test_hands_and_movement_change_sides(signals: ClipSignals) -> None:
    fitted = fit_signals(signals, (0.0, 0.0, WIDTH, HEIGHT), (HEIGHT, WIDTH), [3])
    mirrored = mirrored_signals(fitted, WIDTH)
    assert fitted.blur is not None
    assert mirrored.blur is not None
    assert fitted.hand_boxes is not None
    assert mirrored.hand_boxes is not None
    assert fitted.hand_boxes[0].tolist() == [[20, 50, 40, 70], [0, 0, 0, 0]]
    assert mirrored.hand_boxes[0].tolist() == [[0, 0, 0, 0], [WIDTH - 40, 50, WIDTH - 20, 70]]
    here, there = fitted.blur[0, :, 60, 30], mirrored.blur[0, :, 60, WIDTH - 1 - 30]
    assert here[0] == pytest.approx(0.5 + 0.5 * 20 * 1.5 / WIDTH)
    assert there.tolist() == pytest.approx([1 - float(here[0]), float(here[1]), float(here[2])])


def test_a_drawn_person_in_the_mirror_is_labelled_as_drawn_people_are() -> None:
    """U runs from the same side of the trunk as before, left parts lie where right ones lay, the front of the head stays the front."""
    truth = perform(frames=1, size=128, identity=3, motion=1, background=0).truth
    iuv = truth.iuv
    plain = fit_signals(
        ClipSignals(frames=1, fps=30, densepose=_packed(iuv), drawn_charts=True), (0.0, 0.0, iuv.shape[2], iuv.shape[1]), iuv.shape[1:3]
    )
    mirrored = mirrored_signals(plain, iuv.shape[2])
    assert plain.densepose is not None
    assert mirrored.densepose is not None
    before, after = ((image[0, 0] * 24).round().numpy() for image in (plain.densepose, mirrored.densepose))
    for left, right in ((4, 3), (19, 20), (12, 11), (24, 24), (2, 2)):
        np.testing.assert_array_equal(after == left, (before == right)[:, ::-1])
    slopes = []
    for image, part in ((plain.densepose, before), (mirrored.densepose, after)):
        y, x = np.nonzero(part == 2)
        slopes.append(np.corrcoef(x, image[0, 1].numpy()[y, x])[0, 1])
    assert abs(slopes[0]) > 0.5
    assert slopes[0] * slopes[1] > 0


def test_densepose_does_not_depend_on_which_frames_are_asked_for(signals: ClipSignals) -> None:
    """A frame's labels are steadied by its neighbours in the video, not in the batch."""
    box, size = (12.0, 0.0, 96.0, 96.0), (48, 48)
    whole = fit_signals(signals, box, size).densepose
    assert whole is not None
    assert signals.densepose is not None
    torch.testing.assert_close(whole, densepose_images(signals.densepose.rows(range(FRAMES)), box, size), rtol=0, atol=0)
    some = fit_signals(signals, box, size, [4, 0, 4, 2]).densepose
    assert some is not None
    torch.testing.assert_close(some, whole[[4, 0, 4, 2]], rtol=0, atol=0)


def test_rasters_outside_the_source_are_empty(signals: ClipSignals) -> None:
    box = (-20.0, -10.0, 160.0, 120.0)
    fitted = fit_signals(signals, box, (120, 160), [1])
    assert fitted.body_mask is not None
    assert fitted.densepose is not None
    assert fitted.body_mask[0, 0, 10 + MARK[1], 20 + MARK[0]] == 1
    for image in (fitted.body_mask, fitted.densepose):
        assert image[..., :10, :].abs().max() == 0
        assert image[..., :, :20].abs().max() == 0
    plain = fit_signals(signals, (0.0, 0.0, WIDTH, HEIGHT), (HEIGHT, WIDTH), [1])
    assert plain.densepose is not None
    torch.testing.assert_close(fitted.densepose[..., 10 : 10 + HEIGHT, 20 : 20 + WIDTH], plain.densepose)


def test_action_tokens_are_those_of_the_middle_of_the_frames(signals: ClipSignals) -> None:
    longer = replace(signals, frames=32, hands=None, faces=None, body_mask=None, densepose=None)
    for chosen, window in (([0, 4], 0), ([10, 20], 1), ([31], 2), (list(range(32)), 1)):
        tokens = fit_signals(longer, (0, 0, WIDTH, HEIGHT), (8, 8), chosen).actions
        assert tokens is not None
        assert tokens.shape == (1, 4, 3)
        assert (tokens == window).all()


def test_a_clip_too_large_for_memory_is_mapped_and_equal(signals: ClipSignals, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = fit_signals(signals, (0.0, 0.0, 96.0, 96.0), (48, 48))
    monkeypatch.setattr(module, "_IN_MEMORY_BYTES", 1 << 12)
    monkeypatch.setattr(module, "_AT_ONCE", 2)
    _same(fit_signals(signals, (0.0, 0.0, 96.0, 96.0), (48, 48)), plain)


def test_without_a_scale_there_is_no_blur_map(signals: ClipSignals) -> None:
    fitted = fit_signals(replace(signals, sharpness_p99=None), (0.0, 0.0, 96.0, 96.0), (48, 48))
    assert fitted.blur is None
    assert fitted.hand_boxes is not None


# --- rows -----------------------------------------------------------------------------------------------------------------


def _clip(crop: tuple[int, int, int, int] | None = None) -> Clip:
    return Clip(
        dataset="d", clip_id="c", video_id="v", uri="", start_frame=0, end_frame=2, start_pts=None, end_pts=None, time_base=Fraction(1, 25),
        fps=Fraction(25), width=crop[2] if crop else WIDTH, height=crop[3] if crop else HEIGHT, crop=crop,
    )  # fmt: skip


def test_rows_of_a_cropped_clip_come_back_in_pixels_of_the_crop() -> None:
    """Tables hold pixels of the full frame; what the extractor saw in the crop is what the network is given."""
    from pipelines.crop import to_full_frame

    crop, five = (30, 10, 80, 70), FIVE - np.array([30, 10], np.float32)
    seen = {
        "boxes": [16.0, 18, 50, 52], "box_scores": [0.9], "points": five.ravel().tolist(), "subject": 0,
        "warp": similarity_warp(five).ravel().tolist(), "embedding": [1.0, 2.0],
    }  # fmt: skip
    empty = {"boxes": [], "subject": -1, "warp": None, "embedding": None, "points": []}
    hands = {"boxes": [1.0, 2, 11, 12, 0, 0, 0, 0], "valid": [True, False], "sharpness": [9.0, 8.0, 0, 0], "movement": [0.5, 1, 0, 0]}
    rows: dict[SignalName, list[dict[str, object]]] = {
        "faces": [to_full_frame("faces", row, crop) for row in (seen, empty)],
        "hands": [to_full_frame("hands", row, crop) for row in (hands, {**hands, "valid": [False, False]})],
    }
    found = signals_of_rows(_clip(crop), rows, sharpness_p99=3.0, embedding_size=7)
    assert found.faces is not None
    assert found.hands is not None
    np.testing.assert_allclose(found.faces.boxes, [[16, 18, 50, 52], [0, 0, 0, 0]], atol=1e-4)
    np.testing.assert_allclose(found.faces.warps[0], similarity_warp(five), atol=1e-3)
    assert found.faces.embeddings.tolist() == [[1, 2], [0, 0]]
    assert found.hands.boxes[:, 0].tolist() == [[1, 2, 11, 12], [0, 0, 0, 0]]
    assert not found.hands.boxes[:, 1].any()
    assert found.hands.sharpness[0].tolist() == [8.0, 0.0]  # s_128
    nobody = signals_of_rows(_clip(crop), {"faces": [to_full_frame("faces", empty, crop)] * 2}, embedding_size=7).faces
    assert nobody is not None
    assert nobody.embeddings.shape == (2, 7)


def test_words_and_soft_masks_are_read() -> None:
    soft = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    rows: dict[SignalName, list[dict[str, object]]] = {
        "caption": [{"frame": 0, "caption": "two people watch a dancer", "character": [19, 25]}],
        "clothing": [{"frame": 0, "probabilities": [0.5, 0.5]}],
        "body_mask": [mask_row(soft), mask_row(255 - soft)],
    }
    found = signals_of_rows(_clip(), rows)
    assert (found.caption, found.character) == ("two people watch a dancer", "dancer")
    assert found.body_mask is not None
    np.testing.assert_array_equal(found.body_mask.rows([1, 0]), [255 - soft, soft])
    nobody = signals_of_rows(_clip(), {"caption": [{"caption": "a street", "character": None}]})
    assert (nobody.caption, nobody.character) == ("a street", "")


# --- batches --------------------------------------------------------------------------------------------------------------


def _with_signals(item: TrainingClip, asked: list[tuple[SignalName, ...]], *, drawn: bool = True) -> TrainingClip:
    rng, frames = np.random.default_rng(0), item.clip.num_frames
    masks, iuv = rng.integers(0, 256, (frames, 48, 48), dtype=np.uint8), rng.integers(0, 25, (frames, 48, 48, 3)).astype(np.uint8)

    def read(names: Sequence[SignalName]) -> ClipSignals:
        asked.append(tuple(names))
        some: dict[str, object] = {}
        if "body_mask" in names:
            some["body_mask"] = _packed(masks)
        if "densepose" in names:
            some |= {"densepose": _packed(iuv), "drawn_charts": drawn}
        if "clothing" in names:
            some["clothing"] = np.full(12, 1 / 12, np.float32)
        return ClipSignals(frames=frames, fps=12.0, **some)  # type: ignore[arg-type]

    return replace(item, signals=read)


def test_without_needs_nothing_is_read(clips: list[TrainingClip], codec: LatentCodec) -> None:
    asked: list[tuple[SignalName, ...]] = []
    store = ClipStore([_with_signals(clip, asked) for clip in clips], (32, 32), codec)
    batch = store.batch([(0, 2, [5, 9])], np.random.default_rng(0))
    assert asked == []
    _same(batch.signals, Signals())
    _same(batch.reference_signals, Signals())


def test_a_batch_holds_its_targets_signals_and_those_of_its_references(clips: list[TrainingClip], codec: LatentCodec) -> None:
    asked: list[tuple[SignalName, ...]] = []
    store = ClipStore([_with_signals(clip, asked) for clip in clips], (32, 32), codec, needs=("body_mask", "clothing"))
    batch = store.batch([(0, 2, [5, 9]), (1, 0, [3, 3])], np.random.default_rng(0))
    assert batch.signals.body_mask is not None
    assert batch.signals.clothing is not None
    assert batch.reference_signals.body_mask is not None
    assert batch.signals.body_mask.shape == (4, 1, 32, 32)
    assert batch.reference_signals.body_mask.shape == (2, 1, 32, 32)
    assert batch.signals.clothing.shape == (2, 12)
    assert batch.target_image.shape == (4, 3, 32, 32)
    whole = fit_signals(store._read(1), centre_box(48, 48, (32, 32)), (32, 32)).body_mask
    assert whole is not None
    assert torch.equal(batch.signals.body_mask[2:], whole[[3, 3]])
    assert torch.equal(batch.reference_signals.body_mask[1], whole[0])


def test_large_signals_are_read_when_a_clip_is_used_and_let_go(
    clips: list[TrainingClip], codec: LatentCodec, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[SignalName, ...]] = []
    needs: tuple[SignalName, ...] = ("body_mask", "clothing")
    store = ClipStore([_with_signals(clip, asked) for clip in clips], (32, 32), codec, needs=needs)
    store.batch([(0, 2, [5])], np.random.default_rng(0))
    assert asked == [("clothing",), ("body_mask",)]  # of the first clip alone
    store.batch([(1, 2, [5])], np.random.default_rng(0))
    store.batch([(0, 1, [3])], np.random.default_rng(0))
    assert asked == [("clothing",), ("body_mask",)] * 2  # there is room for both
    monkeypatch.setattr("models.clip_dataset._LARGE_BYTES", 1)
    small = ClipStore([_with_signals(clip, asked) for clip in clips], (32, 32), codec, needs=needs)
    for index in (0, 1, 0):
        small.batch([(index, 2, [5])], np.random.default_rng(0))
        assert len(small._large) == 1
    assert asked[4:] == [("clothing",), ("body_mask",), ("clothing",), ("body_mask",), ("body_mask",)]


@pytest.mark.parametrize("augment", [False, True])
def test_a_mirrored_batch_is_the_mirror_of_the_batch(clips: list[TrainingClip], codec: LatentCodec, augment: bool) -> None:
    """The same draw with and without the mirror: pictures, masks and IUV are each other's mirror images."""
    stores = [
        ClipStore(
            [_with_signals(clip, []) for clip in clips], (32, 32), codec, augment=augment, needs=("body_mask", "densepose"), flip=flip
        )
        for flip in (0.0, 1.0)
    ]
    plain, mirrored = (store.batch([(0, 2, [5, 9])], np.random.default_rng(4)) for store in stores)
    assert torch.equal(mirrored.target_image, plain.target_image.flip(-1))
    assert torch.equal(mirrored.reference_image, plain.reference_image.flip(-1))
    _same(mirrored.signals, mirrored_signals(plain.signals, 32))
    _same(mirrored.reference_signals, mirrored_signals(plain.reference_signals, 32))
    assert not torch.equal(mirrored.latents, plain.latents)
    assert not torch.equal(mirrored.pose, plain.pose)


def test_about_half_of_the_clips_are_mirrored_by_the_generator_alone(clips: list[TrainingClip], codec: LatentCodec) -> None:
    store = ClipStore(clips, (32, 32), codec, flip=0.5)
    flips = [store._view(0, np.random.default_rng([7, step])).flip for step in range(200)]
    assert 70 < sum(flips) < 130
    assert flips == [store._view(0, np.random.default_rng([7, step])).flip for step in range(200)]
    assert not any(ClipStore(clips, (32, 32), codec)._view(0, np.random.default_rng(step)).flip for step in range(20))


def test_densepose_of_real_people_is_not_mirrored(clips: list[TrainingClip], codec: LatentCodec) -> None:
    items = [_with_signals(clip, [], drawn=False) for clip in clips]
    ClipStore(items, (32, 32), codec, needs=("densepose",)).batch([(0, 0, [1])], np.random.default_rng(0))
    with pytest.raises(UserError, match="cannot use DensePose of real people"):
        ClipStore(items, (32, 32), codec, needs=("densepose",), flip=0.5).batch([(0, 0, [1])], np.random.default_rng(0))


def test_signals_that_nobody_brings_are_an_error(clips: list[TrainingClip], codec: LatentCodec) -> None:
    with pytest.raises(ValueError, match="comes without signals, but body_mask are needed"):
        ClipStore(clips, (32, 32), codec, needs=("body_mask",)).batch([(0, 0, [1])], np.random.default_rng(0))
