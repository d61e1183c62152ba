"""Incidence rates per person-time with exact limits, and their ratios."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.columns import Missing, TableRefused, label_groups, named_columns, used_columns
from analysis.statistics.limits import normal_quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class IncidenceRates:
    """Incidence rates by group.

    Attributes:
        rates: one row per group: the columns of `by`, `n`,
            `n_events`, `person_time` in the unit of the durations, `rate`, `rate_lo`, `rate_hi`
            per `per` of that unit.
        ratios: one row for each group but the reference: the label, `rate_ratio`,
            `rate_ratio_lo`, `rate_ratio_hi`, `p`; no rows without a reference.
        by: columns that make the groups.
        reference: group that the others are compared with, or None.
        per: person-time of a rate.
        confidence: of the limits, 0.95 for 95 %.
        n_dropped_missing: rows left out because a used column was missing.
    """

    rates: pd.DataFrame
    ratios: pd.DataFrame
    by: tuple[str, ...]
    reference: Hashable
    per: float
    confidence: float
    n_dropped_missing: int


def incidence_rates(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    by: str | Sequence[str] = (),
    reference: Hashable = None,
    entry: str | None = None,
    per: float = 1000.0,
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> IncidenceRates:
    """Return events per person-time with exact Poisson limits, and exact rate ratios.

    Args:
        table: one row per person, or a part of a person's follow-up.
        duration: column of the exit time, above 0. Its unit is that of the person-time: give
            years for a rate per 1,000 person-years.
        event: column of yes/no or 0/1.
        by: column or columns that make groups.
        reference: label of the group that the others are compared with, a tuple with several
            columns in `by`; None for no ratios.
        entry: column of delayed entry, below the exit; person-time is exit less entry.
        per: person-time of a rate, above 0.
        confidence: of the limits.
        missing: "refuse" or "drop".

    Returns:
        Rates and ratios. Limits of a rate are those of Garwood, from chi-square quantiles: 0
        below where there is no event. Limits of a ratio are Clopper and Pearson's for the share
        of one group among the events of both, given their sum; P sums the probabilities of all
        splits that are no likelier than the one seen, so that limits and P can disagree at the
        margin, as in R. A ratio is infinite without event in the reference, and NaN without any.

    Raises:
        TableRefused: a column cannot be used, or no row belongs to the reference.
        ValueError: an argument is outside its values.
        TypeError: an argument is of another type.

    Source:
        Garwood F, Biometrika 1936;28:437. Przyborowski J, Wilenski H, Biometrika 1940;31:313.
        R: `poisson.test(n_events, person_time)`; `poisson.test(c(a, b), c(time_a, time_b))`
    """
    normal_quantile(confidence)
    if not (isinstance(per, (int, float)) and math.isfinite(per) and per > 0):
        raise ValueError(f"per is {per!r}, expected a finite person-time above 0")
    groups = named_columns(by, "by")
    columns = used_columns(table, [duration, event, entry, *groups], missing=missing)
    exits = columns.times(duration)
    entries = columns.entries(entry, duration=duration, exits=exits)
    codes, labels = columns.groups(groups)
    events = np.bincount(codes, columns.flags(event), len(labels)).astype(np.int64)
    followed = exits if entries is None else exits - entries
    person_time = np.bincount(codes, followed, len(labels)).astype(np.float64)
    lo, hi = poisson_limits(events, confidence=confidence)
    rates = {
        "n": np.bincount(codes, minlength=len(labels)),
        "n_events": events,
        "person_time": person_time,
        "rate": events / person_time * per,
        "rate_lo": lo / person_time * per,
        "rate_hi": hi / person_time * per,
    }
    return IncidenceRates(
        rates=label_groups(groups, labels, rates),
        ratios=_ratios(groups, labels, events, person_time, reference, confidence),
        by=groups,
        reference=reference,
        per=float(per),
        confidence=confidence,
        n_dropped_missing=columns.n_dropped_missing,
    )


def poisson_limits(events: NDArray[np.int64], *, confidence: float) -> tuple[Floats, Floats]:
    """Return exact limits of the mean of a Poisson count; the lower one of 0 is 0.

    Source:
        Garwood F, Biometrika 1936;28:437. R: `poisson.test(events)$conf.int`
    """
    tail = (1 - confidence) / 2
    lower = stats.chi2.ppf(tail, 2 * np.maximum(events, 1)) / 2
    upper = stats.chi2.isf(tail, 2 * (events + 1)) / 2
    return np.where(events > 0, lower, 0.0), upper


def rate_ratio(
    *, events: int, person_time: float, reference_events: int, reference_person_time: float, confidence: float = 0.95
) -> tuple[float, float, float, float]:
    """Return the ratio of two rates, its exact limits and its P value.

    Without any event they are NaN, 0, infinity and 1.

    Source:
        Przyborowski J, Wilenski H, Biometrika 1940;31:313; limits after Clopper CJ, Pearson ES,
        Biometrika 1934;26:404.
        R: `poisson.test(c(events, reference_events), c(person_time, reference_person_time))`
    """
    total = events + reference_events
    if total == 0:
        return math.nan, 0.0, math.inf, 1.0
    odds = reference_person_time / person_time
    ratio = math.inf if reference_events == 0 else events / reference_events * odds
    tail = (1 - confidence) / 2
    share_lo = float(stats.beta.ppf(tail, events, reference_events + 1)) if events else 0.0
    hi = math.inf
    if reference_events:
        share_hi = float(stats.beta.isf(tail, events + 1, reference_events))
        hi = share_hi / (1 - share_hi) * odds
    null_share = person_time / (person_time + reference_person_time)
    p = float(stats.binomtest(events, total, null_share).pvalue)
    return ratio, share_lo / (1 - share_lo) * odds, hi, p


def _ratios(
    by: Sequence[str],
    labels: Sequence[Hashable],
    events: NDArray[np.int64],
    person_time: Floats,
    reference: Hashable,
    confidence: float,
) -> pd.DataFrame:
    names = ["rate_ratio", "rate_ratio_lo", "rate_ratio_hi", "p"]
    if reference is None:
        return label_groups(by, labels, dict.fromkeys(names, np.full(len(labels), np.nan))).head(0)
    if not by or reference not in labels:
        raise TableRefused(
            f"no row belongs to the reference {reference!r} of by={list(by)}; found {', '.join(map(repr, labels))}"
        )
    base = labels.index(reference)
    others = [at for at in range(len(labels)) if at != base]
    if not others:
        raise TableRefused(f"every row belongs to the reference {reference!r}, expected others")
    rows = [
        rate_ratio(
            events=int(events[at]),
            person_time=float(person_time[at]),
            reference_events=int(events[base]),
            reference_person_time=float(person_time[base]),
            confidence=confidence,
        )
        for at in others
    ]
    return label_groups(by, [labels[at] for at in others], dict(zip(names, np.array(rows).T, strict=True)))
