"""C6: the 95 % interval of a Frechet distance, against the same estimator looped over clean-fid's function.

python -m benchmarks.c6_interval [--sizes 400x1000x100 400x2000x100 2048x5000x60] [--peer-groups 2] [--rounds 3]

A size is dimensions x samples x clips. The peer computes means, covariances and clean-fid's distance of everything without group g,
for each of the groups, and once of all; as that takes minutes in 2,048 dimensions, some of the groups are timed and the rest is
extrapolated, which the line says.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence

import numpy as np

from benchmarks.c5_frechet import Rows, by_clean_fid, features
from benchmarks.side_by_side import alternate, report
from eval.frechet_groups import Groups
from eval.frechet_interval import (
    FrechetInterval,
    exact_left_out_distances,
    frechet_interval,
    grouped,
    jackknife,
    left_out_distances,
)


def clips_of(rows: Rows, clips: int) -> list[Rows]:
    return np.array_split(rows, clips)


def groups_of(clips: Sequence[Rows]) -> Groups:
    return grouped(clips, len(clips), sum(map(len, clips))).groups()


def peer_without(a: Sequence[Rows], b: Sequence[Rows], group: int, groups: int) -> float:
    """What a user of clean-fid computes for one group of the jackknife."""
    left = [np.concatenate([clip for index, clip in enumerate(side) if index % groups != group]) for side in (a, b)]
    return by_clean_fid(left[0], left[1])


def differences(a: Sequence[Rows], b: Sequence[Rows], peer_groups: int) -> str:
    """Asserts that both sides compute the same; says how far apart they are."""
    sides = groups_of(a), groups_of(b)
    (whole, quick), (_, exact) = left_out_distances(*sides), exact_left_out_distances(*sides)
    ours, looped = jackknife(whole, quick), jackknife(whole, exact)
    assert ours == frechet_interval(a, b)
    ends = max(abs(getattr(ours, end) / getattr(looped, end) - 1) for end in FrechetInterval.__slots__)
    reach = max(abs(getattr(ours, end) - getattr(looped, end)) for end in FrechetInterval.__slots__) / (looped.high - looped.corrected)
    peer = max(abs(exact[group] / peer_without(a, b, group, len(exact)) - 1) for group in range(peer_groups))
    assert ends < 1e-5, (ours, looped)
    assert reach < 1e-3, (ours, looped)
    assert peer < 1e-6, peer
    return f"interval {ends:.1e} from the exact loop ({reach:.1e} of its reach), exact loop {peer:.1e} from clean-fid"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["400x1000x100", "400x2000x100", "2048x5000x60"])
    parser.add_argument("--peer-groups", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for size in options.sizes:
        dimensions, samples, clips = map(int, size.split("x"))
        a, b = (clips_of(features(samples, dimensions, seed), clips) for seed in (0, 1))
        groups = len(groups_of(a).counts)
        equal = differences(a, b, options.peer_groups)
        turn = itertools.cycle(range(options.peer_groups))
        sides = {
            "ours": lambda a=a, b=b: frechet_interval(a, b),
            "clean_fid_group": lambda a=a, b=b, turn=turn, groups=groups: peer_without(a, b, next(turn), groups),
        }
        seconds = alternate(sides, options.rounds)
        seconds["clean_fid"] = seconds.pop("clean_fid_group") * (groups + 1)
        equal += f"; clean_fid extrapolated from {min(options.rounds, options.peer_groups)} of {groups} groups and the whole"
        report(
            f"C6 D={dimensions} N={samples} clips={clips}", seconds, {"clean_fid": (seconds["clean_fid"] / seconds["ours"], 50.0)}, equal
        )


if __name__ == "__main__":
    main()
