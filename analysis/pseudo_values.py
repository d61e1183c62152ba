"""Pseudo-observations of the cumulative incidence: what each person adds to it at one time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import Missing, used_columns
from analysis.risk_outcome import Outcome, read_outcome
from analysis.risk_sets import count_risk_sets

Floats = NDArray[np.float64]


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
        table: one row a person.
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

    R:
        `prodlim::jackknife(prodlim(Hist(duration, event) ~ 1), times = at, cause = 1)`
    """
    columns = used_columns(table, [duration, event], missing=missing)
    outcome = read_outcome(
        columns, duration=duration, event=event, at=at, event_of_interest=event_of_interest, causes=causes
    )
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
