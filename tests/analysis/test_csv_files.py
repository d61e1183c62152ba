"""CSV for people: text is escaped, numbers and everything else are not touched."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from analysis.csv_files import write_csv, write_csv_in_parts


def test_write_csv__text_is_escaped_and_numbers_stay(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "=name": ["=1+1", "plain"],
            "number": [-1.5, 2.0],
            "whole": pd.array([-1, None], dtype="Int64"),
            "mixed": ["@x", -3],
            "category": pd.Categorical(["+x", "y"]),
            "text": pd.array(["-x", None], dtype="string"),
            "date": pd.to_datetime(["2020-01-02", None]),
        }
    )
    write_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "'=name,number,whole,mixed,category,text,date",
        "'=1+1,-1.5,-1,'@x,'+x,'-x,2020-01-02",
        "plain,2.0,,-3,y,,",
    ]


def test_write_csv__columns_of_one_name_stay_apart(tmp_path: Path) -> None:
    table = pd.DataFrame([["=a", 1]], columns=["x", "x"])
    write_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines() == ["x,x", "'=a,1"]


def test_write_csv__counts_beside_missing_cells_stay_whole(tmp_path: Path) -> None:
    counts = pd.Series([19302, None, 413], dtype=object)
    write_csv(pd.DataFrame({"n": counts, "text": ["a", "=b", None]}), tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text() == "n,text\n19302,a\n,'=b\n413,\n"


def test_write_csv_in_parts__is_one_table_and_refuses_other_columns(tmp_path: Path) -> None:
    parts = [pd.DataFrame({"x": [1], "text": ["=a"]}), pd.DataFrame({"x": [2], "text": ["b"]})]
    write_csv_in_parts(parts, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().splitlines() == ["x,text", "1,'=a", "2,b"]
    with pytest.raises(ValueError, match=r"part 1 of t\.csv has columns \['y'\], expected \['x'\]"):
        write_csv_in_parts([pd.DataFrame({"x": [1]}), pd.DataFrame({"y": [1]})], tmp_path / "t.csv")
