"""DICOM waveforms (PS3.3 section C.10.9): 12-lead, general and ambulatory ECG."""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason, described
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    MAX_SAMPLES,
    SCP_LEADS,
    Channel,
    assemble,
    compact_datetime,
    finite_number,
    leads_by_name,
    measurements_of,
)
from lvm_core.formats.dicom_elements import DataSet, Kept, read_data_set
from lvm_core.formats.statement_codes import STATED_BY_CODE
from lvm_core.formats.statements import is_statement, rhythm_codes
from lvm_core.signal.canonical import MIN_DURATION_S
from lvm_core.signal.ecg import DERIVED_FROM_I_AND_II, LEADS_12, Ecg, Measurements, RhythmCodes, canonical_lead
from lvm_core.signal.quality import QualityFlag
from lvm_core.units import described_unit, uv_per_unit

_WHERE: Final = "the DICOM waveform"

_SOP_CLASS: Final = 0x00080016
_ACQUISITION_DATETIME: Final = 0x0008002A
# Date and time of the acquisition, and of the content; the first that is stated counts.
_DATES_AND_TIMES: Final = ((0x00080022, 0x00080032), (0x00080023, 0x00080033))
_MANUFACTURER: Final = 0x00080070
_MODEL: Final = 0x00081090
_PATIENT_ID: Final = 0x00100020
_CODE: Final = 0x00080100
_SCHEME: Final = 0x00080102
_MEANING: Final = 0x00080104
_ORIGINALITY: Final = 0x003A0004
_N_CHANNELS: Final = 0x003A0005
_N_SAMPLES: Final = 0x003A0010
_RATE: Final = 0x003A001A
_GROUP_LABEL: Final = 0x003A0020
_CHANNELS: Final = 0x003A0200
_CHANNEL_LABEL: Final = 0x003A0203
_SOURCE: Final = 0x003A0208
_SENSITIVITY: Final = 0x003A0210
_SENSITIVITY_UNIT: Final = 0x003A0211
_CORRECTION: Final = 0x003A0212
_BASELINE: Final = 0x003A0213
_TIME_SKEW: Final = 0x003A0214
_SAMPLE_SKEW: Final = 0x003A0215
_BITS_STORED: Final = 0x003A021A
_CONCEPT: Final = 0x0040A043
_CODED_VALUE: Final = 0x0040A168
_TEXT_VALUE: Final = 0x0040A160
_UNFORMATTED_TEXT: Final = 0x00700006
_NUMERIC_VALUE: Final = 0x0040A30A
_MEASUREMENT_UNIT: Final = 0x004008EA
_ANNOTATIONS: Final = 0x0040B020
_WAVEFORMS: Final = 0x54000100
_BITS_ALLOCATED: Final = 0x54001004
_INTERPRETATION: Final = 0x54001006
_PADDING: Final = 0x5400100A
_DATA: Final = 0x54001010

_CODED: Final[Kept] = {_CODE: None, _SCHEME: None, _MEANING: None}
_KEPT: Final[Kept] = {
    _SOP_CLASS: None,
    _ACQUISITION_DATETIME: None,
    **{tag: None for both in _DATES_AND_TIMES for tag in both},
    _MANUFACTURER: None,
    _MODEL: None,
    _PATIENT_ID: None,
    _ANNOTATIONS: {
        **dict.fromkeys((_NUMERIC_VALUE, _TEXT_VALUE, _UNFORMATTED_TEXT)),
        **dict.fromkeys((_CONCEPT, _CODED_VALUE, _MEASUREMENT_UNIT), _CODED),
    },
    _WAVEFORMS: {
        **dict.fromkeys((_ORIGINALITY, _N_CHANNELS, _N_SAMPLES, _RATE, _GROUP_LABEL)),
        **dict.fromkeys((_BITS_ALLOCATED, _INTERPRETATION, _PADDING, _DATA)),
        _CHANNELS: {
            **dict.fromkeys((_CHANNEL_LABEL, _SENSITIVITY, _CORRECTION, _BASELINE)),
            **dict.fromkeys((_TIME_SKEW, _SAMPLE_SKEW, _BITS_STORED)),
            _SOURCE: _CODED,
            _SENSITIVITY_UNIT: _CODED,
        },
    },
}

_LEAD_CODE: Final = re.compile(r"(?:5\.6\.3-9-|2:)0*(\d{1,3})", re.ASCII)
_QRS_DURATION_CODES: Final = frozenset({"5.13.5-9", "2:16156"})  # SCP-ECG, MDC
# Types of a sample by bits allocated and interpretation (PS3.3 section C.10.9.1.5), as NumPy types.
_SAMPLE_TYPES: Final = {
    (8, "SB"): "i1",
    (8, "UB"): "u1",
    (16, "SS"): "i2",
    (16, "US"): "u2",
    (32, "SL"): "i4",
    (32, "UL"): "u4",
}
_NAMES_OF_TYPES: Final = {
    **{kind: kind for _, kind in _SAMPLE_TYPES},
    **{"MB": "8-bit mu-law", "AB": "8-bit A-law", "SV": "64-bit", "UV": "64-bit"},
}
# Classes that archives of ECGs hold beside waveforms.
_SOP_CLASS_NAMES: Final = {
    "1.2.840.10008.5.1.4.1.1.104.1": "an encapsulated PDF",
    "1.2.840.10008.1.3.10": "a directory (DICOMDIR)",
    "1.2.840.10008.5.1.4.1.1.7": "a picture (Secondary Capture)",
    "1.2.840.10008.5.1.4.1.1.11.1": "a presentation state",
    "1.2.840.10008.5.1.4.1.1.88.11": "a report (Basic Text SR)",
    "1.2.840.10008.5.1.4.1.1.88.22": "a report (Enhanced SR)",
    "1.2.840.10008.5.1.4.1.1.88.33": "a report (Comprehensive SR)",
}


def read_dicom(data: bytes) -> Ecg:
    """Decode a DICOM waveform file; raise `EcgRejected` with the reason when it cannot be used.

    Reads the one waveform group that is ORIGINAL, lasts 10 s and has the leads; a DERIVED group
    (the median beat) is never used, wherever it stands. Any ECG class is read. A sample is in
    microvolts

        (stored value x sensitivity x correction factor + baseline) x microvolts of the unit

    (PS3.3 section C.10.9.1.4.2): the baseline is in the unit of the sensitivity. Samples that equal
    the padding value are missing.
    """
    file = read_data_set(data, _KEPT)
    group = _rhythm(file)
    rate_hz = _sampling_rate_hz(group)
    leads = assemble(_channels(group, rate_hz), _WHERE)
    recorded_at, date_unreadable = _recorded_at(file)
    return Ecg(
        **leads,
        sampling_rate_hz=rate_hz,
        source_format="dicom",
        recorded_at=recorded_at,
        header_participant_id=file.text(_PATIENT_ID) or None,
        measurements=_measurements(file),
        rhythm=_stated_rhythm(file.sequences.get(_ANNOTATIONS, [])),
        quality_flags=(QualityFlag.DATE_UNREADABLE.value,) if date_unreadable else (),
    )


def _rhythm(file: DataSet) -> DataSet:
    groups = file.sequences.get(_WAVEFORMS)
    if not groups:
        kind = _SOP_CLASS_NAMES.get(file.text(_SOP_CLASS), "of another class")
        raise EcgRejected(
            RejectReason.NOT_AN_ECG, f"DICOM file holds no waveforms, it is {kind}; expected an ECG Waveform Storage"
        )
    kinds = [_kind(group) for group in groups]
    originals = [group for group, kind in zip(groups, kinds, strict=True) if kind == "ORIGINAL"]
    if not originals:
        raise EcgRejected(
            RejectReason.TOO_SHORT,
            f"DICOM file has no waveform group that is ORIGINAL, it has: {', '.join(kinds)}; "
            "expected the rhythm of 10 s. A median beat cannot be used",
        )
    if len(originals) == 1:
        return originals[0]
    usable = [group for group in originals if _holds_leads(group) and _duration_s(group) >= MIN_DURATION_S]
    if len(usable) == 1:
        return usable[0]
    if usable:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"DICOM file has {len(usable)} waveform groups that are ORIGINAL and last 10 s; expected one",
        )
    raise EcgRejected(
        RejectReason.MISSING_LEAD,
        f"DICOM file has {len(originals)} waveform groups that are ORIGINAL, and none holds all leads for 10 s; "
        "expected one with the leads recorded at the same time. Export the full rhythm",
    )


def _kind(group: DataSet) -> str:
    """Return ORIGINAL, DERIVED, or how a message names any other originality."""
    stated = group.text(_ORIGINALITY).upper()
    label = group.text(_GROUP_LABEL).upper()
    if stated == "ORIGINAL" and ("MEDIAN" in label or "BEAT" in label):
        return "a median beat"
    if stated in ("ORIGINAL", "DERIVED"):
        return stated
    return "of another originality" if stated else "without an originality"


def _holds_leads(group: DataSet) -> bool:
    names = {_lead(channel) for channel in group.sequences.get(_CHANNELS, [])}
    return names.issuperset(lead for lead in LEADS_12 if lead not in DERIVED_FROM_I_AND_II)


def _duration_s(group: DataSet) -> float:
    return (group.whole_number(_N_SAMPLES) or 0) / _sampling_rate_hz(group)


def _decimal(data_set: DataSet, tag: int) -> float | None:
    """Return the number of a decimal string; None when absent, several, or not finite."""
    return finite_number(data_set.text(tag))


def _sampling_rate_hz(group: DataSet) -> float:
    rate_hz = _decimal(group, _RATE)
    if rate_hz is None or not 0 < rate_hz < HIGHEST_RATE_HZ:
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"SamplingFrequency of {_WHERE} is {described(group.text(_RATE) or None)}; "
            "expected a number of Hz above 0. It is never guessed",
        )
    return rate_hz


def _lead(channel: DataSet) -> str | None:
    """Return the canonical name of a channel's lead; None for a lead outside the twelve.

    The code counts, then its meaning, then the label. Refuses a channel whose code and meaning are
    two different leads.
    """
    source = channel.first(_SOURCE)
    meant = _lead_of_text("" if source is None else source.text(_MEANING))
    coded = None if source is None else _lead_of_code(source.text(_CODE))
    if coded is not None and meant is not None and coded != meant:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"a channel of {_WHERE} has the code of lead {coded} and the meaning of lead {meant}; expected one lead",
        )
    if source is not None and (source.text(_CODE) or source.text(_MEANING)):
        return coded or meant
    return _lead_of_text(channel.text(_CHANNEL_LABEL))


def _lead_of_code(code: str) -> str | None:
    match = _LEAD_CODE.fullmatch(code)
    return canonical_lead(code) if match is None else SCP_LEADS.get(int(match[1]))


def _lead_of_text(text: str) -> str | None:
    return canonical_lead(text.removesuffix("(Einthoven)"))


def _channels(group: DataSet, rate_hz: float) -> dict[str, Channel]:
    """Return the leads of a group, each with its scale, by canonical name."""
    definitions = group.sequences.get(_CHANNELS, [])
    indices = leads_by_name(((_lead(one) or "", index) for index, one in enumerate(definitions)), _WHERE)
    _check_skew([definitions[index] for index in indices.values()], rate_hz)
    samples = _samples(group, len(definitions))
    padding = _padding(group, samples.dtype)
    return {lead: _channel(definitions[index], lead, samples[:, index], padding) for lead, index in indices.items()}


def _samples(group: DataSet, n_definitions: int) -> NDArray[np.integer]:
    """Return the stored samples, (n_samples, n_channels) integers."""
    n_channels, n_samples = group.whole_number(_N_CHANNELS), group.whole_number(_N_SAMPLES)
    if n_channels is None or n_samples is None or n_channels != n_definitions:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"{_WHERE} states {n_channels} channels of {n_samples} samples and describes {n_definitions} channels; "
            "copy the file again",
        )
    if n_samples > MAX_SAMPLES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"{_WHERE} has {n_samples} samples a lead, the limit is {MAX_SAMPLES}; expected a resting ECG of 10 s",
        )
    sample_type = _sample_type(group)
    raw = group.values.get(_DATA, memoryview(b""))
    n_bytes = n_channels * n_samples * sample_type.itemsize
    if not n_bytes <= len(raw) <= n_bytes + n_bytes % 2:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"{_WHERE} of {n_channels} channels and {n_samples} samples has {len(raw)} bytes; "
            f"expected {n_bytes}. Copy the file again",
        )
    return np.frombuffer(raw[:n_bytes], dtype=sample_type).reshape(n_samples, n_channels)


def _sample_type(group: DataSet) -> np.dtype[np.integer]:
    bits, kind = group.whole_number(_BITS_ALLOCATED), group.text(_INTERPRETATION).upper()
    known = _SAMPLE_TYPES.get((bits or 0, kind))
    if known is None:
        name = _NAMES_OF_TYPES.get(kind, "of an unknown type")
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"samples of {_WHERE} are {name} with {bits} bits allocated; "
            "expected SS or US of 16 bits, SB or UB of 8, SL or UL of 32",
        )
    return np.dtype(f"{'<' if group.is_little_endian else '>'}{known}")


def _padding(group: DataSet, sample_type: np.dtype[np.integer]) -> int | None:
    """Return the value of missing samples; None when the file states none."""
    raw = group.values.get(_PADDING, memoryview(b""))
    if len(raw) < sample_type.itemsize:
        return None
    return int(np.frombuffer(raw[: sample_type.itemsize], dtype=sample_type)[0])


def _channel(definition: DataSet, lead: str, stored: NDArray[np.integer], padding: int | None) -> Channel:
    uv_of_unit, step = _scale(definition, lead)
    counts, limits = _counts(definition, lead, stored, padding)
    baseline = _decimal(definition, _BASELINE)
    if baseline is None and definition.text(_BASELINE):
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"ChannelBaseline of lead {lead} is {described(definition.text(_BASELINE))}; expected a number",
        )
    return Channel(
        counts=counts,
        uv_per_count=step * uv_of_unit,
        missing_count=padding,
        limits=limits,
        offset_uv=(baseline or 0.0) * uv_of_unit,
    )


def _scale(definition: DataSet, lead: str) -> tuple[float, float]:
    """Return the microvolts of the unit of a channel, and its units in one count."""
    sensitivity = _decimal(definition, _SENSITIVITY)
    correction = _decimal(definition, _CORRECTION) if definition.text(_CORRECTION) else 1.0
    coded = definition.first(_SENSITIVITY_UNIT)
    unit = None if coded is None else coded.text(_CODE) or coded.text(_MEANING)
    if sensitivity is None or correction is None or sensitivity * correction <= 0 or unit is None:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"ChannelSensitivity of lead {lead} is {described(definition.text(_SENSITIVITY) or None)} with the "
            f"correction factor {described(definition.text(_CORRECTION) or None)} (units: {described_unit(unit)}); "
            "expected numbers above 0 and a unit, for example 4.88 uV",
        )
    return uv_per_unit(unit), sensitivity * correction


def _counts(
    definition: DataSet, lead: str, stored: NDArray[np.integer], padding: int | None
) -> tuple[NDArray[np.integer], tuple[int, int]]:
    """Return the samples of a lead as integers, and the limits of what was stored.

    Fewer bits stored than allocated are the low ones. Writers extend the sign of a signed sample to
    the allocated bits, or leave 0 there; both are read.
    """
    allocated = stored.dtype.itemsize * 8
    bits = definition.whole_number(_BITS_STORED)
    n_bits = bits if bits is not None and 1 < bits < allocated else allocated
    signed = stored.dtype.kind == "i"
    low, high = (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1) if signed else (0, 2**n_bits - 1)
    valid = stored if padding is None else stored[stored != padding]
    smallest, largest = (int(valid.min()), int(valid.max())) if valid.size else (0, 0)
    if low <= smallest and largest <= high:
        return stored, (low, high)
    if signed and 0 <= smallest and largest < 2**n_bits:
        is_negative = stored > high if padding is None else (stored > high) & (stored != padding)
        return np.where(is_negative, stored.astype(np.int64) - 2**n_bits, stored), (low, high)
    raise EcgRejected(
        RejectReason.UNREADABLE,
        f"samples of lead {lead} in {_WHERE} reach from {smallest} to {largest}, but WaveformBitsStored is "
        f"{n_bits}; expected {low} to {high}",
    )


def _check_skew(definitions: list[DataSet], rate_hz: float) -> None:
    """Refuse leads that were recorded one sample or more apart."""
    skews = [(_decimal(one, _SAMPLE_SKEW) or 0.0) + (_decimal(one, _TIME_SKEW) or 0.0) * rate_hz for one in definitions]
    if max(skews) - min(skews) >= 1:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"leads of {_WHERE} start {max(skews) - min(skews):.6g} samples apart; "
            "expected leads recorded at the same time",
        )


def _recorded_at(file: DataSet) -> tuple[dt.datetime | None, bool]:
    """Return when the recording was made, and True when the date it gives cannot be read.

    A missing time of day is taken as midnight.
    """
    stated = [file.text(_ACQUISITION_DATETIME)]
    stated += [file.text(date) and file.text(date) + file.text(time) for date, time in _DATES_AND_TIMES]
    text = next((one for one in stated if one), None)
    recorded_at = None if text is None else compact_datetime(text)
    return recorded_at, text is not None and recorded_at is None


def _measurements(file: DataSet) -> Measurements:
    durations_ms = {duration for one in file.sequences.get(_ANNOTATIONS, []) if (duration := _qrs_duration_ms(one))}
    measured_by = " ".join(filter(None, (file.text(_MANUFACTURER), file.text(_MODEL)))) or None
    return measurements_of({}, durations_ms.pop() if len(durations_ms) == 1 else None, measured_by)


def _qrs_duration_ms(annotation: DataSet) -> float | None:
    """Return the QRS duration that an annotation states; None for any other annotation."""
    concept, unit = annotation.first(_CONCEPT), annotation.first(_MEASUREMENT_UNIT)
    if concept is None or unit is None or unit.text(_CODE).lower() != "ms":
        return None
    is_qrs = concept.text(_CODE) in _QRS_DURATION_CODES or concept.text(_MEANING).lower() == "qrs duration"
    duration_ms = _decimal(annotation, _NUMERIC_VALUE) if is_qrs else None
    return duration_ms if duration_ms is not None and duration_ms > 0 else None


def _stated_rhythm(annotations: list[DataSet]) -> RhythmCodes:
    """Return what annotations state: their texts, and concepts that are statements.

    Other concepts, such as durations and the points of a beat, state nothing.
    """
    texts = [one.text(tag) for one in annotations for tag in (_UNFORMATTED_TEXT, _TEXT_VALUE)]
    concepts = [item for one in annotations for tag in (_CONCEPT, _CODED_VALUE) for item in one.sequences.get(tag, [])]
    meanings = [item.text(_MEANING) for item in concepts]
    codes = [item.text(_CODE) for item in concepts]
    return rhythm_codes(
        [line for text in texts for line in text.splitlines()] + [text for text in meanings if is_statement(text)],
        [code for code in codes if code in STATED_BY_CODE],
    )
