"""The Cox model: `fit_cox`, and by its side the tests and remedies for proportional hazards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.columns import Columns, Missing, TableRefused, used_columns
from analysis.statistics.design import Covariate, Design, as_covariates, resolve_design
from analysis.statistics.survival.cox_fit import (
    ChiSquareTest,
    CoxFit,
    FitState,
    LogLikelihood,
    estimate_table,
    few_events,
    sandwich,
)
from analysis.statistics.survival.cox_likelihood import (
    Likelihood,
    Maximum,
    Separated,
    find_separated,
    maximise,
    score_residuals,
)
from analysis.statistics.survival.proportional_hazards import proportional_hazards_test, scaled_schoenfeld
from analysis.statistics.survival.risk_sets import RiskRanges, Ties, risk_order, risk_ranges

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


@dataclass(frozen=True, slots=True)
class CoxSamples:
    """A Cox model to be fitted again and again, as a bootstrap does.

    Attributes:
        rows: of the whole table, in risk order.
    """

    rows: CoxRows

    @classmethod
    def of(
        cls,
        table: pd.DataFrame,
        *,
        duration: str,
        event: str,
        covariates: Sequence[str | Covariate],
        entry: str | None = None,
        strata: Sequence[str] = (),
    ) -> CoxSamples:
        """Check a table; arguments as in `analysis.statistics.survival.cox.fit_cox`.

        Raises:
            TableRefused: a column cannot be used, by its name with counts and example rows.
        """
        rows = checked_rows(
            table,
            duration=duration,
            event=event,
            covariates=covariates,
            entry=entry,
            strata=strata,
            cluster=None,
            weights=None,
            ties="efron",
            robust=False,
            missing="refuse",
        )
        return cls(rows.in_risk_order())

    def repeated(self, drawn: Integers) -> CoxFit:
        """Fit to the table in which each row stands as often as it was drawn.

        Args:
            drawn: (n,) how often each row of the table was drawn.

        Returns:
            What `fit_cox` returns for such a table.

        Raises:
            TableRefused: the model cannot be fitted to these rows.
        """
        times = drawn[self.rows.row_numbers]
        return _fit(self.rows.taken(np.repeat(np.arange(len(times)), times)))

    def weighted(self, drawn: Integers, first: Floats | None = None) -> CoxFit:
        """Fit to the rows that were drawn, weighted by how often.

        Args:
            drawn: (n,) how often each row of the table was drawn.
            first: (n,) values for the first covariate in place of its own, by row of the table.

        Returns:
            What `fit_cox` with these weights returns.

        Raises:
            TableRefused: the model cannot be fitted to these rows.
        """
        times = drawn[self.rows.row_numbers]
        kept = np.flatnonzero(times)
        sample = replace(self.rows.taken(kept), weights=times[kept].astype(np.float64))
        if first is not None:
            sample.x[0] = first[sample.row_numbers]
        return _fit(sample)


def _fit(sample: CoxRows) -> CoxFit:
    """Fit, unless a covariate has one value only or nobody has the event, as `fit_cox` refuses."""
    if not sample.events.any():
        raise TableRefused("the sample has no event, expected some")
    constant = sample.x.min(axis=1) == sample.x.max(axis=1)
    if constant.any():
        name = sample.design.terms[int(np.flatnonzero(constant)[0])]
        raise TableRefused(f"covariate {name!r} is constant in the sample, expected two values")
    return fit_rows(sample)


def split_follow_up(
    table: pd.DataFrame,
    *,
    cuts: Sequence[float],
    duration: str,
    event: str,
    entry: str | None = None,
    entry_name: str = "entry",
    period_name: str = "period",
) -> pd.DataFrame:
    """Cut each row's follow-up at given times, one row a period in which it is followed.

    A fit with `entry=entry_name` on the result equals the fit on the table; with the period as a
    factor of a covariate it has one hazard ratio for each period. Errors by person need `cluster`
    only where a person has several rows to begin with.

    Args:
        table: one row a person or a spell.
        cuts: times at which periods end, each above 0, ascending; they belong to the period that
            they end.
        duration: column of the end of follow-up, above 0.
        event: column of yes/no.
        entry: column of the start of follow-up; from 0 without it.
        entry_name: name of the column of starts in the result; an existing one is replaced only
            when it is `entry`.
        period_name: name of the new column of periods, counted from 1.

    Returns:
        The table's columns with the ends, events and starts of the pieces, and the period; the
        index repeats that of the table.

    Raises:
        TableRefused: a time or an event cannot be used.
        ValueError: the cuts are not ascending and above 0, or a new name exists already.

    Source:
        R: `survival::survSplit(Surv(entry, duration, event) ~ ., table, cut = cuts)`.
    """
    bounds = np.asarray(cuts, dtype=np.float64)
    if bounds.ndim != 1 or not len(bounds) or (np.diff(bounds, prepend=0.0) <= 0).any():
        raise ValueError(f"cuts are {list(cuts)}, expected ascending times above 0")
    entry_name = entry or entry_name
    taken = [n for n in (entry_name, period_name) if n in table.columns and n != entry]
    if taken:
        raise ValueError(f"column {taken[0]!r} exists; pass another entry_name or period_name")
    columns = used_columns(table, [duration, event, entry])
    exits = columns.times(duration)
    events = columns.flags(event)
    given = columns.entries(entry, duration=duration, exits=exits)
    entries = np.zeros(len(exits)) if given is None else given
    first = np.searchsorted(bounds, entries, side="right")
    last = np.searchsorted(bounds, exits, side="left")
    pieces = last - first + 1
    row = np.repeat(np.arange(len(exits)), pieces)
    period = np.arange(len(row)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[row]
    edges = np.concatenate([[-np.inf], bounds, [np.inf]])
    made = table.iloc[row].copy()
    made[entry_name] = np.maximum(entries[row], edges[period])
    made[duration] = np.minimum(exits[row], edges[period + 1])
    made[event] = events[row] & (period == last[row])
    made[period_name] = period + 1
    return made


__all__ = [
    "ChiSquareTest",
    "CoxFit",
    "LogLikelihood",
    "fit_cox",
    "proportional_hazards_test",
    "scaled_schoenfeld",
    "split_follow_up",
]


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
    rows = checked_rows(
        table,
        duration=duration,
        event=event,
        covariates=covariates,
        entry=entry,
        strata=strata,
        cluster=cluster,
        weights=weights,
        ties=ties,
        robust=robust,
        missing=missing,
    )
    return fit_rows(rows.in_risk_order())
