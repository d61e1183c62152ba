from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lvm_core.errors import UsageError
from lvm_core.tables import read_code_table, read_people_list
from tests.lvm_core.tables.people_cases import LIST_CASES, CmrCase, ListCase

CODES = "code,system,match,outcome,source,comment\n"


def _name(case: ListCase | CmrCase) -> str:
    return case.name


def _parquet(columns: dict[str, object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


@pytest.mark.parametrize("case", LIST_CASES, ids=_name)
def test_read_people_list__identifiers_of_each_case(case: ListCase) -> None:
    if case.refused is None:
        assert read_people_list(case.data, case.name).people == case.people
    else:
        with pytest.raises(UsageError) as refusal:
            read_people_list(case.data, case.name)
        assert case.refused in str(refusal.value)


def test_read_people_list__ecgs_and_people_are_kept_apart() -> None:
    both = read_people_list(b"participant_id,ecg_id\n1,a\n2,\n,b\n", "l.csv")
    assert (both.people, both.ecgs) == (("1", "2"), ("a", "b"))
    assert both.ids == {"1", "2", "a", "b"}
    assert both.n_ecgs_alone == 1
    only = read_people_list(b"ecg_id\na\n", "l.csv")
    assert (only.ecgs, only.n_ecgs_alone) == (("a",), 1)
    assert read_people_list(b"participant_id,x\n1,2\n", "l.csv").n_ecgs_alone == 0


def test_read_people_list__empty_and_parquet() -> None:
    assert read_people_list(b"\n\n", "l.txt").people == ()
    assert read_people_list(_parquet({"eid": [7, 8], "why": ["x", "y"]}), "l").people == ("7", "8")
    assert read_people_list(_parquet({"whatever": ["7"]}), "l.parquet").people == ("7",)
    large = _parquet({"eid": [2.0**60]})
    with pytest.raises(UsageError, match="1 numbers above 9,007,199,254,740,992"):
        read_people_list(large, "l")
    with pytest.raises(UsageError, match="1 fractions"):
        read_people_list(_parquet({"eid": [1.5]}), "l")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        read_people_list(b"PAR1 and no more", "l")


def test_read_people_list__excel_line_that_names_the_separator() -> None:
    assert read_people_list(b"sep=;\neid;note\n1001;x\n", "l.csv").people == ("1001",)
    assert read_people_list(b"sep=;\n1001\n1002\n", "l.csv").people == ("1001", "1002")
    assert read_people_list(b"sep=;\n", "l.csv").people == ()


def test_read_code_table__codes_and_systems_are_made_comparable() -> None:
    text = CODES + "i48.0,ICD-10,prefix,af,source,c\n" + "K40 1,OPCS 4, exact ,af,,\n"
    rows = read_code_table(text.encode(), "codes.csv").to_pylist()
    assert [(r["code"], r["system"], r["match"]) for r in rows] == [
        ("I480", "icd10", "prefix"),
        ("K401", "opcs4", "exact"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code,system\nI48,icd10\n", "expected match, outcome, source, comment among them"),
        (CODES + ",icd10,exact,af,s,c\n", "no code in 1 rows .row 1"),
        (CODES + "I48,icd10,like,af,s,c\n", "another match in 1 rows .row 1"),
    ],
)
def test_read_code_table__mistakes(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_code_table(text.encode(), "codes.csv")


def test_read_code_table__numbers_as_codes_are_refused() -> None:
    names = CODES.strip().split(",")
    columns: dict[str, object] = {name: ["x"] for name in names} | {"code": [427.3]}
    with pytest.raises(UsageError, match="code holds numbers with a decimal point"):
        read_code_table(_parquet(columns), "codes.parquet")


def test_read_people_list__hexadecimal_identifiers_are_no_scientific_notation() -> None:
    assert read_people_list(b"12345e67\nabcdef12\n", "l.csv").people == ("12345e67", "abcdef12")
    for number in ("1e+06", "1.5E6", "1.5e-3"):
        with pytest.raises(UsageError, match="scientific notation"):
            read_people_list(f"id\n{number}".encode(), "l.csv")
