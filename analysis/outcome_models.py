"""What the Cox models of a study compare and adjust for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from analysis.design import Category, Covariate
from analysis.study_settings import Study

SEX: Final = Category("sex", reference="female")
# The unit of steps of another size in each sex.
SD_OF_SEX: Final = "SD of the sex"


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
    """Return per SD, per 10 of the unit, and LVH yes against no."""
    per_sd = Contrast(study.exposure, "exposure", "per SD", unit, sd["exposure"])
    if study.sd == "by_sex":
        per_sd = Contrast(study.exposure, "exposure_in_sd_of_sex", "per SD of the own sex", SD_OF_SEX, 1.0)
    ten = Contrast(study.exposure, "exposure", "per 10", unit, 10.0)
    return per_sd, ten, Contrast(study.lvh_column, "lvh", "LVH", "yes against no", 1.0, yes_no=True)


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


def with_covariates(model: Model, *more: str | Covariate, words: str = "") -> Model:
    """Return a model with further covariates."""
    adjustment = f"{model.adjustment}{words}"
    return replace(model, covariates=(*model.covariates, *more), adjustment=adjustment)


def without_constant_sex(model: Model, table: pd.DataFrame) -> Model:
    """Return the model without sex where everybody is of one sex, and say so in `adjustment`.

    A cohort of one sex, or one stratum of it, would have no adjusted estimate otherwise.
    """
    if SEX not in model.covariates:
        return model
    found = table["sex"].unique()
    if len(found) != 1:
        return model
    return replace(
        model,
        covariates=tuple(one for one in model.covariates if one != SEX),
        adjustment=f"{model.adjustment} (sex is left out: all are {found[0]})",
    )
