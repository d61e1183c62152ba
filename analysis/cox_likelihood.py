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
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Ties = Literal["efron", "breslow"]
_PIECE: Final = 8192


@dataclass(frozen=True, slots=True)
class Tail:
    """Rows that stay in the risk sets after their own competing event (Fine and Gray).

    Such a row has the weight `free[time] / free_at_exit` at each event time after its exit.

    Attributes:
        rows: (m,) rows with a competing event.
        first: (m,) index of the first event time after the exit of each.
        inverse: (m,) 1 / probability to be uncensored just before the exit of each.
        free: (J,) probability to be uncensored just before each event time.
    """

    rows: Integers
    first: Integers
    inverse: Floats
    free: Floats


@dataclass(frozen=True, slots=True)
class RiskRanges:
    """When each row is at risk, in terms of the distinct event times of its stratum.

    Attributes:
        times: (J,) distinct event times, ascending within each stratum, strata after each other.
        strata_ends: (S + 1,) where the times of each stratum begin; the last is J.
        stratum: (n,) codes.
        first, stop: (n,) the row is at risk at times[first:stop].
        events: (E,) rows with an event, ordered by event time.
        place: (E,) index of the event time of each.
        fraction: (E,) share of the tied events that is taken off the risk set (Efron); all 0 under
            Breslow.
        weights: (n,) case weights.
        mean_weight: (E,) mean weight of the events tied with each.
        tail: rows that remain at risk with a weight, or None.
        delayed: whether any row enters after the first event time of its stratum.
    """

    times: Floats
    strata_ends: Integers
    stratum: Integers
    first: Integers
    stop: Integers
    events: Integers
    place: Integers
    fraction: Floats
    weights: Floats
    mean_weight: Floats
    tail: Tail | None
    delayed: bool

    @property
    def tied(self) -> bool:
        """Whether tied events share the risk set, which only Efron's method lets them."""
        return bool(self.fraction.any())

    @property
    def n_times(self) -> int:
        """Number of distinct event times over all strata."""
        return len(self.times)

    def sums_at_risk(self, values: Floats) -> Floats:
        """Sum values over the risk set at every event time.

        Args:
            values: (n,) one number a row.

        Returns:
            (J,) sums.
        """
        remaining = self._beyond(self.stop, values)
        return remaining - self._beyond(self.first, values) if self.delayed else remaining

    def _beyond(self, bounds: Integers, values: Floats) -> Floats:
        """Sum within each stratum over the rows whose bound lies after each time."""
        # One more slot for each stratum: its end must not be the begin of the next.
        slots = bounds + self.stratum if len(self.strata_ends) > 2 else bounds
        collected = np.bincount(slots, values, self.n_times + len(self.strata_ends) - 1)
        sums = np.empty(self.n_times)
        bounds_of_strata = zip(self.strata_ends[:-1], self.strata_ends[1:], strict=True)
        for code, (begin, end) in enumerate(bounds_of_strata):
            own = collected[begin + code + 1 : end + code + 1]
            sums[begin:end] = np.cumsum(own[::-1])[::-1]
        return sums

    def sums_of_events(self, values: Floats) -> Floats:
        """Sum values of the events, given in their order, at each event time."""
        return np.asarray(np.bincount(self.place, values, self.n_times), dtype=np.float64)

    def over_range(self, steps: Floats) -> Floats:
        """Sum steps at the event times at which each row is at risk.

        Args:
            steps: (J,) one number an event time.

        Returns:
            (n,) sums; rows of a competing event beyond their exit are not included.
        """
        cumulative = np.concatenate([[0.0], np.cumsum(steps)])
        return np.asarray(cumulative[self.stop] - cumulative[self.first])


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
    """Find the event times and where each row is at risk.

    Args:
        exits: (n,) end of follow-up.
        events: (n,) whether it is an event.
        entries: (n,) start of follow-up, or None; a row is at risk over (entry, exit].
        stratum: (n,) codes from 0.
        n_strata: number of codes.
        weights: (n,) case weights, or None.
        ties: "efron" or "breslow".

    Returns:
        The ranges.
    """
    weight = np.ones(len(exits)) if weights is None else weights
    rows = np.flatnonzero(events)
    rows = rows[np.lexsort((exits[rows], stratum[rows]))]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = (np.diff(exits[rows]) > 0) | (np.diff(stratum[rows]) > 0)
    place = np.cumsum(new) - 1
    times = exits[rows][new]
    ends = np.searchsorted(stratum[rows][new], np.arange(n_strata + 1))
    stop = _places(times, ends, stratum, exits)
    first = ends[stratum] if entries is None else _places(times, ends, stratum, entries)
    counts = np.bincount(place)
    rank = np.arange(len(rows)) - np.flatnonzero(new)[place]
    fraction = rank / counts[place] if ties == "efron" else np.zeros(len(rows))
    mean_weight = (np.bincount(place, weight[rows]) / counts)[place]
    delayed = entries is not None and bool((first > ends[stratum]).any())
    return RiskRanges(
        times, ends.astype(np.int64), stratum, first, stop, rows, place, fraction, weight,
        mean_weight, None, delayed,
    )  # fmt: skip


def _places(times: Floats, ends: Integers, stratum: Integers, values: Floats) -> Integers:
    """Index of the first event time of the own stratum that is later than each value."""
    if len(ends) == 2:
        return np.searchsorted(times, values, side="right").astype(np.int64)
    order = np.argsort(stratum, kind="stable")
    bounds = np.searchsorted(stratum[order], np.arange(len(ends)))
    found = np.empty(len(values), dtype=np.int64)
    for code in range(len(ends) - 1):
        rows = order[bounds[code] : bounds[code + 1]]
        own = times[ends[code] : ends[code + 1]]
        found[rows] = ends[code] + np.searchsorted(own, values[rows], side="right")
    return found


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
    risk_sum = _at_risk(ranges, weighted)[ranges.place]
    events = weighted[ranges.events]
    sums = np.empty((len(x), ranges.n_times))
    tied_sums = np.empty_like(sums) if ranges.tied else None
    if tied_sums is not None:
        risk_sum = risk_sum - ranges.fraction * ranges.sums_of_events(events)[ranges.place]
    product = np.empty_like(weighted)
    for index, row in enumerate(x):
        np.multiply(weighted, row, out=product)
        sums[index] = _at_risk(ranges, product)
        if tied_sums is not None:
            tied_sums[index] = ranges.sums_of_events(product[ranges.events])
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


def _at_risk(ranges: RiskRanges, values: Floats) -> Floats:
    """Sums over the whole risk set at each event time."""
    total = ranges.sums_at_risk(values)
    if ranges.tail is None:
        return total
    tail = ranges.tail
    late = np.bincount(tail.first, values[tail.rows] * tail.inverse, ranges.n_times + 1)
    return np.asarray(total + tail.free * np.cumsum(late[:-1]))


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


def information(
    ranges: RiskRanges, x: Floats, at: Likelihood, steps: Floats | None = None
) -> Floats:
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
    counts = np.bincount(ranges.place)
    means = sums_of_means(ranges, at, np.ones(len(ranges.place))) / counts
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
