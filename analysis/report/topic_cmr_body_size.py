"""Against CMR: what the ECG knows of the mass beyond age, sex, BMI and height."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.agreement import agreement
from analysis.columns import TableRefused
from analysis.limits import Z95
from analysis.report.aggregates import result
from analysis.report.document import ReadTable
from analysis.report.masking import Masked
from analysis.report.study_data import StudyData
from analysis.report.topic_cmr_agreement import NOT_DEFINED, estimate_cell, estimate_of, levels_of, p_cell
from analysis.report.topic_cmr_pairs import IMAGED, STRATA, Group

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
