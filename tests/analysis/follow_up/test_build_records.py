"""Record numbers of people and observation periods, by cases written by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from analysis.follow_up.crosswalk import Crosswalk, read_crosswalk
from analysis.statistics.columns import TableRefused
from tests.analysis.follow_up.one_person import END, build, hes, the_row

# The index ECG of the person is of 2016-01-01; records end on 2022-10-31, 2,495 days later.
NUMBERS = Crosswalk({"m1": "a", "m2": "a"})


def periods(*rows: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame([("a", *row) for row in rows], columns=["participant_id", "start_date", "end_date"])


def test_crosswalk__records_of_each_number_are_of_one_person() -> None:
    record = ("m2", "2017-01-01", "I48", "icd10", "hes", None)
    found = build(ecgs=[{"participant_id": "m1"}], crosswalk=NUMBERS, events=[])
    assert found.people["participant_id"].tolist() == ["a"]
    deaths = pd.DataFrame({"participant_id": ["m1", "m2"], "death_date": ["2018-01-01"] * 2, "ltfu_date": [None] * 2})
    row = the_row(ecgs=[{"participant_id": "m1"}], crosswalk=NUMBERS, deaths=deaths)
    assert (row["time_days"], row["status"]) == (731, 2)
    row = the_row(ecgs=[{"participant_id": "m1"}], crosswalk=NUMBERS, events=[record])
    assert (row["participant_id"], row["time_days"], row["status"]) == ("a", 366, 1)


def test_crosswalk__without_it_the_ecg_is_of_nobody() -> None:
    found = build(ecgs=[{}, {"participant_id": "m1", "ecg_id": "2"}])
    assert found.people.set_index("participant_id")["excluded"].to_dict() == {"a": None, "m1": "not_in_cohort"}
    own = found.matches.set_index("table").loc["predictions"]
    assert (own["n_people"], own["n_unmatched"], own["form_unmatched"], own["form_matched"]) == (2, 1, "A9", "A")


def test_crosswalk__deaths_of_two_days_are_refused() -> None:
    deaths = pd.DataFrame({"participant_id": ["m1", "m2"], "death_date": ["2018-01-01", "2018-01-02"]})
    with pytest.raises(TableRefused, match="table deaths has 1 keys more than once"):
        the_row(crosswalk=NUMBERS, deaths=deaths)


@pytest.mark.parametrize("rows", [[("1", "m"), ("2", "m")], [("1", "m"), ("2", "1")]])
def test_read_crosswalk__a_number_of_two_people_is_refused(rows: list[tuple[str, str]]) -> None:
    with pytest.raises(TableRefused, match="1 record numbers that belong to two people"):
        read_crosswalk(pd.DataFrame(rows, columns=["participant_id", "record_id"]))


def test_read_crosswalk__own_names_and_people_who_are_their_own_number() -> None:
    table = pd.DataFrame([("1", "m"), ("1", "n"), ("1", "1"), ("1", "m")], columns=["EMPI", "MRN"])
    found = read_crosswalk(table, {"participant_id": "EMPI", "record_id": "MRN"})
    assert found.person_of == {"m": "1", "n": "1", "1": "1"}
    assert found.people(["n", "x", "m"]) == ("1", "x")
    with pytest.raises(TableRefused, match="no column MRN"):
        read_crosswalk(table.rename(columns={"MRN": "x"}), {"participant_id": "EMPI", "record_id": "MRN"})


@pytest.mark.parametrize(
    ("given", "time_days", "end_reason", "history_days"),
    [
        # Two periods: follow-up ends with that of the ECG, although the person is seen again.
        ([("2010-01-01", "2018-01-01"), ("2019-01-01", "2025-01-01")], 731, "lost", 2191),
        ([("2010-01-01", "2012-01-01"), ("2015-12-31", "2025-01-01")], 2495, "administrative_end", 1),
        # On the first and on the last day.
        ([("2016-01-01", "2016-12-31")], 365, "lost", 0),
        # They overlap, one lies within another, or one begins on the day after: one period.
        ([("2015-01-01", "2016-06-01"), ("2016-05-01", "2017-01-01")], 366, "lost", 365),
        ([("2015-01-01", "2017-01-01"), ("2015-02-01", "2015-03-01")], 366, "lost", 365),
        ([("2015-01-01", "2016-06-01"), ("2016-06-02", "2017-01-01")], 366, "lost", 365),
        # A gap of a day ends it.
        ([("2015-01-01", "2016-06-01"), ("2016-06-03", "2017-01-01")], 152, "lost", 365),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_observation_periods__follow_up_ends_with_that_of_the_ecg(
    given: list[tuple[str, str]], time_days: int, end_reason: str, history_days: int, turned: bool
) -> None:
    assert END == "2022-10-31"
    row = the_row(observation_periods=periods(*(given[::-1] if turned else given)))
    assert (row["time_days"], row["end_reason"], row["history_days"]) == (time_days, end_reason, history_days)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([hes("2018-06-01")], (731, 0)),  # after the period of the ECG: not seen
        ([hes("2017-01-01")], (366, 1)),
    ],
)
def test_observation_periods__an_event_after_the_period_is_not_counted(
    records: list[Any], expected: tuple[int, int]
) -> None:
    given = periods(("2010-01-01", "2018-01-01"), ("2018-03-01", "2025-01-01"))
    row = the_row(observation_periods=given, events=records)
    assert (row["time_days"], row["status"]) == expected


def test_observation_periods__an_ecg_outside_of_all_opens_nothing() -> None:
    row = the_row(observation_periods=periods(("2010-01-01", "2015-12-31"), ("2016-01-02", "2025-01-01")))
    assert row["excluded"] == "no_usable_ecg"
    second = {"ecg_id": "2", "recorded_at": "2016-02-01"}
    row = the_row(ecgs=[{}, second], observation_periods=periods(("2016-01-02", "2016-03-02")))
    assert (row["ecg_id"], row["time_days"]) == ("2", 30)


def test_observation_periods__a_disease_before_them_is_prevalent() -> None:
    row = the_row(observation_periods=periods(("2015-01-01", "2025-01-01")), events=[hes("2001-01-01")])
    assert row["excluded"] == "prevalent"
