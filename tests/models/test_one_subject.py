"""Two performers in one picture: what belongs to the person whose poses are followed, and that nothing else is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.clip_signals import PackedFrames
from models.one_subject import is_somebody_else, people_of, share_of_faces, share_of_largest, share_on_mask
from models.signal_rows import Maker, signals_of_rows
from models.usable_clips import usable_clips
from pipelines.boxes import People
from pipelines.clip import Clip, Frames
from pipelines.clip_rows import split_into
from pipelines.errors import UserError
from pipelines.extract import extract
from pipelines.extractors.body_mask import mask_row
from pipelines.extractors.clothing import NAMES
from pipelines.extractors.person_box import PersonBox
from pipelines.extractors.person_crops import subject_finder
from pipelines.extractors.registry import EXTRACTORS, extractors_named
from pipelines.lake import Lake
from pipelines.masks import pack_array
from pipelines.performers.camera import Framing
from pipelines.performers.performer import Bystander, Performance, perform
from pipelines.performers.truth import Truth, truth_path
from pipelines.sources.registry import Dataset, register
from pipelines.sources.store import scan_into
from pipelines.split import SplitRule
from pipelines.video import encode_video

FRAMES = 6
SIZE = (128, 192)  # height, width: room for two beside each other
SMALLER, LARGER = 0.8, 1.2  # than the main person


def _two(scale: float) -> Performance:
    """The main person, whom the truth is about, to the left; somebody else to the right."""
    other = Bystander(identity=2006, motion=8, offset=0.5, scale=scale)
    return perform(2005, 3, frames=FRAMES, size=SIZE, framing=Framing(offset=-0.25), others=[other])


def _one() -> Performance:
    return perform(2005, 3, frames=FRAMES, size=SIZE)


@dataclass
class Boxed:
    """Masks and clothes of the largest track, as the real extractors choose it, from its box alone."""

    name: str = "boxed"
    version: int = 1
    tables: tuple[str, ...] = ("body_masks", "clothing", "densepose")

    def weights_digest(self) -> str:
        return "d"

    def load(self, device: str) -> Callable[[Clip, Frames], Any]:
        boxes_of = subject_finder(PersonBox(name="person_box_tiny", role="person_box_tiny"), device)

        def rows(clip: Clip, frames: Frames) -> Any:
            masks = []
            for frame, box in zip(frames, boxes_of(clip, frames, 8), strict=True):
                soft = np.zeros(frame.shape[:2], np.uint8)
                if box is not None:
                    x1, y1, x2, y2 = box.round().astype(int)
                    soft[y1:y2, x1:x2] = 255
                masks.append(soft)
            iuv = [pack_array(np.stack([mask // 255, mask, mask], axis=-1)) for mask in masks]
            return {
                "body_masks": [mask_row(mask) for mask in masks],
                "densepose": [{"iuv": data, "shape": shape, "dtype": dtype} for data, shape, dtype in iuv],
                "clothing": [{"frame": 0, "names": list(NAMES), "probabilities": [1 / len(NAMES)] * len(NAMES)}],
            }

        return rows


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Clips `alone`, `smaller` and `larger`, with poses of the main person and everything else of the largest one."""
    folder = tmp_path_factory.mktemp("two")
    made = {"alone": _one(), "smaller": _two(SMALLER), "larger": _two(LARGER)}
    for name, performance in made.items():
        path = folder / "videos" / f"{name}.mp4"
        encode_video(path, performance.frames, Fraction(24))
        performance.truth.save(truth_path(path))
    lake = Lake(folder / "lake").create()
    dataset = _dataset(folder / "videos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EXTRACTORS, "boxed", Boxed())
        register(lake, dataset)
        scan_into(lake, dataset)
        split_into(lake, dataset.name, SplitRule(min_frames=2))
        extract(extractors_named(dataset.extractors), lake.clips(dataset.name), lake, "serial", progress=False)
    return lake


def _dataset(folder: Path, poses: str = "truth") -> Dataset:
    return Dataset(
        name="two",
        kind="folder",
        folder=str(folder),
        extractors=("truth", "person_box_tiny", "scrfd_tiny", "boxed"),
        training_extractor=poses,
    )


def _names(clips: list[Clip]) -> list[str]:
    return sorted(Path(clip.uri).stem for clip in clips)


@pytest.mark.parametrize(
    ("name", "table"), [("faces", "faces"), ("body_mask", "body_masks"), ("densepose", "densepose"), ("clothing", "clothing")]
)
def test_clips_whose_signal_is_of_somebody_else_lack_it(lake: Lake, monkeypatch: pytest.MonkeyPatch, name: Any, table: str) -> None:
    monkeypatch.setitem(EXTRACTORS, "boxed", Boxed())
    dataset, clips = _dataset(lake.root.parent / "videos"), lake.clips("two")
    assert _names(clips) == ["alone", "larger", "smaller"]
    extractor = EXTRACTORS["scrfd_tiny" if name == "faces" else "boxed"]
    makers: Any = {name: Maker(extractor=extractor.name, version=extractor.version, weights_digest=extractor.weights_digest())}
    left, lacking = usable_clips(lake, dataset, clips, makers)
    assert _names(left) == ["alone", "smaller"]
    assert lacking == {name: 1}
    only = [clip for clip in clips if Path(clip.uri).stem == "larger"]
    with pytest.raises(UserError, match=f"1 of 1 training clips lack {name} .*more than one person.*the one whose poses are followed"):
        usable_clips(lake, dataset, only, makers)


def test_the_poses_own_signals_are_never_of_somebody_else(lake: Lake) -> None:
    dataset, clips = _dataset(lake.root.parent / "videos"), lake.clips("two")
    truth = EXTRACTORS["truth"]
    maker = Maker(extractor="truth", version=truth.version, weights_digest="")
    left, lacking = usable_clips(lake, dataset, clips, {"body_mask": maker, "densepose": maker, "clothing": maker})
    assert (len(left), lacking) == (3, {})


def test_faces_are_found_of_both_and_told_apart(lake: Lake) -> None:
    """What the detector chose, and the same rows with the other face chosen."""
    rows = {clip.clip_id: [] for clip in lake.clips("two")}  # type: ignore[var-annotated]
    for row in lake.rows("faces"):
        if row["extractor"] == "scrfd_tiny":
            rows[row["clip_id"]].append(row)
    for clip in lake.clips("two"):
        larger = Path(clip.uri).stem == "larger"
        truth = Truth.load(truth_path(Path(clip.uri)))
        faces = signals_of_rows(clip, {"faces": rows[clip.clip_id]}).faces
        assert faces is not None
        share = share_of_faces(faces, truth.keypoints, truth.scores)
        assert share is not None
        assert is_somebody_else(share) == larger
        assert share in (0, 1)


# --- the arithmetic --------------------------------------------------------------------------------------------------


def _pose(x: float) -> tuple[Any, Any]:
    """Two frames of a body of 10 px around x."""
    points = np.zeros((2, 133, 2), np.float32)
    points[..., 0], points[..., 1] = x + np.linspace(-5, 5, 133), np.linspace(10, 40, 133)
    return points, np.ones((2, 133), np.float32)


def test_a_share_of_nothing_is_none_and_says_nothing() -> None:
    points, scores = _pose(20)
    empty = PackedFrames([pack_array(np.zeros((50, 60), np.uint8))] * 2)
    assert share_on_mask(empty, points, scores) is None
    assert share_on_mask(PackedFrames([pack_array(np.full((50, 60), 255, np.uint8))] * 2), points, scores * 0) is None
    assert (
        share_of_largest([People(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))] * 2, points, scores) is None
    )
    assert not is_somebody_else(None)


@pytest.mark.parametrize(("x", "expected"), [(20, 1.0), (45, 0.0)])
def test_joints_on_a_mask_and_in_a_box(x: float, expected: float) -> None:
    points, scores = _pose(x)
    mask = np.zeros((50, 60), np.uint8)
    mask[:, :30] = 255
    assert share_on_mask(PackedFrames([pack_array(mask)] * 2), points, scores) == expected
    iuv = np.stack([mask // 255 * 3, mask, mask], axis=-1)
    assert share_on_mask(PackedFrames([pack_array(iuv)] * 2), points, scores) == expected
    row: dict[str, object] = {"boxes": [2.0, 0.0, 32.0, 50.0, 35.0, 5.0, 58.0, 45.0], "tracks": [4, 7]}
    people = people_of([row, row], lambda corners: corners)
    assert share_of_largest(people, points, scores) == expected  # track 4 is the largest


def test_joints_outside_the_picture_do_not_count() -> None:
    points, scores = _pose(20)
    points[:, 5] = -9, 500
    mask = np.full((50, 60), 255, np.uint8)
    assert share_on_mask(PackedFrames([pack_array(mask)] * 2), points, scores) == 1
