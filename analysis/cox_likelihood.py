"""The partial likelihood of the Cox model: risk sets, score, information and residuals.

Everything is a sum over pairs of an event time and, under Efron, the place among its tied events;
a row meets the times through the range at which it is at risk. So each evaluation takes
O(n p + events p^2) operations beside one matrix product, for any number of strata and entries.

Source: Cox DR, J R Stat Soc B 1972;34:187. Ties: Efron B, J Am Stat Assoc 1977;72:557; Breslow N,
Biometrics 1974;30:89. Score residuals: Therneau, Grambsch, Fleming, Biometrika 1990;77:147; Lin,
Wei, J Am Stat Assoc 1989;84:1074.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from analysis.risk_ranges import RiskRanges

Floats = NDArray[np.float64]
_PIECE: Final = 8192


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The partial likelihood and what derives from it, at one set of coefficients.

    Attributes:
        log_likelihood: its logarithm.
        risk: (n,) exp(linear predictor).
        risk_sum: (E,) weighted risk sum at each event, less Efron's share of the tied events.
        hazard: (E,) step of the baseline hazard for each event: mean weight over risk sum.
        sums: (p, J) sums of the covariates over the risk sets, with weights and risks.
        tied_sums: (p, J) the same over the events of each time, or None where none share.
    """

    log_likelihood: float
    risk: Floats
    risk_sum: Floats
    hazard: Floats
    sums: Floats
    tied_sums: Floats | None


def likelihood(ranges: RiskRanges, x: Floats, coefficients: Floats) -> Likelihood:
    """Evaluate the partial likelihood.

    Args:
        ranges: who is at risk when.
        x: (p, n) covariates, centred.
        coefficients: (p,).

    Returns:
        Its logarithm, and the risk sums behind it.
    """
    predictor = ordered_product(x, coefficients)
    risk = np.exp(predictor)
    weighted = ranges.weights * risk
    at_risk, tied = ranges.sums(weighted)
    risk_sum = at_risk[ranges.place]
    sums = np.empty((len(x), len(ranges.times)))
    tied_sums = np.empty_like(sums) if ranges.tied else None
    if tied_sums is not None:
        risk_sum = risk_sum - ranges.fraction * tied[ranges.place]
    product = np.empty_like(weighted)
    for index, row in enumerate(x):
        np.multiply(weighted, row, out=product)
        sums[index], tied = ranges.sums(product)
        if tied_sums is not None:
            tied_sums[index] = tied
    own = ranges.weights[ranges.events] @ predictor[ranges.events]
    log_likelihood = float(own - ranges.mean_weight @ np.log(risk_sum))
    hazard = ranges.mean_weight / risk_sum
    return Likelihood(log_likelihood, risk, risk_sum, hazard, sums, tied_sums)


def ordered_product(x: Floats, coefficients: Floats) -> Floats:
    """Return coefficients @ x, summed in the order of terms.

    Equal rows then give equal values to the last bit, which ties in the concordance need and a
    matrix product does not promise.
    """
    total = np.zeros(x.shape[1])
    product = np.empty_like(total)
    for coefficient, row in zip(coefficients, x, strict=True):
        total += np.multiply(coefficient, row, out=product)
    return total


def sums_of_means(ranges: RiskRanges, at: Likelihood, factors: Floats) -> Floats:
    """Sum, at each event time, a factor times the mean covariates of the event's risk set.

    Args:
        ranges: who is at risk when.
        at: the likelihood.
        factors: (E,) one an event.

    Returns:
        (p, J) sums.
    """
    shares = factors / at.risk_sum
    total = at.sums * ranges.sums_of_events(shares)
    if at.tied_sums is not None:
        total -= at.tied_sums * ranges.sums_of_events(shares * ranges.fraction)
    return np.asarray(total)


def score(ranges: RiskRanges, x: Floats, at: Likelihood, steps: Floats | None = None) -> Floats:
    """Return the derivative of the log-likelihood.

    Args:
        ranges: who is at risk when.
        x: (p, n) covariates.
        at: the likelihood.
        steps: (J,) factor of the covariates at each event time, for time-dependent effects.

    Returns:
        (p,) derivative.
    """
    factor = 1.0 if steps is None else steps[ranges.place]
    own = np.zeros(x.shape[1])
    own[ranges.events] = ranges.weights[ranges.events] * factor
    means = sums_of_means(ranges, at, ranges.mean_weight * factor)
    return np.asarray(x @ own - means.sum(axis=1))


def information(ranges: RiskRanges, x: Floats, at: Likelihood, steps: Floats | None = None) -> Floats:
    """Return minus the second derivative of the log-likelihood.

    Args:
        ranges: who is at risk when.
        x: (p, n) covariates.
        at: the likelihood.
        steps: (J,) factor of the covariance at each event time, for time-dependent effects.

    Returns:
        (p, p): the sum over events of the covariance of the covariates in the risk set.
    """
    hazard = at.hazard if steps is None else at.hazard * steps[ranges.place]
    exposure = _exposure(ranges, *_steps_and_shares(ranges, hazard))
    second = _second_moments(x, ranges.weights * at.risk * exposure)
    squares = hazard / at.risk_sum
    products = (at.sums * ranges.sums_of_events(squares)) @ at.sums.T
    if at.tied_sums is not None:
        squares = squares * ranges.fraction
        cross = (at.sums * ranges.sums_of_events(squares)) @ at.tied_sums.T
        tied = (at.tied_sums * ranges.sums_of_events(squares * ranges.fraction)) @ at.tied_sums.T
        products += tied - cross - cross.T
    return np.asarray(second - products)


def _second_moments(x: Floats, weights: Floats) -> Floats:
    """Return x diag(weights) x', in pieces that stay in the processor's cache."""
    total = np.zeros((len(x), len(x)))
    product = np.empty((len(x), _PIECE))
    for begin in range(0, x.shape[1], _PIECE):
        piece = x[:, begin : begin + _PIECE]
        weighted = product[:, : piece.shape[1]]
        np.multiply(piece, weights[begin : begin + _PIECE], out=weighted)
        total += weighted @ piece.T
    return total


def _steps_and_shares(ranges: RiskRanges, hazard: Floats) -> tuple[Floats, Floats | None]:
    """Add up the steps at each time, and the shares in them that tied events do not meet."""
    shares = ranges.sums_of_events(hazard * ranges.fraction) if ranges.tied else None
    return ranges.sums_of_events(hazard), shares


def _exposure(ranges: RiskRanges, steps: Floats, shares: Floats | None) -> Floats:
    """Sum the steps that each row meets while at risk, with its weight there.

    Args:
        ranges: who is at risk when.
        steps: (J,).
        shares: (J,) part of the steps that the events of a time do not meet, or None.

    Returns:
        (n,) sums.
    """
    exposure = ranges.over_range(steps)
    if shares is not None:
        exposure[ranges.events] -= shares[ranges.place]
    if ranges.tail is not None:
        tail = ranges.tail
        cumulative = np.concatenate([[0.0], np.cumsum(tail.free * steps)])
        exposure[tail.rows] += tail.inverse * (cumulative[-1] - cumulative[tail.first])
    return exposure


def mean_at_event(ranges: RiskRanges, at: Likelihood) -> Floats:
    """Return (p, E) mean covariates of each event's risk set, averaged over tied events."""
    means = sums_of_means(ranges, at, np.ones(len(ranges.place))) / ranges.counts
    return np.asarray(means[:, ranges.place])


def score_residuals(ranges: RiskRanges, x: Floats, at: Likelihood) -> Floats:
    """Return what each row adds to the score, with its case weight.

    Args:
        ranges: who is at risk when.
        x: (p, n) covariates.
        at: the likelihood.

    Returns:
        (n, p) residuals; they add up to the score.
    """
    exposure = _exposure(ranges, *_steps_and_shares(ranges, at.hazard))
    steps = sums_of_means(ranges, at, at.hazard)
    shares = sums_of_means(ranges, at, at.hazard * ranges.fraction) if ranges.tied else None
    means = mean_at_event(ranges, at)
    residuals = np.empty(x.shape)
    rows = ranges.events
    for index, row in enumerate(x):
        own_shares = None if shares is None else shares[index]
        column = at.risk * (_exposure(ranges, steps[index], own_shares) - row * exposure)
        column[rows] += row[rows] - means[index]
        residuals[index] = column * ranges.weights
    return np.asarray(residuals.T)
