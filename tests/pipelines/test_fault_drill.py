"""The drill at small size, and that its faults are what they are called."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from benchmarks.fault_drill.__main__ import drill, scan
from benchmarks.fault_drill.corpus import BEHAVIOURS, FAULTS, FILE_FAULTS, write_corpus
from pipelines.errors import ClipError
from pipelines.video import read_video


def test_there_are_thirty_ways_and_each_comes_before_any_comes_twice(tmp_path: Path) -> None:
    assert len(set(FAULTS)) == len(FAULTS) == len(FILE_FAULTS) + len(BEHAVIOURS) >= 30
    faults = write_corpus(tmp_path, 12, 3)
    assert sorted(filter(None, faults.values())) == sorted(FAULTS[:4])
    rows = scan(tmp_path, lambda text: None)
    assert {row["video_id"] for row in rows} == set(faults)
    codes = {faults[row["video_id"]]: row["code"] for row in rows}
    assert (codes[""], codes["zero_bytes"], codes["text"]) == (None, "empty_file", "not_a_video")


def test_a_damaged_stream_decodes_to_the_same_frames_every_time(tmp_path: Path) -> None:
    """With FFmpeg's threads the concealed frames of one in ten decodes were others."""
    write_corpus(tmp_path, 1, 2)
    damaged = _with_concealed_frames(next(tmp_path.glob("*.mp4")))
    assert len({read_video(damaged).tobytes() for _ in range(60)}) == 1


def _with_concealed_frames(path: Path) -> Path:
    """The file with a byte of its frames changed such that it still decodes, to other frames than before."""
    whole, before = path.read_bytes(), read_video(path).tobytes()
    for place in range(len(whole) // 4, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with contextlib.suppress(ClipError):
            if read_video(path).tobytes() != before:
                return path
    raise AssertionError("no byte of the file hides in a frame")


@pytest.mark.slow
def test_thirty_videos_under_fire_equal_thirty_in_peace(tmp_path: Path) -> None:
    assert drill(tmp_path, 30, 2, print).endswith("PASS")
