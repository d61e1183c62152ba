"""Concordance of a Cox model with what happened: Harrell's and Uno's, each with its error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.limits import Z95, logit_limits
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
        lo: lower 95 % limit, on the logit scale, so that it stays within 0 and 1; NaN where c is
            0 or 1.
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
    who had another event count as censored. People of a level without events have a lower risk
    than all others, as in the limit of its coefficient.

    Args:
        fit: a fitted Cox model.

    Returns:
        The concordance.

    Raises:
        ValueError: no pair is comparable.

    Source:
        Harrell FE, Lee KL, Mark DB, Stat Med 1996;15:361; error: Therneau TM, Watson DA, The
        concordance statistic and the Cox model, Mayo Clinic 2015. R: `concordance(fit)`.
    """
    people = _people_of(fit)
    return _concordance(people, np.ones(len(people.exits)))


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
    people = _people_of(fit)
    if people.entries is not None:
        raise ValueError("the fit has delayed entry, for which Uno's concordance is not defined")
    if tau is not None and not tau > 0:
        raise ValueError(f"tau is {tau}, expected a time above 0")
    weights = np.zeros(len(people.exits))
    for code in range(len(fit.state.rows.stratum_labels)):
        chosen = people.stratum == code
        weights[chosen] = 1 / _uncensored(people, chosen) ** 2
    if tau is not None:
        weights[people.exits > tau] = 0.0
    return _concordance(people, weights)


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
    people = [_people_of(fit).identity() for fit in (fit_a, fit_b)]
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


@dataclass(frozen=True, slots=True)
class _People:
    """Everybody of a fit, those of levels without events too, in the order of the table."""

    row_numbers: Integers
    exits: Floats
    entries: Floats | None
    events: NDArray[np.bool_]
    weights: Floats
    stratum: Integers
    clusters: Integers | None
    risk: Floats  # linear predictor; minus infinity at a level without events

    def identity(self) -> list[NDArray[Any]]:
        """Return what must be equal in two fits: rows, outcome and clusters."""
        clusters = np.array([]) if self.clusters is None else self.clusters
        return [self.row_numbers, self.exits, self.events, clusters]


def _people_of(fit: CoxFit) -> _People:
    rows, out = fit.state.rows, fit.state.left_out
    parts: list[CoxRows] = [rows] if out is None else [rows, out]
    risks = [ordered_product(rows.x, fit.coefficients), *(np.full(len(one.exits), -np.inf) for one in parts[1:])]
    order = np.argsort(np.concatenate([one.row_numbers for one in parts]), kind="stable")

    def joined(values: list[NDArray[Any] | None]) -> Any:
        known = [one for one in values if one is not None]
        return np.concatenate(known)[order] if known else None

    weights = joined([one.weights for one in parts])
    return _People(
        row_numbers=joined([one.row_numbers for one in parts]),
        exits=joined([one.exits for one in parts]),
        entries=joined([one.entries for one in parts]),
        events=joined([one.events for one in parts]),
        weights=np.ones(len(order)) if weights is None else weights,
        stratum=joined([one.stratum for one in parts]),
        clusters=joined([one.clusters for one in parts]),
        risk=joined([*risks]),
    )


def _concordance(people: _People, event_weights: Floats) -> Concordance:
    pairs = count_pairs(
        people.exits,
        people.events,
        people.risk,
        entries=people.entries,
        stratum=people.stratum,
        weights=people.weights,
        event_weights=event_weights,
    )
    concordant, discordant, tied = pairs.totals
    n_pairs = concordant + discordant + tied
    if not n_pairs > 0:
        raise ValueError("no pair is comparable: nobody is at risk after an event")
    c = (concordant + tied / 2) / n_pairs
    influence = _influence(people, pairs, n_pairs, c)
    error = float(np.sqrt((influence**2).sum()))
    lo, hi = logit_limits(c, error)
    counts = pd.DataFrame({"kind": ["concordant", "discordant", "tied_risk"], "pairs": pairs.totals})
    return Concordance(c, error, lo, hi, counts, len(people.exits), influence)


def _influence(people: _People, pairs: _PairCounts, n_pairs: float, c: float) -> Floats:
    """Return the derivative of the concordance in each row's weight, times the weight."""
    in_pairs = pairs.concordant + pairs.discordant + pairs.tied_risk
    good = pairs.concordant + pairs.tied_risk / 2
    influence = people.weights * (good - c * in_pairs) / n_pairs
    if people.clusters is None:
        return np.asarray(influence)
    return np.bincount(people.clusters, influence).astype(np.float64)


def _uncensored(people: _People, chosen: NDArray[np.bool_]) -> Floats:
    """Return G just before the exit of each chosen row, by Kaplan-Meier of being censored."""
    exits, events, weights = people.exits[chosen], people.events[chosen], people.weights[chosen]
    sets = count_risk_sets(exits, events.astype(np.int64), n_causes=1, weights=weights)
    return step_values(sets.times, censoring_curve(sets).uncensored, exits, start=1.0, left=True)


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
