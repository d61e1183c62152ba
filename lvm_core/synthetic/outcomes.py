"""Diseases, deaths and drawn predictions of synthetic people.

Outcomes come from cause-specific hazards that are written down:
h(age) = h0 exp(g age + b LVMI/10 + d male + sbp SBP/10 + diabetes + smoking): Gompertz in attained
age, no frailty, the causes independent given the covariates, which stay as they are at the index
ECG. So Cox models of cause-specific hazards are right with the same b on both time scales,
follow-up time (with age as a covariate) and attained age. Disease begins at 40 years; what comes
before the index ECG is prevalent by itself. Everybody is alive at the index ECG.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from lvm_core.synthetic.people import SyntheticPeople, synthetic_people
from lvm_core.units import DAYS_PER_YEAR

FIRST_AGE_YEARS: Final = 40.0
Draw = Callable[[Generator], dict[str, NDArray[Any]]]
"""From a generator to arrays by name, each with one row for each person of a block."""

DEATH: Final = "death"
BLOCK: Final = 1024  # people whose draws come from one generator
# Third number of the seeds here and in records.py: the other generators have none or 0, 1.
_OUTCOMES_STREAM, _PREDICTIONS_STREAM, _AMPLITUDES_STREAM = 11, 14, 16
_LOSS_PER_YEAR: Final = 0.003
_LOST_BEFORE_INDEX_SHARE: Final = 0.0005
_NEVER_DAYS: Final = 10**6


@dataclass(frozen=True, slots=True)
class Hazard:
    """A cause-specific Gompertz hazard; every coefficient is the log of a hazard ratio."""

    name: str  # of the outcome
    h0_per_year: float  # hazard of a woman at age 0 with LVMI 0 and SBP 0, without diabetes or smoking
    age_per_year: float  # g, per year of attained age
    lvmi_per_10_g_m2: float  # b, per 10 g/m2 of true LV mass index: the truth to be found again
    male: float  # d, men against women
    sbp_per_10_mmhg: float  # per 10 mmHg of systolic pressure
    diabetes: float  # with against without
    smoking: float  # with against without


# Chosen, not measured: plausible ten-year risks and nothing more.
OUTCOMES_TRUTH: Final = {
    hazard.name: hazard
    for hazard in (
        Hazard("af", 1.26e-6, 0.085, 0.25, 0.35, 0.05, 0.15, 0.15),
        Hazard("mi", 4.1e-6, 0.055, 0.12, 0.60, 0.12, 0.55, 0.60),
        Hazard("heart_failure", 1.0e-7, 0.090, 0.45, 0.10, 0.08, 0.50, 0.35),
        Hazard("ventricular_arrhythmia", 1.2e-6, 0.050, 0.40, 0.50, 0.05, 0.30, 0.30),
        Hazard(DEATH, 1.67e-6, 0.090, 0.15, 0.30, 0.05, 0.50, 0.70),
    )
}
DISEASES: Final = tuple(name for name in OUTCOMES_TRUTH if name != DEATH)


@dataclass(frozen=True, slots=True)
class SyntheticOutcomes:
    """What happens to people who do not exist; every array has one entry a person.

    A disease with an age beyond the age at death never shows: use `happens`. A date on or before
    the index ECG is prevalent disease.
    """

    age_years: dict[str, NDArray[np.float64]]  # attained age in exact years (days / 365.25), by outcome
    date: dict[str, NDArray[np.datetime64]]  # day on which that age is reached, by outcome
    index_age_years: NDArray[np.float64]  # attained age in exact years at the index ECG
    ltfu_date: NDArray[np.datetime64]  # datetime64[D] of the loss to follow-up, NaT for most

    def happens(self, name: str) -> NDArray[np.bool_]:
        """Return (n,) whether the outcome comes before death, or on the same day."""
        return np.asarray(self.date[name] <= self.date[DEATH])


def log_relative_hazard(hazard: Hazard, people: SyntheticPeople) -> NDArray[np.float64]:
    """Return (n,) the log of the hazard ratio of each person against all covariates 0."""
    return np.asarray(
        hazard.lvmi_per_10_g_m2 * people.lvmi_true_g_m2 / 10.0
        + hazard.male * people.sex_code
        + hazard.sbp_per_10_mmhg * people.sbp_mmhg / 10.0
        + hazard.diabetes * people.diabetes
        + hazard.smoking * people.smoking
    )


def cumulative_hazard(
    hazard: Hazard, log_relative: ArrayLike, from_years: ArrayLike, to_years: ArrayLike
) -> NDArray[np.float64]:
    """Return the integral of the hazard from one attained age (years) to another.

    The probability of no event between them is `exp(-result)`. `log_relative` is the result of
    `log_relative_hazard`.
    """
    g = hazard.age_per_year
    start = g * np.asarray(from_years, dtype=np.float64)
    grown = np.exp(start) * np.expm1(g * np.asarray(to_years, dtype=np.float64) - start)
    return np.asarray(hazard.h0_per_year * np.exp(log_relative) / g * grown)


def age_at_cumulative_hazard_years(
    hazard: Hazard, log_relative: ArrayLike, from_years: ArrayLike, cumulative: ArrayLike
) -> NDArray[np.float64]:
    """Return the attained age at which the integral of the hazard reaches a value.

    The inverse of `cumulative_hazard` in `to_years`; of a standard exponential variable it gives
    the age at the event.
    """
    g = hazard.age_per_year
    start = g * np.asarray(from_years, dtype=np.float64)
    relative = hazard.h0_per_year * np.exp(log_relative) / g * np.exp(start)
    return np.asarray((start + np.log1p(np.asarray(cumulative) / relative)) / g)


def synthetic_outcomes(people: SyntheticPeople) -> SyntheticOutcomes:
    """Return when each person falls ill, dies, or is lost.

    Invariant: an outcome depends on the person's covariates, the seed and the index alone.
    """
    index_date = people.recorded_at.astype("datetime64[D]")
    index_days = (index_date - people.birth_date).astype(np.int64)
    index_age_years = index_days / DAYS_PER_YEAR
    drawn = of_blocks(people, _OUTCOMES_STREAM, _draw_outcomes)
    age_years, date = {}, {}
    for number, (name, hazard) in enumerate(OUTCOMES_TRUTH.items()):
        start_years = index_age_years if name == DEATH else FIRST_AGE_YEARS
        exponential = drawn["exponential"][:, number]
        age_years[name] = age_at_cumulative_hazard_years(
            hazard, log_relative_hazard(hazard, people), start_years, exponential
        )
        # The day that ends at or after that age: prevalent if and only if not after the index.
        days = np.ceil(age_years[name] * DAYS_PER_YEAR).astype(np.int64)
        if name == DEATH:
            days = np.maximum(days, index_days + 1)
        date[name] = people.birth_date + days
    ltfu_date = index_date + drawn["lost_after_days"]
    ltfu_date[drawn["lost_after_days"] >= _NEVER_DAYS] = np.datetime64("NaT")
    ltfu_date[ltfu_date >= date[DEATH]] = np.datetime64("NaT")
    return SyntheticOutcomes(age_years, date, index_age_years, ltfu_date)


def _draw_outcomes(rng: Generator) -> dict[str, NDArray[Any]]:
    """Return the draws of one block; what is drawn, and its order, is fixed."""
    exponential = rng.standard_exponential((BLOCK, len(OUTCOMES_TRUTH)))
    lost_years = rng.standard_exponential(BLOCK) / _LOSS_PER_YEAR
    lost_days = np.ceil(lost_years * DAYS_PER_YEAR).astype(np.int64)
    lost_days[lost_years > 30.0] = _NEVER_DAYS
    before = rng.random(BLOCK) < _LOST_BEFORE_INDEX_SHARE
    lost_days[before] = -rng.integers(1, 1500, BLOCK)[before]
    return {"exponential": exponential, "lost_after_days": lost_days}


def of_blocks(people: SyntheticPeople, stream: int, draw: Draw, *more_seeds: int) -> dict[str, NDArray[Any]]:
    """Return draws for people of any indices, seeded by block, so that slices agree."""
    blocks, place = np.unique(people.index // BLOCK, return_inverse=True)
    numbers = blocks.tolist() or [0]  # nobody: the shapes are those of the first block
    seeds = [(people.seed, number, stream, *more_seeds) for number in numbers]
    drawn = [draw(np.random.default_rng(seed)) for seed in seeds]
    row = place * BLOCK + people.index % BLOCK
    return {name: np.concatenate([block[name] for block in drawn])[row] for name in drawn[0]}


_REFERENCE_PEOPLE: Final = 64 * BLOCK
_REFERENCE_SEED: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class MassGivenBody:
    """The best linear prediction of true mass from age and BMI in each sex, in the population."""

    coefficients_g: NDArray[np.float64]  # (2, 3), by sex code: constant, per year of age, per kg/m2 of BMI
    residual_sd_g: NDArray[np.float64]  # (2,), by sex code, of the mass around that prediction
    sd_g: float  # of the mass
    explained_sd_g: float  # of that prediction

    def predict_g(self, people: SyntheticPeople) -> NDArray[np.float64]:
        """Return (n,) the mass expected from sex, age and BMI alone."""
        weights = self.coefficients_g[people.sex_code]
        return np.asarray((weights * _design(people)).sum(axis=1))


@lru_cache(maxsize=1)
def mass_given_body() -> MassGivenBody:
    """Return the prediction from sex, age and BMI, fitted on a reference cohort of its own."""
    people = synthetic_people(_REFERENCE_PEOPLE, _REFERENCE_SEED)
    design = _design(people)
    coefficients_g, residual_sd_g = np.empty((2, 3)), np.empty(2)
    for sex_code in (0, 1):
        theirs = people.sex_code == sex_code
        mass_g = people.lvm_true_g[theirs]
        fitted = np.linalg.lstsq(design[theirs], mass_g, rcond=None)[0]
        # Rounded, so that the last bits of a linear algebra library do not matter.
        coefficients_g[sex_code] = np.round(fitted, 6)
        residual_sd_g[sex_code] = np.round(np.std(mass_g - design[theirs] @ fitted), 6)
    explained_g = (coefficients_g[people.sex_code] * design).sum(axis=1)
    sd_g = float(np.round(people.lvm_true_g.std(), 6))
    return MassGivenBody(coefficients_g, residual_sd_g, sd_g, float(np.round(explained_g.std(), 6)))


def lowest_correlation() -> float:
    """Return the correlation with the true mass that sex, age and BMI alone have."""
    known = mass_given_body()
    return known.explained_sd_g / known.sd_g


def drawn_predictions(people: SyntheticPeople, seed: int, r: float) -> NDArray[np.float64]:
    """Return (n,) predicted masses, grams, that correlate with the true ones by `r`.

    prediction = E[mass | sex, age, BMI] + k (residual + noise), with k such that it is the best
    linear prediction of the mass from those and a noisy signal: regressing the truth on it gives
    slope 1 in either sex, and its error is of Berkson type, as of a calibrated model. The noise
    is normal, in proportion to the residual of the sex.

    Invariant: depends on the person, `seed` and `r` alone.

    Args:
        people: any of one cohort.
        seed: of the draw, 0 or more; others give other signals of the same people.
        r: correlation with the true mass over the whole cohort, `lowest_correlation()` (about
            0.7, by sex and body size alone) to 1.
    """
    if not lowest_correlation() <= r <= 1.0:
        raise ValueError(
            f"r is {r:g}, expected {lowest_correlation():.3f} to 1: "
            "sex, age and BMI alone already correlate with the mass by that"
        )
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more")
    known = mass_given_body()
    share = r**2 * known.sd_g**2 - known.explained_sd_g**2
    share /= known.sd_g**2 - known.explained_sd_g**2
    expected_g = known.predict_g(people)
    residual_g = people.lvm_true_g - expected_g
    normal = of_blocks(people, _PREDICTIONS_STREAM, _draw_normal(), seed)["normal"]
    sd_g = known.residual_sd_g[people.sex_code]
    # share * (residual + noise of variance sd^2 (1 - share) / share), without dividing by 0.
    noise_g = np.sqrt(share * (1.0 - share)) * sd_g * normal
    return np.asarray(expected_g + share * residual_g + noise_g)


def _design(people: SyntheticPeople) -> NDArray[np.float64]:
    return np.column_stack([np.ones(len(people)), people.age_years, people.bmi_kg_m2])


def _draw_normal(*shape: int) -> Draw:
    return lambda rng: {"normal": rng.standard_normal((BLOCK, *shape))}


# Chosen, not measured: the median of each amplitude of women and of men, microvolts; how far their
# logarithms spread; and how much of that goes with the true index within the sex. So the ECG rules
# are positive in a few per cent, and say little about LV mass, as in people.
_AMPLITUDES_UV: Final = {
    "r_avl_uv": (420.0, 500.0),
    "s_v1_uv": (850.0, 950.0),
    "s_v3_uv": (600.0, 1000.0),
    "r_v5_uv": (1150.0, 1350.0),
    "r_v6_uv": (950.0, 1100.0),
}
_AMPLITUDE_LOG_SD: Final = 0.42
_AMPLITUDE_LOADING: Final = 0.15


def drawn_amplitudes_uv(people: SyntheticPeople, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return wave amplitudes drawn for people without ECGs, so that ECG rules can be tried.

    r_avl_uv, s_v1_uv, s_v3_uv, r_v5_uv and r_v6_uv are (n,) magnitudes in microvolts; their
    logarithms are normal and correlate with the true index within the sex by about 0.2.

    Invariant: depends on the person and `seed`, 0 or more, alone.
    """
    normal = of_blocks(people, _AMPLITUDES_STREAM, _draw_normal(len(_AMPLITUDES_UV)), seed)["normal"]
    middle_g_m2 = np.where(people.sex_code == 1, 53.0, 42.0)
    spread_g_m2 = np.where(people.sex_code == 1, 9.0, 7.0)
    large = (people.lvmi_true_g_m2 - middle_g_m2) / spread_g_m2
    own = np.sqrt(1.0 - _AMPLITUDE_LOADING**2)
    return {
        name: np.asarray(
            np.array(medians_uv)[people.sex_code]
            * np.exp(_AMPLITUDE_LOG_SD * (_AMPLITUDE_LOADING * large + own * normal[:, column]))
        )
        for column, (name, medians_uv) in enumerate(_AMPLITUDES_UV.items())
    }
