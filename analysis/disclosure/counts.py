"""What a count counts, and how counts of different tables are related by that.

"Women followed for atrial fibrillation who had it within two years" is the unit "people", a path of
exclusions and ends (left, analysed, with the outcome), a level (female) and a time (2 years). Two
counts of the same are one count, in whatever table; a count with more conditions is at most one
with fewer; and the parts of a whole add up to it (`relations_of`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np

from lvm_core.units import DAYS_PER_YEAR

EVERYBODY: Final = "everybody"
"""The group, and the classification, of all."""
PEOPLE: Final = "people"
ECGS: Final = "ECGs"
PEOPLE_OF_ECGS: Final = "people of ECGs"
"""People of whom at least one ECG meets the conditions, so that parts can overlap."""
YEARS: Final = "person-years"
_UNKNOWN_WORDS: Final = frozenset({"", "missing", "unknown"})

Pair = tuple[str, str]
Time = tuple[str, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """What is counted."""

    unit: str = PEOPLE  # PEOPLE, ECGS or another one
    # Parts of parts, each of a division of everybody: (("left out", "left"), ("af", "analysed"),
    # ("status", "outcome")).
    path: tuple[Pair, ...] = ()
    parts: frozenset[Pair] = frozenset()  # of further divisions of everybody at the end of the path
    levels: frozenset[Pair] = frozenset()  # of classifications in which some people may be unknown
    known: frozenset[str] = frozenset()  # what is known of all of them, beside levels
    # Sets of names; of each person at least one of each set is not known.
    unknown: frozenset[frozenset[str]] = frozenset()
    # Follow-up ended by this time: of which outcome, and between which years; None: no condition.
    ended: Time | None = None
    followed: Time | None = None  # followed beyond this time; None: no condition
    _key: tuple[object, ...] = field(init=False, repr=False)
    _hash: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        key = (self.unit, self.path, self.parts, self.levels, self.known, self.unknown, self.ended, self.followed)
        object.__setattr__(self, "_key", key)
        object.__setattr__(self, "_hash", hash(key))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Count) and self._hash == other._hash and self._key == other._key

    def at(self, *path: Pair) -> Count:
        """Return the count of a part of these."""
        return replace(self, path=(*self.path, *path))

    def part(self, name: str, value: object) -> Count:
        """Return the count of a part by a division of its own."""
        return replace(self, parts=self.parts | {(name, str(value))})

    def level(self, name: str, value: object) -> Count:
        """Return the count of those with a level; of those without a known one, for "missing"."""
        text = str(value)
        if text in _UNKNOWN_WORDS:
            return self.lacking(name)
        return replace(self, levels=self.levels | {(name, text)}, known=self.known - {name})

    def complete(self, *names: str) -> Count:
        """Return the count of those of whom all these are known."""
        levels = {name for name, _ in self.levels}
        return replace(self, known=(self.known | set(names)) - levels)

    def lacking(self, *names: str) -> Count:
        """Return the count of those of whom at least one of these is not known."""
        return replace(self, unknown=self.unknown | {frozenset(names)})

    def by(self, years: float, fuzz: float = 0.0) -> Count:
        """Return the count of those whose follow-up has ended by then, exact but for `fuzz`."""
        return replace(self, ended=(self._clock(), years - fuzz, years + fuzz))

    def after(self, years: float) -> Count:
        """Return the count of those who are followed beyond a time."""
        return replace(self, followed=(self._clock(), years, years))

    def of(self, unit: str) -> Count:
        """Return the count of the same in another unit."""
        return replace(self, unit=unit)

    def __str__(self) -> str:
        words = [value for _, value in self.path]
        words += sorted(f"{name} {value}" for name, value in self.parts | self.levels)
        words += [f"{', '.join(sorted(self.known))} known"] if self.known else []
        words += sorted(f"without {' or '.join(sorted(names))}" for names in self.unknown)
        words += [f"by {self.ended[2]:g}"] if self.ended else []
        words += [f"after {self.followed[1]:g}"] if self.followed else []
        return f"{self.unit}: {'; '.join(words)}"

    def _clock(self) -> str:
        """The outcome of the follow-up, second on the path."""
        return self.path[1][0] if len(self.path) > 1 else ""


_Way = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """Bounds of a weighted sum of counts."""

    terms: tuple[tuple[Count, float], ...]  # counts with their weights
    low: float = 0.0  # least
    high: float = 0.0  # most


class _Wholes:
    """The wholes that counts are parts of, and their other parts."""

    def __init__(self, published: Collection[Count]) -> None:
        self._values: dict[_Way, set[str]] = defaultdict(set)
        for one in published:
            for place, (name, value) in enumerate(one.path):
                self._values["path", one.path[:place], name].add(value)
            for kind in ("parts", "levels"):
                for name, value in getattr(one, kind):
                    self._values[kind, name].add(value)

    def of(self, one: Count) -> Iterator[tuple[Count, _Way]]:
        """Each whole that a count is part of, and what divides it."""
        yield from _undivided(one)
        if one.known:
            yield replace(one, known=frozenset()), ("known", one.known)
        for names in sorted(one.unknown, key=sorted):
            yield replace(one, unknown=one.unknown - {names}), ("known", names)
        if one.ended and one.ended[1] == one.ended[2]:
            yield replace(one, ended=None), ("time", one.ended)
        if one.followed:
            yield replace(one, followed=None), ("time", one.followed)

    def parts(self, whole: Count, way: _Way) -> list[Count]:
        """All parts of a whole."""
        kind, values = way[0], sorted(self._values.get(way, ()))
        if kind == "path":
            return [whole.at((way[2], value)) for value in values]
        if kind == "parts":
            return [whole.part(way[1], value) for value in values]
        if kind == "levels":
            return [whole.level(way[1], value) for value in values]
        if kind == "known":
            return [whole.complete(*way[1]), whole.lacking(*way[1])]
        return [replace(whole, ended=way[1]), replace(whole, followed=way[1])]


def relations_of(published: Collection[Count], longest_years: Mapping[str, float] | None = None) -> list[Relation]:
    """Return how counts are related by what they count.

    These are the sums over the parts of every whole that at least two published counts belong to;
    that a count is at most another whose conditions it includes; relations of ECGs and people, and
    of people and their years. Counts that are not published occur where they link published ones.
    `longest_years` is the longest follow-up of anybody, by outcome.
    """
    wholes = _Wholes(published)
    made = _divided(wholes, published)
    counts = dict.fromkeys([*published, *made])
    sums = []
    for whole, ways in made.items():
        for way in sorted(ways, key=_order):
            parts = wholes.parts(whole, way)
            counts.update(dict.fromkeys(parts))
            sums.append(_sum(whole, parts))
    sums += _chains(counts)
    at_most = _at_most(counts, sums)
    return [*sums, *at_most, *_of_units(counts), *_of_years(counts, longest_years or {})]


def _order(way: _Way) -> str:
    """Return a text to sort by; the text of a set would depend on the seed of hashes."""
    return str([sorted(one) if isinstance(one, frozenset) else one for one in way])


def parts_of(counts: Collection[Count], relations: Collection[Relation]) -> set[Count]:
    """Return the counts that are parts of some counts, or of their parts."""
    parts: dict[Count, list[Count]] = defaultdict(list)
    for one in relations:
        (whole, weight), *others = one.terms
        if weight == 1 and one.low == 0 and all(w == -1 for _, w in others):
            parts[whole] += [count for count, _ in others]
    todo, found = list(counts), set[Count]()
    while todo:
        new = [count for count in parts.get(todo.pop(), ()) if count not in found]
        found.update(new)
        todo += new
    return found


def hidden_parts(small: Collection[Count], zeros: Collection[Count], relations: Collection[Relation]) -> set[Count]:
    """Return parts of hidden small counts, which are hidden also where they are 0.

    A part that is shown as 0 would say that the others are not, and so how many there are. A part
    of a 0 that stays shown (`zeros`) is known to be 0, and shown, too.
    """
    found = parts_of(small, relations)
    return found - parts_of([zero for zero in zeros if zero not in found], relations)


def _divided(wholes: _Wholes, published: Collection[Count]) -> dict[Count, set[_Way]]:
    """The wholes that link two published counts at least, and what divides each."""
    found: dict[Count, dict[_Way, set[Count]]] = defaultdict(lambda: defaultdict(set))
    there = dict.fromkeys(published)
    for one in there:
        for whole, way in wholes.of(one):
            found[whole][way].add(one)
    kept = {
        whole: set(ways)
        for whole, ways in found.items()
        if len({part for parts in ways.values() for part in parts}) + (whole in there) > 1
    }
    # Those whose level is known are themselves part of a whole.
    for whole in list(kept):
        if whole.known:
            rest = replace(whole, known=frozenset())
            if rest in there or rest in kept:
                kept.setdefault(rest, set()).add(("known", whole.known))
    return kept


def _sum(whole: Count, parts: list[Count]) -> Relation:
    terms = ((whole, 1.0), *((part, -1.0) for part in parts))
    # Somebody can be in several parts by several ECGs.
    return Relation(terms, -np.inf if whole.unit == PEOPLE_OF_ECGS else 0.0, 0.0)


def _chains(counts: Collection[Count]) -> list[Relation]:
    """Events by a time are among those by each later one."""
    rows: dict[Count, list[Count]] = defaultdict(list)
    for one in counts:
        if one.ended and not one.followed:
            rows[replace(one, ended=None)].append(one)
    made = []
    for own in rows.values():
        own.sort(key=lambda one: one.ended or ())
        for a, b in pairwise(own):
            assert a.ended
            assert b.ended
            if a.ended[1] == a.ended[2] and b.ended[1] == b.ended[2]:
                between = replace(b, followed=a.ended)
                made.append(Relation(((b, 1.0), (a, -1.0), (between, -1.0))))
            elif a.ended[2] <= b.ended[1]:
                made.append(Relation(((b, 1.0), (a, -1.0)), 0.0, np.inf))
    return made


def _at_most(counts: Collection[Count], sums: Collection[Relation]) -> list[Relation]:
    """A count is at most each that has fewer or weaker conditions, if none is between them.

    Left out where that follows from sums, since no part of them is negative.
    """
    wider = _Wider(counts)
    wholes: dict[Count, set[Count]] = defaultdict(set)
    for relation in sums:
        for count, _ in relation.terms[1:]:
            wholes[count].add(relation.terms[0][0])
    made = []
    for one in counts:
        found = [more for more in wider.nearest(one) if more not in wholes[one]]
        between = [*found, *wholes[one]]
        for more in found:
            if not any(is_part(less, more) for less in between if less != more):
                made.append(Relation(((more, 1.0), (one, -1.0)), 0.0, np.inf))
    return made


def is_part(one: Count, whole: Count) -> bool:
    """Return whether the conditions of one count include those of another."""
    names = one.known | {name for name, _ in one.levels}
    return (
        one.unit == whole.unit
        and one.path[: len(whole.path)] == whole.path
        and whole.parts <= one.parts
        and whole.levels <= one.levels
        and whole.known <= names
        and all(any(less <= names for less in one.unknown) for names in whole.unknown)
        and (whole.ended is None or _is_by(one.ended, whole.ended))
        and (whole.followed is None or _is_by(whole.followed, one.followed))
    )


def _undivided(one: Count) -> Iterator[tuple[Count, _Way]]:
    """Counts with one part or level less in their conditions, and what divides them."""
    if len(one.path) > (2 if one.unit == YEARS else 0):  # years are of follow-up for one outcome
        yield replace(one, path=one.path[:-1]), ("path", one.path[:-1], one.path[-1][0])
    for pair in sorted(one.parts):
        yield replace(one, parts=one.parts - {pair}), ("parts", pair[0])
    for pair in sorted(one.levels):
        yield replace(one, levels=one.levels - {pair}).complete(pair[0]), ("levels", pair[0])


def _is_by(sooner: Time | None, later: Time | None) -> bool:
    """Return whether what has happened by one time has also happened by the other."""
    if sooner is None or later is None:
        return False
    return sooner == later or (sooner[0] == later[0] and sooner[2] <= later[1])


class _Wider:
    """Counts with fewer or weaker conditions than others."""

    def __init__(self, counts: Collection[Count]) -> None:
        self._there = set(counts)
        self._nearest: dict[Count, dict[Count, None]] = {}
        # Times of curves, which no two counts share, are left to `_chains`.
        ends = {one.ended for one in counts if one.ended}
        self._ended = sorted(time for time in ends if time[1] == time[2])
        self._followed = sorted({one.followed for one in counts if one.followed}, reverse=True)
        known = sorted({one.known for one in counts if one.known}, key=sorted)
        self._known = sorted(known, key=len, reverse=True)
        unknown = sorted({names for one in counts for names in one.unknown}, key=sorted)
        self._unknown = sorted(unknown, key=len)

    def nearest(self, one: Count) -> Collection[Count]:
        """The counts that one is part of, without those that they are part of."""
        if one not in self._nearest:
            found: dict[Count, None] = {}
            for more in self._steps(one):
                found |= dict.fromkeys([more] if more in self._there else self.nearest(more))
            self._nearest[one] = found
        return self._nearest[one]

    def _steps(self, one: Count) -> Iterator[Count]:
        """Counts with one condition weakened by one step."""
        yield from (more for more, _ in _undivided(one))
        yield from self._knowing_less(one)
        for names in sorted(one.unknown, key=sorted):
            rest = one.unknown - {names}
            for more in self._unknown:
                if more > names:
                    yield replace(one, unknown=rest | {more})
            yield replace(one, unknown=rest)
        yield from self._at_other_times(one)

    def _knowing_less(self, one: Count) -> Iterator[Count]:
        """Counts with less known of the people, but not less than in another such count."""
        found: list[frozenset[str]] = []
        for names in self._known if one.known else ():
            if names < one.known and not any(names < more for more in found):
                less = replace(one, known=names)
                if less in self._there:
                    found.append(names)
                yield less
        if one.known:
            yield replace(one, known=frozenset())

    def _at_other_times(self, one: Count) -> Iterator[Count]:
        if one.ended:
            name, _, high = one.ended
            later = next((t for t in self._ended if t[0] == name and t[1] >= high and t != one.ended), None)
            yield replace(one, ended=later)
        if one.followed:
            name, low, _ = one.followed
            sooner = next((t for t in self._followed if t[0] == name and t[2] <= low and t != one.followed), None)
            yield replace(one, followed=sooner)


def _of_units(counts: Collection[Count]) -> list[Relation]:
    there = dict.fromkeys(counts)
    return [
        Relation(((one.of(ECGS), 1.0), (one, -1.0)), 0.0, np.inf)
        for one in there
        if one.unit in (PEOPLE, PEOPLE_OF_ECGS) and one.of(ECGS) in there
    ]


def _of_years(counts: Collection[Count], longest: Mapping[str, float]) -> list[Relation]:
    """Each person contributes at least a day, and no more than the longest follow-up."""
    there = dict.fromkeys(counts)
    made = []
    for years in there:
        most = longest.get(years.path[1][0]) if len(years.path) > 1 else None
        if years.unit != YEARS or most is None:
            continue
        for unit in (PEOPLE, ECGS):
            who = years.of(unit)
            if who in there:
                made.append(Relation(((who, most), (years, -1.0)), 0.0, np.inf))
                made.append(Relation(((years, 1.0), (who, -1 / DAYS_PER_YEAR)), 0.0, np.inf))
                break
    return made
