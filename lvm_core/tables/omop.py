"""Participants from the OMOP common data model: PERSON, and body size from MEASUREMENT."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import pyarrow as pa

from lvm_core.errors import UsageError
from lvm_core.tables.layout import CM_PER_UNIT, KG_PER_UNIT
from lvm_core.tables.raw import RawTable
from lvm_core.tables.values import date_meaning, identifiers, number_meaning, parse_column

TABLES: Final = ("person", "measurement")
"""Names of the files, without their suffix."""
_SUFFIXES: Final = ("csv", "tsv", "txt", "parquet", "pq")


class _Quantity(NamedTuple):
    """A kind of measurement: its concept and, for each unit concept, the factor to our unit."""

    concept: int
    factor_of_unit: Mapping[int, float]


# OMOP standard vocabulary (Athena): 3036277 body height, 3025315 body weight, 3038553 body mass
# index; units 8582 cm, 9546 m, 9330 inch, 9529 kg, 8739 pound, 9531 kg/m2.
_QUANTITIES: Final = {
    "height_cm": _Quantity(3036277, {8582: 1.0, 9546: CM_PER_UNIT["m"], 9330: CM_PER_UNIT["in"]}),
    "weight_kg": _Quantity(3025315, {9529: 1.0, 8739: KG_PER_UNIT["lb"]}),
    "bmi_kg_m2": _Quantity(3038553, {9531: 1.0}),
}
_NEEDED: Final = ("person_id", "measurement_concept_id", "measurement_date", "value_as_number", "unit_concept_id")


def table_files(names: Iterable[str], folder: str) -> dict[str, str]:
    """Return which files of a folder hold the tables, by the name of the table.

    Args:
        names: of the files, without their folder.
        folder: its name, for messages.

    Raises:
        UsageError: two files hold one table.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        table, _, suffix = name.lower().rpartition(".")
        if table not in TABLES or suffix not in _SUFFIXES:
            continue
        if table in found:
            raise UsageError(f"{folder} holds {found[table]} and {name}, which are one table; remove one of them")
        found[table] = name
    return found


def person_table(tables: Mapping[str, RawTable], name: str) -> RawTable:
    """Return PERSON with columns height_cm, weight_kg, bmi_kg_m2 and body_size_date added.

    Of each quantity the latest measurement of the person is taken, of those in a known unit; of
    equal dates the last row. `body_size_date` is the older date of height and weight.

    Args:
        tables: `person` and `measurement`.
        name: of the folder, for messages.

    Raises:
        UsageError: a table or a column is missing, or a value is not what its column means.
    """
    absent = [table for table in TABLES if table not in tables]
    if absent:
        raise UsageError(
            f"{name} has no table {' and no table '.join(absent)}; the layout omop expects the "
            "files person and measurement, each as CSV or Parquet"
        )
    person = tables["person"]
    ids = person.find("person_id")
    if ids is None:
        raise UsageError(f"{person.described()}; expected person_id among them")
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

    Also return how many measurements were left out for their unit.
    """
    columns = {column: table.find(column) for column in _NEEDED}
    absent = [column for column, cells in columns.items() if cells is None]
    if absent:
        raise UsageError(f"{table.described()}; expected {', '.join(absent)} among them")
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
