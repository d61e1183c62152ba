"""Reading results of outcome topics in tests."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pandas as pd

from analysis.report import (
    topic_absolute_risk,
    topic_added_value,
    topic_calibrated,
    topic_competing,
    topic_dose_response,
    topic_hazard_ratios,
    topic_negative_control,
    topic_proportional_hazards,
    topic_rates,
    topic_sensitivity,
    topic_standardised,
)
from analysis.report.document import ReadTable, Section
from analysis.report.masking import MaskingRule, mask_all
from analysis.report.study_data import StudyData

OFF = MaskingRule(0, 1)
# By the key of their results.
TOPICS: dict[str, ModuleType] = {
    "hazard_ratios": topic_hazard_ratios,
    "subgroups": topic_hazard_ratios,
    "sensitivity": topic_sensitivity,
    "competing": topic_competing,
    "proportional_hazards": topic_proportional_hazards,
    "dose_response": topic_dose_response,
    "added_value": topic_added_value,
    "absolute_risk": topic_absolute_risk,
    "standardised": topic_standardised,
    "calibrated": topic_calibrated,
    "negative_control": topic_negative_control,
    "rates": topic_rates,
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
