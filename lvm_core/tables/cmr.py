"""The table of CMR examinations, read by one set of rules for every command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from lvm_core.tables.raw import RawTable, read_raw, refuse_rows
from lvm_core.tables.values import PLACEHOLDER_DATES, date_meaning, identifiers, number_meaning, parse_column

_COLUMNS: Final = ("participant_id", "cmr_date", "lvm_cmr_g")


@dataclass(frozen=True)
class CmrExaminations:
    """CMR examinations with a mass: a row per examination, in the order of the file.

    `table` has participant_id (string), cmr_date (date32, null where unknown) and lvm_cmr_g
    (float64, grams, above 0).
    """

    table: pa.Table
    n_without_mass: int  # rows that were left out because their mass is unknown
    notes: tuple[str, ...] = ()  # what a user should know of how it was read


def read_cmr_table(
    data: bytes, name: str, *, columns: Mapping[str, str] | None = None, date_format: str | None = None
) -> CmrExaminations:
    """Read a table of CMR examinations.

    A row without a mass is no examination: it is left out and counted. A placeholder date such as
    1900-01-01 is an unknown date.

    Args:
        data: CSV or Parquet with participant_id, lvm_cmr_g in grams, and cmr_date where known.
        name: of the table, for messages.
        columns: the table's own names of these columns, where they differ.
        date_format: strptime format of cmr_date, where it is not ISO.

    Raises:
        UsageError: it cannot be read, a column is missing, a row has no participant_id, a person
            is there twice on one date, or a value is no mass or no date; the first row is 1.
    """
    raw = read_raw(data, name)
    own = {column: (columns or {}).get(column, column) for column in _COLUMNS}
    raw.require([its for column, its in own.items() if column != "cmr_date" or column in (columns or {})])
    people, notes = identifiers(raw.find(own["participant_id"]), column_name=own["participant_id"], table=name)
    number = number_meaning(decimal_comma=raw.decimal_comma)
    mass = parse_column(raw.find(own["lvm_cmr_g"]), number, column_name=own["lvm_cmr_g"], table=name)
    days = _days(raw, own["cmr_date"], date_format)
    refuse_rows(name, pc.is_null(people), f"no {own['participant_id']}", "one in each row")
    not_positive = pc.fill_null(pc.less_equal(mass, 0.0), False)
    refuse_rows(name, not_positive, f"{own['lvm_cmr_g']} of 0 g or less", "grams above 0")
    table = pa.table({"participant_id": people, "cmr_date": days, "lvm_cmr_g": mass})
    known = pc.is_valid(mass)
    _refuse_twice(name, table, known)
    kept = table.filter(known)
    n_without = table.num_rows - kept.num_rows
    left_out = (f"{name}: {n_without} rows without {own['lvm_cmr_g']} were left out",) if n_without else ()
    return CmrExaminations(kept, n_without, (*raw.notes, *notes, *left_out))


def _days(raw: RawTable, column_name: str, date_format: str | None) -> pa.Array:
    column = raw.find(column_name)
    if column is None:
        return pa.nulls(raw.n_rows, pa.date32())
    days = parse_column(column, date_meaning(date_format), column_name=column_name, table=raw.name)
    placeholders = pa.array(PLACEHOLDER_DATES, pa.date32())
    return pc.if_else(pc.is_in(days, placeholders), pa.scalar(None, pa.date32()), days)


def _refuse_twice(name: str, table: pa.Table, known: pa.Array) -> None:
    seen: set[tuple[str, object]] = set()
    repeated = []
    rows = zip(table["participant_id"].to_pylist(), table["cmr_date"].to_pylist(), known.to_pylist(), strict=True)
    for person, day, has_mass in rows:
        repeated.append(has_mass and (person, day) in seen)
        if has_mass:
            seen.add((person, day))
    refuse_rows(name, pa.array(repeated, pa.bool_()), "one person on one cmr_date more than once", "once")
