"""Quartiles in the table of hazard ratios: people and events of each level, with the reference."""

from __future__ import annotations

import math

import pytest
from numpy.testing import assert_allclose

from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, rows_of, section_of, table_of

WORDS = ["quartile 1 (reference)", *(f"quartile {q} against 1" for q in (2, 3, 4))]


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(n=1500, seed=2)


def test_quartiles__have_their_own_people_and_events(data: StudyData) -> None:
    rows = rows_of(data, "hazard_ratios").query("outcome == 'af' and model == 2").set_index("contrast")
    table = data.analysed("af").dropna(subset=[*COMPLETE, "quartile"])
    by_hand = table.groupby("quartile")["event"].agg(["size", "sum"])
    own = rows.loc[WORDS]
    assert own["n_people"].tolist() == by_hand["size"].tolist()
    assert own["n_events"].tolist() == by_hand["sum"].tolist()
    whole = rows.loc["trend over quartiles"]
    assert (own["n_people"].sum(), own["n_dropped_missing"].sum()) == (whole["n_people"], whole["n_dropped_missing"])
    assert set(own["n_events_fewest"]) == {by_hand["sum"].min()}
    options = {"duration": "time_days", "event": "event"}
    fit = fit_cox(
        table,
        covariates=[Category("quartile", reference=1.0), "age_years", Category("sex", reference="female")],
        **options,
    )
    assert own["estimate"].iloc[0] == 1
    assert_allclose([math.log(x) for x in own["estimate"].iloc[1:]], fit.estimates["coef"][:3], rtol=1e-7)


def test_quartiles__the_reference_is_a_row_of_the_table(data: StudyData) -> None:
    section = section_of(data, "hazard_ratios")
    cells = table_of(section, "hazard_ratios").cells
    first = cells[(cells["Contrast"] == WORDS[0])].iloc[0]
    assert first["Model 2"] == "1.00"
    arms = table_of(section, "hazard_ratio_arms").cells
    assert arms["Level"].tolist() == ["no LVH", "LVH"] * 2
    complete = data.analysed("af").dropna(subset=[*COMPLETE, "lvh"])
    assert arms["People"].iloc[0] == f"{(complete['lvh'] == 0).sum():,}"
