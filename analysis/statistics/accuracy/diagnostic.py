"""Yes/no findings against a yes/no label: accuracy, McNemar's test, net benefit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.columns import (
    Columns,
    Missing,
    TableRefused,
    in_group,
    label_groups,
    named_columns,
    rows_by_group,
    stack_groups,
    used_columns,
)
from analysis.statistics.limits import normal_quantile

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Within = Literal["all", "positive", "negative"]
McnemarMethod = Literal["exact", "chi-square", "chi-square corrected"]


@dataclass(frozen=True, slots=True)
class DiagnosticAccuracy:
    """Accuracy of a yes/no marker, overall or by group.

    Attributes:
        counts: one row per group: the grouping columns, n, tp, fp, fn, tn.
        estimates: one row per group and measure: the grouping columns, measure, numerator,
            denominator, estimate, lo, hi. Measures: sensitivity, specificity, ppv, npv, prevalence
            (of the label), predicted_prevalence (of the marker), lr_positive, lr_negative. The
            ratios have no numerator and denominator (NaN). NaN: a share of nobody; a ratio with
            0 below; the limits of a ratio of 0.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: which measures are not defined, and where.
    """

    counts: pd.DataFrame
    estimates: pd.DataFrame
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class McnemarTest:
    """Two yes/no markers on the same people.

    Attributes:
        n: people compared.
        both: positive by both markers.
        only_a: positive by the first only.
        only_b: positive by the second only.
        neither: negative by both.
        difference: share positive by a minus share positive by b. Within the positives this is the
            difference in sensitivity; within the negatives the difference in specificity is its
            negative.
        difference_lo: lower Wald limit.
        difference_hi: upper Wald limit.
        statistic: chi-square on 1 degree of freedom; NaN for the exact test, and without
            discordant pairs.
        p: two-sided. Without discordant pairs 1 for the exact test, NaN for the others.
        method: of `p`.
        within: whom it was computed among.
        confidence: of the limits.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what a reader must know.
    """

    n: int
    both: int
    only_a: int
    only_b: int
    neither: int
    difference: float
    difference_lo: float
    difference_hi: float
    statistic: float
    p: float
    method: McnemarMethod
    within: Within
    confidence: float
    n_dropped_missing: int
    warnings: tuple[str, ...]


def diagnostic_accuracy(
    table: pd.DataFrame,
    *,
    label: str,
    marker: str,
    confidence: float = 0.95,
    by: Sequence[str] = (),
    missing: Missing = "refuse",
) -> DiagnosticAccuracy:
    """Return sensitivity, specificity, predictive values and likelihood ratios of a yes/no marker.

    Shares have Wilson's limits without continuity correction, ratios Simel's log limits. The
    predictive values hold for this prevalence only.

    Args:
        table: one row per person; rows must be independent.
        label: column of yes/no or 0/1; 1 is positive, as in diseased.
        marker: column of yes/no or 0/1; 1 is a positive finding.
        confidence: of the limits, between 0 and 1.
        by: columns; one set of measures for each combination, none for all people together.
        missing: "refuse", or "drop" rows where label, marker or a grouping column is missing.

    Returns:
        Counts and measures; what is not defined is NaN and named in `warnings`.

    Raises:
        TableRefused: a missing value, one that is not yes/no, or one class only in the whole table.
        TypeError: `by` is a text.
        ValueError: `confidence` is not within 0 and 1, or a column has two roles.

    Source:
        Wilson EB, J Am Stat Assoc 1927;22:209-212; Simel DL et al., J Clin Epidemiol
        1991;44:763-770.
        R: prop.test(x, n, correct = FALSE)$conf.int for shares (Hmisc::binconf replaces one limit
        at x = 1 and x = n - 1); epiR::epi.tests for the ratios.
    """
    normal_quantile(confidence)
    by = named_columns(by, "by")
    check_roles(label, [marker], by)
    columns = used_columns(table, [label, marker, *by], missing=missing)
    positive, found = two_class_label(columns, label), columns.flags(marker)
    codes, labels = columns.groups(by)
    cells = [_cells(positive[rows], found[rows]) for rows in rows_by_group(codes, len(labels))]
    measures = [_measures(**one, confidence=confidence) for one in cells]
    warnings = []
    for group, rows in zip(labels, measures, strict=True):
        undefined = [row["measure"] for row in rows if np.isnan(row["estimate"])]
        if undefined:
            message = f"not defined, since the denominator is 0: {', '.join(undefined)}"
            warnings.append(in_group(by, group, message))
    return DiagnosticAccuracy(
        counts=label_groups(by, labels, cells),
        estimates=stack_groups(by, labels, measures),
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=tuple(warnings),
    )


def mcnemar_test(
    table: pd.DataFrame,
    *,
    marker_a: str,
    marker_b: str,
    label: str | None = None,
    within: Within = "all",
    method: McnemarMethod = "exact",
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> McnemarTest:
    """Compare how often two yes/no markers are positive in the same people.

    Among the positives this compares sensitivities, among the negatives specificities. The exact
    binomial test is the default; R's mcnemar.test has the corrected chi-square as default.

    Args:
        table: one row per person; rows must be independent.
        marker_a: column of yes/no or 0/1.
        marker_b: column of yes/no or 0/1.
        label: column of yes/no or 0/1; needed unless `within` is "all", and not allowed then.
        within: "all" people, those with a "positive" or those with a "negative" label.
        method: "exact", "chi-square", or "chi-square corrected" (Edwards' continuity correction).
        confidence: of the limits of the difference, between 0 and 1.
        missing: "refuse", or "drop" rows where any of the columns is missing.

    Returns:
        The four counts, the difference with Wald limits for paired shares, and the test.

    Raises:
        TableRefused: a missing value, one that is not yes/no, or nobody with such a label.
        ValueError: another word for `within` or `method`, or a label without need or the reverse.

    Source:
        McNemar Q, Psychometrika 1947;12:153-157; limits as in Fleiss JL et al., Statistical Methods
        for Rates and Proportions, 3rd ed., 2003, section 13.1.
        R: binom.test(only_a, only_a + only_b)$p.value; mcnemar.test(matrix, correct =
        FALSE or TRUE).
    """
    z = normal_quantile(confidence)
    _check_choices(label, within, method)
    check_roles(label, [marker_a, marker_b])
    columns = used_columns(table, [label, marker_a, marker_b], missing=missing)
    a, b = columns.flags(marker_a), columns.flags(marker_b)
    if label is not None:
        kept = columns.flags(label) == (within == "positive")
        if not kept.any():
            raise TableRefused(f"column {label!r} has no {within} row of {columns.n}, expected some")
        a, b = a[kept], b[kept]
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    statistic, p = _mcnemar_p(only_a, only_b, method)
    difference = (only_a - only_b) / a.size
    se = np.sqrt(only_a + only_b - (only_a - only_b) ** 2 / a.size) / a.size
    lo, hi = np.clip([difference - z * se, difference + z * se], -1, 1).tolist()
    warnings = () if only_a + only_b else ("no discordant people: the limits have no width",)
    return McnemarTest(
        n=a.size,
        both=int((a & b).sum()),
        only_a=only_a,
        only_b=only_b,
        neither=int((~a & ~b).sum()),
        difference=difference,
        difference_lo=lo,
        difference_hi=hi,
        statistic=statistic,
        p=p,
        method=method,
        within=within,
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=warnings,
    )


def wilson_limits(successes: Floats, trials: Floats, *, confidence: float) -> tuple[Floats, Floats]:
    """Return Wilson's limits of shares, without continuity correction; NaN without trials.

    Source:
        Wilson EB, J Am Stat Assoc 1927;22:209-212.
        R: prop.test(x, n, correct = FALSE)$conf.int.
    """
    z = normal_quantile(confidence)
    z2 = z * z
    n = np.where(trials > 0, trials, np.nan)
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At 0 and n one limit is 0 or 1 exactly, up to rounding.
    lo = np.where(successes == 0, 0 * n, centre - half)
    hi = np.where(successes == trials, 1 + 0 * n, centre + half)
    return lo, hi


def _cells(positive: Flags, found: Flags) -> dict[str, int]:
    return {
        "n": positive.size,
        "tp": int((positive & found).sum()),
        "fp": int((~positive & found).sum()),
        "fn": int((positive & ~found).sum()),
        "tn": int((~positive & ~found).sum()),
    }


def _measures(*, n: int, tp: int, fp: int, fn: int, tn: int, confidence: float) -> list[dict[str, Any]]:
    shares = {
        "sensitivity": (tp, tp + fn),
        "specificity": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
        "prevalence": (tp + fn, n),
        "predicted_prevalence": (tp + fp, n),
    }
    above = np.array([x for x, _ in shares.values()], dtype=np.float64)
    below = np.array([x for _, x in shares.values()], dtype=np.float64)
    lo, hi = wilson_limits(above, below, confidence=confidence)
    rows: list[dict[str, Any]] = [
        {
            "measure": name,
            "numerator": float(x),
            "denominator": float(of),
            "estimate": x / of if of else np.nan,
            "lo": float(lo[i]),
            "hi": float(hi[i]),
        }
        for i, (name, (x, of)) in enumerate(shares.items())
    ]
    for name, x, y in (("lr_positive", tp, fp), ("lr_negative", fn, tn)):
        ratio = _likelihood_ratio(x, tp + fn, y, fp + tn, normal_quantile(confidence))
        rows.append({"measure": name, "numerator": np.nan, "denominator": np.nan, **ratio})
    return rows


def _likelihood_ratio(x: int, of_x: int, y: int, of_y: int, z: float) -> dict[str, float]:
    """Return (x / of_x) / (y / of_y) with log limits."""
    if y == 0 or of_x == 0 or of_y == 0:
        return {"estimate": np.nan, "lo": np.nan, "hi": np.nan}
    ratio = (x / of_x) / (y / of_y)
    if x == 0:
        return {"estimate": ratio, "lo": np.nan, "hi": np.nan}
    width = float(np.exp(z * np.sqrt(1 / x - 1 / of_x + 1 / y - 1 / of_y)))
    return {"estimate": ratio, "lo": ratio / width, "hi": ratio * width}


def _check_choices(label: str | None, within: Within, method: McnemarMethod) -> None:
    if within not in ("all", "positive", "negative"):
        raise ValueError(f"within is {within!r}, expected 'all', 'positive' or 'negative'")
    if method not in ("exact", "chi-square", "chi-square corrected"):
        raise ValueError(f"method is {method!r}, expected 'exact', 'chi-square' or 'chi-square corrected'")
    if (label is None) != (within == "all"):
        raise ValueError(
            f"label is {label!r} and within is {within!r}; expected a label with 'positive' or "
            "'negative', and none with 'all'"
        )


def _mcnemar_p(only_a: int, only_b: int, method: McnemarMethod) -> tuple[float, float]:
    discordant = only_a + only_b
    if method == "exact":
        half = float(stats.binom.cdf(min(only_a, only_b), discordant, 0.5))
        return np.nan, min(1.0, 2 * half)
    if discordant == 0:
        return np.nan, np.nan
    gap = abs(only_a - only_b)
    if method == "chi-square corrected" and gap:
        gap -= 1
    statistic = gap**2 / discordant
    return statistic, float(stats.chi2.sf(statistic, 1))


def two_class_label(columns: Columns, label: str) -> Flags:
    """Return a yes/no label as (n,) bool; refuse one of which not both classes occur."""
    positive = columns.flags(label)
    n_positive = int(positive.sum())
    if n_positive in (0, columns.n):
        raise TableRefused(
            f"column {label!r} has {n_positive} positive and {columns.n - n_positive} negative "
            "rows, expected both classes to occur"
        )
    return positive


def check_roles(label: str | None, markers: Sequence[str], by: Sequence[str] = ()) -> None:
    """Refuse a column that is the label, a marker or a grouping in more than one way."""
    roles = [name for name in (label, *markers, *by) if name is not None]
    twice = sorted({name for name in roles if roles.count(name) > 1})
    if twice:
        raise ValueError(f"column {twice[0]!r} is given in two roles, expected label, markers and by to differ")
