"""Are hazards proportional? Score tests and residuals against time.

Source: Grambsch PM, Therneau TM, Biometrika 1994;81:515, as the exact score test of a coefficient
that is linear in g(t), which survival >= 3 computes; not the approximation of before.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg, stats

from analysis.statistics.columns import TableRefused
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
    size = len(gradient)
    tests: list[tuple[str, ChiSquareTest]] = []
    for name, places in _groups(fit, by_level=by_level):
        tests.append((name, _score_test(gradient, matrix, np.array(places))))
    tests.append(("GLOBAL", _score_test(gradient, matrix, np.arange(size))))
    return pd.DataFrame([(name, *test) for name, test in tests], columns=["term", "chi2", "df", "p"])


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
    state, ranges = fit.state, fit.state.ranges
    steps = _transformed(fit, transform, centred=False)
    residuals = (state.x[:, ranges.events] - mean_at_event(ranges, state.at)).T
    variance = information(ranges, state.x, state.at) / len(ranges.events)
    scaled = linalg.solve(variance, residuals.T, assume_a="pos").T + fit.coefficients
    terms = fit.estimates["term"].to_numpy()[state.estimated]
    n, size = scaled.shape
    return pd.DataFrame(
        {
            "row": np.repeat(state.rows[ranges.events], size),
            "time": np.repeat(state.exits[ranges.events], size),
            "transformed_time": np.repeat(steps[ranges.place], size),
            "term": np.tile(terms, n),
            "value": scaled.ravel(),
        }
    )


def _groups(fit: CoxFit, *, by_level: bool) -> list[tuple[str, list[int]]]:
    """Indices of the estimated terms of each covariate."""
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
    state = fit.state
    times = state.ranges.times
    if transform == "identity":
        values = times
    elif transform == "log":
        values = np.log(times)
    elif transform == "rank":
        ranks = stats.rankdata(state.exits)
        values = ranks[state.ranges.events[state.ranges.begins]]
    elif transform == "km":
        sets = count_risk_sets(state.exits, state.events.astype(np.int64), n_causes=1, entries=state.entries)
        survival = np.cumprod(1 - sets.n_events[:, 0] / sets.n_at_risk, dtype=np.float64)
        values = 1 - step_values(sets.times, survival, times, start=1.0, left=True)
    else:
        raise ValueError(f"transform is {transform!r}, expected km, rank, identity or log")
    return values - values[state.ranges.place].mean() if centred else values


def _extended(fit: CoxFit, steps: Floats) -> tuple[Floats, Floats]:
    """Score for covariates times g, and the information of both halves of the doubled model."""
    state = fit.state
    gradient = score(state.ranges, state.x, state.at, steps)
    plain = information(state.ranges, state.x, state.at)
    cross = information(state.ranges, state.x, state.at, steps)
    square = information(state.ranges, state.x, state.at, steps**2)
    return gradient, np.block([[plain, cross], [cross, square]])


def _score_test(gradient: Floats, matrix: Floats, places: NDArray[np.int64]) -> ChiSquareTest:
    size = len(gradient)
    keep = np.concatenate([np.arange(size), places + size])
    values = np.concatenate([np.zeros(size), gradient[places]])
    part = matrix[np.ix_(keep, keep)]
    return chi_square_test(float(values @ np.linalg.solve(part, values)), len(places))
