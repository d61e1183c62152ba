"""What the counts of tables count, said by the topics that make the tables.

From this follows which counts of different tables are one, what adds up, and what is part of what
(`counts`); a topic declares no sums and knows nothing of other tables. Nothing is read from the
words of a label. A test asks that every count column of every table is described.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from analysis.disclosure.counts import ECGS, EVERYBODY, PEOPLE, PEOPLE_OF_ECGS, YEARS, Count, Pair, Relation
from lvm_core.units import DAYS_PER_YEAR

Counts = dict[str, Sequence[Count | None]]
Row = Mapping[str, Any]

ALL: Final = Count()
LEFT: Final = ALL.at(("left out", "left"))
"""People who are left by every exclusion that comes before outcomes."""
MODELS: Final = "what models need"
RISKS: Final = "what risks need"
ALL_ROWS: Final = "what model {} needs"
"""Where each model has its own rows."""
JUDGED: Final = "whether judged"
LVH: Final = "lvh"
# Columns that group people, by what has to be known for it.
_GROUPING: Final = {"lvh_group": LVH, "quartile_group": "quartile", "age_band": "age_years", "bmi_class": "bmi_kg_m2"}
_ENDS: Final[Mapping[str, tuple[Pair, ...]]] = {
    "outcome": (("status", "outcome"),),
    "death": (("status", "death"),),
    "censored": (("status", "censored"),),
    "lost": (("status", "censored"), ("end", "lost")),
    "administrative_end": (("status", "censored"), ("end", "administrative end")),
}


def followed(outcome: str, column: str = EVERYBODY, level: str = EVERYBODY) -> Count:
    """Return the count of those followed for an outcome, by one ECG per person.

    `column` groups people, and `level` is one of its groups; the level "everybody" are those whose
    group is known.
    """
    whole = LEFT.at((outcome, "analysed"))
    if column == EVERYBODY:
        return whole
    name = name_of(column)
    return whole.complete(name) if level == EVERYBODY else whole.level(name, level)


def name_of(column: str) -> str:
    """Return what has to be known of people for a column to group them, as age for age bands."""
    return _GROUPING.get(column, column)


def of_model(who: Count, model_id: str) -> Count:
    """Return the count of those by one model of the predictions; all for ""."""
    return who.part("model of predictions", model_id) if model_id else who


def ended(who: Count, end: str) -> Count:
    """Return the count of those whose follow-up ended so: "outcome", "death", "censored" ..."""
    return who.at(*_ENDS[end])


# Results: a row per estimate.


@dataclass(frozen=True, slots=True)
class Analysed:
    """The people of a row of results."""

    who: Count  # everybody whom it could be about
    complete_in: tuple[str, ...] = ()  # what has to be known of them; the others are dropped
    end: str = "outcome"  # what its events are: "outcome", "death"; "" where it has none
    by: float | None = None  # years by which they have happened; None: at any time
    of_them: tuple[str, ...] = ()  # what else is known of those who are not dropped
    has_own_clock: bool = False  # whether its person-years are not all that people were followed


def analysed(outcome: str, model_id: str, *needed: str, lvh: bool = False) -> Analysed:
    """Return the people of a row of results about an outcome.

    `needed` is what has to be known of people, what models need if it is not given; with `lvh`
    predicted LVH, too. `model_id` is "" where the predictions are of one model.
    """
    needs = needed or (MODELS,)
    return Analysed(of_model(followed(outcome), model_id), (*needs, LVH) if lvh else needs)


def of_results(rows: Sequence[Analysed | None], *, one_ecg_each: bool) -> Counts:
    """Describe the counts of results by the people of each row; None where they are not known."""
    described = [None if row is None else _of_result(row, one_ecg_each=one_ecg_each) for row in rows]
    names = ("n_people", "n_ecgs", "n_events", "person_years", "n_dropped_missing")
    return {name: [None if one is None else one[name] for one in described] for name in names}


def _of_result(row: Analysed, *, one_ecg_each: bool) -> dict[str, Count | None]:
    people = row.who.complete(*row.complete_in, *row.of_them)
    if not one_ecg_each and people != row.who and people.unit == PEOPLE:
        people = people.of(PEOPLE_OF_ECGS)
    events = ended(people, row.end) if row.end else None
    if events is not None and row.by is not None:
        events = events.by(row.by)
    dropped = row.who if one_ecg_each else row.who.of(ECGS)  # what is dropped are rows, which are ECGs
    return {
        "n_people": people,
        "n_ecgs": people if one_ecg_each else people.of(ECGS),
        "n_events": events,
        "person_years": people.of(YEARS) if one_ecg_each and not row.has_own_clock else None,
        "n_dropped_missing": dropped.lacking(*row.complete_in) if row.complete_in else None,
    }


# Who is analysed, and who they are.


def flow(rows: pd.DataFrame, *, one_ecg_each: bool) -> Counts:
    """Describe people and ECGs by reason: columns outcome ("": whatever the outcome), reason."""

    def of(row: Row) -> Count:
        outcome, reason = row["outcome"], row["reason"]
        if reason == "all":
            return ALL
        if reason == "left":
            return LEFT
        return LEFT.at((outcome, reason)) if outcome else ALL.at(("left out", reason))

    people = _each(rows, of)
    if one_ecg_each:
        return {"n_people": people, "n_ecgs": people}
    # One of somebody's ECGs can be left out and another analysed: people do not add up then.
    alone = [
        one if one in (ALL, LEFT) or reason == "analysed" else None
        for one, reason in zip(people, rows["reason"], strict=True)
    ]
    return {"n_people": alone, "n_ecgs": _in_ecgs(people)}


def baseline_numbers(rows: pd.DataFrame, groups: Mapping[str, Count]) -> Counts:
    """Describe Table 1: columns column (of the people), group; who is in each group."""
    who = [groups[group] for group in rows["group"]]
    pairs = list(zip(who, map(name_of, rows["column"]), strict=True))
    return {
        "n_people": who,
        "n_known": [one.complete(name) for one, name in pairs],
        "n_missing": [one.lacking(name) for one, name in pairs],
    }


def baseline_counts(rows: pd.DataFrame, groups: Mapping[str, Count]) -> Counts:
    """Describe Table 1: columns column (of the people), level, group; who is in each group."""
    who = [groups[group] for group in rows["group"]]
    levels = zip(who, map(name_of, rows["column"]), rows["level"], strict=True)
    return {"n_group": who, "n_people": [one.level(name, level) for one, name, level in levels]}


def index_years(rows: pd.DataFrame, *, one_ecg_each: bool) -> Counts:
    """Describe index ECGs by year: column year."""
    people = _each(rows, lambda row: LEFT.part("index year", row["year"]))
    return {"n_people": people, "n_ecgs": people} if one_ecg_each else {"n_ecgs": _in_ecgs(people)}


def history(*, one_ecg_each: bool) -> Counts:
    """Describe the one row of observed history."""
    whole = LEFT.of(PEOPLE if one_ecg_each else ECGS)
    return {"n_ecgs": [whole], "n_known": [whole.complete("history")], "n_unknown": [whole.lacking("history")]}


def eligible_ecgs(rows: pd.DataFrame) -> Counts:
    """Describe the ECGs that the index rule chooses from: column step; all are in usable_ecg."""
    whole = Count("usable ECGs of the cohort")
    return {"n_ecgs": [whole if step == "usable_ecg" else whole.at(("step", step)) for step in rows["step"]]}


def unknown_dates(rows: pd.DataFrame) -> Counts:
    """Describe people and ECGs without a date: columns column, why."""
    people = _each(rows, lambda row: ALL.level(f"date {row['column']}", row["why"]))
    return {"n_people": people, "n_ecgs": _in_ecgs(people)}


def unknown_findings(rows: pd.DataFrame) -> Counts:
    """Describe index ECGs that stay although a finding is unknown: column finding."""
    people = _each(rows, lambda row: ALL.level(f"finding {row['finding']}", "unknown"))
    return {"n_people": people, "n_ecgs": _in_ecgs(people)}


def bins(rows: pd.DataFrame) -> Counts:
    """Describe a histogram: each row is a bin of its own, some people are in none: model_id."""
    return {"n_people": [of_model(LEFT, one).level("bin", place) for place, one in enumerate(rows["model_id"])]}


def code_hits(rows: pd.DataFrame) -> Counts:
    """Describe people with each code: columns outcome, system, code, match."""

    def of(row: Row) -> Count:
        words = " ".join(str(row[name]) for name in ("outcome", "system", "code", "match"))
        return Count(f"{PEOPLE} with {words}")

    return {"n_people": _each(rows, of)}


# How people are followed.


def by_group(rows: pd.DataFrame, counted: Mapping[str, str], classifications: Mapping[str, str]) -> Counts:
    """Describe counts by outcome, classification and group.

    `counted` is what each column counts: "people", "person-years", or what ended follow-up;
    `classifications` are by the column that groups people, in the words of the table.
    """
    columns = {words: column for column, words in classifications.items()} | {EVERYBODY: EVERYBODY}
    places = list(zip(rows["outcome"], rows["classification"], rows["group"], strict=True))
    who = {place: followed(place[0], columns[place[1]], place[2]) for place in dict.fromkeys(places)}
    made: Counts = {}
    for name, what in counted.items():
        if what == "people":
            own = who
        elif what == "person-years":
            own = {place: one.of(YEARS) for place, one in who.items()}
        else:
            own = {place: ended(one, what) for place, one in who.items()}
        made[name] = [own[place] for place in places]
    return made


def ends(rows: pd.DataFrame, classifications: Mapping[str, str]) -> Counts:
    """Describe what ended follow-up: columns outcome, classification, group, end."""
    who = _people(rows, classifications)
    return {"n_group": who, "n_people": [ended(one, end) for one, end in zip(who, rows["end"], strict=True)]}


def at_risk(rows: pd.DataFrame, classifications: Mapping[str, str]) -> Counts:
    """Describe numbers below a curve: columns outcome, classification, group, years.

    Who ends on the day of a tick is at risk on it, and has not ended before it.
    """
    who = _people(rows, classifications)
    pairs = list(zip(who, map(_before, rows["years"].astype(float)), strict=True))
    made: Counts = {
        "n_people": who,
        # At the beginning everybody is at risk, and nothing has happened.
        "n_at_risk": [one.after(years) if years else one for one, years in pairs],
    }
    for name, end in (("n_censored", "censored"), ("n_events", "outcome"), ("n_deaths", "death")):
        made[name] = [ended(one, end).by(years) if years else None for one, years in pairs]
    return made


def _before(years: float) -> float:
    """Return a time just before a tick that falls on a whole day; else the tick."""
    return years - 0.5 / DAYS_PER_YEAR if years and (years * DAYS_PER_YEAR).is_integer() else years


def curves(rows: pd.DataFrame, fuzz: float, classifications: Mapping[str, str]) -> Counts:
    """Describe events so far along curves, whose times are rounded by `fuzz` years either way."""
    who = _people(rows, classifications)
    pairs = zip(who, rows["years"].astype(float), strict=True)
    return {
        "n_events": [ended(one, "outcome").by(years, fuzz) if years else None for one, years in pairs],
        "n_people": who,
    }


def events_by_period(rows: pd.DataFrame) -> Counts:
    """Describe events by calendar time: columns outcome, period, region."""

    def of(row: Row) -> Count:
        events = ended(followed(row["outcome"]), "outcome")
        return events.part(f"period of {row['outcome']}", row["period"]).level("region", row["region"])

    return {"n_events": _each(rows, of)}


# Models of outcomes.


def curve_of_doses(rows: pd.DataFrame, needed: str = MODELS) -> Counts:
    """Describe curves of hazard ratios: columns outcome, model_id."""
    return {"n_events": [ended(one, "outcome") for one in _complete(rows, needed)]}


def calibrated_people(rows: pd.DataFrame, needed: str = MODELS) -> Counts:
    """Describe which people of the calibrated model have a CMR: columns outcome, model_id."""
    who = _complete(rows, needed)
    return {
        "n_people": who,
        "n_cmr": [one.part("CMR near the ECG", "yes") for one in who],
        "n_no_cmr": [one.part("CMR near the ECG", "no") for one in who],
    }


def calibration(rows: pd.DataFrame) -> Counts:
    """Describe tenths of predicted risk: columns outcome, model_id, group, horizon_years."""
    judged = zip(_complete(rows, RISKS, JUDGED), rows["group"], strict=True)
    tenths = [one.part("tenth of risk", group) for one, group in judged]
    horizons = rows["horizon_years"].astype(float)
    return {
        "n_people": tenths,
        "n_events": [ended(one, "outcome").by(at) for one, at in zip(tenths, horizons, strict=True)],
    }


def rows_left_out(rows: pd.DataFrame, *, one_ecg_each: bool) -> Counts:
    """Describe rows that models leave out: columns outcome, model_id, column, needed.

    `needed` is what the rows of "in all" lack, "" for those of one column.
    """
    who = _each(rows, lambda row: of_model(followed(row["outcome"]), row["model_id"]))
    if not one_ecg_each:
        who = [one.of(ECGS) for one in who]
    names = [row["needed"] or name_of(row["column"]) for row in rows.to_dict("records")]
    return {"n_missing": [one.lacking(name) for one, name in zip(who, names, strict=True)]}


# Repeat ECGs.


def with_ecgs(*how_many: str) -> Count:
    """Return the count of people of the cohort by their usable ECGs: one, or several: two, more."""
    names = ("usable ECGs", "two or more")
    return Count("people with ECGs").at(*zip(names, how_many, strict=False))


def repeated(column: str, gap: str = "") -> Count:
    """Return the count of people with several ECGs and a known column, by a gap ("": any)."""
    who = with_ecgs("several").complete(column)
    return who.part("years between", gap) if gap else who


def repeats(rows: Sequence[Analysed]) -> Counts:
    """Describe the results of repeat ECGs, whose pairs have no number of ECGs."""
    made = of_results(rows, one_ecg_each=False)
    return {name: made[name] for name in ("n_people", "n_ecgs")}


def several_ecgs(column: str) -> tuple[Relation, ...]:
    """Return how many ECGs people with several have at least; a mass is known of all of them."""
    who = repeated(column)
    two, more = with_ecgs("several", "two"), with_ecgs("several", "more")
    return (
        Relation(((who, 1.0), (two, -1.0), (more, -1.0))),
        Relation(((who.of(ECGS), 1.0), (two, -2.0), (more, -3.0)), 0.0, math.inf),
    )


# Pairs of ECG and CMR.

WITH_CMR: Final = Count("people with CMR")
PAIRED: Final = WITH_CMR.at(("pairing", "paired"))
COMPARED: Final = PAIRED.at(("imaged", "compared"))
"""Pairs that the main results are of."""
LABELLED: Final = COMPARED.at(("label", "known"))
_LABEL_KNOWN: Final = ("label", "known")
_RULES_KNOWN: Final = ("rules", "all three")
_WITH_LVH: Final = "LVH by CMR"


def cmr_flow(rows: pd.DataFrame, steps: Mapping[str, str]) -> Counts:
    """Describe where people with CMR end, by column step.

    `steps` says what each step is: "all", "no ECG", "not in time", "finding", "before", "undated",
    "no label", "no rules" or "complete".
    """
    known = {
        "all": WITH_CMR,
        "no ECG": WITH_CMR.at(("pairing", "no ECG")),
        "not in time": WITH_CMR.at(("pairing", "not in time")),
        "finding": WITH_CMR.at(("pairing", "finding")),
        "before": PAIRED.at(("imaged", "before")),
        "undated": PAIRED.at(("imaged", "unknown")),
        "no label": COMPARED.at(("label", "unknown")),
        "no rules": LABELLED.at(("rules", "not all")),
        "complete": LABELLED.at(_RULES_KNOWN),
    }
    return {"n_people": [known[steps[step]] for step in rows["step"]]}


def paired(
    strata: str, level: str, *, labelled: bool = False, with_rules: bool = False, is_before: bool | None = None
) -> Count:
    """Return the count of pairs of a group ("" for all); by one pair per person.

    With `labelled`, LVH by CMR and by prediction is known; `with_rules`, all three ECG rules, too.
    `is_before` is for people by their first CMR, whether it was before the date of the training
    set; None for all other groups.
    """
    who = PAIRED.at(("imaged", "before")) if is_before else COMPARED
    if labelled or with_rules:
        who = who.at(_LABEL_KNOWN)
    if with_rules:
        who = who.at(_RULES_KNOWN)
    return who.level(f"CMR {strata}", level) if strata and is_before is None else who


def with_lvh(who: Count, answer: str = "yes") -> Count:
    """Return the count of pairs with LVH by CMR, or without it for "no"."""
    return who.part(_WITH_LVH, answer)


def two_by_two(rows: pd.DataFrame, people: Sequence[Count]) -> Counts:
    """Describe yes/no markers against LVH by CMR: column marker, and the people of each row."""
    pairs = [(who, f"marker {marker}") for who, marker in zip(people, rows["marker"], strict=True)]
    made: Counts = {
        "n_people": list(people),
        "n_lvh": [with_lvh(one) for one in people],
        "n_no_lvh": [with_lvh(one, "no") for one in people],
        "n_positive": [one.part(name, "yes") for one, name in pairs],
        "n_negative": [one.part(name, "no") for one, name in pairs],
    }
    cells = {"tp": ("yes", "yes"), "fn": ("yes", "no"), "fp": ("no", "yes"), "tn": ("no", "no")}
    for cell, (lvh, marker) in cells.items():
        made[cell] = [with_lvh(one, lvh).part(name, marker) for one, name in pairs]
    return made


def roc_points(people: Sequence[Count]) -> tuple[Counts, tuple[Relation, ...]]:
    """Describe points of ROC curves by their people: tp and fn have LVH, fp and tn do not."""
    made: dict[str, list[Count]] = {}
    related: list[Relation] = []
    for answer, whole, cells in (("yes", "n_lvh", ("tp", "fn")), ("no", "n_no_lvh", ("fp", "tn"))):
        made[whole] = [with_lvh(one, answer) for one in people]
        made |= {cell: [Count(f"{cell} of point {place}") for place in range(len(people))] for cell in cells}
        sums = zip(made[whole], *(made[cell] for cell in cells), strict=True)
        related += [Relation(((one, 1.0), *((part, -1.0) for part in parts))) for one, *parts in sums]
    return dict(made), tuple(related)


def _each(rows: pd.DataFrame, what: Callable[[Row], Count]) -> list[Count]:
    return [what({str(name): value for name, value in row.items()}) for row in rows.to_dict("records")]


def _in_ecgs(people: Sequence[Count]) -> list[Count]:
    return [one.of(ECGS) for one in people]


def _people(rows: pd.DataFrame, classifications: Mapping[str, str]) -> list[Count]:
    found = by_group(rows, {"n_people": "people"}, classifications)["n_people"]
    return [one for one in found if one is not None]


def _complete(rows: pd.DataFrame, *needed: str) -> list[Count]:
    """People of an outcome and a model of the predictions of whom everything needed is known."""
    return _each(rows, lambda row: of_model(followed(row["outcome"]), row["model_id"]).complete(*needed))
