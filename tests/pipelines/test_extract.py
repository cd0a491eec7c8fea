"""Extraction in this process: what is missing is extracted, once; failures are rows; a kill loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.clip import Clip, Frames
from pipelines.errors import ClipError, UserError
from pipelines.extract import Extractor, Rows, _Commits, engine_named, extract
from pipelines.extract_worker import Result, Task
from pipelines.lake import Lake, digest_rows
from pipelines.progress import Progress
from pipelines.video import encode_video

FRAMES = 4


@dataclass
class Colour:
    """Writes each frame's mean colour as its first keypoint; `fails` says which clips do not go well."""

    name: str = "colour"
    version: int = 1
    tables: tuple[str, ...] = ("poses", "hands")
    digest: str = "d1"
    fails: dict[str, Exception] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def weights_digest(self) -> str:
        return self.digest

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        def run(clip: Clip, frames: Frames) -> Rows:
            self.seen.append(clip.clip_id)
            if clip.clip_id in self.fails:
                raise self.fails[clip.clip_id]
            means = frames.reshape(len(frames), -1, 3).mean(axis=1)
            poses: list[dict[str, Any]] = [{"keypoints": mean[:2].tolist(), "scores": [float(mean[2])]} for mean in means]
            return {"poses": poses, "hands": [{"valid": [True, False]} for _ in means]}

        return run


@pytest.fixture(scope="session")
def colour_clips(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Five clips of four frames, each a file of its own."""
    folder = tmp_path_factory.mktemp("colours")
    clips = []
    for index in range(5):
        path = folder / f"{index}.mp4"
        image = np.full((FRAMES, 32, 48, 3), 40 * index, np.uint8)
        encode_video(path, image, Fraction(25))
        span = {"start_frame": 0, "end_frame": FRAMES, "start_pts": None, "end_pts": None}
        shape = {"time_base": Fraction(1, 25), "fps": Fraction(25), "width": 48, "height": 32}
        clips.append(Clip(dataset="colours", clip_id=f"clip{index}", video_id=path.stem, uri=str(path), **span, **shape))
    return clips


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake").create()


def run(extractors: list[Extractor], clips: list[Clip], lake: Lake, **options: Any) -> Any:
    return extract(extractors, clips, lake, "serial", progress=False, **options)


def test_every_frame_becomes_a_row_of_every_table(colour_clips: list[Clip], lake: Lake) -> None:
    report = run([Colour()], colour_clips, lake)
    assert (report.clips, report.already_done, report.extracted, report.failed) == (5, 0, 5, 0)
    for table in ("poses", "hands"):
        keys = [(row["clip_id"], row["frame"]) for row in lake.rows(table)]
        assert keys == [(clip.clip_id, frame) for clip in colour_clips for frame in range(FRAMES)]
    reds = [row["keypoints"][0] for row in lake.rows("poses") if row["frame"] == 0]
    np.testing.assert_allclose(reds, [0, 40, 80, 120, 160], atol=3)
    assert lake.rows("poses")[0]["error"] is None


def test_a_second_run_does_nothing(colour_clips: list[Clip], lake: Lake) -> None:
    run([Colour()], colour_clips, lake)
    before, again = lake.version("poses"), Colour()
    report = run([again], colour_clips, lake)
    assert (report.already_done, report.extracted, again.seen) == (5, 0, [])
    assert lake.version("poses") == before


def test_only_missing_clips_run(colour_clips: list[Clip], lake: Lake) -> None:
    run([Colour()], colour_clips[:3], lake)
    again = Colour()
    run([again], colour_clips, lake)
    assert again.seen == ["clip3", "clip4"]


@pytest.mark.parametrize("change", [{"version": 2}, {"digest": "d2"}, {"name": "colour2"}])
def test_another_version_or_other_weights_are_missing_and_kept_apart(colour_clips: list[Clip], lake: Lake, change: dict[str, Any]) -> None:
    run([Colour()], colour_clips, lake)
    again = replace(Colour(), **change)
    run([again], colour_clips, lake)
    assert len(again.seen) == 5
    assert lake.read("poses").num_rows == 2 * 5 * FRAMES


def test_a_clip_is_decoded_once_for_all_extractors_that_miss_it(
    colour_clips: list[Clip], lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pipelines.clip_reader as reader

    run([Colour()], colour_clips[:2], lake)
    decoded, decode = [], reader.decode_frames
    monkeypatch.setattr(reader, "decode_frames", lambda clip: (decoded.append(clip.clip_id), decode(clip))[1])
    first, second = Colour(), Colour(name="other")
    run([first, second], colour_clips, lake)
    assert sorted(decoded) == [clip.clip_id for clip in colour_clips]
    assert first.seen == ["clip2", "clip3", "clip4"]
    assert len(second.seen) == 5


def test_one_bad_clip_is_a_row_and_stops_nothing(colour_clips: list[Clip], lake: Lake) -> None:
    fails = {"clip1": ClipError("no_person", "clip1", "nobody is there", "drop it"), "clip3": ZeroDivisionError("oh")}
    clips = [*colour_clips, replace(colour_clips[0], clip_id="gone", uri="/nowhere/gone.mp4")]
    report = run([Colour(fails=fails)], clips, lake)
    assert (report.extracted, report.failed) == (3, 3)
    for table in ("poses", "hands"):
        errors = {row["clip_id"]: (row["frame"], row["error"], row["reason"]) for row in lake.rows(table) if row["error"]}
        assert errors["clip1"] == (-1, "no_person", "nobody is there; drop it")
        assert errors["clip3"] == (-1, "extractor_failed", "ZeroDivisionError: oh")
        assert errors["gone"][:2] == (-1, "unreadable")
    assert all(row["keypoints"] is None for row in lake.rows("poses") if row["error"])
    assert run([Colour(fails=fails)], clips, lake).already_done == 6  # a failure is an answer


def test_failed_clips_run_again_when_asked_and_leave_no_error_behind(colour_clips: list[Clip], lake: Lake) -> None:
    run([Colour(fails={"clip1": ValueError("once")})], colour_clips, lake)
    again = Colour()
    report = run([again], colour_clips, lake, retry_failed=True)
    assert (again.seen, report.failed) == (["clip1"], 0)
    assert lake.read("poses").num_rows == 5 * FRAMES


def test_an_extractor_that_forgets_a_frame_fails_the_clip(colour_clips: list[Clip], lake: Lake) -> None:
    class Forgetful(Colour):
        def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
            inner = super().load(device)
            return lambda clip, frames: inner(clip, frames[:-1])

    report = run([Forgetful()], colour_clips[:1], lake)
    assert "3 rows for 4 frames" in report.failures[0][3]


def test_a_kill_between_two_commits_loses_and_repeats_nothing(
    colour_clips: list[Clip], lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Lake(tmp_path / "whole").create()
    run([Colour()], colour_clips, whole)

    class Killed(BaseException):
        pass

    write = Lake.write
    calls = []

    def killed_at_the_fourth(self: Lake, table: str, rows: Any, lineage: Any = None) -> int:
        calls.append(table)
        if len(calls) == 4:  # hands and poses of clip0 and hands of clip1 are in, poses of clip1 is not
            raise Killed
        return write(self, table, rows, lineage)

    monkeypatch.setattr("pipelines.extract._COMMIT_CLIPS", 1)
    monkeypatch.setattr(Lake, "write", killed_at_the_fourth)
    with pytest.raises(Killed):
        run([Colour()], colour_clips, lake)
    monkeypatch.setattr(Lake, "write", write)
    assert (lake.read("hands").num_rows, lake.read("poses").num_rows) == (2 * FRAMES, FRAMES)
    again = Colour()
    run([again], colour_clips, lake)
    assert again.seen == ["clip1", "clip2", "clip3", "clip4"]
    for table in ("poses", "hands"):
        assert digest_rows(table, lake.read(table)) == digest_rows(table, whole.read(table))


def test_half_a_clip_that_fails_the_second_time_keeps_no_frames(colour_clips: list[Clip], lake: Lake) -> None:
    run([Colour()], colour_clips[:1], lake)
    import pyarrow.compute as pc

    lake.delete("poses", pc.field("frame") >= 0)  # as a kill between the two commits would leave it
    run([Colour(fails={"clip0": ValueError("now it fails")})], colour_clips[:1], lake)
    assert [row["frame"] for row in lake.rows("hands")] == [-1]
    assert [row["frame"] for row in lake.rows("poses")] == [-1]


def test_ctrl_c_keeps_what_is_finished(colour_clips: list[Clip], lake: Lake) -> None:
    class Interrupted(Colour):
        def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
            inner = super().load(device)

            def run(clip: Clip, frames: Frames) -> Rows:
                if clip.clip_id == "clip2":
                    raise KeyboardInterrupt
                return inner(clip, frames)

            return run

    with pytest.raises(KeyboardInterrupt):
        run([Interrupted()], colour_clips, lake)
    assert lake.read("poses").num_rows == 2 * FRAMES


def test_commits_are_made_every_32_clips_or_20_seconds(monkeypatch: pytest.MonkeyPatch, lake: Lake, colour_clips: list[Clip]) -> None:
    now = [0.0]
    flushed = []
    monkeypatch.setattr("pipelines.extract.time.monotonic", lambda: now[0])
    commits = _Commits(lake, {})
    monkeypatch.setattr(commits, "flush", lambda: flushed.append(now[0]))
    now[0] = 19.9
    commits.flush_if_due()
    assert flushed == []
    now[0] = 20.0
    commits.flush_if_due()
    assert flushed == [20.0]
    now[0], commits._last = 21.0, 20.0
    for _ in range(32):
        commits.flush_if_due()
        commits.add(Result(task=Task(clip=colour_clips[0], extractors=("colour",)), rows={}, failures={}))
    assert flushed == [20.0]
    commits.flush_if_due()
    assert flushed == [20.0, 21.0]


def test_workers_with_other_weights_than_the_driver_are_refused(colour_clips: list[Clip], lake: Lake) -> None:
    class Drifting(Colour):
        def weights_digest(self) -> str:
            self.digest += "x"
            return self.digest

    with pytest.raises(UserError, match="other weights than the driver"):
        run([Drifting()], colour_clips, lake)


def test_an_unknown_engine_lists_the_engines() -> None:
    with pytest.raises(UserError, match="ray, serial"):
        engine_named("threads")


def test_progress_says_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [100.0]
    monkeypatch.setattr("pipelines.progress.time.monotonic", lambda: now[0])
    progress = Progress(40, "clips", "extract")
    now[0] = 109.0
    progress.update(9)
    assert capsys.readouterr().err == ""  # at most a line every ten seconds
    now[0] = 110.0
    progress.update(1)
    assert capsys.readouterr().err == "extract: 10/40 clips, 1 clips/s, 30 s left\n"
