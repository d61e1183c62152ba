"""Cause-specific hazard ratios beside subdistribution hazard ratios, and those of death."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.competing import fit_fine_gray
from analysis.outcome_models import (
    SEX,
    Contrast,
    Model,
    complete_rows,
    contrasts_of,
    estimates,
    fewest,
    followed,
    models_of,
    named,
    rescaled,
)
from analysis.report.aggregates import Aggregate, result, results
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.words import estimate_texts, side_by_side

CAUSE_SPECIFIC: Final = "cause-specific hazard ratio"
SUBDISTRIBUTION: Final = "subdistribution hazard ratio"
DEATH: Final = "cause-specific hazard ratio of death without the outcome"
# Fine and Gray's hazard runs from the index ECG, so age is a covariate on either time scale.
_AGE_SEX: Final = Model(2, "age, sex", ("age_years", SEX))
_AGE_SEX_COLUMNS: Final = ["age_years", "sex"]


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the three hazard ratios of each outcome and contrast, model 2, on the same rows."""
    rows = []
    study, model = data.study, models_of(data.study)[1]
    contrasts = contrasts_of(study, data.sd, data.about.exposure_unit)
    for outcome in (one.name for one in study.outcomes):
        table = data.analysed(outcome).dropna(subset=_AGE_SEX_COLUMNS)
        known = {"outcome": outcome, "primary": outcome == study.primary_outcome}
        dead = table.assign(event=table["status_code"] == 2)
        found = {
            CAUSE_SPECIFIC: estimates(table, study, contrasts, [model]),
            SUBDISTRIBUTION: _fine_gray_rows(table, data, contrasts),
            DEATH: estimates(dead, study, contrasts, [model]),
        }
        rows += [result("competing", measure, **known, **row) for measure, own in found.items()
                 for row in own]  # fmt: skip
    return [results("competing", rows)]


def _fine_gray_rows(
    table: pd.DataFrame, data: StudyData, contrasts: Sequence[Contrast]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    fitted: dict[str, dict[str, Any]] = {}
    for contrast in contrasts:
        if contrast.column not in fitted:
            complete = complete_rows(table, [contrast.column], [_AGE_SEX])
            dropped = {"n_dropped_missing": len(table) - len(complete)}
            fitted[contrast.column] = _fine_gray(complete, data, contrast) | dropped
        rows.append(rescaled(fitted[contrast.column], contrast, _AGE_SEX))
    return rows


def _fine_gray(table: pd.DataFrame, data: StudyData, contrast: Contrast) -> dict[str, Any]:
    repeated = data.study.index.rule == "all"
    row = followed(table, data.study) | named(contrast, _AGE_SEX)
    row |= {"se_type": "robust by person", "time_scale": "days since the index ECG"}
    if contrast.yes_no:
        arms = table.groupby(contrast.column)["event"].sum().reindex([0.0, 1.0], fill_value=0)
        row["n_events_fewest"] = fewest(arms)
    try:
        fit = fit_fine_gray(
            table, duration="time_days", event="status_code", event_of_interest=1,
            covariates=[contrast.column, *_AGE_SEX.covariates],
            cluster="participant_id" if repeated else None,
        )  # fmt: skip
    except TableRefused as error:
        return row | {"warnings": str(error)}
    first = fit.estimates.iloc[0]
    if np.isnan(first["coef"]):
        return row | {"warnings": "; ".join(fit.warnings)}
    return row | {
        "estimate": float(np.exp(first["coef"] * contrast.size)),
        "se": float(first["se"] * contrast.size),
        "lo": float(first["hr_lo"] ** contrast.size),
        "hi": float(first["hr_hi"] ** contrast.size),
        "p": float(first["p"]),
        "warnings": "; ".join(fit.warnings),
    }


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table with the three side by side."""
    found = masked.get("results_competing")
    if found is None or not len(found.rows):
        return None
    titles = {CAUSE_SPECIFIC: "Cause-specific", SUBDISTRIBUTION: "Subdistribution (Fine-Gray)",
              DEATH: "Death without the outcome"}  # fmt: skip
    rows = found.rows.assign(
        text=estimate_texts(found), Outcome=found.rows["outcome"].map(about.outcomes),
        Contrast=found.rows["contrast"], kind=found.rows["measure"].map(titles),
    )  # fmt: skip
    cells = side_by_side(rows, by=["Outcome", "Contrast"], over="kind", values=["text"])
    notes = (
        "Adjusted for age and sex. Fine-Gray: convention of survival::finegray with coxph (Efron's "
        "ties, errors robust by person), time since the index ECG.",
    )
    table = ReadTable("competing", "Cause-specific and subdistribution hazard ratios", cells, 2,
                      notes)  # fmt: skip
    paragraphs = (
        "For aetiology read the cause-specific hazard ratio: the rate among those still at risk. "
        "For prediction read the subdistribution hazard ratio: the effect on cumulative incidence, "
        "which also falls when more people die first. The third column says whether they do.",
    )
    return Section("competing", "Competing risk of death", paragraphs, (table,))
