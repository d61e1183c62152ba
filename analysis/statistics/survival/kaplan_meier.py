"""Survival curves after Kaplan and Meier, their quantiles and restricted means."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.statistics.columns import (
    Columns,
    Missing,
    TableRefused,
    at_least_two,
    named_columns,
    one_row_each,
    rows_by_group,
    rows_by_key,
    stack_groups,
    used_columns,
)
from analysis.statistics.limits import CiKind, check_ci, confidence_limits, normal_quantile
from analysis.statistics.survival.curves import (
    Integral,
    People,
    as_counts,
    counts_between,
    emptied_early,
    influence_squares,
    next_values,
    reading_times,
    remaining_weight,
)
from analysis.statistics.survival.risk_sets import count_risk_sets, step_values


@dataclass(frozen=True, slots=True)
class LogRankTest:
    """A log-rank test.

    Attributes:
        chi2: the statistic.
        df: its degrees of freedom, groups in which an event was expected less 1.
        p: its P value.
        groups: one row a group: `group` (or with several columns in `by` one column each), `n`,
            `observed` events, `expected` events were survival equal, over all strata.
        n: people.
        n_events: events.
        n_dropped_missing: rows left out because a used column was missing.
    """

    chi2: float
    df: int
    p: float
    groups: pd.DataFrame
    n: int
    n_events: int
    n_dropped_missing: int


def logrank_test(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    by: str | Sequence[str],
    strata: str | Sequence[str] = (),
    entry: str | None = None,
    missing: Missing = "refuse",
) -> LogRankTest:
    """Test whether survival is the same in all groups.

    Args:
        table: one row a person.
        duration: column of the exit time, above 0, in any one unit.
        event: column of yes/no or 0/1.
        by: column or columns that make the groups, at least two.
        strata: columns within which groups are compared.
        entry: column of delayed entry, below the exit. R's survdiff has no delayed entry.
        missing: "refuse" or "drop".

    Returns:
        The test.

    Raises:
        TableRefused: a column cannot be used, there is one group, or no event after which groups
            can be compared.
        ValueError: an argument is outside its values.
        TypeError: an argument is of another type.

    Source:
        Mantel N, Cancer Chemother Rep 1966;50:163; Peto R, Peto J, J R Stat Soc A 1972;135:185.

    R:
        `survdiff(Surv(duration, event) ~ by + strata(strata))`
    """
    groups = named_columns(by, "by")
    layers = named_columns(strata, "strata")
    columns = used_columns(table, [duration, event, entry, *groups, *layers], missing=missing)
    exits = columns.times(duration)
    events = columns.flags(event)
    entries = columns.entries(entry, duration=duration, exits=exits)
    codes, labels = columns.groups(groups)
    at_least_two(labels, groups, columns.n)
    size = len(labels)
    excess, variance = np.zeros(size), np.zeros((size, size))
    layer, names = columns.groups(layers)
    for rows in rows_by_group(layer, len(names)):
        entry_times = None if entries is None else entries[rows]
        part = _compare(exits[rows], events[rows], codes[rows], size, entry_times)
        excess, variance = excess + part[0], variance + part[1]
    observed = np.bincount(codes, events, size)
    expected = observed - excess
    chi2, df = _statistic(excess, variance, expected, event)
    n = np.bincount(codes, minlength=size)
    shown = {"n": n, "observed": observed.astype(np.int64), "expected": expected}
    return LogRankTest(
        chi2=chi2,
        df=df,
        p=float(stats.chi2.sf(chi2, df)),
        groups=stack_groups(groups, labels, one_row_each(shown)),
        n=columns.n,
        n_events=int(events.sum()),
        n_dropped_missing=columns.n_dropped_missing,
    )


def _compare(
    exits: Floats, events: NDArray[np.bool_], codes: NDArray[np.int64], n_groups: int, entries: Floats | None
) -> tuple[Floats, Floats]:
    """Observed less expected events of each group in one stratum, and their covariance."""
    statuses = np.where(events, codes + 1, 0)
    risk = count_risk_sets(exits, statuses, n_causes=n_groups, entries=entries)
    happened = np.flatnonzero(risk.n_events.sum(axis=1) > 0)
    n, d = risk.n_at_risk[happened], risk.n_events[happened].sum(axis=1)
    share = np.zeros((len(happened), n_groups))
    for group in np.unique(codes):
        weight = (codes == group).astype(np.float64)
        own = count_risk_sets(exits, statuses, n_causes=n_groups, entries=entries, weights=weight)
        share[:, group] = own.n_at_risk[happened] / n
    spread = d * (n - d) / np.maximum(n - 1, 1)
    covariance = np.diag(spread @ share) - (share * spread[:, None]).T @ share
    return risk.n_events.sum(axis=0) - d @ share, covariance


def _statistic(excess: Floats, variance: Floats, expected: Floats, event: str) -> tuple[float, int]:
    used = np.flatnonzero(expected > 0)
    df = len(used) - 1
    kept = used[:-1]
    within = variance[np.ix_(kept, kept)]
    if df < 1 or not np.isfinite(within).all() or np.linalg.matrix_rank(within) < df:
        raise TableRefused(
            f"column {event!r} has no event at which all groups could be compared, expected "
            "events while people of other groups are at risk"
        )
    return float(excess[kept] @ np.linalg.solve(within, excess[kept])), df


__all__ = ["LogRankTest", "SurvivalCurve", "follow_up_curve", "logrank_test", "survival_curve"]

Floats = NDArray[np.float64]

_FLAT: Final = 1.4901161193847656e-08
"""A curve is at a quantile exactly within this, the root of the machine's precision, as in R."""


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """Survival over time by group.

    Attributes:
        curve: one row for each group and distinct exit time: the columns of `by`, `time`,
            `n_at_risk` just before it, `n_events`, `n_censored`, `survival`, `se`, `survival_lo`,
            `survival_hi`.
        by: columns that make the groups.
        ci: scale of the limits.
        confidence: of the limits, 0.95 for 95 %.
        n: people.
        n_events: events, or the sum of their weights.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what to know before use.
    """

    curve: pd.DataFrame
    by: tuple[str, ...]
    ci: str
    confidence: float
    n: int
    n_events: float
    n_dropped_missing: int
    warnings: tuple[str, ...]
    _moments: Floats = field(repr=False, compare=False)

    def at(self, times: ArrayLike) -> pd.DataFrame:
        """Return survival at given times.

        Args:
            times: ascending, 0 or above, in the unit of the durations. After the last exit of a
                group its curve goes on level.

        Returns:
            Columns as `curve`; `n_at_risk` is that at the first exit time not before the time, 0
            after all; `n_events` and `n_censored` count from the time before.

        Raises:
            ValueError: times are not as above.

        R:
            `summary(survfit(...), times = times, extend = TRUE)`
        """
        at = reading_times(times)
        parts = []
        for _, part in self._groups():
            step = part["time"].to_numpy()
            read = {name: step_values(step, part[name].to_numpy(), at, start=start) for name, start in _READ.items()}
            counted = {name: counts_between(step, part[name].to_numpy(), at) for name in ("n_events", "n_censored")}
            present = next_values(step, part["n_at_risk"].to_numpy(), at)
            parts.append({"time": at, "n_at_risk": present, **counted, **read})
        return stack_groups(self.by, self._labels(), parts)

    def quantiles(self, probabilities: ArrayLike = (0.25, 0.5, 0.75)) -> pd.DataFrame:
        """Return the times by which given shares of people had the event; 0.5 for the median.

        A quantile is the first time at which survival is at most 1 less the share. Where the
        curve runs level exactly there, it is the middle of that stretch. Its limits are read from
        the limits of the curve in the same way.

        Args:
            probabilities: shares between 0 and 1.

        Returns:
            The label, `probability`, `quantile`, `quantile_lo`, `quantile_hi`, one row for each
            group and share; NaN where the curve, or its limit, does not fall so far.

        Raises:
            ValueError: a share is not between 0 and 1.

        Source:
            Brookmeyer R, Crowley J, Biometrics 1982;38:29.

        R:
            `quantile(survfit(...), probs = probabilities)`
        """
        shares = np.atleast_1d(np.asarray(probabilities, dtype=np.float64))
        if shares.ndim != 1 or shares.size == 0 or not ((shares > 0) & (shares < 1)).all():
            raise ValueError(f"probabilities is {probabilities!r}, expected above 0 and below 1")
        parts = []
        for _, part in self._groups():
            step = part["time"].to_numpy()
            found = {name: _falls_to(step, part[column].to_numpy(), 1 - shares) for name, column in _QUANTILES.items()}
            parts.append({"probability": shares, **found})
        return stack_groups(self.by, self._labels(), parts)

    def restricted_mean(self, tau: float) -> pd.DataFrame:
        """Return the mean time without event within the first `tau`, the area under the curve.

        Args:
            tau: horizon above 0, in the unit of the durations, at most the last exit of each
                group unless its curve has fallen to 0: beyond, the area is not known.

        Returns:
            The label, `restricted_mean`, `se`, `restricted_mean_lo`, `restricted_mean_hi`, one
            row a group, all in the unit of the durations; normal limits.

        Raises:
            ValueError: `tau` is not as above. R goes on level there.

        Source:
            Klein JP, Moeschberger ML, Survival Analysis, 2003, 4.5.

        R:
            `print(survfit(...), rmean = tau)`
        """
        if not (np.isfinite(tau) and tau > 0):
            raise ValueError(f"tau is {tau}, expected a finite time above 0")
        z = normal_quantile(self.confidence)
        parts = []
        for label, (rows, part) in zip(self._labels(), self._groups(), strict=True):
            mean, se = _area(part, self._moments[rows], float(tau), label)
            limits = {"restricted_mean_lo": mean - z * se, "restricted_mean_hi": mean + z * se}
            values = {"restricted_mean": mean, "se": se, **limits}
            parts.append({name: np.array([value]) for name, value in values.items()})
        return stack_groups(self.by, self._labels(), parts)

    def _groups(self) -> list[tuple[NDArray[np.int64], pd.DataFrame]]:
        rows = rows_by_key(self.curve, self.by)
        return [(places, self.curve.iloc[places]) for places in rows]

    def _labels(self) -> list[Hashable]:
        if not self.by:
            return ["all"]
        keys = [tuple(part[name].iloc[0] for name in self.by) for _, part in self._groups()]
        return [key if len(self.by) > 1 else key[0] for key in keys]


_READ: Final = {"survival": 1.0, "se": 0.0, "survival_lo": 1.0, "survival_hi": 1.0}
_QUANTILES: Final = {"quantile": "survival", "quantile_lo": "survival_lo", "quantile_hi": "survival_hi"}


def survival_curve(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    entry: str | None = None,
    by: str | Sequence[str] = (),
    weights: str | None = None,
    ci: CiKind = "log-log",
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> SurvivalCurve:
    """Estimate survival by the product-limit formula.

    Expects no competing events: where death rules out the event, 1 less this curve is too high,
    and `cumulative_incidence` is right. Errors are Greenwood's; with weights that are not all
    whole numbers they are the infinitesimal jackknife, as in R, which the result says in its
    warnings.

    Args:
        table: one row a person.
        duration: column of the exit time, above 0, in any one unit.
        event: column of yes/no or 0/1.
        entry: column of delayed entry, below the exit; a person is at risk over (entry, exit].
        by: column or columns that make groups, each with its own curve.
        weights: column of case weights, above 0; whole weights count people.
        ci: "log-log", "log" or "plain".
        confidence: of the pointwise limits.
        missing: "refuse" or "drop".

    Returns:
        The curves. `se` is of survival itself, and NaN where survival is 0 (0 with the
        jackknife); limits are NaN there and, for log-log, where survival is 1.

    Raises:
        TableRefused: a column cannot be used.
        ValueError: an argument is outside its values.
        TypeError: an argument is of another type.

    Source:
        Kaplan EL, Meier P, J Am Stat Assoc 1958;53:457. Greenwood M, The natural duration of
        cancer, 1926. Kalbfleisch JD, Prentice RL, 2002, 1.4, for the limits.

    R:
        `survfit(Surv(duration, event) ~ by, conf.type = "log-log")`, or
        `Surv(entry, duration, event)`
    """
    normal_quantile(confidence)
    check_ci(ci)
    groups = named_columns(by, "by")
    columns = used_columns(table, [duration, event, entry, weights, *groups], missing=missing)
    weight = columns.weights(weights)
    jackknife = weight is not None and bool((weight != np.rint(weight)).any())
    warnings = [f"column {weights!r} has weights that are not whole: jackknife errors"] * jackknife
    parts, moments = [], []
    labels, everybody = _people(columns, duration, event, entry, weight, groups)
    for label, people in zip(labels, everybody, strict=True):
        left = remaining_weight(people.risk)
        part, moment = _product_limit(people, left, jackknife=jackknife)
        lo, hi = confidence_limits(part["survival"], part["se"], ci=ci, confidence=confidence)
        parts.append({**part, "survival_lo": lo, "survival_hi": hi})
        moments.append(moment)
        warnings.extend(emptied_early(people.risk, left, label))
    return SurvivalCurve(
        curve=stack_groups(groups, labels, parts),
        by=groups,
        ci=ci,
        confidence=confidence,
        n=columns.n,
        n_events=float(sum(part["n_events"].sum() for part in parts)),
        n_dropped_missing=columns.n_dropped_missing,
        warnings=tuple(warnings),
        _moments=np.concatenate(moments),
    )


def follow_up_curve(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    entry: str | None = None,
    by: str | Sequence[str] = (),
    weights: str | None = None,
    ci: CiKind = "log-log",
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> SurvivalCurve:
    """Estimate how long people were followed, by the reverse Kaplan-Meier curve.

    The end of follow-up is the event here, and the event is the censoring. Its median is the
    median follow-up. At a tie people with the event count as still followed, as in R's call
    below; this is not the censoring distribution G of inverse weights, where the event comes
    first and they are no longer at risk.

    Args:
        table: one row a person.
        duration: column of the exit time, above 0.
        event: column of yes/no or 0/1, as for `survival_curve`; it is turned round here.
        entry: as for `survival_curve`.
        by: as there.
        weights: as there.
        ci: as there.
        confidence: as there.
        missing: as there.

    Returns:
        The curve; its `n_events` count ends of follow-up, its `n_censored` the events.

    Raises:
        TableRefused: a column cannot be used.
        ValueError: an argument is outside its values.
        TypeError: an argument is of another type.

    Source:
        Schemper M, Smith TL, Control Clin Trials 1996;17:343.

    R:
        `survfit(Surv(duration, 1 - event) ~ by)`
    """
    names = [duration, event, entry, weights, *named_columns(by, "by")]
    columns = used_columns(table, names, missing=missing)
    turned = columns.table.assign(**{event: ~columns.flags(event)})
    curve = survival_curve(
        turned, duration=duration, event=event, entry=entry, by=by, weights=weights, ci=ci, confidence=confidence
    )
    return replace(curve, n_dropped_missing=columns.n_dropped_missing)


def _people(
    columns: Columns, duration: str, event: str, entry: str | None, weights: Floats | None, by: Sequence[str]
) -> tuple[list[Hashable], list[People]]:
    """Labels of the groups, and the rows of each with their risk sets."""
    exits = columns.times(duration)
    statuses = columns.flags(event).astype(np.int64)
    entries = columns.entries(entry, duration=duration, exits=exits)
    codes, labels = columns.groups(by)
    everybody = []
    for rows in rows_by_group(codes, len(labels)):
        own_entries = None if entries is None else entries[rows]
        own_weights = None if weights is None else weights[rows]
        risk = count_risk_sets(exits[rows], statuses[rows], n_causes=1, entries=own_entries, weights=own_weights)
        everybody.append(People(risk, statuses[rows], own_entries, own_weights))
    return labels, everybody


def _product_limit(people: People, left: Floats, *, jackknife: bool) -> tuple[dict[str, Any], Floats]:
    """Columns of a group's curve, and (J, 3) sums from which errors of areas come.

    The sums at t are over people, or over times under Greenwood, of p^2, p q and q^2, where q is
    the part up to t of minus log S and p the same times the area under the curve that follows.
    """
    risk = people.risk
    n, d = risk.n_at_risk, risk.n_events[:, 0]
    survival = np.cumprod(left / n)
    after = np.append(np.cumsum((np.diff(risk.times) * survival[:-1])[::-1])[::-1], 0.0)
    with np.errstate(divide="ignore"):
        each = np.where(np.cumprod(left > 0), 1 / left, 0.0)
    if jackknife:
        q = Integral(np.column_stack([np.zeros_like(each), each]), each * d / n)
        p = Integral(q.at_event * after[:, None], q.at_risk * after)
        moments = _jackknife_moments(people, p, q)
        se = survival * np.sqrt(moments[:, 2])
    else:
        greenwood = each * d / n
        moments = np.cumsum(greenwood[:, None] * after[:, None] ** np.array([2, 1, 0]), axis=0)
        se = np.where(survival > 0, survival * np.sqrt(moments[:, 2]), np.nan)
    part = {
        "time": risk.times,
        "n_at_risk": as_counts(n, weighted=people.weights is not None),
        "n_events": as_counts(d, weighted=people.weights is not None),
        "n_censored": as_counts(risk.n_censored, weighted=people.weights is not None),
        "survival": survival,
        "se": se,
    }
    return part, moments


def _jackknife_moments(people: People, p: Integral, q: Integral) -> Floats:
    """Sums over people of p^2, p q and q^2, from three sums of squares."""
    none = np.zeros_like(q.at_risk)
    zero = Integral(np.zeros_like(q.at_event), none)
    p_square = influence_squares(people, p, zero, none)
    q_square = influence_squares(people, q, zero, none)
    sum_square = influence_squares(people, p, q, none - 1)
    return np.column_stack([p_square, (sum_square - p_square - q_square) / 2, q_square])


def _falls_to(times: Floats, curve: Floats, levels: Floats) -> Floats:
    """First time at which a falling curve is at most each level; the middle where it rests there.

    NaN in the curve, where a limit is not defined, counts as not reached.
    """
    known = np.isfinite(curve)
    falling = np.minimum.accumulate(np.where(known, curve, np.inf))
    padded = np.append(times, np.nan)
    first = np.searchsorted(-falling, -(levels + _FLAT), side="left")
    past = np.searchsorted(-falling, -(levels - _FLAT), side="right")
    rests = past > first
    end = np.append(times, times[-1])[past]
    return np.where(rests, (padded[first] + end) / 2, padded[first])


def _area(part: pd.DataFrame, moments: Floats, tau: float, label: Hashable) -> tuple[float, float]:
    """Area under one group's curve up to tau, and its error."""
    times, survival = part["time"].to_numpy(), part["survival"].to_numpy()
    if tau > times[-1] and survival[-1] > 0:
        raise ValueError(
            f"tau is {tau:g}, expected at most {times[-1]:g}, the last exit of group "
            f"{label!r}, where survival is still {survival[-1]:.3g}"
        )
    reached = int(np.searchsorted(times, tau, side="right"))
    widths = np.diff(np.concatenate([[0.0], times[:reached], [tau]]))
    mean = float(widths @ np.concatenate([[1.0], survival[:reached]]))
    if reached == 0:
        return mean, 0.0
    beyond = np.append(np.cumsum((np.diff(times) * survival[:-1])[::-1])[::-1], 0.0)
    rest = float(beyond[reached - 1] - (tau - times[reached - 1]) * survival[reached - 1])
    pp, pq, qq = moments[reached - 1]
    return mean, float(np.sqrt(max(pp - 2 * rest * pq + rest**2 * qq, 0.0)))
