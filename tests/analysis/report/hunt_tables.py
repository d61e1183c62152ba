"""What the files of an export mean, in a hunter's own words: what is one count, and what adds up.

Names of counts: a letter for what is counted, then the outcome, classification and group. P people
followed, E events, D deaths, C censored, L lost, A administrative end, Y person-years; small
letters are those so far by a year, R at risk after it. What begins with r is of a row of results.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

from tests.analysis.report.hunt import FAR, Hunter

Row = dict[str, str]
Place = tuple[str, str, str]
EVERYBODY = ("everybody", "everybody")
_DAY = 1 / 365.25
_NAMES = {
    "Predicted LVH": "lvh",
    "Quartile within sex": "quartile",
    "Sex": "sex",
    "Age, years": "age",
    "Age band, years": "age",
    "BMI, kg/m2": "bmi",
    "Body mass index, kg/m2": "bmi",
}
_ENDS = {"outcome": "E", "death": "D", "lost": "L", "administrative_end": "A"}
_LONGEST = 60.0


def read(folder: Path, name: str) -> list[Row]:
    """The rows of a table of the export as text; [] if it is not there."""
    path = folder / name
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def read_data(folder: Path, name: str) -> list[Row]:
    """The rows of one of the masked tables."""
    return read(folder / "data", f"{name}.csv")


def read_results(folder: Path) -> list[Row]:
    """The results, with "*" and "±" put back into their cells."""
    rows = read(folder, "results.csv")
    for row in rows:
        for name in row["masked"].split():
            row[name] = "*"
        for text in row.get("coarse", "").split():
            name, _, off = text.partition("±")
            row[name] = f"{row[name]}±{off}"
    return rows


def by(rows: list[Row], *names: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows by the values of columns, in the order in which they come."""
    made: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        made[tuple(row[name] for name in names)].append(row)
    return dict(made)


def place_of(row: Row) -> Place:
    """Outcome, classification and group of a row."""
    return row["outcome"], row["classification"], row["group"]


def name_of(words: str) -> str:
    """One name for one thing."""
    return _NAMES.get(words, words)


class Export:
    """An export and what is needed to read it.

    Attributes:
        folder: of the export.
        one_ecg_each: whether numbers of ECGs are numbers of people.
        longest_years: at most, by outcome, from the last tick below the curves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        flow = read_data(folder, "flow")
        self.one_ecg_each = all(row["n_people"] == row["n_ecgs"] for row in flow)
        self.longest_years: dict[str, float] = defaultdict(lambda: _LONGEST)
        for (outcome,), rows in by(read_data(folder, "incidence_at_risk"), "outcome").items():
            years = sorted({float(row["years"]) for row in rows})
            step = years[1] - years[0] if len(years) > 1 else 10.0
            self.longest_years[outcome] = years[-1] + step

    def unknown(self, words: str) -> str | None:
        """How many of Table 1 have no known group of a classification; None if it is hidden."""
        numbers = read_data(self.folder, "baseline_numbers")
        if words == "Predicted LVH":
            found = [row["n_people"] for row in numbers if row["group"] == "LVH unknown"]
            return found[0] if found else None
        wanted = name_of("Sex" if words == "Quartile within sex" else words)
        for row in read_data(self.folder, "baseline_counts"):
            is_own = name_of(row["variable"]) == wanted and row["level"] == "missing"
            if is_own and row["group"] == "everybody":
                return row["n_people"]
        for row in numbers:
            if name_of(row["variable"]) == wanted and row["group"] == "everybody":
                return row["n_missing"]
        return None

    def groups(self, words: str, rows: list[Row]) -> list[str]:
        """The groups of a classification, "?" for those whose group is not known."""
        groups = [g for g in dict.fromkeys(row["group"] for row in rows) if g != "everybody"]
        return groups if self.unknown(words) == "0" else [*groups, "?"]

    def of_ticks(self, row: Row) -> Place:
        """Everybody with a known group are everybody, if the group of nobody is unknown."""
        outcome, words, group = place_of(row)
        if group == "everybody" and self.unknown(words) == "0":
            return (outcome, *EVERYBODY)
        return outcome, words, group


def hunt(folder: Path, k: int, base: int) -> Hunter:
    """Read an export."""
    hunter, export = Hunter(k, base), Export(folder)
    for read_table in (_flow, _baseline, _rates, _ends, _at_risk, _curves, _calendar, _cmr, _two_by_two):
        read_table(hunter, export)
    return hunter


def _flow(hunter: Hunter, export: Export) -> None:
    unit = "n_people" if export.one_ecg_each else "n_ecgs"
    for (outcome,), rows in by(read_data(export.folder, "flow"), "outcome").items():
        keys = [("flow", outcome, row["reason"]) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            hunter.see(key, row[unit])
        hunter.adds_up(keys[0], keys[1:])
        if outcome:
            hunter.same(keys[0], ("flow", "", "left"))
            if export.one_ecg_each:
                hunter.same(("flow", outcome, "analysed"), ("P", outcome, *EVERYBODY))
    if export.one_ecg_each:
        hunter.same(("flow", "", "left"), ("group", "everybody"))
        years = read_data(export.folder, "index_years")
        for row in years:
            hunter.see(("index year", row["year"]), row["n_people"])
        hunter.adds_up(("group", "everybody"), [("index year", row["year"]) for row in years])


def _baseline(hunter: Hunter, export: Export) -> None:
    numbers = read_data(export.folder, "baseline_numbers")
    counts = read_data(export.folder, "baseline_counts")
    lvh = ("no LVH", "LVH", "LVH unknown")
    groups = list(dict.fromkeys(row["group"] for row in numbers))
    families = [[g for g in groups if g in lvh], [g for g in groups if g not in ("everybody", *lvh)]]
    for family in filter(None, families):
        hunter.adds_up(("group", "everybody"), [("group", g) for g in family])
    for row in numbers:
        known, missing = ((what, name_of(row["variable"]), row["group"]) for what in ("known", "missing"))
        hunter.see(("group", row["group"]), row["n_people"])
        hunter.see(known, row["n_known"])
        hunter.see(missing, row["n_missing"])
        hunter.adds_up(("group", row["group"]), [known, missing])
    for (words,), _ in by(numbers, "variable").items():
        for what in ("known", "missing"):
            for family in filter(None, families):
                parts = [(what, name_of(words), g) for g in family]
                hunter.adds_up((what, name_of(words), "everybody"), parts)
    for row in counts:
        hunter.see(("level", name_of(row["variable"]), row["level"], row["group"]), row["n_people"])
        hunter.see(("group", row["group"]), row["n_group"])
    for (words, level), _ in by(counts, "variable", "level").items():
        for family in filter(None, families):
            parts = [("level", name_of(words), level, g) for g in family]
            hunter.adds_up(("level", name_of(words), level, "everybody"), parts)
    for (words, group), rows in by(counts, "variable", "group").items():
        parts = [("level", name_of(words), row["level"], group) for row in rows]
        hunter.adds_up(("group", group), parts)


def _rates(hunter: Hunter, export: Export) -> None:
    rows = read_data(export.folder, "rates")
    for row in rows:
        place = place_of(row)
        for letter, name in (("P", "n_people"), ("E", "n_events"), ("D", "n_deaths")):
            hunter.see((letter, *place), row[name])
        hunter.adds_up(("P", *place), [(letter, *place) for letter in "EDC"])
        years(hunter, ("Y", *place), row, ("P", *place), export)
        if export.one_ecg_each and row["classification"] in ("Predicted LVH", "Sex", "Age, years"):
            name = name_of(row["classification"])
            whole = ("level", name, row["group"], "everybody")
            hunter.at_most(("P", *place), ("group", row["group"]) if name == "lvh" else whole)
    for (outcome, words), own in by(rows, "outcome", "classification").items():
        if words != "everybody":
            for letter in "PEDCY":
                parts = [(letter, outcome, words, g) for g in export.groups(words, own)]
                hunter.adds_up((letter, outcome, *EVERYBODY), parts)


def years(hunter: Hunter, key: tuple[str, ...], row: Row, people: tuple[str, ...], export: Export) -> None:
    """Each contributes a day to the longest follow-up; years are rounded to tens, or more."""
    hunter.fractions.add(key)
    hunter.between(key, 0.0, FAR)
    if row["person_years"] not in ("", "*"):
        value, _, off = row["person_years"].partition("±")
        half = float(off or 5)
        hunter.between(key, float(value) - half, float(value) + half)
    most = export.longest_years[row["outcome"]]
    hunter.weighted({key: 1.0, people: -most}, -math.inf, 0.0)
    hunter.weighted({key: 1.0, people: -_DAY}, 0.0, math.inf)


def _ends(hunter: Hunter, export: Export) -> None:
    rows = read_data(export.folder, "follow_up_ends")
    for row in rows:
        place = place_of(row)
        hunter.see((_ENDS[row["end"]], *place), row["n_people"])
        hunter.see(("P", *place), row["n_group"])
        hunter.adds_up(("C", *place), [("L", *place), ("A", *place)])
    for (outcome, words), own in by(rows, "outcome", "classification").items():
        if words != "everybody":
            for letter in "LA":
                parts = [(letter, outcome, words, g) for g in export.groups(words, own)]
                hunter.adds_up((letter, outcome, *EVERYBODY), parts)


def _at_risk(hunter: Hunter, export: Export) -> None:
    rows = read_data(export.folder, "incidence_at_risk")
    last: dict[tuple[str, ...], float] = {}
    for row in rows:
        place, year = export.of_ticks(row), float(row["years"])
        hunter.see(("P", *place), row["n_people"])
        hunter.see(("R", *place, year), row["n_at_risk"])
        for letter, name in (("c", "n_censored"), ("e", "n_events"), ("d", "n_deaths")):
            key = (letter, *place, year)
            hunter.see(key, row[name])
            before = last.get((letter, *place))
            if before is not None and before < year:
                hunter.at_most((letter, *place, before), key)
            hunter.at_most(key, (letter.upper(), *place))
            last[letter, *place] = year
        hunter.adds_up(("P", *place), [(letter, *place, year) for letter in "Rced"])
    for (outcome, words, text), own in by(rows, "outcome", "classification", "years").items():
        whole = export.of_ticks(own[0] | {"group": "everybody"})
        groups = [row["group"] for row in own if row["group"] != "everybody"]
        for letter in "Rced":
            parts = [(letter, outcome, words, group, float(text)) for group in groups]
            hunter.adds_up((letter, *whole, float(text)), parts)


def _curves(hunter: Hunter, export: Export) -> None:
    """A step is a row: by then k events more have happened, before it fewer."""
    rows = read_data(export.folder, "incidence_curves")
    ticks = by(read_data(export.folder, "incidence_at_risk"), "outcome", "classification", "group")
    k = hunter.k
    if k < 2:
        return  # a step is no number of events without masking
    for place, own in by(rows, "outcome", "classification", "group").items():
        times = [float(row["years"]) for row in own[1:]]
        for row in ticks.get(place, []):
            year = float(row["years"])
            surely = sum(time + 0.027 <= year for time in times)
            perhaps = sum(time - 0.027 <= year for time in times)
            # Two events on the day of a step may make it one larger.
            hunter.between(("e", *place, year), float(k * surely), float(k * (perhaps + 1) - 1 + 2 * perhaps))
        most = k * (len(times) + 1) - 1 + 2 * len(times)
        hunter.between(("E", *place), float(k * len(times)), float(most))


def _calendar(hunter: Hunter, export: Export) -> None:
    for (outcome,), rows in by(read_data(export.folder, "events_by_period"), "outcome").items():
        keys = [("period", outcome, row["period"], row["region"]) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            hunter.see(key, row["n_events"])
        hunter.adds_up(("E", outcome, *EVERYBODY), keys)


def _cmr(hunter: Hunter, export: Export) -> None:
    rows = read_data(export.folder, "cmr_flow")
    keys = [("cmr", row["step"]) for row in rows]
    for key, row in zip(keys, rows, strict=True):
        hunter.see(key, row["n_people"])
    if keys:
        hunter.adds_up(keys[0], keys[1:])


def _two_by_two(hunter: Hunter, export: Export) -> None:
    """Tables of two by two, whose margins several markers and subgroups share."""
    rows = read_data(export.folder, "cmr_lvh")
    counts = [name for name in rows[0] if name.startswith("n_") or len(name) == 2] if rows else []
    sums = (
        ("n_people", "n_lvh", "n_no_lvh"),
        ("n_people", "n_positive", "n_negative"),
        ("n_lvh", "tp", "fn"),
        ("n_no_lvh", "fp", "tn"),
        ("n_positive", "tp", "fp"),
        ("n_negative", "fn", "tn"),
    )
    for row in rows:
        place = ("lvh", row["marker"], row["population"], row["strata"], row["level"])
        for name in counts:
            hunter.see((*place, name), row[name])
        for total, *parts in sums:
            hunter.adds_up((*place, total), [(*place, part) for part in parts])
        for name in ("n_people", "n_lvh", "n_no_lvh"):
            hunter.same((*place, name), ("lvh of all", *place[2:], name))
    for (marker, population, strata), own in by(rows, "marker", "population", "strata").items():
        for name in counts if strata else ():
            levels = [*(row["level"] for row in own), "?"]
            parts = [("lvh", marker, population, strata, level, name) for level in levels]
            hunter.adds_up(("lvh", marker, population, "", "", name), parts)
