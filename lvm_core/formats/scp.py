"""SCP-ECG (EN 1064, ISO 11073-91064), versions 1 and 2, and the rhythm of version 3.

Own code, and not ecgdatakit, which is the decoder that the tests compare with: it needs a file on
disk, reads on with a warning where a checksum is wrong, and has no limits.
"""

from __future__ import annotations

import binascii
import datetime as dt
import itertools
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.channels import (
    INT16_LIMITS,
    SCP_LEADS,
    Channel,
    assemble,
    leads_by_name,
    local_datetime,
    measurements_of,
)
from lvm_core.formats.scp_huffman import Table, decode, from_differences, tables_of
from lvm_core.formats.statements import rhythm_codes
from lvm_core.signal.ecg import Ecg, RhythmCodes
from lvm_core.signal.quality import QualityFlag

_WHERE: Final = "the SCP-ECG rhythm"
_HEADER_BYTES: Final = 16  # of a section
_START: Final = 6  # of section 0, after the checksum and the size
_POINTER: Final = struct.Struct("<HII")
_PATIENT, _TABLES, _LEADS, _QRS, _BEAT, _RHYTHM, _GLOBAL, _LONG_RHYTHM = 1, 2, 3, 4, 5, 6, 7, 12
_MEASUREMENTS: Final = 10
_TEXTS, _CODES = 8, 11
_N_STATEMENTS: Final = 8  # place in sections 8 and 11, after confirmation, date and time
_HEAD_OF_STATEMENT: Final = struct.Struct("<BH")  # number and bytes
_CODED_STATEMENT, _IN_WORDS = b"\x01", b"\x02"  # kinds of a statement in section 11
_USED: Final = (_PATIENT, _TABLES, _LEADS, _QRS, _BEAT, _RHYTHM)
_SUBTRACTED: Final = 0x01  # flag of section 3: the reference beat was subtracted
_FIRST_VERSION_3: Final = 30
_MAX_SAMPLES: Final = 100_000  # of a lead: 200 s at 500 Hz, and about what 65,535 bytes hold
_MOST_FIELDS: Final = 1000  # of section 1; a tag is one byte, and few may be there more than once
_MOST_LEADS: Final = 255  # section 3 states their number in one byte
_UV_PER_NV: Final = 1e-3

_ID_TAG, _DEVICE_TAG, _DATE_TAG, _TIME_TAG, _END_TAG = 2, 14, 25, 26, 255
_UTF_16: Final = 0x07  # language code of text in two bytes a character

# Values that stand for words (EN 1064, 5.13): not computed, lead rejected; no such wave.
_NOT_MEASURED: Final = (29999, 29998, -32768)
_NO_WAVE: Final = 19999
_WAVE_FIELDS: Final = {"Q": 9, "R": 10, "S": 11, "R1": 12, "S1": 13}

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Section:
    content: bytes  # without the header
    protocol: int  # version of the protocol, times ten
    stated_crc: int
    found_crc: int


@dataclass(frozen=True, slots=True)
class _Lead:
    first: int  # sample, from 1
    last: int
    number: int

    @property
    def n_samples(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class _Coded:
    """Samples of all leads in one section: 5, the reference beat, or 6, the rhythm."""

    nv_per_count: int
    interval_us: int
    order: int  # of the differences
    is_bimodal: bool
    parts: list[bytes]  # of each lead


def is_scp(data: bytes) -> bool:
    """Return True for a file that begins with section 0 of SCP-ECG, also of the first version."""
    if data[_START + 10 : _START + 16] == b"SCPECG":
        return True
    head = data[: _START + _HEADER_BYTES + _POINTER.size]
    if len(head) < _START + _HEADER_BYTES + _POINTER.size:
        return False
    number, length = struct.unpack_from("<HI", head, _START + 2)
    pointed, pointed_length, start = _POINTER.unpack_from(head, _START + _HEADER_BYTES)
    return (number, pointed, start, pointed_length) == (0, 0, _START + 1, length) and length > _HEADER_BYTES


def read_scp(data: bytes) -> Ecg:
    """Decode an SCP-ECG file; raise `EcgRejected` with the reason when it cannot be used.

    Reads the rhythm of section 6: plain or Huffman-coded, differences of first or second order,
    with the reference beat added where it was subtracted. Bimodal compression, which leaves out
    samples between the QRS complexes, and the long rhythm of version 3 are refused.
    """
    sections, record_is_whole = _sections(data)
    checksum_absent = not record_is_whole and _check_sections(sections)
    rhythm = _coded(sections, _RHYTHM)
    leads = assemble(_channels(sections, rhythm), _WHERE)
    tags = _tags(sections)
    recorded_at, date_unreadable = (None, True) if tags is None else _recorded_at(tags)
    flags = {QualityFlag.CHECKSUM_ABSENT: checksum_absent, QualityFlag.DATE_UNREADABLE: date_unreadable}
    return Ecg(
        **leads,
        sampling_rate_hz=1e6 / rhythm.interval_us,
        source_format="scp_ecg",
        recorded_at=recorded_at,
        header_participant_id=_participant_id(tags or {}),
        measurements=measurements_of(_waves_uv(sections), _qrs_duration_ms(sections), _measured_by(tags or {})),
        rhythm=_stated_rhythm(sections, _language(tags or {}), record_is_whole=record_is_whole),
        quality_flags=tuple(flag.value for flag, is_set in flags.items() if is_set),
    )


def _within(read: Callable[[], Value], number: int) -> Value:
    """Return what `read` takes from a section; `truncated` where the section is too short."""
    try:
        return read()
    except struct.error as error:
        raise EcgRejected(
            RejectReason.TRUNCATED, f"section {number} of the SCP-ECG file ends too early; copy the file again"
        ) from error


def _sections(data: bytes) -> tuple[dict[int, _Section], bool]:
    """Return the sections by number, and True when the checksum of the whole file is right."""
    crc, n_bytes = _within(lambda: struct.unpack_from("<HI", data), 0)
    if n_bytes > len(data):
        raise EcgRejected(
            RejectReason.TRUNCATED, f"SCP-ECG file states {n_bytes} bytes and has {len(data)}; copy the file again"
        )
    data = data[:n_bytes]
    n_pointer_bytes = _within(lambda: struct.unpack_from("<I", data, _START + 4), 0)[0] - _HEADER_BYTES
    start = _START + _HEADER_BYTES
    sections: dict[int, _Section] = {}
    for position in range(start, min(start + n_pointer_bytes, n_bytes) - _POINTER.size + 1, _POINTER.size):
        number, length, first = _POINTER.unpack_from(data, position)
        if length and 0 < number <= _LONG_RHYTHM:
            if number in sections:
                raise EcgRejected(RejectReason.UNREADABLE, f"section {number} is twice in the SCP-ECG file")
            sections[number] = _section(data, number, length, first - 1)
    return sections, binascii.crc_hqx(data[2:], 0xFFFF) == crc


def _section(data: bytes, number: int, length: int, start: int) -> _Section:
    if start < 0 or start + length > len(data):
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"section {number} of the SCP-ECG file ends at byte {start + length}, the file at {len(data)}; "
            "copy the file again",
        )
    whole = data[start : start + length]
    crc, found, stated_length, _, protocol = _within(lambda: struct.unpack_from("<HHIBB6x", whole), number)
    if found != number or stated_length != length:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"where section {number} of the SCP-ECG file should be, section {found} of {stated_length} bytes begins; "
            f"expected {length} bytes. The file was damaged",
        )
    return _Section(whole[_HEADER_BYTES:], protocol, crc, binascii.crc_hqx(whole[2:], 0xFFFF))


def _check_sections(sections: Mapping[int, _Section]) -> bool:
    """Compare the checksums of what is read; return True when the file states none at all."""
    used = {number: section for number, section in sections.items() if number in _USED}
    wrong = [number for number, section in used.items() if section.stated_crc != section.found_crc]
    if wrong and any(section.stated_crc for section in used.values()):
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"checksum of section {wrong[0]} of the SCP-ECG file is {used[wrong[0]].stated_crc}, but its bytes give "
            f"{used[wrong[0]].found_crc}; the file was damaged or edited",
        )
    return bool(wrong)


def _content(sections: Mapping[int, _Section], number: int) -> bytes:
    """Return the content of a section that must be there."""
    if number not in sections:
        held = ", ".join(map(str, sorted(sections))) or "none"
        hint = "; the long rhythm of version 3 is not read" if _LONG_RHYTHM in sections else ""
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"SCP-ECG file has no section {number}, it has: {held}; expected leads (3) and rhythm (6){hint}",
        )
    return sections[number].content


def _leads(sections: Mapping[int, _Section]) -> tuple[list[_Lead], int]:
    """Return the leads in the order of the file, and the flags of section 3."""
    content = _content(sections, _LEADS)
    n_leads, flags = _within(lambda: struct.unpack_from("<BB", content), _LEADS)
    rows = _within(lambda: [struct.unpack_from("<IIB", content, 2 + 9 * index) for index in range(n_leads)], _LEADS)
    return [_Lead(*row) for row in rows], flags


def _coded(sections: Mapping[int, _Section], number: int) -> _Coded:
    content = _content(sections, number)
    n_leads = len(_leads(sections)[0])
    nv_per_count, interval_us, order, bimodal = _within(lambda: struct.unpack_from("<HHBB", content), number)
    sizes = _within(lambda: struct.unpack_from(f"<{n_leads}H", content, 6), number)
    ends = np.cumsum([6 + 2 * n_leads, *sizes]).tolist()
    if ends[-1] > len(content):
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"leads in section {number} of the SCP-ECG file have {sum(sizes)} bytes, but it ends before; "
            "copy the file again",
        )
    if order > 2:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"section {number} of the SCP-ECG file has differences of order {order}; expected 0 to 2",
        )
    if not nv_per_count:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT, f"one count of section {number} is 0 nV; expected for example 2500 nV"
        )
    if not interval_us:
        raise EcgRejected(
            RejectReason.UNSUPPORTED_RATE,
            f"time between samples of section {number} is 0 us; expected for example 2000. The rate is never guessed",
        )
    is_bimodal = bool(bimodal) and sections[number].protocol < _FIRST_VERSION_3
    parts = [content[start:end] for start, end in itertools.pairwise(ends)]
    return _Coded(nv_per_count, interval_us, order, is_bimodal, parts)


def _channels(sections: Mapping[int, _Section], rhythm: _Coded) -> dict[str, Channel]:
    """Return the channels by lead, of leads that were recorded at the same time."""
    rows, flags = _leads(sections)
    indices = leads_by_name(((SCP_LEADS.get(row.number, ""), index) for index, row in enumerate(rows)), _WHERE)
    chosen = {lead: rows[index] for lead, index in indices.items()}
    if len({(row.first, row.last) for row in chosen.values()}) > 1:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"leads of {_WHERE} cover different samples; expected leads recorded at the same time",
        )
    if rhythm.is_bimodal:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            "SCP-ECG file has bimodal compression, which leaves out samples between the QRS complexes; "
            "export it without compression, or with a lossless one",
        )
    tables = tables_of(sections[_TABLES].content) if _TABLES in sections else None
    counts = {lead: _counts(rhythm, _RHYTHM, index, rows[index].n_samples, tables) for lead, index in indices.items()}
    nv_per_count = rhythm.nv_per_count
    if flags & _SUBTRACTED:
        counts, nv_per_count = _with_beats(sections, rhythm, counts, indices, next(iter(chosen.values())).first, tables)
    limits = tuple(limit * rhythm.nv_per_count // nv_per_count for limit in INT16_LIMITS)
    return {
        lead: Channel(one, nv_per_count * _UV_PER_NV, limits=(limits[0], limits[1])) for lead, one in counts.items()
    }


def _counts(coded: _Coded, number: int, index: int, n_samples: int, tables: list[Table] | None) -> NDArray[np.int64]:
    """Return the samples of one lead, (n_samples,) counts of its section."""
    data = coded.parts[index]
    if n_samples > _MAX_SAMPLES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"lead {index + 1} in section {number} of the SCP-ECG file has {n_samples} samples, the limit is "
            f"{_MAX_SAMPLES}; expected a resting ECG of 10 s",
        )
    if tables is None:
        values = np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.int64)
        found = values if len(values) == n_samples else None
    else:
        found = decode(data, n_samples, tables) if n_samples >= 0 else None
    if found is None:
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"lead {index + 1} in section {number} of the SCP-ECG file has {len(data)} bytes, "
            f"which do not hold its {n_samples} samples; copy the file again",
        )
    counts = from_differences(found, coded.order)
    low, high = INT16_LIMITS
    if counts.size and (counts.min() < low or counts.max() > high):
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"lead {index + 1} in section {number} of the SCP-ECG file reaches {counts.min()} to {counts.max()} "
            f"counts; expected {low} to {high}. The file was damaged",
        )
    return counts


def _with_beats(
    sections: Mapping[int, _Section],
    rhythm: _Coded,
    residuals: Mapping[str, NDArray[np.int64]],
    indices: Mapping[str, int],
    first: int,
    tables: list[Table] | None,
) -> tuple[dict[str, NDArray[np.int64]], int]:
    """Add the reference beat to the residuals; return counts and the nV of one (EN 1064, 5.7).

    Sample `n` of a QRS of type 0 takes sample `n - fiducial of the QRS + fiducial of the beat`.
    """
    beat = _coded(sections, _BEAT)
    if beat.interval_us != rhythm.interval_us:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"reference beat of the SCP-ECG file has a sample each {beat.interval_us} us, the rhythm each "
            f"{rhythm.interval_us} us; expected the same",
        )
    content = _content(sections, _QRS)
    beat_ms, beat_fiducial, n_qrs = _within(lambda: struct.unpack_from("<HHH", content), _QRS)
    complexes = _within(lambda: [struct.unpack_from("<HIII", content, 6 + 14 * one) for one in range(n_qrs)], _QRS)
    nv_per_count = math.gcd(rhythm.nv_per_count, beat.nv_per_count)
    n_beat = round(beat_ms * 1000 / beat.interval_us)
    signals = np.stack(list(residuals.values())) * (rhythm.nv_per_count // nv_per_count)
    beats = np.stack([_counts(beat, _BEAT, index, n_beat, tables) for index in indices.values()])
    beats *= beat.nv_per_count // nv_per_count
    n_samples, n_added = signals.shape[1], 0
    for kind, start, fiducial, end in complexes:
        # From 0, of the rhythm; the beat lies from `shift` on.
        shift = (fiducial - first) - (beat_fiducial - 1)
        begin = max(start - first, shift, 0)
        stop = min(end - first + 1, shift + n_beat, n_samples)
        n_added += max(stop - begin, 0)
        if n_added > n_samples:
            raise EcgRejected(
                RejectReason.UNREADABLE,
                "QRS complexes in section 4 of the SCP-ECG file overlap; expected one after the other",
            )
        if kind == 0 and begin < stop:
            signals[:, begin:stop] += beats[:, begin - shift : stop - shift]
    return dict(zip(residuals, signals, strict=True)), nv_per_count


def _tags(sections: Mapping[int, _Section]) -> dict[int, bytes] | None:
    """Return the values of section 1 by tag, the first of each; None when the lengths are wrong."""
    content = sections[_PATIENT].content if _PATIENT in sections else b""
    tags: dict[int, bytes] = {}
    position = 0
    for _ in range(_MOST_FIELDS):
        if position + 3 > len(content) or content[position] == _END_TAG:
            break
        tag, length = struct.unpack_from("<BH", content, position)
        tags.setdefault(tag, content[position + 3 : position + 3 + length])
        position += 3 + length
    return tags if position <= len(content) else None


def _language(tags: Mapping[int, bytes]) -> str:
    """Return the encoding of texts."""
    device = tags.get(_DEVICE_TAG, b"")
    return "utf-16-le" if device[16:17] == bytes([_UTF_16]) else "latin-1"


def _participant_id(tags: Mapping[int, bytes]) -> str | None:
    text = tags.get(_ID_TAG, b"").decode(_language(tags), "replace")
    return text.partition("\0")[0].strip() or None


def _recorded_at(tags: Mapping[int, bytes]) -> tuple[dt.datetime | None, bool]:
    """Return when the recording was made, and True when the date it gives cannot be read.

    A missing time of day is taken as midnight.
    """
    date, time = tags.get(_DATE_TAG, b""), tags.get(_TIME_TAG, b"\0\0\0")
    if not any(date):
        return None, False
    if len(date) != 4 or len(time) != 3:
        return None, True
    year, month, day = struct.unpack("<HBB", date)
    recorded_at = local_datetime((year, month, day), (time[0], time[1], time[2]))
    return recorded_at, recorded_at is None


def _measured_by(tags: Mapping[int, bytes]) -> str | None:
    """Return maker and model of the device (EN 1064, 5.4.5, tag 14)."""
    device = tags.get(_DEVICE_TAG, b"")
    strings = device[36:].split(b"\0")
    maker = strings[4] if len(strings) > 4 else b""
    names = (text.decode("latin-1").partition("\0")[0].strip() for text in (maker, device[8:14]))
    return " ".join(filter(None, names)) or None


def _qrs_duration_ms(sections: Mapping[int, _Section]) -> float | None:
    """Return end minus begin of QRS in the first block of section 7, that of the reference beat."""
    content = sections[_GLOBAL].content if _GLOBAL in sections else b""
    if len(content) < 6 + 16 or not content[0]:
        return None
    begin_ms, end_ms = struct.unpack_from("<HH", content, 6 + 4)
    if begin_ms in _NOT_MEASURED or end_ms in _NOT_MEASURED or not 0 < begin_ms < end_ms < _NO_WAVE:
        return None
    return float(end_ms - begin_ms)


def _waves_uv(sections: Mapping[int, _Section]) -> dict[str, dict[str, float]]:
    """Return magnitudes in microvolts by lead and wave, of section 10, where they were measured."""
    content = sections[_MEASUREMENTS].content if _MEASUREMENTS in sections else b""
    waves_uv: dict[str, dict[str, float]] = {}
    position = 4
    for _ in range(_MOST_LEADS):
        if position + 4 > len(content):
            break
        number, length = struct.unpack_from("<HH", content, position)
        block = content[position + 4 : position + 4 + length]
        position += 4 + length
        lead = SCP_LEADS.get(number)
        if lead is None or lead in waves_uv or len(block) < 2 * (max(_WAVE_FIELDS.values()) + 1):
            continue
        fields = {wave: struct.unpack_from("<h", block, 2 * field)[0] for wave, field in _WAVE_FIELDS.items()}
        measured = {wave: value for wave, value in fields.items() if value not in _NOT_MEASURED}
        if any(measured.values()):
            waves_uv[lead] = {wave: 0.0 if value == _NO_WAVE else float(abs(value)) for wave, value in measured.items()}
    return waves_uv


def _stated_rhythm(sections: Mapping[int, _Section], encoding: str, *, record_is_whole: bool) -> RhythmCodes:
    """Return what sections 8 and 11 state; nothing by a section whose checksum is wrong.

    A code counts when it stands alone: what follows it may make it a possibility.
    """
    good = {n: one for n, one in sections.items() if record_is_whole or one.stated_crc in (0, one.found_crc)}
    universal = _statements(good, _CODES)
    texts = [*_statements(good, _TEXTS), *(one[1:] for one in universal if one[:1] == _IN_WORDS)]
    codes = [one[1:] for one in universal if one[:1] == _CODED_STATEMENT]
    return rhythm_codes(
        [line for text in texts for line in text.decode(encoding, "replace").replace("\0", "\n").splitlines()],
        [code.decode("latin-1").strip("\0 ").upper() for code in codes],
    )


def _statements(sections: Mapping[int, _Section], number: int) -> list[bytes]:
    """Return the content of each statement of section 8 or 11."""
    content = sections[number].content if number in sections else b""
    n_statements = content[_N_STATEMENTS] if len(content) > _N_STATEMENTS else 0
    position = _N_STATEMENTS + 1
    found: list[bytes] = []
    while len(found) < n_statements and position + _HEAD_OF_STATEMENT.size <= len(content):
        _, length = _HEAD_OF_STATEMENT.unpack_from(content, position)
        position += _HEAD_OF_STATEMENT.size
        found.append(content[position : position + length])
        position += length
    return found
