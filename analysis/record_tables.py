"""The tables of a study, read into DuckDB: columns there, ids as text, dates of one format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from analysis.columns import TableRefused
from lvm_core.unknowns import UNKNOWN_TEXTS

_SHOWN: Final = 5
_ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"


@dataclass(frozen=True, slots=True)
class RecordTables:
    """Tables as given: pandas, or a CSV or Parquet file.

    Attributes:
        predictions: one row an ECG.
        persons: one row a person.
        events: one row a record.
        ends: one row a region and source.
        deaths: one row for those who died or were lost; None where `persons` has these columns.
        date_formats: strptime format of a table whose dates are not ISO, by its name.
        columns: by table, the table's own name of a column that has another one.
    """

    predictions: pd.DataFrame | Path
    persons: pd.DataFrame | Path
    events: pd.DataFrame | Path
    ends: pd.DataFrame | Path
    deaths: pd.DataFrame | Path | None = None
    date_formats: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Columns of a table; `optional` ones are null where they are not there."""

    dates: tuple[str, ...]
    texts: tuple[str, ...]
    optional: tuple[str, ...] = ()


_KINDS: Final = {
    "persons": _Kind(
        ("death_date", "ltfu_date"), ("participant_id", "region"), ("death_date", "ltfu_date")
    ),
    "events": _Kind(
        ("date", "reported_date"), ("participant_id", "code", "system", "source"),
        ("reported_date",),
    ),
    "ends": _Kind(("end_date",), ("region", "source")),
    "deaths": _Kind(
        ("death_date", "ltfu_date"), ("participant_id",), ("death_date", "ltfu_date")
    ),
}  # fmt: skip


def read_tables(
    connection: duckdb.DuckDBPyConnection,
    tables: RecordTables,
    exposure: str,
    exclude_flags: Sequence[str],
) -> None:
    """Make the tables persons, events, event_people, ends, all_ecgs and usable_ecgs.

    Codes and coding systems are made comparable, as `analysis.code_lists` makes those of lists.

    Args:
        connection: to DuckDB.
        tables: as given.
        exposure: column of the predictions that must be known.
        exclude_flags: quality flags with which an ECG is not usable.

    Raises:
        TableRefused: a file cannot be read, a column is missing, a date is of another format, an
            id is a fraction or missing, a person is there twice, or deaths are in two tables.
    """
    for name in ("persons", "events", "ends"):
        _read(connection, name, getattr(tables, name), tables)
    _refuse_repeated(connection, "persons", "participant_id")
    if tables.deaths is not None:
        _read(connection, "deaths", tables.deaths, tables)
        _refuse_repeated(connection, "deaths", "participant_id")
        known = connection.execute(
            "SELECT count(*) FROM persons WHERE death_date IS NOT NULL OR ltfu_date IS NOT NULL"
        ).fetchone()
        if known and known[0]:
            raise TableRefused(
                f"table persons has dates of death or loss in {known[0]} rows, and so has table "
                "deaths; expected them in one of the two"
            )
        connection.execute(_WITH_DEATHS)
    connection.execute(
        "UPDATE events SET code = upper(regexp_replace(code, '[.\\s]', '', 'g')), "
        "system = lower(regexp_replace(system, '[\\s.\\-]', '', 'g'))"
    )
    connection.execute(
        "CREATE TEMP TABLE event_people AS SELECT DISTINCT participant_id FROM events"
    )
    _refuse_repeated(connection, "ends", "region || ' ' || source")
    _read_ecgs(connection, tables, exposure, exclude_flags)


def _read(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: pd.DataFrame | Path,
    tables: RecordTables,
) -> None:
    kind, date_format = _KINDS[name], tables.date_formats.get(name)
    own = tables.columns.get(name, {})
    found = _load(connection, name, source, [*kind.texts, *kind.dates], kind, own)
    texts = [f"trim({column}::VARCHAR) AS {column}" for column in kind.texts]
    dates = [
        _dates(connection, name, column, found.get(column), date_format) for column in kind.dates
    ]
    connection.execute(
        f"CREATE TEMP TABLE {name} AS SELECT {', '.join([*texts, *dates])} FROM raw_{name}"
    )
    connection.execute(f"DROP TABLE raw_{name}")


_WITH_DEATHS: Final = """
CREATE OR REPLACE TEMP TABLE persons AS
SELECT p.participant_id, p.region, d.death_date, d.ltfu_date
FROM persons p LEFT JOIN deaths d USING (participant_id)
"""


def _read_ecgs(
    connection: duckdb.DuckDBPyConnection,
    tables: RecordTables,
    exposure: str,
    exclude_flags: Sequence[str],
) -> None:
    needed = ["participant_id", "ecg_id", "recorded_at", "lvm_pred_g", exposure]
    needed += ["quality_flags"] if exclude_flags else []
    own = tables.columns.get("predictions", {})
    kind = _Kind(("recorded_at",), ())
    found = _load(connection, "ecgs", tables.predictions, needed, kind, own)
    day = _dates(
        connection, "ecgs", "recorded_at", found["recorded_at"],
        tables.date_formats.get("predictions"),
    )  # fmt: skip
    connection.register("excluded_flags", pd.DataFrame({"flag": list(exclude_flags)}, dtype=str))
    flags = "quality_flags"
    if not found.get(flags, "").endswith("[]"):
        flags = r"string_split(regexp_replace(quality_flags::VARCHAR, '\s', '', 'g'), ',')"
    flagged = f"list_has_any({flags}, (SELECT list(flag) FROM excluded_flags))"
    connection.execute(
        f"CREATE TEMP TABLE all_ecgs AS SELECT trim(participant_id::VARCHAR) AS participant_id, "
        f"trim(ecg_id::VARCHAR) AS ecg_id, {day}, "
        f"coalesce(try_cast(lvm_pred_g AS DOUBLE), 'nan'::DOUBLE) AS mass, "
        f"isfinite(coalesce(try_cast({_quoted(exposure)} AS DOUBLE), 'nan'::DOUBLE)) "
        f"AS has_exposure, "
        f"{f'coalesce({flagged}, false)' if exclude_flags else 'false'} AS flagged FROM raw_ecgs"
    )
    _refuse_repeated(connection, "all_ecgs", "ecg_id")
    connection.execute(
        "CREATE TEMP TABLE usable_ecgs AS SELECT participant_id, ecg_id, recorded_at AS "
        "index_date, has_exposure FROM all_ecgs "
        "WHERE isfinite(mass) AND NOT flagged AND recorded_at IS NOT NULL"
    )


def _load(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: pd.DataFrame | Path,
    columns: Sequence[str],
    kind: _Kind,
    own: Mapping[str, str],
) -> dict[str, str]:
    """Make raw_<name> with the rows numbered from 1; return the type of each column found."""
    view = f"given_{name}"
    if isinstance(source, pd.DataFrame):
        connection.register(view, source)
        origin = view
    else:
        path = str(source).replace("'", "''")
        reader = "read_parquet" if source.suffix == ".parquet" else "read_csv"
        options = "" if reader == "read_parquet" else ", all_varchar = true, header = true"
        origin = f"{reader}('{path}'{options})"
    try:
        described = connection.execute(f"DESCRIBE SELECT * FROM {origin}").fetchall()
    except duckdb.Error as error:
        raise TableRefused(f"table {name} ({source}) cannot be read: {error}") from error
    there = {row[0]: row[1] for row in described}
    called = {c: own.get(c, c) for c in columns}
    missing = [its for c, its in called.items() if its not in there and c not in kind.optional]
    if missing:
        raise TableRefused(
            f"table {name} has no column {', '.join(missing)}; it has {', '.join(there)}"
        )
    types = {c: there[its] for c, its in called.items() if its in there}
    taken = [
        f"{_quoted(its)} AS {_quoted(c)}" if c in types else f"NULL::DATE AS {c}"
        for c, its in called.items()
    ]
    connection.execute(
        f"CREATE TEMP TABLE raw_{name} AS "
        f"SELECT row_number() OVER () AS row_number, {', '.join(taken)} FROM {origin}"
    )
    _check_ids(connection, name, types)
    return {c: types.get(c, "DATE") for c in columns}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _check_ids(connection: duckdb.DuckDBPyConnection, name: str, types: dict[str, str]) -> None:
    for column in ("participant_id", "ecg_id", "region", "source"):
        if column not in types or (name == "persons" and column == "region"):
            continue
        if types[column] in ("DOUBLE", "FLOAT"):
            raise TableRefused(
                f"table {name}: {column} holds fractions, as ids do that were read with gaps; "
                "expected text or whole numbers. Read the column as text"
            )
        if column in ("participant_id", "ecg_id") or name == "ends":
            condition = f"{column} IS NULL OR trim({column}::VARCHAR) = ''"
            _refuse_rows(connection, name, condition, f"no {column}", "one in each row")


def _dates(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    column: str,
    kind: str | None,
    date_format: str | None,
) -> str:
    """Return the expression of a column of dates, after refusing what is of another format."""
    if kind is None or not kind.startswith("VARCHAR"):
        return f"try_cast({column} AS DATE) AS {column}"
    text = f"trim({column})"
    unknown = ", ".join(f"'{word}'" for word in sorted(UNKNOWN_TEXTS))
    if date_format is None:
        parsed = (
            f"CASE WHEN regexp_matches({text}, '{_ISO}') "
            f"THEN try_cast(substr({text}, 1, 10) AS DATE) END"
        )
        expected = "ISO dates (YYYY-MM-DD) in the whole file, or its one format in date_formats"
    else:
        parsed = f"try_strptime({text}, '{date_format}')::DATE"
        expected = f"dates as {date_format} in the whole file"
    bad = f"{parsed} IS NULL AND lower({text}) NOT IN ({unknown})"
    _refuse_rows(connection, name, bad, f"{column} of another format", expected, shown=column)
    return f"{parsed} AS {column}"


def _refuse_rows(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    condition: str,
    what: str,
    expected: str,
    *,
    shown: str | None = None,
) -> None:
    value = shown or "''"
    rows = connection.execute(
        f"SELECT row_number, {value}, count(*) OVER () FROM raw_{name} WHERE {condition} "
        f"ORDER BY row_number LIMIT {_SHOWN}"
    ).fetchall()
    if rows:
        count = rows[0][2]
        examples = ", ".join(f"{row}: {text}" if text else f"{row}" for row, text, _ in rows)
        raise TableRefused(
            f"table {name} has {what} in {count} rows (row {examples}"
            f"{' ...' if count > _SHOWN else ''}, counted from 1 without the header); expected "
            f"{expected}"
        )


def _refuse_repeated(connection: duckdb.DuckDBPyConnection, name: str, key: str) -> None:
    rows = connection.execute(
        f"SELECT {key}, count(*) FROM {name} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
    ).fetchall()
    if rows:
        raise TableRefused(
            f"table {name} has {len(rows)} keys more than once, expected each once; the first is "
            f"there {rows[0][1]} times"
        )
