"""A data set of performers: mp4 files with their truth beside them, split by identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipelines.code_version import code_version
from pipelines.errors import UserError
from pipelines.performers.performer import identity_name
from pipelines.performers.recipe import Recipe, film, shots
from pipelines.performers.truth import Truth, truth_path
from pipelines.video import encode_video

Size = int | tuple[int, int]
"""Side of a square frame, or (height, width), px."""

# Others in a scene with several persons: people who are nobody's main person, of the split's own.
_EXTRAS = {"train": range(900, 1000), "test": range(1900, 2000)}


@dataclass(frozen=True, kw_only=True, slots=True)
class PerformerVideo:
    """One video of the data set."""

    path: Path
    subject: str  # identity, e.g. "performer_0007"
    split: str  # "train" or "test", the same for all videos of a subject
    identity: int  # seeds of `perform`
    motion: int
    background: int
    action: str | None = None  # the class, where the data set has classes
    extras: tuple[int, ...] = ()  # identities of the others in the scene


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """What every video of a call has in common."""

    recipe: Recipe
    frames: int
    size: Size
    seed: int

    def comment(self, video: PerformerVideo) -> str:
        """Written into the mp4: a video is complete when it says what it would say now."""
        seeds = f"identity {video.identity} motion {video.motion} background {video.background} extras {video.extras}"
        shape = f"frames {self.frames} size {self.size} action {video.action} {self.recipe}"
        return f"synthetic performer {code_version('pipelines/performers')}; {seeds} {shape}"


def _plan(folder: Path, name: str, identities: Sequence[int], split: str, clips: int, job: _Job) -> list[PerformerVideo]:
    """The videos of a split; motions and backgrounds follow from (seed, identity, clip), classes go round."""
    videos = []
    classes, count = job.recipe.classes, job.recipe.persons - 1
    for place, identity in enumerate(identities):
        for clip in range(clips):
            motion, background = (int(s) for s in np.random.SeedSequence([job.seed, identity, clip]).generate_state(2) % (1 << 30))
            extras = np.random.default_rng([motion, 0x07E5]).choice(_EXTRAS[split], size=count, replace=False)
            videos.append(
                PerformerVideo(
                    path=folder / f"{name}_{identity:04d}_{clip:02d}.mp4",
                    subject=identity_name(identity),
                    split=split,
                    identity=identity,
                    motion=motion,
                    background=background,
                    action=classes[(place * clips + clip) % len(classes)] if classes else None,
                    extras=tuple(int(who) for who in extras),
                )
            )
    return videos


def _is_complete(video: PerformerVideo, job: _Job) -> bool:
    """Both files are there and were made by this code from these seeds at this size."""
    import av

    height, width = (job.size, job.size) if isinstance(job.size, int) else job.size
    try:
        truth = Truth.load(truth_path(video.path))
        with av.open(str(video.path)) as container:
            written = container.metadata.get("comment")
    except (OSError, KeyError, ValueError, EOFError, BadZipFile):
        return False
    return truth.iuv.shape == (job.frames, height, width, 3) and written == job.comment(video)


def _write(video: PerformerVideo, job: _Job) -> None:
    """Truth first: a video is only ever there with its truth."""
    made = film(
        job.recipe,
        video.identity,
        video.motion,
        video.background,
        frames=job.frames,
        size=job.size,
        action=video.action,
        extras=video.extras,
    )
    made.truth.save(truth_path(video.path))
    encode_video(video.path, made.frames, Fraction(job.recipe.fps), comment=job.comment(video))


def write_dataset(
    folder: Path,
    *,
    name: str = "performers_dance",
    identities: Sequence[int],
    test_identities: Sequence[int],
    clips_per_identity: int,
    frames: int,
    size: Size = 128,
    seed: int = 0,
    recipe: Recipe | None = None,
    skip: Callable[[PerformerVideo], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[PerformerVideo]:
    """Write `<folder>/<name>_<identity>_<clip>.mp4` and its `.truth.npz` for everybody; what is complete is kept.

    identities, test_identities: seeds of the people of the two splits; nobody may be in both.
    recipe: what they do and how it is filmed; None = a dance.  skip: videos that are returned, but not drawn.
    progress: called with (videos done, videos in all) after each video.
    Raises UserError when the splits share a person, nothing is asked for, or the shots would be empty.
    """
    shared = sorted(set(identities) & set(test_identities))
    if shared:
        raise UserError(f"identities {shared[:5]} are in both splits, so test people would be trained on; give each one split")
    if clips_per_identity < 1 or not (identities or test_identities):
        raise UserError("the data set would be empty: give at least one identity and clips_per_identity of at least 1")
    job = _Job(recipe=recipe or Recipe(), frames=frames, size=size, seed=seed)
    try:
        shots(frames, job.recipe.cuts)
    except ValueError as error:
        raise UserError(f"{error}; give more frames or fewer cuts") from None
    videos = _plan(folder, name, identities, "train", clips_per_identity, job)
    videos += _plan(folder, name, test_identities, "test", clips_per_identity, job)
    for done, video in enumerate(videos, start=1):
        if not (skip is not None and skip(video)) and not _is_complete(video, job):
            _write(video, job)
        if progress is not None:
            progress(done, len(videos))
    return videos
