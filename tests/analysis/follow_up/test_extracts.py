"""Tables of extracts: where they are, and their days in time zones."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pytest

from analysis.follow_up.ehr import ehr_tables
from analysis.follow_up.extracts import Extract
from analysis.statistics.columns import TableRefused


def test_extract__refuses_what_holds_no_tables(tmp_path: Path) -> None:
    with pytest.raises(TableRefused, match="holds no tables; expected a folder"):
        Extract(tmp_path)
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "A.tsv").write_text("x\n1\n")
    with pytest.raises(TableRefused, match="which are one table; remove one"):
        Extract(tmp_path)
    with pytest.raises(TableRefused, match=r"is a file; expected a folder of tables, or \.duckdb"):
        Extract(tmp_path / "a.csv")
    (tmp_path / "broken.duckdb").write_text("no database")
    with pytest.raises(TableRefused, match="cannot be read as DuckDB or SQLite"):
        Extract(tmp_path / "broken.duckdb")


def _records(folder: Path, dates: list[str], time_zone: str | None, parquet: bool = False) -> list[str]:
    table = pd.DataFrame({"mrn": "1", "date": dates, "code": "I48", "code_type": "ICD10CM"})
    if parquet:
        table.assign(date=pd.to_datetime(table["date"], utc=True)).to_parquet(folder / "diagnoses.parquet")
    else:
        table.to_csv(folder / "diagnoses.csv", index=False)
    return [str(day)[:10] for day in ehr_tables(Extract(folder), time_zone).events["date"]]


NEW_YORK = "America/New_York"


@pytest.mark.parametrize(
    ("written", "time_zone", "day"),
    [
        ("2019-03-05", NEW_YORK, "2019-03-05"),
        ("2019-03-05T23:30:00", NEW_YORK, "2019-03-05"),  # without a zone it is local
        ("2019-03-05T04:30:00Z", NEW_YORK, "2019-03-04"),
        ("2019-03-05T05:30:00Z", NEW_YORK, "2019-03-05"),
        ("2019-07-05T03:30:00Z", NEW_YORK, "2019-07-04"),  # four hours in summer
        ("2019-07-05T04:30:00+00:00", NEW_YORK, "2019-07-05"),
        ("2019-03-04T23:30:00-05:00", NEW_YORK, "2019-03-04"),
        ("2019-03-04 23:30:00.5-0500", NEW_YORK, "2019-03-04"),
        ("2019-03-04T23:30:00-05:00", None, "2019-03-04"),  # as it is written
        ("2019-07-05T23:30:00Z", "Europe/London", "2019-07-06"),
    ],
)
def test_days__are_those_of_the_hospital(tmp_path: Path, written: str, time_zone: str | None, day: str) -> None:
    assert _records(tmp_path, [written], time_zone) == [day]


def test_days__in_utc_need_the_zone_of_the_hospital(tmp_path: Path) -> None:
    with pytest.raises(TableRefused, match="has times in UTC in 2 rows"):
        _records(tmp_path, ["2019-03-05T04:30:00Z", "2019-03-05", "2019-03-05 01:00:00Z"], None)


def test_days__of_parquet_with_a_zone(tmp_path: Path) -> None:
    assert _records(tmp_path, ["2019-03-05T04:30:00Z"], NEW_YORK, parquet=True) == ["2019-03-04"]
    with pytest.raises(TableRefused, match="has times in UTC in 1 rows"):
        _records(tmp_path, ["2019-03-05T04:30:00Z"], None, parquet=True)


def test_ehr__a_record_without_a_date_is_of_its_encounter(tmp_path: Path) -> None:
    (tmp_path / "encounters.csv").write_text("encounter_id,mrn,admit_date,discharge_date\n7,1,2019-01-02,2019-01-09\n")
    (tmp_path / "diagnoses.csv").write_text("mrn,encounter_id,code,code_type\n1,7,I48,ICD10CM\n1,8,I50,ICD10CM\n")
    found = ehr_tables(Extract(tmp_path), None)
    assert [str(day)[:10] for day in found.events["date"]] == ["2019-01-02", "<NA>"]
    assert set(found.events["source"]) == {"ehr"}
    assert found.encounters is not None
    assert sorted(str(day)[:10] for day in found.encounters["date"]) == ["2019-01-02", "2019-01-09"]
    (tmp_path / "encounters.csv").unlink()
    with pytest.raises(TableRefused, match=r"has neither a date .* nor an encounter"):
        ehr_tables(Extract(tmp_path), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mrn,date,code\n1,2019-01-01,I48\n", "no column system or code_type"),
        ("mrn,date,code,system\n1,1/2/2019,I48,icd10\n", "of another form in 1 rows .1/2/2019.; expected YYYY-MM-DD"),
        ("mrn,date,code,system\n1,2019-02-30,I48,icd10\n", "of another form in 1 rows .2019-02-30"),
    ],
)
def test_ehr__what_is_not_known_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "diagnoses.csv").write_text(text)
    with pytest.raises(TableRefused, match=message):
        ehr_tables(Extract(tmp_path), None)


def test_extract__tables_of_a_database_are_found_whatever_their_case(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "x.duckdb")) as database:
        database.execute(
            "CREATE TABLE Diagnoses AS SELECT '1' AS MRN, DATE '2019-01-01' AS Date, 'I48' AS code, 'icd10' AS system"
        )
    found = ehr_tables(Extract(tmp_path / "x.duckdb"), None).events
    assert (found["code"][0], str(found["date"][0])[:10]) == ("I48", "2019-01-01")
