"""Concordance of a Cox model with what happened: Harrell's and Uno's, each with its error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.limits import Z95
from analysis.statistics.survival.cox_fit import CoxFit, CoxRows
from analysis.statistics.survival.cox_likelihood import ordered_product
from analysis.statistics.survival.risk_sets import censoring_curve, count_risk_sets, step_values

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Concordance:
    """The share of comparable pairs in which the higher risk had the event first.

    Attributes:
        c: the share, tied risks counting half.
        se: standard error by the infinitesimal jackknife, by cluster where the fit has clusters.
        lo: lower 95 % limit, c - 1.96 se.
        hi: upper 95 % limit.
        counts: kind (concordant, discordant, tied_risk) and pairs, with weights.
        n: rows.
        influence: (n or number of clusters,) of each on c.
    """

    c: float
    se: float
    lo: float
    hi: float
    counts: pd.DataFrame
    n: int
    influence: Floats = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConcordanceDifference:
    """Concordance of one fit less that of another, on the same people.

    Attributes:
        c_a: of the first.
        c_b: of the second.
        difference: first less second.
        se: standard error, which allows for the same people being in both.
        lo: lower 95 % limit.
        hi: upper 95 % limit.
        nested: one model has all terms of the other: then the likelihood-ratio test is the test,
            and this difference is an effect size without a P value.
    """

    c_a: float
    c_b: float
    difference: float
    se: float
    lo: float
    hi: float
    nested: bool


def concordance(fit: CoxFit) -> Concordance:
    """Return Harrell's concordance of a Cox fit.

    Pairs are taken within strata, among people at risk at the time of the event (delayed entry),
    and weigh the product of their case weights. With competing events it is cause-specific: those
    who had another event count as censored.

    Args:
        fit: a fitted Cox model. Rows that its likelihood leaves out are left out here.

    Returns:
        The concordance.

    Raises:
        ValueError: no pair is comparable.

    Source:
        Harrell FE, Lee KL, Mark DB, Stat Med 1996;15:361; error: Therneau TM, Watson DA, The
        concordance statistic and the Cox model, Mayo Clinic 2015. R: `concordance(fit)`.
    """
    return _concordance(fit, np.ones(len(fit.state.rows.exits)))


def uno_concordance(fit: CoxFit, *, tau: float | None = None) -> Concordance:
    """Return Uno's concordance, which does not depend on the distribution of censoring.

    Each pair weighs 1 / G(t)^2, G the probability to be uncensored just before the event.

    Args:
        fit: a fitted Cox model without delayed entry.
        tau: events after this time do not count; all count without it. State it: towards the end
            of follow-up the weights grow without bound.

    Returns:
        The concordance; its error takes the weights as known.

    Raises:
        ValueError: the fit has delayed entry, tau is not above 0, or no pair is comparable.

    Source:
        Uno H et al., Stat Med 2011;30:1105. R: `concordance(fit, timewt = "n/G2", ymax = tau)`.
    """
    rows = fit.state.rows
    if rows.entries is not None:
        raise ValueError("the fit has delayed entry, for which Uno's concordance is not defined")
    if tau is not None and not tau > 0:
        raise ValueError(f"tau is {tau}, expected a time above 0")
    weights = np.zeros(len(rows.exits))
    for code in range(len(rows.stratum_labels)):
        chosen = rows.stratum == code
        weights[chosen] = 1 / _uncensored(fit, chosen) ** 2
    if tau is not None:
        weights[rows.exits > tau] = 0.0
    return _concordance(fit, weights)


def delta_concordance(
    fit_a: CoxFit, fit_b: CoxFit, *, known: tuple[Concordance, Concordance] | None = None
) -> ConcordanceDifference:
    """Return the difference of two concordances on the same people, with its error.

    Args:
        fit_a: a fitted Cox model.
        fit_b: another, of the same rows.
        known: their concordances, where they were computed already.

    Returns:
        The difference. For nested models use `CoxFit.likelihood_ratio_test` as the test.

    Raises:
        ValueError: the fits are of other rows, outcomes or clusters.

    Source:
        Therneau and Watson 2015. R: `concordance(fit_a, fit_b)`, with
        `c(1, -1) %*% vcov %*% c(1, -1)` as the variance.
    """
    a, b = known or (concordance(fit_a), concordance(fit_b))
    people = [_in_table_order(fit.state.rows) for fit in (fit_a, fit_b)]
    if not all(np.array_equal(one, other) for one, other in zip(*people, strict=True)):
        raise ValueError(
            f"the fits are of {fit_a.n} and {fit_b.n} rows that are not the same people with the "
            "same outcome and clusters; drop rows with missing values before both"
        )
    difference = a.c - b.c
    error = float(np.sqrt(((a.influence - b.influence) ** 2).sum()))
    terms_a, terms_b = set(fit_a.estimates["term"]), set(fit_b.estimates["term"])
    return ConcordanceDifference(
        a.c,
        b.c,
        difference,
        error,
        difference - Z95 * error,
        difference + Z95 * error,
        nested=terms_a <= terms_b or terms_b <= terms_a,
    )


def _concordance(fit: CoxFit, event_weights: Floats) -> Concordance:
    rows, weights = fit.state.rows, fit.state.ranges.weights
    pairs = count_pairs(
        rows.exits,
        rows.events,
        ordered_product(rows.x, fit.coefficients),
        entries=rows.entries,
        stratum=rows.stratum,
        weights=weights,
        event_weights=event_weights,
    )
    concordant, discordant, tied = pairs.totals
    n_pairs = concordant + discordant + tied
    if not n_pairs > 0:
        raise ValueError("no pair is comparable: nobody is at risk after an event")
    c = (concordant + tied / 2) / n_pairs
    influence = _influence(fit, pairs, n_pairs, c)
    error = float(np.sqrt((influence**2).sum()))
    counts = pd.DataFrame({"kind": ["concordant", "discordant", "tied_risk"], "pairs": pairs.totals})
    return Concordance(c, error, c - Z95 * error, c + Z95 * error, counts, len(rows.exits), influence)


def _influence(fit: CoxFit, pairs: _PairCounts, n_pairs: float, c: float) -> Floats:
    """Return the derivative of the concordance in each row's weight, times the weight."""
    in_pairs = pairs.concordant + pairs.discordant + pairs.tied_risk
    good = pairs.concordant + pairs.tied_risk / 2
    influence = fit.state.ranges.weights * (good - c * in_pairs) / n_pairs
    clusters = fit.state.rows.clusters
    if clusters is None:
        return fit.state.rows.in_table_order(influence)
    return np.bincount(clusters, influence).astype(np.float64)


def _uncensored(fit: CoxFit, chosen: NDArray[np.bool_]) -> Floats:
    """Return G just before the exit of each chosen row, by Kaplan-Meier of being censored."""
    exits, events = fit.state.rows.exits[chosen], fit.state.rows.events[chosen]
    weights = fit.state.ranges.weights[chosen]
    sets = count_risk_sets(exits, events.astype(np.int64), n_causes=1, weights=weights)
    return step_values(sets.times, censoring_curve(sets).uncensored, exits, start=1.0, left=True)


def _in_table_order(rows: CoxRows) -> list[NDArray[Any]]:
    """Return what must be equal in two fits: rows, outcome and clusters."""
    clusters = np.array([]) if rows.clusters is None else rows.in_table_order(rows.clusters)
    return [*(rows.in_table_order(values) for values in (rows.row_numbers, rows.exits, rows.events)), clusters]


@dataclass(frozen=True, slots=True)
class _PairCounts:
    """Weights of the comparable pairs that each person is in, over both roles."""

    concordant: Floats  # (n,) pairs in which the event came to the higher risk
    discordant: Floats  # (n,) in which it came to the lower one
    tied_risk: Floats  # (n,) of equal risks
    # concordant, discordant and tied risk, each pair once and with both weights
    totals: tuple[float, float, float]


def count_pairs(
    exits: Floats,
    events: NDArray[np.bool_],
    risk: Floats,
    *,
    entries: Floats | None,
    stratum: Integers,
    weights: Floats,
    event_weights: Floats,
) -> _PairCounts:
    """Count comparable pairs within strata; of the risk only its order and exact ties count.

    `event_weights` are further weights of pairs by the time of their event, read for events only.
    The counts of each person, times the person's weight, add up to twice the totals.
    """
    # People who exit later may not have been at risk before, or are of another stratum.
    not_all_at_risk = entries is not None or stratum.any()
    exit_rank, entry_rank = _ranks(exits, entries, stratum)
    _, risk_rank = np.unique(risk, return_inverse=True)
    rows = np.flatnonzero(events)
    # At one time events come first, so that people censored then are compared with them.
    key = 2 * exit_rank + ~events
    entered = 2 * entry_rank + 1
    earlier = _Points.of(key[rows], risk_rank[rows], (weights * event_weights)[rows])
    as_later = earlier.compare(key, risk_rank)
    if not_all_at_risk:
        as_later -= earlier.compare(entered, risk_rank)
    later = _Points.of(-key, risk_rank, weights)
    as_event = later.compare(-key[rows], risk_rank[rows])
    if not_all_at_risk:
        future = _Points.of(-entered, risk_rank, weights)
        as_event -= future.compare(-key[rows], risk_rank[rows])
    as_event *= event_weights[rows]
    totals = as_event @ weights[rows]
    # Of the people at risk those below the event's risk agree; of the events those above do.
    concordant, tied, discordant = as_later[2], as_later[1], as_later[0]
    concordant[rows] += as_event[0]
    tied[rows] += as_event[1]
    discordant[rows] += as_event[2]
    agree, level, disagree = (float(total) for total in totals)
    return _PairCounts(concordant, discordant, tied, (agree, disagree, level))


def _ranks(exits: Floats, entries: Floats | None, stratum: Integers) -> tuple[Integers, Integers]:
    """Rank exits and entries on one axis on which the strata follow each other."""
    n = len(exits)
    starts = np.full(n, -np.inf) if entries is None else entries
    times = np.concatenate([exits, starts])
    strata = np.concatenate([stratum, stratum])
    order = np.lexsort((times, strata))
    new = np.ones(2 * n, dtype=np.int64)
    sorted_times, sorted_strata = times[order], strata[order]
    new[1:] = (sorted_times[1:] != sorted_times[:-1]) | (sorted_strata[1:] != sorted_strata[:-1])
    ranks = np.empty(2 * n, dtype=np.int64)
    ranks[order] = np.cumsum(new)
    return ranks[:n], ranks[n:]


@dataclass(frozen=True, slots=True)
class _Points:
    """Weighted points on a plane, ascending along the first axis."""

    first: Integers
    second: Integers
    weights: Floats

    @classmethod
    def of(cls, first: Integers, second: Integers, weights: Floats) -> _Points:
        order = _ascending(first)
        return cls(first[order], second[order], weights[order])

    def compare(self, first: Integers, second: Integers) -> Floats:
        """Sum the weights of points before each query, (3, q): below, level with and above it."""
        prefix = np.searchsorted(self.first, first, side="left")
        everything = np.concatenate([[0.0], np.cumsum(self.weights)])[prefix]
        below = _sums_below(self.second, self.weights, prefix, second)
        level = self._level(first, second)
        return np.stack([below, level, everything - below - level])

    def _level(self, first: Integers, second: Integers) -> Floats:
        order = np.lexsort((self.first, self.second))
        low = min(self.first.min(initial=0), first.min(initial=0))
        span = max(self.first.max(initial=0), first.max(initial=0)) - low + 2
        keys = self.second[order] * span + (self.first[order] - low)
        sums = np.concatenate([[0.0], np.cumsum(self.weights[order])])
        begin = np.searchsorted(keys, second * span, side="left")
        end = np.searchsorted(keys, second * span + (first - low), side="left")
        return np.asarray(sums[end] - sums[begin])


def _ascending(values: Integers) -> Integers:
    """Return the places of values in ascending order, at once where they come in order."""
    steps = np.diff(values)
    if (steps >= 0).all():
        return np.arange(len(values))
    if (steps <= 0).all():
        return np.arange(len(values))[::-1]
    return np.argsort(values, kind="stable")


def _sums_below(ranks: Integers, values: Floats, prefix: Integers, limits: Integers) -> Floats:
    """Sum, for each query, the values of the first `prefix` points with a rank below the limit.

    Source:
        Claude F, Navarro G, Ordonez A, Information Systems 2015;47:15 (the wavelet matrix).
    """
    highest = max(int(ranks.max(initial=0)), int(limits.max(initial=0)))
    begin = np.zeros(len(prefix), dtype=np.int64)
    end = prefix.astype(np.int64)
    total = np.zeros(len(prefix))
    for level in reversed(range(highest.bit_length())):
        high = (ranks >> level & 1).astype(bool)
        n_low = np.concatenate([[0], np.cumsum(~high)])
        sums = np.concatenate([[0.0], np.cumsum(np.where(high, 0.0, values))])
        upper = (limits >> level & 1).astype(bool)
        total += np.where(upper, sums[end] - sums[begin], 0.0)
        begin = np.where(upper, n_low[-1] + begin - n_low[begin], n_low[begin])
        end = np.where(upper, n_low[-1] + end - n_low[end], n_low[end])
        order = np.concatenate([np.flatnonzero(~high), np.flatnonzero(high)])
        ranks, values = ranks[order], values[order]
    return total
