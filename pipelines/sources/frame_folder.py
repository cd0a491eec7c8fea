"""A video that is a folder of numbered images: its files in order, its digest, and whether they are whole."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import ClipError

IMAGE_ENDINGS = frozenset({".png", ".jpg", ".jpeg"})

_READERS = 4  # files read at once; digests and checksums are computed outside the interpreter's lock
_REMEDY = "unpack or copy the sequence again"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFolder:
    """What reading every image once tells."""

    sha256: str
    bytes: int
    frames: int
    width: int
    height: int


def natural_key(name: str) -> tuple[tuple[int, str], ...]:
    """Sorts digits as numbers: 2.png before 10.png."""
    parts = re.split(r"(\d+)", name)
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)


def image_files(folder: Path) -> list[Path]:
    """Images of a folder in natural order of their names; hidden files and other endings are passed over."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".") and path.is_file()]
    return sorted(files, key=lambda path: (natural_key(path.name), path.name))


def digest_of_files(digests: Iterable[tuple[str, str]]) -> str:
    """sha256 over the lines `<name> NUL <hex digest of the file> LF`, in the order given: the digest of a folder of frames."""
    whole = hashlib.sha256()
    for name, digest in digests:
        whole.update(f"{name}\0{digest}\n".encode())
    return whole.hexdigest()


def check_numbering(files: list[Path], subject: str) -> None:
    """Names are whole numbers from 0 or 1 on, without a gap. Raises ClipError truncated."""
    try:
        numbers = [int(path.stem) for path in files]
    except ValueError:
        odd = next(path.name for path in files if not path.stem.isdigit())
        raise ClipError("truncated", subject, f"{odd} is not a number, so the frames have no order", _REMEDY) from None
    for expected, number in enumerate(numbers, start=min(numbers[0], 1)):
        if number != expected:
            raise ClipError("truncated", subject, f"frame {expected} is missing (the next file is {number})", _REMEDY)


def folder_digest(folder: Path) -> str:
    """`digest_of_files` over a folder's images in natural order; the sha256 that its row of `videos` holds."""
    return digest_of_files((path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in image_files(folder))


def read_frames(folder: Path, subject: str) -> FrameFolder:
    """Read every image once: digest, size, and whether it is whole (checksums of a PNG included).

    Raises ClipError: no_frames, empty_file, unreadable, decode_error (an image that is not whole, or of another size than the first).
    """
    files = image_files(folder) if folder.is_dir() else []
    if not files:
        raise ClipError("no_frames", subject, f"{folder.name}/ holds no image", _REMEDY)
    with ThreadPoolExecutor(_READERS) as pool:
        read = list(pool.map(lambda path: _read(path, subject), files))
    sizes = {size for _, _, size in read}
    if len(sizes) > 1:
        odd = next(path.name for path, (_, _, size) in zip(files, read, strict=True) if size != read[0][2])
        raise ClipError("decode_error", subject, f"{odd} has another size than {files[0].name}; the frames of a video share one", _REMEDY)
    ((width, height),) = sizes
    digest = digest_of_files((path.name, sha256) for path, (sha256, _, _) in zip(files, read, strict=True))
    return FrameFolder(sha256=digest, bytes=sum(size for _, size, _ in read), frames=len(files), width=width, height=height)


def _read(path: Path, subject: str) -> tuple[str, int, tuple[int, int]]:
    """(sha256, bytes, (width, height)) of one image."""
    from PIL import Image, UnidentifiedImageError

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ClipError("unreadable", subject, f"{path.name}: {error.strerror or error}", "check the file's permissions") from None
    if not data:
        raise ClipError("empty_file", subject, f"{path.name} has zero bytes", _REMEDY)
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.size
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ClipError("decode_error", subject, f"{path.name} is no whole image ({type(error).__name__})", _REMEDY) from None
    return hashlib.sha256(data).hexdigest(), len(data), size
