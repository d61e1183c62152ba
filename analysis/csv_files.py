"""CSV files that people open: tables of studies, rows of a query."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

from lvm_core.tables.values import no_formula


def write_csv(table: pd.DataFrame, path: Path, *, encoding: str = "utf-8") -> None:
    """Write a table as CSV without its index; text that would run as a formula is escaped."""
    columns = {place: _without_formulas(table.iloc[:, place]) for place in range(table.shape[1])}
    made = pd.DataFrame(columns, index=table.index)
    made.columns = pd.Index([no_formula(str(name)) for name in table.columns])
    made.to_csv(path, index=False, encoding=encoding)


def _without_formulas(column: pd.Series) -> pd.Series:
    if is_numeric_dtype(column) or is_bool_dtype(column) or is_datetime64_any_dtype(column):
        return column
    # As objects: pandas would turn counts beside missing cells into 19302.0.
    cells = [no_formula(cell) if isinstance(cell, str) else cell for cell in column.astype(object)]
    return pd.Series(cells, index=column.index, dtype=object)
