"""C8: key points and face embeddings of many clips in the lake, against JSON per clip, pickle, and Parquet as pyarrow writes it by default.

python -m benchmarks.c8_feature_store [--clips 1000] [--frames 16] [--rounds 3]

Lance is a peer where it is installed. The lake's times include its commit and the key checks of an upsert.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import pickle
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.side_by_side import alternate, report
from pipelines.clip import clip_id_of
from pipelines.lake import Lake, spec_of

POINTS, EMBEDDING = 133, 512


def features(clips: int, frames: int, first: int = 0, seed: int = 0) -> tuple[pa.Table, pa.Table]:
    """(poses, faces): key points that move smoothly to a sixteenth of a pixel of noise, and unit embeddings, of clips with ids as clips have them."""
    rng = np.random.default_rng(seed + first)
    count = clips * frames
    ids = np.repeat([clip_id_of(f"{first + number:064x}", 0, frames) for number in range(clips)], frames)
    steps = rng.normal(0, 1.5, (clips, frames, POINTS * 2)).cumsum(1) + rng.uniform(100, 900, (clips, 1, POINTS * 2))
    key = {
        "dataset": pa.array(["bench"] * count), "clip_id": pa.array(ids), "frame": pa.array(np.tile(np.arange(frames), clips), pa.int32()),
        "extractor": pa.array(["network"] * count), "version": pa.array([1] * count, pa.int32()), "weights_digest": pa.array(["0" * 64] * count),
    }  # fmt: skip
    points = _lists(steps.reshape(count, -1).astype(np.float32))
    scores = _lists(rng.beta(8, 2, (count, POINTS)).astype(np.float32))
    embedding = rng.normal(size=(count, EMBEDDING))
    unit = _lists((embedding / np.linalg.norm(embedding, axis=1, keepdims=True)).astype(np.float32))
    return _typed("poses", {**key, "keypoints": points, "scores": scores}), _typed("faces", {**key, "embedding": unit})


def _lists(values: np.ndarray[Any, np.dtype[np.float32]]) -> pa.Array:
    offsets = pa.array(np.arange(0, values.size + 1, values.shape[1]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))


def _typed(name: str, columns: dict[str, pa.Array]) -> pa.Table:
    schema, count = spec_of(name).schema, len(columns["frame"])
    return pa.Table.from_arrays([columns.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)


class Stores:
    """The same rows, written and read by every side, each writing to a fresh place."""

    def __init__(self, root: Path, clips: int, frames: int, rounds: int) -> None:
        self.root, self.frames, self.fresh = root, frames, itertools.count()
        self.poses, self.faces = features(clips, frames)
        self.wanted = self.poses["clip_id"][clips // 2 * frames].as_py()
        self.last: dict[str, Path] = {}
        self.lakes = [Lake(root / f"ours-{number}").create() for number in range(rounds)]  # tables are made at set-up, once

    def place(self, side: str) -> Path:
        self.last[side] = self.root / f"{side}-{next(self.fresh)}"
        self.last[side].mkdir()
        return self.last[side]

    def write_ours(self) -> None:
        lake = self.lakes.pop()
        self.last["ours"] = lake.root
        lake.write("poses", self.poses)
        lake.write("faces", self.faces)

    def write_parquet(self) -> None:
        folder = self.place("parquet")
        pq.write_table(self.poses, folder / "poses.parquet")
        pq.write_table(self.faces, folder / "faces.parquet")

    def write_json(self) -> None:
        folder = self.place("json")
        for start in range(0, self.poses.num_rows, self.frames):
            poses, faces = (t.slice(start, self.frames) for t in (self.poses, self.faces))
            clip = {
                "keypoints": poses["keypoints"].to_pylist(),
                "scores": poses["scores"].to_pylist(),
                "embedding": faces["embedding"].to_pylist(),
            }
            (folder / f"{poses['clip_id'][0].as_py()}.json").write_text(json.dumps(clip))

    def write_pickle(self) -> None:
        folder = self.place("pickle")
        for start in range(0, self.poses.num_rows, self.frames):
            poses, faces = (t.slice(start, self.frames) for t in (self.poses, self.faces))
            clip = {name: _matrix(t[name]) for t, name in ((poses, "keypoints"), (poses, "scores"), (faces, "embedding"))}
            (folder / f"{poses['clip_id'][0].as_py()}.pickle").write_bytes(pickle.dumps(clip, protocol=5))

    def write_lance(self) -> None:
        import lance

        folder = self.place("lance")
        lance.write_dataset(self.poses, folder / "poses.lance")
        lance.write_dataset(self.faces, folder / "faces.lance")

    def read_ours(self) -> list[Any]:
        where = pc.field("clip_id") == self.wanted
        lake = Lake(self.last["ours"])
        return [lake.read("poses", ["keypoints", "scores"], where), lake.read("faces", ["embedding"], where)]

    def read_parquet(self) -> list[Any]:
        where = pc.field("clip_id") == self.wanted
        named = {"poses": ["keypoints", "scores"], "faces": ["embedding"]}
        return [ds.dataset(self.last["parquet"] / f"{n}.parquet").to_table(columns=columns, filter=where) for n, columns in named.items()]

    def read_json(self) -> Any:
        raw = json.loads((self.last["json"] / f"{self.wanted}.json").read_text())
        return {name: np.asarray(values, np.float32) for name, values in raw.items()}

    def read_pickle(self) -> Any:
        return pickle.loads((self.last["pickle"] / f"{self.wanted}.pickle").read_bytes())  # its own file, a moment old

    def size(self, side: str) -> int:
        folder = self.last[side] / "delta" if side == "ours" else self.last[side]
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _matrix(column: pa.ChunkedArray) -> Any:
    flat = column.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(column), -1)


def _equal(stores: Stores) -> None:
    ours, parquet, plain, pickled = stores.read_ours(), stores.read_parquet(), stores.read_json(), stores.read_pickle()
    assert ours[0].equals(parquet[0])
    assert ours[1].equals(parquet[1])
    for table, name in ((ours[0], "keypoints"), (ours[0], "scores"), (ours[1], "embedding")):
        assert np.array_equal(_matrix(table[name]), plain[name])
        assert np.array_equal(_matrix(table[name]), pickled[name])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        stores = Stores(Path(folder), options.clips, options.frames, options.rounds)
        writers: dict[str, Callable[[], object]] = {
            "ours": stores.write_ours, "parquet": stores.write_parquet, "json": stores.write_json, "pickle": stores.write_pickle,
        }  # fmt: skip
        if importlib.util.find_spec("lance"):
            writers["lance"] = stores.write_lance
        written = alternate(writers, options.rounds)
        _equal(stores)
        readers = {"ours": stores.read_ours, "parquet": stores.read_parquet, "json": stores.read_json, "pickle": stores.read_pickle}
        read = alternate(readers, options.rounds * 3)
        sizes = {side: stores.size(side) for side in writers}
    equal = f"{options.clips} clips x {options.frames} frames equal on all sides"
    smaller = {"parquet/ours bytes": (sizes["parquet"] / sizes["ours"], 1 / 0.6), "json/ours bytes": (sizes["json"] / sizes["ours"], None)}
    good = report("C8 size", {f"{side} (MB, not s)": size / 1e6 for side, size in sizes.items()}, smaller, equal)
    gates = {"json": None, "parquet": 2.0, "pickle": None, "lance": None}
    good &= report("C8 write", written, {f"{s}/ours": (written[s] / written["ours"], gates[s]) for s in writers if s != "ours"}, equal)
    gates["parquet"] = 3.0
    good &= report("C8 read one clip", read, {f"{s}/ours": (read[s] / read["ours"], gates[s]) for s in readers if s != "ours"}, equal)
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
