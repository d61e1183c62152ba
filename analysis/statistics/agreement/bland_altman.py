"""Agreement of a prediction with its reference: bias, limits, errors, correlation, calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.columns import (
    Missing,
    TableRefused,
    in_group,
    named_columns,
    rows_by_group,
    stack_groups,
    used_columns,
)
from analysis.statistics.limits import normal_quantile

PROPORTIONAL_BIAS_REMARK: Final = (
    "slope_of_difference_on_mean is negative even for a perfectly calibrated predictor, since a "
    "prediction varies less than what it predicts; slope_of_difference_if_calibrated is its value "
    "for a calibrated predictor with the same correlation. Judge calibration by calibration_slope"
)

_DIFFERENCES: Final = ("bias", "sd_of_differences", "lower_limit_of_agreement", "upper_limit_of_agreement")
_PROPORTIONAL: Final = ("slope_of_difference_on_mean", "slope_of_difference_if_calibrated")
_ERRORS: Final = ("mae", "rmse")
_CORRELATIONS: Final = ("pearson", "spearman", "lin_concordance", "lin_accuracy")
_CALIBRATION: Final = ("calibration_intercept", "calibration_slope")
MEASURES: Final = (*_DIFFERENCES, *_PROPORTIONAL, *_ERRORS, *_CORRELATIONS, *_CALIBRATION)
"""The measures, in the order of the result."""

_WITH_UNIT: Final = (*_DIFFERENCES, *_ERRORS, "calibration_intercept")
# Fisher's interval of a correlation needs as many rows.
_FEWEST_ROWS: Final = 4
_LIMITS_SHARE: Final = 0.95
_EPS: Final = float(np.finfo(np.float64).eps)

Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of a prediction with its reference, overall or by group.

    The difference is predicted - reference.

    Attributes:
        estimates: one row per group and measure: the grouping columns, measure, unit (the one
            given, or "1"), n, estimate, se, lo, hi, null, statistic, df, p. `p` tests that the
            measure is `null`, by t on `df` degrees of freedom. NaN: errors, limits or tests
            that a measure does not have (see `agreement`), and what is not defined, which
            `warnings` names.
        confidence: of the intervals `lo` to `hi`; the limits of agreement themselves are always
            those of 95 % of the differences.
        n: rows used.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: groups that are too small, and measures that are not defined, and where.
        remarks: what must be printed beside the figures.
    """

    estimates: pd.DataFrame
    confidence: float
    n: int
    n_dropped_missing: int
    warnings: tuple[str, ...]
    remarks: tuple[str, ...]


def agreement(
    table: pd.DataFrame,
    *,
    predicted: str,
    reference: str,
    by: Sequence[str] = (),
    unit: str = "as given",
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> Agreement:
    """Return how well a prediction agrees with its reference.

    Measures, with R in brackets; d = predicted - reference, m their mean:

    - bias: mean d; t interval, test of 0 (t.test(predicted, reference, paired = TRUE)).
    - sd_of_differences: sd(d); chi-square interval, no se.
    - lower_limit_of_agreement, upper_limit_of_agreement: mean d -+ 1.96 sd(d); t interval with the
      approximate error sd(d) sqrt(1/n + 1.96^2 / (2 (n - 1))) of Bland and Altman.
    - slope_of_difference_on_mean: proportional bias; t interval, test of 0 (lm(d ~ m)).
    - slope_of_difference_if_calibrated: 2 (r^2 - 1) / (1 + 3 r^2), what the last would be for a
      predictor with calibration slope 1 and this Pearson r; no interval.
    - mae: mean |d|; t interval.
    - rmse: root of mean d^2; roots of the t limits of mean d^2 (0 where below 0), se by the delta
      method.
    - pearson: Fisher's z interval; t test of 0; no se (cor.test).
    - spearman: midranks; interval of Bonett and Wright, z with variance (1 + r^2/2)/(n - 3); t test
      of 0; no se (cor.test(method = "spearman", exact = FALSE) for estimate and p).
    - lin_concordance: variances with 1/n; z interval, se of Lin's corrected formula with 1/(n - 2)
      (epiR::epi.ccc(predicted, reference, ci = "z-transform")).
    - lin_accuracy: the bias correction factor, lin_concordance / pearson (epi.ccc's C.b); no
      interval.
    - calibration_intercept, calibration_slope: reference on predicted; t intervals, tests of 0 and
      of 1 (lm(reference ~ predicted)).

    Args:
        table: one row per person; rows must be independent.
        predicted: column of predictions, as lvm_pred_g.
        reference: column of reference measurements in the same unit, as lvm_cmr_g.
        by: columns; one set of measures for each combination, none for all people together.
        unit: of both columns, for the result, as "g".
        confidence: of the intervals, between 0 and 1.
        missing: "refuse", or "drop" rows where a used column is missing.

    Returns:
        The measures.

    Raises:
        TableRefused: a missing value, no numbers, a constant column, or fewer than 4 rows.
        TypeError: `by` is a text.
        ValueError: `confidence` is not within 0 and 1, or a column has two roles.

    Source:
        Bland JM, Altman DG, Stat Methods Med 1999;8:135-160; Fisher RA, Metron 1921;1:3-32; Bonett
        DG, Wright TA, Psychometrika 2000;65:23-28; Lin LI, Biometrics 1989;45:255-268, corrected
        2000;56:324-325.
        R: as above.
    """
    normal_quantile(confidence)
    by = named_columns(by, "by")
    if predicted == reference or predicted in by or reference in by:
        raise ValueError(
            f"{predicted!r} and {reference!r} by {', '.join(map(repr, by)) or 'none'}: a column is "
            "given twice, expected different ones"
        )
    columns = used_columns(table, [predicted, reference, *by], missing=missing)
    if columns.n < _FEWEST_ROWS:
        raise TableRefused(
            f"{columns.n} rows with {predicted!r} and {reference!r}, expected at least {_FEWEST_ROWS} for agreement"
        )
    made, truth = columns.varying_numbers(predicted), columns.varying_numbers(reference)
    codes, labels = columns.groups(by)
    parts, warnings = [], []
    for label, rows in zip(labels, rows_by_group(codes, len(labels)), strict=True):
        found = _measures(made[rows], truth[rows], confidence)
        units = ({"measure": row["measure"], "unit": unit if row["measure"] in _WITH_UNIT else "1"} for row in found)
        parts.append([{**named, "n": rows.size, **row} for named, row in zip(units, found, strict=True)])
        warnings += [in_group(by, label, message) for message in _problems(found, rows.size)]
    return Agreement(
        estimates=stack_groups(by, labels, parts),
        confidence=confidence,
        n=columns.n,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=tuple(warnings),
        remarks=(PROPORTIONAL_BIAS_REMARK,),
    )


def _problems(rows: Sequence[Row], n: int) -> list[str]:
    if n < _FEWEST_ROWS:
        return [f"{n} rows, fewer than {_FEWEST_ROWS}: no estimates"]
    problems = []
    absent = [row["measure"] for row in rows if np.isnan(row["estimate"])]
    if absent:
        problems.append(f"not defined, since a column is constant: {', '.join(absent)}")
    untested = [row["measure"] for row in rows if not np.isnan(row["estimate"] + row["null"]) and np.isnan(row["p"])]
    if untested:
        problems.append(f"no test, since there is no error: {', '.join(untested)}")
    return problems


def _row(measure: str, estimate: float = np.nan, **values: float) -> Row:
    row: Row = {"measure": measure, "estimate": float(estimate)}
    for name in ("se", "lo", "hi", "null", "statistic", "df", "p"):
        row[name] = float(values.get(name, np.nan))
    return row


def _student(measure: str, estimate: float, se: float, df: int, level: float) -> Row:
    """Return an estimate with its t interval."""
    half = stats.t.ppf(0.5 + level / 2, df) * se
    return _row(measure, estimate, se=se, lo=estimate - half, hi=estimate + half, df=df)


def _tested(row: Row, null: float) -> Row:
    """Add the t test of a value; none where there is no error."""
    row["null"] = null
    if row["se"] > 0:
        row["statistic"] = (row["estimate"] - null) / row["se"]
        row["p"] = float(2 * stats.t.sf(abs(row["statistic"]), row["df"]))
    return row


def _measures(made: Floats, truth: Floats, level: float) -> list[Row]:
    """Return the measures of a group in the order of `MEASURES`."""
    if made.size < _FEWEST_ROWS:
        return [_row(name) for name in MEASURES]
    rows = [
        *_differences(made, truth, level),
        *_proportional(made, truth, level),
        *_correlations(made, truth, level),
        *_calibration(made, truth, level),
    ]
    by_name = {row["measure"]: row for row in rows}
    return [by_name[name] for name in MEASURES]


def _differences(made: Floats, truth: Floats, level: float) -> list[Row]:
    d = made - truth
    n = d.size
    df = n - 1
    only_rounding = np.ptp(d) <= 16 * _EPS * (np.abs(made).max() + np.abs(truth).max())
    mean, sd = float(d.mean()), 0.0 if only_rounding else float(d.std(ddof=1))
    z = normal_quantile(_LIMITS_SHARE)
    limit_se = sd * np.sqrt(1 / n + z**2 / (2 * df))
    tails = stats.chi2.ppf([0.5 + level / 2, 0.5 - level / 2], df)
    sd_lo, sd_hi = sd * np.sqrt(df / tails)
    absolute, squared = np.abs(d), d**2
    mse = _student("", float(squared.mean()), float(squared.std(ddof=1)) / np.sqrt(n), df, level)
    rmse = np.sqrt(mse["estimate"])
    return [
        _tested(_student("bias", mean, sd / np.sqrt(n), df, level), 0.0),
        _row("sd_of_differences", sd, lo=sd_lo, hi=sd_hi, df=df),
        _student("lower_limit_of_agreement", mean - z * sd, limit_se, df, level),
        _student("upper_limit_of_agreement", mean + z * sd, limit_se, df, level),
        _student("mae", float(absolute.mean()), absolute.std(ddof=1) / np.sqrt(n), df, level),
        _row(
            "rmse",
            rmse,
            se=mse["se"] / (2 * rmse) if rmse > 0 else 0.0,
            df=df,
            lo=np.sqrt(max(mse["lo"], 0.0)),
            hi=np.sqrt(mse["hi"]),
        ),
    ]


def _proportional(made: Floats, truth: Floats, level: float) -> list[Row]:
    names = _PROPORTIONAL
    if np.ptp(made) == 0 or np.ptp(truth) == 0 or np.ptp(made + truth) == 0:
        return [_row(name) for name in names]
    _, slope = _line((made + truth) / 2, made - truth, ("", names[0]), level)
    r2 = _pearson(made, truth) ** 2
    return [_tested(slope, 0.0), _row(names[1], 2 * (r2 - 1) / (1 + 3 * r2))]


def _calibration(made: Floats, truth: Floats, level: float) -> list[Row]:
    names = _CALIBRATION
    if np.ptp(made) == 0:
        return [_row(name) for name in names]
    intercept, slope = _line(made, truth, names, level)
    return [_tested(intercept, 0.0), _tested(slope, 1.0)]


def _line(x: Floats, y: Floats, names: tuple[str, str], level: float) -> tuple[Row, Row]:
    """Return intercept and slope of the least-squares line of y on x, with t intervals.

    Errors are 0 where the residuals are no more than rounding.
    """
    df = x.size - 2
    mean_x, mean_y = x.mean(), y.mean()
    cx, cy = x - mean_x, y - mean_y
    sxx = cx @ cx
    slope = cx @ cy / sxx
    residual = cy - slope * cx
    size = np.abs(y).max() + np.abs(slope) * np.abs(x).max()
    rounding = np.abs(residual).max() <= 16 * _EPS * size
    variance = 0.0 if rounding else residual @ residual / df
    intercept_se = np.sqrt(variance * (1 / x.size + mean_x**2 / sxx))
    return (
        _student(names[0], mean_y - slope * mean_x, intercept_se, df, level),
        _student(names[1], slope, np.sqrt(variance / sxx), df, level),
    )


def _correlations(made: Floats, truth: Floats, level: float) -> list[Row]:
    names = _CORRELATIONS
    if np.ptp(made) == 0 or np.ptp(truth) == 0:
        return [_row(name) for name in names]
    n, r = made.size, _pearson(made, truth)
    rank_r = _pearson(stats.rankdata(made), stats.rankdata(truth))
    return [
        _correlation(names[0], r, 1 / (n - 3), n, level),
        _correlation(names[1], rank_r, (1 + rank_r**2 / 2) / (n - 3), n, level),
        *_lin(made, truth, r, level),
    ]


def _pearson(x: Floats, y: Floats) -> float:
    cx, cy = x - x.mean(), y - y.mean()
    r = float(cx @ cy / np.sqrt((cx @ cx) * (cy @ cy)))
    return float(np.sign(r)) if abs(r) >= 1 - 4 * _EPS else r


def _correlation(measure: str, r: float, z_variance: float, n: int, level: float) -> Row:
    """Return a correlation with an interval on Fisher's z, and the t test of 0."""
    row = _row(measure, r, lo=r, hi=r, null=0, df=n - 2)
    if abs(r) < 1:
        half = normal_quantile(level) * np.sqrt(z_variance)
        row["lo"], row["hi"] = np.tanh(np.arctanh(r) + np.array([-half, half])).tolist()
        row["statistic"] = r * np.sqrt((n - 2) / (1 - r**2))
        row["p"] = float(2 * stats.t.sf(abs(row["statistic"]), n - 2))
    return row


def _lin(made: Floats, truth: Floats, r: float, level: float) -> list[Row]:
    """Return Lin's concordance and its accuracy.

    The variance is Lin's, with accuracy = concordance / r put in so that nothing is divided by r.
    """
    n = made.size
    shift = truth.mean() - made.mean()
    product = made.std() * truth.std()
    accuracy = 2 * product / (made.var() + truth.var() + shift**2)
    c = r * accuracy
    location = shift**2 / product
    variance = (
        (1 - r**2) * accuracy**2 * (1 - c**2)
        + 2 * c**2 * accuracy * (1 - c) * location
        - accuracy**2 * c**2 * location**2 / 2
    ) / (n - 2)
    se = np.sqrt(max(variance, 0.0))
    row = _row("lin_concordance", c, se=se, lo=c, hi=c)
    if abs(c) < 1:
        half = normal_quantile(level) * se / (1 - c**2)
        row["lo"], row["hi"] = np.tanh(np.arctanh(c) + np.array([-half, half])).tolist()
    return [row, _row("lin_accuracy", accuracy)]
