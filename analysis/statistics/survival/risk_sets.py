"""Who is at risk and what happens at each time: the counts behind curves and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RiskSets:
    """Counts at each distinct exit time, of an event or of censoring.

    Events come before censorings of the same time, and entries at a time come after both: a
    person is at risk over (entry, exit], as in R's survival.

    Attributes:
        times: (J,) distinct exit times, ascending.
        n_at_risk: (J,) weight of the people at risk just before each time.
        n_events: (J, K) weight of the events, one column a cause.
        n_censored: (J,) weight of those censored.
        place: (n,) index in `times` of each row's exit.
    """

    times: Floats
    n_at_risk: Floats
    n_events: Floats
    n_censored: Floats
    place: NDArray[np.int64]


def count_risk_sets(
    exits: Floats,
    statuses: NDArray[np.int64],
    *,
    n_causes: int,
    entries: Floats | None = None,
    weights: Floats | None = None,
) -> RiskSets:
    """Count people at risk, events and censorings at each distinct exit time.

    Args:
        exits: (n,) times.
        statuses: (n,) 0 for censored, 1 to `n_causes` for the events.
        n_causes: number of kinds of event.
        entries: (n,) delayed entries, each before its exit, or None.
        weights: (n,) case weights, or None for 1 each.

    Returns:
        The counts; with whole weights they are exact.
    """
    times, place = np.unique(exits, return_inverse=True)
    size = len(times)
    weight = np.ones(len(exits)) if weights is None else weights
    cells = np.bincount(place * (n_causes + 1) + statuses, weight, size * (n_causes + 1))
    table = cells.reshape(size, n_causes + 1).astype(np.float64)
    at_risk = np.cumsum(table.sum(axis=1)[::-1])[::-1]
    if entries is not None:
        first = np.searchsorted(times, entries, side="right")  # first time at which it is at risk
        late = np.bincount(first, weight, size + 1)
        at_risk = at_risk - (np.cumsum(late[::-1])[::-1])[1:]
    return RiskSets(times, at_risk, table[:, 1:], table[:, 0], place.astype(np.int64))


@dataclass(frozen=True, slots=True)
class CensoringCurve:
    """Kaplan-Meier's curve of the time to being censored.

    Attributes:
        n_at_risk: (J,) weight of those who can be censored at each exit time.
        hazard: (J,) share of them who are.
        uncensored: (J,) probability not to be censored up to and with each time.
    """

    n_at_risk: Floats
    hazard: Floats
    uncensored: Floats


def censoring_curve(sets: RiskSets, *, events_first: bool = True) -> CensoringCurve:
    """Estimate the distribution of censoring.

    Args:
        sets: the risk sets.
        events_first: people with an event at a time are no longer at risk of being censored at
            it, as in R's survival; otherwise they still are, as in cmprsk.

    Returns:
        The curve, at each exit time.
    """
    at_risk = sets.n_at_risk - sets.n_events.sum(axis=1) * events_first
    hazard = np.divide(sets.n_censored, at_risk, out=np.zeros_like(at_risk), where=sets.n_censored > 0)
    return CensoringCurve(at_risk, hazard, np.cumprod(1 - hazard, dtype=np.float64))


def step_values(times: Floats, values: Floats, at: Floats, *, start: float, left: bool = False) -> Floats:
    """Read a right-continuous step function.

    Args:
        times: (J,) where it steps, ascending.
        values: (J,) its value from each time on.
        at: times at which it is read.
        start: its value before the first step.
        left: read the limit from the left, the value just before each time.

    Returns:
        The values, of the shape of `at`.
    """
    places = np.searchsorted(times, at, side="left" if left else "right")
    return np.concatenate([[start], values])[places]


Integers = NDArray[np.int64]
Ties = Literal["efron", "breslow"]


@dataclass(frozen=True, slots=True)
class Tail:
    """Rows that stay in the risk sets after their own competing event (Fine and Gray).

    Such a row has the weight `free[time] / free_at_exit` at each event time after its exit.

    Attributes:
        rows: (m,) rows with a competing event.
        first: (m,) index of the first event time after the exit of each.
        inverse: (m,) 1 / probability to be uncensored just before the exit of each.
        free: (J,) probability to be uncensored just before each event time.
    """

    rows: Integers
    first: Integers
    inverse: Floats
    free: Floats


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Consecutive rows that are added up together.

    For each stratum those who leave before its first event; then for each event time its events,
    and the others who leave before the next event time.

    Attributes:
        begins: (S + 2 J,) first row of each piece; those beyond the last row are left out.
        empty: pieces without rows.
        of_events: (J,) piece of the events of each time; that of the others follows.
        size: S + 2 J.
    """

    begins: Integers
    empty: Integers
    of_events: Integers
    size: int


@dataclass(frozen=True, slots=True)
class RiskRanges:
    """When each row is at risk.

    Attributes:
        times: (J,) distinct event times, ascending within each stratum, strata after each other.
        strata_ends: (S + 1,) where the times of each stratum begin; the last is J.
        stratum: (n,) codes.
        first: (n,) index of the first event time at which the row is at risk.
        stop: (n,) index just beyond its last one.
        events: (E,) rows with an event, ordered by event time.
        place: (E,) index of the event time of each.
        begins: (J,) index in `events` of the first event of each time.
        counts: (J,) events at each time.
        fraction: (E,) share of the tied events that is taken off the risk set (Efron); all 0 under
            Breslow.
        tied: whether any share is not 0.
        weights: (n,) case weights.
        mean_weight: (E,) mean weight of the events tied with each.
        pieces: rows that are added up together.
        delayed: whether any row enters after the first event time of its stratum.
        tail: rows that remain at risk with a weight, or None.
    """

    times: Floats
    strata_ends: Integers
    stratum: Integers
    first: Integers
    stop: Integers
    events: Integers
    place: Integers
    begins: Integers
    counts: Integers
    fraction: Floats
    tied: bool
    weights: Floats
    mean_weight: Floats
    pieces: _Pieces
    delayed: bool
    tail: Tail | None = None

    def sums(self, values: Floats) -> tuple[Floats, Floats]:
        """Sum values over the risk set, and over the events, of every event time.

        Args:
            values: (n,) one number a row.

        Returns:
            (J,) sums over those at risk, with their weight there, and (J,) over the events.
        """
        parts = np.zeros(self.pieces.size)
        begins = self.pieces.begins
        parts[: len(begins)] = np.add.reduceat(values, begins)
        parts[self.pieces.empty] = 0.0
        of_events = parts[self.pieces.of_events]
        at_risk = self._from_here_on(of_events + parts[self.pieces.of_events + 1])
        if self.delayed:
            at_risk -= self._entering_later(values)
        if self.tail is not None:
            tail = self.tail
            late = np.bincount(tail.first, values[tail.rows] * tail.inverse, len(self.times) + 1)
            at_risk += tail.free * np.cumsum(late[:-1])
        return at_risk, of_events

    def _from_here_on(self, steps: Floats) -> Floats:
        sums = np.empty(len(steps))
        for begin, end in zip(self.strata_ends[:-1], self.strata_ends[1:], strict=True):
            sums[begin:end] = np.cumsum(steps[begin:end][::-1])[::-1]
        return sums

    def _entering_later(self, values: Floats) -> Floats:
        """Sum within each stratum over the rows that enter at each event time or later."""
        # One more slot for each stratum: its end must not be the begin of the next.
        slots = self.first + self.stratum
        collected = np.bincount(slots, values, len(self.times) + len(self.strata_ends) - 1)
        sums = np.empty(len(self.times))
        bounds = zip(self.strata_ends[:-1], self.strata_ends[1:], strict=True)
        for code, (begin, end) in enumerate(bounds):
            own = collected[begin + code + 1 : end + code + 1]
            sums[begin:end] = np.cumsum(own[::-1])[::-1]
        return sums

    def sums_of_events(self, values: Floats) -> Floats:
        """Sum (E,) values of the events, given in their order, at each event time."""
        return np.add.reduceat(values, self.begins)

    def over_range(self, steps: Floats) -> Floats:
        """Sum steps at the event times at which each row is at risk.

        Args:
            steps: (J,) one number an event time.

        Returns:
            (n,) sums; what rows of the tail meet beyond their exit is not included.
        """
        cumulative = np.concatenate([[0.0], np.cumsum(steps)])
        return np.asarray(cumulative[self.stop] - cumulative[self.first])


def risk_order(exits: Floats, events: NDArray[np.bool_], stratum: Integers) -> Integers:
    """Return the order of rows that `risk_ranges` needs: by stratum, exit, events first.

    Args:
        exits: (n,) end of follow-up.
        events: (n,) whether it is an event.
        stratum: (n,) codes.
    """
    order = np.concatenate([np.flatnonzero(events), np.flatnonzero(~events)])
    order = order[np.argsort(exits[order], kind="stable")]
    return order[np.argsort(stratum[order], kind="stable")] if stratum.any() else order


def risk_ranges(
    exits: Floats,
    events: NDArray[np.bool_],
    *,
    entries: Floats | None,
    stratum: Integers,
    n_strata: int,
    weights: Floats | None,
    ties: Ties,
) -> RiskRanges:
    """Find the event times and where each row is at risk.

    Args:
        exits: (n,) end of follow-up, in `risk_order`, as all that follows.
        events: (n,) whether it is an event; at least one.
        entries: (n,) start of follow-up, or None; a row is at risk over (entry, exit].
        stratum: (n,) codes from 0.
        n_strata: number of codes.
        weights: (n,) case weights, or None.
        ties: "efron" or "breslow".

    Returns:
        The ranges.
    """
    rows = np.flatnonzero(events)
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(exits[rows]) != 0) | (np.diff(stratum[rows]) != 0)
    begins = np.flatnonzero(new)
    counts = np.diff(begins, append=len(rows))
    place = np.cumsum(new) - 1
    times = exits[rows[begins]]
    strata_ends = np.searchsorted(stratum[rows[begins]], np.arange(n_strata + 1))
    reached = np.cumsum(np.bincount(rows[begins], minlength=len(exits)))
    first = strata_ends[stratum]
    if entries is not None:
        first = _first_after(times, strata_ends, stratum, entries)
    fraction = (np.arange(len(rows)) - begins[place]) / counts[place] * (ties == "efron")
    weight = np.ones(len(exits)) if weights is None else weights
    return RiskRanges(
        times=times,
        strata_ends=strata_ends,
        stratum=stratum,
        first=first,
        stop=np.maximum(reached, strata_ends[stratum]),
        events=rows,
        place=place,
        begins=begins,
        counts=counts,
        fraction=fraction,
        tied=bool(fraction.any()),
        weights=weight,
        mean_weight=(np.add.reduceat(weight[rows], begins) / counts)[place],
        pieces=_pieces(rows[begins], counts, stratum, strata_ends),
        delayed=bool((first > strata_ends[stratum]).any()),
    )


def _pieces(first_events: Integers, counts: Integers, stratum: Integers, strata_ends: Integers) -> _Pieces:
    n_strata, n_times = len(strata_ends) - 1, len(counts)
    size = n_strata + 2 * n_times
    of_events = np.arange(n_times) * 2 + stratum[first_events] + 1
    begins = np.empty(size, dtype=np.int64)
    begins[np.arange(n_strata) + 2 * strata_ends[:-1]] = np.searchsorted(stratum, np.arange(n_strata))
    begins[of_events] = first_events
    begins[of_events + 1] = first_events + counts
    empty = np.flatnonzero(np.diff(begins, append=len(stratum)) == 0)
    return _Pieces(begins[begins < len(stratum)], empty, of_events, size)


def _first_after(times: Floats, strata_ends: Integers, stratum: Integers, values: Floats) -> Integers:
    """Index of the first event time of the own stratum that is later than each value."""
    bounds = np.searchsorted(stratum, np.arange(len(strata_ends)))
    found = np.empty(len(values), dtype=np.int64)
    for code in range(len(strata_ends) - 1):
        rows = slice(bounds[code], bounds[code + 1])
        own = times[strata_ends[code] : strata_ends[code + 1]]
        found[rows] = strata_ends[code] + np.searchsorted(own, values[rows], side="right")
    return found
