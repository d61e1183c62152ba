"""Small, seeded, synthetic inputs for tests; never a real person's data."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import Ecg
from lvm_core.synthetic.ecgs import synthetic_ecgs
from lvm_core.synthetic.records import CODE_LISTS, CODE_SYSTEMS, CODE_TEXTS


def counts_block(n: int = 2, seed: int = 1) -> NDArray[np.int16]:
    """Return (n, 12, 5000) int16 counts of 5 uV of synthetic ECGs that may be scored."""
    return synthetic_ecgs(n, seed).counts


def steps(n: int, uv_per_count: float = 5.0) -> NDArray[np.float32]:
    """Return (n,) float32, the same step for every ECG."""
    return np.full(n, uv_per_count, dtype=np.float32)


def leads_uv(n_samples: int = 5000, seed: int = 1) -> NDArray[np.float32]:
    """Return (n_samples, 12) float32 microvolts in whole steps of 5 uV, at 500 Hz."""
    signal_uv = counts_block(1, seed)[0].T.astype(np.float32) * 5
    repeats = -(-n_samples // len(signal_uv))
    return np.ascontiguousarray(np.tile(signal_uv, (repeats, 1))[:n_samples])


def ecg(**overrides: Any) -> Ecg:
    """Return a recording of 10 s at 500 Hz in steps of 5 uV, with the given fields replaced."""
    plain = Ecg(leads_uv=leads_uv(), sampling_rate_hz=500.0, step_uv=5.0, source_format="cardiosoft_xml")
    return dataclasses.replace(plain, **overrides)


def tone_uv(
    frequency_hz: float, rate_hz: int, duration_s: float = 10.0, amplitude_uv: float = 1000.0
) -> NDArray[np.float32]:
    """Return (n_samples, 12) float32 with the same sine in every lead."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    sine_uv = amplitude_uv * np.sin(2 * np.pi * frequency_hz * time_s)
    return np.repeat(sine_uv[:, None], 12, axis=1).astype(np.float32)


def in_code_list(name: str) -> NDArray[np.bool_]:
    """Return (n,) for each of `CODE_TEXTS` whether it belongs to an outcome by `CODE_LISTS`."""
    plain = [text.replace(".", "").upper() for text in CODE_TEXTS]
    return np.array(
        [
            any(system == of and text.startswith(prefix) for of, prefix in CODE_LISTS[name])
            for text, system in zip(plain, CODE_SYSTEMS, strict=True)
        ]
    )
