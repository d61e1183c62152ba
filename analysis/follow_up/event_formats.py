"""Coded records in the forms in which cohorts release them, read as the events of follow-up.

UK Biobank's wide table has columns of codes and columns of their dates; ml4h's disease tables have
one row per person. Both become one row per record: participant_id, date, code, system, source,
reported_date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import duckdb
import pandas as pd

from analysis.follow_up.loading import describe_table, is_no_date, known_text, quoted
from analysis.statistics.columns import TableRefused

_SHOWN: Final = 5

# Field of codes: (field of dates, coding system, source); UK Biobank's showcase describes them.
_FIELDS: Final = {
    41270: (41280, "icd10", "hes"),
    41271: (41281, "icd9", "hes"),
    41272: (41282, "opcs4", "hes"),
    40001: (40000, "icd10", "death"),
    40002: (40000, "icd10", "death"),
    20002: (20008, "self-report", "self_report"),
}
_DEATH_DATE: Final = 40000
_SELF_REPORT: Final = 20002
_VISIT: Final = 53
_READ: Final = frozenset({*_FIELDS, *(dates for dates, _, _ in _FIELDS.values()), _VISIT})
_PATTERNS: Final = (
    re.compile(r"^(?:f\.|X)?(?P<field>\d+)[-.](?P<instance>\d+)\.(?P<array>\d+)$"),
    re.compile(r"^p(?P<field>\d+)(?:_i(?P<instance>\d+))?(?:_a(?P<array>\d+))?$"),
)
_IDS: Final = ("eid", "f.eid", "participant_id")


def event_records(path: Path, events_format: Literal["records", "ukb_wide", "ml4h"]) -> pd.DataFrame | Path:
    """Return events in the form of `build_follow_up`; the path of "records" is returned."""
    if events_format == "records":
        return path
    return wide_ukb_records(path) if events_format == "ukb_wide" else ml4h_records(path)


def wide_ukb_records(path: Path) -> pd.DataFrame:
    """Read the wide table of UK Biobank: one row per person, columns such as 41270-0.0.

    These fields are read: hospital diagnoses and operations with the date of the first one (41270,
    41271, 41272 with 41280, 41281, 41282; source hes), causes of death (40001, 40002 with 40000;
    source death) and self-reported illness (20002 with 20008, the year as a decimal number, and 53,
    the day of the visit; source self_report). A self-report without a year is undated and keeps the
    day of the visit as `reported_date`; a date after the visit becomes the day of the visit.
    Columns may also be called f.41270.0.0, X41270.0.0 or p20002_i0_a0; the person is in eid, f.eid
    or participant_id.

    Return participant_id, date, code, system (icd10, icd9, opcs4, self-report), source and
    reported_date.

    Raises:
        TableRefused: the file cannot be read, has none of these fields or one in another form,
            codes without dates, several codes in one cell, or a date of another format.
    """
    with duckdb.connect() as connection:
        origin, types = describe_table(connection, "events", path)
        person = [name for name in _IDS if name in types]
        if len(person) != 1:
            raise TableRefused(f"{path} has {len(person)} columns of {', '.join(_IDS)}; expected 1")
        structs = ", ".join(_structs(path, types))
        connection.execute(
            f"CREATE TEMP TABLE long AS SELECT * FROM (SELECT trim({quoted(person[0])}::VARCHAR) "
            f"AS participant_id, unnest([{structs}], recursive := true) FROM {origin}) "
            "WHERE code IS NOT NULL"
        )
        _check_wide(connection, path)
        named = [(field, system, source) for field, (_, system, source) in _FIELDS.items()]
        connection.register("named", pd.DataFrame(named, columns=["field", "system", "source"]))
        return _frame(connection, _WIDE)


def ml4h_records(path: Path) -> pd.DataFrame:
    """Read disease tables of ml4h: one row per person, with the first date of the disease.

    Only dates count. `incident_disease` and `prevalent_disease` refer to enrolment and are not
    read: follow-up decides at the index ECG what is prevalent. Where has_disease is not known (the
    phenotype excludes the person) the record is undated, so that the person is excluded and not
    counted as healthy. The table, or each of a folder of tables, has sample_id, has_disease (1, 0,
    NA), censor_date or date_censor (of the disease where there is one), and disease; without
    `disease` the file's name is the disease.

    Return participant_id, date, code (the disease), system and source ("ml4h") and reported_date
    (null).

    Raises:
        TableRefused: a file cannot be read, a column is missing, has_disease is another value, a
            date is of another format, or a person without the disease met a criterion of exclusion
            (met_exclusion is 1): the table does not say what happened later.
    """
    suffixes = (".tsv", ".csv", ".txt", ".parquet")
    files = [path]
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.suffix in suffixes)
        if not files:
            raise TableRefused(f"{path} has no {', '.join(suffixes)}, expected tables of ml4h")
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TEMP TABLE long (participant_id VARCHAR, date DATE, code VARCHAR, system VARCHAR, "
            "source VARCHAR, reported_date DATE)"
        )
        for file in files:
            _add_ml4h(connection, file)
        return _frame(connection, "FROM long")


_WIDE: Final = f"""
WITH typed AS (
    SELECT participant_id, field, code, try_cast(substr(visit, 1, 10) AS DATE) AS reported_date,
        CASE WHEN field <> {_SELF_REPORT} THEN try_cast(substr(date, 1, 10) AS DATE) END AS day,
        CASE WHEN field = {_SELF_REPORT} AND date::DOUBLE > 0 THEN date::DOUBLE END AS years
    FROM long
),
dated AS (
    SELECT *, coalesce(day, make_date(floor(years)::INTEGER, 1, 1) + floor(
        (years - floor(years)) * date_diff('day', make_date(floor(years)::INTEGER, 1, 1),
            make_date(floor(years)::INTEGER + 1, 1, 1)))::INTEGER) AS date
    FROM typed
)
SELECT participant_id,
    CASE WHEN date > reported_date THEN reported_date ELSE date END AS date,
    CASE WHEN field = {_SELF_REPORT} THEN regexp_replace(code, '\\.0$', '') ELSE code END AS code,
    system, source, reported_date
FROM dated JOIN named USING (field)
"""


def _structs(path: Path, types: dict[str, str]) -> Iterator[str]:
    """Yield the SQL of each column of codes with its date and visit; refuse codes without dates."""
    places = _places(path, types)
    codes = sorted(place for place in places if place[0] in _FIELDS)
    if not codes:
        raise TableRefused(
            f"{path} has no field of {', '.join(map(str, _FIELDS))}; expected UK Biobank's wide "
            "table with columns such as 41270-0.0 and 41280-0.0"
        )
    for field, instance, array in codes:
        column = places[field, instance, array]
        date_field = _FIELDS[field][0]
        array_of_date = 0 if date_field == _DEATH_DATE else array
        date = places.get((date_field, instance, array_of_date))
        visit = places.get((_VISIT, instance, 0))
        if field == _SELF_REPORT and visit is None:
            raise TableRefused(
                f"{path} has {column} but not field {_VISIT} of visit {instance}; expected the day "
                "of the visit at which the illness was reported"
            )
        if field != _SELF_REPORT and date is None:
            raise TableRefused(
                f"{path} has codes in {column} but no column of field {date_field} with their "
                f"dates; expected {date_field}-{instance}.{array_of_date}"
            )
        if field != _SELF_REPORT and not types[column].startswith("VARCHAR"):
            raise TableRefused(
                f"{path} has {types[column]} in {column}, which loses leading zeros of codes; expected text"
            )
        yield (
            f"{{'field': {field}::INTEGER, 'code': {_text(column)}, 'date': {_text(date)}, "
            f"'visit': {_text(visit if field == _SELF_REPORT else None)}}}"
        )


def _places(path: Path, types: dict[str, str]) -> dict[tuple[int, int, int], str]:
    """Return the columns by field, instance and array; refuse a field in an unknown form."""
    places: dict[tuple[int, int, int], str] = {}
    known = re.compile(rf"(?<!\d)({'|'.join(map(str, sorted(_READ - {_VISIT})))})(?!\d)")
    for name in types:
        match = next((found for one in _PATTERNS if (found := one.match(name))), None)
        if match is None:
            if known.search(name):
                raise TableRefused(
                    f"{path} has a column {name!r}, expected a form such as 41270-0.0, f.41270.0.0 or p20002_i0_a0"
                )
            continue
        parts = match.groupdict()
        place = (int(parts["field"]), int(parts["instance"] or 0), int(parts["array"] or 0))
        if place in places and place[0] in _READ:
            raise TableRefused(f"{path} has {places[place]} and {name}, expected one of them")
        places[place] = name
    return places


def _check_wide(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    checks = (
        ("participant_id IS NULL OR participant_id = ''", "no person", "an id in each row"),
        (
            f"field <> {_SELF_REPORT} AND regexp_matches(code, '[|,;\\[]')",
            "several codes in one cell",
            "one code per column, as 41270-0.0, 41270-0.1 ... of the main data set",
        ),
        (
            "field = 41271 AND regexp_matches(code, '\\.0$')",
            "ICD-9 codes that went through numbers, as 4280.0",
            "codes as UK Biobank writes them, as 4280",
        ),
        (f"field <> {_SELF_REPORT} AND {is_no_date('date')}", "dates of another format", "YYYY-MM-DD"),
        (is_no_date("visit"), "days of visits of another format", "YYYY-MM-DD"),
        (
            f"field = {_SELF_REPORT} AND date IS NOT NULL AND coalesce(try_cast(date AS DOUBLE) "
            "NOT IN (-1, -3) AND NOT try_cast(date AS DOUBLE) BETWEEN 1900 AND 2100, true)",
            "interpolated years (20008) out of range",
            "decimal years from 1900 to 2100, -1 or -3",
        ),
    )
    for check in checks:
        _refuse(connection, path, "long", *check, "coalesce(date, code)")


def _add_ml4h(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    origin, types = describe_table(connection, "events", path)
    dates = [name for name in ("censor_date", "date_censor") if name in types]
    missing = [name for name in ("sample_id", "has_disease") if name not in types]
    if missing or len(dates) != 1:
        raise TableRefused(
            f"{path} has the columns {', '.join(types)}; expected sample_id, has_disease and one "
            "of censor_date, date_censor, as the disease tables of ml4h have"
        )
    stem = path.stem.replace("'", "''")
    disease = known_text("disease") if "disease" in types else f"'{stem}'"
    excluded = _number("met_exclusion") if "met_exclusion" in types else "NULL::VARCHAR"
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE one AS SELECT trim(sample_id::VARCHAR) AS participant_id, "
        f"{disease} AS code, {_number('has_disease')} AS has, {known_text(dates[0])} AS date, "
        f"{excluded} AS excluded FROM {origin}"
    )
    checks = (
        ("participant_id IS NULL OR participant_id = ''", "no sample_id", "one in each row", "''"),
        ("code IS NULL", "no disease", "its name in each row", "''"),
        ("has NOT IN ('0', '1')", "has_disease of another value", "1, 0 or NA", "has"),
        (is_no_date("date"), "dates of another format", "YYYY-MM-DD", "date"),
        (
            "has = '0' AND excluded = '1'",
            "people without the disease who met its criterion of exclusion (met_exclusion is 1)",
            "a table of a disease without exclusions, or the records themselves",
            "''",
        ),
    )
    for check in checks:
        _refuse(connection, path, "one", *check)
    # Where has_disease is not known, the date is that of the exclusion.
    connection.execute(
        "INSERT INTO long SELECT participant_id, CASE WHEN has = '1' THEN try_cast(substr(date, 1, 10) AS DATE) END, "
        "code, 'ml4h', 'ml4h', NULL FROM one WHERE has IS NULL OR has = '1'"
    )


def _text(column: str | None) -> str:
    return "NULL::VARCHAR" if column is None else known_text(column)


def _number(column: str) -> str:
    """Return the SQL of a column of 0 and 1, which tables with gaps write as 1.0 or true."""
    text = f"lower({known_text(column)})"
    return f"CASE {text} WHEN 'true' THEN '1' WHEN 'false' THEN '0' ELSE replace({text}, '.0', '') END"


def _refuse(
    connection: duckdb.DuckDBPyConnection, path: Path, table: str, condition: str, what: str, expected: str, shown: str
) -> None:
    rows = connection.execute(
        f"SELECT {shown}, count(*) OVER () FROM {table} WHERE {condition} ORDER BY 1 LIMIT {_SHOWN}"
    ).fetchall()
    if rows:
        examples = ", ".join(str(row[0]) for row in rows if row[0])
        raise TableRefused(
            f"{path} has {what} in {rows[0][1]} records{f' ({examples})' if examples else ''}; expected {expected}"
        )


def _frame(connection: duckdb.DuckDBPyConnection, query: str) -> pd.DataFrame:
    # Arrow's text takes a fifth of the memory of Python's, which ten million records need.
    table = connection.sql(query).to_arrow_table()
    return pd.DataFrame(table.to_pandas(types_mapper=pd.ArrowDtype))
