"""Diseases and deaths of synthetic people, from cause-specific hazards that are written down.

h(age) = h0 exp(g age + b LVMI/10 + d male + sbp SBP/10 + diabetes + smoking): Gompertz in attained
age, no frailty, the causes independent given the covariates, which stay as they are at the index
ECG. So Cox models of cause-specific hazards are right with the same b on both time scales,
follow-up time (with age as a covariate) and attained age. Disease begins at 40 years; what comes
before the index ECG is prevalent by itself. Everybody is alive at the index ECG.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from lvm_core.synthetic_people import SyntheticPeople
from lvm_core.units import DAYS_PER_YEAR

FIRST_AGE_YEARS: Final = 40.0
DEATH: Final = "death"
BLOCK: Final = 1024  # people whose draws come from one generator
# Third number of the seeds here and in synthetic_records: the other generators have none or 0, 1.
_STREAM: Final = 11
_LOSS_PER_YEAR: Final = 0.003
_LOST_BEFORE_INDEX_SHARE: Final = 0.0005
_NEVER_DAYS: Final = 10**6


@dataclass(frozen=True, slots=True)
class Hazard:
    """A cause-specific Gompertz hazard; every coefficient is the log of a hazard ratio.

    Attributes:
        name: of the outcome.
        h0_per_year: hazard of a woman at age 0 with LVMI 0 and SBP 0, without diabetes or smoking.
        age_per_year: g, per year of attained age.
        lvmi_per_10_g_m2: b, per 10 g/m2 of true LV mass index: the truth to be found again.
        male: d, men against women.
        sbp_per_10_mmhg: per 10 mmHg of systolic pressure.
        diabetes: with against without.
        smoking: with against without.
    """

    name: str
    h0_per_year: float
    age_per_year: float
    lvmi_per_10_g_m2: float
    male: float
    sbp_per_10_mmhg: float
    diabetes: float
    smoking: float


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

    A disease with an age beyond the age at death never shows: use `happens`.

    Attributes:
        age_years: attained age in exact years (days / 365.25) at the disease or death, by outcome.
        date: day on which that age is reached, by outcome; a date on or before the index ECG is
            prevalent disease.
        index_age_years: attained age in exact years at the index ECG.
        ltfu_date: datetime64[D] of the loss to follow-up, NaT for most.
    """

    age_years: dict[str, NDArray[np.float64]]
    date: dict[str, NDArray[np.datetime64]]
    index_age_years: NDArray[np.float64]
    ltfu_date: NDArray[np.datetime64]

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
    """Return the integral of the hazard between two attained ages.

    Args:
        hazard: of the outcome.
        log_relative: of `log_relative_hazard`.
        from_years: attained age.
        to_years: attained age; the probability of no event between is `exp(-result)`.
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
    drawn = of_blocks(people, _STREAM, _draw)
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


def _draw(rng: Generator) -> dict[str, NDArray[Any]]:
    """Return the draws of one block; what is drawn, and its order, is fixed."""
    exponential = rng.standard_exponential((BLOCK, len(OUTCOMES_TRUTH)))
    lost_years = rng.standard_exponential(BLOCK) / _LOSS_PER_YEAR
    lost_days = np.ceil(lost_years * DAYS_PER_YEAR).astype(np.int64)
    lost_days[lost_years > 30.0] = _NEVER_DAYS
    before = rng.random(BLOCK) < _LOST_BEFORE_INDEX_SHARE
    lost_days[before] = -rng.integers(1, 1500, BLOCK)[before]
    return {"exponential": exponential, "lost_after_days": lost_days}


def of_blocks(people: SyntheticPeople, stream: int, draw: Any, *more_seeds: int) -> dict[str, NDArray[Any]]:
    """Return draws for people of any indices, seeded by block, so that slices agree.

    Args:
        people: any of one cohort.
        stream: number of this kind of draw.
        draw: from a generator to arrays by name, each with one row for each person of a block.
        *more_seeds: further numbers that decide the draw.
    """
    blocks, place = np.unique(people.index // BLOCK, return_inverse=True)
    numbers = blocks.tolist() or [0]  # nobody: the shapes are those of the first block
    seeds = [(people.seed, number, stream, *more_seeds) for number in numbers]
    drawn = [draw(np.random.default_rng(seed)) for seed in seeds]
    row = place * BLOCK + people.index % BLOCK
    return {name: np.concatenate([block[name] for block in drawn])[row] for name in drawn[0]}
