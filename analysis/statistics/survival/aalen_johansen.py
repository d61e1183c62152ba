"""Cumulative incidence where one event rules out the others: Aalen and Johansen, Gray's test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analysis.statistics.columns import Missing, TableRefused, at_least_two, named_columns, stack_groups, used_columns
from analysis.statistics.limits import CiKind, check_ci, confidence_limits, normal_quantile
from analysis.statistics.survival.risk_sets import (
    Integral,
    People,
    RiskSets,
    count_risk_sets,
    influence_squares,
    people_by_group,
    read_curves,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CumulativeIncidence:
    """Cumulative incidence of each cause, and the probability of none, by group.

    Attributes:
        curve: one row for each group, cause and distinct exit time: the columns of `by`, `cause`,
            `time`, `n_at_risk`, `n_events` of the cause, `cumulative_incidence`, `se`, `lo`, `hi`.
        event_free: one row for each group and distinct exit time: `time`, `n_at_risk`,
            `n_events` of any cause, `n_censored`, `probability`, `se`, `lo`, `hi`. The
            probability and the cumulative incidences of all causes add up to 1.
        by: columns that make the groups.
        causes: codes of the events.
        ci: scale of the limits.
        confidence: of the limits, 0.95 for 95 %.
        n: people.
        n_dropped_missing: rows left out because a used column was missing.
        warnings: what to know before use.
    """

    curve: pd.DataFrame
    event_free: pd.DataFrame
    by: tuple[str, ...]
    causes: tuple[int, ...]
    ci: str
    confidence: float
    n: int
    n_dropped_missing: int
    warnings: tuple[str, ...]

    def at(self, times: ArrayLike) -> pd.DataFrame:
        """Return the cumulative incidence at given times.

        Columns are those of `curve`; times, counts and the call of R are as for `SurvivalCurve.at`.
        """
        return read_curves(self.curve, [*self.by, "cause"], times, start=0.0)


def cumulative_incidence(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    causes: Sequence[int] = (1, 2),
    entry: str | None = None,
    by: str | Sequence[str] = (),
    weights: str | None = None,
    ci: CiKind = "log-log",
    confidence: float = 0.95,
    missing: Missing = "refuse",
) -> CumulativeIncidence:
    """Estimate the cumulative incidence of each of several causes.

    Errors are the infinitesimal jackknife: the root of the sum over people of their squared
    influence on the estimate, as R's survfit has them for several states. They differ a little
    from those of `cmprsk::cuminc`. Two rows of one person count as two people.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0, in any one unit.
        event: column of 0 for censored, else one of the causes.
        causes: codes of the events, each above 0.
        entry: column of delayed entry, below the exit; a person is at risk over (entry, exit].
        by: column or columns that make groups, each with its own curves.
        weights: column of case weights, above 0; a weight of 2 counts twice in the estimate, and
            in the error as one person who counts twice, not as two.
        ci: "log-log", "log" or "plain".
        confidence: of the pointwise limits.
        missing: "refuse" or "drop".

    Returns:
        The curves. Limits are NaN where the scale has no value: at 0 and 1 for log-log.

    Raises:
        TableRefused: a column cannot be used.
        ValueError: an argument is outside its values.
        TypeError: an argument is of another type.

    Source:
        Aalen OO, Johansen S, Scand J Stat 1978;5:141. Errors: Therneau TM, Grambsch PM, Modeling
        Survival Data, 2000, 7.1, applied to the derivative of the estimate in the case weights.
        R: `survfit(Surv(duration, factor(event, 0:2)) ~ by, conf.type = "log-log")`; with delayed
        entry `Surv(entry, duration, factor(event, 0:2))` and `id`. R 3.5 of survival shows
        unweighted numbers at risk with weights; here they are weighted.
    """
    normal_quantile(confidence)
    check_ci(ci)
    codes = checked_causes(causes)
    groups = named_columns(by, "by")
    columns = used_columns(table, [duration, event, entry, weights, *groups], missing=missing)
    statuses = cause_codes(columns.statuses(event, codes), codes)
    labels, everybody = people_by_group(
        columns, duration, statuses, len(codes), entry=entry, weights=weights, by=groups
    )
    curves = [_curves_of_group(people, codes, ci, confidence) for people in everybody]
    return CumulativeIncidence(
        curve=stack_groups(groups, labels, [of_causes for of_causes, _ in curves]),
        event_free=stack_groups(groups, labels, [free for _, free in curves]),
        by=groups,
        causes=codes,
        ci=ci,
        confidence=confidence,
        n=columns.n,
        n_dropped_missing=columns.n_dropped_missing,
        warnings=tuple(
            text for label, people in zip(labels, everybody, strict=True) for text in people.emptied_early(label)
        ),
    )


def _curves_of_group(
    people: People, causes: tuple[int, ...], ci: CiKind, confidence: float
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the columns of the curves of the causes, and those of no event."""
    risk = people.risk
    probability, se = _aalen_johansen(people)

    def curve(name: str, state: int, **counts: Floats) -> dict[str, Any]:
        lo, hi = confidence_limits(probability[:, state], se[:, state], ci=ci, confidence=confidence)
        numbers = {key: people.counts(values) for key, values in counts.items()}
        return {"time": risk.times, **numbers, name: probability[:, state], "se": se[:, state], "lo": lo, "hi": hi}

    of_causes = [
        {
            "cause": np.full(len(risk.times), cause),
            **curve("cumulative_incidence", place + 1, n_at_risk=risk.n_at_risk, n_events=risk.n_events[:, place]),
        }
        for place, cause in enumerate(causes)
    ]
    stacked = {name: np.concatenate([part[name] for part in of_causes]) for name in of_causes[0]}
    n_events = risk.n_events.sum(axis=1)
    return stacked, curve("probability", 0, n_at_risk=risk.n_at_risk, n_events=n_events, n_censored=risk.n_censored)


def _aalen_johansen(people: People) -> tuple[Floats, Floats]:
    """Return (J, K + 1) probabilities of no event and of each cause, and their errors.

    With S the probability of no event, F of a cause with d_k of d events among n at risk, the
    derivative of F(t) in the weight of a person is P(t) - F(t) Q(t), where
    dQ = (dN - Y d / n) / (n - d) and dP = S(s-) / n (dN_k - Y d_k / n) + F(s) dQ; that of
    S(t) is -S(t) Q(t). Both follow from the product and the sum that define S and F.
    """
    risk, left = people.risk, people.risk.n_left()
    n, events = risk.n_at_risk, risk.n_events
    free = np.asarray(np.cumprod(left / n), dtype=np.float64)
    before = np.concatenate([[1.0], free[:-1]])
    incidence = np.cumsum(before[:, None] * events / n[:, None], axis=0)
    causes = range(events.shape[1])
    others = free[:, None] + np.column_stack([np.delete(incidence, cause, axis=1).sum(axis=1) for cause in causes])
    incidence = np.where(others > 0, incidence, 1.0)
    log_free = _log_survival_integral(risk, left)
    zero = Integral(np.zeros_like(log_free.at_event), np.zeros_like(log_free.at_risk))
    square = np.empty((len(n), events.shape[1] + 1))
    square[:, 0] = influence_squares(people, zero, log_free, free)
    for cause in causes:
        square[:, cause + 1] = _cause_squares(people, log_free, cause, before, incidence[:, cause], others[:, cause])
    return np.column_stack([free, incidence]), np.sqrt(square)


def _log_survival_integral(risk: RiskSets, left: Floats) -> Integral:
    """Return Q, minus the derivative of log S in a weight; it stops where S has fallen to 0."""
    with np.errstate(divide="ignore"):
        each = np.where(np.cumprod(left > 0), 1 / left, 0.0)
    at_event = np.repeat(each[:, None], risk.n_events.shape[1] + 1, axis=1)
    at_event[:, 0] = 0
    return Integral(at_event, each * risk.n_events.sum(axis=1) / risk.n_at_risk)


def _cause_squares(
    people: People, log_free: Integral, cause: int, before: Floats, incidence: Floats, others: Floats
) -> Floats:
    """Return the sum of squares for one cause.

    P and Q each grow without bound as S falls to 0, so that P - F Q loses digits where F is close
    to 1; there (P - Q) + (1 - F) Q is used, with 1 - F as a sum.
    """
    n, d = people.risk.n_at_risk, people.risk.n_events[:, cause]
    direct = before / n

    def squares(factor: Floats, pivot: Floats) -> Floats:
        at_event = factor[:, None] * log_free.at_event
        at_event[:, cause + 1] += direct
        at_risk = factor * log_free.at_risk + direct * d / n
        return influence_squares(people, Integral(at_event, at_risk), log_free, pivot)

    late = incidence > 0.5
    result = squares(incidence, incidence)
    result[late] = squares(-others, -others)[late]
    result[others <= 0] = 0
    return result


def checked_causes(causes: Sequence[int]) -> tuple[int, ...]:
    """Return codes of causes as a tuple; refuse none, one twice, and what is no code above 0."""
    codes = tuple(causes)
    if not codes or len(set(codes)) != len(codes):
        raise ValueError(f"causes is {codes}, expected one or more codes, each once")
    for code in codes:
        if isinstance(code, bool) or not isinstance(code, (int, np.integer)) or code < 1:
            raise ValueError(f"causes is {codes}, expected whole numbers of 1 or above")
    return tuple(int(code) for code in codes)


def cause_codes(statuses: NDArray[np.int64], causes: Sequence[int]) -> NDArray[np.int64]:
    """Return statuses with 0 for censored and the place of the cause, from 1, for an event."""
    order = np.argsort(causes)
    rank = np.searchsorted(np.asarray(causes)[order], statuses)
    return np.where(statuses == 0, 0, order[np.minimum(rank, len(causes) - 1)] + 1)


def gray_test(
    table: pd.DataFrame, *, duration: str, event: str, by: str | Sequence[str], causes: Sequence[int] = (1, 2)
) -> pd.DataFrame:
    """Test for each cause whether its cumulative incidence is the same in all groups.

    It takes neither delayed entry nor strata.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0, in any one unit.
        event: column of 0 for censored, else one of the causes.
        by: column or columns that make the groups, at least two.
        causes: codes of the events; each is tested, with the others competing.

    Returns:
        `cause`, `chi2`, `df`, `p`, one row per cause in the order given.

    Raises:
        TableRefused: a column cannot be used, there is one group, or a cause has no event at
            which all groups can be compared.
        ValueError: an argument is outside its values.
        TypeError: an argument is of another type.

    Source:
        Gray RJ, Ann Stat 1988;16:1141, with rho = 0; the variance with a factor of the
        hypergeometric kind for tied events.
        R: `cmprsk::cuminc(duration, event, by)$Tests`
    """
    groups = named_columns(by, "by")
    codes = checked_causes(causes)
    columns = used_columns(table, [duration, event, *groups])
    exits = columns.times(duration)
    statuses = cause_codes(columns.statuses(event, codes), codes)
    group, labels = columns.groups(groups)
    at_least_two(labels, groups, columns.n)
    at_risk, events = _counts(exits, statuses, group, len(labels), len(codes))
    rows = []
    for place, cause in enumerate(codes):
        own = events[:, :, place]
        if not own.any():
            raise TableRefused(
                f"column {event!r} has no event of cause {cause} in {columns.n} rows, expected "
                "some; leave the cause out only if its code means that nothing happened"
            )
        score, covariance = _score(at_risk, own, events.sum(axis=2) - own)
        chi2, df = _chi2(score, covariance, event, cause)
        rows.append({"cause": cause, "chi2": chi2, "df": df, "p": float(stats.chi2.sf(chi2, df))})
    return pd.DataFrame(rows)


def _counts(
    exits: Floats, statuses: NDArray[np.int64], group: NDArray[np.int64], n_groups: int, n_causes: int
) -> tuple[Floats, Floats]:
    """Return (J, G) at risk and (J, G, K) events at the distinct times that have an event."""
    sets = [
        count_risk_sets(exits, statuses, n_causes=n_causes, weights=(group == one).astype(float))
        for one in range(n_groups)
    ]
    happened = sum(one.n_events.sum(axis=1) for one in sets) > 0
    at_risk = np.column_stack([one.n_at_risk[happened] for one in sets])
    return at_risk, np.stack([one.n_events[happened] for one in sets], axis=1)


def _score(at_risk: Floats, own: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Return the (G,) scores z of the groups and their covariance, in the terms of the paper.

    `at_risk` is Y, `own` the events of the cause and `other` those of other causes, (J, G) each.
    """
    n_groups = at_risk.shape[1]
    present = at_risk > 0
    y = np.where(present, at_risk, 1.0)
    survival = np.cumprod((y - own - other) / y, axis=0)
    before = _lagged(survival, 1.0)
    h = np.where(present, at_risk / np.where(before > 0, before, 1.0), 0.0)
    incidence_before = _lagged(np.cumsum(before * own / y, axis=0), 0.0)
    weight = h * (1 - incidence_before)
    n_own = own.sum(axis=1)
    share = weight / weight.sum(axis=1, keepdims=True)
    score = (own - share * n_own[:, None]).sum(axis=0)
    # Under the null: incidence of the cause in all groups together, and its complement.
    all_h = h.sum(axis=1)
    step = n_own / all_h
    pooled = 1 - np.cumsum(step)
    pooled_before = _lagged(pooled, 1.0)
    ratio = np.divide(pooled[:, None], survival, out=np.zeros_like(survival), where=survival > 0)
    tied_own = _tie_factor(n_own[:, None], all_h[:, None] * before)
    tied_other = _tie_factor(other, at_risk)
    own_size = np.where(present, step[:, None] * tied_own / np.where(present, h, 1.0), 0.0)
    other_size = np.where(present, before * other * tied_other / (y * np.where(present, h, 1.0)), 0.0)
    covariance = np.zeros((n_groups, n_groups))
    for source in range(n_groups):
        d = h[:, [source]] * ((np.arange(n_groups) == source) - h / all_h[:, None])
        c = np.cumsum(d * (step / pooled_before)[:, None], axis=0)
        ahead = c[-1] - c
        a = d + (1 - ratio[:, [source]]) * ahead
        b = ratio[:, [source]] * ahead
        covariance += (a * own_size[:, [source]]).T @ a + (b * other_size[:, [source]]).T @ b
    return score, covariance


def _tie_factor(events: Floats, at_risk: Floats) -> Floats:
    """Return 1 - (d - 1) / (n - 1) where d events are tied, else 1."""
    tied = np.broadcast_to(events > 1, np.broadcast(events, at_risk).shape) & (at_risk > 1)
    return np.where(tied, 1 - (events - 1) / np.where(tied, at_risk - 1, 1.0), 1.0)


def _lagged(values: Any, start: float) -> Floats:
    """Return the values just before each time."""
    return np.concatenate([np.full_like(values[:1], start), values[:-1]])


def _chi2(score: Floats, covariance: Floats, event: str, cause: int) -> tuple[float, int]:
    df = len(score) - 1
    kept = covariance[:df, :df]
    if not np.isfinite(kept).all() or np.linalg.matrix_rank(kept) < df:
        raise TableRefused(
            f"column {event!r} has no event of cause {cause} at which all groups could be "
            "compared, expected events while people of other groups are at risk"
        )
    return float(score[:df] @ np.linalg.solve(kept, score[:df])), df
