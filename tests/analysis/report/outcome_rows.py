"""Reading results of outcome topics in tests."""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.topics import (
    absolute_risk,
    added_value,
    cox_assumptions,
    hazard_ratios,
    measurement_error,
    rates,
    sensitivity,
)
from analysis.study.data import StudyData

OFF = MaskingRule(0, 1)
# By the key of their results.
TOPICS: dict[str, Topic] = {
    "hazard_ratios": hazard_ratios.TOPIC,
    "subgroups": hazard_ratios.TOPIC,
    "sensitivity": sensitivity.TOPIC,
    "competing": hazard_ratios.COMPETING,
    "proportional_hazards": cox_assumptions.PROPORTIONAL_HAZARDS,
    "dose_response": cox_assumptions.DOSE_RESPONSE,
    "added_value": added_value.TOPIC,
    "absolute_risk": absolute_risk.TOPIC,
    "standardised": absolute_risk.STANDARDISED,
    "calibrated": measurement_error.CALIBRATED,
    "negative_control": sensitivity.NEGATIVE_CONTROL,
    "rates": rates.TOPIC,
}
COVARIATES = ["height_cm", "weight_kg", "sbp_mmhg", "diabetes", "smoking"]
COMPLETE = ["exposure", "age_years", "sex", *COVARIATES]


def rows_of(data: StudyData, key: str) -> pd.DataFrame:
    """Return the results of a topic."""
    found = {one.key: one.rows for one in TOPICS[key].aggregates(data)}
    return found[f"results_{key}"]


def one(rows: pd.DataFrame, **values: Any) -> pd.Series:
    """Return the only row with these values."""
    own = rows
    for name, value in values.items():
        own = own[own[name] == value]
    assert len(own) == 1, (values, len(own))
    return own.iloc[0]


def section_of(data: StudyData, key: str, rule: MaskingRule = OFF) -> Section:
    """Return the section of a topic, in which it may need the tables of others."""
    aggregates = {one.key: one for one in TOPICS[key].aggregates(data)}
    found: Section | None = TOPICS[key].present(mask_all(list(aggregates.values()), rule), data.about)
    assert found is not None
    return found


def table_of(section: Section, key: str) -> ReadTable:
    """Return a table of a section."""
    return next(one for one in section.items if one.key == key and isinstance(one, ReadTable))
