"""Maximise the partial likelihood of the Cox model, and notice where it has no maximum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from analysis.columns import TableRefused
from analysis.cox_likelihood import Likelihood, information, likelihood, score
from analysis.design import Design, refuse_dependent
from analysis.risk_ranges import RiskRanges

Floats = NDArray[np.float64]
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
