"""Printed tables, whose heads and groups span cells, as plain rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GROUP: Final = "group of rows"
"""Name of the first column where rows stand under headings of their own."""


@dataclass(frozen=True, slots=True)
class Spanning:
    """A cell of a printed table."""

    text: str
    n_rows: int = 1
    n_columns: int = 1


def plain(rows: list[list[Spanning]], n_heads: int) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and the rows of a printed table.

    `n_heads` rows are heads, whose texts are joined column by column. A row of one cell across the
    table is the heading of those below it: it becomes their first cell, and is no row.
    """
    grid = _filled(rows)
    width = max(map(len, grid), default=0)
    padded = [row + [""] * (width - len(row)) for row in grid]
    heads = [" ".join(dict.fromkeys(filter(None, column))) for column in zip(*padded[:n_heads], strict=True)]
    body: list[list[str]] = []
    group, is_grouped = "", False
    for cells, row in zip(rows[n_heads:], padded[n_heads:], strict=True):
        if len(cells) == 1 and width > 1:
            group, is_grouped = cells[0].text, True
        else:
            body.append([group, *row])
    if is_grouped:
        return [GROUP, *heads], body
    return heads, [row[1:] for row in body]


def _filled(rows: list[list[Spanning]]) -> list[list[str]]:
    """Repeat each text in all places that its cell covers."""
    grid: list[list[str]] = []
    waiting: dict[int, tuple[int, str]] = {}  # by column: rows that a cell above still covers
    for cells in rows:
        made: list[str] = []
        own = iter(cells)
        while True:
            if len(made) in waiting:
                left, text = waiting.pop(len(made))
                if left > 1:
                    waiting[len(made)] = (left - 1, text)
                made.append(text)
                continue
            cell = next(own, None)
            if cell is None:
                break
            for _ in range(cell.n_columns):
                if cell.n_rows > 1:
                    waiting[len(made)] = (cell.n_rows - 1, cell.text)
                made.append(cell.text)
        grid.append(made)
    return grid
