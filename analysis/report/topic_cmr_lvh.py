"""Against CMR: LVH by prediction and by ECG rules, as counts and as discrimination."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.columns import TableRefused
from analysis.diagnostic import Within
from analysis.report.aggregates import (
    Aggregate,
    ColumnsAddUp,
    RowsAddUp,
    count,
    label,
    result,
)
from analysis.report.masking import MaskingRule
from analysis.report.study_data import StudyData
from analysis.report.topic_cmr_agreement import strata_of
from analysis.report.topic_cmr_pairs import ANY_RULE, level_order
from analysis.roc import (
    auroc,
    binary_c_statistic,
    compare_auroc,
    compare_binary_c_statistic,
    mcnemar_test,
)

LABEL: Final = "lvh_cmr"
PREDICTED: Final = "lvh"
YES_NO: Final = {
    PREDICTED: "Predicted LVH",
    "rule_avl": "R in aVL",
    "rule_sokolow_lyon": "Sokolow-Lyon",
    "rule_cornell": "Cornell voltage",
    ANY_RULE: "Any of the three ECG rules",
}
RELATIVE_INDEX: Final = "predicted index / limit of the sex"
RELATIVE_CORNELL: Final = "Cornell voltage / limit of the sex"
RAW_INDEX: Final = "predicted index, g/m2"
SCORE: Final = "LVH score of the model"
ALL_PAIRS: Final = "all pairs"
ALL_THREE: Final = "all three ECG rules measured"

C: Final = "binary c-statistic"
C_DIFFERENCE: Final = "difference in binary c-statistic"
AUROC: Final = "AUROC"
AUROC_DIFFERENCE: Final = "difference in AUROC"
SENSITIVITY_TEST: Final = "McNemar's test of sensitivity"
SPECIFICITY_TEST: Final = "McNemar's test of specificity"
AGAINST_RULES: Final = f"{YES_NO[PREDICTED]} against any ECG rule"
AGAINST_CORNELL: Final = f"{RELATIVE_INDEX} against {RELATIVE_CORNELL}"

FROM_ROUNDED: Final = "computed from rounded counts"

_ONE_CLASS: Final = "not estimated: all have LVH by CMR, or nobody"
_CELLS: Final = ("tp", "fn", "fp", "tn")
# What is a function of counts alone is rounded more, so that it tells no more than they do.
_DECIMALS: Final = 3


def lvh_counts(data: StudyData, pairs: pd.DataFrame) -> Aggregate:
    """Return the two-by-two counts of each yes/no marker against LVH by CMR.

    Args:
        data: of the study.
        pairs: of `cmr_pairs`.

    Returns:
        Counts; tp, fn, fp and tn are missing in all groups of a classification where one of them
        is small in one group. Their sums are known from other rows (each marker has the same
        people), so hiding a cell and a partner would not be enough.
    """
    rows: list[dict[str, Any]] = []
    for strata, known in strata_of(_labelled(pairs, PREDICTED)):
        rows += _counted(known, PREDICTED, ALL_PAIRS, strata)
    complete = pairs[pairs["all_three"]]
    for marker in YES_NO if len(complete) else ():
        for strata, known in strata_of(complete):
            if strata in ("", "sex"):
                rows += _counted(known, marker, ALL_THREE, strata)
    columns = (
        label("marker", "what says yes or no"),
        label("population", "pairs that are counted"),
        label("strata", "classification; empty for everybody"),
        label("level", "of it"),
        count("n_people", "people"),
        count("n_lvh", "with LVH by CMR"),
        count("n_no_lvh", "without"),
        count("n_positive", "positive by the marker"),
        count("n_negative", "negative"),
        count("tp", "LVH and positive"),
        count("fn", "LVH and negative"),
        count("fp", "no LVH but positive"),
        count("tn", "no LVH and negative"),
    )
    names = [column.name for column in columns]
    table = _without_small(pd.DataFrame(rows, columns=names), data.study.masking.k)
    sums = (
        ColumnsAddUp("n_people", ("n_lvh", "n_no_lvh")),
        ColumnsAddUp("n_people", ("n_positive", "n_negative")),
        ColumnsAddUp("n_lvh", ("tp", "fn")),
        ColumnsAddUp("n_no_lvh", ("fp", "tn")),
        ColumnsAddUp("n_positive", ("tp", "fp")),
        ColumnsAddUp("n_negative", ("fn", "tn")),
        RowsAddUp(tuple(names[4:]), "level", None, ("marker", "population", "strata")),
    )
    return Aggregate("cmr_lvh", table, columns, sums)


def _without_small(table: pd.DataFrame, k: int) -> pd.DataFrame:
    cells = table[list(_CELLS)].astype("Int64")
    small = ((cells > 0) & (cells < k)).any(axis=1)
    together = small.groupby([table[name] for name in ("marker", "population", "strata")])
    return table.assign(**cells.mask(together.transform("any")))


def _labelled(pairs: pd.DataFrame, marker: str) -> pd.DataFrame:
    return pairs[pairs[LABEL].notna() & pairs[marker].notna()]


def _counted(
    known: pd.DataFrame, marker: str, population: str, strata: str
) -> list[dict[str, Any]]:
    groups = list(known.groupby(strata)) if strata else [("", known)] if len(known) else []
    return [
        {"marker": YES_NO[marker], "population": population, "strata": strata, "level": level}
        | two_by_two(own, marker)
        for level, own in sorted(groups, key=lambda one: level_order(strata, one[0]))
    ]


def two_by_two(table: pd.DataFrame, marker: str) -> dict[str, int]:
    """Return the counts of a yes/no marker against LVH by CMR, with their sums."""
    lvh, found = table[LABEL] == 1, table[marker] == 1
    tp, fn = int((lvh & found).sum()), int((lvh & ~found).sum())
    fp, tn = int((~lvh & found).sum()), int((~lvh & ~found).sum())
    return {
        "n_people": len(table), "n_lvh": tp + fn, "n_no_lvh": fp + tn, "n_positive": tp + fp,
        "n_negative": fn + tn, "tp": tp, "fn": fn, "fp": fp, "tn": tn,
    }  # fmt: skip


def lvh_rows(data: StudyData, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return binary c-statistics, AUROCs and the paired tests as results.

    Args:
        data: of the study.
        pairs: of `cmr_pairs`.
    """
    column, rounding = data.study.lvh_column, MaskingRule(0, data.study.masking.base)
    complete = pairs[pairs["all_three"]]
    rows = []
    for strata, known in strata_of(_labelled(pairs, PREDICTED)):
        # Only one population has exact values: a few people in whom two differ, as those without
        # rules or of unknown group, could be found by subtracting.
        is_main = not strata and not len(complete)
        own = None if is_main else rounding
        rows += _c_rows(known, PREDICTED, column, strata, strata, own)
    if len(complete):
        for marker in YES_NO:
            exposure = column if marker == PREDICTED else marker
            rows += _c_rows(complete, marker, exposure, "", ALL_THREE)
        rows += _paired_rows(complete, column)
    return rows + _auroc_rows(data, pairs)


def _fewest(*counts: int) -> int:
    """The smallest count that is not 0; 0 where all are."""
    return min((one for one in counts if one > 0), default=0)


def _c_rows(
    known: pd.DataFrame, marker: str, exposure: str, by: str, strata: str,
    rounding: MaskingRule | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Binary c-statistics; `strata` is what the results call the classification or the people.

    With `rounding` they are those of the rounded counts.

    People with LVH of each group are told in `lvh_counts` alone, where they are masked together.
    """
    rows = []
    groups = known.groupby(by, sort=True) if by else [("", known)]
    for level, own in groups if len(known) else ():
        counts = two_by_two(own, marker)
        told: dict[str, Any] = {
            "exposure": exposure, "contrast": YES_NO[marker], "strata": strata, "level": level,
            "n_people": len(own), "n_ecgs": len(own),
            "n_events": None if by else counts["n_lvh"],
            "n_events_fewest": _fewest(*(counts[name] for name in _CELLS)),
            "se_type": "DeLong", "unit": "1",
        }  # fmt: skip
        if rounding is not None and rounding.on:
            own = _people_of(counts, marker, rounding)
            told["warnings"] = FROM_ROUNDED
        rows.append(_c_row(own, marker, told))
    return rows


def _people_of(counts: dict[str, int], marker: str, rounding: MaskingRule) -> pd.DataFrame:
    """Label and marker of as many people as the rounded counts have."""
    numbers = rounding.rounded(pd.Series([counts[name] for name in _CELLS])).to_numpy(dtype=int)
    return pd.DataFrame(
        {LABEL: np.repeat([1.0, 1.0, 0.0, 0.0], numbers),
         marker: np.repeat([1.0, 0.0, 1.0, 0.0], numbers)}
    )  # fmt: skip


def _c_row(own: pd.DataFrame, marker: str, told: dict[str, Any]) -> dict[str, Any]:
    try:
        found = binary_c_statistic(own, label=LABEL, marker=marker).estimates.iloc[0]
    except TableRefused:
        return result("cmr", C, **(told | {"warnings": _ONE_CLASS}))
    return result("cmr", C, **told, **_rounded(found, {"estimate": "c", "se": "se", "lo": "c_lo",
                                                        "hi": "c_hi"}))  # fmt: skip


def _rounded(row: Any, names: dict[str, str]) -> dict[str, float]:
    return {name: round(float(row[its]), _DECIMALS) for name, its in names.items()}


def _paired_rows(complete: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """DeLong's paired test, and McNemar's tests, of the prediction against any ECG rule.

    A paired error or P value tells how many people only one marker finds, and so, with the counts
    of each marker, how many both or neither find: a few people in any of these hide them.
    """
    n_lvh = int(complete[LABEL].sum())
    if n_lvh in (0, len(complete)):
        return []
    told: dict[str, Any] = {
        "exposure": column, "contrast": AGAINST_RULES, "strata": ALL_THREE, "unit": "1",
        "n_people": len(complete), "n_ecgs": len(complete), "n_events": n_lvh,
    }  # fmt: skip
    in_lvh, in_others = (
        _fewest(*complete[complete[LABEL] == one].value_counts([PREDICTED, ANY_RULE]).tolist())
        for one in (1, 0)
    )
    found = compare_binary_c_statistic(complete, label=LABEL, markers=[PREDICTED, ANY_RULE])
    names = {"estimate": "difference", "se": "se", "lo": "difference_lo", "hi": "difference_hi"}
    row = found.differences.iloc[0]
    rows = [
        result("cmr", C_DIFFERENCE, **told, **_rounded(row, names), p=float(row["p"]),
               n_events_fewest=min(in_lvh, in_others), se_type="DeLong, paired")
    ]  # fmt: skip
    within: tuple[tuple[str, Within, int], ...] = (
        (SENSITIVITY_TEST, "positive", in_lvh), (SPECIFICITY_TEST, "negative", in_others),
    )  # fmt: skip
    for measure, whom, fewest in within:
        test = mcnemar_test(
            complete, marker_a=PREDICTED, marker_b=ANY_RULE, label=LABEL, within=whom,
            method="exact",
        )  # fmt: skip
        rows.append(result("cmr", measure, **told, p=round(test.p, _DECIMALS + 1),
                           se_type="exact", n_events_fewest=fewest))  # fmt: skip
    return rows


def _auroc_rows(data: StudyData, pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """AUROCs: relative to the limit in everybody and by group; raw values within each sex only."""
    index = data.study.index_column
    markers = (
        ("relative_index", RELATIVE_INDEX, index, None),
        ("lvh_score", SCORE, "lvh_score", ("", "sex")),
        ("relative_cornell", RELATIVE_CORNELL, "r_avl_uv + s_v3_uv", ("", "sex")),
        ("index_g_m2", RAW_INDEX, index, ("sex",)),
    )
    rows: list[dict[str, Any]] = []
    for marker, words, exposure, wanted in markers:
        for strata, known in strata_of(_labelled(pairs, marker)):
            if wanted is None or strata in wanted:
                told = {"exposure": exposure, "contrast": words, "strata": strata}
                rows += _areas(known, marker, told)
    return rows + _auroc_difference(pairs, index)


def _areas(known: pd.DataFrame, marker: str, told: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    strata = told["strata"]
    groups = known.groupby(strata, sort=True) if strata else [("", known)]
    for level, own in groups if len(known) else ():
        n_lvh = int(own[LABEL].sum())
        more: dict[str, Any] = {
            "level": level, "n_people": len(own), "n_ecgs": len(own),
            "n_events": None if strata else n_lvh,
            "n_events_fewest": _fewest(n_lvh, len(own) - n_lvh), "unit": "1", "se_type": "DeLong",
        }  # fmt: skip
        try:
            found = auroc(own, label=LABEL, marker=marker).estimates.iloc[0]
            more |= {"estimate": found["auc"], "se": found["se"], "lo": found["auc_lo"],
                     "hi": found["auc_hi"]}  # fmt: skip
        except TableRefused:
            more["warnings"] = _ONE_CLASS
        rows.append(result("cmr", AUROC, **told, **more))
    return rows


def _auroc_difference(pairs: pd.DataFrame, index: str) -> list[dict[str, Any]]:
    markers = ["relative_index", "relative_cornell"]
    table = pairs[[LABEL, *markers]].dropna()
    try:
        found = compare_auroc(table, label=LABEL, markers=markers)
    except TableRefused:
        return []
    row = found.differences.iloc[0]
    return [
        result(
            "cmr", AUROC_DIFFERENCE, exposure=index, contrast=AGAINST_CORNELL, unit="1",
            n_people=found.n, n_ecgs=found.n, n_events=found.n_positive,
            n_events_fewest=_fewest(found.n_positive, found.n_negative),
            estimate=row["difference"], se=row["se"], lo=row["difference_lo"],
            hi=row["difference_hi"], p=row["p"], se_type="DeLong, paired",
        )
    ]  # fmt: skip
