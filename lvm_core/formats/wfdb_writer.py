"""Counts in, the bytes of a WFDB record out (format 16): for simulated and exported recordings."""

from __future__ import annotations

import datetime as dt

import numpy as np
from numpy.typing import NDArray

from lvm_core.leads import LEADS_12


def write_wfdb(
    name: str,
    counts: NDArray[np.int16],
    uv_per_count: float,
    *,
    sampling_rate_hz: int = 500,
    recorded_at: dt.datetime | None = None,
) -> dict[str, bytes]:
    """Return the files of a record, by name: the header and one signal file.

    Args:
        name: record name, letters, digits, `-` and `_`.
        counts: (12, n_samples) int16, `LEADS_12` order; -32768 would be read as missing.
        uv_per_count: microvolts of one count.
        sampling_rate_hz: samples per second.
        recorded_at: local date and time, whole seconds.

    Raises:
        ValueError: the shape is another, or a sample is -32768.

    Source:
        WFDB header(5) and signal(5): gain in counts per mV, checksum the 16-bit sum of samples.
    """
    if counts.ndim != 2 or counts.shape[0] != len(LEADS_12) or counts.dtype != np.int16:
        raise ValueError(f"counts are {counts.dtype} {counts.shape}, expected int16 (12, n)")
    if (counts == np.iinfo(np.int16).min).any():
        raise ValueError("a sample is -32768, which WFDB reads as missing; use a larger step")
    when = "" if recorded_at is None else recorded_at.strftime(" %H:%M:%S %d/%m/%Y")
    lines = [f"{name} {len(LEADS_12)} {sampling_rate_hz} {counts.shape[1]}{when}"]
    gain = 1000.0 / uv_per_count
    for lead, samples in zip(LEADS_12, counts, strict=True):
        checksum = int(samples.sum(dtype=np.int64).astype(np.int16))
        lines.append(f"{name}.dat 16 {gain:.9g}(0)/mV 16 0 {samples[0]} {checksum} 0 {lead}")
    header = "\n".join([*lines, ""]).encode("ascii")
    return {f"{name}.hea": header, f"{name}.dat": counts.T.astype("<i2").tobytes()}
