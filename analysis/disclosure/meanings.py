"""What the counts of each table count: the registry from which all that adds up follows.

A topic says here, for each count column and row, who is counted; nothing else about sums, partners
or other tables. Tests ask that each count column of each table that hides small counts is
described or declared to add up, and that what follows from the descriptions is true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pandas as pd

from analysis.disclosure.counts import ECGS, EVERYBODY, PEOPLE, PEOPLE_OF_ECGS, YEARS, Count, Relation
from lvm_core.units import DAYS_PER_YEAR

Counts = dict[str, Sequence[Count | None]]
Row = Mapping[str, Any]

ALL: Final = Count()
LEFT: Final = ALL.at(("left out", "left"))
"""People who are left by every exclusion that comes before outcomes."""
# Classifications by what is known or not; several words for one thing.
_NAMES: Final = {
    "Predicted LVH": "lvh",
    "Quartile within sex": "quartile",
    "Sex": "sex",
    "Age, years": "age_years",
    "Age band, years": "age_years",
    "BMI, kg/m2": "bmi_kg_m2",
    "Body mass index, kg/m2": "bmi_kg_m2",
    "Height, cm": "height_cm",
    "Weight, kg": "weight_kg",
    "Body surface area, m2": "bsa_m2",
    "LV mass from the ECG, g": "mass_g",
    "LV mass index from the ECG, g/m2": "index_g_m2",
    "Region": "region",
    "Ethnicity": "ethnicity",
}
# Analyses that need more than the models of the hazard ratios.
_OF_MODELS: Final = "what models need"
_OF_RISKS: Final = "what risks need"
_JUDGED: Final = "whether judged"
_OTHER_NEEDS: Final = {
    "added_value": ("what is added needs",),
    "competing": (_OF_MODELS, "what hazards need"),
    "absolute_risk": (_OF_RISKS,),
    "standardised": ("what standardising needs",),
}
_LATER: Final = re.compile(r"clock starts (?:([0-9]+) days after|at) the ECG")
_ENDS: Final = {
    "outcome": (("status", "outcome"),),
    "death": (("status", "death"),),
    "censored": (("status", "censored"),),
    "lost": (("status", "censored"), ("end", "lost")),
    "administrative_end": (("status", "censored"), ("end", "administrative end")),
}


def followed(outcome: str, classification: str = EVERYBODY, group: str = EVERYBODY) -> Count:
    """Return the count of those followed for an outcome, by one ECG a person.

    Args:
        outcome: of the code list.
        classification: in words, or "everybody".
        group: of it; "everybody" are those whose group is known.
    """
    whole = LEFT.at((outcome, "analysed"))
    if classification == EVERYBODY:
        return whole
    name = name_of(classification)
    return whole.complete(name) if group == EVERYBODY else whole.level(name, group)


def name_of(words: str) -> str:
    """Return the name of a classification or covariate by its words."""
    return _NAMES.get(words, words.replace(" ", "_"))


def ended(who: Count, end: str) -> Count:
    """Return the count of those whose follow-up ended so: "outcome", "death", "censored" ..."""
    return who.at(*_ENDS[end])


def each(rows: pd.DataFrame, what: Callable[[Row], Count | None]) -> list[Count | None]:
    """Return what each row counts."""
    return [what({str(k): v for k, v in row.items()}) for row in rows.to_dict("records")]


def flow(rows: pd.DataFrame, *, one_ecg_each: bool) -> Counts:
    """Describe people and ECGs by reason: columns outcome ("": whatever the outcome), reason."""

    def of(row: Row) -> Count:
        outcome, reason = row["outcome"], row["reason"]
        if reason == "all":
            return ALL
        if reason == "left":
            return LEFT
        return LEFT.at((outcome, reason)) if outcome else ALL.at(("left out", reason))

    people = each(rows, of)
    ecgs = [one and one.of(PEOPLE if one_ecg_each else ECGS) for one in people]
    # One of somebody's ECGs can be left out and another analysed: people do not add up then.
    alone = [
        one if one_ecg_each or one in (ALL, LEFT) or row["reason"] == "analysed" else None
        for one, row in zip(people, rows.to_dict("records"), strict=True)
    ]
    return {"n_people": alone, "n_ecgs": ecgs}


def baseline_numbers(rows: pd.DataFrame) -> Counts:
    """Describe Table 1: columns variable, group."""
    groups = each(rows, lambda row: _group_of_table_1(row["group"]))
    names = [name_of(words) for words in rows["variable"]]
    pairs = [(one or LEFT, name) for one, name in zip(groups, names, strict=True)]
    return {
        "n_people": groups,
        "n_known": [one.complete(name) for one, name in pairs],
        "n_missing": [one.lacking(name) for one, name in pairs],
    }


def baseline_counts(rows: pd.DataFrame) -> Counts:
    """Describe Table 1: columns variable, level, group."""
    groups = each(rows, lambda row: _group_of_table_1(row["group"]))
    levels = zip(groups, rows["variable"], rows["level"], strict=True)
    return {"n_group": groups, "n_people": [who and who.level(name_of(words), level) for who, words, level in levels]}


def _group_of_table_1(group: str) -> Count:
    if group == EVERYBODY:
        return LEFT
    name = "quartile" if group.startswith("quartile") else "lvh"
    level = group.replace("quartile ", "Q")
    return LEFT.lacking(name) if group.endswith("unknown") else LEFT.level(name, level)


def by_group(rows: pd.DataFrame, columns: Mapping[str, str]) -> Counts:
    """Describe counts by outcome, classification and group.

    Args:
        rows: with these columns.
        columns: what each column counts: "people", "person-years", or what ended follow-up.
    """
    places = list(zip(rows["outcome"], rows["classification"], rows["group"], strict=True))
    who = {place: followed(*place) for place in dict.fromkeys(places)}
    made: Counts = {}
    for name, what in columns.items():
        if what == "people":
            own = who
        elif what == "person-years":
            own = {place: one.of(YEARS) for place, one in who.items()}
        else:
            own = {place: ended(one, what) for place, one in who.items()}
        made[name] = [own[place] for place in places]
    return made


def ends(rows: pd.DataFrame) -> Counts:
    """Describe what ended follow-up: columns outcome, classification, group, end."""
    who = by_group(rows, {"n_group": "people"})["n_group"]
    return {"n_group": who, "n_people": [one and ended(one, end) for one, end in zip(who, rows["end"], strict=True)]}


def at_risk(rows: pd.DataFrame) -> Counts:
    """Describe numbers below a curve: columns outcome, classification, group, years."""
    who = by_group(rows, {"n_people": "people"})["n_people"]
    pairs = [(one or LEFT, float(years)) for one, years in zip(who, rows["years"], strict=True)]
    made: Counts = {
        "n_people": who,
        # At the beginning everybody is at risk, and nothing has happened.
        "n_at_risk": [one.after(years) if years else one for one, years in pairs],
    }
    for name, end in (("n_censored", "censored"), ("n_events", "outcome"), ("n_deaths", "death")):
        made[name] = [ended(one, end).by(years) if years else None for one, years in pairs]
    return made


def curves(rows: pd.DataFrame, fuzz: float) -> Counts:
    """Describe events so far along curves, whose times are rounded by `fuzz` years either way."""
    who = by_group(rows, {"n_people": "people"})["n_people"]
    pairs = [(one or LEFT, float(years)) for one, years in zip(who, rows["years"], strict=True)]
    made: Counts = {"n_events": [ended(one, "outcome").by(years, fuzz) if years else None for one, years in pairs]}
    return made | ({"n_people": who} if "n_people" in rows else {})


def events_by_period(rows: pd.DataFrame) -> Counts:
    """Describe events by calendar time: columns outcome, period, region."""

    def of(row: Row) -> Count:
        events = ended(followed(row["outcome"]), "outcome")
        return events.part(f"period of {row['outcome']}", row["period"]).level("region", row["region"])

    return {"n_events": each(rows, of)}


def index_years(rows: pd.DataFrame, *, one_ecg_each: bool) -> Counts:
    """Describe index ECGs by year: column year."""
    people = each(rows, lambda row: LEFT.part("index year", row["year"]))
    if one_ecg_each:
        return {"n_people": people, "n_ecgs": people}
    return {"n_ecgs": [one and one.of(ECGS) for one in people]}


def history(*, one_ecg_each: bool) -> Counts:
    """Describe the one row of observed history."""
    whole = LEFT.of(PEOPLE if one_ecg_each else ECGS)
    return {"n_ecgs": [whole], "n_known": [whole.complete("history")], "n_unknown": [whole.lacking("history")]}


def eligible_ecgs(rows: pd.DataFrame) -> Counts:
    """Describe which ECGs the index rule chooses from: column step; all are in usable_ecg."""
    whole = Count("usable ECGs of the cohort")
    steps = (whole if step == "usable_ecg" else whole.at(("step", step)) for step in rows["step"])
    return {"n_ecgs": list(steps)}


def unknown_dates(rows: pd.DataFrame) -> Counts:
    """Describe people and ECGs without a date: columns column, why."""
    people = [ALL.level(f"date {column}", why) for column, why in zip(rows["column"], rows["why"], strict=True)]
    return {"n_people": people, "n_ecgs": [one.of(ECGS) for one in people]}


def bins(rows: pd.DataFrame) -> Counts:
    """Describe a histogram: each row is a bin of its own, some people lie in none: model_id."""
    models = [of_model(LEFT, row) for row in rows.to_dict("records")]
    return {"n_people": [who.level("bin", place) for place, who in enumerate(models)]}


def of_model(who: Count, row: Mapping[Any, Any]) -> Count:
    """Return the count of those by one model of the predictions, where a row has one."""
    return who.part("model of predictions", row["model_id"]) if row["model_id"] else who


def curve_of_doses(rows: pd.DataFrame) -> Counts:
    """Describe curves of hazard ratios: columns outcome, model_id."""
    who = each(rows, lambda row: of_model(followed(row["outcome"]), row).complete(_OF_MODELS))
    return {"n_events": [one and ended(one, "outcome") for one in who]}


def calibrated_people(rows: pd.DataFrame) -> Counts:
    """Describe who of the calibrated model has a CMR: columns outcome, model_id."""
    who = [of_model(followed(row["outcome"]), row).complete(_OF_MODELS) for row in rows.to_dict("records")]
    return {
        "n_people": who,
        "n_cmr": [one.part("CMR near the ECG", "yes") for one in who],
        "n_no_cmr": [one.part("CMR near the ECG", "no") for one in who],
    }


def calibration(rows: pd.DataFrame) -> Counts:
    """Describe tenths of predicted risk: columns outcome, model_id, group, horizon_years."""

    def of(row: Row) -> Count:
        judged = of_model(followed(row["outcome"]), row).complete(_OF_RISKS, _JUDGED)
        return judged.part("tenth of risk", row["group"])

    tenths = each(rows, of)
    horizons = rows["horizon_years"].astype(float)
    return {
        "n_people": tenths,
        "n_events": [one and ended(one, "outcome").by(at) for one, at in zip(tenths, horizons, strict=True)],
    }


def code_hits(rows: pd.DataFrame) -> Counts:
    """Describe people with each code: columns outcome, system, code, match."""

    def of(row: Row) -> Count:
        words = " ".join(str(row[name]) for name in ("outcome", "system", "code", "match"))
        return Count(f"{PEOPLE} with {words}")

    return {"n_people": each(rows, of)}


def with_ecgs(*how_many: str) -> Count:
    """Return the count of people of the cohort by their usable ECGs: one, or several: two, more."""
    names = ("usable ECGs", "two or more")
    return Count("people with ECGs").at(*zip(names, how_many, strict=False))


def repeated(column: str, gap: str = "") -> Count:
    """Return the count of people with several ECGs of which a column is known, by the time between.

    Args:
        column: of the predictions.
        gap: between the first two; "" for any.
    """
    who = with_ecgs("several").complete(column)
    return who.part("years between", gap) if gap else who


def repeats(rows: Sequence[Analysed]) -> Counts:
    """Describe the results of repeat ECGs, whose pairs have no number of ECGs."""
    made = results(rows, one_ecg_each=False)
    return {name: made[name] for name in ("n_people", "n_ecgs")}


def several_ecgs(column: str) -> tuple[Relation, ...]:
    """Return how many ECGs people with several have at least; a mass is known of all of them."""
    who = repeated(column)
    two, more = with_ecgs("several", "two"), with_ecgs("several", "more")
    return (
        Relation(((who, 1.0), (two, -1.0), (more, -1.0))),
        Relation(((who.of(ECGS), 1.0), (two, -2.0), (more, -3.0)), 0.0, math.inf),
    )


class Analysed(NamedTuple):
    """Whom a row of the results is about.

    Attributes:
        who: everybody whom it could be about.
        complete_in: what has to be known of them; the others are dropped.
        end: what its events are: "outcome", "death"; "" where it has none.
        by: years by which they have happened; None: at any time.
        of_them: what else is known of those who are not dropped.
        has_own_clock: whether its person-years are not all that people were followed.
    """

    who: Count
    complete_in: tuple[str, ...] = ()
    end: str = "outcome"
    by: float | None = None
    of_them: tuple[str, ...] = ()
    has_own_clock: bool = False


def results(rows: Sequence[Analysed | None], *, one_ecg_each: bool) -> Counts:
    """Describe the counts of results.

    Args:
        rows: whom each row is about; None where nothing is known of it.
        one_ecg_each: whether people and ECGs are the same.
    """
    made: dict[str, list[Count | None]] = {name: [] for name in _RESULT_COUNTS}
    for row in rows:
        if row is None:
            for own in made.values():
                own.append(None)
            continue
        people = row.who.complete(*row.complete_in, *row.of_them)
        if not one_ecg_each and people != row.who and people.unit == PEOPLE:
            people = people.of(PEOPLE_OF_ECGS)
        events = ended(people, row.end) if row.end else None
        if events is not None and row.by is not None:
            events = events.by(row.by)
        made["n_people"].append(people)
        made["n_ecgs"].append(people if one_ecg_each else people.of(ECGS))
        made["n_events"].append(events)
        is_all = one_ecg_each and not row.has_own_clock
        made["person_years"].append(people.of(YEARS) if is_all else None)
        # Rows are dropped, which are ECGs.
        dropped = row.who if one_ecg_each else row.who.of(ECGS)
        made["n_dropped_missing"].append(dropped.lacking(*row.complete_in) if row.complete_in else None)
    return dict(made)


_RESULT_COUNTS: Final = ("n_people", "n_ecgs", "n_events", "person_years", "n_dropped_missing")


def of_outcomes(rows: Sequence[Row], latency_days: int = 0) -> Counts:
    """Describe the counts of results about outcomes by their outcome, strata and level.

    Args:
        rows: of `aggregates.result`.
        latency_days: days after the index ECG when the clock of the study starts.
    """
    one_ecg_each = all(row["n_ecgs"] in (None, row["n_people"]) for row in rows)
    return results([_analysed(row, latency_days) for row in rows], one_ecg_each=one_ecg_each)


def _analysed(row: Row, latency_days: int) -> Analysed | None:
    outcome, analysis, strata = row["outcome"], row["analysis"], row["strata"]
    if not outcome:
        return None
    who, by = of_model(followed(outcome), row), None
    if strata == "variant":
        later = _variant(who, row["level"], latency_days)
        if later is None:
            return None
        who = later
    elif strata == "period":
        start, by = _period(row["level"])
        who = who.after(start) if start else who
    elif strata:
        name = name_of(strata)
        is_of_all = row["level"] == "interaction"
        who = who.complete(name) if is_of_all else who.level(name, row["level"])
    elif analysis == "rates":
        who = who.complete(name_of(row["contrast"]))
    needed = _OTHER_NEEDS.get(analysis, (_OF_MODELS,))
    # A variant of the limits has an LVH of its own.
    needed += ("lvh",) if row["contrast"] == "LVH" and "LVH" not in row["level"] else ()
    is_judged = analysis == "absolute_risk" and row["estimate"] is not None
    return Analysed(
        who,
        needed if row["n_dropped_missing"] is not None else (),
        "death" if "of death" in row["measure"] else "outcome",
        row["unit_value"] if is_judged else by,
        (_JUDGED,) if is_judged else (),
        has_own_clock=strata in ("variant", "period") and row["level"] != "main analysis",
    )


def _variant(who: Count, words: str, latency_days: int) -> Count | None:
    """A variant of the main analysis: the same people, later or fewer ones; None if earlier."""
    if words == "main analysis":
        return who
    later = _LATER.fullmatch(words)
    if later:
        days = int(later[1] or 0) - latency_days
        return who.after(days / DAYS_PER_YEAR) if days > 0 else None
    return who.part("imaged", words) if "imaged" in words else who.complete(words)


def _period(words: str) -> tuple[float, float | None]:
    """Years from and to of "2 to 5 years" and "5+ years"."""
    bounds = [float(number) for number in re.findall(r"[0-9.]+", words)]
    return bounds[0], bounds[1] if len(bounds) > 1 else None


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
