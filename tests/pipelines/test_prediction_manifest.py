"""The manifest of a folder of generated clips: round trip, and clear errors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import UserError
from pipelines.prediction_manifest import (
    MANIFEST,
    PredictedClip,
    PredictionManifest,
    predicted_clip,
    read_manifest,
    write_manifest,
)


@pytest.fixture
def manifest(tmp_path: Path) -> PredictionManifest:
    (tmp_path / "a.mp4").write_bytes(b"frames")
    clip = predicted_clip(tmp_path / "a.mp4", clip_id="a", frames=3, reference_frame=0)
    return PredictionManifest(method="m", variant="", seed=0, checkpoint_id="", sampler="ddim", dataset="d", split="test", clips=(clip,))


def test_what_is_written_is_read(tmp_path: Path, manifest: PredictionManifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", MANIFEST]


@pytest.mark.parametrize("name", ["method", "variant", "seed", "checkpoint_id", "sampler", "dataset", "split"])
def test_the_id_depends_on_every_name(manifest: PredictionManifest, name: str) -> None:
    other: Any = 1 if name == "seed" else "other"
    assert dataclasses.replace(manifest, **{name: other}).prediction_id != manifest.prediction_id
    assert dataclasses.replace(manifest, clips=()).prediction_id == manifest.prediction_id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 1}, "'extra' is unknown"),
        ({"seed": "0"}, "seed must be int"),
        ({"seed": True}, "seed must be int"),
        ({"method": None}, "method must be str"),
        ({"format": 2}, "`format` must be 1"),
        ({"clips": "a"}, "must be a list"),
        ({"clips": [{"clip_id": "a"}]}, r"clips\[0\]: field 'file' is missing"),
        ({"clips": ["a"]}, r"clips\[0\] must be an object"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, manifest: PredictionManifest, change: Any, message: str) -> None:
    path = write_manifest(tmp_path, manifest)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path)


def test_broken_folders_are_user_errors(tmp_path: Path, manifest: PredictionManifest) -> None:
    with pytest.raises(UserError, match="holds no manifest"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_manifest(tmp_path)
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(UserError, match="not there"):
        write_manifest(tmp_path, manifest)


def test_entries_that_cannot_be_are_refused(manifest: PredictionManifest) -> None:
    clip = manifest.clips[0]
    with pytest.raises(UserError, match="more than once"):
        dataclasses.replace(manifest, clips=(clip, clip))
    for name in ("../a.mp4", "/etc/a.mp4"):
        with pytest.raises(UserError, match="inside the folder"):
            dataclasses.replace(clip, file=name)
    with pytest.raises(UserError, match="leave a clip"):
        PredictedClip(clip_id="a", file="a.mp4", sha256="", frames=0, reference_frame=None)


def test_a_manifest_from_before_there_was_a_choice_of_driving_is_read_and_keeps_its_id(
    tmp_path: Path, manifest: PredictionManifest
) -> None:
    path = write_manifest(tmp_path, manifest)
    old = json.loads(path.read_text())
    del old["driving"]
    for clip in old["clips"]:
        del clip["driving_clip_id"]
    path.write_text(json.dumps(old))
    assert read_manifest(tmp_path) == manifest
    named = ["m", "", 0, "", "ddim", "d", "test"]
    assert read_manifest(tmp_path).prediction_id == hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def test_cross_driving_names_the_driving_clip_and_is_another_prediction(tmp_path: Path, manifest: PredictionManifest) -> None:
    driven = dataclasses.replace(manifest.clips[0], driving_clip_id="b")
    cross = dataclasses.replace(manifest, driving="cross", clips=(driven,))
    write_manifest(tmp_path, cross)
    assert read_manifest(tmp_path) == cross
    assert cross.prediction_id != manifest.prediction_id
    with pytest.raises(UserError, match="driving is 'other'"):
        dataclasses.replace(manifest, driving="other")
    for wrong in ({"driving": "cross"}, {"clips": (driven,)}):
        with pytest.raises(UserError, match="clip a: driving_clip_id names another person's clip"):
            dataclasses.replace(manifest, **wrong)  # type: ignore[arg-type]
