"""Somebody who has an export and tries to find the counts that it hides.

The hunter knows the rules (counts are rounded, "*" is hidden, "760±20" is rounded more), reads
every file as intervals, writes down everything that adds up, is at most something else or follows
from an estimate, and asks linear programmes for the least and the greatest value of a hidden count.
Nothing of this uses the code under test: `hunt_tables` says in its own words what the files mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import linprog, milp
from scipy.sparse import coo_array

Key = tuple[Any, ...]
FAR = 1e6


@dataclass
class Hunter:
    """What is known of each count, and what adds up.

    Attributes:
        k: counts of 1 to k - 1 are hidden.
        base: counts are rounded to its multiples; 1 when they are exact.
        low, high: bounds of each count.
        hidden: counts that a file shows as "*".
        sums: weights of counts, and between what their sum lies.
        wholes: for each count, those that it is part of.
    """

    k: int
    base: int
    low: dict[Key, float] = field(default_factory=dict)
    high: dict[Key, float] = field(default_factory=dict)
    hidden: dict[Key, None] = field(default_factory=dict)
    sums: list[tuple[dict[Key, float], float, float]] = field(default_factory=list)
    wholes: dict[Key, set[Key]] = field(default_factory=dict)
    fractions: set[Key] = field(default_factory=set)

    def between(self, key: Key, low: float, high: float) -> None:
        """A count lies between two values."""
        self.low[key] = max(self.low.get(key, 0.0), low)
        self.high[key] = min(self.high.get(key, FAR), high)

    def see(self, key: Key, text: str) -> None:
        """Learn from a cell: a count, "*", "760±20", or nothing."""
        self.between(key, 0.0, FAR)
        if text == "*":
            self.hidden[key] = None
        elif text:
            value, _, off = text.partition("±")
            n, base = float(value), 2 * float(off) if off else float(self.base)
            if n == 0:
                self.between(key, 0.0, 0.0)
            else:
                least = 1.0 if n == base else math.ceil(n - base / 2)
                self.between(key, max(least, self.k, 1.0), math.ceil(n + base / 2) - 1.0)

    def weighted(self, weights: Mapping[Key, float], low: float, high: float) -> None:
        """A weighted sum of counts lies between two values."""
        for key in weights:
            self.between(key, 0.0, FAR)
        self.sums.append((dict(weights), low, high))

    def adds_up(self, total: Key, parts: Iterable[Key]) -> None:
        """Parts add up to a total."""
        weights: dict[Key, float] = {total: 1.0}
        for part in parts:
            weights[part] = weights.get(part, 0.0) - 1.0
            self.wholes.setdefault(part, set()).add(total)
        if len(weights) > 1:
            self.weighted(weights, 0.0, 0.0)

    def same(self, a: Key, b: Key) -> None:
        """Two names of one count."""
        if a != b:
            self.adds_up(a, [b])
            self.adds_up(b, [a])

    def at_most(self, a: Key, b: Key) -> None:
        """The first is part of the second."""
        if a != b:
            self.weighted({b: 1.0, a: -1.0}, 0.0, math.inf)
            self.wholes.setdefault(a, set()).add(b)

    def think(self) -> Thoughts:
        """Set up the programmes."""
        for key in self.hidden:
            # A part of something hidden may be 0 and hidden with it; all else is not 0.
            if not self._is_part_of_hidden(key):
                self.between(key, 1.0, FAR)
        return Thoughts(self)

    def _is_part_of_hidden(self, key: Key) -> bool:
        seen, todo = {key}, [key]
        while todo:
            for whole in self.wholes.get(todo.pop(), ()):
                if whole not in seen:
                    if whole in self.hidden:
                        return True
                    seen.add(whole)
                    todo.append(whole)
        return False


class Thoughts:
    """The programmes of a hunter.

    Attributes:
        least, most: smallest and largest value of each count in the solutions seen so far.
    """

    def __init__(self, hunter: Hunter) -> None:
        self._hunter = hunter
        self._keys = list(hunter.low)
        self.place = {key: i for i, key in enumerate(self._keys)}
        n = len(self._keys)
        self._bounds = np.array([(hunter.low[k], hunter.high[k]) for k in self._keys])
        equal = [one for one in hunter.sums if one[1] == one[2]]
        upper = [one for one in hunter.sums if one[1] != one[2] and one[2] < math.inf]
        lower = [one for one in hunter.sums if one[1] != one[2] and one[1] > -math.inf]
        minus = [({k: -w for k, w in one[0].items()}, 0.0, -one[1]) for one in lower]
        self._equal = self._matrix(equal, n), np.array([one[1] for one in equal])
        self._limit = self._matrix([*upper, *minus], n), np.array([o[2] for o in [*upper, *minus]])
        self.least, self.most = np.full(n, np.inf), np.full(n, -np.inf)

    def _matrix(self, sums: list[Any], n: int) -> Any:
        rows, columns, values = [], [], []
        for row, (weights, _, _) in enumerate(sums):
            for key, weight in weights.items():
                rows.append(row)
                columns.append(self.place[key])
                values.append(weight)
        return coo_array((values, (rows, columns)), shape=(len(sums), n)).tocsr()

    def is_possible(self) -> bool:
        """Whether the hunter has read the export without a contradiction."""
        return self._solve(np.zeros(len(self._keys))) is not None

    def _solve(self, goal: Any) -> float | None:
        found = linprog(
            goal,
            A_ub=self._limit[0],
            b_ub=self._limit[1],
            A_eq=self._equal[0],
            b_eq=self._equal[1],
            bounds=self._bounds,
            method="highs-ds",
            options={"presolve": False},
        )
        if found.status != 0:
            return None
        self.least, self.most = np.minimum(self.least, found.x), np.maximum(self.most, found.x)
        return float(found.fun)

    def range(self, key: Key) -> tuple[int, int]:
        """The least and the greatest whole number that a count can be."""
        goal = np.zeros(len(self._keys))
        goal[self.place[key]] = 1.0
        low, high = self._solve(goal), self._solve(-goal)
        assert low is not None
        assert high is not None
        return math.ceil(low - 1e-6), math.floor(-high + 1e-6)

    def whole_range(self, key: Key) -> tuple[int, int]:
        """The same where all counts are whole numbers, which is slow."""
        n = len(self._keys)
        whole = np.array([key not in self._hunter.fractions for key in self._keys], dtype=int)
        found = []
        for sign in (1.0, -1.0):
            goal = np.zeros(n)
            goal[self.place[key]] = sign
            made = milp(
                goal,
                integrality=whole,
                bounds=(self._bounds[:, 0], self._bounds[:, 1]),
                constraints=[
                    (self._equal[0], self._equal[1], self._equal[1]),
                    (self._limit[0], -np.inf, self._limit[1]),
                ],
                options={"time_limit": 20},
            )
            found.append(sign * made.fun)
        return round(found[0]), round(found[1])

    def narrowed(
        self, keys: Iterable[Key], k: int, enough: float = math.inf, seed: int = 0
    ) -> dict[Key, tuple[int, int]]:
        """Of hidden counts those that cannot have every value of 1 to k - 1, with their ranges.

        No more than `enough` of them.
        """
        todo = list(keys)
        rng = np.random.default_rng(seed)
        for sign in (1.0, -1.0, 1.0, -1.0):
            goal = np.zeros(len(self._keys))
            for key in todo:
                goal[self.place[key]] = sign * rng.uniform(0.1, 1.0)
            self._solve(goal)
            todo = [key for key in todo if not self._is_wide(key, k)]
        found = {}
        for key in todo:
            if len(found) < enough and not self._is_wide(key, k):
                low, high = self.range(key)
                if low > 1 or high < k - 1:
                    found[key] = low, high
        return found

    def _is_wide(self, key: Key, k: int) -> bool:
        i = self.place[key]
        return bool(self.least[i] <= 1 + 1e-6 and self.most[i] >= k - 1 - 1e-6)
