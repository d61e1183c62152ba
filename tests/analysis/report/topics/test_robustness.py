"""E-values and detectable hazard ratios of a study, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.disclosure.masking import mask_all
from analysis.report.topics import robustness
from analysis.report.topics.added_value import UNO
from analysis.statistics.accuracy.concordance import uno_concordance
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, OFF, one, rows_of


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(n=1500, seed=2)


def test_e_value__is_of_the_main_hazard_ratio(data: StudyData) -> None:
    rows = {found.key: found.rows for found in robustness.TOPIC.aggregates(data)}["results_robustness"]
    main = one(rows_of(data, "hazard_ratios"), outcome="af", contrast="LVH", model=2)
    own = rows.query("outcome == 'af' and contrast == 'LVH'").set_index("measure")["estimate"]
    hr = main["estimate"]
    # The outcome is common, so that the hazard ratio is brought to a risk ratio first.
    assert main["n_events"] > 0.15 * main["n_people"]
    rr = (1 - 0.5 ** math.sqrt(hr)) / (1 - 0.5 ** math.sqrt(1 / hr))
    assert own[robustness.E_VALUE] == pytest.approx(rr + math.sqrt(rr * (rr - 1)))
    assert 1 <= own[robustness.E_LIMIT] < own[robustness.E_VALUE]


def test_detectable__is_of_the_events_and_of_what_age_and_sex_leave(data: StudyData) -> None:
    rows = {found.key: found.rows for found in robustness.TOPIC.aggregates(data)}["results_robustness"]
    table = data.analysed("af").dropna(subset=COMPLETE)
    x = table["exposure"] / data.sd["exposure"]
    design = np.column_stack([np.ones(len(table)), table["age_years"], table["sex"] == "male"]).astype(float)
    left = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    expected = math.exp((1.959964 + 0.841621) / math.sqrt(table["event"].sum() * left.var(ddof=0)))
    found = one(rows, outcome="af", contrast="per SD", measure=robustness.DETECTABLE)["estimate"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_section__has_a_row_for_each_contrast(data: StudyData) -> None:
    section = robustness.TOPIC.present(mask_all(robustness.TOPIC.aggregates(data), OFF), data.about)
    assert section is not None
    cells = section.items[0].cells
    assert cells["Contrast"].tolist() == ["per SD", "per 10", "LVH"] * 2


def test_uno__is_that_of_the_fit(data: StudyData) -> None:
    rows = rows_of(data, "added_value").query("outcome == 'af'")
    table = data.analysed("af").dropna(subset=[*COMPLETE, "bmi_kg_m2", "mass_g"])
    covariates = ["exposure", "age_years", Category("sex", reference="female")]
    fit = fit_cox(table, duration="time_days", event="event", covariates=covariates)
    expected = uno_concordance(fit, tau=float(np.quantile(table["time_days"], 0.9)))
    found = one(rows, contrast=data.about.exposure_name, adjustment="age, sex", measure=UNO)
    assert found["estimate"] == pytest.approx(expected.c)
