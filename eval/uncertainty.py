"""How sure a number is: 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
FEW_CLIPS = 10  # below it the interval is said to be rough
_SEED = 0
_CHUNK = 1_000

_Weights = npt.NDArray[np.float64]


def bootstrap_ratio(sums: npt.ArrayLike, counts: npt.ArrayLike) -> tuple[float, float] | None:
    """95 % percentile interval of sum(sums) / sum(counts) when clips are drawn again with replacement (Efron 1979).

    sums, counts: [N] per clip. Clips are the unit, because frames of one clip are not independent. The seed is fixed and
    the order of clips does not matter to anyone else, so the same rows give the same interval. None for fewer than 2 clips.
    """
    total, number = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if len(total) < 2:
        return None
    generator = np.random.default_rng(_SEED)
    share = np.full(len(total), 1 / len(total))
    ratios = []
    for _ in range(RESAMPLES // _CHUNK):
        draws = generator.multinomial(len(total), share, size=_CHUNK)  # [B, N] how often each clip is drawn
        ratios.append((draws @ total) / (draws @ number))
    return _middle(np.concatenate(ratios))


def bootstrap_seeds(
    sums: npt.ArrayLike, counts: npt.ArrayLike, less: tuple[npt.ArrayLike, npt.ArrayLike] | None = None
) -> tuple[float, float] | None:
    """95 % interval of the mean over training seeds of sum / count, seeds and clips drawn again independently (pigeonhole bootstrap, Owen 2007).

    sums, counts: [S, N] per seed and clip. less: those of another model on the same seeds and clips, whose mean is taken away under the
    same draws, so that what both share (a hard clip) does not widen the interval of the difference. With few seeds (three) the share of
    the seeds comes out a little narrow, by sqrt(2/3). None for fewer than 2 clips.
    """
    mine = np.asarray(sums, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if mine[0].shape[1] < 2:
        return None
    theirs = None if less is None else (np.asarray(less[0], dtype=np.float64), np.asarray(less[1], dtype=np.float64))
    means = []
    for seeds, clips in _draws(*mine[0].shape):
        drawn = _mean_of(*mine, seeds, clips)
        means.append(drawn if theirs is None else drawn - _mean_of(*theirs, seeds, clips))
    return _middle(np.concatenate(means))


def _draws(seeds: int, clips: int) -> Iterator[tuple[_Weights, _Weights]]:
    """([B, S] share of each seed, [B, N] how often each clip is drawn), always the same ones."""
    generator = np.random.default_rng(_SEED)
    for _ in range(RESAMPLES // _CHUNK):
        drawn = [generator.multinomial(number, np.full(number, 1 / number), size=_CHUNK) for number in (seeds, clips)]
        yield drawn[0] / seeds, drawn[1].astype(np.float64)


def _mean_of(sums: _Weights, counts: _Weights, seeds: _Weights, clips: _Weights) -> _Weights:
    """[B] mean over drawn seeds of the ratio over drawn clips."""
    return np.asarray((seeds * ((clips @ sums.T) / (clips @ counts.T))).sum(axis=1))


def _middle(values: _Weights) -> tuple[float, float]:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def interval_of_seeds(values: npt.ArrayLike) -> tuple[float, float] | None:
    """95 % interval of the mean of one value per seed (Student 1908), for distances of sets, which have no value per clip.

    None for fewer than 2, and where all are equal: a method that draws nothing says nothing of how sure its number is.
    """
    from scipy.stats import t

    found = np.asarray(values, dtype=np.float64)
    if len(found) < 2 or (found == found[0]).all():
        return None
    reach = float(t.ppf(0.975, len(found) - 1) * found.std(ddof=1) / np.sqrt(len(found)))
    return float(found.mean() - reach), float(found.mean() + reach)
