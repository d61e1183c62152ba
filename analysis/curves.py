"""What curves over time share: times to read at, and counts at and between them."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.risk_sets import RiskSets

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
