"""The columns of a table that a statistic uses: found, complete, and of the kind it expects.

Every public function of the statistics takes a table and names of columns, and refuses what it
cannot use by the name of the column, with a count and example rows, counted from 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lvm_core.errors import LvmError

Missing = Literal["refuse", "drop"]
_SHOWN: Final = 5


class TableRefused(LvmError, ValueError):
    """A table holds what the statistic cannot use; the message names column, rows and remedy."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of a table that are complete in every column that is used.

    Attributes:
        table: the kept rows, in their order.
        row_numbers: (n,) their positions in the table as given, counted from 0.
        n_dropped_missing: rows left out because a used column was missing.
    """

    table: pd.DataFrame
    row_numbers: NDArray[np.int64]
    n_dropped_missing: int

    @property
    def n(self) -> int:
        """Number of kept rows."""
        return len(self.row_numbers)

    def refuse(self, name: str, bad: NDArray[np.bool_], problem: str, expected: str) -> None:
        """Refuse the table where a row of a column is bad.

        Args:
            name: the column.
            bad: (n,) bool over the kept rows.
            problem: what is wrong with these values, as in "negative values".
            expected: what was expected, and how to mend it.

        Raises:
            TableRefused: any row is bad; with the count, and example rows with their values.
        """
        if bad.any():
            places = np.flatnonzero(bad)
            values = self.table[name].to_numpy()[places[:_SHOWN]]
            shown = _examples(self.row_numbers[places], values)
            raise TableRefused(f"column {name!r} has {len(places)} {problem} ({shown}); expected {expected}")

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, whole numbers or yes/no as float64, all finite.

        Raises:
            TableRefused: the column is of another kind, or a value is infinite.
        """
        column = self.table[name]
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            raise TableRefused(
                f"column {name!r} holds {_kind(column)} (for example {column.iloc[0]!r}), expected "
                f"numbers or yes/no; convert it, or for a category pass "
                f"Category({name!r}, reference=...)"
            )
        if pd.api.types.is_complex_dtype(column):
            raise TableRefused(f"column {name!r} holds complex numbers, expected real ones")
        values = np.array(column.to_numpy(dtype=np.float64), dtype=np.float64)
        self.refuse(name, ~np.isfinite(values), "infinite values", "finite numbers")
        return values

    def varying_numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers that are not all the same."""
        values = self.numbers(name)
        if values.min() == values.max():
            raise TableRefused(
                f"column {name!r} is constant at {values[0]:g} over {self.n} rows, expected at "
                "least two values: leave it out"
            )
        return values

    def times(self, name: str) -> NDArray[np.float64]:
        """Return a column of follow-up times, above 0."""
        values = self.numbers(name)
        self.refuse(
            name,
            values <= 0,
            "negative or zero times",
            "times above 0; exclude and count people without follow-up time first",
        )
        return values

    def entries(self, name: str | None, *, duration: str, exits: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Return a column of entry times, 0 or above and before the exit, or None without one."""
        if name is None:
            return None
        values = self.numbers(name)
        self.refuse(name, values < 0, "negative times", "entry times of 0 or above")
        self.refuse(
            name,
            values >= exits,
            f"entry times at or after the exit in {duration!r}",
            f"entry < {duration}; exclude and count people without follow-up time first",
        )
        return values

    def flags(self, name: str) -> NDArray[np.bool_]:
        """Return a column of yes/no, given as bool or as 0 and 1."""
        values = self.numbers(name)
        self.refuse(
            name,
            (values != 0) & (values != 1),
            "values that are neither 0 nor 1",
            f"yes/no or 0/1; for several causes name one with a comparison, as in table[{name!r}] == 1",
        )
        return np.asarray(values == 1)

    def statuses(self, name: str, causes: Sequence[int]) -> NDArray[np.int64]:
        """Return a column of status codes: 0 for censored, else one of the causes."""
        values = self.numbers(name)
        allowed = sorted({0, *causes})
        self.refuse(
            name,
            ~np.isin(values, allowed),
            "statuses outside the codes",
            f"one of {', '.join(map(str, allowed))}, 0 for censored; pass causes=... for others",
        )
        return values.astype(np.int64)

    def weights(self, name: str | None) -> NDArray[np.float64] | None:
        """Return a column of case weights, above 0, or None without one."""
        if name is None:
            return None
        values = self.numbers(name)
        self.refuse(name, values <= 0, "weights of 0 or less", "weights above 0")
        return values

    def groups(self, names: Sequence[str]) -> tuple[NDArray[np.int64], list[Hashable]]:
        """Return group codes and labels of one or several columns taken together.

        Returns:
            (n,) codes from 0 in sorted order of the labels, and the labels: values for one
            column, tuples for several; one group labelled "all" without columns.
        """
        if not names:
            return np.zeros(self.n, dtype=np.int64), ["all"]
        if len(names) == 1:
            codes, labels = pd.factorize(self.table[names[0]], sort=True)
            return codes.astype(np.int64), [_plain(label) for label in labels]
        grouped = self.table.groupby(list(names), sort=True, observed=True)
        keys: list[Hashable] = grouped.size().index.tolist()
        codes = np.asarray(grouped.ngroup().to_numpy(), dtype=np.int64)
        return codes, keys


def used_columns(table: pd.DataFrame, names: Iterable[str | None], *, missing: Missing = "refuse") -> Columns:
    """Take the columns that a statistic uses, and refuse or drop rows where one is missing.

    Args:
        table: any table.
        names: columns; None and repetitions are skipped.
        missing: "refuse" or "drop"; missing are NaN, None, NaT and pandas' NA.

    Returns:
        The complete rows.

    Raises:
        TypeError: `table` is no DataFrame, or a name is no text.
        ValueError: `missing` is another word.
        TableRefused: a column does not exist or is there twice, is missing somewhere under
            "refuse", or no row is left.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table is a {type(table).__name__}, expected a pandas DataFrame")
    if missing not in ("refuse", "drop"):
        raise ValueError(f"missing is {missing!r}, expected 'refuse' or 'drop'")
    wanted = list(dict.fromkeys(name for name in names if name is not None))
    _check_names(table, wanted)
    absent = np.column_stack([table[name].isna().to_numpy() for name in wanted])
    if missing == "refuse" and absent.any():
        raise TableRefused(_missing_message(wanted, absent))
    keep = ~absent.any(axis=1)
    if not keep.any():
        raise TableRefused(f"no row of {len(table)} is complete in {', '.join(wanted)}; expected at least one")
    n_dropped = int((~keep).sum())
    taken = table[wanted] if n_dropped == 0 else table[wanted][pd.Series(keep, table.index)]
    return Columns(taken, np.flatnonzero(keep), n_dropped)


def _check_names(table: pd.DataFrame, wanted: Sequence[str]) -> None:
    for name in wanted:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is a {type(name).__name__}, expected the name of a column")
        found = int((table.columns == name).sum())
        if found != 1:
            raise TableRefused(
                f"column {name!r} is there {found} times, expected once; the table has "
                f"{', '.join(map(str, table.columns))}"
            )


def _missing_message(names: Sequence[str], absent: NDArray[np.bool_]) -> str:
    parts = [
        f"column {name!r} has {column.sum()} missing values (rows {_row_list(np.flatnonzero(column))})"
        for name, column in zip(names, absent.T, strict=True)
        if column.any()
    ]
    return (
        f"{'; '.join(parts)}; expected complete rows, counted from 0. Leave these rows out and "
        'count them first, or with missing="drop" where the function has it'
    )


def _row_list(rows: NDArray[np.int64]) -> str:
    return ", ".join(map(str, rows[:_SHOWN])) + (" ..." if len(rows) > _SHOWN else "")


def _examples(rows: NDArray[np.int64], values: NDArray[Any]) -> str:
    shown = ", ".join(f"{row}: {value}" for row, value in zip(rows, values, strict=False))
    return f"row {shown}" + (" ..." if len(rows) > _SHOWN else "")


def _kind(column: pd.Series[Any]) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categories"
    return "dates" if pd.api.types.is_datetime64_any_dtype(column) else "text"


def _plain(label: Hashable) -> Hashable:
    """A numpy scalar as Python's own, so that labels print alike."""
    return label.item() if isinstance(label, np.generic) else label


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
