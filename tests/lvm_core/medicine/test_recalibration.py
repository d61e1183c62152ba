"""Recalibration against hand-worked values, independent fits and the theory of its intervals."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from lvm_core.errors import LvmError
from lvm_core.medicine.recalibration import (
    CmrSubset,
    Recalibration,
    conformal_half_width_g,
    cross_fitted,
    fit_recalibration,
    linear_recalibration,
    logistic_recalibration,
    logit,
    person_share,
)

NAMED: dict[str, Any] = {
    "model_id": "m",
    "model_sha256": "0" * 64,
    "input_convention": "ukb_counts",
    "bsa": "dubois",
    "lvh_preset": "khurshid2021",
}
EXAMPLE = Recalibration(
    by_sex=True,
    alpha=0.1,
    slope={"female": 0.5, "male": 0.8},
    intercept_g={"female": 30.0, "male": 10.0},
    half_width_g={"female": 12.0, "male": 20.0},
    lvh_slope=2.0,
    lvh_intercept=-1.0,
    **NAMED,
)


def people(n: int, seed: int = 1, *, error_g: float = 12.0) -> CmrSubset:
    """Draw people whose CMR mass is 20 g + 0.7 x predicted + noise, LVH in the largest fifth."""
    rng = np.random.default_rng(seed)
    sex_code = (rng.random(n) < 0.5).astype(np.int8)
    predicted_g = 95.0 + 25.0 * sex_code + 18.0 * rng.standard_normal(n)
    cmr_g = 20.0 + 0.7 * predicted_g + error_g * rng.standard_normal(n)
    lvh = cmr_g > np.quantile(cmr_g, 0.8)
    score = 1 / (1 + np.exp(-(predicted_g - 110.0) / 12.0))
    ids = [f"p{seed}-{i}" for i in range(n)]
    return CmrSubset(ids, predicted_g, score, cmr_g, sex_code, lvh, np.ones(n, dtype=bool))


def test_linear_recalibration__three_points_by_hand() -> None:
    # Means 2 and 5: sum dx dy = (-1)(-2) + 0 (-1) + 1 * 3 = 5, sum dx^2 = 2; 5 - 2.5 * 2 = 0.
    slope, intercept_g = linear_recalibration(np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0, 8.0]))
    assert slope == pytest.approx(2.5, rel=1e-12)
    assert intercept_g == pytest.approx(0.0, abs=1e-12)


def test_linear_recalibration__equals_polyfit() -> None:
    drawn = people(300)
    expected = np.polyfit(drawn.lvm_pred_g, drawn.lvm_cmr_g, 1)
    actual = linear_recalibration(drawn.lvm_pred_g, drawn.lvm_cmr_g)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("predicted", "measured", "message"),
    [
        ([1.0, 2.0], [1.0, 2.0], "2 people with 2 different"),
        ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], "3 people with 1 different"),
        ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0], r"slope of CMR on predicted mass is -1"),
    ],
)
def test_linear_recalibration__refuses(predicted: list[float], measured: list[float], message: str) -> None:
    with pytest.raises(LvmError, match=message):
        linear_recalibration(np.array(predicted), np.array(measured))


@pytest.mark.parametrize(
    ("n", "alpha", "rank"),
    # ceil((n + 1)(1 - alpha)): 9 of 9; ceil(0.9 * 20) = 18; ceil(0.8 * 10) = 8; 19 of 19.
    [(9, 0.1, 9), (19, 0.1, 18), (9, 0.2, 8), (19, 0.05, 19)],
)
def test_conformal_half_width__is_the_stated_rank(n: int, alpha: float, rank: int) -> None:
    order = np.random.default_rng(2).permutation(n)
    residual_g = np.arange(1.0, n + 1)[order] * np.where(order % 2 == 0, 1.0, -1.0)
    assert conformal_half_width_g(residual_g, alpha) == rank


@pytest.mark.parametrize(("alpha", "needed"), [(0.1, 9), (0.05, 19), (0.2, 4), (0.3, 3)])
def test_conformal_half_width__refuses_fewer_than_a_finite_interval_needs(alpha: float, needed: int) -> None:
    assert conformal_half_width_g(np.arange(float(needed)), alpha) == needed - 1
    with pytest.raises(LvmError, match=f"{needed - 1} people .* at least {needed}"):
        conformal_half_width_g(np.arange(needed - 1.0), alpha)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, float("nan")])
def test_conformal_half_width__refuses_a_share_outside_0_to_1(alpha: float) -> None:
    with pytest.raises(ValueError, match="expected a share between 0 and 1"):
        conformal_half_width_g(np.arange(50.0), alpha)


@pytest.mark.parametrize(("n", "alpha"), [(30, 0.1), (99, 0.2)])
def test_conformal_half_width__covers_as_the_theory_says(n: int, alpha: float) -> None:
    """Over 4,000 draws of n people: between 1 - alpha and 1 - alpha + 1 / (n + 1)."""
    rng = np.random.default_rng(20261123)
    draws = 4000
    residuals = rng.standard_normal((draws, n))
    new = np.abs(rng.standard_normal(draws))
    widths = np.array([conformal_half_width_g(row, alpha) for row in residuals])
    covered = (new <= widths).mean()
    margin = 3 * np.sqrt(alpha * (1 - alpha) / draws)
    assert 1 - alpha - margin < covered < 1 - alpha + 1 / (n + 1) + margin


def test_intervals__cover_cmr_of_new_people_on_average_over_200_calibration_draws() -> None:
    coverage, excess = [], []
    for draw in range(250):
        known, fresh = people(240, seed=draw), people(1000, seed=10_000 + draw)
        fitted = fit_recalibration(known, alpha=0.1, by_sex=bool(draw % 2))
        made = fitted.named(**NAMED).apply(fresh.lvm_pred_g, fresh.sex_code, fresh.lvh_score)
        inside = (made.lvm_lo_g <= fresh.lvm_cmr_g) & (fresh.lvm_cmr_g <= made.lvm_hi_g)
        coverage.append([inside[fresh.sex_code == code].mean() for code in (0, 1)])
        second = np.array([person_share(name) >= 0.5 for name in known.participant_id])
        excess.append([1 / (1 + (second & (known.sex_code == code)).sum()) for code in (0, 1)])
    mean, error = np.mean(coverage, axis=0), np.std(coverage, axis=0) / np.sqrt(250)
    assert (error < 0.004).all()
    assert (mean > 0.9 - 3 * error).all()
    assert (mean < 0.9 + np.mean(excess, axis=0) + 3 * error).all()


def test_logistic_recalibration__equals_the_largest_likelihood_found_by_another_way() -> None:
    drawn = people(400)
    x, y = logit(drawn.lvh_score), drawn.lvh_cmr

    def minus_log_likelihood(beta: np.ndarray) -> float:
        linear = beta[0] * x + beta[1]
        return float(np.logaddexp(0, linear).sum() - linear[y].sum())

    found = minimize(
        minus_log_likelihood, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000}
    )
    np.testing.assert_allclose(logistic_recalibration(drawn.lvh_score, y), found.x, rtol=1e-5)


def test_logistic_recalibration__two_scores_have_a_closed_form() -> None:
    # Of 40 people with score 0.2, 10 have LVH; of 20 with 0.6, 15: log odds ln(1/3) and ln 3.
    score = np.array([0.2] * 40 + [0.6] * 20)
    is_lvh = np.array([True] * 10 + [False] * 30 + [True] * 15 + [False] * 5)
    low, high = np.log(0.2 / 0.8), np.log(0.6 / 0.4)
    slope = (np.log(3) + np.log(3)) / (high - low)
    actual = logistic_recalibration(score, is_lvh)
    np.testing.assert_allclose(actual, [slope, np.log(3) - slope * high], rtol=1e-9)


def test_logistic_recalibration__rare_lvh_converges() -> None:
    rng = np.random.default_rng(8)
    score = rng.uniform(0.001, 0.999, 5000)
    is_lvh = rng.random(5000) < 1 / (1 + np.exp(9 - 1.5 * logit(score)))
    assert 2 <= is_lvh.sum() < 60
    slope, intercept = logistic_recalibration(score, is_lvh)
    fitted = 1 / (1 + np.exp(-(intercept + slope * logit(score))))
    # The score equations: fitted and observed cases agree, also weighted by the logit.
    assert fitted.sum() == pytest.approx(is_lvh.sum(), rel=1e-6)
    assert fitted @ logit(score) == pytest.approx(is_lvh @ logit(score), rel=1e-6)


@pytest.mark.parametrize(
    ("is_lvh", "message"),
    [
        ([True] * 4, "4 of 4 people"),
        ([False] * 4, "0 of 4 people"),
        ([False, False, True, True], "separates"),
        ([True, True, False, False], "separates"),
    ],
)
def test_logistic_recalibration__refuses(is_lvh: list[bool], message: str) -> None:
    with pytest.raises(LvmError, match=message):
        logistic_recalibration(np.array([0.1, 0.2, 0.3, 0.4]), np.array(is_lvh))


def test_logistic_recalibration__refuses_one_score_for_all() -> None:
    with pytest.raises(LvmError, match="the same for all 4 people"):
        logistic_recalibration(np.full(4, 0.3), np.array([True, False, True, False]))


def test_apply__by_hand_and_unknown_stays_unknown() -> None:
    made = EXAMPLE.apply(
        np.array([100.0, 100.0, 100.0, 1.0]), np.array([0, 1, -1, 1], dtype=np.int8), np.array([0.5, np.nan, 0.5, 1.0])
    )
    np.testing.assert_allclose(made.lvm_recal_g, [80.0, 90.0, np.nan, 10.8])
    np.testing.assert_allclose(made.lvm_lo_g, [68.0, 70.0, np.nan, 0.0])
    np.testing.assert_allclose(made.lvm_hi_g, [92.0, 110.0, np.nan, 30.8])
    one = 1 / (1 + np.exp(1.0))
    np.testing.assert_allclose(made.lvh_probability, [one, np.nan, one, 1.0], atol=1e-9)


def test_apply__one_line_for_all_gives_a_mass_without_sex_but_no_interval() -> None:
    overall = dataclasses.replace(
        EXAMPLE, by_sex=False, slope={"all": 1.0}, intercept_g={"all": 5.0}, lvh_slope=None, lvh_intercept=None
    )
    made = overall.apply(np.array([100.0]), np.array([-1], dtype=np.int8), np.array([0.5]))
    assert made.lvm_recal_g.tolist() == [105.0]
    assert np.isnan([made.lvm_lo_g[0], made.lvm_hi_g[0], made.lvh_probability[0]]).all()


def test_from_dict__is_the_inverse_of_to_dict() -> None:
    assert Recalibration.from_dict(EXAMPLE.to_dict(), "f.json") == EXAMPLE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lvm_ai_recalibration": 2}, "is no recalibration of version 1"),
        ({"more": 1}, "beyond what is expected: more"),
        ({"model_id": 3}, "model_id is 3, expected text"),
        ({"by_sex": 1}, "by_sex is 1, expected true or false"),
        ({"alpha": 1.0}, "alpha is 1.0, expected a number between"),
        ({"slope": {"all": 1.0}}, "slope is .*expected numbers for female, male"),
        ({"intercept_g": {"female": 1.0, "male": float("nan")}}, "expected finite numbers"),
        ({"half_width_g": {"female": 1.0, "male": 0.0}}, "expected grams above 0"),
        ({"lvh_slope": None}, "expected two finite numbers or two nulls"),
    ],
)
def test_from_dict__refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(LvmError, match=message):
        Recalibration.from_dict(EXAMPLE.to_dict() | changes, "f.json")


def test_from_dict__refuses_what_is_no_object() -> None:
    with pytest.raises(LvmError, match=r"f\.json is no recalibration"):
        Recalibration.from_dict([1], "f.json")


def test_fit_recalibration__line_and_intervals_come_from_different_people() -> None:
    drawn = people(600)
    halves = np.array([person_share(name) < 0.5 for name in drawn.participant_id])
    fitted = fit_recalibration(drawn, alpha=0.1, by_sex=False)
    slope, intercept_g = np.polyfit(drawn.lvm_pred_g[halves], drawn.lvm_cmr_g[halves], 1)
    assert fitted.slope["all"] == pytest.approx(slope, rel=1e-9)
    for code, name in ((0, "female"), (1, "male")):
        rest = ~halves & (drawn.sex_code == code)
        residual_g = np.abs(drawn.lvm_cmr_g - intercept_g - slope * drawn.lvm_pred_g)[rest]
        rank = int(np.ceil((rest.sum() + 1) * 0.9))
        assert fitted.half_width_g[name] == pytest.approx(np.sort(residual_g)[rank - 1], rel=1e-9)
    assert [w.split(";")[0] for w in fitted.warnings] == [
        f"the interval for {name} rests on {(~halves & (drawn.sex_code == code)).sum()} people"
        for code, name in ((0, "female"), (1, "male"))
    ]


def test_fit_recalibration__many_people_need_no_warning() -> None:
    assert fit_recalibration(people(2000), alpha=0.1, by_sex=True).warnings == ()


def test_fit_recalibration__no_lvh_leaves_the_mass() -> None:
    drawn = people(2000)
    without = dataclasses.replace(drawn, lvh_cmr=np.zeros(2000, dtype=bool))
    fitted = fit_recalibration(without, alpha=0.1, by_sex=False)
    assert fitted.lvh_slope is None
    assert fitted.warnings[0].startswith("no lvh_probability: 0 of")
    no_head = dataclasses.replace(drawn, lvh_score=np.full(2000, np.nan))
    assert fit_recalibration(no_head, alpha=0.1, by_sex=False).warnings == ()


def test_fit_recalibration__a_score_that_points_the_wrong_way_is_warned_of() -> None:
    drawn = people(2000)
    reversed_score = dataclasses.replace(drawn, lvh_score=1 - drawn.lvh_score)
    fitted = fit_recalibration(reversed_score, alpha=0.1, by_sex=False)
    assert fitted.lvh_slope is not None
    assert fitted.lvh_slope < 0
    assert [w for w in fitted.warnings if "lvh_probability falls as the score rises" in w]


def test_fit_recalibration__too_few_people_of_a_sex_are_named() -> None:
    drawn = people(400)
    few_men = drawn.take((drawn.sex_code == 0) | (np.arange(400) < 12))
    with pytest.raises(LvmError, match=r"interval for male: \d people"):
        fit_recalibration(few_men, alpha=0.1, by_sex=False)
    women = drawn.take(drawn.sex_code == 0)
    with pytest.raises(LvmError, match="line for male: 0 people"):
        fit_recalibration(women, alpha=0.1, by_sex=True)


def test_cross_fitted__mends_the_slope_and_covers() -> None:
    drawn = people(3000)
    made = cross_fitted(drawn, alpha=0.1, by_sex=False)
    slope = np.polyfit(made.lvm_recal_g, drawn.lvm_cmr_g, 1)[0]
    assert slope == pytest.approx(1.0, abs=0.06)
    inside = (made.lvm_lo_g <= drawn.lvm_cmr_g) & (drawn.lvm_cmr_g <= made.lvm_hi_g)
    assert 0.87 < inside.mean() < 0.93


def test_person_share__is_even_and_depends_on_the_person_alone() -> None:
    shares = np.array([person_share(f"p{i}") for i in range(4000)])
    assert ((0 <= shares) & (shares < 1)).all()
    assert abs((shares < 0.5).mean() - 0.5) < 0.03
    assert person_share("p1") == shares[1]
    assert person_share("p1", "fold") != shares[1]
