"""Risks from cause-specific Cox fits, one for each of several competing events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.survival.cox_fit import CoxFit, prediction_times

Floats = NDArray[np.float64]
# Steps of people that are computed together, few enough for the processor's cache.
_CHUNK: Final = 1 << 18


def predict_cumulative_incidence(
    fits_by_cause: Mapping[int, CoxFit], table: pd.DataFrame, times: ArrayLike
) -> pd.DataFrame:
    """Predict the probability of each cause by given times from cause-specific Cox fits.

    The incidence of a cause is the sum over event times of the event-free survival just before,
    by the product of (1 - all hazards), times the hazard of the cause. A level in which nobody had
    a cause has no hazard of it, the limit of its coefficient.

    Args:
        fits_by_cause: a Cox fit for each cause of event, in which the other causes are censored;
            of the same rows. One alone where nobody had another event.
        table: rows with the covariates and strata of all fits, complete.
        times: times of 0 or above; beyond the last event the incidence stays where it is.

    Returns:
        row (number of the row, from 0), cause, time, cumulative_incidence. Without limits:
        resample people for them.

    Raises:
        TableRefused: a column cannot be used.
        ValueError: no fit, fits of other rows or with events in common, or times
            that are negative or not finite.

    Source:
        Benichou J, Gail MH, Biometrics 1990;46:813. R: `predict(riskRegression::CSC(...), newdata,
        times, cause, product.limit = TRUE)`.
    """
    at = np.atleast_1d(np.asarray(times, dtype=np.float64))
    values = cumulative_incidences(fits_by_cause, table, at)
    causes = list(fits_by_cause)
    return pd.DataFrame(
        {
            "row": np.repeat(np.arange(len(table)), len(causes) * len(at)),
            "cause": np.tile(np.repeat(causes, len(at)), len(table)),
            "time": np.tile(at, len(table) * len(causes)),
            "cumulative_incidence": values.transpose(1, 0, 2).ravel(),
        }
    )


def cumulative_incidences(fits_by_cause: Mapping[int, CoxFit], table: pd.DataFrame, times: ArrayLike) -> Floats:
    """Return what `predict_cumulative_incidence` does, as an array of causes, rows and times."""
    at = prediction_times(times)
    _check_fits(fits_by_cause)
    fits = list(fits_by_cause.values())
    grid = np.unique(np.concatenate([fit.state.ranges.times for fit in fits]))
    grid = grid[grid <= at.max()]
    parts = [fit.relative_risks(table, in_limit=True) for fit in fits]
    # Rows that are alike are computed once, so that their risks are equal to the last bit, which
    # ties in an AUC need and a matrix product does not promise.
    keys = np.stack([values for part in parts for values in part])
    alike, place = np.unique(keys, axis=1, return_inverse=True)
    risks, strata = alike[::2], alike[1::2].astype(np.int64)
    baselines = [fit.baseline_steps(grid) for fit in fits]
    size = max(1, _CHUNK // max(1, len(grid)))
    values = np.empty((len(fits), alike.shape[1], len(at)))
    for codes in np.unique(strata, axis=1).T:
        steps = np.stack([own[code] for own, code in zip(baselines, codes, strict=True)])
        rows = np.flatnonzero((strata == codes[:, None]).all(axis=0))
        for begin in range(0, len(rows), size):
            chosen = rows[begin : begin + size]
            values[:, chosen] = _incidences(np.asarray(risks[:, chosen]), steps, grid[:, None] <= at)
    return np.asarray(values[:, place.ravel()])


def _check_fits(fits: Mapping[int, CoxFit]) -> None:
    if not fits:
        raise ValueError("no fit given, expected one for each cause")
    first, *others = fits.values()
    # A row may be there several times, in samples drawn with replacement.
    times = np.bincount(first.row_numbers)
    for other in others:
        if not np.array_equal(times, np.bincount(other.row_numbers)):
            raise ValueError(
                f"the fits are of {first.n} and {other.n} rows that are not the same; drop rows "
                "with missing values before all of them"
            )
    causes = np.zeros(len(times), dtype=np.int64)
    for fit in fits.values():
        causes[np.unique(fit.state.rows.row_numbers[fit.state.rows.events])] += 1
    if (causes > 1).any():
        raise ValueError("a row has the event of two causes; expected each cause to have its own")


def _incidences(risks: Floats, steps: Floats, within: NDArray[np.bool_]) -> Floats:
    """Return (causes, rows, times) incidences of rows that share their baseline hazards.

    There are (causes, rows) hazard ratios and (causes, T) steps of the baseline hazards; `within`
    is (T, times) and says whether each step is by the time.
    """
    total = risks.T @ steps
    # Hazards of all causes that add up to more than 1 share it.
    share = 1 / np.maximum(total, 1.0) if total.size and total.max() > 1 else None
    free = np.ones((total.shape[0], total.shape[1] + 1))
    np.clip(1 - total, 0, None, out=free[:, 1:])
    np.cumprod(free, axis=1, out=free)
    before = free[:, :-1] if share is None else free[:, :-1] * share
    found = [before @ (own[:, None] * within) for own in steps]
    return np.stack(found) * risks[:, :, None]
