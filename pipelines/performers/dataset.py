"""A data set of performers: mp4 files with their truth beside them, split by identity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipelines.errors import UserError
from pipelines.performers.performer import identity_name, perform
from pipelines.performers.truth import Truth, truth_path
from pipelines.video import encode_video

FPS = Fraction(24)


@dataclass(frozen=True, kw_only=True, slots=True)
class PerformerVideo:
    """One video of the data set."""

    path: Path
    subject: str  # identity, e.g. "performer_0007"
    split: str  # "train" or "test", the same for all videos of a subject
    identity: int  # seeds of `perform`
    motion: int
    background: int


def _plan(folder: Path, name: str, identities: Sequence[int], split: str, clips: int, seed: int) -> list[PerformerVideo]:
    """The videos of a split; motions and backgrounds follow from (seed, identity, clip)."""
    videos = []
    for identity in identities:
        for clip in range(clips):
            motion, background = (int(s) for s in np.random.SeedSequence([seed, identity, clip]).generate_state(2) % (1 << 30))
            videos.append(
                PerformerVideo(
                    path=folder / f"{name}_{identity:04d}_{clip:02d}.mp4",
                    subject=identity_name(identity),
                    split=split,
                    identity=identity,
                    motion=motion,
                    background=background,
                )
            )
    return videos


def _comment(video: PerformerVideo, frames: int, size: int) -> str:
    seeds = f"identity {video.identity} motion {video.motion} background {video.background}"
    return f"synthetic performer; {seeds} frames {frames} size {size}"


def _is_complete(video: PerformerVideo, frames: int, size: int) -> bool:
    """Both files are there and were made from these seeds at this size."""
    import av

    try:
        truth = Truth.load(truth_path(video.path))
        with av.open(str(video.path)) as container:
            written = container.metadata.get("comment")
    except (OSError, KeyError, ValueError, EOFError, BadZipFile):
        return False
    return truth.mask.shape == (frames, size, size) and written == _comment(video, frames, size)


def _write(video: PerformerVideo, frames: int, size: int) -> None:
    """Truth first: a video is only ever there with its truth."""
    performance = perform(video.identity, video.motion, frames=frames, size=size, fps=FPS, background=video.background)
    performance.truth.save(truth_path(video.path))
    encode_video(video.path, performance.frames, FPS, comment=_comment(video, frames, size))


def write_dataset(
    folder: Path,
    *,
    name: str = "performers_dance",
    identities: Sequence[int],
    test_identities: Sequence[int],
    clips_per_identity: int,
    frames: int,
    size: int = 128,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[PerformerVideo]:
    """Write `<folder>/<name>_<identity>_<clip>.mp4` and its `.truth.npz` for everybody; what is complete is kept.

    identities, test_identities: seeds of the people of the two splits; nobody may be in both.
    progress: called with (videos done, videos in all) after each video.
    Raises UserError when the splits share a person or nothing is asked for.
    """
    shared = sorted(set(identities) & set(test_identities))
    if shared:
        raise UserError(f"identities {shared[:5]} are in both splits, so test people would be trained on; give each one split")
    if clips_per_identity < 1 or not (identities or test_identities):
        raise UserError("the data set would be empty: give at least one identity and clips_per_identity of at least 1")
    videos = _plan(folder, name, identities, "train", clips_per_identity, seed) + _plan(
        folder, name, test_identities, "test", clips_per_identity, seed
    )
    for done, video in enumerate(videos, start=1):
        if not _is_complete(video, frames, size):
            _write(video, frames, size)
        if progress is not None:
            progress(done, len(videos))
    return videos
