"""WFDB records: a text header and signal files in format 16."""

from __future__ import annotations

import codecs
import datetime as dt
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    INT16_LIMITS,
    Channel,
    assemble,
    leads_by_name,
    local_datetime,
    unambiguous_date,
)
from lvm_core.signal.ecg import Ecg, canonical_lead
from lvm_core.signal.quality import QualityFlag
from lvm_core.units import is_voltage, uv_per_unit

MAX_HEADER_BYTES: Final = 1_000_000
"""Of one header; the largest real one seen has 2.7 kB."""

_MISSING_COUNT: Final = -32768
_WHERE: Final = "the WFDB record"
_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RECORD: Final = re.compile(
    rf"(?P<name>\S+?)(?:/(?P<segments>\d{{1,9}}))?\s+(?P<n_signals>\d{{1,9}})"
    rf"(?:\s+(?P<rate>{_NUMBER})(?:/{_NUMBER})?(?:\({_NUMBER}\))?"
    r"(?:\s+(?P<n_samples>\d{1,12})(?:\s+(?P<time>\S+)(?:\s+(?P<date>\S+))?.*)?)?)?",
    re.ASCII,
)
_FORMAT: Final = re.compile(
    r"(?P<format>\d{1,9})(?:x(?P<per_frame>\d{1,9}))?(?::(?P<skew>\d{1,9}))?"
    r"(?:\+(?P<offset>\d{1,9}))?",
    re.ASCII,
)
_GAIN: Final = re.compile(rf"(?P<gain>{_NUMBER})(?:\((?P<baseline>[-+]?\d{{1,9}})\))?(?:/(?P<unit>\S+))?", re.ASCII)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_TIME: Final = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d*)?)?", re.ASCII)
_DATE: Final = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})", re.ASCII)
# To recognise a header these are stricter than what is read: any two words could be a record line.
_HEAD_BYTES: Final = 65_536
_SURE_RECORD: Final = re.compile(
    r"[^\s#<>,;]+?(?P<segments>/\d{1,9})?[ \t]+(?P<n_signals>\d{1,9})"
    r"(?P<rest>(?:[ \t]+\d[\d.eE+]*(?:/[\d.eE+]+)?(?:\(-?[\d.eE+]+\))?(?:[ \t]+.*)?)?)",
    re.ASCII,
)
_SURE_SIGNAL: Final = re.compile(r"\S+[ \t]+\d+(?:x\d+)?(?::\d+)?(?:\+\d+)?(?:[ \t].*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal line."""

    file_name: str
    format: int  # 16 for little-endian int16
    samples_per_frame: int
    skew: int  # samples
    byte_offset: int  # bytes before the first sample
    gain: float  # counts per `unit`; 0 when not calibrated
    baseline: int  # the count that means 0
    unit: str  # mV by default
    adc_bits: int  # 0 when not stated
    adc_zero: int  # the count in the middle of the converter's range
    checksum: int | None  # 16-bit sum of the samples; None when not stated
    description: str  # name of the lead; empty when not stated


@dataclass(frozen=True, slots=True)
class Header:
    """The record line and the signal lines."""

    sampling_rate_hz: float
    n_samples: int  # of each signal; 0 when not stated
    recorded_at: dt.datetime | None
    date_unreadable: bool  # a date is stated and cannot be read
    signals: tuple[Signal, ...]


def read_wfdb(files: Mapping[str, bytes], main: str) -> Ecg:
    """Decode a WFDB record; raise `EcgRejected` with the reason when it cannot be used.

    Leads are used as stored, mapped by the description of each signal; III, aVR, aVL and aVF are
    derived from I and II where they are absent. Signals beyond the twelve (vx, vy, vz) are ignored,
    and a signal file that holds none of the twelve need not be there. Comment lines are not read:
    they hold no identifier that could be relied on.

    `files` holds the header, named `main`, and the signal files. A signal file is looked up by the
    name in the header, in the folder of `main` and as it is, then without its folder.
    """
    header = parse_header(files[main])
    signals = leads_by_name(((signal.description, signal) for signal in header.signals), _WHERE)
    channels: dict[str, Channel] = {}
    for file_name in dict.fromkeys(signal.file_name for signal in signals.values()):
        raw = _signal_file(files, main, file_name, header)
        channels.update(_read_file(header, file_name, raw))
    leads = assemble(channels, _WHERE)
    checked = _check_checksums(signals, channels)
    flags = {QualityFlag.CHECKSUM_ABSENT: not checked, QualityFlag.DATE_UNREADABLE: header.date_unreadable}
    return Ecg(
        **leads,
        sampling_rate_hz=header.sampling_rate_hz,
        source_format="wfdb",
        recorded_at=header.recorded_at,
        quality_flags=tuple(flag.value for flag, is_set in flags.items() if is_set),
    )


def is_header(data: bytes) -> bool:
    """Return whether a file is a WFDB header, judged by its beginning."""
    head = data[:_HEAD_BYTES].removeprefix(codecs.BOM_UTF8)
    if b"\0" in head:
        return False
    lines = [line.strip() for line in head.decode("latin-1").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    record = _SURE_RECORD.fullmatch(lines[0]) if lines else None
    if record is None or int(record["n_signals"]) < 1:
        return False
    if record["segments"]:
        return True
    if len(lines) == 1:
        return len(record["rest"].split()) >= 2
    return _SURE_SIGNAL.fullmatch(lines[1]) is not None


def signal_files(data: bytes) -> tuple[str, ...]:
    """Return the names of the signal files in a header, each once; none when it cannot be read."""
    try:
        return tuple(dict.fromkeys(signal.file_name for signal in parse_header(data).signals))
    except EcgRejected:
        return ()


def parse_header(data: bytes) -> Header:
    """Parse the bytes of a header file.

    Raises:
        EcgRejected: `unreadable` when the header is larger than `MAX_HEADER_BYTES`, a line cannot
            be understood, or the record is cut into segments; `unsupported_rate` when it states no
            rate; `truncated` when signal lines are missing.
    """
    if len(data) > MAX_HEADER_BYTES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"WFDB header has {len(data)} bytes, the limit is {MAX_HEADER_BYTES}; expected a few "
            "thousand bytes of text",
        )
    text = _decoded(data.removeprefix(codecs.BOM_UTF8))
    lines = [line.strip() for line in _LINE_END.split(text)]
    lines = [line for line in lines if line and not line.startswith("#")]
    record = _RECORD.fullmatch(lines[0]) if lines else None
    if record is None:
        raise EcgRejected(
            RejectReason.UNREADABLE, "WFDB header has no record line; expected for example 'rec1 12 500 5000'"
        )
    if record["segments"]:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"WFDB record is cut into {record['segments']} segments, which is not read; "
            "expected a record of one segment",
        )
    n_signals = int(record["n_signals"])
    if len(lines) - 1 != n_signals:
        raise EcgRejected(
            RejectReason.TRUNCATED, f"WFDB header declares {n_signals} signals but has {len(lines) - 1} signal lines"
        )
    recorded_at = _recorded_at(record["time"], record["date"])
    stated = record["date"] is not None or not _TIME.fullmatch(record["time"] or "00:00")
    return Header(
        sampling_rate_hz=_rate_hz(record["rate"]),
        n_samples=int(record["n_samples"] or 0),
        recorded_at=recorded_at,
        date_unreadable=stated and recorded_at is None,
        signals=tuple(_signal(line, number) for number, line in enumerate(lines[1:], start=1)),
    )


def _decoded(data: bytes) -> str:
    """Return the text; the micro sign of a unit is the only thing here that is not ASCII."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _rate_hz(text: str | None) -> float:
    rate_hz = float(text or 0)
    if not 0 < rate_hz < HIGHEST_RATE_HZ:
        stated = "no sampling rate" if text is None else f"a sampling rate of {rate_hz:g} Hz"
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"WFDB header states {stated}; expected a number above 0. "
            "The default of the format, 250 Hz, is not assumed",
        )
    return rate_hz


def _recorded_at(time_text: str | None, date_text: str | None) -> dt.datetime | None:
    time = _TIME.fullmatch(time_text or "")
    date = _date(date_text or "")
    if time is None or date is None:
        return None
    hour, minute, second = (int(part or 0) for part in time.groups())
    return local_datetime(date, (hour, minute, second))


def _date(text: str) -> tuple[int, int, int] | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return unambiguous_date(text)
    day, month, year = (int(part) for part in match.groups())
    return year, month, day


def _fields(line: str) -> list[str]:
    """Return the nine fields of a signal line, empty where they are absent."""
    fields = line.split(maxsplit=8)
    if len(fields) > 3 and fields[2].endswith("/") and is_voltage(fields[3]):
        # "1000/ mV": the field after the gain is a whole number, so this one belongs to the gain.
        fields = " ".join([*fields[:2], fields[2] + fields[3], *fields[4:]]).split(maxsplit=8)
    return fields + [""] * (9 - len(fields))


def _signal(line: str, number: int) -> Signal:
    fields = _fields(line)
    layout, gain = _FORMAT.fullmatch(fields[1]), _GAIN.fullmatch(fields[2] or "0")
    try:
        adc_bits, adc_zero = int(fields[3] or 0), int(fields[4] or 0)
        _, checksum = (int(text) if text else None for text in fields[5:7])
        if layout is None or gain is None or abs(adc_zero) >= 2**31:
            raise ValueError("format, gain or zero of the converter")
    except ValueError as error:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"WFDB signal line {number} cannot be understood; expected for example "
            "'rec1.dat 16 1000(0)/mV 16 0 -5 1234 0 aVL'",
        ) from error
    return Signal(
        file_name=fields[0],
        format=int(layout["format"]),
        samples_per_frame=int(layout["per_frame"] or 1),
        skew=int(layout["skew"] or 0),
        byte_offset=int(layout["offset"] or 0),
        gain=float(gain["gain"]),
        baseline=int(gain["baseline"] or adc_zero),
        unit=gain["unit"] or "mV",
        adc_bits=adc_bits,
        adc_zero=adc_zero,
        checksum=checksum,
        description=fields[8],
    )


def _signal_file(files: Mapping[str, bytes], main: str, file_name: str, header: Header) -> bytes:
    beside = posixpath.join(posixpath.dirname(main), posixpath.basename(file_name))
    named = posixpath.normpath(posixpath.join(posixpath.dirname(main), file_name))
    for key in (named, file_name, beside):
        if key in files:
            return files[key]
    raise EcgRejected(
        RejectReason.TRUNCATED,
        f"{_described_file(header, file_name)} is missing; expected it where the header says, or beside the header",
    )


def _described_file(header: Header, file_name: str) -> str:
    """Return how a message names a signal file: by its place, for its name may be a person's."""
    names = list(dict.fromkeys(signal.file_name for signal in header.signals))
    return f"signal file {names.index(file_name) + 1} of {len(names)} of {_WHERE}"


def _read_file(header: Header, file_name: str, raw: bytes) -> dict[str, Channel]:
    """Return the channels of the twelve leads in one signal file, by lead name."""
    signals = [signal for signal in header.signals if signal.file_name == file_name]
    file = _described_file(header, file_name)
    _check_layout(signals, file)
    frames = _frames(header, signals, raw, file)
    channels: dict[str, Channel] = {}
    for column, signal in enumerate(signals):
        lead = canonical_lead(signal.description)
        if lead is not None:
            channels[lead] = _channel(signal, lead, frames[:, column])
    return channels


def _check_layout(signals: list[Signal], file: str) -> None:
    for signal in signals:
        found = f"format {signal.format}x{signal.samples_per_frame}, skew {signal.skew}"
        if (signal.format, signal.samples_per_frame, signal.skew) != (16, 1, 0):
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"{file} has {found}; only format 16 with one "
                "sample per frame and no skew is read. Convert it with the WFDB tool xform",
            )
    if len({signal.byte_offset for signal in signals}) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE, f"signals of {file} state different byte offsets; expected the same for all"
        )


def _frames(header: Header, signals: list[Signal], raw: bytes, file: str) -> NDArray[np.int16]:
    """Return the samples of one signal file, (n_samples, n_signals), samples interleaved."""
    body = raw[signals[0].byte_offset :]
    n_bytes_frame = 2 * len(signals)
    n_samples = header.n_samples or len(body) // n_bytes_frame
    expected = n_samples * n_bytes_frame
    if len(body) < expected or (not header.n_samples and len(body) != expected):
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"{file} holds {len(body)} bytes of samples; expected {header.n_samples or 'a whole number of'} samples of "
            f"{n_bytes_frame} bytes. Copy the file again",
        )
    return np.frombuffer(body[:expected], dtype="<i2").reshape(n_samples, len(signals))


def _check_checksums(signals: Mapping[str, Signal], channels: Mapping[str, Channel]) -> bool:
    """Compare the 16-bit sums of the samples with the header's; return False when it states none.

    Some writers put 0 in place of every checksum. The header is judged as a whole: one lead alone
    may well have the sum 0, eight or more with the sum 0 do not occur.
    """
    stated = {lead: (signals[lead].checksum or 0) % 2**16 for lead in channels}
    found = {lead: int(channel.counts.sum(dtype=np.int64)) % 2**16 for lead, channel in channels.items()}
    wrong = [lead for lead in channels if stated[lead] != found[lead]]
    if not wrong:
        return True
    if not any(stated.values()):
        return False
    raise EcgRejected(
        RejectReason.UNREADABLE,
        f"checksum of lead {wrong[0]} in {_WHERE} is {stated[wrong[0]]}, "
        f"but the samples give {found[wrong[0]]}; the file was damaged or edited",
    )


def _channel(signal: Signal, lead: str, counts: NDArray[np.int16]) -> Channel:
    if signal.gain <= 0:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"gain of lead {lead} in {_WHERE} is {signal.gain:g}: not calibrated; "
            "expected counts per unit above 0, for example 1000/mV",
        )
    return Channel(
        counts=counts,
        uv_per_count=uv_per_unit(signal.unit) / signal.gain,
        zero_count=signal.baseline,
        missing_count=_MISSING_COUNT,
        limits=_limits(signal, counts),
    )


def _limits(signal: Signal, counts: NDArray[np.int16]) -> tuple[int, int]:
    """Return the limits of the ADC; those of int16 when the samples contradict the header."""
    lowest, highest = INT16_LIMITS[0] + 1, INT16_LIMITS[1]
    if not 0 < signal.adc_bits < 16:
        return lowest, highest
    half = 2 ** (signal.adc_bits - 1)
    low, high = max(lowest, signal.adc_zero - half), min(highest, signal.adc_zero + half - 1)
    valid = counts[counts != _MISSING_COUNT]
    if np.any(valid < low) or np.any(valid > high):
        return lowest, highest
    return low, high
