"""A photograph moved by somebody else's video: poses of both, retargeting, any method, one mp4. Needs no data set.

    photograph -> pose, canvas      driving clip -> poses -> retargeted to the photograph's person -> method -> mp4

Pictures are cut for the method's size as its training cut them (models/clip_dataset.py), with one addition: the crop of a
photograph keeps the person, and where no crop can, the photograph's sides are extended instead.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from models.animator import Animator, Driving, Reference
from models.canvas import Pose, cut_photograph, photograph_box
from models.canvas import fit_photograph as fit_photograph
from models.chosen_checkpoint import Chosen
from models.clip_dataset import Points, draw_poses
from models.clip_signals import ClipSignals, fit_signals
from models.cross_driving import LONG_CLIP_BYTES, OF_MOTION, retargeted_signals, without_retargeting
from models.fitting import centre_box, fit_points
from models.methods import method_named
from models.shipped_checkpoint import SHIPPED
from models.signals import SignalName, Signals
from models.spot_signals import SpotSignals, spot_signals
from models.training_loop import settle_threads
from models.written_clip import write_pieces
from pipelines.clip import Clip, Frames
from pipelines.clip_reader import read_frames
from pipelines.errors import ClipError, UserError
from pipelines.extract import Extractor
from pipelines.extractors.registry import EXTRACTORS, extractors_named
from pipelines.keypoints import VISIBLE
from pipelines.photograph import Photograph, read_photograph
from pipelines.progress import Progress
from pipelines.retarget import Retarget, retarget
from pipelines.video import probe

DEFAULT_EXTRACTOR = "mediapipe"  # needs no download, and sees real people and performers alike
OF_PERFORMERS = "dwpose_tiny"  # what shipped checkpoints were trained with: they know performers alone

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is asked for. frames: at most so many; fps: of the output, at most that of the clip; steps: None = the variant's own.

    signals: extractors of what the method needs beside poses, in place of those of its training: "NAME=EXTRACTOR", or an extractor
    alone for all that it gives. caption: what the photograph shows, in the captioner's place.
    """

    reference: Path
    driving: Path
    output: Path
    extractor: str | None = None  # of poses; None = as `default_extractor` says
    signals: tuple[str, ...] = ()
    caption: str | None = None
    retarget: Retarget = "limb"
    side_by_side: bool = True
    seed: int = 0
    steps: int | None = None
    frames: int | None = None
    fps: Fraction | None = None

    def __post_init__(self) -> None:
        if self.output.suffix.lower() != ".mp4":
            raise UserError(f"--output {self.output}: only mp4 is written; give a name that ends in .mp4")
        if self.output.resolve() in (self.reference.resolve(), self.driving.resolve()):
            raise UserError(f"--output {self.output} is also an input and would be overwritten; give another name")


@dataclass(frozen=True, kw_only=True, slots=True)
class Animated:
    """What was written. size: (height, width) of one panel."""

    path: Path
    frames: int
    fps: Fraction
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The inputs as they are: photograph and driving frames with their poses, and which driving frames are followed, at which rate."""

    photograph: Photograph
    pose: Pose  # [133, 2], [133]
    clip: Clip
    frames: Frames  # [T, H, W, 3]
    motion: Pose  # [T, 133, 2], [T, 133]
    followed: list[int]
    fps: Fraction


def animate_photograph(request: Request, chosen: Chosen, *, say: Say = print, progress: bool = True) -> Animated:
    """Make the clip. `say` hears one line per decision that the user should know of. Raises UserError."""
    _require_writable(request.output)
    extractor = _pose_extractor(request.extractor or default_extractor(chosen))
    photograph = read_photograph(request.reference)
    clip, indices, fps = driving_clip(request.driving, request.frames, request.fps)
    settle_threads()
    method = method_named(chosen.method)
    spot = spot_signals(chosen, method.needs, request.signals, say, request.caption)
    animator = _settled(method.load(chosen.variant, chosen.folder), chosen, request.steps)
    for note in (chosen.origin, *photograph.notes):
        if note:
            say(note)
    # what was seen of the video is freed before sampling begins: from here on poses and signals are all that is known of it
    reference, driving, note = _scene(request, _seen_inputs(extractor, photograph, clip, indices, fps, say), animator, method.needs, spot)
    if note:
        say(note)
    pieces = _made(animator, reference, driving, request.seed, f"animate with {chosen.method}", shown=progress)
    comment = f"synthetic: generated by Rotoscope with {chosen.method}:{chosen.variant}:{request.seed}, not a recording"
    if chosen.checkpoint_id:
        comment += f"; checkpoint {chosen.checkpoint_id}"
    shown = _beside(reference.image, driving, pieces) if request.side_by_side else pieces
    write_pieces(request.output, shown, len(indices), fps, comment)
    height, width, _ = reference.image.shape
    return Animated(path=request.output, frames=len(indices), fps=fps, size=(height, width))


def _require_writable(output: Path) -> None:
    """Make the output's folder. Raises UserError, before anything is computed, where that or writing there is not allowed."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {output}: its folder cannot be made ({error.strerror}); give another place") from None
    if output.is_dir() or not os.access(output.parent, os.W_OK):
        raise UserError(f"--output {output}: nothing can be written there; give a file in a folder that you can write to")


# --- the driving clip ------------------------------------------------------------------------------------------------


def driving_clip(path: Path, frames: int | None, fps: Fraction | None) -> tuple[Clip, list[int], Fraction]:
    """(clip from the first frame to the last that is needed, its frames to follow, frames per second of the output).

    At a lower rate the frames nearest in time are followed, so motion keeps its speed. Of a folder of images `fps` is its own rate.
    Raises UserError.
    """
    if not path.exists():
        raise UserError(f"driving clip {path}: there is no such file; give a video of one person")
    try:
        info = probe(path, fps)
    except ClipError as error:
        raise UserError(f"driving clip {error}") from None
    rate = fps or info.fps
    if rate > info.fps:
        raise UserError(
            f"--fps {float(rate):g} is above the {float(info.fps):g} of {path.name}; frames are not invented, give at most that"
        )
    count = math.ceil(info.frames * rate / info.fps)
    step = info.fps / rate
    indices = [min(round(i * step), info.frames - 1) for i in range(min(count, frames or count))]
    return _clip_of(path, indices[-1] + 1, info.fps, info.width, info.height), indices, rate


def _clip_of(path: Path, frames: int, fps: Fraction, width: int, height: int) -> Clip:
    return Clip(
        dataset="", clip_id=path.name, video_id=path.name, uri=str(path), start_frame=0, end_frame=frames,
        start_pts=None, end_pts=None, time_base=1 / fps, fps=fps, width=width, height=height,
    )  # fmt: skip


# --- poses -----------------------------------------------------------------------------------------------------------


def default_extractor(chosen: Chosen) -> str:
    """Who sees the poses where nobody is named: for a shipped checkpoint the extractor of its training, else one that sees anybody."""
    return OF_PERFORMERS if chosen.variant == SHIPPED else DEFAULT_EXTRACTOR


def _pose_extractor(name: str) -> Extractor:
    extractor = extractors_named([name])[0]
    if "poses" not in extractor.tables:
        able = sorted(other.name for other in EXTRACTORS.values() if "poses" in other.tables)
        raise UserError(f"--extractors {name} gives no poses; those that do: {', '.join(able)}")
    return extractor


def _seen_inputs(extractor: Extractor, photograph: Photograph, clip: Clip, followed: list[int], fps: Fraction, say: Say) -> Seen:
    """Both with their poses. Raises UserError where nobody is."""
    say(f"poses of {photograph.path.name} and of {clip.num_frames} frames of {clip.clip_id} by {extractor.name}")
    see = extractor.load("cpu")
    points, scores = _seen(see, photograph.clip, photograph.image[None], f"photograph {photograph.path}")
    try:
        frames = read_frames(clip)  # in memory up to 1 GB, beyond that mapped from a temporary file
    except ClipError as error:
        raise UserError(f"driving clip {error}") from None
    motion = _seen(see, clip, frames, f"driving clip {clip.uri}")
    return Seen(photograph=photograph, pose=(points[0], scores[0]), clip=clip, frames=frames, motion=motion, followed=followed, fps=fps)


def _seen(see: Callable[[Clip, Frames], Any], clip: Clip, frames: Frames, what: str) -> Pose:
    try:
        rows = see(clip, frames)["poses"]
    except ClipError as error:
        if error.code == "no_person":
            raise UserError(f"no person in the {what}: {error.cause}; take one that shows a whole person, or other --extractors") from None
        raise UserError(f"{what}: {error.reason}") from None
    points = np.asarray([row["keypoints"] for row in rows], np.float32).reshape(len(frames), -1, 2)
    scores = np.asarray([row["scores"] for row in rows], np.float32)
    if not (scores > VISIBLE).any():
        raise UserError(f"no person in the {what}: no keypoint is visible; take one that shows a whole person, or other --extractors")
    return points, scores


# --- the canvas ------------------------------------------------------------------------------------------------------


def _scene(
    request: Request, seen: Seen, animator: Animator, needs: tuple[SignalName, ...], spot: SpotSignals
) -> tuple[Reference, Driving, str]:
    """Everything in pixels of the canvas that the method makes; and a note on how the photograph was cut. Raises UserError."""
    height, width, _ = seen.photograph.image.shape
    size = animator.size or (height // 2 * 2, width // 2 * 2)  # H.264 in yuv420p needs even sizes
    reference, note = _reference(seen, size, needs, spot)
    points, scores = seen.motion[0][seen.followed], seen.motion[1][seen.followed]
    if request.retarget == "none":
        box = centre_box(seen.clip.width, seen.clip.height, size)
        signals = Signals()
        if needs:
            signals = fit_signals(_driver(seen, (*OF_MOTION, "faces"), needs, spot), box, size, seen.followed, in_memory=LONG_CLIP_BYTES)
        return reference, Driving(points=fit_points(points, box, size), scores=scores, fps=float(seen.fps), signals=signals), note
    try:
        canvas = retarget(request.retarget, points, scores, reference.points, reference.scores, heights=(seen.clip.height, size[0]))
    except ValueError as error:
        raise UserError(f"{request.reference} and {request.driving}: {error}") from None
    return reference, Driving(points=canvas, scores=scores, fps=float(seen.fps), signals=_moved(seen, canvas, size, needs, spot)), note


def _reference(seen: Seen, size: tuple[int, int], needs: tuple[SignalName, ...], spot: SpotSignals) -> tuple[Reference, str]:
    photograph, (points, scores) = seen.photograph, seen.pose
    box, note = photograph_box(photograph.clip.width, photograph.clip.height, seen.pose, size)
    signals = Signals()
    if needs:
        found = spot.of_photograph(needs, photograph.clip, photograph.image, seen.pose, f"photograph {photograph.path}")
        signals = fit_signals(found, box, size)
    image = cut_photograph(photograph.image, box, size)
    return Reference(image=image, points=fit_points(points, box, size), scores=scores, signals=signals), note


def _driver(seen: Seen, names: tuple[SignalName, ...], needs: tuple[SignalName, ...], spot: SpotSignals) -> ClipSignals:
    return spot.of([name for name in needs if name in names], seen.clip, seen.frames, seen.motion, f"driving clip {seen.clip.uri}")


def _moved(seen: Seen, canvas: Points, size: tuple[int, int], needs: tuple[SignalName, ...], spot: SpotSignals) -> Signals:
    """The driver's signals where the retargeted points [N, 133, 2] put the driver."""
    if not needs:
        return Signals()
    points, scores = seen.motion[0][seen.followed], seen.motion[1][seen.followed]
    step = float(seen.clip.fps / seen.fps)
    found = _driver(seen, OF_MOTION, needs, spot)
    return retargeted_signals(found, seen.followed, points, canvas, scores, size, faces="faces" in needs, step=step)


# --- the method ------------------------------------------------------------------------------------------------------


def _settled(animator: Animator, chosen: Chosen, steps: int | None) -> Animator:
    """The animator with the settings of this call in its `config.sampling`; its own retargeting is off, for the poses come retargeted."""
    settled: Any = animator
    without_retargeting(settled)
    if steps is not None:
        sampling: Any = getattr(getattr(settled, "config", None), "sampling", None)
        if not hasattr(sampling, "steps"):
            raise UserError(f"--steps {steps}: {chosen.method} takes no steps; leave the option out")
        settled.config = replace(settled.config, sampling=replace(sampling, steps=steps))
    return animator


def _made(animator: Animator, reference: Reference, driving: Driving, seed: int, label: str, *, shown: bool) -> Iterator[Frames]:
    """The clip in pieces of a few frames."""
    steps = getattr(getattr(getattr(animator, "config", None), "sampling", None), "steps", 1)
    with closing(Progress(steps, "steps", label, shown=shown)) as bar:
        yield from animator.in_pieces(reference, driving, seed, lambda: bar.update(1))


def _beside(reference: Frames, driving: Driving, pieces: Iterable[Frames]) -> Iterator[Frames]:
    """Reference, driving pose and result, left to right."""
    done = 0
    for piece in pieces:
        until = done + len(piece)
        poses = draw_poses(driving.points[done:until], driving.scores[done:until], (piece.shape[1], piece.shape[2]))
        yield np.concatenate([np.broadcast_to(reference, piece.shape), poses, piece], axis=2)
        done = until
