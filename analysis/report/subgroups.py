"""Hazard ratios in subgroups, and the tests of interaction."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.cox_fit import ChiSquareTest
from analysis.outcome_estimates import added_terms_test, estimates, fit_model
from analysis.outcome_models import (
    SEX,
    Contrast,
    Model,
    contrasts_of,
    models_of,
    named,
    with_covariates,
    without_constant_sex,
)
from analysis.outcome_rows import complete_rows, fewest_with_event, followed, read_columns
from analysis.report.aggregates import result
from analysis.report.bands import BMI_CLASSES_KG_M2, banded
from analysis.report.study_data import StudyData
from analysis.report.words import levels_in_order

HAZARD_RATIO: Final = "hazard ratio"
INTERACTION: Final = "interaction, chi-square"
_SUBGROUPS: Final = {"sex": "Sex", "age_band": "Age, years", "bmi_class": "BMI, kg/m2"}


def subgroup_rows(data: StudyData) -> list[dict[str, Any]]:
    """Return hazard ratios per SD and per 10 under model 2, and the test of the interaction.

    People are those of the main analysis, the complete rows of all models.

    Args:
        data: of one model of the predictions.
    """
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        kept = ["exposure", "exposure_in_sd_of_sex", "age_band", "bmi_kg_m2"]
        table = _with_bmi_class(read_columns(data.analysed(outcome), data.study, kept))
        for column, words in _SUBGROUPS.items():
            rows += [
                result("subgroups", **row, **data.keys(outcome), strata=words) for row in _rows(data, table, column)
            ]
    return rows


def _rows(data: StudyData, table: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    study, model = data.study, models_of(data.study)[1]
    *contrasts, _ = contrasts_of(study, data.sd, data.about.exposure_unit)
    complete = complete_rows(table, study, [contrasts[0].column, column])
    levels = levels_in_order(complete[column].unique())
    if len(levels) < 2:
        return []
    rows = [
        row | {"measure": HAZARD_RATIO, "level": level}
        for level in levels
        for row in estimates(table[table[column] == level], study, contrasts, [model])
    ]
    tested = _interaction(complete, column, levels[1:], data, contrasts[0], model)
    dropped = {"level": "interaction", "n_dropped_missing": len(table) - len(complete)}
    return [*rows, tested | dropped]


def _with_bmi_class(table: pd.DataFrame) -> pd.DataFrame:
    bmi = table.get("bmi_kg_m2", pd.Series(np.nan, table.index))
    return table.assign(bmi_class=banded(bmi, BMI_CLASSES_KG_M2))


def _interaction(
    table: pd.DataFrame, column: str, others: list[str], data: StudyData, contrast: Contrast, model: Model
) -> dict[str, Any]:
    """Test products of the exposure with the levels, the levels in both models."""
    n = len(others)
    levels = [(table[column] == one).to_numpy(dtype=float) for one in others]
    apart = table.assign(
        **{f"product_{i}": levels[i] * table[contrast.column] for i in range(n)},
        **{f"level_{i}": levels[i] for i in range(n)},
    )
    own = without_constant_sex(_without_sex(model) if column == "sex" else model, table)
    main = with_covariates(own, *(f"level_{i}" for i in range(n)))
    both = with_covariates(main, *(f"product_{i}" for i in range(n)))
    row = {"measure": INTERACTION} | followed(table, data.study) | named(contrast, own)
    row["n_events_fewest"] = fewest_with_event(table, data.study, column)
    try:
        test = _test_of(apart, data, contrast, (both, main), n)
    except TableRefused as error:
        return row | {"warnings": str(error)}
    return row | {"estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}


def _without_sex(model: Model) -> Model:
    """The model without sex, which makes the subgroups."""
    kept = tuple(one for one in model.covariates if one != SEX)
    return Model(model.number, model.adjustment, kept)


def _test_of(
    table: pd.DataFrame, data: StudyData, contrast: Contrast, models: tuple[Model, Model], n: int
) -> ChiSquareTest:
    larger, smaller = (fit_model(table, data.study, [contrast.column, *model.covariates]) for model in models)
    return added_terms_test(larger, smaller, [f"product_{i}" for i in range(n)])
