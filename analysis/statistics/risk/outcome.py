"""Follow-up to a horizon, read and checked; pseudo-values of the risk by then."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.columns import Columns, Missing, TableRefused, named_columns, used_columns
from analysis.statistics.survival.aalen_johansen import checked_causes
from analysis.statistics.survival.risk_sets import count_risk_sets

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_FEW_AT_RISK: Final = 50
_FEW_SHARE_AT_RISK: Final = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to each person, and what is asked about it."""

    exits: Floats  # (n,) times, above 0
    statuses: NDArray[np.int64]  # (n,) 0 for censored, 1 for the event of interest, 2 for any other
    at: float  # the horizon, in the unit of the times

    @property
    def cases(self) -> Flags:
        """Whether each person has the event of interest by the horizon."""
        return np.asarray((self.exits <= self.at) & (self.statuses == 1))

    @property
    def others(self) -> Flags:
        """Whether each person has another event by the horizon."""
        return np.asarray((self.exits <= self.at) & (self.statuses == 2))

    @property
    def beyond(self) -> Flags:
        """Whether each person is followed beyond the horizon without any event."""
        return np.asarray(self.exits > self.at)

    def counts(self) -> dict[str, int]:
        """Return n, n_events, n_competing, n_censored by the horizon, and n_beyond it."""
        cases, others = int(self.cases.sum()), int(self.others.sum())
        beyond = int(self.beyond.sum())
        return {
            "n": len(self.exits),
            "n_events": cases,
            "n_competing": others,
            "n_censored": len(self.exits) - cases - others - beyond,
            "n_beyond": beyond,
        }

    def warnings(self) -> tuple[str, ...]:
        """Warn where few people are followed to the horizon."""
        reached = int((self.exits >= self.at).sum())
        n = len(self.exits)
        if reached >= _FEW_AT_RISK and reached >= _FEW_SHARE_AT_RISK * n:
            return ()
        return (
            f"{reached} of {n} people are at risk at {self.at:g}, expected at least "
            f"{_FEW_AT_RISK} and {_FEW_SHARE_AT_RISK:.0%}; choose an earlier horizon",
        )


def read_outcome(
    table: pd.DataFrame,
    risk: str | Sequence[str] | None,
    duration: str,
    event: str,
    at: float,
    event_of_interest: int,
    causes: Sequence[int],
    missing: Missing,
) -> tuple[Columns, Outcome, tuple[str, ...]]:
    """Read follow-up, check the horizon, and name the columns of predicted risks, if any."""
    names = () if risk is None else named_columns(risk, "risk")
    if risk is not None and not names:
        raise ValueError("risk is empty, expected one or more columns of predicted risks")
    roles = sorted({duration, event} & set(names))
    if roles or duration == event:
        raise ValueError(
            f"column {(roles or [event])[0]!r} is given in two roles, expected duration, event and risk to differ"
        )
    columns = used_columns(table, [duration, event, *names], missing=missing)
    codes = checked_causes(causes)
    if event_of_interest not in codes:
        raise ValueError(f"event_of_interest is {event_of_interest!r}, expected one of {codes}")
    if not (math.isfinite(at) and at > 0):
        raise ValueError(f"at is {at!r}, expected a finite time above 0")
    exits = columns.times(duration)
    if exits.max() < at:
        raise TableRefused(
            f"column {duration!r} ends at {exits.max():g}, expected follow-up to at={at:g}; choose an earlier horizon"
        )
    given = columns.statuses(event, codes)
    statuses = np.where(given == 0, 0, np.where(given == event_of_interest, 1, 2)).astype(np.int64)
    return columns, Outcome(exits, statuses, float(at)), names


def pseudo_values(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    at: float,
    event_of_interest: int = 1,
    causes: Sequence[int] = (1, 2),
    missing: Missing = "refuse",
) -> pd.Series[float]:
    """Return the jackknife pseudo-values of the Aalen-Johansen cumulative incidence at a time.

    That of person i is n F(at) - (n - 1) F_i(at), F_i the estimate without person i. Without
    censoring it is 1 for those with the event by then and 0 for the others. All n estimates come
    from one pass over time, in O(n log n), and are exact.

    Args:
        table: one row per person.
        duration: column of the exit time, above 0.
        event: column of 0 for censored, else one of the causes.
        at: the horizon, in the unit of `duration`, not after the last exit.
        event_of_interest: one of the causes.
        causes: codes of the events; `(1,)` without competing events, where F is 1 less the
            Kaplan-Meier curve.
        missing: "refuse" or "drop".

    Returns:
        One value a kept row, with the row's index; below 0 or above 1 for some.

    Raises:
        TableRefused: a column cannot be used, there is one person, or nobody is followed to the
            horizon.
        ValueError: an argument is outside its values.

    Source:
        Andersen PK, Klein JP, Rosthoj S, Biometrika 2003;90:15-27.
        R: `prodlim::jackknife(prodlim(Hist(duration, event) ~ 1), times = at, cause = 1)`
    """
    columns, outcome, _ = read_outcome(table, None, duration, event, at, event_of_interest, causes, missing)
    return pd.Series(jackknife(outcome).values, columns.table.index, name="pseudo_value")


class Jackknife(NamedTuple):
    """An estimate, and the pseudo-value of each person."""

    estimate: float
    values: Floats


def jackknife(outcome: Outcome) -> Jackknife:
    """Return the cumulative incidence at the horizon, and the pseudo-value of each person.

    Leaving out somebody who goes at time u takes one from those at risk at each time up to u,
    changes the event at u, and nothing after it. So the estimate without is made of the curve of
    everybody's counts less one before u, one step at u, and the curve of those left after u.
    """
    risk = count_risk_sets(outcome.exits, outcome.statuses, n_causes=2)
    steps = int(np.searchsorted(risk.times, outcome.at, side="right"))
    n_at_risk, own = risk.n_at_risk[:steps], risk.n_events[:steps, 0]
    events = risk.n_events[:steps].sum(axis=1)
    free = np.cumprod(1 - events / n_at_risk)
    incidence = np.cumsum(np.concatenate([[1.0], free])[:-1] * own / n_at_risk)
    fewer = np.maximum(n_at_risk - 1, 1)
    free_without = np.concatenate([[1.0], np.cumprod(np.clip(n_at_risk - 1 - events, 0, None) / fewer)])
    without = np.concatenate([[0.0], np.cumsum(free_without[:-1] * own / fewer)])
    with np.errstate(divide="ignore", invalid="ignore"):
        later = np.where(free > 0, (incidence[-1:] - incidence) / free, 0.0)
    gone = outcome.exits <= outcome.at
    place, status = risk.place[gone], outcome.statuses[gone]
    own_left, events_left = own[place] - (status == 1), events[place] - (status > 0)
    stay = fewer[place] - events_left
    alone = n_at_risk[place] == 1
    step = np.where(alone, 0.0, (own_left + stay * later[place]) / fewer[place])
    left_out = np.full(len(outcome.exits), without[steps])
    left_out[gone] = without[place] + free_without[place] * step
    n, whole = len(outcome.exits), float(incidence[-1]) if steps else 0.0
    return Jackknife(whole, np.asarray(whole + (n - 1) * (whole - left_out)))
