"""The participant table, read by one set of rules for every command; OMOP tables become one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from lvm_core.errors import UsageError
from lvm_core.tables import schemas
from lvm_core.tables.layout import CM_PER_UNIT, KEYS, KG_PER_UNIT, OWN_LAYOUT, READ, ParticipantsLayout
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

_OMOP_TABLES: Final = ("person", "measurement")
_OMOP_SUFFIXES: Final = ("csv", "tsv", "txt", "parquet", "pq")


class _BodySize(NamedTuple):
    """A kind of measurement: its concept and, for each unit concept, the factor to our unit."""

    concept: int
    factor_of_unit: Mapping[int, float]


# OMOP standard vocabulary (Athena): 3036277 body height, 3025315 body weight, 3038553 body mass
# index; units 8582 cm, 9546 m, 9330 inch, 9529 kg, 8739 pound, 9531 kg/m2.
_QUANTITIES: Final = {
    "height_cm": _BodySize(3036277, {8582: 1.0, 9546: CM_PER_UNIT["m"], 9330: CM_PER_UNIT["in"]}),
    "weight_kg": _BodySize(3025315, {9529: 1.0, 8739: KG_PER_UNIT["lb"]}),
    "bmi_kg_m2": _BodySize(3038553, {9531: 1.0}),
}
BODY_SIZE_CONCEPTS: Final = frozenset(one.concept for one in _QUANTITIES.values())
"""Concepts of OMOP's measurements that are read."""
_OF_MEASUREMENT: Final = (
    "person_id",
    "measurement_concept_id",
    "measurement_date",
    "value_as_number",
    "unit_concept_id",
)


@dataclass(frozen=True)
class People:
    """Participants as they were given, read but not yet judged or joined.

    `table` has the columns of `schemas.PARTICIPANTS` and a row for each row of the file; null where
    unknown. Numbers may be implausible; births may be placeholders.
    """

    table: pa.Table
    raw: RawTable  # the file, for columns that only some commands read
    layout: ParticipantsLayout  # how it was read, with its preset filled in
    notes: tuple[str, ...] = ()  # what a user should know of how it was read


def read_people(
    source: Source, name: str, layout: ParticipantsLayout = OWN_LAYOUT, *, needs_demographics: bool = True
) -> People:
    """Read a participant table.

    Args:
        source: CSV or Parquet; for the preset `omop` the tables `person` and `measurement`.
        name: of the table, for messages.
        layout: what its columns mean.
        needs_demographics: refuse a table that has a key and neither age, sex nor body size; a
            study may know nothing but the region of the people that it follows up.

    Raises:
        UsageError: it cannot be read; a key column or a column that the layout names is missing; a
            column is there twice; or a value is not what its column means (the first row is 1).
    """
    full = layout.resolved()
    raw = _raw_table(source, name, full)
    _refuse_missing_columns(raw, layout, full)
    found = {our: raw.find_first(full.names_of(our)) for our in READ}
    _refuse_useless(raw, found, layout, needs_demographics=needs_demographics)
    table, notes = read_columns(raw, full)
    return People(table, raw, full, (*raw.notes, *notes))


def read_columns(raw: RawTable, full: ParticipantsLayout) -> tuple[pa.Table, tuple[str, ...]]:
    """Return the columns of `schemas.PARTICIPANTS` that a table holds, and notes for the user.

    `full` is a layout with its preset filled in; what the table lacks is null. A `UsageError`
    refuses values that are not what their column means.
    """
    reader = _Reader(raw, full, {our: raw.find_first(full.names_of(our)) for our in READ})
    columns = {our: reader.column(our) for our in schemas.PARTICIPANTS.names}
    return pa.table(columns, schema=schemas.PARTICIPANTS.arrow), (*reader.notes,)


def _raw_table(source: Source, name: str, layout: ParticipantsLayout) -> RawTable:
    if isinstance(source, bytes):
        if layout.preset == "omop":
            raise UsageError(
                f"{name} is a file; the layout omop expects a folder that holds the tables person "
                "and measurement, as CSV or Parquet"
            )
        return read_raw(source, name)
    tables = {key: read_raw(data, f"{name}/{file}") for key, (file, data) in source.items()}
    return _omop_table(tables, name)


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
        units = self._layout.units
        factors = {"height_cm": CM_PER_UNIT[units.height], "weight_kg": KG_PER_UNIT[units.weight]}
        values = pc.multiply(self._parsed(our, self._number), factors.get(our, 1.0))
        return pc.cast(values, kind, safe=False)

    def _key(self, our: str) -> pa.Array:
        found = self._found[our]
        if found is None:
            return pa.nulls(self._raw.n_rows, pa.string())
        own, column = found
        keys, notes = identifiers(column, column_name=own, table=self._raw.name)
        self.notes.extend(notes)
        return keys

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
        shown = "; ".join(bad[:5]) + ("; ..." if len(bad) > 5 else "")
        raise UsageError(
            f"{name}: {len(bad)} rows have a key that is missing or repeated; expected one row for "
            f"each ecg_id (or each participant_id where ecg_id is empty): {shown}"
        )


def table_files(names: Iterable[str], folder: str) -> dict[str, str]:
    """Return which files of a folder hold OMOP's tables, by the name of the table.

    Raises:
        UsageError: two files hold one table.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        table, _, suffix = name.lower().rpartition(".")
        if table not in _OMOP_TABLES or suffix not in _OMOP_SUFFIXES:
            continue
        if table in found:
            raise UsageError(f"{folder} holds {found[table]} and {name}, which are one table; remove one of them")
        found[table] = name
    return found


def _omop_table(tables: Mapping[str, RawTable], name: str) -> RawTable:
    """Return OMOP's PERSON with columns height_cm, weight_kg, bmi_kg_m2 and body_size_date added.

    Of each quantity the latest measurement of the person is taken, of those in a known unit; of
    equal dates the last row. `body_size_date` is the older date of height and weight.
    """
    absent = [table for table in _OMOP_TABLES if table not in tables]
    if absent:
        raise UsageError(
            f"{name} has no table {' and no table '.join(absent)}; the layout omop expects the "
            "files person and measurement, each as CSV or Parquet"
        )
    person = tables["person"]
    ids = person.require(["person_id"])["person_id"]
    keys = identifiers(ids, column_name="person_id", table=person.name)[0].to_pylist()
    latest, n_other_unit = _latest(tables["measurement"])
    made: dict[str, list[Any]] = {quantity: [] for quantity in _QUANTITIES}
    dates: list[dt.date | None] = []
    for key in keys:
        known = {q: latest.get((key, q)) for q in _QUANTITIES}
        for quantity, found in known.items():
            made[quantity].append(None if found is None else found[1])
        of_size = [known[q] for q in ("height_cm", "weight_kg")]
        days = [found[0] for found in of_size if found is not None]
        dates.append(min(days) if len(days) == 2 else None)
    added = [(quantity, pa.array(values, pa.float64())) for quantity, values in made.items()]
    columns = (*person.columns, *added, ("body_size_date", pa.array(dates, pa.date32())))
    notes = [*person.notes, *tables["measurement"].notes]
    if n_other_unit:
        notes.append(
            f"{n_other_unit} measurements of body size in {tables['measurement'].name} have "
            "another unit than cm, m, inch, kg, pound or kg/m2 and were not used"
        )
    return RawTable(name, columns, person.delimiter, tuple(notes))


def _latest(table: RawTable) -> tuple[dict[tuple[str, str], tuple[dt.date, float]], int]:
    """Return (date, value) of the latest measurement by person and quantity.

    Also return the number of measurements that were left out because of their unit.
    """
    columns = table.require(_OF_MEASUREMENT)
    number = number_meaning(decimal_comma=table.decimal_comma)
    meanings = {
        "measurement_concept_id": number,
        "measurement_date": date_meaning(),
        "value_as_number": number,
        "unit_concept_id": number,
    }
    person = identifiers(columns["person_id"], column_name="person_id", table=table.name)[0]
    read = [
        parse_column(columns[column], meaning, column_name=column, table=table.name).to_pylist()
        for column, meaning in meanings.items()
    ]
    by_concept = {quantity.concept: name for name, quantity in _QUANTITIES.items()}
    latest: dict[tuple[str, str], tuple[dt.date, float]] = {}
    n_other_unit = 0
    for key, concept, day, value, unit in zip(person.to_pylist(), *read, strict=True):
        name = by_concept.get(concept)
        if name is None or key is None or day is None or value is None:
            continue
        factor = _QUANTITIES[name].factor_of_unit.get(unit)
        if factor is None:
            n_other_unit += 1
        elif (key, name) not in latest or latest[key, name][0] <= day:
            latest[key, name] = (day, value * factor)
    return latest, n_other_unit
