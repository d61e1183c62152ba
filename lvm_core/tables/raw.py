"""A table as it was given, CSV or Parquet: its encoding, delimiter and columns found out."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from lvm_core.errors import UsageError

_DELIMITERS: Final = (",", ";", "\t", "|")
_DELIMITER_NAMES: Final = {",": "comma", ";": "semicolon", "\t": "tab", "|": "vertical bar"}
_PARQUET_MAGIC: Final = b"PAR1"
_ROWS_LOOKED_AT: Final = 50
_SHOWN: Final = 40
_ROWS_NAMED: Final = 5
_RAGGED: Final = re.compile(r"(?:Row #(?P<line>\d+): )?Expected (?P<expected>\d+) columns, got (?P<n>\d+)")


@dataclass(frozen=True)
class RawTable:
    """Columns of a table before anything is read into them."""

    name: str  # of the table, for messages
    columns: tuple[tuple[str, pa.Array], ...]  # (name without blanks around, cells) in the order of the file
    delimiter: str | None = None  # of a text file; None for Parquet and for a file with one column
    notes: tuple[str, ...] = ()  # what a user should know of how the file was read
    header: tuple[str, ...] = ()  # names of all columns, where some are not kept

    @property
    def n_rows(self) -> int:
        """Number of rows without the header."""
        return len(self.columns[0][1]) if self.columns else 0

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns as the file has them."""
        return tuple(name for name, _ in self.columns)

    @property
    def decimal_comma(self) -> bool:
        """Whether 103,6 is a decimal number, because commas do not separate the columns."""
        return self.delimiter in (";", "\t", "|")

    def find(self, wanted: str) -> pa.Array | None:
        """Return the column of a name, whatever its case and the blanks around it, or None.

        A name that two columns share is refused.
        """
        key = _key(wanted)
        found = [column for name, column in self.columns if _key(name) == key]
        if len(found) > 1:
            raise UsageError(
                f"{self.name} has column {wanted} {len(found)} times; expected it once (case and "
                "blanks around a name do not matter)"
            )
        return found[0] if found else None

    def require(self, wanted: Sequence[str]) -> dict[str, pa.Array]:
        """Return the columns of several names; refuse a table that lacks one or has one twice."""
        found = {name: self.find(name) for name in wanted}
        absent = [name for name, column in found.items() if column is None]
        if absent:
            raise UsageError(f"{self.described()}; expected {', '.join(absent)} among them")
        return found

    def find_first(self, wanted: Sequence[str]) -> tuple[str, pa.Array] | None:
        """Return the first of several names that is there, with its column."""
        for name in wanted:
            column = self.find(name)
            if column is not None:
                return name, column
        return None

    def described(self) -> str:
        """Return the number of rows and the columns, for messages."""
        names = self.header or self.names
        shown = ", ".join(names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        return f"{self.name} has {self.n_rows} rows and columns {shown}{more}"


def _key(name: str) -> str:
    return name.strip().casefold()


def read_raw(data: bytes, name: str, wanted: Collection[str] | None = None) -> RawTable:
    """Read a table whose first line is its header; every cell of a text file stays text.

    A file is Parquet when its name, which messages give too, ends in `.parquet` or `.pq`, or when
    its first bytes say so; otherwise it is CSV. Where `wanted` is given and the header has some of
    these columns, the others are not kept.

    Raises:
        UsageError: it is empty, or cannot be read as what it looks like.
    """
    if is_parquet(data, name):
        return _read_parquet(data, name, wanted)
    text, notes = decode(data, name)
    delimiter, text = _delimiter_and_rest(text, name)
    if not text.strip():
        raise UsageError(f"{name} is empty; expected a table with a header")
    if delimiter is None:
        return _one_column(text, name, notes)
    return _read_csv(text, delimiter, name, notes, wanted)


def _kept(header: Sequence[str], wanted: Collection[str] | None) -> list[int]:
    """Return the numbers of the columns that are kept: all, where none is wanted or there."""
    keys = {_key(name) for name in wanted or ()}
    kept = [i for i, name in enumerate(header) if _key(name) in keys]
    return kept or list(range(len(header)))


def read_lines(data: bytes, name: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the lines of a text without blanks around and without empty ones, and notes."""
    text, notes = decode(data, name)
    return [line.strip() for line in text.split("\n") if line.strip()], notes


def is_parquet(data: bytes, name: str) -> bool:
    """Return whether a table is Parquet, by its name or its first bytes."""
    return name.lower().endswith((".parquet", ".pq")) or data.startswith(_PARQUET_MAGIC)


def decode(data: bytes, name: str) -> tuple[str, tuple[str, ...]]:
    r"""Return the text of a file with `\n` at line ends, and a note where the encoding is a guess.

    UTF-8 with or without byte order mark, UTF-16 with one; Windows-1252 where UTF-8 fails, which
    is Latin-1 for all letters.

    Raises:
        UsageError: there are NUL characters, so that it is no text.
    """
    notes: tuple[str, ...] = ()
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            text = data.decode("cp1252", errors="replace")
            notes = (
                f"{name} is not UTF-8 (line {line}) and was read as Windows-1252 (Latin-1); save "
                "it as UTF-8 if letters look wrong",
            )
    if "\0" in text:
        raise UsageError(
            f"{name} holds NUL characters, so that it is no text; expected CSV or Parquet. Is it "
            "a spreadsheet file? Export it as CSV"
        )
    return text.replace("\r\n", "\n").replace("\r", "\n"), notes


def _delimiter_and_rest(text: str, name: str) -> tuple[str | None, str]:
    """Return the delimiter (None: one column), and the text without Excel's line `sep=;`."""
    first, _, rest = text.partition("\n")
    if first.lower().startswith("sep=") and first[4:5] in _DELIMITERS and len(first) == 5:
        return first[4], rest
    lines = [line for line in text.split("\n", _ROWS_LOOKED_AT) if line.strip()][:_ROWS_LOOKED_AT]
    if not lines:
        return None, text
    return find_delimiter(lines, name), text


def find_delimiter(lines: Sequence[str], name: str) -> str | None:
    """Return the delimiter of a table: comma, semicolon, tab, vertical bar, or None.

    A delimiter that gives all rows as many columns as the header is preferred to others; among
    several it is the one that gives the header the most columns.

    Raises:
        UsageError: a cell is too long for a table.
    """
    found: list[tuple[bool, int, str]] = []
    for delimiter in _DELIMITERS:
        widths = [len(row) for row in _rows(lines, delimiter, name)]
        if widths[0] > 1:
            found.append((all(width == widths[0] for width in widths), widths[0], delimiter))
    return max(found, key=lambda one: one[:2])[2] if found else None


def _rows(lines: Iterable[str], delimiter: str, name: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, delimiter=delimiter)
    except csv.Error as error:
        raise UsageError(
            f"{name} has a cell of over {csv.field_size_limit():,} characters, expected a table; "
            "is a quotation mark not closed?"
        ) from error


def _one_column(text: str, name: str, notes: tuple[str, ...]) -> RawTable:
    cells = [row[0].strip() for row in _rows(text.split("\n"), "\x1f", name) if row]
    return RawTable(name, ((cells[0], pa.array(cells[1:], pa.string())),), None, notes)


def _read_csv(text: str, delimiter: str, name: str, notes: tuple[str, ...], wanted: Collection[str] | None) -> RawTable:
    header = next(_rows(io.StringIO(text.lstrip("\n")), delimiter, name))
    numbered = [str(i) for i in range(len(header))]
    kept = _kept(header, wanted)
    try:
        table = pa_csv.read_csv(
            io.BytesIO(text.lstrip("\n").encode()),
            # On one thread the message of a mistake has the number of the row.
            read_options=pa_csv.ReadOptions(column_names=numbered, skip_rows_after_names=1, use_threads=False),
            parse_options=pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            # All text: an identifier 007 must stay 007, and a bad number gets its row number.
            convert_options=pa_csv.ConvertOptions(
                column_types=dict.fromkeys(numbered, pa.string()),
                strings_can_be_null=False,
                # The last shows whether a quotation mark is closed.
                include_columns=[numbered[i] for i in dict.fromkeys([*kept, len(header) - 1])],
            ),
        )
    except pa.ArrowInvalid as error:
        raise UsageError(
            f"{name} cannot be read as a table with {len(header)} columns parted by a "
            f"{_DELIMITER_NAMES[delimiter]}: {_without_cells(str(error))}"
        ) from error
    columns = [table[numbered[i]].combine_chunks() for i in kept]
    last = table[numbered[-1]][-1].as_py() if table.num_rows else ""
    if "\n" in last and not text.rstrip("\n").endswith('"'):
        raise UsageError(
            f"{name}: the quotation mark that begins a cell of row {table.num_rows} is not closed, "
            "so that the rows after it would be lost; close it, or remove it"
        )
    stripped = [column.strip() for column in header]
    named = tuple((stripped[i], column) for i, column in zip(kept, columns, strict=True))
    return RawTable(name, named, delimiter, notes, tuple(stripped))


def _without_cells(message: str) -> str:
    """Return Arrow's message without the row that it quotes, which may name a person."""
    found = _RAGGED.search(message)
    if found is None:
        return "its quotation marks or its rows are damaged"
    row = f"row {int(found['line']) - 1} has" if found["line"] else "a row has"
    return f"{row} {found['n']} cells, expected {found['expected']} (the first row is 1)"


def _read_parquet(data: bytes, name: str, wanted: Collection[str] | None) -> RawTable:
    try:
        header = pq.read_schema(io.BytesIO(data)).names
        table = pq.read_table(io.BytesIO(data), columns=[header[i] for i in _kept(header, wanted)])
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{name} cannot be read as Parquet: {error}") from error
    columns = [column.combine_chunks() for column in table.columns]
    plain = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in columns]
    names = [column.strip() for column in table.column_names]
    return RawTable(name, tuple(zip(names, plain, strict=True)), header=tuple(column.strip() for column in header))


def refuse_rows(name: str, bad: pa.Array, what: str, expected: str) -> None:
    """Refuse a table in which rows are wrong, with their numbers; the first row is 1.

    `bad` is (n_rows,) bool; `what` says what is wrong with such a row, and `expected` what was
    expected instead.
    """
    rows = np.flatnonzero(np.asarray(bad)) + 1
    if len(rows):
        shown = ", ".join(map(str, rows[:_ROWS_NAMED])) + (", ..." if len(rows) > _ROWS_NAMED else "")
        raise UsageError(
            f"{name} has {what} in {len(rows)} rows (row {shown}, counted from 1 without the "
            f"header); expected {expected}"
        )
