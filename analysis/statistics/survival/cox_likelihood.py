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
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Design, refuse_dependent

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Ties = Literal["efron", "breslow"]

_PIECE: Final = 8192
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
class Tail:
    """Rows that stay in the risk sets after their own competing event (Fine and Gray).

    Such a row has the weight `free[time] * inverse` at each event time after its exit.
    """

    rows: Integers  # (m,) rows with a competing event
    first: Integers  # (m,) index of the first event time after the exit of each
    inverse: Floats  # (m,) 1 / probability to be uncensored just before the exit of each
    free: Floats  # (J,) probability to be uncensored just before each event time


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Consecutive rows that are added up together.

    For each stratum those who leave before its first event; then for each event time its events,
    and the others who leave before the next event time.
    """

    begins: Integers  # (S + 2 J,) first row of each piece; those beyond the last row are left out
    empty: Integers  # pieces without rows
    of_events: Integers  # (J,) piece of the events of each time; that of the others follows
    size: int  # S + 2 J


@dataclass(frozen=True, slots=True)
class RiskRanges:
    """When each row is at risk."""

    # (J,) distinct event times, ascending within each stratum, strata after each other
    times: Floats
    strata_ends: Integers  # (S + 1,) where the times of each stratum begin; the last is J
    stratum: Integers  # (n,) codes
    first: Integers  # (n,) index of the first event time at which the row is at risk
    stop: Integers  # (n,) index just beyond its last one
    events: Integers  # (E,) rows with an event, ordered by event time
    place: Integers  # (E,) index of the event time of each
    begins: Integers  # (J,) index in `events` of the first event of each time
    counts: Integers  # (J,) events at each time
    # (E,) share of the tied events that is taken off the risk set (Efron); all 0 under Breslow
    fraction: Floats
    tied: bool  # whether any share is not 0
    weights: Floats  # (n,) case weights
    mean_weight: Floats  # (E,) mean weight of the events tied with each
    pieces: _Pieces  # rows that are added up together
    delayed: bool  # whether any row enters after the first event time of its stratum
    tail: Tail | None = None  # rows that remain at risk with a weight, or None

    def sums(self, values: Floats) -> tuple[Floats, Floats]:
        """Sum (n,) values over those at risk, with their weight there, and over the events."""
        parts = np.zeros(self.pieces.size)
        begins = self.pieces.begins
        parts[: len(begins)] = np.add.reduceat(values, begins)
        parts[self.pieces.empty] = 0.0
        of_events = parts[self.pieces.of_events]
        at_risk = self._from_here_on(of_events + parts[self.pieces.of_events + 1])
        if self.delayed:
            at_risk -= self._entering_later(values)
        if self.tail is not None:
            tail = self.tail
            late = np.bincount(tail.first, values[tail.rows] * tail.inverse, len(self.times) + 1)
            at_risk += tail.free * np.cumsum(late[:-1])
        return at_risk, of_events

    def _from_here_on(self, steps: Floats) -> Floats:
        sums = np.empty(len(steps))
        for begin, end in zip(self.strata_ends[:-1], self.strata_ends[1:], strict=True):
            sums[begin:end] = np.cumsum(steps[begin:end][::-1])[::-1]
        return sums

    def _entering_later(self, values: Floats) -> Floats:
        """Sum within each stratum over the rows that enter at each event time or later."""
        # One more slot for each stratum: its end must not be the begin of the next.
        slots = self.first + self.stratum
        collected = np.bincount(slots, values, len(self.times) + len(self.strata_ends) - 1)
        sums = np.empty(len(self.times))
        bounds = zip(self.strata_ends[:-1], self.strata_ends[1:], strict=True)
        for code, (begin, end) in enumerate(bounds):
            own = collected[begin + code + 1 : end + code + 1]
            sums[begin:end] = np.cumsum(own[::-1])[::-1]
        return sums

    def sums_of_events(self, values: Floats) -> Floats:
        """Sum (E,) values of the events, in their order, at each event time."""
        return np.add.reduceat(values, self.begins)

    def over_range(self, steps: Floats) -> Floats:
        """Sum the (J,) steps at which each row is at risk, without those met in the tail."""
        cumulative = np.concatenate([[0.0], np.cumsum(steps)])
        return np.asarray(cumulative[self.stop] - cumulative[self.first])


def risk_order(exits: Floats, events: NDArray[np.bool_], stratum: Integers) -> Integers:
    """Return the order of rows that `risk_ranges` needs: by stratum, exit, events first."""
    order = np.concatenate([np.flatnonzero(events), np.flatnonzero(~events)])
    order = order[np.argsort(exits[order], kind="stable")]
    return order[np.argsort(stratum[order], kind="stable")] if stratum.any() else order


def risk_ranges(
    exits: Floats,
    events: NDArray[np.bool_],
    *,
    entries: Floats | None,
    stratum: Integers,
    n_strata: int,
    weights: Floats | None,
    ties: Ties,
) -> RiskRanges:
    """Find the event times, and when each row is at risk, which is over (entry, exit].

    All arrays are (n,) and in `risk_order`. There is at least one event; strata are coded from 0.
    """
    rows = np.flatnonzero(events)
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(exits[rows]) != 0) | (np.diff(stratum[rows]) != 0)
    begins = np.flatnonzero(new)
    counts = np.diff(begins, append=len(rows))
    place = np.cumsum(new) - 1
    times = exits[rows[begins]]
    strata_ends = np.searchsorted(stratum[rows[begins]], np.arange(n_strata + 1))
    reached = np.cumsum(np.bincount(rows[begins], minlength=len(exits)))
    first = strata_ends[stratum]
    if entries is not None:
        first = _first_after(times, strata_ends, stratum, entries)
    fraction = (np.arange(len(rows)) - begins[place]) / counts[place] * (ties == "efron")
    weight = np.ones(len(exits)) if weights is None else weights
    return RiskRanges(
        times=times,
        strata_ends=strata_ends,
        stratum=stratum,
        first=first,
        stop=np.maximum(reached, strata_ends[stratum]),
        events=rows,
        place=place,
        begins=begins,
        counts=counts,
        fraction=fraction,
        tied=bool(fraction.any()),
        weights=weight,
        mean_weight=(np.add.reduceat(weight[rows], begins) / counts)[place],
        pieces=_pieces(rows[begins], counts, stratum, strata_ends),
        delayed=bool((first > strata_ends[stratum]).any()),
    )


def _pieces(first_events: Integers, counts: Integers, stratum: Integers, strata_ends: Integers) -> _Pieces:
    n_strata, n_times = len(strata_ends) - 1, len(counts)
    size = n_strata + 2 * n_times
    of_events = np.arange(n_times) * 2 + stratum[first_events] + 1
    begins = np.empty(size, dtype=np.int64)
    begins[np.arange(n_strata) + 2 * strata_ends[:-1]] = np.searchsorted(stratum, np.arange(n_strata))
    begins[of_events] = first_events
    begins[of_events + 1] = first_events + counts
    empty = np.flatnonzero(np.diff(begins, append=len(stratum)) == 0)
    return _Pieces(begins[begins < len(stratum)], empty, of_events, size)


def _first_after(times: Floats, strata_ends: Integers, stratum: Integers, values: Floats) -> Integers:
    """Return the index of the first event time of the own stratum that is later than each value."""
    bounds = np.searchsorted(stratum, np.arange(len(strata_ends)))
    found = np.empty(len(values), dtype=np.int64)
    for code in range(len(strata_ends) - 1):
        rows = slice(bounds[code], bounds[code + 1])
        own = times[strata_ends[code] : strata_ends[code + 1]]
        found[rows] = strata_ends[code] + np.searchsorted(own, values[rows], side="right")
    return found


@dataclass(frozen=True, slots=True)
class Likelihood:
    """The partial likelihood and what derives from it, at one set of coefficients."""

    log_likelihood: float  # its logarithm
    risk: Floats  # (n,) exp(linear predictor)
    risk_sum: Floats  # (E,) weighted risk sum at each event, less Efron's share of the tied events
    hazard: Floats  # (E,) step of the baseline hazard for each event: mean weight over risk sum
    sums: Floats  # (p, J) sums of the covariates over the risk sets, with weights and risks
    # (p, J) the same over the events of each time, or None where none share
    tied_sums: Floats | None


def likelihood(ranges: RiskRanges, x: Floats, coefficients: Floats) -> Likelihood:
    """Evaluate the partial likelihood of (p, n) centred covariates."""
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
    """Sum (E,) factors times the mean covariates of each event's risk set at each time: (p, J)."""
    shares = factors / at.risk_sum
    total = at.sums * ranges.sums_of_events(shares)
    if at.tied_sums is not None:
        total -= at.tied_sums * ranges.sums_of_events(shares * ranges.fraction)
    return np.asarray(total)


def score(ranges: RiskRanges, x: Floats, at: Likelihood, steps: Floats | None = None) -> Floats:
    """Return the (p,) derivative of the log-likelihood.

    For time-dependent effects `steps` has a factor of the covariates at each event time, (J,).
    """
    factor = 1.0 if steps is None else steps[ranges.place]
    own = np.zeros(x.shape[1])
    own[ranges.events] = ranges.weights[ranges.events] * factor
    means = sums_of_means(ranges, at, ranges.mean_weight * factor)
    return np.asarray(x @ own - means.sum(axis=1))


def information(ranges: RiskRanges, x: Floats, at: Likelihood, steps: Floats | None = None) -> Floats:
    """Return minus the second derivative of the log-likelihood, (p, p).

    It is the sum over events of the covariance of the covariates in the risk set. For
    time-dependent effects `steps` has a factor of that covariance at each event time, (J,).
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
    """Sum the (J,) steps that each row meets while at risk, with its weight there.

    `shares` is the part of the steps that the events of a time do not meet, or None.
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
    """Return the (p, E) mean covariates of each event's risk set, averaged over tied events."""
    means = sums_of_means(ranges, at, np.ones(len(ranges.place))) / ranges.counts
    return np.asarray(means[:, ranges.place])


def score_residuals(ranges: RiskRanges, x: Floats, at: Likelihood) -> Floats:
    """Return what each row adds to the score, with its case weight: (n, p)."""
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


@dataclass(frozen=True, slots=True)
class Maximum:
    """The maximum of a partial likelihood."""

    coefficients: Floats  # (p,) for the covariates as given
    covariance: Floats  # (p, p) inverse of the information
    log_likelihood_null: float  # at coefficients of 0
    at: Likelihood  # the likelihood at the maximum, for the covariates as given


def maximise(ranges: RiskRanges, x: Floats, terms: Sequence[str]) -> Maximum:
    """Maximise the partial likelihood of (p, n) centred covariates by Newton's method.

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
    """Terms without events on one side, which have no estimate."""

    terms: NDArray[np.bool_]  # (p,) bool
    # (n,) bool, the people on that side: the others' likelihood does not depend on them
    rows: NDArray[np.bool_]
    messages: tuple[str, ...]  # one for each term, naming it and the count of people


def find_separated(design: Design, x: Floats, events: NDArray[np.bool_]) -> Separated:
    """Find yes/no covariates and levels of categories without events on one side.

    In the limit of an infinite coefficient the people on that side leave the risk sets, and the
    other coefficients are estimated without them. The reference of several levels is refused
    without events.
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
        if reference is None or len(places) == 1:  # of two levels the other has no estimate either
            continue
        people = ~x[list(places)].any(axis=0)
        if not (people & events).any():
            raise TableRefused(
                f"covariate {name!r}: none of the {people.sum()} rows with the reference "
                f"{reference!r} has an event, so that no level can be compared with it: choose a "
                "reference with events"
            )
