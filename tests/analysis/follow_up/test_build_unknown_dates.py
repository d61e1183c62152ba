"""Dates that stand for "unknown" in every table, not only among events."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.disclosure.masking import MaskingRule, mask
from analysis.follow_up import FollowUpRules
from analysis.report.topics import flow
from analysis.statistics.columns import TableRefused
from analysis.study.inputs import read_cmr
from lvm_core.tables import PLACEHOLDER_DATES, ParticipantsLayout
from tests.analysis.follow_up.one_person import AF, END, build, the_row
from tests.analysis.report.small_study import IDS, change, predictions, read, write

DAYS = [str(day) for day in PLACEHOLDER_DATES]
BY_MONTH = ParticipantsLayout(births="month_and_year")
ATTAINED = FollowUpRules((AF,), time_scale="attained_age")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("day", [DAYS[0], DAYS[-1]])
def test_recorded_at__of_a_placeholder_is_no_usable_ecg_and_counted(day: str) -> None:
    found = build(ecgs=[{"recorded_at": day}])
    assert found.people["excluded"].tolist() == ["no_usable_ecg"]
    counted = found.unknown_dates.set_index(["column", "why"]).loc[("recorded_at", "placeholder")]
    assert counted.tolist() == [1, 1]


def test_recorded_at__of_a_placeholder_does_not_come_before_a_known_one() -> None:
    ecgs = [{"ecg_id": "1", "recorded_at": "1900-01-01T10:00:00"}, {"ecg_id": "2"}]
    assert the_row(ecgs=ecgs)["ecg_id"] == "2"


@pytest.mark.parametrize(("column", "day"), [("death_date", "1900-01-01"), ("ltfu_date", "2037-07-07")])
def test_death_and_loss__at_a_placeholder_are_refused_with_the_row(column: str, day: str) -> None:
    message = rf"table persons has {column} that stands for an unknown day in 1 rows \(row 1: {day}"
    with pytest.raises(TableRefused, match=message):
        build(person={column: day})
    deaths = pd.DataFrame({"participant_id": ["a"], "death_date": [None], "ltfu_date": [None]})
    with pytest.raises(TableRefused, match=message.replace("persons", "deaths")):
        build(deaths=deaths.assign(**{column: day}).astype(object))


def test_ends__at_a_placeholder_are_refused() -> None:
    ends = pd.DataFrame(
        [("England", "hes", "2037-07-07"), ("England", "death", END)], columns=["region", "source", "end_date"]
    )
    with pytest.raises(TableRefused, match="end_date that stands for an unknown day in 1 rows"):
        build(ends=ends)


@pytest.mark.parametrize("born", ["1900-01-01", "1909-09-09", "1900-01", "1902-02"])
def test_birth__of_a_placeholder_is_unknown_and_counted(born: str) -> None:
    found = build(rules=ATTAINED, person={"birth_date": born}, layout=BY_MONTH)
    row = found.people.iloc[0]
    # Followed like everybody; only the age is not known.
    assert (row["excluded"], row["time_days"]) == (None, 2495)
    assert pd.isna(row["entry_age_days"])
    counted = found.unknown_dates.set_index(["column", "why"])["n_people"]
    assert counted.to_dict() == {
        ("recorded_at", "placeholder"): 0,
        ("recorded_at", "missing"): 0,
        ("birth_date", "placeholder"): 1,
        ("birth_date", "missing"): 0,
    }


def test_birth__that_is_missing_is_counted_and_a_known_one_is_not() -> None:
    for born, n in ((None, 1), ("1950-06-01", 0), ("1950-06", 0)):
        person = {"birth_date": born}
        counted = build(rules=ATTAINED, person=person, layout=BY_MONTH).unknown_dates
        assert counted.set_index(["column", "why"])["n_people"]["birth_date", "missing"] == n


def test_birth__is_not_counted_where_age_is_not_the_time_scale() -> None:
    assert set(build().unknown_dates["column"]) == {"recorded_at"}


def test_unknown_dates__of_people_who_withdrew_are_not_counted() -> None:
    found = build(ecgs=[{"recorded_at": "1900-01-01"}], withdrawn=["a"])
    assert found.unknown_dates["n_people"].sum() == 0


def test_cmr_date__of_a_placeholder_or_of_an_unknown_text_is_unknown(tmp_path: Path) -> None:
    rows = "a,1900-01-01,90\nb,unknown,91\nc,,92\nd,2016-01-01,93\n"
    (tmp_path / "cmr.csv").write_text("participant_id,cmr_date,lvm_cmr_g\n" + rows)
    assert read_cmr(tmp_path / "cmr.csv")[0]["cmr_date"].isna().tolist() == [True] * 3 + [False]


@pytest.mark.parametrize("text", ["NA", "unknown"])
def test_recorded_at__of_an_unknown_text_is_unknown(folder: Path, text: str) -> None:
    table = predictions().astype({"recorded_at": str})
    table.loc[0, "recorded_at"] = text
    table.to_csv(folder / "predictions.csv", index=False)
    data = read(folder, predictions="predictions.csv")
    assert set(data.ecgs["participant_id"]) == set(IDS[1:])
    assert data.predictions["recorded_at"].iloc[0] == pd.Timestamp("2016-01-02 10:00")


def test_flow__counts_unknown_dates(folder: Path) -> None:
    """Twelve of 40 births are placeholders: nobody is left out for it, and nobody is 119."""
    born = pd.read_csv(folder / "participants.csv", dtype=str)["birth_date"]
    change(folder, "participants.csv", birth_date=["1900-01-01"] * 12 + born.tolist()[12:])
    data = read(folder, "time_scale: attained_age\n")
    rows = data.analysed("af")
    assert rows["entry_age_days"].isna().sum() == 12
    assert rows["entry_age_days"].max() < 100 * 365.25
    masked = {one.key: mask(one, MaskingRule()) for one in flow.aggregates(data)}
    section = flow.present(masked, data.about)
    assert section is not None
    cells = next(one.cells for one in section.items if one.key == "unknown_dates")
    assert cells.to_numpy().tolist()[2] == ["Date of birth is a placeholder", "10", "–"]


def test_flow__counts_births_of_month_and_year(folder: Path) -> None:
    """Twenty of 40, in a table that has whole dates too."""
    born = pd.read_csv(folder / "participants.csv", dtype=str)["birth_date"]
    mixed = [day[:7] if i < 20 else day for i, day in enumerate(born)]
    change(folder, "participants.csv", birth_date=mixed)
    data = read(folder, "time_scale: attained_age\ncolumns: {persons: {births: month_and_year}}\n")
    masked = {one.key: mask(one, MaskingRule()) for one in flow.aggregates(data)}
    section = flow.present(masked, data.about)
    assert section is not None
    cells = next(one.cells for one in section.items if one.key == "unknown_dates")
    words = "Date of birth is of month and year, read as the 15th"
    assert cells.to_numpy().tolist()[4] == [words, "20", "–"]
