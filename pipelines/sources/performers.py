"""The synthetic people: videos drawn by code into the lake, with exact ground truth beside each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.lake import Lake
from pipelines.performers import write_dataset
from pipelines.sources.scan import scan_file

# The demo's data set: people of the test split are never seen in training.
DEMO_OPTIONS: dict[str, Any] = {"train_identities": 14, "test_identities": 4, "clips_per_identity": 2, "frames": 48, "size": 128, "seed": 0}

_FIRST_TEST_IDENTITY = 1000  # far from every training identity, however many there are


def scan_performers(
    lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Draw what is missing and give one row of `videos` per clip; `options` as DEMO_OPTIONS."""
    chosen = {**DEMO_OPTIONS, **options}
    test = range(_FIRST_TEST_IDENTITY, _FIRST_TEST_IDENTITY + chosen["test_identities"])
    videos = write_dataset(
        lake.root / "videos" / name,
        name=name,
        identities=range(chosen["train_identities"]),
        test_identities=list(test),
        clips_per_identity=chosen["clips_per_identity"],
        frames=chosen["frames"],
        size=chosen["size"],
        seed=chosen["seed"],
        progress=progress,
    )
    return [
        scan_file(
            lake,
            video.path,
            dataset=name,
            video_id=video.path.name,
            split=video.split,
            subject=video.subject,
            licence="Apache-2.0 (drawn by Rotoscope)",
            terms_accepted=True,
        )
        for video in videos
    ]
