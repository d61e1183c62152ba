"""Measuring the ECGs of which the device gave no amplitudes (decision 28)."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np

from beam_jobs.reading.blocks import AMPLITUDES, QRS_DURATION, EcgRow
from lvm_core.signal.ecg import SOFTWARE
from lvm_core.signal.measuring import measure_ecg

_WAVES: Final = tuple(i for i, _ in enumerate(AMPLITUDES) if i != QRS_DURATION)


class Measure(StrEnum):
    """Which ECGs the software measures, of those without any amplitude."""

    FILES = "files"  # those of device files; Parquet is taken as it is
    MISSING = "missing"  # all
    NEVER = "never"  # none


class Measured(NamedTuple):
    """What an ECG has of measurements, named as in `EcgRow`."""

    amplitudes: tuple[float, ...]
    measured_by: str | None
    qrs_measured_by: str | None


def measured(row: EcgRow, measure: Measure) -> Measured:
    """Return the measurements of an ECG: its own amplitudes, or all those of the software.

    Amplitudes of the device and of the software are never mixed in one ECG. A QRS duration of the
    device stays beside the amplitudes of the software.
    """
    own = Measured(row.amplitudes, row.measured_by, row.qrs_measured_by)
    has_waves = not all(np.isnan(row.amplitudes[i]) for i in _WAVES)
    is_wanted = measure is Measure.MISSING or (measure is Measure.FILES and row.row is None)
    if has_waves or row.measured_by == SOFTWARE or not is_wanted:
        return own
    found = measure_ecg(row.counts * np.float32(row.uv_per_count))
    values = [np.nan if (value := getattr(found, name)) is None else value for name in AMPLITUDES]
    if np.isnan(row.amplitudes[QRS_DURATION]):
        return Measured(tuple(values), found.measured_by, found.qrs_measured_by)
    values[QRS_DURATION] = row.amplitudes[QRS_DURATION]
    return Measured(tuple(values), found.measured_by, row.qrs_measured_by)
