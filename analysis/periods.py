"""Cut follow-up into periods, the remedy for hazards that are not proportional."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis.columns import used_columns


def split_follow_up(
    table: pd.DataFrame,
    *,
    cuts: Sequence[float],
    duration: str,
    event: str,
    entry: str | None = None,
    entry_name: str = "entry",
    period_name: str = "period",
) -> pd.DataFrame:
    """Cut each row's follow-up at given times, one row a period in which it is followed.

    A fit with `entry=entry_name` on the result equals the fit on the table; with the period as a
    factor of a covariate it has one hazard ratio for each period. Errors by person need `cluster`
    only where a person has several rows to begin with.

    Args:
        table: one row a person or a spell.
        cuts: times at which periods end, each above 0, ascending; they belong to the period that
            they end.
        duration: column of the end of follow-up, above 0.
        event: column of yes/no.
        entry: column of the start of follow-up; from 0 without it.
        entry_name: name of the column of starts in the result; an existing one is replaced only
            when it is `entry`.
        period_name: name of the new column of periods, counted from 1.

    Returns:
        The table's columns with the ends, events and starts of the pieces, and the period; the
        index repeats that of the table.

    Raises:
        TableRefused: a time or an event cannot be used.
        ValueError: the cuts are not ascending and above 0, or a new name exists already.

    Source:
        R: `survival::survSplit(Surv(entry, duration, event) ~ ., table, cut = cuts)`.
    """
    bounds = np.asarray(cuts, dtype=np.float64)
    if bounds.ndim != 1 or not len(bounds) or (np.diff(bounds, prepend=0.0) <= 0).any():
        raise ValueError(f"cuts are {list(cuts)}, expected ascending times above 0")
    entry_name = entry or entry_name
    taken = [n for n in (entry_name, period_name) if n in table.columns and n != entry]
    if taken:
        raise ValueError(f"column {taken[0]!r} exists; pass another entry_name or period_name")
    columns = used_columns(table, [duration, event, entry])
    exits = columns.times(duration)
    events = columns.flags(event)
    given = columns.entries(entry, duration=duration, exits=exits)
    entries = np.zeros(len(exits)) if given is None else given
    first = np.searchsorted(bounds, entries, side="right")
    last = np.searchsorted(bounds, exits, side="left")
    pieces = last - first + 1
    row = np.repeat(np.arange(len(exits)), pieces)
    period = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[row]
    edges = np.concatenate([[-np.inf], bounds, [np.inf]])
    made = table.iloc[row].copy()
    made[entry_name] = np.maximum(entries[row], edges[period])
    made[duration] = np.minimum(exits[row], edges[period + 1])
    made[event] = events[row] & (period == last[row])
    made[period_name] = period + 1
    return made
