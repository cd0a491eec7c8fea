"""Each file of tests has a code location of its own: its resources remember the lake of whoever asked first."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def own_code_location() -> Iterator[None]:
    """Forget what an earlier file loaded, and what this one leaves."""
    _forget()
    yield
    _forget()


def _forget() -> None:
    run = sys.modules.get("assets.run")  # loading it takes seconds, and not every file needs it
    if run is not None:
        run._code_location.cache_clear()
