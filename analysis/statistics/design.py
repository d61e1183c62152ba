"""Covariates of a regression: numbers, yes/no, categories with a stated reference, splines."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import linalg

from analysis.statistics.columns import Columns, TableRefused

_FLAT: Final = 1e-9
_DEPENDENT: Final = 1e-12


@runtime_checkable
class Covariate(Protocol):
    """What makes one or several columns of a design matrix."""

    @property
    def column(self) -> str:
        """Column of the table that it reads."""

    def resolved(self, columns: Columns) -> Covariate:
        """Return itself with everything fixed that it takes from the data of the fit."""

    def expanded(self, columns: Columns) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return the names of its terms and their (n, number of terms) values."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A number or yes/no as one column; a plain column name means this."""

    column: str

    def resolved(self, columns: Columns) -> Linear:
        """Refuse a constant column."""
        columns.varying_numbers(self.column)
        return self

    def expanded(self, columns: Columns) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return the column."""
        return (self.column,), columns.numbers(self.column)[:, None]


@dataclass(frozen=True, slots=True)
class Category:
    """A category with one indicator for each level but the reference.

    Terms are named `column=level`. R: `relevel(factor(column), ref = reference)`.

    Attributes:
        column: column of text, categories, whole numbers or yes/no.
        reference: the level that the others are compared with; always stated, since the first in
            the alphabet is the right one by accident only.
        levels: the levels in the order of the terms; from the data where not given. A value
            outside them is refused.
    """

    column: str
    reference: Hashable
    levels: tuple[Hashable, ...] = ()

    def resolved(self, columns: Columns) -> Category:
        """Take the levels from the data where they were not stated.

        Raises:
            TableRefused: the reference or a stated level does not occur, a value is no level, or
                there is one level only.
        """
        found = _levels(columns.table[self.column])
        levels = self.levels or found
        self._refuse_others(columns, levels)
        absent = [level for level in (self.reference, *levels) if level not in found]
        if absent:
            raise TableRefused(
                f"column {self.column!r} has no row with {absent[0]!r}, expected the reference and "
                f"every level to occur, found {', '.join(map(repr, found))}"
            )
        if len(found) < 2:
            raise TableRefused(
                f"column {self.column!r} is constant at {found[0]!r} over {columns.n} rows, "
                "expected at least two levels: leave it out"
            )
        return Category(self.column, self.reference, tuple(levels))

    def expanded(self, columns: Columns) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return one 0/1 column for each level but the reference."""
        self._refuse_others(columns, self.levels)
        values = columns.table[self.column]
        others = [level for level in self.levels if level != self.reference]
        names = tuple(f"{self.column}={level}" for level in others)
        if isinstance(values.dtype, pd.CategoricalDtype):  # whole numbers compare faster than text
            codes, known = values.cat.codes.to_numpy(), values.cat.categories
            places = known.get_indexer(pd.Index(others))
            found = [codes == place for place in places]
        else:
            found = [values.to_numpy() == level for level in others]
        return names, np.column_stack(found).astype(np.float64)

    def _refuse_others(self, columns: Columns, levels: Sequence[Hashable]) -> None:
        strange = ~columns.table[self.column].isin(list(levels)).to_numpy()
        columns.refuse(self.column, strange, "values that are no level", f"{', '.join(map(repr, levels))}")


@dataclass(frozen=True, slots=True)
class Design:
    """Covariates as fixed by the data of a fit; makes the same columns of any other table."""

    covariates: tuple[Covariate, ...]  # resolved covariates, in the order given
    terms: tuple[str, ...]  # name of each column of the matrix
    # for each covariate, its name and the indices of its columns
    groups: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the table that are read."""
        return tuple(covariate.column for covariate in self.covariates)

    def matrix(self, columns: Columns) -> NDArray[np.float64]:
        """Return the (n, number of terms) float64 design matrix of a table."""
        return np.column_stack([c.expanded(columns)[1] for c in self.covariates])


def as_covariates(covariates: Sequence[str | Covariate]) -> tuple[Covariate, ...]:
    """Return covariates with plain names as `Linear`; refuse none, one twice, or something else."""
    if isinstance(covariates, str):
        raise TypeError(f"covariates is the text {covariates!r}, expected a list of columns")
    made = tuple(Linear(c) if isinstance(c, str) else c for c in covariates)
    for one in made:
        if not isinstance(one, Covariate):
            raise TypeError(f"{one!r} is no covariate; expected a name, Category(...) or a spline")
    if not made:
        raise ValueError("covariates is empty, expected at least one")
    names = [one.column for one in made]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"covariates name {', '.join(repeated)} twice, expected once")
    return made


def resolve_design(covariates: Sequence[Covariate], columns: Columns) -> tuple[Design, NDArray[np.float64]]:
    """Fix covariates by the data of a fit; return the design and its (n, terms) matrix."""
    resolved = tuple(covariate.resolved(columns) for covariate in covariates)
    parts = [covariate.expanded(columns) for covariate in resolved]
    terms: tuple[str, ...] = ()
    groups = []
    for covariate, (names, _) in zip(resolved, parts, strict=True):
        places = tuple(range(len(terms), len(terms) + len(names)))
        groups.append((covariate.column, places))
        terms += names
    return Design(resolved, terms, tuple(groups)), np.column_stack([part for _, part in parts])


def refuse_dependent(information: NDArray[np.float64], terms: Sequence[str]) -> None:
    """Refuse covariates of which one is a combination of the others.

    `information` is their (p, p) covariance within risk sets or over rows. The message names the
    term that the earlier ones determine.
    """
    scale = np.sqrt(np.clip(np.diagonal(information), 0, None))
    flat = scale <= _FLAT * max(scale.max(), 1e-300)
    if flat.any():
        name = terms[int(np.flatnonzero(flat)[0])]
        raise TableRefused(
            f"covariate {name!r} does not vary among people at risk at the same time (in the same "
            "stratum), expected it to: leave it out, or do not stratify by it"
        )
    correlation = information / np.outer(scale, scale)
    for size in range(2, len(terms) + 1):
        last = linalg.eigvalsh(correlation[:size, :size])[0]
        if last < _DEPENDENT:
            raise TableRefused(
                f"covariate {terms[size - 1]!r} is a linear combination of "
                f"{', '.join(map(repr, terms[: size - 1]))}: leave one of them out"
            )


def _levels(column: pd.Series[Any]) -> tuple[Hashable, ...]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = set(column.unique())
        return tuple(level for level in column.cat.categories if level in present)
    return tuple(np.sort(column.unique()).tolist())
