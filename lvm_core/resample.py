"""Anti-aliased change of the sampling rate to 500 Hz; the duration is kept, nothing is invented."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, kaiserord, resample_poly

from lvm_core.errors import EcgRejected, RejectReason

TARGET_RATE_HZ: Final = 500
MIN_RATE_HZ: Final = 200
MAX_RATE_HZ: Final = 2000

STOP_BAND_DB: Final = 60.0
PASS_BAND_SHARE: Final = 0.8
"""The pass band ends at this share of the lower Nyquist frequency, where the stop band begins."""


def supported_rate_hz(sampling_rate_hz: float) -> int:
    """Return the rate as an integer when it can be brought to 500 Hz.

    Raises:
        EcgRejected: `unsupported_rate`, the rate is not a whole number from 200 to 2000 Hz.
    """
    if sampling_rate_hz < MIN_RATE_HZ:
        problem = "too low (100 Hz lacks the high frequencies of the QRS complex)"
    elif sampling_rate_hz > MAX_RATE_HZ:
        problem = "too high for a 12-lead ECG"
    elif not float(sampling_rate_hz).is_integer():
        problem = "not a whole number"
    else:
        return int(sampling_rate_hz)
    raise EcgRejected(
        RejectReason.UNSUPPORTED_RATE,
        f"sampling rate is {sampling_rate_hz:g} Hz, {problem}; expected a whole number from "
        f"{MIN_RATE_HZ} to {MAX_RATE_HZ} Hz as the file states it",
    )


def filter_reach_samples(sampling_rate_hz: int) -> int:
    """Return how many source samples on either side of an instant its new value depends on."""
    if sampling_rate_hz == TARGET_RATE_HZ:
        return 0
    up, _ = _up_down(sampling_rate_hz)
    return len(_filter(sampling_rate_hz)) // 2 // up + 1


def resample_to_500_hz(leads_uv: NDArray[np.float32], sampling_rate_hz: float) -> NDArray[np.float32]:
    """Return the recording at 500 Hz, sample 0 at the same instant.

    A linear-phase low-pass filter (Kaiser window; flat to 80 % of the lower of the two Nyquist
    frequencies, about 60 dB down from that Nyquist frequency on) in polyphase form. Before
    filtering the recording is continued at both ends by its point reflection about the end sample
    (2 * end - mirrored), which keeps value and slope, so that neither a baseline offset nor a drift
    rings there. Each polyphase branch sums to 1: a constant stays that constant.

    Args:
        leads_uv: (n_samples, 12) float32, microvolts, all finite.
        sampling_rate_hz: a whole number from 200 to 2000.

    Returns:
        (ceil(n_samples * 500 / sampling_rate_hz), 12) float32, microvolts; the input itself when
        it is at 500 Hz.

    Raises:
        EcgRejected: `unsupported_rate`.
        ValueError: there are fewer than two samples.

    Source:
        Oppenheim AV, Schafer RW, Discrete-Time Signal Processing, chapter 4 (polyphase rate
        change) and section 7.5 (Kaiser window).
    """
    rate_hz = supported_rate_hz(sampling_rate_hz)
    if len(leads_uv) < 2:
        raise ValueError(f"leads_uv has {len(leads_uv)} samples, expected two or more")
    if rate_hz == TARGET_RATE_HZ:
        return leads_uv
    up, down = _up_down(rate_hz)
    taps = _filter(rate_hz) / up  # resample_poly multiplies by `up`
    resampled = resample_poly(leads_uv, up, down, axis=0, window=taps, padtype="antireflect")
    assert resampled.shape == (-(-len(leads_uv) * up // down), leads_uv.shape[1])
    return np.asarray(resampled, dtype=np.float32)


def _up_down(rate_hz: int) -> tuple[int, int]:
    common = gcd(TARGET_RATE_HZ, rate_hz)
    return TARGET_RATE_HZ // common, rate_hz // common


@lru_cache(maxsize=8)
def _filter(rate_hz: int) -> NDArray[np.float64]:
    """Return the low-pass filter at the common rate, of odd length, each branch summing to 1."""
    up, down = _up_down(rate_hz)
    nyquist = 1 / max(up, down)  # the lower one, as a share of the common rate's
    n_taps, beta = kaiserord(STOP_BAND_DB, (1 - PASS_BAND_SHARE) * nyquist)
    centre = (1 + PASS_BAND_SHARE) / 2 * nyquist
    taps = np.asarray(firwin(n_taps | 1, centre, window=("kaiser", beta)), dtype=np.float64)
    for branch in range(up):
        taps[branch::up] /= taps[branch::up].sum()
    taps.setflags(write=False)  # shared by every caller through the cache
    return taps
