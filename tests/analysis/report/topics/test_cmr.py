from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.disclosure.masking import HIDDEN, Masked, MaskingRule
from analysis.follow_up import EcgFinding
from analysis.report.document import ReadTable, Section
from analysis.report.topics.cmr import NO_RULES, aggregates, present
from analysis.report.topics.cmr_agreement import (
    DEMOGRAPHICS,
    INDEX,
    MASS,
    PARTIAL,
    PREDICTION,
    cross_fitted,
    fold_of,
    partial_correlation,
)
from analysis.report.topics.cmr_pairs import cmr_pairs, estimate_of
from analysis.statistics.agreement.bland_altman import MEASURES, agreement
from analysis.statistics.agreement.regression import deming_regression, passing_bablok
from analysis.study.cmr import pair_with_cmr
from analysis.study.data import StudyData
from analysis.study.settings import Release, Training
from tests.analysis.report.builders import study, study_data
from tests.analysis.report.cmr_people import hand_data, masked_of
from tests.analysis.report.shown_counts import left_for

UNMASKED = study(release=Release(rule="none"))


@pytest.fixture(scope="module")
def drawn() -> StudyData:
    return study_data(500, study=UNMASKED)


@pytest.fixture(scope="module")
def found(drawn: StudyData) -> dict[str, Masked]:
    return masked_of(drawn)


def _section(data: StudyData, rule: MaskingRule | None = None) -> Section:
    made = present(masked_of(data, rule or MaskingRule(0, 1)), data.about)
    assert made is not None
    return made


def _table(section: Section, key: str) -> ReadTable:
    return next(one for one in section.items if one.key == key and isinstance(one, ReadTable))


def _estimate(masked: dict[str, Masked], measure: str, *where: str) -> Any:
    row = estimate_of(masked["results_cmr"], measure, *where)
    assert row is not None
    return row["estimate"]


def test_aggregates__none_without_cmr() -> None:
    data = replace(study_data(60), cmr=None)
    assert aggregates(data) == []
    assert present({}, data.about) is None


def test_flow__every_person_with_cmr_ends_in_one_row() -> None:
    outsider = pd.DataFrame({"participant_id": ["Z"], "cmr_date": [pd.Timestamp("2016-01-01")], "lvm_cmr_g": [100.0]})
    data = hand_data(
        [
            {},
            {},
            {"rule_avl": None},
            {"bsa_m2": np.nan},
            {"sex": None},
            {"ecg_day": "2016-04-01"},
            {"ecg_day": None},
            {"cmr_day": None},
        ]
    )
    assert data.cmr is not None
    data = replace(data, cmr=pd.concat([data.cmr, outsider], ignore_index=True))
    # 2016-01-01 to 2016-04-01 is 91 days, one more than the study allows.
    rows = masked_of(data)["cmr_flow"].rows
    assert rows["n_people"].tolist() == [7, 1, 1, 2, 1, 2]
    assert rows["n_people"].iloc[0] == rows["n_people"].iloc[1:].sum()


def test_flow__pairs_whose_ecg_has_a_finding_are_left_out_and_counted() -> None:
    """Of the person with two ECGs the nearer one is paced: the other does not take its place."""
    asked = {"exclude_ecg": (EcgFinding.PACED,)}
    data = hand_data([{}, {"ecg_finding": "paced"}, {"ecg_finding": None}, {"ecg_day": None}], **asked)
    other = data.predictions.iloc[[1]].assign(ecg_id="other", recorded_at=pd.Timestamp("2016-01-02"), ecg_finding=None)
    data = replace(data, predictions=pd.concat([data.predictions, other], ignore_index=True))
    assert cmr_pairs(data)["participant_id"].tolist() == ["P0000", "P0002"]
    rows = masked_of(data)["cmr_flow"].rows
    counts = rows.set_index("step")["n_people"]
    assert counts["paired, but the ECG has a finding for which the study leaves people out"] == 1
    assert counts.iloc[0] == counts.iloc[1:].sum() == 4


def test_pairs__index_and_lvh_by_cmr_use_body_surface_and_limit_of_the_prediction() -> None:
    pairs = cmr_pairs(
        hand_data(
            [
                {"lvm_cmr_g": 110.0},
                {"lvm_cmr_g": 110.2},
                {"sex": "male", "lvm_cmr_g": 144.0},
                {"sex": "male", "lvm_cmr_g": 145.0},
                {"sex": None, "lvm_cmr_g": 300.0},
            ]
        )
    )
    np.testing.assert_allclose(pairs["index_cmr_g_m2"], [55.0, 55.1, 72.0, 72.5, 150.0])
    np.testing.assert_array_equal(pairs["lvh_cmr"], [0, 1, 0, 1, np.nan])
    np.testing.assert_allclose(pairs["relative_index"], [45 / 55] * 2 + [45 / 72] * 2 + [np.nan])
    np.testing.assert_allclose(pairs["relative_cornell"], [0.6, 0.6, 3 / 7, 3 / 7, np.nan])


def test_pairs__groups_at_their_bounds() -> None:
    ages, bmis = [49.9, 50.0, 70.0, np.nan], [24.99, 25.0, 30.0, np.nan]
    people = [{"age_years": a, "bmi_kg_m2": b} for a, b in zip(ages, bmis, strict=True)]
    pairs = cmr_pairs(hand_data(people))
    assert pairs["age_band"].tolist()[:3] == ["<50", "50-59", "70+"]
    assert pairs["bmi_class"].tolist()[:3] == ["<25", "25-29.9", "30+"]
    assert pairs[["age_band", "bmi_class"]].iloc[3].isna().all()


def test_pairs__small_ethnic_groups_are_put_together() -> None:
    words = ["White"] * 30 + ["Black"] * 29 + ["Asian"] * 5 + [" ", None]
    groups = cmr_pairs(hand_data([{"ethnicity": one} for one in words]))["ethnicity"]
    assert groups.value_counts().to_dict() == {"White": 30, "other groups": 34}


def test_pairs__what_is_put_together_is_not_small_itself() -> None:
    words = ["White"] * 50 + ["Black"] * 31 + ["Asian"] * 5
    groups = cmr_pairs(hand_data([{"ethnicity": one} for one in words]))["ethnicity"]
    assert groups.value_counts().to_dict() == {"White": 50, "other groups": 36}


def test_pairs__date_of_the_training_set_is_of_the_cmr() -> None:
    date = dt.date(2016, 1, 1)
    data = hand_data(
        [{"cmr_day": "2015-12-31"}, {"cmr_day": "2016-01-01", "ecg_day": "2015-12-01"}],
        training=Training(exclude_imaged_before=date),
    )
    assert cmr_pairs(data)["imaged"].tolist() == ["before 2016-01-01", "on or after 2016-01-01"]
    assert cmr_pairs(hand_data([{}]))["imaged"].isna().all()


def test_agreement__numbers_by_hand() -> None:
    masses = [(90.0, 80.0), (100.0, 100.0), (110.0, 120.0), (120.0, 140.0)]
    people = [{"lvm_pred_g": made, "lvm_cmr_g": truth} for made, truth in masses]
    masked = masked_of(hand_data(people))
    expected = {
        "bias": -5.0,
        "mae": 10.0,
        "pearson": 1.0,
        "spearman": 1.0,
        "calibration_slope": 2.0,
        "calibration_intercept": -100.0,
    }
    for measure, value in expected.items():
        assert _estimate(masked, measure, MASS) == pytest.approx(value), measure
    # Everybody has a body surface area of 2 m2.
    assert _estimate(masked, "bias", INDEX) == pytest.approx(-2.5)
    assert _estimate(masked, "mae", INDEX) == pytest.approx(5.0)


def test_agreement__equals_the_function_overall_and_by_sex(drawn: StudyData, found: dict[str, Masked]) -> None:
    assert drawn.cmr is not None
    pairs = pair_with_cmr(drawn.predictions, drawn.cmr, max_days=90)
    expected = agreement(pairs, predicted="lvm_pred_g", reference="lvm_cmr_g", by=["sex"])
    for row in expected.estimates.to_dict("records"):
        own = estimate_of(found["results_cmr"], row["measure"], MASS, "sex", row["sex"])
        assert own is not None
        np.testing.assert_allclose([own["estimate"], own["lo"], own["hi"]], [row["estimate"], row["lo"], row["hi"]])
        assert own["n_people"] == row["n"]
    assert set(MEASURES) <= set(found["results_cmr"].rows["measure"])


def test_structural_lines__are_of_cmr_on_prediction(drawn: StudyData, found: dict[str, Masked]) -> None:
    pairs = cmr_pairs(drawn)[["mass_g", "mass_cmr_g"]].dropna()
    deming = deming_regression(pairs, x="mass_g", y="mass_cmr_g", variance_ratio=1.0)
    ranks = passing_bablok(pairs, x="mass_g", y="mass_cmr_g")
    for name, line in (("deming", deming), ("passing-bablok", ranks)):
        slope = line.estimates.set_index("term").loc["slope", "estimate"]
        assert _estimate(found, f"{name} slope", MASS) == pytest.approx(slope)


def test_partial_correlation__with_one_covariate_is_the_textbook_formula() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=50)
    x, y = z + rng.normal(size=50), 2 * z + rng.normal(size=50)
    r = np.corrcoef([x, y, z])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    made = partial_correlation(x, y, z[:, None])
    assert made["estimate"] == pytest.approx(expected)
    half = 1.959963984540054 / np.sqrt(50 - 1 - 3)
    limits = np.arctanh([made["lo"], made["hi"]]) - np.arctanh(expected)
    np.testing.assert_allclose(limits, [-half, half])


def test_partial_correlation__p_is_that_of_the_coefficient_of_the_regression() -> None:
    # R: summary(lm(y ~ x + z)); the t of x depends on the partial correlation alone.
    rng = np.random.default_rng(4)
    x, y, z = rng.normal(size=(3, 30))
    design = np.column_stack([np.ones(30), x, z])
    beta, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    t = beta[1] / np.sqrt(squares[0] / 27 * np.linalg.inv(design.T @ design)[1, 1])
    r = partial_correlation(x, y, z[:, None])["estimate"]
    assert t == pytest.approx(r * np.sqrt(27 / (1 - r**2)))


def test_partial_correlation__what_is_known_from_the_covariates_has_none() -> None:
    z = np.arange(20.0)
    made = partial_correlation(3 * z + 1, np.sin(z), z[:, None])
    assert np.isnan(list(made.values())).all()


def test_cross_fitting__nobody_is_predicted_from_himself() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(100, 2)), rng.normal(size=100)
    folds = fold_of(100, seed=1)
    assert np.bincount(folds).tolist() == [10] * 10
    changed = y.copy()
    changed[7] += 1000.0
    before, after = cross_fitted(x, y, folds), cross_fitted(x, changed, folds)
    same = folds == folds[7]
    np.testing.assert_array_equal(before[same], after[same])
    assert (before[~same] != after[~same]).all()
    np.testing.assert_allclose(cross_fitted(x, 2 + x @ [3.0, -1.0], folds), 2 + x @ [3.0, -1.0])


def test_body_size__order_of_rows_changes_nothing(drawn: StudyData, found: dict[str, Masked]) -> None:
    turned = masked_of(replace(drawn, predictions=drawn.predictions.iloc[::-1]))
    for measure, contrast in (("mae", DEMOGRAPHICS), ("pearson", PREDICTION), (PARTIAL, PREDICTION)):
        assert _estimate(turned, measure, contrast) == pytest.approx(_estimate(found, measure, contrast))


def test_body_size__a_prediction_made_of_body_size_alone_adds_nothing() -> None:
    rng = np.random.default_rng(6)
    people = []
    for _ in range(200):
        bmi, height = rng.normal(27, 3), rng.normal(170, 8)
        truth = 3 * bmi + 0.5 * height + rng.normal(0, 5)
        people.append(
            {
                "bmi_kg_m2": bmi,
                "height_cm": height,
                "lvm_cmr_g": truth,
                "age_years": rng.uniform(45, 80),
                "sex": rng.choice(["female", "male"]),
                "lvm_pred_g": 3 * bmi + 0.5 * height,
            }
        )
    masked = masked_of(hand_data(people))
    row = estimate_of(masked["results_cmr"], PARTIAL, PREDICTION)
    assert row is not None
    assert np.isnan(row["estimate"])
    better = _estimate(masked, "mae", PREDICTION) - _estimate(masked, "mae", DEMOGRAPHICS)
    assert abs(better) < 0.5


def test_section__has_every_part_and_the_figures_of_the_paper(drawn: StudyData) -> None:
    section = _section(drawn)
    assert (section.key, section.title) == ("cmr", "Against CMR")
    assert [one.key for one in section.items] == [
        "cmr_flow",
        "cmr_paper",
        "cmr_errors_mass",
        "cmr_correlation_mass",
        "cmr_errors_index",
        "cmr_correlation_index",
        "cmr_lines",
        "cmr_mass",
        "cmr_bland_altman",
        "cmr_body_size",
        "cmr_body_size_groups",
        "cmr_prevalence",
        "cmr_accuracy",
        "cmr_rules",
        "cmr_c_statistic",
        "cmr_rules_by_group",
        "cmr_auroc",
        "cmr_roc",
    ]
    paper = _table(section, "cmr_paper")
    assert paper.cells.iloc[:4, 1].tolist() == ["0.79", "0.653 (0.608 to 0.698)", "0.618 (0.574 to 0.663)", "0.11"]
    assert paper.cells.iloc[:4, 2].tolist() == ["0.60", "0.621 (0.592 to 0.649)", "0.588 (0.564 to 0.611)", "0.02"]
    assert "n = 4,903" in paper.cells.columns[1]
    assert "n = 1,371" in paper.cells.columns[2]
    assert any("not stated" in note for note in paper.notes)
    for one in section.items:
        if isinstance(one, ReadTable):
            assert one.cells.map(lambda cell: isinstance(cell, str)).all(axis=None), one.key


def test_section__the_slope_on_the_mean_has_its_remark(drawn: StudyData) -> None:
    notes = _table(_section(drawn), "cmr_correlation_mass").notes
    assert any("negative even for a perfectly calibrated predictor" in note for note in notes)


def test_section__bands_are_in_order(drawn: StudyData) -> None:
    cells = _table(_section(drawn), "cmr_errors_mass").cells
    ages = cells.loc[cells["Group"] == "Age, years", "Level"].tolist()
    assert ages == ["<50", "50-59", "60-69", "70+"]
    classes = cells.loc[cells["Group"].str.startswith("Body mass"), "Level"].tolist()
    assert classes == ["<25", "25-29.9", "30+"]


def test_section__without_rules_a_sentence_replaces_the_table(drawn: StudyData) -> None:
    rules = ("rule_avl", "rule_sokolow_lyon", "rule_cornell", "any_ecg_rule")
    none = dict.fromkeys(rules, pd.array([None] * len(drawn.predictions), dtype="boolean"))
    section = _section(replace(drawn, predictions=drawn.predictions.assign(**none)))
    assert "cmr_rules" not in [one.key for one in section.items]
    assert NO_RULES in section.paragraphs[0]
    assert any("rules are not measured" in text for text in section.warnings)


def test_section__few_with_lvh_are_warned_of(drawn: StudyData) -> None:
    assert any("fewer than 100" in text for text in _section(drawn).warnings)


def test_section__a_small_group_hides_the_estimates_of_its_classification() -> None:
    rng = np.random.default_rng(8)
    people = [
        {"lvm_pred_g": mass, "lvm_cmr_g": mass + rng.normal(0, 9), "age_years": age}
        for mass, age in zip(rng.normal(90, 15, 60), [45.0] * 5 + [55.0] * 25 + [65.0] * 30, strict=True)
    ]
    cells = _table(_section(hand_data(people), MaskingRule()), "cmr_errors_mass").cells
    age = cells[cells["Group"] == "Age, years"]
    assert (age["Mean absolute error"] == HIDDEN).all()
    few, *others = age["People"].tolist()
    assert few == HIDDEN
    low, high = left_for(cells.loc[0, "People"], *(text for text in others if text != HIDDEN))
    assert low <= 1 or HIDDEN in others
    assert high >= 9
    assert cells.loc[0, "Mean absolute error"] != HIDDEN


@pytest.mark.parametrize("n", [0, 1, 3])
def test_section__hardly_any_pairs_are_no_error(n: int) -> None:
    data = hand_data([{"lvm_cmr_g": 100.0 + i} for i in range(n)] + [{"ecg_day": None}])
    for rule in (MaskingRule(), MaskingRule(0, 1)):
        assert _table(_section(data, rule), "cmr_flow").cells.shape == (6, 2)
