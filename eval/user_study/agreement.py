"""Do raters agree? Krippendorff's alpha for nominal data, which allows that not everybody rated everything.

Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """alpha = 1 - observed / expected disagreement. 1: all agree; 0: no more than chance; below: less than chance.

    units: per pair, the values that raters gave it. None where no unit has two values, or all values are one and the same
    (no disagreement could be expected).

        D_o = 1/n sum_u sum_{c != k} n_uc n_uk / (m_u - 1)        D_e = sum_{c != k} n_c n_k / (n (n - 1))
    """
    pairable = [Counter(values) for values in units if len(values) >= 2]
    totals: Counter[Hashable] = sum(pairable, Counter())
    count = totals.total()
    expected = count * count - sum(number * number for number in totals.values())
    if expected == 0:
        return None
    observed = 0.0
    for unit in pairable:
        m = unit.total()
        observed += (m * m - sum(number * number for number in unit.values())) / (m - 1)
    return 1 - (count - 1) * observed / expected
