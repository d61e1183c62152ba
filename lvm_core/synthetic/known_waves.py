"""ECGs of which every R, every S and the duration of QRS are known exactly, to check measurements.

Each wave is one period of a raised cosine, which is 0 outside: waves do not touch each other, so
that no amplitude depends on another. They are no hearts: leads are independent of each other.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import N_LEADS

RATE_HZ: Final = 500
N_SAMPLES: Final = 5000
QRS_DURATION_MS: Final = 96.0

# First sample and length in samples, from the start of QRS, and height; R and S have an odd number
# of samples, so that one of them is exactly at the top.
_P: Final = (-80, 51, 100.0)
_R: Final = (0, 25)
_S: Final = (24, 25)
_T: Final = (90, 91, 250.0)
_REACH: Final = 200


def _wave(start: int, length: int) -> NDArray[np.float64]:
    """Return (2 * _REACH,) with a wave of height 1; `start` counts from the start of QRS."""
    wave = np.zeros(2 * _REACH)
    wave[_REACH + start : _REACH + start + length] = np.hanning(length)
    return wave


def known_ecg(
    r_uv: NDArray[np.float64], s_uv: NDArray[np.float64], qrs_starts: NDArray[np.intp], *, has_p: bool = True
) -> NDArray[np.float64]:
    """Return (12, 5000) microvolts at 500 Hz with beats of known waves.

    Args:
        r_uv: (12,) height of R of each lead, 0 or more.
        s_uv: (12,) depth of S of each lead, 0 or more.
        qrs_starts: (n_beats,) samples at which QRS begins; beats may reach beyond the recording.
        has_p: beats have a P of 100 uV.
    """
    if r_uv.shape != (N_LEADS,) or s_uv.shape != (N_LEADS,):
        raise ValueError(f"r_uv and s_uv have shapes {r_uv.shape} and {s_uv.shape}, expected (12,) each")
    beat = r_uv[:, None] * _wave(*_R) - s_uv[:, None] * _wave(*_S) + _T[2] * _wave(*_T[:2])
    if has_p:
        beat += _P[2] * _wave(*_P[:2])
    ecg_uv = np.zeros((N_LEADS, N_SAMPLES + 4 * _REACH))
    for start in qrs_starts.tolist():
        first = start + _REACH  # 2 * _REACH samples are added before the recording
        if 0 <= first <= N_SAMPLES + 2 * _REACH:
            ecg_uv[:, first : first + 2 * _REACH] += beat
    return ecg_uv[:, 2 * _REACH : 2 * _REACH + N_SAMPLES]


def regular_starts(rate_per_min: float) -> NDArray[np.intp]:
    """Return the samples at which the beats of a regular rhythm begin."""
    cycle = 60.0 / rate_per_min * RATE_HZ
    return np.arange(0.4 * cycle, N_SAMPLES, cycle).astype(np.intp)


def irregular_starts(rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the samples at which beats of an irregular rhythm begin: cycles of 0.5 to 1.1 s."""
    return np.cumsum(rng.uniform(0.5, 1.1, 30) * RATE_HZ).astype(np.intp)


def disturbed(
    ecg_uv: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    noise_uv: float = 0.0,
    wander_uv: float = 0.0,
    mains_uv: float = 0.0,
    mains_hz: float = 50.0,
    fibrillation_uv: float = 0.0,
) -> NDArray[np.float64]:
    """Return (12, n_samples) microvolts with disturbances, each of its own phase in each lead.

    Args:
        ecg_uv: (12, n_samples) microvolts at 500 Hz.
        rng: where noise and phases come from.
        noise_uv: standard deviation of white noise.
        wander_uv: amplitude of a baseline wander of 0.3 Hz.
        mains_uv: amplitude of the mains.
        mains_hz: frequency of the mains.
        fibrillation_uv: amplitude of fibrillatory waves of 6 Hz.
    """
    time_s = np.arange(ecg_uv.shape[1]) / RATE_HZ
    made = ecg_uv + noise_uv * rng.standard_normal(ecg_uv.shape)
    for size_uv, hz in ((wander_uv, 0.3), (mains_uv, mains_hz), (fibrillation_uv, 6.0)):
        phase = rng.uniform(0.0, 2 * np.pi, (len(ecg_uv), 1))
        made += size_uv * np.sin(2 * np.pi * hz * time_s + phase)
    return made
