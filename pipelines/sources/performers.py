"""The synthetic people: videos drawn by code into the lake, with exact ground truth beside each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.performers import write_dataset
from pipelines.sources.scan import scan_file

# The demo's data set: people of the test split are never seen in training.
DEMO_OPTIONS: dict[str, Any] = {
    "train_identities": 14,
    "test_identities": 4,
    "train_clips": 2,  # per identity
    "test_clips": 1,
    "frames": 36,
    "size": 128,
    "seed": 0,
}

_FIRST_TEST_IDENTITY = 1000  # far from every training identity, however many there are


def scan_performers(
    lake: Lake, name: str, options: Mapping[str, Any], progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Draw what is missing and give one row of `videos` per clip; `options` as DEMO_OPTIONS. Raises UserError for unknown ones."""
    unknown = sorted(set(options) - set(DEMO_OPTIONS))
    if unknown:
        raise UserError(f"data set {name}: no option {unknown[0]!r}; there are: {', '.join(DEMO_OPTIONS)}")
    chosen = {**DEMO_OPTIONS, **options}
    train = range(chosen["train_identities"])
    test = range(_FIRST_TEST_IDENTITY, _FIRST_TEST_IDENTITY + chosen["test_identities"])
    same = {"folder": lake.root / "videos" / name, "name": name, "frames": chosen["frames"], "size": chosen["size"], "seed": chosen["seed"]}
    counts = len(train) * chosen["train_clips"], len(test) * chosen["test_clips"]

    def counted(before: int) -> Callable[[int, int], None]:
        return lambda done, _: progress(before + done, sum(counts)) if progress is not None else None

    videos = write_dataset(
        **same, identities=train, test_identities=[], clips_per_identity=chosen["train_clips"], progress=counted(0)
    ) + write_dataset(**same, identities=[], test_identities=test, clips_per_identity=chosen["test_clips"], progress=counted(counts[0]))
    lake.put(same["folder"])
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
