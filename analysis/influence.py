"""Sums of squares of the influence of each person on a curve, by cumulative sums over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.risk_sets import RiskSets

Floats = NDArray[np.float64]


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
