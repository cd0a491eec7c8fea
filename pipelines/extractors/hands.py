"""Hand boxes, sharpness and movement from keypoints and frames (StableAnimator's and HIA's hand features)."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.clip import Frames
from pipelines.keypoints import LEFT_HAND, RIGHT_HAND, Points, Scores

# A hand is (its 21 points, shoulder, elbow, wrist) in COCO-WholeBody; left first, the person's own sides.
_HANDS = ((LEFT_HAND, 5, 7, 9), (RIGHT_HAND, 6, 8, 10))
_VALID_SCORE = 0.3  # a joint counts from this score on
_FEWEST_JOINTS = 6
_SMALLEST_SIDE_PX = 20  # of a box guessed from the arm

Box = tuple[float, float, float, float]


def hands_of(frames: Frames, keypoints: Points, scores: Scores, width: int, height: int) -> list[dict[str, Any]]:
    """One row of the `hands` table per frame.

    frames [T, H, W, 3]; keypoints [T, 133, 2] in pixels; scores [T, 133]. Every row holds boxes [2 * 4] x1 y1 x2 y2 and
    valid [2], left hand first; sharpness [2 * 2] = (s_raw, s_128) per hand; movement [2 * 2] in pixels per native frame
    and movement_valid [2]. What is not valid is 0.
    """
    return [_row(frames[t], t, keypoints, scores, width, height) for t in range(len(frames))]


def _row(image: Frames, t: int, keypoints: Points, scores: Scores, width: int, height: int) -> dict[str, Any]:
    boxes = [hand_box(keypoints[t], scores[t], hand, width, height) for hand in range(2)]
    moves = [hand_movement(keypoints, scores, hand, t) for hand in range(2)]
    sharp = [(0.0, 0.0) if box is None else sharpness(image, box) for box in boxes]
    return {
        "boxes": [value for box in boxes for value in (box or (0.0,) * 4)],
        "valid": [box is not None for box in boxes],
        "sharpness": [value for pair in sharp for value in pair],
        "movement": [value for move in moves for value in (move or (0.0, 0.0))],
        "movement_valid": [move is not None for move in moves],
    }


def hand_box(points: Points, scores: Scores, hand: int, width: int, height: int) -> Box | None:
    """Square box around the joints of one hand (0 left, 1 right), clipped to the image; None where there is none.

    With fewer than six valid joints the forearm says where the hand is (OpenPose's rule).
    """
    joints, *arm = _HANDS[hand]
    seen = scores[joints] >= _VALID_SCORE
    if seen.sum() >= _FEWEST_JOINTS:
        low, high = points[joints][seen].min(axis=0), points[joints][seen].max(axis=0)
        return _clipped((low + high) / 2, 1.3 * float((high - low).max()), width, height)
    if not (scores[arm] >= _VALID_SCORE).all():
        return None
    shoulder, elbow, wrist = points[arm]
    side = 1.5 * max(float(np.hypot(*(wrist - elbow))), 0.9 * float(np.hypot(*(elbow - shoulder))))
    return _clipped(wrist + 0.33 * (wrist - elbow), side, width, height) if side >= _SMALLEST_SIDE_PX else None


def _clipped(centre: npt.NDArray[np.float32], side: float, width: int, height: int) -> Box | None:
    x1, x2 = (float(np.clip(centre[0] + half, 0, width)) for half in (-side / 2, side / 2))
    y1, y2 = (float(np.clip(centre[1] + half, 0, height)) for half in (-side / 2, side / 2))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None


def sharpness(image: Frames, box: Box) -> tuple[float, float]:
    """(s_raw, s_128): variance of the Laplacian of the BT.601 luma (0..255) in the box, native and at 128x128."""
    import cv2

    x1, y1, x2, y2 = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
    luma = image[y1:y2, x1:x2].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    shrinks = max(luma.shape) > 128
    resized = cv2.resize(luma, (128, 128), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return _laplacian_variance(luma), _laplacian_variance(resized)


def _laplacian_variance(luma: npt.NDArray[np.float32]) -> float:
    """Population variance over the valid region of the kernel [0 1 0; 1 -4 1; 0 1 0]; 0 where that is empty."""
    if min(luma.shape) < 3:
        return 0.0
    centre = luma[1:-1, 1:-1]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((around - 4 * centre).astype(np.float64).var())


def hand_movement(keypoints: Points, scores: Scores, hand: int, t: int) -> tuple[float, float] | None:
    """Mean displacement (x, y) of one hand from frame t - 1 to t in px; None in frame 0 or with too few joints."""
    if t == 0:
        return None
    joints = _HANDS[hand][0]
    both = (scores[t - 1 : t + 1, joints] >= _VALID_SCORE).all(axis=0)
    if both.sum() < _FEWEST_JOINTS:
        return None
    x, y = (keypoints[t, joints][both] - keypoints[t - 1, joints][both]).mean(axis=0)
    return float(x), float(y)
