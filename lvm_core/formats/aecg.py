"""HL7 annotated ECG (`AnnotatedECG`, ANSI/HL7 V3 ECG R1-2004), the format of drug trials."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final
from xml.etree.ElementTree import Element

from lvm_core.errors import EcgRejected, RejectReason, described
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    Channel,
    assemble,
    compact_datetime,
    leads_by_name,
    measurements_of,
    whole_counts,
)
from lvm_core.formats.statement_codes import STATED_BY_CODE
from lvm_core.formats.statements import rhythm_codes
from lvm_core.formats.xml import attribute_number_of, attribute_of, parse_repairable_xml, text_of
from lvm_core.signal.ecg import Ecg, Measurements, RhythmCodes, canonical_lead
from lvm_core.signal.quality import QualityFlag
from lvm_core.units import described_unit, is_voltage, uv_per_unit

_WHERE: Final = "the aECG rhythm series"
_WAVEFORM_TAGS: Final = frozenset({"digits"})
_UNTYPED: Final = "without a code"
_SUBJECT: Final = "componentOf/timepointEvent/componentOf/subjectAssignment/subject/trialSubject/id"
_DEVICE: Final = "author/seriesAuthor"
_ABSOLUTE: Final = "TIME_ABSOLUTE"
_TIMES: Final = (_ABSOLUTE, "TIME_RELATIVE")
_PER_SECOND: Final = {"s": 1.0, "ms": 1e3, "us": 1e6, "µs": 1e6}
_MS_PER_UNIT: Final = {"ms": 1.0, "s": 1e3}
# Of all leads together, then without a word on leads.
_QRS_DURATIONS: Final = ("MDC_ECG_TIME_PD_QRS_GL", "MDC_ECG_TIME_PD_QRS")
# Annotations whose value is a code, and those whose value is a text of statements.
_CODED: Final = frozenset({"MDC_ECG_RHY", "MDC_ECG_BEAT"})
_STATEMENTS: Final = frozenset({"MDC_ECG_INTERPRETATION", "MDC_ECG_INTERPRETATION_STATEMENT"})
_PERSON: Final = "author/assignedEntity/assignedAuthorType/assignedPerson"


def read_aecg(data: bytes) -> Ecg:
    """Decode an HL7 aECG file; raise `EcgRejected` with the reason when it cannot be used.

    Reads the series RHYTHM, never a derived one (the representative beat). A sample is
    `origin + scale x digit`, where origin and scale have units of their own. The rate follows from
    the increment of the time sequence, absolute or relative.
    """
    root, repaired = parse_repairable_xml(data, _WAVEFORM_TAGS)
    series = _rhythm(root)
    sequences = _sequences(series)
    named = ((_code(sequence), sequence) for sequence in sequences if _code(sequence).upper() not in _TIMES)
    elements = leads_by_name(named, _WHERE)
    leads = assemble({lead: _channel(element, lead) for lead, element in elements.items()}, _WHERE)
    recorded_at, date_unreadable = _recorded_at(root, series, sequences)
    flags = {QualityFlag.XML_REPAIRED: repaired, QualityFlag.DATE_UNREADABLE: date_unreadable}
    return Ecg(
        **leads,
        sampling_rate_hz=_sampling_rate_hz(sequences),
        source_format="hl7_aecg",
        recorded_at=recorded_at,
        header_participant_id=attribute_of(root, _SUBJECT, "extension"),
        measurements=_measurements(root, series),
        rhythm=_stated_rhythm(root),
        quality_flags=tuple(flag.value for flag, is_set in flags.items() if is_set),
    )


def _code(element: Element) -> str:
    return attribute_of(element, "code", "code") or ""


def _rhythm(root: Element) -> Element:
    found = root.findall("component/series")
    kinds = [_kind(series) for series in found]
    wanted = "RHYTHM" if "RHYTHM" in kinds else _UNTYPED
    rhythms = [series for series, kind in zip(found, kinds, strict=True) if kind == wanted]
    if len(rhythms) == 1:
        return rhythms[0]
    if rhythms:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"aECG file has {len(rhythms)} series of rhythm; expected one. Export each recording as a file",
        )
    raise EcgRejected(
        RejectReason.TOO_SHORT,
        f"aECG file has no series of rhythm, it has: {', '.join(kinds) or 'none'}; "
        "expected the rhythm of 10 s. A representative beat cannot be used",
    )


def _kind(series: Element) -> str:
    """Return RHYTHM, REPRESENTATIVE_BEAT or how a message names any other series."""
    code = _code(series).upper()
    if code in ("RHYTHM", "REPRESENTATIVE_BEAT"):
        return code
    return "of another code" if code else _UNTYPED


def _sequences(series: Element) -> list[Element]:
    """Return the sequences of the one set of a series that holds leads."""
    sets = [one.findall("component/sequence") for one in series.findall("component/sequenceSet")]
    with_leads = [one for one in sets if any(canonical_lead(_code(sequence)) for sequence in one)]
    if len(with_leads) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"{_WHERE} has {len(with_leads)} sets of sequences; expected one, with the leads recorded at the same time",
        )
    return with_leads[0] if with_leads else []


def _channel(sequence: Element, lead: str) -> Channel:
    scale = attribute_number_of(sequence, "value/scale", "value")
    unit = attribute_of(sequence, "value/scale", "unit")
    if scale is None or scale <= 0 or unit is None:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"scale of lead {lead} in {_WHERE} is {described(attribute_of(sequence, 'value/scale', 'value'))} "
            f"(units: {described_unit(unit)}); expected a number above 0 and a unit, for example 2.5 uV",
        )
    return Channel(
        counts=whole_counts(text_of(sequence, "value/digits") or "", None, lead, _WHERE),
        uv_per_count=scale * uv_per_unit(unit),
        offset_uv=_origin_uv(sequence, lead),
    )


def _origin_uv(sequence: Element, lead: str) -> float:
    """Return what is added to every sample, microvolts; 0 when the file states none."""
    stated = attribute_of(sequence, "value/origin", "value")
    unit = attribute_of(sequence, "value/origin", "unit")
    origin = attribute_number_of(sequence, "value/origin", "value")
    if stated is None or origin == 0:
        return 0.0
    if origin is None or unit is None or not is_voltage(unit):
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"origin of lead {lead} in {_WHERE} is {described(stated)} (units: {described_unit(unit)}); "
            "expected a number with a voltage, for example 0 uV",
        )
    return origin * uv_per_unit(unit)


def _sampling_rate_hz(sequences: list[Element]) -> float:
    """Return samples per second by the increments of the time sequences, which must agree."""
    rates = {_rate_hz(sequence) for sequence in sequences if _code(sequence).upper() in _TIMES}
    if len(rates) != 1:
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"{_WHERE} has {len(rates)} different sampling rates; expected one sequence of time with an increment. "
            "The rate is never guessed",
        )
    return rates.pop()


def _rate_hz(sequence: Element) -> float:
    step = attribute_number_of(sequence, "value/increment", "value")
    unit = attribute_of(sequence, "value/increment", "unit")
    per_second = _PER_SECOND.get(unit or "")
    rate_hz = per_second / step if per_second and step else 0.0
    if not 0 < rate_hz < HIGHEST_RATE_HZ:
        shown = unit if per_second else described(unit)
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"increment of time in {_WHERE} is {described(attribute_of(sequence, 'value/increment', 'value'))} "
            f"(units: {shown}); expected for example 0.002 s. The rate is never guessed",
        )
    return rate_hz


def _recorded_at(root: Element, series: Element, sequences: list[Element]) -> tuple[dt.datetime | None, bool]:
    """Return when the recording began, and True when the date it gives cannot be read.

    The first that is stated counts: the head of the absolute time, the time of the series, the time
    of the file.
    """
    heads = [attribute_of(one, "value/head", "value") for one in sequences if _code(one).upper() == _ABSOLUTE]
    stated = next((text for text in (*heads, *_effective_times(series), *_effective_times(root)) if text), None)
    recorded_at = None if stated is None else compact_datetime(stated)
    return recorded_at, stated is not None and recorded_at is None


def _effective_times(element: Element) -> Iterator[str | None]:
    for path in ("effectiveTime/low", "effectiveTime/center", "effectiveTime"):
        yield attribute_of(element, path, "value")


def _measurements(root: Element, series: Element) -> Measurements:
    parts = [
        f"{_DEVICE}/{path}"
        for path in ("manufacturerOrganization/name", "manufacturedSeriesDevice/manufacturerModelName")
    ]
    measured_by = " ".join(filter(None, (text_of(series, part) for part in parts))) or None
    return measurements_of({}, _qrs_duration_ms(root), measured_by)


def _qrs_duration_ms(root: Element) -> float | None:
    """Return the QRS duration that the device measured; None where beats or leads differ."""
    annotations = list(root.iter("annotation"))
    for code in _QRS_DURATIONS:
        found = {_duration_ms(one) for one in annotations if _code(one) == code} - {None}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


def _duration_ms(annotation: Element) -> float | None:
    value = attribute_number_of(annotation, "value", "value")
    factor = _MS_PER_UNIT.get(attribute_of(annotation, "value", "unit") or "")
    return value * factor if value is not None and value > 0 and factor else None


def _stated_rhythm(root: Element) -> RhythmCodes:
    """Return what the device stated; sets of annotations that a person wrote are left out."""
    sets = [one for one in root.iter("annotationSet") if one.find(_PERSON) is None]
    annotations = [one for found in sets for one in found.iter("annotation")]
    coded = [attribute_of(one, "value", "code") or "" for one in annotations if _code(one) in _CODED]
    texts = [text_of(one, "value") or "" for one in annotations if _code(one) in _STATEMENTS]
    # A code of a single beat, such as that of a normal one, states nothing about the ECG.
    return rhythm_codes(
        [line for text in texts for line in text.splitlines()],
        [code for code in coded if code in STATED_BY_CODE or code.startswith("MDC_ECG_RHY")],
    )
