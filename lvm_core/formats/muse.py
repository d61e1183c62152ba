"""GE MUSE XML (`RestingECG`)."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
import zlib
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np

from lvm_core.errors import EcgRejected, RejectReason, described
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    INT16_LIMITS,
    Channel,
    assemble,
    leads_by_name,
    local_datetime,
    measurements_of,
    unambiguous_date,
)
from lvm_core.formats.statements import rhythm_codes, statements_in
from lvm_core.formats.xml import mentions_poor_quality, number_of, parse_repairable_xml, text_of, whole_number_of
from lvm_core.signal.canonical import MIN_DURATION_S
from lvm_core.signal.ecg import Ecg, Measurements, RhythmCodes
from lvm_core.signal.quality import QualityFlag
from lvm_core.units import described_unit, uv_per_unit

_STATEMENT_TAGS: Final = frozenset({"StmtText"})
_UNTYPED: Final = "without a type"
_WAVEFORM_TAGS: Final = frozenset({"Waveform"})
_WHERE: Final = "the MUSE rhythm waveform"
# The step of MUSE itself. Without a unit it can only be microvolts: 4.88 mV would leave an ECG one
# count high, and int16 counts of 4.88 nV end at 0.16 mV.
_STEP_WITHOUT_UNIT_UV: Final = 4.88
_DATE: Final = re.compile(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4})", re.ASCII)
_TIME: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.\d+)?", re.ASCII)
_MATRIX_LEADS: Final = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")
_N_MEASUREMENTS: Final = 53
_N_ENTRIES: Final = len(_MATRIX_LEADS) * _N_MEASUREMENTS
_N_HEADER_WORDS: Final = 18
_MEASUREMENT_OF_WAVE: Final = {"Q": 9, "R": 13, "S": 17, "R1": 21, "S1": 25}


def read_muse(data: bytes) -> Ecg:
    """Decode a MUSE XML file; raise `EcgRejected` with the reason when it cannot be used.

    Reads the waveform of type Rhythm, or the only one of 10 s where no type is given; the Median
    one, which comes first, is never used as signal.
    Files hold the eight leads I, II, V1-V6, from which the other four are derived, or all twelve,
    which are then used as stored. Samples are little-endian int16 in base64, checked against the
    file's own CRC-32.
    """
    root, repaired = parse_repairable_xml(data, _WAVEFORM_TAGS)
    waveform = _rhythm(root)
    named = ((text_of(element, "LeadID") or "", element) for element in waveform.findall("LeadData"))
    elements = leads_by_name(named, _WHERE)
    _check_waveform(waveform, elements)
    channels = {lead: _channel(element, lead) for lead, element in elements.items()}
    leads = assemble(channels, _WHERE)
    recorded_at, date_unreadable = _recorded_at(root)
    flags = {
        QualityFlag.POOR_DATA_QUALITY: mentions_poor_quality(root, _STATEMENT_TAGS),
        QualityFlag.XML_REPAIRED: repaired,
        QualityFlag.UNIT_ASSUMED: any(text_of(element, "LeadAmplitudeUnits") is None for element in elements.values()),
        QualityFlag.DATE_UNREADABLE: date_unreadable,
    }
    return Ecg(
        **leads,
        sampling_rate_hz=_sampling_rate_hz(waveform),
        source_format="muse_xml",
        recorded_at=recorded_at,
        header_participant_id=text_of(root, "PatientDemographics/PatientID"),
        measurements=_measurements(root),
        rhythm=_rhythm_codes(root),
        quality_flags=tuple(flag.value for flag, is_set in flags.items() if is_set),
    )


def _rhythm(root: Element) -> Element:
    waveforms = root.findall("Waveform")
    types = [_waveform_type(waveform) for waveform in waveforms]
    rhythms = [w for w, kind in zip(waveforms, types, strict=True) if kind == "Rhythm"]
    if not rhythms:
        rhythms = [
            waveform
            for waveform, kind in zip(waveforms, types, strict=True)
            if kind == _UNTYPED and _duration_s(waveform) >= MIN_DURATION_S
        ]
    if len(rhythms) == 1:
        return rhythms[0]
    if rhythms:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"MUSE file has {len(rhythms)} waveforms of type Rhythm or without a type; expected one",
        )
    raise EcgRejected(
        RejectReason.TOO_SHORT,
        f"MUSE file has no waveform of type Rhythm, it has: {', '.join(types) or 'none'}; "
        "expected the rhythm of 10 s. A median beat of 1.2 s cannot be used",
    )


def _waveform_type(waveform: Element) -> str:
    """Return `Rhythm`, `Median` or how a message names any other type."""
    kind = text_of(waveform, "WaveformType")
    if kind is None:
        return _UNTYPED
    known = {"rhythm": "Rhythm", "median": "Median"}
    return known.get(kind.lower(), "of another type")


def _duration_s(waveform: Element) -> float:
    """Return the seconds of a waveform by the length of its first lead's base64."""
    text = text_of(waveform, "LeadData/WaveFormData") or ""
    n_bytes = len("".join(text.split()).rstrip("=")) * 3 // 4
    return n_bytes / 2 / _sampling_rate_hz(waveform)


def _check_waveform(waveform: Element, elements: dict[str, Element]) -> None:
    declared = whole_number_of(waveform, "NumberofLeads")
    n_leads = len(waveform.findall("LeadData"))
    if declared is not None and declared != n_leads:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"NumberofLeads of {_WHERE} is {declared}, but it holds {n_leads}; copy the file again",
        )
    offsets = {
        (number_of(element, "LeadTimeOffset") or 0, number_of(element, "LeadOffsetFirstSample") or 0)
        for element in elements.values()
    }
    if len(offsets) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"leads of {_WHERE} start at {len(offsets)} different times; expected leads recorded at the same time",
        )


def _channel(element: Element, lead: str) -> Channel:
    size = whole_number_of(element, "LeadSampleSize")
    if size not in (None, 2):
        raise EcgRejected(RejectReason.UNREADABLE, f"LeadSampleSize of lead {lead} is {size} bytes; expected 2")
    raw = _decode_samples(element, lead)
    return Channel(
        counts=np.frombuffer(raw, dtype="<i2"), uv_per_count=_uv_per_count(element, lead), limits=_limits(element)
    )


def _limits(element: Element) -> tuple[int, int]:
    """Return the limits that the file states for a lead; those of int16 when it does not."""
    low = whole_number_of(element, "LeadLowLimit")
    high = whole_number_of(element, "LeadHighLimit")
    if low is None or high is None or not low < 0 < high:
        return INT16_LIMITS
    return low, high


def _decode_samples(element: Element, lead: str) -> bytes:
    try:
        raw = base64.b64decode("".join((text_of(element, "WaveFormData") or "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EcgRejected(
            RejectReason.UNREADABLE, f"WaveFormData of lead {lead} in {_WHERE} is not valid base64; copy the file again"
        ) from error
    for tag, n_bytes_each in (("LeadByteCountTotal", 1), ("LeadSampleCountTotal", 2)):
        declared = whole_number_of(element, tag)
        if declared is not None and declared * n_bytes_each != len(raw):
            raise EcgRejected(
                RejectReason.TRUNCATED,
                f"{tag} of lead {lead} in {_WHERE} is {declared}, "
                f"but {len(raw)} bytes of samples are there; copy the file again",
            )
    if len(raw) % 2:
        raise EcgRejected(
            RejectReason.TRUNCATED, f"lead {lead} in {_WHERE} has {len(raw)} bytes; expected two for each sample"
        )
    _check_crc(element, lead, raw)
    return raw


def _check_crc(element: Element, lead: str, raw: bytes) -> None:
    """Compare the samples with `LeadDataCRC32`, written signed or unsigned, if it is there."""
    if text_of(element, "LeadDataCRC32") is None:
        return
    found = zlib.crc32(raw)
    stated = whole_number_of(element, "LeadDataCRC32")
    if stated is None or stated % 2**32 != found:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"LeadDataCRC32 of lead {lead} in {_WHERE} is not {found}, which the samples give; "
            "the file was damaged or edited",
        )


def _uv_per_count(element: Element, lead: str) -> float:
    value = number_of(element, "LeadAmplitudeUnitsPerBit")
    units = text_of(element, "LeadAmplitudeUnits")
    if units is None and value == _STEP_WITHOUT_UNIT_UV:
        return value
    if value is None or value <= 0 or units is None:
        stated = described(text_of(element, "LeadAmplitudeUnitsPerBit"))
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"LeadAmplitudeUnitsPerBit of lead {lead} is {stated} (units: {described_unit(units)}); expected a number "
            "above 0 with LeadAmplitudeUnits, for example 4.88 MICROVOLTS",
        )
    return value * uv_per_unit(units)


def _sampling_rate_hz(waveform: Element) -> float:
    """Return SampleBase times ten to the power of SampleExponent (absent: 0)."""
    base = number_of(waveform, "SampleBase")
    exponent_text = text_of(waveform, "SampleExponent")
    exponent = whole_number_of(waveform, "SampleExponent") if exponent_text else 0
    usable = base is not None and exponent is not None and abs(exponent) <= 6
    rate_hz = (base or 0.0) * 10.0 ** (exponent or 0) if usable else 0.0
    if not 0 < rate_hz < HIGHEST_RATE_HZ:
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"SampleBase of {_WHERE} is {described(text_of(waveform, 'SampleBase'))} and SampleExponent is "
            f"{described(exponent_text)}; expected for example 500 and 0. The rate is never guessed",
        )
    return rate_hz


def _recorded_at(root: Element) -> tuple[dt.datetime | None, bool]:
    """Return when the recording was made, and True when the date it gives cannot be read.

    AcquisitionDate is month-day-year, or one that can be read in one way only; without an
    AcquisitionTime, midnight.
    """
    date_text = text_of(root, "TestDemographics/AcquisitionDate")
    if date_text is None:
        return None, False
    date = _date(date_text)
    time = _TIME.fullmatch(text_of(root, "TestDemographics/AcquisitionTime") or "00:00:00")
    if date is None or time is None:
        return None, True
    hour, minute, second = (int(part or 0) for part in time.groups())
    recorded_at = local_datetime(date, (hour, minute, second))
    return recorded_at, recorded_at is None


def _date(text: str) -> tuple[int, int, int] | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return unambiguous_date(text)
    month, day, year = (int(part) for part in match.groups())
    return year, month, day


def _rhythm_codes(root: Element) -> RhythmCodes:
    """Return the codes of the final statements, or of the original ones where there are none."""
    final = statements_in(root.find("Diagnosis"), "StmtText")
    return rhythm_codes(final or statements_in(root.find("OriginalDiagnosis"), "StmtText"))


def _measurements(root: Element) -> Measurements:
    waves_uv = _waves_uv(text_of(root, "MeasurementMatrix") or "")
    analysed_by = text_of(root, "TestDemographics/AnalysisSoftwareVersion") or "MUSE"
    return measurements_of(waves_uv, _qrs_duration_ms(root), analysed_by)


def _qrs_duration_ms(root: Element) -> float | None:
    """Return the device's final QRS duration, or its original one where that is absent."""
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
