"""The extract of a hospital: patients, encounters, diagnoses, procedures, record numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import duckdb
import pandas as pd

from analysis.follow_up.extracts import EVENT_COLUMNS, CohortTables, Extract, RecordTable, frame_of, joined
from analysis.statistics.columns import TableRefused

PATIENTS: Final = ("patients", "patient", "demographics", "person", "participants")
"""Names of the table of patients."""
_ENCOUNTERS: Final = ("encounters", "encounter", "visits")
_CROSSWALK: Final = ("crosswalk", "identifiers", "record_numbers")
_RECORDS: Final = (("diagnoses", "diagnosis", "conditions"), ("procedures", "procedure"))
_PERSON: Final = ("participant_id", "patient_id", "person_id", "empi", "mrn")
_ENCOUNTER: Final = ("encounter_id", "encounter_number", "visit_id")
_BEGINS: Final = ("date", "start", "start_time", "start_date", "admit_date", "encounter_date")
_ENDS: Final = ("end", "end_time", "end_date", "discharge_date", "stop")
_DATE: Final = ("date", "time", "recorded_at", "diagnosis_date", "procedure_date", "recorded_date", "start_date")
_CODE: Final = ("code", "diagnosis_code", "procedure_code", "icd_code")
_SYSTEM: Final = ("system", "code_type", "code_system", "coding_system", "vocabulary")
SOURCE: Final = "ehr"
"""Source of records that state none."""


def ehr_tables(extract: Extract, time_zone: str | None) -> CohortTables:
    """Return the records of a hospital: diagnoses and procedures, encounters, record numbers.

    A record is of the day in its own date, or else of the day at which its encounter begins. Times
    with a zone are of the day in `time_zone`. A person was seen on the first and on the last day
    of each encounter.

    Raise TableRefused where there are no diagnoses, or a column is missing.
    """
    with duckdb.connect() as connection:
        seen = extract.find(*_ENCOUNTERS)
        encounters = None if seen is None else RecordTable(connection, "encounters", seen, time_zone=time_zone)
        if encounters is not None:
            _make_encounters(connection, encounters)
        parts = list(_records(connection, extract, time_zone, has_encounters=encounters is not None))
        numbers = extract.find(*_CROSSWALK)
        return CohortTables(
            events=joined(parts, EVENT_COLUMNS),
            encounters=None if encounters is None else frame_of(connection, _SEEN),
            crosswalk=None
            if numbers is None
            else _crosswalk(connection, RecordTable(connection, "crosswalk", numbers)),
        )


_SEEN: Final = (
    "SELECT DISTINCT participant_id, unnest([begins, coalesce(ends, begins)]) AS date FROM seen "
    "WHERE begins IS NOT NULL"
)


def _make_encounters(connection: duckdb.DuckDBPyConnection, table: RecordTable) -> None:
    table.require(*_PERSON)
    table.require(*_BEGINS)
    connection.execute(
        f"CREATE TEMP TABLE seen AS SELECT {table.text(*_PERSON)} AS participant_id, "
        f"{table.text(*_ENCOUNTER)} AS encounter_id, {table.day(*_BEGINS)} AS begins, {table.day(*_ENDS)} AS ends "
        f"FROM {table.origin}"
    )


def _records(
    connection: duckdb.DuckDBPyConnection, extract: Extract, time_zone: str | None, *, has_encounters: bool
) -> Iterator[pd.DataFrame]:
    extract.require(*_RECORDS[0])
    for names in _RECORDS:
        source = extract.find(*names)
        if source is None:
            continue
        table = RecordTable(connection, names[0], source, time_zone=time_zone)
        for columns in (_PERSON, _CODE, _SYSTEM):
            table.require(*columns)
        of_encounter = has_encounters and table.column(*_ENCOUNTER) is not None
        if table.column(*_DATE) is None and not of_encounter:
            raise TableRefused(
                f"table {names[0]} has neither a date ({', '.join(_DATE)}) nor an encounter of the table encounters"
            )
        begins = "(SELECT min(begins) FROM seen s WHERE s.encounter_id = r.encounter_id)" if of_encounter else "NULL"
        yield frame_of(
            connection,
            f"SELECT participant_id, coalesce(day, {begins}) AS date, code, system, "
            f"coalesce(source, '{SOURCE}') AS source, "
            f"NULL::DATE AS reported_date FROM (SELECT {table.text(*_PERSON)} AS participant_id, "
            f"{table.day(*_DATE)} AS day, {table.text(*_CODE)} AS code, {table.text(*_SYSTEM)} AS system, "
            f"{table.text('source')} AS source, {table.text(*_ENCOUNTER)} AS encounter_id FROM {table.origin}) r "
            "WHERE code IS NOT NULL",
        )


def _crosswalk(connection: duckdb.DuckDBPyConnection, table: RecordTable) -> pd.DataFrame:
    person = ("participant_id", "patient_id", "person_id", "empi")
    table.require(*person)
    table.require("record_id", "mrn")
    return frame_of(
        connection,
        f"SELECT DISTINCT {table.text(*person)} AS participant_id, {table.text('record_id', 'mrn')} AS record_id "
        f"FROM {table.origin}",
    )
