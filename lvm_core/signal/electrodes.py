"""Electrodes that were exchanged at the patient, as far as P and QRS tell it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.beats import average_beat, r_peaks
from lvm_core.signal.ecg import INDEPENDENT_LEADS, LEADS_12

_RATE_HZ: Final = 250  # every second sample: enough for the sign of waves
_ROW: Final = {LEADS_12[lead]: row for row, lead in enumerate(INDEPENDENT_LEADS.tolist())}
_I, _V6 = _ROW["I"], _ROW["V6"]
# Enough to find beats in, at half the price of eight leads.
_FOR_BEATS: Final = np.array([_ROW[lead] for lead in ("I", "II", "V2", "V5")])

# Samples at 250 Hz from R. P lies between 240 and 60 ms before R with a PR interval of 120 to
# 200 ms (normal limits), and the line from the end of T to PQ is under it.
_BEFORE, _AFTER = 65, 90
_QRS: Final = slice(_BEFORE - 15, _BEFORE + 16)
_P: Final = slice(_BEFORE - 58, _BEFORE - 17)
_P_START, _P_END = slice(_BEFORE - 64, _BEFORE - 59), slice(_BEFORE - 17, _BEFORE - 12)
_FEWEST_BEATS: Final = 3

# T ends 360 ms after R or later with a QT of 400 ms; the mean from 160 ms on has its sign.
_T: Final = slice(_BEFORE + 40, _BEFORE + 90)

# Mean over 164 ms: that of a P of 30 uV and 100 ms. A smaller one has no sure sign.
_P_UV: Final = 9.0
# Mean over 200 ms: that of a T of about 50 uV.
_T_UV: Final = 20.0


def may_be_reversed(middle: NDArray[np.float32]) -> bool:
    """Return False for most ECGs, at little cost: what is largest in I is positive.

    `middle` is, for each of eight leads, the middle between the extremes of a beat, from the mean.
    """
    return bool(middle[_I] < 0 < middle[_V6])


def arm_leads_look_reversed(leads_uv: NDArray[np.float32]) -> bool:
    """Return whether lead I is upside down, and V6 is not: suspected exchange of arm electrodes.

    QRS is negative in I and positive in V6, and either P is negative in I, or P has no sure sign
    and T is negative in I and positive in V6. Exchanged arms invert I; the chest leads stay. In
    dextrocardia QRS is negative in V6 too, and with a right axis P is positive in I, so that
    neither counts. Takes (8, 5000) microvolts at 500 Hz, leads I, II and V1 to V6.

    Source:
        Batchvarov VN, Malik M, Camm AJ, Europace 2007;9:1081-1090: P, QRS and T are inverted in I
        while the chest leads are as usual; in dextrocardia R falls from V1 to V6.
    """
    half = leads_uv[:, ::2]
    peaks = r_peaks(half[_FOR_BEATS], _RATE_HZ)
    inside = (peaks >= _BEFORE) & (peaks + _AFTER < half.shape[1])
    if np.count_nonzero(inside) < _FEWEST_BEATS:
        return False
    beat_i_uv, beat_v6_uv = average_beat(half[[_I, _V6]], peaks, _BEFORE, _AFTER)
    if not _net_qrs_uv(beat_i_uv) < 0 < _net_qrs_uv(beat_v6_uv):
        return False
    p_uv = _mean_p_uv(beat_i_uv)
    return p_uv < -_P_UV or (p_uv < _P_UV and _mean_t_uv(beat_i_uv) < -_T_UV and _mean_t_uv(beat_v6_uv) > _T_UV)


def _net_qrs_uv(beat_uv: NDArray[np.float64]) -> float:
    """Return R minus the deeper of Q and S."""
    qrs_uv = beat_uv[_QRS] - beat_uv[_P_END].mean()
    return float(qrs_uv.max() + qrs_uv.min())


def _mean_p_uv(beat_uv: NDArray[np.float64]) -> float:
    """Return the mean of P over the line from before it to PQ."""
    line_uv = np.linspace(beat_uv[_P_START].mean(), beat_uv[_P_END].mean(), _P.stop - _P.start)
    return float((beat_uv[_P] - line_uv).mean())


def _mean_t_uv(beat_uv: NDArray[np.float64]) -> float:
    return float(beat_uv[_T].mean() - beat_uv[_P_END].mean())
