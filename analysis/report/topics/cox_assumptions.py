"""Two assumptions of the Cox models: a straight dose-response, and proportional hazards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, Precision, count, label, number, results
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import Analysed, analysed
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.models import dose_response, schoenfeld
from analysis.report.topics.tables import (
    INTERVAL,
    MODEL_ID,
    OUTCOME,
    age_sex_model,
    aggregate,
    contrasts_of_study,
    figures_by_outcome,
    needs_of,
    not_drawn,
    outcomes_and_parts,
    result_table,
    results_about,
    results_of,
)
from analysis.report.words import estimate_texts, of_model, p_texts, row_counts
from analysis.statistics.columns import TableRefused
from analysis.statistics.limits import Z95
from analysis.statistics.survival import CoxFit, proportional_hazards_test, scaled_schoenfeld
from analysis.statistics.survival.splines import (
    RestrictedCubicSpline,
    nonlinearity_test,
    restricted_cubic_spline,
    spline_contrast,
)
from analysis.study.data import About, StudyData
from analysis.study.outcomes import (
    YES_NO,
    Model,
    complete_rows,
    estimates,
    fit_model,
    followed,
    people_with_event,
    read_columns,
    without_constant_sex,
)
from lvm_core.medicine.lvh import LvhPreset, Sex, lvh_limit_g_m2
from lvm_core.units import DAYS_PER_YEAR


def _main_model(data: StudyData, outcome: str) -> tuple[pd.DataFrame, Model, dict[str, Any]]:
    """The complete rows of an outcome, model 2, and what the results say of both."""
    table = data.analysed(outcome)
    complete = complete_rows(table, data.study, ["exposure"], model=age_sex_model(data))
    model = without_constant_sex(age_sex_model(data), complete)
    row = followed(complete, data.study) | {"exposure": data.study.exposure}
    dropped = len(table) - len(complete)
    return complete, model, row | {"model": 2, "adjustment": model.adjustment, "n_dropped_missing": dropped}


# Dose-response: a restricted cubic spline of the exposure, with its distribution beside it.

NONLINEAR: Final = "nonlinearity, chi-square"
_KNOTS: Final = 4
_POINTS: Final = 81
_BINS: Final = 30
# Of people at either end, whom only an exact report shows: the values there are of few.
_MASKED_SHARE: Final = 0.05


def _dose_response_aggregates(data: StudyData) -> list[Aggregate]:
    """Return the curve of each outcome, the histogram, and tests of nonlinearity.

    Yes and no have no dose.
    """
    if data.study.is_yes_no:
        return []
    curves: list[pd.DataFrame] = []
    tests: list[dict[str, Any]] = []
    for outcome, part in outcomes_and_parts(data):
        row, curve = _fitted(part, outcome)
        tests += results_about(outcome, "dose_response", part, [row])
        curves += curve
    columns = (
        OUTCOME,
        MODEL_ID,
        number("value", "of the exposure, 1st to 99th percentile; masked: 5th to 95th", "n_events"),
        number("hr", "hazard ratio against the reference, adjusted for age and sex", "n_events"),
        number("lo", "lower 95 % limit", "n_events"),
        number("hi", "upper 95 % limit", "n_events"),
        number("reference", "median of the exposure", "n_events"),
        label("knots", "in the unit of the exposure, at Harrell's quantiles"),
        count("n_events", "people with the event"),
    )
    outer = pd.concat(curves)["is_outer"].tolist() if curves else []
    described = partial(meanings.curve_of_doses, needed=needs_of(data.study))
    curve_table = aggregate("dose_response", curves, columns, described, exact_only=outer)
    return [curve_table, _histogram(data), results("dose_response", tests)]


def _fitted(data: StudyData, outcome: str) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    """The test of nonlinearity and the curve, or why there is none."""
    complete, model, row = _main_model(data, outcome)
    row |= {"measure": NONLINEAR, "contrast": "restricted cubic spline, 4 knots"}
    try:
        spline = restricted_cubic_spline(complete, column="exposure", n_knots=_KNOTS)
        fit = fit_model(complete, data.study, [spline, *model.covariates])
        test = nonlinearity_test(fit, spline=spline)
        curve = _curve(complete, data, fit, spline).assign(outcome=outcome)
    except TableRefused as error:
        return row | {"warnings": str(error)}, []
    more = {"estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}
    return row | more, [curve]


def _range(values: pd.Series[Any], share: float) -> tuple[float, float]:
    """The range of values to four digits, without that share of people at either end."""
    low, high = np.quantile(values, [share, 1 - share])
    return float(f"{low:.4g}"), float(f"{high:.4g}")


def _curve(table: pd.DataFrame, data: StudyData, fit: CoxFit, spline: RestrictedCubicSpline) -> pd.DataFrame:
    ends, inner = _range(table["exposure"], 0.01), _range(table["exposure"], _MASKED_SHARE)
    middle = float(np.quantile(table["exposure"], 0.5))
    outer = np.linspace(*ends, _POINTS)
    values = np.sort(np.append(np.linspace(*inner, _POINTS), outer[(outer < inner[0]) | (outer > inner[1])]))
    found = spline_contrast(fit, spline=spline, values=values.tolist(), reference=middle)
    return pd.DataFrame(
        {
            "model_id": data.model_id,
            "value": values,
            "is_outer": ~((values >= inner[0]) & (values <= inner[1])),
            "hr": found["hr"].to_numpy(),
            "lo": found["hr_lo"].to_numpy(),
            "hi": found["hr_hi"].to_numpy(),
            "reference": middle,
            "knots": " ".join(f"{knot:.4g}" for knot in spline.knots),
            "n_events": people_with_event(table, data.study),
        }
    )


def _histogram(data: StudyData) -> Aggregate:
    columns = (
        MODEL_ID,
        label("left", "lower bound of the bin"),
        label("right", "upper bound of the bin"),
        count("n_people", "people in the bin"),
    )
    parts = [_bins_of(part) for part in data.by_prediction_model()]
    return aggregate("exposure_histogram", parts, columns, meanings.bins, small="drop")


def _bins_of(data: StudyData) -> pd.DataFrame:
    values = data.ecgs.drop_duplicates("participant_id")["exposure"].dropna()
    low, high = _range(values, _MASKED_SHARE if data.study.release.k > 1 else 0.005) if len(values) else (0.0, 1.0)
    counts, edges = np.histogram(values, np.linspace(low, high, _BINS + 1))
    return pd.DataFrame({"model_id": data.model_id, "left": edges[:-1], "right": edges[1:], "n_people": counts})


def _present_dose_response(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return a figure for each outcome and the tests."""
    curves, tests = masked.get("dose_response"), results_of(masked, "dose_response")
    if curves is None or tests is None:
        return None
    values = row_counts(tests, about) | {"P for nonlinearity": p_texts(tests)}
    table = result_table(tests, about, "nonlinearity", "Is the dose-response a straight line?", {}, values)
    ends = "5th to the 95th" if about.k > 1 else "1st to the 99th"
    paragraph = (
        "Restricted cubic splines with four knots at Harrell's quantiles, adjusted for age and "
        f"sex, against the median; from the {ends} percentile."
    )
    draw = partial(_curve_figure, bins=masked["exposure_histogram"].rows, about=about)
    figures = figures_by_outcome(curves, about, draw)
    paragraphs = (paragraph, *not_drawn(curves, about, "hr", "curve"))
    return Section("dose_response", "Dose-response", paragraphs, (table, *figures))


def _curve_figure(
    rows: pd.DataFrame, outcome: str, model: str, key: str, *, bins: pd.DataFrame, about: About
) -> ReadFigure | None:
    if not len(rows) or rows["hr"].isna().all():
        return None
    histogram = bins[bins["model_id"] == model].reset_index(drop=True)
    preset = LvhPreset(about.lvh_preset)
    is_index = about.exposure_unit == "g/m2"
    options: dict[str, Any] = {
        "knots": [float(knot) for knot in rows["knots"].iloc[0].split()],
        "reference": float(rows["reference"].iloc[0]),
        "limits_by_sex": {sex.value: lvh_limit_g_m2(sex, preset) for sex in Sex} if is_index else {},
        "exposure_name": about.exposure_name,
        "exposure_unit": about.exposure_unit,
        "outcome_name": outcome,
    }
    title = f"Hazard ratio of {outcome} by {about.exposure_name}{of_model(model)}"
    drawn = dose_response(rows, histogram, **options)
    return ReadFigure(f"dose_response{key}", title, drawn.alt, drawn.canvas)


# Proportional hazards: tests, hazard ratios by period, and scaled residuals.

PERIODS: Final = ((0.0, 2.0), (2.0, 5.0), (5.0, np.inf))  # years, study rules section 4
PERIOD_RATIO: Final = "hazard ratio in a period"
TEST: Final = "proportional hazards, chi-square"
_MOST_BINS: Final = 25
_FEWEST_IN_BIN: Final = 10


def _proportional_hazards_aggregates(data: StudyData) -> list[Aggregate]:
    """Return tests, hazard ratios by period, and binned scaled Schoenfeld residuals."""
    rows: list[dict[str, Any]] = []
    bins: list[pd.DataFrame] = []
    for outcome, part in outcomes_and_parts(data):
        tests, own = _tested(part, outcome)
        rows += results_about(outcome, "proportional_hazards", part, [*_by_period(part, outcome), *tests])
        bins += own
    columns = (
        OUTCOME,
        MODEL_ID,
        number("years", "mean time of the events of the bin, or their mean age", "n_events", precision=Precision.TIME),
        number("beta", "mean scaled Schoenfeld residual, log hazard ratio per SD", "n_events"),
        number("lo", "lower 95 % limit of the mean", "n_events"),
        number("hi", "upper 95 % limit of the mean", "n_events"),
        number("hr_log", "log hazard ratio per SD over all follow-up", "n_events"),
        number("lo_log", "its lower 95 % limit", "n_events"),
        number("hi_log", "its upper 95 % limit", "n_events"),
        count("n_events", "people with an event in the bin"),
    )
    first = pd.concat(bins)["is_first"].tolist() if bins else []
    residuals = aggregate("schoenfeld", bins, columns, small="drop", exact_only=first)
    return [results("proportional_hazards", rows), residuals]


def _by_period(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    """Fit each period of follow-up: people are at risk from its start and censored at its end.

    R: `coxph(Surv(tstart, tstop, event) ~ ..., subset = period == i)` after `survSplit`.
    """
    study = data.study
    contrasts = contrasts_of_study(data)
    table = read_columns(data.analysed(outcome), study, [one.column for one in contrasts])
    rows = []
    for start, end in PERIODS:
        words = f"{start:g}+ years" if np.isinf(end) else f"{start:g} to {end:g} years"
        own = _in_period(table, data, start, end)
        if len(own):
            known = {"measure": PERIOD_RATIO, "strata": "period", "level": words}
            found = estimates(own, study, contrasts, [age_sex_model(data)])
            rows += [row | known | {"counted": _counted(data, outcome, row, start, end)} for row in found]
    return rows


def _counted(data: StudyData, outcome: str, row: dict[str, Any], start: float, end: float) -> Analysed:
    who = analysed(outcome, data.model_id, needs_of(data.study), lvh=row["exposure"] == data.study.lvh_column)
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
    complete, model, row = _main_model(data, outcome)
    try:
        fit = fit_model(complete, data.study, ["exposure", *model.covariates])
    except TableRefused:
        return [], []  # the reason is in the results of the hazard ratios
    if fit.estimates["coef"].isna().any():
        return [], []
    return [row | {"measure": TEST} | test for test in _tests(fit)], [_binned(fit, complete, data, outcome)]


def _tests(fit: CoxFit) -> list[dict[str, Any]]:
    try:
        tested = proportional_hazards_test(fit)
    except TableRefused as error:
        return [{"warnings": str(error)}]
    return [
        {"contrast": row["term"], "unit": f"{row['df']} df", "estimate": float(row["chi2"]), "p": float(row["p"])}
        for row in tested.to_dict("records")
    ]


def _binned(fit: CoxFit, table: pd.DataFrame, data: StudyData, outcome: str) -> pd.DataFrame:
    """Mean scaled residual per SD, in bins of equally many people with the event."""
    own = scaled_schoenfeld(fit)
    own = own[own["term"] == "exposure"].sort_values("time", kind="stable")
    people = table["participant_id"].to_numpy()[own["row"]]
    fewest = max(_FEWEST_IN_BIN, data.about.k)
    n_bins = int(np.clip(len(set(people)) // fewest, 1, _MOST_BINS))
    bins = np.arange(len(own)) * n_bins // max(len(own), 1)
    size = data.sd.get("exposure", 1.0)  # yes against no
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
    return made.reset_index(drop=True).assign(is_first=np.arange(len(made)) == 0)


def _present_proportional_hazards(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return the period-specific ratios, the tests and the plots."""
    found = results_of(masked, "proportional_hazards")
    if found is None:
        return None
    paragraphs = (
        "Tests and plots are shown for the reader; no model is changed because of them. A hazard "
        "ratio over all follow-up is an average over time; the periods say how it moves. "
        "People differ more and more between later periods, which can change a ratio by itself.",
    )
    figures = figures_by_outcome(masked["schoenfeld"], about, partial(_residual_figure, about=about))
    return Section("proportional_hazards", "Proportional hazards", paragraphs, (*_tables(found, about), *figures))


def _tables(found: Masked, about: About) -> list[ReadTable]:
    rows, texts = found.rows, estimate_texts(found)
    periods = result_table(
        found,
        about,
        "periods",
        "Hazard ratios by period of follow-up, adjusted for age and sex",
        {"Contrast": rows["contrast"], "Period": rows["level"]},
        row_counts(found, about) | {INTERVAL: texts},
        ("A person's events are counted in each period that one of the ECGs reaches.",) if about.several_ecgs else (),
        where=rows["measure"] == PERIOD_RATIO,
        sort_by=["Contrast"],
    )
    terms = rows["contrast"].replace({"exposure": about.exposure_name, "GLOBAL": "all"})
    tests = result_table(
        found,
        about,
        "ph_tests",
        "Tests of proportional hazards (scaled Schoenfeld residuals)",
        {"Term": terms},
        {"Statistic": texts + " (" + rows["unit"] + ")", "P": p_texts(found)},
        where=rows["measure"] == TEST,
    )
    return [periods, tests]


def _residual_figure(rows: pd.DataFrame, outcome: str, model: str, key: str, *, about: About) -> ReadFigure | None:
    if len(rows) < 2:
        return None
    first, is_age = rows.iloc[0], about.time_scale == "attained_age"
    options: dict[str, Any] = {name: float(first[name]) for name in ("hr_log", "lo_log", "hi_log")}
    options |= {"exposure_name": f"{about.exposure_name}, {_step(about)}", "outcome_name": outcome, "is_age": is_age}
    over = "attained age" if is_age else "time"
    ratio = f"Log hazard ratio {_step(about)} over {over} for {outcome}{of_model(model)}"
    title = f"{ratio}: scaled Schoenfeld residuals, binned"
    drawn = schoenfeld(rows, **options)
    return ReadFigure(f"schoenfeld{key}", title, drawn.alt, drawn.canvas)


def _step(about: About) -> str:
    return YES_NO if about.exposure_unit == YES_NO else "per SD"


DOSE_RESPONSE: Final = Topic("dose response", _dose_response_aggregates, _present_dose_response)
PROPORTIONAL_HAZARDS: Final = Topic(
    "proportional hazards", _proportional_hazards_aggregates, _present_proportional_hazards
)
