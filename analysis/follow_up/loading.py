"""One table of a study in DuckDB: its columns found, and each read as what it means."""

from __future__ import annotations

import codecs
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.statistics.columns import TableRefused
from lvm_core.errors import UsageError, form_of
from lvm_core.tables import PLACEHOLDER_DATES, UNKNOWN_TEXTS
from lvm_core.tables.raw import decode, find_delimiter, read_raw
from lvm_core.tables.values import SCIENTIFIC, WHOLE

Source = pd.DataFrame | Path
"""A table, or a CSV or Parquet file, or the pattern of several."""

_PARQUET_SUFFIXES: Final = (".parquet", ".pq")
# A text file up to this size is read at once. DuckDB reads a larger one piece by piece, in a third
# of the time: 3 against 10 s for 132 MB on two cores.
_LARGE_BYTES: Final = 20_000_000
_PIECE_BYTES: Final = 2**18
_LINES_LOOKED_AT: Final = 50
_LINES_OF_DUCKDB: Final = 2  # what is wrong; advice on DuckDB's own options follows
_SHOWN: Final = 5

_ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"
_UNKNOWN: Final = ", ".join(f"'{word}'" for word in sorted(UNKNOWN_TEXTS))
_PLACEHOLDERS: Final = ", ".join(f"DATE '{day}'" for day in PLACEHOLDER_DATES)
_YES: Final = "'true', 'yes', '1', '1.0'"
_NO: Final = "'false', 'no', '0', '0.0'"
_LARGEST_WHOLE: Final = {"DOUBLE": 2**53, "FLOAT": 2**24}
_WHY_NEEDED: Final = {
    "af_on_ecg": "an outcome with af_on_ecg needs it",
    "birth_date": "attained age needs it; ages in whole years are not exact enough",
    "body_size_date": "max_days_body_size needs it",
    "rhythm": "paced of exclude_ecg needs it",
    "conduction": "blocks of exclude_ecg need it",
    "qrs_duration_ms": "qrs_120 of exclude_ecg needs it",
}


@dataclass(frozen=True)
class LoadedTable:
    """The table raw_<name> in DuckDB: columns as they were given, and rows numbered from 1.

    The methods return the SQL of a column with its values read. Each of them raises TableRefused,
    with row numbers, where a value is not what the column means.
    """

    connection: duckdb.DuckDBPyConnection  # to DuckDB
    name: str  # of the table, as messages call it
    types: Mapping[str, str]  # DuckDB type of each column that the table has; the others are null dates
    date_format: str | None = None  # strptime format of all its dates; None for ISO

    def date(self, column: str) -> str:
        """Return the SQL of dates: null for texts such as "unknown", but not for placeholders."""
        kind = self.types.get(column, "DATE")
        if has_zone(kind):
            raise TableRefused(
                f"table {self.name}: {column} has a time zone, which would move it to another day; expected "
                "local dates or times without one"
            )
        if not kind.startswith("VARCHAR"):
            return f"try_cast({column} AS DATE)"
        text = f"trim({column})"
        if self.date_format is None:
            parsed = f"CASE WHEN regexp_matches({text}, '{_ISO}') THEN try_cast(substr({text}, 1, 10) AS DATE) END"
            expected = "ISO dates (YYYY-MM-DD) in the whole file, or its one format in date_formats"
        else:
            parsed = f"try_strptime({text}, '{self.date_format}')::DATE"
            expected = f"dates as {self.date_format} in the whole file"
        bad = f"{parsed} IS NULL AND lower({text}) NOT IN ({_UNKNOWN})"
        self.refuse_rows(bad, f"{column} of another format", expected, shown=column)
        return parsed

    def moment(self, column: str) -> str:
        """Return the SQL of local times; a date is its midnight, a time zone is left out."""
        day = self.date(column)
        if not self.types.get(column, "DATE").startswith("VARCHAR"):
            return f"try_cast({column} AS TIMESTAMP)"
        if self.date_format is not None:
            return f"try_strptime(trim({column}), '{self.date_format}')"
        return f"coalesce(try_cast(substr(trim({column}), 1, 19) AS TIMESTAMP), {day}::TIMESTAMP)"

    def number(self, column: str) -> str:
        """Return the SQL of numbers; null where they are unknown."""
        number = f"try_cast({quoted(column)} AS DOUBLE)"
        if self.types[column].startswith("VARCHAR"):
            bad = f"{number} IS NULL AND lower(trim({quoted(column)})) NOT IN ({_UNKNOWN})"
            what, expected = f"{column} that is no number", "a number, or an empty cell"
            self.refuse_rows(bad, what, expected, shown=quoted(column))
        return number

    def yes_no(self, column: str) -> str:
        """Return the SQL of yes and no; null where it is unknown."""
        text = f"lower(trim({column}::VARCHAR))"
        bad = f"{text} NOT IN ({_YES}, {_NO}, {_UNKNOWN})"
        what, expected = f"{column} that is neither yes nor no", "true, false, yes, no, 1 or 0"
        self.refuse_rows(bad, what, expected, shown=column)
        return f"CASE WHEN {text} IN ({_YES}) THEN true WHEN {text} IN ({_NO}) THEN false END"

    def word(self, column: str, meanings: Mapping[str, str]) -> str:
        """Return the SQL of a few words in any case, given in lower case, as what they mean."""
        text = f"lower(trim({column}::VARCHAR))"
        listed = ", ".join(f"'{word}'" for word in meanings)
        what, expected = f"{column} of another word", f"{', '.join(meanings)}, or an empty cell"
        self.refuse_rows(f"{text} NOT IN ({listed}, {_UNKNOWN})", what, expected, shown=column)
        cases = " ".join(f"WHEN '{word}' THEN '{meaning}'" for word, meaning in meanings.items())
        return f"CASE {text} {cases} END"

    def identifier(self, column: str) -> str:
        """Return the SQL of identifiers as text; null where they are unknown.

        A column gives the same identifiers as by `lvm_core.tables.values.identifiers`: text loses
        the blanks around it. A table that was read with gaps has whole numbers as floats, or as
        texts such as 1000001.0 in every row: they lose the point and what follows.
        """
        kind = self.types.get(column, "DATE")
        if kind in _LARGEST_WHOLE:
            self._refuse_fractions(column, _LARGEST_WHOLE[kind])
            return f"CASE WHEN isfinite({column}) THEN {column}::BIGINT::VARCHAR END"
        if kind.endswith("INT"):
            return f"trim({column}::VARCHAR)"
        text = known_text(column)
        return rf"regexp_replace({text}, '\.0+$', '')" if self._are_whole(column, text) else text

    def _refuse_fractions(self, column: str, largest: int) -> None:
        fractions, large = self._counts(
            f"count(*) FILTER ({column} <> floor({column})), count(*) FILTER (abs({column}) > {largest}) "
            f"FROM raw_{self.name} WHERE isfinite({column})"
        )
        if fractions or large:
            too_large = f"numbers above {largest:,} in {large} rows, which floats do not distinguish"
            what = f"fractions in {fractions} rows" if fractions else too_large
            raise TableRefused(
                f"table {self.name}: {column} holds {what}; expected text or whole numbers. Read the column as text"
            )

    def _are_whole(self, column: str, text: str) -> bool:
        """Return whether all identifiers end in .0; refuse some of them, or scientific notation."""
        # LIKE is cheap; most tables have no identifier for which a regular expression is needed.
        whole, scientific = self._counts(
            f"count(*) FILTER (regexp_matches(id, '{WHOLE}')), count(*) FILTER (regexp_matches(id, '{SCIENTIFIC}')) "
            f"FROM (SELECT {text} AS id FROM raw_{self.name}) WHERE id LIKE '%.0%' OR id ILIKE '%e%'"
        )
        if scientific:
            raise TableRefused(
                f"table {self.name}: {column} holds {scientific} numbers in scientific notation, which a spreadsheet "
                "writes and which lose digits; expected identifiers as text. Export the column as text"
            )
        (known,) = self._counts(f"count({text}) FROM raw_{self.name}") if whole else (0,)
        if whole != known:
            raise TableRefused(
                f"table {self.name}: {column} holds {whole} identifiers with a decimal point (as 1001.0) among "
                f"{known}; expected all of them with or all without. Write the column as text"
            )
        return whole > 0

    def _counts(self, query: str) -> tuple[int, ...]:
        return self.connection.execute(f"SELECT {query}").fetchall()[0]

    def refuse_rows(self, condition: str, what: str, expected: str, *, shown: str | None = None) -> None:
        """Refuse the table where a row meets a condition; the message shows one column, or none."""
        rows = self.connection.execute(
            f"SELECT row_number, {shown or repr('')}, count(*) OVER () FROM raw_{self.name} "
            f"WHERE {condition} ORDER BY row_number LIMIT {_SHOWN}"
        ).fetchall()
        if rows:
            count = rows[0][2]
            examples = ", ".join(f"{row}: {text}" if text else f"{row}" for row, text, _ in rows)
            raise TableRefused(
                f"table {self.name} has {what} in {count} rows (row {examples}"
                f"{' ...' if count > _SHOWN else ''}, counted from 1 without the header); expected {expected}"
            )

    def refuse_placeholders(self, column: str, day: str) -> None:
        """Refuse placeholder dates, of which `day` is the SQL, where follow-up needs the day."""
        what = f"{column} that stands for an unknown day"
        expected = "the day, or an empty cell where there is none: without the day nobody can be followed"
        self.refuse_rows(is_placeholder(day), what, expected, shown=column)

    def refuse_columns(self, missing: Mapping[str, str], there: Sequence[str]) -> None:
        """Refuse the table where columns (its own names, by ours) are missing among those there."""
        if missing:
            why = [_WHY_NEEDED[column] for column in missing if column in _WHY_NEEDED]
            raise TableRefused(
                f"table {self.name} has no column {', '.join(missing.values())}; it has {', '.join(there)}"
                f"{' (' + '; '.join(why) + ')' if why else ''}"
            )


def load_table(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    source: Source,
    columns: Sequence[str],
    *,
    optional: Collection[str] = (),
    own: Mapping[str, str] | None = None,
    date_format: str | None = None,
) -> LoadedTable:
    """Make the table raw_<name> of some columns, of which `optional` ones may be absent.

    `own` are the table's own names of columns, by ours; `date_format` is strptime's, None for ISO.
    Raise TableRefused where a column or an identifier is missing.
    """
    origin, types = describe_table(connection, name, source)
    called = {column: (own or {}).get(column, column) for column in columns}
    found = {column: its for column, theirs in called.items() if (its := _own_name(name, types, theirs)) is not None}
    table = LoadedTable(connection, name, {c: types[its] for c, its in found.items()}, date_format)
    absent = {c: theirs for c, theirs in called.items() if c not in found and c not in optional}
    table.refuse_columns(absent, list(types))
    taken = [f"{quoted(found[c]) if c in found else 'NULL::DATE'} AS {quoted(c)}" for c in columns]
    try:
        connection.execute(
            f"CREATE TEMP TABLE raw_{name} AS "
            f"SELECT row_number() OVER () AS row_number, {', '.join(taken)} FROM {origin}"
        )
    except duckdb.Error as error:
        raise _unread(name, source, error) from error
    _refuse_lost_keys(table)
    return table


def _refuse_lost_keys(table: LoadedTable) -> None:
    """Refuse codes that went through numbers, and rows without their keys."""
    if table.types.get("code") in _LARGEST_WHOLE:
        raise TableRefused(
            f"table {table.name}: code holds numbers with a point, so that leading zeros and dots of "
            "codes are lost; expected text. Read the column as text"
        )
    keys = ("participant_id", "ecg_id", *(("region", "source") if table.name == "ends" else ()))
    for column in (key for key in keys if key in table.types):
        is_float = table.types[column] in _LARGEST_WHOLE
        blank = f"NOT isfinite({column})" if is_float else f"lower(trim({column}::VARCHAR)) IN ({_UNKNOWN})"
        table.refuse_rows(f"{column} IS NULL OR {blank}", f"no {column}", "one in each row")


def describe_table(connection: duckdb.DuckDBPyConnection, name: str, source: Source) -> tuple[str, dict[str, str]]:
    """Return how SQL calls a table, and the DuckDB types of its columns."""
    try:
        origin = _origin(connection, name, source)
        rows = connection.execute(f"DESCRIBE SELECT * FROM {origin}").fetchall()
    except (duckdb.Error, UsageError, OSError) as error:
        raise _unread(name, source, error) from error
    return origin, {row[0]: row[1] for row in rows}


def _own_name(name: str, types: Mapping[str, str], wanted: str) -> str | None:
    """Return how a table writes the name of a column; None where it has no such column."""
    alike = [its for its in types if _same(its) == _same(wanted)]
    if len(alike) > 1:
        raise TableRefused(
            f"table {name} has column {wanted} {len(alike)} times; expected it once "
            "(case and blanks around a name do not matter)"
        )
    return alike[0] if alike else None


def _same(name: str) -> str:
    return name.strip().casefold()


def _unread(name: str, source: Source, error: Exception) -> TableRefused:
    """Return why a table cannot be read, without the line that DuckDB quotes: it names a person."""
    text = str(error)
    if isinstance(error, duckdb.Error):
        lines = [line for line in text.splitlines() if not line.startswith("Original Line")]
        text = "; ".join(lines[:_LINES_OF_DUCKDB])
    called = source if isinstance(source, Path) else "as given"
    return TableRefused(f"table {name} ({called}) cannot be read: {text}")


def _origin(connection: duckdb.DuckDBPyConnection, name: str, source: Source) -> str:
    """Return the SQL of a table; the delimiter and encoding of a text file are found out."""
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


def has_zone(kind: str) -> bool:
    """Return whether a DuckDB type is a time with a time zone, of microseconds or nanoseconds."""
    return kind in ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ_NS")


def quoted(name: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def known_text(column: str) -> str:
    """Return the SQL of a column as text without blanks around; null where it is unknown."""
    text = f"trim({quoted(column)}::VARCHAR)"
    return f"CASE WHEN lower({text}) NOT IN ({_UNKNOWN}) THEN {text} END"


def is_no_date(text: str) -> str:
    """Return the SQL condition that a text is there and is no ISO date."""
    return (
        f"{text} IS NOT NULL AND (try_cast(substr({text}, 1, 10) AS DATE) IS NULL "
        f"OR NOT regexp_matches({text}, '{_ISO}'))"
    )


def is_placeholder(day: str) -> str:
    """Return the SQL condition that a date is a placeholder of an unknown day, as 1900-01-01 is."""
    return f"coalesce({day} IN ({_PLACEHOLDERS}), false)"


def refuse_repeated(connection: duckdb.DuckDBPyConnection, name: str, key: str) -> None:
    """Refuse a table in which a key is there twice."""
    rows = connection.execute(
        f"SELECT {key}, count(*) FROM {name} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
    ).fetchall()
    if rows:
        raise TableRefused(
            f"table {name} has {len(rows)} keys more than once, expected each once; the first is "
            f"there {rows[0][1]} times"
        )


def nothing_in_common(tables: str, key: str, one: str, other: str) -> str:
    """Return the message that two tables share no key; it shows the form of a key of each."""
    return (
        f"{tables} have no {key} in common: the first of the former is of the form "
        f"{form_of(one)}, of the latter {form_of(other)} (A a letter, 9 a digit); expected the same "
        "identifiers, compared as text (007 is not 7)"
    )
