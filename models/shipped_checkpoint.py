"""Checkpoints small enough to ship: differences to the tiny family's base networks (pipelines/packed_weights.py).

A checkpoint of the demo's size is 10 to 20 MB; what it learnt beyond its base fits into 3 MB.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from models.checkpoint import MANIFEST, WEIGHTS, read_manifest, verify
from models.training_loop import replace_folder
from pipelines.code_version import ROOT
from pipelines.errors import MissingWeightsError, UserError
from pipelines.packed_weights import packed_bytes, restored_bytes, tensors_of
from pipelines.sources.scan import sha256_of

SHIPPED = "shipped"  # the variant that uses one
FOLDER = ROOT / "pipelines" / "tiny"
PACKED = "weights.safetensors.xz"

Bases = Mapping[str, Sequence[Path]]
"""Part of a checkpoint -> safetensors files of the networks that it began from; together they hold its names, or some of them."""


def ship(checkpoint: Path, folder: Path, bases: Bases, beside: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write `folder`, a packed copy of `checkpoint`; returns its manifest, with the digests of the bases. Raises UserError.

    beside: further text files by name.
    """
    verify(checkpoint)
    manifest = read_manifest(checkpoint)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for part in sorted(path.parent for path in checkpoint.glob(f"*/{WEIGHTS}")):
        target = partial / part.name
        target.mkdir(parents=True)
        shutil.copy(part / "config.json", target)
        base = tensors_of(bases.get(part.name, ()))
        (target / PACKED).write_bytes(packed_bytes(load_file(part / WEIGHTS), base))
    files = {path.relative_to(partial).as_posix(): sha256_of(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    facts = {**manifest, "files": files, "packed": _digests(bases)}
    for name, text in (beside or {}).items():
        (partial / name).write_text(text)
    (partial / MANIFEST).write_text(json.dumps(facts, indent=1, sort_keys=True))
    replace_folder(partial, folder)
    return facts


@contextmanager
def unpacked(folder: Path, bases: Bases) -> Iterator[Path]:
    """A packed checkpoint as an ordinary one, in a temporary folder. Raises UserError where a base is not the one that it was packed against."""
    manifest = read_manifest(folder)
    _same_bases(folder, manifest["packed"], bases)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / folder.name
        for part in sorted(path.parent for path in folder.glob(f"*/{PACKED}")):
            target = whole / part.name
            target.mkdir(parents=True)
            shutil.copy(part / "config.json", target)
            base = tensors_of(bases.get(part.name, ()))
            save_file(restored_bytes((part / PACKED).read_bytes(), base), target / WEIGHTS)
        shutil.copy(folder / MANIFEST, whole)
        yield whole


def shipped_folder(method: str) -> Path:
    """Where the project keeps a method's packed checkpoint. Raises MissingWeightsError where it has none."""
    folder = FOLDER / method
    if not (folder / MANIFEST).is_file():
        raise MissingWeightsError(f"no checkpoint of {method} is shipped: {folder} has no {MANIFEST}; run: rotoscope tiny ship {method}")
    return folder


def is_shipped(method: str) -> bool:
    """Whether the project ships a checkpoint of the method."""
    return (FOLDER / method / MANIFEST).is_file()


def is_packed(folder: Path) -> bool:
    """Whether a checkpoint has to be unpacked."""
    return "packed" in read_manifest(folder)


def _digests(bases: Bases) -> dict[str, list[str]]:
    return {name: [sha256_of(file) for file in files] for name, files in sorted(bases.items())}


def _same_bases(folder: Path, wanted: Mapping[str, list[str]], bases: Bases) -> None:
    found = _digests(bases)
    wrong = sorted(name for name in wanted if found.get(name) != wanted[name])
    if wrong:
        raise UserError(
            f"shipped checkpoint {folder.name}: {wrong[0]} was packed against another base than the one that is here; "
            "restore pipelines/tiny as it was released, or train the method"
        )
