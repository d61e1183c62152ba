"""The rank-based inverse normal transform of a trait."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

BLOM_OFFSET: Final = 3 / 8


def inverse_normal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return normal scores of the ranks of (n,) values; NaN stays NaN, ties share their mean rank.

    The score of rank r of n is the standard normal quantile of (r - c) / (n + 1 - 2 c) with
    c = 3/8: Blom G, Statistical Estimates and Transformed Beta-Variables, 1958. Beasley TM et al.,
    Behav Genet 2009;39:580-95, discuss what the transform does to tests of association.
    """
    known = np.isfinite(values)
    ranks = stats.rankdata(values[known], method="average")
    scores = np.full(values.shape, np.nan)
    scores[known] = stats.norm.ppf((ranks - BLOM_OFFSET) / (known.sum() + 1 - 2 * BLOM_OFFSET))
    return scores
