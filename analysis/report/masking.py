"""Small numbers: counts that may leave, with secondary suppression; all else follows them.

Study rules, section 8; k and base are the data custodian's. A count of 1 to k - 1 is hidden. Where
counts add up and one is hidden, others are hidden too (the smallest first), or it could be found.
Counts that are shown are rounded to `base`, 0 stays 0. Estimates are hidden where a count that they
need is small, and rounded to four digits; what is a function of counts alone (a rate, a percentage)
is to be computed from masked counts, by whoever shows it. All hidden cells look the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from analysis.report.aggregates import Aggregate, Column, Kind
from analysis.report.suppression import Table, hide_partners

HIDDEN: Final = "*"
NOT_APPLICABLE: Final = "–"
_DIGITS: Final = 4
_FEW: Final = (
    "fewer events than ten for each parameter: estimates are unstable and limits too narrow"
)
_ELSEWHERE: Final = "a message with exact numbers stands in restricted/results.csv"
_PERSON_YEARS_BASE: Final = 10.0


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
            raise ValueError(
                f"masking is k {self.k}, base {self.base}; expected k 0 or more, base 1 or more"
            )

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
        columns: of the aggregate.
        rule: that was applied.
    """

    key: str
    rows: pd.DataFrame
    hidden: pd.DataFrame
    columns: tuple[Column, ...]
    rule: MaskingRule

    def shown(self, column: str) -> pd.Series:
        """Return counts or person-years as text: "1,235", `HIDDEN`, or a dash."""
        values, hidden = self.rows[column], self.hidden[column]
        texts = [
            HIDDEN if h else NOT_APPLICABLE if pd.isna(v) else f"{v:,.0f}"
            for v, h in zip(values, hidden, strict=True)
        ]
        return pd.Series(texts, index=values.index, dtype=object)


def mask(aggregate: Aggregate, rule: MaskingRule) -> Masked:
    """Return one aggregate as it may leave, if nothing else leaves."""
    return mask_all([aggregate], rule)[aggregate.key]


def mask_all(aggregates: Sequence[Aggregate], rule: MaskingRule) -> dict[str, Masked]:
    """Return the aggregates of a study as they may leave together.

    A count that stands in several tables is hidden in all of them or in none, and the partner that
    one table needs is hidden everywhere: otherwise one table tells what another hides.

    Args:
        aggregates: exact, of different keys.
        rule: of the custodian.

    Returns:
        By key, without the rows that `small="drop"` or thinning takes away.
    """
    tables = [Table(one, *_kept(one, rule)) for one in (_coarse(one, rule) for one in aggregates)]
    hidden = hide_partners(tables, rule.k)
    return {
        one.aggregate.key: _masked(one, own, rule) for one, own in zip(tables, hidden, strict=True)
    }


def _coarse(aggregate: Aggregate, rule: MaskingRule) -> Aggregate:
    if aggregate.coarse is None or not rule.on:
        return aggregate
    rows = aggregate.rows.copy()
    for name, values in aggregate.coarse.items():
        rows[name] = rows[name].where(values.isna(), values)
    return replace(aggregate, rows=rows)


def _kept(aggregate: Aggregate, rule: MaskingRule) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows that may stay, and where their counts are small."""
    rows = _thinned(aggregate, rule)
    counts = aggregate.names(Kind.COUNT)
    small = pd.DataFrame(
        {name: rule.is_small(rows[name]).fillna(False) for name in counts}, rows.index, dtype=bool
    )
    if aggregate.small == "drop":
        kept = ~small.any(axis=1) if counts else pd.Series(True, rows.index)
        rows, small = rows[kept].reset_index(drop=True), small[kept].reset_index(drop=True)
    return rows, small


def _masked(table: Table, hidden_counts: pd.DataFrame, rule: MaskingRule) -> Masked:
    aggregate, rows, small = table.aggregate, table.rows, table.small
    hidden = pd.DataFrame(False, rows.index, rows.columns)
    hidden[list(small.columns)] = hidden_counts
    for column in aggregate.columns:
        if column.kind in (Kind.NUMBER, Kind.PERSON_YEARS) and column.needs:
            lacking = small if column.kind == Kind.NUMBER else hidden
            hidden[column.name] = lacking[list(column.needs)].any(axis=1)
    hidden = _together(aggregate, rows, hidden)
    shown = {c.name: _shown(rows[c.name], hidden[c.name], c.kind, rule) for c in aggregate.columns}
    hidden &= rows.notna()
    values = pd.DataFrame(shown, index=rows.index)
    return Masked(aggregate.key, values, hidden, aggregate.columns, rule)


def _shown(values: pd.Series, hidden: pd.Series, kind: Kind, rule: MaskingRule) -> pd.Series:
    if kind == Kind.LABEL:
        return values
    if kind == Kind.NOTE:
        return values.map(_without_values) if rule.on else values
    if kind == Kind.COUNT:
        return rule.rounded(values).mask(hidden)
    numbers = pd.to_numeric(values).astype(float).mask(hidden)
    if not rule.on:
        return numbers
    if kind == Kind.PERSON_YEARS:
        return (numbers / _PERSON_YEARS_BASE).round() * _PERSON_YEARS_BASE
    return numbers.map(_to_digits)


def _without_values(text: str) -> str:
    """Return messages without the counts, values and rows that they quote."""
    told = []
    for part in filter(None, text.split("; ")):
        few = "events for" in part and "fewer than" in part
        told.append(_FEW if few else _ELSEWHERE if any(map(str.isdigit, part)) else part)
    return "; ".join(dict.fromkeys(told))


def _to_digits(value: float) -> float:
    return float(f"{value:.{_DIGITS - 1}e}") if np.isfinite(value) else value


def _thinned(aggregate: Aggregate, rule: MaskingRule) -> pd.DataFrame:
    """Keep of each curve its first row, and then a row whenever k more events have come."""
    thinned, rows = aggregate.thinned, aggregate.rows.reset_index(drop=True)
    if thinned is None or rule.k < 2:
        return rows
    keep = np.zeros(len(rows), dtype=bool)
    groups = rows.groupby(list(thinned.within), sort=False, dropna=False) if thinned.within else [
        ((), rows)
    ]  # fmt: skip
    for _, curve in groups:
        last = None
        for place, events in zip(curve.index, curve[thinned.events], strict=True):
            if last is None or events >= last + rule.k:
                keep[place], last = True, events
    return rows[keep].reset_index(drop=True)


def _together(aggregate: Aggregate, rows: pd.DataFrame, hidden: pd.DataFrame) -> pd.DataFrame:
    """Hide the numbers of all rows of a classification as soon as those of one are hidden."""
    if aggregate.together is None or not len(rows):
        return hidden
    names = aggregate.names(Kind.NUMBER)
    by = [rows[name] for name in aggregate.together] or [pd.Series(0, rows.index)]
    groups = rows.groupby(by, sort=False, dropna=False).ngroup()
    hidden[names] = hidden[names].groupby(groups).transform("any")
    return hidden
