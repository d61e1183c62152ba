"""One table of a study into DuckDB: its columns found, ids whole, dates of one format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd

from analysis.columns import TableRefused
from lvm_core.tables.values import PLACEHOLDER_DATES, UNKNOWN_TEXTS

_SHOWN: Final = 5
_ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"
_UNKNOWN: Final = ", ".join(f"'{word}'" for word in sorted(UNKNOWN_TEXTS))
_PLACEHOLDERS: Final = ", ".join(f"DATE '{day}'" for day in PLACEHOLDER_DATES)
_MID_MONTHS: Final = ", ".join(f"DATE '{day.replace(day=15)}'" for day in PLACEHOLDER_DATES)
_YES: Final = "'true', 'yes', '1', '1.0'"
_NO: Final = "'false', 'no', '0', '0.0'"
_WHY: Final = {
    "af_on_ecg": "an outcome whose rule is af_on_ecg needs it",
    "birth_date": "attained age needs it; ages in whole years are not exact enough",
    "body_size_date": "max_days_body_size needs it",
}


def load(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: pd.DataFrame | Path,
    columns: Sequence[str],
    optional: Collection[str] = (),
    own: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Make raw_<name> with the rows numbered from 1.

    Args:
        connection: to DuckDB.
        name: of the table, as messages call it.
        source: the table, or a CSV or Parquet file.
        columns: to take; `optional` ones are null dates where they are not there.
        optional: some of `columns`.
        own: the table's own names of columns.

    Returns:
        The DuckDB type of each column; "DATE" of one that is not there.

    Raises:
        TableRefused: it cannot be read, a column is missing, an id is a fraction or missing.
    """
    own = own or {}
    origin, there = described(connection, name, source)
    called = {c: own.get(c, c) for c in columns}
    _refuse_missing(name, {c: i for c, i in called.items() if c not in optional}, list(there))
    types = {c: there[its] for c, its in called.items() if its in there}
    taken = [
        f"{quoted(its)} AS {quoted(c)}" if c in types else f"NULL::DATE AS {c}"
        for c, its in called.items()
    ]
    connection.execute(
        f"CREATE TEMP TABLE raw_{name} AS "
        f"SELECT row_number() OVER () AS row_number, {', '.join(taken)} FROM {origin}"
    )
    _check_ids(connection, name, types)
    return {c: types.get(c, "DATE") for c in columns}


def described(
    connection: duckdb.DuckDBPyConnection, name: str, source: pd.DataFrame | Path
) -> tuple[str, dict[str, str]]:
    """Return how SQL calls a table, and the DuckDB types of its columns.

    Args:
        connection: to DuckDB.
        name: of the table.
        source: the table, or a CSV or Parquet file, or the pattern of several.

    Raises:
        TableRefused: it cannot be read.
    """
    if isinstance(source, pd.DataFrame):
        origin = f"given_{name}"
        connection.register(origin, source)
    else:
        path = str(source).replace("'", "''")
        is_parquet = source.suffix == ".parquet"
        origin = f"read_parquet('{path}', union_by_name = true)" if is_parquet else as_text(path)
    try:
        rows = connection.execute(f"DESCRIBE SELECT * FROM {origin}").fetchall()
    except duckdb.Error as error:
        raise TableRefused(f"table {name} ({source}) cannot be read: {error}") from error
    return origin, {row[0]: row[1] for row in rows}


def selected(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Path,
    columns: Sequence[str],
    own: Mapping[str, str],
    expression: Callable[[str, str], str],
) -> pd.DataFrame:
    """Return columns of a table, each as the expression of its kind makes it.

    Args:
        connection: to DuckDB.
        name: of the table, as messages call it.
        source: a CSV or Parquet file, or the pattern of several.
        columns: to take, all of which are there.
        own: the table's own names of columns.
        expression: SQL of a column of raw_<name>, from its name and DuckDB type.

    Raises:
        TableRefused: as `load`, or what an expression refuses.
    """
    types = load(connection, name, source, columns, (), own)
    taken = [f"{expression(column, types[column])} AS {quoted(column)}" for column in columns]
    return pd.DataFrame(connection.sql(f"SELECT {', '.join(taken)} FROM raw_{name}").df())


def as_text(path: str) -> str:
    """Return the DuckDB expression that reads a delimited file, every column as text."""
    return f"read_csv('{path}', all_varchar = true, header = true)"


def quoted(name: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def dates(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    column: str,
    kind: str,
    date_format: str | None,
) -> str:
    """Return the expression of a column of dates of raw_<name>.

    Args:
        connection: to DuckDB.
        name: of the table.
        column: of dates.
        kind: its DuckDB type.
        date_format: strptime format of the file where it is not ISO.

    Returns:
        SQL; null where the date is unknown by its text, but not where it is a placeholder.

    Raises:
        TableRefused: a date is of another format, or has a time zone.
    """
    if kind == "TIMESTAMP WITH TIME ZONE":
        raise TableRefused(
            f"table {name}: {column} has a time zone, which would move it to another day; expected "
            "local dates or times without one"
        )
    if not kind.startswith("VARCHAR"):
        return f"try_cast({column} AS DATE)"
    text = f"trim({column})"
    expected = "ISO dates (YYYY-MM-DD) in the whole file, or its one format in date_formats"
    if date_format is not None:
        expected = f"dates as {date_format} in the whole file"
    parsed = _parsed(text, date_format)
    bad = f"{parsed} IS NULL AND lower({text}) NOT IN ({_UNKNOWN})"
    refuse_rows(connection, name, bad, f"{column} of another format", expected, shown=column)
    return parsed


def moments(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    column: str,
    kind: str,
    date_format: str | None,
) -> str:
    """Return the expression of a column of local dates and times; arguments as `dates` has them.

    A date alone is its midnight; a time zone that a text names is left out, not converted.

    Raises:
        TableRefused: see `dates`.
    """
    day = dates(connection, name, column, kind, date_format)
    if not kind.startswith("VARCHAR"):
        return f"try_cast({column} AS TIMESTAMP)"
    text = f"trim({column})"
    if date_format is not None:
        return f"try_strptime({text}, '{date_format}')"
    return f"coalesce(try_cast(substr({text}, 1, 19) AS TIMESTAMP), {day}::TIMESTAMP)"


def births(connection: duckdb.DuckDBPyConnection, kind: str, date_format: str | None) -> str:
    """Return the expression of birth_date of raw_persons; month and year take the 15th.

    Args:
        connection: to DuckDB.
        kind: the DuckDB type of birth_date.
        date_format: strptime format of the file where it is not ISO.

    Raises:
        TableRefused: births are whole years, or of another format.
    """
    if not kind.startswith("VARCHAR"):
        if not kind.startswith(("DATE", "TIMESTAMP", '"NULL"')):
            _refuse_years(f"birth_date holds numbers ({kind})")
        return dates(connection, "persons", "birth_date", kind, None)
    text = "trim(birth_date)"
    has_day = date_format is None or any(part in date_format for part in ("%d", "%-d", "%j"))
    if not has_day and not any(part in str(date_format) for part in ("%m", "%-m", "%b", "%B")):
        _refuse_years(f"the format of birth_date is {date_format}")
    refuse_rows(
        connection, "persons", f"regexp_matches({text}, '^\\d{{4}}$')", "birth_date of a year only",
        "day or month and year for attained age: ages in whole years are not exact enough",
        shown="birth_date",
    )  # fmt: skip
    parsed = _parsed(text, date_format) if has_day else f"({_parsed(text, date_format)} + 14)"
    month = (
        f"CASE WHEN regexp_matches({text}, '^\\d{{4}}-\\d{{2}}$') "
        f"THEN try_cast({text} || '-15' AS DATE) END"
    )
    either = f"coalesce({month}, {parsed})"
    bad = f"{either} IS NULL AND lower({text}) NOT IN ({_UNKNOWN})"
    expected = f"{date_format or 'YYYY-MM-DD'} or YYYY-MM"
    what = "birth_date of another format"
    refuse_rows(connection, "persons", bad, what, expected, shown="birth_date")
    return either


def is_placeholder(day: str, *, mid_month: bool = False) -> str:
    """Return the condition that a date stands for "unknown", as 1900-01-01 does.

    Args:
        day: expression of the date.
        mid_month: the 15th of such a month instead, as which month and year alone are read.
    """
    return f"coalesce({day} IN ({_MID_MONTHS if mid_month else _PLACEHOLDERS}), false)"


def refuse_placeholders(
    connection: duckdb.DuckDBPyConnection, name: str, column: str, day: str
) -> None:
    """Refuse dates that stand for "unknown" where nothing can be decided without the date.

    Args:
        connection: to DuckDB.
        name: of the table.
        column: of dates.
        day: their expression, of `dates`.

    Raises:
        TableRefused: there is such a date.
    """
    what = f"{column} that stands for an unknown day"
    expected = (
        "the day, or an empty cell where there is none: without the day nobody can be followed"
    )
    refuse_rows(connection, name, is_placeholder(day), what, expected, shown=column)


def yes_no(connection: duckdb.DuckDBPyConnection, name: str, column: str) -> str:
    """Return the expression of a yes/no column of raw_<name>; null where it is unknown.

    Raises:
        TableRefused: a value is neither yes, no nor unknown.
    """
    text = f"lower(trim({column}::VARCHAR))"
    bad = f"{text} NOT IN ({_YES}, {_NO}, {_UNKNOWN})"
    what, expected = f"{column} that is neither yes nor no", "true, false, yes, no, 1 or 0"
    refuse_rows(connection, name, bad, what, expected, shown=column)
    return f"CASE WHEN {text} IN ({_YES}) THEN true WHEN {text} IN ({_NO}) THEN false END"


def numbers(connection: duckdb.DuckDBPyConnection, name: str, column: str, kind: str) -> str:
    """Return the expression of a column of numbers of raw_<name>; null where it is unknown.

    Raises:
        TableRefused: a text is neither a number nor one that stands for unknown.
    """
    number = f"try_cast({quoted(column)} AS DOUBLE)"
    if kind.startswith("VARCHAR"):
        bad = f"{number} IS NULL AND lower(trim({quoted(column)})) NOT IN ({_UNKNOWN})"
        what, expected = f"{column} that is no number", "a number, or an empty cell"
        refuse_rows(connection, name, bad, what, expected, shown=quoted(column))
    return number


def words(
    connection: duckdb.DuckDBPyConnection, name: str, column: str, known: Mapping[str, str]
) -> str:
    """Return the expression of a column of a few words, in any case; null where it is unknown.

    Args:
        connection: to DuckDB.
        name: of the table.
        column: of words.
        known: what each word, in lower case, is read as.

    Raises:
        TableRefused: a text is neither one of the words nor one that stands for unknown.
    """
    text = f"lower(trim({column}::VARCHAR))"
    listed = ", ".join(f"'{word}'" for word in known)
    what, expected = f"{column} of another word", f"{', '.join(known)}, or an empty cell"
    bad = f"{text} NOT IN ({listed}, {_UNKNOWN})"
    refuse_rows(connection, name, bad, what, expected, shown=column)
    cases = " ".join(f"WHEN '{word}' THEN '{meaning}'" for word, meaning in known.items())
    return f"CASE {text} {cases} END"


def refuse_rows(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    condition: str,
    what: str,
    expected: str,
    *,
    shown: str | None = None,
) -> None:
    """Refuse raw_<name> where a row meets a condition, with row numbers.

    Args:
        connection: to DuckDB.
        name: of the table.
        condition: SQL.
        what: what is wrong with such a row.
        expected: what was expected.
        shown: the column whose values are shown; none for ids.

    Raises:
        TableRefused: there is such a row.
    """
    rows = connection.execute(
        f"SELECT row_number, {shown or repr('')}, count(*) OVER () FROM raw_{name} "
        f"WHERE {condition} ORDER BY row_number LIMIT {_SHOWN}"
    ).fetchall()
    if rows:
        count = rows[0][2]
        examples = ", ".join(f"{row}: {text}" if text else f"{row}" for row, text, _ in rows)
        raise TableRefused(
            f"table {name} has {what} in {count} rows (row {examples}"
            f"{' ...' if count > _SHOWN else ''}, counted from 1 without the header); expected "
            f"{expected}"
        )


def refuse_repeated(connection: duckdb.DuckDBPyConnection, name: str, key: str) -> None:
    """Refuse a table in which a key is there twice.

    Raises:
        TableRefused: it is.
    """
    rows = connection.execute(
        f"SELECT {key}, count(*) FROM {name} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
    ).fetchall()
    if rows:
        raise TableRefused(
            f"table {name} has {len(rows)} keys more than once, expected each once; the first is "
            f"there {rows[0][1]} times"
        )


def _parsed(text: str, date_format: str | None) -> str:
    if date_format is not None:
        return f"try_strptime({text}, '{date_format}')::DATE"
    iso = f"try_cast(substr({text}, 1, 10) AS DATE)"
    return f"CASE WHEN regexp_matches({text}, '{_ISO}') THEN {iso} END"


def _refuse_years(what: str) -> None:
    raise TableRefused(
        f"table persons: {what}, expected dates as YYYY-MM-DD or YYYY-MM; attained age cannot be "
        "had from ages in whole years"
    )


def _refuse_missing(name: str, called: Mapping[str, str], there: Sequence[str]) -> None:
    missing = {column: its for column, its in called.items() if its not in there}
    if missing:
        why = [_WHY[column] for column in missing if column in _WHY]
        raise TableRefused(
            f"table {name} has no column {', '.join(missing.values())}; it has {', '.join(there)}"
            f"{' (' + '; '.join(why) + ')' if why else ''}"
        )


def _check_ids(connection: duckdb.DuckDBPyConnection, name: str, types: dict[str, str]) -> None:
    if types.get("code") in ("DOUBLE", "FLOAT"):
        raise TableRefused(
            f"table {name}: code holds numbers with a point, so that leading zeros and dots of "
            "codes are lost; expected text. Read the column as text"
        )
    for column in ("participant_id", "ecg_id", "region", "source"):
        if column not in types or (name == "persons" and column == "region"):
            continue
        if column in ("participant_id", "ecg_id") or name == "ends":
            is_float = types[column] in ("DOUBLE", "FLOAT")
            blank = f"NOT isfinite({column})" if is_float else f"trim({column}::VARCHAR) = ''"
            condition = f"{column} IS NULL OR {blank}"
            refuse_rows(connection, name, condition, f"no {column}", "one in each row")
