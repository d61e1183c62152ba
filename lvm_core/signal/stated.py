"""What a file states against its trace: the sampling rate, and the waves that were measured."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import LEADS_12, Measurements, r_column, s_column
from lvm_core.signal.measuring import measure_ecg
from lvm_core.signal.plausibility import lead_amplitudes

_RATE_HZ: Final = 500

# Rates of electrocardiographs, Holter recorders and public collections: 240 and 250 (GE MUSE,
# EchoNext), 257 (INCART), 360 (MIT-BIH), 400 (CODE-15), 500 and 1000 (most), and the powers of two
# and round numbers of other converters. Another one is a slip of a digit before it is a device.
USUAL_RATES_HZ: Final = frozenset(
    {200, 240, 250, 256, 257, 300, 360, 400, 480, 500, 512, 600, 800, 960, 1000, 1024, 1200, 1250, 1600, 2000}
)

# The amplitude of a lead over R plus S of the device, the median over leads: 1.03 to 1.18 in the
# seven real files with measurements. The limits are beyond what T, wander and noise add
# (docs/plausibility.md), and close enough to see a factor of 2 in either direction.
_AMPLITUDE_OVER_WAVES: Final = (0.75, 1.60)
# R plus S of the software over that of the device, the median over leads: looked at only where the
# amplitudes are outside the limits above.
_SOFTWARE_OVER_DEVICE: Final = (0.67, 1.50)
# In smaller leads T may be larger than QRS: a real aVR of 130 uV has an amplitude of 1030 uV.
_LEAST_WAVES_UV: Final = 300.0
_FEWEST_LEADS: Final = 4
# Waves cannot be larger than the lead that they are in. In the real files R plus S is at most 0.99
# of the largest minus the smallest value of the lead.
_LARGEST_SHARE_OF_LEAD: Final = 1.25
_ALLOWED_UV: Final = 100.0

_R: Final = tuple(map(r_column, LEADS_12))
_S: Final = tuple(map(s_column, LEADS_12))


def is_usual_rate(sampling_rate_hz: float) -> bool:
    """Return True for a rate that devices have."""
    return sampling_rate_hz in USUAL_RATES_HZ


def waves_uv(measurements: Measurements) -> NDArray[np.float64]:
    """Return R plus S of each lead, (12,) microvolts; NaN where one of them was not measured."""
    values = [[getattr(measurements, name) for name in names] for names in (_R, _S)]
    return np.asarray(np.array(values, dtype=np.float64).sum(axis=0))


def measurements_disagree(counts: NDArray[np.int16], uv_per_count: float, measurements: Measurements) -> bool:
    """Return True where the trace cannot have the waves that the device measured.

    So it is when R plus S of a lead is larger than the lead, or when the leads are about twice as
    large or half as large as their waves. Noise can make a trace larger, and T can be larger than
    QRS: where the trace seems too large, R and S are measured again before this is said.

    Args:
        counts: (12, n_samples) int16, rows in `LEADS_12` order, 500 Hz.
        uv_per_count: microvolts of one count.
        measurements: of the device.
    """
    device_uv = waves_uv(measurements)
    if not (device_uv >= _LEAST_WAVES_UV).any():
        return False
    range_uv = (counts.max(axis=1).astype(np.float64) - counts.min(axis=1)) * uv_per_count
    if (device_uv > _LARGEST_SHARE_OF_LEAD * range_uv + _ALLOWED_UV).any():
        return True
    is_large = device_uv >= _LEAST_WAVES_UV
    if np.count_nonzero(is_large) < _FEWEST_LEADS:
        return False
    amplitude_uv = lead_amplitudes(counts[None], _RATE_HZ)[0] * uv_per_count
    ratio = float(np.median(amplitude_uv[is_large] / device_uv[is_large]))
    if _AMPLITUDE_OVER_WAVES[0] <= ratio <= _AMPLITUDE_OVER_WAVES[1]:
        return False
    software_uv = waves_uv(measure_ecg(counts * np.float32(uv_per_count)))
    is_both = is_large & np.isfinite(software_uv)
    if np.count_nonzero(is_both) < _FEWEST_LEADS:
        return ratio < _AMPLITUDE_OVER_WAVES[0]
    again = float(np.median(software_uv[is_both] / device_uv[is_both]))
    return not _SOFTWARE_OVER_DEVICE[0] <= again <= _SOFTWARE_OVER_DEVICE[1]
