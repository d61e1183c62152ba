"""The Cox model: `fit_cox`, and by its side the tests and remedies for proportional hazards."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.columns import Missing
from analysis.cox_fit import ChiSquareTest, CoxFit, LogLikelihood
from analysis.cox_rows import checked_rows, fit_rows
from analysis.design import Covariate
from analysis.periods import split_follow_up
from analysis.proportional_hazards import proportional_hazards_test, scaled_schoenfeld
from analysis.risk_ranges import Ties

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
