from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.masking import HIDDEN, Masked, MaskingRule
from analysis.report.document import ReadTable
from analysis.report.topics.cmr import present
from analysis.report.topics.cmr_lvh import (
    AGAINST_RULES,
    ALL_PAIRS,
    ALL_THREE,
    AUROC,
    C_DIFFERENCE,
    FROM_ROUNDED,
    RAW_INDEX,
    RELATIVE_CORNELL,
    RELATIVE_INDEX,
    SCORE,
    SENSITIVITY_TEST,
    SPECIFICITY_TEST,
    YES_NO,
    C,
    share_text,
)
from analysis.report.topics.cmr_pairs import cmr_pairs, estimate_of
from analysis.statistics.accuracy.diagnostic import diagnostic_accuracy
from analysis.statistics.accuracy.roc import auroc, binary_c_statistic, compare_binary_c_statistic
from analysis.study.data import StudyData
from analysis.study.settings import Release
from tests.analysis.report.builders import study, study_data
from tests.analysis.report.cmr_people import hand_data, masked_of

# Women of 2 m2: LVH by CMR above 110 g.
LVH, NO_LVH = {"lvm_cmr_g": 120.0}, {"lvm_cmr_g": 100.0}
RULE = {"rule_sokolow_lyon": True}
FOUND = {"lvh_pred": True, "lvm_pred_g": 115.0}


@pytest.fixture(scope="module")
def drawn() -> StudyData:
    return study_data(900, study=study(release=Release(rule="none")))


@pytest.fixture(scope="module")
def exact(drawn: StudyData) -> dict[str, Masked]:
    return masked_of(drawn)


def _row(masked: dict[str, Masked], *where: str) -> dict[str, Any]:
    row = estimate_of(masked["results_cmr"], *where)
    assert row is not None
    return dict(row)


def _counts(masked: dict[str, Masked], marker: str, population: str) -> dict[str, Any]:
    rows = masked["cmr_lvh"].rows
    own = rows[(rows["marker"] == YES_NO[marker]) & (rows["population"] == population) & (rows["strata"] == "")]
    assert len(own) == 1
    return {str(name): value for name, value in own.iloc[0].items()}


def _people() -> list[dict[str, Any]]:
    """Of 10 with LVH the prediction finds 6, a rule 3, both 2; of 20 without 2, 5 and 1."""
    with_lvh = [{**FOUND, **RULE}] * 2 + [FOUND] * 4 + [RULE] * 1 + [{}] * 3
    without = [{**FOUND, **RULE}] * 1 + [FOUND] * 1 + [RULE] * 4 + [{}] * 14
    return [{**LVH, **one} for one in with_lvh] + [{**NO_LVH, **one} for one in without]


def test_counts__by_hand() -> None:
    masked = masked_of(hand_data(_people()))
    ours = _counts(masked, "lvh", ALL_THREE)
    assert [ours[name] for name in ("tp", "fn", "fp", "tn")] == [6, 4, 2, 18]
    assert [ours[name] for name in ("n_positive", "n_negative")] == [8, 22]
    rule = _counts(masked, "any_ecg_rule", ALL_THREE)
    assert [rule[name] for name in ("tp", "fn", "fp", "tn")] == [3, 7, 5, 15]
    assert _counts(masked, "rule_avl", ALL_THREE)["n_positive"] == 0


def test_c_statistics__by_hand() -> None:
    masked = masked_of(hand_data(_people()))
    # The mean of 6 of 10 and 18 of 20; the mean of 3 of 10 and 15 of 20.
    assert _row(masked, C, YES_NO["lvh"], ALL_THREE)["estimate"] == 0.75
    assert _row(masked, C, YES_NO["any_ecg_rule"], ALL_THREE)["estimate"] == 0.525
    assert _row(masked, C, YES_NO["rule_avl"], ALL_THREE)["estimate"] == 0.5
    assert _row(masked, C_DIFFERENCE, AGAINST_RULES, ALL_THREE)["estimate"] == pytest.approx(0.225)


def test_mcnemar__by_hand() -> None:
    masked = masked_of(hand_data(_people()))
    # With LVH 4 are found by the prediction alone and 1 by a rule alone: 2 (1 + 5) / 2^5 = 0.375.
    assert _row(masked, SENSITIVITY_TEST, AGAINST_RULES, ALL_THREE)["p"] == 0.375
    # Without LVH 1 and 4, the same.
    assert _row(masked, SPECIFICITY_TEST, AGAINST_RULES, ALL_THREE)["p"] == 0.375


def test_comparison__is_on_people_with_all_three_rules_only() -> None:
    unmeasured = {**LVH, **FOUND, "rule_avl": None, "rule_cornell": True}
    masked = masked_of(hand_data([*_people(), *[unmeasured] * 5]))
    assert _counts(masked, "lvh", ALL_PAIRS)["tp"] == 11
    assert _counts(masked, "lvh", ALL_THREE)["tp"] == 6
    assert _counts(masked, "any_ecg_rule", ALL_THREE)["n_people"] == 30
    row = _row(masked, C_DIFFERENCE, AGAINST_RULES, ALL_THREE)
    assert (row["n_people"], row["n_events"]) == (30, 10)
    assert row["estimate"] == pytest.approx(0.225)


def test_predicted_lvh__is_not_taken_from_the_score() -> None:
    people = [{**one, "lvh_score": 0.99} for one in _people()]
    assert _counts(masked_of(hand_data(people)), "lvh", ALL_PAIRS)["n_positive"] == 8


def test_estimates__equal_the_functions(drawn: StudyData, exact: dict[str, Masked]) -> None:
    pairs = cmr_pairs(drawn)
    complete = pairs[pairs["all_three"]]
    for marker, words in YES_NO.items():
        wanted = binary_c_statistic(complete, label="lvh_cmr", marker=marker).estimates.iloc[0]
        row = _row(exact, C, words, ALL_THREE)
        np.testing.assert_allclose(
            [row["estimate"], row["lo"], row["hi"]], wanted[["c", "c_lo", "c_hi"]].tolist(), atol=6e-4
        )
        counts = diagnostic_accuracy(complete, label="lvh_cmr", marker=marker).counts.iloc[0]
        ours = _counts(exact, marker, ALL_THREE)
        assert {name: ours[name] for name in ("tp", "fp", "fn", "tn")} == {
            name: counts[name] for name in ("tp", "fp", "fn", "tn")
        }
    both = compare_binary_c_statistic(complete, label="lvh_cmr", markers=["lvh", "any_ecg_rule"])
    p = _row(exact, C_DIFFERENCE, AGAINST_RULES, ALL_THREE)["p"]
    assert p == pytest.approx(both.differences["p"].iloc[0])


def test_auroc__equals_the_function_and_raw_values_stay_within_sex(drawn: StudyData, exact: dict[str, Masked]) -> None:
    pairs = cmr_pairs(drawn)
    for marker, words in (
        ("relative_index", RELATIVE_INDEX),
        ("lvh_score", SCORE),
        ("relative_cornell", RELATIVE_CORNELL),
    ):
        known = pairs[["lvh_cmr", marker]].dropna()
        wanted = auroc(known, label="lvh_cmr", marker=marker).estimates["auc"].iloc[0]
        assert _row(exact, AUROC, words)["estimate"] == pytest.approx(wanted)
    assert estimate_of(exact["results_cmr"], AUROC, RAW_INDEX) is None
    for sex in ("female", "male"):
        raw = _row(exact, AUROC, RAW_INDEX, "sex", sex)
        relative = _row(exact, AUROC, RELATIVE_INDEX, "sex", sex)
        assert raw["estimate"] == pytest.approx(relative["estimate"])


def test_auroc__nobody_with_lvh_gives_no_estimate() -> None:
    masked = masked_of(hand_data([{**NO_LVH, "lvm_pred_g": 80.0 + i} for i in range(12)]))
    row = _row(masked, AUROC, RELATIVE_INDEX)
    assert np.isnan(row["estimate"])
    assert "nobody" in row["warnings"]
    assert np.isnan(_row(masked, C, YES_NO["lvh"])["estimate"])


def test_masking__a_small_cell_hides_c_and_the_tests() -> None:
    data = hand_data(_people() * 2, release=Release(rule="strict", k=10, base=5))
    masked = masked_of(data, MaskingRule(10, 5))
    # The prediction has 4 people without LVH who are positive.
    assert np.isnan(_row(masked, C, YES_NO["lvh"], ALL_THREE)["estimate"])
    assert np.isnan(_row(masked, C_DIFFERENCE, AGAINST_RULES, ALL_THREE)["estimate"])
    assert np.isnan(_row(masked, SENSITIVITY_TEST, AGAINST_RULES, ALL_THREE)["p"])
    assert masked["cmr_lvh"].rows.loc[0, ["tp", "fn", "fp", "tn"]].isna().all()
    made = present(masked, data.about)
    assert made is not None
    cells = next(one for one in made.items if one.key == "cmr_accuracy")
    assert isinstance(cells, ReadTable)
    assert (cells.cells.iloc[0, 3:] == HIDDEN).all()


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("lvh", [True, False])
def test_masking__few_of_a_combination_hide_what_would_tell_it(place: int, lvh: bool) -> None:
    # Found by both, by the prediction alone, by a rule alone, by neither. No cell of one marker is
    # small: from a paired error or P value the 4 people could be found all the same.
    combinations = [{**FOUND, **RULE}, FOUND, RULE, {}]
    people = []
    for base, is_lvh in ((LVH, True), (NO_LVH, False)):
        numbers = [20, 25, 30, 60]
        if is_lvh == lvh:
            numbers[place] = 4
        people += [{**base, **one} for one, n in zip(combinations, numbers, strict=True) for _ in range(n)]
    masked = masked_of(hand_data(people), MaskingRule(10, 5))
    assert np.isfinite(_row(masked, C, YES_NO["lvh"], ALL_THREE)["estimate"])
    assert np.isfinite(_row(masked, C, YES_NO["any_ecg_rule"], ALL_THREE)["estimate"])
    difference = _row(masked, C_DIFFERENCE, AGAINST_RULES, ALL_THREE)
    assert np.isnan([difference[name] for name in ("estimate", "se", "lo", "hi", "p")]).all()
    hidden = [
        np.isnan(_row(masked, name, AGAINST_RULES, ALL_THREE)["p"]) for name in (SENSITIVITY_TEST, SPECIFICITY_TEST)
    ]
    assert hidden == [lvh, not lvh]


def test_masking__only_one_population_has_a_c_of_exact_counts() -> None:
    cells = [({**LVH, **FOUND}, 22), (LVH, 31), ({**NO_LVH, **FOUND}, 13), (NO_LVH, 54)]
    people = [one for one, n in cells for _ in range(n)]
    few = [{**LVH, **FOUND, "rule_avl": None}] * 3
    rounded = Release(rule="strict", k=10, base=5)
    masked = masked_of(hand_data(people + few, release=rounded), MaskingRule(10, 5))
    exact = _row(masked, C, YES_NO["lvh"], ALL_THREE)
    assert exact["estimate"] == pytest.approx((22 / 53 + 54 / 67) / 2, abs=6e-4)
    # 25, 31, 13 and 54 are shown as 25, 30, 15 and 55; it reveals no more than these.
    everybody = _row(masked, C, YES_NO["lvh"])
    assert everybody["estimate"] == pytest.approx((25 / 55 + 55 / 70) / 2, abs=6e-4)
    assert everybody["warnings"] == FROM_ROUNDED
    # Without rules nothing is subtracted from everybody.
    bare = masked_of(hand_data([{**one, "rule_avl": None} for one in people], release=rounded), MaskingRule(10, 5))
    assert _row(bare, C, YES_NO["lvh"])["estimate"] == exact["estimate"]


def test_masking__a_small_cell_of_one_group_hides_those_of_the_other() -> None:
    men: dict[str, Any] = {"sex": "male", "lvm_pred_g": 100.0}
    people = [{**LVH, **FOUND}] * 20 + [LVH] * 20 + [NO_LVH] * 30 + [{**NO_LVH, **FOUND}] * 12
    people += [{**men, "lvm_cmr_g": 150.0}] * 15 + [{**men, "lvm_cmr_g": 120.0}] * 30
    people += [{**men, "lvm_cmr_g": 150.0, "lvh_pred": True}] * 3
    data = hand_data(people, release=Release(rule="strict", k=10, base=1))
    rows = masked_of(data, MaskingRule(10, 1))["cmr_lvh"].rows
    own = rows[(rows["strata"] == "sex") & (rows["population"] == ALL_PAIRS)]
    assert own[["tp", "fn", "fp", "tn"]].isna().all(axis=None)
    assert own["n_lvh"].tolist() == [40, 18]
    # Everybody has no small cell.
    everybody = rows[(rows["strata"] == "") & (rows["population"] == ALL_PAIRS)]
    assert everybody[["tp", "fn", "fp", "tn"]].to_numpy().tolist() == [[23, 35, 12, 60]]


def test_masking__zero_beside_a_small_cell_still_hides_c() -> None:
    # All cells of the prediction are large, 0 or 3: 0 must not pass for the fewest.
    people = [{**LVH, **FOUND}] * 20 + [LVH] * 3 + [NO_LVH] * 20
    masked = masked_of(hand_data(people), MaskingRule(10, 1))
    assert np.isnan(_row(masked, C, YES_NO["lvh"])["estimate"])


def test_shares__are_of_the_counts_as_shown() -> None:
    people = [{**LVH, **FOUND}] * 22 + [LVH] * 31 + [{**NO_LVH, **FOUND}] * 11 + [NO_LVH] * 53
    data = hand_data(people)
    made = present(masked_of(data, MaskingRule(10, 5)), data.about)
    assert made is not None
    cells = next(one for one in made.items if one.key == "cmr_accuracy")
    assert isinstance(cells, ReadTable)
    # 22 of 53 are shown as 20 of 55; 53 of 64 as 55 of 65.
    row = cells.cells.iloc[0]
    assert row["Sensitivity"].startswith("36.4%")
    assert row["Specificity"].startswith("84.6%")


def test_share_text__limits_of_wilson_and_odd_counts() -> None:
    # R: prop.test(20, 55, correct = FALSE)$conf.int, worked by hand from Wilson's formula:
    # centre (p + z2/2n)/(1 + z2/n), p = 0.363636, n = 55, z2 = 3.841459.
    n, p, z2 = 55, 20 / 55, 1.959963984540054**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    assert share_text(20, 55) == (f"36.4% ({100 * (centre - half):.1f} to {100 * (centre + half):.1f})")
    assert share_text(pd.NA, 55) == HIDDEN
    assert share_text(20, pd.NA) == HIDDEN
    assert share_text(15, 10).startswith("100.0%")
    assert share_text(0, 0) == "–"


def test_prevalence__is_given_by_cmr_and_by_prediction() -> None:
    data = hand_data(_people())
    made = present(masked_of(data), data.about)
    assert made is not None
    table = next(one for one in made.items if one.key == "cmr_prevalence")
    assert isinstance(table, ReadTable)
    row = table.cells.iloc[0]
    assert row["Prevalence by CMR"].startswith("33.3%")
    assert row["Predicted prevalence"].startswith("26.7%")
    assert any("too few" in note for note in table.notes)
