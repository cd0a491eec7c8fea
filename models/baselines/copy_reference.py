"""The floor: every generated frame is the reference frame. A method that does not beat it has learnt nothing of motion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from models.animator import Driving, Reference
from models.baselines.untrained import AT_ONCE, UntrainedMethod
from pipelines.clip import Frames


def copies(reference: Reference, driving: Driving) -> Iterator[Frames]:
    """uint8 [<= 8, H, W, 3] at a time: the reference image for every driving frame."""
    for start in range(0, len(driving.points), AT_ONCE):
        yield np.repeat(reference.image[None], min(AT_ONCE, len(driving.points) - start), axis=0)


class CopyReferenceMethod(UntrainedMethod):
    """The method protocol for `copy_reference`."""

    name = "copy_reference"
    making = staticmethod(copies)
    sampling_code = ("models/baselines/copy_reference.py",)
