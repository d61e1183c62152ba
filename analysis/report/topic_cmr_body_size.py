"""Against CMR: what the ECG knows of the mass beyond age, sex, BMI and height."""

from __future__ import annotations

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
from analysis.report.topic_cmr_agreement import estimate_cell, estimate_of, p_cell

PARTIAL: Final = "partial correlation"
DIFFERENCE: Final = "difference in mean absolute error"
PREDICTION: Final = "predicted LV mass"
CALIBRATED: Final = "predicted LV mass, calibrated line"
DEMOGRAPHICS: Final = "age, sex, BMI and height without ECG"
N_FOLDS: Final = 10
FEWEST_PEOPLE: Final = 50
"""People below which no linear model is cross-fitted."""

_ADJUSTED: Final = "age, sex, BMI, height"

Floats = NDArray[np.float64]


def body_size_rows(data: StudyData, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the partial correlation and the errors with and without ECG as results.

    Args:
        data: of the study; its seed makes the folds.
        pairs: of `cmr_pairs`; people without one of the covariates are left out and counted.
    """
    names = ["mass_g", "mass_cmr_g", "age_years", "bmi_kg_m2", "height_cm", "sex"]
    whole = pairs[["participant_id", *names]]
    table = whole.dropna().sort_values("participant_id")
    if len(table) < FEWEST_PEOPLE:
        return []
    male = (table["sex"] == "male").to_numpy(dtype=float)
    numbers = table[["age_years", "bmi_kg_m2", "height_cm"]].to_numpy(dtype=float)
    covariates = np.column_stack([male, numbers])
    made = table["mass_g"].to_numpy(dtype=float)
    truth = table["mass_cmr_g"].to_numpy(dtype=float)
    told: dict[str, Any] = {
        "exposure": data.study.mass_column, "adjustment": _ADJUSTED, "n_people": len(table),
        "n_ecgs": len(table), "n_dropped_missing": len(whole) - len(table),
    }  # fmt: skip
    folds = fold_of(len(table), data.study.seed)
    predictors = {
        PREDICTION: made,
        CALIBRATED: cross_fitted(made[:, None], truth, folds),
        DEMOGRAPHICS: cross_fitted(covariates, truth, folds),
    }
    rows = [_partial_row(made, truth, covariates, told)]
    rows += [row for name, own in predictors.items() for row in _error_rows(name, own, truth, told)]
    without = np.abs(predictors[DEMOGRAPHICS] - truth)
    rows += [
        _difference_row(name, np.abs(predictors[name] - truth) - without, told)
        for name in (PREDICTION, CALIBRATED)
    ]
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


def _partial_row(
    made: Floats, truth: Floats, covariates: Floats, told: dict[str, Any]
) -> dict[str, Any]:
    found = partial_correlation(made, truth, covariates)
    return result("cmr", PARTIAL, contrast=PREDICTION, unit="1", **found, **told)


def _error_rows(
    name: str, made: Floats, truth: Floats, told: dict[str, Any]
) -> list[dict[str, Any]]:
    table = pd.DataFrame({"made": made, "truth": truth})
    try:
        found = agreement(table, predicted="made", reference="truth", unit="g").estimates
    except TableRefused:
        return []
    return [
        result("cmr", row["measure"], contrast=name, unit=row["unit"], estimate=row["estimate"],
               se=row["se"], lo=row["lo"], hi=row["hi"], **told)
        for row in found.to_dict("records") if row["measure"] in ("mae", "pearson")
    ]  # fmt: skip


def _difference_row(name: str, differences: Floats, told: dict[str, Any]) -> dict[str, Any]:
    """The paired t interval and test of the mean difference of absolute errors."""
    found = stats.ttest_1samp(differences, 0.0)
    lo, hi = found.confidence_interval(0.95)
    return result(
        "cmr", DIFFERENCE, contrast=f"{name} against {DEMOGRAPHICS}", unit="g",
        estimate=float(differences.mean()), se=float(stats.sem(differences)), lo=float(lo),
        hi=float(hi), p=float(found.pvalue), **told,
    )  # fmt: skip


def body_size_tables(found: Masked) -> list[ReadTable]:
    """Return the table of errors with and without ECG, if there are such results."""
    partial = estimate_of(found, PARTIAL, PREDICTION)
    if partial is None:
        return []
    lines = []
    for name in (PREDICTION, CALIBRATED, DEMOGRAPHICS):
        difference = estimate_of(found, DIFFERENCE, f"{name} against {DEMOGRAPHICS}")
        lines.append(
            [name[0].upper() + name[1:], partial["people"],
             estimate_cell(estimate_of(found, "mae", name), 2),
             estimate_cell(difference, 2), p_cell(difference),
             estimate_cell(estimate_of(found, "pearson", name), 3),
             estimate_cell(partial if name == PREDICTION else None, 3)]
        )  # fmt: skip
    heads = ["Prediction of LV mass", "People", "Mean absolute error, g",
             "Difference to no ECG, g", "P", "Pearson's r",
             f"Partial r given {_ADJUSTED}"]  # fmt: skip
    notes = (
        f"Without ECG: a linear model of the CMR mass on {_ADJUSTED}; the calibrated line is the "
        f"CMR mass on the prediction alone. Both are cross-fitted in {N_FOLDS} folds by person, so "
        "nobody's own CMR is used for them. They are fitted to this cohort and the prediction is "
        "not, hence the calibrated line, which meets the model without ECG on equal terms.",
        "The model is given age, sex and BMI besides the ECG: the partial correlation is what the "
        "prediction knows of the mass beyond them and height.",
    )
    cells = pd.DataFrame(lines, columns=heads)
    return [ReadTable("cmr_body_size", "What the ECG adds against CMR", cells, 1, notes)]
