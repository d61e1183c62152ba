"""Device files of simulated recordings: counts in, bytes of CardioSoft XML, MUSE XML or WFDB out.

The functions for single elements are for tests, which damage one element of a file.
"""

from __future__ import annotations

import base64
import datetime as dt
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import LEADS_12, Measurements, r_column, s_column

Counts = NDArray[np.int16]
_ByLead = Mapping[str, Counts]

_AMPLITUDES: Final = tuple(
    (name(lead), lead, wave) for lead in LEADS_12 for name, wave in ((r_column, "R"), (s_column, "S"))
)
_TABLE_ROWS: Final = ("QAmplitude", "RAmplitude", "SAmplitude", "R1Amplitude", "S1Amplitude")

MUSE_LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
_MATRIX_LEADS: Final = (*MUSE_LEADS, "III", "aVR", "aVL", "aVF")
_R, _S = 13, 17  # numbers of the measurements in the matrix
_HEADER_WORDS: Final = (147, 200, 216, 264, 341, 442, 8, 96, 452, 403, 138, 48, 1242, -1, -1, -1)
_N_MEASUREMENTS: Final = 53

_RATE_HZ: Final = 500
_MEDIAN_DURATION_S: Final = 1.2
_BEFORE_S: Final = 0.4
_REFRACTORY_S: Final = 0.3
_STEEP_SHARE: Final = 0.5


def _require_twelve(counts: Counts) -> None:
    if counts.ndim != 2 or counts.shape[0] != len(LEADS_12) or counts.dtype != np.int16:
        raise ValueError(f"counts are {counts.dtype} {counts.shape}, expected int16 (12, n)")


def write_wfdb(
    name: str, counts: Counts, uv_per_count: float, *, recorded_at: dt.datetime | None = None
) -> dict[str, bytes]:
    """Return the files of a record, by name: the header and one signal file.

    `counts` are (12, n_samples) int16, `LEADS_12` order, 500 Hz. A ValueError refuses other shapes,
    and a sample of -32768, which would be read as missing.

    Source:
        WFDB header(5) and signal(5): gain in counts per mV, checksum the 16-bit sum of samples.
    """
    _require_twelve(counts)
    if (counts == np.iinfo(np.int16).min).any():
        raise ValueError("a sample is -32768, which WFDB reads as missing; use a larger step")
    when = "" if recorded_at is None else recorded_at.strftime(" %H:%M:%S %d/%m/%Y")
    lines = [f"{name} {len(LEADS_12)} {_RATE_HZ} {counts.shape[1]}{when}"]
    gain = 1000.0 / uv_per_count
    for lead, samples in zip(LEADS_12, counts, strict=True):
        checksum = int(samples.sum(dtype=np.int64).astype(np.int16))
        lines.append(f"{name}.dat 16 {gain:.9g}(0)/mV 16 0 {samples[0]} {checksum} 0 {lead}")
    header = "\n".join([*lines, ""]).encode("ascii")
    return {f"{name}.hea": header, f"{name}.dat": counts.T.astype("<i2").tobytes()}


def median_beat(counts: Counts) -> Counts:
    """Return the median of the beats, (n_leads, 600) int16, aligned at their steepest place.

    `counts` are (n_leads, n_samples), 500 Hz, at least 1.2 s: the first 1.2 s are returned where no
    whole beat is found, and a ValueError refuses a shorter recording.
    """
    length, before = (int(s * _RATE_HZ) for s in (_MEDIAN_DURATION_S, _BEFORE_S))
    if counts.shape[1] < length:
        raise ValueError(
            f"recording has {counts.shape[1]} samples, expected {length} or more: "
            f"{_MEDIAN_DURATION_S} s at {_RATE_HZ} Hz"
        )
    starts = _steepest(counts, int(_REFRACTORY_S * _RATE_HZ)) - before
    starts = starts[(starts >= 0) & (starts + length <= counts.shape[1])]
    if not len(starts):
        return counts[:, :length].copy()
    beats = np.stack([counts[:, start : start + length] for start in starts])
    return np.asarray(np.rint(np.median(beats, axis=0)), dtype=np.int16)


def _steepest(counts: Counts, refractory: int) -> NDArray[np.int64]:
    """Return the places where all leads together are steepest, one for each beat."""
    slope = np.abs(np.diff(counts.astype(np.float32), axis=1)).sum(axis=0)
    steep = np.flatnonzero(slope >= _STEEP_SHARE * slope.max()) if slope.any() else np.zeros(0, int)
    beats = np.split(steep, np.flatnonzero(np.diff(steep) > refractory) + 1)
    return np.array([b[np.argmax(slope[b])] for b in beats if len(b)], dtype=np.int64)


def write_cardiosoft(
    counts: Counts,
    uv_per_count: float,
    *,
    participant_id: str,
    recorded_at: dt.datetime,
    measurements: Measurements | None = None,
) -> bytes:
    """Return a file as the device writes it: measurements, median beat, then the rhythm strip.

    `counts` are (12, n_samples) int16, `LEADS_12` order, 500 Hz, 1.2 s or more; others are refused
    with a ValueError. Measurements that are None are left out.
    """
    _require_twelve(counts)
    resolution = f'<Resolution units="uVperLsb">{uv_per_count:.9g}</Resolution>'
    head = f'<SampleRate units="Hz">{_RATE_HZ}</SampleRate>{resolution}'
    strip, beat = (dict(zip(LEADS_12, rows, strict=True)) for rows in (counts, median_beat(counts)))
    year, month, day, hour, minute, second = map(str, recorded_at.timetuple()[:6])
    return cardiosoft_document(
        person_elements((year, month, day), (hour, minute, second), escape(participant_id), ""),
        f"{_measured(measurements)}{median_samples(beat, head)}",
        f"<StripData>{strip_content(strip, head)}</StripData>",
    )


def _waveforms(counts: _ByLead) -> str:
    return "".join(
        f'<WaveformData lead="{lead}">\t\t{",".join(map(str, values.tolist()))}</WaveformData>\n'
        for lead, values in counts.items()
    )


def strip_content(counts: _ByLead, head: str, n_leads: int | None = None, n_samples: int | None = None) -> str:
    """Return what a StripData element holds, with `head` for rate and resolution.

    `n_leads` and `n_samples` are what it declares; None is the truth.
    """
    n_leads = len(counts) if n_leads is None else n_leads
    n_samples = max(map(len, counts.values())) if n_samples is None else n_samples
    n_total = f"<ChannelSampleCountTotal>{n_samples}</ChannelSampleCountTotal>"
    return f"<NumberOfLeads>{n_leads}</NumberOfLeads>{head}{n_total}{_waveforms(counts)}"


def median_samples(counts: _ByLead, head: str) -> str:
    """Return a MedianSamples element, see `strip_content`."""
    return f"<MedianSamples><NumberOfLeads>{len(counts)}</NumberOfLeads>{head}{_waveforms(counts)}</MedianSamples>"


def person_elements(date: tuple[str, str, str], time: tuple[str, str, str], participant_id: str, diagnosis: str) -> str:
    """Return the elements about the recording and the person; dates as year, month, day."""
    tags = ("Hour", "Minute", "Second", "Year", "Month", "Day")
    parts = zip(tags, (*time, *date), strict=True)
    date_time = "".join(f"<{tag}>{value}</{tag}>" for tag, value in parts)
    return (
        "<ObservationType>RestECG</ObservationType>\n"
        f"<ObservationDateTime>{date_time}</ObservationDateTime>\n"
        "<ClinicalInfo><DeviceInfo><AnalysisVer>12SL V21</AnalysisVer></DeviceInfo>"
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
    """Return a MeasurementTable element, whose columns are the leads in `order`.

    `rows` holds microvolts by lead, by row name such as `RAmplitude`; a lead left out is a blank.
    `creation` and `units` are attributes: of the table, naming the program, and of each row.
    """
    cells = {tag: ", ".join(str(row.get(lead, "")) for lead in order) for tag, row in rows.items()}
    body = "".join(f"<{tag}{units}>{text}</{tag}>" for tag, text in cells.items())
    lead_order = ", ".join(order)
    return f"<MeasurementTable{creation}><LeadOrder>{lead_order}</LeadOrder>{body}</MeasurementTable>"


def cardiosoft_document(
    person: str, measured: str, strip: str, *, encoding: str = "ISO-8859-1", declaration: str | None = None
) -> bytes:
    """Return a file of `person_elements`, content of RestingECGMeasurements, and StripData.

    `declaration` is the first line; None is the one of the encoding.
    """
    if declaration is None:
        declaration = f'<?xml version="1.0" encoding="{encoding}" ?>\n'
    measured = f"<RestingECGMeasurements>{measured}</RestingECGMeasurements>"
    text = f"{declaration}<CardiologyXML>\n{person}\n{measured}\n{strip}\n</CardiologyXML>\n"
    return text.encode(encoding)


def _measured(measurements: Measurements | None) -> str:
    if measurements is None:
        return ""
    rows: dict[str, dict[str, int]] = {tag: {} for tag in _TABLE_ROWS}
    for name, lead, wave in _AMPLITUDES:
        value = getattr(measurements, name)
        if value is not None:
            rows[f"{wave}Amplitude"][lead] = round(value)
    duration = measurements.qrs_duration_ms
    qrs = "" if duration is None else f'<QRSDuration units="ms">{duration:.9g}</QRSDuration>'
    creation = f' Creation="{escape(measurements.measured_by or "unknown")}"'
    return qrs + measurement_table(rows, creation=creation)


def write_muse(
    counts: Counts,
    uv_per_count: float,
    *,
    participant_id: str,
    recorded_at: dt.datetime,
    measurements: Measurements | None = None,
) -> bytes:
    """Return a file as MUSE writes it: the leads I, II and V1 to V6, a median beat first.

    III, aVR, aVL and aVF are left out, since they follow from I and II. The arguments are those of
    `write_cardiosoft`.
    """
    _require_twelve(counts)
    eight = counts[[LEADS_12.index(lead) for lead in MUSE_LEADS]]
    step = f"{uv_per_count:.9g}"
    waveforms = ""
    for kind, rows in (("Median", median_beat(eight)), ("Rhythm", eight)):
        leads = zip(MUSE_LEADS, rows, strict=True)
        waveforms += waveform_element(kind, [lead_element(*lead, LeadAmplitudeUnitsPerBit=step) for lead in leads])
    known = measurements or Measurements()
    duration = "" if known.qrs_duration_ms is None else f"{known.qrs_duration_ms:.9g}"
    head = head_elements(
        participant_id=escape(participant_id),
        date=recorded_at.strftime("%m-%d-%Y"),
        time=recorded_at.strftime("%H:%M:%S"),
        version=escape(known.measured_by or "unknown"),
        qrs_duration=duration,
        original_qrs_duration=duration,
        statement="",
        matrix=measurement_matrix(_amplitudes_uv(known)),
    )
    return muse_document(head + waveforms)


def _amplitudes_uv(measurements: Measurements) -> dict[str, dict[int, int]]:
    """Return the amplitudes as `measurement_matrix` takes them."""
    amplitudes: dict[str, dict[int, int]] = {}
    for name, lead, wave in _AMPLITUDES:
        value = getattr(measurements, name)
        if value is not None:
            amplitudes.setdefault(lead, {})[_R if wave == "R" else _S] = round(value)
    for waves in amplitudes.values():
        # A lead whose waves are all 0 counts as not measured: the other wave says it was.
        if not any(waves.values()):
            waves |= {number: 1 for number in (_R, _S) if number not in waves}
    return amplitudes


def lead_element(lead: str, counts: Counts, **changes: str | None) -> str:
    """Return one LeadData element; `changes`: texts by element name, None leaves one out."""
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
    """Return one Waveform element of elements of `lead_element`.

    `kind` is Rhythm or Median, None leaves the type out; `n_leads` is what it declares, None is the
    truth.
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
    """Return the text of a MeasurementMatrix, whose shape lvm_core/formats/muse.py describes.

    `amplitudes_uv` has the value by number of the measurement, by lead; the three others are the
    first and the last word of the header and the key of the first entry, as in real files.
    """
    words = [first_word, *_HEADER_WORDS, n_entries]
    for number, lead in enumerate(_MATRIX_LEADS):
        values = amplitudes_uv.get(lead, {})
        for measurement in range(_N_MEASUREMENTS):
            words += [measurement * 256 + number, values.get(measurement, 0)]
    words[len(_HEADER_WORDS) + 2] = first_key
    return base64.encodebytes(np.array(words, dtype="<i2").tobytes()).decode("ascii")


def muse_document(body: str, *, encoding: str = "ISO-8859-1", declaration: str | None = None) -> bytes:
    """Return a file around `body`, with the usual DOCTYPE line."""
    if declaration is None:
        declaration = f'<?xml version="1.0" encoding="{encoding}"?>\n'
    doctype = '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'
    return f"{declaration}{doctype}<RestingECG>\n{body}</RestingECG>\n".encode(encoding)


def _one_file(write: Callable[..., bytes]) -> Callable[..., dict[str, bytes]]:
    return lambda name, counts, uv_per_count, **known: {f"{name}.xml": write(counts, uv_per_count, **known)}


def _without_people(
    name: str, counts: Counts, uv_per_count: float, *, recorded_at: dt.datetime, **_: Any
) -> dict[str, bytes]:
    return write_wfdb(name, counts, uv_per_count, recorded_at=recorded_at)


WRITERS: Final = {"cardiosoft": _one_file(write_cardiosoft), "muse": _one_file(write_muse), "wfdb": _without_people}
"""Writers by the names of `--formats`: (name, counts, uv_per_count, *, participant_id, recorded_at,
measurements) to the files of a recording, by name."""
