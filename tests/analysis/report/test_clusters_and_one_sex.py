"""Cohorts in which people share households, and cohorts of one sex."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, TOPICS, one, rows_of, section_of, table_of
from tests.analysis.report.variations import only, repeated_ecgs, with_households, with_study

SEX = Category("sex", reference="female")


def _clusters(data: StudyData, table: pd.DataFrame) -> pd.Series:
    """The household by hand."""
    households = data.persons.set_index("participant_id")["household_id"]
    return table["participant_id"].map(households)


@pytest.mark.parametrize("repeats", [False, True])
def test_households__cluster_the_errors_with_people_nested_in_them(repeats: bool) -> None:
    made = repeated_ecgs(n=900) if repeats else study_data(n=900, seed=5)
    data = with_households(made)
    table = data.analysed("af").dropna(subset=COMPLETE)
    table = table.assign(home=_clusters(data, table))
    fit = fit_cox(table, duration="time_days", event="event", cluster="home", covariates=["exposure", "age_years", SEX])
    assert fit.n_clusters is not None
    assert fit.n_clusters < table["participant_id"].nunique()
    found = one(rows_of(data, "hazard_ratios"), outcome="af", contrast="per 10", model=2)
    assert found["se"] == pytest.approx(10 * fit.estimates["se"][0], rel=1e-9)
    assert found["se_type"] == "by household"
    note = table_of(section_of(data, "hazard_ratios"), "hazard_ratios").notes[0]
    assert "clustered by household, people nested in it" in note
    plain = one(rows_of(made, "hazard_ratios"), outcome="af", contrast="per 10", model=2)
    assert plain["estimate"] == found["estimate"]
    assert plain["se_type"] == ("by person" if repeats else "model")


def test_households__are_drawn_as_a_whole_and_tests_are_walds() -> None:
    data = with_households(study_data(n=900, seed=5))
    few = with_study(data, bootstrap=4)
    of_what = ("of the risk", "of the difference", "of the logarithm of the ratio")
    assert set(rows_of(few, "standardised")["se_type"]) == {f"bootstrap by household, {one}" for one in of_what}
    data = with_study(data, bootstrap=100)
    calibrated = rows_of(data, "calibrated").set_index("measure")["se_type"]
    assert calibrated.tolist() == ["by household", "bootstrap by household"]
    assert "Wald chi-square" in set(rows_of(data, "added_value")["measure"])
    rows = rows_of(data, "subgroups")
    assert rows.loc[rows["level"] == "interaction", "p"].notna().all()
    competing = rows_of(data, "competing")
    assert set(competing["se_type"]) == {"by household", "robust by household"}


@pytest.fixture(scope="module")
def women() -> StudyData:
    data = study_data(n=2000, seed=3)
    made = only(data, data.ecgs["sex"] == "female")
    outcomes = made.study.outcomes
    return with_study(made, outcomes=outcomes[:1], negative_control=outcomes[1])


def test_one_sex__is_adjusted_for_what_varies_and_says_so(women: StudyData) -> None:
    table = women.analysed("af").dropna(subset=COMPLETE)
    options = {"duration": "time_days", "event": "event"}
    rows = rows_of(women, "hazard_ratios")
    for model, covariates in ((2, ["age_years"]), (3, ["age_years", "height_cm", "weight_kg"])):
        fit = fit_cox(table, covariates=["exposure", *covariates], **options)
        found = one(rows, contrast="per 10", model=model)
        assert_allclose(np.log(float(found["estimate"])), 10 * fit.estimates["coef"][0], rtol=1e-7)
        assert found["adjustment"].endswith("(sex is left out: all are female)")
    note = table_of(section_of(women, "hazard_ratios"), "hazard_ratios").notes[1]
    assert "model 2 age, sex (sex is left out: all are female)" in note


@pytest.mark.parametrize("key", list(TOPICS))
def test_one_sex__has_estimates_in_every_topic(women: StudyData, key: str) -> None:
    rows = rows_of(with_study(women, bootstrap=100 if key == "calibrated" else 4), key)
    assert rows["estimate"].notna().any()
    assert not rows["warnings"].str.contains("constant").any()


def test_one_sex__has_subgroups_of_the_other_kinds(women: StudyData) -> None:
    rows = rows_of(women, "subgroups")
    assert set(rows["strata"]) == {"Age, years", "BMI, kg/m2"}
    assert rows.loc[rows["level"] == "interaction", "p"].notna().all()
