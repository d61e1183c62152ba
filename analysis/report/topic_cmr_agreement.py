"""Against CMR: agreement of predicted and measured LV mass and index, overall and by group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from analysis.agreement import (
    MEASURES,
    PROPORTIONAL_BIAS_REMARK,
    StructuralLine,
    agreement,
    deming_regression,
    passing_bablok,
)
from analysis.columns import TableRefused
from analysis.report.aggregates import result
from analysis.report.document import ReadTable
from analysis.report.masking import NOT_APPLICABLE, Masked
from analysis.report.study_data import StudyData
from analysis.report.topic_cmr_pairs import STRATA, level_order
from analysis.report.words import interval_text, p_text

MASS: Final = "LV mass"
INDEX: Final = "LV mass index"
UNITS: Final = {MASS: "g", INDEX: "g/m2"}
MOST_FOR_PASSING_BABLOK: Final = 20_000
"""Pairs above which Passing and Bablok's line takes more than a second or two."""

_COLUMNS: Final = {MASS: ("mass_g", "mass_cmr_g"), INDEX: ("index_g_m2", "index_cmr_g_m2")}
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
_STRUCTURAL: Final = {"deming": "Deming, variance ratio 1", "passing-bablok": "Passing and Bablok"}


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
    return (
        Quantity(MASS, mass, *_COLUMNS[MASS], UNITS[MASS]),
        Quantity(INDEX, index, *_COLUMNS[INDEX], UNITS[INDEX]),
    )


def strata_of(pairs: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield everybody under "", and for each classification those whose group is known."""
    yield "", pairs
    for name in STRATA:
        known = pairs[pairs[name].notna()]
        if len(known):
            yield name, known


def agreement_rows(data: StudyData, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the measures of agreement as results, overall and by group, and structural lines.

    Args:
        data: of the study.
        pairs: of `cmr_pairs`.
    """
    rows: list[dict[str, Any]] = []
    for one in quantities(data):
        for strata, known in strata_of(pairs):
            rows += _agreement(one, known, strata)
        rows += _structural(one, pairs)
    return rows


def _agreement(one: Quantity, known: pd.DataFrame, strata: str) -> list[dict[str, Any]]:
    by = [strata] if strata else []
    table = known[[one.predicted, one.measured, *by]].dropna()
    try:
        found = agreement(
            table, predicted=one.predicted, reference=one.measured, by=by, unit=one.unit
        )
    except TableRefused:
        return []
    return [
        result(
            "cmr", row["measure"], exposure=one.exposure, contrast=one.words, unit=row["unit"],
            strata=strata, level=row[strata] if strata else "", n_people=int(row["n"]),
            n_ecgs=int(row["n"]), estimate=row["estimate"], se=row["se"], lo=row["lo"],
            hi=row["hi"], p=row["p"], warnings=_NOT_DEFINED if pd.isna(row["estimate"]) else "",
        )
        for row in found.estimates.to_dict("records") if row["measure"] in MEASURES
    ]  # fmt: skip


def _structural(one: Quantity, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    table = pairs[[one.predicted, one.measured]].dropna()
    x, y = one.predicted, one.measured
    try:
        lines = [deming_regression(table, x=x, y=y, variance_ratio=1.0)]
        if len(table) <= MOST_FOR_PASSING_BABLOK:
            lines.append(passing_bablok(table, x=x, y=y))
    except TableRefused:
        return []
    return [row for line in lines for row in _line_rows(one, line)]


def _line_rows(one: Quantity, line: StructuralLine) -> list[dict[str, Any]]:
    return [
        result(
            "cmr", f"{line.method} {row['term']}", exposure=one.exposure, contrast=one.words,
            unit=one.unit if row["term"] == "intercept" else "1", n_people=line.n, n_ecgs=line.n,
            estimate=row["estimate"], se=row["se"], lo=row["lo"], hi=row["hi"],
            se_type="jackknife" if line.method == "deming" else "",
            warnings="not for recalibration",
        )
        for row in line.estimates.to_dict("records")
    ]  # fmt: skip


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
    own = rows[(rows["measure"] == measure) & (rows["contrast"] == contrast)
               & (rows["strata"] == strata) & (rows["level"] == level)]  # fmt: skip
    if not len(own):
        return None
    place = own.index[0]
    told = {"hidden_estimate": bool(found.hidden.loc[place, "estimate"]),
            "hidden_p": bool(found.hidden.loc[place, "p"])}  # fmt: skip
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
            ReadTable(f"cmr_errors_{key}", f"Errors of the predicted {words}, {UNITS[words]}",
                      _cells(found, words, _ERRORS), 2, _ERROR_NOTES),
            ReadTable(f"cmr_correlation_{key}",
                      f"Correlation and calibration of the predicted {words}",
                      _cells(found, words, _LINES), 2, _CALIBRATION_NOTES),
        ]  # fmt: skip
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
            [STRATA.get(strata, "Everybody"), level, first["people"],
             *(estimate_cell(rows[name], digits) for name, (_, digits) in wanted.items())]
        )  # fmt: skip
    return pd.DataFrame(
        lines, columns=["Group", "Level", "People", *(head for head, _ in wanted.values())]
    )


def _structural_table(found: Masked) -> list[ReadTable]:
    lines = []
    for words, unit in UNITS.items():
        for method, name in _STRUCTURAL.items():
            slope = estimate_of(found, f"{method} slope", words)
            if slope is not None:
                intercept = estimate_of(found, f"{method} intercept", words)
                lines.append([f"{words}, {unit}", name, slope["people"],
                              estimate_cell(intercept, 1), estimate_cell(slope, 3)])  # fmt: skip
    if not lines:
        return []
    cells = pd.DataFrame(lines, columns=["Quantity", "Method", "People", "Intercept", "Slope"])
    notes = (
        "CMR against prediction, as if both were measurements with error; Deming's variance ratio "
        "of 1 is an assumption. Neither line is used to recalibrate.",
        "Passing and Bablok's line is computed up to "
        f"{MOST_FOR_PASSING_BABLOK:,} pairs; above, it takes too long and is left out.",
    )
    return [ReadTable("cmr_lines", "Structural lines between prediction and CMR", cells, 2, notes)]
