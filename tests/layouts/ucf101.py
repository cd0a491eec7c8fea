"""The UCF101 layout: `UCF-101/<Class>/v_<Class>_g<group>_c<clip>.avi` (MPEG-4, 25 fps, 4:3) and `ucfTrainTestlist/`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from tests.layouts.people import draw, landscape

# The public set's own odd spelling: files of HandstandPushups are named HandStandPushups.
PREFIX = {"HandstandPushups": "HandStandPushups"}


def write_ucf101(folder: Path, groups: Mapping[str, Mapping[int, int]], *, test_groups: int = 1, clips: int = 1,
                 frames: int = 10, size: int = 96) -> Path:  # fmt: skip
    """Write `groups` (class -> group -> identity) as UCF-101/ and lists of split 01; returns the folder around both.

    As in the public set the lowest groups are the test ones, here the first `test_groups`.
    """
    names: dict[str, list[str]] = {"train": [], "test": []}
    for label, action in enumerate(sorted(groups), start=1):
        for place, (group, identity) in enumerate(sorted(groups[action].items())):
            for clip in range(1, clips + 1):
                name = f"{action}/v_{PREFIX.get(action, action)}_g{group:02d}_c{clip:02d}.avi"
                write_avi(folder / "UCF-101" / name, landscape(draw(identity + clip - 1, frames, size)))
                names["test" if place < test_groups else "train"].append(name if place < test_groups else f"{name} {label}")
    write_lists(folder / "ucfTrainTestlist", sorted(groups), names)
    return folder


def write_lists(folder: Path, classes: list[str], names: Mapping[str, list[str]]) -> None:
    """classInd.txt, and the lists of split 01 with CRLF ends as the public ones have."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classInd.txt").write_bytes("".join(f"{i} {name}\r\n" for i, name in enumerate(classes, start=1)).encode())
    for part, lines in names.items():
        (folder / f"{part}list01.txt").write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def write_avi(path: Path, frames: npt.NDArray[np.uint8], rate: int = 25) -> None:
    """[T, H, W, 3] RGB as MPEG-4 part 2 in AVI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.bit_rate = 4_000_000
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
