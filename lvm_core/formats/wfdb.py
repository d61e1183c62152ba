"""WFDB records: a text header, signal files, and records that are cut into segments."""

from __future__ import annotations

import codecs
import datetime as dt
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.channels import (
    HIGHEST_RATE_HZ,
    Channel,
    assemble,
    leads_by_name,
    local_datetime,
    unambiguous_date,
)
from lvm_core.formats.statements import HEADER, rhythm_codes
from lvm_core.formats.wfdb_samples import SAMPLE_FORMATS, unpack
from lvm_core.signal.ecg import Ecg, RhythmCodes, canonical_lead
from lvm_core.signal.quality import QualityFlag
from lvm_core.units import is_voltage, uv_per_unit

MAX_HEADER_BYTES: Final = 1_000_000
"""Of one header; the largest real one seen has 2.7 kB."""

_GAP: Final = "~"  # the name of a segment in which nothing was recorded
_MISSING_COUNT: Final = -(2**40)  # of a record that was joined; no format has it
_MOST_SEGMENTS: Final = 1000
# Of a lead, all segments together: eight leads in format 16 have so many in 20 MB.
_MOST_SAMPLES: Final = 1_300_000
_PADDING_BYTES: Final = 3  # at the end of a file whose samples share bytes
_WHERE: Final = "the WFDB record"
_NUMBER: Final = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RECORD: Final = re.compile(
    rf"(?P<name>\S+?)(?:/(?P<segments>\d{{1,9}}))?\s+(?P<n_signals>\d{{1,9}})"
    rf"(?:\s+(?P<rate>{_NUMBER})(?:/{_NUMBER})?(?:\({_NUMBER}\))?"
    r"(?:\s+(?P<n_samples>\d{1,12})(?:\s+(?P<time>\S+)(?:\s+(?P<date>\S+))?.*)?)?)?",
    re.ASCII,
)
_SEGMENT: Final = re.compile(r"(?P<name>\S+)\s+(?P<n_samples>\d{1,9})", re.ASCII)
_NUMBERED: Final = re.compile(r"(?P<stem>.*?)(?P<number>\d{1,9})", re.ASCII)
_FORMAT: Final = re.compile(
    r"(?P<format>\d{1,9})(?:x(?P<per_frame>\d{1,9}))?(?::(?P<skew>\d{1,9}))?"
    r"(?:\+(?P<offset>\d{1,9}))?",
    re.ASCII,
)
_GAIN: Final = re.compile(rf"(?P<gain>{_NUMBER})(?:\((?P<baseline>[-+]?\d{{1,9}})\))?(?:/(?P<unit>\S+))?", re.ASCII)
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_TIME: Final = re.compile(r"(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d*)?)?", re.ASCII)
_DIAGNOSES: Final = re.compile(r"#\s*Dx\s*:(.*)", re.ASCII | re.IGNORECASE)
_SNOMED: Final = re.compile(r"\d{6,18}", re.ASCII)
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
    format: int  # of `SAMPLE_FORMATS`, or one that is not read
    samples_per_frame: int
    skew: int  # samples
    byte_offset: int  # bytes before the first sample
    gain: float  # counts per `unit`; 0 when not calibrated
    baseline: int  # the count that means 0
    unit: str  # mV by default
    adc_bits: int  # 0 when not stated
    adc_zero: int  # the count in the middle of the converter's range
    initial_value: int  # of the first sample; format 8 begins there
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


@dataclass(frozen=True, slots=True)
class SegmentedHeader:
    """The header of a record that is cut into segments, each a record of its own."""

    sampling_rate_hz: float
    recorded_at: dt.datetime | None
    date_unreadable: bool  # a date is stated and cannot be read
    segments: tuple[tuple[str, int], ...]  # name and samples, in order


@dataclass(frozen=True, slots=True)
class _Part:
    """The leads of a record, or of a segment of it."""

    channels: dict[str, Channel]  # by lead
    checked: bool  # checksums are stated, and fit


def read_wfdb(files: Mapping[str, bytes], main: str) -> Ecg:
    """Decode a WFDB record; raise `EcgRejected` with the reason when it cannot be used.

    Leads are used as stored, mapped by the description of each signal; III, aVR, aVL and aVF are
    derived from I and II where they are absent. Signals beyond the twelve (vx, vy, vz) are ignored,
    and a signal file that holds none of the twelve need not be there. Of comment lines only codes
    of diagnoses (`#Dx:`) are read: they hold no identifier that could be relied on. The segments of
    a record are joined; a gap between them is missing samples.

    `files` holds the header, named `main`, the signal files, and the headers of segments. Each is
    looked up by the name in its header, in the folder of `main` and as it is, then without its
    folder.
    """
    whole = parse_segments(files[main])
    header = parse_header(files[main]) if whole is None else whole
    if isinstance(header, Header):
        part = _read_part(files, main, header)
    else:
        part = _read_segments(files, main, header)
    leads = assemble(part.channels, _WHERE)
    flags = {QualityFlag.CHECKSUM_ABSENT: not part.checked, QualityFlag.DATE_UNREADABLE: header.date_unreadable}
    return Ecg(
        **leads,
        sampling_rate_hz=header.sampling_rate_hz,
        source_format="wfdb",
        recorded_at=header.recorded_at,
        rhythm=_labelled_rhythm(files[main]),
        quality_flags=tuple(flag.value for flag, is_set in flags.items() if is_set),
    )


def _labelled_rhythm(header: bytes) -> RhythmCodes:
    """Return what diagnoses in comments say: SNOMED CT codes, as of the PhysioNet challenges."""
    lines = _LINE_END.split(_decoded(header))
    found = [match[1] for line in lines if (match := _DIAGNOSES.fullmatch(line.strip()))]
    codes = [code.strip() for text in found for code in text.split(",")]
    return rhythm_codes([], [code for code in codes if _SNOMED.fullmatch(code)], source=HEADER)


def _read_part(files: Mapping[str, bytes], main: str, header: Header) -> _Part:
    signals = leads_by_name(((signal.description, signal) for signal in header.signals), _WHERE)
    channels: dict[str, Channel] = {}
    for file_name in dict.fromkeys(signal.file_name for signal in signals.values()):
        raw = _signal_file(files, main, file_name, header)
        channels.update(_read_file(header, file_name, raw))
    is_empty = any(not channel.counts.size for channel in channels.values())
    return _Part(channels, not is_empty and _check_checksums(signals, channels))


def _read_segments(files: Mapping[str, bytes], main: str, header: SegmentedHeader) -> _Part:
    """Return the leads of all segments, joined; all must state the same leads and scale."""
    parts: list[tuple[_Part | None, int]] = []  # None for a gap
    for number, (name, n_samples) in enumerate(header.segments, start=1):
        if name == _GAP:
            parts.append((None, n_samples))
        elif n_samples:  # the first segment may be empty: it only lists the signals
            where = f"segment {number} of {len(header.segments)} of {_WHERE}"
            parts.append((_read_segment(files, main, name, n_samples, header, where), n_samples))
    found = [part for part, _ in parts if part is not None]
    first = found[0] if found else _Part({}, False)
    channels = {}
    for lead in first.channels:
        pieces = [None if part is None else part.channels.get(lead) for part, _ in parts]
        channels[lead] = _joined(lead, first.channels[lead], list(zip(parts, pieces, strict=True)))
    return _Part(channels, all(part.checked for part in found))


def _read_segment(
    files: Mapping[str, bytes], main: str, name: str, n_samples: int, whole: SegmentedHeader, where: str
) -> _Part:
    path = _found(files, main, f"{name}.hea")
    if path is None:
        raise EcgRejected(RejectReason.TRUNCATED, f"header of {where} is missing; expected it beside the header")
    header = parse_header(files[path])
    if header.sampling_rate_hz != whole.sampling_rate_hz or header.n_samples not in (0, n_samples):
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"{where} states {header.sampling_rate_hz:g} Hz and {header.n_samples} samples, its record "
            f"{whole.sampling_rate_hz:g} Hz and {n_samples} samples; expected the same",
        )
    part = _read_part(files, path, header)
    if any(len(channel.counts) != n_samples for channel in part.channels.values()):
        raise EcgRejected(
            RejectReason.TRUNCATED, f"{where} holds another number of samples than {n_samples}; copy it again"
        )
    return part


def _joined(lead: str, first: Channel, pieces: list[tuple[tuple[_Part | None, int], Channel | None]]) -> Channel:
    """Return one channel of the pieces of a lead; gaps are missing samples."""
    counts = []
    for (part, n_samples), channel in pieces:
        if part is None:
            counts.append(np.full(n_samples, _MISSING_COUNT, dtype=np.int64))
            continue
        if channel is None or (channel.uv_per_count, channel.zero_count) != (first.uv_per_count, first.zero_count):
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"segments of {_WHERE} state different leads or scales of lead {lead}; expected the same in all",
            )
        values = channel.counts.astype(np.int64)
        values[channel.counts == channel.missing_count] = _MISSING_COUNT
        counts.append(values)
    limits = [channel.limits for _, channel in pieces if channel is not None]
    return Channel(
        counts=np.concatenate(counts),
        uv_per_count=first.uv_per_count,
        zero_count=first.zero_count,
        missing_count=_MISSING_COUNT,
        limits=(min(low for low, _ in limits), max(high for _, high in limits)),
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
    """Return the names of the files in a header, each once; none when it cannot be read.

    They are signal files or, of a record that is cut into segments, the headers of these.
    """
    try:
        whole = parse_segments(data)
        if whole is not None:
            return tuple(dict.fromkeys(f"{name}.hea" for name, _ in whole.segments if name != _GAP))
        return tuple(dict.fromkeys(signal.file_name for signal in parse_header(data).signals))
    except EcgRejected:
        return ()


def parse_segments(data: bytes) -> SegmentedHeader | None:
    """Parse the header of a record that is cut into segments; None for any other record.

    Raises:
        EcgRejected: as `parse_header`; `unreadable`, too, for more than 1,000 segments or 1,300,000
            samples.
    """
    record, lines = _record_line(data)
    if not record["segments"]:
        return None
    n_segments = int(record["segments"])
    if len(lines) != n_segments:
        raise EcgRejected(
            RejectReason.TRUNCATED, f"WFDB header declares {n_segments} segments but has {len(lines)} segment lines"
        )
    segments = tuple(_segment(line, number) for number, line in enumerate(lines, start=1))
    n_samples = sum(n for _, n in segments)
    if n_segments > _MOST_SEGMENTS or n_samples > _MOST_SAMPLES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"WFDB record has {n_segments} segments with {n_samples} samples, the limits are {_MOST_SEGMENTS} and "
            f"{_MOST_SAMPLES}; expected a resting ECG of 10 s",
        )
    _check_order([name for name, _ in segments])
    recorded_at, date_unreadable = _stated_time(record)
    return SegmentedHeader(_rate_hz(record["rate"]), recorded_at, date_unreadable, segments)


def _segment(line: str, number: int) -> tuple[str, int]:
    match = _SEGMENT.fullmatch(line)
    if match is None:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"WFDB segment line {number} cannot be understood; expected for example 'rec1_1 5000'",
        )
    return match["name"], int(match["n_samples"])


def _check_order(names: Sequence[str]) -> None:
    """Refuse segments whose numbers fall: lines of a damaged header have changed places."""
    last: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        match = _NUMBERED.fullmatch(name)
        if match is None:
            continue
        if int(match["number"]) < last.get(match["stem"], 0):
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"WFDB segment line {number} names an earlier segment than the line before; expected the segments in "
                "the order of their numbers",
            )
        last[match["stem"]] = int(match["number"])


def parse_header(data: bytes) -> Header:
    """Parse the bytes of a header file.

    Raises:
        EcgRejected: `unreadable` when the header is larger than `MAX_HEADER_BYTES`, a line cannot
            be understood, or the record is cut into segments; `unsupported_rate` when it states no
            rate; `truncated` when signal lines are missing.
    """
    record, lines = _record_line(data)
    if record["segments"]:
        raise EcgRejected(
            RejectReason.UNREADABLE, "a segment of the WFDB record is itself cut into segments; expected signals"
        )
    n_signals = int(record["n_signals"])
    if len(lines) != n_signals:
        raise EcgRejected(
            RejectReason.TRUNCATED, f"WFDB header declares {n_signals} signals but has {len(lines)} signal lines"
        )
    recorded_at, date_unreadable = _stated_time(record)
    return Header(
        sampling_rate_hz=_rate_hz(record["rate"]),
        n_samples=int(record["n_samples"] or 0),
        recorded_at=recorded_at,
        date_unreadable=date_unreadable,
        signals=tuple(_signal(line, number) for number, line in enumerate(lines, start=1)),
    )


def _record_line(data: bytes) -> tuple[re.Match[str], list[str]]:
    """Return the record line and the lines after it, without comments."""
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
    return record, lines[1:]


def _stated_time(record: re.Match[str]) -> tuple[dt.datetime | None, bool]:
    """Return when the recording was made, and True when the time it gives cannot be read."""
    recorded_at = _recorded_at(record["time"], record["date"])
    stated = record["date"] is not None or not _TIME.fullmatch(record["time"] or "00:00")
    return recorded_at, stated and recorded_at is None


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
        initial_value, checksum = (int(text) if text else None for text in fields[5:7])
        if layout is None or gain is None or max(abs(adc_zero), abs(initial_value or 0)) >= 2**31:
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
        initial_value=adc_zero if initial_value is None else initial_value,
        checksum=checksum,
        description=fields[8],
    )


def _signal_file(files: Mapping[str, bytes], main: str, file_name: str, header: Header) -> bytes:
    path = _found(files, main, file_name)
    if path is None:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"{_described_file(header, file_name)} is missing; expected it where the header says, or beside the header",
        )
    return files[path]


def _found(files: Mapping[str, bytes], main: str, file_name: str) -> str | None:
    """Return the key of a file that a header names, or None."""
    beside = posixpath.join(posixpath.dirname(main), posixpath.basename(file_name))
    named = posixpath.normpath(posixpath.join(posixpath.dirname(main), file_name))
    return next((key for key in (named, file_name, beside) if key in files), None)


def _described_file(header: Header, file_name: str) -> str:
    """Return how a message names a signal file: by its place, for its name may be a person's."""
    names = list(dict.fromkeys(signal.file_name for signal in header.signals))
    return f"signal file {names.index(file_name) + 1} of {len(names)} of {_WHERE}"


def _read_file(header: Header, file_name: str, raw: bytes) -> dict[str, Channel]:
    """Return the channels of the twelve leads in one signal file, by lead name."""
    signals = [signal for signal in header.signals if signal.file_name == file_name]
    file = _described_file(header, file_name)
    _check_layout(signals, file)
    # Lead by lead in memory: sums and scaling of interleaved samples take a third longer.
    by_signal = np.ascontiguousarray(_frames(header, signals, raw, file).T)
    channels: dict[str, Channel] = {}
    for column, signal in enumerate(signals):
        lead = canonical_lead(signal.description)
        if lead is not None:
            channels[lead] = _channel(signal, lead, by_signal[column])
    return channels


def _check_layout(signals: list[Signal], file: str) -> None:
    for signal in signals:
        found = f"format {signal.format}x{signal.samples_per_frame}, skew {signal.skew}"
        if signal.format not in SAMPLE_FORMATS or (signal.samples_per_frame, signal.skew) != (1, 0):
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"{file} has {found}; only formats {', '.join(map(str, SAMPLE_FORMATS))} with one "
                "sample per frame and no skew are read. Convert it with the WFDB tool xform",
            )
    if len({(signal.format, signal.byte_offset) for signal in signals}) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"signals of {file} state different formats or byte offsets; expected the same for all",
        )


def _frames(header: Header, signals: list[Signal], raw: bytes, file: str) -> NDArray[np.signedinteger]:
    """Return the samples of one signal file, (n_samples, n_signals), samples interleaved."""
    body, number = raw[signals[0].byte_offset :], signals[0].format
    packing, n_signals = SAMPLE_FORMATS[number], len(signals)
    n_samples = header.n_samples or packing.n_samples(len(body)) // n_signals
    if n_samples > _MOST_SAMPLES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"{file} has {n_samples} samples of a lead, the limit is {_MOST_SAMPLES}; expected a resting ECG of 10 s",
        )
    expected = packing.n_bytes(n_samples * n_signals)
    # Bytes after the stated samples are left in format 16, which most writers use. Elsewhere only
    # another size shows a wrong format, beside checksums.
    spare = 0 if packing.block_samples == 1 else _PADDING_BYTES
    too_long = len(body) > expected + spare and (number != 16 or not header.n_samples)
    if len(body) < expected or too_long:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"{file} holds {len(body)} bytes of samples; expected {header.n_samples or 'a whole number of'} samples of "
            f"{_frame_size(number, n_signals)}. Copy the file again",
        )
    frames = unpack(body, number, n_samples * n_signals).reshape(n_samples, n_signals)
    if number != 8:
        return frames
    first: NDArray[np.int64] = np.array([signal.initial_value for signal in signals], dtype=np.int64)
    return first + np.cumsum(frames, axis=0, dtype=np.int64)


def _frame_size(number: int, n_signals: int) -> str:
    packing = SAMPLE_FORMATS[number]
    n_bytes = n_signals * packing.block_bytes[-1] / packing.block_samples
    return f"{n_bytes:g} bytes" if n_bytes == int(n_bytes) else f"{n_bytes:.2f} bytes"


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


def _channel(signal: Signal, lead: str, counts: NDArray[np.signedinteger]) -> Channel:
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
        missing_count=SAMPLE_FORMATS[signal.format].missing_count,
        limits=_limits(signal, counts),
    )


def _limits(signal: Signal, counts: NDArray[np.signedinteger]) -> tuple[int, int]:
    """Return the limits of the ADC; those of the format when the samples contradict the header."""
    packing = SAMPLE_FORMATS[signal.format]
    highest = 2 ** (packing.bits - 1) - 1
    lowest = -highest
    if not 0 < signal.adc_bits < packing.bits:
        return lowest, highest
    half = 2 ** (signal.adc_bits - 1)
    low, high = max(lowest, signal.adc_zero - half), min(highest, signal.adc_zero + half - 1)
    valid = counts[counts != packing.missing_count] if packing.has_missing else counts
    if np.any(valid < low) or np.any(valid > high):
        return lowest, highest
    return low, high
