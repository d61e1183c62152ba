"""Coded records in the forms in which cohorts release them, read as the events of follow-up.

UK Biobank's wide table has columns of codes and columns of their dates; ml4h's disease tables have
one row per person. Both become one row per record: participant_id, date, code, system, source,
reported_date.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import duckdb
import pandas as pd

from analysis.follow_up.extracts import frame_of
from analysis.follow_up.first_occurrences import FIRST_OCCURRENCES, REPORTERS
from analysis.follow_up.loading import Source, describe_table, is_no_date, known_text, quoted
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
_UNDERLYING: Final = 40001
_LAST_FIELD: Final = 99_999  # before those of first occurrences
_REPORTERS: Final = ", ".join(f"'{one}'" for one in REPORTERS)
_VISIT: Final = 53
_READ: Final = frozenset({*_FIELDS, *(dates for dates, _, _ in _FIELDS.values()), _VISIT})
_PATTERNS: Final = (
    re.compile(r"^(?:f\.|X)?(?P<field>\d+)[-.](?P<instance>\d+)\.(?P<array>\d+)$"),
    re.compile(r"^(?:participant\.)?p(?P<field>\d+)(?:_i(?P<instance>\d+))?(?:_a(?P<array>\d+))?$"),
)
_IDS: Final = ("eid", "f.eid", "participant_id", "participant.eid")
_WHOLE_CELL: Final = -1
"""Array of a column that holds all codes or dates of the person, as the platform writes p41270."""


def event_records(
    path: Path, events_format: Literal["records", "ukb_wide", "ml4h"], own: Mapping[str, str] | None = None
) -> pd.DataFrame | Path:
    """Return events in the form of `build_follow_up`; the path of "records" is returned.

    `own` are the table's own names of columns; of the two other formats only participant_id can be
    named.
    """
    if events_format == "records":
        return path
    others = sorted(set(own or {}) - {"participant_id"})
    if others:
        raise TableRefused(
            f"columns of events names {', '.join(others)}, but events_format {events_format} has its own columns; "
            "expected participant_id alone"
        )
    person = (own or {}).get("participant_id")
    return wide_ukb_records(path, person) if events_format == "ukb_wide" else ml4h_records(path, person or "sample_id")


def wide_ukb_records(
    source: Source, person: str | None = None, codes: Mapping[int, str] = FIRST_OCCURRENCES
) -> pd.DataFrame:
    """Read the wide table of UK Biobank: one row per person, columns such as 41270-0.0 or p41270.

    These fields are read: hospital diagnoses and operations with the date of the first one (41270,
    41271, 41272 with 41280, 41281, 41282; source hes), causes of death (40001, 40002 with 40000;
    source death), self-reported illness (20002 with 20008, the year as a decimal number, and 53,
    the day of the visit; source self_report), and first occurrences (131350 with 131351 and so on;
    the source is the one that reported first: hes, death, self_report or primary_care). A
    self-report without a year is undated and keeps the day of the visit as `reported_date`; a date
    after the visit becomes the day of the visit.

    Columns may also be called f.41270.0.0, X41270.0.0, p20002_i0_a0, or with `participant.` before;
    the person is in `person`, or else in eid, f.eid, participant_id or participant.eid. A cell of
    p41270 and the like may hold all codes of a person: ["I48","I10"], or I48|I10, each also with
    its meaning behind it; their dates are in the order of p41280_a0, p41280_a1 ...

    `codes` are the codes of fields of first occurrences; others are not read.

    Return participant_id, date, code, system (icd10, icd9, opcs4, self-report), source and
    reported_date.

    Raises:
        TableRefused: the file cannot be read, has none of these fields or one in another form,
            codes without dates, several codes in a cell of one, or a date of another format.
    """
    with duckdb.connect() as connection:
        origin, types = describe_table(connection, "events", source)
        path = source if isinstance(source, Path) else Path("participant")
        people = [name for name in ([person] if person else _IDS) if name in types]
        if len(people) != 1:
            raise TableRefused(f"{path} has {len(people)} columns of {person or ', '.join(_IDS)}; expected 1")
        id_text = known_text(people[0])
        structs, cells = _columns_of_codes(path, types, codes)
        parts = [
            f"SELECT * FROM (SELECT {id_text} AS participant_id, unnest([{', '.join(own)}], recursive := true) "
            f"FROM {origin}) WHERE code IS NOT NULL"
            for own in ([structs] if structs else [])
        ]
        parts += [
            f"SELECT {id_text} AS participant_id, {one.field}::INTEGER AS field, unnest({one.codes}) AS code, "
            f"unnest({one.dates}) AS date, {one.visit} AS visit, NULL::VARCHAR AS reporter FROM {origin}"
            for one in cells
        ]
        _check_cells(connection, path, origin, cells)
        connection.execute(f"CREATE TEMP TABLE long AS {' UNION ALL '.join(parts)}")
        connection.execute("DELETE FROM long WHERE code IS NULL OR code = ''")
        _check_wide(connection, path)
        named = [(field, system, own_source) for field, (_, system, own_source) in _FIELDS.items()]
        named += [(field, "icd10", "") for field in codes]
        connection.register("named", pd.DataFrame(named, columns=["field", "system", "source"]))
        connection.register("reporters", pd.DataFrame(REPORTERS.items(), columns=["reporter", "reported_by"]))
        return frame_of(connection, _WIDE)


def has_fields(names: Iterable[str]) -> bool:
    """Return whether a table of these columns holds a field that `wide_ukb_records` reads."""
    found = (match for name in names for one in _PATTERNS if (match := one.match(name)))
    return any(int(match["field"]) in {*_FIELDS, *FIRST_OCCURRENCES} for match in found)


def ml4h_records(path: Path, person: str = "sample_id") -> pd.DataFrame:
    """Read disease tables of ml4h: one row per person, with the first date of the disease.

    Only dates count. `incident_disease` and `prevalent_disease` refer to enrolment and are not
    read: follow-up decides at the index ECG what is prevalent. Where has_disease is not known (the
    phenotype excludes the person) the record is undated, so that the person is excluded and not
    counted as healthy. The table, or each of a folder of tables, has sample_id, has_disease (1, 0,
    NA), censor_date or date_censor (of the disease where there is one), and disease; without
    `disease` the file's name is the disease. `person` is another name of sample_id.

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
            _add_ml4h(connection, file, person)
        return frame_of(connection, "FROM long")


_WIDE: Final = f"""
WITH typed AS (
    SELECT participant_id, field, code, reporter, try_cast(substr(visit, 1, 10) AS DATE) AS reported_date,
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
    system, coalesce(reported_by, source) AS source, reported_date
FROM dated JOIN named USING (field) LEFT JOIN reporters USING (reporter)
"""
_Place = tuple[int, int, int]
_Places = dict[_Place, str]


class _Cell(NamedTuple):
    """A column whose cells hold all codes of a person: SQL of the lists of codes and of dates."""

    field: int
    column: str  # its name
    codes: str
    dates: str  # as many as `codes`, or fewer where dates are lacking
    visit: str
    n_dates: int | None  # columns of dates; None where each code has a date, or needs none


def _columns_of_codes(path: Path, types: dict[str, str], first: Mapping[int, str]) -> tuple[list[str], list[_Cell]]:
    """Return the SQL of each column of codes with its date and visit, and columns of whole cells.

    Codes without dates are refused.
    """
    places = _places(path, types)
    codes = sorted(place for place in places if place[0] in _FIELDS)
    occurrences = sorted(place for place in places if place[0] in first)
    if not codes and not occurrences:
        raise TableRefused(
            f"{path} has no field of {', '.join(map(str, _FIELDS))}; expected UK Biobank's wide "
            "table with columns such as 41270-0.0 and 41280-0.0"
        )
    structs = [_first_occurrence(path, places, place, first) for place in occurrences]
    cells = []
    for place in codes:
        # There is one underlying cause of death.
        if place[2] == _WHOLE_CELL and place[0] != _UNDERLYING:
            cells.append(_cell(path, types, places, place))
        else:
            structs.append(_struct(path, types, places, place))
    return structs, cells


def _struct(path: Path, types: dict[str, str], places: _Places, place: _Place) -> str:
    """Return the SQL of a column that holds one code."""
    field, instance, array = place
    column = places[place]
    date_field = _FIELDS[field][0]
    array_of_date = 0 if date_field == _DEATH_DATE else array
    date = _at(places, date_field, instance, array_of_date)
    if field != _SELF_REPORT and date is None:
        raise TableRefused(
            f"{path} has codes in {column} but no column of field {date_field} with their "
            f"dates; expected {date_field}-{instance}.{array_of_date}"
        )
    _refuse_numbers(path, types, field, column)
    visit = _text(_visit_of(path, places, place))
    return (
        f"{{'field': {field}::INTEGER, 'code': {_text(column)}, 'date': {_text(date)}, "
        f"'visit': {visit}, 'reporter': NULL::VARCHAR}}"
    )


def _visit_of(path: Path, places: _Places, place: _Place) -> str | None:
    """Return the column of the day at which an illness was reported, and None for other fields."""
    if place[0] != _SELF_REPORT:
        return None
    visit = _at(places, _VISIT, place[1], 0)
    if visit is None:
        raise TableRefused(
            f"{path} has {places[place]} but not field {_VISIT} of visit {place[1]}; expected the day "
            "of the visit at which the illness was reported"
        )
    return visit


def _refuse_numbers(path: Path, types: dict[str, str], field: int, column: str) -> None:
    if field != _SELF_REPORT and not types[column].startswith("VARCHAR"):
        raise TableRefused(f"{path} has {types[column]} in {column}, which loses leading zeros of codes; expected text")


def _at(places: _Places, field: int, instance: int, array: int) -> str | None:
    """Return the column of a place; one without an array is array 0."""
    found = places.get((field, instance, array))
    return places.get((field, instance, _WHOLE_CELL)) if found is None and array <= 0 else found


def _cell(path: Path, types: dict[str, str], places: _Places, place: _Place) -> _Cell:
    """Return the SQL of a column that holds all codes of a person."""
    field, instance, _ = place
    column, date_field = places[place], _FIELDS[field][0]
    _refuse_numbers(path, types, field, column)
    is_told = field == _SELF_REPORT
    values = _listed(column, types)
    codes = values if is_told else f"list_transform({values}, lambda x: split_part(x, ' ', 1))"
    arrays = sorted(key for key in places if key[:2] == (date_field, instance))
    if not arrays and not is_told:
        raise TableRefused(
            f"{path} has codes in {column} but no column of field {date_field} with their dates; expected "
            f"p{date_field}_a0, p{date_field}_a1 and so on"
        )
    n_dates: int | None = None
    if date_field == _DEATH_DATE:
        dates = f"list_transform({codes}, lambda x: {_text(places[arrays[0]])})"
    elif [key[2] for key in arrays] == [_WHOLE_CELL]:
        dates = _listed(places[arrays[0]], types)
    else:
        dates = f"[{', '.join(_text(places[key]) for key in arrays) or 'NULL::VARCHAR'}][:len({codes})]"
        n_dates = None if is_told else len(arrays)
    return _Cell(field, column, codes, dates, _text(_visit_of(path, places, place)), n_dates)


def _listed(column: str, types: dict[str, str]) -> str:
    """Return the SQL of the values of a cell: a list, ["I48","I10"], ['I48', 'I10'] or I48|I10."""
    if types[column].endswith("[]"):
        return f"list_transform({quoted(column)}, lambda x: trim(x::VARCHAR))"
    text = _text(column)
    array = f"from_json(replace({text}, chr(39), chr(34)), '[\"VARCHAR\"]')"
    parts = f"list_transform(string_split({text}, '|'), lambda x: trim(x))"
    return f"CASE WHEN {text} LIKE '[%' THEN {array} ELSE {parts} END"


def _check_cells(connection: duckdb.DuckDBPyConnection, path: Path, origin: str, cells: Sequence[_Cell]) -> None:
    """Refuse several codes without a sign between them that is known, and codes without dates."""
    for one in cells:
        many = f"len({one.codes}) > {one.n_dates}"
        packed = f"len(list_filter({one.codes}, lambda x: regexp_matches(x, '[,;]'))) > 0"
        checks = {packed: "several codes with a comma between them in a cell"}
        if one.n_dates is not None:
            checks[many] = f"more codes in {one.column} than columns of dates ({one.n_dates})"
        for condition, what in checks.items():
            rows = connection.execute(f"SELECT count(*) FROM {origin} WHERE {condition}").fetchall()
            if rows[0][0]:
                raise TableRefused(
                    f'{path} has {what} in {rows[0][0]} rows ({one.column}); expected ["I48","I10"] or I48|I10, and '
                    f"all columns of field {_FIELDS[one.field][0]}"
                )


def _first_occurrence(path: Path, places: _Places, place: _Place, first: Mapping[int, str]) -> str:
    """Return the SQL of a date of first occurrence; its source is in the next field."""
    field, instance, array = place
    reporter = _at(places, field + 1, instance, array)
    if reporter is None:
        raise TableRefused(
            f"{path} has {places[place]} but no field {field + 1} with the source of the first report; expected "
            f"it, as p{field + 1}"
        )
    date = _text(places[place])
    words = rf"regexp_replace(lower({_text(reporter)}), '^([0-9]+)\.0$|[ (].*$', '\1')"
    return (
        f"{{'field': {field}::INTEGER, 'code': CASE WHEN {date} IS NOT NULL THEN '{first[field]}' END, "
        f"'date': {date}, 'visit': NULL::VARCHAR, 'reporter': {words}}}"
    )


def _places(path: Path, types: dict[str, str]) -> _Places:
    """Return the columns by field, instance and array; refuse a field in an unknown form."""
    places: _Places = {}
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
        array = _WHOLE_CELL if parts["array"] is None else int(parts["array"])
        place = (int(parts["field"]), int(parts["instance"] or 0), array)
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
            "one code per column, as 41270-0.0, 41270-0.1 ... of the main data set, or p41270 with the code array",
        ),
        (
            f"field = {_SELF_REPORT} AND NOT regexp_matches(code, '^[0-9]+(\\.0)?$')",
            "self-reported illness in words",
            "its numbers, as 1471: export field 20002 with raw codes",
        ),
        (
            f"field > {_LAST_FIELD} AND coalesce(reporter NOT IN ({_REPORTERS}), true)",
            "first occurrences of another or no source",
            "20, 21, 30, 31, 40, 41, 50 or 51, or the words for them",
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


def _add_ml4h(connection: duckdb.DuckDBPyConnection, path: Path, person: str) -> None:
    origin, types = describe_table(connection, "events", path)
    dates = [name for name in ("censor_date", "date_censor") if name in types]
    missing = [name for name in (person, "has_disease") if name not in types]
    if missing or len(dates) != 1:
        raise TableRefused(
            f"{path} has the columns {', '.join(types)}; expected {person}, has_disease and one "
            "of censor_date, date_censor, as the disease tables of ml4h have"
        )
    stem = path.stem.replace("'", "''")
    disease = known_text("disease") if "disease" in types else f"'{stem}'"
    excluded = _number("met_exclusion") if "met_exclusion" in types else "NULL::VARCHAR"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE one AS SELECT trim({quoted(person)}::VARCHAR) AS participant_id, "
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
