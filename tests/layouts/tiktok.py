"""The TikTok layout: `TikTok_dataset/00001/{images,masks,densepose}/0001.png`, plain or as one zip."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.layouts.people import draw, portrait


def write_tiktok(folder: Path, sequences: Mapping[str, int], *, frames: int = 10, size: int = 64) -> Path:
    """Write `sequences` (id -> identity of its dancer); returns `<folder>/TikTok_dataset`."""
    root = folder / "TikTok_dataset"
    for name, identity in sequences.items():
        performance = portrait(draw(identity, frames, size))
        write_sequence(root / name, performance.frames, performance.truth.mask, performance.truth.iuv)
    return root


def write_sequence(
    folder: Path, frames: npt.NDArray[np.uint8], masks: npt.NDArray[np.bool_], iuv: npt.NDArray[np.uint8], order: str = "VUI"
) -> None:
    """One sequence of [T, H, W, ...] arrays.

    DensePose files hold I (part 0..24), U and V (0..255). The released ones were stored blue first, so an RGB reader sees
    V, U, I; `order` "IUV" gives the other kind.
    """
    maps = iuv[..., ::-1] if order == "VUI" else iuv
    kinds = {"images": frames, "masks": masks.astype(np.uint8) * np.uint8(255), "densepose": maps}
    for kind, pictures in kinds.items():
        (folder / kind).mkdir(parents=True)
        for number, picture in enumerate(pictures, start=1):
            Image.fromarray(np.ascontiguousarray(picture)).save(folder / kind / f"{number:04d}.png")


def as_zip(folder: Path, archive: Path) -> Path:
    """The folder, its own name included, as a zip."""
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                zipped.write(path, path.relative_to(folder.parent).as_posix())
    return archive
