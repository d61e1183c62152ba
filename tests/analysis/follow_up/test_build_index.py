"""Which ECG is the index: dates, history, encounters; body size and attained age on that day."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import pytest

from analysis.follow_up import FollowUpRules, IndexRule
from analysis.statistics.columns import TableRefused
from lvm_core.errors import LvmError
from lvm_core.tables import ParticipantsLayout
from tests.analysis.follow_up.one_person import AF, INDEX, RULES, build, hes, the_row

FOUR = [
    {"ecg_id": "2", "recorded_at": "2018-05-01"},
    {"ecg_id": "1b", "recorded_at": "2016-01-01"},
    {"ecg_id": "1a", "recorded_at": "2016-01-01T23:00"},
    {"ecg_id": "9", "recorded_at": "2019-01-01"},
]


@pytest.mark.parametrize(
    ("date", "max_days", "ecg_id"),
    [
        ("2018-05-01", 0, "2"),
        ("2018-05-02", 0, None),
        # 2016-01-01 is 851 days before 2018-05-01 and wins over an ECG on the other side.
        ("2018-04-30", 850, "1a"),
        ("2018-04-30", 849, None),
        ("2018-12-31", 365, "2"),
    ],
)
def test_nearest_on_or_before__is_the_closest_within_max_days(date: str, max_days: int, ecg_id: str | None) -> None:
    day = dt.date.fromisoformat(date)
    results = [
        build(ecgs=FOUR, rules=FollowUpRules((AF,), index=IndexRule(kind, day, max_days))).people
        for kind in ("nearest_on_or_before", "last_on_or_before")
    ]
    assert results[0]["ecg_id"].tolist() == [ecg_id]
    pd.testing.assert_frame_equal(*results)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IndexRule("nearest_on_or_before"), "nearest_on_or_before needs a date"),
        (lambda: IndexRule("nearest_on_or_before", dt.date(2018, 1, 1)), "nearest_on_or_before needs max_days"),
        (lambda: IndexRule("nearest_on_or_before", dt.date(2018, 1, 1), -1), "max_days is -1"),
        (lambda: IndexRule("nearest"), "'nearest', expected .* either side of a date uses the fut"),
        (lambda: IndexRule("last"), "'last', expected first, last_on_or_before, nearest_on_or_b"),
        (lambda: FollowUpRules((AF,), max_days_body_size=-1), "max_days_body_size is -1"),
        (lambda: FollowUpRules((AF,), min_history_days=-1), "min_history_days is -1"),
        (lambda: FollowUpRules((AF,), min_encounters=-1), "min_encounters is -1"),
        (lambda: FollowUpRules((AF,), grace_days=-1), "grace_days is -1"),
        (lambda: FollowUpRules((AF,), time_scale="age"), "time_scale is 'age', expected"),
    ],
)
def test_rules__that_cannot_be_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("measured", "is_far", "kind"),
    [
        ("2016-01-31", False, "near"),
        ("2015-12-02", False, "near"),
        ("2016-02-01", True, "far"),
        ("2015-12-01", True, "far"),
        (None, True, "unknown_date"),
        ("1900-01-01", True, "unknown_date"),
    ],
)
def test_body_size__further_than_allowed_on_either_side_is_flagged_and_counted(
    measured: str | None, is_far: bool, kind: str
) -> None:
    rules = FollowUpRules((AF,), max_days_body_size=30)
    found = build(rules=rules, person={"body_size_date": measured})
    assert found.people["body_size_far"].tolist() == [is_far]
    assert found.body_size.to_numpy().tolist() == [[kind, 1, 1]]
    # The mass does not need body size, the index does.
    assert found.people["excluded"].tolist() == [None]
    of_index = FollowUpRules((AF,), exposure="lvmi_pred_g_m2", max_days_body_size=30)
    row = the_row(rules=of_index, ecgs=[{"lvmi_pred_g_m2": 50.0}], person={"body_size_date": measured})
    assert row["excluded"] == ("missing_exposure" if is_far else None)


def test_body_size__is_not_looked_at_without_a_limit_and_needs_its_date_with_one() -> None:
    found = build(person={"body_size_date": "not a date"})
    assert found.people["body_size_far"].tolist() == [False]
    assert found.body_size.empty
    with pytest.raises(TableRefused, match=r"no column body_size_date; .*max_days_body_size needs"):
        build(rules=FollowUpRules((AF,), max_days_body_size=30))


def _starts(day: str | None) -> pd.DataFrame:
    return pd.DataFrame({"participant_id": ["a"], "start_date": [day]}, dtype=object)


TWO = [{"ecg_id": "1"}, {"ecg_id": "2", "recorded_at": "2017-01-01"}]


@pytest.mark.parametrize(
    ("start", "min_days", "ecg_id", "history_days"),
    [
        ("2015-01-01", 0, "1", 365),
        ("2015-01-01", 365, "1", 365),
        # One day too short: the ECG of 2017 is the first with enough history.
        ("2015-01-02", 365, "2", 730),
        ("2016-06-01", 0, "1", 0),
        ("2016-06-01", 365, None, None),
        (None, 0, "1", None),
        (None, 1, None, None),
    ],
)
def test_min_history__an_ecg_with_less_is_not_the_index(
    start: str | None, min_days: int, ecg_id: str | None, history_days: int | None
) -> None:
    rules = FollowUpRules((AF,), min_history_days=min_days)
    row = the_row(rules=rules, ecgs=TWO, history_starts=_starts(start))
    assert row["ecg_id"] == ecg_id
    assert row["excluded"] == (None if ecg_id else "no_usable_ecg")
    assert row["history_days"] == history_days or (pd.isna(row["history_days"]) and not history_days)


@pytest.mark.parametrize(
    ("records", "history_days"),
    [
        ([hes("2015-12-22", "Z00")], 10),
        ([hes("2015-12-22", "Z00"), hes("1900-01-01", "Z00"), hes(None, "Z00")], 10),
        ([hes("2018-01-01")], 0),
        # What somebody remembers is no record.
        ([hes("2010-01-01", "1065", "self-report", "self")], None),
        ([], None),
    ],
)
def test_history__without_its_table_begins_with_the_first_record(records: list[Any], history_days: int | None) -> None:
    found = the_row(events=records)["history_days"]
    assert found == history_days or (history_days is None and pd.isna(found))


def test_min_history__needs_more_than_events() -> None:
    with pytest.raises(TableRefused, match=r"min_history_days is 1, .* only people who were ill would have"):
        build(rules=FollowUpRules((AF,), min_history_days=1))


def _visits(*days: str) -> pd.DataFrame:
    return pd.DataFrame({"participant_id": "a", "date": list(days)}, dtype=object)


@pytest.mark.parametrize(
    ("days", "person", "expected"),
    [
        # 2017-01-01 is day 366; follow-up ends 10 days after the last encounter.
        (["2016-06-01", "2017-01-01"], {}, (None, 376, 0)),
        (["2017-01-01", "1900-01-01"], {"ltfu_date": "2016-02-01"}, (None, 376, 0)),
        (["2017-01-01"], {"death_date": "2017-01-11"}, (None, 376, 2)),
        (["2017-01-01"], {"death_date": "2017-01-12"}, (None, 376, 0)),
        (["2022-10-25"], {}, (None, 2495, 0)),
        (["2015-12-22"], {}, ("no_follow_up_time", pd.NA, pd.NA)),
        (["2015-12-21"], {}, ("lost_before_index", pd.NA, pd.NA)),
        ([], {}, ("lost_before_index", pd.NA, pd.NA)),
    ],
)
def test_hospital_end__is_the_last_encounter_and_the_grace(
    days: list[str], person: dict[str, str], expected: tuple[Any, ...]
) -> None:
    rules = FollowUpRules((AF,), grace_days=10)
    row = the_row(rules=rules, person=person, encounters=_visits(*days))
    got = (row["excluded"], row["time_days"], row["status"])
    assert [str(value) for value in got] == [str(value) for value in expected]


def test_hospital_end__an_outcome_in_the_grace_counts_and_later_does_not() -> None:
    rules = FollowUpRules((AF,), grace_days=10)
    for day, status in (("2017-01-11", 1), ("2017-01-12", 0)):
        row = the_row(rules=rules, events=[hes(day)], encounters=_visits("2017-01-01"))
        assert (row["time_days"], row["status"]) == (376, status)


@pytest.mark.parametrize(
    ("days", "ecg_id"),
    [
        (["2015-01-01", "2015-06-01", "2019-01-01"], "1"),
        # The day of the ECG is not before it, and one day counts once.
        (["2015-01-01", INDEX, "2019-01-01"], "2"),
        (["2015-01-01", "2015-01-01", "2019-01-01"], None),
    ],
)
def test_min_encounters__must_be_before_the_index(days: list[str], ecg_id: str | None) -> None:
    rules = FollowUpRules((AF,), min_encounters=2)
    row = the_row(rules=rules, ecgs=TWO, encounters=_visits(*days))
    assert row["ecg_id"] == ecg_id
    assert row["excluded"] == (None if ecg_id else "no_usable_ecg")


@pytest.mark.parametrize("change", [{"min_encounters": 1}, {"grace_days": 1}])
def test_hospital_rules__without_encounters_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(TableRefused, match="is 1, but there is no table encounters"):
        build(rules=FollowUpRules((AF,), **change))


def test_eligibility__shows_at_which_step_people_are_lost() -> None:
    index = IndexRule("first", dt.date(2016, 6, 1))
    rules = FollowUpRules((AF,), index=index, min_history_days=365, min_encounters=1)
    ecgs = [*TWO, {"ecg_id": "3", "lvm_pred_g": None}]
    found = build(rules=rules, ecgs=ecgs, encounters=_visits("2015-01-01"), history_starts=_starts("2015-06-01"))
    assert found.eligibility.to_numpy().tolist() == [
        ["cohort", 1, 3],
        ["usable_ecg", 1, 2],
        ["min_history", 1, 1],
        ["min_encounters", 1, 1],
        ["index_rule", 1, 1],
    ]
    none = build(ecgs=ecgs, rules=rules, withdrawn=["a"], encounters=_visits("2015-01-01"))
    assert none.eligibility["n_people"].tolist() == [0] * 5


@pytest.mark.parametrize(
    ("birth", "latency", "ages"),
    [
        # 1956-01-01 to 2016-01-01 are 60 years with 15 leap days; follow-up is 2495 days.
        ("1956-01-01", 0, [21915, 24410]),
        ("1956-01-01", 30, [21945, 24410]),
        (dt.date(1956, 1, 1), 0, [21915, 24410]),
        (None, 0, [None, None]),
    ],
)
def test_attained_age__enters_at_the_index_and_leaves_at_the_end(
    birth: Any, latency: int, ages: list[int | None]
) -> None:
    rules = FollowUpRules((AF,), time_scale="attained_age", latency_days=latency)
    row = the_row(rules=rules, person={"birth_date": birth})
    got = [row["entry_age_days"], row["exit_age_days"]]
    assert [None if pd.isna(age) else age for age in got] == ages
    if birth:
        assert row["exit_age_days"] - row["entry_age_days"] == row["time_days"]


@pytest.mark.parametrize(
    ("birth", "layout"),
    [
        ("1956-01", {"births": "month_and_year"}),
        ("01/1956", {"births": "month_and_year", "date_format": "%m/%Y"}),
        ("15/01/1956", {"date_format": "%d/%m/%Y"}),
    ],
)
def test_attained_age__births_are_read_by_the_layout(birth: str, layout: dict[str, Any]) -> None:
    """The 15th of January 1956, fourteen days after the first."""
    rules = FollowUpRules((AF,), time_scale="attained_age")
    found = build(rules=rules, person={"birth_date": birth}, layout=ParticipantsLayout(**layout))
    assert found.people["entry_age_days"].tolist() == [21901]
    assumed = "births" in layout
    assert any("read as the 15th" in note for note in found.notes) == assumed
    counted = found.unknown_dates.set_index(["column", "why"])["n_people"]
    assert counted.get(("birth_date", "day_assumed"), 0) == int(assumed)


def test_attained_age__is_not_given_for_the_excluded_nor_without_being_asked_for() -> None:
    rules = FollowUpRules((AF,), time_scale="attained_age")
    person = {"birth_date": "1956-01-01"}
    out = the_row(rules=rules, person=person, events=[hes(INDEX)])
    unasked = the_row(rules=RULES, person=person)
    for row in (out, unasked):
        assert pd.isna(row["entry_age_days"])
        assert pd.isna(row["exit_age_days"])


@pytest.mark.parametrize(
    ("person", "message"),
    [
        ({}, "no column birth_date; .*ages in whole years are not exact enough"),
        ({"birth_date": 1956}, "'1956'.*: a year alone, from which no age is computed"),
        ({"birth_date": "1956"}, r"row 1: '1956'.*: a year alone, from which no age is computed"),
        ({"birth_date": "1956-01"}, "a month and year: set `births: month_and_year` in the layout"),
        ({"birth_date": "1/2/1956"}, "expected YYYY-MM-DD; other formats are named in the layout"),
        ({"birth_date": "1956-13"}, "birth_date has 1 values that are not a date as YYYY-MM-DD"),
        ({"birth_date": "2016-01-02"}, "1 index ECGs are from before their person's birth"),
    ],
)
def test_attained_age__without_an_exact_birth_is_refused(person: dict[str, Any], message: str) -> None:
    rules = FollowUpRules((AF,), time_scale="attained_age")
    with pytest.raises(LvmError, match=message):
        build(rules=rules, person=person)


def test_births__with_a_time_zone_are_refused() -> None:
    born = pd.Timestamp("1956-01-01T23:30", tz="Asia/Tokyo")
    with pytest.raises(LvmError, match=r"birth_date.* a time zone"):
        build(person={"birth_date": born})


@pytest.mark.parametrize("setting", ["columns", "date_formats"])
def test_persons__of_another_layout_are_read_before(setting: str) -> None:
    with pytest.raises(ValueError, match="persons are given by a layout: use read_people"):
        build(**{setting: {"persons": {}}})
