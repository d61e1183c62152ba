"""Survival curves after Kaplan and Meier with quantiles and restricted means; the log-rank test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.statistics.columns import (
    Missing,
    TableRefused,
    at_least_two,
    for_each_group,
    label_groups,
    named_columns,
    rows_by_group,
    stack_groups,
    used_columns,
)
from analysis.statistics.limits import CiKind, check_ci, confidence_limits, normal_quantile
from analysis.statistics.survival.risk_sets import (
    Integral,
    People,
    count_risk_sets,
    influence_squares,
    people_by_group,
    read_curves,
)

Floats = NDArray[np.float64]

# A curve is at a quantile exactly within this, the root of the machine's precision, as in R.
_FLAT: Final = 1.4901161193847656e-08
_QUANTILES: Final = {"quantile": "survival", "quantile_lo": "survival_lo", "quantile_hi": "survival_hi"}


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
        return read_curves(self.curve, self.by, times, start=1.0)

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
            R: `quantile(survfit(...), probs = probabilities)`
        """
        shares = np.atleast_1d(np.asarray(probabilities, dtype=np.float64))
        if shares.ndim != 1 or shares.size == 0 or not ((shares > 0) & (shares < 1)).all():
            raise ValueError(f"probabilities is {probabilities!r}, expected above 0 and below 1")

        def quantiles(part: pd.DataFrame) -> Mapping[str, Any]:
            steps = part["time"].to_numpy()
            found = {name: _falls_to(steps, part[column].to_numpy(), 1 - shares) for name, column in _QUANTILES.items()}
            return {"probability": shares, **found}

        return for_each_group(self.curve, self.by, quantiles)

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
            R: `print(survfit(...), rmean = tau)`
        """
        if not (np.isfinite(tau) and tau > 0):
            raise ValueError(f"tau is {tau}, expected a finite time above 0")
        z = normal_quantile(self.confidence)

        def restricted_mean(part: pd.DataFrame) -> Mapping[str, Any]:
            key = tuple(part[name].iloc[0] for name in self.by) or ("all",)
            mean, se = _area(part, self._moments[part.index], float(tau), key if len(key) > 1 else key[0])
            limits = {"restricted_mean_lo": mean - z * se, "restricted_mean_hi": mean + z * se}
            return {"restricted_mean": np.array([mean]), "se": se, **limits}

        return for_each_group(self.curve, self.by, restricted_mean)


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
    whole numbers they are the infinitesimal jackknife, as in R, and `warnings` says so.

    Args:
        table: one row per person.
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
        R: `survfit(Surv(duration, event) ~ by, conf.type = "log-log")`, or
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
    events = columns.flags(event).astype(np.int64)
    labels, everybody = people_by_group(columns, duration, events, 1, entry=entry, weights=weights, by=groups)
    for label, people in zip(labels, everybody, strict=True):
        part, moment = _product_limit(people, jackknife=jackknife)
        lo, hi = confidence_limits(part["survival"], part["se"], ci=ci, confidence=confidence)
        parts.append({**part, "survival_lo": lo, "survival_hi": hi})
        moments.append(moment)
        warnings.extend(people.emptied_early(label))
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
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of yes/no or 0/1, as for `survival_curve`; here its opposite is the event.
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
        R: `survfit(Surv(duration, 1 - event) ~ by)`
    """
    names = [duration, event, entry, weights, *named_columns(by, "by")]
    columns = used_columns(table, names, missing=missing)
    turned = columns.table.assign(**{event: ~columns.flags(event)})
    curve = survival_curve(
        turned, duration=duration, event=event, entry=entry, by=by, weights=weights, ci=ci, confidence=confidence
    )
    return replace(curve, n_dropped_missing=columns.n_dropped_missing)


def _product_limit(people: People, *, jackknife: bool) -> tuple[dict[str, Any], Floats]:
    """Return the columns of a group's curve, and (J, 3) sums from which errors of areas come.

    The sums at t are over people, or over times under Greenwood, of p^2, p q and q^2, where q is
    the part up to t of minus log S and p the same times the area under the curve that follows.
    """
    risk, left = people.risk, people.risk.n_left()
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
        "n_at_risk": people.counts(n),
        "n_events": people.counts(d),
        "n_censored": people.counts(risk.n_censored),
        "survival": survival,
        "se": se,
    }
    return part, moments


def _jackknife_moments(people: People, p: Integral, q: Integral) -> Floats:
    """Return the sums over people of p^2, p q and q^2, from three sums of squares."""
    none = np.zeros_like(q.at_risk)
    zero = Integral(np.zeros_like(q.at_event), none)
    p_square = influence_squares(people, p, zero, none)
    q_square = influence_squares(people, q, zero, none)
    sum_square = influence_squares(people, p, q, none - 1)
    return np.column_stack([p_square, (sum_square - p_square - q_square) / 2, q_square])


def _falls_to(times: Floats, curve: Floats, levels: Floats) -> Floats:
    """Return when a falling curve is first at most each level; the middle where it rests there.

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


def _area(part: pd.DataFrame, moments: Floats, tau: float, label: object) -> tuple[float, float]:
    """Return the area under one group's curve up to tau, and its error."""
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


@dataclass(frozen=True, slots=True)
class LogRankTest:
    """A log-rank test.

    Attributes:
        chi2: the statistic.
        df: its degrees of freedom, groups in which an event was expected less 1.
        p: its P value.
        groups: one row per group: `group` (or with several columns in `by` one column each), `n`,
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
        table: one row per person.
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
        R: `survdiff(Surv(duration, event) ~ by + strata(strata))`
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
    counts = {"n": np.bincount(codes, minlength=size), "observed": observed.astype(np.int64), "expected": expected}
    return LogRankTest(
        chi2=chi2,
        df=df,
        p=float(stats.chi2.sf(chi2, df)),
        groups=label_groups(groups, labels, counts),
        n=columns.n,
        n_events=int(events.sum()),
        n_dropped_missing=columns.n_dropped_missing,
    )


def _compare(
    exits: Floats, events: NDArray[np.bool_], codes: NDArray[np.int64], n_groups: int, entries: Floats | None
) -> tuple[Floats, Floats]:
    """Return observed less expected events of each group in one stratum, and their covariance."""
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
