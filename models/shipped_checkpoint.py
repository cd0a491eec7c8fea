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
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from models.checkpoint import MANIFEST, WEIGHTS, read_manifest, verify
from models.training_loop import replace_folder
from pipelines.code_version import ROOT
from pipelines.errors import MissingWeightsError, UserError
from pipelines.packed_weights import packed_bytes, restored_bytes, tensors_of
from pipelines.sources.scan import sha256_of

if TYPE_CHECKING:
    from torch import Tensor

SHIPPED = "shipped"  # the variant that uses one
FOLDER = ROOT / "pipelines" / "tiny"
PACKED = "weights.safetensors.xz"
LIMIT = 2_950_000  # bytes of weights; with the rest of the folder under 3 MB
COARSEST = 3.0  # multiple of the usual steps; their errors are 5 % of the energy of what was learnt

Bases = Mapping[str, Sequence[Path]]
"""Part of a checkpoint -> safetensors files of the networks that it began from; together they hold its names, or some of them."""


def ship(checkpoint: Path, folder: Path, bases: Bases, beside: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write `folder`, a packed copy of `checkpoint`, as fine as LIMIT allows; returns its manifest, with the digests of the bases. Raises UserError.

    beside: further text files by name.
    """
    verify(checkpoint)
    manifest = read_manifest(checkpoint)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(partial, ignore_errors=True)
    parts = {path.parent.name: path.parent for path in sorted(checkpoint.glob(f"*/{WEIGHTS}"))}
    step, contents = _within_the_limit({name: (load_file(part / WEIGHTS), tensors_of(bases.get(name, ()))) for name, part in parts.items()})
    for name, part in parts.items():
        target = partial / name
        target.mkdir(parents=True)
        shutil.copy(part / "config.json", target)
        (target / PACKED).write_bytes(contents[name])
    files = {path.relative_to(partial).as_posix(): sha256_of(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    facts = {**manifest, "files": files, "packed": _digests(bases), "packing_step": round(step, 3)}
    for name, text in (beside or {}).items():
        (partial / name).write_text(text)
    (partial / MANIFEST).write_text(json.dumps(facts, indent=1, sort_keys=True))
    replace_folder(partial, folder)
    return facts


def _within_the_limit(parts: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]) -> tuple[float, dict[str, bytes]]:
    """(weights, base) by part -> (steps' multiple of the usual ones, content by part): the usual steps where they do, else the first larger ones."""
    step = 1.0
    while step < COARSEST:
        contents = {name: packed_bytes(weights, base, step) for name, (weights, base) in parts.items()}
        if sum(map(len, contents.values())) <= LIMIT:
            return step, contents
        step *= 1.1
    raise UserError(
        f"the checkpoint does not fit into {LIMIT / 1e6:.2f} MB even in steps {COARSEST} times the usual ones; a smaller network would"
    )


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
