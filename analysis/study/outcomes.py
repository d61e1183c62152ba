"""The Cox models of a study: what they compare and adjust for, their rows, their estimates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category, Covariate
from analysis.statistics.survival import CoxFit, FineGrayFit, proportional_hazards_test
from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.cox_fit import ChiSquareTest, few_events
from analysis.study.settings import Study
from lvm_core.units import DAYS_PER_YEAR

SEX: Final = Category("sex", reference="female")
SD_OF_SEX: Final = "SD of the sex"
"""Unit of a step that has another size in each sex."""
YES_NO: Final = "yes against no"
"""Unit of the step of a yes/no exposure."""
FOLLOW_UP_TIME: Final = "days since the index ECG"
HOUSEHOLD: Final = "household_id"
CLUSTER: Final = "error_cluster"
"""Column that numbers rows that are not independent: those of a household, or of a person."""
_SCALES: Final = {"follow_up": FOLLOW_UP_TIME, "attained_age": "attained age, days"}
_ALWAYS: Final = ("participant_id", "ecg_id", "event", "status_code", "time_days", "years", CLUSTER, HOUSEHOLD)


@dataclass(frozen=True, slots=True)
class Model:
    """What a hazard ratio is adjusted for."""

    # 1 unadjusted, 2 age and sex (Khurshid et al. 2021), 3 also height and weight, 4 also the
    # study's covariates.
    number: int
    adjustment: str  # the covariates in words
    covariates: tuple[str | Covariate, ...]  # beside the exposure
    warnings: tuple[str, ...] = ()  # that come with every estimate


@dataclass(frozen=True, slots=True)
class Contrast:
    """Which step of an exposure a hazard ratio is for."""

    exposure: str  # its name in the results
    column: str  # of the table; a number, or 1 and 0
    name: str  # of the contrast
    unit: str  # of the exposure
    size: float  # of one step; the log hazard ratio is multiplied by it
    yes_no: bool = False  # whether the column is 1 and 0, so that each arm needs events


def models_of(study: Study) -> tuple[Model, ...]:
    """Return models 1 to 3, and 4 with covariates; without age where it is the time scale."""
    age: tuple[str | Covariate, ...] = ("age_years",) if study.time_scale == "follow_up" else ()
    words = "age, sex" if age else "sex (age is the time scale)"
    base, size = (*age, SEX), ("height_cm", "weight_kg")
    made = [Model(1, "unadjusted", ()), Model(2, words, base), Model(3, f"{words}, height, weight", (*base, *size))]
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


def contrasts_of(study: Study, sd: Mapping[str, float], unit: str) -> tuple[Contrast, ...]:
    """Return the contrasts per SD, per 10 of the unit, and LVH yes against no.

    A yes/no exposure has one step, yes against no, in place of the first two.
    """
    lvh = Contrast(study.lvh_column, "lvh", "LVH", YES_NO, 1.0, yes_no=True)
    if study.is_yes_no:
        return Contrast(study.exposure, "exposure", YES_NO, YES_NO, 1.0, yes_no=True), lvh
    per_sd = Contrast(study.exposure, "exposure", "per SD", unit, sd["exposure"])
    if study.sd == "by_sex":
        per_sd = Contrast(study.exposure, "exposure_in_sd_of_sex", "per SD of the own sex", SD_OF_SEX, 1.0)
    ten = Contrast(study.exposure, "exposure", "per 10", unit, 10.0)
    return per_sd, ten, lvh


def named(contrast: Contrast, model: Model) -> dict[str, Any]:
    """Return the columns of the results that name a contrast and a model."""
    return _named(contrast) | {"model": model.number, "adjustment": model.adjustment}


def _named(contrast: Contrast) -> dict[str, Any]:
    return {
        "exposure": contrast.exposure,
        "contrast": contrast.name,
        "unit": contrast.unit,
        "unit_value": contrast.size,
    }


def with_covariates(model: Model, *more: str | Covariate) -> Model:
    """Return a model with further covariates."""
    return replace(model, covariates=(*model.covariates, *more))


def without_constant_sex(model: Model, table: pd.DataFrame) -> Model:
    """Return the model without sex where everybody is of one sex, and say so in `adjustment`.

    A cohort of one sex, or one stratum of it, would have no adjusted estimate otherwise.
    """
    if SEX not in model.covariates or table["sex"].nunique(dropna=False) != 1:
        return model
    return replace(
        model,
        covariates=tuple(one for one in model.covariates if one != SEX),
        adjustment=f"{model.adjustment} (sex is left out: all are {table['sex'].iloc[0]})",
    )


def time_columns(study: Study) -> dict[str, Any]:
    """Return the columns of times of the study's Cox models, by argument of `fit_cox`."""
    if study.time_scale == "attained_age":
        return {"duration": "exit_age_days", "entry": "entry_age_days"}
    return {"duration": "time_days"}


def read_columns(table: pd.DataFrame, study: Study, kept: Sequence[str]) -> pd.DataFrame:
    """Return the columns that models read, and `kept` ones: copies of all seventy would be slow."""
    wanted = dict.fromkeys([*_ALWAYS, *columns_of(_covariates(study)), *time_columns(study).values(), *kept])
    return table[[name for name in wanted if name in table.columns]]


def _covariates(study: Study) -> list[str | Covariate]:
    return [one for model in models_of(study) for one in model.covariates]


def complete_rows(
    table: pd.DataFrame, study: Study, columns: Sequence[str], *, kept: Sequence[str] = (), model: Model | None = None
) -> pd.DataFrame:
    """Return the rows that every model of the study can take, and in which `columns` are known.

    So all models, and all analyses that vary the main one, are of the same people. With
    `rows: all` of the study they are the rows that `model` can take, if it is given. Where attained
    age is the time scale, a row without an age at entry or exit is not complete. The columns `kept`
    stay, known or not.
    """
    alone = model is not None and study.rows == "all"
    covariates = list(model.covariates) if alone and model is not None else _covariates(study)
    needed = list(dict.fromkeys([*columns, *columns_of(covariates), *time_columns(study).values()]))
    names = [name for name in _ALWAYS if name in table.columns]
    own = table[list(dict.fromkeys([*names, *needed, *kept]))]
    absent = np.any([own[name].isna().to_numpy() for name in needed], axis=0)
    if absent.any():
        own = own[~absent]
    categories = {one.column for one in covariates if isinstance(one, Category)}
    return own.astype(dict.fromkeys(categories, "category"))


def cluster_of(table: pd.DataFrame, study: Study) -> str | None:
    """Return the column of the rows that are not independent, or None."""
    if CLUSTER in table.columns:
        return CLUSTER
    return "participant_id" if study.index.rule == "all" else None


def se_type_of(table: pd.DataFrame, study: Study) -> str:
    """Return the words for the errors of a Cox model: by household or by person, or the model's."""
    if HOUSEHOLD in table.columns:
        return "by household"
    return "by person" if study.index.rule == "all" else "model"


def people_with_event(table: pd.DataFrame, study: Study) -> int:
    """Return how many people have the event; several ECGs of a person count once."""
    own = table.loc[table["event"], "participant_id"]
    return int(own.nunique()) if study.index.rule == "all" else len(own)


def fewest_with_event(table: pd.DataFrame, study: Study, by: str) -> int:
    """Return the people with the event in the group that has the fewest, above 0."""
    groups = table[table["event"]].groupby(by, observed=True)["participant_id"]
    return fewest(groups.nunique() if study.index.rule == "all" else groups.size())


def fewest_of_arms(table: pd.DataFrame, study: Study, by: str) -> dict[str, int]:
    """Return the columns of the results that say how few people and events an arm has."""
    people = table.groupby(by, observed=True)["participant_id"]
    n_people = fewest(people.nunique() if study.index.rule == "all" else people.size())
    return {"n_events_fewest": fewest_with_event(table, study, by), "n_people_fewest": n_people}


def fewest(arms: pd.Series[Any]) -> int:
    """Return the fewest events of an arm, above 0; an arm without events hides nothing."""
    some = arms[arms > 0]
    return int(some.min()) if len(some) else 0


def followed(table: pd.DataFrame, study: Study) -> dict[str, Any]:
    """Return the columns of the results that describe the rows of a Cox model."""
    repeated = study.index.rule == "all"
    return {
        "n_people": table["participant_id"].nunique() if repeated else len(table),
        "n_ecgs": len(table),
        "n_events": people_with_event(table, study),
        "person_years": float(table["time_days"].sum() / DAYS_PER_YEAR),
        "ties": "efron",
        "se_type": se_type_of(table, study),
        "time_scale": _SCALES[study.time_scale],
    }


def fit_model(table: pd.DataFrame, study: Study, covariates: Sequence[str | Covariate]) -> CoxFit:
    """Fit a cause-specific Cox model, the exposure first, to complete rows on the time scale."""
    return fit_cox(
        table, event="event", covariates=list(covariates), cluster=cluster_of(table, study), **time_columns(study)
    )


def warnings_of(fit: CoxFit | FineGrayFit, table: pd.DataFrame, study: Study) -> tuple[str, ...]:
    """Return the warnings of a fit, where several ECGs of a person count as one event."""
    n_parameters = int(fit.estimates["coef"].notna().sum())
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
    fitted_by: Callable[[pd.DataFrame, Study, Contrast, Model], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Fit contrasts under models to the rows of one outcome; contrasts of one column share fits.

    Rows are complete in the columns of the study's models (with `rows: all` of the model), of the
    contrast, and in `more`. Return
    rows of `fitted_by`, by default `estimate`, with n_dropped_missing, by contrast, then model.
    """
    rows: list[dict[str, Any]] = []
    fitted: dict[tuple[str, int], dict[str, Any]] = {}
    complete: dict[tuple[str, int], pd.DataFrame] = {}
    for contrast in contrasts:
        column = contrast.column
        for model in models:
            key = column, model.number
            of_rows = column, model.number if study.rows == "all" else 0
            if of_rows not in complete:
                complete[of_rows] = complete_rows(table, study, [column, *more], model=model)
            if key not in fitted:
                own = complete[of_rows]
                dropped = {"n_dropped_missing": len(table) - len(own)}
                fitted[key] = (fitted_by or estimate)(own, study, contrast, model) | dropped
            rows.append(rescaled(fitted[key], contrast))
    return rows


def estimate(table: pd.DataFrame, study: Study, contrast: Contrast, model: Model) -> dict[str, Any]:
    """Fit one contrast under one model, without sex where all are of one sex.

    Return columns of the results: those of `followed` and `named`, estimate (hazard ratio), se of
    its logarithm, lo, hi, p, p_ph (of the exposure), warnings. Where there is no estimate, warnings
    say why.
    """
    model = without_constant_sex(model, table)
    row = followed(table, study) | named(contrast, model)
    if contrast.yes_no:
        row |= fewest_of_arms(table, study, contrast.column)
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
    """Return P for proportional hazards of the exposure; none if all events are at one time."""
    try:
        tests = proportional_hazards_test(fit)
    except TableRefused:
        return {}
    return {"p_ph": float(tests.set_index("term")["p"][contrast.column])}


def rescaled(row: dict[str, Any], contrast: Contrast) -> dict[str, Any]:
    """Return an estimate of the same column in steps of another size, without another fit."""
    factor = contrast.size / row["unit_value"]
    made = row | _named(contrast)
    if row.get("estimate") is not None:
        made |= {name: row[name] ** factor for name in ("estimate", "lo", "hi")}
        made["se"] = row["se"] * factor
    return made


def added_terms_test(larger: CoxFit, smaller: CoxFit, terms: Sequence[str]) -> ChiSquareTest:
    """Test the terms that one model has beyond another nested in it.

    The test is the likelihood-ratio test, also of a level without events, whose likelihood has a
    limit. Where people or households have several rows, rows are not independent and have no
    likelihood; the test is then Wald's with robust errors.
    Raise TableRefused where Wald's test is of terms without an estimate.
    """
    if not larger.robust:
        return larger.likelihood_ratio_test(smaller)
    known = set(larger.estimates.loc[larger.estimates["coef"].notna(), "term"])
    estimated = [term for term in terms if term in known]
    if not estimated:
        raise TableRefused("nothing that is tested has an estimate, expected events on every side")
    return larger.wald_test(estimated)


def with_q(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add Benjamini and Hochberg's q over all outcomes but the primary one; R: `p.adjust(p, "BH")`.

    One family for each exposure, contrast, model, and model of the predictions.

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
