"""The columns of a table that a statistic uses, checked; and the groups that columns make.

Every public function of the statistics takes a table and names of columns. It refuses what it
cannot use with a `TableRefused` that names the column, with a count and example rows, counted
from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from lvm_core.errors import LvmError

Floats = NDArray[np.float64]
Missing = Literal["refuse", "drop"]
_SHOWN: Final = 5


class TableRefused(LvmError, ValueError):
    """A table holds what the statistic cannot use; the message names column, rows and remedy."""


# Which columns


def named_columns(names: str | Sequence[str], what: str, *, at_least: int = 0) -> tuple[str, ...]:
    """Return one name or several as a tuple; `what` is the argument, for messages."""
    if isinstance(names, str):
        names = (names,)
    if not isinstance(names, Sequence):
        raise TypeError(f"{what} is a {type(names).__name__}, expected a column or a list of them")
    if len(set(names)) != len(names):
        raise ValueError(f"{what} is {list(names)}, expected each column once")
    if len(names) < at_least:
        raise ValueError(f"{what} is {list(names)}, expected at least {at_least} columns")
    return tuple(names)


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
    for name in wanted:
        if not isinstance(name, str):
            raise TypeError(f"{name!r} is a {type(name).__name__}, expected the name of a column")
        found = int((table.columns == name).sum())
        if found != 1:
            raise TableRefused(
                f"column {name!r} occurs {found} times, expected once; the table has "
                f"{', '.join(map(str, table.columns))}"
            )
    absent = np.column_stack([table[name].isna().to_numpy() for name in wanted])
    if missing == "refuse" and absent.any():
        raise TableRefused(_missing_message(wanted, absent))
    keep = ~absent.any(axis=1)
    if not keep.any():
        raise TableRefused(f"no row of {len(table)} is complete in {', '.join(wanted)}; expected at least one")
    n_dropped = int((~keep).sum())
    taken = table[wanted] if n_dropped == 0 else table[wanted][pd.Series(keep, table.index)]
    return Columns(taken, np.flatnonzero(keep), n_dropped)


def _missing_message(names: Sequence[str], absent: NDArray[np.bool_]) -> str:
    parts = []
    for name, column in zip(names, absent.T, strict=True):
        if column.any():
            rows = ", ".join(map(str, np.flatnonzero(column)[:_SHOWN])) + (" ..." if column.sum() > _SHOWN else "")
            parts.append(f"column {name!r} has {column.sum()} missing values (rows {rows})")
    return (
        f"{'; '.join(parts)}; expected complete rows, counted from 0. Leave these rows out and "
        'count them first, or with missing="drop" where the function has it'
    )


# What they hold


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of a table that are complete in every column that is used."""

    table: pd.DataFrame  # the kept rows, in their order
    row_numbers: NDArray[np.int64]  # (n,) their positions in the table as given, counted from 0
    n_dropped_missing: int  # rows left out because a used column was missing

    @property
    def n(self) -> int:
        """Number of kept rows."""
        return len(self.row_numbers)

    def refuse(self, name: str, bad: NDArray[np.bool_], problem: str, expected: str) -> None:
        """Refuse the table where any of the (n,) rows of a column is bad, with example rows.

        `problem` says what is wrong, as in "negative values"; `expected` what would be right, and
        how to mend it.
        """
        if bad.any():
            places = np.flatnonzero(bad)
            values = self.table[name].to_numpy()
            rows = ", ".join(f"{self.row_numbers[place]}: {values[place]}" for place in places[:_SHOWN])
            more = " ..." if len(places) > _SHOWN else ""
            raise TableRefused(f"column {name!r} has {len(places)} {problem} (row {rows}{more}); expected {expected}")

    def numbers(self, name: str) -> Floats:
        """Return a column of numbers, whole numbers or yes/no as float64, all finite."""
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

    def varying_numbers(self, name: str) -> Floats:
        """Return a column of numbers that are not all the same."""
        values = self.numbers(name)
        if values.min() == values.max():
            raise TableRefused(
                f"column {name!r} is constant at {values[0]:g} over {self.n} rows, expected at "
                "least two values: leave it out"
            )
        return values

    def times(self, name: str) -> Floats:
        """Return a column of follow-up times, above 0."""
        values = self.numbers(name)
        expected = "times above 0; exclude and count people without follow-up time first"
        self.refuse(name, values <= 0, "negative or zero times", expected)
        return values

    def entries(self, name: str | None, *, duration: str, exits: Floats) -> Floats | None:
        """Return a column of entry times, 0 or above and before the exit, or None without one."""
        if name is None:
            return None
        values = self.numbers(name)
        self.refuse(name, values < 0, "negative times", "entry times of 0 or above")
        problem = f"entry times at or after the exit in {duration!r}"
        expected = f"entry < {duration}; exclude and count people without follow-up time first"
        self.refuse(name, values >= exits, problem, expected)
        return values

    def flags(self, name: str) -> NDArray[np.bool_]:
        """Return a column of yes/no, given as bool or as 0 and 1."""
        values = self.numbers(name)
        expected = f"yes/no or 0/1; for several causes name one with a comparison, as in table[{name!r}] == 1"
        self.refuse(name, (values != 0) & (values != 1), "values that are neither 0 nor 1", expected)
        return np.asarray(values == 1)

    def statuses(self, name: str, causes: Sequence[int]) -> NDArray[np.int64]:
        """Return a column of status codes: 0 for censored, else one of the causes."""
        values = self.numbers(name)
        allowed = sorted({0, *causes})
        expected = f"one of {', '.join(map(str, allowed))}, 0 for censored; pass causes=... for others"
        self.refuse(name, ~np.isin(values, allowed), "statuses outside the codes", expected)
        return values.astype(np.int64)

    def weights(self, name: str | None) -> Floats | None:
        """Return a column of case weights, above 0, or None without one."""
        if name is None:
            return None
        values = self.numbers(name)
        self.refuse(name, values <= 0, "weights of 0 or less", "weights above 0")
        return values

    def risks(self, name: str) -> Floats:
        """Return a column of probabilities, from 0 to 1."""
        values = self.numbers(name)
        expected = "a probability, not a score; turn it into a calibrated risk first"
        self.refuse(name, (values < 0) | (values > 1), "values outside 0 to 1", expected)
        return values

    def groups(self, names: Sequence[str]) -> tuple[NDArray[np.int64], list[Hashable]]:
        """Return (n,) group codes, and the labels of the groups in sorted order.

        Labels are values for one column and tuples for several; without a column there is one group
        labelled "all".
        """
        if not names:
            return np.zeros(self.n, dtype=np.int64), ["all"]
        if len(names) == 1:
            codes, labels = pd.factorize(self.table[names[0]], sort=True)
            # numpy scalars as Python's own, so that labels print alike
            plain = [label.item() if isinstance(label, np.generic) else label for label in labels]
            return codes.astype(np.int64), plain
        grouped = self.table.groupby(list(names), sort=True, observed=True)
        keys: list[Hashable] = grouped.size().index.tolist()
        codes = np.asarray(grouped.ngroup().to_numpy(), dtype=np.int64)
        return codes, keys


def _kind(column: pd.Series[Any]) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return "categories"
    return "dates" if pd.api.types.is_datetime64_any_dtype(column) else "text"


# The groups that they make


def rows_by_group(codes: NDArray[np.int64], n_groups: int) -> list[NDArray[np.int64]]:
    """Return the positions of the rows of each group, in their order."""
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.cumsum(np.bincount(codes, minlength=n_groups))[:-1])


def at_least_two(labels: Sequence[Hashable], names: Sequence[str], n: int) -> None:
    """Refuse a comparison of groups where no column makes groups, or there is one group only."""
    if not names:
        raise ValueError("by is empty, expected a column that makes the groups")
    if len(labels) < 2:
        raise TableRefused(
            f"column {' and '.join(map(repr, names))} has one group, {labels[0]!r}, over {n} "
            "rows, expected at least two"
        )


def in_group(by: Sequence[str], label: Hashable, message: str) -> str:
    """Return a message about a group, with its columns and values before it where there are any."""
    values = label if len(by) > 1 else (label,)
    name = ", ".join(f"{column} = {value}" for column, value in zip(by, values, strict=False))  # type: ignore[call-overload]
    return f"{name}: {message}" if by else message


def stack_groups(by: Sequence[str], labels: Sequence[Hashable], parts: Sequence[Any]) -> pd.DataFrame:
    """Put the tables of groups under each other, the columns of `by` first with the labels.

    A part is what `pd.DataFrame` takes: columns by name, or a list of rows.
    """
    frames = [pd.DataFrame(part) for part in parts]
    clash = sorted(set(by) & set(frames[0]))
    if clash:
        raise ValueError(
            f"by names {clash[0]!r}, which is a column of the result; expected another name. Rename the column"
        )
    sizes = [len(frame) for frame in frames]
    stacked = pd.concat(frames, ignore_index=True)
    for place, name in enumerate(by):
        values: list[Any] = [label[place] if len(by) > 1 else label for label in labels]  # type: ignore[index]
        stacked.insert(place, name, np.repeat(pd.Series(values).to_numpy(), sizes))
    return stacked


def label_groups(by: Sequence[str], labels: Sequence[Hashable], values: Any) -> pd.DataFrame:
    """Return a table of one row per group, the columns of `by` first with the labels.

    Values are what `pd.DataFrame` takes: columns by name, or a list of rows.
    """
    frame = pd.DataFrame(values)
    return stack_groups(by, labels, [frame.iloc[[place]] for place in range(len(frame))])


def for_each_group(
    stacked: pd.DataFrame, by: Sequence[str], make: Callable[[pd.DataFrame], Mapping[str, Any]]
) -> pd.DataFrame:
    """Make a table of the rows of each group of a stacked one, and stack these tables likewise."""
    if not by:
        return pd.DataFrame(make(stacked))
    groups = list(stacked.groupby(list(by), sort=False, observed=True))
    labels = [key if len(by) > 1 else key[0] for key, _ in groups]
    return stack_groups(by, labels, [make(part) for _, part in groups])
