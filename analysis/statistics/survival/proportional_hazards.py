"""Are hazards proportional? Score tests, residuals against time, and follow-up cut into periods.

Source: Grambsch PM, Therneau TM, Biometrika 1994;81:515, as the exact score test of a coefficient
that is linear in g(t), which survival >= 3 computes; not the approximation of before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg, stats

from analysis.statistics.columns import TableRefused, used_columns
from analysis.statistics.survival.cox_fit import ChiSquareTest, CoxFit, chi_square_test
from analysis.statistics.survival.cox_likelihood import information, mean_at_event, score
from analysis.statistics.survival.risk_sets import count_risk_sets, step_values

Floats = NDArray[np.float64]
Transform = Literal["km", "rank", "identity", "log"]


def proportional_hazards_test(fit: CoxFit, *, transform: Transform = "km", by_level: bool = False) -> pd.DataFrame:
    """Test each covariate, and all together, for a hazard ratio that changes with time.

    Args:
        fit: a fitted Cox model.
        transform: g(t), the shape of the change: "km" (1 - Kaplan-Meier just before t), "rank",
            "identity" or "log".
        by_level: one row for each level of a category and each term of a spline, instead of one
            for all of them.

    Returns:
        term, chi2, df, p: one row a covariate, and GLOBAL.

    Raises:
        ValueError: the transform is another word.
        TableRefused: all events are at one time, so that nothing can change with it.

    Source:
        Grambsch and Therneau 1994. R (survival >= 3): `cox.zph(fit, transform, terms =
        !by_level)`. Robust errors do not enter, as there.
    """
    steps = _transformed(fit, transform)
    if np.ptp(steps) == 0:
        raise TableRefused(
            f"all {fit.n_events} events are at one value of the transform {transform!r} of time, "
            "expected events at two times or more"
        )
    gradient, matrix = _extended(fit, steps)
    groups = [*_groups(fit, by_level=by_level), ("GLOBAL", list(range(len(gradient))))]
    tests = [(name, *_score_test(gradient, matrix, np.array(places))) for name, places in groups]
    return pd.DataFrame(tests, columns=["term", "chi2", "df", "p"])


def scaled_schoenfeld(fit: CoxFit, *, transform: Transform = "km") -> pd.DataFrame:
    """Return the scaled Schoenfeld residuals, an estimate of the coefficient at each event.

    Args:
        fit: a fitted Cox model.
        transform: scale of `transformed_time`, as in `proportional_hazards_test`.

    Returns:
        One row an event and term: row (number in the table), time, transformed_time, term, value;
        a smooth of value against time shows how the log hazard ratio changes.

    Raises:
        ValueError: the transform is another word.

    Source:
        Grambsch and Therneau 1994, section 2. R: `cox.zph(fit, transform, terms = FALSE)$y`.
    """
    state, ranges, rows = fit.state, fit.state.ranges, fit.state.rows
    steps = _transformed(fit, transform, centred=False)
    residuals = (rows.x[:, ranges.events] - mean_at_event(ranges, state.at)).T
    variance = information(ranges, rows.x, state.at) / len(ranges.events)
    scaled = linalg.solve(variance, residuals.T, assume_a="pos").T + fit.coefficients
    terms = fit.estimates["term"].to_numpy()[state.estimated]
    n, size = scaled.shape
    return pd.DataFrame(
        {
            "row": np.repeat(rows.row_numbers[ranges.events], size),
            "time": np.repeat(rows.exits[ranges.events], size),
            "transformed_time": np.repeat(steps[ranges.place], size),
            "term": np.tile(terms, n),
            "value": scaled.ravel(),
        }
    )


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
        table: one row per person or a spell.
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


def _groups(fit: CoxFit, *, by_level: bool) -> list[tuple[str, list[int]]]:
    """Return the indices of the estimated terms of each covariate."""
    if by_level:
        terms = fit.estimates["term"][fit.state.estimated]
        return [(name, [place]) for place, name in enumerate(terms)]
    index = np.cumsum(fit.state.estimated) - 1
    groups = [
        (name, [int(index[place]) for place in places if fit.state.estimated[place]])
        for name, places in fit.design.groups
    ]
    return [(name, places) for name, places in groups if places]


def _transformed(fit: CoxFit, transform: Transform, *, centred: bool = True) -> Floats:
    """Return g at each event time; centred over events, which steadies the arithmetic."""
    rows, ranges = fit.state.rows, fit.state.ranges
    times = ranges.times
    if transform == "identity":
        values = times
    elif transform == "log":
        values = np.log(times)
    elif transform == "rank":
        values = stats.rankdata(rows.exits)[ranges.events[ranges.begins]]
    elif transform == "km":
        sets = count_risk_sets(rows.exits, rows.events.astype(np.int64), n_causes=1, entries=rows.entries)
        survival = np.cumprod(1 - sets.n_events[:, 0] / sets.n_at_risk, dtype=np.float64)
        values = 1 - step_values(sets.times, survival, times, start=1.0, left=True)
    else:
        raise ValueError(f"transform is {transform!r}, expected km, rank, identity or log")
    return values - values[ranges.place].mean() if centred else values


def _extended(fit: CoxFit, steps: Floats) -> tuple[Floats, Floats]:
    """Return the score of covariates times g, and the information of both halves of the model."""
    data = fit.state.ranges, fit.state.rows.x, fit.state.at
    cross = information(*data, steps)
    return score(*data, steps), np.block([[information(*data), cross], [cross, information(*data, steps**2)]])


def _score_test(gradient: Floats, matrix: Floats, places: NDArray[np.int64]) -> ChiSquareTest:
    size = len(gradient)
    keep = np.concatenate([np.arange(size), places + size])
    values = np.concatenate([np.zeros(size), gradient[places]])
    part = matrix[np.ix_(keep, keep)]
    return chi_square_test(float(values @ np.linalg.solve(part, values)), len(places))
