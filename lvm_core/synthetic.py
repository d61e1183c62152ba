"""Synthetic people and their 12-lead ECGs, seeded: for tests, benchmarks and demonstrations.

A heart vector of five Gaussian dipoles per beat (P, three of QRS, T) seen through a lead matrix,
with heart-rate variability, baseline wander and noise. It looks like an ECG; it is no physiology,
and nothing about real hearts may be concluded from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lvm_core.leads import LEADS_12, derive_limb_leads
from lvm_core.lvh import Sex

SAMPLING_RATE_HZ: Final = 500
N_SAMPLES: Final = 5000
UV_PER_COUNT: Final = 5.0

# Dower GE, Machado HB, Osborne JA, Clin Cardiol 1980;3:87-95: columns X (to the left), Y (to the
# foot), Z (to the back).
_LEAD_MATRIX: Final = {
    "I": (0.632, -0.235, 0.059),
    "II": (0.235, 1.066, -0.132),
    "V1": (-0.515, 0.157, -0.917),
    "V2": (0.044, 0.164, -1.387),
    "V3": (0.882, 0.098, -1.277),
    "V4": (1.213, 0.127, -0.601),
    "V5": (1.125, 0.127, -0.086),
    "V6": (0.831, 0.076, 0.230),
}
_MEASURED_LEADS: Final = tuple(_LEAD_MATRIX)
_MATRIX: Final = np.array(list(_LEAD_MATRIX.values()))

# P, septal, main and basal part of QRS, T: moments in microvolts (X, Y, Z), and time of the centre
# from the R peak and width (standard deviation), seconds, at a cycle of 1 s.
_MOMENTS_UV: Final = np.array(
    [[45, 95, -20], [-140, -60, -230], [950, 680, 230], [-90, -180, 500], [240, 190, -160]]
)
_CENTRES_S: Final = np.array([-0.16, -0.028, 0.0, 0.026, 0.29])
_WIDTHS_S: Final = np.array([0.022, 0.009, 0.011, 0.012, 0.045])
_IS_QRS: Final = np.array([False, True, True, True, False])
_WANDER_HZ: Final = np.array([0.13, 0.31])


@dataclass(frozen=True, slots=True)
class SyntheticEcgs:
    """ECGs of people who do not exist, one each.

    Attributes:
        counts: (n, 12, 5000) int16, leads in `LEADS_12` order, 500 Hz, 5 uV per count.
        uv_per_count: (n,) float32, 5 uV.
        ecg_id: unique names, the same for the same index.
        participant_id: likewise.
        age_years: (n,) float64, completed years, 45 to 82.
        sex: of each person.
        height_cm: (n,) float64.
        weight_kg: (n,) float64.
    """

    counts: NDArray[np.int16]
    uv_per_count: NDArray[np.float32]
    ecg_id: tuple[str, ...]
    participant_id: tuple[str, ...]
    age_years: NDArray[np.float64]
    sex: tuple[Sex, ...]
    height_cm: NDArray[np.float64]
    weight_kg: NDArray[np.float64]


def synthetic_ecgs(n: int, seed: int, start: int = 0) -> SyntheticEcgs:
    """Return `n` synthetic ECGs, those of the indices `start` to `start + n - 1`.

    Invariant: an ECG depends on `seed` and its index alone, so the parts of a cohort can be made in
    any order and in any number of pieces. Memory is 120 kB per ECG asked for.

    Args:
        n: number of ECGs, 0 or more.
        seed: 0 or more.
        start: index of the first, 0 or more.

    Raises:
        ValueError: an argument is negative.
    """
    if min(n, seed, start) < 0:
        raise ValueError(f"n, seed and start are {n}, {seed}, {start}; expected 0 or more")
    counts = np.empty((n, len(LEADS_12), N_SAMPLES), dtype=np.int16)
    people = np.empty((n, 4))
    for row, index in enumerate(range(start, start + n)):
        rng = np.random.default_rng((seed, index))
        people[row] = _person(rng)
        counts[row] = _ecg_counts(rng, is_male=bool(people[row, 1]))
    return SyntheticEcgs(
        counts=counts,
        uv_per_count=np.full(n, UV_PER_COUNT, dtype=np.float32),
        ecg_id=tuple(f"synthetic-{seed}-{index:07d}" for index in range(start, start + n)),
        participant_id=tuple(f"S{seed}-{index:07d}" for index in range(start, start + n)),
        age_years=people[:, 0],
        sex=tuple(Sex.MALE if is_male else Sex.FEMALE for is_male in people[:, 1]),
        height_cm=people[:, 2],
        weight_kg=people[:, 3],
    )


def _person(rng: Generator) -> tuple[float, bool, float, float]:
    """Return age in completed years, whether male, height in cm and weight in kg."""
    age_years = float(rng.integers(45, 83))
    is_male = bool(rng.random() < 0.48)
    height_cm = (176.0 if is_male else 163.0) + 6.5 * rng.standard_normal()
    bmi_kg_m2 = 26.5 * np.exp(0.16 * rng.standard_normal())
    weight_kg = bmi_kg_m2 * (height_cm / 100) ** 2
    return age_years, is_male, round(height_cm, 1), round(float(weight_kg), 1)


def _ecg_counts(rng: Generator, *, is_male: bool) -> NDArray[np.int16]:
    """Return (12, 5000) counts; III is exactly II - I, as in a device that stores integers."""
    moments_uv = _moments_uv(rng, 1.08 if is_male else 0.95)
    signal_uv = (_MATRIX @ moments_uv.T) @ _waves(rng)
    noisy_uv = signal_uv + _wander_uv(rng) + _noise_uv(rng)
    measured = dict(zip(_MEASURED_LEADS, np.rint(noisy_uv / UV_PER_COUNT), strict=True))
    leads = measured | derive_limb_leads(measured["I"], measured["II"])
    return np.array([np.rint(leads[lead]) for lead in LEADS_12], dtype=np.int16)


def _moments_uv(rng: Generator, sex_scale: float) -> NDArray[np.float64]:
    """Return the person's (5, 3) dipole moments: scaled, and turned in the frontal plane."""
    scale = np.exp(0.15 * rng.standard_normal(5))
    scale[_IS_QRS] *= sex_scale * np.exp(0.2 * rng.standard_normal())
    angle = np.deg2rad(14.0) * rng.standard_normal()
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(scale[:, None] * (_MOMENTS_UV @ turn))


def _waves(rng: Generator) -> NDArray[np.float64]:
    """Return (5, 5000): the five waves over time, each 1 at its peak."""
    cycle_s = 60.0 / np.clip(62.0 + 10.0 * rng.standard_normal(), 42.0, 110.0)
    n_beats = int(12.0 / cycle_s) + 2
    breathing = 0.03 * np.sin(2 * np.pi * (0.25 * cycle_s * np.arange(n_beats) + rng.random()))
    cycles_s = cycle_s * (1.0 + breathing + 0.015 * rng.standard_normal(n_beats))
    r_peaks_s = np.cumsum(cycles_s) - cycle_s * (1.0 + rng.random())
    time_s = np.arange(N_SAMPLES) / SAMPLING_RATE_HZ
    # A beat reaches from 35 % of the cycle before its R peak to the same point of the next one.
    beat = np.searchsorted(r_peaks_s - 0.35 * cycle_s, time_s, side="right") - 1
    from_r_s = time_s - r_peaks_s[beat]
    stretch = np.where(_CENTRES_S > 0.1, np.sqrt(cycle_s), 1.0)  # Bazett: QT follows the root
    widths_s = _WIDTHS_S * stretch * np.where(_IS_QRS, np.exp(0.08 * rng.standard_normal()), 1.0)
    deviation = (from_r_s - (_CENTRES_S * stretch)[:, None]) / widths_s[:, None]
    return np.asarray(np.exp(-0.5 * deviation**2))


def _wander_uv(rng: Generator) -> NDArray[np.float64]:
    """Return (8, 5000) baseline wander: two slow oscillations, mixed differently in each lead."""
    time_s = np.arange(N_SAMPLES) / SAMPLING_RATE_HZ
    phase = 2 * np.pi * _WANDER_HZ[:, None] * time_s
    oscillations = np.concatenate([np.sin(phase), np.cos(phase)])
    return np.asarray(20.0 * rng.standard_normal((len(_MEASURED_LEADS), 4)) @ oscillations)


def _noise_uv(rng: Generator) -> NDArray[np.float32]:
    """Return (8, 5000) white noise of the amplifier and the muscles."""
    noise = rng.standard_normal((len(_MEASURED_LEADS), N_SAMPLES), dtype=np.float32)
    return noise * np.float32(rng.uniform(4.0, 14.0))
