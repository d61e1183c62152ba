"""Who is analysed: the flow of people and ECGs, with the reason of everybody who is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label
from analysis.disclosure.masking import HIDDEN, Masked
from analysis.follow_up import EcgFinding, Exclusion
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.flow import flow_diagram
from analysis.report.topics.tables import aggregate
from analysis.report.words import with_texts
from analysis.study.code_lists import SYSTEM_WORDS
from analysis.study.data import About, StudyData

ALL: Final = "all"
LEFT: Final = "left"
ANALYSED: Final = "analysed"
EVERY_OUTCOME: Final = ""
# Parts of reasons of the closed list.
TOO_LITTLE_HISTORY: Final = "no_usable_ecg: history"
TOO_FEW_ENCOUNTERS: Final = "no_usable_ecg: encounters"
OUTSIDE_INDEX_RULE: Final = "no_usable_ecg: index rule"
BODY_SIZE_FAR: Final = "missing_exposure: body size"
FINDINGS: Final = {finding: f"excluded_by_ecg: {finding}" for finding in EcgFinding}
_WORDS: Final = {
    ALL: "In any table",
    Exclusion.NOT_IN_COHORT: "Not among the participants",
    Exclusion.WITHDRAWN: "Withdrawn",
    Exclusion.EXCLUDED_BY_LIST: "Excluded by list",
    Exclusion.NO_USABLE_ECG: "No usable ECG",
    TOO_LITTLE_HISTORY: "Usable ECG, but records do not reach back far enough",
    TOO_FEW_ENCOUNTERS: "Usable ECG, but too few encounters before",
    OUTSIDE_INDEX_RULE: "Usable ECG, but none that the index rule allows",
    Exclusion.EXCLUDED_BY_ECG: "Index ECG with a finding that is left out",
    FINDINGS[EcgFinding.PACED]: "Index ECG paced",
    FINDINGS[EcgFinding.LBBB]: "Left bundle branch block on the index ECG",
    FINDINGS[EcgFinding.RBBB]: "Right bundle branch block on the index ECG",
    FINDINGS[EcgFinding.OTHER_BLOCK]: "Another block on the index ECG",
    FINDINGS[EcgFinding.QRS_120]: "QRS of 120 ms or more on the index ECG",
    Exclusion.MISSING_EXPOSURE: "Exposure unknown",
    BODY_SIZE_FAR: "Height and weight too far from the ECG, or of an unknown day",
    Exclusion.UNKNOWN_REGION: "Region unknown",
    Exclusion.DEATH_BEFORE_INDEX: "Death before the index ECG",
    Exclusion.INDEX_AFTER_ADMIN_END: "Index ECG after the end of records",
    Exclusion.LOST_BEFORE_INDEX: "Lost before the index ECG",
    LEFT: "Left, before anything about an outcome",
    Exclusion.PREVALENT: "Outcome on or before the index date",
    Exclusion.UNKNOWN_EVENT_DATE: "Outcome at an unknown date",
    Exclusion.NO_FOLLOW_UP_TIME: "No follow-up time",
    ANALYSED: "Analysed",
}
_FINDING_WORDS: Final = {
    EcgFinding.PACED: "Whether it is paced",
    EcgFinding.LBBB: "Whether there is left bundle branch block",
    EcgFinding.RBBB: "Whether there is right bundle branch block",
    EcgFinding.OTHER_BLOCK: "Whether there is another block",
    EcgFinding.QRS_120: "Duration of QRS",
}
_STEPS: Final = {
    "min_history": TOO_LITTLE_HISTORY,
    "min_encounters": TOO_FEW_ENCOUNTERS,
    "index_rule": OUTSIDE_INDEX_RULE,
}
_ECG_WORDS: Final = {
    "usable_ecg": "Usable ECGs of the cohort",
    "min_history": "Left out: records do not reach back far enough",
    "min_encounters": "Left out: too few encounters before",
    "eligible": "Eligible for the index rule",
}
_COUNTS: Final = ("n_people", "n_ecgs")
_UNKNOWN_WORDS: Final = {
    ("recorded_at", "placeholder"): "Date of the ECG is a placeholder, such as 1900-01-01",
    ("recorded_at", "missing"): "Date of the ECG is missing",
    ("birth_date", "placeholder"): "Date of birth is a placeholder",
    ("birth_date", "missing"): "Date of birth is missing",
    ("birth_date", "day_assumed"): "Date of birth is of month and year, read as the 15th",
}


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the flow of people, which ECGs the index rule chooses from, and what is unknown."""
    return [
        flow_aggregate(data.follow_up, data.eligibility),
        *_eligible_ecgs(data.eligibility),
        *_unknown_dates(data.unknown_dates),
        *_unknown_findings(data.unknown_findings),
    ]


def flow_aggregate(people: pd.DataFrame, eligibility: pd.DataFrame | None = None) -> Aggregate:
    """Return the flow before masking, of the tables `people` and `eligibility` of `FollowUp`.

    What comes before anything about an outcome happens to the same people for every outcome, so it
    is in one block (outcome ""), whose last row is where the blocks of the outcomes begin. If it
    were in each, a count hidden in one could be read in another. For the same reason parts of a
    reason replace it and have no table of their own, which would give their sum. Where each ECG
    opens a follow-up there is a row per ECG, so that a person can be analysed with one ECG and left
    out with another.
    """
    columns = (
        label("outcome", "of the code list; empty for what is the same for all"),
        label("reason", "why people are left out, in order"),
        label("early", "yes: everybody, and who is left out whatever the outcome"),
        count("n_people", "people"),
        count("n_ecgs", "index ECGs, and one for each person without any"),
    )
    names = [column.name for column in columns]
    table = pd.DataFrame(_rows(people, eligibility), columns=names)
    one_ecg_each = bool((table["n_people"] == table["n_ecgs"]).all())
    return aggregate("flow", [table], columns, lambda rows: meanings.flow(rows, one_ecg_each=one_ecg_each))


def _rows(people: pd.DataFrame, eligibility: pd.DataFrame | None) -> list[tuple[object, ...]]:
    by_outcome = dict(list(people.assign(reason=_reasons(people)).groupby("outcome", sort=False)))
    listed = {*Exclusion, *(one for own in by_outcome.values() for one in own["reason"])}
    if listed & {*FINDINGS.values()}:
        listed.discard(Exclusion.EXCLUDED_BY_ECG)  # its parts stand in its place
    reasons = [str(reason) for reason in _WORDS if reason in listed and reason != ANALYSED]
    early = reasons[: reasons.index(Exclusion.PREVALENT)]
    # They differ where outcomes need other sources, whose records end on other days.
    shared = [r for r in early if len({_counts(own, [r]) for own in by_outcome.values()}) == 1]
    rest = [reason for reason in reasons if reason not in shared]
    first = next(iter(by_outcome.values()))
    left = _counts(first, [*rest, ANALYSED])
    rows: list[tuple[object, ...]] = [(EVERY_OUTCOME, ALL, "yes", *_counts(first, [*reasons, ANALYSED]))]
    for reason in shared:
        parts = {reason: _counts(first, [reason])}
        if reason == Exclusion.NO_USABLE_ECG and eligibility is not None:
            parts = _without_index_ecg(parts[reason], eligibility)
        rows += [(EVERY_OUTCOME, part, "yes", *n) for part, n in parts.items()]
    rows.append((EVERY_OUTCOME, LEFT, "no", *left))
    for outcome, own in by_outcome.items():
        rows.append((outcome, LEFT, "no", *left))
        rows += [(outcome, r, "no", *_counts(own, [r])) for r in (*rest, ANALYSED)]
    return rows


def _reasons(people: pd.DataFrame) -> pd.Series[str]:
    """The reason of each row, by finding of the ECG; body size can leave an exposure unknown."""
    reasons = people["excluded"].fillna(ANALYSED).astype(str)
    if "ecg_finding" in people:
        parts = people["ecg_finding"].map(FINDINGS)
        reasons = reasons.mask((reasons == Exclusion.EXCLUDED_BY_ECG) & parts.notna(), parts)
    if "body_size_far" not in people:
        return reasons
    far = people["body_size_far"].astype("boolean").fillna(False).astype(bool)
    return reasons.mask(far & (reasons == Exclusion.MISSING_EXPOSURE), BODY_SIZE_FAR)


def _counts(people: pd.DataFrame, reasons: list[str]) -> tuple[int, int]:
    """People, and rows, that end with one of some reasons."""
    own = people[people["reason"].isin(reasons)]
    return own["participant_id"].nunique(), len(own)


def _without_index_ecg(everybody: tuple[int, int], eligibility: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """People without an index ECG, by the step at which they lose the last usable one.

    Steps of nobody are left out. None of these people has an ECG, so that each has one row.
    """
    left = eligibility.set_index("step")["n_people"].astype(int)
    lost = (-left.loc[["usable_ecg", *_STEPS]].diff().iloc[1:]).astype(int)
    parts = {_STEPS[str(step)]: (n, n) for step, n in lost.items() if n}
    n_people, n_rows = everybody
    return {str(Exclusion.NO_USABLE_ECG): (n_people - lost.sum(), n_rows - lost.sum())} | parts


def _eligible_ecgs(eligibility: pd.DataFrame) -> list[Aggregate]:
    """ECGs that history or encounters leave out, if any.

    People are in the flow; the number of index ECGs would be a partial sum of the flow.
    """
    left = eligibility.set_index("step")["n_ecgs"].astype(int)
    steps = ["usable_ecg", "min_history", "min_encounters"]
    lost = -left.loc[steps].diff().iloc[1:]
    if not lost.any():
        return []
    rows = {"usable_ecg": left["usable_ecg"], **lost.astype(int), "eligible": left["min_encounters"]}
    columns = (label("step", "towards the index ECG"), count("n_ecgs", "ECGs of the cohort"))
    lines = [{"step": step, "n_ecgs": n} for step, n in rows.items()]
    return [aggregate("eligible_ecgs", lines, columns, meanings.eligible_ecgs)]


def _unknown_dates(found: pd.DataFrame) -> list[Aggregate]:
    """How many of the cohort have an ECG or a birth at an unknown day, if any.

    Events at an unknown day are in the flow; such deaths and losses are refused.
    """
    if not len(found) or not found["n_rows"].any():
        return []
    ecgs = found["n_rows"].astype("Int64").where(found["column"] == "recorded_at")
    columns = (
        label("column", "of the table"),
        label("why", "placeholder, missing, or the day assumed"),
        count("n_people", "people of the cohort"),
        count("n_ecgs", "ECGs of them"),
    )
    return [aggregate("unknown_dates", [found.assign(n_ecgs=ecgs)], columns, meanings.unknown_dates)]


def _unknown_findings(found: pd.DataFrame) -> list[Aggregate]:
    """How many stay although it is unknown whether the index ECG has a finding that is left out."""
    if not len(found):
        return []
    columns = (
        label("finding", "for which people are left out"),
        count("n_people", "people whose index ECG stays although the finding is unknown"),
        count("n_ecgs", "index ECGs of them"),
    )
    return [aggregate("unknown_findings", [found], columns, meanings.unknown_findings)]


def flow_cells(flow: Masked, outcomes: Mapping[str, str]) -> pd.DataFrame:
    """Return the masked flow for readers: a row per reason, a column per outcome, in words."""
    people, ecgs = flow.shown("n_people"), flow.shown("n_ecgs")
    texts = [
        n if n == m or (people == ecgs).all() else HIDDEN if HIDDEN in (n, m) else f"{n} ({m} ECGs)"
        for n, m in zip(people, ecgs, strict=True)
    ]
    keyed = dict(zip(zip(flow.rows["outcome"], flow.rows["reason"], strict=True), texts, strict=True))
    lines = [reason for reason in _WORDS if reason in set(flow.rows["reason"])]
    cells = {"": [_WORDS[reason] for reason in lines]}
    for name, words in outcomes.items():
        if (name, ANALYSED) in keyed:
            cells[words] = [keyed.get((name, one), keyed.get((EVERY_OUTCOME, one), "")) for one in lines]
    return pd.DataFrame(cells)


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the flow table, the diagram of the primary outcome, and the eligible ECGs."""
    flow = masked.get("flow")
    if flow is None:
        return None
    is_one_each = (flow.shown("n_people") == flow.shown("n_ecgs")).all()
    notes = (
        "The list of reasons is closed; the first that holds is counted, so that the counts of a "
        "column add up (before masking). The last three look at the codes of their outcome only.",
        "One ECG per person: these are numbers of people and of ECGs."
        if is_one_each
        else "People, and in brackets ECGs where there are more. A person can be left out with one ECG "
        "and analysed with another, so that ECGs add up and people may not; a person without an "
        "index ECG counts as one.",
        f"{HIDDEN}: a small number, or one that would tell it.",
    )
    items: list[ReadTable | ReadFigure] = [
        ReadTable("flow", "People by outcome", flow_cells(flow, about.outcomes), 1, notes),
        _diagram(flow, about),
    ]
    if "eligible_ecgs" in masked:
        items.append(_ecg_table(masked["eligible_ecgs"]))
    if "unknown_dates" in masked:
        items.append(_date_table(masked["unknown_dates"]))
    if "unknown_findings" in masked:
        items.append(_finding_table(masked["unknown_findings"]))
    return Section("flow", "Who is analysed", items=tuple(items))


def _diagram(flow: Masked, about: About) -> ReadFigure:
    primary, words = next(iter(about.outcomes.items()))
    shown = with_texts(flow)
    rows = pd.concat([shown[shown["outcome"] == one] for one in (EVERY_OUTCOME, primary)])
    rows = rows[rows["reason"] != LEFT].reset_index(drop=True)
    rows = rows.assign(label=rows["reason"].map(_WORDS))
    drawn = flow_diagram(rows)
    return ReadFigure("flow_diagram", f"Flow of people for {words}", drawn.alt, drawn.canvas)


def _ecg_table(eligible: Masked) -> ReadTable:
    cells = pd.DataFrame({"": eligible.rows["step"].map(_ECG_WORDS), "ECGs": eligible.shown("n_ecgs")})
    return ReadTable("eligible_ecgs", "ECGs that the index rule chooses from", cells)


def _date_table(unknown: Masked) -> ReadTable:
    keys = zip(unknown.rows["column"], unknown.rows["why"], strict=True)
    counts = {"People": unknown.shown("n_people"), "ECGs": unknown.shown("n_ecgs")}
    cells = pd.DataFrame({"": [_UNKNOWN_WORDS[key] for key in keys], **counts})
    notes = (
        "Of the cohort. Such ECGs are not usable. People without a date of birth have no attained age, "
        "and are in no Cox model on that scale.",
    )
    return ReadTable("unknown_dates", "ECGs and births at an unknown day", cells, 1, notes)


def _finding_table(unknown: Masked) -> ReadTable:
    counts = {"People": unknown.shown("n_people"), "ECGs": unknown.shown("n_ecgs")}
    cells = pd.DataFrame({"": unknown.rows["finding"].map(_FINDING_WORDS), **counts})
    notes = (
        "People of the cohort whose index ECG is not left out for another finding. They stay: what is "
        "unknown leaves nobody out.",
    )
    return ReadTable("unknown_findings", "Unknown of the index ECG", cells, 1, notes)


# The code lists.

_AFTER_CODE: Final = {"prefix": "…"}


def caught_aggregate(caught: pd.DataFrame) -> Aggregate:
    """Return what the code lists caught, of `FollowUp.codes_caught`, before masking."""
    columns = (
        label("outcome", "that the code belongs to"),
        label("system", "coding system"),
        label("code", "as records have it, without dots"),
        label("match", "exact"),
        count("n_records", "distinct records of people of the cohort, from any source"),
        count("n_people", "people of the cohort with such a record, at any time"),
    )
    return aggregate("codes_caught", [caught.assign(match="exact")], columns, meanings.code_hits)


def caught_cells(masked: Masked, names: Mapping[str, str]) -> pd.DataFrame:
    """Return the codes that the lists caught as a table to print; `names` are outcomes in words."""
    rows = masked.rows
    return pd.DataFrame(
        {
            "Outcome": rows["outcome"].map(lambda name: names.get(name, name.replace("_", " "))),
            "System": rows["system"].map(lambda name: SYSTEM_WORDS.get(name, name)),
            "Code": rows["code"],
            "Records": masked.shown("n_records"),
            "People": masked.shown("n_people"),
        }
    )


def _codes_aggregates(data: StudyData) -> list[Aggregate]:
    """Return the code list with the records and people of the cohort that each code found."""
    labels = {
        "outcome": "that the code belongs to",
        "system": "coding system",
        "code": "without dots",
        "match": "prefix or exact",
        "source": "of the list",
        "comment": "of the list",
    }
    columns = (
        *(label(name, text) for name, text in labels.items()),
        count("n_records", "distinct records of people of the cohort, from any source"),
        count("n_people", "people of the cohort with such a record, at any time"),
    )
    return [aggregate("code_hits", [data.code_hits], columns, meanings.code_hits)]


def _present_codes(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return hits by code, codes never seen, and where the lists come from."""
    hits = masked.get("code_hits")
    if hits is None:
        return None
    rows = hits.rows
    outcome = rows["outcome"].map(lambda name: about.outcomes.get(name, name.replace("_", " ")))
    system = rows["system"].map(lambda name: SYSTEM_WORDS.get(name, name))
    cells = pd.DataFrame(
        {
            "Outcome": outcome,
            "System": system,
            "Code": rows["code"] + rows["match"].map(_AFTER_CODE).fillna(""),
            "Records": hits.shown("n_records"),
            "People": hits.shown("n_people"),
        }
    )
    notes = (
        "… means any code that begins so; a range holds both of its ends with all codes below them. A person "
        "can have several codes; records count at any time, before and after the index ECG.",
    )
    tables = [ReadTable("code_hits", "Records and people by code", cells, 3, notes)]
    # A hidden count is not 0: somebody has the code.
    never = (rows["n_records"] == 0) & ~hits.hidden["n_records"]
    if never.any():
        named = rows["code"] + " (" + system + ")"
        unseen = named[never].groupby(outcome[never], sort=False).agg(", ".join)
        cells = pd.DataFrame({"Outcome": unseen.index, "Codes": unseen.to_numpy()})
        tables.append(ReadTable("codes_never_seen", "Codes never seen in these records", cells))
    sources = pd.DataFrame({"Outcome": outcome, "Source": rows["source"]}).drop_duplicates()
    tables.append(ReadTable("code_sources", "Where the code list comes from", sources.reset_index(drop=True)))
    paragraph = (
        "The code lists that Khurshid et al. 2021 used are not known here. A code that is never "
        "seen may be rare, retired, or written otherwise in these records."
    )
    return Section("code_lists", "Code lists", (paragraph,), tuple(tables))


TOPIC: Final = Topic("flow", aggregates, present)
CODES: Final = Topic("codes", _codes_aggregates, _present_codes)
