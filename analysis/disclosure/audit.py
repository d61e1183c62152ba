"""Check whether a hidden count can be worked out, and hide more until it cannot.

Readers of an export know each shown count within its rounding, that a hidden one is 1 or more, and
how counts are related. Two linear programs (solved by HiGHS) give the least and the greatest value
that this leaves to a hidden count. As long as that range is too narrow, a shown count that narrows
it is rounded more, or hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack, identity, vstack

from analysis.disclosure.counts import YEARS, Count, Relation, hidden_parts

Floats = NDArray[np.float64]

_TINY: Final = 1e-6
_STEPS: Final = (1, 2, 5, 10)  # times twice k, how much counts are rounded in place of `base`
_MOST_OF_ALL: Final = 0.2  # the same where all counts are rounded more at once
_MOST: Final = 0.4  # of a count: how much it may be rounded before it is hidden instead
_DRAWS: Final = 6
_HOPS: Final = 2
_MOST_LOOKS: Final = 1500  # at single small counts, some 20 ms each; then more is hidden at once
_WIDER: Final = (1, 2, 4, 0)  # relations away from a small count; 0: everything
_MANY: Final = 60  # small counts that can be worked out, so that large ones are rounded more at once

# Without presolve the fastest; now and then it fails where numbers have very different sizes.
_SOLVERS: Final[Sequence[tuple[str, dict[str, bool]]]] = (
    ("highs-ds", {"presolve": False}),
    ("highs-ds", {}),
    ("highs-ipm", {}),
)
_FAR: Final = 4.0  # times the largest count: what no count exceeds
_NEARBY: Final = 300  # counts
_HUB: Final = 40  # relations of a count that most others are related to


@dataclass(slots=True)
class Cell:
    """A count of at least one table."""

    value: float  # exact
    base: float  # what it is rounded to; 0 where it is hidden
    needed: int = 0  # how many estimates are hidden with it
    is_whole: bool = True  # False for person-years


def rounded(values: Any, base: Any) -> Any:
    """Return numbers to the nearest multiple of a base, halves up; 0 only where they are 0."""
    made = np.floor(values / base + 0.5) * base
    return np.where((values > 0) & (made == 0), base, made)


@dataclass(frozen=True, slots=True)
class Promise:
    """What nobody can work out, whatever else is shown.

    A hidden count of 1 to k - 1 can have each of these values. A small difference of shown counts,
    which no table holds, can have half as many values at least.
    """

    k: int  # counts of 1 to k - 1 are small
    base: int  # what shown counts are rounded to

    def coarser(self, cell: Cell, most: float = _MOST) -> float:
        """Return the next larger base of a count, at most a share of it, or 0: hide it."""
        first = math.ceil(2 * self.k / self.base) * self.base
        for step in _STEPS:
            if first * step > cell.base and first * step <= most * cell.value:
                return float(first * step)
        return 0.0

    def keeps(self, low: float, high: float, *, is_in_table: bool) -> bool:
        """Return whether a small count is protected if it can have all values from low to high."""
        if is_in_table:
            return low <= 1 + _TINY and high >= self.k - 1 - _TINY
        return high - low >= math.ceil(self.k / 2) - 1 - _TINY


class Audit:
    """All counts of an export, how they are related, and what is still to be taken away."""

    def __init__(
        self,
        cells: Mapping[Count, Cell],
        relations: Sequence[Relation],
        promise: Promise,
        unseen: Mapping[Count, float],
    ) -> None:
        """Take counts, small ones hidden already; `unseen` are exact values that no table holds."""
        self.cells = cells  # `run` changes their bases
        self.unsafe: list[Count] = []  # after `run`, small counts for which nothing was left to take away
        self._n_looks = 0
        self._n_taken = 0
        self._promise = promise
        self._exact = solved(relations, {count: cell.value for count, cell in cells.items()} | dict(unseen))
        kept = [one for one in relations if holds(one, self._exact)]
        wrong = set(_contradicting(kept, self._exact))
        # Relations that the exact counts do not meet: what the tables say of these is wrong.
        self.left_out = [one for one in relations if one in wrong or not holds(one, self._exact)]
        kept = [one for one in kept if one not in wrong]
        names = dict.fromkeys([*cells, *(count for one in kept for count, _ in one.terms)])
        self._program = LinearProgram(list(names), kept, max((cell.value for cell in cells.values()), default=0.0))
        self._within = self._hide_parts(kept)
        for count in cells:
            self._set_bounds(count)

    def _hide_parts(self, relations: Sequence[Relation]) -> set[Count]:
        """Hide the parts of hidden small counts also where they are 0; return all such parts."""
        small = [count for count, cell in self.cells.items() if not cell.base and cell.is_whole]
        zeros = [count for count, cell in self.cells.items() if cell.base and not cell.value]
        within = hidden_parts(small, zeros, relations)
        for count in within & self.cells.keys():
            self.cells[count].base = 0
        return within

    def _set_bounds(self, count: Count) -> None:
        """Set what readers know of a count by its cell, also whether a hidden one is not small."""
        cell, k = self.cells[count], self._promise.k
        if not cell.base:
            low = 0.0 if not cell.is_whole or count in self._within else 1.0
            if cell.is_whole and cell.value >= k:
                low = float(k)
            self._program.bound(count, low, np.inf)
        elif cell.value == 0:
            self._program.bound(count, 0.0, 0.0)
        else:
            shown, half = float(rounded(cell.value, cell.base)), cell.base / 2
            low, high = shown - half, shown + half
            if cell.is_whole:
                low = 1 if shown == cell.base else math.ceil(low)
                low, high = max(low, k, 1), math.ceil(high) - 1
            self._program.bound(count, max(low, 0.0), high)

    def run(self) -> None:
        """Take away until the promise is kept."""
        todo = self._open(self._small())
        self._look_around(todo, _DRAWS)
        if len(self._open(todo)) > _MANY:
            self._round_all_more()
        n_taken = -1
        while self._open(todo) and self._n_taken > n_taken and not self._is_spent():
            n_taken = self._n_taken
            # What the counts nearby imply is found fast, and is a part of the truth.
            for nearby in (True, False):
                self._look_around(todo, _DRAWS)
                unsafe = self._open(todo)
                while unsafe and not self._is_spent():
                    unsafe = self._pass(unsafe, nearby=nearby)
                    self._look_around(unsafe, 1)
        self._hide_around(todo)
        self.unsafe = [self._program.names[i] for i in self._open(todo)]

    def _is_spent(self) -> bool:
        """Whether so much was looked at that the rest is hidden: a bound that no clock moves."""
        return self._n_looks > _MOST_LOOKS

    def _hide_around(self, todo: Sequence[int]) -> None:
        """Hide all counts near those that are still open, further and further away, at last all."""
        for hops in _WIDER:
            self._look_around(todo, _DRAWS)
            unsafe = self._open(todo)
            if not unsafe:
                return
            near = {j for i in unsafe for j in self._program.near(i, hops)} if hops else self._program.place.values()
            for j in sorted(near):
                cell = self.cells.get(self._program.names[j])
                if cell is not None and cell.base and cell.value:
                    cell.base = 0.0
                    self._set_bounds(self._program.names[j])
        self._look_around(todo, _DRAWS)

    def _round_all_more(self) -> None:
        """Round all large counts more: of a few hundred people nearly every sum narrows a range."""
        for count, cell in self.cells.items():
            if cell.is_whole and cell.base and self._promise.coarser(cell, _MOST_OF_ALL):
                self._take_away(self._program.place[count])

    def _pass(self, places: Sequence[int], *, nearby: bool) -> list[int]:
        """Take away one count near each small one, unless one is gone; return those still open."""
        touched: set[int] = set()
        left = []
        for i in self._open(places):
            if not touched.isdisjoint(self._program.near(i, 1)):
                left.append(i)
                continue
            j = self._worst(i, nearby=nearby)
            if j is not None:
                self._take_away(j)
                touched.update(self._program.near(j, 1))
                left.append(i)
        return left

    def _small(self) -> list[int]:
        """Return the counts that are small, and hidden or in no table."""
        made = []
        for count, i in self._program.place.items():
            cell, value = self.cells.get(count), self._exact.get(count, 0.0)
            is_whole = count.unit != YEARS if cell is None else cell.is_whole
            is_hidden = cell is None or not cell.base
            if is_whole and is_hidden and _TINY < value < self._promise.k - _TINY:
                made.append(i)
        return made

    def _is_in_table(self, i: int) -> bool:
        return self._program.names[i] in self.cells

    def _open(self, places: Sequence[int]) -> list[int]:
        """Return the counts that no solution so far proves to be safe."""
        p = self._program
        return [i for i in places if not self._promise.keeps(p.least[i], p.most[i], is_in_table=self._is_in_table(i))]

    def _look_around(self, todo: Sequence[int], draws: int) -> None:
        rng = np.random.default_rng(0)
        for _ in range(draws):
            todo = self._open(todo)
            if not todo:
                return
            weights = rng.uniform(0.1, 1.0, len(todo))
            self._program.look_down(todo, weights)
            self._program.look_up(todo, weights, self._promise.k - 1.0)

    def _worst(self, i: int, *, nearby: bool) -> int | None:
        """Return the shown count that narrows a small one most for its cost; None if it is safe."""
        self._n_looks += 1
        p, is_in_table = self._program, self._is_in_table(i)
        low, high, far = p.least[i], p.most[i], self._promise.k - 1
        if self._promise.keeps(low, high, is_in_table=is_in_table):
            return None
        narrowing: list[tuple[float, Floats]] = []
        if not is_in_table or low > 1 + _TINY:
            low, weights = p.extreme(i, 1, nearby=nearby)
            narrowing.append((low - 1 if is_in_table else far, weights))
        if self._promise.keeps(low, high, is_in_table=is_in_table):
            return None
        if not is_in_table or high < far - _TINY:
            high, weights = p.extreme(i, -1, nearby=nearby)
            narrowing.append((far - high if is_in_table else far, weights))
        if self._promise.keeps(low, high, is_in_table=is_in_table):
            return None
        gains: dict[int, float] = {}
        for lacking, weights in narrowing:
            for j in np.flatnonzero(weights > _TINY).tolist():
                gains[j] = gains.get(j, 0.0) + self._gain(j, max(lacking, 0.0), weights[j])
        best = max(gains, key=lambda j: (gains[j], -j), default=i)
        return best if gains.get(best, 0.0) > 0 else self._smallest_near(i)

    def _gain(self, j: int, lacking: float, weight: float) -> float:
        """How much wider a range becomes, for what it costs to round or hide a count."""
        cell = self.cells.get(self._program.names[j])
        if cell is None or not cell.base or not cell.value:
            return 0.0
        base = self._promise.coarser(cell)
        if not base:
            return lacking / (1.0 + cell.value / 20 + cell.needed)
        return min(lacking, weight * (base - cell.base) / 2) / (base / cell.value)

    def _smallest_near(self, i: int) -> int | None:
        """The smallest shown count that is related to a small one."""
        shown = [j for j in self._program.near(i, _HOPS) if self._gain(j, 1.0, 1.0) > 0]
        return min(shown, key=lambda j: (self.cells[self._program.names[j]].value, j), default=None)

    def _take_away(self, j: int) -> None:
        self._n_taken += 1
        count = self._program.names[j]
        self.cells[count].base = self._promise.coarser(self.cells[count])
        self._set_bounds(count)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some counts and the relations between them."""

    places: NDArray[np.int64]
    equal: Any
    sums: Floats
    limits: Any
    limit: Floats


class LinearProgram:
    """Counts between bounds, and how they are related."""

    def __init__(self, names: Sequence[Count], relations: Sequence[Relation], far: float) -> None:
        self.names = list(names)  # of the counts, by place
        self.place = {count: i for i, count in enumerate(self.names)}
        n = len(self.names)
        self.low, self.high = np.zeros(n), np.full(n, _FAR * far + 1000.0)  # bounds of each count
        self._solutions: list[Floats] = []
        self.least, self.most = np.full(n, np.inf), np.full(n, -np.inf)  # in any solution so far
        equal = [one for one in relations if one.low == one.high]
        self._equal, self._sums = self._matrix(equal), np.array([one.low for one in equal])
        self._limits, self._limit = self._at_most([r for r in relations if r.low != r.high])
        self._rows = vstack([self._equal, self._limits]).tocsr()
        self._columns, self._pattern = self._rows.tocsc(), abs(self._rows).sign()
        self._parts: dict[int, _Part] = {}

    def _matrix(self, relations: Sequence[Relation]) -> Any:
        terms = [(row, self.place[c], w) for row, one in enumerate(relations) for c, w in one.terms]
        rows, columns, weights = zip(*terms, strict=True) if terms else ((), (), ())
        return csr_array((weights, (rows, columns)), (len(relations), len(self.names)))

    def _at_most(self, relations: Sequence[Relation]) -> tuple[Any, Floats]:
        """Relations as sums that are at most a value."""
        most = [one for one in relations if one.high < np.inf]
        least = [one for one in relations if one.low > -np.inf]
        values = [*(one.high for one in most), *(-one.low for one in least)]
        return vstack([self._matrix(most), -self._matrix(least)]).tocsr(), np.array(values, dtype=float)

    def bound(self, count: Count, low: float, high: float) -> None:
        """Set the bounds of a count; solutions seen in which it lies beyond them are dropped.

        Coarser is not always wider: 70 is 68 to 72 by fives, and 70 to 89 by twenties.
        """
        i = self.place[count]
        self.low[i], self.high[i] = low, min(high, self.high.max())
        kept = [one for one in self._solutions if self.low[i] - _TINY <= one[i] <= self.high[i] + _TINY]
        if len(kept) < len(self._solutions):
            n = len(self.names)
            self._solutions = kept
            self.least = np.min(kept, axis=0) if kept else np.full(n, np.inf)
            self.most = np.max(kept, axis=0) if kept else np.full(n, -np.inf)

    def extreme(self, i: int, sign: int, *, nearby: bool = False) -> tuple[float, Floats]:
        """Return the least (sign 1) or greatest (-1) value of count i, and what bounds matter.

        The second value says for each count how much the value moves with that count's bounds.
        With `nearby` only counts around it are looked at, which is fast and gives a wider range.
        """
        part = self._part(i) if nearby else None
        n = len(self.names)
        chosen = np.arange(n) if part is None else part.places
        found = self._solve(np.where(chosen == i, float(sign), 0.0), part)
        weights = np.zeros(n)
        weights[chosen] = np.abs(found.lower.marginals) + np.abs(found.upper.marginals)
        return sign * found.fun, weights

    def _solve(self, goal: Floats, part: _Part | None = None) -> Any:
        own = part or _Part(np.arange(len(goal)), self._equal, self._sums, self._limits, self._limit)
        for method, options in _SOLVERS:
            found = linprog(
                goal,
                A_ub=own.limits,
                b_ub=own.limit,
                A_eq=own.equal,
                b_eq=own.sums,
                bounds=np.column_stack([self.low[own.places], self.high[own.places]]),
                method=method,
                options=options,
            )
            if found.status == 0:
                break
        else:
            raise AssertionError(f"the counts contradict one another: {found.message}")
        if part is None:
            self._see(found.x)
        return found

    def _part(self, i: int) -> _Part:
        """The counts around one, and the relations between these alone."""
        if i not in self._parts:
            places = np.array(self._around(i))
            inside = np.zeros(len(self.names))
            inside[places] = 1.0
            whole = np.asarray(self._pattern @ (1.0 - inside)) == 0
            n = self._equal.shape[0]
            equal, limits = np.flatnonzero(whole[:n]), np.flatnonzero(whole[n:])
            self._parts[i] = _Part(
                places,
                self._equal[equal][:, places],
                self._sums[equal],
                self._limits[limits][:, places],
                self._limit[limits],
            )
        return self._parts[i]

    def _around(self, i: int) -> list[int]:
        """Counts related to one, then those related to these, and so on; few relations first."""
        found, todo = {i: None}, [i]
        while todo and len(found) < _NEARBY:
            here = todo.pop(0)
            rows = self._columns.indices[slice(*self._columns.indptr[here : here + 2])]
            if here != i and len(rows) > _HUB:
                continue
            for row in rows.tolist():
                for j in self._rows.indices[slice(*self._rows.indptr[row : row + 2])].tolist():
                    if j not in found:
                        found[j] = None
                        todo.append(j)
        return sorted(found)

    def _see(self, solution: Floats) -> None:
        self._solutions.append(solution)
        self.least = np.minimum(self.least, solution)
        self.most = np.maximum(self.most, solution)

    def look_down(self, places: Sequence[int], weights: Floats) -> None:
        """See a solution in which many counts are small at once."""
        goal = np.zeros(len(self.names))
        goal[list(places)] = weights
        self._solve(goal)

    def look_up(self, places: Sequence[int], weights: Floats, enough: float) -> None:
        """See a solution in which many counts are large at once, each rewarded up to a value."""
        n, m = len(self.names), len(places)
        pick = csr_array((np.ones(m), (np.arange(m), list(places))), (m, n))
        found = linprog(
            np.concatenate([np.zeros(n), -weights]),
            A_ub=vstack([hstack([self._limits, csr_array((self._limits.shape[0], m))]), hstack([-pick, identity(m)])]),
            b_ub=np.concatenate([self._limit, np.zeros(m)]),
            A_eq=hstack([self._equal, csr_array((self._equal.shape[0], m))]),
            b_eq=self._sums,
            bounds=np.column_stack([np.append(self.low, np.zeros(m)), np.append(self.high, np.full(m, enough))]),
            method="highs-ds",
        )
        if found.status == 0:
            self._see(found.x[:n])

    def near(self, i: int, hops: int) -> list[int]:
        """Return the counts that share a relation with one, or with such a one, and so on."""
        seen = {i}
        for _ in range(hops):
            for matrix in (self._equal, self._limits):
                rows = np.unique(matrix[:, sorted(seen)].nonzero()[0])
                seen |= set(matrix[rows].nonzero()[1].tolist())
        return sorted(seen)


def solved(relations: Sequence[Relation], exact: Mapping[Count, float]) -> dict[Count, float]:
    """Return the values of counts that are known, and of those that follow from them by sums."""
    made = dict(exact)
    sums = [one for one in relations if one.low == one.high]
    while True:
        rest = []
        for one in sums:
            lacking = [(c, w) for c, w in one.terms if c not in made]
            if len(lacking) == 1:
                others = sum(w * made[c] for c, w in one.terms if c in made)
                value = (one.low - others) / lacking[0][1]
                if value > -_TINY:  # else a relation is wrong, which `_contradicting` finds
                    made[lacking[0][0]] = value
            elif lacking:
                rest.append(one)
        if len(rest) == len(sums):
            return made
        sums = rest


def holds(one: Relation, exact: Mapping[Count, float]) -> bool:
    """Return whether known counts meet a relation; True where one of them is not known."""
    if any(c not in exact for c, _ in one.terms):
        return True
    value = sum(w * exact[c] for c, w in one.terms)
    return one.low - _TINY <= value <= one.high + _TINY


def _contradicting(relations: Sequence[Relation], exact: Mapping[Count, float]) -> list[Relation]:
    """Relations of which each can hold, but not all together, whatever the unknown counts are."""
    open_ones = [one for one in relations if any(c not in exact for c, _ in one.terms)]
    unknown = dict.fromkeys(c for one in open_ones for c, _ in one.terms if c not in exact)
    place = {count: i for i, count in enumerate(unknown)}
    n, m = len(place), len(open_ones)
    if not m:
        return []
    terms = [(row, place[c], w) for row, one in enumerate(open_ones) for c, w in one.terms if c not in exact]
    rows, columns, weights = zip(*terms, strict=True)
    sums = csr_array((weights, (rows, columns)), (m, n))
    known = np.array([sum(w * exact[c] for c, w in one.terms if c in exact) for one in open_ones])
    low = np.array([one.low for one in open_ones]) - known
    high = np.array([one.high for one in open_ones]) - known
    has_low, has_high = np.flatnonzero(low > -np.inf), np.flatnonzero(high < np.inf)
    each = identity(m, format="csr")
    found = linprog(
        np.append(np.zeros(n), np.ones(m)),
        A_ub=vstack([hstack([-sums[has_low], -each[has_low]]), hstack([sums[has_high], -each[has_high]])]),
        b_ub=np.concatenate([-low[has_low], high[has_high]]),
        method="highs-ds",
    )
    assert found.status == 0
    return [open_ones[i] for i in np.flatnonzero(found.x[n:] > _TINY)]
