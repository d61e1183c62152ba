"""Identifiers of people: blanks, whole numbers as floats, and tables of other people."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from analysis.follow_up.loading import LoadedTable
from analysis.statistics.columns import TableRefused
from lvm_core.errors import UsageError
from lvm_core.tables.values import identifiers
from tests.analysis.follow_up.one_person import build
from tests.analysis.report.small_study import IDS, change, cmr, persons, predictions, read, write


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


GIVEN = {
    "blanks": [" 7", "8 ", "9"],
    "leading zeros": ["007", "7"],
    "numbers": [1000001, 7],
    "floats with a gap": [1000001.0, np.nan, 7.0],
    "texts of floats": ["1000001.0", " 7.0 "],
    "decimals": [Decimal("1000001.00"), Decimal("7.00")],
    "points that belong to them": ["1.5", "2.5"],
    "unknown texts": ["", "  ", None, "NA", "#N/A", "unknown", ".", "8"],
    "letters": ["e7", "1e", "S7-0e1"],
    "hexadecimal": ["12345e67", "abcdef12"],
    "some with a point": ["1001.0", "1002"],
    "fractions": [1.5, 2.0],
    "too large for floats": [2.0**53 + 2],
    "scientific": ["1.000003E+06", "1.000010E+06"],
    "nobody": ["", None],
}


def by_the_core(values: list[Any]) -> list[str | None] | None:
    """What `lvm_core.tables` makes of a column; None where it is refused."""
    column = pa.Array.from_pandas(pd.Series(values))
    try:
        return identifiers(column, column_name="id", table="list")[0].to_pylist()  # type: ignore[no-any-return]
    except UsageError:
        return None


def by_duckdb(values: list[Any]) -> list[str | None] | None:
    """What a loaded table makes of it; None where it is refused."""
    with duckdb.connect() as connection:
        try:
            text = loaded(connection, values).identifier("id")
        except TableRefused:
            return None
        return [row[0] for row in connection.execute(f"SELECT {text} FROM raw_list").fetchall()]


def loaded(connection: duckdb.DuckDBPyConnection, values: list[Any]) -> LoadedTable:
    connection.register("raw_list", pd.DataFrame({"id": pd.Series(values)}))
    kind = connection.execute("DESCRIBE SELECT id FROM raw_list").fetchall()[0][1]
    return LoadedTable(connection, "list", {"id": kind})


@pytest.mark.parametrize("name", GIVEN)
def test_identifier__of_duckdb_is_that_of_the_core(name: str) -> None:
    assert by_duckdb(GIVEN[name]) == by_the_core(GIVEN[name])


def test_identifier__is_text_without_blanks_and_whole_numbers_have_no_point() -> None:
    assert by_duckdb(GIVEN["blanks"]) == ["7", "8", "9"]
    assert by_duckdb(GIVEN["leading zeros"]) == ["007", "7"]
    assert by_duckdb(GIVEN["floats with a gap"]) == ["1000001", None, "7"]
    assert by_duckdb(GIVEN["texts of floats"]) == ["1000001", "7"]
    assert by_duckdb(GIVEN["unknown texts"]) == [None] * 7 + ["8"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fractions", "id holds fractions in 1 rows; expected text or whole numbers"),
        ("too large for floats", "id holds numbers above 9,007,199,254,740,992 in 1 rows, which floats"),
        ("some with a point", r"1 identifiers with a decimal point \(as 1001.0\) among 2; expected"),
        ("scientific", "2 numbers in scientific notation, which a spreadsheet writes"),
    ],
)
def test_identifier__that_lost_digits_or_form_is_refused(name: str, message: str) -> None:
    with duckdb.connect() as connection, pytest.raises(TableRefused, match=message):
        loaded(connection, GIVEN[name]).identifier("id")


def test_identifiers__of_all_tables_may_be_written_in_different_ways(folder: Path) -> None:
    """Floats in Parquet, blanks, numbers and texts: the same people in each table."""
    whole = read(folder)
    scored = predictions()
    floats = scored["participant_id"].astype(float)
    scored.assign(participant_id=floats).to_parquet(folder / "predictions.parquet")
    change(folder, "participants.csv", participant_id=[f" {one} " for one in IDS])
    change(folder, "events.csv", participant_id=[f"{one}.0" for one in IDS[:8]])
    table = cmr()
    table.assign(participant_id=table["participant_id"].astype(float)).to_parquet(folder / "cmr.parquet")
    (folder / "gone.txt").write_text("1000040.0\n1000039.0\n")
    data = read(folder, cmr="cmr.parquet", withdrawn="gone.txt")
    assert sorted(data.ecgs["participant_id"]) == sorted(whole.ecgs["participant_id"])[:-2]
    assert data.cmr is not None
    assert len(data.cmr) == 38
    assert (data.analysed("af")["event"].sum(), len(data.analysed("af"))) == (8, 38)


@pytest.mark.parametrize(("name", "called"), [("events.csv", "events"), ("cmr.csv", "cmr")])
def test_tables__of_other_people_are_refused_with_the_form_of_an_id_of_each(
    folder: Path, name: str, called: str
) -> None:
    table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
    change(folder, name, participant_id=["A" + one for one in table["participant_id"]])
    message = (
        f"tables {called} and participants have no participant_id in common: the first of the "
        r"former is of the form A9999999, of the latter 9999999 \(A a letter, 9 a digit\)"
    )
    with pytest.raises(TableRefused, match=message):
        read(folder)


def test_tables__deaths_of_other_people_give_a_note(folder: Path) -> None:
    """In a small cohort nobody may have died: no mistake, but worth a look."""
    table = pd.read_csv(folder / "deaths.csv", dtype=str, keep_default_na=False)
    assert not any("table of deaths" in note for note in read(folder).notes)
    change(folder, "deaths.csv", participant_id=["A" + one for one in table["participant_id"]])
    assert any("no participant is in the table of deaths" in note for note in read(folder).notes)


def test_tables__predictions_of_other_people_are_refused(folder: Path) -> None:
    scored = predictions()
    scored.assign(participant_id="0" + scored["participant_id"]).to_parquet(folder / "predictions.parquet")
    with pytest.raises(TableRefused, match="form 99999999, of the latter 9999999 "):
        read(folder)


def test_tables__an_empty_one_has_nothing_in_common_and_is_no_mistake() -> None:
    assert build(events=[]).people["excluded"].tolist() == [None]


def test_codes__that_went_through_numbers_are_refused() -> None:
    message = "code holds numbers with a point"
    with pytest.raises(TableRefused, match=message):
        build(events=[("a", "2017-01-01", 427.3, "icd9", "hes")])


def test_household__is_text_and_people_without_one_are_alone(folder: Path) -> None:
    table = persons().assign(home=np.where(np.arange(40) < 36, np.arange(40) // 2 + 10.0, np.nan))
    table.loc[[4, 5], "home"] = np.nan
    table.to_parquet(folder / "participants.parquet")
    data = read(folder, "household: home\n", participants="participants.parquet")
    homes = data.ecgs.set_index("participant_id")["household_id"]
    assert homes[IDS[0]] == homes[IDS[1]] == "household 10"
    assert homes.notna().all()
    assert homes[IDS[4]] != homes[IDS[5]]
    # 36 people in pairs but for the third pair, and six alone.
    assert homes.nunique() == 17 + 2 + 4
