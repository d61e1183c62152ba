"""GE CardioSoft XML (`CardiologyXML`), the format of UK Biobank field 20205."""

from __future__ import annotations

import datetime as dt
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np

from lvm_core.ecg import Ecg
from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.cardiosoft_measurements import read_measurements
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    Channel,
    assemble,
    local_datetime,
    require_leads,
)
from lvm_core.formats.xml import (
    mentions_poor_quality,
    number_of,
    parse_xml,
    text_of,
    whole_number_of,
)
from lvm_core.leads import LEADS_12, canonical_lead
from lvm_core.quality import QualityFlag
from lvm_core.units import uv_per_unit

_STRIP_PATHS: Final = ("StripData", "Strip/StripData", "StripData/Strip")
_DIAGNOSIS_TAGS: Final = frozenset({"DiagnosisText", "ConclusionText"})
_WHERE: Final = "the CardioSoft rhythm strip"
_MAX_SAMPLES: Final = 1_000_000  # of a lead: 16 minutes at 1000 Hz; bounds the memory of parsing


def read_cardiosoft(data: bytes) -> Ecg:
    """Decode a CardioSoft XML file.

    Reads the rhythm strip (`StripData`, also `Strip/StripData` and `StripData/Strip`), never the
    median beat or the full disclosure. All twelve leads are used as stored: the derived ones may
    differ from Einthoven's law by some counts, and the published models saw them that way.

    Args:
        data: the bytes of the file.

    Raises:
        EcgRejected: the file cannot be used; the reason and the message say why.
    """
    root = parse_xml(data)
    scope = _strip_scope(root)
    channels = _channels(scope)
    twelve = assemble(channels, _WHERE)
    _check_counts(scope, n_samples=twelve.leads_uv.shape[0])
    flags: tuple[str, ...] = ()
    if mentions_poor_quality(root, _DIAGNOSIS_TAGS):
        flags = (QualityFlag.POOR_DATA_QUALITY.value,)
    return Ecg(
        leads_uv=twelve.leads_uv,
        sampling_rate_hz=_sampling_rate_hz(scope),
        step_uv=twelve.step_uv,
        source_format="cardiosoft_xml",
        saturated_leads=twelve.saturated,
        recorded_at=_recorded_at(root.find("ObservationDateTime")),
        header_participant_id=text_of(root, "PatientInfo/PID"),
        measurements=read_measurements(root),
        quality_flags=flags,
    )


def _strip_scope(root: Element) -> list[Element]:
    """Return the element that holds the leads, followed by its parent when that is not the root."""
    scopes: list[list[Element]] = []
    for path in _STRIP_PATHS:
        outer_path, _, inner = path.partition("/")
        for outer in root.findall(outer_path):
            holders = outer.findall(inner) if inner else [outer]
            scopes += [
                [holder, outer] if inner else [holder]
                for holder in holders
                if holder.find("WaveformData") is not None
            ]
    if not scopes:
        raise EcgRejected(
            RejectReason.TOO_SHORT,
            "CardioSoft file has no rhythm strip (StripData/WaveformData); "
            "expected a resting ECG of 10 s. Median beats and full disclosure are not used",
        )
    if len(scopes) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"CardioSoft file has {len(scopes)} rhythm strips; expected the one of a resting ECG",
        )
    return scopes[0]


def _first(scope: list[Element], tag: str) -> Element | None:
    found = (element.find(tag) for element in scope)
    return next((element for element in found if element is not None), None)


def _channels(scope: list[Element]) -> dict[str, Channel]:
    waveforms: dict[str, Element] = {}
    for waveform in scope[0].findall("WaveformData"):
        lead = canonical_lead(waveform.get("lead", ""))
        if lead in waveforms:
            raise EcgRejected(
                RejectReason.UNREADABLE, f"lead {lead} is twice in {_WHERE}; expected each once"
            )
        if lead is not None:
            waveforms[lead] = waveform
    require_leads(waveforms, LEADS_12, _WHERE)
    step_uv = _uv_per_count(_first(scope, "Resolution"))
    return {
        lead: Channel(_counts(waveform.text or "", lead), step_uv)
        for lead, waveform in waveforms.items()
    }


def _counts(text: str, lead: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the integers of a comma-separated text, (n_samples,); a comma at the end is fine."""
    tokens = text.strip().removesuffix(",")
    if not tokens:
        return np.zeros(0, dtype=np.int64)
    if tokens.count(",") >= _MAX_SAMPLES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"lead {lead} in {_WHERE} has more than {_MAX_SAMPLES} samples, the limit; "
            "expected a resting ECG of 10 s",
        )
    try:
        if "_" in tokens:  # int() would take it
            raise ValueError("an underscore is not part of a number")
        return np.array([int(token) for token in tokens.split(",")], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"samples of lead {lead} in {_WHERE} are not all whole numbers; "
            "expected integers separated by commas",
        ) from error


def _uv_per_count(resolution: Element | None) -> float:
    """Return the microvolts per count of `<Resolution units="uVperLsb">5</Resolution>`."""
    value = number_of(resolution, ".")
    units = "" if resolution is None else resolution.get("units", "").strip()
    if value is None or value <= 0 or not units.lower().endswith("perlsb"):
        told = "" if resolution is None else (resolution.text or "").strip()
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"Resolution of {_WHERE} is {told!r} with units {units!r}; "
            "expected a number above 0 with units 'uVperLsb'",
        )
    return value * uv_per_unit(units[: -len("perLsb")])


def _sampling_rate_hz(scope: list[Element]) -> float:
    rate = _first(scope, "SampleRate")
    value = number_of(rate, ".")
    units = "" if rate is None else rate.get("units", "Hz").strip()
    if value is None or not 0 < value < HIGHEST_RATE_HZ or units.lower() != "hz":
        told = "absent" if rate is None else f"{(rate.text or '').strip()!r} {units}"
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"SampleRate of {_WHERE} is {told}; expected a number of Hz above 0. "
            "It is never guessed",
        )
    return value


def _check_counts(scope: list[Element], n_samples: int) -> None:
    found = {
        "NumberOfLeads": len(scope[0].findall("WaveformData")),
        "ChannelSampleCountTotal": n_samples,
    }
    for tag, count in found.items():
        declared = whole_number_of(_first(scope, tag), ".")
        if declared is not None and declared != count:
            raise EcgRejected(
                RejectReason.TRUNCATED,
                f"{tag} of {_WHERE} is {declared}, but the strip holds {count}; "
                "copy the file again",
            )


def _recorded_at(element: Element | None) -> dt.datetime | None:
    """Return `ObservationDateTime`; a missing time of day is taken as midnight."""
    year, month, day = (whole_number_of(element, tag) for tag in ("Year", "Month", "Day"))
    hour, minute, second = (
        whole_number_of(element, tag) if text_of(element, tag) else 0
        for tag in ("Hour", "Minute", "Second")
    )
    if year is None or month is None or day is None:
        return None
    if hour is None or minute is None or second is None:
        return None
    return local_datetime((year, month, day), (hour, minute, second))
