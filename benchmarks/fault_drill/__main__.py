"""`python -m benchmarks.fault_drill`: 300 videos, one in ten broken in its own way, run once in peace and once under fire.

Under fire: a node of a two-node Ray cluster leaves, workers are killed at random, the disk of the lake fills up, the driver is
killed with signal 9; after each stop the same command is run again. Then the tables must equal those of the run in peace, every
failure must have its row, and no clip whose rows were committed may have been extracted again. Servers that fail (HTTP, S3) have
drills of their own in tests/; `--lake` takes any root that pipelines.lake.Lake takes, so that the same drill runs against them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fault_drill.corpus import BEHAVIOURS, write_corpus
from pipelines.errors import CODES, ClipError
from pipelines.guarded import guarded_probe, guarded_split
from pipelines.lake import Lake, digest_rows
from pipelines.split import SplitRule

TABLES = ("clip_embeddings", "poses")
_SMALL_DISK_MB = 48
_PROBE_LIMIT_S = 8.0
_SAY_EVERY_S = 10.0


def scan(folder: Path, show: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows of clips, or one failed row, for every file."""
    rows: list[dict[str, Any]] = []
    names = sorted(name for name in os.listdir(folder) if name.endswith(".mp4"))
    for number, name in enumerate(names):
        rows += _rows_of(folder / name)
        if number % 50 == 49:
            show(f"{number + 1} of {len(names)} videos looked into")
    return rows


def _rows_of(path: Path) -> list[dict[str, Any]]:
    row = {"dataset": "drill", "video_id": path.name, "uri": str(path), "sha256": path.name, "split": None, "subject": None}
    try:
        info = guarded_probe(path, limit_s=_PROBE_LIMIT_S)
        video = {**row, "frames": info.frames, "width": info.width, "height": info.height, "fps_num": info.fps.numerator,
                 "fps_den": info.fps.denominator, "time_base_num": info.time_base.numerator,
                 "time_base_den": info.time_base.denominator}  # fmt: skip
        return guarded_split(video, path, SplitRule(min_frames=1))
    except ClipError as error:
        return [{**row, "status": "failed", "code": error.code, "reason": error.reason}]


# --- runs ------------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """One lake that drivers fill, with the log of what their extractors did."""

    lake: str
    log: Path
    clips: Path
    temp: Path
    environment: dict[str, str] = field(default_factory=dict)
    show: Callable[[str], None] = print
    repeated: set[str] = field(default_factory=set)  # clips that were extracted although their rows were committed

    def start(self) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | self.environment
        command = [sys.executable, "-m", "benchmarks.fault_drill.drilled", str(self.clips), self.lake, str(self.log), str(self.temp)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def until_done(self, disturb: Callable[[subprocess.Popen[str], Run], None] | None = None) -> dict[str, Any]:
        """One driver with its disturbance; what it printed, or {"killed": signal}."""
        before, lines = committed(self.lake), len(self.lines())
        process = self.start()
        thread = threading.Thread(target=disturb, args=(process, self), daemon=True) if disturb else None
        if thread:
            thread.start()
        out, err = self._waited(process)
        if thread:
            thread.join()
        self.repeated |= before & {words[1] for words in self.lines()[lines:] if words[0] == "start"}
        if process.returncode < 0:
            return {"killed": -process.returncode}
        assert process.returncode in (0, 1, 2), err[-4000:]
        answer: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
        return answer

    def _waited(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        """What it printed; says now and then how far it is."""
        while True:
            try:
                return process.communicate(timeout=_SAY_EVERY_S)
            except subprocess.TimeoutExpired:
                self.show(f"  {sum(words[0] == 'end' for words in self.lines())} clips went through the extractor")

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []


def committed(lake: str) -> set[str]:
    """Clips that every table holds."""
    if "://" not in lake and not (Path(lake) / "delta").exists():
        return set()
    return set.intersection(*({row["clip_id"] for row in Lake(lake).rows(table, columns=["clip_id"])} for table in TABLES))


# --- disturbances ----------------------------------------------------------------------------------------------------


def kill_workers(harmless: set[str], most: int) -> Callable[[subprocess.Popen[str], Run], None]:
    """Signal 9 to a random worker every second or so, never twice on one clip: two deaths are a verdict on the clip."""
    chance = random.Random(0)

    def disturb(process: subprocess.Popen[str], run: Run) -> None:
        done, first = 0, len(run.lines())  # process numbers of earlier runs may be somebody else's by now
        while process.poll() is None and done < most:
            time.sleep(chance.uniform(0.3, 1.5))
            running = _running(run.lines()[first:], harmless)
            if running and process.poll() is None:
                clip = chance.choice(sorted(running))
                done += _kill(running[clip], lambda clip=clip: clip in _running(run.lines()[first:], harmless))  # type: ignore[misc]

    return disturb


def _running(lines: list[list[str]], harmless: set[str]) -> dict[str, int]:
    """Process by clip, of harmless clips that started for the first time and did not end."""
    starts = Counter(words[1] for words in lines if words[0] == "start")
    ended = {words[1] for words in lines if words[0] == "end"}
    return {w[1]: int(w[2]) for w in lines if w[0] == "start" and w[1] in harmless - ended and starts[w[1]] == 1}


def _kill(pid: int, still: Callable[[], bool]) -> int:
    """Stop it, look whether it is `still` at that clip, then kill it: otherwise the next clip, perhaps on its second try, would be hit."""
    try:
        os.kill(pid, signal.SIGSTOP)
        hit = still()
        os.kill(pid, signal.SIGKILL if hit else signal.SIGCONT)
    except ProcessLookupError:
        return 0
    return int(hit)


def after(clips: int, act: Callable[[subprocess.Popen[str]], None]) -> Callable[[subprocess.Popen[str], Run], None]:
    """Act once when so many clips were finished in this run."""

    def disturb(process: subprocess.Popen[str], run: Run) -> None:
        first = len(run.lines())
        while process.poll() is None and sum(words[0] == "end" for words in run.lines()[first:]) < clips:
            time.sleep(0.1)
        if process.poll() is None:
            act(process)

    return disturb


def fill(ballast: Path) -> None:
    """Take all that is left of a disk."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                pass
        except OSError:
            return


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system of its own for the lake; False where mounting is not permitted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL_DISK_MB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for a while. A Ray that runs in this process later reads its own again, so they are put back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def two_nodes(temp: Path) -> Iterator[tuple[str, Callable[[subprocess.Popen[str]], None]]]:
    """(address, function that removes the second node) of a cluster of two nodes with one CPU each."""
    from ray.cluster_utils import Cluster

    (temp / "ray").mkdir(parents=True)  # Cluster notes its address in $RAY_TMPDIR/ray, which only ray.init makes
    with environment(RAY_TMPDIR=str(temp)):
        with environment(RAY_AUTH_MODE="disabled"):  # no token: the cluster is on this machine and ends with the drill
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "temp_dir": str(temp), "include_dashboard": False})
            leaving = cluster.add_node(num_cpus=1)
        try:
            yield cluster.address, lambda _: cluster.remove_node(leaving, allow_graceful=False)
        finally:
            cluster.shutdown()


# --- the drill -------------------------------------------------------------------------------------------------------


def under_fire(run: Run, harmless: set[str], clips: int, show: Callable[[str], None], disk: Path | None) -> None:
    """All disturbances, one after the other, until a run ends by itself."""
    share = max(2, clips // 6)
    with two_nodes(run.temp / "c") as (address, remove):
        run.environment = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"}

        def lose_node_then_die(process: subprocess.Popen[str], run: Run) -> None:
            after(share, remove)(process, run)
            after(share, lambda victim: victim.kill())(process, run)

        show(f"a node leaves, then the driver is killed: {run.until_done(lose_node_then_die)}")
    run.environment = {}
    if disk is not None:
        ballast = disk / "ballast"
        answer = run.until_done(after(share, lambda _: fill(ballast)))
        show(f"the disk is full: {answer}")
        assert "disk is full" in answer.get("user_error", ""), answer
        ballast.unlink()
    show(f"workers are killed: {run.until_done(kill_workers(harmless, max(3, clips // 20)))}")
    show(f"nothing is left to do: {run.until_done()}")


def verdict(peace: Run, fire: Run, rows: list[dict[str, Any]], faults: dict[str, str]) -> str:
    """Assert everything; one line that says so."""
    for table in TABLES:
        left, right = (digest_rows(table, Lake(run.lake).read(table)) for run in (peace, fire))
        assert left == right, f"table {table} differs from the run in peace:\n{_difference(table, peace, fire)}"
    assert not fire.repeated, f"extracted again although committed: {sorted(fire.repeated)[:5]}"
    usable = {row["clip_id"]: row["video_id"] for row in rows if row["status"] == "ok"}
    errors = {row["clip_id"]: row["error"] for row in Lake(fire.lake).rows("poses") if row["error"]}
    assert set(committed(fire.lake)) == set(usable), "a clip has no row"
    harmful = {clip for clip, video in usable.items() if video.partition("__")[0] in BEHAVIOURS}
    assert harmful <= set(errors), f"no error row for {sorted(usable[clip] for clip in harmful - set(errors))}"
    assert set(errors) <= harmful | {c for c, video in usable.items() if faults.get(video)}, "a sound clip has failed"
    assert {row["video_id"] for row in rows} == set(faults), "a video has no row"
    assert all(row["code"] in CODES for row in rows if row["status"] != "ok")
    starts = Counter(words[1] for words in fire.lines() if words[0] == "start")
    again = sum(starts.values()) - len(starts)
    failed = sum(row["status"] == "failed" for row in rows)
    return (
        f"fault drill: {len(faults)} videos, {failed} refused with a reason, {len(errors)} clips failed with a row, "
        f"{len(usable)} clips equal to the run in peace, 0 committed clips extracted again ({again} starts cut off by faults): PASS"
    )


def _difference(table: str, peace: Run, fire: Run) -> str:
    """The first rows that only one of them has."""
    rows = [{json.dumps(row, sort_keys=True, default=str) for row in Lake(run.lake).rows(table)} for run in (peace, fire)]
    return "\n".join(
        [f"only in peace: {row}" for row in sorted(rows[0] - rows[1])[:8]]
        + [f"only under fire: {row}" for row in sorted(rows[1] - rows[0])[:8]]
    )


def drill(folder: Path, videos: int, every: int, show: Callable[[str], None], lake: str | None = None) -> str:
    """The whole drill in an empty folder; raises AssertionError where it fails."""
    faults = write_corpus(folder / "videos", videos, every)
    show(f"{videos} videos, {sum(map(bool, faults.values()))} broken in {len(set(faults.values()) - {''})} ways")
    rows = scan(folder / "videos", show)
    clips = folder / "clips.json"
    clips.write_text(json.dumps([row for row in rows if row["status"] == "ok"]))
    sound = {row["clip_id"] for row in rows if row["status"] == "ok" and not faults.get(row["video_id"])}
    with tempfile.TemporaryDirectory(prefix="fd", ignore_cleanup_errors=True) as temp, small_disk(folder / "disk") as small:
        peace = Run(str(folder / "peace"), folder / "peace.log", clips, Path(temp), show=show)
        show(f"in peace: {peace.until_done()}")
        fire = Run(lake or str(folder / "disk" / "lake"), folder / "fire.log", clips, Path(temp), show=show)
        under_fire(fire, sound, len(sound), show, folder / "disk" if small and lake is None else None)
        return verdict(peace, fire, rows, faults)


def main() -> None:
    """Run the drill in a temporary folder and print its verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--every", type=int, default=10, help="one in so many is broken")
    parser.add_argument("--lake", help="root of the lake under fire; default a small disk of its own")
    chosen = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        said = drill(
            Path(folder), chosen.clips, chosen.every, lambda t: print(f"{time.monotonic() - started:6.0f} s  {t}", flush=True), chosen.lake
        )
    print(said)


if __name__ == "__main__":
    main()
