"""Temporal flicker: change from frame to frame that the truth does not have, in grey levels (0..255).

    flicker(t) = mean over pixels and channels of | (p[t+1] - p[t]) - (q[t+1] - q[t]) |,   p generated, q true

A still copy scores the true motion, a perfect clip 0. In the background it is mostly the generated clip's own unrest, but moving shadows, what
the person uncovers and the rim of their mask are in it, too, so a still copy does not have 0 there. Where the truth stands still, nothing else is left:

    flicker_still(t) = mean over channels and pixels whose true values stay within STILL grey levels over the clip, of | p[t+1] - p[t] |

The value stands at frame t; the last frame of a run has none.

Without a truth, what goes there and comes back is left: half the second difference,

    flicker_own(t) = mean over pixels and channels of | p[t+1] - 2 p[t] + p[t-1] | / 2

so that a pixel that jumps by a and back each time has a, and one that brightens evenly 0. Motion has some of it too: compare methods
on the same driving clips, not with 0. The value stands at the middle frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eval.metrics.metric import Metric, PerFrame

if TYPE_CHECKING:
    from eval.sides import Sides


STILL = 10  # grey levels; what compression and sensors add to a wall


def flicker(sides: Sides) -> PerFrame:
    """[T] grey levels, >= 0."""
    return sides.scattered([float(_unrest(sides, t).mean()) for t in sides.pairs], sides.pairs)


def flicker_background(sides: Sides) -> PerFrame:
    """The same over pixels that are background in both true frames."""
    still = {t: sides.regions["background"][t] & sides.regions["background"][t + 1] for t in sides.pairs}
    frames = [t for t in sides.pairs if still[t].any()]
    return sides.scattered([float(_unrest(sides, t)[still[t]].mean()) for t in frames], frames)


def flicker_still(sides: Sides) -> PerFrame:
    """[T] grey levels, >= 0; no value where nothing of the true clip stands still."""
    _, truth = sides.counted_frames
    still = (np.ptp(truth, axis=0) <= STILL).all(axis=-1)
    frames = sides.pairs if still.any() else []
    return sides.scattered(
        [float(np.abs(np.diff(sides.prediction[t : t + 2, still].astype(np.int16), axis=0)).mean()) for t in frames], frames
    )


def flicker_own(sides: Sides) -> PerFrame:
    """[T] grey levels, >= 0; no value at a frame whose neighbours do not both count."""
    frames = [t for t in sides.pairs if t - 1 in sides.counted]
    return sides.scattered([float(_there_and_back(sides.prediction[t - 1 : t + 2]).mean()) for t in frames], frames)


def _there_and_back(three: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    before, now, after = three.astype(np.int16)
    return np.asarray(np.abs(after - 2 * now + before) / 2)


def _unrest(sides: Sides, t: int) -> npt.NDArray[np.int16]:
    p, q = (side[t : t + 2].astype(np.int16) for side in (sides.prediction, sides.truth))
    return np.asarray(np.abs((p[1] - p[0]) - (q[1] - q[0])))


FLICKER = Metric(
    id="flicker",
    title="Flicker",
    better="down",
    low=0.0,
    high=510.0,
    unit="grey levels",
    kind="clip",
    digits=2,
    tolerance=0.0,
    group="time",
    measure=flicker,
    summary="change from frame to frame that the true clip does not have, in grey levels",
)
FLICKER_BACKGROUND = replace(
    FLICKER,
    id="flicker_background",
    title="Flicker background",
    region="background",
    measure=flicker_background,
    summary="the same in the background only",
)
FLICKER_STILL = replace(
    FLICKER,
    id="flicker_still",
    title="Flicker still",
    high=255.0,
    measure=flicker_still,
    summary="change from frame to frame where the true clip stands still, in grey levels",
)
FLICKER_OWN = replace(
    FLICKER,
    id="flicker_own",
    title="Flicker (own)",
    high=255.0,
    measure=flicker_own,
    summary="what goes there and back within three frames, in grey levels, compared with nothing; motion has some of it too",
)
