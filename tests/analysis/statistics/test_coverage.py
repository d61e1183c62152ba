"""Do 95 % limits of hazard ratios cover 95 %? A thousand synthetic cohorts with a known truth.

The cohorts have no ECGs: predicted masses are drawn with a stated correlation. The truth is the
generator's; the predicted index is compared with its own limit in two million people, since an
attenuated estimate has no reason to cover the truth.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.splines import restricted_cubic_spline
from lvm_core.synthetic.outcomes import DEATH, OUTCOMES_TRUTH, drawn_predictions, synthetic_outcomes
from lvm_core.synthetic.people import SyntheticPeople, synthetic_people

OUTCOME = "af"
SEED = 20261123  # fixed before the first run
N_COHORTS, N_PEOPLE = 1_000, 3_000
YEARS, R = 15, 0.79
LIMIT_PEOPLE = 2_000_000
COVARIATES = ["age", "male", "sbp", "diabetes", "smoking"]


def _cohort(people: SyntheticPeople, seed: int) -> pd.DataFrame:
    """Follow-up of up to 15 years of those without the disease at the index; death censors."""
    outcomes = synthetic_outcomes(people)
    index = people.recorded_at.astype("datetime64[D]")
    disease = (outcomes.date[OUTCOME] - index).astype(int)
    end = np.minimum((outcomes.date[DEATH] - index).astype(int), int(YEARS * 365.25))
    cmr = people.lvm_cmr_g / people.bsa_m2 / 10
    table = pd.DataFrame(
        {
            "days": np.minimum(disease, end),
            "event": disease <= end,
            "lvmi_true": people.lvmi_true_g_m2 / 10,
            "lvmi_pred": drawn_predictions(people, seed, R) / people.bsa_m2 / 10,
            "lvmi_cmr": np.where(people.has_cmr, cmr, np.nan),
            "age": outcomes.index_age_years,
            "male": people.sex_code,
            "sbp": people.sbp_mmhg / 10,
            "diabetes": people.diabetes,
            "smoking": people.smoking,
        }
    )
    return table[disease > 0].reset_index(drop=True)


def _estimate(table: pd.DataFrame, exposure: str) -> tuple[float, float]:
    fit = fit_cox(table, duration="days", event="event", covariates=[exposure, *COVARIATES])
    return float(fit.estimates["coef"][0]), float(fit.estimates["se"][0])


def _calibrated(table: pd.DataFrame) -> pd.DataFrame:
    x = np.column_stack([np.ones(len(table)), table[["lvmi_pred", *COVARIATES]].astype(float)])
    known = table["lvmi_cmr"].notna().to_numpy()
    coefficients = np.linalg.lstsq(x[known], table["lvmi_cmr"][known], rcond=None)[0]
    return table.assign(lvmi_calibrated=x @ coefficients)


def _covered(estimates: NDArray[np.float64], truth: float) -> float:
    coef, se = estimates.T
    return float((np.abs(coef - truth) <= 1.959964 * se).mean())


@pytest.mark.slow
def test_limits_of_hazard_ratios__cover_95_percent() -> None:
    truth = OUTCOMES_TRUTH[OUTCOME].lvmi_per_10_g_m2
    many = _cohort(synthetic_people(LIMIT_PEOPLE, SEED + 1), SEED + 1)
    limit, limit_se = _estimate(many, "lvmi_pred")
    found: dict[str, list[tuple[float, float]]] = {"true": [], "pred": [], "calibrated": []}
    for number in range(N_COHORTS):
        people = synthetic_people(N_PEOPLE, SEED, start=number * N_PEOPLE)
        table = _calibrated(_cohort(people, SEED))
        assert table["event"].sum() >= 100
        for kind, estimates in found.items():
            estimates.append(_estimate(table, f"lvmi_{kind}"))
    values = {kind: np.array(estimates) for kind, estimates in found.items()}
    covered = {
        "true": _covered(values["true"], truth),
        "pred": _covered(values["pred"], limit),
        "calibrated": _covered(values["calibrated"], truth),
    }
    means = {kind: round(float(each[:, 0].mean()), 4) for kind, each in values.items()}
    print(f"truth {truth}, limit {limit:.4f} +/- {limit_se:.4f}; means {means}; covered {covered}")  # noqa: T201 - figures of the report
    assert limit_se < values["pred"][:, 1].mean() / 20
    assert 0.93 <= covered["true"] <= 0.97
    assert 0.93 <= covered["pred"] <= 0.97


# A hazard that flattens with age: a line in age leaves some of its effect to the index.

AGES, FLAT_FROM, AGE_SLOPE, RATE = (45.0, 80.0), 65.0, 0.09, 0.004
N_FLAT_COHORTS = 300


def _flat_cohort(rng: np.random.Generator, n: int = 4_000) -> pd.DataFrame:
    """An index that rises with age in a curve and has no effect; the hazard is flat from 65 on."""
    age = rng.uniform(*AGES, n)
    index = 50 + 0.02 * (age - AGES[0]) ** 2 + rng.normal(0, 5, n)
    # Gompertz in attained age up to 65, flat from then on; the time at which the sum is reached.
    at_flat, slope = RATE * np.exp(AGE_SLOPE * (FLAT_FROM - AGES[0])), AGE_SLOPE
    wanted, now = rng.exponential(1.0, n), RATE * np.exp(slope * (np.minimum(age, FLAT_FROM) - AGES[0]))
    rising = np.maximum(FLAT_FROM - age, 0.0)
    while_rising = (at_flat - now) / slope * (rising > 0)
    early = np.log1p(slope * wanted / now) / slope
    event = np.where(wanted < while_rising, early, rising + (wanted - while_rising) / at_flat)
    days = np.ceil(np.minimum(event, 10.0) * 365.25)
    entry = np.round(age * 365.25)
    made = {"days": days, "event": event <= 10, "index": index / 10, "age": age, "entry": entry, "exit": entry + days}
    return pd.DataFrame(made)


@pytest.mark.slow
def test_age__as_a_spline_covers_where_a_line_does_not() -> None:
    """The truth is no effect. On attained age the hazard is free of form, so that it covers too."""
    rng = np.random.default_rng(SEED)
    found: dict[str, list[tuple[float, float]]] = {"line": [], "spline": [], "attained age": []}
    for _ in range(N_FLAT_COHORTS):
        table = _flat_cohort(rng)
        spline = restricted_cubic_spline(table, column="age", n_knots=4)
        options = {"duration": "days", "event": "event"}
        by_age = {"duration": "exit", "entry": "entry", "event": "event"}
        fits = {
            "line": fit_cox(table, covariates=["index", "age"], **options),
            "spline": fit_cox(table, covariates=["index", spline], **options),
            "attained age": fit_cox(table, covariates=["index"], **by_age),
        }
        for name, fit in fits.items():
            found[name].append((float(fit.estimates["coef"][0]), float(fit.estimates["se"][0])))
    covered = {name: _covered(np.array(estimates), 0.0) for name, estimates in found.items()}
    print(f"covered {covered}; means { ({k: round(float(np.mean(v, axis=0)[0]), 4) for k, v in found.items()}) }")  # noqa: T201 - figures of the report
    assert covered["line"] < 0.90
    assert covered["spline"] > 0.92
    assert covered["attained age"] > 0.92
