"""Wave amplitudes from the measurement matrix of a MUSE XML file.

The vendor does not document the matrix. It describes itself well enough to be read, and what
follows was established on two real files: base64 of little-endian int16, a header of 18 words
whose first is the length of the header in bytes (36) and whose last is the number of entries
(636 = 12 leads x 53 measurements), then one pair (key, value) for each entry. The high byte of a
key is the measurement, the low byte the lead, in the order I, II, V1-V6, III, aVR, aVL, aVF.
Measurements 9, 13, 17, 21 and 25 are the amplitudes of Q, R, S, R' and S', microvolts, as
magnitudes. In both files R(aVL), S(V1), S(V3), R(V5) and R(V6) equal the extremes of the file's
own median beat between QRS onset and offset, measured from the level at the onset, within 1 uV.
Measurement 38 looks like "largest S" but takes Q waves too, so it is not used. A matrix of any
other shape is not read.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np

from lvm_core.ecg import Measurements
from lvm_core.formats.cardiosoft_measurements import r_uv, s_uv
from lvm_core.formats.xml import number_of, text_of

_MATRIX_LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")
_N_MEASUREMENTS: Final = 53
_N_ENTRIES: Final = len(_MATRIX_LEADS) * _N_MEASUREMENTS
_N_HEADER_WORDS: Final = 18
_MEASUREMENT_OF_WAVE: Final = {"Q": 9, "R": 13, "S": 17, "R1": 21, "S1": 25}


def read_measurements(root: Element) -> Measurements:
    """Return what the device measured; None for what it did not.

    QRS duration comes from `RestingECGMeasurements`, and from `OriginalRestingECGMeasurements`
    only when it is not there.
    """
    waves_uv = _waves_uv(text_of(root, "MeasurementMatrix") or "")
    amplitudes_uv = {
        "r_avl_uv": r_uv(waves_uv.get("aVL", {})),
        "s_v1_uv": s_uv(waves_uv.get("V1", {})),
        "s_v3_uv": s_uv(waves_uv.get("V3", {})),
        "r_v5_uv": r_uv(waves_uv.get("V5", {})),
        "r_v6_uv": r_uv(waves_uv.get("V6", {})),
    }
    qrs_duration_ms = _qrs_duration_ms(root)
    measured = qrs_duration_ms is not None or any(v is not None for v in amplitudes_uv.values())
    analysed_by = text_of(root, "TestDemographics/AnalysisSoftwareVersion") or "MUSE"
    return Measurements(**amplitudes_uv, qrs_duration_ms=qrs_duration_ms, measured_by=analysed_by if measured else None)


def _qrs_duration_ms(root: Element) -> float | None:
    for parent in ("RestingECGMeasurements", "OriginalRestingECGMeasurements"):
        value = number_of(root, f"{parent}/QRSDuration")
        if value is not None and value > 0:
            return value
    return None


def _waves_uv(text: str) -> dict[str, dict[str, float]]:
    """Return magnitudes in microvolts by lead and wave; leads that were not measured left out."""
    try:
        raw = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return {}
    if len(raw) != 2 * (_N_HEADER_WORDS + 2 * _N_ENTRIES):
        return {}
    words = np.frombuffer(raw, dtype="<i2").astype(np.int64)
    header, entries = words[:_N_HEADER_WORDS], words[_N_HEADER_WORDS:].reshape(-1, 2)
    lead, measurement = np.divmod(np.arange(_N_ENTRIES), _N_MEASUREMENTS)
    if (header[0], header[-1]) != (2 * _N_HEADER_WORDS, _N_ENTRIES) or np.any(
        entries[:, 0] != measurement * 256 + lead
    ):
        return {}
    matrix = np.abs(entries[:, 1].reshape(len(_MATRIX_LEADS), _N_MEASUREMENTS))
    waves_uv = {
        name: {wave: float(row[index]) for wave, index in _MEASUREMENT_OF_WAVE.items()}
        for name, row in zip(_MATRIX_LEADS, matrix, strict=True)
    }
    return {name: waves for name, waves in waves_uv.items() if any(waves.values())}
