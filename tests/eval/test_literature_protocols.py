"""Every protocol end to end on a small lake, with small networks in the places of the published ones; numbers checked by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from eval import networks
from eval.benchmark import benchmark
from eval.frechet import frechet_distance_of_rows
from eval.metrics import METRICS
from eval.metrics.psnr_overflow import FLOOR_DB
from eval.protocols import DISCO, DISCO_GIF, DISCO_TM, HIA_NATIVE, MRAA_TED, PROTOCOLS
from eval.score import score
from pipelines.clip import Frames
from pipelines.errors import MissingWeightsError
from pipelines.extractors.lpips import StandinLpips
from pipelines.video import decode_frames, read_video

FRAMES, SIZE = 18, 40


@dataclass(frozen=True)
class Small:
    """Means over a grid, times a fixed random matrix."""

    name: str
    dimensions: int = 6
    version: int = 1
    gone: bool = False

    def weights_digest(self) -> str:
        if self.gone:
            raise MissingWeightsError(f"{self.name}: a.bin is missing")
        return f"digest of {self.name}"

    def load(self, device: str) -> Callable[[Frames], np.ndarray]:
        matrix = np.random.default_rng(len(self.name)).normal(size=(48, self.dimensions))

        def features(batch: Frames) -> np.ndarray:
            frames = batch.reshape(-1, *batch.shape[-3:])
            small = np.stack([cv2.resize(frame, (4, 4), interpolation=cv2.INTER_AREA) for frame in frames]).reshape(len(frames), -1)
            made = (small @ matrix / 255).astype(np.float32)
            return made.reshape(len(batch), -1, self.dimensions).mean(axis=1)

        return features


class SmallLpips(StandinLpips):
    def weights_digest(self) -> str:
        return "digest of lpips"


@dataclass(frozen=True)
class Still(Small):
    def load(self, device: str) -> Any:
        return self

    def __call__(self, first: Frames, second: Frames) -> np.ndarray:
        return np.zeros((len(first), 2, *first.shape[1:3]), np.float32)

    def both_ways(self, frames: Frames) -> tuple[np.ndarray, np.ndarray]:
        return self(frames[:-1], frames[1:]), self(frames[1:], frames[:-1])

    def images(self, frames: Frames) -> np.ndarray:
        return np.float32(frames.transpose(0, 3, 1, 2)) / 255


def made_up(protocol: Any, role: str) -> Any:
    if role == "lpips":
        return SmallLpips()
    if role == "flow":
        return Still("flow")
    return Small(protocol.networks[role], {"pose": 399, "akd_pose": 54}.get(role, 6))


@pytest.fixture
def small_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "network_of", made_up)


def shaky(truth: Frames) -> Frames:
    noise = np.random.default_rng(3).integers(-20, 21, truth.shape)
    return np.clip(truth.astype(int) + noise, 0, 255).astype(np.uint8)


def run(tiny: Any, protocol: str, make: Callable[[Frames], Frames] = shaky) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """(metric -> benchmark row, metric -> score row of the first clip)."""
    prediction_id = tiny.add_method("shaky", make)
    report = score(tiny.lake, protocol=protocol, dataset=tiny.dataset, split=tiny.split, prediction_id=prediction_id)
    assert report.failed == []
    table = {r["metric"]: r for r in benchmark(tiny.lake, protocol=protocol, dataset=tiny.dataset, split=tiny.split).to_pylist()}
    rows = {r["metric"]: r for r in tiny.lake.rows("scores") if r["clip_id"] == tiny.clip_ids[0] and r["protocol"] == protocol}
    return table, rows


def first_clip(tiny: Any) -> tuple[Frames, Frames]:
    """(generated, true) frames as they are in the files."""
    clip = next(c for c in tiny.lake.clips(tiny.dataset, tiny.split) if c.clip_id == tiny.clip_ids[0])
    row = next(r for r in tiny.lake.rows("predictions") if r["clip_id"] == clip.clip_id)
    return read_video(tiny.lake.path(row["uri"])), decode_frames(clip)


@pytest.mark.parametrize("name", [name for name, protocol in PROTOCOLS.items() if protocol.driven_by == "self"])
@pytest.mark.usefixtures("small_networks")
def test_every_protocol_gives_all_its_numbers(make_lake: Callable[..., Any], name: str) -> None:
    tiny = make_lake(clips=2, frames=FRAMES, size=SIZE)
    table, _ = run(tiny, name)
    assert set(table) == set(PROTOCOLS[name].metrics)
    for metric, row in table.items():
        if metric == "mkr" or (name in ("standard", "pose_animate_wild", "mraa_ted") and METRICS[metric].role in ("pose", "akd_pose")):
            continue  # key points of a network that sees none
        assert row["value"] is not None, (metric, row["note"])
        assert METRICS[metric].low <= row["value"] <= METRICS[metric].high
    again = score(tiny.lake, protocol=name, dataset=tiny.dataset, split=tiny.split, prediction_id=tiny.add_method("shaky", shaky))
    assert (again.scored, again.cached) == (0, 2)


@pytest.mark.usefixtures("small_networks")
def test_disco_by_hand(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2, frames=FRAMES, size=SIZE)
    table, rows = run(tiny, "disco")
    prediction, truth = first_clip(tiny)
    true = np.stack([np.asarray(Image.fromarray(f).resize((256, 256), Image.Resampling.BILINEAR)) for f in truth])
    made = np.stack([cv2.resize(f, (256, 256), interpolation=cv2.INTER_LINEAR) for f in prediction])
    d = made.astype(np.float64) - true
    np.testing.assert_allclose(rows["l1"]["per_frame"], np.abs(d).mean(axis=(1, 2, 3)) / 256**2, rtol=1e-12)
    np.testing.assert_allclose(rows["psnr"]["per_frame"], 20 * np.log10(255 / np.sqrt((d**2).mean(axis=(1, 2, 3)))), rtol=1e-12)
    wrapped = ((made - true) ** 2).astype(np.uint8)  # uint8 arithmetic wraps
    np.testing.assert_allclose(rows["psnr_overflow"]["per_frame"], 20 * np.log10(255 / np.sqrt(wrapped.mean(axis=(1, 2, 3)))), rtol=1e-9)
    assert min(rows["psnr_overflow"]["per_frame"]) >= FLOOR_DB
    assert rows["l1"]["count"] == FRAMES  # the reference frame is scored
    assert table["fvd"]["windows"] == table["fid_vid"]["windows"] == 2 * (FRAMES - 15)
    held = tiny.lake.rows("metric_features")
    sides = {
        source: np.stack([r["feature"] for r in held if r["extractor"] == "i3d_400" and (r["source"] == "truth") == (source == "truth")])
        for source in ("truth", "generated")
    }
    assert table["fvd"]["value"] == pytest.approx(
        frechet_distance_of_rows(sides["generated"], sides["truth"], float32_means=True), rel=1e-9
    )


@pytest.mark.usefixtures("small_networks")
def test_the_temporal_module_protocol_sees_first_frames_only(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2, frames=FRAMES, size=SIZE)
    table, rows = run(tiny, "disco_tm")
    assert [t for t, value in enumerate(rows["l1"]["per_frame"]) if value is not None] == [0, FRAMES - 16]
    assert (table["fid"]["frames"], table["fvd"]["windows"]) == (4, 4)


@pytest.mark.usefixtures("small_networks")
def test_a_clip_shorter_than_a_window_is_a_failed_row_or_left_out(make_lake: Callable[..., Any]) -> None:
    tiny = make_lake(clips=2, frames=10, size=SIZE)
    ids = tiny.add_method("shaky", shaky)
    report = score(tiny.lake, protocol="disco_tm", dataset=tiny.dataset, split=tiny.split, prediction_id=ids)
    assert [(code, "window of 16" in reason) for _, code, reason in report.failed] == [("too_short", True)] * 2
    table, _ = run(tiny, "disco")
    assert table["fvd"]["value"] is None
    assert "needs at least 2" in table["fvd"]["note"]
    assert table["l1"]["value"] is not None


def test_windows_of_the_literature() -> None:
    assert DISCO.windows(20, 0) == [0, 1, 2, 3, 4]
    assert DISCO_GIF.windows(20, 0) == [0, 1, 2, 3]  # the last one is dropped
    assert DISCO_TM.windows(48, 0) == [0, 16, 32]
    assert DISCO_TM.windows(40, 0) == [0, 16, 24]  # walks back
    assert DISCO_TM.windows(12, 0) == []
    assert HIA_NATIVE.windows(17, 0) == [0, 1]
    assert MRAA_TED.scored_frames(4, 0) == [0, 1, 2, 3]


@pytest.mark.usefixtures("small_networks")
def test_hia_pads_for_networks_only(make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    real = Small.load

    def load(self: Small, device: str) -> Callable[[Frames], np.ndarray]:
        run_it = real(self, device)
        return lambda batch: (seen.append(batch.shape[-3:-1]), run_it(batch))[1]

    monkeypatch.setattr(Small, "load", load)
    tiny = make_lake(clips=2, frames=FRAMES, size=SIZE)
    _table, rows = run(tiny, "hia_native")
    assert set(seen) == {(SIZE, SIZE)}
    prediction, truth = first_clip(tiny)
    expected = np.abs(prediction.astype(np.float64) - truth).mean(axis=(1, 2, 3)) / SIZE**2
    np.testing.assert_allclose(rows["l1"]["per_frame"], expected, rtol=1e-12)


def test_a_network_that_is_not_at_hand_leaves_its_column_empty_and_says_so(
    make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_face(protocol: Any, role: str) -> Any:
        return Small("arcface", gone=True) if role == "face" else made_up(protocol, role)

    monkeypatch.setattr(networks, "network_of", without_face)
    tiny = make_lake(clips=2, frames=FRAMES, size=SIZE)
    table, _ = run(tiny, "disco")
    assert table["csim"]["value"] is None
    assert "arcface are not at hand" in table["csim"]["note"]
    monkeypatch.setattr(networks, "network_of", made_up)
    report = score(tiny.lake, protocol="disco", dataset=tiny.dataset, split=tiny.split, prediction_id=table["l1"]["prediction_id"])
    assert (report.scored, report.features) == (2, 2 * (FRAMES + 1))  # the faces only: every generated frame, and the reference
    table = {r["metric"]: r for r in benchmark(tiny.lake, protocol="disco", dataset=tiny.dataset, split=tiny.split).to_pylist()}
    assert table["csim"]["value"] is not None


def test_a_main_network_that_is_not_at_hand_is_an_error(make_lake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "network_of", lambda protocol, role: Small(role, gone=role == "fvd"))
    tiny = make_lake(clips=1, frames=FRAMES, size=SIZE)
    with pytest.raises(MissingWeightsError):
        score(tiny.lake, protocol="disco", dataset=tiny.dataset, split=tiny.split, prediction_id=tiny.add_method("shaky", shaky))
