"""Options of the sources: each is in the documentation, and those that name files are kept as absolute paths."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from pipelines.sources.registry import source_dataset

SOURCES = ("url_list", "ubc_fashion", "ted_talks", "tiktok", "ucf101")


@pytest.mark.parametrize("kind", SOURCES)
def test_every_option_is_documented(kind: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()
    section = text[text.index(f"\n## {kind}\n") :].split("\n## ")[1]
    shared = text[text.index("\n## Downloading\n") :].split("\n## ")[1] if "(#downloading)" in section else ""
    options = importlib.import_module(f"pipelines.sources.{kind}").OPTIONS
    assert [name for name in options if f"`{name}`" not in section + shared] == []
    assert f"rotoscope run --source {kind}" in section


@pytest.mark.parametrize("kind", SOURCES)
def test_options_that_name_files_become_absolute_and_addresses_stay(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(f"pipelines.sources.{kind}")
    assert set(module.PATHS) <= set(module.OPTIONS)
    made = source_dataset(kind, dict.fromkeys(module.PATHS, "a/b.txt"))
    assert made.options == dict.fromkeys(module.PATHS, str(tmp_path / "a" / "b.txt"))
    address = "https://example.com/list.txt"
    assert source_dataset(kind, dict.fromkeys(module.PATHS, address)).options == dict.fromkeys(module.PATHS, address)
