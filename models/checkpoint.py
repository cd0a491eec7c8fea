"""Checkpoints: diffusers' save_pretrained layout, one folder per part, and a manifest with parent, config and digests."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file

from models.norm_groups import KEY, regrouped
from models.training_loop import replace_folder, settle_folder
from pipelines.errors import UserError
from pipelines.sources.scan import sha256_of

MANIFEST = "manifest.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def save_checkpoint(folder: Path, parts: Mapping[str, Any], manifest: Mapping[str, Any]) -> Path:
    """Write every part and the manifest (with the sha256 of every file); the folder appears whole or not at all."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for name, part in parts.items():
        part.save_pretrained(partial / name)
        _drop_path(partial / name / "config.json")
    files = {str(path.relative_to(partial)): sha256_of(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    (partial / MANIFEST).write_text(json.dumps({**manifest, "files": files}, indent=1, sort_keys=True))
    replace_folder(partial, folder)
    return folder


def _drop_path(config: Path) -> None:
    """Take out where a part was loaded from: equal checkpoints are equal files, wherever they lie."""
    facts = json.loads(config.read_text())
    facts.pop("_name_or_path", None)
    config.write_text(json.dumps(facts, indent=2, sort_keys=True))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest; UserError where the folder is no checkpoint."""
    settle_folder(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise UserError(f"{folder} is no checkpoint: {MANIFEST} is missing; train the stage again, or give another folder")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        manifest["files"].items()
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"checkpoint {folder}: {MANIFEST} is damaged; train the stage again, or give another folder") from None
    return manifest


def verify(folder: Path) -> None:
    """Compare every file with the manifest's digest; UserError names the first that differs."""
    for name, digest in read_manifest(folder)["files"].items():
        if not (folder / name).is_file() or sha256_of(folder / name) != digest:
            raise UserError(f"checkpoint {folder}: {name} is missing or not what its manifest says; train the stage again")


def empty_part(kind: Any, folder: Path) -> Any:
    """A part as its config.json describes it, with weights that were not read."""
    config = kind.load_config(folder)
    part = kind.from_config(config)
    return regrouped(part, config[KEY]) if KEY in config else part


def load_part(kind: Any, folder: Path, *, may_be_missing: Collection[str] = ()) -> Any:
    """One part, strictly: every weight of the file has its place and every parameter its weight, but for the patterns in `may_be_missing`."""
    part = empty_part(kind, folder)
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / WEIGHTS} cannot be read ({error}); train the stage again, or give another folder") from None
    load_strictly(part, weights, source=str(folder), may_be_missing=may_be_missing)
    return part


def load_strictly(part: Any, weights: Mapping[str, Any], *, source: str, may_be_missing: Collection[str] = ()) -> None:
    """load_state_dict that names the first five keys of what does not fit. Raises UserError."""
    wanted = part.state_dict()
    missing = sorted(key for key in set(wanted) - set(weights) if not any(fnmatch(key, pattern) for pattern in may_be_missing))
    unexpected = sorted(set(weights) - set(wanted))
    resized = sorted(key for key in set(wanted) & set(weights) if wanted[key].shape != weights[key].shape)
    if missing or unexpected or resized:
        raise UserError(
            f"{source} does not fit {type(part).__name__}: missing {missing[:5]}, unexpected {unexpected[:5]}, of another shape {resized[:5]}; "
            "is it the checkpoint of another method or size?"
        )
    part.load_state_dict(weights, strict=not may_be_missing)
