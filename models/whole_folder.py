"""Folders that appear whole: a kill in the middle leaves the old one or the new one, never half of one."""

from __future__ import annotations

import shutil
from pathlib import Path


def replace_folder(new: Path, folder: Path) -> None:
    """Put `new` where `folder` is; a kill in between leaves one of the two, which `settle_folder` finds."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def settle_folder(folder: Path) -> None:
    """Undo a replacement that was cut off between its two renames."""
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():
        old.rename(folder)
