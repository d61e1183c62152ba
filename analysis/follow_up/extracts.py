"""Tables of an extract of a cohort: a folder of CSV or Parquet, a DuckDB or an SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import pandas as pd
import pyarrow as pa

from analysis.follow_up.loading import Source, describe_table, has_zone, known_text, quoted
from analysis.statistics.columns import TableRefused

_SUFFIXES: Final = (".csv", ".tsv", ".txt", ".parquet", ".pq")
_DATABASES: Final = (".duckdb", ".db", ".sqlite", ".sqlite3")
_SQLITE: Final = b"SQLite format 3\0"
_ISO: Final = r"^\d{4}-\d{2}-\d{2}([T ].*)?$"
_ZONED: Final = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}.*([Zz]|[+-]\d{2}:?\d{2})$"
_UTC: Final = r"[Zz]$"
_SHOWN: Final = 5


@dataclass(frozen=True)
class CohortTables:
    """What an extract says, in the form of `build_follow_up`; None for what it lacks."""

    events: pd.DataFrame
    deaths: pd.DataFrame | None = None
    encounters: pd.DataFrame | None = None
    observation_periods: pd.DataFrame | None = None
    crosswalk: pd.DataFrame | None = None
    cmr: pd.DataFrame | None = None  # participant_id, cmr_date, lvm_cmr_g


class Extract:
    """The tables of an extract, by name without regard to case."""

    def __init__(self, path: Path) -> None:
        """Look for the tables; raise TableRefused where there are none, or two of one name."""
        self.path = path
        self._places = _files_of(path) if path.is_dir() else dict.fromkeys(_tables_of(path), path)
        if not self._places:
            raise TableRefused(
                f"{path} holds no tables; expected a folder of CSV or Parquet files, or a DuckDB or SQLite file"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tables, in lower case."""
        return tuple(self._places)

    def find(self, *names: str) -> Source | None:
        """Return the first of several tables that is there; None without any."""
        name = next((one for one in names if one in self._places), None)
        if name is None:
            return None
        place = self._places[name]
        return place if self.path.is_dir() else _table_of(place, name)

    def require(self, *names: str) -> Source:
        """Return the first of several tables that is there; raise TableRefused without any."""
        found = self.find(*names)
        if found is None:
            raise TableRefused(f"{self.path} has no table {' or '.join(names)}; it has {', '.join(self.names)}")
        return found


def _files_of(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        is_split = path.is_dir() and any(path.glob("*.parquet"))
        if not is_split and path.suffix.lower() not in _SUFFIXES:
            continue
        name = path.stem.lower()
        if name in found:
            raise TableRefused(f"{folder} holds {found[name].name} and {path.name}, which are one table; remove one")
        found[name] = path / "*.parquet" if is_split else path
    return found


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(_SQLITE)) == _SQLITE


def _tables_of(path: Path) -> list[str]:
    if path.suffix.lower() not in _DATABASES:
        raise TableRefused(f"{path} is a file; expected a folder of tables, or {', '.join(_DATABASES)}")
    try:
        if _is_sqlite(path):
            with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
                rows = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')").fetchall()
        else:
            with duckdb.connect(str(path), read_only=True) as database:
                rows = database.execute("SELECT table_name FROM information_schema.tables").fetchall()
    except (sqlite3.Error, duckdb.Error, OSError) as error:
        raise TableRefused(f"{path} cannot be read as DuckDB or SQLite: {str(error).splitlines()[0]}") from error
    return [row[0].lower() for row in rows]


def _table_of(path: Path, name: str) -> pd.DataFrame:
    if _is_sqlite(path):
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(f"SELECT * FROM {quoted(name)}")
            columns = [column[0] for column in found.description]
            return pd.DataFrame(found.fetchall(), columns=columns, dtype=object).convert_dtypes()
    with duckdb.connect(str(path), read_only=True) as database:
        read = database.sql(f"SELECT * FROM {quoted(name)}").to_arrow_table()
    return pd.DataFrame(read.to_pandas(types_mapper=pd.ArrowDtype))


class RecordTable:
    """A table of an extract in DuckDB; its columns are found by any of several names."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, name: str, source: Source, *, time_zone: str | None = None
    ) -> None:
        self.name = name
        self._connection = connection
        self._time_zone = time_zone
        self.origin, self.types = describe_table(connection, name, source)
        if isinstance(source, Path):  # a text file would be parsed again by each check
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {quoted('kept ' + name)} AS FROM {self.origin}")
            self.origin = quoted("kept " + name)
        self._own = {own.strip().lower().removeprefix(f"{name}."): own for own in self.types}

    def column(self, *names: str) -> str | None:
        """Return a column as SQL writes it, by the first of several names that is there."""
        found = next((self._own[name] for name in names if name in self._own), None)
        return None if found is None else quoted(found)

    def require(self, *names: str) -> str:
        """Return a column; raise TableRefused where it has none of the names."""
        found = self.column(*names)
        if found is None:
            raise TableRefused(f"table {self.name} has no column {' or '.join(names)}; it has {', '.join(self.types)}")
        return found

    def require_all(self, *names: str) -> None:
        """Raise TableRefused where one of several columns is missing."""
        for name in names:
            self.require(name)

    def text(self, *names: str) -> str:
        """Return the SQL of a column as text, null where unknown; null without such a column."""
        found = self.column(*names)
        if found is None:
            return "NULL::VARCHAR"
        text = known_text(found.strip('"').replace('""', '"'))
        # Whole numbers that were read with gaps have a point.
        is_float = self._type(found) in ("DOUBLE", "FLOAT")
        return f"regexp_replace({text}, '\\.0$', '')" if is_float else text

    def day(self, *names: str, day_first: bool = False) -> str:
        """Return the SQL of local days; null without such a column.

        Texts are ISO dates or times; with `day_first` a column may be DD/MM/YYYY throughout. A
        time with a zone is of the day in the time zone of the study; without one, of the day that
        is written, which is refused for times in UTC.
        """
        found = self.column(*names)
        if found is None:
            return "NULL::DATE"
        kind = self._type(found)
        zone = (self._time_zone or "").replace("'", "''")
        if has_zone(kind):
            self._need_zone(found, "true")
            return f"timezone('{zone}', {found}::TIMESTAMPTZ)::DATE"
        if not kind.startswith("VARCHAR"):
            return f"try_cast({found} AS DATE)"
        text = self.text(*names)
        if day_first and self._counts(f"{text} IS NOT NULL AND NOT regexp_matches({text}, '{_ISO}')"):
            self.refuse(f"{text} IS NOT NULL AND try_strptime({text}, '%d/%m/%Y') IS NULL", found, "DD/MM/YYYY")
            return f"try_strptime({text}, '%d/%m/%Y')::DATE"
        self.refuse(
            f"{text} IS NOT NULL AND (NOT regexp_matches({text}, '{_ISO}') OR try_cast(substr({text}, 1, 10) AS DATE) "
            "IS NULL)",
            found,
            "YYYY-MM-DD, also with a time" + (" or DD/MM/YYYY throughout" if day_first else ""),
        )
        written = f"try_cast(substr({text}, 1, 10) AS DATE)"
        if self._time_zone is None:
            self._need_zone(found, f"regexp_matches({text}, '{_UTC}')")
            return written
        moved = f"timezone('{zone}', try_cast({text} AS TIMESTAMPTZ))::DATE"
        return f"CASE WHEN regexp_matches({text}, '{_ZONED}') THEN {moved} ELSE {written} END"

    def _need_zone(self, column: str, condition: str) -> None:
        if self._time_zone is None and (found := self._counts(condition)):
            raise TableRefused(
                f"table {self.name}: {column} has times in UTC in {found} rows, which in the evening or the morning "
                "are of another day; write the zone of the hospital in the study file, as `time_zone: America/New_York`"
            )

    def refuse(self, condition: str, column: str, expected: str) -> None:
        """Refuse the table where a condition holds, with how many rows and some of the values."""
        rows = self._connection.execute(
            f"SELECT DISTINCT {column}::VARCHAR FROM {self.origin} WHERE {condition} ORDER BY 1 LIMIT {_SHOWN}"
        ).fetchall()
        if rows:
            examples = ", ".join(str(row[0]) for row in rows)
            raise TableRefused(
                f"table {self.name} has {column} of another form in {self._counts(condition)} rows ({examples}); "
                f"expected {expected}"
            )

    def _type(self, column: str) -> str:
        return self.types[column.strip('"').replace('""', '"')]

    def _counts(self, condition: str) -> int:
        rows = self._connection.execute(f"SELECT count(*) FROM {self.origin} WHERE {condition}").fetchall()
        return int(rows[0][0])


def table_in(connection: duckdb.DuckDBPyConnection, extract: Extract, name: str) -> RecordTable | None:
    """Return a table of an extract; None where it has none of the name."""
    source = extract.find(name)
    return None if source is None else RecordTable(connection, name, source)


def frame_of(connection: duckdb.DuckDBPyConnection, query: str) -> pd.DataFrame:
    """Return the rows of a query; Arrow's text takes a fifth of the memory of Python's."""
    return pd.DataFrame(connection.sql(query).to_arrow_table().to_pandas(types_mapper=pd.ArrowDtype))


def joined(parts: Sequence[pd.DataFrame], columns: Mapping[str, pd.ArrowDtype]) -> pd.DataFrame:
    """Return tables below one another with the same columns, given with their pandas types."""
    whole = [part.reindex(columns=list(columns)).astype(dict(columns)) for part in parts]
    return pd.concat(whole, ignore_index=True) if whole else pd.DataFrame(columns=list(columns)).astype(dict(columns))


_TEXT, _DAY = pd.ArrowDtype(pa.string()), pd.ArrowDtype(pa.date32())
EVENT_COLUMNS: Final[Mapping[str, pd.ArrowDtype]] = {
    "participant_id": _TEXT,
    "date": _DAY,
    "code": _TEXT,
    "system": _TEXT,
    "source": _TEXT,
    "reported_date": _DAY,
}
"""Columns of events, with their types."""
