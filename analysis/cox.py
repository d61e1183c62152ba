"""The Cox model: `fit_cox`, and by its side the tests and remedies for proportional hazards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import Columns, Missing, TableRefused, used_columns
from analysis.cox_fit import (
    ChiSquareTest,
    CoxFit,
    FitState,
    LogLikelihood,
    estimate_table,
    few_events,
    sandwich,
)
from analysis.cox_likelihood import Likelihood, score_residuals
from analysis.cox_solver import Maximum, Separated, find_separated, maximise
from analysis.design import Covariate, Design, as_covariates, resolve_design
from analysis.periods import split_follow_up
from analysis.proportional_hazards import proportional_hazards_test, scaled_schoenfeld
from analysis.risk_ranges import RiskRanges, Ties, risk_order, risk_ranges

__all__ = [
    "ChiSquareTest",
    "CoxFit",
    "LogLikelihood",
    "fit_cox",
    "proportional_hazards_test",
    "scaled_schoenfeld",
    "split_follow_up",
]

Floats = NDArray[np.float64]


def fit_cox(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    covariates: Sequence[str | Covariate],
    entry: str | None = None,
    strata: Sequence[str] = (),
    cluster: str | None = None,
    weights: str | None = None,
    ties: Ties = "efron",
    robust: bool = False,
    missing: Missing = "refuse",
) -> CoxFit:
    """Fit a Cox proportional hazards model.

    Args:
        table: one row a person, or a spell of a person.
        duration: column of the end of follow-up, above 0; any unit, compared exactly, so that days
            are better than rounded years.
        event: column of yes/no (bool or 0/1): whether follow-up ends with the event.
        covariates: columns of numbers or yes/no, `Category(column, reference=...)`, or splines.
        entry: column of the start of follow-up (delayed entry), at risk from just after it.
        strata: columns whose combinations have a baseline hazard each.
        cluster: column of the person or household, for errors that allow for repetition.
        weights: column of case weights, above 0. Unless all are whole numbers the errors are
            robust.
        ties: "efron" or "breslow".
        robust: errors by the sandwich of Lin and Wei, each row for itself unless `cluster`.
        missing: "refuse" rows with a missing value, or "drop" and count them.

    Returns:
        The fit; its `warnings` tell of covariates without an estimate and of fewer than 10 events
        per parameter.

    Raises:
        TableRefused: a column cannot be used, by its name with counts and example rows.
        TypeError: the covariates are no sequence of names or covariates.
        ValueError: another word for ties or missing, no covariate, or one twice.

    Source:
        Cox DR, J R Stat Soc B 1972;34:187; ties by Efron B, J Am Stat Assoc 1977;72:557 or Breslow
        N, Biometrics 1974;30:89; errors by Lin DY, Wei LJ, J Am Stat Assoc 1989;84:1074.
        R: `coxph(Surv(entry, duration, event) ~ covariates + strata(...), table, weights, ties,
        robust, cluster)`.
    """
    _check_ties(ties)
    wanted = as_covariates(covariates)
    layers = (strata,) if isinstance(strata, str) else tuple(strata)
    names = [duration, event, entry, cluster, weights, *layers, *(c.column for c in wanted)]
    columns = used_columns(table, names, missing=missing)
    exits, events = _outcome(columns, duration, event)
    case_weights = columns.weights(weights)
    design, matrix = resolve_design(wanted, columns)
    codes, labels = columns.groups(layers)
    data = _Data(
        n_dropped_missing=columns.n_dropped_missing,
        row_numbers=columns.row_numbers,
        design=design,
        x=np.ascontiguousarray(matrix.T),
        exits=exits,
        entries=columns.entries(entry, duration=duration, exits=exits),
        events=events,
        weights=case_weights,
        stratum=codes,
        strata=layers,
        stratum_labels=tuple(labels),
        clusters=None if cluster is None else columns.groups([cluster])[0],
        ties=ties,
        robust=robust or cluster is not None or not _whole(case_weights),
    )
    return _fit(data)


def _check_ties(ties: str) -> None:
    if ties not in ("efron", "breslow"):
        raise ValueError(f"ties is {ties!r}, expected 'efron' or 'breslow'")


def _outcome(columns: Columns, duration: str, event: str) -> tuple[Floats, NDArray[np.bool_]]:
    exits, events = columns.times(duration), columns.flags(event)
    if not events.any():
        raise TableRefused(f"column {event!r} has no event in {columns.n} rows, expected some")
    return exits, events


@dataclass(frozen=True, slots=True)
class _Data:
    """Checked columns; arrays of (n,), and x of (p, n)."""

    n_dropped_missing: int
    row_numbers: NDArray[np.int64]
    design: Design
    x: Floats
    exits: Floats
    entries: Floats | None
    events: NDArray[np.bool_]
    weights: Floats | None
    stratum: NDArray[np.int64]
    strata: tuple[str, ...]
    stratum_labels: tuple[object, ...]
    clusters: NDArray[np.int64] | None
    ties: Ties
    robust: bool


def _fit(data: _Data) -> CoxFit:
    separated = find_separated(data.design, data.x, data.events)
    if separated.terms.all():
        raise TableRefused("; ".join(separated.messages) + "; no covariate has an estimate")
    order = risk_order(data.exits, data.events, data.stratum)
    order = order[~separated.rows[order]] if separated.rows.any() else order
    kept = _taken(data, order, ~separated.terms)
    ranges = risk_ranges(
        kept.exits, kept.events, entries=kept.entries, stratum=kept.stratum,
        n_strata=len(kept.stratum_labels), weights=kept.weights, ties=kept.ties,
    )  # fmt: skip
    means = np.average(kept.x, axis=1, weights=kept.weights)
    x = kept.x - means[:, None]
    terms = np.array(data.design.terms)[~separated.terms]
    best = maximise(ranges, x, terms.tolist())
    covariance = best.covariance
    if kept.robust:
        influence = score_residuals(ranges, x, best.at) @ covariance
        covariance = sandwich(influence, kept.clusters)
    state = _state(data, kept, separated, ranges=ranges, x=x, means=means, at=best.at)
    return _result(data, state, best, covariance, separated.messages)


def _state(
    data: _Data,
    kept: _Data,
    separated: Separated,
    *,
    ranges: RiskRanges,
    x: Floats,
    means: Floats,
    at: Likelihood,
) -> FitState:
    return FitState(
        ranges=ranges,
        x=x,
        means=means,
        at=at,
        exits=kept.exits,
        entries=kept.entries,
        events=kept.events,
        estimated=~separated.terms,
        fixed_values=data.x[separated.terms][:, np.argmin(separated.rows)],
        strata=data.strata,
        stratum_labels=data.stratum_labels,
        clusters=kept.clusters,
        rows=kept.row_numbers,
    )


def _result(
    data: _Data, state: FitState, best: Maximum, covariance: Floats, messages: tuple[str, ...]
) -> CoxFit:
    terms = pd.Index(data.design.terms)
    size = len(terms)
    full = np.full((size, size), np.nan)
    full[np.ix_(state.estimated, state.estimated)] = covariance
    coef, model = np.full(size, np.nan), np.full(size, np.nan)
    coef[state.estimated] = best.coefficients
    model[state.estimated] = np.sqrt(np.diagonal(best.covariance))
    n_events = int(data.events.sum())
    return CoxFit(
        estimates=estimate_table(data.design.terms, coef, np.sqrt(np.diagonal(full)), model),
        covariance=pd.DataFrame(full, terms, terms),
        log_likelihood=LogLikelihood(best.log_likelihood_null, best.at.log_likelihood),
        n=len(data.exits),
        n_events=n_events,
        n_clusters=None if data.clusters is None else len(np.unique(data.clusters)),
        n_dropped_missing=data.n_dropped_missing,
        ties=data.ties,
        robust=data.robust,
        warnings=(*messages, *few_events(n_events, len(best.coefficients))),
        design=data.design,
        state=state,
    )


def _taken(data: _Data, rows: NDArray[np.int64], terms: NDArray[np.bool_]) -> _Data:
    """Take rows in a given order, and the terms that have an estimate."""

    def of(values: NDArray[Any] | None) -> Any:
        return None if values is None else values[rows]

    return replace(
        data,
        x=np.stack([values[rows] for values in data.x[terms]]),
        exits=of(data.exits),
        entries=of(data.entries),
        events=of(data.events),
        weights=of(data.weights),
        stratum=of(data.stratum),
        clusters=of(data.clusters),
        row_numbers=of(data.row_numbers),
    )


def _whole(weights: Floats | None) -> bool:
    return weights is None or bool((weights == np.round(weights)).all())
