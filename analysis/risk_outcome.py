"""Follow-up, a horizon, and predicted risks, read and checked for the judgement of risks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.aalen_johansen import checked_causes
from analysis.columns import Columns, TableRefused
from analysis.groups import named_columns

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

FEW_AT_RISK: Final = 50
FEW_SHARE_AT_RISK: Final = 0.1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to each person, and what is asked about it.

    Attributes:
        exits: (n,) times, above 0.
        statuses: (n,) 0 for censored, 1 for the event of interest, 2 for any other.
        at: the horizon, in the unit of the times.
    """

    exits: Floats
    statuses: NDArray[np.int64]
    at: float

    @property
    def cases(self) -> Flags:
        """Who has the event of interest by the horizon."""
        return np.asarray((self.exits <= self.at) & (self.statuses == 1))

    @property
    def others(self) -> Flags:
        """Who has another event by the horizon."""
        return np.asarray((self.exits <= self.at) & (self.statuses == 2))

    @property
    def beyond(self) -> Flags:
        """Who is followed beyond the horizon without any event."""
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
        if reached >= FEW_AT_RISK and reached >= FEW_SHARE_AT_RISK * n:
            return ()
        return (
            f"{reached} of {n} people are at risk at {self.at:g}, expected at least "
            f"{FEW_AT_RISK} and {FEW_SHARE_AT_RISK:.0%}; choose an earlier horizon",
        )


def risk_names(risk: str | Sequence[str], duration: str, event: str) -> tuple[str, ...]:
    """Return columns of predicted risks as a tuple.

    Raises:
        TypeError: neither a column nor a list of them.
        ValueError: none, one twice, or one that is also the duration or the event.
    """
    names = named_columns(risk, "risk")
    if not names:
        raise ValueError("risk is empty, expected one or more columns of predicted risks")
    roles = sorted({duration, event} & set(names))
    if roles or duration == event:
        raise ValueError(
            f"column {(roles or [event])[0]!r} is given in two roles, expected duration, event and risk to differ"
        )
    return names


def read_outcome(
    columns: Columns, *, duration: str, event: str, at: float, event_of_interest: int, causes: Sequence[int]
) -> Outcome:
    """Read follow-up, and check the horizon.

    Args:
        columns: the kept rows.
        duration: column of the exit time.
        event: column of 0 for censored, else one of the causes.
        at: the horizon.
        event_of_interest: one of the causes.
        causes: codes of the events.

    Raises:
        TableRefused: a column cannot be used, or nobody is followed to the horizon.
        ValueError: the horizon is not finite and above 0, or the event of interest is no cause.
    """
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
    statuses = np.where(given == 0, 0, np.where(given == event_of_interest, 1, 2))
    return Outcome(exits, statuses.astype(np.int64), float(at))


def read_risk(columns: Columns, name: str) -> Floats:
    """Read predicted risks.

    Args:
        columns: the kept rows.
        name: column of probabilities.

    Returns:
        (n,) within 0 and 1.

    Raises:
        TableRefused: a value is outside 0 to 1, or the column cannot be used.
    """
    values = columns.numbers(name)
    columns.refuse(
        name,
        (values < 0) | (values > 1),
        "values outside 0 to 1",
        "a probability, not a score; turn it into a risk at the horizon first",
    )
    return values
