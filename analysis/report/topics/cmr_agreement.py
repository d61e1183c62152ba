"""Against CMR: agreement of predicted and measured LV mass and index, overall and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.disclosure.aggregates import result
from analysis.disclosure.masking import NOT_APPLICABLE, Masked
from analysis.report.document import ReadTable
from analysis.report.topics.cmr_pairs import IMAGED, STRATA, Group, level_order
from analysis.report.words import interval_text, p_text
from analysis.statistics.agreement import deming_regression, passing_bablok
from analysis.statistics.agreement.bland_altman import MEASURES, PROPORTIONAL_BIAS_REMARK, agreement
from analysis.statistics.columns import TableRefused
from analysis.statistics.limits import Z95
from analysis.study.data import StudyData

MASS: Final = "LV mass"
INDEX: Final = "LV mass index"
UNITS: Final = {MASS: "g", INDEX: "g/m2"}
MOST_FOR_PASSING_BABLOK: Final = 20_000
"""Pairs above which Passing and Bablok's line takes more than a second or two."""

_COLUMNS: Final = {MASS: ("mass_g", "mass_cmr_g"), INDEX: ("index_g_m2", "index_cmr_g_m2")}
NOT_DEFINED: Final = "not estimated: too few people, or a column is constant"
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


@dataclass(frozen=True, slots=True)
class Quantity:
    """What is compared: mass or index.

    Attributes:
        words: "LV mass" or "LV mass index".
        exposure: column of the predictions, for the results.
        predicted: column of the pairs.
        measured: column of the pairs.
        unit: of both.
    """

    words: str
    exposure: str
    predicted: str
    measured: str
    unit: str


def quantities(data: StudyData) -> tuple[Quantity, Quantity]:
    """Return mass and index, with the study's columns of predictions."""
    mass, index = data.study.mass_column, data.study.index_column
    return (Quantity(MASS, mass, *_COLUMNS[MASS], UNITS[MASS]), Quantity(INDEX, index, *_COLUMNS[INDEX], UNITS[INDEX]))


def agreement_rows(data: StudyData, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the measures of agreement and structural lines as results, overall and by group.

    Args:
        data: of the study.
        groups: of `groups_of`.
    """
    rows: list[dict[str, Any]] = []
    for one in quantities(data):
        for group in groups:
            rows += _agreement(one, group)
        for group in groups:
            for level, people in group.levels():
                rows += _structural(one, people, group.strata, level)
    return rows


def _agreement(one: Quantity, group: Group) -> list[dict[str, Any]]:
    by = [group.strata] if group.strata else []
    table = group.people[[one.predicted, one.measured, *by]].dropna()
    try:
        found = agreement(table, predicted=one.predicted, reference=one.measured, by=by, unit=one.unit)
    except TableRefused:
        return []
    return [
        result(
            "cmr",
            row["measure"],
            exposure=one.exposure,
            contrast=one.words,
            unit=row["unit"],
            strata=group.strata,
            level=row[group.strata] if by else "",
            n_people=int(row["n"]),
            n_ecgs=int(row["n"]),
            estimate=row["estimate"],
            se=row["se"],
            lo=row["lo"],
            hi=row["hi"],
            p=row["p"],
            warnings=NOT_DEFINED if pd.isna(row["estimate"]) else "",
            precision="mean" if row["measure"] in _MEANS else "",
        )
        for row in found.estimates.to_dict("records")
        if row["measure"] in MEASURES
    ]


def _structural(one: Quantity, people: pd.DataFrame, strata: str, level: str) -> list[dict[str, Any]]:
    """Lines of one group; a group that is too small for them has rows without an estimate.

    Else the group that lacks a row, among others that have one, would be known to be small.
    """
    table = people[[one.predicted, one.measured]].dropna()
    x, y, n = one.predicted, one.measured, len(table)
    known = {
        "exposure": one.exposure,
        "contrast": one.words,
        "strata": strata,
        "level": level,
        "n_people": n,
        "n_ecgs": n,
    }
    rows = []
    for method in _STRUCTURAL:
        if method == "passing-bablok" and n > MOST_FOR_PASSING_BABLOK:
            continue
        found = _line(method, table, x, y)
        for term, unit in (("intercept", one.unit), ("slope", "1")):
            own = found.get(term, {"warnings": NOT_DEFINED})
            rows.append(result("cmr", f"{method} {term}", unit=unit, **known, **own))
    return rows


def _line(method: str, table: pd.DataFrame, x: str, y: str) -> dict[str, dict[str, Any]]:
    """What the results say of intercept and slope; {} where there is no line."""
    try:
        if method == "passing-bablok":
            line, se_type = passing_bablok(table, x=x, y=y), ""
        else:
            line, se_type = deming_regression(table, x=x, y=y, variance_ratio=1.0), "jackknife"
    except TableRefused:
        return {}
    return {
        row["term"]: {
            "estimate": row["estimate"],
            "se": row["se"],
            "lo": row["lo"],
            "hi": row["hi"],
            "se_type": se_type,
            "warnings": "not for recalibration",
        }
        for row in line.estimates.to_dict("records")
    }


def estimate_of(
    found: Masked, measure: str, contrast: str = "", strata: str = "", level: str = ""
) -> Mapping[str, Any] | None:
    """Return one row of masked results with `hidden_estimate`, `hidden_p` and `people`, or None.

    Args:
        found: masked results.
        measure: of the row.
        contrast: of the row.
        strata: of the row; empty for everybody.
        level: of `strata`.
    """
    rows = found.rows
    own = rows[
        (rows["measure"] == measure)
        & (rows["contrast"] == contrast)
        & (rows["strata"] == strata)
        & (rows["level"] == level)
    ]
    if not len(own):
        return None
    place = own.index[0]
    told = {
        "hidden_estimate": bool(found.hidden.loc[place, "estimate"]),
        "hidden_p": bool(found.hidden.loc[place, "p"]),
    }
    values = {str(name): value for name, value in own.iloc[0].items()}
    return values | told | {"people": found.shown("n_people").loc[place]}


def estimate_cell(row: Mapping[str, Any] | None, digits: int) -> str:
    """Return an estimate with its limits as text; a dash where there is none."""
    if row is None:
        return NOT_APPLICABLE
    return interval_text(row, digits, hidden=row["hidden_estimate"])


def p_cell(row: Mapping[str, Any] | None) -> str:
    """Return a P value as text; a dash where there is none."""
    if row is None:
        return NOT_APPLICABLE
    return "*" if row["hidden_p"] else p_text(row["p"])


def levels_of(found: Masked, contrast: str, measure: str) -> list[tuple[str, str]]:
    """Return the strata and levels that a measure has, everybody first."""
    rows = found.rows
    own = rows[(rows["measure"] == measure) & (rows["contrast"] == contrast)]
    found_levels = dict.fromkeys(zip(own["strata"], own["level"], strict=True))
    return sorted(found_levels, key=lambda one: level_order(*one))


def agreement_tables(found: Masked) -> list[ReadTable]:
    """Return errors, and correlations with calibration, of mass and of index; lines last."""
    tables = []
    for words, key in ((MASS, "mass"), (INDEX, "index")):
        if not levels_of(found, words, "bias"):
            continue
        tables += [
            ReadTable(
                f"cmr_errors_{key}",
                f"Errors of the predicted {words}, {UNITS[words]}",
                _cells(found, words, _ERRORS),
                2,
                _ERROR_NOTES,
            ),
            ReadTable(
                f"cmr_correlation_{key}",
                f"Correlation and calibration of the predicted {words}",
                _cells(found, words, _LINES),
                2,
                _CALIBRATION_NOTES,
            ),
        ]
    return [*tables, *_structural_table(found)]


_ERROR_NOTES: Final = (
    "Difference = predicted - CMR, one pair a person. Limits of agreement are those of 95 % of the "
    "differences (bias -+ 1.96 SD); brackets hold 95 % intervals.",
)
_CALIBRATION_NOTES: Final = (
    "Calibration is the regression of CMR on the prediction: intercept 0 and slope 1 are ideal. "
    "The intercept is in the unit of the quantity.",
    f"{PROPORTIONAL_BIAS_REMARK.replace('_', ' ')}.",
)


def _cells(found: Masked, words: str, wanted: Mapping[str, tuple[str, int]]) -> pd.DataFrame:
    lines = []
    for strata, level in levels_of(found, words, "bias"):
        rows = {name: estimate_of(found, name, words, strata, level) for name in wanted}
        first = next(row for row in rows.values() if row is not None)
        lines.append(
            [
                STRATA.get(strata, "Everybody"),
                level,
                first["people"],
                *(estimate_cell(rows[name], digits) for name, (_, digits) in wanted.items()),
            ]
        )
    return pd.DataFrame(lines, columns=["Group", "Level", "People", *(head for head, _ in wanted.values())])


def _structural_table(found: Masked) -> list[ReadTable]:
    """A row a quantity and group; intercept and slope of each method."""
    lines = []
    for words, unit in UNITS.items():
        for strata, level in levels_of(found, words, "deming slope"):
            rows = {
                (method, term): estimate_of(found, f"{method} {term}", words, strata, level)
                for method in _STRUCTURAL
                for term in ("intercept", "slope")
            }
            slope = rows["deming", "slope"]
            assert slope is not None
            lines.append(
                [
                    f"{words}, {unit}",
                    STRATA.get(strata, "Everybody"),
                    level,
                    slope["people"],
                    *(estimate_cell(row, 1 if term == "intercept" else 3) for (_, term), row in rows.items()),
                ]
            )
    if not lines:
        return []
    terms = [f"{name}: {term}" for name in _STRUCTURAL.values() for term in ("intercept", "slope")]
    cells = pd.DataFrame(lines, columns=["Quantity", "Group", "Level", "People", *terms])
    notes = (
        "CMR against prediction, as if both were measurements with error; Deming's variance ratio "
        "of 1 is an assumption. Neither line is used to recalibrate.",
        "Passing and Bablok's line is computed up to "
        f"{MOST_FOR_PASSING_BABLOK:,} pairs; above, it takes too long and is left out.",
    )
    return [ReadTable("cmr_lines", "Structural lines between prediction and CMR", cells, 3, notes)]


PARTIAL: Final = "partial correlation"
DIFFERENCE: Final = "difference in mean absolute error"
PREDICTION: Final = "predicted LV mass"
CALIBRATED: Final = "predicted LV mass, calibrated line"
DEMOGRAPHICS: Final = "age, sex, BMI and height without ECG"
N_FOLDS: Final = 10
FEWEST_PEOPLE: Final = 50
"""People below which no linear model is cross-fitted."""

_ADJUSTED: Final = "age, sex, BMI, height"
_COVARIATES: Final = ("male", "age_years", "bmi_kg_m2", "height_cm")
_FEWEST_FOR_T: Final = 3

Floats = NDArray[np.float64]


def body_size_rows(data: StudyData, groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Return the partial correlation and the errors with and without ECG as results, by group.

    The lines are cross-fitted to everybody, and judged in each group; for people by their first
    CMR, who are others, they are fitted to these.

    Args:
        data: of the study; its seed makes the folds.
        groups: of `groups_of`; people without one of the covariates are left out.
    """
    rows: list[dict[str, Any]] = []
    fitted = _fitted(groups[0].people, data.study.seed)
    for group in groups:
        own = fitted
        if group.strata == IMAGED:
            own = _fitted(group.people, data.study.seed)
        if not len(own):
            continue
        for level, people in group.levels():
            part = own.loc[own.index.intersection(people.index)]
            told = {
                "exposure": data.study.mass_column,
                "adjustment": _ADJUSTED,
                "strata": group.strata,
                "level": level,
                "n_people": len(part),
                "n_ecgs": len(part),
            }
            if not group.strata:
                told["n_dropped_missing"] = len(people) - len(part)
            rows += _rows_of(part, told)
    return rows


def _fitted(pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Prediction, truth, covariates and cross-fitted lines of who has them all, by pair."""
    names = ["mass_g", "mass_cmr_g", "age_years", "bmi_kg_m2", "height_cm", "sex"]
    table = pairs[["participant_id", *names]].dropna().sort_values("participant_id")
    if len(table) < FEWEST_PEOPLE:
        return table[:0]
    table = table.assign(male=(table["sex"] == "male").astype(float))
    made, truth = (table[name].to_numpy(dtype=float) for name in ("mass_g", "mass_cmr_g"))
    folds = fold_of(len(table), seed)
    covariates = table[list(_COVARIATES)].to_numpy(dtype=float)
    return table.assign(
        **{
            PREDICTION: made,
            CALIBRATED: cross_fitted(made[:, None], truth, folds),
            DEMOGRAPHICS: cross_fitted(covariates, truth, folds),
        }
    )


def _rows_of(table: pd.DataFrame, told: dict[str, Any]) -> list[dict[str, Any]]:
    truth = table["mass_cmr_g"].to_numpy(dtype=float)
    rows = [_partial_row(table, told)]
    for name in (PREDICTION, CALIBRATED, DEMOGRAPHICS):
        rows += _error_rows(name, table[name].to_numpy(dtype=float), truth, told)
    without = np.abs(table[DEMOGRAPHICS].to_numpy(dtype=float) - truth)
    for name in (PREDICTION, CALIBRATED):
        off = np.abs(table[name].to_numpy(dtype=float) - truth)
        rows.append(_difference_row(name, off - without, told))
    return rows


def fold_of(n: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each of n people, 0 to N_FOLDS - 1, of sizes that differ by 1 at most."""
    return np.asarray(np.random.default_rng(seed).permutation(n) % N_FOLDS, dtype=np.int64)


def cross_fitted(x: Floats, y: Floats, folds: NDArray[np.int64]) -> Floats:
    """Return for each person what the least-squares line of all other folds predicts.

    Args:
        x: (n, p) predictors; an intercept is added.
        y: (n,) outcome.
        folds: (n,) fold of each person.
    """
    design = np.column_stack([np.ones(len(y)), x])
    made = np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        made[held] = design[held] @ np.linalg.lstsq(design[~held], y[~held], rcond=None)[0]
    return made


def partial_correlation(x: Floats, y: Floats, given: Floats) -> dict[str, float]:
    """Return the correlation of what least squares on covariates leaves of two variables.

    Args:
        x: (n,) variable.
        y: (n,) variable.
        given: (n, q) covariates; an intercept is added.

    Returns:
        estimate, lo and hi (Fisher's z with variance 1/(n - q - 3)), and p (t on n - q - 2 degrees
        of freedom). NaN where a variable is a linear function of the covariates.

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


def _partial_row(table: pd.DataFrame, told: dict[str, Any]) -> dict[str, Any]:
    made, truth = (table[name].to_numpy(dtype=float) for name in ("mass_g", "mass_cmr_g"))
    found = partial_correlation(made, truth, table[list(_COVARIATES)].to_numpy(dtype=float))
    return result("cmr", PARTIAL, contrast=PREDICTION, unit="1", **found, **told)


def _error_rows(name: str, made: Floats, truth: Floats, told: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean absolute error and correlation; rows without them where people are too few."""
    table = pd.DataFrame({"made": made, "truth": truth})
    try:
        found = agreement(table, predicted="made", reference="truth", unit="g").estimates
    except TableRefused:
        found = pd.DataFrame()
    known = {row["measure"]: row for row in found.to_dict("records")}
    rows = []
    for measure, unit in (("mae", "g"), ("pearson", "1")):
        row = known.get(measure)
        numbers = (
            {"warnings": NOT_DEFINED} if row is None else {key: row[key] for key in ("estimate", "se", "lo", "hi")}
        )
        rows.append(result("cmr", measure, contrast=name, unit=unit, **numbers, **told))
    return rows


def _difference_row(name: str, differences: Floats, told: dict[str, Any]) -> dict[str, Any]:
    """The paired t interval and test of the mean difference of absolute errors."""
    known = {"contrast": f"{name} against {DEMOGRAPHICS}", "unit": "g", **told}
    if len(differences) < _FEWEST_FOR_T:
        return result("cmr", DIFFERENCE, **known, warnings=NOT_DEFINED)
    found = stats.ttest_1samp(differences, 0.0)
    lo, hi = found.confidence_interval(0.95)
    return result(
        "cmr",
        DIFFERENCE,
        **known,
        estimate=float(differences.mean()),
        se=float(stats.sem(differences)),
        lo=float(lo),
        hi=float(hi),
        p=float(found.pvalue),
    )


def body_size_tables(found: Masked) -> list[ReadTable]:
    """Return the tables of errors with and without ECG, of everybody and by group."""
    if estimate_of(found, PARTIAL, PREDICTION) is None:
        return []
    return [_of_everybody(found), *_by_group(found)]


def _of_everybody(found: Masked) -> ReadTable:
    partial = estimate_of(found, PARTIAL, PREDICTION)
    assert partial is not None
    lines = []
    for name in (PREDICTION, CALIBRATED, DEMOGRAPHICS):
        difference = estimate_of(found, DIFFERENCE, f"{name} against {DEMOGRAPHICS}")
        lines.append(
            [
                name[0].upper() + name[1:],
                partial["people"],
                estimate_cell(estimate_of(found, "mae", name), 2),
                estimate_cell(difference, 2),
                p_cell(difference),
                estimate_cell(estimate_of(found, "pearson", name), 3),
                estimate_cell(partial if name == PREDICTION else None, 3),
            ]
        )
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
    cells = pd.DataFrame(lines, columns=heads)
    return ReadTable("cmr_body_size", "What the ECG adds against CMR", cells, 1, notes)


def _by_group(found: Masked) -> list[ReadTable]:
    """A row a group: partial correlation, and errors of the calibrated line and without ECG."""
    lines = []
    for strata, level in levels_of(found, PREDICTION, PARTIAL):
        if strata:
            where = (strata, level)
            partial = estimate_of(found, PARTIAL, PREDICTION, *where)
            difference = estimate_of(found, DIFFERENCE, f"{CALIBRATED} against {DEMOGRAPHICS}", *where)
            assert partial is not None
            lines.append(
                [
                    STRATA[strata],
                    level,
                    partial["people"],
                    estimate_cell(partial, 3),
                    *(
                        estimate_cell(estimate_of(found, "mae", name, *where), 2)
                        for name in (PREDICTION, CALIBRATED, DEMOGRAPHICS)
                    ),
                    estimate_cell(difference, 2),
                    p_cell(difference),
                ]
            )
    if not lines:
        return []
    heads = [
        "Group",
        "Level",
        "People",
        f"Partial r given {_ADJUSTED}",
        "Mean absolute error, g",
        "Of the calibrated line, g",
        "Without ECG, g",
        "Calibrated less without ECG, g",
        "P",
    ]
    notes = (
        "The lines are those of everybody, fitted to all groups together and judged in each. "
        "Within a sex the partial correlation is given the other three.",
    )
    return [
        ReadTable(
            "cmr_body_size_groups",
            "What the ECG adds against CMR, by group",
            pd.DataFrame(lines, columns=heads),
            2,
            notes,
        )
    ]
