"""Code versions follow what the code does, not how it is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import code_version


def _version(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "a.py").write_text(text)
    monkeypatch.setattr(code_version, "ROOT", folder)
    code_version.code_version.cache_clear()
    code_version._meaning.cache_clear()
    return code_version.code_version("a.py")


def test_comments_docstrings_and_layout_change_nothing_and_a_number_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    plain = _version(monkeypatch, tmp_path, "def f(x):\n    return x + 1\n")
    dressed = _version(
        monkeypatch, tmp_path, '"""Adds."""\n\n\ndef f(x):  # one more\n    """One more."""\n    return (x\n            + 1)\n'
    )
    other = _version(monkeypatch, tmp_path, "def f(x):\n    return x + 2\n")
    assert plain == dressed != other
    code_version.code_version.cache_clear()
    code_version._meaning.cache_clear()


def test_a_process_has_one_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = _version(monkeypatch, tmp_path, "x = 1\n")
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_version.code_version("a.py") == first
    code_version.code_version.cache_clear()
    code_version._meaning.cache_clear()


def test_a_folder_counts_every_file_and_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    place = tmp_path / "part" / "deep"
    place.mkdir(parents=True)
    monkeypatch.setattr(code_version, "ROOT", tmp_path)

    def now() -> str:
        code_version.code_version.cache_clear()
        code_version._meaning.cache_clear()
        return code_version.code_version("part")

    (place / "a.py").write_text("x = 1\n")
    seen = [now()]
    (place / "b.py").write_text("")
    seen.append(now())
    (place / "b.py").rename(place / "c.py")
    seen.append(now())
    (place / "notes.txt").write_text("not code")
    assert now() == seen[-1]
    assert len(set(seen)) == 3
    code_version.code_version.cache_clear()
    code_version._meaning.cache_clear()
