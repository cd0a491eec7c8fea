"""Broken media in a process that can be killed: crashes and hangs are errors of one file."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzz_media import codes_of, extract_all, rows_of_all, seed_files, write_fuzzed
from pipelines.errors import ClipError, UserError
from pipelines.guarded import GuardedProcess, guarded_probe, guarded_split
from pipelines.split import SplitRule, split_video
from pipelines.video import encode_video, probe


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / 'it\'s "good"\n é.mp4'
    encode_video(path, np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), dtype=np.uint8), Fraction(25))
    return path


def test_the_child_says_what_the_functions_say(good: Path, tmp_path: Path) -> None:
    info = guarded_probe(good)
    assert info == probe(good)
    video = {"dataset": "d", "video_id": good.name, "uri": str(good), "sha256": "s", "split": None, "subject": None, "frames": info.frames,
             "width": info.width, "height": info.height, "fps_num": 25, "fps_den": 1,
             "time_base_num": info.time_base.numerator, "time_base_den": info.time_base.denominator}  # fmt: skip
    assert guarded_split(video, good, SplitRule()) == split_video(video, good, SplitRule())
    empty = tmp_path / "empty.mp4"
    empty.touch()
    with pytest.raises(ClipError) as here:
        probe(empty)
    with pytest.raises(ClipError) as there:
        guarded_probe(empty)
    assert here.value.args == there.value.args


CHILD = """
import json, os, sys, time
for line in sys.stdin:
    path = json.loads(line)["path"]
    if "crash" in path: os.abort()
    if "hang" in path: time.sleep(60)
    if "user" in path: print(json.dumps({"user_error": "no"}), flush=True); continue
    print(json.dumps({"ok": path}), flush=True)
"""


@pytest.fixture
def moody() -> Iterator[GuardedProcess]:
    process = GuardedProcess([sys.executable, "-c", CHILD])
    yield process
    process.close()


@pytest.mark.parametrize(("path", "code"), [("crash", "worker_died"), ("hang", "timeout")])
def test_a_child_that_crashes_or_hangs_is_replaced(moody: GuardedProcess, path: str, code: str) -> None:
    assert moody.ask({"path": "first"}, "x", 20) == "first"
    with pytest.raises(ClipError) as caught:
        moody.ask({"path": path}, "the file", 0.5 if code == "timeout" else 20)
    assert (caught.value.code, caught.value.subject) == (code, "the file")
    assert moody.ask({"path": "next"}, "x", 20) == "next"
    with pytest.raises(UserError):
        moody.ask({"path": "user"}, "x", 20)


def test_seeds_are_good_and_mutations_repeatable(tmp_path: Path) -> None:
    for suffix, data in seed_files().items():
        path = tmp_path / f"seed.{suffix}"
        path.write_bytes(data)
        assert probe(path).frames == 10
    first, second = ([path.read_bytes() for path in write_fuzzed(tmp_path / name, 20)] for name in "ab")
    assert first == second
    assert len(set(first)) == 20


def test_sixty_fuzzed_files_have_their_rows(tmp_path: Path) -> None:
    rows = rows_of_all(write_fuzzed(tmp_path / "media", 60))
    assert len(rows) == 60
    codes = list(codes_of(rows))
    assert "ok" in codes  # some mutations leave a video
    assert len(set(codes)) >= 3
    report = extract_all(rows, tmp_path / "lake", "serial")
    assert report.clips == sum(row["status"] == "ok" for held in rows.values() for row in held)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_thousand_fuzzed_files_have_their_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray import cloudpickle

    import benchmarks.fuzz_media
    from pipelines.engine import RayEngine

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    cloudpickle.register_pickle_by_value(benchmarks.fuzz_media)
    rows = rows_of_all(write_fuzzed(tmp_path / "media", 1000))
    assert len(rows) == 1000
    with tempfile.TemporaryDirectory(prefix="rf", ignore_cleanup_errors=True) as folder:
        engine: Any = RayEngine(num_cpus=2, temp_dir=Path(folder))
        extract_all(rows, tmp_path / "lake", engine)
