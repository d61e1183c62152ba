"""Against CMR: the tables of LVH, and the paper's figures beside ours, from masked tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure.aggregates import Kind
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, Masked
from analysis.report.document import ReadTable
from analysis.report.topics.cmr_agreement import MASS, estimate_cell, estimate_of, levels_of, p_cell
from analysis.report.topics.cmr_discrimination import (
    AGAINST_CORNELL,
    AGAINST_RULES,
    AUROC,
    AUROC_DIFFERENCE,
    C_DIFFERENCE,
    FROM_ROUNDED,
    SENSITIVITY_TEST,
    SPECIFICITY_TEST,
    C,
    on_all_three,
)
from analysis.report.topics.cmr_lvh import (
    ALL_PAIRS,
    ALL_THREE,
    PREDICTED,
    RAW_INDEX,
    RELATIVE_CORNELL,
    RELATIVE_INDEX,
    SCORE,
    YES_NO,
)
from analysis.report.topics.cmr_pairs import ANY_DATE, ANY_RULE, STRATA
from analysis.statistics.accuracy.diagnostic import wilson_limits

_WILSON: Final = "Shares and their Wilson limits are computed from the counts as shown, which are rounded."


_SHARES: Final = {
    "Sensitivity": ("tp", "n_lvh"),
    "Specificity": ("tn", "n_no_lvh"),
    "Positive predictive value": ("tp", "n_positive"),
    "Negative predictive value": ("tn", "n_negative"),
}


_COUNTS: Final = {"LVH, positive": "tp", "LVH, negative": "fn", "No LVH, positive": "fp", "No LVH, negative": "tn"}


_UNKNOWN: Final = (
    "Which of the three published files gave the paper's figures is not stated, and its test is "
    "not known; that its c-statistics are of yes/no classifications is inferred. Compare ours "
    "with them only as binary c-statistics."
)


def share_text(part: Any, whole: Any) -> str:
    """Return a share of masked counts in per cent with Wilson's 95 % limits.

    Rounding can make a part larger than its whole; it then counts as all of it.
    """
    if pd.isna(part) or pd.isna(whole):
        return HIDDEN
    if whole == 0:
        return NOT_APPLICABLE
    above, below = float(min(part, whole)), float(whole)
    lo, hi = wilson_limits(np.array([above]), np.array([below]), confidence=0.95)
    return f"{100 * above / below:.1f} % ({100 * lo[0]:.1f} to {100 * hi[0]:.1f})"


def lvh_tables(counts: Masked, found: Masked) -> list[ReadTable]:
    """Return prevalence, two-by-two counts and shares, c-statistics with tests, and AUROCs."""
    if not len(counts.rows):
        return []
    return [_prevalence(counts), *_accuracy(counts), *_c_statistics(found), *_aurocs(found)]


def _prevalence(counts: Masked) -> ReadTable:
    rows = _of_population(counts, ALL_PAIRS)
    lines = [
        [
            STRATA.get(row["strata"], "Everybody"),
            row["level"],
            *(row[f"{name}_shown"] for name in ("n_people", "n_lvh", "n_positive")),
            share_text(row["n_lvh"], row["n_people"]),
            share_text(row["n_positive"], row["n_people"]),
        ]
        for row in rows.to_dict("records")
    ]
    heads = ["Group", "Level", "People", "LVH by CMR", "Predicted LVH", "Prevalence by CMR", "Predicted prevalence"]
    notes = (
        "A prediction varies less than what it predicts, so a threshold on it finds too few people with LVH.",
        _WILSON,
    )
    return ReadTable("cmr_prevalence", "LVH by CMR and by prediction", pd.DataFrame(lines, columns=heads), 2, notes)


def _accuracy(counts: Masked) -> list[ReadTable]:
    tables = []
    for population, key, title in (
        (ALL_PAIRS, "cmr_accuracy", "Predicted LVH against LVH by CMR"),
        (ALL_THREE, "cmr_rules", "Predicted LVH and the ECG rules on the same people"),
    ):
        rows = _of_population(counts, population)
        if len(rows):
            lines = [_accuracy_line(row) for row in rows.to_dict("records")]
            heads = ["Marker", "Group", "Level", *_COUNTS, *_SHARES]
            cells = pd.DataFrame(lines, columns=heads)
            notes = (_WILSON, "Predictive values hold for this prevalence only.")
            tables.append(ReadTable(key, title, cells, 3, notes))
    return tables


def _of_population(counts: Masked, population: str) -> pd.DataFrame:
    """Rows of some pairs, also by their first CMR, with each count as text by name and `_shown`."""
    names = [column.name for column in counts.columns if column.kind == Kind.COUNT]
    texts = {f"{name}_shown": counts.shown(name).replace(NOT_APPLICABLE, HIDDEN) for name in names}
    wanted = counts.rows["population"].isin([population, f"{population}{ANY_DATE}"])
    return counts.rows.assign(**texts)[wanted]


def _accuracy_line(row: Mapping[Any, Any]) -> list[str]:
    return [
        row["marker"],
        STRATA.get(row["strata"], "Everybody"),
        row["level"],
        *(row[f"{name}_shown"] for name in _COUNTS.values()),
        *(share_text(row[part], row[whole]) for part, whole in _SHARES.values()),
    ]


def _c_statistics(found: Masked) -> list[ReadTable]:
    lines = []
    for strata, level in levels_of(found, YES_NO[PREDICTED], C):
        if not strata.endswith(ALL_THREE):
            lines.append(_estimate_line(found, C, YES_NO[PREDICTED], strata, level))
    for words in YES_NO.values():
        if estimate_of(found, C, words, ALL_THREE) is not None:
            lines.append(_estimate_line(found, C, words, ALL_THREE, ""))
    for measure in (C_DIFFERENCE, SENSITIVITY_TEST, SPECIFICITY_TEST):
        row = estimate_of(found, measure, AGAINST_RULES, ALL_THREE)
        if row is not None:
            words = f"{measure[0].upper()}{measure[1:]}: {AGAINST_RULES}"
            line = _estimate_line(found, measure, AGAINST_RULES, ALL_THREE, "")
            lines.append([words, *line[1:]])
    if not lines:
        return []
    notes = (*_C_NOTES, *_rounding_note(found), _MCNEMAR_NOTE)
    heads = ["Marker", "Group", "Level", "People", "Binary c-statistic", "P"]
    table = ReadTable("cmr_c_statistic", "Binary c-statistics of LVH", pd.DataFrame(lines, columns=heads), 3, notes)
    return [table, *_rules_by_group(found)]


def _rules_by_group(found: Masked) -> list[ReadTable]:
    """A row a group: the c-statistic of each marker, and the prediction against any rule."""
    lines = []
    for strata in STRATA:
        named = on_all_three(strata)
        levels = [level for one, level in levels_of(found, YES_NO[PREDICTED], C) if one == named]
        for level in levels:
            markers = [estimate_of(found, C, words, named, level) for words in YES_NO.values()]
            first = markers[0]
            assert first is not None
            tests = [
                estimate_of(found, measure, AGAINST_RULES, named, level)
                for measure in (C_DIFFERENCE, SENSITIVITY_TEST, SPECIFICITY_TEST)
            ]
            lines.append(
                [
                    STRATA[strata],
                    level,
                    first["people"],
                    *(estimate_cell(one, 3) for one in markers),
                    estimate_cell(tests[0], 3),
                    *map(p_cell, tests),
                ]
            )
    if not lines:
        return []
    heads = [
        "Group",
        "Level",
        "People",
        *YES_NO.values(),
        "Predicted LVH less any rule",
        "P",
        "P of sensitivity",
        "P of specificity",
    ]
    notes = (*_C_NOTES, *_rounding_note(found), _MCNEMAR_NOTE)
    return [
        ReadTable(
            "cmr_rules_by_group",
            "Binary c-statistics of LVH and the ECG rules by group",
            pd.DataFrame(lines, columns=heads),
            2,
            notes,
        )
    ]


_C_NOTES: Final = (
    "Binary c-statistic = (sensitivity + specificity) / 2 of a yes/no marker; interval and paired "
    "test by DeLong. It is not to be compared with an AUROC of a continuous marker.",
)


_MCNEMAR_NOTE: Final = (
    "McNemar's test is exact: sensitivity among people with LVH by CMR, specificity among the "
    "others. What only a few people decide is hidden."
)


def _rounding_note(found: Masked) -> tuple[str, ...]:
    if not (found.rows["warnings"] == FROM_ROUNDED).any():
        return ()
    return (
        "Exact values are those of people with all three ECG rules, or of everybody where nobody "
        "has them; the others are computed from rounded counts, so that the few people in whom two "
        "groups differ cannot be found by subtracting.",
    )


def _estimate_line(found: Masked, measure: str, words: str, strata: str, level: str) -> list[str]:
    row = estimate_of(found, measure, words, strata, level)
    if row is None:
        raise KeyError(measure)
    base = strata.removesuffix(ALL_THREE).removesuffix(", ")
    group = STRATA.get(base, "Everybody")
    if strata.endswith(ALL_THREE):
        group = f"{group}, {ALL_THREE}" if base else f"{ALL_THREE[0].upper()}{ALL_THREE[1:]}"
    return [words[0].upper() + words[1:], group, level, row["people"], estimate_cell(row, 3), p_cell(row)]


def _aurocs(found: Masked) -> list[ReadTable]:
    lines = [
        _estimate_line(found, AUROC, words, strata, level)
        for words in (RELATIVE_INDEX, RAW_INDEX, SCORE, RELATIVE_CORNELL)
        for strata, level in levels_of(found, words, AUROC)
    ]
    for strata in ("", *STRATA):
        named = on_all_three(strata)
        for one, level in levels_of(found, AGAINST_CORNELL, AUROC_DIFFERENCE):
            if one == named:
                line = _estimate_line(found, AUROC_DIFFERENCE, AGAINST_CORNELL, named, level)
                lines.append([f"Difference: {AGAINST_CORNELL}", *line[1:]])
    if not lines:
        return []
    notes = (
        "Areas under the ROC curve of continuous markers with DeLong's interval, each on the "
        "people who have the marker; differences on those who have all three ECG rules, as the ROC "
        "curves. An area of raw g/m2 over both sexes would mix them, since "
        "limits differ: it is given within each sex only, where it ranks as the relative one does.",
    )
    heads = ["Continuous marker", "Group", "Level", "People", "AUROC", "P"]
    return [
        ReadTable(
            "cmr_auroc", "Discrimination of LVH by continuous markers", pd.DataFrame(lines, columns=heads), 3, notes
        )
    ]


def paper_table(found: Masked) -> ReadTable:
    """Return the figures that the paper reports, and ours beside them.

    Source:
        Khurshid S et al., Circ Cardiovasc Imaging 2021;14:e012281, abstract.
    """
    r = estimate_of(found, "pearson", MASS)
    ours = estimate_of(found, C, YES_NO[PREDICTED], ALL_THREE)
    alone = estimate_of(found, C, YES_NO[PREDICTED])
    rule = estimate_of(found, C, YES_NO[ANY_RULE], ALL_THREE)
    test = estimate_of(found, C_DIFFERENCE, AGAINST_RULES, ALL_THREE)
    auc = estimate_of(found, AUROC, RELATIVE_INDEX)
    none = NOT_APPLICABLE
    lines = [
        ["Correlation of predicted and CMR LV mass, r", "0.79", "0.60", estimate_cell(r, 2), _people(r)],
        [
            "Binary c-statistic of predicted LVH",
            "0.653 (0.608 to 0.698)",
            "0.621 (0.592 to 0.649)",
            estimate_cell(ours or alone, 3),
            _people(ours or alone),
        ],
        [
            "Binary c-statistic of any ECG rule",
            "0.618 (0.574 to 0.663)",
            "0.588 (0.564 to 0.611)",
            estimate_cell(rule, 3),
            _people(rule),
        ],
        ["P for their difference", "0.11", "0.02", p_cell(test), _people(test)],
        ["AUROC of predicted index / limit of the sex", none, none, estimate_cell(auc, 3), _people(auc)],
    ]
    heads = [
        "Measure",
        "Paper, UK Biobank test set (n = 4,903)",
        "Paper, Mass General Brigham test set (n = 1,371)",
        "This study",
        "People, this study",
    ]
    notes = (
        "Paper: Khurshid S et al., Circ Cardiovasc Imaging 2021;14:e012281; its model was trained "
        "on 32,239 UK Biobank participants.",
        _UNKNOWN,
        "The AUROC ranks people and is no binary c-statistic: that it is larger is no improvement.",
    )
    return ReadTable("cmr_paper", "Beside the paper", pd.DataFrame(lines, columns=heads), 1, notes)


def _people(row: Mapping[str, Any] | None) -> str:
    return NOT_APPLICABLE if row is None else str(row["people"])
