"""The extract of UK Biobank's platform: the participants' fields, and long tables of records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import duckdb
import pandas as pd

from analysis.follow_up.event_formats import has_fields, wide_ukb_records
from analysis.follow_up.extracts import EVENT_COLUMNS, CohortTables, Extract, RecordTable, frame_of, joined, table_in
from analysis.follow_up.first_occurrences import FIRST_OCCURRENCES, occurrences_of_dictionary
from analysis.follow_up.loading import Source, describe_table
from analysis.statistics.columns import TableRefused

PARTICIPANT: Final = ("participant", "participants")
"""Names of the table of participants."""
_LONG: Final = ("hesin", "hesin_diag", "hesin_oper", "death", "death_cause")
_DICTIONARY: Final = "data_dictionary"
# Field 24105: LV myocardial mass, g, by cardiac MRI (category 157, Bai W et al., Nat Med
# 2020;26:1654), at the imaging visits; field 53 is the day of the visit.
_MASS: Final = {2: ("p24105_i2", "p53_i2"), 3: ("p24105_i3", "p53_i3")}
_MASS_FIELDS: Final = tuple(mass for mass, _ in _MASS.values())
_DIAGNOSES: Final = {"diag_icd10": "icd10", "diag_icd9": "icd9"}


def ukb_rap_tables(extract: Extract) -> CohortTables:
    """Return the records of an extract: hospital episodes, causes of death, self-reports, CMR.

    The table participant holds the fields that `wide_ukb_records` reads, and 24105 of the imaging
    visits where there is CMR. hesin, hesin_diag and hesin_oper are the hospital's episodes: an
    episode is dated by epistart, or else admidate; an operation by opdate, or else its episode.
    death and death_cause are those of the register, for deaths that participant does not hold.

    Raise TableRefused where a table lacks columns or needs another.
    """
    participant = extract.require(*PARTICIPANT)
    with duckdb.connect() as connection:
        _, types = describe_table(connection, "participant", participant)
        parts = [*_wide(extract, participant, types), *_long(connection, extract)]
        if not parts:
            raise TableRefused(
                f"{extract.path} holds no records: expected fields such as p41270 or p131350 in participant, or "
                f"tables {', '.join(_LONG)}"
            )
        deaths = None if "death_date" in _ended(types) else _deaths(connection, extract)
        cmr = _cmr(connection, participant, types)
    return CohortTables(events=joined(parts, EVENT_COLUMNS), deaths=deaths, cmr=cmr)


def _ended(types: Mapping[str, str]) -> set[str]:
    return {"death_date"} if {"p40000_i0", "participant.p40000_i0"} & set(types) else set()


def _wide(extract: Extract, participant: Source, types: Mapping[str, str]) -> Iterator[pd.DataFrame]:
    codes: Mapping[int, str] = FIRST_OCCURRENCES
    dictionary = next((name for name in extract.names if name.endswith(_DICTIONARY)), None)
    if dictionary is not None:
        table = extract.path / f"{dictionary}.csv"
        codes = occurrences_of_dictionary(table.read_bytes(), table.name) if table.is_file() else codes
    if has_fields(types):
        yield wide_ukb_records(participant, codes=codes)


def _long(connection: duckdb.DuckDBPyConnection, extract: Extract) -> Iterator[pd.DataFrame]:
    """Yield the records of the long tables that are there."""
    given = {name: source for name in _LONG if (source := extract.find(name)) is not None}
    for name, needed in {"hesin_diag": "hesin", "hesin_oper": "hesin", "death_cause": "death"}.items():
        if name in given and needed not in given:
            raise TableRefused(f"{extract.path} has {name} but no table {needed}, which holds its dates")
    tables = {name: RecordTable(connection, name, source) for name, source in given.items()}
    if "hesin" in tables:
        _make(connection, tables["hesin"], "episodes", "coalesce({}, {})", ("epistart", "admidate"))
    if "hesin_diag" in tables:
        yield _diagnoses(connection, tables["hesin_diag"])
    if "hesin_oper" in tables:
        yield _operations(connection, tables["hesin_oper"])
    if "death_cause" in tables:
        _make(connection, tables["death"], "died", "{}", ("date_of_death",))
        yield _causes(connection, tables["death_cause"])


def _make(
    connection: duckdb.DuckDBPyConnection, table: RecordTable, made: str, sql: str, columns: tuple[str, ...]
) -> None:
    """Make the table of the day of each episode, by person and number."""
    days = [table.day(one, day_first=True) for one in columns]
    table.require(*columns)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {made} AS SELECT {table.text('eid')} AS eid, "
        f"{table.text('ins_index')} AS ins_index, {sql.format(*days)} AS day FROM {table.origin}"
    )
    table.require_all("eid", "ins_index")


def _diagnoses(connection: duckdb.DuckDBPyConnection, table: RecordTable) -> pd.DataFrame:
    table.require_all("eid", "ins_index")
    table.require(*_DIAGNOSES)
    pairs = ", ".join(
        f"{{'code': split_part({table.text(column)}, ' ', 1), 'system': '{system}'}}"
        for column, system in _DIAGNOSES.items()
        if table.column(column) is not None
    )
    return frame_of(
        connection,
        "SELECT d.eid AS participant_id, e.day AS date, d.code, d.system, 'hes' AS source, NULL::DATE AS reported_date "
        f"FROM (SELECT {table.text('eid')} AS eid, {table.text('ins_index')} AS ins_index, "
        f"unnest([{pairs}], recursive := true) FROM {table.origin}) d "
        "LEFT JOIN episodes e USING (eid, ins_index) WHERE d.code IS NOT NULL",
    )


def _operations(connection: duckdb.DuckDBPyConnection, table: RecordTable) -> pd.DataFrame:
    table.require_all("eid", "ins_index", "oper4")
    return frame_of(
        connection,
        "SELECT o.eid AS participant_id, coalesce(o.day, e.day) AS date, o.code, 'opcs4' AS system, 'hes' AS source, "
        f"NULL::DATE AS reported_date FROM (SELECT {table.text('eid')} AS eid, {table.text('ins_index')} AS ins_index, "
        f"split_part({table.text('oper4')}, ' ', 1) AS code, {table.day('opdate', day_first=True)} AS day "
        f"FROM {table.origin}) o LEFT JOIN episodes e USING (eid, ins_index) WHERE o.code IS NOT NULL",
    )


def _causes(connection: duckdb.DuckDBPyConnection, table: RecordTable) -> pd.DataFrame:
    table.require_all("eid", "ins_index", "cause_icd10")
    return frame_of(
        connection,
        "SELECT c.eid AS participant_id, d.day AS date, c.code, 'icd10' AS system, 'death' AS source, "
        f"NULL::DATE AS reported_date FROM (SELECT {table.text('eid')} AS eid, {table.text('ins_index')} AS ins_index, "
        f"split_part({table.text('cause_icd10')}, ' ', 1) AS code FROM {table.origin}) c "
        "LEFT JOIN died d USING (eid, ins_index) WHERE c.code IS NOT NULL",
    )


def _deaths(connection: duckdb.DuckDBPyConnection, extract: Extract) -> pd.DataFrame | None:
    """Return the first registered day of death of each person; None without the register."""
    table = table_in(connection, extract, "death")
    if table is None:
        return None
    table.require_all("eid", "date_of_death")
    died = table.day("date_of_death", day_first=True)
    return frame_of(
        connection,
        f"SELECT {table.text('eid')} AS participant_id, min({died}) AS death_date FROM {table.origin} GROUP BY 1",
    )


def _cmr(connection: duckdb.DuckDBPyConnection, participant: Source, types: Mapping[str, str]) -> pd.DataFrame | None:
    if not any(mass in name for name in types for mass in _MASS_FIELDS):
        return None
    table = RecordTable(connection, "participant", participant)
    there = {mass: day for mass, day in _MASS.values() if table.column(mass) and table.column(day)}
    if not there:
        return None
    parts = [
        f"SELECT {table.text('eid', 'participant_id')} AS participant_id, {table.day(day)} AS cmr_date, "
        f"try_cast({table.text(mass)} AS DOUBLE) AS lvm_cmr_g FROM {table.origin}"
        for mass, day in there.items()
    ]
    return frame_of(connection, f"SELECT * FROM ({' UNION ALL '.join(parts)}) WHERE lvm_cmr_g > 0")
