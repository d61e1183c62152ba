"""Against CMR: every comparison by group, exact and as shown, and people of the training set."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.aggregates import Aggregate
from analysis.disclosure.masking import Masked, MaskingRule
from analysis.report.document import ReadTable
from analysis.report.topics import sensitivity
from analysis.report.topics.cmr import aggregates, present
from analysis.report.topics.cmr_agreement import (
    CALIBRATED,
    DEMOGRAPHICS,
    DIFFERENCE,
    INDEX,
    MASS,
    PARTIAL,
    PREDICTION,
    partial_correlation,
)
from analysis.report.topics.cmr_lvh import (
    AGAINST_CORNELL,
    AGAINST_RULES,
    ALL_THREE,
    AUROC,
    AUROC_DIFFERENCE,
    C_DIFFERENCE,
    FROM_ROUNDED,
    RELATIVE_CORNELL,
    SCORE,
    SENSITIVITY_TEST,
    SPECIFICITY_TEST,
    YES_NO,
    C,
    on_all_three,
)
from analysis.report.topics.cmr_pairs import BEFORE, UNDATED, cmr_pairs, estimate_of
from analysis.statistics.accuracy.roc import binary_c_statistic, compare_auroc, compare_binary_c_statistic
from analysis.statistics.agreement import deming_regression
from analysis.statistics.agreement.regression import passing_bablok
from analysis.study.data import StudyData
from analysis.study.settings import Release, Training
from tests.analysis.report.builders import study, study_data
from tests.analysis.report.cmr_people import hand_data, masked_of
from tests.analysis.report.outcome_rows import COMPLETE

STRATA = {"sex": "female", "age_band": "60-69", "bmi_class": "25-29.9", "ethnicity": "White"}
DATE = dt.date(2016, 1, 1)
SINCE = Training(is_uk_biobank=True, exclude_imaged_before=DATE)


@pytest.fixture(scope="module")
def drawn() -> StudyData:
    data = study_data(900, study=study(release=Release(rule="none")))
    words = np.where(np.arange(len(data.persons)) % 4 == 0, "Black", "White")
    return replace(data, persons=data.persons.assign(ethnicity=words))


@pytest.fixture(scope="module")
def found(drawn: StudyData) -> dict[str, Masked]:
    return masked_of(drawn)


def _row(masked: dict[str, Masked], *where: str) -> dict[str, Any]:
    row = estimate_of(masked["results_cmr"], *where)
    assert row is not None, where
    return dict(row)


def _group(data: StudyData, strata: str) -> pd.DataFrame:
    pairs = cmr_pairs(data)
    return pairs[pairs[strata] == STRATA[strata]]


@pytest.mark.parametrize("strata", STRATA)
def test_every_comparison__is_there_by_group(found: dict[str, Masked], strata: str) -> None:
    level, ruled = STRATA[strata], on_all_three(strata)
    for method in ("deming", "passing-bablok"):
        for words in (MASS, INDEX):
            assert np.isfinite(_row(found, f"{method} slope", words, strata, level)["estimate"])
    assert np.isfinite(_row(found, PARTIAL, PREDICTION, strata, level)["estimate"])
    against = f"{CALIBRATED} against {DEMOGRAPHICS}"
    assert np.isfinite(_row(found, DIFFERENCE, against, strata, level)["p"])
    for words in YES_NO.values():
        assert np.isfinite(_row(found, C, words, ruled, level)["estimate"])
    for measure in (C_DIFFERENCE, SENSITIVITY_TEST, SPECIFICITY_TEST):
        assert np.isfinite(_row(found, measure, AGAINST_RULES, ruled, level)["p"])
    assert np.isfinite(_row(found, AUROC_DIFFERENCE, AGAINST_CORNELL, ruled, level)["p"])
    for words in (SCORE, RELATIVE_CORNELL):
        assert np.isfinite(_row(found, AUROC, words, strata, level)["estimate"])
    counts = found["cmr_lvh"].rows
    ours = counts[(counts["population"] == ALL_THREE) & (counts["strata"] == strata)]
    assert set(ours["marker"]) == set(YES_NO.values())


@pytest.mark.parametrize("strata", STRATA)
def test_groups__have_the_numbers_of_their_people_alone(
    drawn: StudyData, found: dict[str, Masked], strata: str
) -> None:
    own, level, ruled = _group(drawn, strata), STRATA[strata], on_all_three(strata)
    table = own[["mass_g", "mass_cmr_g"]].dropna()
    deming = deming_regression(table, x="mass_g", y="mass_cmr_g", variance_ratio=1.0)
    ranks = passing_bablok(table, x="mass_g", y="mass_cmr_g")
    for name, line in (("deming", deming), ("passing-bablok", ranks)):
        wanted = line.estimates.set_index("term").loc["slope", "estimate"]
        row = _row(found, f"{name} slope", MASS, strata, level)
        assert (row["n_people"], row["estimate"]) == (len(table), pytest.approx(wanted))
    whole = own.dropna(subset=["mass_g", "mass_cmr_g", "age_years", "bmi_kg_m2", "height_cm"])
    given = np.column_stack([whole["sex"] == "male", whole[["age_years", "bmi_kg_m2", "height_cm"]]]).astype(float)
    made = partial_correlation(whole["mass_g"].to_numpy(float), whole["mass_cmr_g"].to_numpy(float), given)
    row = _row(found, PARTIAL, PREDICTION, strata, level)
    assert row["estimate"] == pytest.approx(made["estimate"])
    complete = own[own["all_three"]]
    pair = ["lvh", "any_ecg_rule"]
    both = compare_binary_c_statistic(complete, label="lvh_cmr", markers=pair)
    row = _row(found, C_DIFFERENCE, AGAINST_RULES, ruled, level)
    assert row["n_people"] == len(complete)
    wanted = both.differences.iloc[0]
    assert (row["estimate"], row["p"]) == pytest.approx((wanted["difference"], wanted["p"]))
    c = binary_c_statistic(complete, label="lvh_cmr", marker="rule_cornell").estimates["c"].iloc[0]
    assert _row(found, C, YES_NO["rule_cornell"], ruled, level)["estimate"] == pytest.approx(c)


def test_lines__cross_fitted_are_judged_in_each_group(found: dict[str, Masked]) -> None:
    """The mean error of all is the mean of the groups' by their size."""
    rows = found["results_cmr"].rows
    for name in (PREDICTION, CALIBRATED, DEMOGRAPHICS):
        own = rows[(rows["measure"] == "mae") & (rows["contrast"] == name)]
        everybody = own[own["strata"] == ""].iloc[0]
        for strata in STRATA:
            parts = own[own["strata"] == strata]
            assert parts["n_people"].sum() == everybody["n_people"]
            mean = np.average(parts["estimate"], weights=parts["n_people"].astype(float))
            assert mean == pytest.approx(everybody["estimate"])


def test_auroc_difference__is_of_people_with_all_three_rules(drawn: StudyData, found: dict[str, Masked]) -> None:
    pairs = cmr_pairs(drawn)
    complete = pairs[pairs["all_three"]]
    markers = ["relative_index", "relative_cornell"]
    wanted = compare_auroc(complete, label="lvh_cmr", markers=markers)
    row = _row(found, AUROC_DIFFERENCE, AGAINST_CORNELL, ALL_THREE)
    assert row["n_people"] == wanted.n == len(complete)
    assert row["estimate"] == pytest.approx(wanted.differences["difference"].iloc[0])
    assert estimate_of(found["results_cmr"], AUROC_DIFFERENCE, AGAINST_CORNELL) is None


def test_auroc_difference__leaves_out_people_with_cornell_but_without_another_rule() -> None:
    rng = np.random.default_rng(5)
    people: list[dict[str, Any]] = [
        {"lvm_pred_g": mass, "lvm_cmr_g": mass + rng.normal(20, 15), "r_avl_uv": 400 + 3 * mass}
        for mass in rng.normal(95, 15, 60)
    ]
    for one in people[:20]:
        one["rule_sokolow_lyon"] = None
    masked = masked_of(hand_data(people))
    assert _row(masked, AUROC_DIFFERENCE, AGAINST_CORNELL, ALL_THREE)["n_people"] == 40
    assert _row(masked, AUROC, RELATIVE_CORNELL)["n_people"] == 60


def _people(n: int, **more: Any) -> list[dict[str, Any]]:
    """Women with LVH in a third, of whom prediction and rules find some."""
    lvh, no = {"lvm_cmr_g": 120.0}, {"lvm_cmr_g": 100.0}
    finds, rule = {"lvh_pred": True, "lvm_pred_g": 115.0}, {"rule_avl": True}
    kinds = [{**base, **a, **b} for base in (lvh, no) for a in (finds, {}) for b in (rule, {})]
    sizes = [n, n + 2, n + 4, n + 6, n + 1, n + 3, n + 11, 3 * n]
    return [{**kind, **more} for kind, size in zip(kinds, sizes, strict=True) for _ in range(size)]


def _exact(data: StudyData) -> Aggregate:
    return next(one for one in aggregates(data) if one.key == "results_cmr")


def test_masking__shows_rounded_and_keeps_exact_what_stays_restricted() -> None:
    """A c-statistic of a group: exact counts in restricted/, rounded ones in what may leave."""
    data = hand_data(_people(13) + _people(17, age_years=45.0), release=Release(rule="strict", k=10, base=5))
    own = cmr_pairs(data)
    young = own[own["age_band"] == "<50"]
    wanted = binary_c_statistic(young, label="lvh_cmr", marker="rule_avl").estimates["c"].iloc[0]
    rows = _exact(data).rows
    at = (rows["measure"] == C) & (rows["contrast"] == YES_NO["rule_avl"])
    at &= (rows["strata"] == on_all_three("age_band")) & (rows["level"] == "<50")
    assert rows.loc[at, "estimate"].tolist() == [pytest.approx(wanted, abs=1e-12)]
    masked = masked_of(data, MaskingRule(10, 5))
    shown = _row(masked, C, YES_NO["rule_avl"], on_all_three("age_band"), "<50")
    # With LVH 17 + 21 = 38 are positive and 42 not, without 46 and 71: shown as 40, 40, 45, 70.
    assert shown["estimate"] == pytest.approx((40 / 80 + 70 / 115) / 2, abs=6e-4)
    assert shown["estimate"] != pytest.approx(wanted, abs=6e-4)
    assert shown["warnings"] == FROM_ROUNDED


def test_masking__paired_tests_of_groups_are_of_rounded_combinations() -> None:
    data = hand_data(_people(13) + _people(17, age_years=45.0), release=Release(rule="strict", k=10, base=5))
    masked = masked_of(data, MaskingRule(10, 5))
    rounded = {17: 15, 19: 20, 21: 20, 23: 25, 18: 20, 20: 20, 28: 30, 51: 50}
    sizes = [17, 19, 21, 23, 18, 20, 28, 51]
    kinds = [(y, a, b) for y in (1.0, 0.0) for a in (1.0, 0.0) for b in (1.0, 0.0)]
    table = pd.DataFrame(np.repeat(kinds, [rounded[n] for n in sizes], axis=0), columns=["y", "a", "b"])
    wanted = compare_binary_c_statistic(table, label="y", markers=["a", "b"]).differences.iloc[0]
    row = _row(masked, C_DIFFERENCE, AGAINST_RULES, on_all_three("age_band"), "<50")
    assert row["estimate"] == pytest.approx(wanted["difference"], abs=6e-4)
    assert row["p"] == pytest.approx(wanted["p"], rel=1e-3)


def test_masking__few_of_a_combination_in_one_group_hide_the_tests_of_all() -> None:
    """Of the young three have LVH that a rule alone finds."""
    people = _people(13) + _people(17, age_years=45.0)
    few = {"lvm_cmr_g": 120.0, "rule_avl": True, "age_years": 45.0}
    kept = [one for one in people if not all(one.get(k) == v for k, v in few.items()) or one.get("lvh_pred")]
    assert len(kept) == len(people) - 21
    data = hand_data([*kept, *[few] * 3], release=Release(rule="strict", k=10, base=5))
    masked = masked_of(data, MaskingRule(10, 5))
    for level in ("<50", "60-69"):
        row = _row(masked, C_DIFFERENCE, AGAINST_RULES, on_all_three("age_band"), level)
        assert np.isnan([row["estimate"], row["se"], row["p"]]).all()


def _imaged() -> StudyData:
    """60 women imaged in 2015, whose predictions are too good, and 80 imaged in 2016."""
    rng = np.random.default_rng(7)
    people = []
    for place in range(140):
        truth = rng.normal(100, 20)
        error = 2.0 if place < 60 else 15.0
        day = "2015-06-01" if place < 60 else "2016-06-01"
        people.append(
            {
                "lvm_pred_g": truth + rng.normal(0, error),
                "lvm_cmr_g": truth,
                "cmr_day": day,
                "ecg_day": day,
                "lvh_pred": bool(rng.random() < 0.4),
            }
        )
    return hand_data(people, training=SINCE)


def test_training__headline_and_paper_table_are_of_people_imaged_since_the_date() -> None:
    data = _imaged()
    masked = masked_of(data)
    late = cmr_pairs(data).iloc[60:]
    r = np.corrcoef(late["mass_g"], late["mass_cmr_g"])[0, 1]
    row = _row(masked, "pearson", MASS)
    assert (row["n_people"], row["estimate"]) == (80, pytest.approx(r))
    assert _row(masked, C, YES_NO["lvh"], ALL_THREE)["n_people"] == 80
    assert _row(masked, PARTIAL, PREDICTION)["n_people"] == 80
    assert masked["cmr_hexagons"].rows["n_people"].sum() == 2 * 80
    section = present(masked, data.about)
    assert section is not None
    paper = next(one for one in section.items if one.key == "cmr_paper")
    assert isinstance(paper, ReadTable)
    assert paper.cells["People, this study"].tolist() == ["80", "80", "80", "80", "80"]
    assert any("on or after the date that the study gives" in one for one in section.paragraphs)


def test_training__before_and_after_stand_beside_the_main_results() -> None:
    data = _imaged()
    masked = masked_of(data)
    pairs = cmr_pairs(data)
    early = np.corrcoef(pairs["mass_g"][:60], pairs["mass_cmr_g"][:60])[0, 1]
    row = _row(masked, "pearson", MASS, "imaged", f"before {DATE}")
    assert (row["n_people"], row["estimate"]) == (60, pytest.approx(early))
    after = _row(masked, "pearson", MASS, "imaged", f"on or after {DATE}")
    assert after["estimate"] == _row(masked, "pearson", MASS)["estimate"]
    for measure in ("deming slope", "bias"):
        assert _row(masked, measure, MASS, "imaged", f"before {DATE}")["n_people"] == 60
    assert _row(masked, PARTIAL, PREDICTION, "imaged", f"before {DATE}")["n_people"] == 60
    ruled = on_all_three("imaged")
    assert _row(masked, C, YES_NO["lvh"], ruled, f"before {DATE}")["n_people"] == 60


def test_training__an_earlier_cmr_than_the_paired_one_counts_and_flow_adds_up() -> None:
    data = hand_data([{"cmr_day": "2016-01-05"}] * 5, training=SINCE)
    assert data.cmr is not None
    ids = data.cmr["participant_id"]
    days = ["2014-01-01", None, "2020-01-01"]
    other = pd.DataFrame({"participant_id": ids.iloc[:3], "cmr_date": pd.to_datetime(days), "lvm_cmr_g": 100.0})
    data = replace(data, cmr=pd.concat([data.cmr, other], ignore_index=True))
    assert cmr_pairs(data)["imaged"].fillna("?").tolist() == [f"before {DATE}", "?", *[f"on or after {DATE}"] * 3]
    flow = masked_of(data)["cmr_flow"].rows.set_index("step")["n_people"]
    assert (flow[BEFORE], flow[UNDATED]) == (1, 1)
    assert flow.iloc[0] == flow.iloc[1:].sum() == 5


def test_training__outcomes_are_split_by_first_cmr_or_none() -> None:
    data = study_data(400, study=study(release=Release(rule="none"), training=SINCE))
    assert data.cmr is not None
    rows = sensitivity.TOPIC.aggregates(data)[0].rows
    own = rows[(rows["outcome"] == "af") & rows["level"].str.contains("imaged")]
    followed = set(data.analysed("af").dropna(subset=COMPLETE)["participant_id"])
    first = data.cmr.set_index("participant_id")["cmr_date"]
    known = first[first.index.isin(followed)]
    sizes = [(known < "2016-01-01").sum(), (known >= "2016-01-01").sum(), len(followed) - len(known)]
    counted = own.drop_duplicates("level").set_index("level")["n_people"]
    assert counted.to_dict() == {
        f"imaged before {DATE}": sizes[0],
        f"imaged on or after {DATE}": sizes[1],
        "never imaged, or at an unknown date": sizes[2],
    }
    assert min(sizes) > 20
