"""Long clips of methods whose frames look at frame 0 and at the frame before: parts that are made one after the other."""

from __future__ import annotations

from collections.abc import Callable


def frame_passes(frames: int, most: int) -> list[tuple[list[int], int]]:
    """(frame numbers of a pass, how many at its beginning were made before): at most `most` frames are denoised at a time.

    The first pass is 0, 1, 2, …; every other begins with frame 0 and the last frame of the pass before it, which are made again so that the
    new frames can look at them. Frame 0 comes out the same each time; the other one now looks at frame 0 where it looked at its predecessor.
    """
    if most < 3:
        raise ValueError(f"most={most} must be at least 3: frame 0, the frame before, and a new one")
    passes = [(list(range(min(frames, most))), 0)]
    for start in range(most, frames, most - 2):
        passes.append(([0, start - 1, *range(start, min(start + most - 2, frames))], 2))
    return passes


def shared_ticks(advance: Callable[[], None] | None, passes: int) -> Callable[[], None]:
    """A function to be called after every step of every pass; it calls `advance` at every `passes`-th of these: as often as one pass has steps."""
    seen = 0

    def tick() -> None:
        nonlocal seen
        seen += 1
        if advance is not None and seen % passes == 0:
            advance()

    return tick
