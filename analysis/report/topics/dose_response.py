"""Dose-response: a restricted cubic spline of the exposure, with its distribution beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, count, label, number, result, results
from analysis.disclosure.masking import Masked
from analysis.report.document import ReadFigure, ReadTable, Section, Topic
from analysis.report.figures.models import dose_response, dose_response_alt
from analysis.report.words import of_model, outcomes_and_models, p_texts, row_counts, row_labels
from analysis.statistics.columns import TableRefused
from analysis.statistics.survival.splines import nonlinearity_test, restricted_cubic_spline, spline_contrast
from analysis.study.data import About, StudyData
from analysis.study.outcomes import (
    complete_rows,
    fit_model,
    followed,
    models_of,
    people_with_event,
    without_constant_sex,
)
from lvm_core.medicine.lvh import LvhPreset, Sex, lvh_limit_g_m2

NONLINEAR: Final = "nonlinearity, chi-square"
_KNOTS: Final = 4
_POINTS: Final = 81
_BINS: Final = 30
_MASKED_SHARE: Final = 0.05


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the curve of each outcome, the histogram, and tests of nonlinearity."""
    curves: list[pd.DataFrame] = []
    tests: list[dict[str, Any]] = []
    for outcome in (one.name for one in data.study.outcomes):
        for part in data.by_prediction_model():
            row, curve = _fitted(part, outcome)
            who = meanings.analysed(outcome, part.model_id)
            tests.append(result("dose_response", NONLINEAR, **row, **part.keys(outcome), counted=who))
            curves += curve
    return [_curves_aggregate(curves), _histogram(data), results("dose_response", tests)]


def _fitted(data: StudyData, outcome: str) -> tuple[dict[str, Any], list[pd.DataFrame]]:
    """The test of nonlinearity and the curve, or why there is none."""
    table = data.analysed(outcome)
    complete = complete_rows(table, data.study, ["exposure"])
    model = without_constant_sex(models_of(data.study)[1], complete)
    row = followed(complete, data.study) | {
        "exposure": data.study.exposure,
        "contrast": "restricted cubic spline, 4 knots",
        "model": 2,
        "adjustment": model.adjustment,
        "n_dropped_missing": len(table) - len(complete),
    }
    try:
        spline = restricted_cubic_spline(complete, column="exposure", n_knots=_KNOTS)
        fit = fit_model(complete, data.study, [spline, *model.covariates])
        test = nonlinearity_test(fit, spline=spline)
        curve = _curve(complete, data, fit, spline).assign(outcome=outcome)
    except TableRefused as error:
        return row | {"warnings": str(error)}, []
    more = {"estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}
    return row | more, [curve]


def _range(data: StudyData, values: pd.Series[Any], share: float) -> tuple[float, float]:
    """The range that is shown, without that share of people at either end.

    With masking on the 5th to the 95th percentile, to four digits: what lies beyond is of few
    people, and near the smallest and largest value of a small cohort.
    """
    masked = data.study.masking.k > 1
    low, high = np.quantile(values, [_MASKED_SHARE, 1 - _MASKED_SHARE] if masked else [share, 1 - share])
    return (float(f"{low:.4g}"), float(f"{high:.4g}")) if masked else (float(low), float(high))


def _curve(table: pd.DataFrame, data: StudyData, fit: Any, spline: Any) -> pd.DataFrame:
    low, high = _range(data, table["exposure"], 0.01)
    middle = float(np.quantile(table["exposure"], 0.5))
    values = np.linspace(low, high, _POINTS)
    found = spline_contrast(fit, spline=spline, values=values.tolist(), reference=middle)
    return pd.DataFrame(
        {
            "model_id": data.model_id,
            "value": values,
            "hr": found["hr"].to_numpy(),
            "lo": found["hr_lo"].to_numpy(),
            "hi": found["hr_hi"].to_numpy(),
            "reference": middle,
            "knots": " ".join(f"{knot:.4g}" for knot in spline.knots),
            "n_events": people_with_event(table, data.study),
        }
    )


def _curves_aggregate(curves: list[pd.DataFrame]) -> Aggregate:
    columns = (
        label("outcome", "of the code list"),
        label("model_id", "of the predictions where they are of several"),
        number("value", "of the exposure, 1st to 99th percentile; masked: 5th to 95th", "n_events"),
        number("hr", "hazard ratio against the reference, adjusted for age and sex", "n_events"),
        number("lo", "lower 95 % limit", "n_events"),
        number("hi", "upper 95 % limit", "n_events"),
        number("reference", "median of the exposure", "n_events"),
        label("knots", "in the unit of the exposure, at Harrell's quantiles"),
        count("n_events", "people with the event"),
    )
    names = [column.name for column in columns]
    table = pd.concat(curves)[names] if curves else pd.DataFrame(columns=names)
    table = table.reset_index(drop=True)
    return Aggregate("dose_response", table, columns, counts=meanings.curve_of_doses(table))


def _histogram(data: StudyData) -> Aggregate:
    parts = [_bins_of(part) for part in data.by_prediction_model()]
    columns = (
        label("model_id", "of the predictions where they are of several"),
        label("left", "lower bound of the bin"),
        label("right", "upper bound of the bin"),
        count("n_people", "people in the bin"),
    )
    table = pd.concat(parts, ignore_index=True)
    return Aggregate("exposure_histogram", table, columns, small="drop", counts=meanings.bins(table))


def _bins_of(data: StudyData) -> pd.DataFrame:
    values = data.ecgs.drop_duplicates("participant_id")["exposure"].dropna()
    low, high = _range(data, values, 0.005) if len(values) else (0.0, 1.0)
    counts, edges = np.histogram(values, np.linspace(low, high, _BINS + 1))
    return pd.DataFrame({"model_id": data.model_id, "left": edges[:-1], "right": edges[1:], "n_people": counts})


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return a figure for each outcome and the tests."""
    curves, tests = masked.get("dose_response"), masked.get("results_dose_response")
    if curves is None or tests is None or not len(tests.rows):
        return None
    labels = row_labels(tests, about)
    cells = pd.DataFrame(labels | row_counts(tests, about) | {"P for nonlinearity": p_texts(tests)}).reset_index(
        drop=True
    )
    table = ReadTable("nonlinearity", "Is the dose-response a straight line?", cells, len(labels))
    figures = [
        figure for one in outcomes_and_models(curves, about) if (figure := _figure(masked, about, *one)) is not None
    ]
    ends = "5th to the 95th" if about.k > 1 else "1st to the 99th"
    paragraph = (
        "Restricted cubic splines with four knots at Harrell's quantiles, adjusted for age and "
        f"sex, against the median; from the {ends} percentile."
    )
    return Section("dose_response", "Dose-response", (paragraph,), (table, *figures))


def _figure(masked: Mapping[str, Masked], about: About, outcome: str, model: str, key: str) -> ReadFigure | None:
    found = masked["dose_response"].rows
    is_own = (found["outcome"] == outcome) & (found["model_id"] == model)
    rows = found[is_own].reset_index(drop=True)
    if not len(rows) or rows["hr"].isna().all():
        return None
    preset = LvhPreset(about.lvh_preset)
    is_index = about.exposure_unit == "g/m2"
    limits = {sex.value: lvh_limit_g_m2(sex, preset) for sex in Sex} if is_index else {}
    words = about.outcomes[outcome]
    options: dict[str, Any] = {
        "knots": [float(knot) for knot in rows["knots"].iloc[0].split()],
        "reference": float(rows["reference"].iloc[0]),
        "limits_by_sex": limits,
        "exposure_name": about.exposure_name,
        "exposure_unit": about.exposure_unit,
        "outcome_name": words,
    }
    bins = masked["exposure_histogram"].rows
    histogram = bins[bins["model_id"] == model].reset_index(drop=True)
    title = f"Hazard ratio of {words} by {about.exposure_name}{of_model(model)}"
    return ReadFigure(
        f"dose_response{key}",
        title,
        dose_response_alt(rows, histogram, **options),
        dose_response(rows, histogram, **options),
    )


TOPIC: Final = Topic("dose response", aggregates, present)
