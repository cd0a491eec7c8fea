"""What all videos of a data set have in common, and one video from its seeds: several persons, hard cuts."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Literal, get_args

import numpy as np

from pipelines.performers.background import place_of
from pipelines.performers.camera import FULL_BODY, UPPER_BODY, Framing
from pipelines.performers.motion import STYLES
from pipelines.performers.performer import Bystander, Performance, perform
from pipelines.performers.truth import Truth

View = Literal["full", "upper"]
Place = Literal["studio", "room", "stage", "street", "park"]

_FRAMINGS: dict[View, Framing] = {"full": FULL_BODY, "upper": UPPER_BODY}
# Where (main, others) stand, in frame widths, and how large the others are.
_GROUPS = {1: (0.0, ()), 2: (-0.2, ((0.42, 0.9),)), 3: (0.0, ((0.32, 0.85), (-0.32, 0.82)))}
_STEP = 0x9E37  # between the seeds of two shots of a video
_MANY = 10_000  # seeds tried for a place; each has a chance of one in five


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Choices of a data set. Raises ValueError for those that cannot be had."""

    style: str = "dance"  # a name of motion.STYLES; where there are classes, each video's class is its style
    classes: tuple[str, ...] = ()
    fps: int = 24
    framing: View = "full"
    places: tuple[Place, ...] = ()  # () = anywhere
    blur: float = 0.0  # share of a frame's time that the shutter is open
    persons: int = 1
    cuts: int = 0  # hard cuts in a video: between two, the same person in another place and motion

    def __post_init__(self) -> None:
        for what, values, known in (
            ("style", (self.style,), tuple(STYLES)),
            ("class", self.classes, tuple(STYLES)),
            ("framing", (self.framing,), get_args(View)),
            ("place", self.places, get_args(Place)),
            ("persons", (self.persons,), tuple(_GROUPS)),
        ):
            for value in values:
                if value not in known:
                    raise ValueError(f"no {what} {value!r}; there are: {', '.join(str(name) for name in known)}")
        if self.cuts < 0 or not 1 <= self.fps <= 120 or not 0 <= self.blur <= 1:
            raise ValueError(f"cuts={self.cuts} must not be negative, fps={self.fps} in 1..120, blur={self.blur} in 0..1")

    def place(self, background: int) -> int:
        """The first background seed from `background` on that shows one of the places."""
        if not self.places:
            return background
        wanted = {f"{'on' if place == 'stage' else 'in'} a {place}" for place in self.places}
        return next(seed for seed in range(background, background + _MANY) if place_of(seed) in wanted)


def shots(frames: int, cuts: int) -> list[int]:
    """Frames of each shot of a video: equal parts, the last takes what is left over. Raises ValueError for shots of no frame."""
    if frames <= cuts:
        raise ValueError(f"frames={frames} is too few for {cuts} cuts")
    each = frames // (cuts + 1)
    return [each] * cuts + [frames - each * cuts]


def film(
    recipe: Recipe,
    identity: int,
    motion: int,
    background: int,
    *,
    frames: int,
    size: int | tuple[int, int],
    action: str | None = None,
    extras: tuple[int, ...] = (),
) -> Performance:
    """One video. action: its class, where the recipe has classes; extras: identities of the others, one for each further person."""
    offset, others = _GROUPS[recipe.persons]
    framing = _FRAMINGS[recipe.framing]
    if recipe.persons > 1:
        framing = replace(framing, offset=offset)
    made = []
    for shot, length in enumerate(shots(frames, recipe.cuts)):
        seed = motion + _STEP * shot
        made.append(
            perform(
                identity,
                seed,
                frames=length,
                size=size,
                fps=Fraction(recipe.fps),
                background=recipe.place(background + _STEP * shot),
                style=action or recipe.style,
                action=action,
                framing=framing,
                blur=recipe.blur,
                others=[
                    Bystander(identity=who, motion=seed + 1 + number, offset=at, scale=scale)
                    for number, (who, (at, scale)) in enumerate(zip(extras, others, strict=True))
                ],
            )
        )
    return joined(made)


def joined(shots: list[Performance]) -> Performance:
    """Performances of one person, one after the other; no flow across a cut, captions in their order."""
    if len(shots) == 1:
        return shots[0]
    truths = [shot.truth for shot in shots]
    arrays = {}
    for field in fields(Truth):
        parts = [np.asarray(getattr(truth, field.name)) for truth in truths]
        if parts[0].ndim == 0:
            words = list(dict.fromkeys(str(part) for part in parts))
            arrays[field.name] = np.array("; then ".join(words))
        else:
            arrays[field.name] = np.concatenate(_bridged(parts) if field.name in ("flow", "flow_valid") else parts)
    return Performance(frames=np.concatenate([shot.frames for shot in shots]), truth=Truth(**arrays), fps=shots[0].fps)


def _bridged(flows: list[np.ndarray]) -> list[np.ndarray]:  # type: ignore[type-arg]
    """A pair of frames around a cut has no flow: zeros between every two."""
    nothing = np.zeros_like(flows[0], shape=(1, *flows[0].shape[1:]))
    return [part for flow in flows for part in (flow, nothing)][:-1]
