"""The linear programme of somebody who has an export: what each count can be, given all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, hstack, identity, vstack

from analysis.disclosure.counts import Count, Relation

Floats = NDArray[np.float64]
Places = NDArray[np.int64]
TINY: Final = 1e-6
# Without presolve the fastest; now and then it loses itself in numbers of different sizes.
_SOLVERS: Final[Sequence[tuple[str, dict[str, bool]]]] = (
    ("highs-ds", {"presolve": False}),
    ("highs-ds", {}),
    ("highs-ipm", {}),
)
_FAR: Final = 4.0  # times the largest count: what no count exceeds
_NEARBY: Final = 300  # counts
_HUB: Final = 40  # relations of a count that most others are related to


@dataclass(frozen=True, slots=True)
class _Part:
    """Some counts and the relations between them."""

    places: Places
    equal: Any
    sums: Floats
    limits: Any
    limit: Floats


class LinearProgram:
    """Counts between bounds, and how they are related.

    Attributes:
        names: of the counts, by place.
        place: of each count.
        low, high: bounds of each count.
        least, most: the smallest and largest value of each count in any solution seen so far.
    """

    def __init__(self, names: Sequence[Count], relations: Sequence[Relation], far: float) -> None:
        self.names = list(names)
        self.place = {count: i for i, count in enumerate(self.names)}
        n = len(self.names)
        self.low, self.high = np.zeros(n), np.full(n, _FAR * far + 1000.0)
        self._solutions: list[Floats] = []
        self.least, self.most = np.full(n, np.inf), np.full(n, -np.inf)
        equal = [one for one in relations if one.low == one.high]
        self._equal, self._sums = self._matrix(equal), np.array([one.low for one in equal])
        self._limits, self._limit = self._at_most([r for r in relations if r.low != r.high])
        self._rows = vstack([self._equal, self._limits]).tocsr()
        self._columns, self._pattern = self._rows.tocsc(), abs(self._rows).sign()
        self._parts: dict[int, _Part] = {}

    def _matrix(self, relations: Sequence[Relation]) -> Any:
        rows, columns, weights = [], [], []
        for row, one in enumerate(relations):
            for count, weight in one.terms:
                rows.append(row)
                columns.append(self.place[count])
                weights.append(weight)
        return csr_array((weights, (rows, columns)), (len(relations), len(self.names)))

    def _at_most(self, relations: Sequence[Relation]) -> tuple[Any, Floats]:
        """Relations as sums that are at most a value."""
        most = [one for one in relations if one.high < np.inf]
        least = [one for one in relations if one.low > -np.inf]
        values = [*(one.high for one in most), *(-one.low for one in least)]
        both = vstack([self._matrix(most), -self._matrix(least)])
        return both.tocsr(), np.array(values, dtype=float)

    def bound(self, count: Count, low: float, high: float) -> None:
        """Say between which values a count lies; solutions seen in which it does not are none.

        Coarser is not always wider: 70 is 68 to 72 by fives, and 70 to 89 by twenties.
        """
        i = self.place[count]
        self.low[i], self.high[i] = low, min(high, self.high.max())
        kept = [one for one in self._solutions if self.low[i] - TINY <= one[i] <= self.high[i] + TINY]
        if len(kept) < len(self._solutions):
            n = len(self.names)
            self._solutions = kept
            self.least = np.min(kept, axis=0) if kept else np.full(n, np.inf)
            self.most = np.max(kept, axis=0) if kept else np.full(n, -np.inf)

    def extreme(self, i: int, sign: int, *, nearby: bool = False) -> tuple[float, Floats]:
        """Return the least (sign 1) or greatest (-1) value of a count, and what bounds matter.

        Args:
            i: place of the count.
            sign: of the goal.
            nearby: look at the counts around it alone, which is fast, and tells less than all do.

        Returns:
            The value, and for each count how much it moves with that count's bounds.
        """
        part = self._part(i) if nearby else None
        n = len(self.names)
        chosen = np.arange(n) if part is None else part.places
        goal = np.where(chosen == i, float(sign), 0.0)
        found = self._solve(goal, part)
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
        limits = vstack([hstack([self._limits, csr_array((self._limits.shape[0], m))]), hstack([-pick, identity(m)])])
        bounds = np.column_stack(
            [np.concatenate([self.low, np.zeros(m)]), np.concatenate([self.high, np.full(m, enough)])]
        )
        found = linprog(
            np.concatenate([np.zeros(n), -weights]),
            A_ub=limits,
            b_ub=np.concatenate([self._limit, np.zeros(m)]),
            b_eq=self._sums,
            bounds=bounds,
            A_eq=hstack([self._equal, csr_array((self._equal.shape[0], m))]),
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
                if value > -TINY:  # else a relation is wrong, which `contradicting` finds
                    made[lacking[0][0]] = value
            elif lacking:
                rest.append(one)
        if len(rest) == len(sums):
            return made
        sums = rest


def contradicting(relations: Sequence[Relation], exact: Mapping[Count, float]) -> list[Relation]:
    """Return relations that cannot hold all together, whatever the counts are that are not known.

    Args:
        relations: each of which can hold by itself.
        exact: values of known counts.
    """
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
    limits = vstack([hstack([-sums[has_low], -each[has_low]]), hstack([sums[has_high], -each[has_high]])])
    found = linprog(
        np.concatenate([np.zeros(n), np.ones(m)]),
        A_ub=limits,
        b_ub=np.concatenate([-low[has_low], high[has_high]]),
        method="highs-ds",
    )
    assert found.status == 0
    return [open_ones[i] for i in np.flatnonzero(found.x[n:] > TINY)]


def holds(one: Relation, exact: Mapping[Count, float]) -> bool:
    """Return whether known counts meet a relation; True where one of them is not known."""
    if any(c not in exact for c, _ in one.terms):
        return True
    value = sum(w * exact[c] for c, w in one.terms)
    return one.low - TINY <= value <= one.high + TINY
