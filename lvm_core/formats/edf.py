"""EDF and EDF+ with the leads of a resting ECG."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

import edfio
import numpy as np

from lvm_core.errors import EcgRejected, RejectReason, described
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    Channel,
    assemble,
    leads_by_name,
    local_datetime,
    unambiguous_date,
)
from lvm_core.formats.xml import number_in
from lvm_core.signal.canonical import without_filling
from lvm_core.signal.ecg import Ecg
from lvm_core.signal.quality import QualityFlag
from lvm_core.units import uv_per_unit

_WHERE: Final = "the EDF file"
_VERSION: Final = b"0       "
_FIXED_BYTES: Final = 256  # of the header before its signals, and of each signal in it
_MOST_SIGNALS: Final = 256
_RECORDING_DATE: Final = re.compile(r"Startdate (\S+)", re.ASCII)
_DATE: Final = re.compile(r"(\d{2})\.(\d{2})\.(\d{2})", re.ASCII)
_TIME: Final = re.compile(r"(\d{2})\.(\d{2})\.(\d{2})", re.ASCII)
# EDF dates have two digits for the year: 85 to 99 are 1985 to 1999 (edfplus.info, EDF+ 2.1.3.2).
_FIRST_YEAR: Final = 85
_UNKNOWN_DATE: Final = (1985, 1, 1)  # that of files whose date was removed
# What edfio raises for fields that it cannot read.
_DAMAGE: Final = (ValueError, IndexError, KeyError, TypeError, OverflowError, ZeroDivisionError)


def is_edf(data: bytes) -> bool:
    """Return whether a file is EDF, judged by its beginning."""
    return data.startswith(_VERSION)


def read_edf(data: bytes) -> Ecg:
    """Decode an EDF or EDF+ file; raise `EcgRejected` with the reason when it cannot be used.

    Leads are mapped by their labels; other signals are ignored. All leads must have one rate, and
    the records must follow each other (EDF+D is refused). Zeros in all leads at the end, with which
    writers complete the last record, are no signal. The patient is taken from the code of EDF+
    alone: in EDF the field is free text.
    """
    n_signals = _checked_size(data)
    try:
        file = edfio.read_edf(data, header_encoding="latin-1")
        signals = leads_by_name(((signal.label, signal) for signal in file.signals), _WHERE)
        rates_hz = {float(signal.sampling_frequency) for signal in signals.values()}
        channels = {lead: _channel(signal, lead) for lead, signal in signals.items()}
    except _DAMAGE as error:
        raise EcgRejected(
            RejectReason.UNREADABLE, f"header of {_WHERE} with {n_signals} signals cannot be understood"
        ) from error
    if len(rates_hz) != 1 or not 0 < min(rates_hz) < HIGHEST_RATE_HZ:
        listed = ", ".join(f"{rate_hz:g}" for rate_hz in sorted(rates_hz))
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE, f"leads of {_WHERE} have rates of {listed} Hz; expected one above 0"
        )
    recorded_at, date_unreadable = _recorded_at(data)
    ecg = Ecg(
        **assemble(channels, _WHERE),
        sampling_rate_hz=rates_hz.pop(),
        source_format="edf",
        recorded_at=recorded_at,
        header_participant_id=_patient_code(data),
        quality_flags=(QualityFlag.DATE_UNREADABLE.value,) if date_unreadable else (),
    )
    return without_filling(ecg)


def _checked_size(data: bytes) -> int:
    """Return the number of signals, once the file has the size that its header states."""
    fields = [data[start:stop].decode("latin-1").strip() for start, stop in ((184, 192), (236, 244), (252, 256))]
    if len(data) < _FIXED_BYTES or not all(field.isascii() and field.isdigit() for field in fields):
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"header of {_WHERE} has no sizes, or -1 records, in {len(data)} bytes; was it written to its end?",
        )
    n_header, n_records, n_signals = map(int, fields)
    if not 0 < n_signals <= _MOST_SIGNALS or n_header != _FIXED_BYTES * (1 + n_signals):
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"header of {_WHERE} states {n_signals} signals and {n_header} bytes; expected 256 bytes and 256 for "
            f"each of at most {_MOST_SIGNALS} signals",
        )
    duration = data[244:252].decode("latin-1").strip()
    if not (number_in(duration) or 0) > 0:
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"records of {_WHERE} last {described(duration)} s; expected a number above 0. The rate is never guessed",
        )
    if data[192:197] == b"EDF+D":
        raise EcgRejected(RejectReason.UNREADABLE, f"{_WHERE} is discontinuous (EDF+D); expected EDF or EDF+C")
    sizes = data[_FIXED_BYTES + 216 * n_signals : _FIXED_BYTES + 224 * n_signals].decode("latin-1")
    samples = [sizes[i : i + 8].strip() for i in range(0, len(sizes), 8)]
    n_samples = sum(int(text) for text in samples if text.isascii() and text.isdigit())
    expected = n_header + 2 * n_records * n_samples
    if len(data) != expected:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"{_WHERE} has {len(data)} bytes; expected {expected} for {n_records} records of {n_samples} samples. "
            "Copy the file again",
        )
    return n_signals


def _channel(signal: Any, lead: str) -> Channel:
    low, high = (int(limit) for limit in signal.digital_range)
    physical_low, physical_high = (float(limit) for limit in signal.physical_range)
    step = (physical_high - physical_low) / (high - low)
    if not step > 0:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"range of lead {lead} in {_WHERE} is {physical_low:g} to {physical_high:g} for counts {low} to {high}; "
            "expected both to rise",
        )
    return Channel(
        counts=np.asarray(signal.digital),
        uv_per_count=step * uv_per_unit(signal.physical_dimension),
        zero_count=low - physical_low / step,
        limits=(low, high),
    )


def _recorded_at(data: bytes) -> tuple[dt.datetime | None, bool]:
    """Return when the recording was made, and True when the date it gives cannot be read.

    EDF+ states it with four digits for the year; `Startdate X` is unknown there.
    """
    recording, date_text, time_text = (
        data[start:stop].decode("latin-1").strip() for start, stop in ((88, 168), (168, 176), (176, 184))
    )
    stated, two_digits, time = _RECORDING_DATE.match(recording), _DATE.fullmatch(date_text), _TIME.fullmatch(time_text)
    date = None
    if stated is not None:
        if stated[1] == "X":
            return None, False
        date = unambiguous_date(stated[1])
    elif two_digits is not None:
        day, month, year = (int(part) for part in two_digits.groups())
        date = (year + (1900 if year >= _FIRST_YEAR else 2000), month, day)
        if date == _UNKNOWN_DATE:
            return None, False
    if date is None or time is None:
        return None, True
    hour, minute, second = (int(part) for part in time.groups())
    recorded_at = local_datetime(date, (hour, minute, second))
    return recorded_at, recorded_at is None


def _patient_code(data: bytes) -> str | None:
    if not data[192:197].startswith(b"EDF+"):
        return None
    code = data[8:88].decode("latin-1").split(" ")[0]
    return None if code in ("", "X") else code
