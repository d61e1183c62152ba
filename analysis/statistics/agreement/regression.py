"""The line of two measurements of one quantity, both with error: Deming, Passing and Bablok."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.columns import Columns, Missing, TableRefused, used_columns
from analysis.statistics.limits import normal_quantile

_NOT_FOR_RECALIBRATION: Final = (
    "the line relates true values; it is not used to recalibrate, which is the regression of the "
    "reference on the prediction (calibration_intercept, calibration_slope)"
)
_FEWEST_ROWS: Final = 4
# Rows above which it would take longer than is useful, and up to which all slopes are listed.
_MOST_ROWS: Final = 100_000
_ALL_PAIRS_ROWS = 5_000
_PRECISION: Final = 1e-12
_STEEPEST: Final = 2.0**30

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StructuralLine:
    """A line y = intercept + slope x between two measurements that both have error.

    Must not be used to recalibrate one to the other.

    Attributes:
        estimates: two rows, intercept and slope: term, estimate, se, lo, hi, null, statistic, df,
            p. `p` tests that the intercept is 0 and the slope 1. Passing and Bablok's line has
            limits only: se, statistic, df and p are NaN.
        method: "deming" or "passing-bablok".
        variance_ratio: error variance of y divided by that of x; None for Passing and Bablok, who
            assume the square of the slope.
        confidence: of the limits.
        n: rows used.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what a reader must know.
        remarks: what must be printed beside the figures.
    """

    estimates: pd.DataFrame
    method: str
    variance_ratio: float | None
    confidence: float
    n: int
    n_dropped_missing: int
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]


def _two_measurements(
    table: pd.DataFrame, *, x: str, y: str, confidence: float, missing: Missing
) -> tuple[Columns, Floats, Floats]:
    """Return two columns of numbers that vary, of 4 rows or more."""
    normal_quantile(confidence)
    if x == y:
        raise ValueError(f"x and y are both {x!r}, expected two columns")
    columns = used_columns(table, [x, y], missing=missing)
    if columns.n < _FEWEST_ROWS:
        raise TableRefused(f"{columns.n} rows with {x!r} and {y!r}, expected at least {_FEWEST_ROWS}")
    return columns, columns.varying_numbers(x), columns.varying_numbers(y)


def deming_regression(
    table: pd.DataFrame, *, x: str, y: str, variance_ratio: float, confidence: float = 0.95, missing: Missing = "refuse"
) -> StructuralLine:
    """Return Deming's line with jackknife errors and t limits on n - 2 degrees of freedom.

    Not for recalibration: the line relates true values, and a prediction is no true value with
    error. The ratio cannot be found from single measurements and changes the answer; it has no
    default.

    Args:
        table: one row per person, each with one measurement by each method.
        x: column of the one measurement.
        y: column of the other.
        variance_ratio: error variance of y divided by error variance of x, above 0.
        confidence: of the limits, between 0 and 1.
        missing: "refuse", or "drop" rows where x or y is missing.

    Returns:
        Intercept, in the unit of y, and slope.

    Raises:
        TableRefused: a missing value, no numbers, a constant column, fewer than 4 rows, or x and y
            that are uncorrelated, with or without one of the rows.
        ValueError: `variance_ratio` is not a finite number above 0, `confidence` is not within 0
            and 1, or x and y are the same column.

    Source:
        Deming WE, Statistical Adjustment of Data, 1943; errors by Linnet K, Clin Chem
        1990;36:1891-1894 and 1993;39:424-432. All n lines without one row follow from the sums.
        R: mcr::mcreg(x, y, error.ratio = 1 / variance_ratio, method.reg = "Deming",
        method.ci = "jackknife").
    """
    ratio = float(variance_ratio)
    if not (np.isfinite(ratio) and ratio > 0):
        raise ValueError(f"variance_ratio is {variance_ratio!r}, expected a finite number above 0")
    columns, at, value = _two_measurements(table, x=x, y=y, confidence=confidence, missing=missing)
    slope, slopes = _with_and_without_one(at, value, ratio)
    if not (np.isfinite(slope) and np.isfinite(slopes).all()):
        raise TableRefused(
            f"columns {x!r} and {y!r} are uncorrelated over {columns.n} rows or without one of "
            "them, expected two measurements of one quantity"
        )
    intercept = value.mean() - slope * at.mean()
    intercepts = _means_without_one(value) - slopes * _means_without_one(at)
    errors = np.array([_jackknife_error(intercepts), _jackknife_error(slopes)])
    return StructuralLine(
        estimates=_table(np.array([intercept, slope]), errors, columns.n - 2, confidence),
        method="deming",
        variance_ratio=ratio,
        confidence=confidence,
        n=columns.n,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=(),
        remarks=(_NOT_FOR_RECALIBRATION,),
    )


def _with_and_without_one(x: Floats, y: Floats, ratio: float) -> tuple[float, Floats]:
    """Return the slope of all rows, and the (n,) slopes without each, from the sums."""
    cx, cy = x - x.mean(), y - y.mean()
    sxx, sxy, syy = cx @ cx, cx @ cy, cy @ cy
    share = x.size / (x.size - 1)
    slopes = _slopes(
        np.append(sxx - share * cx**2, sxx),
        np.append(sxy - share * cx * cy, sxy),
        np.append(syy - share * cy**2, syy),
        ratio,
    )
    return float(slopes[-1]), slopes[:-1]


def _means_without_one(values: Floats) -> Floats:
    mean = values.mean()
    return np.asarray(mean - (values - mean) / (values.size - 1))


def _slopes(sxx: Floats, sxy: Floats, syy: Floats, ratio: float) -> Floats:
    """Return Deming's slopes for sums of squares; NaN where x and y are uncorrelated.

    Of two equal forms the one that subtracts nothing is taken.
    """
    excess = syy - ratio * sxx
    root = np.sqrt(excess**2 + 4 * ratio * sxy**2)
    above = np.where(excess >= 0, excess + root, 2 * ratio * sxy)
    below = np.where(excess >= 0, 2 * sxy, root - excess)
    return np.asarray(np.divide(above, below, out=np.full(sxy.shape, np.nan), where=sxy != 0))


def _jackknife_error(without_one: Floats) -> float:
    n = without_one.size
    return float(np.sqrt((n - 1) * without_one.var()))


def _table(estimates: Floats, errors: Floats, df: int, confidence: float) -> pd.DataFrame:
    half = stats.t.ppf(0.5 + confidence / 2, df) * errors
    null = np.array([0.0, 1.0])
    statistic = np.divide(estimates - null, errors, out=np.full(2, np.nan), where=errors > 0)
    return pd.DataFrame(
        {
            "term": ["intercept", "slope"],
            "estimate": estimates,
            "se": errors,
            "lo": estimates - half,
            "hi": estimates + half,
            "null": null,
            "statistic": statistic,
            "df": float(df),
            "p": 2 * stats.t.sf(np.abs(statistic), df),
        }
    )


def passing_bablok(
    table: pd.DataFrame, *, x: str, y: str, confidence: float = 0.95, missing: Missing = "refuse"
) -> StructuralLine:
    """Return Passing and Bablok's line: the shifted median of the slopes of all pairs.

    As in 1983: pairs of equal points have no slope, a slope of exactly -1 is left out, the median
    is shifted by the number of slopes below -1, an even number of slopes gives the mean of the two
    in the middle. A pair with equal x and different y counts as a slope of plus infinity, whatever
    the order of rows. For two measurements that rise together, with a slope near 1; not for
    recalibration.

    Up to 5,000 rows all slopes are computed. Above, the slopes below a limit are counted in
    O(n log n) and the limit is halved in on the middle, to 1e-12; a slope above 2^30 is then
    infinite.

    Args:
        table: one row per person, each with one measurement by each method; at most 100,000.
        x: column of the one measurement.
        y: column of the other.
        confidence: of the limits, between 0 and 1.
        missing: "refuse", or "drop" rows where x or y is missing.

    Returns:
        Intercept, in the unit of y, and slope, with limits and no errors. Infinite limits, named
        in `warnings`, where the slope is not bounded.

    Raises:
        TableRefused: a missing value, no numbers, a constant column, too few rows for limits of
            this confidence, more than 100,000, or x and y that do not rise together.
        ValueError: `confidence` is not within 0 and 1, or x and y are the same column.

    Source:
        Passing H, Bablok W, J Clin Chem Clin Biochem 1983;21:709-720.
        R: mcr::mcreg(x, y, method.reg = "PaBa", method.ci = "analytical"), which takes the middle
        of two angles instead of slopes.
    """
    columns, at, value = _two_measurements(table, x=x, y=y, confidence=confidence, missing=missing)
    n = columns.n
    if n > _MOST_ROWS:
        raise TableRefused(
            f"{n} rows have {n * (n - 1) // 2} slopes, expected at most {_MOST_ROWS} rows; draw a "
            "sample of rows with a stated seed, or use deming_regression"
        )
    listed = n <= _ALL_PAIRS_ROWS
    slopes = _ListedSlopes(at, value) if listed else _CountedSlopes(at - at.mean(), value - value.mean())
    slope, lo, hi = _shifted_middle(slopes, n, confidence, f"columns {x!r} and {y!r}")
    return StructuralLine(
        estimates=_table_passing_bablok(at, value, (slope, lo, hi)),
        method="passing-bablok",
        variance_ratio=None,
        confidence=confidence,
        n=n,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=() if np.isfinite(hi) else ("the slope has no upper limit",),
        remarks=(_NOT_FOR_RECALIBRATION,),
    )


def _table_passing_bablok(at: Floats, value: Floats, slopes: tuple[float, float, float]) -> pd.DataFrame:
    """Return intercept and slope with limits; the intercept is lowest for the steepest slope."""
    slope, lo, hi = slopes
    lines = {"intercept": [_intercept(at, value, one) for one in (slope, hi, lo)], "slope": [slope, lo, hi]}
    frame = pd.DataFrame.from_dict(lines, orient="index", columns=["estimate", "lo", "hi"])
    frame = frame.rename_axis("term").reset_index().assign(null=[0.0, 1.0])
    return frame.reindex(columns=["term", "estimate", "se", "lo", "hi", "null", "statistic", "df", "p"])


class _ListedSlopes:
    """Slopes of all pairs of points that differ, without those of exactly -1, in memory."""

    def __init__(self, at: Floats, value: Floats) -> None:
        parts = []
        for first in range(at.size - 1):
            run, rise = at[first + 1 :] - at[first], value[first + 1 :] - value[first]
            slopes = np.divide(rise, run, out=np.full(run.size, np.inf), where=run != 0)
            parts.append(slopes[((run != 0) | (rise != 0)) & (slopes != -1)])
        self._slopes = np.concatenate(parts)
        self.count = self._slopes.size
        self.n_steep_falls = int((self._slopes < -1).sum())

    def ranked(self, ranks: list[int]) -> Floats:
        """Return the slopes of these ranks, ascending and each above -1, counted from 1."""
        places = np.array(ranks, dtype=np.int64) - 1
        return np.asarray(np.partition(self._slopes, np.unique(places))[places])


class _CountedSlopes:
    """The same slopes, counted and never listed."""

    def __init__(self, at: Floats, value: Floats) -> None:
        order = np.argsort(at, kind="stable")
        self._at, self._value = at[order], value[order]
        self._tied_at = bool((np.diff(self._at) == 0).any())
        same = pd.DataFrame({"x": at, "y": value}).groupby(["x", "y"], sort=False).size().to_numpy()
        self.n_steep_falls = self._below(-1 - _PRECISION)
        self._n_minus_one = self._below(-1 + _PRECISION) - self.n_steep_falls
        n_pairs = at.size * (at.size - 1) // 2
        self.count = int(n_pairs - (same * (same - 1) // 2).sum() - self._n_minus_one)

    def ranked(self, ranks: list[int]) -> Floats:
        """Return the slopes of these ranks, as those that are listed, to 1e-12."""
        found, start = [], -1.0
        for rank in ranks:
            found.append(self._search(rank + self._n_minus_one, start))
            start = found[-1]
        return np.array(found)

    def _search(self, rank: int, lowest: float) -> float:
        """Return the slope of a rank among all, which is `lowest` or above."""
        low, high = lowest, max(1.0, 2 * lowest)
        while self._below(high) < rank:
            low, high = high, 2 * high
            if high > _STEEPEST:
                return np.inf
        while high - low > _PRECISION * max(1.0, abs(high)):
            middle = (low + high) / 2
            if self._below(middle) < rank:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def _below(self, limit: float) -> int:
        """Count the pairs with a slope below a limit: those that y - limit x puts out of order."""
        level = self._value - limit * self._at
        if self._tied_at:  # a vertical pair is never below
            level = level[np.lexsort((level, self._at))]
        return count_inversions(level)


def count_inversions(values: Floats) -> int:
    """Count the pairs of which the earlier is greater than the later, in O(n log n).

    Ranks are split by their bits, the highest first; a pair is counted at the first bit in which
    the two differ.
    """
    order = np.argsort(values, kind="stable")
    step = np.diff(values[order], prepend=values[order[:1]]) > 0
    ranks = np.empty(values.size, dtype=np.int64)
    ranks[order] = np.cumsum(step)
    total = 0
    for level in reversed(range(int(ranks.max(initial=0)).bit_length())):
        high = (ranks >> level & 1).astype(bool)
        block = ranks >> (level + 1)
        n_high = np.concatenate([[0], np.cumsum(high)])
        starts = np.flatnonzero(np.diff(block, prepend=-1))
        before = np.repeat(n_high[starts], np.diff(starts, append=values.size))
        total += int((n_high[:-1] - before)[~high].sum())
        # Within each block the low ones first; blocks stay where they are.
        ranks = ranks[np.argsort(ranks >> level, kind="stable")]
    return total


def _shifted_middle(
    slopes: _ListedSlopes | _CountedSlopes, n: int, confidence: float, which: str
) -> tuple[float, float, float]:
    """Return the shifted median of the slopes and its limits."""
    count, shift = slopes.count, slopes.n_steep_falls
    z = stats.norm.ppf(0.5 + confidence / 2)
    width = z * np.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    first = round((count - width) / 2)
    if first < 1:
        raise TableRefused(
            f"{which} have {count} slopes over {n} rows, too few for limits of confidence "
            f"{confidence:g}; expected more rows"
        )
    # Ranks from 1: limits at first + shift and last + shift, the middle between.
    last = count - first + 1
    wanted = [rank + shift for rank in (first, (count + 1) // 2, count // 2 + 1, last)]
    known = [rank for rank in wanted if rank <= count]
    ordered = np.full(4, np.inf)
    ordered[: len(known)] = slopes.ranked(known)
    slope = float(ordered[1:3].mean())
    if not (np.isfinite(slope) and np.isfinite(ordered[0])):
        raise TableRefused(
            f"{which} do not rise together: {shift} of {count} slopes are below -1; expected two "
            "measurements of one quantity, with a slope near 1"
        )
    return slope, float(ordered[0]), float(ordered[3])


def _intercept(at: Floats, value: Floats, slope: float) -> float:
    """Return the median of y - slope x; minus infinity for an infinite slope."""
    if not np.isfinite(slope):
        return -np.inf
    return float(np.median(value - slope * at))
