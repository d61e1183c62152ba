"""Secondary suppression: hide more counts until no sum tells one that is hidden."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.report.aggregates import Aggregate, ColumnsAddUp, RowsAddUp

Cells = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Table:
    """An aggregate whose small counts are known.

    Attributes:
        aggregate: with its sums and the identity of its counts.
        rows: those that may stay, numbered from 0.
        small: of the count columns, True where a count is to be hidden.
    """

    aggregate: Aggregate
    rows: pd.DataFrame
    small: pd.DataFrame


def hide_partners(tables: Sequence[Table], k: int) -> list[pd.DataFrame]:
    """Hide counts until every sum has no hidden part, or several that are not few together.

    What the hidden parts of a sum are together follows from the shown ones, nearly: that must not
    be a small count either. The next part to be hidden is the smallest that is not 0. Counts of
    one identity and one value are one count, wherever they stand.

    Args:
        tables: whose small counts are known.
        k: fewest people or events that may be known.

    Returns:
        For each table, of the shape of `small`, True where a count is hidden.
    """
    starts = np.cumsum([0, *(table.small.size for table in tables)])
    values = np.concatenate([np.zeros(0), *(_values(table) for table in tables)])
    small = [table.small.to_numpy(dtype=bool).ravel() for table in tables]
    hidden = np.concatenate([np.zeros(0, dtype=bool), *small])
    same = _same_counts(tables, starts, values)
    sums = [
        start + cells
        for table, start in zip(tables, starts[:-1], strict=True)
        for cells in _sums(table)
    ]
    changed = True
    while changed:
        before = hidden.sum()
        for cells in same:
            hidden[cells] = hidden[cells].any()
        for cells in sums:
            _hide_partners_of(cells, values, hidden, k)
        changed = hidden.sum() > before
    return [
        pd.DataFrame(
            hidden[start : start + table.small.size].reshape(table.small.shape),
            table.small.index, table.small.columns,
        )
        for table, start in zip(tables, starts[:-1], strict=True)
    ]  # fmt: skip


def _hide_partners_of(
    cells: Cells, values: NDArray[np.float64], hidden: NDArray[np.bool_], k: int
) -> None:
    parts = cells[values[cells] > 0]
    away = hidden[parts]
    n_away, together = int(away.sum()), float(values[parts[away]].sum())
    for part in sorted(parts[~away], key=lambda cell: float(values[cell])):
        if not n_away or (n_away > 1 and together >= k):
            return
        hidden[part] = True
        n_away, together = n_away + 1, together + float(values[part])


def _values(table: Table) -> NDArray[np.float64]:
    counts = table.rows[list(table.small.columns)].apply(pd.to_numeric)
    return np.asarray(counts.to_numpy(dtype=float, na_value=np.nan).ravel())


def _same_counts(
    tables: Sequence[Table], starts: NDArray[np.intp], values: NDArray[np.float64]
) -> list[Cells]:
    """The cells of each count that stands in several places."""
    places: dict[tuple[str, float], list[int]] = {}
    for table, start in zip(tables, starts[:-1], strict=True):
        n_columns = table.small.shape[1]
        for name, identities in table.aggregate.identities.items():
            column = list(table.small.columns).index(name)
            for row, identity in enumerate(identities):
                cell = int(start) + row * n_columns + column
                if identity and values[cell] > 0:
                    places.setdefault((identity, float(values[cell])), []).append(cell)
    return [np.array(cells) for cells in places.values() if len(cells) > 1]


def _sums(table: Table) -> list[Cells]:
    """The cells that each sum of a table ties together, its total among them."""
    names = list(table.small.columns)
    made = []
    for one in table.aggregate.sums:
        if isinstance(one, ColumnsAddUp):
            columns = [names.index(name) for name in (one.total, *one.parts)]
            made += [np.array(columns) + row * len(names) for row in range(len(table.rows))]
        else:
            made += _of_rows(table, one, names)
    return made


def _of_rows(table: Table, one: RowsAddUp, names: list[str]) -> list[Cells]:
    by = [table.rows[name] for name in one.within] or [pd.Series(0, table.rows.index)]
    groups = table.rows.groupby(by, sort=False, dropna=False).indices.values()
    columns = [names.index(name) for name in one.counts]
    return [np.asarray(rows) * len(names) + column for rows in groups for column in columns]
