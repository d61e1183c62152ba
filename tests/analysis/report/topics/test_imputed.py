"""Imputed covariates in a study: everybody is in, and the numbers are Rubin's of plain fits."""

from __future__ import annotations

import math

import pytest
from numpy.testing import assert_allclose

from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.report.topics import imputed
from analysis.study.data import StudyData
from tests.analysis.report.builders import study, study_data
from tests.analysis.report.outcome_rows import OFF, TOPICS, one
from tests.analysis.report.variations import with_study


@pytest.fixture(scope="module")
def data() -> StudyData:
    return with_study(study_data(n=1200, seed=2), missing="impute", imputations=5)


def test_imputed__is_of_everybody_who_is_followed(data: StudyData) -> None:
    tables = {one.key: one.rows for one in imputed.TOPIC.aggregates(data)}
    rows = tables["results_imputed"].query("outcome == 'af'")
    followed = data.analysed("af")
    for model in (1, 2, 3, 4):
        row = one(rows, contrast="per SD", model=model, measure=imputed.IMPUTED)
        assert row["n_people"] == len(followed)
        assert row["lo"] < row["estimate"] < row["hi"]
    # Where nothing is missing there is nothing to impute: model 2 is the fit of all rows.
    main = {one.key: one.rows for one in TOPICS["hazard_ratios"].aggregates(with_study(data, rows="all"))}
    same = one(main["results_hazard_ratios"], outcome="af", contrast="per SD", model=2)
    row = one(rows, contrast="per SD", model=2, measure=imputed.IMPUTED)
    assert_allclose([math.log(row["estimate"]), row["se"]], [math.log(same["estimate"]), same["se"]], rtol=1e-6)
    assert one(rows, contrast="per SD", model=2, measure=imputed.FMI)["estimate"] < 0.02
    values = tables["imputed_values"].set_index("variable")
    assert values.loc["systolic pressure, mmHg", "n_missing"] == followed["sbp_mmhg"].isna().sum()
    assert values.loc["systolic pressure, mmHg", "imputed"] == pytest.approx(138, abs=6)


def test_imputed__has_a_section_and_is_masked(data: StudyData) -> None:
    found = imputed.TOPIC.aggregates(data)
    section = imputed.TOPIC.present(mask_all(found, OFF), data.about)
    assert section is not None
    cells = section.items[0].cells
    assert set(cells["Model"]) == {f"Model {number}" for number in (1, 2, 3, 4)}
    assert (cells["Missing information"] != "–").all()
    assert mask_all(found, MaskingRule(10, 5))


def test_imputed__is_asked_for() -> None:
    assert imputed.TOPIC.aggregates(study_data(n=60)) == []
    with pytest.raises(ValueError, match="one ECG a person"):
        study(missing="impute", index={"rule": "all"})
