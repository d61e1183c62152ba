"""Deming regression: the line of two measurements of one quantity, both with error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.columns import Columns, Missing, TableRefused, used_columns

NOT_FOR_RECALIBRATION: Final = (
    "the line relates true values; it is not used to recalibrate, which is the regression of the "
    "reference on the prediction (calibration_intercept, calibration_slope)"
)
_FEWEST_ROWS: Final = 4

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


def two_measurements(
    table: pd.DataFrame, *, x: str, y: str, confidence: float, missing: Missing
) -> tuple[Columns, Floats, Floats]:
    """Return two columns of numbers that vary.

    Raises:
        TableRefused: a missing value, no numbers, a constant column, or fewer than 4 rows.
        ValueError: `confidence` is no share, or x and y are the same column.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}, expected a share such as 0.95")
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
        table: one row a person, each with one measurement by each method.
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
        ValueError: `variance_ratio` is not a finite number above 0, `confidence` is no share, or x
            and y are the same column.

    Source:
        Deming WE, Statistical Adjustment of Data, 1943; errors by Linnet K, Clin Chem
        1990;36:1891-1894 and 1993;39:424-432. All n lines without one row follow from the sums.
        R: mcr::mcreg(x, y, error.ratio = 1 / variance_ratio, method.reg = "Deming",
        method.ci = "jackknife").
    """
    ratio = float(variance_ratio)
    if not (np.isfinite(ratio) and ratio > 0):
        raise ValueError(f"variance_ratio is {variance_ratio!r}, expected a finite number above 0")
    columns, at, value = two_measurements(table, x=x, y=y, confidence=confidence, missing=missing)
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
        remarks=(NOT_FOR_RECALIBRATION,),
    )


def _with_and_without_one(x: Floats, y: Floats, ratio: float) -> tuple[float, Floats]:
    """Return the slope of all rows, and (n,) the slopes without each, from the sums."""
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
