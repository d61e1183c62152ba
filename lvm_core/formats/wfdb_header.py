"""The text header of a WFDB record.

Source:
    WFDB Applications Guide, header(5): https://physionet.org/physiotools/wag/header-5.htm
"""

from __future__ import annotations

import codecs
import datetime as dt
import re
from dataclasses import dataclass
from typing import Final

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.channels import HIGHEST_RATE_HZ, local_datetime, unambiguous_date
from lvm_core.units import is_voltage

MAX_HEADER_BYTES: Final = 1_000_000
"""Of one header; the largest real one seen has 2.7 kB."""

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


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal line.

    Attributes:
        file_name: the signal file.
        format: storage format, 16 for little-endian int16.
        samples_per_frame: samples of this signal in each frame.
        skew: samples by which the signal is shifted.
        byte_offset: bytes before the first sample.
        gain: counts per `unit`; 0 when not calibrated.
        baseline: the count that means 0.
        unit: physical unit, mV by default.
        adc_bits: resolution of the converter, bits; 0 when not stated.
        adc_zero: count in the middle of the converter's range.
        checksum: 16-bit sum of the samples; None when not stated.
        description: name of the lead; empty when not stated.
    """

    file_name: str
    format: int
    samples_per_frame: int
    skew: int
    byte_offset: int
    gain: float
    baseline: int
    unit: str
    adc_bits: int
    adc_zero: int
    checksum: int | None
    description: str


@dataclass(frozen=True, slots=True)
class Header:
    """The record line and the signal lines.

    Attributes:
        sampling_rate_hz: samples per second.
        n_samples: samples of each signal; 0 when not stated.
        recorded_at: base date and time, local; None when not stated or not readable.
        date_unreadable: True when a date is stated and cannot be read.
        signals: in the order of the header.
    """

    sampling_rate_hz: float
    n_samples: int
    recorded_at: dt.datetime | None
    date_unreadable: bool
    signals: tuple[Signal, ...]


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
