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
    log_relative_hazard,
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
