"""Counts in, the bytes of a GE CardioSoft XML file out: for simulated recordings."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from lvm_core.ecg import Measurements
from lvm_core.formats.median_beat import median_beat
from lvm_core.leads import LEADS_12

_ENCODING: Final = "ISO-8859-1"
_AMPLITUDES: Final = (
    ("RAmplitude", "r_avl_uv", "aVL"),
    ("SAmplitude", "s_v1_uv", "V1"),
    ("SAmplitude", "s_v3_uv", "V3"),
    ("RAmplitude", "r_v5_uv", "V5"),
    ("RAmplitude", "r_v6_uv", "V6"),
)
_TABLE_ROWS: Final = ("QAmplitude", "RAmplitude", "SAmplitude", "R1Amplitude", "S1Amplitude")


def write_cardiosoft(
    counts: NDArray[np.int16],
    uv_per_count: float,
    *,
    participant_id: str,
    recorded_at: dt.datetime,
    measurements: Measurements | None = None,
    diagnosis: str = "",
    sampling_rate_hz: int = 500,
) -> bytes:
    """Return a file as the device writes it: measurements, median beat, then the rhythm strip.

    Args:
        counts: (12, n_samples) int16, `LEADS_12` order, 1.2 s or more.
        uv_per_count: microvolts of one count.
        participant_id: for the header.
        recorded_at: local date and time, whole seconds.
        measurements: what the device measured, whole microvolts and milliseconds; None or an
            amplitude that is None: not in the table.
        diagnosis: text of the interpretation.
        sampling_rate_hz: samples per second.

    Raises:
        ValueError: the counts have another shape or type.
    """
    if counts.ndim != 2 or counts.shape[0] != len(LEADS_12) or counts.dtype != np.int16:
        raise ValueError(f"counts are {counts.dtype} {counts.shape}, expected int16 (12, n)")
    rate = f'<SampleRate units="Hz">{sampling_rate_hz}</SampleRate>'
    resolution = f'<Resolution units="uVperLsb">{uv_per_count:.9g}</Resolution>'
    strip = strip_content(by_lead(counts), rate + resolution)
    median = median_samples(by_lead(median_beat(counts, sampling_rate_hz)), rate + resolution)
    when = recorded_at
    date = str(when.year), str(when.month), str(when.day)
    time = str(when.hour), str(when.minute), str(when.second)
    return document(
        person_elements(date, time, escape(participant_id), escape(diagnosis)),
        f"{_measured(measurements)}{median}",
        f"<StripData>{strip}</StripData>",
    )


def by_lead(counts: NDArray[np.int16]) -> dict[str, NDArray[np.int16]]:
    """Return the rows of (12, n_samples) counts by lead."""
    return dict(zip(LEADS_12, counts, strict=True))


def waveform_elements(counts: Mapping[str, NDArray[np.int16]]) -> str:
    """Return one WaveformData element for each lead."""
    return "".join(
        f'<WaveformData lead="{lead}">\t\t{",".join(map(str, values.tolist()))}</WaveformData>\n'
        for lead, values in counts.items()
    )


def strip_content(
    counts: Mapping[str, NDArray[np.int16]], head: str, n_leads: int | None = None, n_samples: int | None = None
) -> str:
    """Return what a StripData element holds.

    Args:
        counts: (n_samples,) int16 by lead.
        head: elements of rate and resolution.
        n_leads: what it declares; None: the truth.
        n_samples: what it declares; None: the truth.
    """
    n_leads = len(counts) if n_leads is None else n_leads
    n_samples = max(map(len, counts.values())) if n_samples is None else n_samples
    return (
        f"<NumberOfLeads>{n_leads}</NumberOfLeads>{head}"
        f"<ChannelSampleCountTotal>{n_samples}</ChannelSampleCountTotal>"
        f"{waveform_elements(counts)}"
    )


def median_samples(counts: Mapping[str, NDArray[np.int16]], head: str) -> str:
    """Return a MedianSamples element, see `strip_content`."""
    return (
        f"<MedianSamples><NumberOfLeads>{len(counts)}</NumberOfLeads>{head}{waveform_elements(counts)}</MedianSamples>"
    )


def person_elements(
    date: tuple[str, str, str],
    time: tuple[str, str, str],
    participant_id: str,
    diagnosis: str,
    version: str = "12SL V21",
) -> str:
    """Return the elements about the recording and the person; arguments are texts of elements.

    Args:
        date: year, month, day.
        time: hour, minute, second.
        participant_id: PID.
        diagnosis: DiagnosisText.
        version: of the program that analysed.
    """
    tags = ("Hour", "Minute", "Second", "Year", "Month", "Day")
    parts = zip(tags, (*time, *date), strict=True)
    date_time = "".join(f"<{tag}>{value}</{tag}>" for tag, value in parts)
    return (
        "<ObservationType>RestECG</ObservationType>\n"
        f"<ObservationDateTime>{date_time}</ObservationDateTime>\n"
        f"<ClinicalInfo><DeviceInfo><AnalysisVer>{version}</AnalysisVer></DeviceInfo>"
        f"</ClinicalInfo>\n<PatientInfo><PID>{participant_id}</PID></PatientInfo>\n"
        f"<Interpretation><Diagnosis><DiagnosisText>{diagnosis}</DiagnosisText></Diagnosis>"
        "</Interpretation>"
    )


def measurement_table(
    rows: Mapping[str, Mapping[str, int]],
    *,
    order: Sequence[str] = LEADS_12,
    creation: str = ' Creation="12SL"',
    units: str = ' units="uV"',
) -> str:
    """Return a MeasurementTable element.

    Args:
        rows: microvolts by lead, by row name such as `RAmplitude`; a lead left out is a blank.
        order: LeadOrder, the columns.
        creation: the attribute of the table that names the program.
        units: the attribute of each row.
    """
    cells = {tag: ", ".join(str(row.get(lead, "")) for lead in order) for tag, row in rows.items()}
    body = "".join(f"<{tag}{units}>{text}</{tag}>" for tag, text in cells.items())
    lead_order = ", ".join(order)
    return f"<MeasurementTable{creation}><LeadOrder>{lead_order}</LeadOrder>{body}</MeasurementTable>"


def document(
    person: str, measured: str, strip: str, *, encoding: str = _ENCODING, declaration: str | None = None
) -> bytes:
    """Return a file.

    Args:
        person: of `person_elements`.
        measured: content of RestingECGMeasurements.
        strip: StripData element.
        encoding: of the bytes.
        declaration: first line; None: the one of the encoding.
    """
    if declaration is None:
        declaration = f'<?xml version="1.0" encoding="{encoding}" ?>\n'
    measured = f"<RestingECGMeasurements>{measured}</RestingECGMeasurements>"
    text = f"{declaration}<CardiologyXML>\n{person}\n{measured}\n{strip}\n</CardiologyXML>\n"
    return text.encode(encoding)


def _measured(measurements: Measurements | None) -> str:
    """Return QRS duration and table; nothing of what was not measured."""
    if measurements is None:
        return ""
    rows: dict[str, dict[str, int]] = {tag: {} for tag in _TABLE_ROWS}
    for tag, name, lead in _AMPLITUDES:
        value = getattr(measurements, name)
        if value is not None:
            rows[tag][lead] = round(value)
    duration = measurements.qrs_duration_ms
    qrs = "" if duration is None else f'<QRSDuration units="ms">{duration:.9g}</QRSDuration>'
    creation = f' Creation="{escape(measurements.measured_by or "unknown")}"'
    return qrs + measurement_table(rows, creation=creation)
