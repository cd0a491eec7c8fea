"""The second floor: the reference carried to each pose limb by limb, with nothing learnt (models/limb_warp.py).

The demo's networks begin from it (models/demo_additions.py): what one adds to it, its training has added.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.animator import Driving, Reference
from models.baselines.untrained import AT_ONCE, UntrainedMethod
from models.limb_warp import LimbWarp
from pipelines.clip import Frames


def carried(reference: Reference, driving: Driving) -> Iterator[Frames]:
    """uint8 [<= 8, H, W, 3] at a time: the reference's person in every driving pose, in front of the reference's background."""
    warp = LimbWarp(reference.image, reference.points, reference.scores)
    for start in range(0, len(driving.points), AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        yield np.stack([warp(points, scores) for points, scores in zip(driving.points[rows], driving.scores[rows], strict=True)])


class WarpReferenceMethod(UntrainedMethod):
    """The method protocol for `warp_reference`."""

    name = "warp_reference"
    making = staticmethod(carried)
    sampling_code = ("models/baselines/warp_reference.py", "models/limb_warp.py")
