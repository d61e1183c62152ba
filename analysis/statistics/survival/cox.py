"""Cox models: `fit_cox`, and the same model fitted again and again for a bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.columns import Missing, TableRefused, used_columns
from analysis.statistics.design import Covariate, as_covariates, resolve_design
from analysis.statistics.survival.cox_fit import CoxFit, CoxRows, fit_rows
from analysis.statistics.survival.cox_likelihood import Ties, risk_order

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


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
        table: one row per person, or a spell of a person.
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
        The fit; its `warnings` name covariates without an estimate, and fewer than 10 events per
        parameter.

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
    rows = _checked_rows(
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
    return fit_rows(rows)


@dataclass(frozen=True, slots=True)
class CoxSamples:
    """A Cox model to be fitted to many samples of the rows of one table."""

    rows: CoxRows  # of the whole table

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
        """Check a table; arguments and errors as of `fit_cox`."""
        return cls(
            _checked_rows(table, duration=duration, event=event, covariates=covariates, entry=entry, strata=strata)
        )

    def repeated(self, drawn: Integers) -> CoxFit:
        """Fit to the table in which each row is repeated as often as it was drawn.

        The fit is that of `fit_cox` on such a table; `drawn` has a number for each of its rows.
        """
        times = drawn[self.rows.row_numbers]
        return _fit_sample(self.rows.taken(np.repeat(np.arange(len(times)), times)))

    def weighted(self, drawn: Integers, first: Floats | None = None) -> CoxFit:
        """Fit to the rows that were drawn, weighted by how often.

        The fit is that of `fit_cox` with these weights. Both arguments have a number for each row
        of the table; those in `first` replace the first covariate.
        """
        times = drawn[self.rows.row_numbers]
        kept = np.flatnonzero(times)
        sample = replace(self.rows.taken(kept), weights=times[kept].astype(np.float64))
        if first is not None:
            sample.x[0] = first[sample.row_numbers]
        return _fit_sample(sample)


def _fit_sample(sample: CoxRows) -> CoxFit:
    """Fit, unless a covariate has one value only or nobody has the event, as `fit_cox` refuses."""
    if not sample.events.any():
        raise TableRefused("the sample has no event, expected some")
    constant = sample.x.min(axis=1) == sample.x.max(axis=1)
    if constant.any():
        name = sample.design.terms[int(np.flatnonzero(constant)[0])]
        raise TableRefused(f"covariate {name!r} is constant in the sample, expected two values")
    return fit_rows(sample)


def _checked_rows(
    table: pd.DataFrame,
    *,
    duration: str,
    event: str,
    covariates: Sequence[str | Covariate],
    entry: str | None,
    strata: Sequence[str],
    cluster: str | None = None,
    weights: str | None = None,
    ties: Ties = "efron",
    robust: bool = False,
    missing: Missing = "refuse",
) -> CoxRows:
    """Check the columns; arguments and errors as of `fit_cox`."""
    if ties not in ("efron", "breslow"):
        raise ValueError(f"ties is {ties!r}, expected 'efron' or 'breslow'")
    wanted = as_covariates(covariates)
    layers = (strata,) if isinstance(strata, str) else tuple(strata)
    names = [duration, event, entry, cluster, weights, *layers, *(c.column for c in wanted)]
    columns = used_columns(table, names, missing=missing)
    exits, events = columns.times(duration), columns.flags(event)
    if not events.any():
        raise TableRefused(f"column {event!r} has no event in {columns.n} rows, expected some")
    case_weights = columns.weights(weights)
    whole = case_weights is None or bool((case_weights == np.round(case_weights)).all())
    design, matrix = resolve_design(wanted, columns)
    codes, labels = columns.groups(layers)
    rows = CoxRows(
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
        robust=robust or cluster is not None or not whole,
    )
    return rows.taken(risk_order(exits, events, codes))
