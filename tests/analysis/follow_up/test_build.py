"""Follow-up: the given cases, and one case written by hand for each rule."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.follow_up import Exclusion, FollowUpRules, IndexRule, OutcomeRule, build_follow_up
from analysis.statistics.columns import TableRefused
from lvm_core.errors import LvmError
from tests.analysis.follow_up.one_person import AF, CODES, END, INDEX, RULES, build, hes, the_row
from tests.analysis.statistics.references import GOLDEN, expected

FOLDER = GOLDEN / "followup"


def _given(order: int | None) -> dict[str, Any]:
    files = {"predictions": "ecgs", "persons": "persons", "events": "events"}
    paths: dict[str, Any] = {name: FOLDER / f"{file}.csv" for name, file in files.items()}
    if order is None:
        return paths
    return {name: pd.read_csv(path, dtype=str).sample(frac=1, random_state=order) for name, path in paths.items()}


def _given_ends() -> pd.DataFrame:
    days = expected("followup")["rules"]["admin_end"]
    rows = [(region, source, day) for region, day in days.items() for source in ("hes", "death")]
    return pd.DataFrame(rows, columns=["region", "source", "end_date"])


@pytest.mark.parametrize("order", [None, 1, 2, 3])
def test_build_follow_up__the_given_cases_in_any_order_of_rows(order: int | None) -> None:
    rules = FollowUpRules((OutcomeRule("af", ("hes", "death")),))
    found = build_follow_up(**_given(order), ends=_given_ends(), code_list=CODES, rules=rules)
    people = found.people.set_index("participant_id")
    cases = expected("followup")["expected"]
    assert set(people.index) == set(cases)
    for person, case in cases.items():
        row = people.loc[person]
        if "excluded" in case:
            assert row["excluded"] == case["excluded"], person
            assert pd.isna(row["time_days"])
        else:
            assert pd.isna(row["excluded"]), person
            assert (row["time_days"], row["status"]) == (case["time"], case["status"]), person
        assert row["ecg_id"] == case.get("ecg_id", row["ecg_id"]) or person == "20"
        assert row["placeholder_date"] == (case.get("flag") == "placeholder_date")


def test_build_follow_up__mixed_dates_are_refused_with_row_numbers() -> None:
    tables = _given(None) | {"events": FOLDER / "events_mixed_dates.csv"}
    with pytest.raises(
        TableRefused, match=r"events has date of another format in 3 rows \(row 2: 05/03/2016, 3: 13/03/2016"
    ):
        build_follow_up(**tables, ends=_given_ends(), code_list=CODES, rules=RULES)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"withdrawn": ["a"], "excluded": ["a"]}, "withdrawn"),
        ({"excluded": ["a"]}, "excluded_by_list"),
        ({"ecgs": [{"lvm_pred_g": None}]}, "no_usable_ecg"),
        ({"ecgs": [{"recorded_at": None}]}, "no_usable_ecg"),
        ({"person": {"region": None}}, "unknown_region"),
        ({"person": {"region": "Narnia"}}, "unknown_region"),
        ({"person": {"death_date": "2015-12-31"}}, "death_before_index"),
        ({"person": {"death_date": INDEX}}, "no_follow_up_time"),
        ({"person": {"ltfu_date": "2015-12-31"}}, "lost_before_index"),
        ({"person": {"ltfu_date": INDEX}}, "no_follow_up_time"),
        ({"ecgs": [{"recorded_at": "2022-11-01"}]}, "index_after_admin_end"),
        ({"ecgs": [{"recorded_at": END}]}, "no_follow_up_time"),
        ({"events": [hes("2015-12-31")]}, "prevalent"),
        ({"events": [hes(INDEX)]}, "prevalent"),
        ({"events": [hes(INDEX, "1471", "Self Report", "self")]}, "prevalent"),
        ({"events": [hes(None)]}, "unknown_event_date"),
        ({"events": [hes("unknown")]}, "unknown_event_date"),
        ({"events": [hes("1900-01-01")]}, "unknown_event_date"),
        ({"events": [hes("1902-02-02"), hes("2018-01-01")]}, "unknown_event_date"),
        ({"events": [hes("1902-02-02"), hes("2015-01-01")]}, "prevalent"),
        # Dead before the index and prevalent: the first reason in the list counts.
        ({"events": [hes("2010-01-01")], "person": {"death_date": "2015-01-01"}}, "death_before_index"),
    ],
)
def test_exclusions__each_by_its_rule(arguments: dict[str, Any], reason: str) -> None:
    assert the_row(**arguments)["excluded"] == reason


@pytest.mark.parametrize(
    ("arguments", "time_days", "status"),
    [
        ({}, 2495, 0),
        ({"events": [hes("2016-01-02")]}, 1, 1),
        ({"events": [hes(END)]}, 2495, 1),
        ({"events": [hes("2022-11-01")]}, 2495, 0),
        ({"person": {"death_date": "2017-01-01"}}, 366, 2),
        ({"person": {"death_date": END}}, 2495, 2),
        ({"person": {"death_date": "2022-11-01"}}, 2495, 0),
        ({"person": {"ltfu_date": "2017-01-01"}}, 366, 0),
        ({"person": {"ltfu_date": "2017-01-01", "death_date": "2017-01-01"}}, 366, 2),
        ({"person": {"ltfu_date": "2017-01-01", "death_date": "2018-01-01"}}, 366, 0),
        ({"person": {"death_date": "2017-01-01"}, "events": [hes("2017-01-01")]}, 366, 1),
        # Only the codes of the outcome count, in their own system; case and dots do not.
        ({"events": [hes("2017-01-01", "i48.0")]}, 366, 1),
        ({"events": [hes("2017-01-01", "I4")]}, 2495, 0),
        ({"events": [hes("2017-01-01", "I21")]}, 2495, 0),
        ({"events": [hes("2010-01-01", "I21")]}, 2495, 0),
        ({"events": [hes("2017-01-01", "I48", "icd9")]}, 2495, 0),
        ({"events": [hes("2017-01-01", "4273", "ICD9")]}, 366, 1),
        # Self-report counts for disease at the index, not for an event after it.
        ({"events": [hes("2017-01-01", "1471", "self-report", "self")]}, 2495, 0),
        ({"events": [hes("2017-01-01", "14710", "self-report", "hes")]}, 2495, 0),
        # A source that no outcome names is not read.
        ({"events": [hes("2010-01-01", source="gp")]}, 2495, 0),
    ],
)
def test_time_and_status__each_by_its_rule(arguments: dict[str, Any], time_days: int, status: int) -> None:
    row = the_row(**arguments)
    assert (row["excluded"], row["time_days"], row["status"]) == (None, time_days, status)


def test_deaths__may_be_a_table_of_their_own_but_not_in_two() -> None:
    deaths = pd.DataFrame({"participant_id": ["a"], "death_date": ["2017-01-01"], "ltfu_date": [None]})
    row = the_row(deaths=deaths)
    assert (row["time_days"], row["status"]) == (366, 2)
    with pytest.raises(TableRefused, match=r"has dates of death or loss .death_date. in 1 rows, and so has table"):
        the_row(deaths=deaths, person={"death_date": "2018-01-01"})
    lost = the_row(deaths=deaths, person={"ltfu_date": "2016-06-01"})
    assert (lost["end_reason"], lost["time_days"], lost["status"]) == ("lost", 152, 0)


def test_outcome_after_death__is_flagged_and_the_death_counts() -> None:
    row = the_row(person={"death_date": "2017-01-01"}, events=[hes("2017-01-02")])
    assert (row["status"], row["time_days"], row["event_after_death"]) == (2, 366, True)


def test_undated_self_report__made_by_the_index_is_prevalent_and_later_unknown() -> None:
    def reported(day: str) -> pd.Series:
        return the_row(events=[(*hes(None, "1471", "self-report", "self"), day)])

    assert reported(INDEX)["excluded"] == "prevalent"
    assert reported("2016-01-02")["excluded"] == "unknown_event_date"


def test_admin_end__is_the_earliest_of_the_sources_that_the_outcome_needs() -> None:
    ends = pd.DataFrame(
        [("England", "hes", "2020-01-01"), ("England", "death", END), ("England", "gp", "2017-01-01")],
        columns=["region", "source", "end_date"],
    )
    assert the_row(ends=ends)["exit_date"] == pd.Timestamp("2020-01-01")
    death = FollowUpRules((OutcomeRule("af", ("death",)),))
    assert the_row(ends=ends, rules=death)["exit_date"] == pd.Timestamp(END)
    with pytest.raises(TableRefused, match="no last day of records of source 'hes' in region 'England'"):
        the_row(ends=ends[1:])


@pytest.mark.parametrize(
    ("window", "event", "reason"),
    [(365, "2015-01-01", "prevalent"), (365, "2014-12-31", None), (None, "1950-01-01", "prevalent")],
)
def test_prevalent_window__counts_back_from_the_index(window: int | None, event: str, reason: str | None) -> None:
    rules = FollowUpRules((AF,), prevalent_window_days=window)
    assert the_row(events=[hes(event)], rules=rules)["excluded"] == reason


@pytest.mark.parametrize(
    ("day", "expected_row"),
    [("2016-01-31", ("no_follow_up_time", pd.NA, pd.NA)), ("2016-02-01", (None, 1, 1)), (None, (None, 2465, 0))],
)
def test_latency__drops_up_to_the_landmark_and_starts_the_clock_there(
    day: str | None, expected_row: tuple[Any, ...]
) -> None:
    rules = FollowUpRules((AF,), latency_days=30)
    row = the_row(events=[hes(day)] if day else [], rules=rules)
    got = (row["excluded"], row["time_days"], row["status"])
    assert [str(value) for value in got] == [str(value) for value in expected_row]


THREE = [
    {"ecg_id": "2", "recorded_at": "2018-05-01"},
    {"ecg_id": "1b", "recorded_at": "2016-01-01"},
    {"ecg_id": "1a", "recorded_at": "2016-01-01T23:00"},
    {"ecg_id": "0", "recorded_at": "2014-01-01", "lvm_pred_g": float("nan")},
]


@pytest.mark.parametrize(
    ("index", "ecg_ids"),
    [
        (IndexRule(), ["1a"]),
        (IndexRule("first", dt.date(2016, 1, 2)), ["2"]),
        (IndexRule("first", dt.date(2019, 1, 1)), [None]),
        (IndexRule("last_on_or_before", dt.date(2018, 5, 1)), ["2"]),
        (IndexRule("last_on_or_before", dt.date(2018, 4, 30)), ["1a"]),
        (IndexRule("last_on_or_before", dt.date(2018, 4, 30), max_days=100), [None]),
        (IndexRule("all"), ["1a", "1b", "2"]),
    ],
)
def test_index_rule__picks_by_date_and_then_by_ecg_id(index: IndexRule, ecg_ids: list[Any]) -> None:
    found = build(ecgs=THREE, rules=FollowUpRules((AF,), index=index))
    assert found.people["ecg_id"].tolist() == ecg_ids


def test_index_rule_all__each_ecg_has_its_own_follow_up() -> None:
    rules = FollowUpRules((AF,), index=IndexRule("all"))
    people = build(ecgs=THREE, rules=rules, events=[hes("2017-01-01")]).people.set_index("ecg_id")
    assert people.loc["1a", ["time_days", "status"]].tolist() == [366, 1]
    assert people.loc["2", "excluded"] == "prevalent"


@pytest.mark.parametrize(
    ("first", "second"), [("noise, pacing", "pacing_spikes"), (["noise", "pacing"], ["pacing_spikes"])]
)
def test_exposure_and_flags__decide_whether_an_ecg_is_used(first: Any, second: Any) -> None:
    rules = FollowUpRules((AF,), exposure="lvmi_pred_g_m2", exclude_flags=("pacing",))
    ecgs = [
        {"ecg_id": "1", "lvmi_pred_g_m2": 50.0, "quality_flags": first},
        {"ecg_id": "2", "lvmi_pred_g_m2": None, "quality_flags": second},
    ]
    row = the_row(ecgs=ecgs, rules=rules)
    assert (row["ecg_id"], row["excluded"]) == ("2", "missing_exposure")


def test_flow__adds_up_in_the_order_of_the_list_for_each_outcome() -> None:
    rules = FollowUpRules((AF, OutcomeRule("mi", ("hes",))))
    found = build(rules=rules, events=[hes("2010-01-01"), ("x", "2017-01-01", "I48", "icd10", "hes")])
    flow = found.flow.set_index(["outcome", "reason"])["n_people"]
    for outcome in ("af", "mi"):
        own = flow[outcome]
        assert list(own.index) == ["all", *Exclusion, "analysed"]
        assert own["all"] == own.drop("all").sum() == 2
        assert own["not_in_cohort"] == 1
    assert (flow["af"]["prevalent"], flow["mi"]["analysed"]) == (1, 1)


def test_tables__parquet_csv_and_frames_are_the_same(tmp_path: Path) -> None:
    frames = {name: pd.read_csv(path, dtype=str) for name, path in _given(None).items()}
    for name, frame in frames.items():
        frame.to_parquet(tmp_path / f"{name}.parquet")
    files = {name: tmp_path / f"{name}.parquet" for name in frames}
    numbers = {name: pd.read_csv(path) for name, path in _given(None).items()}
    results = [
        build_follow_up(**tables, ends=_given_ends(), code_list=CODES, rules=RULES).people
        for tables in (_given(None), frames, files, numbers)
    ]
    for result in results[1:]:
        pd.testing.assert_frame_equal(result, results[0])


def test_dates__of_one_other_format_are_read_when_named() -> None:
    row = the_row(events=[hes("31/12/2016")], date_formats={"events": "%d/%m/%Y"})
    assert (row["time_days"], row["status"]) == (365, 1)
    with pytest.raises(TableRefused, match="expected dates as %d/%m/%Y in the whole file"):
        the_row(events=[hes("2016-12-31")], date_formats={"events": "%d/%m/%Y"})
    with pytest.raises(TableRefused, match="date of another format in 1 rows"):
        the_row(events=[hes("2016-02-30")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"persons": pd.DataFrame({"participant_id": ["1"]})}, "table persons has no column region"),
        (
            {"persons": pd.DataFrame({"participant_id": ["1", "1"], "region": "x"})},
            "table persons has 1 keys more than once",
        ),
        (
            {"persons": pd.DataFrame({"participant_id": [1.0, 2.5], "region": "x"})},
            "participants: column participant_id holds 1 fractions",
        ),
        (
            {"persons": pd.DataFrame({"participant_id": ["1", ""], "region": "x"})},
            r"table persons has no participant_id in 1 rows \(row 2",
        ),
        ({"events": Path("nowhere.csv")}, r"table events \(nowhere.csv\) cannot be read"),
    ],
)
def test_tables__are_refused_with_the_reason(change: dict[str, Any], message: str) -> None:
    with pytest.raises(LvmError, match=message):
        build_follow_up(**(_given(None) | change), ends=_given_ends(), code_list=CODES, rules=RULES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IndexRule("last"), "index ECG is 'last', .* uses the future"),
        (lambda: IndexRule("last_on_or_before"), "needs a date"),
        (lambda: IndexRule("first", max_days=3), "max_days is 3 for first"),
        (lambda: OutcomeRule("af", ()), "outcome 'af' has no incident source"),
        (lambda: FollowUpRules(()), r"outcomes are \[\], expected one or more"),
        (lambda: FollowUpRules((AF, AF)), "each once"),
        (lambda: FollowUpRules((AF,), latency_days=-1), "latency_days is -1"),
        (lambda: FollowUpRules((AF,), prevalent_window_days=-1), "prevalent_window_days is -1"),
        (
            lambda: build(rules=FollowUpRules((OutcomeRule("hf", ("hes",)),))),
            "outcome 'hf' is not in the code list, which has af, mi",
        ),
    ],
)
def test_rules__that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
