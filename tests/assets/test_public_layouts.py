"""The public data sets' layouts, small and with drawn people, from crawl to the benchmark table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import dagster as dg
import numpy as np
import numpy.typing as npt
import pytest

from assets.run import prepare, run_benchmark, run_model
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.query import query
from pipelines.sources.registry import Dataset
from tests.layouts.people import draw
from tests.layouts.server import served
from tests.layouts.ted_talks import Talk, TedTalks, write_ted_talks
from tests.layouts.tiktok import as_zip, write_tiktok
from tests.layouts.ubc_fashion import write_ubc_fashion, write_url_lists
from tests.layouts.ucf101 import write_ucf101

pytestmark = pytest.mark.slow

MODEL = "copy_reference:default:0"
FRAMES, SIZE = 20, 128


class Project:
    """A lake and an instance of its own."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.folder, self.lake, self.instance = folder, Lake(folder / "lake").create(), instance

    def benchmark(self, kind: str, options: Mapping[str, Any], extractors: tuple[str, ...] = ("mediapipe",)) -> list[dict[str, Any]]:
        """Everything from the crawl on; rows of the benchmark table. Poses are MediaPipe's, as a user without downloads has them."""
        self.prepare(kind, options, extractors)
        run_model(self.instance, self.lake, kind, MODEL)
        page = run_benchmark(self.instance, self.lake, kind)
        assert page.is_file()
        return query(self.lake, f"select metric, value, clips, frames from benchmark where dataset = '{kind}'").to_pylist()

    def prepare(self, kind: str, options: Mapping[str, Any], extractors: tuple[str, ...] = ("mediapipe",)) -> None:
        """Crawl, clips and features; nothing fails."""
        dataset = Dataset(
            name=kind,
            kind=kind,  # type: ignore[arg-type]  # the data set checks it
            extractors=extractors,
            training_extractor="mediapipe",
            protocol="standin_128_square",
            options=dict(options),
        )
        assert prepare(self.instance, self.lake, dataset, engine="serial").failed == 0

    def clips(self) -> list[dict[str, Any]]:
        """Usable clips."""
        return query(self.lake, "select * from clips where status = 'ok' order by video_id, start_frame").to_pylist()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("ROTOSCOPE_HOME", str(tmp_path / "lake"))
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield Project(tmp_path, instance)


def _is_complete(rows: list[dict[str, Any]], clips: int) -> None:
    """Every paired metric was computed over all held-out clips."""
    values = {row["metric"]: row for row in rows}
    assert {"l1", "psnr", "ssim"} <= set(values)
    assert values["psnr"]["clips"] == clips
    assert 5 < values["psnr"]["value"] < 60  # people move: not a copy, and not noise


def test_tiktok_from_its_archive(project: Project) -> None:
    people = {"00001": 1, "00002": 2, "00335": 3, "00336": 4, "00337": 5, "00338": 6, "00339": 7, "00340": 8}
    root = write_tiktok(project.folder / "public", people, frames=FRAMES, size=SIZE)
    archive = as_zip(root, project.folder / "TikTok_dataset.zip")
    options = {"archive": str(archive), "accept_terms": True, "sequences": "1-2,335-340"}
    rows = project.benchmark("tiktok", options, ("mediapipe", "dataset_annotations"))
    _is_complete(rows, clips=6)
    for table in ("body_masks", "densepose"):
        held = query(project.lake, f"select count(*) n, count(error) bad from {table} where extractor = 'dataset_annotations'").to_pylist()
        assert held == [{"n": len(people) * FRAMES, "bad": 0}]


def test_ucf101_from_its_folders(project: Project) -> None:
    folder = write_ucf101(project.folder / "public", {"TaiChi": {1: 1, 2: 2}, "YoYo": {1: 3, 2: 4}}, frames=FRAMES, size=SIZE)
    rows = project.benchmark("ucf101", {"folder": str(folder), "accept_terms": True})
    _is_complete(rows, clips=2)
    assert {clip["subject"] for clip in project.clips() if clip["split"] == "test"} == {"TaiChi_g01", "YoYo_g01"}


TALKS = {
    "VM6HZqQKhok": Talk(identity=1, partition="train", ranges=((0, 20), (24, 44))),
    "4E_1AB1rsSw": Talk(identity=2, partition="test", ranges=((4, 24), (30, 50))),
}


def test_ted_talks_from_the_full_list_and_local_talks(project: Project) -> None:
    made = write_ted_talks(project.folder / "public", TALKS, size=SIZE)
    rows = project.benchmark("ted_talks", {"metadata": str(made.ted384), "talks": str(made.videos), "accept_terms": True})
    _is_complete(rows, clips=2)
    ranges = {(first, last) for talk in TALKS.values() for first, last in talk.ranges}
    assert {(clip["start_frame"], clip["end_frame"]) for clip in project.clips()} == ranges
    assert {tuple(clip["crop"]) for clip in project.clips()} == {(SIZE // 2, 0, SIZE, SIZE)}
    _poses_are_pixels_of_the_talk(project)
    value = next(row["value"] for row in rows if row["metric"] == "l1")
    assert value == pytest.approx(_l1(project, made, slice(SIZE // 2, None)), rel=1e-3)
    assert value != pytest.approx(_l1(project, made, slice(SIZE // 4, SIZE // 4 + SIZE)), rel=0.05)  # the middle, had there been no crop


def _poses_are_pixels_of_the_talk(project: Project) -> None:
    """Found joints lie on the drawn ones, which stand half a picture right of where the crop alone would put them."""
    for clip in project.clips():
        truth = draw(TALKS[clip["video_id"][:11]].identity, clip["end_frame"], SIZE).truth
        rows = query(project.lake, f"select frame, keypoints from poses where clip_id = '{clip['clip_id']}' order by frame").to_pylist()
        assert [row["frame"] for row in rows] == list(range(clip["end_frame"] - clip["start_frame"]))
        drawn = truth.keypoints[clip["start_frame"] : clip["end_frame"], :17] + np.array([SIZE / 2, 0], np.float32)
        seen = truth.scores[clip["start_frame"] : clip["end_frame"], :17] == 1
        found = np.array([row["keypoints"] for row in rows], np.float32).reshape(len(rows), 133, 2)[:, :17]
        assert np.median(np.linalg.norm(found - drawn, axis=-1)[seen]) < SIZE / 12


def _l1(project: Project, made: TedTalks, columns: slice) -> float:
    """L1 between the generated clips and `columns` of the talks' own ranges, the first frame (the reference) aside."""
    files = query(project.lake, "select clip_id, uri from predictions").to_pylist()
    generated = {row["clip_id"]: _frames(project.lake.path(row["uri"])) for row in files}
    errors = []
    for clip in project.clips():
        if clip["split"] == "ted_csv":
            talk = _frames(made.videos / f"{clip['video_id'][:11]}.mp4")[clip["start_frame"] : clip["end_frame"], :, columns]
            errors.append(np.abs(generated[clip["clip_id"]] - talk)[1:].mean((1, 2, 3)) / 255)
    return float(np.concatenate(errors).mean())


def _frames(path: Path) -> npt.NDArray[np.float64]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.float64)


def test_ted_talks_from_the_list_as_committed_only_with_the_rate_of_its_ids(project: Project) -> None:
    made = write_ted_talks(project.folder / "public", TALKS, size=SIZE)
    options = {"metadata": str(made.committed), "talks": str(made.videos), "accept_terms": True}
    with pytest.raises(UserError, match="id_range_fps"):
        project.prepare("ted_talks", options)
    project.prepare("ted_talks", {**options, "id_range_fps": made.fps})
    ranges = {(first, last) for talk in TALKS.values() for first, last in talk.ranges}
    assert {(clip["start_frame"], clip["end_frame"]) for clip in project.clips()} == ranges


def test_ubc_fashion_from_its_url_lists(project: Project) -> None:
    made = write_ubc_fashion(project.folder / "public", {"train": [1, 2], "test": [3, 4]}, frames=FRAMES, size=SIZE)
    with served(made.served) as host:
        write_url_lists(made, host)
        options = {"train_list": str(made.train), "test_list": str(made.test), "accept_terms": True, "allow_private_hosts": True}
        _is_complete(project.benchmark("ubc_fashion", options), clips=2)
    held = query(project.lake, "select split, count(*) n from videos where status = 'ok' group by 1 order by 1").to_pylist()
    assert held == [{"split": "test", "n": 2}, {"split": "train", "n": 2}]
