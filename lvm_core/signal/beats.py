"""Heart beats in a 12-lead ECG: R peaks, the phases of a beat, and averages over beats.

Good enough to say where in a beat something lies; no delineation, and not for measuring intervals.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, find_peaks, sosfiltfilt

# Most of QRS lies between 8 and 30 Hz, P and T and the wander below, noise of muscles above
# (Elgendi M, Jonkman M, De Boer F, BIOSIGNALS 2010:428-431).
_BAND_HZ: Final = (8.0, 30.0)
_SMOOTHING_S: Final = 0.09
_REFRACTORY_S: Final = 0.26
_HEIGHT_SHARE: Final = 0.25
_SEARCH_S: Final = 0.06
_NO_SIGNAL_UV: Final = 20.0

PHASES: Final = ("P", "QRS", "ST", "T", "rest")
"""P with PQ, QRS, ST, T, and what is left of the cycle."""

# Seconds from R. Normal limits: PR 0.12 to 0.20, QRS below 0.11, QT up to 0.45 (Surawicz B et al.
# and Rautaharju PM et al., J Am Coll Cardiol 2009;53:976-981 and 982-991), rounded outwards.
_P_START_S: Final = -0.25
_QRS_START_S: Final = -0.06
_QRS_END_S: Final = 0.06
_ST_END_S: Final = 0.16
_T_END_S: Final = 0.42


def r_peaks(leads_uv: NDArray[np.floating], sampling_rate_hz: float) -> NDArray[np.intp]:
    """Return the samples at which the QRS complexes are largest.

    Takes (n_leads, n_samples) microvolts. Returns (n_beats,) rising sample numbers; empty where
    nothing stands out.
    """
    wide = np.asarray(leads_uv, dtype=np.float64)
    energy = (sosfiltfilt(_band(sampling_rate_hz), wide, axis=1) ** 2).sum(axis=0)
    width = max(1, round(_SMOOTHING_S * sampling_rate_hz))
    smooth = np.sqrt(np.convolve(energy, np.ones(width) / width, mode="same"))
    usual = float(np.quantile(smooth, 0.98))
    if usual < _NO_SIGNAL_UV:
        return np.empty(0, dtype=np.intp)
    distance = round(_REFRACTORY_S * sampling_rate_hz)
    rough, _ = find_peaks(smooth, height=_HEIGHT_SHARE * usual, distance=distance)
    size = np.sqrt(((wide - np.median(wide, axis=1, keepdims=True)) ** 2).sum(axis=0))
    reach = round(_SEARCH_S * sampling_rate_hz)
    found = [max(0, p - reach) + int(size[max(0, p - reach) : p + reach + 1].argmax()) for p in rough]
    return np.unique(np.array(found, dtype=np.intp))


@lru_cache(maxsize=4)
def _band(sampling_rate_hz: float) -> NDArray[np.float64]:
    """Return the filter that leaves QRS, as second-order sections."""
    return np.asarray(butter(2, _BAND_HZ, btype="bandpass", fs=sampling_rate_hz, output="sos"))


def phase_of_samples(peaks: NDArray[np.intp], n_samples: int, sampling_rate_hz: float) -> NDArray[np.int8]:
    """Return for each of `n_samples` samples the index of its phase in `PHASES`.

    Invariant: every sample has exactly one phase. Where P of a beat would overlap T of the one
    before, it is T.
    """
    phases = np.full(n_samples, PHASES.index("rest"), dtype=np.int8)
    # Later ones win: T over P, and QRS over everything.
    spans = (
        ("P", _P_START_S, _QRS_START_S),
        ("T", _ST_END_S, _T_END_S),
        ("ST", _QRS_END_S, _ST_END_S),
        ("QRS", _QRS_START_S, _QRS_END_S),
    )
    for name, start_s, end_s in spans:
        for peak in peaks:
            start = max(0, int(peak) + round(start_s * sampling_rate_hz))
            stop = max(0, int(peak) + round(end_s * sampling_rate_hz))
            phases[start:stop] = PHASES.index(name)
    return phases


def average_beat(
    values: NDArray[np.floating], peaks: NDArray[np.intp], n_before: int, n_after: int
) -> NDArray[np.float64]:
    """Return the mean over beats around their R peaks, (n_leads, n_before + 1 + n_after).

    `values` are (n_leads, n_samples) of any unit; `n_before` and `n_after` count samples around R.
    Beats that reach beyond the recording are left out; a ValueError says when none is left.
    """
    inside = peaks[(peaks >= n_before) & (peaks + n_after < values.shape[1])]
    if not inside.size:
        raise ValueError(
            f"none of {peaks.size} R peaks has {n_before} samples before and {n_after} after it in "
            f"{values.shape[1]} samples; expected at least one whole beat"
        )
    windows = inside[:, None] + np.arange(-n_before, n_after + 1)
    return np.asarray(values[:, windows].mean(axis=1, dtype=np.float64))
