"""Protocols: geometry, windows, names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from eval.geometry import bring_to_size
from eval.metrics import METRICS
from eval.protocols import DEMO, DEMO_STANDIN, PROTOCOLS, STANDARD, protocol_named
from eval.published import PUBLISHED_CSV, load_published, published_rows
from pipelines.errors import ClipError, UserError
from pipelines.extractors.metric_networks import FEATURE_NETWORKS, FLOW_NETWORKS, PAIR_NETWORKS
from pipelines.lake import Lake


def test_windows_do_not_overlap_and_skip_the_reference() -> None:
    assert STANDARD.windows(48, None) == [0, 16, 32]
    assert STANDARD.windows(48, 0) == [1, 17]
    assert STANDARD.windows(48, 20) == [0, 21]
    assert STANDARD.windows(15, None) == []
    overlapping = dataclasses.replace(STANDARD, stride=1)
    assert overlapping.windows(48, None) == list(range(33))  # n - 15 windows


def test_the_reference_frame_is_not_scored() -> None:
    assert STANDARD.scored_frames(4, 0) == [1, 2, 3]
    assert STANDARD.scored_frames(4, None) == [0, 1, 2, 3]
    assert dataclasses.replace(STANDARD, reference="scored").scored_frames(4, 0) == [0, 1, 2, 3]


def test_standard_resizes_to_short_side_512() -> None:
    assert STANDARD.size_of(1080, 604) == (915, 512)
    assert STANDARD.size_of(512, 512) == (512, 512)
    assert DEMO_STANDIN.size_of(128, 96) == (128, 96)


def test_both_sides_come_to_one_size() -> None:
    small = dataclasses.replace(STANDARD, short_side=32)
    truth, generated = np.zeros((2, 108, 60, 3), np.uint8), np.full((2, 64, 36, 3), 9, np.uint8)
    prediction, resized = bring_to_size(small, "c", generated, truth)
    assert prediction.shape == resized.shape == (2, 58, 32, 3)
    assert set(np.unique(prediction)) == {9}
    close = np.full((2, 64, 32, 3), 9, np.uint8)  # 64x32 for 64x35.6: a method that needs sides divisible by 32
    with pytest.raises(ClipError, match="aspect"):
        bring_to_size(small, "c", close, truth)
    assert bring_to_size(small, "c", np.full((2, 64, 35, 3), 9, np.uint8), truth)[0].shape == (2, 58, 32, 3)
    with pytest.raises(ClipError, match="aspect"):
        bring_to_size(small, "c", np.zeros((2, 64, 64, 3), np.uint8), truth)
    with pytest.raises(ClipError, match="frame_count"):
        bring_to_size(small, "c", generated[:1], truth)


def test_every_protocol_is_complete() -> None:
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert set(protocol.metrics) <= set(METRICS)
        for role, network in protocol.networks.items():
            assert network in {"lpips": PAIR_NETWORKS, "flow": FLOW_NETWORKS}.get(role, FEATURE_NETWORKS), (name, role)
        roles = {METRICS[metric].role for metric in protocol.metrics} - {None}
        assert roles == set(protocol.networks), name
        assert protocol.standin == ("standin" in name)
        assert protocol.standin == any("standin" in network for network in protocol.networks.values())


def test_unknown_protocols_list_what_there_is() -> None:
    with pytest.raises(UserError, match=r"standard: .*demo_standin: "):
        protocol_named("disco_frames_2")
    assert protocol_named("demo") is DEMO
    assert protocol_named("DISCO-FRAMES") is PROTOCOLS["disco"]


def test_bad_combinations_fail_at_construction() -> None:
    with pytest.raises(ValueError, match="stride"):
        dataclasses.replace(STANDARD, stride=17)
    with pytest.raises(ValueError, match="contradict"):
        dataclasses.replace(STANDARD, short_side=None)


def test_published_numbers_load(tmp_path: Path) -> None:
    rows = published_rows()
    assert len(rows) == 687
    assert {row["better"] for row in rows} == {"up", "down"}
    for row in rows:
        if row["metric_id"] in METRICS:
            assert row["better"] == METRICS[row["metric_id"]].better, row
    lake = Lake(tmp_path).create()
    load_published(lake)
    assert lake.read("published").num_rows == 687
    assert next(r for r in rows if r["metric_id"] == "memory_gb")["value"] == 5.4


def test_a_broken_published_file_names_the_line(tmp_path: Path) -> None:
    broken = tmp_path / "p.csv"
    lines = PUBLISHED_CSV.read_text(encoding="utf-8").splitlines()[:3]
    broken.write_text("\n".join([lines[0], lines[1], lines[2].replace(lines[2].split(",")[9], "abc")]), encoding="utf-8")
    with pytest.raises(UserError, match="line 3"):
        published_rows(broken)


def test_the_centre_square_is_cut_from_both_sides() -> None:
    truth = np.zeros((1, 40, 100, 3), np.uint8)
    truth[:, :, 30:70] = 200
    square = dataclasses.replace(STANDARD, short_side=16, crop="center_square")
    whole, ready = bring_to_size(square, "c", truth, truth)
    own, _ = bring_to_size(square, "c", np.full((1, 16, 16, 3), 200, np.uint8), truth)
    for frames in (whole, ready, own):
        assert frames.shape == (1, 16, 16, 3)
        assert set(np.unique(frames)) == {200}
