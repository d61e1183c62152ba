"""GE CardioSoft XML (`CardiologyXML`), the format of UK Biobank field 20205."""

from __future__ import annotations

import datetime as dt
import math
from typing import Final
from xml.etree.ElementTree import Element

from lvm_core.errors import EcgRejected, RejectReason, described
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    Channel,
    assemble,
    leads_by_name,
    local_datetime,
    measurements_of,
    whole_counts,
)
from lvm_core.formats.statements import rhythm_codes, statements_in
from lvm_core.formats.xml import mentions_poor_quality, number_of, parse_repairable_xml, text_of, whole_number_of
from lvm_core.signal.ecg import Ecg, Measurements, canonical_lead
from lvm_core.signal.quality import QualityFlag
from lvm_core.units import described_unit, is_voltage, uv_per_unit

_WAVES: Final = ("Q", "R", "S", "R1", "S1")
_STRIP_PATHS: Final = ("StripData", "Strip/StripData", "StripData/Strip")
_DIAGNOSIS_TAGS: Final = frozenset({"DiagnosisText", "ConclusionText"})
_STRIP_TAGS: Final = frozenset({"StripData", "Strip"})
_WHERE: Final = "the CardioSoft rhythm strip"


def read_cardiosoft(data: bytes) -> Ecg:
    """Decode a CardioSoft XML file; raise `EcgRejected` with the reason when it cannot be used.

    Reads the rhythm strip (`StripData`, also `Strip/StripData` and `StripData/Strip`), never the
    median beat or the full disclosure. Leads are used as stored: III, aVR, aVL and aVF may differ
    from Einthoven's law by some counts, and the published models saw them that way. Those that are
    absent are derived from I and II.
    """
    root, repaired = parse_repairable_xml(data, _STRIP_TAGS)
    scope = _strip_scope(root)
    leads = assemble(_channels(scope), _WHERE)
    _check_counts(scope, n_samples=leads["leads_uv"].shape[0])
    recorded_at, date_unreadable = _recorded_at(root.find("ObservationDateTime"))
    flags = {
        QualityFlag.POOR_DATA_QUALITY: mentions_poor_quality(root, _DIAGNOSIS_TAGS),
        QualityFlag.XML_REPAIRED: repaired,
        QualityFlag.DATE_UNREADABLE: date_unreadable,
        QualityFlag.SCALE_CONTRADICTED: _is_contradicted(root, scope),
    }
    return Ecg(
        **leads,
        sampling_rate_hz=_sampling_rate_hz(scope),
        source_format="cardiosoft_xml",
        recorded_at=recorded_at,
        header_participant_id=text_of(root, "PatientInfo/PID"),
        measurements=_measurements(root),
        rhythm=rhythm_codes(statements_in(root.find("Interpretation"), "DiagnosisText")),
        quality_flags=tuple(flag.value for flag, is_set in flags.items() if is_set),
    )


def _strip_scope(root: Element) -> list[Element]:
    """Return the element that holds the leads, followed by its parent when that is not the root."""
    scopes: list[list[Element]] = []
    for path in _STRIP_PATHS:
        outer_path, _, inner = path.partition("/")
        for outer in root.findall(outer_path):
            holders = outer.findall(inner) if inner else [outer]
            scopes += [
                [holder, outer] if inner else [holder] for holder in holders if holder.find("WaveformData") is not None
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
    waveforms = leads_by_name(((one.get("lead", ""), one) for one in scope[0].findall("WaveformData")), _WHERE)
    step_uv = _uv_per_count(_first(scope, "Resolution"))
    return {
        lead: Channel(whole_counts((waveform.text or "").strip().removesuffix(","), ",", lead, _WHERE), step_uv)
        for lead, waveform in waveforms.items()
    }


def _uv_per_count(resolution: Element | None) -> float:
    """Return the microvolts per count of `<Resolution units="uVperLsb">5</Resolution>`."""
    value = number_of(resolution, ".")
    units = "" if resolution is None else resolution.get("units", "").strip()
    if value is None or value <= 0 or not units.lower().endswith("perlsb"):
        stated = described(None if resolution is None else resolution.text or "")
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"Resolution of {_WHERE} is {stated} (units: {_described_step_unit(units)}); "
            "expected a number above 0 with units 'uVperLsb'",
        )
    return value * uv_per_unit(units[: -len("perLsb")])


def _described_step_unit(units: str) -> str:
    voltage = units[: -len("perLsb")] if units.lower().endswith("perlsb") else units
    return f"'{units}'" if is_voltage(voltage) else described_unit(units)


def _sampling_rate_hz(scope: list[Element]) -> float:
    rate = _first(scope, "SampleRate")
    value = number_of(rate, ".")
    units = "" if rate is None else rate.get("units", "Hz").strip()
    if value is None or not 0 < value < HIGHEST_RATE_HZ or units.lower() != "hz":
        units_stated = "Hz" if units.lower() == "hz" else described(units)
        stated = "absent" if rate is None else f"{described(rate.text or '')} (units: {units_stated})"
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"SampleRate of {_WHERE} is {stated}; expected a number of Hz above 0. It is never guessed",
        )
    return value


def _is_contradicted(root: Element, scope: list[Element]) -> bool:
    """Return True where the median beat states another rate or step than the strip does."""
    beat = root.find("RestingECGMeasurements/MedianSamples")
    pairs = [(None if beat is None else beat.find(tag), _first(scope, tag)) for tag in ("SampleRate", "Resolution")]
    return any(own is not None and _value_and_unit(own) != _value_and_unit(strip) for own, strip in pairs)


def _value_and_unit(element: Element | None) -> tuple[float | None, str]:
    return number_of(element, "."), "" if element is None else element.get("units", "").strip().lower()


def _check_counts(scope: list[Element], n_samples: int) -> None:
    found = {"NumberOfLeads": len(scope[0].findall("WaveformData")), "ChannelSampleCountTotal": n_samples}
    for tag, count in found.items():
        declared = whole_number_of(_first(scope, tag), ".")
        if declared is not None and declared != count:
            raise EcgRejected(
                RejectReason.TRUNCATED,
                f"{tag} of {_WHERE} is {declared}, but the strip holds {count}; copy the file again",
            )


def _recorded_at(element: Element | None) -> tuple[dt.datetime | None, bool]:
    """Return when the recording was made, and True when the date it gives cannot be read.

    A missing time of day is taken as midnight.
    """
    date = [whole_number_of(element, tag) for tag in ("Year", "Month", "Day")]
    time_of_day = [
        whole_number_of(element, tag) if text_of(element, tag) else 0 for tag in ("Hour", "Minute", "Second")
    ]
    is_stated = any(text_of(element, tag) for tag in ("Year", "Month", "Day"))
    year, month, day = date
    hour, minute, second = time_of_day
    if year is None or month is None or day is None:
        return None, is_stated
    if hour is None or minute is None or second is None:
        return None, True
    recorded_at = local_datetime((year, month, day), (hour, minute, second))
    return recorded_at, recorded_at is None


def _measurements(root: Element) -> Measurements:
    resting = root.find("RestingECGMeasurements")
    table = None if resting is None else resting.find("MeasurementTable")
    waves_uv = {} if table is None else _waves_uv(table)
    return measurements_of(waves_uv, _qrs_duration_ms(resting), _measured_by(root, table))


def _waves_uv(table: Element) -> dict[str, dict[str, float]]:
    """Return magnitudes in microvolts by lead and wave; what was not measured is left out.

    A blank in a row is a wave that is absent: 0. A lead in which not one of Q, R, S, R' and S' has
    a value was not measured, and neither was a wave whose row is absent.
    """
    order = [canonical_lead(name) for name in (text_of(table, "LeadOrder") or "").split(",")]
    rows = {wave: _row_uv(table.find(f"{wave}Amplitude"), len(order)) for wave in _WAVES}
    waves_uv: dict[str, dict[str, float]] = {}
    for column, lead in enumerate(order):
        values = {wave: row[column] for wave, row in rows.items() if row is not None}
        if lead is not None and any(value is not None for value in values.values()):
            waves_uv[lead] = {wave: value or 0.0 for wave, value in values.items()}
    return waves_uv


def _row_uv(element: Element | None, n_leads: int) -> list[float | None] | None:
    """Return one row as magnitudes in microvolts, None for a blank; None for an unusable row."""
    if element is None:
        return None
    tokens = (element.text or "").split(",")
    if len(tokens) == n_leads + 1 and not tokens[-1].strip():
        tokens.pop()
    try:
        factor = uv_per_unit(element.get("units", ""))
        row = [abs(float(token)) * factor if token.strip() else None for token in tokens]
    except (EcgRejected, ValueError):
        return None
    usable = len(row) == n_leads and all(v is None or math.isfinite(v) for v in row)
    return row if usable else None


def _qrs_duration_ms(resting: Element | None) -> float | None:
    element = None if resting is None else resting.find("QRSDuration")
    value = number_of(element, ".")
    if element is None or value is None or value <= 0:
        return None
    return value if element.get("units", "").strip().lower() == "ms" else None


def _measured_by(root: Element, table: Element | None) -> str | None:
    created_by = "" if table is None else table.get("Creation", "").strip()
    return (
        created_by
        or text_of(root, "RestingECGMeasurements/DiagnosisVersion")
        or text_of(root, "ClinicalInfo/DeviceInfo/AnalysisVer")
    )
