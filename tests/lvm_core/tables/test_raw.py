from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm_core.errors import UsageError
from lvm_core.tables.raw import find_delimiter, read_raw

CELLS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


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


def test_read_raw__unwanted_columns_are_not_kept_and_are_named() -> None:
    data = b"a,b , c\n1,2,3\n4,5,6\n"
    raw = read_raw(data, "t.csv", ["B", "missing"])
    assert [(name, column.to_pylist()) for name, column in raw.columns] == [("b", ["2", "5"])]
    assert raw.described() == "t.csv has 2 rows and columns a, b, c"
    assert read_raw(data, "t.csv", ["missing"]).names == ("a", "b", "c")


def test_read_raw__quotation_mark_in_an_unwanted_column_is_still_noticed() -> None:
    with pytest.raises(UsageError, match="is not closed"):
        read_raw(b'a,b\n1,2\n3,"4\n5,6\n', "t.csv", ["a"])
