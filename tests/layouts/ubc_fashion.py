"""The UBC Fashion layout: fashion_train.txt and fashion_test.txt, one URL of an mp4 a line, and the files that they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from pipelines.video import encode_video
from tests.layouts.people import draw, portrait

# Asset names as in the public lists: letters, digits, and now and then a plus or a minus.
NAMES = ("A1jBVJHhD5S", "91+bCFG1jOS", "A1-a2bkxvNS", "81FyMPk-WIS", "A13ZyhK8pKS", "91BxAN6YjUS", "A1Bq5Q1kW2S", "B1uAPbH9w5S")


@dataclass(frozen=True, kw_only=True)
class UbcFashion:
    """Where the data set was written: the folder to serve, and the two lists."""

    served: Path
    train: Path
    test: Path


def write_ubc_fashion(folder: Path, people: Mapping[str, list[int]], *, frames: int = 10, size: int = 64) -> UbcFashion:
    """Write the files of `people` (split -> identities) under `served/images/I/`; the lists come with `write_url_lists`."""
    names = iter(NAMES)
    for split, identities in people.items():
        lines = []
        for identity in identities:
            name = next(names)
            encode_video(folder / "served" / "images" / "I" / f"{name}.mp4", portrait(draw(identity, frames, size)).frames, Fraction(30))
            lines.append(f"/images/I/{name}.mp4")
        (folder / f"fashion_{split}.paths").write_text("\n".join(lines))
    return UbcFashion(served=folder / "served", train=folder / "fashion_train.txt", test=folder / "fashion_test.txt")


def write_url_lists(made: UbcFashion, host: str) -> None:
    """The lists with the files' URLs on `host` ("http://127.0.0.1:8000"), no header, no blank line."""
    for path in (made.train, made.test):
        paths = path.with_suffix(".paths").read_text().split()
        path.write_text("".join(f"{host}{place}\n" for place in paths))
