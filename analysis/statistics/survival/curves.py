"""What curves over time share: times to read at, and counts at and between them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.survival.risk_sets import RiskSets

Floats = NDArray[np.float64]


def reading_times(times: ArrayLike) -> Floats:
    """Return times at which a curve is read, as float64.

    Args:
        times: one or more, 0 or above, ascending.

    Raises:
        ValueError: none, not finite, negative, or not ascending.
    """
    at = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if at.ndim != 1 or at.size == 0 or not np.isfinite(at).all() or (at < 0).any():
        raise ValueError(f"times is {times!r}, expected one or more finite times of 0 or above")
    if (np.diff(at) <= 0).any():
        raise ValueError(f"times is {times!r}, expected ascending times without repetition")
    return at


def counts_between(times: Floats, counts: Floats, at: Floats) -> Floats:
    """Return what was counted after the reading before and up to each reading.

    Args:
        times: (J,) ascending.
        counts: (J,) at each of them.
        at: (m,) ascending readings; the first one takes everything up to it.
    """
    running = np.concatenate([np.zeros(1, dtype=counts.dtype), np.cumsum(counts)])
    reached = running[np.searchsorted(times, at, side="right")]
    return np.diff(reached, prepend=np.zeros(1, dtype=counts.dtype))


def next_values(times: Floats, counts: Floats, at: Floats) -> Floats:
    """Return the count at the first of `times` that is not before each reading, 0 after all.

    R counts people at risk between two steps like this.
    """
    padded = np.concatenate([counts, np.zeros(1, dtype=counts.dtype)])
    return padded[np.searchsorted(times, at, side="left")]


def as_counts(values: Floats, *, weighted: bool) -> Floats | NDArray[np.int64]:
    """Return counts as whole numbers, or as sums of weights."""
    return values if weighted else np.rint(values).astype(np.int64)


def emptied_early(risk: RiskSets, left: Floats, label: Hashable) -> tuple[str, ...]:
    """Warn of a curve that reaches its end because the people at risk ran out before others came.

    Args:
        risk: the risk sets of a group.
        left: (J,) those at risk without event at each time.
        label: of the group.
    """
    empty = np.flatnonzero(left == 0)
    if len(empty) == 0 or empty[0] == len(left) - 1:
        return ()
    place = int(empty[0])
    return (
        f"group {label}: all {risk.n_at_risk[place]:g} at risk at time {risk.times[place]:g} had "
        f"an event, so the curve stays where it is though follow-up goes on to "
        f"{risk.times[-1]:g}; begin where enough people are at risk",
    )


def remaining_weight(risk: RiskSets) -> Floats:
    """Return those at risk without event at each time; what rounding of weights leaves is 0."""
    left = risk.n_at_risk - risk.n_events.sum(axis=1)
    total = risk.n_events.sum() + risk.n_censored.sum()
    return np.where(left <= 1e-12 * total, 0.0, left)


@dataclass(frozen=True, slots=True)
class Integral:
    """A person's integral over time: of `at_event` at the event, less `at_risk` while at risk.

    Attributes:
        at_event: (J, K + 1) what an exit adds, a column for each status, the first for censoring.
        at_risk: (J,) what being at risk at a time takes away.
    """

    at_event: Floats
    at_risk: Floats


@dataclass(frozen=True, slots=True)
class People:
    """The rows of one group, as the sums need them.

    Attributes:
        risk: their risk sets.
        statuses: (n,) 0 for censored, 1 to K for the events.
        entries: (n,) or None.
        weights: (n,) or None for 1 each.
    """

    risk: RiskSets
    statuses: NDArray[np.int64]
    entries: Floats | None
    weights: Floats | None


def influence_squares(people: People, first: Integral, second: Integral, pivot: Floats) -> Floats:
    """Return the weighted sum of squares of `first - pivot x second` over people at each time.

    With F the pivot, this is the variance of a curve whose derivative in the weight of person i
    at time t is P_i(t) - F(t) Q_i(t). A person's P and Q stand still after the exit, so that the
    sum over those who left is cumulative; those at risk differ by their entry only, so that
    theirs needs five running sums. Time O(n log n), memory O(n + J).

    Args:
        people: the rows.
        first: P.
        second: Q.
        pivot: (J,) F.

    Returns:
        (J,) the sum at each time, squared weights included.
    """
    times, place = people.risk.times, people.risk.place
    size = len(times)
    n = len(place)
    entered = np.zeros(n, dtype=np.int64)
    if people.entries is not None:
        entered = np.searchsorted(times, people.entries, side="right")
    square = np.ones(n) if people.weights is None else people.weights**2
    p_risk, q_risk = np.cumsum(first.at_risk), np.cumsum(second.at_risk)
    p_entry = np.concatenate([[0.0], p_risk])[entered]
    q_entry = np.concatenate([[0.0], q_risk])[entered]
    p_exit = first.at_event[place, people.statuses] - (p_risk[place] - p_entry)
    q_exit = second.at_event[place, people.statuses] - (q_risk[place] - q_entry)

    def left(values: Floats) -> Floats:
        return np.cumsum(np.bincount(place, square * values, size))

    def present(values: Floats) -> Floats:
        into = np.bincount(entered, square * values, size)
        return np.cumsum(into - np.bincount(place, square * values, size))

    gone = left(p_exit**2) - 2 * pivot * left(p_exit * q_exit) + pivot**2 * left(q_exit**2)
    now = p_risk - pivot * q_risk
    still = now**2 * present(np.ones(n))
    if people.entries is not None:
        mean = present(p_entry) - pivot * present(q_entry)
        cross = present(p_entry**2) - 2 * pivot * present(p_entry * q_entry)
        still = still - 2 * now * mean + cross + pivot**2 * present(q_entry**2)
    return np.clip(gone + still, 0, None)
