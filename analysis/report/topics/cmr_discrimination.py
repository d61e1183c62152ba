"""Against CMR: c-statistics of yes/no markers, AUROCs, and paired tests, overall and by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import result
from analysis.disclosure.masking import MaskingRule
from analysis.report.topics.cmr_lvh import (
    ALL_PAIRS,
    ALL_THREE,
    CELLS,
    LABEL,
    PREDICTED,
    RAW_INDEX,
    RELATIVE_CORNELL,
    RELATIVE_INDEX,
    SCORE,
    YES_NO,
    labelled,
    two_by_two,
)
from analysis.report.topics.cmr_pairs import ANY_RULE, Group
from analysis.statistics.accuracy import mcnemar_test
from analysis.statistics.accuracy.diagnostic import Within
from analysis.statistics.accuracy.roc import auroc, binary_c_statistic, compare_auroc, compare_binary_c_statistic
from analysis.statistics.columns import TableRefused
from analysis.study.data import StudyData

C: Final = "binary c-statistic"
C_DIFFERENCE: Final = "difference in binary c-statistic"
AUROC: Final = "AUROC"
AUROC_DIFFERENCE: Final = "difference in AUROC"
SENSITIVITY_TEST: Final = "McNemar's test of sensitivity"
SPECIFICITY_TEST: Final = "McNemar's test of specificity"
AGAINST_RULES: Final = f"{YES_NO[PREDICTED]} against any ECG rule"
AGAINST_CORNELL: Final = f"{RELATIVE_INDEX} against {RELATIVE_CORNELL}"

FROM_ROUNDED: Final = "computed from rounded counts"

ONE_CLASS: Final = "not estimated: all have LVH by CMR, or nobody"
# What is a function of counts alone is rounded more, so that it tells no more than they do.
_DECIMALS: Final = 3
_RULED: Final = [PREDICTED, ANY_RULE]
_CONTINUOUS: Final = ["relative_index", "relative_cornell"]
_LIMITS: Final = {"estimate": "c", "se": "se", "lo": "c_lo", "hi": "c_hi"}
_DIFFERENCE: Final = {"estimate": "difference", "se": "se", "lo": "difference_lo", "hi": "difference_hi"}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A row of the results, and what stands in its place where counts are rounded.

    What follows from counts alone would tell more than the rounded counts beside it. Only people
    of one population have it of exact counts: a few people in whom two populations differ, as
    those without rules or of unknown group, could be found by subtracting.

    Attributes:
        row: exact, of `aggregates.result`.
        shown: columns of it as they may leave.
    """

    row: dict[str, Any]
    shown: dict[str, Any] = field(default_factory=dict)


def on_all_three(strata: str) -> str:
    """Return what the results call a classification of the people with all three ECG rules."""
    return f"{strata}, {ALL_THREE}" if strata else ALL_THREE


def discrimination(data: StudyData, groups: Sequence[Group]) -> list[Estimate]:
    """Return binary c-statistics, AUROCs and the paired tests.

    Args:
        data: of the study.
        groups: of `groups_of`.
    """
    column, rounding = data.study.lvh_column, MaskingRule(0, data.study.masking.base)
    has_rules = bool(groups[0].people["all_three"].any())
    made: list[Estimate] = []
    for group in groups:
        exact = not group.strata and not has_rules
        known = labelled(group.people, PREDICTED)
        made += _c_rows(group, known, PREDICTED, column, ALL_PAIRS, None if exact else rounding)
        complete, own = group.people[group.people["all_three"]], rounding if group.strata else None
        for marker in YES_NO:
            exposure = column if marker == PREDICTED else marker
            made += _c_rows(group, complete, marker, exposure, ALL_THREE, own)
        made += _paired_rows(group, complete, column, own)
    return made + _auroc_rows(data, groups)


def _fewest(*counts: int) -> int:
    """The smallest count that is not 0; 0 where all are."""
    return min((one for one in counts if one > 0), default=0)


def _c_rows(
    group: Group, known: pd.DataFrame, marker: str, exposure: str, population: str, rounding: MaskingRule | None
) -> list[Estimate]:
    """Binary c-statistics of a marker; with `rounding` those of the rounded counts are shown.

    People with LVH of each group are told in `lvh_counts` alone, where they are masked together.
    """
    made = []
    for level, own in group.levels(known):
        if not len(own):
            continue
        counts = two_by_two(own, marker)
        told: dict[str, Any] = {
            "exposure": exposure,
            "contrast": YES_NO[marker],
            "level": level,
            "strata": on_all_three(group.strata) if population == ALL_THREE else group.strata,
            "n_people": len(own),
            "n_ecgs": len(own),
            "n_events": None if group.strata else counts["n_lvh"],
            "n_events_fewest": _fewest(*(counts[name] for name in CELLS)),
            "se_type": "DeLong",
            "unit": "1",
        }
        exact = _c_of(own, marker)
        shown = exact
        if rounding is not None and rounding.on:
            shown = _c_of(_people_of([counts[name] for name in CELLS], [marker], rounding), marker)
            shown |= _told_rounded(rounding)
        made.append(Estimate(result("cmr", C, **told, **exact), _coarse(shown)))
    return made


def _people_of(numbers: Sequence[int], markers: Sequence[str], rounding: MaskingRule) -> pd.DataFrame:
    """Label and markers of as many people as rounded counts have.

    Args:
        numbers: of people with LVH by CMR, and then of those without, by every combination of the
            markers: both, the first alone, the second alone, neither.
        markers: one or two.
        rounding: of the counts.
    """
    rounded = rounding.rounded(pd.Series(numbers)).to_numpy(dtype=int)
    found = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)] if len(markers) > 1 else [(1.0,), (0.0,)]
    kinds = [(one, *both) for one in (1.0, 0.0) for both in found]
    return pd.DataFrame(np.repeat(kinds, rounded, axis=0), columns=[LABEL, *markers])


def _c_of(own: pd.DataFrame, marker: str) -> dict[str, Any]:
    try:
        found = binary_c_statistic(own, label=LABEL, marker=marker).estimates.iloc[0]
    except TableRefused:
        return {"warnings": ONE_CLASS}
    return {name: float(found[its]) for name, its in _LIMITS.items()}


def _coarse(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, _DECIMALS) if isinstance(value, float) and name != "p" else value
        for name, value in values.items()
    }


def _paired_rows(group: Group, complete: pd.DataFrame, column: str, rounding: MaskingRule | None) -> list[Estimate]:
    """DeLong's paired test, and McNemar's tests, of the prediction against any ECG rule.

    A paired error or P value tells how many people only one marker finds, and so, with the counts
    of each marker, how many both or neither find: a few people in any of these hide them.
    """
    made = []
    for level, own in group.levels(complete):
        if not len(own):
            continue
        cells = [_combinations(own[own[LABEL] == lvh]) for lvh in (1, 0)]
        told: dict[str, Any] = {
            "exposure": column,
            "contrast": AGAINST_RULES,
            "strata": on_all_three(group.strata),
            "level": level,
            "unit": "1",
            "n_people": len(own),
            "n_ecgs": len(own),
            "n_events": None if group.strata else sum(cells[0]),
        }
        coarse = own
        if rounding is not None and rounding.on:
            coarse = _people_of([*cells[0], *cells[1]], _RULED, rounding)
        in_lvh, in_others = (_fewest(*numbers) for numbers in cells)
        exact, shown = _c_difference(own), _coarse(_c_difference(coarse))
        row = result(
            "cmr", C_DIFFERENCE, **told, **exact, se_type="DeLong, paired", n_events_fewest=_fewest(in_lvh, in_others)
        )
        made.append(Estimate(row, shown | _told_rounded(rounding)))
        within: tuple[tuple[str, Within, int], ...] = (
            (SENSITIVITY_TEST, "positive", in_lvh),
            (SPECIFICITY_TEST, "negative", in_others),
        )
        for measure, whom, fewest in within:
            exact, shown = _mcnemar(own, whom), _mcnemar(coarse, whom)
            if "p" in shown:
                shown["p"] = round(shown["p"], _DECIMALS + 1)
            row = result("cmr", measure, **told, **exact, se_type="exact", n_events_fewest=fewest)
            made.append(Estimate(row, shown | _told_rounded(rounding)))
    return made


def _told_rounded(rounding: MaskingRule | None) -> dict[str, str]:
    is_rounded = rounding is not None and rounding.on
    return {"warnings": FROM_ROUNDED, "precision": "rounded"} if is_rounded else {}


def _combinations(people: pd.DataFrame) -> list[int]:
    """People whom both find, the prediction alone, a rule alone, and neither."""
    found, ruled = people[PREDICTED] == 1, people[ANY_RULE] == 1
    return [int(one.sum()) for one in (found & ruled, found & ~ruled, ~found & ruled, ~found & ~ruled)]


def _c_difference(own: pd.DataFrame) -> dict[str, Any]:
    try:
        found = compare_binary_c_statistic(own, label=LABEL, markers=_RULED)
    except TableRefused:
        return {"warnings": ONE_CLASS}
    row = found.differences.iloc[0]
    return {name: float(row[its]) for name, its in (_DIFFERENCE | {"p": "p"}).items()}


def _mcnemar(own: pd.DataFrame, whom: Within) -> dict[str, Any]:
    try:
        test = mcnemar_test(own, marker_a=PREDICTED, marker_b=ANY_RULE, label=LABEL, within=whom, method="exact")
    except TableRefused:
        return {"warnings": ONE_CLASS}
    return {"p": float(test.p)}


def _auroc_rows(data: StudyData, groups: Sequence[Group]) -> list[Estimate]:
    """AUROCs by group; those of raw values within each sex only, since limits differ."""
    index = data.study.index_column
    markers = (
        ("relative_index", RELATIVE_INDEX, index),
        ("lvh_score", SCORE, "lvh_score"),
        ("relative_cornell", RELATIVE_CORNELL, "r_avl_uv + s_v3_uv"),
        ("index_g_m2", RAW_INDEX, index),
    )
    made: list[Estimate] = []
    for marker, words, exposure in markers:
        for group in groups:
            if words != RAW_INDEX or group.strata == "sex":
                known = labelled(group.people, marker)
                told = {"exposure": exposure, "contrast": words, "strata": group.strata}
                made += [_area(own, marker, told | {"level": level}) for level, own in group.levels(known) if len(own)]
    for group in groups:
        # On the same people as the ROC curves and the rules.
        complete = group.people[group.people["all_three"]].dropna(subset=_CONTINUOUS)
        told = {"exposure": index, "contrast": AGAINST_CORNELL, "strata": on_all_three(group.strata)}
        made += [_area_difference(own, told | {"level": level}) for level, own in group.levels(complete) if len(own)]
    return made


def _counts_of(own: pd.DataFrame, told: dict[str, Any]) -> dict[str, Any]:
    """How many people an area is of; those with LVH of a group stand in `lvh_counts` alone."""
    n_lvh = int(own[LABEL].sum())
    return {
        "n_people": len(own),
        "n_ecgs": len(own),
        "n_events": None if told["level"] else n_lvh,
        "n_events_fewest": _fewest(n_lvh, len(own) - n_lvh),
        "unit": "1",
    }


def _area(own: pd.DataFrame, marker: str, told: dict[str, Any]) -> Estimate:
    more = _counts_of(own, told) | {"se_type": "DeLong"}
    try:
        found = auroc(own, label=LABEL, marker=marker).estimates.iloc[0]
        more |= {"estimate": found["auc"], "se": found["se"], "lo": found["auc_lo"], "hi": found["auc_hi"]}
    except TableRefused:
        more["warnings"] = ONE_CLASS
    return Estimate(result("cmr", AUROC, **told, **more))


def _area_difference(own: pd.DataFrame, told: dict[str, Any]) -> Estimate:
    more = _counts_of(own, told) | {"se_type": "DeLong, paired"}
    try:
        row = compare_auroc(own, label=LABEL, markers=_CONTINUOUS).differences.iloc[0]
        more |= {name: float(row[its]) for name, its in (_DIFFERENCE | {"p": "p"}).items()}
    except TableRefused:
        more["warnings"] = ONE_CLASS
    return Estimate(result("cmr", AUROC_DIFFERENCE, **told, **more))
