"""What the statistics read and refuse, by column, with counts and example rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused, used_columns


def test_used_columns__names_every_column_with_missing_values_and_where() -> None:
    table = pd.DataFrame({"a": [1, None, 3, None], "b": [pd.NaT] * 4, "c": range(4)})
    with pytest.raises(TableRefused) as refused:
        used_columns(table, ["a", "b", "c"])
    assert str(refused.value).startswith(
        "column 'a' has 2 missing values (rows 1, 3); column 'b' has 4 missing values "
        "(rows 0, 1, 2, 3); expected complete rows"
    )
    assert isinstance(refused.value, ValueError)


def test_used_columns__drop_counts_and_remembers_row_numbers() -> None:
    table = pd.DataFrame({"a": [1.0, None, -3.0], "b": [None, 1, None]}, index=[7, 8, 9])
    kept = used_columns(table, ["a", None, "a"], missing="drop")
    assert (kept.n, kept.n_dropped_missing, kept.row_numbers.tolist()) == (2, 1, [0, 2])
    with pytest.raises(TableRefused, match=r"column 'a' has 1 negative or zero times \(row 2: -3"):
        kept.times("a")
    with pytest.raises(TableRefused, match="no row of 3 is complete in a, b"):
        used_columns(table, ["a", "b"], missing="drop")


def test_used_columns__a_column_that_is_not_there_or_twice() -> None:
    table = pd.DataFrame([[1, 2, 3]], columns=["a", "b", "b"])
    with pytest.raises(TableRefused, match=r"column 'x' occurs 0 times, expected once; .* a, b, b"):
        used_columns(table, ["x"])
    with pytest.raises(TableRefused, match="column 'b' occurs 2 times"):
        used_columns(table, ["b"])
    with pytest.raises(TypeError, match="table is a dict, expected a pandas DataFrame"):
        used_columns({}, ["x"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="3 is a int, expected the name of a column"):
        used_columns(table, [3])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([0, 1]),
        pd.Series([False, True]),
        pd.Series([0, 1], dtype="Int64"),
        pd.Series([False, True], dtype="boolean"),
        pd.Series([0.0, 1.0], dtype="float32"),
    ],
)
def test_numbers_and_flags__whole_numbers_yes_no_and_nullable_types(column: pd.Series) -> None:
    columns = used_columns(column.to_frame("x"), ["x"])
    assert columns.numbers("x").tolist() == [0.0, 1.0]
    assert columns.flags("x").tolist() == [False, True]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2"], "text"),
        (pd.Categorical([1, 2]), "categories"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "dates"),
    ],
)
def test_numbers__refuses_other_kinds(values: object, kind: str) -> None:
    columns = used_columns(pd.DataFrame({"x": values}), ["x"])
    with pytest.raises(TableRefused, match=f"column 'x' holds {kind}"):
        columns.numbers("x")


def test_numbers__refuses_complex_and_infinite_ones() -> None:
    columns = used_columns(pd.DataFrame({"z": [1j, 2], "i": [-np.inf, 2]}), ["z", "i"])
    with pytest.raises(TableRefused, match="column 'z' holds complex numbers"):
        columns.numbers("z")
    with pytest.raises(TableRefused, match=r"column 'i' has 1 infinite values \(row 0: -inf\)"):
        columns.numbers("i")


def test_refuse__shows_five_rows_at_most() -> None:
    columns = used_columns(pd.DataFrame({"t": [-1.5] * 9}), ["t"])
    with pytest.raises(TableRefused, match=r"\(row 0: -1.5, 1: -1.5, .*, 4: -1.5 \.\.\.\)"):
        columns.times("t")


def test_statuses__name_the_codes() -> None:
    columns = used_columns(pd.DataFrame({"s": [0, 1, 3, 0.5]}), ["s"])
    with pytest.raises(
        TableRefused, match=r"column 's' has 2 statuses .*\(row 2: 3.0, 3: 0.5\); expected one of 0, 1, 2"
    ):
        columns.statuses("s", (1, 2))


def test_groups__are_sorted_and_labelled() -> None:
    table = pd.DataFrame({"a": ["y", "x", "y"], "b": [2, 1, 1]})
    columns = used_columns(table, ["a", "b"])
    assert columns.groups([])[1] == ["all"]
    codes, labels = columns.groups(["a"])
    assert (codes.tolist(), labels) == ([1, 0, 1], ["x", "y"])
    codes, labels = columns.groups(["a", "b"])
    assert (codes.tolist(), labels) == ([2, 0, 1], [("x", 1), ("y", 1), ("y", 2)])
