"""Archives of unknown origin: whole folders out of good ones, nothing at all out of bad ones."""

from __future__ import annotations

import gzip
import io
import os
import stat
import sys
import tarfile
import tracemalloc
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pipelines.archive as archive_module
from pipelines.archive import Limits, unpack
from pipelines.errors import UserError
from pipelines.lake import Lake
from pipelines.sources.unpacked import unpacked

FILES = {
    "set/00001/images/0001.png": b"one",
    "set/00001/masks/0001.png": b"two" * 1000,
    'set/it\'s "ü".txt': "é".encode(),
    "set/empty": b"",
}


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("set")
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tar_of(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def special_tar(path: Path, name: str, kind: bytes, target: str = "") -> Path:
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, target
        archive.addfile(info)
    return path


def assert_refused(archive: Path, match: str, limits: Limits | None = None) -> None:
    """Refused, with nothing left inside or outside of the target."""
    before = sorted(p for p in archive.parent.rglob("*") if p.name != "deep")
    with pytest.raises(UserError, match=match):
        unpack(archive, archive.parent / "deep" / "out", limits)
    after = [p for p in archive.parent.rglob("*") if p.name != "deep"]
    assert sorted(after) == before


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_every_format_gives_the_files_back(tmp_path: Path, mode: str) -> None:
    archive = zip_of(tmp_path / "a", FILES) if mode == "zip" else tar_of(tmp_path / "a", FILES, mode)
    out = unpack(archive, tmp_path / "out")
    assert {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()} == FILES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "out"]  # no temporary folder left


def test_a_second_unpacking_replaces_the_first_whole(tmp_path: Path) -> None:
    out = unpack(zip_of(tmp_path / "a.zip", {"old": b"1"}), tmp_path / "out")
    (tmp_path / ".out.999999999.part").mkdir()  # of a process that was killed
    unpack(zip_of(tmp_path / "b.zip", {"new": b"2"}), out)
    assert sorted(p.name for p in out.iterdir()) == ["new", "set"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "b.zip", "out"]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("../evil", "leaves the folder"),
        ("a/../../evil", "leaves the folder"),
        ("a\\..\\..\\evil", "leaves the folder"),
        ("/tmp/evil", "absolute"),
        ("C:\\evil", "absolute"),
        ("a\nb", "control characters"),
        ("a\x7fb", "control characters"),
        ("x" * 250, "longer than"),
        ("a/" * 600 + "b", "longer than"),
        ("cod\u202egpj.exe", "control characters"),
        ("a\u2028b", "control characters"),
    ],
)
@pytest.mark.parametrize("make", [zip_of, tar_of])
def test_names_that_are_no_safe_path_are_refused(tmp_path: Path, name: str, match: str, make: Any) -> None:
    assert_refused(make(tmp_path / "a", {"good": b"1", name: b"2"}), match)


@pytest.mark.parametrize(
    ("names", "match"),
    [(("a", "a"), "twice"), (("A/x", "a/y"), "collides"), (("é", "e\u0301"), "collides"), (("a", "a/b"), "twice"), (("a/b", "a"), "twice")],
)
def test_names_that_collide_are_refused(tmp_path: Path, names: tuple[str, str], match: str) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert_refused(tmp_path / "a.tar", match)


@pytest.mark.parametrize(
    ("kind", "target", "match"),
    [
        (tarfile.SYMTYPE, "/etc/passwd", "link"),
        (tarfile.SYMTYPE, "..", "link"),
        (tarfile.LNKTYPE, "../../x", "link"),
        (tarfile.CHRTYPE, "", "device"),
        (tarfile.BLKTYPE, "", "device"),
        (tarfile.FIFOTYPE, "", "device"),
    ],
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes, target: str, match: str) -> None:
    assert_refused(special_tar(tmp_path / "a.tar", "odd", kind, target), f"'odd'.*it is a {match}")


@pytest.mark.parametrize(("mode", "match"), [(stat.S_IFLNK, "link"), (stat.S_IFIFO, "device")])
def test_a_link_or_pipe_in_a_zip_is_refused(tmp_path: Path, mode: int, match: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("odd")
        info.create_system, info.external_attr = 3, (mode | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert_refused(tmp_path / "a.zip", match)


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path) -> None:
    bomb = zip_of(tmp_path / "bomb.zip", {f"{i}": bytes(40 << 20) for i in range(3)})
    assert bomb.stat().st_size < 1 << 20
    assert_refused(bomb, "unpacks to more than")
    assert_refused(tar_of(tmp_path / "a.tar", {"a": bytes(2000)}), "unpacks to more than", Limits(bytes=1999))
    assert_refused(tar_of(tmp_path / "b.tar", {"a": b"", "b": b"", "c": b""}), "more than 2 members", Limits(members=2))


@pytest.mark.parametrize("kind", [b"x", b"L", b"g"])
def test_a_tar_header_without_end_takes_no_memory(tmp_path: Path, kind: bytes) -> None:
    claimed = 200 << 20
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, claimed
    with gzip.open(tmp_path / "a.tar.gz", "wb") as file:  # 200 MB of zeros are 200 kB
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(claimed >> 20):
            file.write(bytes(1 << 20))
    tracemalloc.start()
    assert_refused(tmp_path / "a.tar.gz", "neither zip, tar nor rar|damaged")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    good = tar_of(tmp_path / "b.tar", {"a": b"1"}).read_bytes()[:1024]  # the same behind a good member
    (tmp_path / "c.tar").write_bytes(good + info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    assert_refused(tmp_path / "c.tar", "damaged.*header of")


def test_what_follows_the_end_of_a_tar_is_not_unpacked_for_ever(tmp_path: Path) -> None:
    plain = tar_of(tmp_path / "a.tar", {"a": b"1"}).read_bytes()
    with gzip.open(tmp_path / "b.tar.gz", "wb", compresslevel=1) as file:
        file.write(plain)
        for _ in range(80):
            file.write(bytes(1 << 20))
    assert_refused(tmp_path / "b.tar.gz", "more than padding")


def test_the_folder_is_nobody_elses_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    def write(*args: Any) -> None:
        seen.extend((path.name, stat.S_IMODE(path.stat().st_mode)) for path in tmp_path.iterdir() if path.is_dir())

    monkeypatch.setattr(archive_module, "_write", write)
    unpack(zip_of(tmp_path / "a.zip", {"a": b"1"}), tmp_path / "out")
    assert [mode for _, mode in seen] == [0o700]
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) & 0o500 == 0o500


def test_a_zip_whose_header_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a": bytes(100_000)})
    path.write_bytes(path.read_bytes().replace((100_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert_refused(path, "damaged")


@pytest.mark.parametrize("mode", ["zip", "w:gz"])
def test_a_cut_or_changed_archive_is_refused(tmp_path: Path, mode: str) -> None:
    data = {"a": os.urandom(200_000)}
    path = zip_of(tmp_path / "a", data) if mode == "zip" else tar_of(tmp_path / "a", data, mode)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert_refused(path, "download it again")
    path.write_bytes(whole[:100_000] + bytes(100) + whole[100_100:])
    assert_refused(path, "damaged")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", {"a": b"1"})
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = raw.rindex(signature) + offset  # the last entry is the file, the first one the folder
        raw[place] |= 1
    path.write_bytes(raw)
    assert_refused(path, "encrypted")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_text("<html>not found</html>")
    assert_refused(tmp_path / "a.zip", "neither zip, tar nor rar")
    with pytest.raises(UserError, match="No such file"):
        unpack(tmp_path / "none.zip", tmp_path / "out")


def test_a_rar_without_the_tool_says_how_to_unpack_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rarfile", None)
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    assert_refused(tmp_path / "a.rar", "unrar x a.rar")


class _RarInfo:
    def __init__(self, filename: str, link: bool = False) -> None:
        self.filename, self.link, self.file_redir = filename, link, None

    def is_symlink(self) -> bool:
        return self.link

    def is_dir(self) -> bool:
        return self.filename.endswith("/")


class _RarFile:
    """What the package `rarfile` shows of itself, over a fixed list of members."""

    members: tuple[_RarInfo, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> _RarFile:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def infolist(self) -> Iterator[_RarInfo]:
        return iter(self.members)

    def open(self, info: _RarInfo) -> io.BytesIO:
        return io.BytesIO(info.filename.encode())


def test_members_of_a_rar_pass_the_same_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("rarfile")
    module.RarFile, module.Error, module.RarCannotExec = _RarFile, type("Error", (Exception,), {}), type("No", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rarfile", module)
    (tmp_path / "a.rar").write_bytes(b"Rar!\x1a\x07\x01\x00")
    monkeypatch.setattr(_RarFile, "members", (_RarInfo("UCF-101/"), _RarInfo("UCF-101/v.avi")))
    assert (unpack(tmp_path / "a.rar", tmp_path / "out") / "UCF-101" / "v.avi").read_bytes() == b"UCF-101/v.avi"
    (tmp_path / "out" / "UCF-101" / "v.avi").unlink()
    for bad in (_RarInfo("../x"), _RarInfo("x", link=True)):
        monkeypatch.setattr(_RarFile, "members", (bad,))
        assert_refused(tmp_path / "a.rar", "leaves|link")


def test_only_a_marker_of_ours_says_that_an_archive_is_unpacked(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake").create()
    folder = lake.root / "videos" / "set" / "archive"
    archive = zip_of(tmp_path / "a.zip", {".unpacked.json/x": b"1", ".archive.unpacked.json": b"2", "v": b"3"})
    for torn in (None, b"", b'{"archive": ', b"[]"):
        if torn is not None:
            folder.with_name(".archive.unpacked.json").write_bytes(torn)
        unpacked(lake, archive, folder, "set")
        assert (folder / "v").read_bytes() == b"3"
        (folder / "v").unlink()  # comes back only when it is unpacked again
    unpacked(lake, archive, folder, "set")
    assert not (folder / "v").exists()
