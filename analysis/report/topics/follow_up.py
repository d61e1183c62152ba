"""How people were followed: duration, ends, events by calendar time, and history before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label, number
from analysis.disclosure.counts import EVERYBODY
from analysis.disclosure.masking import Masked
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.follow_up import calendar
from analysis.report.topics.rates import CLASSIFICATIONS, grouped, pooled_text
from analysis.report.topics.tables import GROUP, OUTCOME, aggregate, group_labels
from analysis.report.words import number_text, percent_texts
from analysis.statistics.survival.kaplan_meier import follow_up_curve
from analysis.study.data import About, StudyData
from lvm_core.units import DAYS_PER_YEAR

# Values of end_reason in FollowUp.people, in words.
END_REASONS: Final = {
    "outcome": "With the outcome",
    "death": "Died without it",
    "lost": "Lost",
    "administrative_end": "End of records",
}
_STATUS: Final = {"outcome": "1", "death": "2"}
_GROUPS: Final = ("lvh_group", "quartile_group", "exposure_group")
_LARGEST_SPARSE: Final = 2.0  # times k: fewer events a period in the middle are joined to longer ones
_PERIODS: Final = ("M", "Q", "Y")


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return durations, ends by group, events by period and region, history, index years."""
    durations: list[dict[str, Any]] = []
    ends: list[dict[str, Any]] = []
    events: list[pd.DataFrame] = []
    for outcome in (one.name for one in data.study.outcomes):
        table = grouped(data.analysed(outcome))
        for classification, group, own in _groups(table):
            key = {"outcome": outcome, "classification": classification, "group": group}
            durations.append(key | _duration(own))
            ends += [key | row for row in _ends(own)]
        events.append(_events(table, outcome, data.about.k))
    columns = (
        OUTCOME,
        label("period", "calendar month, quarter or year"),
        label("region", "of the records"),
        count("n_events", "events"),
    )
    return [
        _durations_aggregate(durations),
        _ends_aggregate(ends),
        aggregate("events_by_period", events, columns, meanings.events_by_period),
        _years(data),
        *_history(data),
    ]


def _groups(table: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    made = [(EVERYBODY, EVERYBODY, table)]
    for column in _GROUPS:
        known = table[table[column].notna()]
        made += [(CLASSIFICATIONS[column], str(level), own) for level, own in known.groupby(column)]
    return made


def _duration(table: pd.DataFrame) -> dict[str, Any]:
    """Quartiles of potential follow-up by reverse Kaplan-Meier: the outcome and death censor."""
    row: dict[str, Any] = {
        "n_people": len(table),
        "n_events": int(table["event"].sum()),
        "n_events_fewest": int((table["status_code"] == 0).sum()),
    }
    if not len(table):
        return row
    ended = table.assign(any_event=table["status_code"] > 0)
    curve = follow_up_curve(ended, duration="years", event="any_event")
    found = curve.quantiles((0.25, 0.5, 0.75))["quantile"].to_numpy()
    return row | {"q1_years": found[0], "median_years": found[1], "q3_years": found[2]}


def _ends(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "end": end,
            "status": _STATUS.get(end, "0"),
            "n_group": len(table),
            "n_people": int((table["end_reason"] == end).sum()),
        }
        for end in END_REASONS
    ]


def _events(table: pd.DataFrame, outcome: str, k: int) -> pd.DataFrame:
    """Events by calendar period and region; months, or longer periods where events are few."""
    own = table[table["event"]]
    dates = pd.DatetimeIndex(pd.to_datetime(own["exit_date"]))
    regions = own["region"].astype(object).fillna("unknown").to_numpy()
    made = pd.DataFrame(columns=["period", "region", "n_events"])
    for length in _PERIODS:
        periods = dates.to_period(length)
        if not len(periods):
            break
        every = pd.period_range(periods.min(), periods.max(), freq=length)
        counts = pd.crosstab(periods, regions).reindex(every, fill_value=0)
        made = counts.stack().reset_index()
        made.columns = pd.Index(["period", "region", "n_events"])
        # The largest region decides: small ones may stay hidden.
        if counts.max(axis=1).median() >= _LARGEST_SPARSE * k:
            break
    names = made["period"].astype(str).str.replace("Q", "-Q")
    return made.assign(outcome=outcome, period=names)


def _durations_aggregate(rows: list[dict[str, Any]]) -> Aggregate:
    needs = ("n_people", "n_events_fewest")
    quartiles = {"q1": "first quartile", "median": "median", "q3": "third quartile"}
    columns = (
        OUTCOME,
        *GROUP,
        count("n_people", "people followed"),
        count("n_events", "people with the outcome"),
        # The events of the reversed curve; a column of this name is never exported.
        count("n_events_fewest", "people who were lost or reached the end of records"),
        *(
            number(f"{name}_years", f"{text} of potential follow-up (reverse Kaplan-Meier)", *needs)
            for name, text in quartiles.items()
        ),
    )
    counted = {"n_people": "people", "n_events": "outcome", "n_events_fewest": "censored"}
    return aggregate("follow_up_years", rows, columns, lambda table: meanings.by_group(table, counted, CLASSIFICATIONS))


def _ends_aggregate(rows: list[dict[str, Any]]) -> Aggregate:
    columns = (
        OUTCOME,
        *GROUP,
        label("end", "what ended follow-up"),
        label("status", "of survival analysis: 1 outcome, 2 death, 0 censored"),
        count("n_group", "people of the group"),
        count("n_people", "people whose follow-up ended so"),
    )
    return aggregate("follow_up_ends", rows, columns, lambda table: meanings.ends(table, CLASSIFICATIONS))


def _years(data: StudyData) -> Aggregate:
    ecgs = data.ecgs[["participant_id"]].assign(year=pd.to_datetime(data.ecgs["index_date"]).dt.year)
    found = ecgs.groupby("year")["participant_id"].agg(n_people="nunique", n_ecgs="size")
    columns = (
        label("year", "of the index ECG"),
        count("n_people", "people with an index ECG"),
        count("n_ecgs", "index ECGs"),
    )
    one_ecg_each = _one_ecg_each(data.ecgs)
    return aggregate(
        "index_years",
        [found.reset_index()],
        columns,
        lambda table: meanings.index_years(table, one_ecg_each=one_ecg_each),
    )


def _one_ecg_each(ecgs: pd.DataFrame) -> bool:
    return not ecgs["participant_id"].duplicated().any()


def _history(data: StudyData) -> list[Aggregate]:
    if "history_days" not in data.ecgs:
        return []
    known = data.ecgs["history_days"].astype("Float64").astype(float).dropna() / DAYS_PER_YEAR
    n = len(data.ecgs)
    row: dict[str, Any] = {"n_ecgs": n, "n_known": len(known), "n_unknown": n - len(known)}
    names = {f"p{100 * share:.0f}_years": share for share in (0.05, 0.25, 0.5, 0.75, 0.95)}
    row |= {name: known.quantile(share) for name, share in names.items()}
    columns = (
        count("n_ecgs", "index ECGs"),
        count("n_known", "index ECGs of people with records"),
        count("n_unknown", "index ECGs of people without"),
        *(
            number(name, f"{name[1:-6]}th percentile of years from the first record to the ECG", "n_known")
            for name in names
        ),
    )
    one_ecg_each = _one_ecg_each(data.ecgs)
    return [aggregate("history", [row], columns, lambda _: meanings.history(one_ecg_each=one_ecg_each))]


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the tables of durations and ends, and events by calendar time."""
    durations = masked.get("follow_up_years")
    if durations is None:
        return None
    items: list[ReadTable | ReadFigure] = [
        _duration_table(durations, about),
        _ends_table(masked["follow_up_ends"], about),
    ]
    texts = [pooled_text(about)] if about.several_models else []
    for name, words in about.outcomes.items():
        figure = _calendar(masked["events_by_period"], about, name)
        if figure is None:
            texts.append(f"Events of {words} by calendar time are too few to be shown.")
        else:
            items.append(figure)
    items.append(_years_table(masked["index_years"]))
    if "history" in masked:
        items.append(_history_table(masked["history"]))
    return Section("follow_up", "Follow-up", tuple(texts), tuple(items))


def _duration_table(durations: Masked, about: About) -> ReadTable:
    rows = durations.rows
    first, median, third = (
        [number_text(v, 1, hidden=h) for v, h in zip(rows[name], durations.hidden[name], strict=True)]
        for name in ("q1_years", "median_years", "q3_years")
    )
    values = {
        "People": durations.shown("n_people"),
        "Events": durations.shown("n_events"),
        "Median, years": median,
        "Quartiles, years": [f"{low} to {high}" for low, high in zip(first, third, strict=True)],
    }
    cells = pd.DataFrame(group_labels(rows, about) | values).reset_index(drop=True)
    notes = (
        "Potential follow-up by reverse Kaplan-Meier (Schemper M, Smith TL, Control Clin Trials "
        "1996;17:343): the outcome and death are taken as censoring.",
    )
    return ReadTable("follow_up_years", "Potential follow-up", cells, 3, notes)


def _ends_table(ends: Masked, about: About) -> ReadTable:
    shares = percent_texts(ends.rows["n_people"], ends.rows["n_group"])
    shown = ends.shown("n_people")
    rows = ends.rows.assign(
        text=[n if n == share else f"{n} ({share})" for n, share in zip(shown, shares, strict=True)]
    )
    keys = ["outcome", "classification", "group"]
    wide = rows.pivot(index=keys, columns="end", values="text")
    order = rows[keys].drop_duplicates().reset_index(drop=True)
    wide = wide.loc[pd.MultiIndex.from_frame(order), list(END_REASONS)]
    shown_ends = {words: wide[end].to_numpy() for end, words in END_REASONS.items()}
    cells = pd.DataFrame({**group_labels(order, about), **shown_ends})
    notes = ("Per cent of the group, of rounded counts. People who are lost or reach the end of records are censored.",)
    return ReadTable("follow_up_ends", "What ended follow-up", cells, 3, notes)


def _calendar(events: Masked, about: About, outcome: str) -> ReadFigure | None:
    rows = events.rows[events.rows["outcome"] == outcome].reset_index(drop=True)
    if not len(rows) or rows["n_events"].isna().all():
        return None
    words = about.outcomes[outcome]
    drawn = calendar(rows, outcome_name=words)
    title = f"Events of {words} by calendar time and region"
    notes = ("A fall at the end points to records that are not complete yet.",)
    return ReadFigure(f"events_{outcome}", title, drawn.alt, drawn.canvas, notes)


def _years_table(years: Masked) -> ReadTable:
    cells = pd.DataFrame(
        {"Year": years.rows["year"].astype(str), "People": years.shown("n_people"), "Index ECGs": years.shown("n_ecgs")}
    )
    return ReadTable("index_years", "Index ECGs by year", cells)


def _history_table(history: Masked) -> ReadTable:
    row, hidden = history.rows.iloc[0], history.hidden.iloc[0]
    names = [str(name) for name in history.rows if str(name).endswith("_years")]
    cells = pd.DataFrame(
        {
            "Index ECGs": history.shown("n_ecgs"),
            "With records": history.shown("n_known"),
            "Without": history.shown("n_unknown"),
            **{f"{name[1:-6]}th percentile, years": [number_text(row[name], 1, hidden=hidden[name])] for name in names},
        }
    )
    note = "From the first record of the person to the index ECG; 0 where it comes after."
    return ReadTable("history", "Observed history before the index ECG", cells, 0, (note,))


TOPIC: Final = Topic("follow up", aggregates, present)
