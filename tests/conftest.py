"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that finds no weights must not wait for a network


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value or not Path(value).is_dir():
        pytest.skip(f"{variable} names no folder of test material")
    return Path(value)


@pytest.fixture(scope="session")
def media() -> Path:
    """Real footage (not part of the project)."""
    return _folder("ROTOSCOPE_TEST_MEDIA")


@pytest.fixture(scope="session")
def weights_dir() -> Path:
    """Small real networks (not part of the project)."""
    return _folder("ROTOSCOPE_TEST_WEIGHTS")


@pytest.fixture
def own_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The test's own folder as the only place of weights; networks that it makes have the same random weights each time."""
    import torch

    monkeypatch.setenv("ROTOSCOPE_WEIGHTS", str(tmp_path))
    torch.manual_seed(0)
    return tmp_path
