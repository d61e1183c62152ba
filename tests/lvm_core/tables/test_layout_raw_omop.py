from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm_core.errors import UsageError
from lvm_core.tables import ParticipantsLayout, layout_of_file, preset_layout, read_people
from lvm_core.tables.people import table_files
from lvm_core.tables.raw import find_delimiter, read_raw

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
CELLS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


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


def test_layout__file_with_codes_units_and_dates() -> None:
    text = (
        "columns: {participant_id: [id, who], height_cm: tall}\nsex: {0: female, 1: male}\n"
        "units: {height: m, weight: lb}\ndate_format: '%d/%m/%Y'\nmissing: [-1, '999']\n"
    )
    layout = layout_of_file(text.encode(), "layout.yaml")
    assert layout.columns == {"participant_id": ("id", "who"), "height_cm": ("tall",)}
    assert layout.sex == {"0": "female", "1": "male"}
    assert layout.missing_codes == {"-1", "999"}
    assert layout.resolved() is layout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: {heigth_cm: tall}", "columns has heigth_cm, which is not read"),
        ("heights: m", "heights is no setting|heights"),
        ("date_format: '%d/%m/%y'", "no year in four digits"),
        ("columns: {birth_year: y}", "birth_year and birth_month are needed together"),
        ("columns: {birth_year: y, birth_month: m}", "need `births: month_and_year`"),
        ("columns: 3", "columns"),
        ("sex: 3", "sex"),
        ("missing: 3", "missing"),
        ("units: {height: mm}", "height"),
        ("preset: ukbb", "preset"),
    ],
)
def test_layout__mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        layout_of_file(text.encode(), "layout.yaml")


def test_preset__own_columns_replace_those_of_the_preset() -> None:
    given = ParticipantsLayout.model_validate(
        {"preset": "ukb", "columns": {"height_cm": "12144-2.0"}, "missing": ["-9"]}
    )
    full = given.resolved()
    assert full.columns["height_cm"] == ("12144-2.0",)
    assert full.columns["participant_id"] == ("eid", "f.eid")
    assert full.missing == ("-9",)
    assert full.sex == {"0": "female", "1": "male"}
    assert preset_layout("of-somebody-else") is None
    assert preset_layout("ukb-rap") == ParticipantsLayout(preset="ukb-rap")


@settings(deadline=None)
@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=2, max_size=6, unique=True),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_find_delimiter__is_that_of_the_table(rows: list[tuple[str, str, str]], delimiter: str) -> None:
    assert find_delimiter([delimiter.join(row) for row in rows], "t.csv") == delimiter


def test_find_delimiter__the_one_that_fits_all_rows_comes_first() -> None:
    assert find_delimiter(["a;b,c;d", "1;2;3", "4;5;6"], "t.csv") == ";"
    assert find_delimiter(["a,b;c", "1,2", "3,4"], "t.csv") == ","
    assert find_delimiter(["alone", "1"], "t.csv") is None


def test_read_raw__quoted_cells_may_hold_delimiters_and_line_ends() -> None:
    raw = read_raw(b'a,b\n"1,5","x\ny"\n', "t.csv")
    assert [column.to_pylist() for _, column in raw.columns] == [["1,5"], ["x\ny"]]


def test_read_raw__one_column() -> None:
    raw = read_raw(b'id\n"7"\n8\n', "t.csv")
    assert (raw.names, raw.n_rows) == (("id",), 2)
    assert raw.find("ID") is not None
    assert raw.find_first(["x", "y"]) is None


def test_read_raw__rows_of_another_width_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2 columns parted by a semicolon"):
        read_raw(b"a;b\n1;2;3\n", "t.csv")


def test_read_raw__long_headers_are_cut_in_messages() -> None:
    raw = read_raw(",".join(f"c{i}" for i in range(50)).encode() + b"\n", "t.csv")
    assert raw.described().endswith("c39 and 10 more")
    assert read_raw(b"a,b\n", "t.csv").n_rows == 0
