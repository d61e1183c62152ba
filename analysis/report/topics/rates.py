"""Events, person-years and rates by group, and cumulative incidence where death competes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, Thinned, Ticks, count, label, person_years, result, results
from analysis.disclosure.counts import EVERYBODY
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, Masked
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.drawing import mid_sentence
from analysis.report.figures.follow_up import cumulative_incidence as draw_incidence
from analysis.report.topics.tables import GROUP, OUTCOME, aggregate, group_labels, result_table, shares
from analysis.report.words import interval_text, levels_in_order, number_text, p_texts, with_texts
from analysis.statistics.survival import cumulative_incidence, gray_test
from analysis.statistics.survival.rates import poisson_limits
from analysis.study.data import About, StudyData
from analysis.study.outcomes import FOLLOW_UP_TIME, fewest
from lvm_core.units import DAYS_PER_YEAR

CLASSIFICATIONS: Final = {
    "lvh_group": "Predicted LVH",
    "quartile_group": "Quartile within sex",
    "exposure_group": "Exposure",
    "sex": "Sex",
    "age_band": "Age, years",
}
_DRAWN: Final = ("lvh_group", "quartile_group", "exposure_group")
_GONE: Final = ("n_censored", "n_events", "n_deaths")
_FILES: Final = dict(zip(_DRAWN, ("lvh", "quartile", "exposure"), strict=True))
_RULES_OF_CURVES: Final = {
    "none": "",
    "standard": " A curve keeps its steps and ends where fewer than {k} people are at risk. "
    "The numbers below it leave out times since which fewer than {k} people of a group left, and the reasons "
    "where fewer than {k} left for one of them.",
    "strict": " A curve moves only when {k} more events have come, and lies up to that many events below the full "
    "one; where a group has fewer events in all, none of its classification is drawn.",
}
_PER: Final = 1000.0
_STEP_YEARS: Final = 0.05  # curves do not give the day of an event, but 18 days about it
_READ: Final = ("participant_id", "region", "time_days", "years", "status", "status_code", "event", "end_reason")
_READ_OF_GROUPS: Final = ("exit_date", "lvh_group", "quartile", "exposure_group", "sex", "age_band")


def grouped(table: pd.DataFrame) -> pd.DataFrame:
    """Return one ECG per person with the groups as text, and what describes follow-up."""
    first = table[[name for name in (*_READ, *_READ_OF_GROUPS) if name in table]].drop_duplicates("participant_id")
    names = {q: f"Q{q:.0f}" for q in (1.0, 2.0, 3.0, 4.0)}
    exposure = first.get("exposure_group", pd.Series(None, first.index, dtype=object))
    return first.assign(quartile_group=first["quartile"].map(names).astype(object), exposure_group=exposure)


def _aggregates(data: StudyData) -> list[Aggregate]:
    """Return counts by outcome and group, curves and their numbers at risk, and Gray's tests."""
    rates: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    at_risk: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    for outcome in (one.name for one in data.study.outcomes):
        table = grouped(data.analysed(outcome))
        rates.append(_counts(table, outcome, EVERYBODY, EVERYBODY))
        for column, words in CLASSIFICATIONS.items():
            known = table[table[column].notna()]
            levels = levels_in_order(known[column].unique())
            rates += [_counts(known[known[column] == one], outcome, words, one) for one in levels]
            if column in _DRAWN and len(levels) > 1:
                curves.append(_curves(known, outcome, column))
                at_risk += _at_risk(known, outcome, column)
        for part in data.by_prediction_model():
            tests += _tests(part, outcome)
    columns = (
        OUTCOME,
        *GROUP,
        count("n_people", "people followed"),
        count("n_events", "people with the outcome"),
        count("n_deaths", "people who died without it"),
        person_years("person_years", "follow-up, years", "n_people"),
    )
    counted = {"n_people": "people", "n_events": "outcome", "n_deaths": "death", "person_years": "person-years"}
    counts = aggregate("rates", rates, columns, lambda table: meanings.by_group(table, counted, CLASSIFICATIONS))
    return [counts, _curves_aggregate(curves), _at_risk_aggregate(at_risk), results("rates", tests)]


def _counts(table: pd.DataFrame, outcome: str, classification: str, group: str) -> dict[str, Any]:
    status = table["status"].astype(int)
    return {
        "outcome": outcome,
        "classification": classification,
        "group": group,
        "n_people": len(table),
        "n_events": int((status == 1).sum()),
        "n_deaths": int((status == 2).sum()),
        "person_years": float(table["years"].sum()),
    }


def _curves(table: pd.DataFrame, outcome: str, column: str) -> pd.DataFrame:
    found = cumulative_incidence(table, duration="time_days", event="status_code", by=column)
    curve = found.curve[found.curve["cause"] == 1]
    sizes = table[column].value_counts()
    made = pd.DataFrame(
        {
            "group": curve[column],
            "years": curve["time"] / DAYS_PER_YEAR,
            "incidence": curve["cumulative_incidence"],
            "lo": curve["lo"],
            "hi": curve["hi"],
            "n_people": curve[column].map(sizes),
            "n_at_risk_before": curve["n_at_risk"],
            "n_events": curve.groupby(column)["n_events"].cumsum(),
        }
    )
    start = {"years": 0.0, "incidence": 0.0, "n_events": 0}
    first = [
        start | {"group": group, "n_people": int(sizes[group]), "n_at_risk_before": int(sizes[group])}
        for group in sorted(made["group"].unique())
    ]
    made = pd.concat([pd.DataFrame(first), made]).sort_values(["group", "years"], kind="stable")
    least = fewest(made.groupby("group")["n_events"].max())
    return made.assign(outcome=outcome, classification=CLASSIFICATIONS[column], n_events_fewest=least)


def _at_risk(table: pd.DataFrame, outcome: str, column: str) -> list[dict[str, Any]]:
    last = int(np.floor(table["years"].max()))
    step = max(1, int(np.ceil(last / 8)))
    rows = []
    for group, own in [(EVERYBODY, table), *table.groupby(column)]:
        status = own["status"].astype(int)
        known = {"outcome": outcome, "classification": CLASSIFICATIONS[column], "group": group, "n_people": len(own)}
        for year in range(0, last + 1, step):
            # Who ends on the day of a tick is at risk on it, as in R's survfit.
            gone = own["time_days"] < year * DAYS_PER_YEAR
            ended = {name: int((gone & (status == code)).sum()) for code, name in enumerate(_GONE)}
            rows.append(known | ended | {"years": float(year), "n_at_risk": int((~gone).sum())})
    return rows


def _tests(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    """Gray's tests, in people of one model of the predictions."""
    table = grouped(data.analysed(outcome))
    who = meanings.of_model(meanings.followed(outcome), data.model_id)
    rows = []
    for column in _DRAWN:
        known = table[table[column].notna()]
        events = known.groupby(column)["event"].sum()
        if len(events) < 2 or events.min() == 0:
            continue
        causes = (1, 2) if (known["status_code"] == 2).any() else (1,)
        tested = gray_test(known, duration="time_days", event="status_code", by=column, causes=causes)
        own = tested[tested["cause"] == 1].iloc[0]
        rows.append(
            result(
                "rates",
                "Gray's test, chi-square",
                **data.keys(outcome),
                counted=meanings.Analysed(who.complete(meanings.name_of(column))),
                exposure=data.study.exposure,
                contrast=CLASSIFICATIONS[column],
                unit=f"{own['df']:.0f} df",
                n_people=len(known),
                n_ecgs=len(known),
                n_events=int(events.sum()),
                n_events_fewest=fewest(events),
                time_scale=FOLLOW_UP_TIME,
                estimate=float(own["chi2"]),
                p=float(own["p"]),
            )
        )
    return rows


def _curves_aggregate(curves: list[pd.DataFrame]) -> Aggregate:
    columns = (
        OUTCOME,
        *GROUP,
        label("years", "since the index ECG"),
        *shares({"incidence": "cumulative incidence (Aalen-Johansen), 0 to 1"}, "n_people", "n_events_fewest"),
        count("n_people", "people at the start"),
        count("n_at_risk_before", "people at risk just before; never exported"),
        count("n_events", "events so far"),
        count("n_events_fewest", "events of the group that has fewest"),
    )
    made = aggregate(
        "incidence_curves",
        curves,
        columns,
        lambda points: meanings.curves(points.assign(years=_in_steps(points)), _STEP_YEARS / 2, CLASSIFICATIONS),
        together=("outcome", "classification"),
    )
    ends = meanings.by_group(made.rows, {"n_events": "outcome"}, CLASSIFICATIONS)["n_events"]
    curve = ("outcome", "classification", "group")
    return replace(made, thinned=Thinned("n_events", curve, ends, "n_at_risk_before", "years", _STEP_YEARS))


def _in_steps(points: pd.DataFrame) -> pd.Series[Any]:
    """Times as `strict` rounds them."""
    return (points["years"].astype(float) / _STEP_YEARS).round() * _STEP_YEARS


def _at_risk_aggregate(rows: list[dict[str, Any]]) -> Aggregate:
    columns = (
        OUTCOME,
        *GROUP,
        label("years", "since the index ECG"),
        count("n_people", "people at the start"),
        count("n_at_risk", "people whose follow-up ends at this time or later"),
        count("n_censored", "people censored before"),
        count("n_events", "events before"),
        count("n_deaths", "deaths without the outcome before"),
    )
    made = aggregate("incidence_at_risk", rows, columns, lambda table: meanings.at_risk(table, CLASSIFICATIONS))
    return replace(made, ticks=Ticks("n_at_risk", _GONE, "years", "group", ("outcome", "classification")))


def _present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the rates table of each outcome and the curves."""
    rates = masked.get("rates")
    if rates is None:
        return None
    notes = (
        "Rates per 1,000 person-years with exact Poisson limits (Garwood 1936), computed from the "
        "counts and person-years as shown.",
        "Deaths are of people without the outcome before.",
    )
    table = ReadTable("rates", "Events, person-years and rates", _rate_cells(rates, about), 3, notes)
    figures = [
        figure
        for outcome in about.outcomes
        for words in (CLASSIFICATIONS[name] for name in _DRAWN)
        if (figure := _figure(masked, about, outcome, words)) is not None
    ]
    paragraphs = (
        "Cumulative incidence is Aalen and Johansen's, death competing."
        f"{_RULES_OF_CURVES[about.release].format(k=about.k)} Quartiles are those of {about.exposure_name}.",
        *_limits_of_tables(about),
        *_not_drawn(masked, about),
    )
    tests = _test_table(masked["results_rates"], about)
    return Section("rates", "Events and cumulative incidence", paragraphs, (table, *tests, *figures))


def _not_drawn(masked: Mapping[str, Masked], about: About) -> list[str]:
    """A sentence for each figure that would have been drawn, were its curves not hidden."""
    curves = masked["incidence_curves"].rows
    texts = []
    for (outcome, words), own in curves.groupby(["outcome", "classification"], sort=False):
        if own["incidence"].isna().all():
            name, by = about.outcomes[str(outcome)], mid_sentence(str(words))
            fewer = f"a group has fewer than {max(about.k, 1)} events"
            texts.append(f"Cumulative incidence of {name} by {by} is not drawn: {fewer}.")
    return texts


def _limits_of_tables(about: About) -> list[str]:
    """What these tables and curves are not: by ECG, on the scale of age, by model."""
    texts = []
    if about.several_ecgs:
        texts.append("People count once here, with the first of their index ECGs.")
    if about.time_scale == "attained_age":
        texts.append(
            "Rates and curves are of time since the index ECG; no curve is drawn on "
            "attained age, the scale of the Cox models."
        )
    if about.several_models:
        texts.append(pooled_text(about))
    return texts


def pooled_text(about: About) -> str:
    """Return that people of several models of the predictions are counted together."""
    return (
        f"Predictions are of several models ({about.model_id}). People of all of them are counted "
        "together here, each with LVH and the quartile by the model of the own ECG; every "
        "estimate about outcomes is by model."
    )


def _rate_cells(rates: Masked, about: About) -> pd.DataFrame:
    counts = {"People": "n_people", "Events": "n_events", "Deaths": "n_deaths", "Person-years": "person_years"}
    cells: dict[str, Any] = group_labels(rates.rows, about) | {head: rates.shown(name) for head, name in counts.items()}
    cells["Rate per 1,000 person-years (95% CI)"] = _rate_texts(rates)
    return pd.DataFrame(cells).reset_index(drop=True)


def _rate_texts(rates: Masked) -> list[str]:
    texts = []
    for events, years in zip(rates.rows["n_events"], rates.rows["person_years"], strict=True):
        if pd.isna(events) or pd.isna(years):
            texts.append(HIDDEN)
        elif years <= 0:
            texts.append(NOT_APPLICABLE)
        else:
            lo, hi = poisson_limits(np.array([int(events)]), confidence=0.95)
            value, low, high = (_PER * float(v) / float(years) for v in (events, lo[0], hi[0]))
            texts.append(interval_text({"estimate": value, "lo": low, "hi": high}))
    return texts


def _test_table(tests: Masked, about: About) -> list[ReadTable]:
    rows = tests.rows
    if not len(rows):
        return []
    shown = zip(rows["estimate"], tests.hidden["estimate"], strict=True)
    values = {
        "Chi-square": [number_text(value, 1, hidden=hidden) for value, hidden in shown],
        "Degrees of freedom": rows["unit"].str.removesuffix(" df"),
        "P": p_texts(tests),
    }
    title = "Equality of cumulative incidence (Gray's test)"
    return [result_table(tests, about, "gray", title, {"Groups": rows["contrast"]}, values)]


def _figure(masked: Mapping[str, Masked], about: About, outcome: str, words: str) -> ReadFigure | None:
    rows, at_risk = (
        table[(table["outcome"] == outcome) & (table["classification"] == words)]
        for table in (masked["incidence_curves"].rows, with_texts(masked["incidence_at_risk"]))
    )
    if not len(rows) or rows["incidence"].isna().all():
        return None
    at_risk = at_risk[at_risk["group"] != EVERYBODY]
    are_hidden = masked["incidence_at_risk"].hidden.loc[at_risk.index]
    left_out = [name for name in _GONE if (at_risk[name].isna() & ~are_hidden[name]).all()]
    at_risk = at_risk.drop(columns=left_out)
    name = about.outcomes[outcome]
    drawn = draw_incidence(rows, at_risk, outcome_name=name, group_name=words, horizon_years=about.horizon_years)
    column = next(column for column in _DRAWN if CLASSIFICATIONS[column] == words)
    hidden = _hidden_text(masked, about, outcome, words)
    title = f"Cumulative incidence of {name} by {mid_sentence(words)}"
    below = "" if left_out else ", and those censored, with the outcome or dead before it, who add up to all"
    notes = [f"Below the axis: people at risk at each time{below}. Bands are pointwise 95% limits."]
    notes += [hidden] if hidden else []
    return ReadFigure(_key(outcome, column), title, drawn.alt, drawn.canvas, tuple(notes))


def _key(outcome: str, column: str) -> str:
    return f"incidence_{outcome}_{_FILES[column]}"


def _hidden_text(masked: Mapping[str, Masked], about: About, outcome: str, words: str) -> str:
    """Return the sentence that stands in place of curves that are hidden, or "" where none is."""
    curves = masked["incidence_curves"]
    own = (curves.rows["outcome"] == outcome) & (curves.rows["classification"] == words)
    gone = curves.hidden["incidence"][own].groupby(curves.rows["group"][own], sort=False).all()
    groups = [str(group) for group, is_hidden in gone.items() if is_hidden]
    if not groups:
        return ""
    name = about.outcomes[outcome]
    few = "fewer" if about.release == "standard" else "one of the groups has fewer"
    return f"No curve of {name} is shown for {', '.join(groups)}: {few} than {about.k} events."


TOPIC: Final = Topic("rates", _aggregates, _present)
