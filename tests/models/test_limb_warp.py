"""The reference carried to a pose: exact where nothing moves, the map of its keypoints where something does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.transform import SimilarityTransform

from models.animator import Driving, Reference
from models.clip_dataset import ClipStore, Points, TrainingClip
from models.clip_sampling import ClipCondition, warped_latents, with_poses
from models.demo_additions import DemoAdditions, ReferenceHint, anchor_of, hinted
from models.guidance import Condition
from models.latents import LatentCodec
from models.limb_warp import LIMBS, LimbWarp, _bone, _plane, _similarity, filled_by_rows
from models.methods import method_named
from pipelines.clip import Frames
from pipelines.errors import UserError
from pipelines.performers.performer import Performance, perform

SIZE = 96


def _standing(rng: np.random.Generator) -> tuple[Points, Points]:
    """133 keypoints of somebody with the arms out, about the middle of 96 x 96, all seen."""
    body = [
        (48, 20), (50, 18), (46, 18), (52, 19), (44, 19), (58, 32), (38, 32), (68, 36), (28, 36),
        (78, 40), (18, 40), (54, 56), (42, 56), (55, 70), (41, 70), (56, 84), (40, 84),
    ]  # fmt: skip
    feet = [(60, 88), (62, 87), (55, 87), (36, 88), (34, 87), (41, 87)]
    face = np.array([48, 20]) + rng.uniform(-4, 4, (68, 2))
    hands = [np.array(wrist) + rng.uniform(-1, 3, (21, 2)) * side for wrist, side in (((78, 40), 1), ((18, 40), -1))]
    return np.concatenate([body, feet, face, *hands]).astype(np.float32), np.ones(133, np.float32)


@pytest.fixture
def picture() -> tuple[Frames, Points, Points]:
    rng = np.random.default_rng(3)
    noise: Frames = rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    return noise, *_standing(rng)


def test_its_own_pose_changes_no_limb_and_nothing_outside_the_hole(picture: Any) -> None:
    image, points, scores = picture
    warp = LimbWarp(image, points, scores)
    made, hole = warp(points, scores), (warp.background != image).any(axis=2)
    solid = np.zeros((SIZE, SIZE), bool)
    for layer in warp._layers:
        (height, width), (x, y) = layer.pixels.shape[:2], layer.corner
        solid[y : y + height, x : x + width] |= layer.pixels[..., 3] == 255
    assert solid.sum() > 500
    # cv2 computes maps in 1/32 px: on noise, the least smooth of pictures, a grey level or two
    assert np.abs(made[solid].astype(int) - image[solid]).max() <= 2
    assert (made[~hole & ~_reached(warp)] == image[~hole & ~_reached(warp)]).all()


def _reached(warp: LimbWarp) -> NDArray[np.bool_]:
    reached = np.zeros(warp.background.shape[:2], bool)
    for layer in warp._layers:
        (height, width), (x, y) = layer.pixels.shape[:2], layer.corner
        reached[y : y + height, x : x + width] |= layer.pixels[..., 3] > 0
    return reached


def test_who_steps_aside_takes_all_pixels_along(picture: Any) -> None:
    image, points, scores = picture
    warp = LimbWarp(image, points, scores)
    at_home, aside = warp(points, scores), warp(points + np.array([7, -3], np.float32), scores)
    trunk = np.s_[36:52, 44:53]
    moved = np.s_[33:49, 51:60]
    assert np.abs(aside[moved].astype(int) - at_home[trunk]).max() <= 2


def test_of_whom_nothing_is_seen_stays(picture: Any) -> None:
    image, points, scores = picture
    assert (LimbWarp(image, points, np.zeros(133, np.float32))(points + 5, scores) == image).all()
    hidden = LimbWarp(image, points, scores)
    assert (hidden(points + 5, np.zeros(133, np.float32)) == hidden.background).all()


def test_a_limb_may_lie_far_outside(picture: Any) -> None:
    image, points, scores = picture
    warp = LimbWarp(image, points, scores)
    assert (warp(points + 1000, scores) == warp.background).all()


def test_rows_are_filled_linearly() -> None:
    ramp = np.repeat(np.arange(0, 192, 3, np.uint8)[None, :, None], 20, axis=0).repeat(3, axis=2)
    hole = np.zeros((20, 64), bool)
    hole[4:9, 10:40] = hole[7, :30] = hole[12] = True
    spoilt = np.where(hole[..., None], np.uint8(255), ramp)
    filled = filled_by_rows(spoilt, hole)
    kept = np.delete(np.arange(20), [7, 12])
    assert (filled[kept] == ramp[kept]).all()
    assert (filled[7, :40] == ramp[7, 40]).all()  # nothing known on the left: as on the right
    assert (filled[12] == 255).all()  # nothing known at all


def test_the_turn_of_a_hand_is_umeyamas() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        before = rng.uniform(0, 50, (6, 2))
        turn, scale = rng.uniform(-3, 3), rng.uniform(0.8, 1.25)
        after = SimilarityTransform(scale=scale, rotation=turn, translation=rng.uniform(-9, 9, 2))(before) + rng.normal(0, 0.5, (6, 2))
        oracle = SimilarityTransform.from_estimate(before, after)
        assert _similarity(before, after) == pytest.approx(oracle.params[:2], abs=1e-6)


def test_a_hand_does_not_shrink_away() -> None:
    before = np.random.default_rng(1).uniform(0, 20, (5, 2))
    for factor, kept in ((0.1, 0.75), (3.0, 1.33)):
        assert np.linalg.det(_similarity(before, before * factor)[:, :2]) == pytest.approx(kept**2)


def test_a_bone_keeps_its_ends_and_its_width() -> None:
    before, after = np.array([[10.0, 10.0], [30.0, 20.0]]), np.array([[50.0, 5.0], [40.0, 60.0]])
    affine = _bone(before, after, unit=20.0)
    assert before @ affine[:, :2].T + affine[:, 2] == pytest.approx(after)
    across = np.array([-1.0, 2.0]) / np.sqrt(5)  # of the bone before
    assert np.linalg.norm(affine[:, :2] @ across) == pytest.approx(1.0)
    assert (affine[:, :2] @ across) @ (after[1] - after[0]) == pytest.approx(0.0, abs=1e-9)


def test_a_trunk_is_an_affine_map() -> None:
    rng = np.random.default_rng(2)
    affine = rng.normal(size=(2, 3))
    before = rng.uniform(0, 40, (4, 2))
    assert _plane(before, before @ affine[:, :2].T + affine[:, 2]) == pytest.approx(affine)


def test_every_keypoint_that_moves_a_limb_is_one_of_133() -> None:
    assert all(0 <= index < 133 for limb in LIMBS for index in limb.points)
    both = {index for limb in LIMBS for index in limb.points}
    assert both == set(range(133)), "a keypoint that moves nothing"


@pytest.fixture(scope="module")
def performed() -> Performance:
    return perform(3, 5, frames=24)


def test_performers_are_carried_closer_than_copied(performed: Performance) -> None:
    frames, points, scores = performed.frames, performed.truth.keypoints, performed.truth.scores
    warp = LimbWarp(frames[0], points[0], scores[0])
    made = np.stack([warp(*pose) for pose in zip(points[8:], scores[8:], strict=True)])
    warped, copied = (float(np.square(pictures.astype(float) - frames[8:]).mean()) for pictures in (made, frames[:1]))
    assert 10 * np.log10(copied / warped) > 2, f"mean squared errors: warped {warped}, copied {copied}"


# --- as a baseline and as an addition ------------------------------------------------------------------------------


def test_the_baseline_is_the_warp_piece_by_piece(performed: Performance) -> None:
    points, scores = performed.truth.keypoints, performed.truth.scores
    reference, driving = Reference(image=performed.frames[0], points=points[0], scores=scores[0]), Driving(points=points, scores=scores)
    animator = method_named("warp_reference").load("default", None)
    pieces, warp = list(animator.in_pieces(reference, driving, 0)), LimbWarp(performed.frames[0], points[0], scores[0])
    assert max(map(len, pieces)) == 8
    assert (np.concatenate(pieces) == np.stack([warp(*pose) for pose in zip(points, scores, strict=True)])).all()
    assert (np.concatenate(pieces) == animator(reference, driving, 1)).all()


def test_the_baseline_has_nothing_to_train() -> None:
    method = method_named("warp_reference")
    assert method.stages_of("default") == ()
    with pytest.raises(UserError, match="warp_reference has no variant 'big'"):
        method.config("big")
    with pytest.raises(UserError, match="warp_reference has no stage 'stage_1'"):
        method.stage_config("default", "stage_1")


def test_a_warp_that_nothing_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="warp changes what hint and residual take"):
        DemoAdditions(warp=True).check("v")
    DemoAdditions(warp=True, hint=True).check("v")
    assert "reference warped limb by limb" in DemoAdditions(warp=True, hint=True).said()


def _store(clips: list[TrainingClip], codec: LatentCodec, **options: Any) -> ClipStore:
    return ClipStore(clips, (32, 32), codec, warp=True, **options)


CHOSEN = [(0, 0, [3, 7]), (1, 2, [7, 2])]


def test_a_batch_brings_its_references_in_their_targets_poses(clips: list[TrainingClip], codec: LatentCodec) -> None:
    batch = _store(clips, codec).batch(CHOSEN, np.random.default_rng(0))
    assert batch.warped is not None
    assert batch.warped.shape == (4, *batch.reference_latent.shape[1:])
    anchor = anchor_of(batch)
    assert anchor.shape == batch.latents.shape
    assert (batch.latents - anchor).square().mean() < (batch.latents - batch.reference_latent[:, None]).square().mean()
    plain = ClipStore(clips, (32, 32), codec).batch(CHOSEN, np.random.default_rng(0))
    assert plain.warped is None
    assert anchor_of(plain).shape[1] == 1
    assert torch.equal(plain.latents, batch.latents)
    assert torch.equal(plain.pose, batch.pose)


def test_a_mirrored_view_is_warped_in_its_mirrored_pose(clips: list[TrainingClip], codec: LatentCodec) -> None:
    batch = _store(clips, codec, flip=1.0).batch(CHOSEN, np.random.default_rng(0))
    assert (batch.latents - anchor_of(batch)).square().mean() < (batch.latents - batch.reference_latent[:, None]).square().mean()


def test_the_residual_goes_to_the_warped_reference_and_back(clips: list[TrainingClip], codec: LatentCodec) -> None:
    batch, additions = (
        _store(clips, codec).batch(CHOSEN, np.random.default_rng(0)),
        DemoAdditions(residual=True, warp=True, residual_scale=0.4),
    )
    diffused = additions.diffused(batch.latents, anchor_of(batch))
    assert torch.allclose(diffused * 0.4 + anchor_of(batch), batch.latents, atol=1e-6)
    assert torch.allclose(additions.restored(diffused, anchor_of(batch)), batch.latents, atol=1e-6)


def _condition(batch: Any) -> Condition:
    tokens, dropped = torch.zeros(2, 1, 4), torch.tensor([False, True])
    return Condition(reference_latent=batch.reference_latent, image_tokens=tokens, pose=batch.pose, dropped=dropped, warped=batch.warped)


def test_the_hint_is_that_of_each_targets_warp_and_dropped_with_the_reference(clips: list[TrainingClip], codec: LatentCodec) -> None:
    batch, hint = _store(clips, codec).batch(CHOSEN, np.random.default_rng(0)), ReferenceHint(16, 8)
    torch.nn.init.normal_(hint.convolution.weight)
    added = hinted(None, hint, _condition(batch), 2)
    assert added is not None
    assert batch.warped is not None
    assert torch.allclose(added[:2], hint(batch.warped)[:2])
    assert not added[2:].any()
    plain = hinted(None, hint, replace(_condition(batch), warped=None), 2)
    assert plain is not None
    assert torch.allclose(plain[:2], hint(batch.reference_latent[:1]).expand(2, -1, -1, -1))
    assert not plain[2:].any()


def test_one_reference_of_a_condition_keeps_its_own_warps(clips: list[TrainingClip], codec: LatentCodec) -> None:
    batch = _store(clips, codec).batch(CHOSEN, np.random.default_rng(0))
    one = _condition(batch).of_reference(1, 2)
    assert batch.warped is not None
    assert one.warped is not None
    assert torch.equal(one.warped, batch.warped[2:])
    assert anchor_of(one).shape[:2] == (1, 2)


def test_windows_and_parts_of_a_clip_see_the_warps_of_their_frames(clips: list[TrainingClip], codec: LatentCodec) -> None:
    item = clips[0]
    points, scores = item.keypoints * (32 / 48), item.scores
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    moved = Driving(points=points, scores=scores)
    warped = warped_latents(codec, Reference(image=image, points=points[0], scores=scores[0]), moved)
    carried_there = LimbWarp(image, points[0], scores[0])(points[9], scores[9])
    alone = codec.encode(torch.from_numpy(carried_there[None]).permute(0, 3, 1, 2).float() / 127.5 - 1)
    assert torch.allclose(warped[9:10], alone, atol=1e-5)
    still = Condition(
        reference_latent=alone,
        image_tokens=torch.zeros(1, 1, 4),
        pose=torch.zeros(0, 3, 32, 32),
        dropped=torch.tensor([False]),
        warped=warped,
    )
    whole: ClipCondition[Condition] = with_poses(still, torch.arange(12.0).view(12, 1, 1, 1).expand(12, 3, 32, 32))
    window, part = whole.at([3, 9]), whole.part([1, 3, 9])
    assert window.warped is not None
    assert torch.equal(window.warped, warped[[3, 9]])
    here = part.at([1, 2])
    assert part.frames == 3
    assert here.warped is not None
    assert torch.equal(here.warped, warped[[3, 9]])
    assert here.pose[:, 0, 0, 0].tolist() == [3.0, 9.0]
