"""Baseline hazard of a Cox fit, and the survival it predicts with its standard error.

Source: Tsiatis AA, Ann Stat 1981;9:93; Efron's version: Therneau TM, Grambsch PM, Modeling Survival
Data, Springer 2000, section 10.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.columns import TableRefused
from analysis.cox_likelihood import Likelihood, ordered_product, sums_of_means
from analysis.risk_ranges import RiskRanges
from analysis.risk_sets import step_values

Floats = NDArray[np.float64]
_HIGHEST: Final = 700.0  # exp of more is infinite


@dataclass(frozen=True, slots=True)
class Baseline:
    """Cumulative hazard of one stratum, for covariates at their means.

    Attributes:
        times: (J,) distinct event times.
        steps: (J,) increments of the hazard.
        variances: (J,) variance of each increment, coefficients known.
        means: (J, p) increments weighted by the mean covariates of the risk sets.
    """

    times: Floats
    steps: Floats
    variances: Floats
    means: Floats


def baseline_hazards(ranges: RiskRanges, at: Likelihood) -> tuple[Baseline, ...]:
    """Return the baseline hazard of each stratum, with ties as in the fit.

    Args:
        ranges: who is at risk when.
        at: the likelihood at its maximum.

    Returns:
        One for each stratum, in the order of the codes.
    """
    steps = ranges.sums_of_events(at.hazard)
    variances = ranges.sums_of_events(at.hazard / at.risk_sum)
    means = sums_of_means(ranges, at, at.hazard).T
    bounds = zip(ranges.strata_ends[:-1], ranges.strata_ends[1:], strict=True)
    return tuple(Baseline(ranges.times[a:b], steps[a:b], variances[a:b], means[a:b]) for a, b in bounds)


def relative_risk(x: Floats, coefficients: Floats) -> Floats:
    """Return exp(linear predictor).

    Args:
        x: (n, p) covariates, less the means of the fit.
        coefficients: (p,).

    Returns:
        (n,) hazard ratios against a person at the means.

    Raises:
        TableRefused: one of them is beyond the range of numbers.
    """
    predictor = ordered_product(x.T, coefficients)
    far = np.flatnonzero(predictor > _HIGHEST)
    if len(far):
        raise TableRefused(
            f"{len(far)} rows (the first: {far[0]}) have covariates so far from those of the fit "
            f"that the log hazard ratio is {predictor[far[0]]:.3g}; expected values in the range "
            "of the fit and in the same unit"
        )
    return np.exp(predictor)


def cumulative_hazards(
    baseline: Baseline, x: Floats, coefficients: Floats, covariance: Floats, times: Floats
) -> tuple[Floats, Floats]:
    """Return cumulative hazards of people, and their standard errors.

    Args:
        baseline: of their stratum.
        x: (n, p) covariates, less the means of the fit.
        coefficients: (p,).
        covariance: (p, p) of the coefficients.
        times: (T,) times.

    Returns:
        (n, T) hazards, and (n, T) standard errors that include the coefficients'.
    """

    def read(increments: Floats) -> Floats:
        return step_values(baseline.times, np.cumsum(increments), times, start=0.0)

    hazard = read(baseline.steps)
    variance = read(baseline.variances)
    means = np.column_stack([read(column) for column in baseline.means.T])
    risk = relative_risk(x, coefficients)
    error = np.empty((len(x), len(times)))
    for index in range(len(times)):
        pull = means[index] - x * hazard[index]
        spread = np.einsum("ij,jk,ik->i", pull, covariance, pull)
        error[:, index] = risk * np.sqrt(variance[index] + spread)
    return np.outer(risk, hazard), error
