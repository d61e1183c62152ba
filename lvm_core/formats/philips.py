"""Philips SierraECG and PhilipsECG XML (`restingecgdata`), versions 1.03 and 1.04."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason, described
from lvm_core.formats.channels import HIGHEST_RATE_HZ, Channel, assemble, leads_by_name, local_datetime, measurements_of
from lvm_core.formats.statements import rhythm_codes, statements_in
from lvm_core.formats.xli import decode_xli
from lvm_core.formats.xml import (
    mentions_poor_quality,
    number_in,
    number_of,
    parse_repairable_xml,
    text_of,
    whole_number_of,
)
from lvm_core.signal.canonical import n_zero_samples_at_ends
from lvm_core.signal.ecg import LEADS_12, Ecg, Measurements, canonical_lead
from lvm_core.signal.quality import QualityFlag

_WHERE: Final = "the Philips rhythm waveform"
_SIGNAL: Final = "dataacquisition/signalcharacteristics"
_TYPES: Final = ("SierraECG", "PhilipsECG")
_VERSIONS: Final = ("1.03", "1.04", "1.04.01", "1.04.02")
_WAVEFORM_TAGS: Final = frozenset({"parsedwaveforms", "repbeat"})
_STATEMENT_TAGS: Final = frozenset({"leftstatement", "rightstatement", "lhsstatement", "rhsstatement"})
_CONCLUSION_TAGS: Final = ("leftstatement", "lhsstatement")  # on the right is what it follows from
_STANDARD_SETS: Final = ("STD-12", "10-WIRE")
_LIMB_LEADS: Final = LEADS_12[:6]
_WORD_BYTES: Final = 2
_MAX_SAMPLES: Final = 200_000  # of a lead: 3 minutes at 1000 Hz; bounds the memory of decoding
_MAX_LEADS: Final = 16  # that the devices write
_RECORDING_S: Final = 10
# All leads at one value other than 0 cannot be a recording: III = II - I would be 0.
_SHORTEST_PULSE_S: Final = 0.02
# Devices fill what they did not record with zeros in all leads; no ECG is 0 in all of them so long.
_SHORTEST_FILLING_S: Final = 0.04
_WAVES: Final = {"Q": "qamp", "R": "ramp", "S": "samp", "R1": "rpamp", "S1": "spamp"}
# The duration of all leads together, the interpretation's first: an editor may have corrected it.
_QRS_PATHS: Final = (
    "interpretations/interpretation/globalmeasurements/qrsdur",
    "interpretations/interpretation/interpretationmeasurements/meanqrsdur",
    "internalmeasurements/crossleadmeasurements/meanqrsdur",
    "measurements/globalmeasurements/meanqrsdur",
)
_DATE: Final = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})", re.ASCII)
_TIME: Final = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:\.\d+)?", re.ASCII)
_VERSION_NUMBER: Final = re.compile(r"\d{1,3}[A-Z]?", re.ASCII)


def read_philips(data: bytes) -> Ecg:
    """Decode a Philips XML file; raise `EcgRejected` with the reason when it cannot be used.

    Reads the rhythm (`parsedwaveforms`), never the representative beats. Files of 11 s hold a
    calibration pulse of 1 mV after 10.7 s: the first 10 s are the recording, and a file whose pulse
    or filling begins earlier is shortened to what was recorded. In files with XLI compression
    III, aVR, aVL and aVF are residuals, from which the leads are computed; without it the leads are
    used as stored.
    """
    root, repaired = parse_repairable_xml(data, _WAVEFORM_TAGS)
    _check_version(root)
    waveform = _waveform(root)
    rate_hz = _sampling_rate_hz(root, waveform)
    counts = _recorded(_counts(root, waveform, rate_hz), rate_hz)
    zero_count = _zero_count(root, waveform)
    uv_per_count = _uv_per_count(root, waveform)
    channels = {lead: Channel(values, uv_per_count, zero_count=zero_count) for lead, values in counts.items()}
    leads = assemble(channels, _WHERE)
    recorded_at, date_unreadable = _recorded_at(root.find("dataacquisition"))
    flags = {
        QualityFlag.POOR_DATA_QUALITY: _is_poor(root),
        QualityFlag.XML_REPAIRED: repaired,
        QualityFlag.DATE_UNREADABLE: date_unreadable,
    }
    return Ecg(
        **leads,
        sampling_rate_hz=rate_hz,
        source_format="philips_xml",
        recorded_at=recorded_at,
        header_participant_id=_stated(text_of(root, "patient/generalpatientdata/patientid")),
        measurements=_measurements(root),
        rhythm=rhythm_codes(line for tag in _CONCLUSION_TAGS for line in statements_in(root, tag)),
        quality_flags=tuple(flag.value for flag, is_set in flags.items() if is_set),
    )


def _stated(text: str | None) -> str | None:
    """Return a text; None for the dashes that stand for an empty field."""
    return text if text is not None and text.strip("- ") else None


def _check_version(root: Element) -> None:
    kind, version = (text_of(root, f"documentinfo/document{name}") for name in ("type", "version"))
    if kind not in _TYPES or version not in _VERSIONS:
        stated = kind if kind in _TYPES else described(kind)
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"Philips document is of type {stated} and version {described(version)}; expected "
            f"{' or '.join(_TYPES)} in version {', '.join(_VERSIONS)}",
        )


def _waveform(root: Element) -> Element:
    found = root.findall("waveforms/parsedwaveforms") + root.findall("parsedwaveforms")
    if len(found) == 1:
        return found[0]
    if found:
        raise EcgRejected(RejectReason.UNREADABLE, f"Philips file has {len(found)} rhythm waveforms; expected one")
    raise EcgRejected(
        RejectReason.TOO_SHORT,
        "Philips file has no rhythm waveform (parsedwaveforms); expected a resting ECG of 10 s. "
        "Representative beats are not used",
    )


def _stated_numbers(root: Element, waveform: Element, attribute: str, tags: tuple[str, ...]) -> list[str]:
    """Return the texts of a value that a file may state with the waveform and with the signal."""
    texts = [waveform.get(attribute), *(text_of(root, f"{_SIGNAL}/{tag}") for tag in tags)]
    return [text.strip() for text in texts if text is not None and text.strip()]


def _agreed(texts: list[str]) -> float | None:
    """Return the number on which all texts agree; None when there is none."""
    numbers = {number_in(text) for text in texts}
    return numbers.pop() if len(numbers) == 1 else None


def _listed(texts: list[str]) -> str:
    return " and ".join(described(text) for text in texts) or "absent"


def _sampling_rate_hz(root: Element, waveform: Element) -> float:
    texts = _stated_numbers(root, waveform, "samplespersecond", ("samplingrate",))
    rate_hz = _agreed(texts)
    if rate_hz is None or not 0 < rate_hz < HIGHEST_RATE_HZ:
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"samplingrate of {_WHERE} is {_listed(texts)}; expected one number of Hz above 0. It is never guessed",
        )
    return rate_hz


def _uv_per_count(root: Element, waveform: Element) -> float:
    texts = _stated_numbers(root, waveform, "resolution", ("resolution", "signalresolution"))
    value = _agreed(texts)
    if value is None or value <= 0:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"resolution of {_WHERE} is {_listed(texts)}; expected one number of microvolts above 0, for example 5",
        )
    return value


def _zero_count(root: Element, waveform: Element) -> int:
    texts = _stated_numbers(root, waveform, "signaloffset", ("signaloffset",))
    value = _agreed(texts) if texts else 0.0
    if value is None or value != int(value) or abs(value) >= 2**15:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"signaloffset of {_WHERE} is {_listed(texts)}; expected one whole number of counts, such as 0",
        )
    return int(value)


def _lead_names(root: Element, waveform: Element) -> tuple[str, ...]:
    """Return the names of the leads in their order, as the file states them."""
    labels = (waveform.get("leadlabels") or "").split()
    if labels:
        n_leads = number_in(waveform.get("numberofleads", str(len(labels))))
        if n_leads is None or n_leads not in range(1, min(len(labels), _MAX_LEADS) + 1):
            raise EcgRejected(
                RejectReason.TRUNCATED,
                f"numberofleads of {_WHERE} is {described(waveform.get('numberofleads'))}, but {len(labels)} labels "
                f"are there; expected at most {_MAX_LEADS} leads",
            )
        return tuple(labels[: int(n_leads)])
    kind = text_of(root, f"{_SIGNAL}/acquisitiontype")
    n_channels = whole_number_of(root, f"{_SIGNAL}/numberchannelsallocated")
    if kind not in _STANDARD_SETS or n_channels is None or n_channels < len(LEADS_12):
        raise EcgRejected(
            RejectReason.MISSING_LEAD,
            f"{_WHERE} has no leadlabels, acquisitiontype {described(kind)} and {n_channels} channels; "
            f"expected {' or '.join(_STANDARD_SETS)} with 12 channels at least",
        )
    return LEADS_12


def _counts(root: Element, waveform: Element, rate_hz: float) -> dict[str, NDArray[np.int64]]:
    """Return the counts of the twelve leads, (n_samples,), stored or computed from residuals."""
    names = _lead_names(root, waveform)
    grid, is_compressed = _grid(root, waveform, len(names), _n_samples(waveform, rate_hz))
    counts = leads_by_name(zip(names, grid, strict=True), _WHERE)
    if not is_compressed:
        return counts
    if tuple(canonical_lead(name) for name in names[: len(_LIMB_LEADS)]) != _LIMB_LEADS:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"leads of {_WHERE} begin in another order than {', '.join(_LIMB_LEADS)}, so that the residuals among "
            "the compressed leads are not known",
        )
    return counts | _limb_leads(counts)


def _limb_leads(stored: dict[str, NDArray[np.int64]]) -> dict[str, NDArray[np.int64]]:
    """Return III, aVR, aVL and aVF from I, II and their stored residuals.

    Source:
        sierra-ecg-tools (MIT): each residual is what Einthoven's and Goldberger's rules give, in
        whole counts rounded down, less the lead.
    """
    i, ii = stored["I"], stored["II"]
    iii = ii - i - stored["III"]
    return {
        "III": iii,
        "aVR": -((i + ii) // 2) - stored["aVR"],
        "aVL": (i - iii) // 2 - stored["aVL"],
        "aVF": (ii + iii) // 2 - stored["aVF"],
    }


def _n_samples(waveform: Element, rate_hz: float) -> int:
    duration_ms = number_in(waveform.get("durationperchannel", ""))
    n_samples = 0.0 if duration_ms is None else duration_ms * rate_hz / 1000
    if not 1 <= n_samples <= _MAX_SAMPLES or n_samples != int(n_samples):
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"durationperchannel of {_WHERE} is {described(waveform.get('durationperchannel'))} at {rate_hz:g} Hz; "
            f"expected milliseconds that make 1 to {_MAX_SAMPLES} whole samples",
        )
    return int(n_samples)


def _grid(root: Element, waveform: Element, n_leads: int, n_samples: int) -> tuple[NDArray[np.int64], bool]:
    """Return the stored samples, (n_leads, n_samples), and whether they were compressed."""
    _check_words(root, waveform)
    method = (waveform.get("compressmethod") or waveform.get("compression") or "").strip().upper()
    is_compressed = method not in ("", "NONE", "UNCOMPRESSED")
    if (waveform.get("compressflag") or "").strip().upper() == "FALSE":
        is_compressed = False
    encoding = (waveform.get("dataencoding") or "").strip()
    if encoding.upper() != "BASE64" or (is_compressed and method != "XLI"):
        stated = "Base64" if encoding.upper() == "BASE64" else described(encoding)
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"dataencoding of {_WHERE} is {stated} and its compression "
            f"{'XLI' if method == 'XLI' else described(method)}; expected Base64 with XLI or without compression",
        )
    raw = _decoded(waveform.text or "")
    if is_compressed:
        return decode_xli(raw, n_leads, n_samples), True
    values = np.frombuffer(raw[: len(raw) // _WORD_BYTES * _WORD_BYTES], dtype="<i2").astype(np.int64)
    if len(values) < n_leads * n_samples or len(values) % n_samples:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"{_WHERE} holds {len(values)} samples; expected {n_samples} for each of {n_leads} leads. "
            "Copy the file again",
        )
    return values.reshape(-1, n_samples)[:n_leads], False


def _check_words(root: Element, waveform: Element) -> None:
    bits = _stated_numbers(root, waveform, "bitspersample", ("bitspersample",))
    signed = _stated_numbers(root, waveform, "signalsigned", ("signalsigned",))
    if any(number_in(text) != 8 * _WORD_BYTES for text in bits) or any(text.upper() != "TRUE" for text in signed):
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"bitspersample of {_WHERE} is {_listed(bits)} and signalsigned {_listed(signed)}; expected 16 and True",
        )


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EcgRejected(RejectReason.UNREADABLE, f"{_WHERE} is not valid base64; copy the file again") from error


def _recorded(counts: dict[str, NDArray[np.int64]], rate_hz: float) -> dict[str, NDArray[np.int64]]:
    """Return the first 10 s, without calibration pulse and without zeros that fill the end."""
    grid = np.stack(list(counts.values()), axis=1)
    pulse = _first_run((grid == grid[:, :1]).all(axis=1) & (grid[:, 0] != 0), _SHORTEST_PULSE_S * rate_hz)
    stop = min(len(grid) if pulse is None else pulse, round(_RECORDING_S * rate_hz))
    _, n_filled = n_zero_samples_at_ends(grid[:stop])
    if n_filled >= _SHORTEST_FILLING_S * rate_hz:
        stop -= n_filled
    return {lead: values[:stop] for lead, values in counts.items()}


def _first_run(is_set: NDArray[np.bool_], shortest: float) -> int | None:
    """Return where the first run of at least `shortest` True values begins, or None."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_set, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    long = starts[stops - starts >= shortest]
    return int(long[0]) if len(long) else None


def _recorded_at(element: Element | None) -> tuple[dt.datetime | None, bool]:
    """Return when the recording was made, and True when the date it gives cannot be read.

    The date is `2008-12-23`; without a time, midnight.
    """
    date_text = "" if element is None else element.get("date", "").strip("- ")
    time_text = "" if element is None else element.get("time", "").strip("- ")
    if not date_text:
        return None, False
    date, time = _DATE.fullmatch(date_text), _TIME.fullmatch(time_text or "00:00")
    if date is None or time is None:
        return None, True
    year, month, day = (int(part) for part in date.groups())
    hour, minute, second = (int(part or 0) for part in time.groups())
    recorded_at = local_datetime((year, month, day), (hour, minute, second))
    return recorded_at, recorded_at is None


def _is_poor(root: Element) -> bool:
    action = next((text for one in root.iter("qaactioncode") if (text := (one.text or "").strip())), "")
    return action.lower().startswith("poor") or mentions_poor_quality(root, _STATEMENT_TAGS)


def _measurements(root: Element) -> Measurements:
    waves_uv: dict[str, dict[str, float]] = {}
    for element in root.iter("leadmeasurement"):
        lead = canonical_lead(element.get("leadname", ""))
        values = {wave: number_of(element, tag) for wave, tag in _WAVES.items()}
        measured = {wave: abs(value) for wave, value in values.items() if value is not None}
        if lead is not None and any(measured.values()):
            waves_uv[lead] = measured
    durations_ms = (number_of(root, path) for path in _QRS_PATHS)
    qrs_duration_ms = next((value for value in durations_ms if value is not None and value > 0), None)
    return measurements_of(waves_uv, qrs_duration_ms, _measured_by(root))


def _measured_by(root: Element) -> str:
    """Return the program of the measurements: Philips, and its version where that is a number."""
    for tag in ("measurements", "internalmeasurements"):
        element = root.find(tag)
        for name in ("measurementversion", "custommeasurementversion"):
            version = "" if element is None else element.get(name, "").strip()
            if _VERSION_NUMBER.fullmatch(version):
                return f"Philips {version}"
    return "Philips"
