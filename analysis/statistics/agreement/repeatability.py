"""How well repeated measurements of the same people agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics.columns import Missing, TableRefused, used_columns
from analysis.statistics.limits import Z95, normal_quantile

_REPEATABILITY: Final = Z95 * np.sqrt(2.0)


@dataclass(frozen=True, slots=True)
class Repeatability:
    """Agreement of repeated measurements.

    Attributes:
        icc: ICC(1,1): the share of the variance that lies between people.
        icc_lo: lower limit; exact where everybody has as many values, else nearly so.
        icc_hi: upper limit.
        within_sd: standard deviation within people, in the unit of the values.
        within_sd_lo: lower limit.
        within_sd_hi: upper limit.
        repeatability: 95 % of the differences of two values of a person lie within plus or minus
            this, 1.96 times the root of 2 times `within_sd`.
        n_people: people with two values or more.
        n_values: their values.
        n_single: people with one value, who tell nothing about repeatability.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
    """

    icc: float
    icc_lo: float
    icc_hi: float
    within_sd: float
    within_sd_lo: float
    within_sd_hi: float
    repeatability: float
    n_people: int
    n_values: int
    n_single: int
    confidence: float
    n_dropped_missing: int


def repeatability(
    table: pd.DataFrame, *, value: str, person: str, confidence: float = 0.95, missing: Missing = "refuse"
) -> Repeatability:
    """Estimate intraclass correlation and within-person standard deviation.

    One-way random effects: values of a person are taken as exchangeable. People with one value are
    counted and left out.

    Args:
        table: one row a measurement.
        value: column of numbers.
        person: column of who was measured.
        confidence: of the limits.
        missing: "refuse" or "drop".

    Returns:
        The estimates, in the unit of the values.

    Raises:
        TableRefused: a column cannot be used, fewer than two people have two values, or nothing
            varies within people.
        ValueError: `confidence` is outside 0 and 1.

    Source:
        Shrout PE, Fleiss JL, Psychol Bull 1979;86:420, ICC(1,1); with the mean group size n0 of
        Donner A, Int Stat Rev 1986;54:67 where people have different numbers of values. Bland JM,
        Altman DG, BMJ 1996;313:744 for the within-person standard deviation.

    R:
        `anova(aov(value ~ factor(person)))`, its mean squares in the formulas.
    """
    normal_quantile(confidence)
    columns = used_columns(table, [value, person], missing=missing)
    values = columns.numbers(value)
    codes, _ = pd.factorize(columns.table[person], sort=False)
    sizes = np.bincount(codes)
    repeated = sizes[codes] > 1
    n_single = int((sizes == 1).sum())
    if (sizes > 1).sum() < 2:
        raise TableRefused(
            f"{int((sizes > 1).sum())} people have two values of {value!r} or more, expected two people at least"
        )
    _, codes = np.unique(codes[repeated], return_inverse=True)
    return _of(values[repeated], codes, confidence, n_single, columns.n_dropped_missing, value)


def _of(
    values: np.ndarray[tuple[int], np.dtype[np.float64]],
    codes: np.ndarray[tuple[int], np.dtype[np.intp]],
    confidence: float,
    n_single: int,
    n_dropped: int,
    name: str,
) -> Repeatability:
    sizes = np.bincount(codes).astype(float)
    n, k = values.size, sizes.size
    centred = values - values.mean()
    means = np.bincount(codes, centred) / sizes
    between = float(np.sum(sizes * means**2)) / (k - 1)
    within = float(np.sum((centred - means[codes]) ** 2)) / (n - k)
    if not within > 0:
        raise TableRefused(f"values of {name!r} do not vary within people, expected them to; are the rows copies?")
    n0 = (n - float(np.sum(sizes**2)) / n) / (k - 1)
    tail = 0.5 + confidence / 2
    f = between / within
    lower, upper = f / stats.f.ppf(tail, k - 1, n - k), f * stats.f.ppf(tail, n - k, k - 1)
    icc, lo, hi = ((ratio - 1) / (ratio + n0 - 1) for ratio in (f, lower, upper))
    squares = within * (n - k)
    sd = np.sqrt(within)
    return Repeatability(
        icc=float(icc),
        icc_lo=float(lo),
        icc_hi=float(hi),
        within_sd=float(sd),
        within_sd_lo=float(np.sqrt(squares / stats.chi2.ppf(tail, n - k))),
        within_sd_hi=float(np.sqrt(squares / stats.chi2.ppf(1 - tail, n - k))),
        repeatability=float(_REPEATABILITY * sd),
        n_people=int(k),
        n_values=int(n),
        n_single=n_single,
        confidence=confidence,
        n_dropped_missing=n_dropped,
    )
