"""What studies need of the reader of participants: tables without demographics, exact dates."""

from __future__ import annotations

from typing import Any

import pytest

from lvm_core.errors import UsageError
from lvm_core.tables import ParticipantsLayout, read_people

BARE = b"participant_id,region\n1,England\n2,Wales\n"


def test_read_people__of_a_study_may_have_identifiers_alone() -> None:
    people = read_people(BARE, "p.csv", needs_demographics=False)
    assert people.table["participant_id"].to_pylist() == ["1", "2"]
    assert people.table["sex"].to_pylist() == [None, None]
    with pytest.raises(UsageError, match="expected rows with ecg_id or participant_id and some of"):
        read_people(BARE, "p.csv")
    with pytest.raises(UsageError, match="expected rows with ecg_id or participant_id"):
        read_people(b"region,sex\nEngland,male\n", "p.csv", needs_demographics=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"date_format": "%m/%Y"}, "'%m/%Y', which has no day; births of month and year need"),
        ({"date_format": "%b %Y"}, "which has no day"),
        ({"date_format": "%Y"}, "a year alone, from which no age is computed"),
        ({"date_format": "%Y", "births": "month_and_year"}, "a year alone"),
    ],
)
def test_layout__dates_that_tell_no_birth_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ParticipantsLayout(**settings)


@pytest.mark.parametrize(
    ("date_format", "births", "day"),
    [
        ("%m/%Y", "month_and_year", "1956-08-15"),
        ("%b %Y", "month_and_year", "1956-08-15"),
        ("%d.%m.%Y", "day", "1956-08-03"),
        ("%j %Y", "day", "1956-08-03"),
    ],
)
def test_layout__dates_of_a_day_or_of_month_and_year_are_read(date_format: str, births: Any, day: str) -> None:
    # 3 August is day 31 + 29 + 31 + 30 + 31 + 30 + 31 + 3 = 216 of the leap year 1956.
    cell = {"%m/%Y": "08/1956", "%b %Y": "Aug 1956", "%d.%m.%Y": "03.08.1956", "%j %Y": "216 1956"}
    layout = ParticipantsLayout(date_format=date_format, births=births)
    data = f"participant_id,birth_date\n1,{cell[date_format]}\n".encode()
    assert str(read_people(data, "p.csv", layout).table["birth_date"].to_pylist()[0]) == day
