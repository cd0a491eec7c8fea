"""A performance: frames and truth of one person in a scene, from seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pipelines.clip import Frames
from pipelines.extractors.hands import hands_of
from pipelines.performers.annotation import face_boxes, five_points, whole_body
from pipelines.performers.background import paint_backdrop, place_of
from pipelines.performers.body import Appearance, sample_appearance
from pipelines.performers.camera import FULL_BODY, PERSPECTIVE, Camera, Framing
from pipelines.performers.description import clothing_class, describe
from pipelines.performers.figure import Figure
from pipelines.performers.motion import choreograph
from pipelines.performers.piece import Floats
from pipelines.performers.pose import Track
from pipelines.performers.scene import SUPERSAMPLING, Actor, Shot, flow_between, picture_of, shoot
from pipelines.performers.skeleton import build_skeleton
from pipelines.performers.stance import Stance, drape_tips, stances
from pipelines.performers.truth import Truth
from pipelines.performers.wardrobe import dress_up

_SMALLEST_PX, _LARGEST_PX = 64, 1024
_MOST_EXPOSURES = 12  # sub-frames of one blurred frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Performance:
    """One clip."""

    frames: Frames
    """[T, H, W, 3] uint8 RGB."""
    truth: Truth
    fps: Fraction


@dataclass(frozen=True, kw_only=True, slots=True)
class Bystander:
    """Somebody else in the scene."""

    identity: int
    motion: int
    offset: float
    """Where they stand, right of the main person, as a share of the frame's width."""
    scale: float = 0.9
    """Size relative to standing where the main person does: above 1 they are nearer and in front of them."""


def identity_name(identity: int) -> str:
    """The subject's name in rows and truth files."""
    return f"performer_{identity:04d}"


def perform(
    identity: int,
    motion: int,
    *,
    frames: int,
    size: int | tuple[int, int] = 128,
    fps: Fraction = Fraction(24),
    background: int | None = None,
    style: str = "dance",
    action: str | None = None,
    framing: Framing = FULL_BODY,
    blur: float = 0.0,
    others: Sequence[Bystander] = (),
) -> Performance:
    """Frames and truth of `identity` performing `motion`; equal arguments give equal frames.

    identity, motion, background: seeds >= 0; background None = one that follows from the motion seed.
    frames: T >= 1; a shorter clip is a prefix of a longer one.  size: side of a square frame or (height, width) in px,
    even, 64..1024.  style: the family of motions (motion.choreograph), shared by everybody in the scene.
    action: the class that the truth names and the caption tells; None = the style.  framing: the part of the body in view.
    blur: how long the shutter is open, as a share of the time between two frames (0 = no blur, 1 = all of it); the truth is
    that of the middle of this time.  others: further people; nearer ones hide the main person, and the truth says so.
    Raises ValueError for arguments out of range.
    """
    height, width = (size, size) if isinstance(size, int) else size
    _check(frames, (height, width), blur, [identity, motion, background or 0, *(s for o in others for s in (o.identity, o.motion))])
    canvas = (height * SUPERSAMPLING, width * SUPERSAMPLING)
    main = Bystander(identity=identity, motion=motion, offset=0.0, scale=1.0)
    cast = [_Role(person, style, frames, fps, framing, canvas, blur) for person in (main, *others)]
    scenery = motion * 7919 + 13 if background is None else background
    backdrop = paint_backdrop(scenery, *canvas, framing)
    pictures, truth = _film(backdrop, cast, frames, blur)
    look = cast[0].look
    words = describe(look, action or style, place_of(scenery))
    named = {"identity": identity_name(identity), "clothing": clothing_class(look), "action": action or style, "caption": words}
    return Performance(frames=pictures, truth=Truth(**truth, **{name: np.array(value) for name, value in named.items()}), fps=fps)


def _check(frames: int, size: tuple[int, int], blur: float, seeds: list[int]) -> None:
    sized = all(_SMALLEST_PX <= side <= _LARGEST_PX and side % 2 == 0 for side in size)
    if frames < 1 or not sized or min(seeds) < 0 or not 0 <= blur <= 1:
        raise ValueError(
            f"frames={frames} must be at least 1, size={size} even and in {_SMALLEST_PX}..{_LARGEST_PX}, blur={blur} in 0..1, "
            "seeds not negative"
        )


class _Role:
    """A person with everything of a clip that does not depend on the others."""

    def __init__(
        self, who: Bystander, style: str, frames: int, fps: Fraction, framing: Framing, canvas: tuple[int, int], blur: float
    ) -> None:
        self.look: Appearance = sample_appearance(who.identity)
        self.camera = Camera.framed(framing, *canvas, self.look.stature, who.offset, who.scale)
        # the shutter of the last frame closes after it
        self.pose, self.blink = choreograph(who.motion, frames + (blur > 0), fps, style=style)
        self.tips = drape_tips(self.look, build_skeleton(self.look.proportions, self.pose))
        unit = self.camera.unit_px
        figure = Figure(look=self.look, tubes=dress_up(self.look, unit), unit=unit)
        self.actor = Actor(figure=figure, stances=self.at(np.arange(frames, dtype=float)), nearness=(who.scale - 1) / PERSPECTIVE)

    def at(self, times: Track) -> list[Stance]:
        """Stances at times given in frames."""
        at = np.arange(len(self.blink))
        pose = {name: np.interp(times, at, track) for name, track in self.pose.items()}
        tips = np.stack([np.interp(times, at, self.tips[:, axis]) for axis in (0, 1)], -1)
        return stances(self.look, pose, np.interp(times, at, self.blink), self.camera, tips)


def _film(backdrop: Frames, cast: list[_Role], frames: int, blur: float) -> tuple[Frames, dict[str, Any]]:
    """([T, H, W, 3], the arrays of Truth that depend on the picture)."""
    actors = [role.actor for role in cast]
    exposed = [_exposures(cast, t, blur) for t in range(frames)] if blur > 0 else []
    pictures, flows, steady, shots = [], [], [], list[Shot]()
    for t in range(frames):
        shot = shoot(backdrop, actors, t)
        pictures.append(_exposed(backdrop, actors, exposed[t]) if exposed else shot.picture)
        if shots:
            flow, valid = flow_between(shots[-1], shot)
            flows.append(flow)
            steady.append(valid)
        shots.append(shot)
    clip = np.stack(pictures)
    shape = clip.shape[1:3]
    truth = _annotate(actors[0], shots, clip)
    truth["flow"] = np.stack(flows) if flows else np.zeros((0, *shape, 2), np.float16)
    truth["flow_valid"] = np.stack(steady) if steady else np.zeros((0, *shape), bool)
    return clip, truth


def _annotate(main: Actor, shots: list[Shot], clip: Frames) -> dict[str, Any]:
    face = np.stack([stance.face for stance in main.stances])
    keypoints = _to_frame(np.stack([whole_body(stance) for stance in main.stances]))
    scores = np.stack([shot.scores for shot in shots])
    sharp = [row["sharpness"] for row in hands_of(clip, keypoints, scores, clip.shape[2], clip.shape[1])]
    return {
        "keypoints": keypoints,
        "scores": scores,
        "iuv": np.stack([shot.iuv for shot in shots]),
        "labels": np.stack([shot.labels for shot in shots]),
        "depth": np.stack([shot.depth for shot in shots]),
        "face_box": _to_frame(face_boxes(face)),
        "face_points": _to_frame(five_points(face)),
        "hand_sharpness": np.array(sharp, np.float32).reshape(-1, 2, 2),
        "persons": np.array([sum(bool(view.owner.any()) for view in shot.views) for shot in shots], np.int32),
    }


def _exposures(cast: list[_Role], t: int, blur: float) -> list[list[Stance]]:
    """Moments while the shutter is open, one px of the fastest joint apart; each holds one stance per person."""
    ends = [role.at(np.array([max(t - blur / 2, 0), t + blur / 2])) for role in cast]
    way = max(float(np.abs(np.diff([whole_body(stance) for stance in pair], axis=0)).max()) for pair in ends)
    count = int(np.clip(np.ceil(way / SUPERSAMPLING) + 1, 2, _MOST_EXPOSURES))
    times = np.maximum(t + blur * ((np.arange(count) + 0.5) / count - 0.5), 0)
    return [list(moment) for moment in zip(*(role.at(times) for role in cast), strict=True)]


def _exposed(backdrop: Frames, actors: list[Actor], moments: list[list[Stance]]) -> Frames:
    """The mean of the moments' pictures."""
    total = sum(picture_of(backdrop, actors, moment)[0].astype(np.float32) for moment in moments)
    mean: Frames = np.rint(np.asarray(total) / len(moments)).astype(np.uint8)
    return mean


def _to_frame(points: Floats) -> Floats:
    """Canvas px to frame px, both with pixel centres at whole numbers."""
    return np.asarray((points + 0.5) / SUPERSAMPLING - 0.5, np.float32)
