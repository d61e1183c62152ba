"""Against CMR: agreement of predicted and measured LV mass and index, overall and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from analysis.agreement import MEASURES, PROPORTIONAL_BIAS_REMARK, agreement, deming_regression, passing_bablok
from analysis.columns import TableRefused
from analysis.report.aggregates import result
from analysis.report.document import ReadTable
from analysis.report.masking import NOT_APPLICABLE, Masked
from analysis.report.study_data import StudyData
from analysis.report.topic_cmr_pairs import STRATA, Group, level_order
from analysis.report.words import interval_text, p_text

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
