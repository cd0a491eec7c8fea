"""Which checkpoint animates: the one that was named, the one that is shipped, or the newest of the lake."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from models.checkpoint import MANIFEST, read_manifest, verify
from models.methods import method_named
from models.shipped_checkpoint import SHIPPED, is_shipped, shipped_folder
from models.train import recipe_of
from pipelines.errors import UserError
from pipelines.lake import Lake


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """A method's variant with its checkpoint; folder and id are None and "" for a method that does not train."""

    method: str
    variant: str
    folder: Path | None
    checkpoint_id: str = ""
    origin: str = ""  # in words


def choose_checkpoint(lake: Lake, method: str, variant: str | None, named: str | None) -> Chosen:
    """What `--method`, `--variant` and `--checkpoint` mean; files are compared with their digests.

    named: a checkpoint's folder or its id in the lake, which also says the variant; without one and without a variant, the checkpoint
    that is shipped; where none is, or a variant is named, the last stage of it that finished last in the lake. Raises UserError.
    """
    known = method_named(method)
    if named is None and variant in (None, SHIPPED) and is_shipped(method):
        return _shipped(method)
    wanted = variant or known.default_variant
    known.config(wanted)
    if not known.stages_of(wanted):
        if named is not None:
            raise UserError(f"--checkpoint {named}: {method} has none, it does not train; leave the option out")
        return Chosen(method=method, variant=wanted, folder=None)
    if named is not None:
        return _named(lake, method, variant, named)
    found = _newest(lake, method, wanted)
    if found is None or found.folder is None:
        raise UserError(_how_to_get_one(lake, method, wanted))
    verify(found.folder)
    return found


def _shipped(method: str) -> Chosen:
    folder = shipped_folder(method)
    verify(folder)
    identity = str(read_manifest(folder)["checkpoint_id"])
    return Chosen(method=method, variant=SHIPPED, folder=folder, checkpoint_id=identity, origin=f"shipped checkpoint {identity}")


def _named(lake: Lake, method: str, variant: str | None, named: str) -> Chosen:
    folder = Path(named).expanduser()
    if not folder.is_dir():
        row = next(iter(_rows(lake, pc.field("checkpoint_id") == named)), None)
        if row is None:
            raise UserError(
                f"--checkpoint {named}: neither a folder nor the id of a checkpoint in {lake.address}; "
                f'`rotoscope query "select checkpoint_id, method, variant, stage from checkpoints"` lists them'
            )
        folder = lake.path(row["uri"])
    manifest = read_manifest(folder)
    verify(folder)
    theirs = manifest.get("method"), manifest.get("variant")
    if theirs[0] != method or (variant is not None and not _serves(manifest, method, variant)):
        raise UserError(
            f"--checkpoint {named} is of {theirs[0]}:{theirs[1]}, not of {method}:{variant or 'any variant'}; say so, or take another"
        )
    return Chosen(
        method=method,
        variant=variant or str(theirs[1]),
        folder=folder,
        checkpoint_id=str(manifest.get("checkpoint_id", "")),
        origin=f"checkpoint {named}",
    )


def _serves(facts: Mapping[str, Any], method: str, variant: str) -> bool:
    """Whether a checkpoint (its manifest or row) is this variant's, or of one that trains the same and only samples otherwise."""
    return facts.get("variant") == variant or facts.get("recipe") == recipe_of(method, variant, method_named(method).stages_of(variant)[-1])


def _newest(lake: Lake, method: str, variant: str) -> Chosen | None:
    """The last stage whose manifest was written last; rows whose folder is gone do not count."""
    where = (pc.field("method") == method) & (pc.field("stage") == method_named(method).stages_of(variant)[-1])
    found = [(lake.path(row["uri"]), row) for row in _rows(lake, where) if _serves(row, method, variant)]
    whole = [(folder, row) for folder, row in found if (folder / MANIFEST).is_file()]
    if not whole:
        return None
    folder, row = max(whole, key=lambda pair: (pair[0] / MANIFEST).stat().st_mtime_ns)
    origin = f"checkpoint {row['checkpoint_id']}, trained {row['steps']} steps on {row['dataset']}"
    return Chosen(method=method, variant=variant, folder=folder, checkpoint_id=row["checkpoint_id"], origin=origin)


def _rows(lake: Lake, where: pc.Expression) -> list[Mapping[str, Any]]:
    """Rows of `checkpoints`; none where there is no lake yet."""
    if not lake.list_files("delta/checkpoints"):
        return []
    return [*lake.rows("checkpoints", where)]


def _how_to_get_one(lake: Lake, method: str, variant: str) -> str:
    there = sorted({row["variant"] for row in _rows(lake, pc.field("method") == method)})
    others = f"; there are some of variant {', '.join(there)}: say --variant {there[0]}" if there else ""
    return (
        f"no trained checkpoint of {method}:{variant} in {lake.address}{others}; make one with `rotoscope demo`, or with "
        f"`rotoscope run --folder DIR --method {method} --variant {variant}`, or give --checkpoint FOLDER"
    )
