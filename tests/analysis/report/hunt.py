"""Somebody who has an export and tries to find the counts that it hides.

The hunter knows the rules (counts are rounded to 5, "*" is hidden), reads every table as intervals,
and tightens them by everything that adds up: totals and parts, rows of a curve, differences
between outcomes, periods, subgroups and analyses, means of groups against the mean of all, and
incidences times people at risk. It does not use the relations that the code under test declares.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

Key = tuple[Any, ...]
INFINITY = 10**9


@dataclass
class Hunter:
    """What is known of each count, and what adds up.

    Attributes:
        base: counts are rounded to its multiples; 1 when they are exact.
        low, high: bounds of each count.
        sums: total and parts.
    """

    base: int
    low: dict[Key, int] = field(default_factory=lambda: defaultdict(int))
    high: dict[Key, int] = field(default_factory=lambda: defaultdict(lambda: INFINITY))
    sums: list[tuple[Key, tuple[Key, ...]]] = field(default_factory=list)
    ascending: list[tuple[Key, Key]] = field(default_factory=list)

    def see(self, key: Key, text: str) -> None:
        """Learn from a shown cell."""
        if text == "":
            return
        if text == "*":
            self.at_least(key, 1)
            return
        value, half = int(text), self.base // 2
        self.at_least(key, value - half if value else 0)
        self.at_most(key, value + half if value else 0)

    def at_least(self, key: Key, value: float) -> None:
        self.low[key] = max(self.low[key], math.ceil(value - 1e-9))

    def at_most(self, key: Key, value: float) -> None:
        self.high[key] = min(self.high[key], math.floor(value + 1e-9))

    def adds_up(self, total: Key, parts: Iterable[Key]) -> None:
        found = tuple(parts)
        if found:
            self.sums.append((total, found))

    def same(self, a: Key, b: Key) -> None:
        self.adds_up(a, [b])

    def rises(self, a: Key, b: Key) -> None:
        """The first is at most the second."""
        self.ascending.append((a, b))

    def think(self) -> None:
        """Tighten all bounds until nothing changes."""
        changed = True
        while changed:
            before = dict(self.low), dict(self.high)
            for total, parts in self.sums:
                self._tighten(total, parts)
            for a, b in self.ascending:
                self.at_most(a, self.high[b])
                self.at_least(b, self.low[a])
            changed = before != (dict(self.low), dict(self.high)) and not self.contradictions()

    def _tighten(self, total: Key, parts: tuple[Key, ...]) -> None:
        lows, highs = [self.low[p] for p in parts], [self.high[p] for p in parts]
        self.at_least(total, sum(lows))
        self.at_most(total, min(sum(highs), INFINITY))
        for part, low, high in zip(parts, lows, highs, strict=True):
            if self.high[total] < INFINITY:
                self.at_most(part, self.high[total] - (sum(lows) - low))
            others = sum(highs) - high
            if others < INFINITY:
                self.at_least(part, self.low[total] - others)

    def candidates(self, key: Key) -> int:
        """How many values a count may have."""
        return self.high[key] - self.low[key] + 1

    def contradictions(self) -> list[Key]:
        """Counts that cannot be, which means that the hunter reads the export wrongly."""
        return [key for key in self.low if self.low[key] > self.high[key]]


def read(folder: Path, name: str) -> pd.DataFrame:
    """A table of the export as text; empty if it is not there."""
    path = folder / "data" / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame()
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def hunt(folder: Path, base: int) -> Hunter:
    """Read an export and think."""
    hunter = Hunter(base)
    for read_table in (
        _flow, _baseline, _means, _rates, _at_risk, _curves, _ends, _calendar, _results,
        _calibration, _lvh_by_cmr,
    ):  # fmt: skip
        read_table(hunter, folder)
    hunter.think()
    return hunter


def _one_ecg_each(folder: Path) -> bool:
    table = read(folder, "flow")
    return bool((table["n_people"] == table["n_ecgs"]).all())


def _is_whole(folder: Path, classification: str) -> bool:
    """Whether everybody belongs to a group of a classification."""
    table = read(folder, "baseline_numbers")
    unknown = table.loc[table["group"] == "LVH unknown", "n_people"]
    return classification != "Predicted LVH" or bool((unknown == "0").all())


def _flow(hunter: Hunter, folder: Path) -> None:
    table = read(folder, "flow")
    for row in table.itertuples():
        for column in ("n_people", "n_ecgs"):
            hunter.see(("flow", row.outcome, row.reason, column), getattr(row, column))
    # Where people have several ECGs, one of them can be left out while another is analysed.
    additive = ["n_ecgs", "n_people"] if _one_ecg_each(folder) else ["n_ecgs"]
    for column in additive:
        shared = table.loc[table["outcome"] == "", "reason"].tolist()
        hunter.adds_up(("flow", "", "all", column),
                       [("flow", "", reason, column) for reason in shared[1:]])  # fmt: skip
        for outcome in set(table["outcome"]) - {""}:
            own = table.loc[table["outcome"] == outcome, "reason"].tolist()
            keys = [("flow", outcome, reason, column) for reason in own]
            hunter.adds_up(keys[0], keys[1:])
            hunter.same(keys[0], ("flow", "", "left", column))


def _baseline(hunter: Hunter, folder: Path) -> None:
    for name, label in (("baseline_counts", "level"), ("baseline_numbers", "variable")):
        table = read(folder, name)
        for row in table.itertuples():
            place = (row.variable, getattr(row, label), row.group)
            for column in table.columns.intersection(
                ["n_group", "n_people", "n_known", "n_missing"]
            ):
                hunter.see((name, *place, column), getattr(row, column))
            if name == "baseline_numbers":
                hunter.adds_up((name, *place, "n_people"),
                               [(name, *place, c) for c in ("n_known", "n_missing")])  # fmt: skip
                hunter.same((name, *place, "n_people"), ("group", row.group))
            else:
                hunter.same((name, *place, "n_group"), ("group", row.group))
        for (variable, level), own in table.groupby(["variable", label]):
            for column in table.columns.intersection(
                ["n_group", "n_people", "n_known", "n_missing"]
            ):
                keys = {g: (name, variable, level, g, column) for g in own["group"]}
                everybody = keys.pop("everybody")
                hunter.adds_up(everybody, keys.values())
        if name == "baseline_counts":
            for (variable, group), own in table.groupby(["variable", "group"]):
                hunter.adds_up(
                    ("group", group),
                    [(name, variable, level, group, "n_people") for level in own["level"]],
                )
    if _one_ecg_each(folder):
        hunter.same(("group", "everybody"), ("flow", "", "left", "n_people"))


def _means(hunter: Hunter, folder: Path) -> None:
    """Two groups: their shares follow from the mean of all between the means of the groups."""
    table = read(folder, "baseline_numbers")
    for variable, own in table.groupby("variable"):
        mean = dict(zip(own["group"], own["mean"], strict=True))
        known = [mean.get(group, "*") for group in ("everybody", "no LVH", "LVH")]
        unknown = own.loc[own["group"] == "LVH unknown", "n_known"]
        if "*" in known or "" in known or (unknown != "0").any():
            continue
        everybody, no, yes = map(float, known)
        total = ("baseline_numbers", variable, variable, "everybody", "n_known")
        part = ("baseline_numbers", variable, variable, "LVH", "n_known")
        if yes == no or hunter.high[total] >= INFINITY:
            continue
        # Each mean has four digits: half a unit of the fourth either way.
        half = 0.5 * 10.0 ** (math.floor(math.log10(max(map(abs, (everybody, no, yes))))) - 3)
        ends = [
            (everybody + a - no - b) / (yes + c - no - b)
            for a in (-half, half) for b in (-half, half) for c in (-half, half)
            if abs(yes + c - no - b) > half
        ]  # fmt: skip
        if ends and abs(yes - no) > 4 * half:
            hunter.at_least(part, min(ends) * hunter.low[total])
            hunter.at_most(part, max(ends) * hunter.high[total])


def _rates(hunter: Hunter, folder: Path) -> None:
    table = read(folder, "rates")
    columns = ("n_people", "n_events", "n_deaths")
    for row in table.itertuples():
        for column in columns:
            key = ("rates", row.outcome, row.classification, row.group, column)
            hunter.see(key, getattr(row, column))
    for (outcome, classification), own in table.groupby(["outcome", "classification"]):
        for column in columns:
            total = ("rates", outcome, "everybody", "everybody", column)
            if classification != "everybody" and _is_whole(folder, classification):
                hunter.adds_up(
                    total, [("rates", outcome, classification, g, column) for g in own["group"]]
                )
            if classification == "everybody" and column == "n_people" and _one_ecg_each(folder):
                hunter.same(total, ("flow", outcome, "analysed", "n_people"))


def _at_risk(hunter: Hunter, folder: Path) -> None:
    table = read(folder, "incidence_at_risk")
    columns = ("n_at_risk", "n_censored", "n_events", "n_deaths")
    last: dict[Key, Key] = {}
    for row in table.itertuples():
        place = (row.outcome, row.classification, row.group)
        at = {c: ("risk", *place, row.years, c) for c in (*columns, "n_people")}
        for column, key in at.items():
            hunter.see(key, getattr(row, column))
        hunter.adds_up(at["n_people"], [at[column] for column in columns])
        hunter.same(at["n_people"], ("rates", *place, "n_people"))
        for column in ("n_events", "n_deaths", "n_censored"):
            if (*place, column) in last:
                hunter.rises(last[*place, column], at[column])
            last[*place, column] = at[column]
            if column != "n_censored":
                hunter.rises(at[column], ("rates", *place, column))
    for (outcome, classification, years), own in table.groupby(
        ["outcome", "classification", "years"]
    ):
        if not _is_whole(folder, classification):
            continue
        for column in columns:
            hunter.adds_up(
                ("risk of all", outcome, years, column),
                [("risk", outcome, classification, g, years, column) for g in own["group"]],
            )


def _curves(hunter: Hunter, folder: Path) -> None:
    """Incidence is at least events over people, and at most events over those still followed."""
    table = read(folder, "incidence_curves")
    at_risk = read(folder, "incidence_at_risk")
    for place, own in table.groupby(["outcome", "classification", "group"]):
        ticks = at_risk[
            (at_risk[["outcome", "classification", "group"]] == list(place)).all(axis=1)
        ]
        people = ("rates", *place, "n_people")
        for row in own.itertuples():
            if row.incidence in ("*", "", "0.0"):
                continue
            later = ticks[ticks["years"].astype(float) >= float(row.years) + 0.03]
            if not len(later) or hunter.high[people] >= INFINITY:
                continue
            tick = later["years"].iloc[0]
            # By the next tick at least as many events as the curve shows here.
            still = ("risk", *place, tick, "n_at_risk")
            fewest = float(row.incidence) * 0.9999 * hunter.low[still]
            hunter.at_least(("risk", *place, tick, "n_events"), fewest)


def _ends(hunter: Hunter, folder: Path) -> None:
    table = read(folder, "follow_up_ends")
    for row in table.itertuples():
        place = (row.outcome, row.classification, row.group)
        hunter.see(("end", *place, row.end), row.n_people)
        hunter.see(("rates", *place, "n_people"), row.n_group)
        if row.end in ("outcome", "death"):
            column = {"outcome": "n_events", "death": "n_deaths"}[row.end]
            hunter.same(("end", *place, row.end), ("rates", *place, column))
    for place, own in table.groupby(["outcome", "classification", "group"]):
        hunter.adds_up(("rates", *place, "n_people"), [("end", *place, e) for e in own["end"]])
    for (outcome, classification, end), own in table.groupby(["outcome", "classification", "end"]):
        if classification != "everybody" and _is_whole(folder, classification):
            hunter.adds_up(
                ("end", outcome, "everybody", "everybody", end),
                [("end", outcome, classification, g, end) for g in own["group"]],
            )


def _calendar(hunter: Hunter, folder: Path) -> None:
    table = read(folder, "events_by_period")
    for row in table.itertuples():
        hunter.see(("period", row.outcome, row.period, row.region), row.n_events)
    for outcome, own in table.groupby("outcome"):
        keys = [("period", outcome, r.period, r.region) for r in own.itertuples()]
        hunter.adds_up(("rates", outcome, "everybody", "everybody", "n_events"), keys)


def _results(hunter: Hunter, folder: Path) -> None:
    table = pd.read_csv(folder / "results.csv", dtype=str, keep_default_na=False)
    if not _one_ecg_each(folder):
        return  # events and rows are of ECGs there, and of people elsewhere
    names = ["analysis", "measure", "outcome", "exposure", "contrast", "model", "strata", "level"]
    for row in table.to_dict("records"):
        place = tuple(row[name] for name in names)
        hidden = row["masked"].split()
        for column in ("n_people", "n_events", "n_dropped_missing"):
            hunter.see(("result", *place, column), "*" if column in hidden else row[column])
        if row["strata"] == "" and row["analysis"] == "hazard_ratios":
            total = ("rates", row["outcome"], "everybody", "everybody", "n_people")
            hunter.adds_up(total, [("result", *place, c) for c in
                                   ("n_people", "n_dropped_missing")])  # fmt: skip
    for place, own in table.groupby(names[:-1]):
        *_, outcome, _, contrast, _, strata = place
        if contrast == "LVH" and not _is_whole(folder, "Predicted LVH"):
            continue
        if strata in ("period", "Sex", "Age, years", "BMI, kg/m2"):
            levels = [level for level in own["level"] if level != "interaction"]
            hunter.adds_up(
                ("rates", outcome, "everybody", "everybody", "n_events"),
                [("result", *place, level, "n_events") for level in levels],
            )


def _calibration(hunter: Hunter, folder: Path) -> None:
    table = read(folder, "calibration")
    for row in table.itertuples():
        for column in ("n_people", "n_events"):
            hunter.see(("tenth", row.outcome, row.group, column), getattr(row, column))
    for outcome, own in table.groupby("outcome"):
        hunter.adds_up(("judged", outcome, "n_events"),
                       [("tenth", outcome, g, "n_events") for g in own["group"]])  # fmt: skip


def _lvh_by_cmr(hunter: Hunter, folder: Path) -> None:
    """Tables of two by two, whose margins several markers and subgroups share."""
    table = read(folder, "cmr_lvh")
    if not len(table):
        return
    counts = [name for name in table.columns if name.startswith("n_") or len(name) == 2]
    sums = {
        "n_people": [("n_lvh", "n_no_lvh"), ("n_positive", "n_negative")],
        "n_lvh": [("tp", "fn")], "n_no_lvh": [("fp", "tn")],
        "n_positive": [("tp", "fp")], "n_negative": [("fn", "tn")],
    }  # fmt: skip
    for row in table.to_dict("records"):
        place = tuple(row[name] for name in ("marker", "population", "strata", "level"))
        for name in counts:
            hunter.see(("lvh", *place, name), row[name])
        for total, parts in sums.items():
            for pair in parts:
                hunter.adds_up(("lvh", *place, total), [("lvh", *place, one) for one in pair])
        for name in ("n_people", "n_lvh", "n_no_lvh"):
            hunter.same(("lvh", *place, name), ("lvh of all", *place[1:], name))
    for (marker, population, strata), own in table.groupby(["marker", "population", "strata"]):
        if strata:
            for name in counts:
                hunter.adds_up(
                    ("lvh", marker, population, "", "", name),
                    [("lvh", marker, population, strata, level, name) for level in own["level"]],
                )
