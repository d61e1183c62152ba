"""What a cell of a table means: unknown values, numbers, dates, sex, identifiers; safe cells."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lvm_core.errors import UsageError, shown_cell
from lvm_core.medicine.lvh import parse_sex

UNKNOWN_TEXTS: Final = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "unknown", "missing", "."})
"""Texts that mean "unknown", in lower case, without blanks around. `#N/A` is Excel's, `.` is SAS's
and Stata's, `<NA>` is pandas'."""

# UK Biobank's special dates, data-coding 272 and 819: they mean "unknown" here.
PLACEHOLDER_DATES: Final = tuple(
    dt.date.fromisoformat(text)
    for text in ("1900-01-01", "1901-01-01", "1902-02-02", "1903-03-03", "1909-09-09", "2037-07-07")
)
PLACEHOLDER_MONTHS: Final = tuple(day.replace(day=15) for day in PLACEHOLDER_DATES)
"""The same as dates of which only month and year are known, which are read as the 15th."""

_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d*,\d+", re.ASCII)
_ISO_DATE: Final = re.compile(r"(\d{4}-\d{2}-\d{2})([T ].*)?", re.ASCII)
_MONTH_AND_YEAR: Final = re.compile(r"(\d{4})-(\d{2})", re.ASCII)
_DAY: Final = re.compile(r"%-?[dj]|%[DFcx]")
WHOLE: Final = r"^-?\d+\.0+$"
"""Whole numbers with a decimal point, as 1001.0; also a regular expression of Arrow and DuckDB."""
SCIENTIFIC: Final = r"^[+-]?\d+([eE][+-]\d+|[.,]\d+[eE][+-]?\d+)$"
"""Numbers in scientific notation, as 1.0E+06 and 1e+06, but not 12345e67, which is the beginning of
many a digest; also for Arrow and DuckDB."""
_MONTHS: Final = ("january february march april may june july august september october november december").split()
# Floats hold every whole number up to these; beyond them two identifiers can become one.
_LARGEST_WHOLE: Final = {pa.float32(): 2**24, pa.float64(): 2**53}
_SHOWN: Final = 5
_FORMULA_START: Final = re.compile(r"[=@+\-\t\r]")
_AMOUNT: Final = r"[+-]?(?:\d[\d,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?: ?%)?"
_ESTIMATE: Final = re.compile(rf"{_AMOUNT}(?: \({_AMOUNT}(?: to {_AMOUNT})?\))?")


@dataclass(frozen=True, slots=True)
class Meaning:
    """How the cells of one column are read."""

    parse: Callable[[str], Any]  # reads a text that is not unknown; raises ValueError that says what was expected
    expected: str  # what the column holds, for the message
    type: pa.DataType  # Arrow type of the result


def is_unknown(text: str, missing: frozenset[str] = frozenset()) -> bool:
    """Return whether the text of a cell means "unknown"; a code -1 of `missing` is also -1.0."""
    stripped = text.strip()
    return stripped.lower() in UNKNOWN_TEXTS or whole_text(stripped) in missing


def number_meaning(*, decimal_comma: bool) -> Meaning:
    """Return how finite numbers are read; `decimal_comma` allows 103,6 beside 103.6."""

    def parse(text: str) -> float:
        if decimal_comma and _DECIMAL_COMMA.fullmatch(text):
            text = text.replace(",", ".")
        if not _NUMBER.fullmatch(text):
            if _DECIMAL_COMMA.fullmatch(text):
                raise ValueError("a decimal comma: set `decimal: ','` in the layout")
            raise ValueError("expected a number such as 103.6")
        return float(text)

    return Meaning(parse, "a number", pa.float64())


def date_meaning(date_format: str | None = None) -> Meaning:
    """Return how dates are read: YYYY-MM-DD, also with a time behind it, or one strptime format."""

    def parse(text: str) -> dt.date:
        if date_format is not None:
            return dt.datetime.strptime(text, date_format).date()
        match = _ISO_DATE.fullmatch(text)
        if match is None:
            raise ValueError("expected YYYY-MM-DD")
        return dt.date.fromisoformat(match[1])

    expected = "a date as YYYY-MM-DD" if date_format is None else f"a date as {date_format}"
    return Meaning(parse, expected, pa.date32())


def month_meaning(date_format: str | None = None) -> Meaning:
    """Return how births are read of which month and year are known: the 15th of the month.

    A whole date stays as it is. A year alone is refused.
    """
    whole = date_meaning(date_format)

    def parse(text: str) -> dt.date:
        match = _MONTH_AND_YEAR.fullmatch(text)
        if match is not None and date_format is None:
            return dt.date(int(match[1]), int(match[2]), 15)
        day: dt.date = whole.parse(text)
        return day if date_format is None or has_day(date_format) else day.replace(day=15)

    return Meaning(parse, "a month and year as YYYY-MM, or a date", pa.date32())


def has_day(date_format: str) -> bool:
    """Return whether dates of a strptime format have a day."""
    return _DAY.search(date_format) is not None


def sex_meaning(codes: Mapping[str, str]) -> Meaning:
    """Return how the sex is read.

    `codes` says what the codes of the table mean, as `{"0": "female", "1": "male"}`. The words
    female, f, male and m are known without.
    """

    def parse(text: str) -> str:
        sex = parse_sex(codes.get(whole_text(text), text))
        if sex is None:
            raise ValueError(
                "expected female or male; the layout says what codes mean, for example `sex: {0: female, 1: male}`"
            )
        return sex.value

    return Meaning(parse, "female or male", pa.string())


def month_number(text: str) -> int:
    """Return the number of a month, given as number or English name; raise ValueError otherwise."""
    name = text.strip().lower()
    numbers = [i for i, month in enumerate(_MONTHS, 1) if len(name) >= 3 and month.startswith(name)]
    number = float(numbers[0] if len(numbers) == 1 else name)
    if number not in range(1, 13):
        raise ValueError("expected a month from 1 to 12")
    return int(number)


def whole_text(text: str) -> str:
    """Return `1.0` as `1`; other texts as they are."""
    return text.partition(".")[0] if re.match(WHOLE, text) else text


def parse_column(
    column: pa.Array, meaning: Meaning, *, column_name: str, table: str, missing: frozenset[str] = frozenset()
) -> pa.Array:
    """Return a column with its cells read; null where a cell is unknown.

    The cells are texts, or numbers and dates as Parquet has them. `missing` holds further codes
    that mean "unknown"; `column_name` and `table` are names for messages. A UsageError refuses
    values that are not what the column means, with row numbers (the first row is 1), and dates
    with a time zone.
    """
    if meaning.type == pa.date32() and getattr(column.type, "tz", None) is not None:
        raise UsageError(
            f"{table}: column {column_name} has a time zone, which would move dates to another "
            "day; expected local dates or times without one"
        )
    ready = _ready(column, meaning, missing)
    if ready is not None:
        return ready
    encoded = pc.dictionary_encode(cell_texts(column))
    values: list[Any] = []
    bad: dict[int, tuple[str, str]] = {}
    for place, given in enumerate(encoded.dictionary.to_pylist()):
        text = given.strip()
        values.append(None)
        if is_unknown(text, missing):
            continue
        try:
            values[-1] = meaning.parse(text)
        except ValueError as error:
            bad[place] = text, str(error)
    if bad:
        raise _misread(encoded.indices, bad, meaning.expected, column_name, table)
    return pa.array(values, meaning.type).take(encoded.indices)


def _ready(column: pa.Array, meaning: Meaning, missing: frozenset[str]) -> pa.Array | None:
    """Return numbers and dates of Parquet as they are; None for what must be read cell by cell."""
    kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), meaning.type)
    if meaning.type == pa.date32() and (pa.types.is_date(kind) or pa.types.is_timestamp(kind)):
        return pc.cast(column, pa.date32(), safe=False)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if meaning.type == pa.float64() and is_number and not missing:
        numbers = pc.cast(column, pa.float64(), safe=False)
        return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))
    return None


def cell_texts(column: pa.Array) -> pa.Array:
    """Return the cells as texts; whole numbers without a decimal point."""
    if pa.types.is_floating(column.type):
        cells = [None if v is None else whole_text(repr(v)) for v in column.to_pylist()]
        return pa.array(cells, pa.string())
    if pa.types.is_boolean(column.type) or pa.types.is_temporal(column.type):
        return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
    return pc.cast(column, pa.string())


def _misread(
    indices: pa.Array, bad: Mapping[int, tuple[str, str]], expected: str, column_name: str, table: str
) -> UsageError:
    places = np.asarray(pc.fill_null(indices, -1))
    rows = np.flatnonzero(np.isin(places, list(bad)))
    first = [(row + 1, *bad[int(places[row])]) for row in rows[:_SHOWN].tolist()]
    shown = "; ".join(f"row {row}: {shown_cell(text)!r}" for row, text, _ in first)
    reasons = "; ".join(dict.fromkeys(reason for _, _, reason in first))
    return UsageError(
        f"{table}: column {column_name} has {len(rows)} values that are not {expected}, an empty "
        f"cell or 'Unknown' ({shown}{'; ...' if len(rows) > _SHOWN else ''}): {reasons}"
    )


def identifiers(column: pa.Array, *, column_name: str, table: str) -> tuple[pa.Array, tuple[str, ...]]:
    """Return identifiers as text without blanks around, null where the cell is unknown, and notes.

    A column of whole numbers that pandas or a spreadsheet wrote with a decimal point (1001.0 in
    every row) loses the point, and a note says so. Identifiers are compared as text: 007 is not 7.

    Raises:
        UsageError: an identifier is a fraction, a number too large for floats, in scientific
            notation, or only some of the identifiers end in .0.
    """
    where = f"{table}: column {column_name}"
    dropped = (f"{where} holds whole numbers with a decimal point; 1001.0 is read as 1001",)
    if pa.types.is_floating(column.type):
        return _whole_identifiers(column, where), dropped
    texts = pc.utf8_trim_whitespace(cell_texts(column))
    unknown = pc.is_in(pc.utf8_lower(texts), pa.array(sorted(UNKNOWN_TEXTS)))
    texts = pc.if_else(unknown, pa.scalar(None, pa.string()), texts)
    known = pc.drop_null(texts)
    scientific = _count(known, SCIENTIFIC)
    if scientific:
        raise UsageError(
            f"{where} holds {scientific} numbers in scientific notation, which a spreadsheet "
            "writes and which lose digits; expected identifiers as text. Export the column as text"
        )
    whole = _count(known, WHOLE)
    if whole and whole < len(known):
        raise UsageError(
            f"{where} holds {whole} identifiers with a decimal point (as 1001.0) among "
            f"{len(known)}; expected all of them with or all without. Write the column as text"
        )
    if whole:
        return pc.replace_substring_regex(texts, r"\.0+$", ""), dropped
    return texts, ()


def _whole_identifiers(column: pa.Array, where: str) -> pa.Array:
    values = np.asarray(pc.fill_null(pc.cast(column, pa.float64()), np.nan))
    known = values[np.isfinite(values)]
    largest = _LARGEST_WHOLE.get(column.type, 2**11)
    n_fractions = int(np.count_nonzero(known != np.floor(known)))
    n_large = int(np.count_nonzero(np.abs(known) > largest))
    if n_fractions or n_large:
        what = f"{n_fractions} fractions" if n_fractions else f"{n_large} numbers above {largest:,}"
        raise UsageError(
            f"{where} holds {what}; expected identifiers as text or whole numbers. Convert the "
            "column to text before the table is written"
        )
    return pa.array([str(int(v)) if np.isfinite(v) else None for v in values], pa.string())


def _count(texts: pa.Array, pattern: str) -> int:
    return int(pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0)


def no_formula(text: str) -> str:
    """Return text that spreadsheets show as it is: an apostrophe is put before a formula.

    A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return as a
    formula, which may start programs. Numbers, and estimates such as `-0.5 (-1.0 to 0.1)`, stay as
    they are.

    Source:
        OWASP, CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection
    """
    if not _FORMULA_START.match(text) or _ESTIMATE.fullmatch(text):
        return text
    return f"'{text}"
