"""Cause-specific hazard ratios beside subdistribution hazard ratios, and those of death."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, result, results
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import MODELS, Analysed, analysed
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.words import estimate_texts, row_counts, row_labels, side_by_side
from analysis.statistics.columns import TableRefused
from analysis.statistics.survival import fit_fine_gray
from analysis.statistics.survival.cox_fit import few_events
from analysis.study.data import About, StudyData
from analysis.study.outcomes import (
    FOLLOW_UP_TIME,
    SEX,
    Contrast,
    Model,
    cluster_of,
    complete_rows,
    contrasts_of,
    estimates,
    fewest_with_event,
    followed,
    models_of,
    named,
    people_with_event,
    ratio_of,
    read_columns,
    rescaled,
    se_type_of,
    without_constant_sex,
)

CAUSE_SPECIFIC: Final = "cause-specific hazard ratio"
SUBDISTRIBUTION: Final = "subdistribution hazard ratio"
DEATH: Final = "cause-specific hazard ratio of death without the outcome"
# Fine and Gray's hazard runs from the index ECG, so age is a covariate on either time scale.
_AGE_SEX: Final = Model(2, "age, sex", ("age_years", SEX))
_MORE: Final = ("age_years",)


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the three hazard ratios of each outcome and contrast, model 2, on the same rows."""
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        for part in data.by_prediction_model():
            rows += [
                result("competing", **row, **part.keys(outcome), counted=_counted(part, outcome, row))
                for row in _rows(part, outcome)
            ]
    return [results("competing", rows)]


def _counted(data: StudyData, outcome: str, row: Mapping[str, Any]) -> Analysed:
    is_of_lvh = row["exposure"] == data.study.lvh_column
    who = analysed(outcome, data.model_id, MODELS, "what hazards need", lvh=is_of_lvh)
    return replace(who, end="death") if row["measure"] == DEATH else who


def _rows(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    study, model = data.study, models_of(data.study)[1]
    contrasts = contrasts_of(study, data.sd, data.about.exposure_unit)
    columns = [*(one.column for one in contrasts), *_MORE]
    table = read_columns(data.analysed(outcome), study, columns)
    dead = table.assign(event=table["status_code"] == 2)
    found = {
        CAUSE_SPECIFIC: estimates(table, study, contrasts, [model], more=_MORE),
        SUBDISTRIBUTION: _fine_gray_rows(table, data, contrasts),
        DEATH: estimates(dead, study, contrasts, [model], more=_MORE),
    }
    return [row | {"measure": measure} for measure, own in found.items() for row in own]


def _fine_gray_rows(table: pd.DataFrame, data: StudyData, contrasts: Sequence[Contrast]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    fitted: dict[str, dict[str, Any]] = {}
    for contrast in contrasts:
        if contrast.column not in fitted:
            complete = complete_rows(table, data.study, [contrast.column, *_MORE])
            dropped = {"n_dropped_missing": len(table) - len(complete)}
            fitted[contrast.column] = _fine_gray(complete, data, contrast) | dropped
        rows.append(rescaled(fitted[contrast.column], contrast))
    return rows


def _fine_gray(table: pd.DataFrame, data: StudyData, contrast: Contrast) -> dict[str, Any]:
    study, model = data.study, without_constant_sex(_AGE_SEX, table)
    row = followed(table, study) | named(contrast, model)
    own = se_type_of(table, study)
    errors = "robust by person" if own == "model" else f"robust {own}"
    row |= {"se_type": errors, "time_scale": FOLLOW_UP_TIME}
    if contrast.yes_no:
        row["n_events_fewest"] = fewest_with_event(table, study, contrast.column)
    try:
        fit = fit_fine_gray(
            table,
            duration="time_days",
            event="status_code",
            event_of_interest=1,
            covariates=[contrast.column, *model.covariates],
            cluster=cluster_of(table, study),
        )
    except TableRefused as error:
        return row | {"warnings": str(error)}
    first = fit.estimates.iloc[0]
    row["warnings"] = "; ".join(few_events(people_with_event(table, study), len(fit.estimates)))
    return row if np.isnan(first["coef"]) else row | ratio_of(first, contrast.size)


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table with the three side by side."""
    found = masked.get("results_competing")
    if found is None or not len(found.rows):
        return None
    titles = {
        CAUSE_SPECIFIC: "Cause-specific",
        SUBDISTRIBUTION: "Subdistribution (Fine-Gray)",
        DEATH: "Death without the outcome",
    }
    labels, counts = row_labels(found, about), row_counts(found, about)
    rows = found.rows.assign(
        **labels,
        **counts,
        text=estimate_texts(found),
        Contrast=found.rows["contrast"],
        kind=found.rows["measure"].map(titles),
    )
    keys = [*labels, "Contrast"]
    by = [*keys, *(name for name in counts if name != "Events")]
    cells = side_by_side(rows, by=by, over="kind", values=["text", "Events"])
    dead, cause = titles[DEATH], titles[CAUSE_SPECIFIC]
    shown = {f"{cause}: Events": "Events", f"{dead}: Events": "Deaths"}
    shown |= {f"{title}: text": title for title in titles.values()}
    cells = cells[[*by, *shown]].rename(columns=shown)
    notes = (
        "Adjusted for age and sex, on the people of the main analysis. Fine-Gray: convention of "
        "survival::finegray with coxph (Efron's ties, robust errors), time since the index ECG.",
    )
    table = ReadTable("competing", "Cause-specific and subdistribution hazard ratios", cells, len(keys), notes)
    paragraphs = (
        "For aetiology read the cause-specific hazard ratio: the rate among those still at risk. "
        "For prediction read the subdistribution hazard ratio: the effect on cumulative incidence, "
        "which also falls when more people die first. The third column says whether they do.",
    )
    return Section("competing", "Competing risk of death", paragraphs, (table,))


TOPIC: Final = Topic("competing", aggregates, present)
