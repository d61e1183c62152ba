"""Check whether a hidden count can be found, and hide more until it cannot.

Whoever has an export knows every shown count within its rounding, that a hidden one is 1 or more,
and how counts are related. The least and the greatest value that this leaves to a hidden count are
two linear programs (`linear_program`). As long as one of them tells more than it may,
a shown count that it rests on is rounded more, or hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.disclosure.counts import YEARS, Count, Relation, hidden_parts
from analysis.disclosure.linear_program import TINY, Floats, LinearProgram, contradicting, holds, solved

_STEPS: Final = (1, 2, 5, 10)  # times twice k, how much counts are rounded in place of `base`
_MOST_OF_ALL: Final = 0.2  # the same where all counts are rounded more at once
_MOST: Final = 0.4  # of a count: how much it may be rounded before it is hidden instead
_DRAWS: Final = 6
_HOPS: Final = 2
_MANY: Final = 60  # small counts that can be found, so that large ones are rounded more at once


@dataclass(slots=True)
class Cell:
    """A count that stands in at least one table.

    Attributes:
        value: exact.
        base: what it is rounded to; 0 where it is hidden.
        needed: how many estimates are hidden with it.
        is_whole: whether it is a whole number; person-years are not.
    """

    value: float
    base: float
    needed: int = 0
    is_whole: bool = True


def rounded(value: float, base: float) -> float:
    """Return a number to the nearest multiple of base, halves up, but never 0 if it is not."""
    made = math.floor(value / base + 0.5) * base
    return float(base if made == 0 and value > 0 else made)


@dataclass(frozen=True, slots=True)
class Promise:
    """What nobody may find out, whatever else is shown.

    A hidden count of 1 to k - 1 can have each of these values. What is shown nowhere, but is a
    small difference of others, has half as many values at least.

    Attributes:
        k: counts of 1 to k - 1 are small.
        base: what shown counts are rounded to.
    """

    k: int
    base: int

    def coarser(self, cell: Cell, most: float = _MOST) -> float:
        """Return the next larger base of a count, at most a share of it, or 0: hide it."""
        first = math.ceil(2 * self.k / self.base) * self.base
        for step in _STEPS:
            if first * step > cell.base and first * step <= most * cell.value:
                return float(first * step)
        return 0.0

    def keeps(self, low: float, high: float, *, is_shown: bool) -> bool:
        """Return whether a range tells no more of a small count than may be told.

        Args:
            low: least value that it can have.
            high: greatest.
            is_shown: whether a table shows it, as hidden.
        """
        if is_shown:
            return low <= 1 + TINY and high >= self.k - 1 - TINY
        return high - low >= math.ceil(self.k / 2) - 1 - TINY


class Audit:
    """All counts of an export, how they are related, and what is still to be taken away.

    Attributes:
        cells: counts that stand in tables; `run` changes their bases.
        left_out: relations that the exact counts do not meet: what is said of them is wrong.
        unsafe: after `run`, small counts for which nothing was left to be taken away.
    """

    def __init__(
        self,
        cells: Mapping[Count, Cell],
        relations: Sequence[Relation],
        promise: Promise,
        unseen: Mapping[Count, float],
    ) -> None:
        """Set up.

        Args:
            cells: counts that stand in tables; the small ones hidden already.
            relations: between them and others.
            promise: to be kept.
            unseen: exact values of counts that stand in no table.
        """
        self.cells = cells
        self.unsafe: list[Count] = []
        self._n_taken = 0
        self._promise = promise
        exact = {count: cell.value for count, cell in cells.items()} | dict(unseen)
        self._exact = solved(relations, exact)
        kept = [one for one in relations if holds(one, self._exact)]
        wrong = set(contradicting(kept, self._exact))
        self.left_out = [one for one in relations if one in wrong or not holds(one, self._exact)]
        kept = [one for one in kept if one not in wrong]
        names = dict.fromkeys([*cells, *(count for one in kept for count, _ in one.terms)])
        far = max((cell.value for cell in cells.values()), default=0.0)
        self._programme = LinearProgram(list(names), kept, far)
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
        """Say what a reader knows of a count from its cell alone.

        Of a hidden one that is not small even that: it is safer to rely on nobody's not knowing.
        """
        cell, k = self.cells[count], self._promise.k
        if not cell.base:
            low = 0.0 if not cell.is_whole or count in self._within else 1.0
            if cell.is_whole and cell.value >= k:
                low = float(k)
            self._programme.bound(count, low, np.inf)
        elif cell.value == 0:
            self._programme.bound(count, 0.0, 0.0)
        else:
            shown, half = rounded(cell.value, cell.base), cell.base / 2
            low, high = shown - half, shown + half
            if cell.is_whole:
                low = 1 if shown == cell.base else math.ceil(low)
                low, high = max(low, k, 1), math.ceil(high) - 1
            self._programme.bound(count, max(low, 0.0), high)

    def run(self) -> None:
        """Take away until the promise holds."""
        todo = self._open(self._small())
        self._look_around(todo, _DRAWS)
        if len(self._open(todo)) > _MANY:
            self._round_all_more()
        n_taken = -1
        while self._open(todo) and self._n_taken > n_taken:
            n_taken = self._n_taken
            # What the counts nearby tell is found fast, and a part of the truth.
            for nearby in (True, False):
                self._look_around(todo, _DRAWS)
                unsafe = self._open(todo)
                while unsafe:
                    unsafe = self._pass(unsafe, nearby=nearby)
                    self._look_around(unsafe, 1)
        self.unsafe = [self._programme.names[i] for i in self._open(todo)]

    def _round_all_more(self) -> None:
        """Round all large counts more: of a few hundred people nearly every sum tells something."""
        for count, cell in self.cells.items():
            if cell.is_whole and cell.base and self._promise.coarser(cell, _MOST_OF_ALL):
                self._take_away(self._programme.place[count])

    def _pass(self, places: Sequence[int], *, nearby: bool) -> list[int]:
        """Take away one count for each small one, if none beside it was taken away already.

        Returns:
            Those that may still be found.
        """
        touched: set[int] = set()
        left = []
        for i in self._open(places):
            if not touched.isdisjoint(self._programme.near(i, 1)):
                left.append(i)
                continue
            j = self._worst(i, nearby=nearby)
            if j is not None:
                self._take_away(j)
                touched.update(self._programme.near(j, 1))
                left.append(i)
        return left

    def range_of(self, count: Count) -> tuple[float, float]:
        """Return the least and the greatest value that a count can have."""
        i = self._programme.place[count]
        return self._programme.extreme(i, 1)[0], self._programme.extreme(i, -1)[0]

    def _small(self) -> list[int]:
        """Counts that are small, and hidden or shown nowhere."""
        made = []
        for count, i in self._programme.place.items():
            cell, value = self.cells.get(count), self._exact.get(count, 0.0)
            is_whole = count.unit != YEARS if cell is None else cell.is_whole
            is_hidden = cell is None or not cell.base
            if is_whole and is_hidden and TINY < value < self._promise.k - TINY:
                made.append(i)
        return made

    def _is_shown(self, i: int) -> bool:
        return self._programme.names[i] in self.cells

    def _open(self, places: Sequence[int]) -> list[int]:
        """Those of which no solution so far shows that they are safe."""
        p = self._programme
        return [i for i in places if not self._promise.keeps(p.least[i], p.most[i], is_shown=self._is_shown(i))]

    def _look_around(self, todo: Sequence[int], draws: int) -> None:
        rng = np.random.default_rng(0)
        for _ in range(draws):
            todo = self._open(todo)
            if not todo:
                return
            weights = rng.uniform(0.1, 1.0, len(todo))
            self._programme.look_down(todo, weights)
            self._programme.look_up(todo, weights, self._promise.k - 1.0)

    def _worst(self, i: int, *, nearby: bool) -> int | None:
        """The shown count that tells most of a small one, for what it costs; None if none does."""
        p, is_shown = self._programme, self._is_shown(i)
        low, high, far = p.least[i], p.most[i], self._promise.k - 1
        if self._promise.keeps(low, high, is_shown=is_shown):
            return None
        tells: list[tuple[float, Floats]] = []
        if not is_shown or low > 1 + TINY:
            low, weights = p.extreme(i, 1, nearby=nearby)
            tells.append((low - 1 if is_shown else far, weights))
        if self._promise.keeps(low, high, is_shown=is_shown):
            return None
        if not is_shown or high < far - TINY:
            high, weights = p.extreme(i, -1, nearby=nearby)
            tells.append((far - high if is_shown else far, weights))
        if self._promise.keeps(low, high, is_shown=is_shown):
            return None
        gains: dict[int, float] = {}
        for lacking, weights in tells:
            for j in np.flatnonzero(weights > TINY).tolist():
                gains[j] = gains.get(j, 0.0) + self._gain(j, max(lacking, 0.0), weights[j])
        best = max(gains, key=lambda j: (gains[j], -j), default=i)
        return best if gains.get(best, 0.0) > 0 else self._smallest_near(i)

    def _gain(self, j: int, lacking: float, weight: float) -> float:
        """How much wider a range becomes, for what it costs to round or hide a count."""
        cell = self.cells.get(self._programme.names[j])
        if cell is None or not cell.base or not cell.value:
            return 0.0
        base = self._promise.coarser(cell)
        if not base:
            return lacking / (1.0 + cell.value / 20 + cell.needed)
        return min(lacking, weight * (base - cell.base) / 2) / (base / cell.value)

    def _smallest_near(self, i: int) -> int | None:
        """The smallest shown count that is related to a small one."""
        near = self._programme.near(i, _HOPS)
        shown = [j for j in near if self._gain(j, 1.0, 1.0) > 0]
        names = self._programme.names
        return min(shown, key=lambda j: (self.cells[names[j]].value, j), default=None)

    def _take_away(self, j: int) -> None:
        self._n_taken += 1
        count = self._programme.names[j]
        self.cells[count].base = self._promise.coarser(self.cells[count])
        self._set_bounds(count)
