"""The participant table, read by one set of rules for every command."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from lvm_core.errors import UsageError
from lvm_core.tables import schemas
from lvm_core.tables.layout import CM_PER_UNIT, KEYS, KG_PER_UNIT, OWN_LAYOUT, READ, ParticipantsLayout
from lvm_core.tables.omop import person_table
from lvm_core.tables.raw import RawTable, read_raw
from lvm_core.tables.values import (
    Meaning,
    date_meaning,
    has_day,
    identifiers,
    month_meaning,
    month_number,
    number_meaning,
    parse_column,
    sex_meaning,
)

Source = bytes | Mapping[str, tuple[str, bytes]]
"""A file's content; or, for tables in a folder, by table name the file's name and content."""

MADE_BY_PLANNER: Final = "age_not_at_recording"


@dataclass(frozen=True)
class People:
    """Participants as they were given, read but not yet judged or joined.

    Attributes:
        table: columns of `schemas.PARTICIPANTS`, a row for each row of the file; null where
            unknown. Numbers may be implausible; births may be placeholders.
        raw: the file, for columns that only some commands read.
        layout: how it was read, with its preset filled in.
        notes: what a user should know of how it was read.
    """

    table: pa.Table
    raw: RawTable
    layout: ParticipantsLayout
    notes: tuple[str, ...] = ()


def read_people(
    source: Source, name: str, layout: ParticipantsLayout = OWN_LAYOUT, *, needs_demographics: bool = True
) -> People:
    """Read a participant table.

    Args:
        source: CSV or Parquet; for the preset `omop` the tables `person` and `measurement`.
        name: of the table, for messages.
        layout: what its columns mean.
        needs_demographics: refuse a table that has a key and neither age, sex nor body size; a
            study may follow up people of whom it knows the region alone.

    Raises:
        UsageError: it cannot be read; a key column or a column that the layout names is missing; a
            column is there twice; or a value is not what its column means (the first row is 1).
    """
    full = layout.resolved()
    raw = _raw_table(source, name, full)
    _refuse_missing_columns(raw, layout, full)
    found = {our: raw.find_first(full.names_of(our)) for our in READ}
    _refuse_useless(raw, found, layout, needs_demographics=needs_demographics)
    reader = _Reader(raw, full, found)
    columns = {our: reader.column(our) for our in schemas.PARTICIPANTS.names}
    table = pa.table(columns, schema=schemas.PARTICIPANTS.arrow)
    return People(table, raw, full, (*raw.notes, *reader.notes))


def _raw_table(source: Source, name: str, layout: ParticipantsLayout) -> RawTable:
    if isinstance(source, bytes):
        if layout.preset == "omop":
            raise UsageError(
                f"{name} is a file; the layout omop expects a folder that holds the tables person "
                "and measurement, as CSV or Parquet"
            )
        return read_raw(source, name)
    tables = {key: read_raw(data, f"{name}/{file}") for key, (file, data) in source.items()}
    return person_table(tables, name)


def _refuse_missing_columns(raw: RawTable, given: ParticipantsLayout, full: ParticipantsLayout) -> None:
    absent = [
        f"{our} ({' or '.join(full.names_of(our))})"
        for our in given.columns
        if our in READ and raw.find_first(full.names_of(our)) is None
    ]
    if absent:
        raise UsageError(f"{raw.described()}; the layout names columns that are not there: {', '.join(absent)}")


def _refuse_useless(
    raw: RawTable,
    found: Mapping[str, tuple[str, pa.Array] | None],
    layout: ParticipantsLayout,
    *,
    needs_demographics: bool,
) -> None:
    """Refuse a table without a key, or one that says nothing about anybody."""
    known = [our for our, column in found.items() if column is not None]
    has_key = any(key in known for key in KEYS)
    if has_key and (len(known) > 1 or not needs_demographics) and raw.n_rows:
        return
    is_ukb = any(raw.find(key) is not None for key in ("eid", "f.eid", "participant.eid"))
    hint = (
        "--participants-layout ukb or ukb-rap reads UK Biobank's own names"
        if is_ukb
        else ("other names are given in a file of --participants-layout (docs/people_tables.md)")
    )
    if layout.preset is not None:
        hint = f"was the layout {layout.preset} meant?"
    raise UsageError(
        f"{raw.described()}; expected rows with ecg_id or participant_id and some of birth_date or "
        f"age_years, sex, bmi_kg_m2, height_cm, weight_kg; {hint}"
    )


class _Reader:
    """Reads the columns of one table."""

    def __init__(
        self, raw: RawTable, layout: ParticipantsLayout, found: Mapping[str, tuple[str, pa.Array] | None]
    ) -> None:
        self._raw = raw
        self._layout = layout
        self._found = found
        self.notes: list[str] = []
        decimal_comma = raw.decimal_comma if layout.decimal is None else layout.decimal == ","
        self._number = number_meaning(decimal_comma=decimal_comma)

    def column(self, our: str) -> pa.Array:
        """Return one column of `schemas.PARTICIPANTS`."""
        kind = schemas.PARTICIPANTS.arrow.field(our).type
        if our in KEYS:
            return self._key(our)
        if our == "birth_date":
            return self._births()[0]
        if our == "birth_day_assumed":
            return self._births()[1]
        if our == MADE_BY_PLANNER:
            return pa.array([False] * self._raw.n_rows, kind)
        if our == "sex":
            return self._parsed(our, sex_meaning(self._layout.sex))
        values = pc.multiply(self._parsed(our, self._number), self._factor(our))
        return pc.cast(values, kind, safe=False)

    def _key(self, our: str) -> pa.Array:
        found = self._found[our]
        if found is None:
            return pa.nulls(self._raw.n_rows, pa.string())
        own, column = found
        keys, note = identifiers(column, column_name=own, table=self._raw.name)
        self.notes.extend([note] if note else [])
        return keys

    def _factor(self, our: str) -> float:
        factors = {
            "height_cm": CM_PER_UNIT[self._layout.units.height],
            "weight_kg": KG_PER_UNIT[self._layout.units.weight],
        }
        return factors.get(our, 1.0)

    def _parsed(self, our: str, meaning: Meaning) -> pa.Array:
        found = self._found[our]
        if found is None:
            return pa.nulls(self._raw.n_rows, meaning.type)
        own, column = found
        return parse_column(column, meaning, column_name=own, table=self._raw.name, missing=self._layout.missing_codes)

    def _births(self) -> tuple[pa.Array, pa.Array]:
        """Return births, and whether the day of each was assumed to be the 15th."""
        if self._found["birth_year"] is not None:
            return self._births_of_parts()
        by_month = self._layout.births == "month_and_year"
        make = month_meaning if by_month else _day_of_birth_meaning
        births = self._parsed("birth_date", make(self._layout.date_format))
        found = self._found["birth_date"]
        if found is None or not by_month:
            return births, pa.array([False] * len(births))
        return births, _is_without_day(found[1], births, self._layout.date_format)

    def _births_of_parts(self) -> tuple[pa.Array, pa.Array]:
        month = Meaning(month_number, "a month", pa.int64())
        years, days = (self._parsed(part, self._number).to_pylist() for part in ("birth_year", "birth_day"))
        months = self._parsed("birth_month", month).to_pylist()
        births, assumed = [], []
        for row, (year, number, day) in enumerate(zip(years, months, days, strict=True), start=1):
            known = year is not None and number is not None
            births.append(_birth(self._raw.name, row, year, number, day) if known else None)
            assumed.append(known and day is None)
        return pa.array(births, pa.date32()), pa.array(assumed, pa.bool_())


def _day_of_birth_meaning(date_format: str | None) -> Meaning:
    """Read whole dates of birth, and say what to do where the day is lacking."""
    whole = date_meaning(date_format)

    def parse(text: str) -> Any:
        try:
            return whole.parse(text)
        except ValueError as error:
            kinds = {
                len("1956"): "a year alone, from which no age is computed",
                len("1956-08"): "a month and year: set `births: month_and_year` in the layout to read it as the 15th",
            }
            digits = text.replace("-", "")
            kind = kinds.get(len(text)) if digits.isdecimal() else None
            raise ValueError(kind or f"{error}; other formats are named in the layout") from error

    return Meaning(parse, whole.expected, whole.type)


def _is_without_day(column: pa.Array, births: pa.Array, date_format: str | None) -> pa.Array:
    if not pa.types.is_string(column.type) and not pa.types.is_large_string(column.type):
        return pa.array([False] * len(births))
    if date_format is not None:
        is_assumed = not has_day(date_format)
        return pa.array([is_assumed and birth is not None for birth in births.to_pylist()])
    short = pc.match_substring_regex(pc.utf8_trim_whitespace(column), r"^\d{4}-\d{2}$")
    return pc.fill_null(short, False)


def _birth(table: str, row: int, year: float, month: int, day: float | None) -> dt.date:
    try:
        if year != int(year) or (day is not None and day != int(day)):
            raise ValueError("years and days are whole numbers")
        return dt.date(int(year), month, 15 if day is None else int(day))
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{table}: row {row} has birth year {year:g}, month {month} and day "
            f"{'unknown' if day is None else f'{day:g}'}; expected a date ({error})"
        ) from error


def refuse_duplicate_keys(table: pa.Table, name: str) -> None:
    """Refuse a participant table in which a row has no key, or a key is there twice.

    Raises:
        UsageError: with row numbers; the first row is 1.
    """
    seen: dict[tuple[str, str], int] = {}
    bad: list[str] = []
    pairs = zip(table["ecg_id"].to_pylist(), table["participant_id"].to_pylist(), strict=True)
    for row, (ecg_id, person) in enumerate(pairs, start=1):
        key = ("participant_id", person) if ecg_id is None else ("ecg_id", ecg_id)
        if key[1] is None:
            bad.append(f"row {row} has no key")
        elif key in seen:
            bad.append(f"rows {seen[key]} and {row} have the same {key[0]}")
        else:
            seen[key] = row
    if bad:
        raise UsageError(
            f"{name}: {len(bad)} rows have a key that is missing or repeated; expected one row for "
            f"each ecg_id (or each participant_id where ecg_id is empty): {_first(bad)}"
        )


def _first(texts: Sequence[str]) -> str:
    return "; ".join(texts[:5]) + ("; ..." if len(texts) > 5 else "")
