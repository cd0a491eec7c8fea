"""Unpacking an archive of unknown origin: zip, tar (plain, gz, bz2, xz) and, where the `rarfile` package and an unrar tool are there, rar.

Everything lands in a hidden folder beside the target, which takes the target's name when the last member is written. Links
of any kind, devices, names that leave the folder or collide, and archives that blow up are refused: the whole archive is, not one member.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from pipelines.errors import UserError
from pipelines.tar_stream import CHUNK, DAMAGE, is_tar, open_tar

_RATIO_FLOOR = 64 << 20  # bytes that any archive may unpack to, whatever its ratio: small archives of black masks are no bombs
_LONGEST_NAME = 240  # bytes of one part of a path; file systems stop at 255
_LONGEST_PATH = 1000  # bytes of all parts: what is made of parts without end costs memory and time
_TRAILING = 64 << 20  # bytes that may follow a tar's last member
_TURNED = (
    "\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # letters that turn or break a line of text
)

# What a damaged archive makes the readers raise.
_DAMAGE = (*DAMAGE, zipfile.BadZipFile, NotImplementedError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What an archive may unpack to; counted while unpacking, whatever its headers say."""

    bytes: int = 500 << 30  # of all files
    ratio: float = 250.0  # unpacked bytes per byte of the archive, above 64 MB; deflate alone reaches 1032
    members: int = 3_000_000  # files and folders


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry; `open` gives its bytes and is called at most once, before the next member is asked for."""

    name: str
    kind: Literal["file", "folder", "link", "device"]
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, limits: Limits | None = None) -> Path:
    """Unpack `archive` as `folder` (what was there is replaced), whole or not at all; returns `folder`.

    Raises UserError, naming the member: a name outside the folder or with control characters, a link, a device, two names that are one on
    some file systems, more bytes or members than `limits` allow, an encrypted or damaged archive, an unknown format.
    """
    members = _reader(archive)
    _remove_leftovers(folder)
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial.mkdir(mode=0o700)  # nobody else can put a link into it while it is written
    content = partial / "content"
    content.mkdir()
    try:
        _write_all(archive, members, content, limits or Limits())
        _swap(content, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_all(archive: Path, members: Callable[[Path], Iterator[_Member]], folder: Path, limits: Limits) -> None:
    gauge = _Gauge(archive, limits)
    names = _Names(archive.name)
    try:
        for member in members(archive):
            gauge.count_member(member.name)
            parts = names.accept(member)
            if not parts:
                continue
            if member.kind == "folder":
                folder.joinpath(*parts).mkdir(parents=True, exist_ok=True)
            else:
                _write(member, folder.joinpath(*parts), gauge)
    except _DAMAGE as error:
        raise _refused(archive.name, f"the archive is damaged ({error or type(error).__name__})", "download it again") from None
    except RuntimeError as error:  # zipfile: encrypted
        raise _refused(archive.name, str(error), "unpack it yourself and give the folder") from None


def _write(member: _Member, path: Path, gauge: _Gauge) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with member.open() as source, path.open("xb") as target:
        while chunk := source.read(CHUNK):
            gauge.count_bytes(member.name, len(chunk))
            target.write(chunk)


def _swap(partial: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        os.rename(folder, old)
    os.rename(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """What killed processes left: hidden folders that carry the number of a process that is gone."""
    for path in folder.parent.glob(f".{folder.name}.*.*"):
        owner = re.fullmatch(re.escape(f".{folder.name}.") + r"(\d+)\.(part|old)", path.name)
        if owner is not None and (int(owner[1]) == os.getpid() or not Path(f"/proc/{owner[1]}").exists()):
            shutil.rmtree(path, ignore_errors=True)


def _refused(what: str, cause: str, remedy: str) -> UserError:
    return UserError(f"archive {what}: {cause}; {remedy}")


@dataclass(slots=True)
class _Gauge:
    """Counts bytes and members against the limits."""

    archive: Path
    limits: Limits
    members: int = 0
    bytes: int = 0

    def count_member(self, name: str) -> None:
        self.members += 1
        if self.members > self.limits.members:
            raise _refused(
                f"{self.archive.name}, member {name!r}", f"more than {self.limits.members} members", "unpack it yourself if you trust it"
            )

    def count_bytes(self, name: str, count: int) -> None:
        self.bytes += count
        by_ratio = max(_RATIO_FLOOR, self.limits.ratio * self.archive.stat().st_size)
        if self.bytes > min(self.limits.bytes, by_ratio):
            cause = f"it unpacks to more than {min(self.limits.bytes, by_ratio):.3g} bytes, which its size of {self.archive.stat().st_size} does not explain"
            raise _refused(f"{self.archive.name}, member {name!r}", cause, "unpack it yourself if you trust it")


@dataclass(slots=True)
class _Names:
    """Names given so far, as a file system that ignores case and Unicode composition sees them."""

    archive: str
    _seen: dict[str, tuple[str, bool]] = field(default_factory=dict)  # folded -> (as written, is a folder)

    def accept(self, member: _Member) -> list[str]:
        """Parts of the member's path below the target; empty for the root itself. Raises UserError."""
        name = member.name.replace("\\", "/")  # some archivers write Windows paths
        cause = _unsafe(name, member.kind)
        if cause is not None:
            raise _refused(f"{self.archive}, member {member.name!r}", cause, "nothing of it was kept; get the archive from its publisher")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        for depth in range(1, len(parts) + 1):
            self._register("/".join(parts[:depth]), member.name, folder=depth < len(parts) or member.kind == "folder")
        return parts

    def _register(self, path: str, name: str, *, folder: bool) -> None:
        key = unicodedata.normalize("NFC", path).casefold()
        if key not in self._seen:
            self._seen[key] = (path, folder)
            return
        known, was_folder = self._seen[key]
        if known != path or not (folder and was_folder):
            cause = f"{path!r} is there twice" if known == path else f"it collides with {known!r} where case is ignored"
            raise _refused(f"{self.archive}, member {name!r}", cause, "nothing of it was kept; repack it with distinct names")


def _unsafe(name: str, kind: str) -> str | None:
    """Why a member is not unpacked."""
    if kind in ("link", "device"):
        return f"it is a {kind}, and only files and folders are unpacked"
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "its path is absolute"
    parts = name.split("/")
    if ".." in parts:
        return "its path leaves the folder (..)"
    if any(unicodedata.category(letter) == "Cc" or letter in _TURNED for letter in name):
        return "its name holds control characters"
    if len(name.encode(errors="replace")) > _LONGEST_PATH:
        return f"its name is longer than {_LONGEST_PATH} bytes"
    try:
        long = any(len(part.encode()) > _LONGEST_NAME for part in parts)
    except UnicodeEncodeError:
        return "its name is not Unicode"
    return f"a part of its name is longer than {_LONGEST_NAME} bytes" if long else None


# --- formats ---------------------------------------------------------------------------------------------------------


def _reader(archive: Path) -> Callable[[Path], Iterator[_Member]]:
    """By content, not by ending. Raises UserError."""
    try:
        with archive.open("rb") as file:
            head = file.read(8)
        if head.startswith(b"Rar!\x1a\x07"):
            return _rar_reader(archive)
        if is_tar(archive):
            return _tar_members
        if zipfile.is_zipfile(archive):
            return _zip_members
    except OSError as error:
        raise _refused(str(archive), error.strerror or str(error), "give the archive that you downloaded") from None
    raise _refused(
        archive.name, "it is neither zip, tar nor rar, or it is cut short", "download it again, or unpack it and give the folder"
    )


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            mode = info.external_attr >> 16 & 0o170000  # of Unix; 0 where the archiver wrote none
            kind: Literal["file", "folder", "link", "device"] = "folder" if info.is_dir() else "file"
            if mode == 0o120000:
                kind = "link"
            elif mode not in (0, 0o100000, 0o040000):
                kind = "device"
            yield _Member(info.filename, kind, lambda info=info: opened.open(info))  # type: ignore[misc]


def _tar_members(archive: Path) -> Iterator[_Member]:
    with open_tar(archive) as stream, tarfile.open(fileobj=stream, mode="r:") as opened:
        for info in opened:
            kind: Literal["file", "folder", "link", "device"] = "device"
            if info.issym() or info.islnk():
                kind = "link"
            elif info.isdir():
                kind = "folder"
            elif info.isreg():
                kind = "file"
            yield _Member(info.name, kind, lambda info=info: _tar_file(opened, info))  # type: ignore[misc]
        behind = 0
        while count := len(stream.read(CHUNK)):  # gzip, bzip2 and xz check their sums at the end of the stream, behind the last member
            behind += count
            if behind > _TRAILING:
                raise tarfile.ReadError("its end is followed by more than padding")


def _tar_file(opened: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = opened.extractfile(info)
    assert file is not None  # regular files always open
    return file


def _rar_reader(archive: Path) -> Callable[[Path], Iterator[_Member]]:
    try:
        import rarfile  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        remedy = f"unpack it with `unrar x {archive.name}` and give the option folder, or `pip install rarfile` and install unrar"
        raise _refused(archive.name, "rar archives need the rarfile package and an unrar tool", remedy) from None
    tools = (rarfile.RarCannotExec, rarfile.Error)

    def members(path: Path) -> Iterator[_Member]:
        try:
            with rarfile.RarFile(path) as opened:
                for info in opened.infolist():
                    yield _Member(info.filename, _rar_kind(info), lambda info=info: opened.open(info))  # type: ignore[misc]
        except tools as error:
            raise _refused(
                path.name, str(error) or type(error).__name__, "install unrar, or unpack it yourself and give the folder"
            ) from None

    return members


def _rar_kind(info: Any) -> Literal["file", "folder", "link", "device"]:
    if info.is_symlink() or getattr(info, "file_redir", None):  # RAR5 keeps hard links as redirections
        return "link"
    return "folder" if info.is_dir() else "file"
