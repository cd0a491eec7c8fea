"""Pretrained files that we call and never ship: where each comes from, how it is found, and its digest.

A file is looked for at an explicit path, in the folder ROTOSCOPE_WEIGHTS, in the Hugging Face cache, and then
downloaded through huggingface_hub (unless HF_HUB_OFFLINE is set). What was used first is what stays: `weights.lock`
holds its digest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pipelines.errors import MissingWeightsError, UserError
from pipelines.file_digest import digest_of
from pipelines.packed_weights import whole
from pipelines.weights_table import WEIGHTS, WeightFile

__all__ = ["WEIGHTS", "WeightFile", "digest_of", "find_weights", "lock_digest", "locked_by", "weights_at_hand", "without_downloads"]

_TINY = Path(__file__).resolve().parent / "tiny"

_LOCK: ContextVar[Path | None] = ContextVar("weights_lock", default=None)
_DOWNLOADS: ContextVar[bool] = ContextVar("weights_downloads", default=True)


def find_weights(role: str, explicit: Path | None = None, *, lock: Path | None = None, download: bool = True) -> Path:
    """The file or folder of a role, with its digest checked against the stated one and against the lock.

    lock: weights.lock to check and write; default the one of the enclosing `locked_by`, else none.
    Raises MissingWeightsError; UserError for an unknown role, terms not accepted, or a file that is not the one it was.
    """
    weight = _weight(role)
    _require_acceptance(weight)
    path = _resolve(weight, explicit, download=download and _DOWNLOADS.get())
    _check_stated(weight, path)
    lock = lock or _LOCK.get()
    if lock is not None and not weight.shipped:  # what is shipped changes with the code, whose version every row names
        lock_digest(lock, weight, path)
    return path


def weights_at_hand(role: str) -> Path | None:
    """The same without a download; None where the file is not here or its terms are not accepted."""
    weight = _weight(role)
    if weight.non_commercial and role not in _accepted_roles():
        return None
    try:
        return find_weights(role, download=False)
    except MissingWeightsError:
        return None


@contextmanager
def without_downloads() -> Iterator[None]:
    """No `find_weights` inside asks the network: what is not here is missing."""
    token = _DOWNLOADS.set(False)
    try:
        yield
    finally:
        _DOWNLOADS.reset(token)


@contextmanager
def locked_by(lock: Path) -> Iterator[None]:
    """Every `find_weights` inside checks and writes this weights.lock."""
    token = _LOCK.set(lock)
    try:
        yield
    finally:
        _LOCK.reset(token)


def lock_digest(lock: Path, weight: WeightFile, path: Path) -> None:
    """Write the digest of a role's file on first use; UserError where a later file differs."""
    known: dict[str, Any] = json.loads(lock.read_text()) if lock.exists() else {}
    digest, entry = digest_of(path), known.get(weight.role)
    if entry is None:
        known[weight.role] = {"sha256": digest, "file": path.name, "source": weight.source, "licence": weight.licence,
                              "terms_accepted": True if weight.non_commercial else None}  # fmt: skip
        partial = lock.with_name(f".{lock.name}.{os.getpid()}.part")
        partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
        os.replace(partial, lock)
    elif entry["sha256"] != digest:
        raise UserError(
            f"weights for {weight.role!r}: {path} has sha256 {digest}, but {lock} says "
            f"{entry['sha256']} was used before; put the old file back, "
            f"or remove the entry {weight.role!r} from {lock} to go on with the new one"
        )


def _weight(role: str) -> WeightFile:
    if role not in WEIGHTS:
        raise UserError(f"no weights role {role!r}; there are: {', '.join(sorted(WEIGHTS))}")
    return WEIGHTS[role]


def _accepted_roles() -> set[str]:
    return set(os.environ.get("ROTOSCOPE_ACCEPT_TERMS", "").replace(",", " ").split())


def _require_acceptance(weight: WeightFile) -> None:
    if weight.non_commercial and weight.role not in _accepted_roles():
        raise MissingWeightsError(
            f"weights for {weight.role!r} ({weight.source}, {weight.licence}) are for non-commercial use only; "
            f"if you accept these terms: export ROTOSCOPE_ACCEPT_TERMS={weight.role}"
        )


def _resolve(weight: WeightFile, explicit: Path | None, *, download: bool) -> Path:
    if explicit is not None:
        if not explicit.exists():
            raise MissingWeightsError(_missing(weight, f"{explicit} does not exist"))
        return explicit
    if weight.shipped:
        return _shipped(weight)
    local = _in_folder(weight)
    if local is not None:
        return local
    if weight.is_url:
        raise MissingWeightsError(_missing(weight, "it is not in the folder ROTOSCOPE_WEIGHTS"))
    return _from_hub(weight, download=download and not _offline())


def _shipped(weight: WeightFile) -> Path:
    name = weight.role.removesuffix("_tiny")
    path = whole(_TINY / name) / Path(weight.file).relative_to(name)
    if not path.exists():
        raise MissingWeightsError(f"weights for {weight.role!r}: {weight.file} is not in pipelines/tiny; run: rotoscope tiny train {name}")
    return path


def _in_folder(weight: WeightFile) -> Path | None:
    """ROTOSCOPE_WEIGHTS/<role>/<file>, /<file> or /<last part of file>."""
    root = os.environ.get("ROTOSCOPE_WEIGHTS")
    if not root:
        return None
    if not Path(root).is_dir():
        raise UserError(f"ROTOSCOPE_WEIGHTS={root} is no folder; set it to the folder that holds your weights, or unset it")
    names = (Path(weight.role) / weight.file, Path(weight.file), Path(Path(weight.file).name))
    return next((Path(root) / name for name in names if (Path(root) / name).exists()), None)


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _from_hub(weight: WeightFile, *, download: bool) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        if not weight.is_folder:
            return Path(hf_hub_download(weight.source, weight.file, local_files_only=not download))
        root = snapshot_download(weight.source, allow_patterns=[f"{weight.file}/*"], local_files_only=not download)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        cause = f"the download failed ({error})" if download else "it is not in the Hugging Face cache"
        raise MissingWeightsError(_missing(weight, cause)) from error
    folder = Path(root) / weight.file
    if not folder.is_dir():
        raise MissingWeightsError(_missing(weight, "it is not in the Hugging Face cache"))
    return folder


def _missing(weight: WeightFile, cause: str) -> str:
    pattern = f"--include '{weight.file}/*'" if weight.is_folder else weight.file
    command = f"huggingface-cli download {weight.source} {pattern}"
    if weight.is_url:
        command = f"curl -L --create-dirs -o \"$ROTOSCOPE_WEIGHTS/{Path(weight.source).name}\" '{weight.source}'"
    note = f" ({weight.note})" if weight.note else ""
    return (
        f"weights for {weight.role!r} are missing: {weight.file} of {weight.source} "
        f"(licence: {weight.licence}){note}; {cause}. "
        f"Put it into a folder and `export ROTOSCOPE_WEIGHTS=/that/folder`, or run: {command}"
    )


def _check_stated(weight: WeightFile, path: Path) -> None:
    if weight.sha256 is not None and digest_of(path) != weight.sha256:
        raise UserError(
            f"weights for {weight.role!r}: {path} has sha256 {digest_of(path)}, stated is {weight.sha256}; "
            f"the file is damaged or another one: fetch it again from {weight.source}"
        )
