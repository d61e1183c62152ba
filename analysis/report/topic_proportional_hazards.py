"""Does the hazard ratio change with time: tests, period-specific ratios, scaled residuals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.cox import CoxFit, proportional_hazards_test, scaled_schoenfeld
from analysis.limits import Z95
from analysis.outcome_models import (
    Contrast,
    Model,
    complete_rows,
    contrasts_of,
    estimate,
    fit_model,
    followed,
    models_of,
)
from analysis.report.aggregates import Aggregate, count, label, number, result, results
from analysis.report.document import About, ReadFigure, ReadTable, Section
from analysis.report.figure_schoenfeld import schoenfeld, schoenfeld_alt
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.words import estimate_texts, p_texts, side_by_side

PERIODS: Final = ((0.0, 2.0), (2.0, 5.0), (5.0, np.inf))  # years, study rules section 4
PERIOD_RATIO: Final = "hazard ratio in a period"
TEST: Final = "proportional hazards, chi-square"
_MOST_BINS: Final = 25
_FEWEST_IN_BIN: Final = 10


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return tests, hazard ratios by period, and binned scaled Schoenfeld residuals."""
    rows: list[dict[str, Any]] = []
    bins: list[pd.DataFrame] = []
    model = models_of(data.study)[1]
    contrasts = contrasts_of(data.study, data.sd, data.about.exposure_unit)
    for outcome in (one.name for one in data.study.outcomes):
        table = data.analysed(outcome)
        known = {"outcome": outcome, "primary": outcome == data.study.primary_outcome}
        for contrast in (contrasts[0], contrasts[2]):
            complete = complete_rows(table, [contrast.column], [model])
            rows += [
                result("proportional_hazards", PERIOD_RATIO, **(row | known))
                for row in _by_period(complete, data, contrast, model)
            ]
        complete = complete_rows(table, ["exposure"], [model])
        try:
            fit = fit_model(complete, data.study, ["exposure", *model.covariates])
        except TableRefused:
            continue  # the reason stands in the results of the hazard ratios
        if fit.estimates["coef"].isna().any():
            continue
        rows += _tests(fit, complete, data, known)
        bins.append(_binned(fit, data, outcome))
    return [results("proportional_hazards", rows), _bins_aggregate(bins)]


def _by_period(
    table: pd.DataFrame, data: StudyData, contrast: Contrast, model: Model
) -> list[dict[str, Any]]:
    """A fit for each period of follow-up: at risk from its start, censored at its end.

    R: `coxph(Surv(tstart, tstop, event) ~ ..., subset = period == i)` after `survSplit`.
    """
    rows = []
    for start, end in PERIODS:
        own = table[table["years"] > start]
        beyond = own["years"] > end
        days = own["time_days"].where(~beyond, end * 365.25)
        own = own.assign(time_days=days, event=own["event"] & ~beyond)
        words = f"{start:g}+ years" if np.isinf(end) else f"{start:g} to {end:g} years"
        if not len(own):
            continue
        shifted = own.assign(time_days=own["time_days"] - start * 365.25)
        if data.study.time_scale == "attained_age":
            first = own["entry_age_days"] + start * 365.25
            last = first + shifted["time_days"]
            shifted = shifted.assign(entry_age_days=first, exit_age_days=last)
        rows.append(estimate(shifted, data.study, contrast, model)
                    | {"strata": "period", "level": words})  # fmt: skip
    return rows


def _tests(
    fit: CoxFit, table: pd.DataFrame, data: StudyData, known: dict[str, Any]
) -> list[dict[str, Any]]:
    base = followed(table, data.study) | known | {"model": 2, "adjustment": "age, sex",
                                                  "exposure": data.study.exposure}  # fmt: skip
    try:
        tested = proportional_hazards_test(fit)
    except TableRefused as error:
        return [result("proportional_hazards", TEST, **base, warnings=str(error))]
    return [
        result("proportional_hazards", TEST, **base, contrast=row["term"], unit=f"{row['df']} df",
               estimate=float(row["chi2"]), p=float(row["p"]))
        for _, row in tested.iterrows()
    ]  # fmt: skip


def _binned(fit: CoxFit, data: StudyData, outcome: str) -> pd.DataFrame:
    """Mean scaled residual of the exposure in bins of equally many events, per SD."""
    own = scaled_schoenfeld(fit)
    own = own[own["term"] == "exposure"].sort_values("time", kind="stable")
    fewest = max(_FEWEST_IN_BIN, data.about.k)
    n_bins = int(np.clip(len(own) // fewest, 1, _MOST_BINS))
    bins = np.arange(len(own)) * n_bins // max(len(own), 1)
    size = data.sd["exposure"]
    grouped = own.assign(beta=own["value"] * size, years=own["time"] / 365.25).groupby(bins)
    mean, n = grouped["beta"].mean(), grouped.size()
    half: pd.Series[Any] = Z95 * grouped["beta"].std(ddof=1) / np.sqrt(n)
    first = fit.estimates.iloc[0]
    return pd.DataFrame(
        {
            "outcome": outcome, "years": grouped["years"].mean(), "beta": mean, "lo": mean - half,
            "hi": mean + half, "hr_log": first["coef"] * size,
            "lo_log": (first["coef"] - Z95 * first["se"]) * size,
            "hi_log": (first["coef"] + Z95 * first["se"]) * size, "n_events": n,
        }
    ).reset_index(drop=True)  # fmt: skip


def _bins_aggregate(bins: list[pd.DataFrame]) -> Aggregate:
    columns = (
        label("outcome", "of the code list"),
        number("years", "mean time of the events of the bin", "n_events"),
        number("beta", "mean scaled Schoenfeld residual, log hazard ratio per SD", "n_events"),
        number("lo", "lower 95 % limit of the mean", "n_events"),
        number("hi", "upper 95 % limit of the mean", "n_events"),
        number("hr_log", "log hazard ratio per SD over all follow-up", "n_events"),
        number("lo_log", "its lower 95 % limit", "n_events"),
        number("hi_log", "its upper 95 % limit", "n_events"),
        count("n_events", "events of the bin"),
    )
    names = [column.name for column in columns]
    table = pd.concat(bins)[names] if bins else pd.DataFrame(columns=names)
    return Aggregate("schoenfeld", table.reset_index(drop=True), columns, small="drop")


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the period-specific ratios, the tests and the plots."""
    found = masked.get("results_proportional_hazards")
    if found is None or not len(found.rows):
        return None
    rows = found.rows.assign(
        text=estimate_texts(found), P=p_texts(found), Events=found.shown("n_events"),
        Outcome=found.rows["outcome"].map(about.outcomes), Contrast=found.rows["contrast"],
    )  # fmt: skip
    periods = side_by_side(rows[rows["measure"] == PERIOD_RATIO], by=["Outcome", "Contrast"],
                           over="level", values=["text", "Events"])  # fmt: skip
    periods.columns = periods.columns.str.replace(": text", "").str.replace(": Events", ", events")
    tests = rows[rows["measure"] == TEST].assign(
        Term=lambda t: t["contrast"].replace({"exposure": about.exposure_name, "GLOBAL": "all"}),
        Statistic=lambda t: t["text"] + " (" + t["unit"] + ")",
    )  # fmt: skip
    tables = [
        ReadTable("periods", "Hazard ratios by period of follow-up, adjusted for age and sex",
                  periods, 2),
        ReadTable("ph_tests", "Tests of proportional hazards (scaled Schoenfeld residuals)",
                  tests[["Outcome", "Term", "Statistic", "P"]].reset_index(drop=True), 2),
    ]  # fmt: skip
    paragraphs = (
        "Tests and plots are shown for the reader; no model is changed because of them. A hazard "
        "ratio over all follow-up is an average over time; the periods say how it moves. "
        "People differ more and more between later periods, which can change a ratio by itself.",
    )
    figures = [f for name in about.outcomes if (f := _figure(masked["schoenfeld"], about, name))]
    return Section("proportional_hazards", "Proportional hazards", paragraphs,
                   (*tables, *figures))  # fmt: skip


def _figure(bins: Masked, about: About, outcome: str) -> ReadFigure | None:
    rows = bins.rows[bins.rows["outcome"] == outcome].reset_index(drop=True)
    if len(rows) < 2:
        return None
    first, words = rows.iloc[0], about.outcomes[outcome]
    options: dict[str, Any] = {
        "hr_log": float(first["hr_log"]), "lo_log": float(first["lo_log"]),
        "hi_log": float(first["hi_log"]), "exposure_name": f"{about.exposure_name}, per SD",
        "outcome_name": words,
    }  # fmt: skip
    title = f"Log hazard ratio per SD over time for {words}: scaled Schoenfeld residuals, binned"
    return ReadFigure(f"schoenfeld_{outcome}", title, schoenfeld_alt(rows, **options),
                      schoenfeld(rows, **options))  # fmt: skip
