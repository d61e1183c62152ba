"""What a count counts, so that counts of different tables can be compared.

"Women followed for atrial fibrillation who had it within two years" is the unit "people", a path of
exclusions and ends (left, analysed, with the outcome), a level (female) and a time (2 years). Two
counts that say the same are one count, wherever they stand; a count with more conditions is at most
one with fewer; and the parts of a whole add up to it. No table has to declare what it has in common
with others: `analysis.report.relations` finds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

EVERYBODY: Final = "everybody"
"""The group, and the classification, of all."""
PEOPLE: Final = "people"
ECGS: Final = "ECGs"
PEOPLE_OF_ECGS: Final = "people of ECGs"
"""People of whom at least one ECG meets the conditions, so that parts can overlap."""
YEARS: Final = "person-years"
RECORDS: Final = "records"
_UNKNOWN_WORDS: Final = frozenset({"", "missing", "unknown"})

Pair = tuple[str, str]
Time = tuple[str, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """What is counted.

    Attributes:
        unit: PEOPLE, ECGS ...
        path: parts of parts, each of which leaves nobody out: (("left out", "left"),
            ("af", "analysed"), ("status", "outcome")).
        parts: of further divisions of who is at the end of the path, that leave nobody out.
        levels: of classifications in which some may be unknown.
        known: what is known of all of them; levels apart.
        unknown: sets of names; of each person at least one of each set is not known.
        ended: follow-up ended by this time: whose, and between which years; None: no condition.
        followed: followed beyond this time; None: no condition.
    """

    unit: str = PEOPLE
    path: tuple[Pair, ...] = ()
    parts: frozenset[Pair] = frozenset()
    levels: frozenset[Pair] = frozenset()
    known: frozenset[str] = frozenset()
    unknown: frozenset[frozenset[str]] = frozenset()
    ended: Time | None = None
    followed: Time | None = None
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
        """Whose follow-up: the outcome, second on the path."""
        return self.path[1][0] if len(self.path) > 1 else ""
