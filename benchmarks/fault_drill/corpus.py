"""The drill's videos: performers, one in `every` of them broken in its own way."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.performers import write_dataset
from pipelines.video import read_video

FRAMES, SIZE = 8, 64


def _zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("this is no video\n" * 100)


def _html(path: Path) -> None:
    path.write_text("<html><body>404 Not Found</body></html>")


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _without_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _wrong_header(path: Path) -> None:
    path.write_bytes(b"RIFF" + path.read_bytes()[4:])


def _garbage_in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)


def _garbage_at_the_end(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(5000))


def _all_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _twice(path: Path) -> None:
    path.write_bytes(path.read_bytes() * 2)


def _huge_header(path: Path) -> None:
    """The sample description promises 65535 x 65535 pixels."""
    size = SIZE.to_bytes(2, "big") * 2
    path.write_bytes(path.read_bytes().replace(size, b"\xff\xff\xff\xff"))


def _without_key_frame(path: Path) -> None:
    import av

    partial = path.with_suffix(".cut.mp4")
    with av.open(str(path)) as source, av.open(str(partial), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size and not packet.is_keyframe:
                packet.stream = stream
                target.mux(packet)
    os.replace(partial, path)


def _odd_size(path: Path) -> None:
    _encode(path, read_video(path)[:, : SIZE - 1, : SIZE - 3], "mpeg4", "yuv420p")


def _encode(path: Path, frames: Any, codec: str, pixels: str, stamps: list[int] | None = None) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(codec, rate=24)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixels
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _variable_rate(path: Path) -> None:
    _encode(path, read_video(path), "mpeg4", "yuv420p", [0, 40, 200, 210, 500, 900, 910, 1500])


def _audio_only(path: Path) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _picture(path: Path) -> None:
    import cv2

    path.write_bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1].tobytes())


def _archive(path: Path) -> None:
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("video.mp4", b"x")


def _dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.mp4")


def _link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _empty_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _no_permission(path: Path) -> None:
    path.chmod(0)  # the administrator reads it all the same


def _named_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _strange_name(path: Path) -> None:
    path.rename(path.with_name('it\'s a "name"\nwith ünïcödé 名.mp4'))


FILE_FAULTS: dict[str, Callable[[Path], None]] = {
    function.__name__[1:]: function
    for function in (
        _zero_bytes, _text, _html, _truncated, _without_end, _wrong_header, _garbage_in_the_middle, _garbage_at_the_end, _all_zeros,
        _twice, _huge_header, _without_key_frame, _odd_size, _variable_rate, _audio_only, _picture, _archive, _dangling_link,
        _link_to_itself, _empty_folder, _named_pipe, _strange_name, _no_permission,
    )
}  # fmt: skip

# What the extractor does to itself on such a clip (drilled.py).
BEHAVIOURS = ("raises", "sleeps", "spins", "exits", "is_killed", "segfaults", "allocates", "forgets_a_frame")
FAULTS: tuple[str, ...] = tuple(word for pair in zip(FILE_FAULTS, [*BEHAVIOURS, *[""] * 99], strict=False) for word in pair if word)


def write_corpus(folder: Path, videos: int, every: int) -> dict[str, str]:
    """`videos` files in `folder`; returns file name -> fault ("" = none). Each fault occurs before any occurs twice."""
    written = write_dataset(
        folder, name="drill", identities=range(videos), test_identities=[], clips_per_identity=1, frames=FRAMES, size=SIZE
    )
    faults: dict[str, str] = {}
    for number, video in enumerate(written):
        fault = FAULTS[(number // every) % len(FAULTS)] if number % every == every // 2 else ""
        path = video.path
        if fault in BEHAVIOURS:
            path = path.rename(path.with_name(f"{fault}__{path.name}"))
        elif fault:
            FILE_FAULTS[fault](path)
        faults[path.name] = fault
    if "strange_name" in faults.values():
        faults = {name: fault for name, fault in faults.items() if fault != "strange_name"} | {
            path.name: "strange_name" for path in folder.glob("it's*")
        }
    return faults
