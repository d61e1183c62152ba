"""Against CMR: LVH by prediction and by ECG rules as counts of two by two, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label
from analysis.report.topics.cmr_pairs import ANY_DATE, ANY_RULE, IMAGED, Group, people_of
from analysis.study.data import StudyData

LABEL: Final = "lvh_cmr"
PREDICTED: Final = "lvh"
YES_NO: Final = {
    PREDICTED: "Predicted LVH",
    "rule_avl": "R in aVL",
    "rule_sokolow_lyon": "Sokolow-Lyon",
    "rule_cornell": "Cornell voltage",
    ANY_RULE: "Any of the three ECG rules",
}
RELATIVE_INDEX: Final = "predicted index / limit of the sex"
RELATIVE_CORNELL: Final = "Cornell voltage / limit of the sex"
RAW_INDEX: Final = "predicted index, g/m2"
SCORE: Final = "LVH score of the model"
ALL_PAIRS: Final = "all pairs"
ALL_THREE: Final = "all three ECG rules measured"

CELLS: Final = ("tp", "fn", "fp", "tn")


def lvh_counts(data: StudyData, groups: Sequence[Group]) -> Aggregate:
    """Return the two-by-two counts of each yes/no marker against LVH by CMR.

    Args:
        data: of the study.
        groups: of `groups_of`.

    Returns:
        Counts; tp, fn, fp and tn are missing in all groups of a classification where one of them
        is small in one group. Their sums are known from other rows (each marker has the same
        people), so hiding a cell and a partner would not be enough.
    """
    rows: list[dict[str, Any]] = []
    for group in groups:
        rows += _counted(group, labelled(group.people, PREDICTED), PREDICTED, ALL_PAIRS)
        complete = group.people[group.people["all_three"]]
        for marker in YES_NO:
            rows += _counted(group, complete, marker, ALL_THREE)
    columns = (
        label("marker", "what says yes or no"),
        label("population", "pairs that are counted"),
        label("strata", "classification; empty for everybody"),
        label("level", "of it"),
        count("n_people", "people"),
        count("n_lvh", "with LVH by CMR"),
        count("n_no_lvh", "without"),
        count("n_positive", "positive by the marker"),
        count("n_negative", "negative"),
        count("tp", "LVH and positive"),
        count("fn", "LVH and negative"),
        count("fp", "no LVH but positive"),
        count("tn", "no LVH and negative"),
    )
    names = [column.name for column in columns]
    table = _without_small(pd.DataFrame(rows, columns=names), data.study.masking.k)
    people = [
        people_of(strata, level, labelled=True, with_rules=population.startswith(ALL_THREE))
        for population, strata, level in zip(table["population"], table["strata"], table["level"], strict=True)
    ]
    return Aggregate("cmr_lvh", table, columns, counts=meanings.two_by_two(table, people))


def _without_small(table: pd.DataFrame, k: int) -> pd.DataFrame:
    cells = table[list(CELLS)].astype("Int64")
    small = ((cells > 0) & (cells < k)).any(axis=1)
    together = small.groupby([table[name] for name in ("marker", "population", "strata")])
    return table.assign(**cells.mask(together.transform("any")))


def labelled(pairs: pd.DataFrame, marker: str) -> pd.DataFrame:
    """Return the pairs with LVH by CMR and a marker known."""
    return pairs[pairs[LABEL].notna() & pairs[marker].notna()]


def population_of(group: Group, population: str) -> str:
    """Return the name of a population; that of people by their first CMR is another one."""
    return f"{population}{ANY_DATE}" if group.strata == IMAGED else population


def _counted(group: Group, known: pd.DataFrame, marker: str, population: str) -> list[dict[str, Any]]:
    whose = {"marker": YES_NO[marker], "population": population_of(group, population)}
    return [
        whose | {"strata": group.strata, "level": level} | two_by_two(own, marker)
        for level, own in group.levels(known)
        if len(own)
    ]


def two_by_two(table: pd.DataFrame, marker: str) -> dict[str, int]:
    """Return the counts of a yes/no marker against LVH by CMR, with their sums."""
    lvh, found = table[LABEL] == 1, table[marker] == 1
    tp, fn = int((lvh & found).sum()), int((lvh & ~found).sum())
    fp, tn = int((~lvh & found).sum()), int((~lvh & ~found).sum())
    return {
        "n_people": len(table),
        "n_lvh": tp + fn,
        "n_no_lvh": fp + tn,
        "n_positive": tp + fp,
        "n_negative": fn + tn,
        "tp": tp,
        "fn": fn,
        "fp": fp,
        "tn": tn,
    }
