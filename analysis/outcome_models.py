"""Cox models of a study: each outcome, contrast and model as a row of one table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from analysis.columns import TableRefused
from analysis.cox import CoxFit, fit_cox, proportional_hazards_test
from analysis.design import Category, Covariate
from analysis.study_settings import Study

DAYS_PER_YEAR: Final = 365.25
SEX: Final = Category("sex", reference="female")
_SCALES: Final = {"follow_up": "days since the index ECG", "attained_age": "attained age, days"}


@dataclass(frozen=True, slots=True)
class Model:
    """What a hazard ratio is adjusted for.

    Attributes:
        number: 1 unadjusted, 2 age and sex (Khurshid et al. 2021), 3 also height and weight, 4
            also the study's covariates (study rules, section 4).
        adjustment: in words.
        covariates: beside the exposure.
        warnings: of every estimate.
    """

    number: int
    adjustment: str
    covariates: tuple[str | Covariate, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contrast:
    """What an exposure is compared by.

    Attributes:
        exposure: name in the results.
        column: of the table; a number, or 1 and 0.
        name: of the contrast.
        unit: of the exposure.
        size: one step; the log hazard ratio is multiplied by it.
        yes_no: whether the column is 1 and 0, so that each arm needs events.
    """

    exposure: str
    column: str
    name: str
    unit: str
    size: float
    yes_no: bool = False


def models_of(study: Study) -> tuple[Model, ...]:
    """Return models 1 to 3, and 4 where the study has covariates.

    On the scale of attained age there is no age covariate.
    """
    age: tuple[str | Covariate, ...] = ("age_years",) if study.time_scale == "follow_up" else ()
    words = "age, sex" if age else "sex (age is the time scale)"
    base, size = (*age, SEX), ("height_cm", "weight_kg")
    made = [
        Model(1, "unadjusted", ()),
        Model(2, words, base),
        Model(3, f"{words}, height, weight", (*base, *size)),
    ]
    if study.covariates:
        own = [
            Category(one.name, reference=str(one.reference)) if one.kind == "category" else one.name
            for one in study.covariates
        ]
        names = ", ".join(one.words for one in study.covariates)
        made.append(Model(4, f"model 3, {names}", (*base, *size, *own), _mediators(study)))
    return tuple(made)


def _mediators(study: Study) -> tuple[str, ...]:
    likely = [one.words for one in study.covariates if one.mediator]
    if not likely:
        return ()
    return (
        f"{', '.join(likely)} may lie between LV mass and the outcome: adjusting for it in the "
        "largest model takes part of the association away",
    )


def columns_of(covariates: Iterable[str | Covariate]) -> list[str]:
    """Return the columns that covariates read."""
    return [one if isinstance(one, str) else one.column for one in covariates]


def complete_rows(
    table: pd.DataFrame, columns: Sequence[str], models: Sequence[Model]
) -> pd.DataFrame:
    """Return the rows that are complete in some columns and in the covariates of all models."""
    covariates = [name for model in models for name in columns_of(model.covariates)]
    return table.dropna(subset=list(dict.fromkeys([*columns, *covariates])))


def fit_model(
    table: pd.DataFrame, study: Study, covariates: Sequence[str | Covariate], **options: Any
) -> CoxFit:
    """Fit a cause-specific Cox model on the study's time scale, with its errors.

    Args:
        table: of `StudyData.analysed`, complete.
        study: time scale and index rule.
        covariates: exposure first.
        **options: of `fit_cox`.

    Raises:
        TableRefused: the model cannot be fitted to these rows.
    """
    own: dict[str, Any] = {"duration": "time_days", "event": "event"}
    if study.time_scale == "attained_age":
        own |= {"duration": "exit_age_days", "entry": "entry_age_days"}
    if study.index.rule == "all":
        own["cluster"] = "participant_id"
    return fit_cox(table, covariates=list(covariates), **(own | options))


def contrasts_of(study: Study, sd: Mapping[str, float], unit: str) -> tuple[Contrast, ...]:
    """Return per SD, per 10 of the unit, and LVH yes against no."""
    per_sd = Contrast(study.exposure, "exposure", "per SD", unit, sd["exposure"])
    if study.sd == "by_sex":
        per_sd = Contrast(
            study.exposure, "exposure_in_sd_of_sex", "per SD of the own sex", "SD of the sex", 1.0
        )
    ten = Contrast(study.exposure, "exposure", "per 10", unit, 10.0)
    return per_sd, ten, Contrast(study.lvh_column, "lvh", "LVH", "yes against no", 1.0, yes_no=True)


def fewest(arms: pd.Series[Any]) -> int:
    """Return the events of the arm that has fewest but some; an arm without any hides nothing."""
    some = arms[arms > 0]
    return int(some.min()) if len(some) else 0


def followed(table: pd.DataFrame, study: Study) -> dict[str, Any]:
    """Return what the results say of the rows of a model."""
    return {
        "n_people": table["participant_id"].nunique(),
        "n_ecgs": len(table),
        "n_events": int(table["event"].sum()),
        "person_years": float(table["time_days"].sum() / DAYS_PER_YEAR),
        "ties": "efron",
        "se_type": "by person" if study.index.rule == "all" else "model",
        "time_scale": _SCALES[study.time_scale],
    }


def estimates(
    table: pd.DataFrame, study: Study, contrasts: Sequence[Contrast], models: Sequence[Model]
) -> list[dict[str, Any]]:
    """Fit contrasts under models; contrasts of one column share their fits.

    Args:
        table: rows of one outcome.
        study: time scale, index rule.
        contrasts: of exposures.
        models: all on the rows that are complete for all of them.

    Returns:
        Rows of `estimate`, with n_dropped_missing, in the order of contrasts, then models.
    """
    rows: list[dict[str, Any]] = []
    fitted: dict[tuple[str, int], dict[str, Any]] = {}
    for contrast in contrasts:
        complete = complete_rows(table, [contrast.column], models)
        for model in models:
            key = contrast.column, model.number
            if key not in fitted:
                dropped = {"n_dropped_missing": len(table) - len(complete)}
                fitted[key] = estimate(complete, study, contrast, model) | dropped
            rows.append(rescaled(fitted[key], contrast, model))
    return rows


def estimate(table: pd.DataFrame, study: Study, contrast: Contrast, model: Model) -> dict[str, Any]:
    """Fit one contrast under one model.

    Args:
        table: complete rows of one outcome.
        study: time scale, index rule.
        contrast: of the exposure.
        model: its covariates.

    Returns:
        Columns of the results: n_people to n_dropped_missing without the latter, estimate (hazard
        ratio), se of its logarithm, lo, hi, p, p_ph (of the exposure), warnings. What has no
        estimate says why in warnings.
    """
    row = followed(table, study) | named(contrast, model)
    if contrast.yes_no:
        arms = table.groupby(contrast.column)["event"].sum().reindex([0.0, 1.0], fill_value=0)
        row["n_events_fewest"] = fewest(arms)
    try:
        fit = fit_model(table, study, [contrast.column, *model.covariates])
    except TableRefused as error:
        return row | {"warnings": str(error)}
    warnings = "; ".join((*fit.warnings, *model.warnings))
    first = fit.estimates.iloc[0]
    if np.isnan(first["coef"]):
        return row | {"warnings": warnings}
    return (
        row
        | _p_ph(fit, contrast)
        | {
            "estimate": float(np.exp(first["coef"] * contrast.size)),
            "se": float(first["se"] * contrast.size),
            "lo": float(first["hr_lo"] ** contrast.size),
            "hi": float(first["hr_hi"] ** contrast.size),
            "p": float(first["p"]),
            "warnings": warnings,
        }
    )


def _p_ph(fit: CoxFit, contrast: Contrast) -> dict[str, float]:
    """P for proportional hazards of the exposure; nothing where all events are at one time."""
    try:
        tests = proportional_hazards_test(fit)
    except TableRefused:
        return {}
    return {"p_ph": float(tests.set_index("term")["p"][contrast.column])}


def rescaled(row: dict[str, Any], contrast: Contrast, model: Model) -> dict[str, Any]:
    """Return an estimate of the same column in steps of another size, without another fit."""
    factor = contrast.size / row["unit_value"]
    made = row | named(contrast, model)
    if row.get("estimate") is not None:
        made |= {name: row[name] ** factor for name in ("estimate", "lo", "hi")}
        made["se"] = row["se"] * factor
    return made


def named(contrast: Contrast, model: Model) -> dict[str, Any]:
    """Return what the results say of a contrast and a model."""
    return {
        "exposure": contrast.exposure,
        "contrast": contrast.name,
        "unit": contrast.unit,
        "unit_value": contrast.size,
        "model": model.number,
        "adjustment": model.adjustment,
    }


def with_q(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add Benjamini and Hochberg's q over the outcomes that are not the primary one.

    One family for each exposure, contrast and model. R: `p.adjust(p, "BH")`.

    Source:
        Benjamini Y, Hochberg Y, J R Stat Soc B 1995;57:289.
    """
    families: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["primary"] and row.get("p") is not None:
            family = row["exposure"], row["contrast"], row["model"]
            families.setdefault(family, []).append(row)
    for own in families.values():
        p = [row["p"] for row in own]
        for row, q in zip(own, stats.false_discovery_control(p, method="bh"), strict=True):
            row["q"] = float(q)
    return rows


def with_covariates(model: Model, *more: str | Covariate, words: str = "") -> Model:
    """Return a model with further covariates."""
    adjustment = f"{model.adjustment}{words}"
    return replace(model, covariates=(*model.covariates, *more), adjustment=adjustment)
