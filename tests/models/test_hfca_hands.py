"""HFCA's hand enhancement: a bridge between two fingers is opened, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage
from skimage.morphology import reconstruction

from models.hfca.config import HandDetail
from models.hfca.hand_gaps import CHAINS, Gap, diagonal_of, disk, gap_between, gap_kernel, line
from models.hfca.hand_morphology import box_of, closed_gap, contrast, enhance_hands, gap_change, is_fist
from pipelines.keypoints import LEFT_HAND, RIGHT_HAND

DETAIL = HandDetail()
SIZE = 256
SKIN, SHADE = 190, 60
FINGERS_X = (60, 88, 116, 144, 172)  # px of the five upright fingers in a 256 px image
BRIDGE = slice(112, 117)  # rows

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]


def _hand() -> Points:
    """[21, 2] an open hand, fingers straight up."""
    hand = np.zeros((21, 2), np.float32)
    hand[0], hand[1] = (116, 236), (80, 205)
    for x, chain in zip(FINGERS_X, CHAINS, strict=True):
        hand[list(chain)] = np.stack([np.full(len(chain), x), np.linspace(180, 60, len(chain))], axis=1)
    return hand


def _picture(*, bridge: bool, inverted: bool = False) -> Image:
    """[256, 256, 3] fingers 18 px wide with gaps 10 px wide between them; the bridge joins the second and the third finger."""
    grey = np.full((SIZE, SIZE), SHADE, np.uint8)
    grey[180:240, 50:182] = SKIN
    for x in FINGERS_X:
        grey[52:181, x - 9 : x + 10] = SKIN
    if bridge:
        grey[BRIDGE, FINGERS_X[1] : FINGERS_X[2]] = SKIN
    grey = 255 - grey if inverted else grey
    return np.repeat(grey[..., None], 3, axis=-1)


def _posed() -> tuple[Points, Points]:
    """[1, 133, 2] and [1, 133] with that left hand and no right one."""
    points, scores = np.zeros((1, 133, 2), np.float32), np.zeros((1, 133), np.float32)
    points[0, LEFT_HAND], scores[0, LEFT_HAND] = _hand(), 1.0
    return points, scores


def _enhanced(picture: Image, detail: HandDetail = DETAIL) -> Image:
    points, scores = _posed()
    return enhance_hands(picture[None], points, scores, detail)[0]


def _bridge(picture: Image) -> float:
    """Mean luma of the bridge's inner part, in the gap's middle."""
    middle = (FINGERS_X[1] + FINGERS_X[2]) // 2
    return float(picture[BRIDGE, middle - 1 : middle + 2].mean())


LINE = replace(DETAIL, threshold=0.08)  # these tips are farther from each other than that, and the element longer than the bridge


@pytest.mark.parametrize("inverted", [False, True], ids=["dark gap", "bright gap"])
@pytest.mark.parametrize("detail", [DETAIL, LINE], ids=["disk", "line"])
def test_a_bridge_between_fingers_is_opened(detail: HandDetail, inverted: bool) -> None:
    """The bridge takes beta of the way to the gap's grey."""
    before = _picture(bridge=True, inverted=inverted)
    skin, gap = (255 - SKIN, 255 - SHADE) if inverted else (SKIN, SHADE)
    assert _bridge(before) == skin
    assert _bridge(_enhanced(before, detail)) == pytest.approx(skin + detail.strength * (gap - skin), abs=3)
    assert _bridge(_enhanced(before, replace(detail, strength=1.0))) == pytest.approx(gap, abs=3)


def test_a_line_from_tip_to_tip_opens_nothing() -> None:
    """Why the line lies along the gap: across it, the bridge fills the whole element."""
    before = _picture(bridge=True)
    assert _bridge(_enhanced(before, replace(LINE, line_axis="tips"))) == SKIN


def test_fingers_keep_every_bit() -> None:
    before = _picture(bridge=True)
    changed = (_enhanced(before) != before).any(axis=-1)
    assert changed.any()
    for x in FINGERS_X:
        assert not changed[60:181, x - 3 : x + 4].any()  # the strips along the bones
    rows, columns = np.nonzero(changed)
    assert BRIDGE.start - 2 <= rows.min()
    assert rows.max() <= BRIDGE.stop + 1
    assert FINGERS_X[1] < columns.min()
    assert columns.max() < FINGERS_X[2]


def test_nothing_changes_outside_the_box_nor_without_a_bridge() -> None:
    before = np.random.default_rng(0).integers(0, 256, (400, 400, 3), dtype=np.uint8)
    before[:SIZE, :SIZE] = _picture(bridge=True)
    points, scores = _posed()
    box = box_of(points[0, LEFT_HAND], scores[0, LEFT_HAND], (400, 400), DETAIL)
    assert box is not None
    after = enhance_hands(before[None], points, scores, DETAIL)[0]
    x1, y1, x2, y2 = box
    outside = np.ones((400, 400), bool)
    outside[y1:y2, x1:x2] = False
    assert np.array_equal(after[outside], before[outside])
    assert not np.array_equal(after, before)
    clean = _picture(bridge=False)
    assert np.array_equal(_enhanced(clean), clean)


def test_chroma_stays() -> None:
    before = _picture(bridge=True).astype(np.int16)
    tinted = (before + np.array([20, 0, -30])).clip(0, 255).astype(np.uint8)
    change = _enhanced(tinted).astype(np.int16) - tinted
    assert change.any()
    assert (change == change[..., :1]).all()  # the same for R, G and B


def test_equal_input_gives_equal_output_and_is_left_alone() -> None:
    before = _picture(bridge=True)
    kept = before.copy()
    assert np.array_equal(_enhanced(before), _enhanced(before))
    assert np.array_equal(before, kept)


def test_small_hands_are_worked_on_larger() -> None:
    """The same hand at a quarter of the size still has its bridge weakened."""
    small = np.ascontiguousarray(_picture(bridge=True)[2::4, 2::4])
    points, scores = _posed()
    after = enhance_hands(small[None], points / 4, scores, replace(DETAIL, strength=1.0))[0]
    before = small[28, 25].astype(int)
    assert (before == SKIN).all()
    assert (after[28, 25] < before - 40).all()


def test_unsure_small_and_closed_hands_are_skipped() -> None:
    hand, sure = _hand(), np.ones(21, np.float32)
    assert box_of(hand, sure, (SIZE, SIZE), DETAIL) is not None
    assert box_of(hand, 0.29 * sure, (SIZE, SIZE), DETAIL) is None
    assert box_of(hand / 8, sure, (SIZE, SIZE), DETAIL) is None
    fist = hand.copy()
    palm = hand[[0, 5, 9, 13, 17]].mean(axis=0)
    for chain in CHAINS:
        fist[chain[-1]] = palm + (hand[chain[0]] - palm) * 0.3
    assert is_fist(fist, DETAIL)
    assert not is_fist(hand, DETAIL)
    assert box_of(fist, sure, (SIZE, SIZE), DETAIL) is None
    one_out = fist.copy()
    one_out[8] = hand[8]  # pointing
    assert not is_fist(one_out, DETAIL)


def test_both_hands_of_every_frame_are_enhanced() -> None:
    pair = np.concatenate([_picture(bridge=True)] * 2, axis=1)
    points, scores = np.zeros((2, 133, 2), np.float32), np.ones((2, 133), np.float32)
    points[:, LEFT_HAND], points[:, RIGHT_HAND] = _hand(), _hand() + np.array([SIZE, 0], np.float32)
    scores[1, RIGHT_HAND] = 0
    first, second = enhance_hands(np.stack([pair, pair]), points, scores, DETAIL)
    assert np.array_equal(first[:, :SIZE], first[:, SIZE:])
    assert np.array_equal(second[:, :SIZE], first[:, :SIZE])
    assert np.array_equal(second[:, SIZE:], pair[:, SIZE:])


# --- Eq. 6 and the operators ------------------------------------------------------------------------------------------


def test_the_kernel_is_a_disk_for_near_tips_and_a_line_for_far_ones() -> None:
    hand = _hand()
    limit = DETAIL.threshold * diagonal_of(hand)
    for distance, expected in ((4.0, 1), (12.0, 3), (limit - 0.5, 6)):
        near = hand.copy()
        near[12] = near[8] + [distance, 0]
        assert np.array_equal(gap_kernel(near, 1, replace(DETAIL, threshold=limit / diagonal_of(near))), disk(expected))
    along = gap_kernel(hand, 1, replace(DETAIL, threshold=0.05))
    across = gap_kernel(hand, 1, replace(DETAIL, threshold=0.05, line_axis="tips"))
    length = 2 * round(DETAIL.radius * 0.05 * diagonal_of(hand)) + 1
    assert along.any(axis=1).sum() == length
    assert along.any(axis=0).sum() <= 3
    assert np.array_equal(across, along.T)


@pytest.mark.parametrize("radius", [1, 2, 6])
def test_a_disk_holds_what_is_within_its_radius(radius: int) -> None:
    inside = {(x, y) for x in range(-9, 10) for y in range(-9, 10) if np.hypot(x, y) <= radius}
    assert {(x - radius, y - radius) for y, x in np.argwhere(disk(radius))} == inside


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 135])
def test_a_line_is_straight_connected_and_symmetric(angle: int) -> None:
    """Symmetric under a half turn, so that erosion undoes dilation: a closing."""
    element = line(np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))]), 13, 1)
    assert np.array_equal(element, element[::-1, ::-1])
    assert ndimage.label(element, np.ones((3, 3)))[1] == 1
    y, x = np.nonzero(element)
    assert 12 <= np.hypot(np.ptp(x), np.ptp(y)) + 1 <= 14


def test_closing_and_reconstruction_are_those_of_scipy_and_scikit_image() -> None:
    rng = np.random.default_rng(0)
    inverted = ndimage.gaussian_filter(rng.normal(128, 60, (60, 60)), 1.5).astype(np.float32)
    region = np.zeros((60, 60), np.uint8)
    region[10:50, 20:40] = 1
    gap = Gap(region=region, medial=region, fingers=1 - region, kernel=line(np.array([1.0, 2.0]), 9, 1))
    closed = ndimage.grey_closing(np.pad(inverted, 20, mode="edge"), footprint=gap.kernel)[20:-20, 20:-20]
    inner = slice(8, -8)
    limit = np.where(region > 0, np.maximum(closed, inverted), inverted)
    expected = reconstruction(inverted, limit, method="dilation")
    np.testing.assert_allclose(closed_gap(inverted, gap)[inner, inner], expected[inner, inner], rtol=0, atol=1e-4)
    assert (closed_gap(inverted, gap) >= inverted).all()


def test_only_what_is_joined_to_the_gap_is_kept() -> None:
    """A closing fills the valley between two far peaks of the inverted luma to their lower height, never above what reaches it."""
    inverted = np.full((21, 9), 65.0, np.float32)
    inverted[:8, 3:6] = inverted[13:, 3:6] = 195.0
    region = np.zeros((21, 9), np.uint8)
    region[:, 3:6] = 1
    gap = Gap(region=region, medial=region, fingers=1 - region, kernel=line(np.array([0.0, 1.0]), 13, 1))
    opened = closed_gap(inverted, gap)
    assert (opened[:, 4] == 195).all()
    assert (opened[:, [0, 1, 7, 8]] == 65).all()
    short = replace(gap, kernel=line(np.array([0.0, 1.0]), 5, 1))  # no longer than the bridge
    assert np.array_equal(closed_gap(inverted, short), inverted)


def test_without_contrast_there_is_no_gap_to_continue() -> None:
    flat = np.full((SIZE, SIZE), 120, np.float32)
    flat[BRIDGE] = 122
    hand = _hand()
    assert not gap_change(flat, hand, DETAIL).any()
    gap = gap_between(hand, 1, (SIZE, SIZE), DETAIL)
    luma = _picture(bridge=True)[..., 0].astype(np.float32)
    assert contrast(luma, gap) == SKIN - SHADE
    assert not (gap.region & gap.fingers).any()
    assert gap.region.any()
