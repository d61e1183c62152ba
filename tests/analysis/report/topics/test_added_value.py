"""What the ECG adds to the study's covariates and to a clinical score, and few events."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from analysis.report.topics import added_value
from analysis.statistics.accuracy.concordance import concordance
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData
from analysis.study.settings import StudyCovariate
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, one, rows_of, section_of, table_of

OPTIONS = {"duration": "time_days", "event": "event"}


@pytest.fixture(scope="module")
def data() -> StudyData:
    """With a clinical score: age and pressure with noise; unknown in a few."""
    made = study_data(n=1500, seed=2)
    rng = np.random.default_rng(3)
    score = 0.05 * made.ecgs["age_years"] + 0.01 * made.ecgs["sbp_mmhg"] + rng.normal(0, 0.5, len(made.ecgs))
    settings = {"clinical_score": StudyCovariate(name="charge_af", kind="number", label="CHARGE-AF")}
    return replace(
        made, study=made.study.model_copy(update=settings), ecgs=made.ecgs.assign(charge_af=score.where(score > 3.5))
    )


def test_clinical_score__is_a_base_and_a_comparator(data: StudyData) -> None:
    rows = rows_of(data, "added_value").query("outcome == 'af'")
    table = data.analysed("af").dropna(subset=[*COMPLETE, "bmi_kg_m2", "mass_g", "charge_af"])
    alone, both = (fit_cox(table, covariates=names, **OPTIONS) for names in (["charge_af"], ["exposure", "charge_af"]))
    name = data.about.exposure_name
    gain = one(rows, contrast=name, adjustment="CHARGE-AF", measure=added_value.DELTA)
    assert_allclose(gain["estimate"], concordance(both).c - concordance(alone).c, rtol=1e-9)
    tested = one(rows, contrast=name, adjustment="CHARGE-AF", measure=added_value.LIKELIHOOD)
    assert_allclose(tested["estimate"], both.likelihood_ratio_test(alone).chi2, rtol=1e-9)
    sex = Category("sex", reference="female")
    beside = fit_cox(table, covariates=["charge_af", "age_years", sex], **OPTIONS)
    found = one(rows, contrast="CHARGE-AF (comparator)", adjustment="age, sex", measure=added_value.C)
    assert_allclose(found["estimate"], concordance(beside).c, rtol=1e-9)


def test_model_4__is_a_base(data: StudyData) -> None:
    rows = rows_of(data, "added_value").query("outcome == 'af'")
    words = "model 3, systolic pressure, mmHg, diabetes, smoking"
    assert one(rows, contrast=data.about.exposure_name, adjustment=words, measure=added_value.LIKELIHOOD)["p"] < 0.05
    cells = table_of(section_of(data, "added_value"), "added_value").cells
    assert words in set(cells["To"])
    assert "CHARGE-AF" in set(cells["To"])


def test_few_events__are_warned_of_beside_c(data: StudyData) -> None:
    own = data.follow_up
    events = own.index[(own["outcome"] == "af") & (own["status"] == 1)]
    few = replace(data, follow_up=own.assign(status=own["status"].where(~own.index.isin(events[9:]), 0)))
    rows = rows_of(few, "added_value").query("outcome == 'af'")
    of_c = rows[(rows["measure"] == added_value.C) & (rows["contrast"] == data.about.exposure_name)]
    assert of_c["warnings"].str.contains("fewer than 10 each").all()
    assert ((of_c["lo"] > 0) & (of_c["hi"] < 1)).all()
