"""Everything beside the main table is of the same people, and says who is not among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from analysis.report.topics import cox_assumptions, hazard_ratios, sensitivity
from analysis.report.topics.hazard_ratios import INTERACTION
from analysis.report.topics.tables import HAZARD_RATIO
from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, one, rows_of
from tests.analysis.report.variations import with_study


@pytest.fixture(scope="module")
def data() -> StudyData:
    """Covariates of model 4 are missing in some 5 % of the people; BMI in a few more."""
    made = with_study(study_data(n=1500, seed=9), bootstrap=100)
    ecgs = made.ecgs.copy()
    ecgs.loc[::50, "bmi_kg_m2"] = np.nan
    return replace(made, ecgs=ecgs)


def test_main_estimate__is_the_same_wherever_it_stands(data: StudyData) -> None:
    main = one(rows_of(data, "hazard_ratios"), outcome="af", contrast="per SD", model=2)
    again = [
        one(rows_of(data, "sensitivity"), outcome="af", contrast="per SD", level=sensitivity.MAIN),
        one(rows_of(data, "competing"), outcome="af", contrast="per SD", measure=hazard_ratios.CAUSE_SPECIFIC),
    ]
    for row in again:
        assert row[["n_people", "n_events", "estimate", "se", "n_dropped_missing"]].tolist() == (
            main[["n_people", "n_events", "estimate", "se", "n_dropped_missing"]].tolist()
        )
    ten = one(rows_of(data, "hazard_ratios"), outcome="af", contrast="per 10", model=2)
    naive = one(rows_of(data, "calibrated"), measure="hazard ratio, naive")
    assert naive["estimate"] == pytest.approx(ten["estimate"], rel=1e-9)
    assert naive["n_people"] == ten["n_people"]


def test_n_dropped_missing__and_people_are_everybody_followed(data: StudyData) -> None:
    """Of subgroups and periods: everybody of the level who is followed."""
    table = data.analysed("af")
    n, complete = len(table), table.dropna(subset=COMPLETE)
    for key in ("hazard_ratios", "sensitivity", "competing", "dose_response", "calibrated"):
        rows = rows_of(data, key)
        of_levels = rows["contrast"].str.startswith("quartile ")  # of which each has its own people
        own = rows[(rows["outcome"] == "af") & ~rows["level"].str.startswith("clock") & ~of_levels]
        total = own["n_people"] + own["n_dropped_missing"]
        assert total.tolist() == [n] * len(own), key
    rows = rows_of(data, "subgroups")
    women = one(rows, outcome="af", level="female", contrast="per SD")
    assert women["n_people"] == (complete["sex"] == "female").sum()
    assert women["n_dropped_missing"] == (table["sex"] == "female").sum() - women["n_people"]
    tested = one(rows, outcome="af", strata="BMI, kg/m2", measure=INTERACTION)
    assert tested["n_people"] == complete["bmi_kg_m2"].notna().sum()
    assert tested["n_dropped_missing"] == n - tested["n_people"]
    rows = rows_of(data, "proportional_hazards")
    later = one(rows, outcome="af", level="2 to 5 years", contrast="per SD")
    assert later["n_people"] == (complete["years"] > 2).sum()
    assert later["n_dropped_missing"] == (table["years"] > 2).sum() - later["n_people"]
    tests = rows[rows["measure"] == cox_assumptions.TEST]
    assert (tests["n_dropped_missing"] > 0).all()


def test_added_value__is_of_the_people_of_the_main_analysis(data: StudyData) -> None:
    table = data.analysed("af")
    complete = table.dropna(subset=[*COMPLETE, "bmi_kg_m2"])
    rows = rows_of(data, "added_value")
    own = rows[rows["outcome"] == "af"]
    assert set(own["n_people"]) == {len(complete)}
    assert set(own["n_events"]) == {complete["event"].sum()}
    assert set(own["n_dropped_missing"]) == {len(table) - len(complete)}


def test_subgroups_and_periods__are_also_per_10(data: StudyData) -> None:
    for key in ("subgroups", "proportional_hazards"):
        rows = rows_of(data, key)
        ratios = rows[rows["measure"].isin([HAZARD_RATIO, cox_assumptions.PERIOD_RATIO])]
        names = ["outcome", "strata", "level"]
        steps = ratios[ratios["contrast"] != "LVH"].pivot(index=names, columns="contrast", values="estimate")
        assert list(steps.columns) == ["per 10", "per SD"]
        known = steps.dropna().astype(float)
        power = 10 / data.sd["exposure"]
        assert np.allclose(known["per 10"], known["per SD"] ** power, rtol=1e-9)


def test_mediators__are_warned_of_in_the_results_of_model_4(data: StudyData) -> None:
    rows = rows_of(data, "hazard_ratios")
    warned = rows["warnings"].str.contains("systolic pressure, mmHg may lie between LV mass and the")
    assert set(rows.loc[warned, "model"]) == {4}
    assert warned[rows["model"] == 4].all()
