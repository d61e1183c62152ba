"""Tables of people as they come out of spreadsheets, statistics programs and biobanks.

One list for all commands: what each table means was worked out by hand. The twelve people are made
up; heights of men and women, and ages, are those of a middle-aged cohort.
"""

from __future__ import annotations

import codecs
import datetime as dt
from dataclasses import dataclass, field
from typing import Any, Final

PEOPLE: Final = (
    # participant_id, sex, birth_date, height_cm, weight_kg
    ("1000003", "female", "1956-08-14", "160.6", "56"),
    ("1000010", "male", "1951-02-16", "175", "103.6"),
    ("1000017", "male", "1953-03-15", "178.3", "103.7"),
    ("1000024", "male", "1953-03-15", "178.5", "103.7"),
    ("1000031", "female", "1938-09-22", "151.1", "47.1"),
    ("1000038", "male", "1955-01-27", "184.5", "97.9"),
    ("1000045", "female", "1965-03-21", "153.4", "57"),
    ("1000052", "female", "1946-02-12", "163.9", "84.3"),
    ("1000059", "male", "1959-04-27", "173.2", "79.5"),
    ("1000066", "female", "1953-02-03", "156.3", "65.1"),
    ("1000073", "female", "1952-07-25", "170.1", "71.9"),
    ("1000080", "male", "1952-07-26", "170.2", "71.9"),
)
HEADER: Final = ("participant_id", "sex", "birth_date", "height_cm", "weight_kg")
Row = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """A table, how it is to be read, and what is right.

    Attributes:
        name: of the case; its ending is the file's.
        data: content of the file.
        layout: settings of the layout; empty for none.
        refused: part of the message, or None where the table is read.
        changed: values of `right_people` that are other than those of PEOPLE, by row and column.
        judged: part of what the table as a whole is refused for, or None.
        read_by_studies: a study reads it all the same: it may follow up people without knowing
            their age, sex or body size.
    """

    name: str
    data: bytes
    layout: dict[str, Any] = field(default_factory=dict)
    refused: str | None = None
    changed: dict[tuple[int, str], Any] = field(default_factory=dict)
    judged: str | None = None
    read_by_studies: bool = False


def right_people(case: Case) -> list[dict[str, Any]]:
    """Return what each row of a case means: our names, our units."""
    rows = []
    for number, values in enumerate(PEOPLE):
        row: dict[str, Any] = dict(zip(HEADER, values, strict=True))
        row["birth_date"] = dt.date.fromisoformat(row["birth_date"])
        row["height_cm"], row["weight_kg"] = float(row["height_cm"]), float(row["weight_kg"])
        row["birth_day_assumed"] = False
        row |= {name: value for (at, name), value in case.changed.items() if at in (number, -1)}
        rows.append(row)
    return rows


def _text(rows: list[Row], header: Row = HEADER, delimiter: str = ",", end: str = "\n") -> str:
    lines = [header, *rows]
    return "".join(delimiter.join(line) + end for line in lines)


def _with(column: int, change: Any) -> list[Row]:
    """Return the rows with one column changed by a function of its text."""
    return [(*row[:column], change(row[column]), *row[column + 1 :]) for row in PEOPLE]


def _only(row: int, column: int, text: str) -> list[Row]:
    rows = [list(one) for one in PEOPLE]
    rows[row][column] = text
    return [tuple(one) for one in rows]


def _german(text: str) -> str:
    return text.replace(".", ",")


def _days_first(text: str) -> str:
    year, month, day = text.split("-")
    return f"{day}/{month}/{year}"


_ROWS: Final = list(PEOPLE)
_SEX_CODE: Final = {"female": "0", "male": "1"}
_OTHER_SEX: Final = {"female": "male", "male": "female"}
_MID_MONTH: Final = {
    (number, "birth_date"): dt.date.fromisoformat(row[2]).replace(day=15) for number, row in enumerate(PEOPLE)
} | {(-1, "birth_day_assumed"): True}
_UKB: Final = ("eid", "31-0.0", "birth_date", "50-2.0", "21002-2.0")
_RAP: Final = ("participant.eid", "participant.p31", "birth_date", "participant.p50_i2", "participant.p21002_i2")
_CODED: Final = _with(1, _SEX_CODE.get)
_NO_SEX: Final = {(2, "sex"): None}
_NO_WEIGHT: Final = {(2, "weight_kg"): None}

CASES: Final = (
    Case("plain.csv", _text(_ROWS).encode()),
    Case("byte_order_mark.csv", codecs.BOM_UTF8 + _text(_ROWS).encode()),
    Case("windows_line_ends.csv", _text(_ROWS, end="\r\n").encode()),
    Case("semicolon.csv", _text(_ROWS, delimiter=";").encode()),
    Case("tab.csv", _text(_ROWS, delimiter="\t").encode()),
    Case("vertical_bar.csv", _text(_ROWS, delimiter="|").encode()),
    Case("sep_line.csv", b"sep=;\n" + _text(_ROWS, delimiter=";").encode()),
    Case("utf16_excel.csv", _text(_ROWS, delimiter="\t", end="\r\n").encode("utf-16")),
    Case("latin1_other_column.csv", _text([(*row, "Köln") for row in _ROWS], (*HEADER, "ward")).encode("latin-1")),
    Case("semicolon_decimal_comma.csv", _text([tuple(map(_german, row)) for row in _ROWS], delimiter=";").encode()),
    Case(
        "decimal_comma_quoted.csv",
        _text([(*r[:3], f'"{_german(r[3])}"', f'"{_german(r[4])}"') for r in _ROWS]).encode(),
        refused="a decimal comma: set `decimal: ','` in the layout",
    ),
    Case(
        "decimal_comma_quoted_with_layout.csv",
        _text([(*r[:3], f'"{_german(r[3])}"', f'"{_german(r[4])}"') for r in _ROWS]).encode(),
        {"decimal": ","},
    ),
    Case("upper_case_header.csv", _text(_ROWS, tuple(h.upper() for h in HEADER)).encode()),
    Case(
        "blanks.csv", _text([tuple(f" {v} " for v in row) for row in _ROWS], tuple(f" {h} " for h in HEADER)).encode()
    ),
    Case("float_ids.csv", _text(_with(0, lambda key: f"{key}.0")).encode()),
    Case("some_float_ids.csv", _text(_only(0, 0, "1000003.0")).encode(), refused="1 identifiers with a decimal point"),
    Case(
        "scientific_ids.csv",
        _text(_with(0, lambda key: f"{int(key):E}")).encode(),
        refused="12 numbers in scientific notation",
    ),
    Case("no_id.csv", _text(_only(3, 0, "NA")).encode(), refused="row 4 has no key"),
    Case(
        "same_id_twice.csv", _text(_only(3, 0, "1000003")).encode(), refused="rows 1 and 4 have the same participant_id"
    ),
    Case("column_twice.csv", _text(_ROWS, (*HEADER[:4], "Height_cm")).encode(), refused="column height_cm 2 times"),
    Case("eid_only.csv", _text(_ROWS, ("eid", *HEADER[1:])).encode(), refused="UK Biobank's own names"),
    Case("eid_only_with_layout.csv", _text(_ROWS, ("eid", *HEADER[1:])).encode(), {"preset": "ukb"}),
    Case("ukb_names.csv", _text(_CODED, _UKB).encode(), {"preset": "ukb"}),
    Case("rap_names.csv", _text(_ROWS, _RAP).encode(), {"preset": "ukb-rap"}),
    Case(
        "own_names.csv",
        _text(_ROWS, ("who", "gender", "born", "tall", "heavy")).encode(),
        {
            "columns": {
                "participant_id": "who",
                "sex": "gender",
                "birth_date": "born",
                "height_cm": "tall",
                "weight_kg": "heavy",
            }
        },
    ),
    Case(
        "named_column_missing.csv", _text(_ROWS).encode(), {"columns": {"bmi_kg_m2": "BMI"}}, refused="bmi_kg_m2 (BMI)"
    ),
    Case("sex_0_1.csv", _text(_CODED).encode(), refused="the layout says what codes mean"),
    Case("sex_0_1_with_layout.csv", _text(_CODED).encode(), {"sex": {0: "female", 1: "male"}}),
    Case(
        "sex_german.csv",
        _text(_with(1, {"female": "weiblich", "male": "männlich"}.get)).encode("latin-1"),
        {"sex": {"weiblich": "female", "männlich": "male"}},
    ),
    Case("sex_minus_1.csv", _text(_only(2, 1, "-1")).encode(), refused="row 3: '-1'"),
    Case("sex_minus_1_with_layout.csv", _text(_only(2, 1, "-1")).encode(), {"missing": [-1]}, changed=_NO_SEX),
    Case("excel_not_available.csv", _text(_only(2, 4, "#N/A")).encode(), changed=_NO_WEIGHT),
    Case("sas_missing.csv", _text(_only(2, 4, ".")).encode(), changed=_NO_WEIGHT),
    Case("unknown_word.csv", _text(_only(2, 4, "Unknown")).encode(), changed=_NO_WEIGHT),
    Case("infinite_weight.csv", _text(_only(2, 4, "inf")).encode(), refused="row 3: 'inf'"),
    Case("birth_with_time.csv", _text(_with(2, lambda day: f"{day} 00:00:00")).encode()),
    Case("birth_day_first.csv", _text(_with(2, _days_first)).encode(), refused="other formats are named in the layout"),
    Case("birth_day_first_with_layout.csv", _text(_with(2, _days_first)).encode(), {"date_format": "%d/%m/%Y"}),
    Case("birth_year_month.csv", _text(_with(2, lambda day: day[:7])).encode(), refused="set `births: month_and_year`"),
    Case(
        "birth_year_month_with_layout.csv",
        _text(_with(2, lambda day: day[:7])).encode(),
        {"births": "month_and_year"},
        changed=_MID_MONTH,
    ),
    Case(
        "birth_year.csv",
        _text(_with(2, lambda day: day[:4])).encode(),
        refused="a year alone, from which no age is computed",
    ),
    Case(
        "birth_placeholder.csv",
        _text(_only(0, 2, "1900-01-01")).encode(),
        changed={(0, "birth_date"): dt.date(1900, 1, 1)},
    ),
    Case(
        "height_in_metres.csv",
        _text(_with(3, lambda cm: f"{float(cm) / 100:.3f}")).encode(),
        judged="it looks like metres",
        changed={(n, "height_cm"): round(float(r[3]) / 100, 3) for n, r in enumerate(PEOPLE)},
    ),
    Case(
        "height_in_metres_with_layout.csv",
        _text(_with(3, lambda cm: f"{float(cm) / 100:.3f}")).encode(),
        {"units": {"height": "m"}},
    ),
    Case(
        "weight_in_pounds.csv",
        _text(_with(4, lambda kg: f"{float(kg) / 0.45359237:.4f}")).encode(),
        judged="it looks like pounds",
        changed={(n, "weight_kg"): float(r[4]) / 0.45359237 for n, r in enumerate(PEOPLE)},
    ),
    Case(
        "weight_in_pounds_with_layout.csv",
        _text(_with(4, lambda kg: f"{float(kg) / 0.45359237:.4f}")).encode(),
        {"units": {"weight": "lb"}},
    ),
    Case(
        "height_in_inches_with_layout.csv",
        _text(_with(3, lambda cm: f"{float(cm) / 2.54:.4f}")).encode(),
        {"units": {"height": "in"}},
    ),
    Case(
        "height_and_weight_swapped.csv",
        _text([(*r[:3], r[4], r[3]) for r in _ROWS]).encode(),
        judged="are height_cm and weight_kg swapped?",
        changed={
            (n, name): float(r[at]) for n, r in enumerate(PEOPLE) for name, at in (("height_cm", 4), ("weight_kg", 3))
        },
    ),
    Case(
        "sexes_swapped.csv",
        _text(_with(1, _OTHER_SEX.get)).encode(),
        judged="men are shorter than women",
        changed={(n, "sex"): _OTHER_SEX[r[1]] for n, r in enumerate(PEOPLE)},
    ),
    Case(
        "bmi_of_others.csv",
        _text([(*row, "25") for row in _ROWS], (*HEADER, "bmi_kg_m2")).encode(),
        judged="bmi_kg_m2 differs from weight_kg / height_cm squared",
        changed={(-1, "bmi_kg_m2"): 25.0},
    ),
    Case(
        "bmi_is_weight.csv",
        _text([(*row[:4], row[4], row[4]) for row in _ROWS], (*HEADER, "bmi_kg_m2")).encode(),
        judged="the median of bmi_kg_m2",
        changed={(n, "bmi_kg_m2"): float(r[4]) for n, r in enumerate(PEOPLE)},
    ),
    Case("nul_characters.csv", b"participant_id,sex\n1\0,male\n", refused="holds NUL characters"),
    Case("empty.csv", b"", refused="is empty"),
    Case("no_known_column.csv", b"participant_id,ward\n1,A\n", refused="expected rows with", read_by_studies=True),
)
"""Participant tables."""


@dataclass(frozen=True)
class ListCase:
    """A list of people: its content, and who is on it."""

    name: str
    data: bytes
    people: tuple[str, ...] = ()
    refused: str | None = None


LIST_CASES: Final = (
    ListCase("plain.txt", b"1001\n1002\n", ("1001", "1002")),
    ListCase("header.csv", b"participant_id\n1001\n1002\n", ("1001", "1002")),
    ListCase("eid_header.csv", b"EID\r\n1001\r\n", ("1001",)),
    ListCase(
        "tab_with_dates.tsv", b"participant_id\tdate_withdrawn\n1001\t2024-05-01\n1002\t2024-05-01\n", ("1001", "1002")
    ),
    ListCase("semicolon.csv", b"eid;note\n1001;x\n", ("1001",)),
    ListCase("vertical_bar.csv", b"note|participant_id\nx|1001\n", ("1001",)),
    ListCase("blanks.csv", b" participant_id ,note\n 1001 ,x\n\n1002,y\n", ("1001", "1002")),
    ListCase("decimals.txt", b"1001.0\n1002.0\n", ("1001", "1002")),
    ListCase("leading_zeros.txt", b"007\n7\n", ("007", "7")),
    ListCase("utf16.csv", "participant_id;note\n1001;ä\n".encode("utf-16"), ("1001",)),
    ListCase("latin1.csv", "participant_id;note\n1001;ä\n".encode("latin-1"), ("1001",)),
    ListCase("repeated.txt", b"1001\n1001\n", ("1001",)),
    ListCase("quoted.txt", b'"1001"\n"1002"\n', ("1001", "1002")),
    ListCase("some_decimals.txt", b"1001.0\n1002\n", refused="1 identifiers with a decimal point"),
    ListCase("no_key.csv", b"name,why\nx,y\n", refused="expected one of participant_id"),
    ListCase("packed.txt", b"participant_id\n1001,1002\n", refused="identifiers with a comma"),
    ListCase("nul.txt", b"1001\0\n", refused="NUL characters"),
)
"""Lists of people."""


@dataclass(frozen=True)
class CmrCase:
    """A table of CMR examinations and what it means: person, date, mass."""

    name: str
    data: bytes
    rows: tuple[tuple[str, str | None, float], ...] = ()
    refused: str | None = None


_TWO: Final = (("1001", "2015-01-01", 90.0), ("1002", "2015-02-01", 110.5))
CMR_CASES: Final = (
    CmrCase("plain.csv", b"participant_id,cmr_date,lvm_cmr_g\n1001,2015-01-01,90\n1002,2015-02-01,110.5\n", _TWO),
    CmrCase("tab.tsv", b"participant_id\tcmr_date\tlvm_cmr_g\n1001\t2015-01-01\t90\n1002\t2015-02-01\t110,5\n", _TWO),
    CmrCase(
        "blanks.csv",
        b" PARTICIPANT_ID,cmr_date , lvm_cmr_g\n 1001 ,2015-01-01, 90\n1002,2015-02-01 10:30:00,110.5\n",
        _TWO,
    ),
    CmrCase(
        "decimals.csv", b"participant_id,cmr_date,lvm_cmr_g\n1001.0,2015-01-01,90\n1002.0,2015-02-01,110.5\n", _TWO
    ),
    CmrCase(
        "utf16.csv",
        "participant_id;cmr_date;lvm_cmr_g\n1001;2015-01-01;90\n1002;2015-02-01;110,5\n".encode("utf-16"),
        _TWO,
    ),
    CmrCase(
        "placeholder.csv",
        b"participant_id,cmr_date,lvm_cmr_g\n1001,1900-01-01,90\n1002,,Unknown\n",
        (("1001", None, 90.0),),
    ),
    CmrCase("no_dates.csv", b"participant_id,lvm_cmr_g\n1001,90\n", (("1001", None, 90.0),)),
    CmrCase(
        "negative.csv", b"participant_id,lvm_cmr_g\n1001,-1\n", refused="lvm_cmr_g of 0 g or less in 1 rows (row 1"
    ),
    CmrCase(
        "twice.csv",
        b"participant_id,cmr_date,lvm_cmr_g\n1001,2015-01-01,90\n1001,2015-01-01,95\n",
        refused="one person on one cmr_date more than once in 1 rows",
    ),
    CmrCase("no_person.csv", b"participant_id,lvm_cmr_g\n,90\n", refused="no participant_id"),
    CmrCase(
        "other_date.csv",
        b"participant_id,cmr_date,lvm_cmr_g\n1001,01.02.2015,90\n",
        refused="cmr_date has 1 values that are not a date",
    ),
    CmrCase("other_names.csv", b"participant_id,mass\n1001,90\n", refused="expected lvm_cmr_g"),
)
"""Tables of CMR examinations."""
