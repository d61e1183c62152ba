"""Reporting checklists, each item with the section of the report that speaks to it."""

from __future__ import annotations

import csv
from collections.abc import Set
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

AUTHORS: Final = "for the authors"
# What stands in the report whatever the study.
ALWAYS: Final = frozenset({"methods", "versions"})
# Every section that an item may point to; a study has those that apply to it.
SECTIONS: Final = ALWAYS | {
    "flow",
    "follow_up",
    "baseline",
    "rates",
    "hazard_ratios",
    "dose_response",
    "added_value",
    "competing",
    "proportional_hazards",
    "sensitivity",
    "absolute_risk",
    "standardised",
    "calibrated",
    "negative_control",
    "repeats",
    "code_lists",
    "cmr",
}
_LISTS: Final = {
    "strobe": ("STROBE, cohort studies", "von Elm E and others, Lancet 2007;370:1453; www.strobe-statement.org"),
    "record": (
        "RECORD, routinely collected health data (extends STROBE)",
        "Benchimol EI and others, PLoS Med 2015;12:e1001885; www.record-statement.org",
    ),
    "stard": (
        "STARD 2015, diagnostic accuracy (predicted LVH against CMR)",
        "Bossuyt PM and others, BMJ 2015;351:h5527; www.equator-network.org",
    ),
    "tripod_ai": (
        "TRIPOD+AI, prediction models (evaluation of an existing one)",
        "Collins GS and others, BMJ 2024;385:e078378; www.tripod-statement.org",
    ),
}


@dataclass(frozen=True, slots=True)
class Item:
    """An item of a checklist.

    Attributes:
        number: as published, as "12d".
        topic: heading of it.
        text: what it asks for, short and in our words.
        sections: keys of sections that speak to it; none: software cannot know.
        with_authors: whether authors have to add something all the same.
    """

    number: str
    topic: str
    text: str
    sections: tuple[str, ...]
    with_authors: bool

    def where(self, present: Set[str]) -> str:
        """Return what stands beside the links to the sections that a report has.

        Args:
            present: keys of sections of the report.
        """
        parts = []
        if self.sections and not set(self.sections) & present:
            parts.append(f"not in this report ({', '.join(map(words, self.sections))})")
        if self.with_authors:
            parts.append(AUTHORS)
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Checklist:
    """A published list.

    Attributes:
        key: short name.
        name: in words.
        source: where it is published.
        items: in its order.
    """

    key: str
    name: str
    source: str
    items: tuple[Item, ...]


@cache
def checklists() -> tuple[Checklist, ...]:
    """Return STROBE, RECORD, STARD 2015 and TRIPOD+AI."""
    return tuple(Checklist(key, *told, _items(key)) for key, told in _LISTS.items())


def words(section: str) -> str:
    """Return the key of a section in words, for one that a report does not have."""
    return "CMR" if section == "cmr" else section.replace("_", " ")


def _items(key: str) -> tuple[Item, ...]:
    source = files("analysis.report").joinpath("checklist_items", f"{key}.csv")
    rows = csv.DictReader(source.read_text(encoding="utf-8").splitlines())
    return tuple(_item(row) for row in rows)


def _item(row: dict[str, str]) -> Item:
    where = row["where"].split()
    sections = tuple(one for one in where if one != "authors")
    unknown = sorted(set(sections) - SECTIONS)
    if unknown or not where:
        raise ValueError(
            f"item {row['item']} points to {unknown or 'nothing'}; expected 'authors' or {', '.join(sorted(SECTIONS))}"
        )
    return Item(row["item"], row["topic"], row["text"], sections, "authors" in where)
