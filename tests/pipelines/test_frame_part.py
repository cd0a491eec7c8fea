"""A part of a frame has the pixels of the whole frame's conversion."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipelines.errors import ClipError
from pipelines.frame_part import FramePart
from pipelines.video import encode_video
from pipelines.video_stream import decoded, upright


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("part") / "noise.mp4"
    encode_video(path, np.random.default_rng(0).integers(0, 256, (4, 50, 66, 3), dtype=np.uint8), Fraction(25))
    return path


@pytest.mark.parametrize(
    "crop", [(0, 0, 66, 50), (10, 4, 20, 30), (11, 5, 20, 30), (11, 5, 21, 31), (65, 49, 1, 1), (0, 0, 1, 1), (3, 7, 63, 43)]
)
def test_every_part_equals_the_same_part_of_the_whole(video: Path, crop: tuple[int, int, int, int]) -> None:
    part, (x, y, w, h) = FramePart("c", crop), crop
    for frame in decoded(video, "c"):
        np.testing.assert_array_equal(part(frame), upright(frame)[y : y + h, x : x + w])


def test_real_footage(media: Path) -> None:
    for path in sorted((media / "videos").glob("*.mp4"))[:6]:
        frame = next(decoded(path, path.name))
        height, width = upright(frame).shape[:2]
        for crop in ((width // 3, height // 4, width // 2, height // 2), (1, 3, 33, 29)):
            x, y, w, h = crop
            np.testing.assert_array_equal(FramePart("c", crop)(frame), upright(frame)[y : y + h, x : x + w], err_msg=path.name)


@pytest.mark.parametrize("crop", [(60, 0, 10, 10), (-1, 0, 4, 4), (0, 0, 0, 4)])
def test_a_part_outside_is_an_error(video: Path, crop: tuple[int, int, int, int]) -> None:
    with pytest.raises(ClipError, match="lies outside"):
        FramePart("c", crop)(next(decoded(video, "c")))


def test_no_part_is_the_whole_frame(video: Path) -> None:
    frame = next(decoded(video, "c"))
    np.testing.assert_array_equal(FramePart("c", None)(frame), upright(frame))


@pytest.mark.parametrize("size", [(121, 160), (121, 161), (120, 161)])
def test_odd_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    import av

    height, width = size
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="yuv420p")
    for x, y, w, h in ((10, 20, 64, 64), (11, 21, 63, 61)):
        np.testing.assert_array_equal(FramePart("c", (x, y, w, h))(frame), upright(frame)[y : y + h, x : x + w])
