"""The extractors that can be asked for by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipelines.errors import UserError
from pipelines.extractors.registry import EXTRACTORS, extractors_named
from pipelines.tables import TABLES


def test_every_extractor_writes_tables_that_exist_under_its_own_name() -> None:
    for name, extractor in EXTRACTORS.items():
        assert extractor.name == name
        assert set(extractor.tables) <= set(TABLES)


def test_names_are_looked_up_once_each() -> None:
    assert [extractor.name for extractor in extractors_named(["truth", "mediapipe", "truth"])] == ["truth", "mediapipe"]


def test_an_unknown_name_lists_the_names() -> None:
    with pytest.raises(UserError, match=r"'dwpoze'; there are: action, .*mediapipe, .*truth"):
        extractors_named(["truth", "dwpoze"])


def test_the_registry_loads_no_heavy_library() -> None:
    heavy = {"torch", "ray", "cv2", "mediapipe", "onnxruntime"}
    code = f"import sys, pipelines.extractors.registry; print(*sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
