"""Comparable pairs of follow-up: how often the earlier event has the higher, equal or lower risk.

A pair is comparable when one person has the event while the other is at risk, and remains so
without an event at that time. Each count is a sum over a quarter-plane of (time, risk), found for
all people at once by a wavelet tree in O(n log n).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Weights of the comparable pairs that each person is in, over both roles.

    Attributes:
        concordant: (n,) pairs in which the event came to the higher risk.
        discordant: (n,) in which it came to the lower one.
        tied_risk: (n,) of equal risks.
        totals: concordant, discordant and tied risk, each pair once and with both weights.
    """

    concordant: Floats
    discordant: Floats
    tied_risk: Floats
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
) -> PairCounts:
    """Count comparable pairs within strata.

    Args:
        exits: (n,) end of follow-up.
        events: (n,) whether it is an event.
        risk: (n,) predicted risk; only its order and exact ties count.
        entries: (n,) start of follow-up, or None.
        stratum: (n,) codes.
        weights: (n,) case weights.
        event_weights: (n,) further weight of pairs by the time of their event; read for events.

    Returns:
        Counts for each person; times a person's weight they add up to twice the totals.
    """
    one_way = not entries_matter(entries, stratum)
    exit_rank, entry_rank = _ranks(exits, entries, stratum)
    _, risk_rank = np.unique(risk, return_inverse=True)
    rows = np.flatnonzero(events)
    # At one time events come first, so that people censored then are compared with them.
    key = 2 * exit_rank + ~events
    entered = 2 * entry_rank + 1
    earlier = _Points.of(key[rows], risk_rank[rows], (weights * event_weights)[rows])
    as_later = earlier.compare(key, risk_rank)
    if not one_way:
        as_later -= earlier.compare(entered, risk_rank)
    later = _Points.of(-key, risk_rank, weights)
    as_event = later.compare(-key[rows], risk_rank[rows])
    if not one_way:
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
    return PairCounts(concordant, discordant, tied, (agree, disagree, level))


def entries_matter(entries: Floats | None, stratum: Integers) -> bool:
    """Tell whether people at a later time may not have been at risk before."""
    return entries is not None or bool(stratum.any())


def _ranks(exits: Floats, entries: Floats | None, stratum: Integers) -> tuple[Integers, Integers]:
    """Ranks of exits and entries on one axis on which the strata follow each other."""
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
        """Sum the weights of points before each query, by how they stand on the second axis.

        Returns:
            (3, number of queries): points below, level with and above the query.
        """
        prefix = np.searchsorted(self.first, first, side="left")
        everything = np.concatenate([[0.0], np.cumsum(self.weights)])[prefix]
        below = sums_below(self.second, self.weights, prefix, second)
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


def sums_below(ranks: Integers, values: Floats, prefix: Integers, limits: Integers) -> Floats:
    """Sum, for many queries, the values among the first so many whose rank is below a limit.

    Args:
        ranks: (n,) ranks from 0.
        values: (n,).
        prefix: (q,) how many of the first points each query looks at.
        limits: (q,) ranks.

    Returns:
        (q,) sums.

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
