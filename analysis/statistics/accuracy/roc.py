"""Discrimination of a yes/no label: AUROC, binary c-statistic, ROC curve, average precision.

A higher marker always means positive. The direction is never taken from the data, so a marker that
points the other way shows an AUROC below 0.5 and a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics.accuracy.diagnostic import Flags, Floats, check_roles, two_class_label
from analysis.statistics.columns import (
    Columns,
    Missing,
    in_group,
    label_groups,
    named_columns,
    rows_by_group,
    used_columns,
)
from analysis.statistics.limits import normal_quantile

_DIRECTION: Final = "a higher marker means positive"
# People of a class below which DeLong's normal interval is uncertain enough for a warning.
_FEW_PEOPLE: Final = 10


@dataclass(frozen=True, slots=True)
class Discrimination:
    """Discrimination of one marker, overall or by group.

    Attributes:
        estimates: one row per group: the grouping columns, marker, n, n_positive, n_negative, then
            auc, se, auc_lo, auc_hi; for a yes/no marker sensitivity, specificity, c, se, c_lo,
            c_hi. NaN for everything where a group has one class only, and for the error and the
            limits where a class has one person only; `warnings` then says so.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what a reader of the estimates must know.
        direction: which end of the marker means positive.
    """

    estimates: pd.DataFrame
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]
    direction: str = _DIRECTION


@dataclass(frozen=True, slots=True)
class DiscriminationComparison:
    """Markers compared on the same people.

    Attributes:
        estimates: one row per marker: marker, auc or c, se and limits.
        differences: one row per pair, in the order given: marker_a, marker_b, difference (a - b),
            se, difference_lo, difference_hi, z, p. z and p are NaN where the error is 0 but the
            difference is not, and everything but the difference where a class has one person only.
        covariance: (k, k), index and columns are the markers.
        n: people, all with the label and every marker.
        n_positive: of them positive.
        n_negative: of them negative.
        confidence: of the limits.
        n_dropped_missing: rows left out because the label or any marker was missing.
        warnings: what a reader of the estimates must know.
        direction: which end of the markers means positive.
    """

    estimates: pd.DataFrame
    differences: pd.DataFrame
    covariance: pd.DataFrame
    n: int
    n_positive: int
    n_negative: int
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]
    direction: str = _DIRECTION


@dataclass(frozen=True, slots=True)
class RocCurve:
    """The empirical ROC curve.

    Attributes:
        points: one row a threshold, ascending: threshold, sensitivity, specificity, where positive
            is marker >= threshold. The first row is the smallest value (everybody is positive),
            the last is infinite (nobody is).
        n_positive: people with the label.
        n_negative: people without.
        n_dropped_missing: rows left out because a used column was missing.
        direction: which end of the marker means positive.
    """

    points: pd.DataFrame
    n_positive: int
    n_negative: int
    n_dropped_missing: int
    direction: str = _DIRECTION


def auroc(
    table: pd.DataFrame,
    *,
    label: str,
    marker: str,
    confidence: float = 0.95,
    by: Sequence[str] = (),
    missing: Missing = "refuse",
) -> Discrimination:
    """Return the area under the ROC curve of a marker, with DeLong's interval.

    The limits are cut at 0 and 1. A constant marker has an area of 0.5 with an error of 0: it ranks
    nobody above anybody. That and a perfect separation are warned of, since an interval without
    width says nothing about the uncertainty.

    Args:
        table: one row per person; rows must be independent.
        label: column of yes/no or 0/1; 1 is positive.
        marker: column of numbers; higher means positive, always.
        confidence: of the limits, between 0 and 1.
        by: columns; one estimate for each combination that occurs, none for all people together.
        missing: "refuse", or "drop" rows where label, marker or a grouping column is missing.

    Returns:
        Estimates and warnings. A group with one class only has NaN and a warning.

    Raises:
        TableRefused: a missing or wrong value, or one class only in the whole table.
        TypeError: `by` is a text.
        ValueError: `confidence` is not within 0 and 1, or a column has two roles.

    Source:
        DeLong ER et al., Biometrics 1988;44:837-845; algorithm of Sun X and Xu W, IEEE Signal
        Process Lett 2014;21:1389-1393.
        R: pROC::ci.auc(pROC::roc(label, marker, levels = c(0, 1), direction = "<")).
    """
    return _by_group(table, label, marker, confidence, by, missing, yes_no=False)


def binary_c_statistic(
    table: pd.DataFrame,
    *,
    label: str,
    marker: str,
    confidence: float = 0.95,
    by: Sequence[str] = (),
    missing: Missing = "refuse",
) -> Discrimination:
    """Return (sensitivity + specificity) / 2 of a yes/no marker, with DeLong's interval.

    This is the AUROC of the 0/1 marker. It must not be compared with the AUROC of a continuous
    marker as if both were measures of ranking. A marker that is the same for everybody is allowed:
    a rule that finds nobody has c = 0.5; it is warned of.

    Args:
        table: one row per person; rows must be independent.
        label: column of yes/no or 0/1; 1 is positive.
        marker: column of yes/no or 0/1; 1 is a positive finding.
        confidence: of the limits, between 0 and 1.
        by: columns; one estimate for each combination that occurs, none for all people together.
        missing: "refuse", or "drop" rows where label, marker or a grouping column is missing.

    Returns:
        Estimates and warnings. A group with one class only has NaN and a warning.

    Raises:
        TableRefused: a missing or wrong value, a marker that is not yes/no, or one class only.
        TypeError: `by` is a text.
        ValueError: `confidence` is not within 0 and 1, or a column has two roles.

    Source:
        DeLong ER et al., Biometrics 1988;44:837-845, on the 0/1 marker.
        R: pROC::ci.auc(pROC::roc(label, marker, levels = c(0, 1), direction = "<")), marker 0/1.
    """
    return _by_group(table, label, marker, confidence, by, missing, yes_no=True)


def compare_auroc(
    table: pd.DataFrame, *, label: str, markers: Sequence[str], confidence: float = 0.95, missing: Missing = "refuse"
) -> DiscriminationComparison:
    """Compare the AUROC of two or more markers on the same people by DeLong's paired test.

    The difference is the earlier marker minus the later one. Not for nested models fitted to the
    same people: there the likelihood-ratio test is the test. P values of several pairs are not
    adjusted.

    Args:
        table: one row per person; rows must be independent.
        label: column of yes/no or 0/1; 1 is positive.
        markers: two or more columns of numbers; higher means positive.
        confidence: of the limits, between 0 and 1.
        missing: "refuse", or "drop" rows where the label or any marker is missing, so that all
            markers are judged on the same people.

    Returns:
        Estimates, differences with test, and the covariance of the areas. Markers that rank
        everybody alike have a difference of 0 with z = 0 and p = 1, as in pROC.

    Raises:
        TableRefused: a missing or wrong value, or one class only.
        TypeError: `markers` is a text.
        ValueError: fewer than two markers, one twice, or `confidence` is not within 0 and 1.

    Source:
        DeLong ER et al., Biometrics 1988;44:837-845; algorithm of Sun X and Xu W, IEEE Signal
        Process Lett 2014;21:1389-1393.
        R: pROC::roc.test(roc_a, roc_b, method = "delong", paired = TRUE); pROC::cov(roc_a, roc_b).
    """
    return _compare(table, label, markers, confidence, missing, yes_no=False)


def compare_binary_c_statistic(
    table: pd.DataFrame, *, label: str, markers: Sequence[str], confidence: float = 0.95, missing: Missing = "refuse"
) -> DiscriminationComparison:
    """Compare (sensitivity + specificity) / 2 of yes/no markers on the same people by DeLong.

    Args:
        table: one row per person; rows must be independent.
        label: column of yes/no or 0/1; 1 is positive.
        markers: two or more columns of yes/no or 0/1; 1 is a positive finding.
        confidence: of the limits, between 0 and 1.
        missing: "refuse", or "drop" rows where the label or any marker is missing.

    Returns:
        Estimates, differences with test, and the covariance of the c-statistics.

    Raises:
        TableRefused: a missing or wrong value, a marker that is not yes/no, or one class only.
        TypeError: `markers` is a text.
        ValueError: fewer than two markers, one twice, or `confidence` is not within 0 and 1.

    Source:
        DeLong ER et al., Biometrics 1988;44:837-845, on the 0/1 markers.
        R: pROC::roc.test(roc_a, roc_b, method = "delong", paired = TRUE), markers 0/1.
    """
    return _compare(table, label, markers, confidence, missing, yes_no=True)


def roc_curve(table: pd.DataFrame, *, label: str, marker: str, missing: Missing = "refuse") -> RocCurve:
    """Return the points of the empirical ROC curve, one for each distinct value and one more.

    People of the same value change sides together, so ties between the classes give sloped lines.
    The area under straight lines between the points is `auroc`.

    Args:
        table: one row per person.
        label: column of yes/no or 0/1; 1 is positive.
        marker: column of numbers; higher means positive.
        missing: "refuse", or "drop" rows where label or marker is missing.

    Returns:
        Threshold, sensitivity and specificity from (1, 0) to (0, 1).

    Raises:
        TableRefused: a missing or wrong value, or one class only.
        ValueError: label and marker are the same column.

    Source:
        Hanley JA, McNeil BJ, Radiology 1982;143:29-36.
        R: pROC::coords(roc, "all"); pROC's thresholds lie between the values, these are the values.
    """
    check_roles(label, [marker])
    columns = used_columns(table, [label, marker], missing=missing)
    positive = two_class_label(columns, label)
    thresholds, place = np.unique(columns.numbers(marker), return_inverse=True)
    cases = np.bincount(place[positive], minlength=len(thresholds))
    controls = np.bincount(place[~positive], minlength=len(thresholds))
    n_positive, n_negative = int(cases.sum()), int(controls.sum())
    points = pd.DataFrame(
        {
            "threshold": np.append(thresholds, np.inf),
            "sensitivity": (n_positive - np.append(0, np.cumsum(cases))) / n_positive,
            "specificity": np.append(0, np.cumsum(controls)) / n_negative,
        }
    )
    return RocCurve(points, n_positive, n_negative, columns.n_dropped_missing)


def _reader(columns: Columns, *, yes_no: bool) -> Callable[[str], Floats]:
    if yes_no:
        return lambda name: columns.flags(name).astype(np.float64)
    return columns.numbers


def _by_group(
    table: pd.DataFrame,
    label: str,
    marker: str,
    confidence: float,
    by: Sequence[str],
    missing: Missing,
    *,
    yes_no: bool,
) -> Discrimination:
    z = normal_quantile(confidence)
    by = named_columns(by, "by")
    check_roles(label, [marker], by)
    columns = used_columns(table, [label, marker, *by], missing=missing)
    positive = two_class_label(columns, label)
    values = _reader(columns, yes_no=yes_no)(marker)
    codes, labels = columns.groups(by)
    estimates, warnings = [], []
    for label_of_group, rows in zip(labels, rows_by_group(codes, len(labels)), strict=True):
        row, messages = _one_group(values[rows], positive[rows], marker, z, yes_no=yes_no)
        estimates.append(row)
        warnings += [in_group(by, label_of_group, message) for message in messages]
    return Discrimination(label_groups(by, labels, estimates), confidence, columns.n_dropped_missing, tuple(warnings))


def _one_group(
    values: Floats, positive: Flags, marker: str, z: float, *, yes_no: bool
) -> tuple[dict[str, Any], list[str]]:
    """Return the row of one group, and warnings about it."""
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    row: dict[str, Any] = {"marker": marker, "n": positive.size, "n_positive": n_positive, "n_negative": n_negative}
    name = "c" if yes_no else "auc"
    if n_positive and n_negative:
        areas, covariance = delong(values[None, :], positive)
        area, se = float(areas[0]), float(np.sqrt(covariance[0, 0]))
        warnings = _warnings(marker, values, positive, area, se, yes_no=yes_no)
    else:
        area = se = np.nan
        warnings = [f"{n_positive} positive and {n_negative} negative people, nothing is estimated"]
    if yes_no:
        row["sensitivity"] = values[positive].mean() if n_positive else np.nan
        row["specificity"] = 1 - values[~positive].mean() if n_negative else np.nan
    return {**row, **_limits(name, area, se, z)}, warnings


def _limits(name: str, area: float, se: float, z: float) -> dict[str, float]:
    lo, hi = np.clip([area - z * se, area + z * se], 0, 1).tolist()
    return {name: area, "se": se, f"{name}_lo": lo, f"{name}_hi": hi}


def _warnings(marker: str, values: Floats, positive: Flags, area: float, se: float, *, yes_no: bool) -> list[str]:
    warnings = []
    if values.min() == values.max():
        warnings.append(
            f"marker {marker!r} is {values[0]:g} for all {values.size} people: it ranks nobody, "
            "and the interval has no width"
        )
    elif not yes_no and np.isin(values, (values.min(), values.max())).all():
        warnings.append(
            f"marker {marker!r} has two values only; its AUROC is (sensitivity + specificity) / 2 "
            "and not comparable with that of a continuous marker"
        )
    if area in (0, 1):
        warnings.append(
            f"marker {marker!r} separates the classes completely: the interval has no width and "
            "says nothing about the uncertainty"
        )
    if area < 0.5:
        warnings.append(
            f"marker {marker!r} is lower among positives ({area:.3f} is below 0.5); higher means "
            "positive, and the direction was not reversed"
        )
    few = min(int(positive.sum()), int((~positive).sum()))
    if np.isnan(se):
        warnings.append("one person only in a class, no standard error is estimated")
    elif few < _FEW_PEOPLE:
        warnings.append(f"{few} people in the smaller class: the normal interval is unreliable")
    return warnings


def _compare(
    table: pd.DataFrame, label: str, markers: Sequence[str], confidence: float, missing: Missing, *, yes_no: bool
) -> DiscriminationComparison:
    z = normal_quantile(confidence)
    markers = named_columns(markers, "markers", at_least=2)
    check_roles(label, markers)
    columns = used_columns(table, [label, *markers], missing=missing)
    positive = two_class_label(columns, label)
    read = _reader(columns, yes_no=yes_no)
    values = np.stack([read(name) for name in markers])
    areas, covariance = delong(values, positive)
    errors = np.sqrt(np.diagonal(covariance))
    warnings = [
        message
        for name, row, area, se in zip(markers, values, areas, errors, strict=True)
        for message in _warnings(name, row, positive, float(area), float(se), yes_no=yes_no)
    ]
    name = "c" if yes_no else "auc"
    estimates = [
        {"marker": marker, **_limits(name, float(area), float(se), z)}
        for marker, area, se in zip(markers, areas, errors, strict=True)
    ]
    pairs = combinations(range(len(markers)), 2)
    return DiscriminationComparison(
        estimates=pd.DataFrame(estimates),
        differences=pd.DataFrame([_pair(markers, areas, covariance, z, *p) for p in pairs]),
        covariance=pd.DataFrame(covariance, index=list(markers), columns=list(markers)),
        n=columns.n,
        n_positive=int(positive.sum()),
        n_negative=int((~positive).sum()),
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=tuple(dict.fromkeys(warnings)),
    )


def _pair(markers: Sequence[str], areas: Floats, covariance: Floats, z: float, a: int, b: int) -> dict[str, Any]:
    difference = float(areas[a] - areas[b])
    variance = covariance[a, a] + covariance[b, b] - 2 * covariance[a, b]
    # Rounding leaves about 1e-17 of a variance that is 0.
    tiny = 1e-14 * (covariance[a, a] + covariance[b, b])
    se = 0.0 if variance <= tiny else float(np.sqrt(variance))
    if se == 0:
        statistic = 0.0 if abs(difference) < 1e-12 else np.nan
    else:
        statistic = difference / se
    return {
        "marker_a": markers[a],
        "marker_b": markers[b],
        "difference": difference,
        "se": se,
        "difference_lo": difference - z * se,
        "difference_hi": difference + z * se,
        "z": statistic,
        "p": 2 * float(stats.norm.sf(abs(statistic))),
    }


def delong(values: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """Return the (k,) areas of (k, n) markers and their (k, k) DeLong covariance, in O(k n log n).

    The covariance is NaN where a class has one person only.

    Source:
        DeLong ER et al., Biometrics 1988;44:837-845; computed by midranks as in Sun X and Xu W,
        IEEE Signal Process Lett 2014;21:1389-1393. R: pROC::auc, pROC::var, pROC::cov.
    """
    of_positive, of_negative = placements(values, positive)
    n_positive, n_negative = of_positive.shape[1], of_negative.shape[1]
    auc = of_positive.mean(axis=1)
    if min(n_positive, n_negative) < 2:
        return auc, np.full((len(values), len(values)), np.nan)
    covariance = _covariance(of_positive) / n_positive + _covariance(of_negative) / n_negative
    return auc, covariance


def placements(values: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """Return the placement values of (k, n) markers; a tie counts one half.

    That of a positive is the share of negatives below it, that of a negative the share of positives
    above it.
    """
    n_positive = int(positive.sum())
    n_negative = positive.size - n_positive
    ranks = stats.rankdata(values, axis=1)
    among_positive = stats.rankdata(values[:, positive], axis=1)
    among_negative = stats.rankdata(values[:, ~positive], axis=1)
    below = (ranks[:, positive] - among_positive) / n_negative
    above = 1 - (ranks[:, ~positive] - among_negative) / n_positive
    return below, above


def _covariance(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred @ centred.T / (rows.shape[1] - 1))
