"""Against CMR: agreement of predicted and measured LV mass and index, and what the ECG adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.disclosure.aggregates import result
from analysis.disclosure.masking import NOT_APPLICABLE, Masked
from analysis.report.document import ReadTable
from analysis.report.topics.cmr_pairs import IMAGED, STRATA, Cell, Group, cells_of, levels_of
from analysis.report.words import sentence
from analysis.statistics.agreement import deming_regression, passing_bablok
from analysis.statistics.agreement.bland_altman import MEASURES, PROPORTIONAL_BIAS_REMARK, agreement
from analysis.statistics.columns import TableRefused
from analysis.statistics.limits import Z95
from analysis.study.data import StudyData

Floats = NDArray[np.float64]

MASS: Final = "LV mass"
INDEX: Final = "LV mass index"
UNITS: Final = {MASS: "g", INDEX: "g/m2"}
MOST_FOR_PASSING_BABLOK: Final = 20_000
"""Pairs above which Passing and Bablok's line takes more than a second or two."""

# Of the pairs: predicted and measured.
_COLUMNS: Final = {MASS: ["mass_g", "mass_cmr_g"], INDEX: ["index_g_m2", "index_cmr_g_m2"]}
_NOT_DEFINED: Final = "not estimated: too few people, or a column is constant"
_ERRORS: Final = {
    "bias": ("Bias, predicted - CMR", 1),
    "sd_of_differences": ("SD of differences", 1),
    "lower_limit_of_agreement": ("Lower limit of agreement", 1),
    "upper_limit_of_agreement": ("Upper limit of agreement", 1),
    "mae": ("Mean absolute error", 1),
    "rmse": ("Root mean square error", 1),
}
_LINES: Final = {
    "pearson": ("Pearson's r", 3),
    "spearman": ("Spearman's rank correlation", 3),
    "lin_concordance": ("Lin's concordance", 3),
    "calibration_intercept": ("Calibration intercept", 1),
    "calibration_slope": ("Calibration slope", 3),
    "slope_of_difference_on_mean": ("Slope of difference on mean", 3),
    "slope_of_difference_if_calibrated": ("The same, were it calibrated", 3),
}
# Measures that one person moves as a mean.
_MEANS: Final = frozenset({"bias", "lower_limit_of_agreement", "upper_limit_of_agreement", "mae"})
_STRUCTURAL: Final = {"deming": "Deming", "passing-bablok": "Passing and Bablok"}
_NUMBERS: Final = ("estimate", "se", "lo", "hi")


# Agreement.


def agreement_rows(data: StudyData, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the measures of agreement and structural lines as results, overall and by group."""
    rows: list[dict[str, Any]] = []
    for words, exposure in ((MASS, data.study.mass_column), (INDEX, data.study.index_column)):
        for group in groups:
            known = {"exposure": exposure, "contrast": words, "strata": group.strata}
            rows += _agreement(group, _COLUMNS[words], known, UNITS[words])
        for group in groups:
            known = {"exposure": exposure, "contrast": words, "strata": group.strata}
            for level, people in group.levels():
                rows += _structural(people[_COLUMNS[words]].dropna(), known | {"level": level}, UNITS[words])
    return rows


def _agreement(group: Group, columns: list[str], known: dict[str, Any], unit: str) -> list[dict[str, Any]]:
    by = [group.strata] if group.strata else []
    predicted, measured = columns
    table = group.people[[*columns, *by]].dropna()
    try:
        found = agreement(table, predicted=predicted, reference=measured, by=by, unit=unit)
    except TableRefused:
        return []
    return [
        result(
            "cmr",
            row["measure"],
            **known,
            **{name: row[name] for name in (*_NUMBERS, "p", "unit")},
            level=row[group.strata] if by else "",
            n_people=int(row["n"]),
            n_ecgs=int(row["n"]),
            warnings=_NOT_DEFINED if pd.isna(row["estimate"]) else "",
            precision="mean" if row["measure"] in _MEANS else "",
        )
        for row in found.estimates.to_dict("records")
        if row["measure"] in MEASURES
    ]


def _structural(table: pd.DataFrame, known: dict[str, Any], unit: str) -> list[dict[str, Any]]:
    """Lines of one group; a group that is too small for them has rows without an estimate.

    Otherwise a group without a row, among others that have one, would be known to be small.
    """
    rows = []
    for method in _STRUCTURAL:
        if method == "passing-bablok" and len(table) > MOST_FOR_PASSING_BABLOK:
            continue
        found = _line(method, table)
        for term, own_unit in (("intercept", unit), ("slope", "1")):
            own = found.get(term, {"warnings": _NOT_DEFINED})
            counts = {"n_people": len(table), "n_ecgs": len(table)}
            rows.append(result("cmr", f"{method} {term}", unit=own_unit, **known, **counts, **own))
    return rows


def _line(method: str, table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """The results of intercept and slope; {} where there is no line."""
    x, y = table.columns
    try:
        if method == "passing-bablok":
            line, se_type = passing_bablok(table, x=x, y=y), ""
        else:
            line, se_type = deming_regression(table, x=x, y=y, variance_ratio=1.0), "jackknife"
    except TableRefused:
        return {}
    more = {"se_type": se_type, "warnings": "not for recalibration"}
    return {row["term"]: {n: row[n] for n in _NUMBERS} | more for row in line.estimates.to_dict("records")}


def agreement_tables(found: Masked) -> list[ReadTable]:
    """Return errors, and correlations with calibration, of mass and of index; lines last."""
    error_note = (
        "Difference = predicted - CMR, one pair a person. Limits of agreement are those of 95% of the "
        "differences (bias -+ 1.96 SD); brackets hold 95% intervals."
    )
    calibration_notes = (
        "Calibration is the regression of CMR on the prediction: intercept 0 and slope 1 are ideal. "
        "The intercept is in the unit of the quantity.",
        f"{PROPORTIONAL_BIAS_REMARK.replace('_', ' ')}.",
    )
    tables = []
    for words, key in ((MASS, "mass"), (INDEX, "index")):
        errors = f"Errors of the predicted {words}, {UNITS[words]}"
        tables.append(ReadTable(f"cmr_errors_{key}", errors, _cells(found, words, _ERRORS), 2, (error_note,)))
        lines = f"Correlation and calibration of the predicted {words}"
        tables.append(ReadTable(f"cmr_correlation_{key}", lines, _cells(found, words, _LINES), 2, calibration_notes))
    return [table for table in (*tables, _structural_table(found)) if len(table.cells)]


def _cells(found: Masked, words: str, wanted: Mapping[str, tuple[str, int]]) -> pd.DataFrame:
    columns = {head: Cell(name, words, digits) for name, (head, digits) in wanted.items()}
    lines = [
        [STRATA.get(strata, "Everybody"), level, *cells_of(found, columns.values(), strata, level)]
        for strata, level in levels_of(found, words, "bias")
    ]
    return pd.DataFrame(lines, columns=["Group", "Level", "People", *columns])


def _structural_table(found: Masked) -> ReadTable:
    """A row per quantity and group; intercept and slope of each method."""
    terms = {
        f"{name}: {term}": (f"{method} {term}", digits)
        for method, name in _STRUCTURAL.items()
        for term, digits in (("intercept", 1), ("slope", 3))
    }
    lines = []
    for words, unit in UNITS.items():
        cells = [Cell(measure, words, digits) for measure, digits in terms.values()]
        lines += [
            [f"{words}, {unit}", STRATA.get(strata, "Everybody"), level, *cells_of(found, cells, strata, level)]
            for strata, level in levels_of(found, words, "deming slope")
        ]
    notes = (
        "CMR against prediction, as if both were measurements with error; Deming's variance ratio "
        "of 1 is an assumption. Neither line is used to recalibrate.",
        "Passing and Bablok's line is computed up to "
        f"{MOST_FOR_PASSING_BABLOK:,} pairs; above, it takes too long and is left out.",
    )
    table = pd.DataFrame(lines, columns=["Quantity", "Group", "Level", "People", *terms])
    return ReadTable("cmr_lines", "Structural lines between prediction and CMR", table, 3, notes)


# What the ECG adds to age, sex and body size.

PARTIAL: Final = "partial correlation"
DIFFERENCE: Final = "difference in mean absolute error"
PREDICTION: Final = "predicted LV mass"
CALIBRATED: Final = "predicted LV mass, calibrated line"
DEMOGRAPHICS: Final = "age, sex, BMI and height without ECG"
N_FOLDS: Final = 10
FEWEST_PEOPLE: Final = 50
"""No linear model is cross-fitted to fewer people."""

_ADJUSTED: Final = "age, sex, BMI, height"
_COVARIATES: Final = ["male", "age_years", "bmi_kg_m2", "height_cm"]
_FEWEST_FOR_T: Final = 3


def body_size_rows(data: StudyData, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the partial correlation and the errors with and without ECG as results, by group.

    The lines are cross-fitted to everybody, and judged in each group; for people by their first
    CMR, who are other people, they are fitted to these. People without one of the covariates are
    left out. The seed of the study makes the folds.
    """
    rows: list[dict[str, Any]] = []
    fitted = _fitted(groups[0].people, data.study.seed)
    for group in groups:
        own = _fitted(group.people, data.study.seed) if group.strata == IMAGED else fitted
        if not len(own):
            continue
        for level, people in group.levels():
            part = own.loc[own.index.intersection(people.index)]
            known: dict[str, Any] = {
                "exposure": data.study.mass_column,
                "adjustment": _ADJUSTED,
                "strata": group.strata,
                "level": level,
                "n_people": len(part),
                "n_ecgs": len(part),
            }
            if not group.strata:
                known["n_dropped_missing"] = len(people) - len(part)
            rows += [result("cmr", **row, **known) for row in _compared(part)]
    return rows


def _fitted(pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Prediction, truth, covariates and cross-fitted lines of the pairs that have them all."""
    names = ["mass_g", "mass_cmr_g", "age_years", "bmi_kg_m2", "height_cm", "sex"]
    table = pairs[["participant_id", *names]].dropna().sort_values("participant_id")
    if len(table) < FEWEST_PEOPLE:
        return table[:0]
    table = table.assign(male=(table["sex"] == "male").astype(float))
    made, truth = (table[name].to_numpy(dtype=float) for name in ("mass_g", "mass_cmr_g"))
    folds = fold_of(len(table), seed)
    covariates = table[_COVARIATES].to_numpy(dtype=float)
    return table.assign(
        **{
            PREDICTION: made,
            CALIBRATED: cross_fitted(made[:, None], truth, folds),
            DEMOGRAPHICS: cross_fitted(covariates, truth, folds),
        }
    )


def _compared(table: pd.DataFrame) -> list[dict[str, Any]]:
    predicted = {name: table[name].to_numpy(dtype=float) for name in (PREDICTION, CALIBRATED, DEMOGRAPHICS)}
    truth = table["mass_cmr_g"].to_numpy(dtype=float)
    partial = partial_correlation(predicted[PREDICTION], truth, table[_COVARIATES].to_numpy(dtype=float))
    rows: list[dict[str, Any]] = [{"measure": PARTIAL, "contrast": PREDICTION, "unit": "1"} | partial]
    for name, made in predicted.items():
        rows += _error_rows(name, made, truth)
    without = np.abs(predicted[DEMOGRAPHICS] - truth)
    for name in (PREDICTION, CALIBRATED):
        rows.append(_difference_row(name, np.abs(predicted[name] - truth) - without))
    return rows


def fold_of(n: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each of n people, 0 to N_FOLDS - 1, of sizes that differ by 1 at most."""
    return np.asarray(np.random.default_rng(seed).permutation(n) % N_FOLDS, dtype=np.int64)


def cross_fitted(x: Floats, y: Floats, folds: NDArray[np.int64]) -> Floats:
    """Return for each person what the least-squares line of y on x (n, p) of other folds gives."""
    design = np.column_stack([np.ones(len(y)), x])
    made = np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        made[held] = design[held] @ np.linalg.lstsq(design[~held], y[~held], rcond=None)[0]
    return made


def partial_correlation(x: Floats, y: Floats, given: Floats) -> dict[str, float]:
    """Return the correlation of what least squares on covariates leaves of two variables.

    `x` and `y` are (n,), the covariates `given` (n, q); an intercept is added. Return estimate, lo
    and hi (Fisher's z with variance 1/(n - q - 3)), and p (t on n - q - 2 degrees of freedom), NaN
    where a variable is a linear function of the covariates.

    Source:
        Fisher RA, Metron 1924;3:329-332. R: ppcor::pcor.test for estimate and p.
    """
    design = np.column_stack([np.ones(len(x)), given])
    rest_x, rest_y = (v - design @ np.linalg.lstsq(design, v, rcond=None)[0] for v in (x, y))
    n_left = len(x) - np.linalg.matrix_rank(design) + 1
    scale = np.sqrt((rest_x @ rest_x) * (rest_y @ rest_y))
    if n_left < 4 or scale <= 1e-12 * np.sqrt((x @ x) * (y @ y)):
        return dict.fromkeys(("estimate", "lo", "hi", "p"), np.nan)
    r = float(np.clip(rest_x @ rest_y / scale, -1, 1))
    if abs(r) == 1:
        return {"estimate": r, "lo": r, "hi": r, "p": 0.0}
    lo, hi = np.tanh(np.arctanh(r) + Z95 * np.array([-1, 1]) / np.sqrt(n_left - 3))
    statistic = r * np.sqrt((n_left - 2) / (1 - r**2))
    p = float(2 * stats.t.sf(abs(statistic), n_left - 2))
    return {"estimate": r, "lo": float(lo), "hi": float(hi), "p": p}


def _error_rows(name: str, made: Floats, truth: Floats) -> list[dict[str, Any]]:
    """Mean absolute error and correlation; rows without them where people are too few."""
    table = pd.DataFrame({"made": made, "truth": truth})
    try:
        found = agreement(table, predicted="made", reference="truth", unit="g").estimates
        known = {row["measure"]: {n: row[n] for n in _NUMBERS} for row in found.to_dict("records")}
    except TableRefused:
        known = {}
    return [
        {"measure": measure, "contrast": name, "unit": unit} | known.get(measure, {"warnings": _NOT_DEFINED})
        for measure, unit in (("mae", "g"), ("pearson", "1"))
    ]


def _difference_row(name: str, differences: Floats) -> dict[str, Any]:
    """The paired t interval and test of the mean difference of absolute errors."""
    row = {"measure": DIFFERENCE, "contrast": f"{name} against {DEMOGRAPHICS}", "unit": "g"}
    if len(differences) < _FEWEST_FOR_T:
        return row | {"warnings": _NOT_DEFINED}
    found = stats.ttest_1samp(differences, 0.0)
    lo, hi = found.confidence_interval(0.95)
    se, p = float(stats.sem(differences)), float(found.pvalue)
    return row | {"estimate": float(differences.mean()), "se": se, "lo": float(lo), "hi": float(hi), "p": p}


def body_size_tables(found: Masked) -> list[ReadTable]:
    """Return the tables of errors with and without ECG, of everybody and by group."""
    levels = levels_of(found, PREDICTION, PARTIAL)
    tables = [_of_everybody(found)] if ("", "") in levels else []
    groups = _by_group(found, [one for one in levels if one[0]])
    return [*tables, groups] if len(groups.cells) else tables


def _of_everybody(found: Masked) -> ReadTable:
    lines = []
    for name in (PREDICTION, CALIBRATED, DEMOGRAPHICS):
        difference = f"{name} against {DEMOGRAPHICS}"
        cells = [
            Cell("mae", name, 2),
            Cell(DIFFERENCE, difference, 2),
            Cell(DIFFERENCE, difference),
            Cell("pearson", name, 3),
        ]
        people, partial = cells_of(found, [Cell(PARTIAL, PREDICTION, 3)])
        own = partial if name == PREDICTION else NOT_APPLICABLE
        lines.append([sentence(name), people, *cells_of(found, cells)[1:], own])
    heads = [
        "Prediction of LV mass",
        "People",
        "Mean absolute error, g",
        "Difference to no ECG, g",
        "P",
        "Pearson's r",
        f"Partial r given {_ADJUSTED}",
    ]
    notes = (
        f"Without ECG: a linear model of the CMR mass on {_ADJUSTED}; the calibrated line is the "
        f"CMR mass on the prediction alone. Both are cross-fitted in {N_FOLDS} folds by person, so "
        "nobody's own CMR is used for them. They are fitted to this cohort and the prediction is "
        "not, hence the calibrated line, which meets the model without ECG on equal terms.",
        "The model is given age, sex and BMI besides the ECG: the partial correlation is what the "
        "prediction knows of the mass beyond them and height.",
    )
    table = pd.DataFrame(lines, columns=heads)
    return ReadTable("cmr_body_size", "What the ECG adds against CMR", table, 1, notes)


def _by_group(found: Masked, levels: Sequence[tuple[str, str]]) -> ReadTable:
    """A row per group: partial correlation, and errors of the calibrated line and without ECG."""
    difference = f"{CALIBRATED} against {DEMOGRAPHICS}"
    columns = {
        f"Partial r given {_ADJUSTED}": Cell(PARTIAL, PREDICTION, 3),
        "Mean absolute error, g": Cell("mae", PREDICTION, 2),
        "Of the calibrated line, g": Cell("mae", CALIBRATED, 2),
        "Without ECG, g": Cell("mae", DEMOGRAPHICS, 2),
        "Calibrated less without ECG, g": Cell(DIFFERENCE, difference, 2),
        "P": Cell(DIFFERENCE, difference),
    }
    lines = [[STRATA[strata], level, *cells_of(found, columns.values(), strata, level)] for strata, level in levels]
    notes = (
        "The lines are those of everybody, fitted to all groups together and judged in each. "
        "Within a sex the partial correlation is given the other three.",
    )
    cells = pd.DataFrame(lines, columns=["Group", "Level", "People", *columns])
    return ReadTable("cmr_body_size_groups", "What the ECG adds against CMR, by group", cells, 2, notes)
