"""Fine and Gray's model of the subdistribution hazard, without expanding rows.

A person with a competing event stays in the risk sets with the weight G(t) / G(T), the probability
to be uncensored at t given that at the time T of that event. The weight is a product of a factor
of the time and one of the person, so that running sums do what R does on expanded rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.columns import Columns, Missing, TableRefused, used_columns
from analysis.statistics.design import Covariate, Design, as_covariates, resolve_design
from analysis.statistics.survival.cox_fit import (
    LogLikelihood,
    estimate_table,
    few_events,
    prediction_times,
    refuse_unestimated,
    relative_risk,
    sandwich,
)
from analysis.statistics.survival.cox_likelihood import (
    Likelihood,
    Maximum,
    RiskRanges,
    Separated,
    Tail,
    Ties,
    find_separated,
    likelihood,
    maximise,
    risk_order,
    risk_ranges,
    score_residuals,
    sums_of_means,
)
from analysis.statistics.survival.risk_sets import CensoringCurve, censoring_curve, count_risk_sets, step_values

Floats = NDArray[np.float64]
Convention = Literal["survival", "crr"]


@dataclass(frozen=True, slots=True)
class FineGrayFit:
    """A fitted model of the subdistribution hazard.

    Attributes:
        estimates: one row per term: term, coef (log subdistribution hazard ratio), se (robust, by
            person or cluster), se_model, z, p, hr, hr_lo, hr_hi (95 %). A level without an event of
            interest is NaN and named in `warnings`; the others are those in its limit.
        covariance: (p, p) DataFrame, of `se`.
        log_likelihood: null and fitted, of the weighted partial likelihood.
        n: rows.
        n_events: events of interest.
        n_competing: competing events.
        n_clusters: clusters behind the errors, or None.
        n_dropped_missing: rows left out because a used column was missing.
        convention: "survival" or "crr".
        warnings: what a reader of the result must know; empty when all is well.
        design: the covariates, as fixed by these data.
        estimated: (p,) for each term whether it has an estimate.
        means: means of the covariates with an estimate, at which the baseline is.
        baseline: time and cumulative_hazard of the subdistribution at these means.
    """

    estimates: pd.DataFrame
    covariance: pd.DataFrame
    log_likelihood: LogLikelihood
    n: int
    n_events: int
    n_competing: int
    n_clusters: int | None
    n_dropped_missing: int
    convention: Convention
    warnings: tuple[str, ...]
    design: Design
    estimated: NDArray[np.bool_] = field(repr=False)
    fixed_values: Floats = field(repr=False)  # of each term without an estimate, in the likelihood
    means: Floats = field(repr=False)
    baseline: pd.DataFrame = field(repr=False)

    def predict_cumulative_incidence(self, table: pd.DataFrame, *, times: ArrayLike) -> pd.DataFrame:
        """Predict the probability of the event of interest by given times.

        Args:
            table: rows with the covariates, complete.
            times: times of 0 or above.

        Returns:
            row (from 0), time, cumulative_incidence; without limits: resample people for them.

        Raises:
            TableRefused: a column cannot be used, a row has a level without an estimate, or is far
                from the fit.
            ValueError: the times are negative or not finite.

        Source:
            Fine and Gray 1999, section 4. R: `1 - summary(survfit(fit, newdata), times)$surv` of
            a coxph fit to `finegray` data.
        """
        at = prediction_times(times)
        columns = used_columns(table, self.design.columns)
        matrix = self.design.matrix(columns)
        refuse_unestimated(matrix, self.estimated, self.fixed_values, columns)
        x = np.asarray(matrix[:, self.estimated] - self.means)
        risk = relative_risk(x, self.estimates["coef"].to_numpy()[self.estimated])
        hazard = step_values(
            self.baseline["time"].to_numpy(), self.baseline["cumulative_hazard"].to_numpy(), at, start=0.0
        )
        return pd.DataFrame(
            {
                "row": np.repeat(np.arange(columns.n), len(at)),
                "time": np.tile(at, columns.n),
                "cumulative_incidence": -np.expm1(-np.outer(risk, hazard)).ravel(),
            }
        )


def fit_fine_gray(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    event_of_interest: int,
    covariates: Sequence[str | Covariate],
    cluster: str | None = None,
    convention: Convention = "survival",
    causes: Sequence[int] = (1, 2),
    missing: Missing = "refuse",
) -> FineGrayFit:
    """Fit Fine and Gray's proportional subdistribution hazards model.

    For prediction. For the effect of an exposure use the cause-specific hazard ratio of `fit_cox`.

    Args:
        table: one row per person.
        duration: column of follow-up time, above 0.
        event: column of status codes, 0 for censored.
        event_of_interest: the code whose incidence is modelled; the other causes compete.
        covariates: as in `fit_cox`.
        cluster: column of households or the like; the errors are robust by row without it.
        convention: "survival" for R's survival (Efron's ties, events before censorings of the same
            time, errors as if the censoring weights were known) or "crr" for cmprsk (Breslow's
            ties, errors that include the estimation of these weights).
        causes: status codes of all events.
        missing: "refuse" rows with a missing value, or "drop" and count them.

    Returns:
        The fit.

    Raises:
        TableRefused: a column cannot be used, there is no event of interest, or no covariate has
            an estimate.
        ValueError: `event_of_interest` is no cause, or another word for convention.

    Source:
        Fine JP, Gray RJ, J Am Stat Assoc 1999;94:496. R: `coxph(Surv(fgstart, fgstop, fgstatus) ~
        covariates, finegray(...), weights = fgwt, cluster = id)`, or `cmprsk::crr`.
    """
    if convention not in ("survival", "crr"):
        raise ValueError(f"convention is {convention!r}, expected 'survival' or 'crr'")
    if event_of_interest not in causes:
        raise ValueError(f"event_of_interest is {event_of_interest}, expected one of {causes}")
    wanted = as_covariates(covariates)
    names = [duration, event, cluster, *(covariate.column for covariate in wanted)]
    columns = used_columns(table, names, missing=missing)
    exits = columns.times(duration)
    codes = columns.statuses(event, causes)
    # 1 is the event of interest and 2 any other.
    status = np.where(codes == 0, 0, np.where(codes == event_of_interest, 1, 2)).astype(np.int64)
    if not (status == 1).any():
        raise TableRefused(f"column {event!r} has no event {event_of_interest}, expected some")
    design, matrix = resolve_design(wanted, columns)
    x = np.ascontiguousarray(matrix.T)
    separated = find_separated(design, x, status == 1)
    if separated.terms.all():
        raise TableRefused("; ".join(separated.messages) + "; no covariate has an estimate")
    order = risk_order(exits, status == 1, np.zeros(columns.n, dtype=np.int64))
    estimated, kept = ~separated.terms, ~separated.rows[order]
    exits, status = exits[order], status[order]
    x = np.stack([values[order] for values in x[estimated]])
    clusters = None if cluster is None else columns.groups([cluster])[0][order]
    censoring = _censoring(exits, status, events_first=convention == "survival")
    # People of a level without events are never at the event, but their censoring counts.
    weights = kept.astype(np.float64)
    ties: Ties = "efron" if convention == "survival" else "breslow"
    ranges = _weighted_ranges(exits, status, censoring, weights, ties)
    means = np.average(x, axis=1, weights=weights)
    x = x - means[:, None]
    best = maximise(ranges, x, pd.Index(design.terms)[estimated].tolist())
    everybody = ranges if kept.all() else _weighted_ranges(exits, status, censoring, np.ones(columns.n), ties)
    null = likelihood(everybody, np.zeros((0, columns.n)), np.zeros(0)).log_likelihood
    influence = score_residuals(ranges, x, best.at)
    if convention == "crr":
        influence = influence + _influence_of_weights(ranges, x, best.at, censoring, status)
    covariance = sandwich(influence @ best.covariance, clusters)
    log_likelihood = LogLikelihood(null, best.at.log_likelihood)
    kept_values = matrix[int(np.argmin(separated.rows)), separated.terms]
    more: dict[str, Any] = {"design": design, "status": status, "clusters": clusters, "convention": convention}
    more |= {"means": means, "fixed_values": kept_values}
    return _fitted(best, covariance, log_likelihood, separated, ranges, columns, **more)


def _fitted(
    best: Maximum,
    covariance: Floats,
    log_likelihood: LogLikelihood,
    separated: Separated,
    ranges: RiskRanges,
    columns: Columns,
    *,
    design: Design,
    status: NDArray[np.int64],
    clusters: NDArray[np.int64] | None,
    convention: Convention,
    means: Floats,
    fixed_values: Floats,
) -> FineGrayFit:
    """Put a fit together; terms without an estimate are NaN."""
    terms, estimated = pd.Index(design.terms), ~separated.terms
    coef, se, se_model = (np.full(len(terms), np.nan) for _ in range(3))
    coef[estimated] = best.coefficients
    se[estimated], se_model[estimated] = (np.sqrt(np.diagonal(one)) for one in (covariance, best.covariance))
    full = np.full((len(terms), len(terms)), np.nan)
    full[np.ix_(estimated, estimated)] = covariance
    hazard = np.cumsum(ranges.sums_of_events(best.at.hazard))
    n_events = int((status == 1).sum())
    return FineGrayFit(
        estimates=estimate_table(design.terms, coef, se, se_model),
        covariance=pd.DataFrame(full, terms, terms),
        log_likelihood=log_likelihood,
        n=columns.n,
        n_events=n_events,
        n_competing=int((status == 2).sum()),
        n_clusters=None if clusters is None else len(np.unique(clusters)),
        n_dropped_missing=columns.n_dropped_missing,
        convention=convention,
        warnings=(*separated.messages, *few_events(n_events, int(estimated.sum()))),
        design=design,
        estimated=estimated,
        fixed_values=fixed_values,
        means=means,
        baseline=pd.DataFrame({"time": ranges.times, "cumulative_hazard": hazard}),
    )


@dataclass(frozen=True, slots=True)
class _Censoring:
    """The distribution G of censoring."""

    times: Floats  # (J,) distinct exit times
    place: NDArray[np.int64]  # (n,) index of each row's exit
    curve: CensoringCurve  # at each time
    free: Floats  # (J,) probability G to be uncensored just before each


def _censoring(exits: Floats, status: NDArray[np.int64], *, events_first: bool) -> _Censoring:
    sets = count_risk_sets(exits, status, n_causes=2)
    curve = censoring_curve(sets, events_first=events_first)
    return _Censoring(sets.times, sets.place, curve, np.concatenate([[1.0], curve.uncensored[:-1]]))


def _weighted_ranges(
    exits: Floats, status: NDArray[np.int64], censoring: _Censoring, weights: Floats, ties: Ties
) -> RiskRanges:
    """Return who is at risk when; after a competing event at T with the weight G(t) / G(T)."""
    none = np.zeros(len(exits), dtype=np.int64)
    ranges = risk_ranges(exits, status == 1, entries=None, stratum=none, n_strata=1, weights=weights, ties=ties)
    rows = np.flatnonzero(status == 2)
    free = censoring.free[np.searchsorted(censoring.times, ranges.times)]
    tail = Tail(rows=rows, first=ranges.stop[rows], inverse=1 / censoring.free[censoring.place[rows]], free=free)
    return replace(ranges, tail=tail)


def _influence_of_weights(
    ranges: RiskRanges, x: Floats, at: Likelihood, censoring: _Censoring, status: NDArray[np.int64]
) -> Floats:
    """Return what each row adds to the score through the estimate of the censoring distribution.

    The sum over censoring times u of q(u) / Y(u) dM(u), where M is the row's censoring martingale
    and q(u) the sum, over people with a competing event before u, of their score from u on.
    """
    tail = ranges.tail
    assert tail is not None
    size = len(censoring.times)
    from_first = np.searchsorted(ranges.times, censoring.times, side="left")
    before = censoring.place[tail.rows]
    carried = ranges.weights[tail.rows] * at.risk[tail.rows] * tail.inverse
    steps = tail.free * ranges.sums_of_events(at.hazard)
    means = sums_of_means(ranges, at, at.hazard)
    influence = np.empty(x.shape)
    total = _sum_before(before, carried, size)
    hazard_from = _sum_from(steps)[from_first]
    for index, row in enumerate(x):
        mean_from = _sum_from(tail.free * means[index])
        own = _sum_before(before, carried * row[tail.rows], size)
        pull = own * hazard_from - total * mean_from[from_first]
        n_at_risk = censoring.curve.n_at_risk
        per_person = np.divide(pull, n_at_risk, out=np.zeros(size), where=n_at_risk > 0)
        compensator = np.cumsum(per_person * censoring.curve.hazard)
        column = -compensator[censoring.place]
        censored = status == 0
        column[censored] += per_person[censoring.place[censored]]
        influence[index] = column
    return np.asarray(influence.T)


def _sum_before(place: NDArray[np.int64], values: Floats, size: int) -> Floats:
    """Sum over the rows whose place is before each index."""
    sums = np.cumsum(np.bincount(place, values, size))
    return np.concatenate([[0.0], sums[:-1]])


def _sum_from(steps: Floats) -> Floats:
    """Sum the steps from each index on; 0 beyond the last."""
    return np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
