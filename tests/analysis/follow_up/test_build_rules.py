"""The sentences of follow-up's rules, each with a case whose answer was worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.follow_up import FollowUpRules, IndexRule, OutcomeRule, build_follow_up
from analysis.statistics.columns import TableRefused
from lvm_core.tables.values import PLACEHOLDER_DATES
from tests.analysis.follow_up.one_person import AF, CODES, END, INDEX, build, hes, the_row

MI = OutcomeRule("mi", ("hes",))
LOST = {"ltfu_date": "2015-12-30"}
DEAD = {"death_date": "2015-12-30"}
NOBODY = ("x", "2015-01-01", "I48", "icd10", "hes")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"excluded": ["a"], "ecgs": [{"lvm_pred_g": None}]}, "excluded_by_list"),
        ({"ecgs": [{"lvm_pred_g": None, "recorded_at": None}], "person": {"region": None}}, "no_usable_ecg"),
        ({"person": {"region": None} | DEAD}, "unknown_region"),
        ({"person": DEAD, "ecgs": [{"recorded_at": "2023-01-01"}]}, "death_before_index"),
        ({"person": LOST, "ecgs": [{"recorded_at": "2023-01-01"}]}, "index_after_admin_end"),
        ({"person": LOST, "events": [hes("2015-01-01")]}, "lost_before_index"),
        ({"person": {"ltfu_date": INDEX}, "events": [hes(None)]}, "unknown_event_date"),
        ({"person": {"ltfu_date": INDEX}, "events": [hes(INDEX)]}, "prevalent"),
    ],
)
def test_exclusions__the_first_that_holds_is_counted(arguments: dict[str, Any], reason: str) -> None:
    assert the_row(**arguments)["excluded"] == reason


def test_exclusions__not_in_the_cohort_comes_before_withdrawn() -> None:
    records = [NOBODY, hes("2017-01-01")]
    people = build(events=records, withdrawn=["x"]).people.set_index("participant_id")
    assert people.loc["x", "excluded"] == "not_in_cohort"


def test_exclusions__missing_exposure_comes_before_unknown_region() -> None:
    rules = FollowUpRules((AF,), exposure="lvmi_pred_g_m2")
    row = the_row(ecgs=[{"lvmi_pred_g_m2": None}], person={"region": None}, rules=rules)
    assert row["excluded"] == "missing_exposure"


@pytest.mark.parametrize(
    ("record", "reason"), [(hes("2010-01-01", "I21"), "prevalent"), (hes(None, "I21"), "unknown_event_date")]
)
def test_exclusions__of_codes_are_of_their_own_outcome_only(record: Any, reason: str) -> None:
    people = build(events=[record], rules=FollowUpRules((AF, MI))).people.set_index("outcome")
    assert people.loc["mi", "excluded"] == reason
    assert people.loc["af", ["excluded", "time_days", "status"]].tolist() == [None, 2495, 0]


def test_exclusions__no_follow_up_time_is_of_the_sources_of_the_outcome() -> None:
    ends = pd.DataFrame(
        [("England", "hes", END), ("England", "death", INDEX)], columns=["region", "source", "end_date"]
    )
    people = build(ends=ends, rules=FollowUpRules((AF, MI))).people.set_index("outcome")
    assert people.loc["af", "excluded"] == "no_follow_up_time"
    assert people.loc["mi", "time_days"] == 2495


@pytest.mark.parametrize("day", [str(day) for day in PLACEHOLDER_DATES])
@pytest.mark.parametrize(
    ("other", "reason"),
    [(None, "unknown_event_date"), ("2018-01-01", "unknown_event_date"), ("2015-01-01", "prevalent")],
)
def test_placeholder_dates__are_unknown_unless_a_known_one_is_prevalent(
    day: str, other: str | None, reason: str
) -> None:
    records = [hes(day)] + ([hes(other)] if other else [])
    row = the_row(events=records)
    assert (row["excluded"], row["placeholder_date"]) == (reason, True)


def test_placeholder_dates__of_another_outcome_or_unnamed_source_do_not_matter() -> None:
    records = [hes("1900-01-01", "I21"), hes("1900-01-01", source="gp")]
    row = the_row(events=records)
    assert (row["excluded"], row["time_days"], row["placeholder_date"]) == (None, 2495, False)


@pytest.mark.parametrize(
    ("index", "end", "time_days"),
    [
        ("2016-02-29", "2017-02-28", 365),
        ("2016-02-28", "2016-03-01", 2),
        ("2015-02-28", "2015-03-01", 1),
        ("2019-12-31", "2020-12-31", 366),
    ],
)
def test_time__is_in_whole_days_of_the_calendar(index: str, end: str, time_days: int) -> None:
    row = the_row(ecgs=[{"recorded_at": index}], events=[hes(end)])
    assert (row["time_days"], row["status"]) == (time_days, 1)


def test_dates__are_local_and_never_moved_by_a_time_zone() -> None:
    late = the_row(ecgs=[{"recorded_at": "2016-01-01T23:30:00+05:00"}])
    assert late["index_date"] == pd.Timestamp(INDEX)
    zoned = pd.Timestamp("2016-01-01T23:30", tz="Asia/Tokyo")
    with pytest.raises(TableRefused, match="recorded_at has a time zone, which would move it"):
        the_row(ecgs=[{"recorded_at": zoned}])


@pytest.mark.parametrize("unit", ["us", "ns"])
def test_dates__of_parquet_with_a_time_zone_are_refused(unit: str, tmp_path: Path) -> None:
    day = pd.to_datetime(pd.Series(["2010-01-01T23:30"])).dt.tz_localize("Asia/Tokyo").dt.as_unit(unit)
    encounters = pd.DataFrame({"participant_id": ["a"], "date": day})
    encounters.to_parquet(tmp_path / "encounters.parquet")
    with pytest.raises(TableRefused, match="table encounters: date has a time zone"):
        build(encounters=tmp_path / "encounters.parquet")


def test_admin_end__is_that_of_the_own_region() -> None:
    persons = pd.DataFrame({"participant_id": ["e", "w"], "region": ["England", "Wales"]}, dtype=object)
    ecgs = persons.assign(ecg_id=persons["participant_id"], recorded_at=INDEX, lvm_pred_g=100.0)
    records = [(who, "2022-06-30", "I48", "icd10", "hes") for who in ("e", "w")]
    ends = [("England", "hes", "2022-10-31"), ("Wales", "hes", "2022-05-31")]
    people = build_follow_up(
        predictions=ecgs.drop(columns="region"),
        persons=persons,
        events=pd.DataFrame(records, columns=["participant_id", "date", "code", "system", "source"]),
        ends=pd.DataFrame(ends, columns=["region", "source", "end_date"]),
        code_list=CODES,
        rules=FollowUpRules((OutcomeRule("af", ("hes",)),)),
    ).people.set_index("participant_id")
    # 2016-01-01 to 2022-06-30 and to 2022-05-31: six years with two leap days, and half a year.
    assert people.loc["e", ["time_days", "status"]].tolist() == [2372, 1]
    assert people.loc["w", ["time_days", "status"]].tolist() == [2342, 0]


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (hes("2017-01-01", "I21"), 1),
        (hes("2017-01-01", "i.21"), 1),
        (hes("2017-01-01", "I210"), 0),
        (hes("2017-01-01", "I2"), 0),
    ],
)
def test_codes__exact_is_the_whole_code(record: Any, status: int) -> None:
    codes = pd.DataFrame([("I21", "ICD-10", "exact", "mi")], columns=["code", "system", "match", "outcome"])
    row = the_row(events=[record], code_list=codes, rules=FollowUpRules((MI,)))
    assert row["status"] == status


def test_repeated_records__count_once() -> None:
    record = hes("2017-01-01")
    found = build(events=[record, record, hes("2017-01-01", "I480"), hes("2018-01-01")])
    assert found.people[["time_days", "status"]].to_numpy().tolist() == [[366, 1]]
    hits = found.code_hits.set_index("code")
    assert hits.loc["I48", ["n_records", "n_people"]].tolist() == [3, 1]


@pytest.mark.parametrize(
    ("code", "match", "recorded", "is_found"),
    [
        ("I48-I49", "range", "I48.9", True),
        ("I48-I49", "range", "I49.8", True),
        ("I48-I49", "range", "I48X", True),
        ("I48-I49", "range", "I50.0", False),
        ("I48-I49", "range", "I47.9", False),
        ("I48-I49", "range", "I4", False),
        ("I21.0-I21.2", "range", "I21.29", True),
        ("I21.0-I21.2", "range", "I21.3", False),
        ("I21.0-I21.2", "range", "I21", False),
        ("I48", "exact", "I48X", True),  # hospital records fill codes of three signs up
        ("I48X", "exact", "I48", True),
        ("I48", "exact", "I480X", False),
        ("T36.0", "prefix", "T36.0X1A", True),
    ],
)
def test_codes__ranges_and_filled_up_codes(code: str, match: str, recorded: str, is_found: bool) -> None:
    written = code.replace(".", "")
    codes = pd.DataFrame([(written, "icd10", match, "af")], columns=["code", "system", "match", "outcome"])
    found = build(events=[hes("2017-01-01", recorded)], code_list=codes)
    assert found.people["status"].tolist() == [int(is_found)]
    assert found.code_hits["n_people"].tolist() == [int(is_found)]
    assert found.outcomes_without_records == (() if is_found else ("af",))


@pytest.mark.parametrize("name", ["ICD10CM", "ICD-10-CM", "icd_10", "ICD10 codes", " ICD-10 "])
def test_systems__are_one_whatever_the_records_call_them(name: str) -> None:
    assert the_row(events=[hes("2017-01-01", "I48.0", system=name)])["status"] == 1


def test_codes_caught__are_those_of_the_records_each_once() -> None:
    records = [
        hes("2017-01-01", "I48.0"),
        hes("2017-01-01", "i480"),
        hes("2017-01-02", "I48"),
        hes("2017-01-01", "J18"),
    ]
    caught = build(events=records).codes_caught
    assert caught[["outcome", "system", "code", "n_records", "n_people"]].values.tolist() == [
        ["af", "icd10", "I48", 1, 1],
        ["af", "icd10", "I480", 1, 1],
    ]


def test_records__name_the_systems_and_the_most_frequent_codes() -> None:
    records = build(
        events=[hes("2017-01-01", "J18"), hes("2017-01-02", "J18"), hes("2017-01-01", "K1", "opcs4")]
    ).records
    assert records.set_index("system")["n_records"].to_dict() == {"icd10": 2, "opcs4": 1}
    assert list(records["codes"][0]) == ["J18"]


def test_code_hits__are_of_the_cohort_and_zero_for_codes_never_seen() -> None:
    records = [NOBODY, hes("2017-01-01", "4273", "ICD9"), hes(None, "427.31", "icd9", "gp")]
    hits = build(events=records).code_hits
    assert hits.columns.tolist() == [*CODES.columns, "n_records", "n_people"]
    assert hits["code"].tolist() == CODES["code"].tolist()
    assert hits["n_records"].tolist() == [0, 2, 0, 0]
    assert hits["n_people"].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("lists", [{"withdrawn": ["a"]}, {"excluded": ["a"]}])
def test_code_hits__leave_out_people_who_withdrew_or_are_excluded(lists: dict[str, list[str]]) -> None:
    hits = build(events=[hes("2017-01-01")], **lists).code_hits
    assert hits[["n_records", "n_people"]].to_numpy().sum() == 0


def test_releases__are_the_labels_of_the_ends_each_once() -> None:
    rows = [
        ("England", "hes", END, "v2"),
        ("England", "death", END, " v2 "),
        ("Wales", "hes", END, "v1"),
        ("Wales", "death", END, None),
    ]
    ends = pd.DataFrame(rows, columns=["region", "source", "end_date", "release"])
    assert build(ends=ends).releases == ("v1", "v2")
    assert build().releases == ()


@pytest.mark.parametrize(
    ("change", "at_limit", "beyond"),
    [
        # 2016-01-31 is day 30, 2016-02-01 day 31.
        (lambda day: {"events": [hes(day)]}, "no_follow_up_time", (1, 1)),
        (lambda day: {"person": {"death_date": day}}, "no_follow_up_time", (1, 2)),
        (lambda day: {"person": {"ltfu_date": day}}, "no_follow_up_time", (1, 0)),
        (
            lambda day: {
                "ends": pd.DataFrame(
                    [("England", "hes", day), ("England", "death", END)], columns=["region", "source", "end_date"]
                )
            },
            "no_follow_up_time",
            (1, 0),
        ),
    ],
)
def test_latency__events_deaths_and_ends_up_to_it_drop_the_person(
    change: Any, at_limit: str, beyond: tuple[int, int]
) -> None:
    rules = FollowUpRules((AF,), latency_days=30)
    assert the_row(rules=rules, **change("2016-01-31"))["excluded"] == at_limit
    row = the_row(rules=rules, **change("2016-02-01"))
    assert (row["time_days"], row["status"]) == beyond


def test_latency__disease_before_the_index_stays_prevalent() -> None:
    rules = FollowUpRules((AF,), latency_days=30)
    assert the_row(rules=rules, events=[hes(INDEX)])["excluded"] == "prevalent"


def test_index_rule_all__people_and_ecgs_are_both_counted() -> None:
    ecgs = [{"ecg_id": "1"}, {"ecg_id": "2", "recorded_at": "2018-01-01"}]
    rules = FollowUpRules((AF,), index=IndexRule("all"))
    found = build(ecgs=ecgs, rules=rules, events=[hes("2017-01-01")])
    people = found.people.set_index("ecg_id")
    assert people.loc["1", ["time_days", "status"]].tolist() == [366, 1]
    assert people.loc["2", "excluded"] == "prevalent"
    flow = found.flow.set_index("reason")
    assert flow.loc["all", ["n_people", "n_rows"]].tolist() == [1, 2]
    assert flow.loc["prevalent", ["n_people", "n_rows"]].tolist() == [1, 1]
    assert flow.loc["analysed", ["n_people", "n_rows"]].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("on_ecg", "reason"), [(True, "prevalent"), ("yes", "prevalent"), (1, "prevalent"), ("No", None), (None, None)]
)
def test_af_on_the_index_ecg__is_prevalent_where_the_outcome_says_so(on_ecg: Any, reason: str | None) -> None:
    outcomes = (OutcomeRule("af", ("hes",), af_on_ecg=True), MI)
    people = build(ecgs=[{"af_on_ecg": on_ecg}], rules=FollowUpRules(outcomes)).people
    assert people["excluded"].tolist() == [reason, None]


@pytest.mark.parametrize(
    ("ecg", "reason"),
    [
        ({"rhythm": "af_flutter"}, "prevalent"),
        ({"rhythm": "sinus"}, None),
        ({"rhythm": "unknown"}, None),
        ({"rhythm": None}, None),
        ({"rhythm": "af_flutter", "af_on_ecg": False}, None),
    ],
)
def test_af_on_the_index_ecg__is_taken_from_the_rhythm(ecg: dict[str, Any], reason: str | None) -> None:
    rules = FollowUpRules((OutcomeRule("af", ("hes",), af_on_ecg=True), MI))
    assert build(ecgs=[ecg], rules=rules).people["excluded"].tolist() == [reason, None]


def test_af_on_ecg__of_another_ecg_does_not_count() -> None:
    ecgs = [{"ecg_id": "1", "af_on_ecg": False}]
    ecgs += [{"ecg_id": "2", "recorded_at": "2017-01-01", "af_on_ecg": True}]
    rules = FollowUpRules((OutcomeRule("af", ("hes",), af_on_ecg=True),))
    assert the_row(ecgs=ecgs, rules=rules)["excluded"] is None


@pytest.mark.parametrize(
    ("ecgs", "message"),
    [
        ([{}], "no column af_on_ecg; .*an outcome with af_on_ecg needs it"),
        ([{"af_on_ecg": "sinus"}], r"af_on_ecg that is neither yes nor no .*row 1: sinus"),
    ],
)
def test_af_on_ecg__that_is_not_there_or_neither_yes_nor_no_is_refused(ecgs: Any, message: str) -> None:
    rules = FollowUpRules((OutcomeRule("af", ("hes",), af_on_ecg=True),))
    with pytest.raises(TableRefused, match=message):
        build(ecgs=ecgs, rules=rules)
