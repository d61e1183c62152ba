"""What the ECG adds to age, sex and body size: discrimination, likelihood, negative controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, result, results
from analysis.disclosure.masking import Masked
from analysis.disclosure.meanings import analysed
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.words import estimate_texts, p_texts, row_counts, row_labels
from analysis.statistics.accuracy.concordance import Concordance, concordance, delta_concordance
from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Covariate
from analysis.statistics.survival import CoxFit
from analysis.study.data import ECG_ONLY, About, StudyData
from analysis.study.outcomes import (
    SEX,
    Model,
    added_terms_test,
    columns_of,
    complete_rows,
    fit_model,
    followed,
    read_columns,
    time_columns,
    without_constant_sex,
)

C: Final = "Harrell's C, cause-specific"
DELTA: Final = "difference in C"
LIKELIHOOD: Final = "likelihood-ratio chi-square"
WALD: Final = "Wald chi-square"  # in its place where people or households repeat
_WITHOUT: Final = "without the ECG"
_OF_DEMOGRAPHICS: Final = ("mass_g", "bsa_m2", "bmi_kg_m2", "age_years", "sex")
_JACKKNIFE: Final = "infinitesimal jackknife"
_NOTHING: Final = "there is no covariate that the marker could be added to"
_WALD_WORDS: Final = "Wald's with errors that allow for repeated people or households"


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A marker added to a model without it."""

    words: str
    marker: str
    base: Model


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A fit with its concordance, which takes longer than the fit."""

    fit: CoxFit
    c: Concordance


def aggregates(data: StudyData) -> list[Aggregate]:
    """Return C of each model, and difference and test for each comparison."""
    rows = []
    for outcome in (one.name for one in data.study.outcomes):
        for part in data.by_prediction_model():
            known = part.keys(outcome) | {"exposure": data.study.exposure}
            known |= {"counted": analysed(outcome, part.model_id, "what is added needs")}
            rows += [result("added_value", **row, **known) for row in _rows(part, outcome)]
    return [results("added_value", rows)]


def _rows(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    comparisons = _comparisons(data)
    times = time_columns(data.study).values()
    columns = [*times, *(one.marker for one in comparisons)]
    columns += [name for one in comparisons for name in columns_of(one.base.covariates)]
    table = data.analysed(outcome)
    own = read_columns(table, data.study, [*columns, *_OF_DEMOGRAPHICS])
    complete = complete_rows(_with_demographics_only(own), data.study, columns)
    known = followed(complete, data.study) | {"n_dropped_missing": len(table) - len(complete)}
    return [known | row for row in _compared(complete, data, comparisons)]


def _comparisons(data: StudyData) -> list[_Comparison]:
    age = ("age_years",) if data.study.time_scale == "follow_up" else ()
    words, more = ("age, sex", "age, sex, BMI, height") if age else ("sex", "sex, BMI, height")
    small = Model(0, words, (*age, SEX))
    large = Model(0, more, (*age, SEX, "bmi_kg_m2", "height_cm"))
    made = [
        _Comparison(data.about.exposure_name, "exposure", small),
        _Comparison(data.about.exposure_name, "exposure", large),
        _Comparison("LV mass, not the index", "mass_g", large),
        _Comparison("index without any ECG (negative control)", "demographics_only_g_m2", small),
    ]
    if ECG_ONLY in data.ecgs:
        made.append(_Comparison("LV mass of the ECG-only model", ECG_ONLY, large))
    return made


def _with_demographics_only(table: pd.DataFrame) -> pd.DataFrame:
    """Add the index that a linear model of the predicted mass gives from age, sex and BMI alone."""
    male = (table["sex"] == "male").astype(float)
    x = np.column_stack(
        [
            np.ones(len(table)),
            male,
            table["age_years"],
            table["bmi_kg_m2"],
            male * table["age_years"],
            male * table["bmi_kg_m2"],
        ]
    )
    y = table["mass_g"].to_numpy(dtype=float)
    known = np.isfinite(y) & np.isfinite(x).all(axis=1)
    made = np.full(len(table), np.nan)
    if known.sum() > x.shape[1]:
        made[known] = x[known] @ np.linalg.lstsq(x[known], y[known], rcond=None)[0]
    return table.assign(demographics_only_g_m2=made / table["bsa_m2"].to_numpy(dtype=float))


def _compared(table: pd.DataFrame, data: StudyData, comparisons: Sequence[_Comparison]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    bases: dict[str, _Fitted] = {}
    for one in comparisons:
        base = without_constant_sex(one.base, table)
        told = {"contrast": one.words, "adjustment": base.adjustment}
        if not base.covariates:
            rows.append({"measure": DELTA} | told | {"warnings": _NOTHING})
            continue
        try:
            if base.adjustment not in bases:
                bases[base.adjustment] = _fitted(table, data, base.covariates)
                rows.append(_of_c(bases[base.adjustment]) | told | {"contrast": _WITHOUT})
            smaller = bases[base.adjustment]
            larger = _fitted(table, data, (one.marker, *base.covariates))
            found = (_of_c(larger), _delta(larger, smaller), _test(larger, smaller, one.marker))
            rows += [row | told for row in found]
        except TableRefused as error:
            rows.append({"measure": DELTA} | told | {"warnings": str(error)})
    return rows


def _fitted(table: pd.DataFrame, data: StudyData, covariates: Sequence[str | Covariate]) -> _Fitted:
    fit = fit_model(table, data.study, covariates)
    return _Fitted(fit, concordance(fit))


def _of_c(fitted: _Fitted) -> dict[str, Any]:
    found = fitted.c
    return {"measure": C, "estimate": found.c, "se": found.se, "lo": found.lo, "hi": found.hi, "se_type": _JACKKNIFE}


def _delta(larger: _Fitted, smaller: _Fitted) -> dict[str, Any]:
    found = delta_concordance(larger.fit, smaller.fit, known=(larger.c, smaller.c))
    return {
        "measure": DELTA,
        "estimate": found.difference,
        "se": found.se,
        "lo": found.lo,
        "hi": found.hi,
        "se_type": _JACKKNIFE,
    }


def _test(larger: _Fitted, smaller: _Fitted, marker: str) -> dict[str, Any]:
    test = added_terms_test(larger.fit, smaller.fit, [marker])
    measure = WALD if larger.fit.robust else LIKELIHOOD
    return {"measure": measure, "estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}


def present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table: C without and with the marker, its difference, and the test."""
    found = masked.get("results_added_value")
    if found is None or not len(found.rows):
        return None
    cells, is_wald = _cells(found, about)
    notes = (
        "On the people of the main analysis of whom BMI and the markers are known. "
        "Harrell's C of cause-specific models; intervals by the infinitesimal jackknife. For "
        f"nested models {_WALD_WORDS if is_wald else 'the likelihood-ratio test'} is the test and "
        "the difference in C an effect size without a P value of its own.",
        "Negative control: predicted mass regressed on age, sex and BMI, divided by body surface "
        "area; what it adds, body size and age add without any ECG.",
    )
    n_labels = len(row_labels(found, about)) + 2
    table = ReadTable("added_value", "What the ECG adds", cells, n_labels, notes)
    paragraphs = (
        "The full model is given age, sex and BMI besides the ECG, and the index divides by body "
        "surface area. So an association of the index is not yet one of the ECG: the table adds "
        "it to models that know age, sex and body size already, and adds an index made from "
        "them alone as a negative control.",
    )
    return Section("added_value", "What the ECG adds", paragraphs, (table,))


def _cells(found: Masked, about: About) -> tuple[pd.DataFrame, bool]:
    """One row a comparison, and whether the test is Wald's."""
    labels, counts = row_labels(found, about), row_counts(found, about)
    rows = found.rows.assign(**labels, **counts, text=estimate_texts(found, 3), P=p_texts(found))
    is_wald = bool((rows["measure"] == WALD).any())
    keys = [*labels, "contrast", "adjustment"]
    keyed = {
        measure: rows[rows["measure"] == measure].set_index(keys) for measure in (C, WALD if is_wald else LIKELIHOOD)
    }
    lines = []
    for row in rows[rows["measure"] == DELTA].to_dict("records"):
        key = tuple(row[name] for name in keys)
        without = (*key[:-2], _WITHOUT, key[-1])
        lines.append(
            [
                *key,
                *(row[name] for name in counts),
                keyed[C]["text"].get(without, "–"),
                keyed[C]["text"].get(key, "–"),
                row["text"],
                keyed[WALD if is_wald else LIKELIHOOD]["P"].get(key, "–"),
            ]
        )
    test = "P (Wald)" if is_wald else "P (likelihood ratio)"
    titles = [*labels, "Added", "To", *counts, "C without", "C with", "Difference in C", test]
    return pd.DataFrame(lines, columns=titles), is_wald


TOPIC: Final = Topic("added value", aggregates, present)
