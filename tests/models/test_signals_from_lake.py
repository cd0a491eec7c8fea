"""From feature tables to training rows, batches and generated clips, on a small data set of drawn people."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
import torch
from torch import Tensor

from models.animator import Driving, Reference
from models.baselines.copy_reference import CopyReferenceMethod
from models.clip_dataset import ClipStore, TrainingClip, to_signed
from models.fitting import centre_box, fit_frames, fit_points
from models.generate import Material, generate, own_driving, reference_of
from models.latents import LatentCodec
from models.model_key import ModelKey
from models.signal_rows import clips_with, makers_of, readers
from models.signals import SignalName, Signals
from models.training_rows import (
    build_training_rows,
    eligible_references,
    load_poses,
    load_training_clips,
    signalled_clips,
    trained_sharpness,
    training_facts,
    write_training_rows,
)
from pipelines.clip import Clip, Frames
from pipelines.clip_rows import split_into
from pipelines.errors import UserError
from pipelines.extract import extract
from pipelines.extractors.registry import extractors_named
from pipelines.lake import Lake, digest_rows
from pipelines.prediction_manifest import read_manifest
from pipelines.retarget import retarget
from pipelines.sources.registry import Dataset, load, register
from pipelines.sources.store import scan_into
from pipelines.split import SplitRule
from pipelines.video import decode_frames, probe, read_video

NAME, FRAMES = "performers_signals", 10
NEEDS: tuple[SignalName, ...] = ("hands", "faces", "body_mask", "densepose", "clothing", "caption")
DATASET = Dataset(
    name=NAME,
    kind="performers",
    extractors=("truth", "scrfd_tiny"),
    signal_extractors={"faces": "scrfd_tiny"},
    options={"train_identities": 2, "test_identities": 2, "train_clips": 1, "test_clips": 1, "frames": FRAMES, "size": 128},
)


class Watcher(CopyReferenceMethod):
    """A method that needs signals and does not train; its animator copies the reference and remembers what it was given."""

    def __init__(self, needs: tuple[SignalName, ...], size: tuple[int, int] | None = (64, 64)) -> None:
        self.needs, self.size = needs, size
        self.given: list[tuple[Reference, Driving]] = []

    def load(self, variant: str, checkpoint: Path | None) -> Any:
        return _Animator(self)


class _Animator:
    sampler: Mapping[str, Any] = {"kind": "watcher"}
    truth_sharpness = True

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self.size = watcher, watcher.size

    def __call__(self, reference: Reference, driving: Driving, seed: int) -> Frames:
        self._watcher.given.append((reference, driving))
        return np.repeat(reference.image[None], len(driving.points), axis=0)

    def in_pieces(self, reference: Reference, driving: Driving, seed: int, advance: Callable[[], None] | None = None) -> Iterator[Frames]:
        yield self(reference, driving, seed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Four people: two train, two are held out; annotations, and faces by the demo's networks."""
    torch.set_num_threads(1)
    lake = Lake(tmp_path_factory.mktemp("signals") / "lake").create()
    register(lake, DATASET)
    scan_into(lake, DATASET)
    split_into(lake, NAME, SplitRule())
    extract(extractors_named(DATASET.extractors), lake.clips(NAME), lake, "serial")
    return lake


@pytest.fixture
def lake(made: Lake, tmp_path: Path) -> Lake:
    """A copy that a test may change."""
    shutil.copytree(made.root, tmp_path / "lake")
    return Lake(tmp_path / "lake")


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch) -> Watcher:
    return _registered(monkeypatch, NEEDS)


def _registered(monkeypatch: pytest.MonkeyPatch, needs: tuple[SignalName, ...]) -> Watcher:
    method = Watcher(needs)
    monkeypatch.setattr("models.methods.methods", lambda: {"watcher": method, "copy_reference": CopyReferenceMethod()})
    return method


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tables that are read, in order."""
    seen: list[str] = []
    plain, opened = Lake.read, Lake.dataset

    def read(self: Lake, table: str, *arguments: Any, **options: Any) -> Any:
        seen.append(table)
        return plain(self, table, *arguments, **options)

    def dataset(self: Lake, table: str, *arguments: Any, **options: Any) -> Any:
        seen.append(table)
        return opened(self, table, *arguments, **options)

    monkeypatch.setattr(Lake, "read", read)
    monkeypatch.setattr(Lake, "dataset", dataset)
    return seen


def _equal(first: Signals, second: Signals) -> None:
    for field in fields(Signals):
        a, b = getattr(first, field.name), getattr(second, field.name)
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b, field.name


def _key() -> ModelKey:
    return ModelKey(method="watcher", variant="default", seed=0)


# --- whose rows ------------------------------------------------------------------------------------------------------------


def test_the_data_set_says_whose_rows_feed_training(lake: Lake) -> None:
    assert DATASET.extractor_of("faces") == "scrfd_tiny"
    assert DATASET.extractor_of("hands") == "truth"  # that of the poses
    assert replace(DATASET, signal_extractors={}).extractor_of("faces") == "truth"
    assert replace(DATASET, extractors=("truth", "flow_tiny"), training_extractor="dwpose_tiny").extractor_of("body_masks") == "truth"
    assert load(lake, NAME) == DATASET
    older = json.loads(lake.read_text(f"datasets/{NAME}.json"))
    del older["signal_extractors"]
    lake.write_text(f"datasets/{NAME}.json", json.dumps(older))
    assert load(lake, NAME).signal_extractors == {}
    with pytest.raises(
        UserError, match=r"scrfd_tiny fill no table 'densepose', which this method needs; extractors that do: .*densepose_tiny"
    ):
        replace(DATASET, extractors=("scrfd_tiny",), training_extractor="scrfd_tiny").extractor_of("densepose")
    with pytest.raises(UserError, match="signal_extractors names 'poses'"):
        replace(DATASET, signal_extractors={"poses": "truth"})
    with pytest.raises(UserError, match="signal_extractors names 'face'"):
        replace(DATASET, signal_extractors={"face": "truth"})


# --- training rows -----------------------------------------------------------------------------------------------------------


def test_training_rows_name_all_that_they_were_made_from(lake: Lake, watcher: Watcher) -> None:
    rows, left_out = build_training_rows(lake, DATASET, "watcher")
    assert left_out == {}
    assert len(rows) == 2
    signals = json.loads(rows[0]["signals"])
    assert set(signals) == set(NEEDS)
    faces = extractors_named(["scrfd_tiny"])[0]
    assert signals["faces"] == {"extractor": "scrfd_tiny", "version": faces.version, "weights_digest": faces.weights_digest()}
    assert json.loads(rows[0]["signals_version"])["densepose"] == lake.version("densepose")
    train = [clip.clip_id for clip in lake.clips(NAME, "train")]
    sharp = [
        row["sharpness"][2 * hand + 1]
        for row in lake.rows("hands", pc.field("clip_id").isin(train))
        for hand in range(2)
        if row["valid"][hand]
    ]
    assert rows[0]["hand_sharpness_p99"] == pytest.approx(np.percentile(sharp, 99))
    assert len({row["hand_sharpness_p99"] for row in rows}) == 1


def test_the_digest_follows_the_scale_and_the_makers_not_the_versions(lake: Lake, watcher: Watcher) -> None:
    write_training_rows(lake, DATASET, "watcher")
    rows = lake.rows("training_rows")

    def digest(**changes: Any) -> str:
        table = lake.read("training_rows")
        return digest_rows("training_rows", type(table).from_pylist([{**row, **changes} for row in rows], schema=table.schema))

    assert digest() == digest(signals_version="{}", poses_version=99)
    assert digest() != digest(hand_sharpness_p99=rows[0]["hand_sharpness_p99"] + 1)
    assert digest() != digest(signals="{}")
    before = lake.version("training_rows")
    lake.write("clothing", [{**lake.rows("clothing")[0]}])  # the same rows in a newer version of the table
    write_training_rows(lake, DATASET, "watcher")
    assert lake.version("training_rows") == before


def test_facts_for_a_manifest(lake: Lake, watcher: Watcher) -> None:
    assert training_facts(lake, DATASET, "watcher") == {}
    write_training_rows(lake, DATASET, "watcher")
    facts = training_facts(lake, DATASET, "watcher")
    assert json.loads(facts["signals"])["faces"]["extractor"] == "scrfd_tiny"
    assert float(facts["hand_sharpness_p99"]) == trained_sharpness(lake, DATASET, "watcher")
    write_training_rows(lake, DATASET, "copy_reference")
    assert training_facts(lake, DATASET, "copy_reference") == {}
    assert trained_sharpness(lake, DATASET, "copy_reference") is None


def test_clips_that_lack_a_signal_are_left_out_and_counted(lake: Lake, watcher: Watcher) -> None:
    first, second = (clip.clip_id for clip in lake.clips(NAME, "train"))
    lake.delete("body_masks", (pc.field("clip_id") == first) & (pc.field("frame") == 3))  # one frame is missing: the clip is
    rows, left_out = build_training_rows(lake, DATASET, "watcher")
    assert [row["clip_id"] for row in rows] == [second]
    assert left_out == {"body_mask": 1}
    lake.delete("clothing", pc.field("clip_id") == second)
    with pytest.raises(
        UserError, match=r"1 of 2 training clips lack clothing of extractor 'truth'.*none is left; run .*--extractors truth"
    ):
        build_training_rows(lake, DATASET, "watcher")


def test_annotations_without_a_networks_numbers_are_no_signals(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    _registered(monkeypatch, ("actions",))
    with pytest.raises(UserError, match="2 of 2 training clips lack actions of extractor 'truth'"):
        build_training_rows(lake, DATASET, "watcher")
    unnamed = replace(DATASET, signal_extractors={})  # the annotations' faces have no embeddings
    _registered(monkeypatch, ("faces",))
    with pytest.raises(UserError, match="2 of 2 training clips lack faces of extractor 'truth'"):
        build_training_rows(lake, unnamed, "watcher")
    makers = makers_of(DATASET, ["faces"])
    assert len(clips_with(lake, DATASET, lake.clips(NAME), "faces", makers["faces"])) == 4


def test_references_show_the_face_where_a_frame_does() -> None:
    scores = np.ones((4, 133), np.float32)
    scores[1, :17] = 0.1
    assert eligible_references(scores) == [0, 2, 3]
    assert eligible_references(scores, np.array([False, True, False, True])) == [3]
    assert eligible_references(scores, np.zeros(4, bool)) == [0, 2, 3]


def test_without_needs_no_feature_table_is_read_but_poses(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, reads: list[str], codec: LatentCodec
) -> None:
    _registered(monkeypatch, ())
    write_training_rows(lake, DATASET, "watcher")
    clips = load_training_clips(lake, DATASET, "watcher")
    ClipStore(clips, (32, 32), codec).batch([(0, 0, [1, 2])], np.random.default_rng(0))
    generate(lake, DATASET, _key())
    assert {"poses", "clips", "training_rows"} <= set(reads)
    assert not set(reads) & {"hands", "faces", "body_masks", "densepose", "clothing", "actions", "captions", "person_boxes"}


def test_only_what_is_needed_is_read(lake: Lake, monkeypatch: pytest.MonkeyPatch, reads: list[str]) -> None:
    _registered(monkeypatch, ("clothing",))
    write_training_rows(lake, DATASET, "watcher")
    (clip, _) = load_training_clips(lake, DATASET, "watcher")
    assert clip.signals is not None
    signals = clip.signals(["clothing"])
    assert signals.clothing is not None
    assert signals.clothing.sum() == pytest.approx(1)
    assert not set(reads) & {"hands", "faces", "body_masks", "densepose", "actions", "captions"}


def test_a_reader_of_signals_can_be_sent_to_another_process(lake: Lake, watcher: Watcher) -> None:
    write_training_rows(lake, DATASET, "watcher")
    clip = load_training_clips(lake, DATASET, "watcher")[0]
    there: TrainingClip = pickle.loads(pickle.dumps(clip))
    assert there.signals is not None
    assert clip.signals is not None
    np.testing.assert_array_equal(there.signals(["body_mask"]).body_mask.rows([0]), clip.signals(["body_mask"]).body_mask.rows([0]))  # type: ignore[union-attr]


def test_other_makers_than_those_of_the_rows_are_refused(lake: Lake, watcher: Watcher) -> None:
    write_training_rows(lake, DATASET, "watcher")
    with pytest.raises(UserError, match="materialize training_rows again"):
        load_training_clips(lake, replace(DATASET, signal_extractors={"faces": "truth"}), "watcher")


# --- batches and generation ------------------------------------------------------------------------------------------------------


def test_a_batch_is_what_generation_sees_of_the_same_frames(lake: Lake, watcher: Watcher, codec: LatentCodec) -> None:
    size, targets = (64, 48), [7, 2, 2]
    write_training_rows(lake, DATASET, "watcher")
    clips = load_training_clips(lake, DATASET, "watcher")
    batch = ClipStore(clips, size, codec, needs=NEEDS).batch([(1, 0, targets)], np.random.default_rng(0))
    clip = clips[1].clip
    scale = trained_sharpness(lake, DATASET, "watcher")
    assert scale is not None
    material = Material(poses=load_poses(lake, DATASET, [clip]), read=readers(lake, DATASET, makers_of(DATASET, NEEDS), scale), needs=NEEDS)
    driving = own_driving(clip, material, size)
    _equal(driving.signals.rows(targets), batch.signals)
    reference = reference_of(clip, decode_frames(clip, [0]), material, size)
    _equal(reference.signals, batch.reference_signals)
    assert torch.equal(to_signed(reference.image[None]), batch.reference_image)
    frames = fit_frames(decode_frames(clip), centre_box(clip.width, clip.height, size), size)
    assert torch.equal(to_signed(frames[targets]), batch.target_image)
    for name in ("blur", "hand_boxes", "face_boxes", "face_embeddings", "body_mask", "densepose"):
        assert getattr(batch.signals, name).abs().max() > 0, name  # something to compare
    assert batch.signals.caption
    assert batch.signals.character in batch.signals.caption


def test_the_blur_map_has_the_scale_that_the_checkpoint_was_trained_with(
    lake: Lake, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where this lake has trained nothing, as with a checkpoint that is shipped."""
    write_training_rows(lake, DATASET, "watcher")
    scale = trained_sharpness(lake, DATASET, "watcher")
    assert scale is not None
    lake.delete("training_rows", pc.field("method") == "watcher")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "manifest.json").write_text(json.dumps({"files": {}, "hand_sharpness_p99": repr(2 * scale)}))
    monkeypatch.setattr("models.generate.current_checkpoint", lambda *_: ("an id", folder))
    assert generate(lake, DATASET, _key()).failures == {}
    makers = makers_of(DATASET, NEEDS)
    clip = next(clip for clip in lake.clips(NAME) if clip.split != "train")
    poses = load_poses(lake, DATASET, [clip])
    expected, other = (
        own_driving(clip, Material(poses=poses, read=readers(lake, DATASET, makers, of), needs=NEEDS), (64, 64)).signals.blur
        for of in (2 * scale, scale)
    )
    assert expected is not None
    assert other is not None
    assert not torch.equal(expected, other)
    assert any(driving.signals.blur is not None and torch.equal(driving.signals.blur, expected) for _, driving in watcher.given)


def test_generation_gives_the_method_what_it_needs(lake: Lake, watcher: Watcher) -> None:
    write_training_rows(lake, DATASET, "watcher")
    done = generate(lake, DATASET, _key())
    assert done.failures == {}
    assert done.left_out == {}
    manifest = read_manifest(done.folder)
    assert manifest == done.manifest
    assert manifest.driving == "self"
    assert [clip.clip_id for clip in manifest.clips] == [clip.clip_id for clip in lake.clips(NAME, "test")]
    assert all(clip.truth_sharpness and clip.driving_clip_id is None for clip in manifest.clips)
    assert json.loads(manifest.sampler)["signals"]["faces"]["extractor"] == "scrfd_tiny"
    assert len(watcher.given) == 2
    for reference, driving in watcher.given:
        assert reference.signals.face_embeddings is not None
        assert reference.signals.face_embeddings.shape == (1, 128)
        assert driving.signals.densepose is not None
        assert driving.signals.densepose.shape == (FRAMES, 3, 64, 64)
        assert driving.fps == 24
        torch.testing.assert_close(driving.signals.rows([0]).body_mask, reference.signals.body_mask)
    assert generate(lake, DATASET, _key()).reused == 2


def test_held_out_clips_without_signals_are_counted(lake: Lake, watcher: Watcher) -> None:
    write_training_rows(lake, DATASET, "watcher")
    first, second = (clip.clip_id for clip in lake.clips(NAME, "test"))
    lake.delete("captions", pc.field("clip_id") == first)
    done = generate(lake, DATASET, _key())
    assert done.left_out == {"caption": 1}
    assert [clip.clip_id for clip in done.manifest.clips] == [second]
    lake.delete("captions", pc.field("clip_id") == second)
    with pytest.raises(UserError, match="2 of 2 held-out clips lack caption of extractor 'truth'"):
        generate(lake, DATASET, _key())


def test_cross_driving_follows_somebody_else_and_says_so(lake: Lake, watcher: Watcher) -> None:
    write_training_rows(lake, DATASET, "watcher")
    own, crossed = generate(lake, DATASET, _key()), generate(lake, DATASET, _key(), "cross")
    manifest = read_manifest(crossed.folder)
    assert manifest == crossed.manifest
    assert manifest.driving == "cross"
    assert manifest.prediction_id != own.manifest.prediction_id
    assert crossed.folder != own.folder
    clips = {clip.clip_id: clip for clip in lake.clips(NAME, "test")}
    drivers = {entry.clip_id: str(entry.driving_clip_id) for entry in manifest.clips}
    assert set(drivers) == set(clips)
    poses = load_poses(lake, DATASET, list(clips.values()))
    for (shown, driver), (reference, driving) in zip(drivers.items(), watcher.given[2:], strict=True):
        assert clips[shown].subject != clips[driver].subject
        _check_driven(clips[shown], clips[driver], reference, driving, poses)
        assert probe(crossed.folder / f"{shown}.mp4").frames == clips[driver].num_frames
    assert not any(entry.truth_sharpness for entry in manifest.clips)


def _check_driven(shown: Clip, driver: Clip, reference: Reference, driving: Driving, poses: Mapping[str, Any]) -> None:
    points, _ = poses[shown.clip_id]
    box = centre_box(shown.width, shown.height, (64, 64))
    np.testing.assert_allclose(reference.points, fit_points(points[0], box, (64, 64)))
    points, scores = poses[driver.clip_id]
    followed = retarget("limb", points, scores, reference.points, reference.scores)
    np.testing.assert_allclose(driving.points, followed)
    assert driving.signals.face_embeddings is None  # another person's
    assert driving.signals.body_mask is None
    assert driving.signals.clothing is None
    assert driving.signals.hand_boxes is not None
    assert driving.signals.densepose is not None
    hands, seen = driving.signals.hand_boxes, driving.signals.hand_boxes.any(dim=-1)
    wrists = torch.from_numpy(driving.points[:, [9, 10]])
    away = (wrists - (hands[..., :2] + hands[..., 2:]) / 2).abs().amax(dim=-1)
    assert seen.any()
    assert (away[seen] < 12).all()  # of 64 px: boxes lie on the moved hands
    visible = driving.points[:, :17][driving.scores[:, :17] > 0.9]
    x, y = visible.mean(axis=0)
    there = driving.signals.densepose[:, 0].mean(dim=0)
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    assert abs(float((columns * there).sum() / there.sum()) - x) < 6  # the surface lies where the skeleton is
    assert abs(float((rows * there).sum() / there.sum()) - y) < 10


def test_a_clip_that_is_there_is_not_made_again_and_its_frames_are_the_reference(lake: Lake, watcher: Watcher) -> None:
    write_training_rows(lake, DATASET, "watcher")
    done = generate(lake, DATASET, _key(), "cross")
    again = generate(lake, DATASET, _key(), "cross")
    assert (done.reused, again.reused) == (0, 2)
    entry = done.manifest.clips[0]
    frames = read_video(done.folder / entry.file).astype(int)
    assert np.abs(frames - frames[0]).mean() < 2


def test_one_person_alone_cannot_be_driven_by_another(lake: Lake, watcher: Watcher) -> None:
    write_training_rows(lake, DATASET, "watcher")
    lake.write("clips", [{**row, "subject": "the same"} for row in lake.rows("clips")])
    with pytest.raises(UserError, match="no held-out clip shows anybody else than the same"):
        generate(lake, DATASET, _key(), "cross")


def test_clips_with_signals_are_those_with_poses(lake: Lake, watcher: Watcher) -> None:
    first, second = lake.clips(NAME, "test")
    lake.delete("poses", pc.field("clip_id") == first.clip_id)
    found = signalled_clips(lake, DATASET, NEEDS, ("test",), "held-out")
    assert [clip.clip_id for clip in found.clips] == [second.clip_id]
    assert found.left_out == {"poses": 1}
