"""CSV files that people open: tables of studies, rows of a query."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

from lvm_core.tables.values import no_formula


def write_csv(table: pd.DataFrame, path: Path, *, encoding: str = "utf-8") -> None:
    """Write a table as CSV without its index; text that would run as a formula is escaped."""
    write_csv_in_parts([table], path, encoding=encoding)


def write_csv_in_parts(tables: Iterable[pd.DataFrame], path: Path, *, encoding: str = "utf-8") -> None:
    """Write tables of the same columns as one CSV, as `write_csv` does; one is in memory at a time.

    Raises:
        ValueError: a table has other columns than the first.
    """
    head: list[str] = []
    with path.open("w", encoding=encoding, newline="") as file:
        for number, table in enumerate(tables):
            made = _escaped(table)
            if number and list(made.columns) != head:
                raise ValueError(f"part {number} of {path.name} has columns {list(made.columns)}, expected {head}")
            head = list(made.columns)
            made.to_csv(file, index=False, header=not number)


def _escaped(table: pd.DataFrame) -> pd.DataFrame:
    columns = {place: _without_formulas(table.iloc[:, place]) for place in range(table.shape[1])}
    made = pd.DataFrame(columns, index=table.index)
    made.columns = pd.Index([no_formula(str(name)) for name in table.columns])
    return made


def _without_formulas(column: pd.Series) -> pd.Series:
    if is_numeric_dtype(column) or is_bool_dtype(column) or is_datetime64_any_dtype(column):
        return column
    # As objects: pandas would turn counts beside missing cells into 19302.0.
    cells = [no_formula(cell) if isinstance(cell, str) else cell for cell in column.astype(object)]
    return pd.Series(cells, index=column.index, dtype=object)
