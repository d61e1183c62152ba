"""Groups of rows, and results with the grouping columns in front, under their own names."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.columns import Columns, TableRefused


def named_columns(names: str | Sequence[str], what: str, *, at_least: int = 0) -> tuple[str, ...]:
    """Return one name or several as a tuple.

    Args:
        names: a column, or a sequence of columns.
        what: the argument, for the message.
        at_least: how many are needed.

    Raises:
        TypeError: neither.
        ValueError: a column is named twice, or there are too few.
    """
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, Sequence):
        raise TypeError(f"{what} is a {type(names).__name__}, expected a column or a list of them")
    if len(set(names)) != len(names):
        raise ValueError(f"{what} is {list(names)}, expected each column once")
    if len(names) < at_least:
        raise ValueError(f"{what} is {list(names)}, expected at least {at_least} columns")
    return tuple(names)


def at_least_two(labels: Sequence[Hashable], names: Sequence[str], n: int) -> None:
    """Refuse a comparison of groups where there is one.

    Raises:
        ValueError: no column makes groups.
        TableRefused: there is one group.
    """
    if not names:
        raise ValueError("by is empty, expected a column that makes the groups")
    if len(labels) < 2:
        raise TableRefused(
            f"column {' and '.join(map(repr, names))} has one group, {labels[0]!r}, over {n} "
            "rows, expected at least two"
        )


def rows_by_group(codes: NDArray[np.int64], n_groups: int) -> list[NDArray[np.int64]]:
    """Return the positions of the rows of each group, in their order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=n_groups))[:-1])


def stack_groups(by: Sequence[str], labels: Sequence[Hashable], parts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Put tables of groups under each other, each row with the label of its group.

    Args:
        by: columns that make the groups.
        labels: one for each group; a tuple with several columns.
        parts: for each group its columns, arrays of one length.

    Returns:
        The table, the columns of `by` first; none for the one group without any.

    Raises:
        ValueError: a name in `by` is also that of a column of the result.
    """
    clash = sorted(set(by) & set(parts[0]))
    if clash:
        raise ValueError(
            f"by names {clash[0]!r}, which is a column of the result; expected another name. Rename the column"
        )
    sizes = [len(next(iter(part.values()))) for part in parts]
    keys = [label if len(by) > 1 else (label,) for label in labels]
    repeated = {
        name: np.repeat(pd.Series([key[place] for key in keys]).to_numpy(), sizes)  # type: ignore[index]
        for place, name in enumerate(by)
    }
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return pd.DataFrame({**repeated, **joined})


def one_row_each(values: Mapping[str, NDArray[Any]]) -> list[dict[str, NDArray[Any]]]:
    """Return columns of values, one for each group, as the tables of single groups."""
    size = len(next(iter(values.values())))
    return [{name: column[[place]] for name, column in values.items()} for place in range(size)]


def rows_by_key(stacked: pd.DataFrame, names: Sequence[str]) -> list[NDArray[np.int64]]:
    """Return the positions of the rows of each combination of values, in order of appearance."""
    if not names:
        return [np.arange(len(stacked))]
    numbers = stacked.groupby(list(names), sort=False, observed=True).ngroup().to_numpy()
    return rows_by_group(numbers.astype(np.int64), int(numbers.max()) + 1)


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are analysed together.

    Attributes:
        keys: value of each grouping column.
        rows: positions of its rows among the kept ones.
        name: for messages, as in "sex = female"; empty without grouping.
    """

    keys: dict[str, Any]
    rows: NDArray[np.int64]
    name: str

    def says(self, message: str) -> str:
        """Return a message that names the group where there is one."""
        return f"{self.name}: {message}" if self.name else message


def split_groups(columns: Columns, by: Sequence[str]) -> list[Group]:
    """Return the rows of each group, in sorted order of the grouping columns.

    Args:
        columns: the kept rows, with the columns of `by` among them.
        by: grouping columns; one group of everybody without any.
    """
    if not by:
        return [Group({}, np.arange(columns.n), "")]
    codes, labels = columns.groups(by)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(1, len(labels)))
    groups = []
    for key, rows in zip(labels, np.split(order, starts), strict=True):
        values = key if len(by) > 1 and isinstance(key, tuple) else (key,)
        keys = dict(zip(by, values, strict=True))
        name = ", ".join(f"{column} = {value}" for column, value in keys.items())
        groups.append(Group(keys, rows, name))
    return groups


def tidy_frame(groups: Sequence[Group], rows: Sequence[dict[str, Any]], by: Sequence[str]) -> pd.DataFrame:
    """Return rows as a table, with the grouping columns first.

    Args:
        groups: group of each row.
        rows: one dict a row.
        by: the grouping columns.

    Raises:
        ValueError: a grouping column has the name of a column of the result.
    """
    frame = pd.DataFrame(list(rows))
    for place, name in enumerate(by):
        if name in frame.columns[place:]:
            raise ValueError(f"by names {name!r}, which the result has itself; rename the column")
        frame.insert(place, name, [group.keys[name] for group in groups])
    return frame
