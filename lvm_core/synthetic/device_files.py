"""Counts in, the bytes of a GE CardioSoft XML file out: for simulated recordings."""

from __future__ import annotations

import base64
import datetime as dt
import zlib
from collections.abc import Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import LEADS_12, Measurements


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


DURATION_S: Final = 1.2
_BEFORE_S: Final = 0.4
_REFRACTORY_S: Final = 0.3
_STEEP_SHARE: Final = 0.5


def median_beat(counts: NDArray[np.int16], sampling_rate_hz: int = 500) -> NDArray[np.int16]:
    """Return the median of the beats of a recording, aligned at their steepest place.

    Args:
        counts: (n_leads, n_samples) int16, at least 1.2 s.
        sampling_rate_hz: samples per second.

    Returns:
        (n_leads, 1.2 s) int16. The first 1.2 s where no whole beat is found.

    Raises:
        ValueError: the recording is shorter than 1.2 s.
    """
    length, before = (int(s * sampling_rate_hz) for s in (DURATION_S, _BEFORE_S))
    if counts.shape[1] < length:
        raise ValueError(
            f"recording has {counts.shape[1]} samples, expected {length} or more: "
            f"{DURATION_S} s at {sampling_rate_hz} Hz"
        )
    starts = _steepest(counts, int(_REFRACTORY_S * sampling_rate_hz)) - before
    starts = starts[(starts >= 0) & (starts + length <= counts.shape[1])]
    if not len(starts):
        return counts[:, :length].copy()
    beats = np.stack([counts[:, start : start + length] for start in starts])
    return np.asarray(np.rint(np.median(beats, axis=0)), dtype=np.int16)


def _steepest(counts: NDArray[np.int16], refractory: int) -> NDArray[np.int64]:
    """Return the places where all leads together are steepest, one for each beat."""
    slope = np.abs(np.diff(counts.astype(np.float32), axis=1)).sum(axis=0)
    steep = np.flatnonzero(slope >= _STEEP_SHARE * slope.max()) if slope.any() else np.zeros(0, int)
    beats = np.split(steep, np.flatnonzero(np.diff(steep) > refractory) + 1)
    return np.array([b[np.argmax(slope[b])] for b in beats if len(b)], dtype=np.int64)


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


MUSE_LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
MATRIX_LEADS: Final = (*MUSE_LEADS, "III", "aVR", "aVL", "aVF")
_R, _S = 13, 17  # numbers of the measurements in the matrix
_AMPLITUDES_MUSE_WRITER: Final = (
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
    return document_muse_writer(
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
    for name, lead, wave in _AMPLITUDES_MUSE_WRITER:
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


def document_muse_writer(body: str, *, encoding: str = "ISO-8859-1", declaration: str | None = None) -> bytes:
    """Return a file around `body`, with the usual DOCTYPE line."""
    if declaration is None:
        declaration = f'<?xml version="1.0" encoding="{encoding}"?>\n'
    doctype = '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'
    return f"{declaration}{doctype}<RestingECG>\n{body}</RestingECG>\n".encode(encoding)
