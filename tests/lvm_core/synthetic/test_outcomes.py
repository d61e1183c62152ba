from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from scipy import integrate, stats

from lvm_core.synthetic.outcomes import (
    DEATH,
    DISEASES,
    OUTCOMES_TRUTH,
    Hazard,
    SyntheticOutcomes,
    age_at_cumulative_hazard_years,
    cumulative_hazard,
    drawn_amplitudes_uv,
    drawn_predictions,
    log_relative_hazard,
    lowest_correlation,
    mass_given_body,
    synthetic_outcomes,
)
from lvm_core.synthetic.people import SyntheticPeople, synthetic_people

SEED = 20
PLAIN = Hazard("plain", 1e-4, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def people() -> SyntheticPeople:
    return synthetic_people(24_000, SEED)


@pytest.fixture(scope="module")
def outcomes(people: SyntheticPeople) -> SyntheticOutcomes:
    return synthetic_outcomes(people)


# 1e-4 / 0.1 = 1e-3; e^6 - e^4 = 403.42879 - 54.59815; e^7 - e^6 = 1096.63316 - 403.42879.
@pytest.mark.parametrize(("from_years", "to_years", "survival"), [(40, 60, 0.70551), (60, 70, 0.49997), (50, 50, 1.0)])
def test_cumulative_hazard__survival_by_hand(from_years: float, to_years: float, survival: float) -> None:
    found = math.exp(-float(cumulative_hazard(PLAIN, 0.0, from_years, to_years)))
    assert found == pytest.approx(survival, abs=1e-5)


@pytest.mark.parametrize("name", OUTCOMES_TRUTH)
def test_cumulative_hazard__is_the_integral_of_the_stated_hazard(people: SyntheticPeople, name: str) -> None:
    truth = OUTCOMES_TRUTH[name]
    for row in (0, 17, 400):
        sex, diabetes = int(people.sex_code[row]), int(people.diabetes[row])
        smoking = int(people.smoking[row])
        lvmi, sbp = float(people.lvmi_true_g_m2[row]), float(people.sbp_mmhg[row])

        def hazard(age: float) -> float:
            return truth.h0_per_year * math.exp(
                truth.age_per_year * age
                + truth.lvmi_per_10_g_m2 * lvmi / 10  # noqa: B023 - used within the loop
                + truth.male * sex  # noqa: B023
                + truth.sbp_per_10_mmhg * sbp / 10  # noqa: B023
                + truth.diabetes * diabetes  # noqa: B023
                + truth.smoking * smoking  # noqa: B023
            )

        expected, _ = integrate.quad(hazard, 52.0, 71.5)
        log_relative = log_relative_hazard(truth, people.rows(row, row + 1))
        found = cumulative_hazard(truth, log_relative, 52.0, 71.5)
        assert found[0] == pytest.approx(expected, rel=1e-9)


def test_age_at_cumulative_hazard__by_hand() -> None:
    # 1e-3 (e^(0.1 age) - e^4) = 0.5: age = 10 ln(500 + 54.59815)
    age_years = age_at_cumulative_hazard_years(PLAIN, 0.0, 40.0, 0.5)
    assert float(age_years) == pytest.approx(10 * math.log(554.59815), abs=1e-6)


@pytest.mark.parametrize("name", OUTCOMES_TRUTH)
def test_synthetic_outcomes__hazard_spent_until_the_event_is_exponential(
    people: SyntheticPeople, outcomes: SyntheticOutcomes, name: str
) -> None:
    hazard = OUTCOMES_TRUTH[name]
    start = outcomes.index_age_years if name == DEATH else 40.0
    spent = cumulative_hazard(hazard, log_relative_hazard(hazard, people), start, outcomes.age_years[name])
    assert stats.kstest(spent, "expon").pvalue > 0.01
    # The causes are independent given the covariates.
    others = [
        cumulative_hazard(h, log_relative_hazard(h, people), 40.0, outcomes.age_years[h.name])
        for h in OUTCOMES_TRUTH.values()
        if h.name not in (name, DEATH)
    ]
    for other in others:
        assert abs(stats.spearmanr(spent, other).statistic) < 4 / math.sqrt(len(people))


def _cox_table(people: SyntheticPeople, outcomes: SyntheticOutcomes, name: str) -> pd.DataFrame:
    """Return follow-up of 15 years of those without the disease at the index; death censors."""
    index_date = people.recorded_at.astype("datetime64[D]")
    at_risk = outcomes.date[name] > index_date
    days = np.stack([(outcomes.date[which] - index_date).astype(int) for which in (name, DEATH)])
    end_days = np.minimum(days.min(axis=0), 15 * 365)
    table = pd.DataFrame(
        {
            "years": end_days / 365.25,
            "event": (days[0] == end_days) & (days[0] < 15 * 365),
            "age": outcomes.index_age_years,
            "exit_age": outcomes.index_age_years + end_days / 365.25,
            "lvmi": people.lvmi_true_g_m2 / 10,
            "male": people.sex_code,
            "sbp": people.sbp_mmhg / 10,
            "diabetes": people.diabetes.astype(int),
            "smoking": people.smoking.astype(int),
        }
    )
    return table[at_risk]


@pytest.mark.parametrize(
    ("name", "time_scale"), [("af", "follow-up"), ("heart_failure", "follow-up"), ("heart_failure", "age")]
)
def test_synthetic_outcomes__cox_finds_the_truth_on_both_time_scales(
    people: SyntheticPeople, outcomes: SyntheticOutcomes, name: str, time_scale: str
) -> None:
    table = _cox_table(people, outcomes, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas inside lifelines
        if time_scale == "age":
            fitted = CoxPHFitter().fit(table.drop(columns="years"), "exit_age", "event", entry_col="age")
        else:
            fitted = CoxPHFitter().fit(table.drop(columns="exit_age"), "years", "event")
    truth = OUTCOMES_TRUTH[name]
    expected = {
        "lvmi": truth.lvmi_per_10_g_m2,
        "male": truth.male,
        "sbp": truth.sbp_per_10_mmhg,
        "diabetes": truth.diabetes,
        "smoking": truth.smoking,
    }
    if time_scale == "follow-up":
        expected["age"] = truth.age_per_year
    assert table["event"].sum() > 700
    assert fitted.standard_errors_["lvmi"] < 0.03
    for covariate, value in expected.items():
        error = abs(fitted.params_[covariate] - value) / fitted.standard_errors_[covariate]
        assert error < 3, covariate


@pytest.mark.parametrize(
    ("name", "risk"),
    [("af", 0.05), ("mi", 0.03), ("heart_failure", 0.025), ("ventricular_arrhythmia", 0.01), (DEATH, 0.06)],
)
def test_synthetic_outcomes__ten_year_risks_are_plausible(
    people: SyntheticPeople, outcomes: SyntheticOutcomes, name: str, risk: float
) -> None:
    free = outcomes.age_years[name] > outcomes.index_age_years
    within = outcomes.age_years[name] <= outcomes.index_age_years + 10
    assert within[free].mean() == pytest.approx(risk, rel=0.15)


def test_synthetic_outcomes__everybody_is_alive_at_the_index(
    people: SyntheticPeople, outcomes: SyntheticOutcomes
) -> None:
    assert (outcomes.date[DEATH] > people.recorded_at.astype("datetime64[D]")).all()
    assert not (outcomes.ltfu_date >= outcomes.date[DEATH]).any()


def test_synthetic_outcomes__prevalent_by_date_is_prevalent_by_age(
    people: SyntheticPeople, outcomes: SyntheticOutcomes
) -> None:
    index_date = people.recorded_at.astype("datetime64[D]")
    for name in DISEASES:
        before = outcomes.age_years[name] <= outcomes.index_age_years
        assert 0.005 < before.mean() < 0.06
        np.testing.assert_array_equal(outcomes.date[name] <= index_date, before)
        assert (outcomes.age_years[name] >= 40).all()
        later = outcomes.happens(name)
        assert (outcomes.date[name][later] <= outcomes.date[DEATH][later]).all()
        assert before[~later].sum() == 0


def test_synthetic_outcomes__losses_come_at_three_in_a_thousand_a_year(
    people: SyntheticPeople, outcomes: SyntheticOutcomes
) -> None:
    after = (outcomes.ltfu_date - people.recorded_at.astype("datetime64[D]")).astype(float)
    after[np.isnat(outcomes.ltfu_date)] = np.inf
    within_5 = (after > 0) & (after <= 5 * 365.25)
    assert within_5.mean() == pytest.approx(1 - math.exp(-0.015), rel=0.2)
    assert 1 <= (after <= 0).sum() <= 0.002 * len(people)


@pytest.mark.parametrize(("start", "n"), [(0, 3), (1020, 10), (2048, 1), (5, 0)])
def test_synthetic_outcomes__any_slice_is_the_same_as_in_the_whole(
    outcomes: SyntheticOutcomes, start: int, n: int
) -> None:
    part = synthetic_outcomes(synthetic_people(n, SEED, start))
    for name in OUTCOMES_TRUTH:
        whole = outcomes.age_years[name][start : start + n]
        np.testing.assert_array_equal(part.age_years[name], whole)
    np.testing.assert_array_equal(part.ltfu_date, outcomes.ltfu_date[start : start + n])


def test_synthetic_outcomes__only_the_mass_moves_when_the_mass_moves() -> None:
    some = synthetic_people(500, SEED)
    heavier = replace(some, lvmi_true_g_m2=some.lvmi_true_g_m2 + 20.0)
    before, after = synthetic_outcomes(some), synthetic_outcomes(heavier)
    for name in OUTCOMES_TRUTH:
        assert (after.age_years[name] < before.age_years[name]).all()
    np.testing.assert_array_equal(after.index_age_years, before.index_age_years)


SEED_OF_PREDICTIONS = 8


@pytest.fixture(scope="module")
def people_of_predictions() -> SyntheticPeople:
    return synthetic_people(60_000, SEED_OF_PREDICTIONS)


@pytest.mark.parametrize("r", [0.75, 0.79, 0.9])
def test_drawn_predictions__correlate_as_asked(people_of_predictions: SyntheticPeople, r: float) -> None:
    drawn_g = drawn_predictions(people_of_predictions, seed=1, r=r)
    assert np.corrcoef(drawn_g, people_of_predictions.lvm_true_g)[0, 1] == pytest.approx(r, abs=0.01)


@pytest.mark.parametrize("sex_code", [0, 1])
def test_drawn_predictions__are_calibrated_with_an_error_of_berkson_type(
    people_of_predictions: SyntheticPeople, sex_code: int
) -> None:
    theirs = people_of_predictions.sex_code == sex_code
    drawn_g, true_g = (
        drawn_predictions(people_of_predictions, 1, 0.79)[theirs],
        people_of_predictions.lvm_true_g[theirs],
    )
    slope, intercept_g = np.polyfit(drawn_g, true_g, 1)
    assert slope == pytest.approx(1.0, abs=0.03)
    assert slope * drawn_g.mean() + intercept_g == pytest.approx(drawn_g.mean(), abs=0.4)
    # No covariate of the model explains what is left.
    for covariate in (people_of_predictions.age_years, people_of_predictions.bmi_kg_m2):
        assert abs(np.corrcoef(true_g - drawn_g, covariate[theirs])[0, 1]) < 0.03


def test_drawn_predictions__at_the_ends_are_the_truth_and_the_body(people_of_predictions: SyntheticPeople) -> None:
    np.testing.assert_allclose(
        drawn_predictions(people_of_predictions, 1, 1.0), people_of_predictions.lvm_true_g, rtol=1e-12
    )
    lowest = drawn_predictions(people_of_predictions, 1, lowest_correlation())
    np.testing.assert_allclose(lowest, mass_given_body().predict_g(people_of_predictions), atol=1e-3)


def test_drawn_predictions__belong_to_the_person_and_the_seed(people_of_predictions: SyntheticPeople) -> None:
    whole = drawn_predictions(people_of_predictions, 1, 0.79)
    part = drawn_predictions(synthetic_people(30, SEED_OF_PREDICTIONS, 1010), 1, 0.79)
    np.testing.assert_array_equal(part, whole[1010:1040])
    body_g = mass_given_body().predict_g(people_of_predictions)
    again = drawn_predictions(people_of_predictions, 2, 0.79)
    # Given the truth, another seed draws an independent noise.
    residual = people_of_predictions.lvm_true_g - body_g
    noise = [(p - body_g) - np.polyval(np.polyfit(residual, p - body_g, 1), residual) for p in (whole, again)]
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.02


@pytest.mark.parametrize("r", [0.5, 1.01, float("nan")])
def test_drawn_predictions__refuse_what_cannot_be(people_of_predictions: SyntheticPeople, r: float) -> None:
    with pytest.raises(ValueError, match=r"r is .*, expected 0\.7\d\d to 1"):
        drawn_predictions(people_of_predictions, 1, r)


def test_drawn_predictions__refuse_a_negative_seed(people_of_predictions: SyntheticPeople) -> None:
    with pytest.raises(ValueError, match="seed is -1; expected 0 or more"):
        drawn_predictions(people_of_predictions, -1, 0.8)


def test_drawn_amplitudes__tell_a_little_of_the_true_index_in_either_sex(
    people_of_predictions: SyntheticPeople,
) -> None:
    for values_uv in drawn_amplitudes_uv(people_of_predictions, 1).values():
        assert (values_uv > 0).all()
        for sex_code in (0, 1):
            own = people_of_predictions.sex_code == sex_code
            r = np.corrcoef(np.log(values_uv[own]), people_of_predictions.lvmi_true_g_m2[own])[0, 1]
            assert r == pytest.approx(0.2, abs=0.06)


def test_drawn_amplitudes__of_a_slice_are_those_of_the_whole(people_of_predictions: SyntheticPeople) -> None:
    whole = drawn_amplitudes_uv(people_of_predictions, 1)
    part = drawn_amplitudes_uv(synthetic_people(30, people_of_predictions.seed, 1010), 1)
    for name, values_uv in part.items():
        np.testing.assert_array_equal(values_uv, whole[name][1010:1040])
