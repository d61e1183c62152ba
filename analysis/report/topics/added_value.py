"""What the ECG adds to age, sex and body size: discrimination, likelihood, negative controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Aggregate, results
from analysis.disclosure.masking import NOT_APPLICABLE, Masked
from analysis.report.document import ReadTable, Section, Topic
from analysis.report.topics.tables import outcomes_and_parts, results_about, results_of
from analysis.report.words import estimate_texts, p_texts, row_counts, row_labels
from analysis.statistics.accuracy.concordance import (
    Concordance,
    ConcordanceDifference,
    concordance,
    delta_concordance,
    uno_concordance,
)
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
    models_of,
    read_columns,
    time_columns,
    warnings_of,
    without_constant_sex,
)
from lvm_core.units import DAYS_PER_YEAR

C: Final = "Harrell's C, cause-specific"
UNO: Final = "Uno's C, cause-specific"
DELTA: Final = "difference in C"
LIKELIHOOD: Final = "likelihood-ratio chi-square"
WALD: Final = "Wald chi-square"  # in its place where people or households repeat
WITHOUT: Final = "without the ECG"
_OF_DEMOGRAPHICS: Final = ("mass_g", "bsa_m2", "bmi_kg_m2", "age_years", "sex")
_UNTIL: Final = 0.9
_NOTHING: Final = "there is no covariate that the marker could be added to"
_WALD_WORDS: Final = "Wald's with errors that allow for repeated people or households"


class _Comparison(NamedTuple):
    """A marker added to a model without it."""

    words: str
    marker: str
    base: Model


class _Fitted(NamedTuple):
    """A fit with its concordance, which takes longer than the fit."""

    fit: CoxFit
    c: Concordance


def _aggregates(data: StudyData) -> list[Aggregate]:
    """Return C of each model, and difference and test for each comparison."""
    rows = []
    for outcome, part in outcomes_and_parts(data):
        found = _rows(part, outcome)
        rows += results_about(outcome, "added_value", part, found, "what is added needs")
    return [results("added_value", rows)]


def _rows(data: StudyData, outcome: str) -> list[dict[str, Any]]:
    comparisons = _comparisons(data)
    times = time_columns(data.study).values()
    columns = [*times, *(one.marker for one in comparisons)]
    columns += [name for one in comparisons for name in columns_of(one.base.covariates)]
    table = data.analysed(outcome)
    own = read_columns(table, data.study, [*columns, *_OF_DEMOGRAPHICS])
    complete = complete_rows(_with_demographics_only(own), data.study, columns)
    known = followed(complete, data.study) | {"exposure": data.study.exposure}
    known["n_dropped_missing"] = len(table) - len(complete)
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
    if data.study.covariates:
        largest = models_of(data.study)[-1]
        made.append(_Comparison(data.about.exposure_name, "exposure", replace(largest, number=0)))
    score = data.study.clinical_score
    if score is not None:
        alone = Model(0, score.words, (score.name,))
        made += [
            _Comparison(data.about.exposure_name, "exposure", alone),
            _Comparison(f"{score.words} (comparator)", score.name, small),
        ]
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
        known = {"contrast": one.words, "adjustment": base.adjustment}
        if not base.covariates:
            rows.append({"measure": DELTA} | known | {"warnings": _NOTHING})
            continue
        try:
            if base.adjustment not in bases:
                bases[base.adjustment] = _fitted(table, data, base.covariates)
                of_base = [_of_c(bases[base.adjustment]), *_of_uno(bases[base.adjustment])]
                rows += [row | known | {"contrast": WITHOUT} for row in of_base]
            smaller = bases[base.adjustment]
            larger = _fitted(table, data, (one.marker, *base.covariates))
            found = (_of_c(larger), *_of_uno(larger), _delta(larger, smaller), _test(larger, smaller, one.marker))
            warned = {"warnings": "; ".join(warnings_of(larger.fit, table, data.study))}
            rows += [row | known | warned for row in found]
        except TableRefused as error:
            rows.append({"measure": DELTA} | known | {"warnings": str(error)})
    return rows


def _fitted(table: pd.DataFrame, data: StudyData, covariates: Sequence[str | Covariate]) -> _Fitted:
    fit = fit_model(table, data.study, covariates)
    return _Fitted(fit, concordance(fit))


def _of_c(fitted: _Fitted) -> dict[str, Any]:
    return {"measure": C, "estimate": fitted.c.c} | _limits(fitted.c)


def _of_uno(fitted: _Fitted) -> list[dict[str, Any]]:
    """Uno's C up to the time when a tenth of the people are followed; none with delayed entry."""
    rows = fitted.fit.state.rows
    if rows.entries is not None:
        return []
    tau = float(np.quantile(rows.exits, _UNTIL))
    if not (rows.events & (rows.exits <= tau)).any():
        return []
    found = uno_concordance(fitted.fit, tau=tau)
    return [{"measure": UNO, "estimate": found.c, "unit_value": tau / DAYS_PER_YEAR, "unit": "years"} | _limits(found)]


def _delta(larger: _Fitted, smaller: _Fitted) -> dict[str, Any]:
    found = delta_concordance(larger.fit, smaller.fit, known=(larger.c, smaller.c))
    return {"measure": DELTA, "estimate": found.difference} | _limits(found)


def _limits(found: Concordance | ConcordanceDifference) -> dict[str, Any]:
    return {"se": found.se, "lo": found.lo, "hi": found.hi, "se_type": "infinitesimal jackknife"}


def _test(larger: _Fitted, smaller: _Fitted, marker: str) -> dict[str, Any]:
    test = added_terms_test(larger.fit, smaller.fit, [marker])
    measure = WALD if larger.fit.robust else LIKELIHOOD
    return {"measure": measure, "estimate": float(test.chi2), "p": float(test.p), "unit": f"{test.df} df"}


def _present(masked: Mapping[str, Masked], about: About) -> Section | None:
    """Return one table: C without and with the marker, its difference, and the test."""
    found = results_of(masked, "added_value")
    if found is None:
        return None
    is_wald = bool((found.rows["measure"] == WALD).any())
    notes = (
        "On the people of the main analysis whose BMI and markers are known. "
        "Harrell's C of cause-specific models, in the people to whom they are fitted (apparent; AUC and Brier "
        "score under Absolute risk are cross-fitted); intervals by the infinitesimal jackknife. For "
        f"nested models {_WALD_WORDS if is_wald else 'the likelihood-ratio test'} is the test and "
        "the difference in C an effect size without a P value of its own.",
        "Uno's C does not depend on censoring; up to the time until which a tenth of the people are followed.",
        "Negative control: predicted mass regressed on age, sex and BMI, divided by body surface "
        "area; what it adds, body size and age add without any ECG.",
    )
    n_labels = len(row_labels(found, about)) + 2
    cells = _cells(found, about, is_wald=is_wald)
    table = ReadTable("added_value", "What the ECG adds", cells, n_labels, notes)
    paragraphs = (
        "The full model is given age, sex and BMI besides the ECG, and the index divides by body "
        "surface area. So an association of the index is not yet one of the ECG: the table adds "
        "it to models that know age, sex and body size already, and adds an index made from "
        "them alone as a negative control.",
    )
    return Section("added_value", "What the ECG adds", paragraphs, (table,))


def _cells(found: Masked, about: About, *, is_wald: bool) -> pd.DataFrame:
    """A row per comparison: C without and with the marker, their difference, and the test's P."""
    labels, counts = row_labels(found, about), row_counts(found, about)
    rows = found.rows.assign(**labels, **counts, text=estimate_texts(found, 3), P=p_texts(found))
    keys = [*labels, "contrast", "adjustment"]
    names = {C: "text", UNO: "text", WALD if is_wald else LIKELIHOOD: "P"}
    c, uno, p = (rows[rows["measure"] == name].set_index(keys)[column] for name, column in names.items())
    lines = []
    for row in rows[rows["measure"] == DELTA].to_dict("records"):
        key = tuple(row[name] for name in keys)
        base = (*key[:-2], WITHOUT, key[-1])
        texts = [own.get(one, NOT_APPLICABLE) for own, one in ((c, base), (c, key), (uno, key))]
        texts.insert(2, row["text"])
        lines.append([*key, *(row[name] for name in counts), *texts, p.get(key, NOT_APPLICABLE)])
    test = "P (Wald)" if is_wald else "P (likelihood ratio)"
    titles = [*labels, "Added", "To", *counts, "C without", "C with", "Difference in C", "Uno's C with", test]
    return pd.DataFrame(lines, columns=titles)


TOPIC: Final = Topic("added value", _aggregates, _present)
