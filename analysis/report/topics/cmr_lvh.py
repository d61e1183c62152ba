"""Against CMR: LVH by prediction and by ECG rules, as counts, c-statistics and AUROCs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.disclosure import meanings
from analysis.disclosure.aggregates import Aggregate, Blocks, Kind, count, label, result
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, Masked, MaskingRule
from analysis.report.document import ReadTable
from analysis.report.topics.cmr_agreement import MASS
from analysis.report.topics.cmr_pairs import (
    ANY_DATE,
    ANY_RULE,
    IMAGED,
    STRATA,
    Cell,
    Group,
    cells_of,
    estimate_of,
    levels_of,
    people_of,
    people_with_all_nine,
)
from analysis.report.topics.tables import aggregate
from analysis.report.words import percent_interval_text, sentence
from analysis.statistics.accuracy import mcnemar_test
from analysis.statistics.accuracy.diagnostic import Within, wilson_limits
from analysis.statistics.accuracy.roc import auroc, binary_c_statistic, compare_auroc, compare_binary_c_statistic
from analysis.statistics.columns import TableRefused
from analysis.study.data import StudyData

LABEL: Final = "lvh_cmr"
YES_NO: Final = {
    "lvh": "Predicted LVH",
    "rule_avl": "R in aVL",
    "rule_sokolow_lyon": "Sokolow-Lyon",
    "rule_cornell": "Cornell voltage",
    ANY_RULE: "Any of the three ECG rules",
}
MORE_YES_NO: Final = {
    "rule_cornell_product": "Cornell product",
    "rule_sokolow_lyon_product": "Sokolow-Lyon product",
    "rule_peguero_lo_presti": "Peguero-Lo Presti",
    "rule_gubner": "Gubner",
    "rule_lewis": "Lewis",
    "rule_voltage_sum": "12-lead voltage sum",
}
RELATIVE_INDEX: Final = "predicted index / limit of the sex"
RELATIVE_CORNELL: Final = "Cornell voltage / limit of the sex"
RAW_INDEX: Final = "predicted index, g/m2"
SCORE: Final = "LVH score of the model"
ALL_PAIRS: Final = "all pairs"
ALL_THREE: Final = "all three ECG rules measured"
ALL_NINE: Final = "all nine ECG rules measured"

C: Final = "binary c-statistic"
C_DIFFERENCE: Final = "difference in binary c-statistic"
AUROC: Final = "AUROC"
AUROC_DIFFERENCE: Final = "difference in AUROC"
SENSITIVITY_TEST: Final = "McNemar's test of sensitivity"
SPECIFICITY_TEST: Final = "McNemar's test of specificity"
AGAINST_RULES: Final = f"{YES_NO['lvh']} against any ECG rule"
AGAINST_CORNELL: Final = f"{RELATIVE_INDEX} against {RELATIVE_CORNELL}"
FROM_ROUNDED: Final = "computed from rounded counts"

_WORDS: Final = YES_NO | MORE_YES_NO
_PREDICTED: Final = "lvh"
_RULED: Final = [_PREDICTED, ANY_RULE]
_CELLS: Final = ("tp", "fn", "fp", "tn")
_ONE_CLASS: Final = "not estimated: all have LVH by CMR, or nobody"
# What is a function of counts alone is rounded more, so that it gives no more away than they do.
_DECIMALS: Final = 3
_CONTINUOUS: Final = ["relative_index", "relative_cornell"]


# Counts of two by two.


def lvh_counts(data: StudyData, groups: Sequence[Group]) -> Aggregate:
    """Return the two-by-two counts of each yes/no marker against LVH by CMR.

    tp, fn, fp and tn are missing in all groups of a classification where one of them is small in
    one group. Their sums are known from other rows (each marker has the same people), so hiding a
    cell and a partner would not be enough.
    """
    rows: list[dict[str, Any]] = []
    for group in groups:
        rows += _counted(group, labelled(group.people, _PREDICTED), _PREDICTED, ALL_PAIRS)
        complete = group.people[group.people["all_three"]]
        for marker in YES_NO:
            rows += _counted(group, complete, marker, ALL_THREE)
        if not group.strata:
            with_all = group.people[group.people["all_nine"]]
            for marker in _every_marker(with_all):
                rows += _counted(group, with_all, marker, ALL_NINE)
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
    table = pd.DataFrame(rows, columns=[column.name for column in columns])
    people = [
        people_with_all_nine()
        if population == ALL_NINE
        else people_of(strata, level, labelled=True, with_rules=population.startswith(ALL_THREE))
        for population, strata, level in zip(table["population"], table["strata"], table["level"], strict=True)
    ]
    blocks = Blocks(_CELLS, ("marker", "population", "strata"))
    return aggregate("cmr_lvh", [table], columns, lambda rows: meanings.two_by_two(rows, people), blocks=blocks)


def _every_marker(with_all: pd.DataFrame) -> tuple[str, ...]:
    """Return the markers that are compared in people with all nine rules; none without people."""
    return (*YES_NO, *MORE_YES_NO) if len(with_all) else ()


def labelled(pairs: pd.DataFrame, marker: str) -> pd.DataFrame:
    """Return the pairs with LVH by CMR and a marker known."""
    return pairs[pairs[LABEL].notna() & pairs[marker].notna()]


def _counted(group: Group, known: pd.DataFrame, marker: str, population: str) -> list[dict[str, Any]]:
    population = f"{population}{ANY_DATE}" if group.strata == IMAGED else population
    row = {"marker": _WORDS[marker], "population": population, "strata": group.strata}
    return [row | {"level": level} | _two_by_two(own, marker) for level, own in group.levels(known)]


def _two_by_two(table: pd.DataFrame, marker: str) -> dict[str, int]:
    """The counts of a yes/no marker against LVH by CMR, with their sums."""
    lvh, found = table[LABEL] == 1, table[marker] == 1
    tp, fn = int((lvh & found).sum()), int((lvh & ~found).sum())
    fp, tn = int((~lvh & found).sum()), int((~lvh & ~found).sum())
    sums = {"n_people": len(table), "n_lvh": tp + fn, "n_no_lvh": fp + tn, "n_positive": tp + fp, "n_negative": fn + tn}
    return sums | {"tp": tp, "fn": fn, "fp": fp, "tn": tn}


# Estimates.


@dataclass(frozen=True, slots=True)
class Estimate:
    """A row of the results, and what replaces it where counts are rounded.

    What follows from counts alone would give away more than the rounded counts beside it. Only
    people of one population have it of exact counts: a few people in whom two populations differ,
    as those without rules or of unknown group, could be found by subtracting.
    """

    row: dict[str, Any]  # exact, of `aggregates.result`
    shown: dict[str, Any] = field(default_factory=dict)  # columns of it as they may leave


def on_all_three(strata: str) -> str:
    """Return what the results call a classification of the people with all three ECG rules."""
    return f"{strata}, {ALL_THREE}" if strata else ALL_THREE


def discrimination(data: StudyData, groups: Sequence[Group]) -> list[Estimate]:
    """Return binary c-statistics, AUROCs and the paired tests, by group."""
    column = data.study.lvh_column
    rule = MaskingRule(0, data.study.release.base)
    rounding = rule if rule.on else None
    has_rules = bool(groups[0].people["all_three"].any())
    made: list[Estimate] = []
    for group in groups:
        exact = not group.strata and not has_rules
        known = labelled(group.people, _PREDICTED)
        made += _c_rows(group, known, _PREDICTED, column, group.strata, None if exact else rounding)
        complete, own = group.people[group.people["all_three"]], rounding if group.strata else None
        for marker in YES_NO:
            exposure = column if marker == _PREDICTED else marker
            made += _c_rows(group, complete, marker, exposure, on_all_three(group.strata), own)
        made += _paired_rows(group, complete, column, own)
    everybody = groups[0]
    with_all = everybody.people[everybody.people["all_nine"]]
    for marker in _every_marker(with_all):
        exposure = column if marker == _PREDICTED else marker
        made += _c_rows(everybody, with_all, marker, exposure, ALL_NINE, rounding)
    return made + _auroc_rows(data, groups)


def _c_rows(
    group: Group, known: pd.DataFrame, marker: str, exposure: str, strata: str, rounding: MaskingRule | None
) -> list[Estimate]:
    """Binary c-statistics of a marker; with `rounding` those of the rounded counts are shown.

    The people with LVH of each group are in `lvh_counts` alone, where they are masked together.
    """
    made = []
    for level, own in group.levels(known):
        counts = _two_by_two(own, marker)
        cells = [counts[name] for name in _CELLS]
        exact = _c_of(own, marker)
        shown = _c_of(_people_of([*cells], [marker], rounding), marker) if rounding else exact
        row = _row(own, C, exposure, _WORDS[marker], strata, level, "DeLong")
        row |= {"n_events": None if group.strata else counts["n_lvh"], "n_events_fewest": _fewest(*cells)}
        made.append(Estimate(row | exact, _coarse(shown) | _as_rounded(rounding)))
    return made


def _paired_rows(group: Group, complete: pd.DataFrame, column: str, rounding: MaskingRule | None) -> list[Estimate]:
    """DeLong's paired test, and McNemar's tests, of the prediction against any ECG rule.

    A paired error or P value gives away how many people only one marker finds, and so, with the
    counts of each marker, how many both or neither find: a few people in any of these hide them.
    """
    made = []
    for level, own in group.levels(complete):
        cells = [_combinations(own[own[LABEL] == lvh]) for lvh in (1, 0)]
        n_events = {"n_events": None if group.strata else sum(cells[0])}
        coarse = _people_of([*cells[0], *cells[1]], _RULED, rounding) if rounding else own
        fewest = {"positive": _fewest(*cells[0]), "negative": _fewest(*cells[1])}
        named = (column, AGAINST_RULES, on_all_three(group.strata), level)
        row = _row(own, C_DIFFERENCE, *named, "DeLong, paired") | n_events
        row |= _c_difference(own) | {"n_events_fewest": _fewest(*fewest.values())}
        made.append(Estimate(row, _coarse(_c_difference(coarse)) | _as_rounded(rounding)))
        within: tuple[tuple[str, Within], ...] = ((SENSITIVITY_TEST, "positive"), (SPECIFICITY_TEST, "negative"))
        for measure, whom in within:
            row = _row(own, measure, *named, "exact") | n_events
            row |= _mcnemar(own, whom) | {"n_events_fewest": fewest[whom]}
            shown = {
                name: round(value, _DECIMALS + 1) if name == "p" else value
                for name, value in _mcnemar(coarse, whom).items()
            }
            made.append(Estimate(row, shown | _as_rounded(rounding)))
    return made


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
                for level, own in group.levels(labelled(group.people, marker)):
                    row = _row(own, AUROC, exposure, words, group.strata, level, "DeLong")
                    made.append(Estimate(row | _classes(own, level) | _area(own, marker)))
    for group in groups:
        # On the same people as the ROC curves and the rules.
        complete = group.people[group.people["all_three"]].dropna(subset=_CONTINUOUS)
        strata = on_all_three(group.strata)
        for level, own in group.levels(complete):
            row = _row(own, AUROC_DIFFERENCE, index, AGAINST_CORNELL, strata, level, "DeLong, paired")
            made.append(Estimate(row | _classes(own, level) | _area_difference(own)))
    return made


def _row(
    own: pd.DataFrame, measure: str, exposure: str, contrast: str, strata: str, level: str, se_type: str
) -> dict[str, Any]:
    known = {"exposure": exposure, "contrast": contrast, "strata": strata, "level": level, "se_type": se_type}
    return result("cmr", measure, **known, unit="1", n_people=len(own), n_ecgs=len(own))


def _classes(own: pd.DataFrame, level: str) -> dict[str, Any]:
    """The people with LVH; those of a group are in `lvh_counts` alone."""
    n_lvh = int(own[LABEL].sum())
    return {"n_events": None if level else n_lvh, "n_events_fewest": _fewest(n_lvh, len(own) - n_lvh)}


def _fewest(*counts: int) -> int:
    """The smallest count that is not 0; 0 where all are."""
    return min((one for one in counts if one > 0), default=0)


def _combinations(people: pd.DataFrame) -> list[int]:
    """The people that both find, the prediction alone, a rule alone, and neither."""
    found, ruled = people[_PREDICTED] == 1, people[ANY_RULE] == 1
    return [int(one.sum()) for one in (found & ruled, found & ~ruled, ~found & ruled, ~found & ~ruled)]


def _people_of(numbers: Sequence[int], markers: Sequence[str], rounding: MaskingRule) -> pd.DataFrame:
    """Label and one or two markers of as many people as rounded counts have.

    `numbers` are of people with LVH by CMR, and then of those without, by every combination of the
    markers: both, the first alone, the second alone, neither.
    """
    rounded = rounding.rounded(pd.Series(numbers)).to_numpy(dtype=int)
    found = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)] if len(markers) > 1 else [(1.0,), (0.0,)]
    kinds = [(one, *both) for one in (1.0, 0.0) for both in found]
    return pd.DataFrame(np.repeat(kinds, rounded, axis=0), columns=[LABEL, *markers])


def _coarse(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: round(value, _DECIMALS) if isinstance(value, float) and name != "p" else value
        for name, value in values.items()
    }


def _as_rounded(rounding: MaskingRule | None) -> dict[str, str]:
    return {"warnings": FROM_ROUNDED, "precision": "rounded"} if rounding else {}


def _numbers(found: Callable[[], Mapping[str, Any] | pd.Series[Any]], names: Mapping[str, str]) -> dict[str, Any]:
    """What a statistic gives, by column of the results; or why there is none."""
    try:
        row = found()
    except TableRefused:
        return {"warnings": _ONE_CLASS}
    return {name: float(row[its]) for name, its in names.items()}


def _c_of(own: pd.DataFrame, marker: str) -> dict[str, Any]:
    return _numbers(lambda: binary_c_statistic(own, label=LABEL, marker=marker).estimates.iloc[0], _limits("c"))


def _c_difference(own: pd.DataFrame) -> dict[str, Any]:
    names = _limits("difference") | {"p": "p"}
    return _numbers(lambda: compare_binary_c_statistic(own, label=LABEL, markers=_RULED).differences.iloc[0], names)


def _mcnemar(own: pd.DataFrame, whom: Within) -> dict[str, Any]:
    options: dict[str, Any] = {"marker_a": _PREDICTED, "marker_b": ANY_RULE, "label": LABEL, "method": "exact"}
    return _numbers(lambda: {"p": mcnemar_test(own, within=whom, **options).p}, {"p": "p"})


def _area(own: pd.DataFrame, marker: str) -> dict[str, Any]:
    return _numbers(lambda: auroc(own, label=LABEL, marker=marker).estimates.iloc[0], _limits("auc"))


def _area_difference(own: pd.DataFrame) -> dict[str, Any]:
    names = _limits("difference") | {"p": "p"}
    return _numbers(lambda: compare_auroc(own, label=LABEL, markers=_CONTINUOUS).differences.iloc[0], names)


def _limits(name: str) -> dict[str, str]:
    return {"estimate": name, "se": "se", "lo": f"{name}_lo", "hi": f"{name}_hi"}


# Tables for readers, from masked tables.

_SHARES: Final = {
    "Sensitivity": ("tp", "n_lvh"),
    "Specificity": ("tn", "n_no_lvh"),
    "Positive predictive value": ("tp", "n_positive"),
    "Negative predictive value": ("tn", "n_negative"),
}
_COUNTS: Final = {"LVH, positive": "tp", "LVH, negative": "fn", "No LVH, positive": "fp", "No LVH, negative": "tn"}
_WILSON: Final = "Shares and their Wilson limits are computed from the counts as shown, which are rounded."
_C_NOTE: Final = (
    "Binary c-statistic = (sensitivity + specificity) / 2 of a yes/no marker; interval and paired "
    "test by DeLong. It is not to be compared with an AUROC of a continuous marker."
)
_MCNEMAR_NOTE: Final = (
    "McNemar's test is exact: sensitivity among people with LVH by CMR, specificity among the "
    "others. What only a few people decide is hidden."
)
_ROUNDING_NOTE: Final = (
    "Exact values are those of people with all three ECG rules, or of everybody where nobody "
    "has them; the others are computed from rounded counts, so that the few people in whom two "
    "groups differ cannot be found by subtracting."
)
_TESTS: Final = (C_DIFFERENCE, SENSITIVITY_TEST, SPECIFICITY_TEST)


def lvh_tables(counts: Masked, found: Masked) -> list[ReadTable]:
    """Return prevalence, two-by-two counts and shares, c-statistics with tests, and AUROCs."""
    if not len(counts.rows):
        return []
    tables = [_prevalence(counts), *_accuracy(counts), _c_statistics(found), _rules_by_group(found), _aurocs(found)]
    return [table for table in tables if len(table.cells)]


def share_text(part: Any, whole: Any) -> str:
    """Return a share of masked counts in per cent, at most 100, with Wilson's 95 % limits."""
    if pd.isna(part) or pd.isna(whole):
        return HIDDEN
    if whole == 0:
        return NOT_APPLICABLE
    above, below = float(min(part, whole)), float(whole)
    lo, hi = wilson_limits(np.array([above]), np.array([below]), confidence=0.95)
    return percent_interval_text(above / below, lo[0], hi[0])


def _prevalence(counts: Masked) -> ReadTable:
    shown = ("n_people", "n_lvh", "n_positive")
    lines = [
        [
            STRATA.get(row["strata"], "Everybody"),
            row["level"],
            *(row[f"{name}_shown"] for name in shown),
            *(share_text(row[name], row["n_people"]) for name in shown[1:]),
        ]
        for row in _of_population(counts, ALL_PAIRS)
    ]
    heads = ["Group", "Level", "People", "LVH by CMR", "Predicted LVH", "Prevalence by CMR", "Predicted prevalence"]
    notes = (
        "A prediction varies less than what it predicts, so a threshold on it finds too few people with LVH.",
        _WILSON,
    )
    return ReadTable("cmr_prevalence", "LVH by CMR and by prediction", pd.DataFrame(lines, columns=heads), 2, notes)


def _accuracy(counts: Masked) -> list[ReadTable]:
    titles = {
        ALL_PAIRS: ("cmr_accuracy", "Predicted LVH against LVH by CMR"),
        ALL_THREE: ("cmr_rules", "Predicted LVH and the ECG rules on the same people"),
        ALL_NINE: ("cmr_more_rules", "Predicted LVH and nine ECG rules on the same people"),
    }
    heads = ["Marker", "Group", "Level", *_COUNTS, *_SHARES]
    notes = (_WILSON, "Predictive values hold for this prevalence only.")
    tables = []
    for population, (key, title) in titles.items():
        lines = [
            [
                row["marker"],
                STRATA.get(row["strata"], "Everybody"),
                row["level"],
                *(row[f"{name}_shown"] for name in _COUNTS.values()),
                *(share_text(row[part], row[whole]) for part, whole in _SHARES.values()),
            ]
            for row in _of_population(counts, population)
        ]
        tables.append(ReadTable(key, title, pd.DataFrame(lines, columns=heads), 3, notes))
    return tables


def _of_population(counts: Masked, population: str) -> list[dict[Any, Any]]:
    """Rows of some pairs, also by their first CMR, with each count as text by name and `_shown`."""
    names = [column.name for column in counts.columns if column.kind == Kind.COUNT]
    texts = {f"{name}_shown": counts.shown(name).replace(NOT_APPLICABLE, HIDDEN) for name in names}
    wanted = counts.rows["population"].isin([population, f"{population}{ANY_DATE}"])
    return counts.rows.assign(**texts)[wanted].to_dict("records")


def _c_statistics(found: Masked) -> ReadTable:
    predicted = YES_NO[_PREDICTED]
    lines = [
        _line(found, C, predicted, strata, level)
        for strata, level in levels_of(found, predicted, C)
        if not strata.endswith((ALL_THREE, ALL_NINE))
    ]
    lines += [_line(found, C, words, ALL_THREE) for words in YES_NO.values() if estimate_of(found, C, words, ALL_THREE)]
    lines += [_line(found, C, words, ALL_NINE) for words in _WORDS.values() if estimate_of(found, C, words, ALL_NINE)]
    for measure in _TESTS:
        if estimate_of(found, measure, AGAINST_RULES, ALL_THREE):
            words = f"{sentence(measure)}: {AGAINST_RULES}"
            lines.append([words, *_line(found, measure, AGAINST_RULES, ALL_THREE)[1:]])
    heads = ["Marker", "Group", "Level", "People", "Binary c-statistic", "P"]
    cells = pd.DataFrame(lines, columns=heads)
    return ReadTable("cmr_c_statistic", "Binary c-statistics of LVH", cells, 3, _c_notes(found))


def _rules_by_group(found: Masked) -> ReadTable:
    """A row per group: the c-statistic of each marker, and the prediction against any rule."""
    columns = {words: Cell(C, words, 3) for words in YES_NO.values()}
    columns["Predicted LVH less any rule"] = Cell(C_DIFFERENCE, AGAINST_RULES, 3)
    heads = ("P", "P of sensitivity", "P of specificity")
    columns |= {head: Cell(measure, AGAINST_RULES) for head, measure in zip(heads, _TESTS, strict=True)}
    lines = [
        [STRATA[strata], level, *cells_of(found, columns.values(), on_all_three(strata), level)]
        for strata in STRATA
        for named, level in levels_of(found, YES_NO[_PREDICTED], C)
        if named == on_all_three(strata)
    ]
    cells = pd.DataFrame(lines, columns=["Group", "Level", "People", *columns])
    title = "Binary c-statistics of LVH and the ECG rules by group"
    return ReadTable("cmr_rules_by_group", title, cells, 2, _c_notes(found))


def _c_notes(found: Masked) -> tuple[str, ...]:
    is_rounded = (found.rows["warnings"] == FROM_ROUNDED).any()
    return (_C_NOTE, *([_ROUNDING_NOTE] if is_rounded else []), _MCNEMAR_NOTE)


def _line(found: Masked, measure: str, words: str, strata: str, level: str = "") -> list[str]:
    base = strata.removesuffix(ALL_THREE).removesuffix(", ")
    group = STRATA.get(base, "Everybody")
    if strata.endswith(ALL_THREE):
        group = f"{group}, {ALL_THREE}" if base else sentence(ALL_THREE)
    elif strata == ALL_NINE:
        group = sentence(ALL_NINE)
    cells = cells_of(found, (Cell(measure, words, 3), Cell(measure, words)), strata, level)
    return [sentence(words), group, level, *cells]


def _aurocs(found: Masked) -> ReadTable:
    lines = [
        _line(found, AUROC, words, strata, level)
        for words in (RELATIVE_INDEX, RAW_INDEX, SCORE, RELATIVE_CORNELL)
        for strata, level in levels_of(found, words, AUROC)
    ]
    lines += [
        [f"Difference: {AGAINST_CORNELL}", *_line(found, AUROC_DIFFERENCE, AGAINST_CORNELL, named, level)[1:]]
        for strata in ("", *STRATA)
        for named, level in levels_of(found, AGAINST_CORNELL, AUROC_DIFFERENCE)
        if named == on_all_three(strata)
    ]
    notes = (
        "Areas under the ROC curve of continuous markers with DeLong's interval, each on the "
        "people who have the marker; differences on those who have all three ECG rules, as the ROC "
        "curves. An area of raw g/m2 over both sexes would mix them, since "
        "limits differ: it is given within each sex only, where it ranks as the relative one does.",
    )
    cells = pd.DataFrame(lines, columns=["Continuous marker", "Group", "Level", "People", "AUROC", "P"])
    return ReadTable("cmr_auroc", "Discrimination of LVH by continuous markers", cells, 3, notes)


def paper_table(found: Masked) -> ReadTable:
    """Return the figures that the paper reports, and ours beside them.

    Source:
        Khurshid S et al., Circ Cardiovasc Imaging 2021;14:e012281, abstract.
    """
    predicted, rule = YES_NO[_PREDICTED], YES_NO[ANY_RULE]
    on_rules = ALL_THREE if estimate_of(found, C, predicted, ALL_THREE) else ""

    def ours(cell: Cell, strata: str = "") -> list[str]:
        people, text = cells_of(found, [cell], strata)
        return [text, people]

    of_prediction, of_rule = (Cell(C, words, 3) for words in (predicted, rule))
    none = NOT_APPLICABLE
    lines = [
        ["Correlation of predicted and CMR LV mass, r", "0.79", "0.60", *ours(Cell("pearson", MASS, 2))],
        [
            "Binary c-statistic of predicted LVH",
            "0.653 (0.608 to 0.698)",
            "0.621 (0.592 to 0.649)",
            *ours(of_prediction, on_rules),
        ],
        [
            "Binary c-statistic of any ECG rule",
            "0.618 (0.574 to 0.663)",
            "0.588 (0.564 to 0.611)",
            *ours(of_rule, ALL_THREE),
        ],
        ["P for their difference", "0.11", "0.02", *ours(Cell(C_DIFFERENCE, AGAINST_RULES), ALL_THREE)],
        ["AUROC of predicted index / limit of the sex", none, none, *ours(Cell(AUROC, RELATIVE_INDEX, 3))],
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
        "Which of the three published files gave the paper's figures is not stated, and its test is "
        "not known; that its c-statistics are of yes/no classifications is inferred. Compare ours "
        "with them only as binary c-statistics.",
        "The AUROC ranks people and is no binary c-statistic: that it is larger is no improvement.",
    )
    return ReadTable("cmr_paper", "Beside the paper", pd.DataFrame(lines, columns=heads), 1, notes)
