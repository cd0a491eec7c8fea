"""Hand-detail enhancement (Sec. 3.3): dynamic kernels, directional dilation, and erosion with reconstruction, between the fingers alone.

Nothing is learnt. In the inverted luma a gap is bright and a bridge of skin across it is dark; closing fills the bridge, and
reconstruction keeps what is joined to the gap that is there. Chroma and everything outside of the gaps stay as they are.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from models.hfca.config import HandDetail
from models.hfca.hand_gaps import CHAINS, Gap, diagonal_of, gap_between, tip
from pipelines.clip import Frames
from pipelines.keypoints import LEFT_HAND, RIGHT_HAND, Points, Scores

Floats = npt.NDArray[np.float32]
PixelBox = tuple[int, int, int, int]
"""x1, y1, x2, y2; the last two are outside."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601
_ROOM = 1.3  # the box's side, in the larger extent of the joints (as pipelines/extractors/hands.py)
_FEATHER = 0.08  # of the box's side: its rim, over which the change fades in
_PALM = (0, 5, 9, 13, 17)


def enhance_hands(frames: Frames, points: Points, scores: Scores, detail: HandDetail) -> Frames:
    """uint8 [T, H, W, 3] with both hands of each frame enhanced; points [T, 133, 2] px, scores [T, 133]."""
    return np.stack([_enhanced(frame, p, s, detail) for frame, p, s in zip(frames, points, scores, strict=True)])


def _enhanced(frame: Frames, points: Points, scores: Scores, detail: HandDetail) -> Frames:
    for hand in (LEFT_HAND, RIGHT_HAND):
        box = box_of(points[hand], scores[hand], (frame.shape[0], frame.shape[1]), detail)
        if box is not None:
            frame = enhance_hand(frame, points[hand], box, detail)
    return frame


def box_of(hand: Points, scores: Scores, size: tuple[int, int], detail: HandDetail) -> PixelBox | None:
    """Whole pixels of a square around the joints [21, 2], clipped to the image; None for a hand that is unsure, too small, or a fist."""
    if float(scores.mean()) < detail.least_score or is_fist(hand, detail):
        return None
    low, high = hand.min(axis=0), hand.max(axis=0)
    half = _ROOM * float((high - low).max()) / 2
    x, y = (low + high) / 2
    x1, y1 = max(0, int(np.floor(x - half))), max(0, int(np.floor(y - half)))
    x2, y2 = min(size[1], int(np.ceil(x + half))), min(size[0], int(np.ceil(y + half)))
    return (x1, y1, x2, y2) if min(x2 - x1, y2 - y1) >= detail.least_px else None


def is_fist(hand: Points, detail: HandDetail) -> bool:
    """Whether all finger tips are near to the palm: what lies between such fingers is skin."""
    palm = hand[list(_PALM)].mean(axis=0)
    tips = hand[[tip(finger) for finger in range(len(CHAINS))]]
    return bool((np.linalg.norm(tips - palm, axis=1) <= detail.fist * diagonal_of(hand)).all())


def enhance_hand(frame: Frames, hand: Points, box: PixelBox, detail: HandDetail) -> Frames:
    """[H, W, 3] with the gaps of one hand enhanced inside `box`; the same array is never changed.

    A small hand is worked on at 128 px. Only the change comes back from there, so that pixels without one keep every bit.
    """
    x1, y1, x2, y2 = box
    patch = frame[y1:y2, x1:x2].astype(np.float32)
    height, width = patch.shape[:2]
    zoom = max(1.0, detail.working_px / min(height, width))
    size = (round(width * zoom), round(height * zoom))
    luma = cv2.resize(patch @ _LUMA, size, interpolation=cv2.INTER_LINEAR)
    scale = np.array([size[0] / width, size[1] / height], np.float32)
    change = gap_change(luma, (hand - [x1, y1] + 0.5) * scale - 0.5, detail)
    change = cv2.resize(change, (width, height), interpolation=cv2.INTER_AREA) * _feather(height, width)
    enhanced = frame.copy()
    enhanced[y1:y2, x1:x2] = np.clip(np.round(patch + change[..., None]), 0, 255)  # the same for R, G and B: chroma stays
    return enhanced


def gap_change(luma: Floats, hand: Points, detail: HandDetail) -> Floats:
    """What is added to the luma [h, w] in 0..255, over the four gaps of a hand; 0 outside of them."""
    changed = luma
    for finger in range(len(CHAINS) - 1):
        changed = _opened(changed, gap_between(hand, finger, (luma.shape[0], luma.shape[1]), detail), detail)
    return changed - luma


def _opened(luma: Floats, gap: Gap, detail: HandDetail) -> Floats:
    """Y + beta M (Y' - Y): one gap opened; M is the gap, blurred."""
    sign = contrast(luma, gap)
    if abs(sign) < detail.least_contrast:
        return luma  # nothing is seen of a gap that could be continued
    inverted = 255 - luma if sign > 0 else luma  # the gap is bright here, whether it is dark or bright in the image
    kept = closed_gap(inverted, gap)
    blend = cv2.GaussianBlur(gap.region.astype(np.float32), (0, 0), 1.0)
    towards = inverted - kept if sign > 0 else kept - inverted
    opened: Floats = luma + detail.strength * blend * towards
    return opened


def contrast(luma: Floats, gap: Gap) -> float:
    """Grey levels by which the fingers are brighter than the line between them; 0 where there is no such line."""
    if not gap.medial.any():
        return 0.0
    return float(np.median(luma[gap.fingers > 0]) - np.median(luma[gap.medial > 0]))


def closed_gap(inverted: Floats, gap: Gap) -> Floats:
    """Steps 2 and 3: dilation and erosion with K_ij, of which reconstruction keeps, in the gap, what is joined to real gap pixels.

    The whole image is dilated and eroded, not the gap's pixels alone: a finger's flank inside the gap's outline would be a thin thing there.
    """
    closed = cv2.erode(cv2.dilate(inverted, gap.kernel), gap.kernel)
    limit = np.where(gap.region > 0, np.maximum(closed, inverted), inverted)
    return reconstructed(inverted, limit)


def reconstructed(marker: Floats, limit: Floats) -> Floats:
    """Grey reconstruction by dilation (Vincent 1993): the marker, dilated by 3x3 under the limit until it stays as it is."""
    neighbours = np.ones((3, 3), np.uint8)
    while True:
        grown = np.minimum(cv2.dilate(marker, neighbours), limit)
        if np.array_equal(grown, marker):
            return marker
        marker = grown


def _feather(height: int, width: int) -> Floats:
    """[h, w] 1 inside, falling to 0 over the rim."""
    rim = max(2.0, _FEATHER * min(height, width))
    rows, columns = (np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / rim for n in (height, width))
    return np.minimum(np.minimum(rows[:, None], columns[None, :]), 1.0).astype(np.float32)
