"""Flows there and back over a run of frames: `PairFlow.both_ways` against torchvision's RAFT, called for every pair and direction.

python -m benchmarks.flow_both_ways [--frames 9] [--size 256] [--rounds 3]

RAFT-large with random weights and 12 updates at --size, and the tiny network that the demo's warping error uses at 128 px. Pairs are taken
four at a time on both sides; the flows are compared first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.side_by_side import alternate, report
from pipelines.clip import Frames
from pipelines.extractors.raft import RAFT_LARGE, RAFT_TINY, PairFlow, Raft
from pipelines.weights import find_weights

_PAIRS = 4


def by_torchvision(raft: Any, frames: Frames, updates: int) -> np.ndarray[Any, Any]:
    """[2, N - 1, 2, H, W]: there and back."""
    images = torch.from_numpy(frames).permute(0, 3, 1, 2) / 127.5 - 1
    first, second = images[:-1].split(_PAIRS), images[1:].split(_PAIRS)
    with torch.inference_mode():
        ways = [torch.cat([raft(a, b, updates)[-1] for a, b in zip(*sides, strict=True)]) for sides in ((first, second), (second, first))]
    return torch.stack(ways).numpy()


def compare(name: str, settings: Raft, raft: Any, frames: Frames, rounds: int) -> None:
    """Print the ratio for one network."""
    ours = PairFlow(raft, settings.updates, settings.sight, "cpu")
    expected, got = by_torchvision(raft, frames, settings.updates), np.stack(ours.both_ways(frames))
    apart = float(np.abs(got - expected).max() / np.abs(expected).max())
    assert apart < 1e-4, f"{name}: flows differ by {apart:.1e} of the largest"
    seconds = alternate(
        {"ours": lambda: ours.both_ways(frames), "torchvision": lambda: by_torchvision(raft, frames, settings.updates)}, rounds
    )
    report(name, seconds, {"torchvision/ours": (seconds["torchvision"] / seconds["ours"], None)}, f"apart {apart:.0e} of the largest flow")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", type=int, default=256, help="px, a multiple of 8 and at least 128")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    draw = np.random.default_rng(0)
    torch.manual_seed(0)
    large = draw.integers(0, 256, (options.frames, options.size, options.size, 3), np.uint8)
    compare(f"raft_large {options.size} px", RAFT_LARGE, RAFT_LARGE.build().eval(), large, options.rounds)
    small = draw.integers(0, 256, (options.frames, 128, 128, 3), np.uint8)
    compare("raft_tiny 128 px", RAFT_TINY, RAFT_TINY.read(RAFT_TINY.build(), find_weights(RAFT_TINY.role)), small, options.rounds)


if __name__ == "__main__":
    main()
