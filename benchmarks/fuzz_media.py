"""Fuzzed media files: `python -m benchmarks.fuzz_media --files 1000` mutates small videos of five containers, and runs them all.

Every file is probed, split and its clips extracted on Ray; no run may die, and every file must have its row.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.clip import Clip, Frames
from pipelines.errors import CODES, ClipError
from pipelines.extract import ExtractReport, Rows, extract
from pipelines.guarded import guarded_probe, guarded_split
from pipelines.lake import Lake
from pipelines.split import SplitRule

RULE = SplitRule(min_frames=1)
_CODECS = {
    "mp4": ("libx264", "yuv420p"),
    "avi": ("mpeg4", "yuv420p"),
    "mkv": ("libx264", "yuv420p"),
    "gif": ("gif", "rgb8"),
    "webm": ("libvpx", "yuv420p"),
}


def seed_files() -> dict[str, bytes]:
    """Ten moving frames of 64x48 in each container, by suffix."""
    x = np.arange(64)[None, None, :, None] + np.zeros((10, 48, 1, 3), int)
    frames = ((x * 4 + np.arange(10)[:, None, None, None] * 9 + np.array([0, 80, 160])) % 256).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        return {suffix: _encoded(Path(folder) / f"seed.{suffix}", frames, *how) for suffix, how in _CODECS.items()}


def _encoded(path: Path, frames: Frames, codec: str, pixels: str) -> bytes:
    import av

    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:  # no random ids, the same bytes every time
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path.read_bytes()


# --- mutations: bytes -> bytes ---------------------------------------------------------------------------------------


def _span(rng: np.random.Generator, size: int, most: int = 256) -> slice:
    start = int(rng.integers(size))
    return slice(start, min(size, start + 1 + int(rng.integers(most))))


def _flip_bits(rng: np.random.Generator, data: bytearray) -> None:
    for place in rng.integers(len(data), size=int(rng.integers(1, 64))):
        data[place] ^= 1 << int(rng.integers(8))


def _garbage(rng: np.random.Generator, data: bytearray) -> None:
    span = _span(rng, len(data))
    data[span] = rng.bytes(span.stop - span.start)


def _zeros(rng: np.random.Generator, data: bytearray) -> None:
    span = _span(rng, len(data), 1024)
    data[span] = bytes(span.stop - span.start)


def _cut_off(rng: np.random.Generator, data: bytearray) -> None:
    del data[int(rng.integers(len(data))) :]


def _leave_out(rng: np.random.Generator, data: bytearray) -> None:
    del data[_span(rng, len(data))]


def _repeat(rng: np.random.Generator, data: bytearray) -> None:
    span = _span(rng, len(data), 512)
    data[span.stop : span.stop] = data[span]


def _insert(rng: np.random.Generator, data: bytearray) -> None:
    place = int(rng.integers(len(data)))
    data[place:place] = rng.bytes(int(rng.integers(1, 128)))


def _extreme_number(rng: np.random.Generator, data: bytearray) -> None:
    for _ in range(int(rng.integers(1, 8))):
        place = int(rng.integers(max(1, len(data) - 4)))
        data[place : place + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"][int(rng.integers(4))]


def _header(rng: np.random.Generator, data: bytearray) -> None:
    for place in rng.integers(min(64, len(data)), size=4):
        data[place] = int(rng.integers(256))


MUTATIONS: tuple[Callable[[np.random.Generator, bytearray], None], ...] = (
    _flip_bits, _garbage, _zeros, _cut_off, _leave_out, _repeat, _insert, _extreme_number, _header,
)  # fmt: skip


def write_fuzzed(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """`count` files, each a mutated seed file (one or two mutations); the same seed gives the same files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, seeds, paths = np.random.default_rng(seed), seed_files(), []
    for number in range(count):
        suffix = list(seeds)[number % len(seeds)]
        data = bytearray(seeds[suffix])
        for mutate in rng.choice(len(MUTATIONS), size=int(rng.integers(1, 3)), replace=False):
            if data:
                MUTATIONS[mutate](rng, data)
        paths.append(folder / f"fuzz_{number:04d}.{suffix}")
        paths[-1].write_bytes(data)
    return paths


# --- every file through the pipeline ---------------------------------------------------------------------------------


def look_into(path: Path, limit_s: float = 30.0) -> list[dict[str, Any]]:
    """Rows of the file: of its clips, or a single one with status failed. Raises nothing that the file causes."""
    row = {"dataset": "fuzz", "video_id": path.name, "uri": str(path), "sha256": path.name, "split": None, "subject": None}
    try:
        info = guarded_probe(path, limit_s=limit_s)
        rate, base = info.fps, info.time_base
        video = {**row, "frames": info.frames, "width": info.width, "height": info.height, "fps_num": rate.numerator,
                 "fps_den": rate.denominator, "time_base_num": base.numerator, "time_base_den": base.denominator}  # fmt: skip
        return guarded_split(video, path, RULE, limit_s=limit_s)
    except ClipError as error:
        return [{**row, "status": "failed", "code": error.code, "reason": error.reason}]


@dataclass
class MeanColour:
    """Something to extract that looks at every frame."""

    name: str = "mean_colour"
    version: int = 1
    tables: tuple[str, ...] = ("clip_embeddings",)

    def weights_digest(self) -> str:
        return ""

    def load(self, device: str) -> Callable[[Clip, Frames], Rows]:
        return lambda clip, frames: {"clip_embeddings": [{"embedding": image.mean(axis=(0, 1)).tolist()} for image in frames]}


def rows_of_all(paths: list[Path], show: Callable[[int], None] | None = None) -> dict[str, list[dict[str, Any]]]:
    """`look_into` of each file, by name; every failure has a code of the closed list."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for number, path in enumerate(paths):
        rows[path.name] = look_into(path)
        assert rows[path.name], path.name
        assert all(row["status"] == "ok" or row["code"] in CODES for row in rows[path.name]), rows[path.name]
        if show is not None:
            show(number + 1)
    return rows


def extract_all(rows: dict[str, list[dict[str, Any]]], root: Path, engine: Any) -> ExtractReport:
    """Extract every usable clip; asserts that each has its rows."""
    clips = [Clip.from_row(row) for held in rows.values() for row in held if row["status"] == "ok"]
    lake = Lake(root).create()
    report = extract([MeanColour()], clips, lake, engine, progress=False, time_limit_s=60)
    wanted, held = {clip.clip_id for clip in clips}, set(lake.read("clip_embeddings", ["clip_id"])["clip_id"].to_pylist())
    assert wanted == held, f"{len(wanted - held)} clips have no row"
    return report


def _shown(total: int) -> Callable[[int], None]:
    started = time.monotonic()

    def show(done: int) -> None:
        if done % 50 == 0:
            print(f"{done}/{total} files, {done / (time.monotonic() - started):.1f} files/s", flush=True)

    return show


def codes_of(rows: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """One word per file: ok, or the code of its first row."""
    for held in rows.values():
        yield "ok" if held[0]["status"] == "ok" else held[0]["code"]


def main() -> None:
    """Print the verdict; an assertion stops it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", default="ray")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_fuzzed(Path(folder) / "media", chosen.files, chosen.seed)
        rows = rows_of_all(paths, _shown(len(paths)))
        report = extract_all(rows, Path(folder) / "lake", chosen.engine)
    counts = ", ".join(f"{code} {count}" for code, count in sorted(Counter(codes_of(rows)).items()))
    print(
        f"fuzz: {len(rows)} of {chosen.files} files have their row ({counts}); {report.clips} clips, {report.failed} failed in extraction: PASS"
    )


if __name__ == "__main__":
    main()
