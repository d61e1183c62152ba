"""Which counts of all tables are hidden or rounded more, so that no small one can be worked out."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pandas as pd

from analysis.disclosure.aggregates import Aggregate, Kind
from analysis.disclosure.audit import Audit, Cell, Promise, holds, rounded
from analysis.disclosure.counts import PEOPLE, YEARS, Count, Relation, hidden_parts, parts_of, relations_of

FEWEST_YEARS: Final = 10.0
"""What person-years are rounded to at least."""
_NICE: Final = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Table:
    """An aggregate and those of its rows that may stay."""

    aggregate: Aggregate  # whole
    rows: pd.DataFrame  # those that may stay, numbered from 0
    places: Sequence[int]  # of these rows in the aggregate
    lost: Sequence[int]  # places of rows that are left out because their counts are small

    def counted(self) -> list[str]:
        """Return the columns of counts, and of person-years that are described."""
        names = self.aggregate.names(Kind.COUNT)
        return names + [name for name in self.aggregate.names(Kind.PERSON_YEARS) if name in self.aggregate.counts]

    def what(self, column: str, place: int) -> Count | None:
        """Return what a row of the aggregate counts in a column."""
        described = self.aggregate.counts.get(column)
        return described[place] if described is not None else None


@dataclass(frozen=True, slots=True)
class Suppressed:
    """What masking does to counts."""

    # For each table, of its `counted` columns: what a count is rounded to; 0 where it is hidden,
    # NaN where there is none.
    bases: list[pd.DataFrame]
    # Relations that the exact counts do not meet, or counts that differ between tables, so that
    # what the tables say of them cannot be right.
    wrong: list[str]


def nice(value: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below a number above 0."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _NICE if step * power >= value * (1 - 1e-9))


def suppress(tables: Sequence[Table], promise: Promise, longest_years: Mapping[str, float]) -> Suppressed:
    """Hide small counts, and round or hide others until no small one can be worked out.

    `longest_years` is the longest follow-up of anybody, by outcome. Where a small count could still
    be worked out, everything around it is hidden.
    """
    cells: dict[Count, Cell] = {}
    wrong: list[str] = []
    names = [named_cells(table, cells, promise, wrong) for table in tables]
    for named, cell in cells.items():
        people = cells.get(named.of(PEOPLE)) if named.unit == YEARS else None
        if people is not None and not people.base:
            cell.base = 0.0
    unseen = {
        count: float(table.aggregate.rows[column].iloc[place])
        for table in tables
        for column in table.counted()
        for place in table.lost
        if (count := table.what(column, place)) is not None and count not in cells
    }
    found = relations_of([*cells, *unseen], longest_years)
    found += [one for table in tables for one in table.aggregate.related]
    found += [one for table in tables for one in _steps(table, list(cells), promise.k)]
    same, related = _same(cells, found)
    audit = Audit({same.get(c, c): cells[same.get(c, c)] for c in cells}, related, promise, unseen)
    audit.run()
    wrong += [" ".join(f"{w:+g} [{c}]" for c, w in one.terms) for one in audit.left_out]
    bases = [own.map(lambda c: cells[same.get(c, c)].base if isinstance(c, Count) else math.nan) for own in names]
    return Suppressed(bases, wrong)


def named_cells(table: Table, cells: dict[Count, Cell], promise: Promise, wrong: list[str]) -> pd.DataFrame:
    """Return what each cell counts, None where there is no count; add new ones to the cells."""
    made: dict[str, list[Count | None]] = {}
    for column in table.counted():
        estimates = [c.name for c in table.aggregate.columns if column in c.needs]
        needing = table.rows[estimates].notna().any(axis=1).to_numpy(dtype=int)
        is_whole = column not in table.aggregate.names(Kind.PERSON_YEARS)
        made[column] = []
        for row, value in enumerate(pd.to_numeric(table.rows[column]).astype(float)):
            if math.isnan(value):
                made[column].append(None)
                continue
            own = Count(f"{table.aggregate.key}.{column}.{row}")
            count = table.what(column, table.places[row]) or own
            if count in cells and abs(cells[count].value - value) > 1e-6:
                wrong.append(f"{count} is {cells[count].value:g}, and {value:g} in {own.unit}")
                count = own
            if count not in cells:
                base = float(promise.base) if is_whole else _base_of_years(table, row, value, promise.base)
                is_small = is_whole and 0 < value < promise.k
                cells[count] = Cell(value, 0.0 if is_small else base, 0, is_whole)
            cells[count].needed += int(needing[row])
            made[column].append(count)
    return pd.DataFrame(made, index=table.rows.index, dtype=object)


def _base_of_years(table: Table, row: int, years: float, base: int) -> float:
    """Return what `base` average people contribute, by the rounded counts, to round years to."""
    people = next(c for c in table.aggregate.columns if c.kind == Kind.PERSON_YEARS).needs
    n = float(table.rows[people[0]].iloc[row]) if people else math.nan
    if not (n > 0 and years > 0):
        return FEWEST_YEARS
    return max(nice(base * float(rounded(years, FEWEST_YEARS) / rounded(n, base))), FEWEST_YEARS)


def _steps(table: Table, counts: Sequence[Count], k: int) -> Iterator[Relation]:
    """Yield what steps say: k more events at each, fewer than k before the first and after each."""
    thinned = table.aggregate.thinned
    if thinned is None or not thinned.ends:
        return
    curves: dict[Count, list[Count]] = {}
    for place in table.places:
        whole, step = thinned.ends[place], table.what(thinned.events, place)
        if whole is not None:
            curves.setdefault(whole, []).extend([step] if step is not None else [])
    times: dict[Count, list[tuple[float, Count]]] = defaultdict(list)
    for count in counts:
        if count.ended is None:
            times[count].append((math.inf, count))
        elif count.ended[1] == count.ended[2]:
            times[replace(count, ended=None)].append((count.ended[1], count))
    for whole, steps in curves.items():
        for number, step in enumerate(steps, 1):
            yield Relation(((step, 1.0),), float(number * k), math.inf)
        for time, count in times[whole]:
            yield from _since_step(time, count, steps, k)


def _since_step(time: float, count: Count, steps: Sequence[Count], k: int) -> Iterator[Relation]:
    """Yield that fewer than k events came since the last step, if no step may be just there."""
    between = [(step.ended or ("", 0.0, 0.0))[1:] for step in steps]
    past = sum(latest <= time for _, latest in between)
    if all(earliest >= time for earliest, _ in between[past:]):
        since = ((steps[past - 1], -1.0),) if past else ()
        yield Relation(((count, 1.0), *since), -math.inf, k - 1.0)


def _same(cells: dict[Count, Cell], relations: Sequence[Relation]) -> tuple[dict[Count, Count], list[Relation]]:
    """Find counts that differ by a shown 0: which one is used for them all, and their relations."""
    small = [count for count, cell in cells.items() if not cell.base]
    zeros = [count for count, cell in cells.items() if not cell.value]
    nothing = set(zeros) - hidden_parts(small, zeros, relations)
    nothing |= parts_of(list(nothing), relations) - cells.keys()
    exact = {count: cell.value for count, cell in cells.items()}
    same: dict[Count, Count] = {}
    for one in relations:
        left = [(c, w) for c, w in one.terms if c not in nothing]
        is_sum = one.low == one.high == 0 and len(left) == 2 and left[0][1] == -left[1][1]
        if is_sum and holds(one, exact):
            _join(left[0][0], left[1][0], cells, same)
    return {count: _root(count, same) for count in same}, _between_roots(relations, same, exact)


def _root(count: Count, same: Mapping[Count, Count]) -> Count:
    while count in same:
        count = same[count]
    return count


def _join(a: Count, b: Count, cells: Mapping[Count, Cell], same: dict[Count, Count]) -> None:
    """Use one count for another; one of a table rather than one that no table holds."""
    a, b = _root(a, same), _root(b, same)
    if a == b:
        return
    if a not in cells:
        a, b = b, a
    same[b] = a
    if a in cells and b in cells:
        cells[a].needed += cells[b].needed


def _between_roots(
    relations: Sequence[Relation], same: Mapping[Count, Count], exact: Mapping[Count, float]
) -> list[Relation]:
    made: dict[tuple[Any, ...], Relation] = {}
    for one in relations:
        terms: dict[Count, float] = defaultdict(float)
        for count, weight in one.terms:
            terms[_root(count, same)] += weight
        kept = tuple((count, weight) for count, weight in terms.items() if weight)
        if len(kept) > 1 or (kept and holds(one, exact)):
            made[kept, one.low, one.high] = Relation(kept, one.low, one.high)
    return list(made.values())
