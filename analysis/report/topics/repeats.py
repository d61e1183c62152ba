"""Repeat ECGs: how much the predicted mass of one person varies from one ECG to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from analysis.disclosure.aggregates import Aggregate, count, label, result, results
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import Analysed, repeated, repeats, several_ecgs, with_ecgs
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.words import estimate_texts, side_by_side
from analysis.statistics.agreement import repeatability
from analysis.statistics.columns import TableRefused
from analysis.study.data import About, StudyData
from lvm_core.units import DAYS_PER_YEAR

ICC: Final = "ICC(1,1)"
WITHIN: Final = "within-person SD"
REPEATABILITY: Final = "repeatability coefficient"
EVERY_ECG: Final = "all ECGs"
_MEASURES: Final = (ICC, WITHIN, REPEATABILITY)
_GAPS_YEARS: Final = {
    "first and second, under 1 year apart": (0, 1),
    "first and second, 1 to 5 years apart": (1, 5),
    "first and second, 5 years or more apart": (5, 1000),
}


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the repeatability of mass and index over all ECGs, and of pairs by time between."""
    rows: list[dict[str, Any]] = []
    counts: list[Analysed] = []
    table = data.predictions.sort_values(["participant_id", "recorded_at", "ecg_id"])
    columns = {data.study.mass_column: "g", data.study.index_column: "g/m2"}
    for column, unit in columns.items():
        if column not in table:
            continue
        known = table.dropna(subset=[column])
        for words, own in ((EVERY_ECG, _several(known)), *_pairs(known)):
            rows += _of(own, column, unit, words)
            gap = "" if words == EVERY_ECG else words
            counts += [Analysed(repeated(column, gap), end="")] * len(_MEASURES)
    ecgs = data.predictions.groupby("participant_id").size()
    spread = ecgs.clip(upper=3).value_counts().reindex([1, 2, 3], fill_value=0)
    numbers = pd.DataFrame({"n_ecgs": ["1", "2", "3 or more"], "n_people": spread.to_numpy()})
    shape = (label("n_ecgs", "usable ECGs of a person"), count("n_people", "people"))
    spread_of = [with_ecgs("one"), with_ecgs("several", "two"), with_ecgs("several", "more")]
    return [
        results("repeats", rows, repeats(counts)),
        Aggregate(
            "repeats", numbers, shape, counts={"n_people": spread_of}, related=several_ecgs(data.study.mass_column)
        ),
    ]


def _several(table: pd.DataFrame) -> pd.DataFrame:
    """The ECGs of who has two or more."""
    return table[table.groupby("participant_id")["ecg_id"].transform("size") > 1]


def _pairs(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The first two ECGs of each person, by the time between them."""
    rank = table.groupby("participant_id").cumcount()
    first_two = table[rank < 2]
    both = first_two[first_two.groupby("participant_id")["ecg_id"].transform("size") == 2]
    dates = pd.to_datetime(both["recorded_at"]).dt.normalize()
    of_person = dates.groupby(both["participant_id"])
    years = (of_person.transform("max") - of_person.transform("min")).dt.days / DAYS_PER_YEAR
    return [(words, both[(years >= low) & (years < high)]) for words, (low, high) in _GAPS_YEARS.items()]


def _of(table: pd.DataFrame, column: str, unit: str, words: str) -> list[dict[str, Any]]:
    """A row a measure, whether there are enough people to estimate it or not.

    Of pairs the number of ECGs is not told: it is twice that of people.
    """
    known: dict[str, Any] = {
        "exposure": column,
        "contrast": words,
        "n_people": table["participant_id"].nunique(),
        "n_ecgs": len(table) if words == EVERY_ECG else None,
    }
    try:
        found = repeatability(table, value=column, person="participant_id")
    except TableRefused as error:
        units = ("", unit, unit)
        return [
            result("repeats", measure, **known, unit=own, warnings=str(error))
            for measure, own in zip(_MEASURES, units, strict=True)
        ]
    values = (
        (found.icc, found.icc_lo, found.icc_hi, ""),
        (found.within_sd, found.within_sd_lo, found.within_sd_hi, unit),
        (found.repeatability, None, None, unit),
    )
    return [
        result("repeats", measure, **known, estimate=value, lo=lo, hi=hi, unit=own)
        for measure, (value, lo, hi, own) in zip(_MEASURES, values, strict=True)
    ]


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table, or one sentence where nobody has two ECGs."""
    found, numbers = masked.get("results_repeats"), masked.get("repeats")
    if found is None or numbers is None:
        return None
    people = pd.DataFrame({"Usable ECGs": numbers.rows["n_ecgs"], "People": numbers.shown("n_people")})
    items = [ReadTable("repeats_people", "Usable ECGs of a person", people)]
    if not found.rows["estimate"].notna().any():
        told = "Too few people have two usable ECGs to tell how well they repeat."
        return Section("repeats", "Repeat ECGs", (told,), tuple(items))
    rows = found.rows.assign(
        text=estimate_texts(found),
        People=found.shown("n_people"),
        ECGs=_ecgs(found),
        Quantity=found.rows["exposure"],
        Pairs=found.rows["contrast"],
    )
    cells = side_by_side(rows, by=["Quantity", "Pairs", "People", "ECGs"], over="measure", values=["text"])
    notes = (
        "One-way random effects (Shrout and Fleiss 1979); SD and coefficient in the unit of the "
        "quantity. 95 % of the differences of two ECGs of a person lie within the coefficient "
        "(Bland and Altman 1996). Over years hearts change too.",
    )
    items.append(ReadTable("repeats", "Repeatability of the prediction", cells, 2, notes))
    return Section("repeats", "Repeat ECGs", items=tuple(items))


def _ecgs(found: Masked) -> list[str]:
    """Numbers of ECGs; of pairs that is known."""
    pairs = found.rows["contrast"] != EVERY_ECG
    return ["two each" if pair else text for pair, text in zip(pairs, found.shown("n_ecgs"), strict=True)]


TOPIC: Final = Topic("repeats", aggregates, present)
