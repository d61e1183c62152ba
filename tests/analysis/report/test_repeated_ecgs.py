"""Studies of all ECGs: errors by person, events of people, and both numbers everywhere."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from analysis.disclosure.counts import EVERYBODY
from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.report.topics import added_value, baseline, rates
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData
from tests.analysis.report.outcome_rows import COMPLETE, TOPICS, one, rows_of, section_of, table_of
from tests.analysis.report.variations import repeated_ecgs, with_study

SEX = Category("sex", reference="female")
# Tables of these sections, and what else they are drawn from.
TABLES = {
    "hazard_ratios": "hazard_ratios",
    "negative_control": "negative_control",
    "added_value": "added_value",
    "competing": "competing",
    "sensitivity": "sensitivity",
    "periods": "proportional_hazards",
    "nonlinearity": "dose_response",
    "calibrated": "calibrated",
}


@pytest.fixture(scope="module")
def data() -> StudyData:
    made = with_study(repeated_ecgs(n=1200), bootstrap=100)
    control = made.study.outcomes[1]
    settings = {"outcomes": made.study.outcomes[:1], "negative_control": control}
    return with_study(made, **settings)


def test_events__are_people_and_errors_are_theirs(data: StudyData) -> None:
    table = data.analysed("af").dropna(subset=COMPLETE)
    fit = fit_cox(
        table, duration="time_days", event="event", cluster="participant_id", covariates=["exposure", "age_years", SEX]
    )
    found = one(rows_of(data, "hazard_ratios"), outcome="af", contrast="per 10", model=2)
    people = table.loc[table["event"], "participant_id"].nunique()
    assert found["n_events"] == people < table["event"].sum()
    assert (found["n_people"], found["n_ecgs"]) == (table["participant_id"].nunique(), len(table))
    assert found["se"] == pytest.approx(10 * fit.estimates["se"][0], rel=1e-9)
    assert found["se_type"] == "by person"


def test_few_events__are_counted_by_people(data: StudyData) -> None:
    """Twenty rows with the event in ten people: ten events for the five parameters of model 3."""
    events = data.follow_up["status"].eq(1).fillna(False)
    ids = data.follow_up.loc[events & data.follow_up["ecg_id"].str.endswith("later"), "participant_id"].unique()[:10]
    fewer = data.follow_up[~events | data.follow_up["participant_id"].isin(ids)]
    rows = rows_of(replace(data, follow_up=fewer), "hazard_ratios")
    found = one(rows, outcome="af", contrast="per SD", model=3)
    assert found["n_events"] <= 10
    quoted = re.search(r"(\d+) events for 5 parameters", found["warnings"])
    assert quoted is not None
    assert int(quoted[1]) == found["n_events"]


def test_masking__five_people_with_the_event_are_few_however_many_ecgs(data: StudyData) -> None:
    """LVH and the event: five people with two ECGs each, ten rows."""
    table = data.analysed("af")
    both = table[table["event"] & (table["lvh"] == 1)].groupby("participant_id").size()
    kept = set(both[both == 2].index[:5])
    assert len(kept) == 5
    drop = data.follow_up["participant_id"].isin(set(both.index) - kept)
    rows = rows_of(replace(data, follow_up=data.follow_up[~drop]), "hazard_ratios")
    found = one(rows, outcome="af", contrast="LVH", model=1)
    assert found["n_events_fewest"] == 5
    masked = mask_all(
        TOPICS["hazard_ratios"].aggregates(replace(data, follow_up=data.follow_up[~drop])), MaskingRule(10, 5)
    )["results_hazard_ratios"].rows
    assert masked.loc[masked["contrast"] == "LVH", "estimate"].isna().all()
    assert masked.loc[masked["contrast"] == "per SD", "estimate"].notna().all()


def test_schoenfeld__a_bin_is_of_ten_people(data: StudyData) -> None:
    bins = {a.key: a.rows for a in TOPICS["proportional_hazards"].aggregates(data)}["schoenfeld"]
    table = data.analysed("af").dropna(subset=COMPLETE)
    assert bins["n_events"].sum() >= table.loc[table["event"], "participant_id"].nunique()
    assert bins["n_events"].sum() < table["event"].sum() + len(bins)
    assert len(bins) <= table.loc[table["event"], "participant_id"].nunique() // 10


@pytest.mark.parametrize("table", list(TABLES))
def test_tables__have_people_and_ecgs(data: StudyData, table: str) -> None:
    shown = table_of(section_of(data, TABLES[table]), table).cells
    assert ["People", "ECGs"] == [name for name in shown if name in ("People", "ECGs")]
    assert (shown["People"] != shown["ECGs"]).all()


def test_added_value__names_walds_test(data: StudyData) -> None:
    rows = rows_of(data, "added_value")
    assert added_value.LIKELIHOOD not in set(rows["measure"])
    tests = rows[rows["measure"] == added_value.WALD]
    assert len(tests) == 5  # four of the exposure and one over model 4, of one outcome
    assert tests["p"].notna().all()
    section = section_of(data, "added_value")
    shown = table_of(section, "added_value")
    assert "P (Wald)" in shown.cells
    assert "likelihood-ratio" not in shown.notes[0]


def test_people__count_once_in_rates_table_1_and_absolute_risk(data: StudyData) -> None:
    """Curves, rates, Table 1 and absolute risk take one ECG per person (study rules 2)."""
    n = data.analysed("af")["participant_id"].nunique()
    published = {a.key: a.rows for a in rates.TOPIC.aggregates(data)}
    assert one(published["rates"], outcome="af", group=EVERYBODY)["n_people"] == n
    risk = published["incidence_at_risk"]
    everybody = risk[(risk["group"] == EVERYBODY) & (risk["classification"] == "Predicted LVH")]
    assert set(everybody["n_people"]) == {n}
    numbers = {a.key: a.rows for a in baseline.aggregates(data)}["baseline_numbers"]
    people = data.ecgs["participant_id"].nunique()
    assert set(numbers.loc[numbers["group"] == EVERYBODY, "n_people"]) == {people}
    rows = rows_of(data, "absolute_risk")
    known = data.analysed("af").drop_duplicates("participant_id")
    known = known.dropna(subset=["exposure", "age_years", "sex"])
    assert pd.Series(rows["n_people"]).tolist() == [len(known)] * len(rows)
    assert (rows["n_ecgs"] == rows["n_people"]).all()


def test_periods__tell_that_an_event_is_counted_where_an_ecg_reaches_it(data: StudyData) -> None:
    rows = rows_of(data, "proportional_hazards")
    own = rows[(rows["outcome"] == "af") & (rows["contrast"] == "per SD") & (rows["strata"] != "")]
    analysed = data.analysed("af").dropna(subset=COMPLETE)
    people = analysed.loc[analysed["event"], "participant_id"].nunique()
    assert own["n_events"].sum() > people
    notes = table_of(section_of(data, "proportional_hazards"), "periods").notes
    assert notes == ("A person's events are counted in each period that one of the ECGs reaches.",)
