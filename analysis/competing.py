"""Competing events: cumulative incidence, Gray's test, Fine and Gray, risks from all causes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.aalen_johansen import CumulativeIncidence, cumulative_incidence
from analysis.cox_fit import CoxFit
from analysis.fine_gray import FineGrayFit, fit_fine_gray
from analysis.gray import gray_test

__all__ = [
    "CumulativeIncidence",
    "FineGrayFit",
    "cumulative_incidence",
    "fit_fine_gray",
    "gray_test",
    "predict_cumulative_incidence",
]

Floats = NDArray[np.float64]
_CHUNK = 1 << 22


def predict_cumulative_incidence(
    fits_by_cause: Mapping[int, CoxFit], table: pd.DataFrame, times: ArrayLike
) -> pd.DataFrame:
    """Predict the probability of each cause by given times from cause-specific Cox fits.

    The incidence of a cause is the sum over event times of the event-free survival just before,
    by the product of (1 - all hazards), times the hazard of the cause.

    Args:
        fits_by_cause: a Cox fit for each cause of event, in which the other causes are censored;
            of the same rows.
        table: rows with the covariates and strata of all fits, complete.
        times: times of 0 or above; beyond the last event the incidence stays where it is.

    Returns:
        row (number of the row, from 0), cause, time, cumulative_incidence. Without limits:
        resample people for them.

    Raises:
        TableRefused: a column cannot be used.
        ValueError: fewer than two causes, fits of other rows or with events in common, or times
            that are negative or not finite.

    Source:
        Benichou J, Gail MH, Biometrics 1990;46:813. R: `predict(riskRegression::CSC(...), newdata,
        times, cause, product.limit = TRUE)`.
    """
    at = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if at.ndim != 1 or not len(at) or not (np.isfinite(at) & (at >= 0)).all():
        raise ValueError(f"times are {times!r}, expected finite times of 0 or above")
    _check_fits(fits_by_cause)
    grid = np.unique(np.concatenate([f.state.ranges.times for f in fits_by_cause.values()]))
    grid = grid[grid <= at.max()] if len(at) else grid[:0]
    size = max(1, _CHUNK // max(1, len(grid) * len(fits_by_cause)))
    parts = [
        _incidences(fits_by_cause, table.iloc[begin : begin + size], grid, at)
        for begin in range(0, len(table), size)
    ]
    values = np.concatenate(parts, axis=1)
    causes = list(fits_by_cause)
    return pd.DataFrame(
        {
            "row": np.repeat(np.arange(len(table)), len(causes) * len(at)),
            "cause": np.tile(np.repeat(causes, len(at)), len(table)),
            "time": np.tile(at, len(table) * len(causes)),
            "cumulative_incidence": values.transpose(1, 0, 2).ravel(),
        }
    )


def _check_fits(fits: Mapping[int, CoxFit]) -> None:
    if len(fits) < 2:
        raise ValueError(f"{len(fits)} fit given, expected one for each of two causes or more")
    first, *others = fits.values()
    for other in others:
        if not np.array_equal(np.sort(first.state.rows), np.sort(other.state.rows)):
            raise ValueError(
                f"the fits are of {first.n} and {other.n} rows that are not the same; drop rows "
                "with missing values before all of them"
            )
    events = [fit.state.in_table_order(fit.state.events) for fit in fits.values()]
    if (np.sum(events, axis=0) > 1).any():
        raise ValueError("a row has the event of two causes; expected each cause to have its own")


def _incidences(
    fits: Mapping[int, CoxFit], table: pd.DataFrame, grid: Floats, at: Floats
) -> Floats:
    """Return (causes, rows, times) cumulative incidences."""
    steps = np.stack([fit.hazard_steps(table, grid) for fit in fits.values()])
    steps /= np.maximum(steps.sum(axis=0), 1.0)
    survival = np.cumprod(np.clip(1 - steps.sum(axis=0), 0, None), axis=1)
    before = np.concatenate([np.ones((len(table), 1)), survival[:, :-1]], axis=1)
    incidence = np.concatenate(
        [np.zeros((len(steps), len(table), 1)), np.cumsum(before * steps, axis=2)], axis=2
    )
    return np.asarray(incidence[:, :, np.searchsorted(grid, at, side="right")])
