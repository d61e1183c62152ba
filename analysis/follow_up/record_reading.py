"""One table of a study into DuckDB: its columns found, ids whole, dates of one format."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.statistics.columns import TableRefused
from lvm_core.errors import UsageError
from lvm_core.tables.raw import decode, find_delimiter, read_raw
from lvm_core.tables.values import PLACEHOLDER_DATES, UNKNOWN_TEXTS

_SHOWN: Final = 5
_PARQUET_SUFFIXES: Final = (".parquet", ".pq")
# A text file up to this size is read at once. DuckDB reads a larger one piece by piece, in a third
# of the time: 3 against 10 s for 132 MB on two cores.
_LARGE_BYTES: Final = 20_000_000
_PIECE_BYTES: Final = 2**18
_LINES_LOOKED_AT: Final = 50
_LINES_OF_DUCKDB: Final = 2  # what is wrong; advice on DuckDB's own options follows
_ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"
_UNKNOWN: Final = ", ".join(f"'{word}'" for word in sorted(UNKNOWN_TEXTS))
_PLACEHOLDERS: Final = ", ".join(f"DATE '{day}'" for day in PLACEHOLDER_DATES)
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
    found = {c: its for c, its in called.items() if its in there}
    absent = {c: its for c, its in called.items() if c not in found and c not in optional}
    refuse_missing(name, absent, there.names)
    types = {c: there.type_of(its) for c, its in found.items()}
    taken = [
        f"{quoted(there.own_name(found[c]))} AS {quoted(c)}" if c in found else f"NULL::DATE AS {c}" for c in called
    ]
    try:
        connection.execute(
            f"CREATE TEMP TABLE raw_{name} AS "
            f"SELECT row_number() OVER () AS row_number, {', '.join(taken)} FROM {origin}"
        )
    except duckdb.Error as error:
        raise _unread(name, source, error) from error
    _check_ids(connection, name, types)
    return {c: types.get(c, "DATE") for c in columns}


class Described:
    """Columns of a table with their DuckDB types; case and blanks around a name do not matter."""

    def __init__(self, name: str, types: Sequence[tuple[str, str]]) -> None:
        self._name = name
        self.types = dict(types)

    @property
    def names(self) -> list[str]:
        """Names as the table has them."""
        return list(self.types)

    def __contains__(self, wanted: str) -> bool:
        return bool(self._alike(wanted))

    def own_name(self, wanted: str) -> str:
        """Return how the table writes the name of a column that is there.

        Raises:
            TableRefused: two columns have that name.
        """
        alike = self._alike(wanted)
        if len(alike) > 1:
            raise TableRefused(
                f"table {self._name} has column {wanted} {len(alike)} times; expected it once "
                "(case and blanks around a name do not matter)"
            )
        return alike[0]

    def type_of(self, wanted: str) -> str:
        """Return the DuckDB type of a column that is there."""
        return self.types[self.own_name(wanted)]

    def _alike(self, wanted: str) -> list[str]:
        return [name for name in self.types if _same(name) == _same(wanted)]


def _same(name: str) -> str:
    return name.strip().casefold()


def described(connection: duckdb.DuckDBPyConnection, name: str, source: pd.DataFrame | Path) -> tuple[str, Described]:
    """Return how SQL calls a table, and its columns.

    Args:
        connection: to DuckDB.
        name: of the table.
        source: the table, or a CSV or Parquet file, or the pattern of several.

    Raises:
        TableRefused: it cannot be read.
    """
    try:
        origin = _origin(connection, name, source)
        rows = connection.execute(f"DESCRIBE SELECT * FROM {origin}").fetchall()
    except (duckdb.Error, UsageError, OSError) as error:
        raise _unread(name, source, error) from error
    return origin, Described(name, [(row[0], row[1]) for row in rows])


def _unread(name: str, source: pd.DataFrame | Path, error: Exception) -> TableRefused:
    """Return why a table cannot be read, without the line that DuckDB quotes: it names a person."""
    text = str(error)
    if isinstance(error, duckdb.Error):
        lines = [line for line in text.splitlines() if not line.startswith("Original Line")]
        text = "; ".join(lines[:_LINES_OF_DUCKDB])
    called = source if isinstance(source, Path) else "as given"
    return TableRefused(f"table {name} ({called}) cannot be read: {text}")


def _origin(connection: duckdb.DuckDBPyConnection, name: str, source: pd.DataFrame | Path) -> str:
    """Return the SQL of a table; a text file is read with its delimiter and encoding found out."""
    given = f"given_{name}"
    if isinstance(source, pd.DataFrame):
        connection.register(given, source)
        return given
    path = str(source).replace("'", "''")
    if source.suffix.lower() in _PARQUET_SUFFIXES:
        return f"read_parquet('{path}', union_by_name = true)"
    if source.stat().st_size > _LARGE_BYTES:
        return _large_text(source, path)
    raw = read_raw(source.read_bytes(), source.name)
    _refuse_repeated_names(raw.names)
    # As DuckDB reads text itself: an empty cell is null.
    empty = pa.scalar(None, pa.string())
    cells = [pc.if_else(pc.equal(one, ""), empty, one) for _, one in raw.columns]
    connection.register(given, pa.table(cells, names=list(raw.names)))
    return given


def _refuse_repeated_names(names: Sequence[str]) -> None:
    keys = [_same(one) for one in names]
    repeated = sorted({one for one in keys if keys.count(one) > 1})
    if repeated:
        raise UsageError(
            f"it has column {', '.join(repeated)} more than once; expected it once (case and "
            "blanks around a name do not matter)"
        )


def _large_text(source: Path, path: str) -> str:
    """Return the SQL of a text file that DuckDB reads, with its encoding and delimiter."""
    with source.open("rb") as stream:
        text, _ = decode(stream.read(_PIECE_BYTES), source.name)
        stream.seek(0)
        encoding = _encoding(stream)
    # The last line may be cut off; the first may be Excel's `sep=;`.
    lines = [line for line in text.split("\n")[:-1] if line.strip()][:_LINES_LOOKED_AT] or [text]
    options = f"all_varchar = true, header = true, encoding = '{encoding}'"
    if lines[0].lower().startswith("sep="):
        options += ", skip = 1"
        lines = lines[1:]
    # DuckDB would call a second column `date` `date_1`.
    _refuse_repeated_names(read_raw(f"{lines[0]}\n".encode(), source.name).names)
    delimiter = find_delimiter(lines, source.name)
    options += "" if delimiter is None else f", delim = '{delimiter}'"
    return f"read_csv('{path}', {options})"


def _encoding(stream: BinaryIO) -> str:
    """Return the encoding of a text by the rule of `lvm_core.tables`, as DuckDB calls it."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    is_first = True
    while piece := stream.read(_PIECE_BYTES):
        if is_first and piece.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        is_first = False
        try:
            decoder.decode(piece)
        except UnicodeDecodeError:
            return "latin-1"
    return "utf-8"


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


def quoted(name: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def dates(connection: duckdb.DuckDBPyConnection, name: str, column: str, kind: str, date_format: str | None) -> str:
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


def moments(connection: duckdb.DuckDBPyConnection, name: str, column: str, kind: str, date_format: str | None) -> str:
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


def is_placeholder(day: str) -> str:
    """Return the condition that a date stands for "unknown", as 1900-01-01 does.

    Args:
        day: expression of the date.
    """
    return f"coalesce({day} IN ({_PLACEHOLDERS}), false)"


def refuse_placeholders(connection: duckdb.DuckDBPyConnection, name: str, column: str, day: str) -> None:
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
    expected = "the day, or an empty cell where there is none: without the day nobody can be followed"
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


def words(connection: duckdb.DuckDBPyConnection, name: str, column: str, known: Mapping[str, str]) -> str:
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


def refuse_missing(name: str, missing: Mapping[str, str], there: Sequence[str]) -> None:
    """Refuse a table that lacks columns.

    Args:
        name: of the table.
        missing: the table's own names of the columns that are not there, by ours.
        there: the columns that it has.

    Raises:
        TableRefused: something is missing.
    """
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
        if column not in types:
            continue
        if column in ("participant_id", "ecg_id") or name == "ends":
            is_float = types[column] in ("DOUBLE", "FLOAT")
            text = f"lower(trim({column}::VARCHAR))"
            blank = f"NOT isfinite({column})" if is_float else f"{text} IN ({_UNKNOWN})"
            condition = f"{column} IS NULL OR {blank}"
            refuse_rows(connection, name, condition, f"no {column}", "one in each row")
