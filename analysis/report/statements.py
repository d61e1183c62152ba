"""Sentences with numbers, each with the rows of the masked tables that the numbers come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.disclosure.masking import Masked
from analysis.report.words import digits_of, interval_text, p_phrase, percent_text

RESULTS = "results_"


@dataclass(frozen=True, slots=True)
class Source:
    """A row of a masked table."""

    key: str  # of the table
    place: int  # of the row in it, from 0


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence, and where its numbers are."""

    text: str
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """A row of a masked table."""

    values: Mapping[str, Any]
    hidden: Mapping[str, bool]
    counts: Mapping[str, str]  # as text
    source: Source

    def estimate(self, digits: int | None = 2) -> str:
        """Return the estimate with its limits; with None, digits by the width of the interval."""
        row = self.values
        if digits is None:
            digits = digits_of(float(row["estimate"]), float(row["lo"]), float(row["hi"]))
        return interval_text(row, digits, hidden=self.hidden["estimate"])

    @property
    def is_shown(self) -> bool:
        """Whether there is an estimate that is not hidden."""
        return not self.hidden["estimate"] and self.values["estimate"] == self.values["estimate"]

    def share(self, part: str, whole: str) -> str:
        """Return one masked count in per cent of another; "" where either is hidden."""
        values = [self.values[name] for name in (part, whole)]
        if any(self.hidden[name] for name in (part, whole)) or not values[1] > 0:
            return ""
        return percent_text(min(float(values[0]) / float(values[1]), 1.0))

    def p(self) -> str:
        """Return its P value as a phrase, as "P=0.03"; "" where it is hidden or there is none."""
        value = self.values["p"]
        return "" if self.hidden["p"] or value is None or value != value else p_phrase(value)


def find(masked: Mapping[str, Masked], key: str, **wanted: Any) -> Found | None:
    """Return the first row of a masked table that has these values, or None."""
    found = masked.get(key)
    if found is None or not len(found.rows):
        return None
    is_own = None
    for name, value in wanted.items():
        same = found.rows[name] == value
        is_own = same if is_own is None else is_own & same
    places = found.rows.index[is_own] if is_own is not None else found.rows.index
    if not len(places):
        return None
    place = places[0]
    return Found(
        {str(name): value for name, value in found.rows.loc[place].items()},
        {str(name): bool(value) for name, value in found.hidden.loc[place].items()},
        {column.name: found.shown(column.name).loc[place] for column in found.columns if column.name.startswith("n_")},
        Source(key, list(found.rows.index).index(place)),
    )


def find_result(masked: Mapping[str, Masked], analysis: str, **wanted: Any) -> Found | None:
    """Return the first row of the results of a topic that has these values, or None."""
    return find(masked, f"{RESULTS}{analysis}", **wanted)


def places_of(masked: Mapping[str, Masked]) -> dict[Source, str]:
    """Return the file and line of every row: "results.csv, line 12", "data/rates.csv, line 3".

    Lines are counted as editors and spreadsheets do: the head is line 1.
    """
    made: dict[Source, str] = {}
    line = 2
    for key, one in masked.items():
        n = len(one.rows)
        if key.startswith(RESULTS):
            made |= {Source(key, place): f"results.csv, line {line + place}" for place in range(n)}
            line += n
        else:
            made |= {Source(key, place): f"data/{key}.csv, line {place + 2}" for place in range(n)}
    return made
