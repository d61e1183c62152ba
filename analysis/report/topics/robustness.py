"""How strong unmeasured confounding would have to be, and what the study could have found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, results
from analysis.disclosure.masking import Masked
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.topics.tables import (
    age_sex_model,
    contrasts_of_study,
    outcomes_and_parts,
    results_about,
    results_of,
)
from analysis.report.words import estimate_texts, row_counts, row_labels, side_by_side
from analysis.statistics.risk import e_value
from analysis.statistics.survival.power import minimum_detectable_hazard_ratio
from analysis.study.data import About, StudyData
from analysis.study.outcomes import Contrast, complete_rows, estimates, people_with_event

E_VALUE: Final = "E-value"
E_LIMIT: Final = "E-value of the limit nearer to 1"
DETECTABLE: Final = "smallest hazard ratio found with 80 % power"
_RARE: Final = 0.15


def _aggregates(data: StudyData) -> list[Aggregate]:
    """Return E-values and detectable ratios of each outcome and contrast, model 2."""
    rows = []
    for outcome, part in outcomes_and_parts(data):
        rows += results_about(outcome, "robustness", part, _rows(part, outcome))
    return [results("robustness", rows)]


def _rows(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    table = data.analysed(outcome)
    contrasts = contrasts_of_study(data)
    rows = []
    for contrast, row in zip(contrasts, estimates(table, data.study, contrasts, [age_sex_model(data)]), strict=True):
        blank = dict.fromkeys(("estimate", "se", "lo", "hi", "p", "p_ph"))
        found = _e_values(row) if row.get("estimate") is not None else {}
        found[DETECTABLE] = _detectable(table, data, contrast)
        rows += [row | blank | {"measure": measure, "estimate": value} for measure, value in found.items()]
    return rows


def _e_values(row: Mapping[str, Any]) -> dict[str, float | None]:
    found = e_value(
        hr=row["estimate"], lo=row["lo"], hi=row["hi"], rare_outcome=row["n_events"] < _RARE * row["n_people"]
    )
    return {E_VALUE: found.e_value, E_LIMIT: found.e_value_limit}


def _detectable(table: pd.DataFrame, data: StudyData, contrast: Contrast) -> float | None:
    """By the events, and by what of the exposure age and sex leave."""
    model = age_sex_model(data)
    own = complete_rows(table, data.study, [contrast.column], kept=["age_years", "sex"], model=model)
    exposure = own[contrast.column].to_numpy(dtype=float) / contrast.size
    male, age = (own["sex"] == "male").to_numpy(dtype=float), own["age_years"].to_numpy(dtype=float)
    n_events = people_with_event(own, data.study)
    if len(own) < 4 or not exposure.var() > 0 or not n_events:
        return None
    x = np.column_stack([np.ones(len(own)), male, age])
    left = exposure - x @ np.linalg.lstsq(x, exposure, rcond=None)[0]
    explained = min(max(1 - left.var() / exposure.var(), 0.0), 0.999)
    return minimum_detectable_hazard_ratio(n_events, float(exposure.var()), explained=explained)


def _present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table: a row per outcome and contrast."""
    found = results_of(masked, "robustness")
    if found is None:
        return None
    labels, counts = row_labels(found, about), row_counts(found, about)
    rows = found.rows.assign(**labels, **counts, Contrast=found.rows["contrast"], text=estimate_texts(found))
    cells = side_by_side(rows, by=[*labels, "Contrast", *counts], over="measure", values=["text"])
    notes = (
        "E-value: how strongly, as a risk ratio, an unmeasured confounder would have to be associated with both the "
        "exposure and the outcome, beyond age and sex, to explain the hazard ratio away (VanderWeele and Ding 2017; "
        "outcomes of 15 % or more by their approximation).",
        "Smallest hazard ratio: two-sided 5 %, 80 % power, for the events seen and the variance of the exposure that "
        "age and sex leave (Hsieh and Lavori 2000); its inverse below 1.",
    )
    table = ReadTable("robustness", "E-values and detectable hazard ratios", cells, len(labels) + 1, notes)
    return Section("robustness", "Unmeasured confounding and power", (), (table,))


TOPIC: Final = Topic("robustness", _aggregates, _present)
