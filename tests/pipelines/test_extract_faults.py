"""Extraction when memory, time, the disk or an extractor runs out; and what a worker holds in memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipelines.clip_reader as reader
from pipelines.clip import Clip, Frames
from pipelines.clip_reader import ClipReader, read_frames
from pipelines.errors import UserError
from pipelines.extract import Rows, extract
from pipelines.extract_worker import Task, Worker, WorkerSpec, from_ipc
from pipelines.full_disk import is_disk_full
from pipelines.lake import Lake, digest_rows
from pipelines.micro_batch import MicroBatch, is_out_of_memory
from pipelines.video import decode_frames, encode_video

FRAMES = 12


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("noise") / "noise.mp4"
    encode_video(path, np.random.default_rng(0).integers(0, 256, (FRAMES, 32, 48, 3), dtype=np.uint8), Fraction(25))
    span: dict[str, Any] = {"start_frame": 0, "end_frame": FRAMES, "start_pts": None, "end_pts": None}
    shape: dict[str, Any] = {"time_base": Fraction(1, 25), "fps": Fraction(25), "width": 48, "height": 32}
    return Clip(dataset="noise", clip_id="noise", video_id="noise", uri=str(path), **span, **shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class Hungry:
    """Mean colours in batches; a batch of more than `most` frames does not fit."""

    most: int = 1 << 30
    batch_frames: int = 8
    name: str = "hungry"
    version: int = 1
    tables: tuple[str, ...] = ("poses",)
    sizes: list[int] = field(default_factory=list)

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        def run(clip: Clip, frames: Frames) -> Rows:
            rows = []
            for start in range(0, len(frames), self.batch_frames):
                part = frames[start : start + self.batch_frames]
                self.sizes.append(len(part))
                if len(part) > self.most:
                    raise OutOfMemoryError("CUDA out of memory")
                rows += [{"keypoints": mean.tolist()} for mean in part.reshape(len(part), -1, 3).mean(axis=1)]
            return {"poses": rows}

        return run


class OutOfMemoryError(RuntimeError):
    """As torch's: known by its name."""


def _rows(extractor: Any, clips: list[Clip]) -> tuple[Any, Any]:
    worker = Worker(WorkerSpec(extractors=(extractor,), digests={extractor.name: ""}))
    worker.load()
    results = [worker.run(Task(clip=clip, extractors=(extractor.name,))) for clip in clips]
    return [from_ipc(result.rows[extractor.tables[0]]) for result in results], results


def test_rows_are_the_same_whatever_fits_and_one_frame_too_many_is_a_row(noise: Clip) -> None:
    whole, _ = _rows(Hungry(), [noise])
    for most in (1, 3, 5):
        extractor = Hungry(most=most)
        halved, _ = _rows(extractor, [noise])
        assert digest_rows("poses", halved[0]) == digest_rows("poses", whole[0])
        assert extractor.batch_frames == 8  # the caller's stays as it was
    _, (result,) = _rows(Hungry(most=0), [noise])
    assert result.failures["hungry"][0] == "out_of_memory"
    assert from_ipc(result.rows["poses"])["error"].to_pylist() == ["out_of_memory"]


def test_a_batch_grows_back_and_never_over_its_full_size() -> None:
    extractor = Hungry(batch_frames=8)
    batch = MicroBatch(extractor)
    assert [batch.shrink() for _ in range(4)] == [True, True, True, False]
    sizes = []
    for _ in range(40):
        batch.went_well()
        sizes.append(batch.frames)
    assert sorted(set(sizes)) == [1, 2, 4, 8]
    assert sizes == sorted(sizes)
    assert sizes.count(2) == sizes.count(4) == 8


def test_memory_errors_are_known_by_type_name_or_words() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(OutOfMemoryError("x"))
    assert is_out_of_memory(RuntimeError("Failed to allocate memory for requested buffer of size 12"))
    assert not is_out_of_memory(ValueError("Failed to allocate memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


# --- sparse tables ---------------------------------------------------------------------------------------------------


@dataclass
class Words:
    """Captions at the frames it is told."""

    frames: list[Any]
    name: str = "words"
    version: int = 1
    tables: tuple[str, ...] = ("captions",)

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        return lambda clip, frames: {"captions": [{"frame": frame, "caption": f"at {frame}"} for frame in self.frames]}


def test_sparse_rows_keep_the_frames_that_they_name(noise: Clip, tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    extract([Words([0, 8])], [noise], lake, "serial", progress=False)
    assert [(row["frame"], row["caption"]) for row in lake.rows("captions")] == [(0, "at 0"), (8, "at 8")]
    assert extract([Words([0, 8])], [noise], lake, "serial", progress=False).already_done == 1


@pytest.mark.parametrize("frames", [[], [1], [0, 8, 4], [0, 0], [0, FRAMES], [0, None]])
def test_sparse_rows_without_a_first_frame_or_out_of_order_fail_the_clip(noise: Clip, frames: list[Any]) -> None:
    _, (result,) = _rows(Words(frames), [noise])
    code, reason = result.failures["words"]
    assert code == "extractor_failed"
    assert "must name rising frames of 0 to 11" in reason


@dataclass
class Corners:
    """The corners of the frames that it was given."""

    name: str = "corners"
    version: int = 1
    tables: tuple[str, ...] = ("poses",)

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        return lambda clip, frames: {"poses": [{"keypoints": [0.0, 0.0, frames.shape[2], frames.shape[1]]} for _ in frames]}


def test_rows_of_a_cropped_clip_are_in_pixels_of_the_full_frame(noise: Clip) -> None:
    (rows,), _ = _rows(Corners(), [replace(noise, crop=(10, 4, 20, 16), width=20, height=16)])
    assert rows["keypoints"].to_pylist() == [[10.0, 4.0, 30.0, 20.0]] * FRAMES


# --- time ------------------------------------------------------------------------------------------------------------


@dataclass
class Sleeper:
    """Hangs on clips whose id says so, whatever it catches."""

    name: str = "sleeper"
    version: int = 1
    tables: tuple[str, ...] = ("poses",)

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        def run(clip: Clip, frames: Frames) -> Rows:
            while clip.clip_id.startswith("hangs"):
                with contextlib.suppress(Exception):  # what a careless extractor does
                    time.sleep(60)
            return {"poses": [{} for _ in frames]}

        return run


def test_the_serial_engine_stops_a_clip_that_hangs(noise: Clip, tmp_path: Path) -> None:
    lake = Lake(tmp_path).create()
    clips = [replace(noise, clip_id=name) for name in ("a", "hangs", "z")]
    started = time.monotonic()
    report = extract([Sleeper()], clips, lake, "serial", progress=False, time_limit_s=0.5)
    assert time.monotonic() - started < 20
    assert [(clip, code) for clip, _, code, _ in report.failures] == [("hangs", "timeout")]
    assert report.extracted == 2


# --- reading ahead ---------------------------------------------------------------------------------------------------


def test_one_clip_is_decoded_ahead_and_not_two(noise: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    def decode(clip: Clip) -> Frames:
        started.append(clip.clip_id)
        return np.zeros((1, 1, 1, 3), np.uint8)

    monkeypatch.setattr(reader, "decode_frames", decode)
    clips = [replace(noise, clip_id=name) for name in "abc"]
    ahead = ClipReader()
    for clip in clips:
        ahead.announce(clip)
    deadline = time.monotonic() + 5
    while started != ["a"] and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert started == ["a"]
    ahead.take(clips[0])
    ahead.take(clips[2])  # out of turn: b is dropped from memory, and read again when it is asked for
    ahead.take(clips[1])
    assert started[0] == "a"
    assert set(started) == {"a", "b", "c"}


def test_what_decoding_raises_ahead_is_raised_where_the_clip_is_taken(noise: Clip) -> None:
    gone = replace(noise, clip_id="gone", uri="/nowhere/gone.mp4")
    ahead = ClipReader()
    ahead.announce(gone)
    with pytest.raises(Exception, match=r"gone"):
        ahead.take(gone)
    np.testing.assert_array_equal(ahead.take(noise), decode_frames(noise))


def test_a_clip_over_the_bound_is_mapped_and_equal(noise: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(reader, "_CHUNK_BYTES", 5 * 32 * 48 * 3)
    mapped = read_frames(noise)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, decode_frames(noise))


def test_threads_of_the_reader_do_not_keep_the_process(noise: Clip) -> None:
    ahead = ClipReader()
    ahead.announce(noise)
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("decode "))
    ahead.take(noise)


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_with_its_name_and_the_second_run_goes_on(noise: Clip, small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.extract._COMMIT_CLIPS", 1)
    lake = Lake(small_disk / "lake").create()
    clips = [replace(noise, clip_id=f"c{i}") for i in range(6)]
    ballast = small_disk / "ballast"

    @dataclass
    class Filling:
        name: str = "hungry"
        version: int = 1
        tables: tuple[str, ...] = ("poses",)

        def weights_digest(self) -> str:
            return ""

        def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
            plain = Hungry().load(device)

            def run(clip: Clip, frames: Frames) -> Rows:
                if clip.clip_id == "c3" and not ballast.exists():
                    _fill(ballast)
                return plain(clip, frames)

            return run

    with pytest.raises(UserError, match=r"disk is full.*small/lake.*run the same command again"):
        extract([Filling()], clips, lake, "serial", progress=False)
    done = {row["clip_id"] for row in lake.rows("poses")}
    assert done == {"c0", "c1", "c2"}
    ballast.write_bytes(b"")
    report = extract([Filling()], clips, lake, "serial", progress=False)
    assert (report.already_done, report.extracted) == (3, 3)
    whole = Lake(small_disk.parent / "whole").create()
    extract([Filling()], clips, whole, "serial", progress=False)
    assert digest_rows("poses", lake.read("poses")) == digest_rows("poses", whole.read("poses"))


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        with pytest.raises(OSError) as caught:  # noqa: PT011, PT012  # the disk ends it
            while True:
                file.write(bytes(4096))
    assert is_disk_full(caught.value)


def test_other_errors_are_no_full_disk() -> None:
    assert not is_disk_full(OSError(13, os.strerror(13)))
    assert is_disk_full(RuntimeError("Generic LocalFileSystem error: No space left on device (os error 28)"))
