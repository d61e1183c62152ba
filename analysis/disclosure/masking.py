"""Small numbers: what may leave, of all tables of a study together.

Study rules, section 8; k and base are the data custodian's. A count of 1 to k - 1 is hidden. Others
are rounded to `base`, 0 stays 0; and where a hidden count could be found from what is shown, in any
table, more is rounded to a coarser base or hidden (`audit`). Estimates are hidden
where a count that they need is, and told no more finely than their counts
(`precision`); what is a function of counts alone (a rate, a percentage) is to be
computed from masked counts, by whoever shows it. All hidden cells look the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, Column, Kind
from analysis.disclosure.audit import Promise
from analysis.disclosure.precision import Known, is_publishable, rounded_number, rounded_result, to_digits
from analysis.disclosure.suppression import FEWEST_YEARS, Suppressed, Table, suppressed

HIDDEN: Final = "*"
NOT_APPLICABLE: Final = "–"
_FEW: Final = "fewer events than ten for each parameter: estimates are unstable and limits too narrow"
_ELSEWHERE: Final = "a message with exact numbers stands in restricted/results.csv"
_DIGITS_OF_SIZES: Final = 4


@dataclass(frozen=True, slots=True)
class MaskingRule:
    """How small a number may leave.

    Attributes:
        k: counts of 1 to k - 1 are hidden; 0 turns masking off.
        base: shown counts are rounded to multiples of it; 1 for exact counts.
    """

    k: int = 10
    base: int = 5

    def __post_init__(self) -> None:
        if self.k < 0 or self.base < 1:
            raise ValueError(f"masking is k {self.k}, base {self.base}; expected k 0 or more, base 1 or more")

    @property
    def on(self) -> bool:
        """Whether anything is hidden or rounded."""
        return self.k > 1 or self.base > 1

    def is_small(self, counts: pd.Series) -> pd.Series:
        """Return where counts are 1 to k - 1."""
        values = pd.to_numeric(counts)
        return (values > 0) & (values < self.k)

    def rounded(self, counts: pd.Series) -> pd.Series:
        """Return counts to the nearest multiple of base (halves up), missing where missing.

        A count that is shown and not 0 never becomes 0.
        """
        values = pd.to_numeric(counts).astype("float64")
        made = pd.Series(np.floor(values / self.base + 0.5) * self.base, values.index)
        return made.mask((values > 0) & (made == 0), float(self.base)).astype("Int64")


@dataclass(frozen=True, slots=True)
class Masked:
    """An aggregate after masking.

    Attributes:
        key: of the aggregate.
        rows: counts as Int64 and numbers as float64, missing where hidden or not applicable.
        hidden: of the same shape, True where masking took the value away.
        bases: of its counts: what each is rounded to, 0 where hidden.
        columns: of the aggregate.
        rule: that was applied.
    """

    key: str
    rows: pd.DataFrame
    hidden: pd.DataFrame
    bases: pd.DataFrame
    columns: tuple[Column, ...]
    rule: MaskingRule

    def shown(self, column: str) -> pd.Series:
        """Return counts or person-years as text: "1,235", "1,240±20", `HIDDEN`, or a dash."""
        values, hidden = self.rows[column], self.hidden[column]
        texts = [
            HIDDEN if h else NOT_APPLICABLE if pd.isna(v) else f"{v:,.0f}{more}"
            for v, h, more in zip(values, hidden, self.coarse(column), strict=True)
        ]
        return pd.Series(texts, index=values.index, dtype=object)

    def coarse(self, column: str) -> list[str]:
        """Return "±20" for counts and person-years that are rounded more than others, else ""."""
        kinds = {one.name: one.kind for one in self.columns}
        usual = {Kind.COUNT: float(self.rule.base), Kind.PERSON_YEARS: FEWEST_YEARS}
        if column not in self.bases or kinds[column] not in usual:
            return [""] * len(self.rows)
        least = usual[kinds[column]]
        return [f"±{base / 2:.0f}" if base > least else "" for base in self.bases[column]]


def mask(aggregate: Aggregate, rule: MaskingRule) -> Masked:
    """Return one aggregate as it may leave, if nothing else leaves."""
    return mask_all([aggregate], rule)[aggregate.key]


def mask_all(
    aggregates: Sequence[Aggregate], rule: MaskingRule, longest_years: Mapping[str, float] | None = None
) -> dict[str, Masked]:
    """Return the aggregates of a study as they may leave together.

    What one table hides, the others must not tell: all counts are looked at together.

    Args:
        aggregates: exact, of different keys.
        rule: of the custodian.
        longest_years: the longest follow-up of anybody, by outcome.

    Returns:
        By key, without the rows that `small="drop"` or thinning take away.

    Raises:
        UsageError: a small count could be found whatever is hidden.
    """
    tables = [_kept(_in_place(one, rule), rule) for one in aggregates]
    found = audited(tables, rule, longest_years)
    return {table.aggregate.key: _masked(table, bases, rule) for table, bases in zip(tables, found.bases, strict=True)}


def audited(tables: Sequence[Table], rule: MaskingRule, longest_years: Mapping[str, float] | None = None) -> Suppressed:
    """Return what is done to the counts of tables."""
    if rule.k > 1:
        return suppressed(tables, Promise(rule.k, rule.base), longest_years or {})
    bases = [table.rows[table.counted()].notna().astype(float).replace(0.0, np.nan) * rule.base for table in tables]
    return Suppressed(bases, [])


def _in_place(aggregate: Aggregate, rule: MaskingRule) -> Aggregate:
    """The aggregate with its coarse values where it has some."""
    if aggregate.coarse is None or not rule.on:
        return aggregate
    rows = aggregate.rows.copy()
    for name, values in aggregate.coarse.items():
        rows[name] = rows[name].where(values.isna(), values)
    return replace(aggregate, rows=rows)


def _kept(aggregate: Aggregate, rule: MaskingRule) -> Table:
    """The rows that may stay."""
    rows = aggregate.rows.reset_index(drop=True)
    keep = _steps_of_curves(aggregate, rows, rule)
    lost = np.zeros(len(rows), dtype=bool)
    if aggregate.small == "drop":
        for name in aggregate.names(Kind.COUNT):
            lost |= rule.is_small(rows[name]).fillna(False).to_numpy(dtype=bool)
    places = np.flatnonzero(keep & ~lost)
    kept = rows.loc[places].reset_index(drop=True)
    return Table(aggregate, kept, places.tolist(), np.flatnonzero(keep & lost).tolist())


def _masked(table: Table, bases: pd.DataFrame, rule: MaskingRule) -> Masked:
    aggregate, rows = table.aggregate, table.rows
    hidden = _together(aggregate, rows, _hidden(aggregate, rows, bases))
    values = rows.copy()
    for name in aggregate.names(Kind.COUNT):
        values[name] = _rounded(rows[name], bases[name])
    for column in aggregate.columns:
        if column.kind in (Kind.PERSON_YEARS, Kind.NOTE):
            told, empty = (_other(column, rows, bases, rule), "" if column.kind == Kind.NOTE else None)
            values[column.name] = told.mask(hidden[column.name], empty)
    for name, told in _numbers(aggregate, rows, values, bases, rule).items():
        values[name] = told.mask(hidden[name])
        hidden[name] |= told.isna() & rows[name].notna()
    return Masked(aggregate.key, values, hidden, bases, aggregate.columns, rule)


def _hidden(aggregate: Aggregate, rows: pd.DataFrame, bases: pd.DataFrame) -> pd.DataFrame:
    """Where something is hidden, whether there is anything or not.

    Blank beside hidden would tell that there are too few people even for an estimate.
    """
    hidden = pd.DataFrame(False, rows.index, rows.columns)
    for name in bases:
        hidden[name] = bases[name] == 0
    for column in aggregate.columns:
        if column.kind not in (Kind.LABEL, Kind.COUNT) and column.needs:
            hidden[column.name] |= hidden[list(column.needs)].any(axis=1)
    return hidden


def _rounded(counts: pd.Series[Any], bases: pd.Series[Any]) -> pd.Series[Any]:
    """Counts to the nearest multiple of their bases, halves up, missing where hidden."""
    values, base = pd.to_numeric(counts).astype(float), bases.mask(bases == 0)
    made = np.floor(values / base + 0.5) * base
    made = made.mask((values > 0) & (made == 0), base)
    return pd.Series(made, counts.index).astype("Int64")


def _other(column: Column, rows: pd.DataFrame, bases: pd.DataFrame, rule: MaskingRule) -> pd.Series[Any]:
    """Person-years and notes."""
    own = rows[column.name]
    if column.kind == Kind.NOTE:
        return own.map(_without_values) if rule.on else own
    years = pd.to_numeric(own).astype(float)
    if not rule.on:
        return years
    base = bases[column.name].replace(0.0, np.nan) if column.name in bases else FEWEST_YEARS
    return (years / base).astype(float).round() * base


def _numbers(
    aggregate: Aggregate, rows: pd.DataFrame, shown: pd.DataFrame, bases: pd.DataFrame, rule: MaskingRule
) -> dict[str, pd.Series[Any]]:
    """The estimates as they are told; missing where they may not be."""
    columns = {c.name: c for c in aggregate.columns if c.kind == Kind.NUMBER}
    exact = rows[list(columns)].apply(pd.to_numeric).astype(float)
    if not rule.on or not len(rows):
        return {name: exact[name] for name in columns}
    counts = {
        name: [
            Known(*one)
            for one in zip(
                pd.to_numeric(rows[name]).astype(float),
                shown[name].astype("Float64").astype(float),
                bases[name],
                strict=True,
            )
        ]
        for name in aggregate.names(Kind.COUNT)
    }
    if "precision" in rows:
        return _numbers_of_results(rows, exact, counts)
    sd = exact["sd"] if "sd" in exact else pd.Series(np.nan, rows.index)
    return {
        name: pd.Series(
            [
                rounded_number(value, column, known, spread) if is_publishable(column, known, rule.k) else np.nan
                for value, known, spread in zip(exact[name], counts[column.needs[0]], sd, strict=True)
            ],
            rows.index,
            dtype=float,
        )
        for name, column in columns.items()
    }


def _numbers_of_results(
    rows: pd.DataFrame, exact: pd.DataFrame, counts: dict[str, list[Known]]
) -> dict[str, pd.Series[Any]]:
    made = [
        rounded_result(
            numbers,
            rows["precision"].iloc[place],
            {name: known[place] for name, known in counts.items()},
            is_chi_square="chi-square" in rows["measure"].iloc[place],
        )
        for place, numbers in enumerate(_records(exact.drop(columns="unit_value")))
    ]
    told = pd.DataFrame(made, index=rows.index, columns=exact.columns.drop("unit_value"))
    size = exact["unit_value"].map(lambda value: to_digits(value, _DIGITS_OF_SIZES))
    return {"unit_value": size} | {str(name): told[name] for name in told}


def _records(numbers: pd.DataFrame) -> list[dict[str, float]]:
    return [{str(name): float(value) for name, value in row.items()} for row in numbers.to_dict("records")]


def _without_values(text: str) -> str:
    """Return messages without the counts, values and rows that they quote."""
    told = []
    for part in filter(None, text.split("; ")):
        few = "events for" in part and "fewer than" in part
        told.append(_FEW if few else _ELSEWHERE if any(map(str.isdigit, part)) else part)
    return "; ".join(dict.fromkeys(told))


def _steps_of_curves(aggregate: Aggregate, rows: pd.DataFrame, rule: MaskingRule) -> Any:
    """Of each curve its first row, and then a row whenever k more events have come."""
    thinned = aggregate.thinned
    if thinned is None or rule.k < 2:
        return np.ones(len(rows), dtype=bool)
    keep = np.zeros(len(rows), dtype=bool)
    groups = rows.groupby(list(thinned.within), sort=False, dropna=False) if thinned.within else [((), rows)]
    for _, curve in groups:
        last = None
        for place, events in zip(curve.index, curve[thinned.events], strict=True):
            if last is None or events >= last + rule.k:
                keep[place], last = True, events
    return keep


def _together(aggregate: Aggregate, rows: pd.DataFrame, hidden: pd.DataFrame) -> pd.DataFrame:
    """Hide the numbers of all rows of a classification as soon as those of one are hidden."""
    if aggregate.together is None or not len(rows):
        return hidden
    names = [*aggregate.names(Kind.NUMBER), *aggregate.names(Kind.NOTE)]
    by = [rows[name] for name in aggregate.together] or [pd.Series(0, rows.index)]
    groups = rows.groupby(by, sort=False, dropna=False).ngroup()
    hidden[names] = hidden[names].groupby(groups).transform("any")
    return hidden
