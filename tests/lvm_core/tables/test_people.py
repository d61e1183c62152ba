from __future__ import annotations

import datetime as dt
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvm_core.errors import UsageError
from lvm_core.tables import ParticipantsLayout, ParticipantTable, judge_people, read_people
from lvm_core.tables.people import table_files
from tests.lvm_core.tables.people_cases import CASES, Case, right_people

SHARED = Path(__file__).parents[4] / "shared" / "cases" / "people_tables"


def _name(case: Case) -> str:
    return case.name


def _read(case: Case) -> ParticipantTable:
    layout = ParticipantsLayout.model_validate(case.layout)
    return ParticipantTable.of(read_people(case.data, case.name, layout))


def _parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize("case", [c for c in CASES if c.refused is None], ids=_name)
def test_read_people__means_what_was_worked_out_by_hand(case: Case) -> None:
    rows = _read(case).arrow.to_pylist()
    expected = right_people(case)
    assert len(rows) == len(expected)
    for row, right in zip(rows, expected, strict=True):
        for name, value in right.items():
            given = row[name]
            assert given == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value)


@pytest.mark.parametrize("case", [c for c in CASES if c.refused is not None], ids=_name)
def test_read_people__refuses_with_the_cause(case: Case) -> None:
    with pytest.raises(UsageError) as refusal:
        _read(case)
    assert case.refused is not None
    assert case.refused in str(refusal.value)


@pytest.mark.parametrize("case", [c for c in CASES if c.refused is None], ids=_name)
def test_judge_people__finds_tables_that_cannot_be_right(case: Case) -> None:
    problems = "; ".join(judge_people(_read(case).arrow).problems)
    if case.judged is None:
        assert problems == ""
    else:
        assert case.judged in problems


def test_read_people__latin1_is_said() -> None:
    case = next(c for c in CASES if c.name == "latin1_other_column.csv")
    assert "is not UTF-8 (line 2)" in read_people(case.data, case.name).notes[0]


def test_read_people__dropped_decimal_points_are_said() -> None:
    case = next(c for c in CASES if c.name == "float_ids.csv")
    assert "1001.0 is read as 1001" in read_people(case.data, case.name).notes[0]


def test_read_people__parquet_types_mean_the_same_as_text() -> None:
    columns = {
        "participant_id": [7, 8],
        "sex": pa.array(["F", "male"]).dictionary_encode(),
        "birth_date": [dt.date(1950, 5, 5), None],
        "age_years": [61.5, float("inf")],
        "height_cm": [165, 178],
        "bmi_kg_m2": pa.nulls(2),
        "weight_kg": [False, False],
    }
    with pytest.raises(UsageError, match="weight_kg has 2 values that are not a number"):
        read_people(_parquet(columns), "p.parquet")
    del columns["weight_kg"]
    people = read_people(_parquet(columns), "p.parquet")
    seen = people.table.select(["participant_id", "sex", "birth_date", "age_years"])
    assert seen.to_pylist() == [
        {"participant_id": "7", "sex": "female", "birth_date": dt.date(1950, 5, 5), "age_years": 61.5},
        {"participant_id": "8", "sex": "male", "birth_date": None, "age_years": None},
    ]
    assert people.table["height_cm"].to_pylist() == [165.0, 178.0]


def test_read_people__parquet_codes_of_floats_are_whole() -> None:
    data = _parquet({"participant_id": ["a", "b", "c"], "sex": [0.0, 1.0, None]})
    layout = ParticipantsLayout.model_validate({"sex": {0: "female", 1: "male"}})
    assert read_people(data, "p", layout).table["sex"].to_pylist() == ["female", "male", None]


def test_read_people__births_with_a_time_zone_are_refused() -> None:
    moment = dt.datetime(1950, 5, 5, 0, 0, tzinfo=dt.UTC)
    data = _parquet({"participant_id": ["a"], "birth_date": pa.array([moment])})
    with pytest.raises(UsageError, match="birth_date has a time zone"):
        read_people(data, "p")
    data = _parquet({"participant_id": ["a"], "birth_date": [moment.replace(tzinfo=None)]})
    assert read_people(data, "p").table["birth_date"].to_pylist() == [dt.date(1950, 5, 5)]


def test_read_people__birth_from_year_and_month() -> None:
    text = b"eid,31-0.0,34-0.0,52-0.0\n1,0,1950,5\n2,1,1951,August\n3,1,1952,\n"
    layout = ParticipantsLayout.model_validate(
        {"preset": "ukb", "births": "month_and_year", "columns": {"birth_year": "34-0.0", "birth_month": "52-0.0"}}
    )
    table = read_people(text, "u.csv", layout).table
    days = [dt.date(1950, 5, 15), dt.date(1951, 8, 15), None]
    assert table["birth_date"].to_pylist() == days
    assert table["birth_day_assumed"].to_pylist() == [True, True, False]


@pytest.mark.parametrize(
    ("month", "message"),
    [
        ("13", "a month"),
        ("m", "a month"),
        ("May", None),
        ("ma", "a month"),
        ("5.0", None),
        ("5.9", "a month"),
        ("inf", "a month"),
    ],
)
def test_read_people__months(month: str, message: str | None) -> None:
    text = f"participant_id,birth_year,birth_month,birth_day\n1,1950,{month},6\n".encode()
    layout = ParticipantsLayout.model_validate(
        {"columns": {name: name for name in ("birth_year", "birth_month", "birth_day")}}
    )
    if message is None:
        births = read_people(text, "u.csv", layout).table["birth_date"].to_pylist()
        assert births == [dt.date(1950, 5, 6)]
    else:
        with pytest.raises(UsageError, match=f"not {message}"):
            read_people(text, "u.csv", layout)


def test_read_people__impossible_birth_is_refused_with_its_row() -> None:
    layout = ParticipantsLayout.model_validate(
        {"columns": {name: name for name in ("birth_year", "birth_month", "birth_day")}}
    )
    text = b"participant_id,birth_year,birth_month,birth_day\n1,1950,2,6\n2,1950,2,30\n"
    with pytest.raises(UsageError, match="row 2 has birth year 1950, month 2 and day 30"):
        read_people(text, "u.csv", layout)
    far = b"participant_id,birth_year,birth_month,birth_day\n1,1e300,2,6\n"
    with pytest.raises(UsageError, match=r"row 1 has birth year 1e\+300"):
        read_people(far, "u.csv", layout)


def test_read_people__missing_codes_with_a_decimal_point_are_unknown() -> None:
    text = b"participant_id,age_years\n1,-1.0\n2,-1\n3,44.0\n"
    table = read_people(text, "p.csv", ParticipantsLayout(missing=("-1",))).table
    assert table["age_years"].to_pylist() == [None, None, 44.0]


def test_read_people__row_with_too_many_cells_is_named_and_not_quoted() -> None:
    text = b"participant_id,sex\n1000001,f\n1000002,m,Smith\n"
    with pytest.raises(UsageError, match="row 2 has 3 cells, expected 2") as refusal:
        read_people(text, "p.csv")
    assert "Smith" not in str(refusal.value)
    assert "1000002" not in str(refusal.value)


def test_read_people__quotation_mark_that_is_not_closed_is_refused() -> None:
    text = 'participant_id,sex,note\n1,f,"one\nmore"\n2,m,"two\n3,f,x\n'
    with pytest.raises(UsageError, match="a cell of row 2 is not closed"):
        read_people(text.encode(), "p.csv")
    closed = read_people(text.replace("two", 'two"').encode(), "p.csv")
    assert closed.table["participant_id"].to_pylist() == ["1", "2", "3"]
    last = 'participant_id,sex,note\n1,f,"one\nmore"\n'
    assert read_people(last.encode(), "p.csv").table.num_rows == 1
    rows = "2,f\n" * 800_000
    with pytest.raises(UsageError, match="its quotation marks or its rows are damaged"):
        read_people(f'participant_id,sex\n1,"{rows}'.encode(), "p.csv")
    with pytest.raises(UsageError, match="a cell of over 131,072 characters, expected a table"):
        read_people(f'participant_id,sex\n1,"{"f" * 200_000}\n'.encode(), "p.csv")


def test_read_people__month_format_without_a_day_is_the_15th() -> None:
    layout = ParticipantsLayout(births="month_and_year", date_format="%m/%Y")
    table = read_people(b"participant_id,birth_date\na,05/1950\nb,\n", "b.csv", layout).table
    assert table["birth_date"].to_pylist() == [dt.date(1950, 5, 15), None]
    assert table["birth_day_assumed"].to_pylist() == [True, False]


def test_read_people__whole_births_of_parquet_are_not_assumed() -> None:
    data = _parquet({"participant_id": ["a"], "birth_date": [dt.date(1950, 5, 6)]})
    table = read_people(data, "p", ParticipantsLayout(births="month_and_year")).table
    assert table["birth_day_assumed"].to_pylist() == [False]


def test_read_people__no_births_at_all() -> None:
    layout = ParticipantsLayout(births="month_and_year")
    table = read_people(b"participant_id,sex\na,male\n", "p.csv", layout).table
    assert table["birth_date"].to_pylist() == [None]


def test_read_people__wrong_preset_is_suspected() -> None:
    layout = ParticipantsLayout(preset="ukb-rap")
    with pytest.raises(UsageError, match="was the layout ukb-rap meant"):
        read_people(b"who,31-0.0\n1,0\n", "u.csv", layout)


def test_read_people__instance_chooses_the_visit() -> None:
    text = b"eid,50-2.0,50-3.0\n1,170,169\n"
    later = ParticipantsLayout.model_validate({"preset": "ukb", "instance": 3})
    assert read_people(text, "u.csv", later).table["height_cm"].to_pylist() == [169.0]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared sample tables are not here")
def test_read_people__sample_tables_are_read_or_refused_by_name() -> None:
    outcomes = {}
    for path in sorted(SHARED.glob("*.csv")):
        try:
            people = read_people(path.read_bytes(), path.name)
            outcomes[path.stem] = bool(judge_people(people.table).problems)
        except UsageError as error:
            outcomes[path.stem] = str(error)
    judged = {name for name, outcome in outcomes.items() if outcome is True}
    assert judged == {"bmi_conflict", "bmi_is_weight", "height_m", "sex_flipped", "swapped_hw", "weight_lb"}
    refused = {name for name, outcome in outcomes.items() if isinstance(outcome, str)}
    assert refused == {
        "birth_ddmmyyyy",
        "birth_year",
        "birth_year_month",
        "decimal_comma_quoted",
        "eid_only",
        "missing_sex_-1",
        "rap_names",
        "sci_ids",
        "sex_01",
        "sex_12",
        "sex_weiblich",
        "ukb_names",
    }


def test_read_people__fraction_of_a_birth_year_is_refused() -> None:
    parts = ("birth_year", "birth_month", "birth_day")
    layout = ParticipantsLayout.model_validate({"columns": {name: name for name in parts}})
    text = b"participant_id,birth_year,birth_month,birth_day\n1,1950.7,2,6\n"
    with pytest.raises(UsageError, match=r"row 1 has birth year 1950\.7, month 2 and day 6"):
        read_people(text, "u.csv", layout)


PERSON = (
    "person_id,gender_concept_id,year_of_birth,month_of_birth,day_of_birth\n"
    "1,8507,1950,5,6\n2,8532,1951,8,\n3,0,1952,,\n"
)


MEASUREMENT = (
    "person_id,measurement_concept_id,measurement_date,value_as_number,unit_concept_id\n"
    "1,3036277,2010-01-01,1.80,9546\n1,3036277,2012-01-01,180,8582\n"
    "1,3025315,2011-01-01,180,8739\n2,3038553,2012-01-01,27.5,9531\n"
    "2,3036277,2012-01-01,5.5,9999\n9,42,2012-01-01,1,8582\n1,3025315,,80,9529\n"
)


def _omop(person: str = PERSON, measurement: str = MEASUREMENT) -> Any:
    files = {"person": person, "measurement": measurement}
    return {name: (f"{name}.csv", text.encode()) for name, text in files.items()}


def test_omop__latest_measurement_in_our_units() -> None:
    people = read_people(_omop(), "cdm", ParticipantsLayout(preset="omop"))
    rows = people.table.to_pylist()
    assert [(r["participant_id"], r["sex"]) for r in rows] == [("1", "male"), ("2", "female"), ("3", None)]
    assert [r["birth_date"] for r in rows] == [dt.date(1950, 5, 6), dt.date(1951, 8, 15), None]
    assert [r["birth_day_assumed"] for r in rows] == [False, True, False]
    assert [r["height_cm"] for r in rows] == [180.0, None, None]
    assert rows[0]["weight_kg"] == pytest.approx(81.6466, abs=1e-3)  # 180 lb
    assert rows[1]["bmi_kg_m2"] == 27.5
    assert "1 measurements of body size" in people.notes[0]
    size_date = people.raw.find("body_size_date")
    assert size_date is not None
    assert size_date.to_pylist() == [dt.date(2011, 1, 1), None, None]


def test_omop__files_of_a_folder() -> None:
    names = ["PERSON.csv", "measurement.parquet", "person.csv.gz", "person", "notes.txt", "death.csv"]
    expected = {"person": "PERSON.csv", "measurement": "measurement.parquet"}
    assert table_files(names, "cdm") == expected
    with pytest.raises(UsageError, match=r"cdm holds person\.csv and person\.parquet"):
        table_files(["person.parquet", "person.csv"], "cdm")


def test_omop__what_is_missing_is_named() -> None:
    layout = ParticipantsLayout(preset="omop")
    with pytest.raises(UsageError, match="expects a folder that holds the tables person"):
        read_people(PERSON.encode(), "person.csv", layout)
    only_person = {"person": ("person.csv", PERSON.encode())}
    with pytest.raises(UsageError, match="has no table measurement"):
        read_people(only_person, "cdm", layout)
    with pytest.raises(UsageError, match="expected person_id among them"):
        read_people(_omop(person="id,x\n1,2\n"), "cdm", layout)
    short = "person_id,measurement_concept_id,measurement_date\n1,1,2010-01-01\n"
    with pytest.raises(UsageError, match="expected value_as_number, unit_concept_id among them"):
        read_people(_omop(measurement=short), "cdm", layout)


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
