"""The partial likelihood of the Cox model: risk sets, score, information and residuals.

Everything is a sum over pairs of an event time and, under Efron, the place among its tied events;
a row meets the times through the range at which it is at risk. So each evaluation takes
O(n p + events p^2) operations beside one matrix product, for any number of strata and entries.

Source: Cox DR, J R Stat Soc B 1972;34:187. Ties: Efron B, J Am Stat Assoc 1977;72:557; Breslow N,
Biometrics 1974;30:89. Score residuals: Therneau, Grambsch, Fleming, Biometrika 1990;77:147; Lin,
Wei, J Am Stat Assoc 1989;84:1074.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Design, refuse_dependent
from analysis.statistics.survival.risk_sets import RiskRanges

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


_MAX_STEPS: Final = 50
_MAX_HALVINGS: Final = 30
# Twice the gain that is left in the log-likelihood; the error that remains is of its square.
_DECREMENT: Final = 1e-10
# Where the likelihood has flattened but a coefficient still moves by this many standard
# deviations of its covariate a step, it moves without end.
_MOVING: Final = 0.1
_FLAT_GAIN: Final = 1e-6
_SHORTER: Final = 0.5
_VANISHED: Final = 1e-15
_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Maximum:
    """The maximum of a partial likelihood.

    Attributes:
        coefficients: (p,) for the covariates as given.
        covariance: (p, p) inverse of the information.
        log_likelihood_null: at coefficients of 0.
        at: the likelihood at the maximum, for the covariates as given.
    """

    coefficients: Floats
    covariance: Floats
    log_likelihood_null: float
    at: Likelihood


def maximise(ranges: RiskRanges, x: Floats, terms: Sequence[str]) -> Maximum:
    """Maximise the partial likelihood by Newton's method with halved steps.

    Args:
        ranges: who is at risk when.
        x: (p, n) covariates, centred; of any scale.
        terms: the p names.

    Returns:
        The maximum, to the precision of the arithmetic.

    Raises:
        TableRefused: the covariates are dependent in the risk sets, or the likelihood grows
            without end along one of them, or has no maximum after 50 steps.
    """
    scale = x.std(axis=1)
    scale[scale == 0] = 1.0
    unit = x / scale[:, None]
    coefficients = np.zeros(len(x))
    at = likelihood(ranges, unit, coefficients)
    null = at.log_likelihood
    matrix = information(ranges, unit, at)
    refuse_dependent(matrix, terms)
    before = np.inf
    for _ in range(_MAX_STEPS):
        gradient = score(ranges, unit, at)
        step = linalg.lstsq(matrix, gradient)[0]
        moved, gained = _move(ranges, unit, coefficients, step, at)
        with np.errstate(over="ignore", invalid="ignore"):
            matrix = information(ranges, unit, gained)
        length = np.abs(moved - coefficients).max()
        flat = abs(gained.log_likelihood - at.log_likelihood) < _FLAT_GAIN
        # On the way to a maximum each step is far shorter than the last; an endless one is not.
        if (flat and length > _SHORTER * before) or not np.isfinite(matrix).all():
            _refuse_endless(np.abs(moved - coefficients) > _MOVING, terms)
        coefficients, at, before = moved, gained, length
        if gradient @ step < _DECREMENT:
            break
    else:
        # Numbers run out before the likelihood flattens, as R then "ran out of iterations".
        _refuse_endless(np.abs(coefficients) >= _SHARE * np.abs(coefficients).max(), terms)
    covariance = _inverse(matrix, terms) / np.outer(scale, scale)
    tied = None if at.tied_sums is None else at.tied_sums * scale[:, None]
    at = replace(at, sums=at.sums * scale[:, None], tied_sums=tied)
    return Maximum(coefficients / scale, covariance, null, at)


def _refuse_endless(moving: NDArray[np.bool_], terms: Sequence[str]) -> None:
    if moving.any():
        names = ", ".join(repr(term) for term, endless in zip(terms, moving, strict=True) if endless)
        raise TableRefused(
            f"covariate {names} separates rows with an event from the others at risk, so that its "
            "coefficient grows without end and has no estimate: leave it out, or group its values"
        )


def _inverse(information_matrix: Floats, terms: Sequence[str]) -> Floats:
    """Invert the information, unless it has vanished along a direction that has no maximum."""
    values, vectors = linalg.eigh(information_matrix)
    if values[0] <= _VANISHED * max(values[-1], 1.0):
        _refuse_endless(np.abs(vectors[:, 0]) > _SHARE, terms)
    return np.asarray((vectors / values) @ vectors.T)


def _move(
    ranges: RiskRanges, x: Floats, coefficients: Floats, step: Floats, at: Likelihood
) -> tuple[Floats, Likelihood]:
    """Go along the step, half as far as long as the likelihood falls."""
    slack = 1e-12 * abs(at.log_likelihood)
    for _ in range(_MAX_HALVINGS):
        moved = coefficients + step
        # Too far, and numbers run out: the step is halved.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            there = likelihood(ranges, x, moved)
        if np.isfinite(there.log_likelihood) and there.log_likelihood >= at.log_likelihood - slack:
            return moved, there
        step = step / 2
    return coefficients, at


@dataclass(frozen=True, slots=True)
class Separated:
    """Terms without events on one side, which have no estimate.

    Attributes:
        terms: (p,) bool.
        rows: (n,) bool, the people on that side: the others' likelihood does not depend on them.
        messages: one for each term, naming it and the count of people.
    """

    terms: NDArray[np.bool_]
    rows: NDArray[np.bool_]
    messages: tuple[str, ...]


def find_separated(design: Design, x: Floats, events: NDArray[np.bool_]) -> Separated:
    """Find yes/no covariates and levels of categories without events on one side.

    In the limit of an infinite coefficient the people on that side leave the risk sets, and the
    other coefficients are estimated without them.

    Args:
        design: names and groups of the terms.
        x: (p, n) covariates.
        events: (n,).

    Returns:
        Terms, rows and messages; empty where every side has events.

    Raises:
        TableRefused: the reference of a category has no events, so that no level can be compared.
    """
    _refuse_reference_without_events(design, x, events)
    terms = np.zeros(len(x), dtype=bool)
    rows = np.zeros(x.shape[1], dtype=bool)
    messages: list[str] = []
    binary = [i for i, values in enumerate(x) if ((values == 0.0) | (values == 1.0)).all()]
    again = True
    while again:
        again = False
        for index in binary:
            for side in (1.0, 0.0):
                people = (x[index] == side) & ~rows
                if not terms[index] and people.any() and not (people & events).any():
                    terms[index] = again = True
                    rows |= people
                    messages.append(
                        f"covariate {design.terms[index]!r}: none of the {people.sum()} rows with "
                        f"the value {side:g} has an event, so that the hazard ratio has no "
                        "estimate, and they are left out of the likelihood"
                    )
    return Separated(terms, rows, tuple(messages))


def _refuse_reference_without_events(design: Design, x: Floats, events: NDArray[np.bool_]) -> None:
    for covariate, (name, places) in zip(design.covariates, design.groups, strict=True):
        reference = getattr(covariate, "reference", None)
        if reference is None:
            continue
        people = ~x[list(places)].any(axis=0)
        if not (people & events).any():
            raise TableRefused(
                f"covariate {name!r}: none of the {people.sum()} rows with the reference "
                f"{reference!r} has an event, so that no level can be compared with it: choose a "
                "reference with events"
            )
