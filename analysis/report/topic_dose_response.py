"""Dose-response: a restricted cubic spline of the exposure, with its distribution beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.outcome_models import complete_rows, fit_model, followed, models_of
from analysis.report.aggregates import (
    Aggregate,
    RowsAddUp,
    count,
    label,
    number,
    result,
    results,
)
from analysis.report.document import About, ReadFigure, ReadTable, Section
from analysis.report.figure_dose_response import dose_response, dose_response_alt
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.words import p_texts
from analysis.splines import nonlinearity_test, restricted_cubic_spline, spline_contrast
from lvm_core.lvh import LvhPreset, Sex, lvh_limit_g_m2

NONLINEAR: Final = "nonlinearity, chi-square"
_KNOTS: Final = 4
_POINTS: Final = 81
_BINS: Final = 30


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return the curve of each outcome, the histogram, and tests of nonlinearity."""
    curves: list[pd.DataFrame] = []
    tests: list[dict[str, Any]] = []
    model = models_of(data.study)[1]
    for outcome in (one.name for one in data.study.outcomes):
        table = complete_rows(data.analysed(outcome), ["exposure"], [model])
        row = followed(table, data.study) | {
            "outcome": outcome, "primary": outcome == data.study.primary_outcome,
            "exposure": data.study.exposure, "contrast": "restricted cubic spline, 4 knots",
            "model": 2, "adjustment": model.adjustment,
        }  # fmt: skip
        try:
            spline = restricted_cubic_spline(table, column="exposure", n_knots=_KNOTS)
            fit = fit_model(table, data.study, [spline, *model.covariates])
            test = nonlinearity_test(fit, spline=spline)
            curves.append(_curve(table, outcome, fit, spline))
        except TableRefused as error:
            tests.append(result("dose_response", NONLINEAR, **row, warnings=str(error)))
            continue
        more = {"estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}
        tests.append(result("dose_response", NONLINEAR, **(row | more)))
    return [_curves_aggregate(curves), _histogram(data), results("dose_response", tests)]


def _curve(table: pd.DataFrame, outcome: str, fit: Any, spline: Any) -> pd.DataFrame:
    low, middle, high = np.quantile(table["exposure"], [0.01, 0.5, 0.99])
    values = np.linspace(low, high, _POINTS)
    found = spline_contrast(fit, spline=spline, values=values.tolist(), reference=float(middle))
    return pd.DataFrame(
        {
            "outcome": outcome, "value": values, "hr": found["hr"].to_numpy(),
            "lo": found["hr_lo"].to_numpy(), "hi": found["hr_hi"].to_numpy(),
            "reference": float(middle), "knots": " ".join(f"{knot:.4g}" for knot in spline.knots),
            "n_events": int(table["event"].sum()),
        }
    )  # fmt: skip


def _curves_aggregate(curves: list[pd.DataFrame]) -> Aggregate:
    columns = (
        label("outcome", "of the code list"),
        number("value", "of the exposure, 1st to 99th percentile", "n_events"),
        number("hr", "hazard ratio against the reference, adjusted for age and sex", "n_events"),
        number("lo", "lower 95 % limit", "n_events"),
        number("hi", "upper 95 % limit", "n_events"),
        number("reference", "median of the exposure", "n_events"),
        label("knots", "in the unit of the exposure, at Harrell's quantiles"),
        count("n_events", "events of the model"),
    )
    names = [column.name for column in columns]
    table = pd.concat(curves)[names] if curves else pd.DataFrame(columns=names)
    return Aggregate("dose_response", table.reset_index(drop=True), columns)


def _histogram(data: StudyData) -> Aggregate:
    values = data.ecgs.drop_duplicates("participant_id")["exposure"].dropna()
    low, high = np.quantile(values, [0.005, 0.995]) if len(values) else (0.0, 1.0)
    counts, edges = np.histogram(values, np.linspace(float(low), float(high), _BINS + 1))
    rows = pd.DataFrame({"left": edges[:-1], "right": edges[1:], "n_people": counts})
    columns = (
        label("left", "lower bound of the bin"),
        label("right", "upper bound of the bin"),
        count("n_people", "people in the bin"),
    )
    return Aggregate("exposure_histogram", rows, columns,
                     (RowsAddUp(("n_people",), "left", None),), small="drop")  # fmt: skip


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return a figure for each outcome and the tests."""
    curves, tests = masked.get("dose_response"), masked.get("results_dose_response")
    if curves is None or tests is None or not len(tests.rows):
        return None
    rows = tests.rows
    cells = pd.DataFrame(
        {
            "Outcome": rows["outcome"].map(about.outcomes),
            "People": tests.shown("n_people"),
            "Events": tests.shown("n_events"),
            "P for nonlinearity": p_texts(tests),
        }
    ).reset_index(drop=True)
    table = ReadTable("nonlinearity", "Is the dose-response a straight line?", cells)
    figures = [f for name in about.outcomes if (f := _figure(masked, about, name)) is not None]
    paragraph = (
        "Restricted cubic splines with four knots at Harrell's quantiles, adjusted for age and "
        "sex, against the median; from the 1st to the 99th percentile."
    )
    return Section("dose_response", "Dose-response", (paragraph,), (table, *figures))


def _figure(masked: Mapping[str, Masked], about: About, outcome: str) -> ReadFigure | None:
    found = masked["dose_response"].rows
    rows = found[found["outcome"] == outcome].reset_index(drop=True)
    if not len(rows) or rows["hr"].isna().all():
        return None
    preset = LvhPreset(about.lvh_preset)
    is_index = about.exposure_unit == "g/m2"
    limits = {sex.value: lvh_limit_g_m2(sex, preset) for sex in Sex} if is_index else {}
    words = about.outcomes[outcome]
    options: dict[str, Any] = {
        "knots": [float(knot) for knot in rows["knots"].iloc[0].split()],
        "reference": float(rows["reference"].iloc[0]), "limits_by_sex": limits,
        "exposure_name": about.exposure_name, "exposure_unit": about.exposure_unit,
        "outcome_name": words,
    }  # fmt: skip
    histogram = masked["exposure_histogram"].rows
    title = f"Hazard ratio of {words} by {about.exposure_name}"
    return ReadFigure(f"dose_response_{outcome}", title,
                      dose_response_alt(rows, histogram, **options),
                      dose_response(rows, histogram, **options))  # fmt: skip
