"""Weights small enough to ship: whole numbers of a row's step, compressed; unpacked once, into files in the published layout.

Each tensor is

    w = base + step * code,   code = round((w - base) / step), a whole number from -127 to 127

with base = 0 where there is no base, or it has no tensor of that name and shape. Each row (output channel) has its own step, a share of the
root mean square of its differences: with one step for a whole tensor the same size cost 0.7 dB of a method's clips in place of 0.4. The error is
at most half a step. Small tensors (norms, biases, stems) stay in half precision. The codes are about normally distributed and independent, so
a range coder that looks at single bytes (LZMA without context) packs them into 4 to 6 bits each; zstd took 5 % more.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import UserError
from pipelines.file_digest import digest_of

if TYPE_CHECKING:
    from torch import Tensor

ENDING = ".xz"  # of a packed file's name, after .safetensors
FACTS = "packed.json"  # beside packed files: which network they are differences to, and its key
CARD_FILES = ("card.json", "README.md")  # what is said of a network, not the network
STEP_OF_DIFFERENCE, STEP_OF_WHOLE = 0.27, 0.2  # of the root mean square; errors of 0.6 % and 0.3 % of its energy
FINE = 0.5  # of those steps, for networks that everything else begins from: with whole steps the base's error of v rose from 0.405 to 0.419
SMALL = 4096  # numbers; tensors with fewer stay in half precision


def pack_folder(folder: Path, base: Path | None = None) -> None:
    """Replace every .safetensors file under `folder` by a packed one.

    base: the folder of a network, packed or not, beside this one when it is unpacked again; its tensors are what differences are taken to.
    """
    known = _tensors_of(whole(base)) if base is not None else {}
    for path in sorted(folder.rglob("*.safetensors")):
        path.with_name(path.name + ENDING).write_bytes(packed_bytes(_load(path), known, FINE))
        path.unlink()
    if base is not None:
        (folder / FACTS).write_text(json.dumps({"base": base.name, "key": key_of(base)}, indent=1) + "\n")


def is_packed(folder: Path) -> bool:
    """Whether any weights under a folder have to be unpacked."""
    return any(folder.rglob(f"*.safetensors{ENDING}"))


def whole(folder: Path, beside: Path | None = None) -> Path:
    """The folder itself, or, where it is packed, one in the cache with float16 weights in the published layout.

    beside: where the network that it is a difference to lies; default: the folder's parent.
    Raises UserError where that network is another one than it was packed against, or the cache cannot be written.
    """
    if not is_packed(folder):
        return folder
    target = cache_folder() / f"{folder.name.strip('.').split('.')[0]}-{key_of(folder)[:16]}"
    if not target.is_dir():
        _unpack(folder, target, _base_of(folder, beside or folder.parent))
    return target


def cache_folder() -> Path:
    """Where unpacked networks are kept: $XDG_CACHE_HOME/rotoscope, by default ~/.cache/rotoscope. It may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rotoscope"


def key_of(folder: Path) -> str:
    """sha256 over the names and contents of a network's files, without its card."""
    return digest_of(folder, without=CARD_FILES)


def _base_of(folder: Path, beside: Path) -> dict[str, Tensor]:
    if not (folder / FACTS).is_file():
        return {}
    facts = json.loads((folder / FACTS).read_text())
    base = beside / facts["base"]
    if not base.is_dir() or key_of(base) != facts["key"]:
        raise UserError(
            f"{folder} was packed against another {facts['base']} than the one at {base}; restore that folder as it was released, "
            f"or run: rotoscope tiny train {folder.name}"
        )
    return _tensors_of(whole(base))


def _unpack(folder: Path, target: Path, base: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial, ignore=shutil.ignore_patterns(f"*{ENDING}", FACTS, *CARD_FILES))
        for path in sorted(folder.rglob(f"*.safetensors{ENDING}")):
            weights = {
                name: value.half() if value.is_floating_point() else value
                for name, value in restored_bytes(path.read_bytes(), base).items()
            }
            save_file(weights, (partial / path.relative_to(folder)).with_suffix(""), metadata={"format": "pt"})
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        if not target.is_dir():  # else another process was first
            raise UserError(
                f"{folder} cannot be unpacked into {target} ({error}); set XDG_CACHE_HOME to a folder that can be written"
            ) from None


def packed_bytes(weights: Mapping[str, Tensor], base: Mapping[str, Tensor], fineness: float = 1.0) -> bytes:
    """The content of a packed file; arguments as for `packed`."""
    from safetensors.torch import save

    return lzma.compress(save(packed(weights, base, fineness)), filters=[{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 0, "lp": 0, "pb": 0}])


def restored_bytes(content: bytes, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a packed file, float32 and contiguous."""
    from safetensors.torch import load

    return {name: value.contiguous() for name, value in restored(load(lzma.decompress(content)), base).items()}


def packed(weights: Mapping[str, Tensor], base: Mapping[str, Tensor], fineness: float = 1.0) -> dict[str, Tensor]:
    """Codes (int8) under a tensor's name and its steps [rows] under `name#step`; small tensors in half precision under `name#half`.

    fineness: the steps' share of the usual ones.
    """
    import torch

    made: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.numel() < SMALL or not weight.is_floating_point():
            made[f"{name}#half"] = weight.half() if weight.is_floating_point() else weight
            continue
        known = _known(name, weight, base)
        difference = weight.float() if known is None else weight.float() - known
        share = fineness * (STEP_OF_WHOLE if known is None else STEP_OF_DIFFERENCE)
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
            known = _known(name, value, base)
            difference = value.float() * _by_row(made[f"{name}#step"], value)
            weights[name] = difference if known is None else difference + known
    return weights


def tensors_of(files: Sequence[Path]) -> dict[str, Tensor]:
    """All tensors of some safetensors files."""
    return {name: value for file in files for name, value in _load(file).items()}


def _tensors_of(folder: Path) -> dict[str, Tensor]:
    return tensors_of(sorted(folder.rglob("*.safetensors")))


def _load(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(path))


def _by_row(steps: Tensor, weight: Tensor) -> Tensor:
    """Steps [rows] as a tensor that multiplies `weight` [rows, ...]."""
    return steps.float().view(-1, *[1] * (weight.dim() - 1))


def _known(name: str, weight: Tensor, base: Mapping[str, Tensor]) -> Tensor | None:
    known = base.get(name)
    return known.float() if known is not None and known.shape == weight.shape else None
