"""Table 1: who the people are, by LVH, with missing values and standardised differences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.report.aggregates import EVERYBODY, Aggregate, RowsAddUp, count, label, number
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import HIDDEN, NOT_APPLICABLE, Masked
from analysis.report.study_data import StudyData
from analysis.report.words import levels_in_order, number_text, percent_texts, sentence

_GROUPS: Final = ("no LVH", "LVH", "LVH unknown")
_NUMBERS: Final = {
    "age_years": "Age, years",
    "bmi_kg_m2": "Body mass index, kg/m2",
    "height_cm": "Height, cm",
    "weight_kg": "Weight, kg",
    "bsa_m2": "Body surface area, m2",
    "mass_g": "LV mass from the ECG, g",
    "index_g_m2": "LV mass index from the ECG, g/m2",
}
_CATEGORIES: Final = {
    "sex": "Sex",
    "age_band": "Age band, years",
    "region": "Region",
    "ethnicity": "Ethnicity",
}
_MISSING: Final = "missing"


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return means and counts of one index ECG a person, everybody and by LVH."""
    people = data.ecgs.drop_duplicates("participant_id")
    people = people.assign(group=people["lvh_group"].fillna("LVH unknown"))
    own = {one.name: one for one in data.study.covariates}
    numbers = _NUMBERS | {n: one.words for n, one in own.items() if one.kind == "number"}
    categories = _CATEGORIES | {n: one.words for n, one in own.items() if one.kind != "number"}
    rows, counts = [], []
    for group in (EVERYBODY, *_GROUPS):
        part = people if group == EVERYBODY else people[people["group"] == group]
        rows += [_number(part, group, name, words) for name, words in numbers.items()
                 if name in people]  # fmt: skip
        for name, words in categories.items():
            if name in people:
                counts += _levels(people[name], part[name], group, words)
    return [_numbers_aggregate(rows), _counts_aggregate(counts)]


def _number(part: pd.DataFrame, group: str, name: str, words: str) -> dict[str, Any]:
    values = part[name].astype(float)
    known = values.dropna()
    lowest, low, middle, high, highest = (
        known.quantile([0.05, 0.25, 0.5, 0.75, 0.95]) if len(known) else [np.nan] * 5
    )
    return {
        "variable": words, "group": group, "n_people": len(part), "n_known": len(known),
        "n_missing": len(part) - len(known), "mean": known.mean(), "sd": known.std(ddof=1),
        "p5": lowest, "q1": low, "median": middle, "q3": high, "p95": highest,
    }  # fmt: skip


def _levels(
    everybody: pd.Series[Any], part: pd.Series[Any], group: str, words: str
) -> list[dict[str, Any]]:
    """Counts of the levels of a category; a level is listed for all groups."""
    known = _words(everybody)
    found = _words(part).value_counts()
    levels = [*levels_in_order(set(known) - {_MISSING}), _MISSING]
    return [
        {"variable": words, "level": level, "group": group, "n_group": len(part),
         "n_people": int(found.get(level, 0))}
        for level in levels
    ]  # fmt: skip


def _words(values: pd.Series[Any]) -> pd.Series[Any]:
    if values.dtype == float:
        return values.map({1.0: "yes", 0.0: "no"}).fillna(_MISSING)
    texts = values.astype("string").str.strip().fillna("")
    return texts.astype(object).replace("", _MISSING)


def _numbers_aggregate(rows: list[dict[str, Any]]) -> Aggregate:
    statistics = {
        "mean": "mean", "sd": "standard deviation, n - 1", "p5": "5th percentile",
        "q1": "25th percentile", "median": "median", "q3": "75th percentile",
        "p95": "95th percentile",
    }  # fmt: skip
    columns = (
        label("variable", "with its unit"),
        label("group", "everybody, or by LVH"),
        count("n_people", "people of the group"),
        count("n_known", "people with a value"),
        count("n_missing", "people without a value"),
        *(number(name, text, "n_known") for name, text in statistics.items()),
    )
    sums = (RowsAddUp(("n_people", "n_known", "n_missing"), "group", EVERYBODY, ("variable",)),)
    table = pd.DataFrame(rows, columns=[column.name for column in columns])
    return Aggregate("baseline_numbers", table, columns, sums)


def _counts_aggregate(rows: list[dict[str, Any]]) -> Aggregate:
    columns = (
        label("variable", "a category"),
        label("level", "of it"),
        label("group", "everybody, or by LVH"),
        count("n_group", "people of the group"),
        count("n_people", "people of the group with the level"),
    )
    sums = (
        RowsAddUp(("n_people",), "group", EVERYBODY, ("variable", "level")),
        RowsAddUp(("n_people",), "level", None, ("variable", "group")),
        RowsAddUp(("n_group",), "group", EVERYBODY, ("variable", "level")),
    )
    table = pd.DataFrame(rows, columns=[column.name for column in columns])
    return Aggregate("baseline_counts", table, columns, sums)


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return Table 1."""
    numbers, counts = masked.get("baseline_numbers"), masked.get("baseline_counts")
    if numbers is None or counts is None:
        return None
    groups = [g for g in (EVERYBODY, *_GROUPS) if _is_there(numbers, g)]
    head = _head(numbers, groups)
    lines = [*_number_lines(numbers, groups), *_count_lines(counts, groups)]
    titles = ["Characteristic", "", *(head[g] for g in groups), "Standardised difference"]
    cells = pd.DataFrame(lines, columns=range(len(titles)), dtype=object)
    cells.columns = pd.Index(titles)
    notes = (
        "Numbers: mean (SD), median [quartiles]; categories: people (per cent of the group).",
        "One index ECG a person. Standardised difference: LVH against no LVH, difference of means "
        "or shares over the root of the mean variance (Austin PC, Stat Med 2009;28:3083).",
        f"LVH: predicted index above the limit of the sex ({about.lvh_preset}).",
    )
    table = ReadTable("baseline", "People by predicted LVH", cells, 2, notes)
    return Section("baseline", "Who they are", items=(table,))


def _is_there(numbers: Masked, group: str) -> bool:
    own = numbers.rows["group"] == group
    values, hidden = numbers.rows.loc[own, "n_people"], numbers.hidden.loc[own, "n_people"]
    return bool(hidden.any() or (values.fillna(0) > 0).any())


def _head(numbers: Masked, groups: list[str]) -> dict[str, str]:
    shown = numbers.shown("n_people")
    first = {group: shown[numbers.rows["group"] == group].iloc[0] for group in groups}
    return {group: f"{group[0].upper()}{group[1:]} (n = {n})" for group, n in first.items()}


def _number_lines(numbers: Masked, groups: list[str]) -> list[list[str]]:
    lines = []
    missing = numbers.shown("n_missing")
    for variable in dict.fromkeys(numbers.rows["variable"]):
        own = numbers.rows[numbers.rows["variable"] == variable].set_index("group")
        hidden = numbers.hidden.loc[numbers.rows["variable"] == variable].set_axis(own.index)
        means = [HIDDEN if hidden.loc[g, "mean"] else _spread(own.loc[g]) for g in groups]
        middles = [HIDDEN if hidden.loc[g, "median"] else _middle(own.loc[g]) for g in groups]
        blank = missing[numbers.rows["variable"] == variable].set_axis(own.index)
        lines.append([sentence(variable), "mean (SD)", *means, _difference_of_means(own, hidden)])
        lines.append(["", "median [quartiles]", *middles, ""])
        if any(blank[g] != "0" for g in groups):
            lines.append(["", "missing", *(blank[g] for g in groups), ""])
    return lines


def _spread(row: pd.Series[Any]) -> str:
    if pd.isna(row["mean"]):
        return NOT_APPLICABLE
    digits = _digits(row)
    return f"{number_text(row['mean'], digits)} ({number_text(row['sd'], digits)})"


def _middle(row: pd.Series[Any]) -> str:
    if pd.isna(row["median"]):
        return NOT_APPLICABLE
    digits = _digits(row)
    quartiles = f"{number_text(row['q1'], digits)}, {number_text(row['q3'], digits)}"
    return f"{number_text(row['median'], digits)} [{quartiles}]"


def _digits(row: pd.Series[Any]) -> int:
    """Decimals that show the spread: one, or two where it is small, as of a body surface."""
    return 2 if row["sd"] < 1 else 1


def _difference_of_means(own: pd.DataFrame, hidden: pd.DataFrame) -> str:
    if hidden.loc[["LVH", "no LVH"], "mean"].any():
        return HIDDEN
    yes, no = own.loc["LVH"], own.loc["no LVH"]
    spread = np.sqrt((yes["sd"] ** 2 + no["sd"] ** 2) / 2)
    if not spread > 0:
        return NOT_APPLICABLE
    return number_text((yes["mean"] - no["mean"]) / spread, 2)


def _count_lines(counts: Masked, groups: list[str]) -> list[list[str]]:
    lines = []
    shown = counts.shown("n_people")
    shares = percent_texts(counts.rows["n_people"], counts.rows["n_group"])
    for variable in dict.fromkeys(counts.rows["variable"]):
        own = counts.rows[counts.rows["variable"] == variable]
        for place, level in enumerate(dict.fromkeys(own["level"])):
            rows = own[own["level"] == level]
            places = dict(zip(rows["group"], rows.index, strict=True))
            cells = [_share(shown[places[g]], shares[places[g]]) for g in groups]
            if level == _MISSING and all(cell.startswith("0") for cell in cells):
                continue
            difference = "" if level == _MISSING else _difference_of_shares(rows)
            lines.append(["" if place else sentence(variable), level, *cells, difference])
    return lines


def _share(shown: str, share: str) -> str:
    return shown if share in (HIDDEN, NOT_APPLICABLE) else f"{shown} ({share})"


def _difference_of_shares(rows: pd.DataFrame) -> str:
    keyed = rows.set_index("group")
    parts, wholes = keyed["n_people"], keyed["n_group"]
    if parts.loc[["LVH", "no LVH"]].isna().any() or wholes.loc[["LVH", "no LVH"]].isna().any():
        return HIDDEN
    if not (wholes["LVH"] and wholes["no LVH"]):
        return NOT_APPLICABLE
    yes, no = (min(float(parts[g]) / float(wholes[g]), 1.0) for g in ("LVH", "no LVH"))
    spread = np.sqrt((yes * (1 - yes) + no * (1 - no)) / 2)
    return number_text((yes - no) / spread, 2) if spread > 0 else NOT_APPLICABLE
