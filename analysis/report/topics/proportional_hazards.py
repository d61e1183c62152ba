"""Does the hazard ratio change with time: tests, period-specific ratios, scaled residuals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, Precision, count, label, number, result, results
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import Analysed, analysed
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.models import schoenfeld, schoenfeld_alt
from analysis.report.words import (
    estimate_texts,
    of_model,
    outcomes_and_models,
    p_texts,
    row_counts,
    row_labels,
    sorted_as_met,
)
from analysis.statistics.columns import TableRefused
from analysis.statistics.limits import Z95
from analysis.statistics.survival import CoxFit, proportional_hazards_test, scaled_schoenfeld
from analysis.study.data import About, StudyData
from analysis.study.outcomes import (
    Model,
    complete_rows,
    contrasts_of,
    estimates,
    fit_model,
    followed,
    models_of,
    read_columns,
    without_constant_sex,
)
from lvm_core.units import DAYS_PER_YEAR

PERIODS: Final = ((0.0, 2.0), (2.0, 5.0), (5.0, np.inf))  # years, study rules section 4
PERIOD_RATIO: Final = "hazard ratio in a period"
TEST: Final = "proportional hazards, chi-square"
_MOST_BINS: Final = 25
_FEWEST_IN_BIN: Final = 10


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return tests, hazard ratios by period, and binned scaled Schoenfeld residuals."""
    rows: list[dict[str, Any]] = []
    bins: list[pd.DataFrame] = []
    for outcome in (one.name for one in data.study.outcomes):
        for part in data.by_prediction_model():
            tests, own = _tested(part, outcome)
            who = analysed(outcome, part.model_id)
            rows += [result("proportional_hazards", **row, **part.keys(outcome)) for row in _by_period(part, outcome)]
            rows += [result("proportional_hazards", **row, **part.keys(outcome), counted=who) for row in tests]
            bins += own
    return [results("proportional_hazards", rows), _bins_aggregate(bins)]


def _by_period(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    """A fit for each period of follow-up: at risk from its start, censored at its end.

    R: `coxph(Surv(tstart, tstop, event) ~ ..., subset = period == i)` after `survSplit`.
    """
    study = data.study
    contrasts = contrasts_of(study, data.sd, data.about.exposure_unit)
    table = read_columns(data.analysed(outcome), study, [one.column for one in contrasts])
    rows = []
    for start, end in PERIODS:
        words = f"{start:g}+ years" if np.isinf(end) else f"{start:g} to {end:g} years"
        own = _in_period(table, data, start, end)
        if len(own):
            told = {"measure": PERIOD_RATIO, "strata": "period", "level": words}
            found = estimates(own, study, contrasts, [models_of(study)[1]])
            rows += [row | told | {"counted": _counted(data, outcome, row, start, end)} for row in found]
    return rows


def _counted(data: StudyData, outcome: str, row: dict[str, Any], start: float, end: float) -> Analysed:
    who = analysed(outcome, data.model_id, lvh=row["exposure"] == data.study.lvh_column)
    own = who.who.after(start) if start else who.who
    return replace(who, who=own, by=None if np.isinf(end) else end, has_own_clock=True)


def _in_period(table: pd.DataFrame, data: StudyData, start: float, end: float) -> pd.DataFrame:
    own = table[table["years"] > start]
    beyond = own["years"] > end
    days = own["time_days"].where(~beyond, end * DAYS_PER_YEAR) - start * DAYS_PER_YEAR
    own = own.assign(time_days=days, event=own["event"] & ~beyond)
    if data.study.time_scale == "attained_age":
        first = own["entry_age_days"] + start * DAYS_PER_YEAR
        own = own.assign(entry_age_days=first, exit_age_days=first + days)
    return own


def _tested(data: StudyData, outcome: str) -> tuple[list[dict[str, Any]], list[pd.DataFrame]]:
    """The tests of model 2, and its residuals; none where it cannot be fitted."""
    table = data.analysed(outcome)
    complete = complete_rows(table, data.study, ["exposure"])
    model = without_constant_sex(models_of(data.study)[1], complete)
    try:
        fit = fit_model(complete, data.study, ["exposure", *model.covariates])
    except TableRefused:
        return [], []  # the reason stands in the results of the hazard ratios
    if fit.estimates["coef"].isna().any():
        return [], []
    dropped = {"n_dropped_missing": len(table) - len(complete)}
    tests = [row | dropped for row in _tests(fit, complete, data, model)]
    return tests, [_binned(fit, complete, data, outcome)]


def _tests(fit: CoxFit, table: pd.DataFrame, data: StudyData, model: Model) -> list[dict[str, Any]]:
    base = (
        {"measure": TEST}
        | followed(table, data.study)
        | {"model": 2, "adjustment": model.adjustment, "exposure": data.study.exposure}
    )
    try:
        tested = proportional_hazards_test(fit)
    except TableRefused as error:
        return [base | {"warnings": str(error)}]
    return [
        base
        | {"contrast": row["term"], "unit": f"{row['df']} df", "estimate": float(row["chi2"]), "p": float(row["p"])}
        for _, row in tested.iterrows()
    ]


def _binned(fit: CoxFit, table: pd.DataFrame, data: StudyData, outcome: str) -> pd.DataFrame:
    """Mean scaled residual of the exposure in bins of equally many events, per SD.

    Events of a bin are people: several ECGs of one person are one.
    """
    own = scaled_schoenfeld(fit)
    own = own[own["term"] == "exposure"].sort_values("time", kind="stable")
    people = table["participant_id"].to_numpy()[own["row"]]
    fewest = max(_FEWEST_IN_BIN, data.about.k)
    n_bins = int(np.clip(len(set(people)) // fewest, 1, _MOST_BINS))
    bins = np.arange(len(own)) * n_bins // max(len(own), 1)
    size = data.sd["exposure"]
    grouped = own.assign(beta=own["value"] * size, years=own["time"] / DAYS_PER_YEAR, person=people).groupby(bins)
    mean, n = grouped["beta"].mean(), grouped.size()
    half: pd.Series[Any] = Z95 * grouped["beta"].std(ddof=1) / np.sqrt(n)
    first = fit.estimates.iloc[0]
    made = pd.DataFrame(
        {
            "outcome": outcome,
            "model_id": data.model_id,
            "years": grouped["years"].mean(),
            "beta": mean,
            "lo": mean - half,
            "hi": mean + half,
            "hr_log": first["coef"] * size,
            "lo_log": (first["coef"] - Z95 * first["se"]) * size,
            "hi_log": (first["coef"] + Z95 * first["se"]) * size,
            "n_events": grouped["person"].nunique(),
        }
    )
    # The mean time of the first bin bounds how many events there are early on.
    return made.iloc[int(data.about.k > 1) :].reset_index(drop=True)


def _bins_aggregate(bins: list[pd.DataFrame]) -> Aggregate:
    columns = (
        label("outcome", "of the code list"),
        label("model_id", "of the predictions where they are of several"),
        number("years", "mean time of the events of the bin, or their mean age", "n_events", precision=Precision.TIME),
        number("beta", "mean scaled Schoenfeld residual, log hazard ratio per SD", "n_events"),
        number("lo", "lower 95 % limit of the mean", "n_events"),
        number("hi", "upper 95 % limit of the mean", "n_events"),
        number("hr_log", "log hazard ratio per SD over all follow-up", "n_events"),
        number("lo_log", "its lower 95 % limit", "n_events"),
        number("hi_log", "its upper 95 % limit", "n_events"),
        count("n_events", "people with an event in the bin"),
    )
    names = [column.name for column in columns]
    table = pd.concat(bins)[names] if bins else pd.DataFrame(columns=names)
    return Aggregate("schoenfeld", table.reset_index(drop=True), columns, small="drop")


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the period-specific ratios, the tests and the plots."""
    found = masked.get("results_proportional_hazards")
    if found is None or not len(found.rows):
        return None
    paragraphs = (
        "Tests and plots are shown for the reader; no model is changed because of them. A hazard "
        "ratio over all follow-up is an average over time; the periods say how it moves. "
        "People differ more and more between later periods, which can change a ratio by itself.",
    )
    bins = masked["schoenfeld"]
    figures = [figure for one in outcomes_and_models(bins, about) if (figure := _figure(bins, about, *one)) is not None]
    return Section("proportional_hazards", "Proportional hazards", paragraphs, (*_tables(found, about), *figures))


def _tables(found: Masked, about: About) -> list[ReadTable]:
    labels, rows = row_labels(found, about), found.rows
    is_period = rows["measure"] == PERIOD_RATIO
    periods = pd.DataFrame(
        labels
        | {"Contrast": rows["contrast"], "Period": rows["level"]}
        | row_counts(found, about)
        | {"Hazard ratio (95 % interval)": estimate_texts(found)}
    )[is_period]
    terms = rows["contrast"].replace({"exposure": about.exposure_name, "GLOBAL": "all"})
    statistics = estimate_texts(found) + " (" + rows["unit"] + ")"
    notes = (
        ("A person's events are counted in each period that one of the ECGs reaches.",) if about.several_ecgs else ()
    )
    tests = pd.DataFrame(labels | {"Term": terms, "Statistic": statistics, "P": p_texts(found)})[
        rows["measure"] == TEST
    ]
    ordered = sorted_as_met(periods, [*labels, "Contrast"])
    n_labels = len(labels)
    return [
        ReadTable(
            "periods", "Hazard ratios by period of follow-up, adjusted for age and sex", ordered, n_labels + 2, notes
        ),
        ReadTable(
            "ph_tests",
            "Tests of proportional hazards (scaled Schoenfeld residuals)",
            tests.reset_index(drop=True),
            n_labels + 1,
        ),
    ]


def _figure(bins: Masked, about: About, outcome: str, model: str, key: str) -> ReadFigure | None:
    rows = bins.rows[(bins.rows["outcome"] == outcome) & (bins.rows["model_id"] == model)]
    rows = rows.reset_index(drop=True)
    if len(rows) < 2:
        return None
    first, words = rows.iloc[0], about.outcomes[outcome]
    options: dict[str, Any] = {
        "hr_log": float(first["hr_log"]),
        "lo_log": float(first["lo_log"]),
        "hi_log": float(first["hi_log"]),
        "exposure_name": f"{about.exposure_name}, per SD",
        "outcome_name": words,
        "is_age": about.time_scale == "attained_age",
    }
    over = "attained age" if options["is_age"] else "time"
    title = f"Log hazard ratio per SD over {over} for {words}{of_model(model)}: scaled Schoenfeld residuals, binned"
    return ReadFigure(f"schoenfeld{key}", title, schoenfeld_alt(rows, **options), schoenfeld(rows, **options))


TOPIC: Final = Topic("proportional hazards", aggregates, present)
