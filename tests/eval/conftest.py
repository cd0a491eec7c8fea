"""A small lake with real mp4 files: drawn figures that move, and two methods' clips of them."""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipelines.clip import Frames, clip_id_of
from pipelines.lake import Lake
from pipelines.masks import encode_rle
from pipelines.prediction_manifest import PredictionManifest, predicted_clip, sha256_of_file, write_manifest
from pipelines.video import encode_video

FPS = Fraction(12)


def skeleton_of(phase: float, size: int) -> np.ndarray:
    """[133, 2] points in px of a figure that waves; only the 17 body points and the feet are placed."""
    points = np.zeros((133, 2), np.float32)
    sway, lift = 0.04 * math.sin(phase), 0.12 * math.sin(phase)
    body = [
        (0.50, 0.18),
        (0.48, 0.16),
        (0.52, 0.16),
        (0.46, 0.17),
        (0.54, 0.17),
        (0.40, 0.32),
        (0.60, 0.32),
        (0.32, 0.44 - lift),
        (0.68, 0.44 + lift),
        (0.28, 0.56 - 2 * lift),
        (0.72, 0.56 + 2 * lift),
        (0.44, 0.58),
        (0.56, 0.58),
        (0.43, 0.75),
        (0.57, 0.75),
        (0.42, 0.92),
        (0.58, 0.92),
    ]
    points[:17] = [((x + sway) * size, y * size) for x, y in body]
    return points


def draw_figure(phase: float, size: int, hue: int) -> np.ndarray:
    """[size, size, 3] RGB: background, limbs, torso and head."""
    points = skeleton_of(phase, size).astype(int)
    image = np.full((size, size, 3), (205 - hue, 214, 222), np.uint8)
    cv2.rectangle(image, (0, int(size * 0.86)), (size, size), (150, 140 + hue // 2, 128), -1)
    for a, b in [(5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16)]:
        cv2.line(image, points[a].tolist(), points[b].tolist(), (60 + hue, 70, 110), max(3, size // 20), cv2.LINE_AA)
    cv2.fillConvexPoly(image, points[[5, 6, 12, 11]], (180, 60 + hue, 70))
    cv2.circle(image, points[0].tolist(), size // 11, (228, 184, 150), -1, cv2.LINE_AA)
    return image


def truth_frames(index: int, frames: int, size: int) -> Frames:
    return np.stack([draw_figure(0.35 * t + index, size, 25 * index) for t in range(frames)])


class TinyLake:
    """The lake, and how its parts were made, so that a test can break them."""

    def __init__(self, root: Path, *, clips: int, frames: int, size: int, dataset: str) -> None:
        self.lake, self.dataset, self.split, self.frames, self.size = Lake(root).create(), dataset, "test", frames, size
        self.clip_ids = [self._add_clip(index) for index in range(clips)]
        self.truth = {clip_id: truth_frames(index, frames, size) for index, clip_id in enumerate(self.clip_ids)}

    def _add_clip(self, index: int) -> str:
        path = self.lake.root / "videos" / self.dataset / f"{index:03d}.mp4"
        encode_video(path, truth_frames(index, self.frames, self.size), FPS)
        sha256 = sha256_of_file(path)
        clip_id, uri = clip_id_of(sha256, 0, self.frames), self.lake.uri(path)
        same = {
            "dataset": self.dataset,
            "video_id": f"{index:03d}",
            "uri": uri,
            "split": self.split,
            "width": self.size,
            "height": self.size,
            "fps_num": 12,
            "fps_den": 1,
            "time_base_num": 1,
            "time_base_den": 12288,
            "status": "ok",
        }
        self.lake.write("videos", [{**same, "sha256": sha256, "frames": self.frames}])
        self.lake.write("clips", [{**same, "clip_id": clip_id, "video_sha256": sha256, "start_frame": 0, "end_frame": self.frames}])
        self._add_poses(clip_id, index)
        self._add_regions(clip_id, index)
        return clip_id

    def _add_regions(self, clip_id: str, index: int) -> None:
        """Face and hands as boxes around their points, the body as the box of all points."""
        tables: dict[str, list[dict[str, Any]]] = {"faces": [], "hands": [], "body_masks": []}
        for t in range(self.frames):
            key = {"dataset": self.dataset, "clip_id": clip_id, "frame": t, "extractor": "planted", "version": 1, "weights_digest": "none"}
            points, reach = skeleton_of(0.35 * t + index, self.size), self.size / 10
            head, left, right = ([*(points[i] - reach), *(points[i] + reach)] for i in (0, 9, 10))
            body = np.zeros((self.size, self.size), bool)
            (x1, y1), (x2, y2) = (points[:17].min(0) - reach).astype(int), (points[:17].max(0) + reach).astype(int)
            body[max(0, y1) : y2, max(0, x1) : x2] = True
            tables["faces"].append({**key, "boxes": head, "box_scores": [1.0], "subject": 0})
            tables["hands"].append({**key, "boxes": [*left, *right], "valid": [True, True]})
            tables["body_masks"].append({**key, "rle": encode_rle(body), "height": self.size, "width": self.size})
        for name, rows in tables.items():
            self.lake.write(name, rows)

    def _add_poses(self, clip_id: str, index: int) -> None:
        scores = [1.0] * 17 + [0.0] * 116
        self.lake.write(
            "poses",
            [
                {
                    "dataset": self.dataset,
                    "clip_id": clip_id,
                    "frame": t,
                    "extractor": "truth",
                    "version": 1,
                    "weights_digest": "none",
                    "keypoints": skeleton_of(0.35 * t + index, self.size).reshape(-1),
                    "scores": scores,
                }
                for t in range(self.frames)
            ],
        )

    def add_method(self, method: str, make: Callable[[Frames], Frames], *, only: Sequence[str] | None = None, **named: Any) -> str:
        """Write a folder of clips made by `make(truth)` and import it; returns the prediction id.

        only: the clips to write again, where the folder is there already.
        """
        from eval.predictions import import_predictions

        folder = self.lake.root / "generated" / f"{method}-{named.get('seed', 0)}"
        entries = []
        for clip_id, truth in self.truth.items():
            frames = make(truth)
            if only is None or clip_id in only:
                encode_video(folder / f"{clip_id}.mp4", frames, FPS)
            entries.append(predicted_clip(folder / f"{clip_id}.mp4", clip_id=clip_id, frames=len(frames), reference_frame=0))
        manifest = PredictionManifest(
            method=method,
            variant=named.get("variant", ""),
            seed=named.get("seed", 0),
            checkpoint_id=named.get("checkpoint_id", ""),
            sampler=named.get("sampler", "ddim-20"),
            dataset=self.dataset,
            split=self.split,
            clips=tuple(entries),
        )
        write_manifest(folder, manifest)
        return import_predictions(self.lake, folder).prediction_id


def copy_first(truth: Frames) -> Frames:
    return np.repeat(truth[:1], len(truth), axis=0)


def soften(truth: Frames) -> Frames:
    return np.stack([cv2.GaussianBlur(frame, (3, 3), 0.5) for frame in truth])


@pytest.fixture
def make_lake(tmp_path: Path) -> Callable[..., TinyLake]:
    """Call with clips, frames, size, dataset."""

    def make(*, clips: int = 3, frames: int = 18, size: int = 32, dataset: str = "performers_test") -> TinyLake:
        return TinyLake(tmp_path / "lake", clips=clips, frames=frames, size=size, dataset=dataset)

    return make


@pytest.fixture(scope="session")
def scored_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyLake, dict[str, str]]:
    """A lake with two scored methods, made once; never write to it."""
    from eval.score import score

    tiny = TinyLake(tmp_path_factory.mktemp("scored") / "lake", clips=3, frames=18, size=32, dataset="performers_test")
    ids = {"copy_reference": tiny.add_method("copy_reference", copy_first), "soft": tiny.add_method("soft", soften)}
    for prediction_id in ids.values():
        score(tiny.lake, protocol="demo_standin", dataset=tiny.dataset, split=tiny.split, prediction_id=prediction_id)
    return tiny, ids


@pytest.fixture
def scored(scored_once: tuple[TinyLake, dict[str, str]], tmp_path: Path) -> tuple[TinyLake, dict[str, str]]:
    """A copy of its own: (lake, method -> prediction id)."""
    original, ids = scored_once
    shutil.copytree(original.lake.root, tmp_path / "lake")
    tiny = copy.copy(original)
    tiny.lake, tiny.truth = Lake(tmp_path / "lake"), dict(original.truth)
    return tiny, ids
