"""Synthetic 12-lead ECGs of synthetic people, seeded, in which the left ventricular mass shows.

A heart vector of six Gaussian dipoles per beat (P, three of QRS, ST, T) seen through a lead matrix.
Voltage and duration of QRS and the direction of ST and T follow the mass; fat weakens the voltage;
rhythm, conduction, ectopy, electrodes, wander, mains and muscles disturb it. It looks like an ECG;
it is no physiology, and nothing about real hearts may be concluded from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from lvm_core.medicine.lvh import Sex
from lvm_core.signal.ecg import LEADS_12, derive_limb_leads, r_column, s_column
from lvm_core.synthetic.people import SyntheticPeople, synthetic_people

SAMPLING_RATE_HZ: Final = 500
N_SAMPLES: Final = 5000
_UV_PER_COUNT: Final = 5.0

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
_V1, _V2 = _MEASURED_LEADS.index("V1"), _MEASURED_LEADS.index("V2")

# P; septal, main and basal part of QRS; ST; T: moments in microvolts (X, Y, Z), and time of the
# centre from the R peak and width (standard deviation), seconds, at a cycle of 1 s.
_MOMENTS_UV: Final = np.array(
    [[45, 95, -20], [-140, -60, -230], [950, 680, 230], [-90, -180, 500], [12, 10, -25], [240, 190, -160]],
    dtype=np.float64,
)
_CENTRES_S: Final = np.array([-0.16, -0.028, 0.0, 0.026, 0.14, 0.29])
_WIDTHS_S: Final = np.array([0.022, 0.009, 0.011, 0.012, 0.05, 0.045])
_P, _SEPTAL, _MAIN, _BASAL, _ST, _T = range(6)
_QRS: Final = slice(_SEPTAL, _BASAL + 1)
_REFERENCE_LVM_G: Final = 85.0
_REFERENCE_LVMI_G_M2: Final = 47.0
_NORMAL_QRS_MS: Final = 90.0
_LEFT_BLOCK, _RIGHT_BLOCK = 1, 2
_ARMS, _HIGH_V1_V2 = 1, 2
_AMPLITUDE_LEADS: Final = {
    "r_avl_uv": ("aVL", 1),
    "s_v1_uv": ("V1", -1),
    "s_v3_uv": ("V3", -1),
    "r_v5_uv": ("V5", 1),
    "r_v6_uv": ("V6", 1),
}
_OTHER_AMPLITUDE_LEADS: Final = {
    name(lead): (lead, sign)
    for name, sign in ((r_column, 1), (s_column, -1))
    for lead in LEADS_12
    if name(lead) not in _AMPLITUDE_LEADS
}
_MEASURED: Final = (*_AMPLITUDE_LEADS, "qrs_duration_ms", *_OTHER_AMPLITUDE_LEADS, "qrs_voltage_sum_uv")


@dataclass(frozen=True, slots=True)
class SyntheticEcgs:
    """ECGs of people who do not exist, one each."""

    counts: NDArray[np.int16]  # (n, 12, 5000), leads in `LEADS_12` order, 500 Hz, 5 uV per count
    uv_per_count: NDArray[np.float32]  # (n,) 5 uV
    ecg_id: tuple[str, ...]  # unique; the same for the same person and repeat, as participant_id
    participant_id: tuple[str, ...]
    recorded_at: NDArray[np.datetime64]  # (n,) datetime64[s], local time
    age_years: NDArray[np.float64]  # (n,) completed years at the index ECG, 45 to 82
    sex: tuple[Sex, ...]
    height_cm: NDArray[np.float64]
    weight_kg: NDArray[np.float64]
    # (n,) by name of `Measurements`, as a device reports them; NaN where not measured.
    measurements: dict[str, NDArray[np.float64]]


def synthetic_ecgs(n: int, seed: int, start: int = 0) -> SyntheticEcgs:
    """Return the index ECGs of the people `start` to `start + n - 1` of the cohort `seed`."""
    return ecgs_of(synthetic_people(n, seed, start))


def ecgs_of(people: SyntheticPeople, repeat: int = 0) -> SyntheticEcgs:
    """Return one ECG of each person.

    `repeat` is 0 for the index ECG; 1, 2, ... give later ones, about two years apart each: the same
    heart and chest, another day. Electrodes are misplaced in index ECGs only.

    Invariant: an ECG depends on the person and on `repeat` alone. Memory is 120 kB an ECG.
    """
    if repeat < 0:
        raise ValueError(f"repeat is {repeat}; expected 0 or more")
    n = len(people)
    counts = np.empty((n, len(LEADS_12), N_SAMPLES), dtype=np.int16)
    measured = np.empty((n, len(_MEASURED)))
    days_later = np.zeros(n, dtype=np.int64)
    for row in range(n):
        heart_rng = np.random.default_rng((people.seed, int(people.index[row]), 0))
        visit_rng = np.random.default_rng((people.seed, int(people.index[row]), 1, repeat))
        heart = _Heart.of(people, row, heart_rng, visit_rng)
        counts[row] = _ecg_counts(heart, visit_rng, int(people.misplacement[row]) * (repeat == 0))
        measured[row] = _measure(heart, visit_rng)
        days_later[row] = repeat * 730 + (visit_rng.integers(-60, 61) if repeat else 0)
    later = f"-{repeat}" if repeat else ""
    return SyntheticEcgs(
        counts=counts,
        uv_per_count=np.full(n, _UV_PER_COUNT, dtype=np.float32),
        ecg_id=tuple(f"synthetic-{people.seed}-{i:07d}{later}" for i in people.index.tolist()),
        participant_id=people.participant_id,
        recorded_at=people.recorded_at + days_later * np.timedelta64(1, "D"),
        age_years=people.age_years,
        sex=tuple(Sex.MALE if code else Sex.FEMALE for code in people.sex_code.tolist()),
        height_cm=people.height_cm,
        weight_kg=people.weight_kg,
        measurements={name: measured[:, k] for k, name in enumerate(_MEASURED)},
    )


@dataclass(frozen=True, slots=True)
class _Heart:
    """One person on one day: (6, 3) moments in uV, (6,) widths and centres in s, and rhythm."""

    moments_uv: NDArray[np.float64]
    widths_s: NDArray[np.float64]
    centres_s: NDArray[np.float64]
    qrs_duration_ms: float
    fibrillates: bool
    ectopic_share: float

    @classmethod
    def of(cls, people: SyntheticPeople, row: int, heart: Generator, visit: Generator) -> _Heart:
        """Return what the mass, the body and chance make of the normal heart vector."""
        relative_mass = float(people.lvm_true_g[row]) / _REFERENCE_LVM_G
        fat = float(people.bmi_kg_m2[row]) - 26.0
        moments = _person_moments_uv(heart) * np.exp(-0.012 * fat)
        moments *= np.exp(0.03 * visit.standard_normal())
        moments[_QRS] *= relative_mass**0.75 * np.exp(0.20 * heart.standard_normal())
        moments[_MAIN, 2] += 260.0 * (relative_mass - 1.0)  # a thick wall points to the back
        _strain(moments, float(people.lvmi_true_g_m2[row]) / _REFERENCE_LVMI_G_M2, heart)
        widths = _WIDTHS_S.copy()
        centres = _CENTRES_S.copy()
        slow = relative_mass**0.22 * np.exp(0.07 * heart.standard_normal())
        widths[_QRS] *= slow
        centres[_QRS] *= slow
        extra_ms = _block(moments, widths, centres, int(people.conduction[row]))
        fibrillates = bool(people.rhythm[row])
        if fibrillates:
            moments[_P] = 0.0
        return cls(
            moments,
            widths,
            centres,
            _NORMAL_QRS_MS * float(slow) + extra_ms,
            fibrillates,
            float(people.ectopic_share[row]),
        )


def _person_moments_uv(rng: Generator) -> NDArray[np.float64]:
    """Return the (6, 3) moments of a heart of reference mass, turned in the frontal plane."""
    scale = np.exp(np.array([0.2, 0.2, 0.0, 0.2, 0.3, 0.2]) * rng.standard_normal(6))
    angle = np.deg2rad(14.0) * rng.standard_normal()
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(scale[:, None] * (_MOMENTS_UV @ turn))


def _strain(moments: NDArray[np.float64], relative_index: float, rng: Generator) -> None:
    """Turn ST and T away from QRS as the mass index rises: the pattern of strain."""
    threshold = 1.40 + 0.12 * rng.standard_normal()
    share = 1.0 / (1.0 + np.exp(-(relative_index - threshold) / 0.09))
    direction = moments[_MAIN] / np.linalg.norm(moments[_MAIN])
    moments[_ST] -= 110.0 * share * direction
    moments[_T] -= 420.0 * share * direction
    moments[_T] *= relative_index**-0.3


def _block(
    moments: NDArray[np.float64], widths: NDArray[np.float64], centres: NDArray[np.float64], conduction: int
) -> float:
    """Apply a bundle branch block and return the milliseconds that it adds to QRS."""
    if conduction == _LEFT_BLOCK:
        widths[_QRS] *= 1.7
        moments[_SEPTAL] *= -0.5
        moments[_MAIN, 2] += 0.45 * moments[_MAIN, 0]
        moments[_T] = -0.45 * moments[_MAIN] * np.array([0.5, 0.5, 1.0])
        return 50.0
    if conduction == _RIGHT_BLOCK:
        moments[_BASAL] += np.array([-420.0, 60.0, -520.0])
        centres[_BASAL] += 0.032
        widths[_BASAL] *= 1.6
        return 38.0
    return 0.0


def _ecg_counts(heart: _Heart, rng: Generator, misplacement: int) -> NDArray[np.int16]:
    """Return (12, 5000) counts; III is exactly II - I, as in a device that stores integers."""
    matrix = _MATRIX
    if misplacement == _HIGH_V1_V2:
        matrix = _MATRIX.copy()
        matrix[[_V1, _V2], 1] -= 0.45
        matrix[[_V1, _V2], 2] *= 0.75
    signal_uv = _heart_signal_uv(heart, rng, matrix)
    noisy_uv = signal_uv + _wander_uv(rng) + _noise_uv(rng)
    if misplacement == _ARMS:
        i, ii = noisy_uv[0].copy(), noisy_uv[1].copy()
        noisy_uv[0], noisy_uv[1] = -i, ii - i
    counts = np.rint(noisy_uv / _UV_PER_COUNT)
    leads = dict(zip(_MEASURED_LEADS, counts, strict=True))
    leads |= derive_limb_leads(leads["I"], leads["II"])
    return np.array([np.rint(leads[lead]) for lead in LEADS_12], dtype=np.int16)


def _heart_signal_uv(heart: _Heart, rng: Generator, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (8, 5000) microvolts of the heart alone."""
    cycle_s, r_peaks_s, is_ectopic = _beats(heart, rng)
    time_s = np.arange(N_SAMPLES) / SAMPLING_RATE_HZ
    # A beat begins 35 % of the cycle before its R peak; an early one later, after the T before it.
    before_r_s = 0.35 * np.minimum(cycle_s, np.diff(r_peaks_s, prepend=r_peaks_s[0] - cycle_s))
    beat = np.searchsorted(r_peaks_s - before_r_s, time_s, side="right") - 1
    from_r_s = time_s - r_peaks_s[beat]
    signal_uv = (matrix @ heart.moments_uv.T) @ _waves(heart, from_r_s, cycle_s)
    ectopic = is_ectopic[beat]
    if ectopic.any():
        moments, waves = _extrasystole(heart, from_r_s[ectopic])
        signal_uv[:, ectopic] = (matrix @ moments.T) @ waves
    if heart.fibrillates:
        signal_uv += matrix @ _fibrillation_uv(rng, time_s)
    return np.asarray(signal_uv)


def _beats(heart: _Heart, rng: Generator) -> tuple[float, NDArray[np.float64], NDArray[np.bool_]]:
    """Return the mean cycle in s, the times of the R peaks in s, and which are extrasystoles."""
    mean_per_min, sd_per_min = (82.0, 13.0) if heart.fibrillates else (62.0, 10.0)
    rate_per_min = np.clip(mean_per_min + sd_per_min * rng.standard_normal(), 42.0, 110.0)
    cycle_s = float(60.0 / rate_per_min)
    n_beats = int(13.0 / cycle_s) + 4
    breathing = 0.03 * np.sin(2 * np.pi * (0.25 * cycle_s * np.arange(n_beats) + rng.random()))
    spread = 0.17 if heart.fibrillates else 0.015
    relative = np.maximum(1.0 + breathing + spread * rng.standard_normal(n_beats), 0.55)
    is_ectopic = rng.random(n_beats) < heart.ectopic_share
    is_ectopic[1:] &= ~is_ectopic[:-1]
    relative[is_ectopic] *= 0.68  # early, and then a pause
    relative[1:][is_ectopic[:-1]] *= 1.32
    r_peaks_s = np.cumsum(relative * cycle_s) - cycle_s * (1.5 + rng.random())
    return cycle_s, r_peaks_s, is_ectopic


def _waves(heart: _Heart, from_r_s: NDArray[np.float64], cycle_s: float) -> NDArray[np.float64]:
    """Return (6, m): the waves at the given times from R, each 1 at its peak."""
    # Bazett: QT follows the root of the cycle; here PQ too.
    stretch = np.where(np.abs(_CENTRES_S) > 0.1, np.sqrt(cycle_s), 1.0)
    centres_s = heart.centres_s * stretch
    deviation = (from_r_s - centres_s[:, None]) / (heart.widths_s * stretch)[:, None]
    return np.asarray(np.exp(-0.5 * deviation**2))


def _extrasystole(heart: _Heart, from_r_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (2, 3) moments in uV and (2, m) waves of a ventricular extrasystole."""
    size_uv = 1.3 * np.linalg.norm(heart.moments_uv[_MAIN])
    main = size_uv * np.array([-0.55, 0.75, -0.35])
    deviation = (from_r_s - np.array([[0.0], [0.30]])) / np.array([[0.034], [0.06]])
    return np.array([main, -0.4 * main]), np.exp(-0.5 * deviation**2)


def _fibrillation_uv(rng: Generator, time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (3, 5000) fibrillatory waves, 5 to 7.5 per second, strongest towards V1."""
    phase = (
        2 * np.pi * np.cumsum(rng.uniform(5.0, 7.5) * (1 + 0.2 * np.sin(2 * np.pi * 0.4 * time_s)) / SAMPLING_RATE_HZ)
    )
    size_uv = rng.uniform(20.0, 60.0)
    return np.asarray(size_uv * np.array([[-0.3], [0.5], [-0.8]]) * np.sin(phase))


def _wander_uv(rng: Generator) -> NDArray[np.float64]:
    """Return (8, 5000) baseline wander: two slow oscillations, mixed differently in each lead."""
    time_s = np.arange(N_SAMPLES) / SAMPLING_RATE_HZ
    phase = 2 * np.pi * rng.uniform([[0.08], [0.2]], [[0.18], [0.4]]) * time_s
    oscillations = np.concatenate([np.sin(phase), np.cos(phase)])
    size_uv = 20.0 * np.exp(0.4 * rng.standard_normal())
    mixed = rng.standard_normal((len(_MEASURED_LEADS), 4)) @ oscillations
    return np.asarray(size_uv * mixed)


def _noise_uv(rng: Generator) -> NDArray[np.float32]:
    """Return (8, 5000) noise of the amplifier, the muscles and the mains at 50 Hz."""
    shape = (len(_MEASURED_LEADS), N_SAMPLES)
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(rng.uniform(3.0, 10.0))
    muscle = rng.standard_normal((shape[0], 1)) * rng.gamma(1.0, 3.0)
    noise[:, 1:] += np.diff(noise, axis=1) * np.abs(muscle).astype(np.float32) / 10
    mains_uv = rng.gamma(0.7, 4.0, (shape[0], 1))
    cycle = np.sin(2 * np.pi * (0.1 * np.arange(10) + rng.random()))  # ten samples a cycle
    return np.asarray(noise + (mains_uv * np.tile(cycle, N_SAMPLES // 10)).astype(np.float32))


def _measure(heart: _Heart, rng: Generator) -> NDArray[np.float64]:
    """Return what a device reports, by `_MEASURED`: amplitudes in uV, the QRS duration in ms."""
    from_r_s = np.arange(-40, 50) / SAMPLING_RATE_HZ
    beat = (_MATRIX @ heart.moments_uv[_QRS].T) @ _waves(heart, from_r_s, 1.0)[_QRS]
    leads = dict(zip(_MEASURED_LEADS, beat, strict=True))
    leads |= derive_limb_leads(leads["I"], leads["II"])

    def read(waves: Iterable[tuple[str, int]]) -> NDArray[np.float64]:
        exact = [float((sign * leads[lead]).max()) for lead, sign in waves]
        with_error = np.maximum(exact + 12.0 * rng.standard_normal(len(exact)), 0.0)
        return np.asarray(_UV_PER_COUNT * np.rint(with_error / _UV_PER_COUNT))

    amplitudes = read(_AMPLITUDE_LEADS.values())
    duration_ms = 2.0 * np.rint((heart.qrs_duration_ms + 4.0 * rng.standard_normal()) / 2.0)
    is_lost = rng.random() < 0.01
    others = read(_OTHER_AMPLITUDE_LEADS.values())
    values = np.array([*amplitudes, duration_ms, *others, amplitudes.sum() + others.sum()])
    return np.full_like(values, np.nan) if is_lost else values
