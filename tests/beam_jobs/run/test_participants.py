"""The participant table: what it accepts, what it refuses and where, and how it joins."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from beam_jobs.reading.storage import Storage
from beam_jobs.run.participants import load_participants
from lvm_core.errors import UsageError
from lvm_core.tables import PLACEHOLDER_DATES, Demographics, ParticipantTable, completed_years, unknown_demographics

STORAGE = Storage()
NOON = dt.datetime(2020, 6, 15, 12, 0)


def _csv(folder: Path, text: str, name: str = "people.csv") -> ParticipantTable:
    (folder / name).write_text(text, encoding="utf-8")
    return load_participants(STORAGE, f"{folder}/{name}").table


def _parquet(folder: Path, columns: Mapping[str, Any]) -> ParticipantTable:
    pq.write_table(pa.table(dict(columns)), folder / "people.parquet")
    return load_participants(STORAGE, f"{folder}/people.parquet").table


def _join(
    table: ParticipantTable,
    people: Sequence[str | None],
    ecgs: Sequence[str] | None = None,
    times: Sequence[dt.datetime | None] | None = None,
) -> Demographics:
    keys = [f"ecg-{i}" for i in range(len(people))] if ecgs is None else ecgs
    return table.join(keys, people, [NOON] * len(people) if times is None else times)


# Reading


def test_load_participants__csv_with_every_column(tmp_path: Path) -> None:
    table = _csv(
        tmp_path,
        "participant_id,age_years,sex,bmi_kg_m2,height_cm,weight_kg\na,63,female,27.5,165,75\nb,58.5,M,,180,81\n",
    )
    people = _join(table, ["b", "a", "c", None])
    assert people.found.tolist() == [True, True, False, False]
    assert people.age_years.tolist()[:2] == [58.5, 63.0]
    assert people.sex_code.tolist() == [1, 0, -1, -1]
    assert people.bmi_kg_m2.tolist()[1] == 27.5
    assert people.height_cm.tolist()[:2] == [180.0, 165.0]
    assert people.weight_kg.tolist()[:2] == [81.0, 75.0]
    assert np.isnan(people.age_years[2:]).all()
    assert people.flags == [(), (), (), ()]


def test_load_participants__parquet_with_the_same_content(tmp_path: Path) -> None:
    table = _parquet(
        tmp_path,
        {
            "participant_id": ["a", "b"],
            "age_years": [63, 58],
            "sex": pa.array(["female", "male"]).dictionary_encode(),
            "weight_kg": pa.array([75.5, None]),
        },
    )
    people = _join(table, ["a", "b"])
    assert people.age_years.tolist() == [63.0, 58.0]
    assert people.sex_code.tolist() == [0, 1]
    assert people.weight_kg[0] == 75.5
    assert np.isnan(people.weight_kg[1])


def test_load_participants__leading_zeros_are_part_of_the_key(tmp_path: Path) -> None:
    table = _csv(tmp_path, "participant_id,sex\n007,female\n7,male\n")
    assert _join(table, ["007", "7"]).sex_code.tolist() == [0, 1]


def test_load_participants__whole_numbers_in_parquet_are_keys_as_text(tmp_path: Path) -> None:
    table = _parquet(tmp_path, {"participant_id": [1000001, 1000002], "sex": ["male", "female"]})
    assert _join(table, ["1000001", "1000002"]).sex_code.tolist() == [1, 0]


def test_load_participants__whole_decimal_keys_lose_the_point(tmp_path: Path) -> None:
    ids, sexes = [1000001.0, 1000002.0], ["male", "female"]
    table = _parquet(tmp_path, {"participant_id": ids, "sex": sexes})
    assert _join(table, ["1000001", "1000002"]).sex_code.tolist() == [1, 0]


def test_load_participants__tabs_byte_order_mark_and_blanks(tmp_path: Path) -> None:
    text = '\ufeffparticipant_id\t"sex"\t age_years \r\n a \t Female \t 63 \r\n'
    people = _join(_csv(tmp_path, text, "people.tsv"), ["a"])
    assert (people.sex_code.tolist(), people.age_years.tolist()) == ([0], [63.0])


@pytest.mark.parametrize("text", ["", "NA", "n/a", "NaN", "null", "None", "Unknown", "missing"])
def test_load_participants__unknown_texts_are_unknown(tmp_path: Path, text: str) -> None:
    table = _csv(tmp_path, f"participant_id,sex,age_years,birth_date,weight_kg\na,{text},{text},{text},{text}\n")
    people = _join(table, ["a"])
    assert people.sex_code.tolist() == [-1]
    assert np.isnan(people.age_years[0])
    assert np.isnan(people.weight_kg[0])
    assert people.flags == [()]


def test_load_participants__other_columns_do_not_matter(tmp_path: Path) -> None:
    table = _csv(tmp_path, "site,participant_id,sex\nx,a,female\n")
    assert "site" not in table.arrow.column_names


# What is refused


def _refused(folder: Path, text: str, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        _csv(folder, text)


def test_load_participants__without_a_key_is_refused(tmp_path: Path) -> None:
    _refused(
        tmp_path,
        "eid,sex\n1,male\n",
        "1 rows and columns eid, sex; expected rows with ecg_id or participant_id .* --participants-layout ukb",
    )


def test_load_participants__numeric_sex_is_refused_with_its_row(tmp_path: Path) -> None:
    _refused(
        tmp_path,
        "participant_id,sex\na,male\nb,1\nc,0\n",
        r"column sex has 2 values that are not female or male.*row 2: '1'; row 3: '0'\): expected "
        "female or male; the layout says what codes mean, for example "
        r"`sex: {0: female, 1: male}`$",
    )


def test_load_participants__numeric_sex_in_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"row 1: '1'.*the layout says what codes mean"):
        _parquet(tmp_path, {"participant_id": ["a"], "sex": [1]})


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("age_years", "63 years", "a number"),
        ("weight_kg", "inf", "a number"),
        ("birth_date", "01/02/1950", "a date as YYYY-MM-DD"),
        ("birth_date", "1950-02-30", "a date as YYYY-MM-DD"),
        ("sex", "divers", "female or male"),
    ],
)
def test_load_participants__wrong_value_is_refused_with_its_row(
    tmp_path: Path, column: str, value: str, expected: str
) -> None:
    _refused(
        tmp_path,
        f"participant_id,{column}\na,\nb,{value}\n",
        rf"column {column} has 1 values that are not {expected}.*row 2: '{re.escape(value)}'",
    )


def test_load_participants__only_five_rows_are_named(tmp_path: Path) -> None:
    rows = "".join(f"p{i},1\n" for i in range(9))
    with pytest.raises(UsageError, match="has 9 values") as refusal:
        _csv(tmp_path, f"participant_id,sex\n{rows}")
    assert "row 5:" in str(refusal.value)
    assert "row 6:" not in str(refusal.value)


def test_load_participants__repeated_keys_are_refused_with_both_rows(tmp_path: Path) -> None:
    _refused(
        tmp_path,
        "participant_id,sex\na,male\nb,male\na,female\n",
        "1 rows have a key that is missing or repeated.*rows 1 and 3 have the same participant_id",
    )


def test_load_participants__repeated_ecg_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "ecg_id,participant_id,sex\ne1,a,male\ne1,b,male\n", "rows 1 and 2 have the same ecg_id")


def test_load_participants__person_with_several_ecg_rows_is_fine(tmp_path: Path) -> None:
    table = _csv(tmp_path, "ecg_id,participant_id,age_years\ne1,a,60\ne2,a,63\n,a,50\n,b,40\n")
    people = _join(table, ["a", "a", "a", "b"], ["e1", "e2", "e3", "e4"])
    assert people.age_years.tolist() == [60.0, 63.0, 50.0, 40.0]


def test_load_participants__row_without_a_key_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "ecg_id,participant_id,sex\n,a,male\n, ,male\n", "row 2 has no key")


@pytest.mark.parametrize("data", [b"", b"participant_id,sex\na\n", b"participant_id,sex\na\0,male\n"])
def test_load_participants__damaged_csv_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "people.csv").write_bytes(data)
    with pytest.raises(UsageError, match=r"people\.csv"):
        load_participants(STORAGE, f"{tmp_path}/people.csv")


def test_load_participants__damaged_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "people.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UsageError, match=r"people\.parquet"):
        load_participants(STORAGE, f"{tmp_path}/people.parquet")


def test_load_participants__column_given_twice_is_refused(tmp_path: Path) -> None:
    _refused(tmp_path, "participant_id,sex,sex\na,male,female\n", "sex")


# Joining


def test_join__ecg_id_wins_over_the_person(tmp_path: Path) -> None:
    table = _csv(tmp_path, "ecg_id,participant_id,age_years\n,a,50\ne1,b,70\n")
    people = _join(table, ["a", "a"], ["e1", "e2"])
    assert people.age_years.tolist() == [70.0, 50.0]


def test_join__row_of_an_ecg_is_not_found_by_its_person(tmp_path: Path) -> None:
    table = _csv(tmp_path, "ecg_id,participant_id,age_years\ne1,a,70\n")
    assert _join(table, ["a"], ["e2"]).found.tolist() == [False]


def test_join__person_comes_from_the_table_where_the_ecg_does_not_say(tmp_path: Path) -> None:
    table = _csv(tmp_path, "ecg_id,participant_id\ne1,from-table\ne2,\n")
    people = _join(table, [None, "from-ecg", None], ["e1", "e1", "e2"])
    assert people.participant_id == ["from-table", "from-ecg", None]


@pytest.mark.parametrize(
    ("birth", "on", "years"),
    [
        ("1950-06-15", "2020-06-14", 69),
        ("1950-06-15", "2020-06-15", 70),
        ("1950-06-15", "2020-06-16", 70),
        ("1952-02-29", "2021-02-28", 68),
        ("1952-02-29", "2021-03-01", 69),
        ("1952-02-29", "2020-02-28", 67),
        ("1952-02-29", "2020-02-29", 68),
        ("2020-06-15", "2020-06-15", 0),
        ("2020-06-16", "2020-06-15", None),
        ("1950-12-31", "2020-01-01", 69),
    ],
)
def test_completed_years__counts_birthdays(birth: str, on: str, years: int | None) -> None:
    assert completed_years(dt.date.fromisoformat(birth), dt.date.fromisoformat(on)) == years


def test_join__age_from_the_birth_date_wins(tmp_path: Path) -> None:
    table = _csv(tmp_path, "participant_id,birth_date,age_years\na,1950-06-15,33\n")
    times = [dt.datetime(2020, 6, 14, 23, 59), dt.datetime(2020, 6, 15), None]
    people = _join(table, ["a"] * 3, times=times)
    assert people.age_years.tolist() == [69.0, 70.0, 33.0]


@pytest.mark.parametrize("date", sorted(PLACEHOLDER_DATES))
def test_join__placeholder_dates_are_unknown(tmp_path: Path, date: dt.date) -> None:
    table = _csv(tmp_path, f"participant_id,birth_date,age_years\na,{date},61\nb,1950-01-01,62\n")
    times = [NOON, dt.datetime.combine(date, dt.time(12))]
    assert _join(table, ["a", "b"], times=times).age_years.tolist() == [61.0, 62.0]


def test_placeholder_dates__are_those_of_the_facts_sheet() -> None:
    expected = {(1900, 1, 1), (1901, 1, 1), (1902, 2, 2), (1903, 3, 3), (1909, 9, 9), (2037, 7, 7)}
    assert {(d.year, d.month, d.day) for d in PLACEHOLDER_DATES} == expected


def test_join__recording_before_the_birth_falls_back_to_the_given_age(tmp_path: Path) -> None:
    table = _csv(tmp_path, "participant_id,birth_date,age_years\na,2021-01-01,61\n")
    assert _join(table, ["a"]).age_years.tolist() == [61.0]


def test_load_participants__birth_dates_of_parquet_types(tmp_path: Path) -> None:
    for column in (
        pa.array([dt.date(1950, 6, 15)]),
        pa.array([dt.datetime(1950, 6, 15)], pa.timestamp("ns")),
        pa.array(["1950-06-15"]),
    ):
        table = _parquet(tmp_path, {"participant_id": ["a"], "birth_date": column})
        assert _join(table, ["a"]).age_years.tolist() == [70.0]


# Body size


def _body(folder: Path, bmi: str, height: str, weight: str, age: str = "60") -> Demographics:
    text = f"participant_id,bmi_kg_m2,height_cm,weight_kg,age_years\na,{bmi},{height},{weight},{age}\n"
    return _join(_csv(folder, text), ["a"])


def test_join__bmi_is_computed_where_absent(tmp_path: Path) -> None:
    # 70 kg / (1.70 m)^2 = 24.22 kg/m2
    assert _body(tmp_path, "", "170", "70").bmi_kg_m2[0] == pytest.approx(24.2215, abs=1e-4)
    assert _body(tmp_path, "30", "170", "70").bmi_kg_m2[0] == 30.0
    assert np.isnan(_body(tmp_path, "", "170", "").bmi_kg_m2[0])


@pytest.mark.parametrize(
    ("height", "weight", "flags"),
    [
        ("100", "25", ()),
        ("250", "350", ()),
        ("99.9", "25", ("height_out_of_range",)),
        ("250.1", "350", ("height_out_of_range",)),
        ("100", "24.9", ("weight_out_of_range",)),
        ("250", "350.1", ("weight_out_of_range",)),
        ("1.75", "80", ("height_out_of_range",)),
        ("-1", "-1", ("height_out_of_range", "weight_out_of_range")),
        ("0", "999", ("height_out_of_range", "weight_out_of_range")),
    ],
)
def test_join__implausible_height_and_weight_are_flagged_and_dropped(
    tmp_path: Path, height: str, weight: str, flags: tuple[str, ...]
) -> None:
    people = _body(tmp_path, "25", height, weight)
    assert people.flags == [flags]
    assert np.isnan(people.height_cm[0]) == ("height_out_of_range" in flags)
    assert np.isnan(people.weight_kg[0]) == ("weight_out_of_range" in flags)


def test_join__implausible_height_gives_no_bmi(tmp_path: Path) -> None:
    assert np.isnan(_body(tmp_path, "", "1.75", "80").bmi_kg_m2[0])


@pytest.mark.parametrize(
    ("bmi", "age", "flags"),
    [
        ("10", "18", ()),
        ("80", "110", ()),
        ("9.9", "60", ("bmi_out_of_range",)),
        ("80.1", "60", ("bmi_out_of_range",)),
        ("25", "17.9", ("age_out_of_range",)),
        ("25", "110.1", ("age_out_of_range",)),
        ("25", "732", ("age_out_of_range",)),
    ],
)
def test_join__implausible_bmi_and_age_are_flagged_and_kept_for_the_reject(
    tmp_path: Path, bmi: str, age: str, flags: tuple[str, ...]
) -> None:
    people = _body(tmp_path, bmi, "170", "70", age)
    assert people.flags == [flags]
    assert people.bmi_kg_m2[0] == np.float32(bmi)
    assert people.age_years[0] == np.float32(age)


def test_join__computed_bmi_is_judged_too(tmp_path: Path) -> None:
    # 250 kg / (1.10 m)^2 = 206.6 kg/m2, of a plausible height and weight each
    assert _body(tmp_path, "", "110", "250").flags == [("bmi_out_of_range",)]


# One age for ECGs far apart

FIRST = dt.datetime(2015, 3, 1)
STALE = ("age_not_at_recording",)


@pytest.mark.parametrize(("days", "flags"), [(365, ()), (366, STALE), (2000, STALE)])
def test_with_stale_ages__over_a_year_apart_is_flagged(tmp_path: Path, days: int, flags: tuple[str, ...]) -> None:
    table = _csv(tmp_path, "participant_id,age_years\na,60\nb,60\n")
    stale = table.with_stale_ages({"a": (FIRST, FIRST + dt.timedelta(days=days))})
    assert _join(stale, ["a", "b"]).flags == [flags, ()]
    again = ParticipantTable.from_parquet(stale.to_parquet())
    assert _join(again, ["a", "b"]).flags == [flags, ()]


def test_with_stale_ages__birth_date_makes_the_age_right(tmp_path: Path) -> None:
    table = _csv(tmp_path, "participant_id,birth_date,age_years\na,1950-06-15,60\n")
    stale = table.with_stale_ages({"a": (FIRST, FIRST + dt.timedelta(days=900))})
    assert _join(stale, ["a", "a"], times=[NOON, None]).flags == [(), STALE]


def test_with_stale_ages__row_of_one_ecg_has_the_age_of_that_ecg(tmp_path: Path) -> None:
    table = _csv(tmp_path, "ecg_id,participant_id,age_years\ne1,a,60\n")
    stale = table.with_stale_ages({"a": (FIRST, FIRST + dt.timedelta(days=900))})
    assert _join(stale, ["a"], ["e1"]).flags == [()]


def test_with_stale_ages__no_age_is_not_a_wrong_age(tmp_path: Path) -> None:
    table = _csv(tmp_path, "participant_id,sex\na,male\n")
    stale = table.with_stale_ages({"a": (FIRST, FIRST + dt.timedelta(days=900))})
    assert _join(stale, ["a"]).flags == [()]


def test_with_stale_ages__of_nobody_is_nobody(tmp_path: Path) -> None:
    nobody = _csv(tmp_path, "participant_id,age_years\na,60\n").without(lambda _ecg, _person: True)
    again = ParticipantTable.from_parquet(nobody.with_stale_ages({}).to_parquet())
    assert again.arrow.num_rows == 0
    assert again.arrow.schema == nobody.arrow.schema


# Content


ROWS = [("a", "1950-06-15", "", "female", "70.5"), ("b", "", "61", "male", "80"), ("c", "", "", "", "")]
HEADER = "participant_id,birth_date,age_years,sex,weight_kg\n"


def _text(rows: Sequence[Sequence[str]]) -> str:
    return HEADER + "".join(",".join(row) + "\n" for row in rows)


def test_content_sha256__does_not_depend_on_the_order_of_rows(tmp_path: Path) -> None:
    assert _csv(tmp_path, _text(ROWS)).content_sha256 == _csv(tmp_path, _text(ROWS[::-1])).content_sha256


@pytest.mark.parametrize("unknown", [None, float("nan")])
def test_content_sha256__does_not_depend_on_the_format(tmp_path: Path, unknown: float | None) -> None:
    parquet = _parquet(
        tmp_path,
        {
            "weight_kg": pa.array([80.0, unknown, 70.5]),
            "participant_id": ["b", "c", "a"],
            "sex": ["male", None, "female"],
            "age_years": pa.array([61.0, unknown, unknown]),
            "birth_date": [None, None, dt.date(1950, 6, 15)],
        },
    )
    assert parquet.content_sha256 == _csv(tmp_path, _text(ROWS)).content_sha256


def test_content_sha256__depends_on_every_value(tmp_path: Path) -> None:
    changes = [(0, 0, "z"), (0, 1, "1950-06-16"), (1, 2, "62"), (1, 3, "female"), (0, 4, "70.6")]
    found = {_csv(tmp_path, _text(ROWS)).content_sha256}
    for row, column, value in changes:
        rows = [list(r) for r in ROWS]
        rows[row][column] = value
        found.add(_csv(tmp_path, _text(rows)).content_sha256)
    found.add(_csv(tmp_path, _text(ROWS[:2])).content_sha256)
    assert len(found) == len(changes) + 2


def test_content_sha256__does_not_depend_on_the_planners_flags(tmp_path: Path) -> None:
    table = _csv(tmp_path, _text(ROWS))
    stale = table.with_stale_ages({"b": (FIRST, FIRST + dt.timedelta(days=900))})
    assert stale.content_sha256 == table.content_sha256


# People


def test_without__drops_the_excluded(tmp_path: Path) -> None:
    table = _csv(tmp_path, "ecg_id,participant_id,sex\ne1,a,male\n,b,male\n,c,female\n")
    smaller = table.without(lambda ecg_id, person: ecg_id == "e1" or person == "b")
    assert smaller.arrow["participant_id"].to_pylist() == ["c"]
    assert len(table) == 3


def test_ecg_ids_of__are_those_of_rows_with_an_ecg(tmp_path: Path) -> None:
    table = _csv(tmp_path, "ecg_id,participant_id\ne1,a\ne2,a\ne3,b\n,a\n")
    assert table.ecg_ids_of(lambda person: person == "a") == {"e1", "e2"}
    assert table.person_of("e3") == "b"
    assert table.person_of("e9") is None


def test_unknown_demographics__nothing_is_known() -> None:
    people = unknown_demographics(["a", None])
    assert people.participant_id == ["a", None]
    assert people.found.tolist() == [False, False]
    assert people.sex_code.tolist() == [-1, -1]
    assert np.isnan([people.age_years, people.bmi_kg_m2, people.height_cm, people.weight_kg]).all()
