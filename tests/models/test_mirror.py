"""DensePose of real people in a mirror: by the published table, against the published arithmetic in other words; refused without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.clip_signals import ClipSignals, PackedFrames
from models.mirror import mirrored_signals, require_mirrorable, symmetry_tables
from models.signals import Signals
from pipelines.errors import UserError
from pipelines.masks import pack_array

SIDES = [
    1,
    2,
    4,
    3,
    6,
    5,
    8,
    7,
    10,
    9,
    12,
    11,
    14,
    13,
    16,
    15,
    18,
    17,
    20,
    19,
    22,
    21,
    24,
    23,
]  # of the parts 1..24, as DensePose lists them


def _write(path: Path, tables: dict[str, Any]) -> Path:
    """In the published layout: cells [1, 24] of 256 x 256."""
    from scipy.io import savemat

    cells = {}
    for name, values in tables.items():
        cells[name] = np.empty((1, len(values)), object)
        for part, table in enumerate(values):
            cells[name][0, part] = table
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, cells)
    return path


def _tables() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, 256, (24, 256, 256)) / 255 for name in ("U_transforms", "V_transforms")}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("ROTOSCOPE_ACCEPT_TERMS", "densepose_symmetry")
    return tmp_path / "densepose_symmetry" / "UV_symmetry_transforms.mat"


def _real(iuv: Any) -> ClipSignals:
    return ClipSignals(frames=len(iuv), fps=30, densepose=PackedFrames([pack_array(image) for image in iuv]))


def test_a_point_goes_where_the_published_table_says(weights: Path) -> None:
    tables = _tables()
    _write(weights, tables)
    rng = np.random.default_rng(1)
    iuv = rng.integers(0, 256, (2, 20, 30, 3)).astype(np.uint8)
    iuv[..., 0] = rng.integers(0, 25, iuv.shape[:3])
    require_mirrorable(_real(iuv), "clip")  # the file is at hand
    image = torch.from_numpy(iuv).permute(0, 3, 1, 2).float() / torch.tensor([24, 255.0, 255.0])[:, None, None]
    made = mirrored_signals(Signals(densepose=image), 30, drawn_charts=False).densepose
    assert made is not None
    expected = np.zeros((2, 3, 20, 30))
    for n, y, x in np.ndindex(2, 20, 30):
        part, u, v = (int(value) for value in iuv[n, y, x])
        there = (part, u / 255, v / 255)
        if part:
            there = (SIDES[part - 1], tables["U_transforms"][part - 1, v, u], tables["V_transforms"][part - 1, v, u])
        expected[n, :, y, 29 - x] = there[0] / 24, there[1], there[2]
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-6)


def test_a_symmetric_table_makes_the_mirror_of_a_mirror_the_clip(weights: Path) -> None:
    """Across a part U runs the other way, along it V stays: exactly its own inverse, as the published one is but for rounding."""
    u, v = np.meshgrid(np.arange(256), np.arange(256))
    _write(weights, {"U_transforms": np.repeat(1 - u[None] / 255, 24, axis=0), "V_transforms": np.repeat(v[None] / 255, 24, axis=0)})
    rng = np.random.default_rng(2)
    iuv = torch.from_numpy(np.stack([rng.integers(0, 25, (1, 9, 8)) / 24, *(rng.integers(0, 256, (2, 1, 9, 8)) / 255)], axis=1)).float()
    once = mirrored_signals(Signals(densepose=iuv), 8, drawn_charts=False)
    twice = mirrored_signals(once, 8, drawn_charts=False)
    assert once.densepose is not None
    assert twice.densepose is not None
    assert not torch.equal(once.densepose, iuv)
    torch.testing.assert_close(twice.densepose, iuv)


def test_without_the_table_it_is_refused_with_what_to_do(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signals = _real(np.ones((1, 4, 4, 3), np.uint8))
    with pytest.raises(
        UserError, match=r"clip c: .*UV_symmetry_transforms.mat into .*ROTOSCOPE_ACCEPT_TERMS=densepose_symmetry .*set flip=0"
    ):
        require_mirrorable(signals, "c")
    _write(weights, _tables())
    require_mirrorable(signals, "c")
    monkeypatch.delenv("ROTOSCOPE_ACCEPT_TERMS")  # its terms are not accepted
    with pytest.raises(UserError, match="cannot use DensePose of real people"):
        require_mirrorable(signals, "c")


def test_another_file_is_not_taken_for_the_table(tmp_path: Path) -> None:
    other = tmp_path / "UV_symmetry_transforms.mat"
    other.write_bytes(b"no tables")
    with pytest.raises(UserError, match=r"is not DensePose's UV_symmetry_transforms.mat"):
        symmetry_tables(other)
    tables = _tables()
    with pytest.raises(UserError, match=r"is not DensePose's UV_symmetry_transforms.mat"):
        symmetry_tables(_write(other, {"U_transforms": tables["U_transforms"]}))
    with pytest.raises(UserError, match="expected"):
        symmetry_tables(_write(other, {name: table * 2 for name, table in tables.items()}))
