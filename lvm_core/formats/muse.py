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

from lvm_core.ecg import Ecg
from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    INDEPENDENT_LEADS,
    INT16_LIMITS,
    Channel,
    assemble,
    local_datetime,
    require_leads,
)
from lvm_core.formats.muse_measurements import read_measurements
from lvm_core.formats.xml import (
    mentions_poor_quality,
    number_of,
    parse_xml,
    text_of,
    whole_number_of,
)
from lvm_core.leads import canonical_lead
from lvm_core.quality import QualityFlag
from lvm_core.units import uv_per_unit

_STATEMENT_TAGS: Final = frozenset({"StmtText"})
_WHERE: Final = "the MUSE rhythm waveform"
_DATE: Final = re.compile(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4})", re.ASCII)
_TIME: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.\d+)?", re.ASCII)


def read_muse(data: bytes) -> Ecg:
    """Decode a MUSE XML file.

    Reads the waveform of type Rhythm; the Median one, which comes first, is never used as signal.
    Files hold the eight leads I, II, V1-V6, from which the other four are derived, or all twelve,
    which are then used as stored. Samples are little-endian int16 in base64, checked against the
    file's own CRC-32.

    Args:
        data: the bytes of the file.

    Raises:
        EcgRejected: the file cannot be used; the reason and the message say why.
    """
    root = parse_xml(data)
    waveform = _rhythm(root)
    twelve = assemble(_channels(waveform), _WHERE)
    flags: tuple[str, ...] = ()
    if mentions_poor_quality(root, _STATEMENT_TAGS):
        flags = (QualityFlag.POOR_DATA_QUALITY.value,)
    return Ecg(
        leads_uv=twelve.leads_uv,
        sampling_rate_hz=_sampling_rate_hz(waveform),
        step_uv=twelve.step_uv,
        source_format="muse_xml",
        leads_derived=twelve.derived,
        saturated_leads=twelve.saturated,
        odd_gain_leads=twelve.odd_gain,
        recorded_at=_recorded_at(root),
        header_participant_id=text_of(root, "PatientDemographics/PatientID"),
        measurements=read_measurements(root),
        quality_flags=flags,
    )


def _rhythm(root: Element) -> Element:
    waveforms = root.findall("Waveform")
    types = [text_of(waveform, "WaveformType") or "without a type" for waveform in waveforms]
    rhythms = [w for w, kind in zip(waveforms, types, strict=True) if kind.lower() == "rhythm"]
    if len(rhythms) == 1:
        return rhythms[0]
    if rhythms:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"MUSE file has {len(rhythms)} waveforms of type Rhythm; expected one",
        )
    raise EcgRejected(
        RejectReason.TOO_SHORT,
        f"MUSE file has no waveform of type Rhythm, it has: {', '.join(types) or 'none'}; "
        "expected the rhythm of 10 s. A median beat of 1.2 s cannot be used",
    )


def _channels(waveform: Element) -> dict[str, Channel]:
    elements: dict[str, Element] = {}
    for element in waveform.findall("LeadData"):
        lead = canonical_lead(text_of(element, "LeadID") or "")
        if lead in elements:
            raise EcgRejected(
                RejectReason.UNREADABLE, f"lead {lead} is twice in {_WHERE}; expected each once"
            )
        if lead is not None:
            elements[lead] = element
    require_leads(elements, INDEPENDENT_LEADS, _WHERE)
    _check_waveform(waveform, elements)
    return {lead: _channel(element, lead) for lead, element in elements.items()}


def _check_waveform(waveform: Element, elements: dict[str, Element]) -> None:
    declared = whole_number_of(waveform, "NumberofLeads")
    n_leads = len(waveform.findall("LeadData"))
    if declared is not None and declared != n_leads:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"NumberofLeads of {_WHERE} is {declared}, but it holds {n_leads}; copy the file again",
        )
    offsets = {
        (
            number_of(element, "LeadTimeOffset") or 0,
            number_of(element, "LeadOffsetFirstSample") or 0,
        )
        for element in elements.values()
    }
    if len(offsets) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"leads of {_WHERE} start at {len(offsets)} different times; "
            "expected leads recorded at the same time",
        )


def _channel(element: Element, lead: str) -> Channel:
    _check_sample_size(element, lead)
    raw = _decode_samples(element, lead)
    return Channel(
        counts=np.frombuffer(raw, dtype="<i2"),
        uv_per_count=_uv_per_count(element, lead),
        limits=_limits(element),
    )


def _limits(element: Element) -> tuple[int, int]:
    """Return the limits that the file states for a lead; those of int16 when it does not."""
    low = whole_number_of(element, "LeadLowLimit")
    high = whole_number_of(element, "LeadHighLimit")
    if low is None or high is None or not low < 0 < high:
        return INT16_LIMITS
    return low, high


def _check_sample_size(element: Element, lead: str) -> None:
    size = whole_number_of(element, "LeadSampleSize")
    if size not in (None, 2):
        raise EcgRejected(
            RejectReason.UNREADABLE, f"LeadSampleSize of lead {lead} is {size} bytes; expected 2"
        )


def _decode_samples(element: Element, lead: str) -> bytes:
    try:
        raw = base64.b64decode(
            "".join((text_of(element, "WaveFormData") or "").split()), validate=True
        )
    except (binascii.Error, ValueError) as error:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"WaveFormData of lead {lead} in {_WHERE} is not valid base64; copy the file again",
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
            RejectReason.TRUNCATED,
            f"lead {lead} in {_WHERE} has {len(raw)} bytes; expected two for each sample",
        )
    _check_crc(element, lead, raw)
    return raw


def _check_crc(element: Element, lead: str, raw: bytes) -> None:
    """Compare the samples with `LeadDataCRC32`, written signed or unsigned, if it is there."""
    text = text_of(element, "LeadDataCRC32")
    if text is None:
        return
    found = zlib.crc32(raw)
    stated = whole_number_of(element, "LeadDataCRC32")
    if stated is None or stated % 2**32 != found:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"LeadDataCRC32 of lead {lead} in {_WHERE} is {text[:20]!r}, "
            f"but the samples give {found}; the file was damaged or edited",
        )


def _uv_per_count(element: Element, lead: str) -> float:
    value = number_of(element, "LeadAmplitudeUnitsPerBit")
    units = text_of(element, "LeadAmplitudeUnits")
    if value is None or value <= 0 or units is None:
        told = text_of(element, "LeadAmplitudeUnitsPerBit")
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"LeadAmplitudeUnitsPerBit of lead {lead} is {told} with units {units}; "
            "expected a number above 0 with LeadAmplitudeUnits, for example 4.88 MICROVOLTS",
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
            f"SampleBase of {_WHERE} is {text_of(waveform, 'SampleBase')} and SampleExponent "
            f"{exponent_text}; expected for example 500 and 0. The rate is never guessed",
        )
    return rate_hz


def _recorded_at(root: Element) -> dt.datetime | None:
    """Return AcquisitionDate (month-day-year) and AcquisitionTime; without a time, midnight."""
    date = _DATE.fullmatch(text_of(root, "TestDemographics/AcquisitionDate") or "")
    time_text = text_of(root, "TestDemographics/AcquisitionTime")
    time = _TIME.fullmatch(time_text or "00:00:00")
    if date is None or time is None:
        return None
    month, day, year = (int(part) for part in date.groups())
    hour, minute, second = (int(part or 0) for part in time.groups())
    return local_datetime((year, month, day), (hour, minute, second))
