"""Who is at risk and what happens at each time: the counts behind curves and tests."""

from __future__ import annotations

from dataclasses import dataclass

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
