"""C9: body masks in the lake (COCO run lengths), against a folder of PNG files; and a training sample against folders of JSON and PNG.

python -m benchmarks.c9_mask_store [--masks 64] [--clips 50] [--rounds 5]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.c8_feature_store import features
from benchmarks.side_by_side import alternate, report
from pipelines.lake import Lake, spec_of
from pipelines.masks import decode_rle, encode_rle

HEIGHT, WIDTH, FRAMES = 1024, 576, 24


def person_masks(count: int) -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
    """[1024, 576] masks of a standing figure that moves its limbs, its outline rough by a few pixels as networks draw it."""
    rng = np.random.default_rng(0)
    masks = []
    for number in range(count):
        image = np.zeros((HEIGHT, WIDTH), np.uint8)
        swing, x = 0.6 * np.sin(number / 5), WIDTH // 2 + number % 40
        cv2.circle(image, (x, 180), 70, 255, -1)
        cv2.ellipse(image, (x, 430), (110, 200), 0, 0, 360, 255, -1)
        for side in (-1, 1):
            cv2.line(image, (x + side * 80, 320), (x + side * 200, int(480 + 160 * swing * side)), 255, 50)
            cv2.line(image, (x + side * 50, 560), (x + side * int(90 + 60 * swing), 960), 255, 70)
        noise = cv2.resize(rng.normal(0, 15, (HEIGHT // 8, WIDTH // 8)).astype(np.float32), (WIDTH, HEIGHT))
        masks.append(cv2.GaussianBlur(image, (31, 31), 0).astype(np.float32) + noise > 127.5)
    return masks


def masks_bench(count: int, rounds: int) -> bool:
    """Bytes, decoding, and area without decoding. pycocotools and OpenCV both decode in C."""
    from pycocotools import mask as coco

    masks = person_masks(count)
    pngs = [cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes() for mask in masks]
    rles = [encode_rle(mask) for mask in masks]
    decoded = [decode_rle(rle, HEIGHT, WIDTH) for rle in rles]
    assert all(np.array_equal(a, b) for a, b in zip(masks, decoded, strict=True))

    def areas() -> list[int]:
        return [int(coco.area({"size": [HEIGHT, WIDTH], "counts": rle})) for rle in rles]

    assert areas() == [int(mask.sum()) for mask in masks]
    sides = {
        "ours": lambda: [decode_rle(rle, HEIGHT, WIDTH) for rle in rles],
        "png": lambda: [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE) > 127 for png in pngs],
        "area": areas,
    }
    seconds = alternate(sides, rounds)
    ratios: dict[str, tuple[float, float | None]] = {
        "png/ours bytes": (sum(map(len, pngs)) / len(pa.Codec("zstd").compress(b"".join(rles), asbytes=True)), 4.0),  # as a part holds them
        "png/ours decode": (seconds["png"] / seconds["ours"], 5.0),
        "png decode/area": (seconds["png"] / seconds["area"], None),
    }
    return report("C9 masks", seconds, ratios, f"{count} masks {HEIGHT}x{WIDTH} and their areas equal")


def _write_sides(root: Path, clips: int) -> tuple[Lake, list[str]]:
    """The same clips in a lake and as folders: one JSON with key points and face, and one PNG mask, per frame."""
    lake = Lake(root / "lake").create()
    poses, faces = features(clips, FRAMES)
    masks = person_masks(FRAMES)
    key = ["dataset", "clip_id", "frame", "extractor", "version", "weights_digest"]
    schema, count = spec_of("body_masks").schema, clips * FRAMES
    made = {"rle": pa.array([encode_rle(mask) for mask in masks] * clips), "height": pa.array([HEIGHT] * count, pa.int32()),
            "width": pa.array([WIDTH] * count, pa.int32())}  # fmt: skip
    columns = {**{name: poses[name] for name in key}, **made}
    rows = pa.Table.from_arrays([columns.get(f.name, pa.nulls(count, f.type)) for f in schema], schema=schema)
    for name, table in (("poses", poses), ("faces", faces), ("body_masks", rows)):
        lake.write(name, table)
    ids = poses["clip_id"].to_pylist()[::FRAMES]
    for number, clip in enumerate(ids):
        folder = root / "files" / clip
        folder.mkdir(parents=True)
        for frame in range(FRAMES):
            row = number * FRAMES + frame
            facts = {
                "keypoints": poses["keypoints"][row].as_py(),
                "scores": poses["scores"][row].as_py(),
                "embedding": faces["embedding"][row].as_py(),
            }
            (folder / f"{frame:04}.json").write_text(json.dumps(facts))
            cv2.imwrite(str(folder / f"{frame:04}.png"), masks[frame].astype(np.uint8) * 255)
    return lake, ids


def sample_bench(clips: int, rounds: int) -> bool:
    """24 frames of key points, masks and face of one clip, ready as arrays; another clip each time on both sides."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lake, ids = _write_sides(root, clips)
        turns = {"ours": 0, "files": 0}
        data = {name: lake.dataset(name) for name in ("poses", "faces", "body_masks")}  # a training run opens its versions once

        def ours(clip: str) -> list[Any]:
            where = pc.field("clip_id") == clip
            poses = data["poses"].to_table(columns=["keypoints", "scores"], filter=where)
            faces = data["faces"].to_table(columns=["embedding"], filter=where)
            masks = data["body_masks"].to_table(columns=["rle", "height", "width"], filter=where).to_pylist()
            flat = [poses["keypoints"], poses["scores"], faces["embedding"]]
            arrays = [column.combine_chunks().flatten().to_numpy().reshape(FRAMES, -1) for column in flat]
            return [*arrays, np.stack([decode_rle(row["rle"], row["height"], row["width"]) for row in masks])]

        def files(clip: str) -> list[Any]:
            facts = [json.loads((root / "files" / clip / f"{frame:04}.json").read_text()) for frame in range(FRAMES)]
            masks = [cv2.imread(str(root / "files" / clip / f"{frame:04}.png"), cv2.IMREAD_GRAYSCALE) > 127 for frame in range(FRAMES)]
            return [*(np.array([row[name] for row in facts], np.float32) for name in ("keypoints", "scores", "embedding")), np.stack(masks)]

        assert all(np.array_equal(a, b) for a, b in zip(ours(ids[1]), files(ids[1]), strict=True))

        def turn(side: str) -> list[Any]:
            turns[side] += 1
            return (ours if side == "ours" else files)(ids[turns[side] % len(ids)])

        seconds = alternate({"ours": lambda: turn("ours"), "files": lambda: turn("files")}, rounds * 5)
    ratios: dict[str, tuple[float, float | None]] = {"files/ours": (seconds["files"] / seconds["ours"], 5.0)}
    return report("training sample", seconds, ratios, f"{FRAMES} frames of one of {clips} clips equal")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--masks", type=int, default=64)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    good = masks_bench(options.masks, options.rounds)
    return 0 if sample_bench(options.clips, options.rounds) and good else 1


if __name__ == "__main__":
    raise SystemExit(main())
