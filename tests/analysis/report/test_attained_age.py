"""The scale of attained age: who has no birth date is counted, and labels say which scale it is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from analysis.report.document import ReadFigure
from analysis.report.topics.cox_assumptions import TEST
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import COMPLETE, TOPICS, one, rows_of, section_of
from tests.analysis.report.variations import with_study

SEX = Category("sex", reference="female")
UNKNOWN = 40


@pytest.fixture(scope="module")
def data() -> StudyData:
    """Of forty people the birth date is not known."""
    made = with_study(study_data(n=1500, seed=4), time_scale="attained_age", bootstrap=100)
    births = made.follow_up["participant_id"].isin(made.ecgs["participant_id"].iloc[:UNKNOWN])
    names = ["entry_age_days", "exit_age_days"]
    return replace(
        made,
        follow_up=made.follow_up.assign(**{name: made.follow_up[name].mask(births) for name in names}),
        ecgs=made.ecgs.assign(entry_age_days=made.ecgs["entry_age_days"].mask(made.ecgs.index < UNKNOWN)),
    )


def test_unknown_births__are_dropped_and_counted(data: StudyData) -> None:
    whole = data.analysed("af")
    table = whole.dropna(subset=[*COMPLETE, "exit_age_days"])
    fit = fit_cox(
        table.astype({"entry_age_days": float, "exit_age_days": float}),
        duration="exit_age_days",
        entry="entry_age_days",
        event="event",
        covariates=["exposure", SEX],
    )
    for key in ("hazard_ratios", "competing", "sensitivity"):
        rows = rows_of(data, key)
        own = rows[(rows["outcome"] == "af") & (rows["contrast"] == "per 10")]
        found = own[(own["model"] == 2) & (own["level"].isin(["", "main analysis"]))].iloc[0]
        assert math.log(found["estimate"]) == pytest.approx(10 * fit.estimates["coef"][0])
        assert found["n_people"] == len(table)
        assert found["n_dropped_missing"] == len(whole) - len(table) > UNKNOWN / 2
    for key in ("subgroups", "proportional_hazards", "dose_response", "added_value", "calibrated"):
        rows = rows_of(data, key)
        assert rows["estimate"].notna().any(), key
        assert not rows["warnings"].str.contains("missing values").any(), key


def test_labels__of_the_scale(data: StudyData) -> None:
    tests = rows_of(data, "proportional_hazards")
    assert set(tests.loc[tests["measure"] == TEST, "adjustment"]) == {"sex (age is the time scale)"}
    risks = rows_of(data, "absolute_risk")
    assert set(risks["time_scale"]) == {"days since the index ECG"}
    main = rows_of(data, "hazard_ratios")
    assert set(main["time_scale"]) == {"attained age, days"}


def test_schoenfeld__is_over_age(data: StudyData) -> None:
    section = section_of(data, "proportional_hazards")
    figure = next(item for item in section.items if isinstance(item, ReadFigure))
    assert isinstance(figure.canvas, Figure)
    axes = figure.canvas.axes[0]
    assert axes.get_xlabel() == "Attained age, years"
    assert axes.get_xlim()[0] > 40
    assert "over attained age for" in figure.title
    assert "at age " in figure.alt
    plain = section_of(with_study(data, time_scale="follow_up"), "proportional_hazards")
    other = next(item for item in plain.items if isinstance(item, ReadFigure))
    assert isinstance(other.canvas, Figure)
    assert other.canvas.axes[0].get_xlabel() == "Years since the index ECG"


def test_rates__say_that_no_curve_is_on_the_scale_of_age(data: StudyData) -> None:
    expected = "no curve is drawn on attained age"
    assert any(expected in text for text in section_of(data, "rates").paragraphs)
    plain = with_study(data, time_scale="follow_up")
    assert not any(expected in text for text in section_of(plain, "rates").paragraphs)


def test_errors__say_what_they_are_of(data: StudyData) -> None:
    calibrated = rows_of(data, "calibrated").set_index("measure")["se_type"]
    assert calibrated["hazard ratio, naive"] == "model"
    assert calibrated["hazard ratio, calibrated"] == "bootstrap by person"
    risks = one(rows_of(data, "absolute_risk"), outcome="af", measure="AUC at the horizon", adjustment="age, sex")
    assert risks["se_type"] == "influence of each person, and of the split (5 times cross-fitted)"
    assert TOPICS["calibrated"].aggregates(data)[0].key == "results_calibrated"
