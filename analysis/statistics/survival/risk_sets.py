"""Who is at risk and what happens at each time: the counts behind curves, tests and weights.

Events come before censorings of the same time, and entries at a time come after both: a person is
at risk over (entry, exit], as in R's survival.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.columns import Columns, for_each_group, rows_by_group

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RiskSets:
    """Counts at each distinct exit time, of an event or of censoring."""

    times: Floats  # (J,) distinct exit times, ascending
    n_at_risk: Floats  # (J,) weight of the people at risk just before each time
    n_events: Floats  # (J, K) weight of the events, one column a cause
    n_censored: Floats  # (J,) weight of those censored
    place: Integers  # (n,) index in `times` of each row's exit

    def n_left(self) -> Floats:
        """Return those at risk without event at each time; what rounding of weights leaves is 0."""
        left = self.n_at_risk - self.n_events.sum(axis=1)
        total = self.n_events.sum() + self.n_censored.sum()
        return np.where(left <= 1e-12 * total, 0.0, left)


def count_risk_sets(
    exits: Floats, statuses: Integers, *, n_causes: int, entries: Floats | None = None, weights: Floats | None = None
) -> RiskSets:
    """Count people at risk, events and censorings at each distinct exit time.

    Statuses are 0 for censored and 1 to `n_causes` for the events; entries are before the exits.
    Without weights each row counts 1. With whole weights the counts are exact.
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
    """Kaplan-Meier's curve of the time to being censored."""

    n_at_risk: Floats  # (J,) weight of those who can be censored at each exit time
    hazard: Floats  # (J,) share of them who are
    uncensored: Floats  # (J,) probability not to be censored up to and with each time


def censoring_curve(sets: RiskSets, *, events_first: bool = True) -> CensoringCurve:
    """Estimate the distribution of censoring at each exit time.

    With `events_first`, people with an event at a time are no longer at risk of being censored at
    it, as in R's survival; otherwise they still are, as in cmprsk.
    """
    at_risk = sets.n_at_risk - sets.n_events.sum(axis=1) * events_first
    hazard = np.divide(sets.n_censored, at_risk, out=np.zeros_like(at_risk), where=sets.n_censored > 0)
    return CensoringCurve(at_risk, hazard, np.cumprod(1 - hazard, dtype=np.float64))


@dataclass(frozen=True, slots=True)
class People:
    """The rows of one group, as the sums need them."""

    risk: RiskSets  # their risk sets
    statuses: Integers  # (n,) 0 for censored, 1 to K for the events
    entries: Floats | None  # (n,) or None
    weights: Floats | None  # (n,) or None for 1 each

    def counts(self, values: Floats) -> Floats | Integers:
        """Return counts as whole numbers, or as sums of weights."""
        return np.rint(values).astype(np.int64) if self.weights is None else values

    def emptied_early(self, label: Hashable) -> tuple[str, ...]:
        """Warn of a curve that ends because all at risk had an event before others came."""
        left = self.risk.n_left()
        empty = np.flatnonzero(left == 0)
        if len(empty) == 0 or empty[0] == len(left) - 1:
            return ()
        place = int(empty[0])
        return (
            f"group {label}: all {self.risk.n_at_risk[place]:g} at risk at time {self.risk.times[place]:g} had "
            f"an event, so the curve stays where it is though follow-up goes on to "
            f"{self.risk.times[-1]:g}; begin where enough people are at risk",
        )


def people_by_group(
    columns: Columns,
    duration: str,
    statuses: Integers,
    n_causes: int,
    *,
    entry: str | None,
    weights: str | None,
    by: Sequence[str],
) -> tuple[list[Hashable], list[People]]:
    """Return the labels of the groups, and the rows of each with their risk sets."""
    exits = columns.times(duration)
    entries = columns.entries(entry, duration=duration, exits=exits)
    weight = columns.weights(weights)
    codes, labels = columns.groups(by)
    groups = []
    for rows in rows_by_group(codes, len(labels)):
        own_entries = None if entries is None else entries[rows]
        own_weights = None if weight is None else weight[rows]
        risk = count_risk_sets(exits[rows], statuses[rows], n_causes=n_causes, entries=own_entries, weights=own_weights)
        groups.append(People(risk, statuses[rows], own_entries, own_weights))
    return labels, groups


# Curves read at times


def step_values(times: Floats, values: Floats, at: Floats, *, start: float, left: bool = False) -> Floats:
    """Read a right-continuous step function at times, or with `left` just before them.

    Its value is `start` before the first of `times`, and `values` from each of them on.
    """
    places = np.searchsorted(times, at, side="left" if left else "right")
    return np.concatenate([[start], values])[places]


def read_curves(curves: pd.DataFrame, keys: Sequence[str], times: ArrayLike, *, start: float) -> pd.DataFrame:
    """Read a table of step curves at times: counts since the time before, and everything else then.

    As R does, `n_at_risk` is the number at the first step that is not before the time, 0 after all.

    Args:
        curves: one row a step, with the column "time"; other columns are counts, "n_at_risk", "se",
            or follow a curve.
        keys: columns that make the curves.
        times: ascending, 0 or above.
        start: value of the curves before their first step.

    Raises:
        ValueError: no time, or times that are not finite, negative, or not ascending.
    """
    at = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if at.ndim != 1 or at.size == 0 or not np.isfinite(at).all() or (at < 0).any():
        raise ValueError(f"times is {times!r}, expected one or more finite times of 0 or above")
    if (np.diff(at) <= 0).any():
        raise ValueError(f"times is {times!r}, expected ascending times without repetition")

    def read(part: pd.DataFrame) -> Mapping[str, Any]:
        steps = part["time"].to_numpy()
        found: dict[str, Any] = {}
        for name in part.columns.drop(list(keys)):
            values = part[name].to_numpy()
            zero = np.zeros(1, dtype=values.dtype)
            if name == "time":
                found[name] = at
            elif name == "n_at_risk":
                found[name] = np.concatenate([values, zero])[np.searchsorted(steps, at, side="left")]
            elif name in ("n_events", "n_censored"):
                running = np.concatenate([zero, np.cumsum(values)])
                found[name] = np.diff(running[np.searchsorted(steps, at, side="right")], prepend=zero)
            else:
                found[name] = step_values(steps, values, at, start=0.0 if name == "se" else start)
        return found

    return for_each_group(curves, keys, read)


# Errors by the infinitesimal jackknife


@dataclass(frozen=True, slots=True)
class Integral:
    """A person's integral over time: of `at_event` at the event, less `at_risk` while at risk."""

    # (J, K + 1) what an exit adds, a column for each status, the first for censoring
    at_event: Floats
    at_risk: Floats  # (J,) what being at risk at a time takes away


def influence_squares(people: People, first: Integral, second: Integral, pivot: Floats) -> Floats:
    """Return the weighted sum of squares of `first - pivot x second` over people at each time.

    With P the first, Q the second and F the (J,) pivot, this is the variance of a curve whose
    derivative in the weight of person i at time t is P_i(t) - F(t) Q_i(t). A person's P and Q stand
    still after the exit, so that the sum over those who left is cumulative; those at risk differ by
    their entry only, so that theirs needs five running sums. Time O(n log n), memory O(n + J).
    """
    times, place = people.risk.times, people.risk.place
    size, n = len(times), len(place)
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


def nelson_aalen(exits: Floats, events: NDArray[np.bool_]) -> Floats:
    """Return the (n,) cumulative hazard at each exit; R: `mice::nelsonaalen`.

    Source:
        White IR, Royston P, Stat Med 2009;28:1982: it belongs in the imputation model, with the
        event, in place of the time.
    """
    sets = count_risk_sets(exits, events.astype(np.int64), n_causes=1)
    hazard = np.cumsum(sets.n_events[:, 0] / sets.n_at_risk)
    return np.asarray(step_values(sets.times, hazard, exits, start=0.0))
