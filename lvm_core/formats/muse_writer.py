"""Counts in, the bytes of a GE MUSE XML file out: for simulated recordings."""

from __future__ import annotations

import base64
import datetime as dt
import zlib
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from lvm_core.ecg import Measurements
from lvm_core.formats.median_beat import median_beat
from lvm_core.leads import LEADS_12

MUSE_LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
MATRIX_LEADS: Final = (*MUSE_LEADS, "III", "aVR", "aVL", "aVF")
_R, _S = 13, 17  # numbers of the measurements in the matrix
_AMPLITUDES: Final = (
    ("r_avl_uv", "aVL", _R),
    ("s_v1_uv", "V1", _S),
    ("s_v3_uv", "V3", _S),
    ("r_v5_uv", "V5", _R),
    ("r_v6_uv", "V6", _R),
)
_HEADER_WORDS: Final = (147, 200, 216, 264, 341, 442, 8, 96, 452, 403, 138, 48, 1242, -1, -1, -1)
_N_MEASUREMENTS: Final = 53


def write_muse(
    counts: NDArray[np.int16],
    uv_per_count: float,
    *,
    participant_id: str,
    recorded_at: dt.datetime,
    measurements: Measurements | None = None,
    statement: str = "",
    sampling_rate_hz: int = 500,
) -> bytes:
    """Return a file as MUSE writes it: the leads I, II and V1 to V6, a median beat first.

    Args:
        counts: (12, n_samples) int16, `LEADS_12` order, 1.2 s or more; III, aVR, aVL and aVF are
            left out, since they follow from I and II.
        uv_per_count: microvolts of one count.
        participant_id: for the header.
        recorded_at: local date and time, whole seconds.
        measurements: what the device measured, whole microvolts and milliseconds; None or an
            amplitude that is None: left out.
        statement: text of the diagnosis.
        sampling_rate_hz: samples per second.

    Raises:
        ValueError: the counts have another shape or type.
    """
    if counts.ndim != 2 or counts.shape[0] != len(LEADS_12) or counts.dtype != np.int16:
        raise ValueError(f"counts are {counts.dtype} {counts.shape}, expected int16 (12, n)")
    eight = counts[[LEADS_12.index(lead) for lead in MUSE_LEADS]]
    beat = median_beat(eight, sampling_rate_hz)
    waveforms = "".join(
        waveform_element(kind, _lead_elements(values, uv_per_count), base=str(sampling_rate_hz))
        for kind, values in (("Median", beat), ("Rhythm", eight))
    )
    known = measurements or Measurements()
    duration = "" if known.qrs_duration_ms is None else f"{known.qrs_duration_ms:.9g}"
    return document(
        head_elements(
            participant_id=escape(participant_id),
            date=recorded_at.strftime("%m-%d-%Y"),
            time=recorded_at.strftime("%H:%M:%S"),
            version=escape(known.measured_by or "unknown"),
            qrs_duration=duration,
            original_qrs_duration=duration,
            statement=escape(statement),
            matrix=measurement_matrix(_amplitudes_uv(known)),
        )
        + waveforms
    )


def _lead_elements(counts: NDArray[np.int16], uv_per_count: float) -> list[str]:
    step = f"{uv_per_count:.9g}"
    return [
        lead_element(lead, values, LeadAmplitudeUnitsPerBit=step)
        for lead, values in zip(MUSE_LEADS, counts, strict=True)
    ]


def _amplitudes_uv(measurements: Measurements) -> dict[str, dict[int, int]]:
    """Return the amplitudes as `measurement_matrix` takes them."""
    amplitudes: dict[str, dict[int, int]] = {}
    for name, lead, wave in _AMPLITUDES:
        value = getattr(measurements, name)
        if value is not None:
            # A lead whose waves are all 0 counts as not measured: the other wave says it was.
            other = {} if round(value) else {_R + _S - wave: 1}
            amplitudes[lead] = {wave: round(value), **other}
    return amplitudes


def lead_element(lead: str, counts: NDArray[np.int16], **changes: str | None) -> str:
    """Return one LeadData element.

    Args:
        lead: LeadID.
        counts: (n_samples,) int16.
        **changes: other text by element name; None leaves the element out.
    """
    raw = counts.astype("<i2").tobytes()
    wrapped = base64.encodebytes(raw).decode("ascii")
    elements: dict[str, str | None] = {
        "LeadByteCountTotal": str(len(raw)),
        "LeadTimeOffset": "0",
        "LeadSampleCountTotal": str(len(counts)),
        "LeadAmplitudeUnitsPerBit": "4.88",
        "LeadAmplitudeUnits": "MICROVOLTS",
        "LeadHighLimit": "32767",
        "LeadLowLimit": "-32768",
        "LeadID": lead,
        "LeadOffsetFirstSample": "0",
        "LeadSampleSize": "2",
        "LeadOff": "FALSE",
        "LeadDataCRC32": str(zlib.crc32(raw)),
        "WaveFormData": f"\n{wrapped}",
        **changes,
    }
    body = "".join(f"<{tag}>{text}</{tag}>\n" for tag, text in elements.items() if text is not None)
    return f"<LeadData>{body}</LeadData>"


def waveform_element(
    kind: str | None, leads: Sequence[str], *, n_leads: int | None = None, base: str = "500", exponent: str = "0"
) -> str:
    """Return one Waveform element.

    Args:
        kind: WaveformType, `Rhythm` or `Median`; None leaves it out.
        leads: LeadData elements, see `lead_element`.
        n_leads: what NumberofLeads says; None: the truth.
        base: SampleBase; empty leaves it blank.
        exponent: SampleExponent; empty leaves it blank.
    """
    stated = len(leads) if n_leads is None else n_leads
    kind_element = "" if kind is None else f"<WaveformType>{kind}</WaveformType>"
    return (
        f"<Waveform>{kind_element}<NumberofLeads>{stated}</NumberofLeads>"
        "<SampleType>CONTINUOUS_SAMPLES</SampleType>"
        f"<SampleBase>{base}</SampleBase><SampleExponent>{exponent}</SampleExponent>"
        f"{''.join(leads)}</Waveform>\n"
    )


def head_elements(
    *,
    participant_id: str,
    date: str,
    time: str,
    version: str,
    qrs_duration: str,
    original_qrs_duration: str,
    statement: str,
    matrix: str,
) -> str:
    """Return everything before the waveforms; every argument is the text of an element."""
    return (
        f"<PatientDemographics><PatientID>{participant_id}</PatientID></PatientDemographics>\n"
        f"<TestDemographics><AcquisitionDate>{date}</AcquisitionDate>"
        f"<AcquisitionTime>{time}</AcquisitionTime>"
        f"<AnalysisSoftwareVersion>{version}</AnalysisSoftwareVersion></TestDemographics>\n"
        f"<RestingECGMeasurements><QRSDuration>{qrs_duration}</QRSDuration>"
        "</RestingECGMeasurements>\n<OriginalRestingECGMeasurements>"
        f"<QRSDuration>{original_qrs_duration}</QRSDuration></OriginalRestingECGMeasurements>\n"
        f"<Diagnosis><DiagnosisStatement><StmtText>{statement}</StmtText></DiagnosisStatement>"
        f"</Diagnosis>\n<MeasurementMatrix>\n{matrix}</MeasurementMatrix>\n"
    )


def measurement_matrix(
    amplitudes_uv: Mapping[str, Mapping[int, int]], *, first_word: int = 36, n_entries: int = 636, first_key: int = 0
) -> str:
    """Return the text of a MeasurementMatrix, whose shape muse_measurements describes.

    Args:
        amplitudes_uv: value by number of the measurement, by lead; 0 where none is given.
        first_word: first word of the header, 36 in real files.
        n_entries: last word of the header, 636 in real files.
        first_key: key of the first entry, 0 in real files.
    """
    words = [first_word, *_HEADER_WORDS, n_entries]
    for number, lead in enumerate(MATRIX_LEADS):
        values = amplitudes_uv.get(lead, {})
        for measurement in range(_N_MEASUREMENTS):
            words += [measurement * 256 + number, values.get(measurement, 0)]
    words[len(_HEADER_WORDS) + 2] = first_key
    return base64.encodebytes(np.array(words, dtype="<i2").tobytes()).decode("ascii")


def document(body: str, *, encoding: str = "ISO-8859-1", declaration: str | None = None) -> bytes:
    """Return a file around `body`, with the usual DOCTYPE line."""
    if declaration is None:
        declaration = f'<?xml version="1.0" encoding="{encoding}"?>\n'
    doctype = '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'
    return f"{declaration}{doctype}<RestingECG>\n{body}</RestingECG>\n".encode(encoding)
