"""What the ECG adds to age, sex and body size: discrimination, likelihood, negative controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.concordance import concordance, delta_concordance
from analysis.cox import CoxFit
from analysis.design import Covariate
from analysis.outcome_models import SEX, columns_of, fit_model, followed
from analysis.report.aggregates import Aggregate, result, results
from analysis.report.document import About, ReadTable, Section
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.words import estimate_texts, p_texts

C: Final = "Harrell's C, cause-specific"
DELTA: Final = "difference in C"
LIKELIHOOD: Final = "likelihood-ratio chi-square"


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A marker added to a model without it."""

    words: str
    base_words: str
    marker: str
    base: tuple[str | Covariate, ...]


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return C of each model, and difference and test for each comparison."""
    rows = []
    comparisons = _comparisons(data)
    columns = [c.marker for c in comparisons]
    columns += [name for c in comparisons for name in columns_of(c.base)]
    for outcome in (one.name for one in data.study.outcomes):
        table = _with_demographics_only(data.analysed(outcome))
        complete = table.dropna(subset=list(dict.fromkeys(columns)))
        known = followed(complete, data.study) | {
            "outcome": outcome, "primary": outcome == data.study.primary_outcome,
            "exposure": data.study.exposure, "n_dropped_missing": len(table) - len(complete),
        }  # fmt: skip
        rows += _compared(complete, data, comparisons, known)
    return [results("added_value", rows)]


def _comparisons(data: StudyData) -> list[_Comparison]:
    age = ("age_years",) if data.study.time_scale == "follow_up" else ()
    small, large = (*age, SEX), (*age, SEX, "bmi_kg_m2", "height_cm")
    words, more = ("age, sex", "age, sex, BMI, height") if age else ("sex", "sex, BMI, height")
    made = [
        _Comparison(data.about.exposure_name, words, "exposure", small),
        _Comparison(data.about.exposure_name, more, "exposure", large),
        _Comparison("LV mass, not the index", more, "mass_g", large),
        _Comparison("index without any ECG (negative control)", words,
                    "demographics_only_g_m2", small),
    ]  # fmt: skip
    if "lvm_ecg_only_g" in data.ecgs:
        made.append(_Comparison("LV mass of the ECG-only model", more, "lvm_ecg_only_g", large))
    return made


def _with_demographics_only(table: pd.DataFrame) -> pd.DataFrame:
    """Add the index that a linear model of the predicted mass gives from age, sex and BMI alone."""
    male = (table["sex"] == "male").astype(float)
    x = np.column_stack(
        [np.ones(len(table)), male, table["age_years"], table["bmi_kg_m2"],
         male * table["age_years"], male * table["bmi_kg_m2"]]
    )  # fmt: skip
    y = table["mass_g"].to_numpy(dtype=float)
    known = np.isfinite(y) & np.isfinite(x).all(axis=1)
    made = np.full(len(table), np.nan)
    if known.sum() > x.shape[1]:
        made[known] = x[known] @ np.linalg.lstsq(x[known], y[known], rcond=None)[0]
    return table.assign(demographics_only_g_m2=made / table["bsa_m2"].to_numpy(dtype=float))


def _compared(
    table: pd.DataFrame, data: StudyData, comparisons: Sequence[_Comparison], known: dict[str, Any]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    bases: dict[str, CoxFit] = {}
    for one in comparisons:
        told = known | {"contrast": one.words, "adjustment": one.base_words}
        try:
            if one.base_words not in bases:
                bases[one.base_words] = fit_model(table, data.study, one.base)
                own = told | {"contrast": "without the ECG"}
                rows.append(_of_c(bases[one.base_words], own))
            fit = fit_model(table, data.study, [one.marker, *one.base])
            base = bases[one.base_words]
            rows.append(_of_c(fit, told))
            rows += [_delta(fit, base, told), _test(fit, base, told)]
        except TableRefused as error:
            rows.append(result("added_value", DELTA, **told, warnings=str(error)))
    return rows


def _of_c(fit: CoxFit, told: dict[str, Any]) -> dict[str, Any]:
    found = concordance(fit)
    more = {"estimate": found.c, "se": found.se, "lo": found.lo, "hi": found.hi,
            "se_type": "infinitesimal jackknife"}  # fmt: skip
    return result("added_value", C, **(told | more))


def _delta(fit: CoxFit, base: CoxFit, told: dict[str, Any]) -> dict[str, Any]:
    found = delta_concordance(fit, base)
    more = {"estimate": found.difference, "se": found.se, "lo": found.lo, "hi": found.hi,
            "se_type": "infinitesimal jackknife"}  # fmt: skip
    return result("added_value", DELTA, **(told | more))


def _test(fit: CoxFit, base: CoxFit, told: dict[str, Any]) -> dict[str, Any]:
    if told["se_type"] != "model":
        # With repeated people the likelihood is not one: the Wald test with robust errors.
        first = fit.estimates.iloc[0]
        more = {"estimate": float(first["z"] ** 2), "p": float(first["p"]), "unit": "1 df, Wald"}
        return result("added_value", LIKELIHOOD, **(told | more))
    test = fit.likelihood_ratio_test(base)
    more = {"estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}
    return result("added_value", LIKELIHOOD, **(told | more))


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table: C without and with the marker, its difference, and the test."""
    found = masked.get("results_added_value")
    if found is None or not len(found.rows):
        return None
    rows = found.rows.assign(
        text=estimate_texts(found, 3), P=p_texts(found),
        Events=found.shown("n_events"),
    )  # fmt: skip
    keys = ["outcome", "contrast", "adjustment"]
    keyed = {m: rows[rows["measure"] == m].set_index(keys) for m in (C, LIKELIHOOD)}
    lines = []
    differences = rows[rows["measure"] == DELTA]
    for row in differences.to_dict("records"):
        outcome, contrast, base = key = row["outcome"], row["contrast"], row["adjustment"]
        without = keyed[C]["text"].get((outcome, "without the ECG", base), "–")
        with_it = keyed[C]["text"].get(key, "–")
        p = keyed[LIKELIHOOD]["P"].get(key, "–")
        lines.append([about.outcomes[outcome], contrast, base, row["Events"], without, with_it,
                      row["text"], p])  # fmt: skip
    titles = ["Outcome", "Added", "To", "Events", "C without", "C with", "Difference in C",
              "P (likelihood ratio)"]  # fmt: skip
    notes = (
        "Harrell's C of cause-specific models; intervals by the infinitesimal jackknife. For "
        "nested models the likelihood-ratio test is the test and the difference in C an effect "
        "size without a P value of its own.",
        "Negative control: predicted mass regressed on age, sex and BMI, divided by body surface "
        "area; what it adds, body size and age add without any ECG.",
    )
    table = ReadTable("added_value", "What the ECG adds", pd.DataFrame(lines, columns=titles), 3,
                      notes)  # fmt: skip
    paragraphs = (
        "The full model is given age, sex and BMI besides the ECG, and the index divides by body "
        "surface area. So an association of the index is not yet one of the ECG: the table adds "
        "it to models that know age, sex and body size already, and adds an index made from "
        "them alone as a negative control.",
    )
    return Section("added_value", "What the ECG adds", paragraphs, (table,))
