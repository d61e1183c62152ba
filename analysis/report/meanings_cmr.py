"""What the counts of the tables against CMR count; see `analysis.report.meanings`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from analysis.report.counts import Count
from analysis.report.meanings import Counts, each

WITH_CMR: Final = Count("people with CMR")
PAIRED: Final = WITH_CMR.at(("pairing", "paired"))
COMPARED: Final = PAIRED.at(("imaged", "compared"))
"""Pairs that the main results are of."""
LABELLED: Final = COMPARED.at(("label", "known"))


def cmr_flow(rows: pd.DataFrame, steps: Mapping[str, str]) -> Counts:
    """Describe where people with CMR end.

    Args:
        rows: column step.
        steps: what each step is: "all", "no ECG", "not in time", "before", "undated", "no label",
            "no rules" or "complete".
    """
    known = {
        "all": WITH_CMR,
        "no ECG": WITH_CMR.at(("pairing", "no ECG")),
        "not in time": WITH_CMR.at(("pairing", "not in time")),
        "before": PAIRED.at(("imaged", "before")),
        "undated": PAIRED.at(("imaged", "unknown")),
        "no label": COMPARED.at(("label", "unknown")),
        "no rules": LABELLED.at(("rules", "not all")),
        "complete": LABELLED.at(("rules", "all three")),
    }
    return {"n_people": each(rows, lambda row: known[steps[row["step"]]])}


def paired(
    strata: str, level: str, *, labelled: bool = False, with_rules: bool = False, is_before: bool | None = None
) -> Count:
    """Return the count of pairs of a group; by one pair a person.

    Args:
        strata: classification; "" for all.
        level: of it.
        labelled: whether LVH by CMR and by prediction is known of them.
        with_rules: whether all three ECG rules are.
        is_before: for people by their first CMR, whether it was before the date of the training
            set; None for all other groups.
    """
    if is_before:
        who = PAIRED.at(("imaged", "before"))
        who = who.at(("label", "known")) if labelled or with_rules else who
        return who.at(("rules", "all three")) if with_rules else who
    who = LABELLED if labelled or with_rules else COMPARED
    who = who.at(("rules", "all three")) if with_rules else who
    return who.level(f"CMR {strata}", level) if strata and is_before is None else who


def two_by_two(rows: pd.DataFrame, people: Sequence[Count]) -> Counts:
    """Describe yes/no markers against LVH by CMR.

    Args:
        rows: of the table: column marker.
        people: of whom each row is.
    """
    pairs = [(who, f"marker {marker}") for who, marker in zip(people, rows["marker"], strict=True)]
    yes, no = ("LVH by CMR", "yes"), ("LVH by CMR", "no")
    return {
        "n_people": list(people),
        "n_lvh": [one.part(*yes) for one, _ in pairs],
        "n_no_lvh": [one.part(*no) for one, _ in pairs],
        "n_positive": [one.part(name, "yes") for one, name in pairs],
        "n_negative": [one.part(name, "no") for one, name in pairs],
        "tp": [one.part(*yes).part(name, "yes") for one, name in pairs],
        "fn": [one.part(*yes).part(name, "no") for one, name in pairs],
        "fp": [one.part(*no).part(name, "yes") for one, name in pairs],
        "tn": [one.part(*no).part(name, "no") for one, name in pairs],
    }


def with_lvh(who: Count, answer: str = "yes") -> Count:
    """Return the count of pairs with LVH by CMR, or without it for "no"."""
    return who.part("LVH by CMR", answer)
