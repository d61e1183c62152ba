"""The release rule `standard`: what is hidden so that no small count follows by subtraction.

Counts of 1 to k - 1 are hidden. Readers may subtract: wherever shown counts add up, in one table
or between tables, one that is missing follows from the others, and so does the sum of several that
are missing. As long as such a difference is 1 to k - 1, one of the shown counts behind it is hidden
too, the one that is missed least. Sums of sums are looked at as well: whether the equations taken
together leave a small count one value only. Nothing is rounded for that, and nothing is refused:
more is hidden instead, at last every count that is near.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.linalg import lsqr

from analysis.disclosure.aggregates import Aggregate, Kind, Ticks
from analysis.disclosure.audit import Cell, Promise, holds, solved
from analysis.disclosure.counts import PEOPLE, YEARS, Count, Relation, relations_of
from analysis.disclosure.suppression import Suppressed, Table, named_cells

COEFFICIENTS: Final = "hazard ratio"
"""What is in the name of every measure that is a coefficient of a model of events."""
_MOST_PASSES: Final = 200
_PATIENT: Final = 15  # passes; then everything behind what is found is hidden at once
_WHOLE: Final = 50.0  # how much more a count of everybody is missed
_TINY: Final = 1e-6
_ZERO: Final = 1e-5
_MOST_BETWEEN: Final = 1
_MOST_ROWS: Final = 30  # sums that miss one count, which are looked at by twos
_Terms = tuple[tuple[Count, float], ...]
_FEWEST: Final = ("n_people", "n_people_fewest")
_SOME: Final = ("n_events", "n_events_fewest")


def hidden_under_standard(aggregate: Aggregate, rows: pd.DataFrame, bases: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return where something is hidden, of the shape of `rows`; `bases` has 0 for hidden counts.

    Estimates depend on the counts as they are, not on which of these are shown: they are hidden
    where one that they need is 1 to k - 1. Coefficients of models need k people in every group of
    the contrast, and one event.
    """
    hidden = pd.DataFrame(False, rows.index, rows.columns)
    for name in bases:
        hidden[name] = bases[name] == 0
    few = {name: _few(rows[name], k) for name in aggregate.names(Kind.COUNT)}
    if aggregate.thinned is not None:
        last = rows.groupby(list(aggregate.thinned.within), sort=False)[aggregate.thinned.events].transform("max")
        of_curve = _few(last, k) | (last == 0)
        few = {name: own for name, own in few.items() if name == "n_people"} | {aggregate.thinned.events: of_curve}
    is_coefficient = pd.Series(False, rows.index)
    if "measure" in rows:
        is_coefficient = rows["measure"].astype(str).str.contains(COEFFICIENTS, regex=False)
    for column in aggregate.columns:
        if column.kind in (Kind.LABEL, Kind.COUNT):
            continue
        needs = [*column.needs, *([aggregate.thinned.events] if aggregate.thinned is not None else [])]
        small = _any(rows.index, [few[name] for name in needs if name in few])
        if column.kind != Kind.PERSON_YEARS:
            small = small.where(~is_coefficient, _any(rows.index, [few[name] for name in _FEWEST if name in few]))
        hidden[column.name] |= small
    return hidden


def _few(counts: pd.Series[Any], k: int) -> pd.Series[Any]:
    values = pd.to_numeric(counts).astype(float)
    return (values > 0) & (values < k)


def _any(index: pd.Index[Any], parts: Sequence[pd.Series[Any]]) -> pd.Series[Any]:
    made = pd.Series(False, index)
    for one in parts:
        made |= one
    return made


def with_ticks_apart(rows: pd.DataFrame, ticks: Ticks, k: int) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Return counts at times without the reasons that are too few, and which rows may stay.

    No difference between two times that stay is then 1 to k - 1.
    """
    keep = np.zeros(len(rows), dtype=bool)
    reasons = rows[list(ticks.gone)].astype("Int64")
    for _, own in rows.groupby(list(ticks.within), sort=False, dropna=False):
        counts = {
            name: own.pivot(index=ticks.times, columns=ticks.group, values=name).astype(float)
            for name in (ticks.there, *ticks.gone)
        }
        there = counts[ticks.there]
        kept: list[Any] = []
        for time, now in there.iterrows():
            if not (_few(now, k).any() or (kept and _few(there.loc[kept[-1]] - now, k).any())):
                kept.append(time)
        keep[own.index] = own[ticks.times].isin(kept)
        steps = np.hstack([counts[name].loc[kept].diff().to_numpy() for name in ticks.gone])
        if ((steps > 0) & (steps < k)).any():
            reasons.loc[own.index] = pd.NA
    return rows.assign(**{name: reasons[name] for name in ticks.gone}), keep


def suppress_standard(tables: Sequence[Table], promise: Promise) -> Suppressed:
    """Hide small counts, and others until none follows by subtraction."""
    cells: dict[Count, Cell] = {}
    wrong: list[str] = []
    # Curves keep their steps, and no counts.
    names = [
        None if table.aggregate.thinned is not None else named_cells(table, cells, promise, wrong) for table in tables
    ]
    for count, cell in cells.items():
        people = cells.get(count.of(PEOPLE)) if count.unit == YEARS else None
        if people is not None and not people.base:
            cell.base = 0.0
    found = [*relations_of(list(cells)), *(one for table in tables for one in table.aggregate.related)]
    related = [one for one in found if one.low == one.high]
    unseen = {
        lost: float(table.aggregate.rows[column].iloc[place])
        for table in tables
        if table.aggregate.thinned is None
        for column in table.counted()
        for place in table.lost
        if (lost := table.what(column, place)) is not None and lost not in cells
    }
    exact = solved(related, {count: cell.value for count, cell in cells.items()} | unseen)
    left_out = [one for one in related if not holds(one, exact)]
    wrong += [" ".join(f"{w:+g} [{c}]" for c, w in one.terms) for one in left_out]
    there = [own for own in names if own is not None]
    places = Counter(count for own in there for name in own for count in own[name] if isinstance(count, Count))
    kept = [one for one in found if holds(one, exact)]
    nothing = _nothing([count for count, cell in cells.items() if not cell.value], kept)
    between = [_with_the_rest(one) for one in kept if one.high == np.inf and _is_of_two(one, cells.keys())]
    exact |= {one.terms[2][0]: exact[one.terms[0][0]] - exact[one.terms[1][0]] for one in between}
    sums = _without_between([*(one for one in kept if one.low == one.high), *between], cells.keys() | nothing)
    _Reader(cells, sums, exact | dict.fromkeys(nothing, 0.0), promise, places).protect(nothing)
    bases = [
        _bases_of_curve(table) if own is None else own.map(lambda c: cells[c].base if isinstance(c, Count) else np.nan)
        for table, own in zip(tables, names, strict=True)
    ]
    return Suppressed(bases, wrong)


def _nothing(zeros: Sequence[Count], relations: Sequence[Relation]) -> set[Count]:
    """The counts that are 0 because they are part of something that is shown as 0."""
    parts: dict[Count, list[Count]] = defaultdict(list)
    for one in relations:
        (whole, weight), *others = one.terms
        if weight > 0 and others and one.low == 0 and all(w < 0 for _, w in others):
            parts[whole] += [count for count, _ in others]
    todo, found = list(zeros), set(zeros)
    while todo:
        new = [count for count in parts.get(todo.pop(), ()) if count not in found]
        found.update(new)
        todo += new
    return found


def _is_of_two(one: Relation, there: Set[Count]) -> bool:
    """Return whether a relation says that one count of a table is part of another."""
    if len(one.terms) != 2 or one.low or any(count not in there for count, _ in one.terms):
        return False
    (whole, more), (part, less) = one.terms
    return (more, less) == (1.0, -1.0) and whole.unit == part.unit != YEARS


def _with_the_rest(one: Relation) -> Relation:
    """Return that a whole is a part and the rest, of which no table says anything."""
    (whole, _), (part, _) = one.terms
    return Relation((*one.terms, (Count(f"{whole}, but not {part}"), -1.0)))


def _without_between(sums: Sequence[Relation], there: Set[Count]) -> list[Relation]:
    """Add sums in which a count that no table holds is replaced by its own parts.

    Everybody are those with a known level and the others; those with a known level, whom no table
    counts, are the sum over levels: a reader adds the levels and the others.
    """
    made = dict.fromkeys(one.terms for one in sums)
    new = list(made)
    for _ in range(_MOST_BETWEEN):
        wholes: dict[Count, list[_Terms]] = defaultdict(list)
        for terms in made:
            if terms[0][1] > 0:
                wholes[terms[0][0]].append(terms)
        merged: dict[_Terms, None] = {}
        for terms in new:
            for count, weight in terms[1:]:
                for parts in wholes[count] if count not in there and weight == -1 else ():
                    total = _added(terms, parts)
                    if len(total) > 1 and total not in made:
                        merged[total] = None
        new = list(merged)
        made |= merged
    return [Relation(terms) for terms in made]


def _added(one: _Terms, other: _Terms) -> _Terms:
    total: dict[Count, float] = defaultdict(float)
    for count, weight in (*one, *other):
        total[count] += weight
    return tuple((count, weight) for count, weight in total.items() if weight)


def _bases_of_curve(table: Table) -> pd.DataFrame:
    """Hide the counts beside a curve: other tables have those that may be shown."""
    counts: pd.DataFrame = table.rows[table.counted()].apply(pd.to_numeric).astype(float)
    return counts * 0.0


@dataclass(frozen=True, slots=True)
class _Found:
    """A small count, or a small sum of hidden ones, that follows from shown counts."""

    value: float
    behind: frozenset[int]  # places of the shown counts that it follows from, and that can be hidden


@dataclass(frozen=True, slots=True)
class _Knowledge:
    """What readers know by filling in whatever is missing once in a sum."""

    is_known: NDArray[np.bool_]  # of each count
    behind: Mapping[int, frozenset[int]]  # shown counts from which others follow


class _Reader:
    """Somebody who subtracts shown counts, and what has to be hidden from them."""

    def __init__(
        self,
        cells: Mapping[Count, Cell],
        sums: Sequence[Relation],
        exact: Mapping[Count, float],
        promise: Promise,
        places: Mapping[Count, int],
    ) -> None:
        self._cells, self._k = cells, promise.k
        self._is_nothing: NDArray[np.bool_] = np.array([], dtype=bool)
        self._names: list[Count] = list(dict.fromkeys([*cells, *(count for one in sums for count, _ in one.terms)]))
        at = {count: i for i, count in enumerate(self._names)}
        self._base = {i: cells[name].base for i, name in enumerate(self._names) if name in cells}
        self._sums = [[(at[count], weight) for count, weight in one.terms] for one in sums]
        self._rows: dict[int, list[int]] = defaultdict(list)  # sums that a count is in
        for row, terms in enumerate(self._sums):
            for i, _ in terms:
                self._rows[i].append(row)
        self._value = np.array([exact.get(count, np.nan) for count in self._names])
        self._is_small = np.array(
            [self._small(count, value) for count, value in zip(self._names, self._value, strict=True)]
        )
        # What is missed least: small, in few tables, and of a part of the people.
        self._cost = [
            places.get(count, 0) * (1 + abs(value)) * (_WHOLE if _is_whole(count) else 1)
            for count, value in zip(self._names, self._value, strict=True)
        ]

    def _small(self, count: Count, value: float) -> bool:
        """Whether nobody may know it; the years of hidden people give their number away."""
        cell = self._cells.get(count)
        if cell is not None and not cell.is_whole:
            return not cell.base
        return count.unit != YEARS and _TINY < value < self._k - _TINY

    def protect(self, nothing: Set[Count]) -> None:
        """Hide shown counts until no small one follows from others; `nothing` are known to be 0."""
        self._is_nothing = np.array([name in nothing for name in self._names], dtype=bool)
        for number in range(_MOST_PASSES):
            known = self._filled_in()
            found = [*self._single(known), *self._sums_of_hidden(known)]
            found = found or list(self._differences(known)) or list(self._by_all_sums(known))
            if not self._hide(found, everything=number >= _PATIENT):
                break
        for i in self._filled_in().behind:
            cell = self._cells.get(self._names[i])
            if cell is not None and not self._is_small[i]:
                cell.base = self._base[i]  # it follows from the others, so hiding it protects nothing

    def _hide(self, found: Sequence[_Found], *, everything: bool) -> bool:
        """Hide one count behind each finding, or all; return whether any was hidden."""
        gone: set[int] = set()
        for one in found:
            if everything:
                gone |= one.behind
            elif one.behind and gone.isdisjoint(one.behind):
                gone.add(min(one.behind, key=lambda i: (self._value[i] + one.value < self._k, self._cost[i], i)))
        for i in gone:
            self._cells[self._names[i]].base = 0.0
        return bool(gone)

    def _can_hide(self, i: int) -> bool:
        cell = self._cells.get(self._names[i])
        return cell is not None and bool(cell.base) and cell.value != 0

    def _filled_in(self) -> _Knowledge:
        shown = [name in self._cells and bool(self._cells[name].base) for name in self._names]
        is_known = np.array(shown, dtype=bool) | self._is_nothing
        behind: dict[int, frozenset[int]] = {}
        n_unknown = [sum(not is_known[i] for i, _ in terms) for terms in self._sums]
        todo = [row for row, n in enumerate(n_unknown) if n == 1]
        while todo:
            row = todo.pop()
            missing = next((i for i, _ in self._sums[row] if not is_known[i]), None)
            if missing is None:
                continue
            behind[missing] = self._leaves(row, behind)
            is_known[missing] = True
            for other in self._rows[missing]:
                n_unknown[other] -= 1
                if n_unknown[other] == 1:
                    todo.append(other)
        return _Knowledge(is_known, behind)

    def _leaves(self, row: int, behind: Mapping[int, frozenset[int]]) -> frozenset[int]:
        """The shown counts of a sum, and those from which others of it follow."""
        made: set[int] = set()
        for i, _ in self._sums[row]:
            made |= behind[i] if i in behind else {i} if self._can_hide(i) else set()
        return frozenset(made)

    def _single(self, known: _Knowledge) -> Iterator[_Found]:
        """Yield small counts that follow, one at a time, from what is shown."""
        for i, behind in known.behind.items():
            if self._is_small[i]:
                yield _Found(float(self._value[i]), behind)

    def _missing(self, row: int, known: _Knowledge) -> dict[int, float]:
        return {i: weight for i, weight in self._sums[row] if not known.is_known[i]}

    def _sums_of_hidden(self, known: _Knowledge) -> Iterator[_Found]:
        """Yield small sums of several hidden counts."""
        for row in range(len(self._sums)):
            value = self._small_sum(self._missing(row, known))
            if value:
                yield _Found(value, self._leaves(row, known.behind))

    def _small_sum(self, missing: Mapping[int, float]) -> float:
        """Return the sum of counts that are all added, if it is small, else 0."""
        if not missing or len({weight > 0 for weight in missing.values()}) > 1:
            return 0.0
        if any(self._names[i].unit == YEARS for i in missing):
            return 0.0
        value = abs(sum(weight * self._value[i] for i, weight in missing.items()))
        return float(value) if _TINY < value < self._k - _TINY else 0.0

    def _differences(self, known: _Knowledge) -> Iterator[_Found]:
        """Yield small counts that follow from two sums together, less a count that both miss."""
        missing = {row: own for row in range(len(self._sums)) if len(own := self._missing(row, known)) > 1}
        with_it: dict[int, list[int]] = defaultdict(list)
        for row, own in missing.items():
            for i in own:
                with_it[i].append(row)
        for i, rows in with_it.items():
            for a, b in combinations(rows[:_MOST_ROWS], 2):
                factor = missing[a][i] / missing[b][i]
                rest = dict(missing[a])
                for j, weight in missing[b].items():
                    rest[j] = rest.get(j, 0.0) - factor * weight
                value = self._small_sum({j: weight for j, weight in rest.items() if weight})
                if value:
                    yield _Found(value, self._leaves(a, known.behind) | self._leaves(b, known.behind))

    def _by_all_sums(self, known: _Knowledge) -> Iterator[_Found]:
        """Yield small counts that have one value only in all solutions of all sums together.

        A random vector less its part in the space of the sums moves every count that is not
        determined, and none that is.
        """
        rows = [(row, own) for row in range(len(self._sums)) if (own := self._missing(row, known))]
        columns = {i: place for place, i in enumerate(dict.fromkeys(i for _, own in rows for i in own))}
        if not columns:
            return
        terms = [(place, columns[i], weight) for place, (_, own) in enumerate(rows) for i, weight in own.items()]
        at, of, weights = zip(*terms, strict=True)
        matrix = csr_array((weights, (at, of)), (len(rows), len(columns)))
        rng = np.random.default_rng(0)
        fixed = np.ones(len(columns), dtype=bool)
        for _ in range(2):
            probe = rng.uniform(1.0, 2.0, len(columns))
            fixed &= np.abs(probe - _solution(matrix, matrix @ probe)) < _ZERO
        for i, place in columns.items():
            if fixed[place] and self._is_small[i]:
                unit = np.zeros(len(columns))
                unit[place] = 1.0
                used = np.flatnonzero(np.abs(_solution(matrix.T.tocsr(), unit)) > _ZERO)
                behind = frozenset[int]().union(*(self._leaves(rows[row][0], known.behind) for row in used.tolist()))
                yield _Found(float(self._value[i]), behind)


def _is_whole(count: Count) -> bool:
    return not (count.levels or count.parts or count.known or count.ended or count.followed)


def _solution(matrix: Any, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest solution of sparse equations, or what comes nearest to one."""
    return np.asarray(lsqr(matrix, values, atol=1e-12, btol=1e-12, iter_lim=5000)[0])
