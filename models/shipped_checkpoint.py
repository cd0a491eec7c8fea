"""Checkpoints small enough to ship: differences to the tiny family's base networks, quantised and compressed.

A checkpoint of the demo's size is 10 to 20 MB; what it learnt beyond its base fits into 3 MB. Each tensor is

    w = base + step * code,   code = round((w - base) / step), a whole number from -127 to 127

with base = 0 where the part, or the tensor, has none. Each row (output channel) has its own step, a share of the root mean square of its
differences: with one step for a whole tensor the same size cost 0.7 dB of the clips in place of 0.4. The error is at most half a step. Small
tensors (norms, biases, stems) stay in half precision. The codes are about normally distributed and independent, so a range coder that
looks at single bytes (LZMA without context) packs them into 4 to 6 bits each; zstd took 5 % more.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, load_file, save
from torch import Tensor

from models.checkpoint import MANIFEST, WEIGHTS, read_manifest, verify
from models.training_loop import replace_folder
from pipelines.code_version import ROOT
from pipelines.errors import MissingWeightsError, UserError
from pipelines.sources.scan import sha256_of

SHIPPED = "shipped"  # the variant that uses one
FOLDER = ROOT / "pipelines" / "tiny"
PACKED = "weights.safetensors.xz"
STEP_OF_DIFFERENCE, STEP_OF_WHOLE = 0.25, 0.2  # of the root mean square; errors of 0.5 % and 0.3 % of its energy
SMALL = 4096  # numbers; tensors with fewer stay in half precision

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
        base = _weights_of(bases.get(part.name, ()))
        (target / PACKED).write_bytes(_compressed(save(packed(load_file(part / WEIGHTS), base))))
    files = {path.relative_to(partial).as_posix(): sha256_of(path) for path in sorted(partial.rglob("*")) if path.is_file()}
    facts = {**manifest, "files": files, "packed": _digests(bases)}
    for name, text in (beside or {}).items():
        (partial / name).write_text(text)
    (partial / MANIFEST).write_text(json.dumps(facts, indent=1, sort_keys=True))
    replace_folder(partial, folder)
    return facts


def packed(weights: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Codes (int8) under a tensor's name and its steps [rows] under `name#step`; small tensors in half precision under `name#half`."""
    made: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.numel() < SMALL or not weight.is_floating_point():
            made[f"{name}#half"] = weight.half() if weight.is_floating_point() else weight
            continue
        known = _base_of(name, weight, base)
        difference = weight.float() if known is None else weight.float() - known
        share = STEP_OF_WHOLE if known is None else STEP_OF_DIFFERENCE
        steps = (difference.flatten(1).square().mean(1).sqrt() * share).clamp_min(1e-12).bfloat16()
        made[name] = (difference / _by_row(steps, difference)).round().clamp(-127, 127).to(torch.int8)
        made[f"{name}#step"] = steps
    return made


def restored(made: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights again, float32, off by at most half a step each (codes at their limit aside)."""
    weights: dict[str, Tensor] = {}
    for name, value in made.items():
        if name.endswith("#half"):
            weights[name.removesuffix("#half")] = value.float() if value.is_floating_point() else value
        elif not name.endswith("#step"):
            known = _base_of(name, value, base)
            difference = value.float() * _by_row(made[f"{name}#step"], value)
            weights[name] = difference if known is None else difference + known
    return weights


def _by_row(steps: Tensor, weight: Tensor) -> Tensor:
    """Steps [rows] as a tensor that multiplies `weight` [rows, ...]."""
    return steps.float().view(-1, *[1] * (weight.dim() - 1))


@contextmanager
def unpacked(folder: Path, bases: Bases) -> Iterator[Path]:
    """A packed checkpoint as an ordinary one, in a temporary folder. Raises UserError where a base is not the one that it was packed against."""
    from safetensors.torch import save_file

    manifest = read_manifest(folder)
    _same_bases(folder, manifest["packed"], bases)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / folder.name
        for part in sorted(path.parent for path in folder.glob(f"*/{PACKED}")):
            target = whole / part.name
            target.mkdir(parents=True)
            shutil.copy(part / "config.json", target)
            base = _weights_of(bases.get(part.name, ()))
            weights = restored(load(_decompressed((part / PACKED).read_bytes())), base)
            save_file({key: value.contiguous() for key, value in weights.items()}, target / WEIGHTS)
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


def _weights_of(files: Sequence[Path]) -> dict[str, Tensor]:
    return {name: value for file in files for name, value in load_file(file).items()}


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


def _base_of(name: str, weight: Tensor, base: Mapping[str, Tensor]) -> Tensor | None:
    known = base.get(name)
    return known.float() if known is not None and known.shape == weight.shape else None


def _compressed(content: bytes) -> bytes:
    return lzma.compress(content, filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}])


def _decompressed(content: bytes) -> bytes:
    return lzma.decompress(content)
