"""The checked rows of a Cox model, and the fit to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import Columns, Missing, TableRefused, used_columns
from analysis.cox_fit import CoxFit, FitState, LogLikelihood, estimate_table, few_events, sandwich
from analysis.cox_likelihood import Likelihood, score_residuals
from analysis.cox_solver import Maximum, Separated, find_separated, maximise
from analysis.design import Covariate, Design, as_covariates, resolve_design
from analysis.risk_ranges import RiskRanges, Ties, risk_order, risk_ranges

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CoxRows:
    """Checked columns of the rows of a Cox model.

    Attributes:
        n_dropped_missing: rows left out because a used column was missing.
        row_numbers: (n,) of the table.
        design: of the covariates.
        x: (p, n) covariates.
        exits: (n,) end of follow-up.
        entries: (n,) start of follow-up, or None.
        events: (n,) whether it ends with the event.
        weights: (n,) case weights, or None.
        stratum: (n,) codes.
        strata: columns that make strata.
        stratum_labels: of each code.
        clusters: (n,) codes of people or households, or None.
        ties: "efron" or "breslow".
        robust: whether errors are by the sandwich.
    """

    n_dropped_missing: int
    row_numbers: Integers
    design: Design
    x: Floats
    exits: Floats
    entries: Floats | None
    events: NDArray[np.bool_]
    weights: Floats | None
    stratum: Integers
    strata: tuple[str, ...]
    stratum_labels: tuple[object, ...]
    clusters: Integers | None
    ties: Ties
    robust: bool

    def in_risk_order(self) -> CoxRows:
        """Return the same rows as risk sets need them: by stratum, exit, events first."""
        return self.taken(risk_order(self.exits, self.events, self.stratum))

    def taken(self, rows: Integers, terms: NDArray[np.bool_] | None = None) -> CoxRows:
        """Return some rows, in the order given, and some terms of x."""

        def of(values: NDArray[Any] | None) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            x=np.stack([values[rows] for values in (self.x if terms is None else self.x[terms])]),
            exits=of(self.exits),
            entries=of(self.entries),
            events=of(self.events),
            weights=of(self.weights),
            stratum=of(self.stratum),
            clusters=of(self.clusters),
            row_numbers=of(self.row_numbers),
        )


def checked_rows(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    covariates: Sequence[str | Covariate],
    entry: str | None,
    strata: Sequence[str],
    cluster: str | None,
    weights: str | None,
    ties: Ties,
    robust: bool,
    missing: Missing,
) -> CoxRows:
    """Check the columns of a Cox model; arguments as in `fit_cox`.

    Raises:
        TableRefused: a column cannot be used, by its name with counts and example rows.
        TypeError: the covariates are no sequence of names or covariates.
        ValueError: another word for ties or missing, no covariate, or one twice.
    """
    if ties not in ("efron", "breslow"):
        raise ValueError(f"ties is {ties!r}, expected 'efron' or 'breslow'")
    wanted = as_covariates(covariates)
    layers = (strata,) if isinstance(strata, str) else tuple(strata)
    names = [duration, event, entry, cluster, weights, *layers, *(c.column for c in wanted)]
    columns = used_columns(table, names, missing=missing)
    exits, events = _outcome(columns, duration, event)
    case_weights = columns.weights(weights)
    design, matrix = resolve_design(wanted, columns)
    codes, labels = columns.groups(layers)
    return CoxRows(
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


def _outcome(columns: Columns, duration: str, event: str) -> tuple[Floats, NDArray[np.bool_]]:
    exits, events = columns.times(duration), columns.flags(event)
    if not events.any():
        raise TableRefused(f"column {event!r} has no event in {columns.n} rows, expected some")
    return exits, events


def fit_rows(data: CoxRows) -> CoxFit:
    """Fit a Cox model to rows in risk order.

    Args:
        data: of `CoxRows.in_risk_order`.

    Returns:
        The fit, as of `fit_cox`.

    Raises:
        TableRefused: no covariate has an estimate, or the likelihood has no maximum.
    """
    separated = find_separated(data.design, data.x, data.events)
    if separated.terms.all():
        raise TableRefused("; ".join(separated.messages) + "; no covariate has an estimate")
    kept = data
    if separated.terms.any():
        kept = data.taken(np.flatnonzero(~separated.rows), ~separated.terms)
    ranges = risk_ranges(
        kept.exits,
        kept.events,
        entries=kept.entries,
        stratum=kept.stratum,
        n_strata=len(kept.stratum_labels),
        weights=kept.weights,
        ties=kept.ties,
    )
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
    data: CoxRows, kept: CoxRows, separated: Separated, *, ranges: RiskRanges, x: Floats, means: Floats, at: Likelihood
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


def _result(data: CoxRows, state: FitState, best: Maximum, covariance: Floats, messages: tuple[str, ...]) -> CoxFit:
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


def _whole(weights: Floats | None) -> bool:
    return weights is None or bool((weights == np.round(weights)).all())
