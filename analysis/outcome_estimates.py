"""Cox models of a study: each outcome, contrast and model as a row of one table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from analysis.columns import TableRefused
from analysis.cox import CoxFit, fit_cox, proportional_hazards_test
from analysis.cox_fit import ChiSquareTest, few_events
from analysis.design import Covariate
from analysis.outcome_models import Contrast, Model, named, without_constant_sex
from analysis.outcome_rows import (
    cluster_of,
    complete_rows,
    fewest_with_event,
    followed,
    people_with_event,
    time_columns,
)
from analysis.study_settings import Study


def fit_model(table: pd.DataFrame, study: Study, covariates: Sequence[str | Covariate]) -> CoxFit:
    """Fit a cause-specific Cox model on the study's time scale, with its errors.

    Args:
        table: of `complete_rows`.
        study: time scale and index rule.
        covariates: exposure first.

    Raises:
        TableRefused: the model cannot be fitted to these rows.
    """
    return fit_cox(
        table, event="event", covariates=list(covariates), cluster=cluster_of(table, study), **time_columns(study)
    )


def warnings_of(fit: CoxFit, table: pd.DataFrame, study: Study) -> tuple[str, ...]:
    """Return the warnings of a fit, with people for events where ECGs repeat people."""
    n_parameters = len(fit.coefficients)
    by_row = few_events(fit.n_events, n_parameters)
    others = [text for text in fit.warnings if text not in by_row]
    return (*others, *few_events(people_with_event(table, study), n_parameters))


def estimates(
    table: pd.DataFrame,
    study: Study,
    contrasts: Sequence[Contrast],
    models: Sequence[Model],
    *,
    more: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Fit contrasts under models; contrasts of one column share their fits.

    Args:
        table: rows of one outcome.
        study: time scale, index rule, and the models whose complete rows are taken.
        contrasts: of exposures.
        models: to fit.
        more: further columns that must be known.

    Returns:
        Rows of `estimate`, with n_dropped_missing, in the order of contrasts, then models.
    """
    rows: list[dict[str, Any]] = []
    fitted: dict[tuple[str, int], dict[str, Any]] = {}
    complete: dict[str, pd.DataFrame] = {}
    for contrast in contrasts:
        column = contrast.column
        if column not in complete:
            complete[column] = complete_rows(table, study, [column, *more])
        for model in models:
            key = column, model.number
            if key not in fitted:
                dropped = {"n_dropped_missing": len(table) - len(complete[column])}
                fitted[key] = estimate(complete[column], study, contrast, model) | dropped
            rows.append(rescaled(fitted[key], contrast))
    return rows


def estimate(table: pd.DataFrame, study: Study, contrast: Contrast, model: Model) -> dict[str, Any]:
    """Fit one contrast under one model.

    Args:
        table: of `complete_rows`, one outcome.
        study: time scale, index rule.
        contrast: of the exposure.
        model: its covariates; sex is left out where all are of one sex.

    Returns:
        Columns of the results: n_people to n_dropped_missing without the latter, estimate (hazard
        ratio), se of its logarithm, lo, hi, p, p_ph (of the exposure), warnings. What has no
        estimate says why in warnings.
    """
    model = without_constant_sex(model, table)
    row = followed(table, study) | named(contrast, model)
    if contrast.yes_no:
        row["n_events_fewest"] = fewest_with_event(table, study, contrast.column)
    try:
        fit = fit_model(table, study, [contrast.column, *model.covariates])
    except TableRefused as error:
        return row | {"warnings": str(error)}
    row["warnings"] = "; ".join((*warnings_of(fit, table, study), *model.warnings))
    first = fit.estimates.iloc[0]
    if np.isnan(first["coef"]):
        return row
    return row | _p_ph(fit, contrast) | ratio_of(first, contrast.size)


def ratio_of(term: pd.Series[Any], size: float) -> dict[str, float]:
    """Return the hazard ratio of a row of `CoxFit.estimates` for a step of some size."""
    return {
        "estimate": float(np.exp(term["coef"] * size)),
        "se": float(term["se"] * size),
        "lo": float(term["hr_lo"] ** size),
        "hi": float(term["hr_hi"] ** size),
        "p": float(term["p"]),
    }


def _p_ph(fit: CoxFit, contrast: Contrast) -> dict[str, float]:
    """P for proportional hazards of the exposure; nothing where all events are at one time."""
    try:
        tests = proportional_hazards_test(fit)
    except TableRefused:
        return {}
    return {"p_ph": float(tests.set_index("term")["p"][contrast.column])}


def rescaled(row: dict[str, Any], contrast: Contrast) -> dict[str, Any]:
    """Return an estimate of the same column in steps of another size, without another fit."""
    factor = contrast.size / row["unit_value"]
    made = row | {
        "exposure": contrast.exposure,
        "contrast": contrast.name,
        "unit": contrast.unit,
        "unit_value": contrast.size,
    }
    if row.get("estimate") is not None:
        made |= {name: row[name] ** factor for name in ("estimate", "lo", "hi")}
        made["se"] = row["se"] * factor
    return made


def added_terms_test(larger: CoxFit, smaller: CoxFit, terms: Sequence[str]) -> ChiSquareTest:
    """Test what one model has more than another nested in it.

    The likelihood-ratio test; Wald's with robust errors where rows repeat people or households,
    since the likelihood is not one then.

    Raises:
        TableRefused: none of the terms has an estimate.
    """
    known = set(larger.estimates.loc[larger.estimates["coef"].notna(), "term"])
    estimated = [term for term in terms if term in known]
    if not estimated:
        raise TableRefused("nothing that is tested has an estimate, expected events on every side")
    if larger.robust:
        return larger.wald_test(estimated)
    return larger.likelihood_ratio_test(smaller)


def with_q(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add Benjamini and Hochberg's q over the outcomes that are not the primary one.

    One family for each exposure, contrast, model, and model of the predictions. R:
    `p.adjust(p, "BH")`.

    Source:
        Benjamini Y, Hochberg Y, J R Stat Soc B 1995;57:289.
    """
    families: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["primary"] and row.get("p") is not None:
            family = row["exposure"], row["contrast"], row["model"], row["model_id"]
            families.setdefault(family, []).append(row)
    for own in families.values():
        p = [row["p"] for row in own]
        for row, q in zip(own, stats.false_discovery_control(p, method="bh"), strict=True):
            row["q"] = float(q)
    return rows
