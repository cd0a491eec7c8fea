"""How sure a number is: 95 % intervals."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
FEW_CLIPS = 10  # below it the interval is said to be rough
_SEED = 0
_CHUNK = 1_000


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
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return float(low), float(high)
