"""Synthetic people with known left ventricular mass, seeded; none of them exists.

The masses follow published reference ranges and nothing else: no statement about real hearts may
be drawn from these people.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lvm_core.medicine.body import bmi_kg_m2, body_surface_area_m2, lv_mass_index_g_m2
from lvm_core.units import DAYS_PER_YEAR

REGIONS: Final = ("England", "Scotland", "Wales")
RHYTHMS: Final = ("sinus", "atrial fibrillation")
CONDUCTIONS: Final = ("normal", "left bundle branch block", "right bundle branch block")
MISPLACEMENTS: Final = ("none", "arm electrodes exchanged", "V1 and V2 one space too high")

# Petersen SE et al., J Cardiovasc Magn Reson 2017;19:18 (reference ranges of CMR in UK Biobank):
# about 53 +/- 9 g/m2 in healthy men and 42 +/- 7 g/m2 in healthy women.
_LVMI_FEMALE_MALE_G_M2: Final = np.array([42.3, 53.5])
_RESIDUAL_SD_LOG: Final = 0.162
_PER_SBP_MMHG: Final = 0.0035
_PER_BMI_KG_M2: Final = 0.006
_HYPERTROPHIC_SHARE: Final = 0.03
# Between two CMR examinations of one heart, about 5 % of the mass.
_CMR_ERROR_SD_G: Final = 4.5
_CMR_SHARE: Final = 0.6

_BLOCK: Final = 1024
_FIRST_DAY: Final = np.datetime64("2014-05-01")
_N_DAYS: Final = 2130


@dataclass(frozen=True, slots=True)
class SyntheticPeople:
    """People who do not exist, with the truth about them; every array has one entry a person."""

    seed: int  # of the cohort
    index: NDArray[np.int64]  # number of the person in the cohort; with `seed` it decides everything
    participant_id: tuple[str, ...]  # unique
    birth_date: NDArray[np.datetime64]  # datetime64[D]
    recorded_at: NDArray[np.datetime64]  # datetime64[s], local time of the index ECG
    age_years: NDArray[np.float64]  # completed years at the index ECG, 45 to 82
    sex_code: NDArray[np.int8]  # 0 female, 1 male
    height_cm: NDArray[np.float64]  # one decimal
    weight_kg: NDArray[np.float64]  # one decimal
    bmi_kg_m2: NDArray[np.float64]  # from the two
    bsa_m2: NDArray[np.float64]  # DuBois, from the two
    sbp_mmhg: NDArray[np.float64]  # systolic blood pressure, whole numbers
    antihypertensives: NDArray[np.bool_]
    diabetes: NDArray[np.bool_]
    smoking: NDArray[np.bool_]
    region: NDArray[np.str_]  # one of `REGIONS`
    hypertrophic: NDArray[np.bool_]  # belongs to the hypertrophic tail
    lvm_true_g: NDArray[np.float64]  # true LV mass
    lvmi_true_g_m2: NDArray[np.float64]  # `lvm_true_g / bsa_m2`
    has_cmr: NDArray[np.bool_]  # had a CMR examination; about 60 %
    lvm_cmr_g: NDArray[np.float64]  # the true mass with the error of a CMR examination, for everybody
    cmr_date: NDArray[np.datetime64]  # datetime64[D], of that examination
    rhythm: NDArray[np.int8]  # index of `RHYTHMS`
    conduction: NDArray[np.int8]  # index of `CONDUCTIONS`
    misplacement: NDArray[np.int8]  # index of `MISPLACEMENTS`, of the index ECG
    ectopic_share: NDArray[np.float64]  # share of ventricular extrasystoles among the beats

    def __len__(self) -> int:
        return int(self.index.shape[0])

    def rows(self, start: int, stop: int) -> SyntheticPeople:
        """Return the people from `start` up to, not including, `stop`, by place."""
        values = {f.name: getattr(self, f.name)[start:stop] for f in fields(self) if f.name != "seed"}
        return SyntheticPeople(seed=self.seed, **values)


def synthetic_people(n: int, seed: int, start: int = 0) -> SyntheticPeople:
    """Return the people with the indices `start` to `start + n - 1` of the cohort `seed`.

    Invariant: a person depends on `seed` and the index alone, so the parts of a cohort can be made
    in any order and in any number of pieces. A ValueError refuses negative arguments.
    """
    if min(n, seed, start) < 0:
        raise ValueError(f"n, seed and start are {n}, {seed}, {start}; expected 0 or more")
    first_block = start // _BLOCK
    last_block = max(start + n - 1, start) // _BLOCK
    blocks = [_block(seed, number) for number in range(first_block, last_block + 1)]
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    inside = slice(start - first_block * _BLOCK, start - first_block * _BLOCK + n)
    index = np.arange(start, start + n, dtype=np.int64)
    return SyntheticPeople(
        seed=seed,
        index=index,
        participant_id=tuple(f"S{seed}-{i:07d}" for i in index.tolist()),
        **{name: values[inside] for name, values in columns.items()},
    )


def _block(seed: int, number: int) -> dict[str, Any]:
    """Return every column of one block of people; what is drawn, and its order, is fixed."""
    rng = np.random.default_rng((seed, number))
    sex_code = (rng.random(_BLOCK) < 0.48).astype(np.int8)
    dates = _dates(rng)
    body = _body(rng, sex_code, dates["age_years"])
    health = _health(rng, dates["age_years"], body["bmi_kg_m2"])
    heart = _heart(rng, sex_code, dates["age_years"], body, health["sbp_mmhg"])
    measured_g = heart["lvm_true_g"] + _CMR_ERROR_SD_G * rng.standard_normal(_BLOCK)
    has_cmr = rng.random(_BLOCK) < _CMR_SHARE
    days_apart = np.where(rng.random(_BLOCK) < 0.15, rng.integers(-90, 91, _BLOCK), 0)
    region = np.array(REGIONS)[rng.choice(len(REGIONS), _BLOCK, p=[0.86, 0.08, 0.06])]
    rhythm = _electrical(rng, dates["age_years"], heart["lvmi_true_g_m2"])
    return {
        **dates,
        "sex_code": sex_code,
        **body,
        **health,
        "region": region,
        **heart,
        "has_cmr": has_cmr,
        "lvm_cmr_g": np.round(np.maximum(measured_g, 20.0), 1),
        "cmr_date": dates["recorded_at"].astype("datetime64[D]") + days_apart,
        **rhythm,
    }


def _dates(rng: Generator) -> dict[str, Any]:
    days = _FIRST_DAY + rng.integers(0, _N_DAYS, _BLOCK)
    recorded_at = days.astype("datetime64[s]") + rng.integers(8 * 3600, 18 * 3600, _BLOCK)
    aged_years = np.clip(64.0 + 8.0 * rng.standard_normal(_BLOCK), 45.01, 82.9)
    birth_date = days - np.rint(aged_years * DAYS_PER_YEAR).astype(np.int64)
    return {"birth_date": birth_date, "recorded_at": recorded_at, "age_years": completed_years(birth_date, days)}


def completed_years(birth_date: NDArray[np.datetime64], date: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return completed years from birth to a date, both (n,) datetime64[D], by birthdays."""
    years = date.astype("datetime64[Y]").astype(int) - birth_date.astype("datetime64[Y]").astype(int)
    return np.asarray(years - (_day_of_year(date) < _day_of_year(birth_date)), dtype=np.float64)


def _day_of_year(date: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Return 100 * month + day, which orders days within any year."""
    month = date.astype("datetime64[M]")
    day = (date - month.astype("datetime64[D]")).astype(int) + 1
    return np.asarray(100 * (month.astype(int) % 12) + day, dtype=np.int64)


def _body(rng: Generator, sex_code: NDArray[np.int8], age_years: NDArray[np.float64]) -> dict[str, Any]:
    mean_cm = np.where(sex_code == 1, 176.5, 163.0) - 0.08 * (age_years - 60.0)
    height_cm = np.round(mean_cm + 6.5 * rng.standard_normal(_BLOCK), 1)
    drawn_kg_m2 = 26.8 * np.exp(0.155 * rng.standard_normal(_BLOCK))
    weight_kg = np.round(drawn_kg_m2 * (height_cm / 100) ** 2, 1)
    return {
        "height_cm": height_cm,
        "weight_kg": weight_kg,
        "bmi_kg_m2": np.asarray(bmi_kg_m2(height_cm, weight_kg)),
        "bsa_m2": np.asarray(body_surface_area_m2(height_cm, weight_kg)),
    }


def _health(rng: Generator, age_years: NDArray[np.float64], bmi: NDArray[np.float64]) -> dict[str, Any]:
    sbp = 131.0 + 0.45 * (age_years - 60.0) + 0.8 * (bmi - 27.0)
    sbp += 15.0 * rng.standard_normal(_BLOCK)
    treated = rng.random(_BLOCK) < _logistic(-1.6 + 0.045 * (sbp - 135.0))
    diabetes = rng.random(_BLOCK) < _logistic(-3.2 + 0.12 * (bmi - 27.0))
    return {
        "sbp_mmhg": np.rint(np.where(treated, sbp - 8.0, sbp)),
        "antihypertensives": treated,
        "diabetes": diabetes,
        "smoking": rng.random(_BLOCK) < 0.12,
    }


def _heart(
    rng: Generator,
    sex_code: NDArray[np.int8],
    age_years: NDArray[np.float64],
    body: dict[str, Any],
    sbp_mmhg: NDArray[np.float64],
) -> dict[str, Any]:
    """Return the true mass: a log-normal index around the mean of the sex, with a heavy tail."""
    log_index = (
        np.log(_LVMI_FEMALE_MALE_G_M2[sex_code])
        + _PER_SBP_MMHG * (sbp_mmhg - 128.0)
        + _PER_BMI_KG_M2 * (body["bmi_kg_m2"] - 26.0)
        - 0.001 * (age_years - 62.0)
        + _RESIDUAL_SD_LOG * rng.standard_normal(_BLOCK)
    )
    share = _HYPERTROPHIC_SHARE * np.exp(0.02 * (sbp_mmhg - 130.0))
    hypertrophic = rng.random(_BLOCK) < np.minimum(share, 0.5)
    log_index += np.where(hypertrophic, 0.15 + rng.gamma(2.0, 0.12, _BLOCK), 0.0)
    lvm_true_g = np.clip(np.exp(log_index), 20.0, 115.0) * body["bsa_m2"]
    return {
        "hypertrophic": hypertrophic,
        "lvm_true_g": lvm_true_g,
        "lvmi_true_g_m2": np.asarray(lv_mass_index_g_m2(lvm_true_g, body["bsa_m2"])),
    }


def _electrical(rng: Generator, age_years: NDArray[np.float64], lvmi_g_m2: NDArray[np.float64]) -> dict[str, Any]:
    fibrillates = rng.random(_BLOCK) < _logistic(-4.2 + 0.08 * (age_years - 64.0) + 0.03 * (lvmi_g_m2 - 48.0))
    left_block = rng.random(_BLOCK) < _logistic(-4.6 + 0.04 * (lvmi_g_m2 - 48.0))
    right_block = rng.random(_BLOCK) < 0.025
    misplaced = rng.random(_BLOCK)
    ectopic = np.where(rng.random(_BLOCK) < 0.06, rng.beta(1.5, 10.0, _BLOCK), 0.0)
    return {
        "rhythm": fibrillates.astype(np.int8),
        "conduction": np.where(left_block, 1, np.where(right_block, 2, 0)).astype(np.int8),
        "misplacement": np.where(misplaced < 0.01, 1, np.where(misplaced < 0.04, 2, 0)).astype(np.int8),
        "ectopic_share": ectopic,
    }


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))
