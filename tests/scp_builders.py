"""SCP-ECG files of the structure of real ones, made from given counts; no real data."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lvm_core.formats.channels import SCP_LEADS
from lvm_core.signal.ecg import LEADS_12
from tests.file_builders import Counts

SCP_ORDER = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6", "III", "aVR", "aVL", "aVF")
NUMBER_OF_LEAD = {lead: number for number, lead in SCP_LEADS.items()}
Code = tuple[str, int]  # bits, and the number of bits that follow

# EN 1064, C.3.7.6, as a person would write it down.
DEFAULT_CODES = {
    0: "0",
    **{size: "1" * size + "00" for size in range(1, 9)},
    **{-size: "1" * size + "01" for size in range(1, 9)},
}


def _default_bits(value: int) -> str:
    if value in DEFAULT_CODES:
        return DEFAULT_CODES[value]
    if -128 <= value <= 127:
        return f"1111111110{value % 2**8:08b}"
    return f"1111111111{value % 2**16:016b}"


# Two tables of our own: the first has 0 and a switch, the second 16-bit numbers and the way back.
TWO_TABLES = struct.pack("<H", 2)
TWO_TABLES += struct.pack("<H", 2) + struct.pack("<BBBhI", 1, 1, 1, 0, 0) + struct.pack("<BBBhI", 1, 1, 0, 2, 1)
TWO_TABLES += struct.pack("<H", 2) + struct.pack("<BBBhI", 2, 18, 1, 5, 1) + struct.pack("<BBBhI", 2, 2, 0, 1, 2)


def _two_tables_bits(values: Sequence[int]) -> str:
    # In the second table `10` is a number less 5, and `01` the way back (first bit lowest: 1, 2).
    return "".join("0" if value == 0 else f"110{(value - 5) % 2**16:016b}01" for value in values)


def differences(values: NDArray[np.integer], order: int) -> list[int]:
    """Return samples, or differences of order 1 or 2 with what begins them."""
    wide = values.astype(np.int64)
    if order == 0:
        return [int(one) for one in wide]
    return [*map(int, wide[:order]), *map(int, np.diff(wide, order))]


def scp_leads(coding: str, rows: Sequence[NDArray[np.integer]], order: int) -> list[bytes]:
    """Return the coded samples of each lead; `coding` is `plain`, `default` or `two_tables`."""
    parts = []
    for row in rows:
        values = differences(row, order)
        if coding == "plain":
            parts.append(np.array(values, "<i2").tobytes())
            continue
        bits = "".join(map(_default_bits, values)) if coding == "default" else _two_tables_bits(values)
        bits += "0" * (-len(bits) % 16)
        parts.append(int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return parts


def scp_samples(
    parts: Sequence[bytes], *, nv: int = 2500, interval_us: int = 2000, order: int = 2, bimodal: int = 0
) -> bytes:
    """Return the content of section 5 or 6."""
    head = struct.pack("<HHBB", nv, interval_us, order, bimodal)
    return head + struct.pack(f"<{len(parts)}H", *map(len, parts)) + b"".join(parts)


def scp_tag(tag: int, value: bytes) -> bytes:
    """Return one field of section 1."""
    return struct.pack("<BH", tag, len(value)) + value


def scp_patient(
    *,
    participant_id: bytes = b"1000001\0",
    date: bytes = struct.pack("<HBB", 2018, 7, 19),
    time: bytes = bytes((14, 19, 39)),
    language: int = 0,
) -> bytes:
    """Return the content of section 1; empty bytes leave a field out."""
    device = bytes(8) + b"ELI 25" + bytes([20, 0xA0, language]) + bytes(19) + b"prog\0serial\0system\0scp\0Mortara\0"
    fields = {0: b"Somebody\0", 1: b"Any\0", 2: participant_id, 5: struct.pack("<HBB", 1950, 1, 2), 14: device}
    fields |= {25: date, 26: time}
    return b"".join(scp_tag(tag, value) for tag, value in fields.items() if value) + scp_tag(255, b"")


def scp_lead_table(
    leads: Sequence[int], n_samples: int, *, flags: int = 0x64, first: int = 1, lasts: Mapping[int, int] | None = None
) -> bytes:
    """Return the content of section 3; `lasts` are other last samples, by place."""
    rows = [
        struct.pack("<IIB", first, (lasts or {}).get(place, first + n_samples - 1), number)
        for place, number in enumerate(leads)
    ]
    return struct.pack("<BB", len(leads), flags) + b"".join(rows)


def scp_global(begin_ms: int = 434, end_ms: int = 526, n_blocks: int = 1) -> bytes:
    """Return the content of section 7, with QRS from `begin_ms` to `end_ms`."""
    block = struct.pack("<5H3h", 286, 388, begin_ms, end_ms, 854, 44, -61, 86)
    return struct.pack("<BBHH", n_blocks, 0, 29999, 29999) + block * n_blocks


def scp_lead_measurements(waves: Mapping[str, Mapping[str, int]]) -> bytes:
    """Return the content of section 10: amplitudes Q R S R1 S1 by lead, signed microvolts."""
    places = {"Q": 9, "R": 10, "S": 11, "R1": 12, "S1": 13}
    blocks = b""
    for lead, values in waves.items():
        fields = [29999] * 16
        for wave, value in values.items():
            fields[places[wave]] = value
        blocks += struct.pack("<HH16h", NUMBER_OF_LEAD.get(lead, 15), 32, *fields)
    return struct.pack("<HH", len(waves), 0) + blocks


def scp_statements(*fields: bytes) -> bytes:
    """Return the content of section 8 or 11: unconfirmed, of an unknown time."""
    numbered = [struct.pack("<BH", number, len(field)) + field for number, field in enumerate(fields, start=1)]
    return struct.pack("<BHBB3xB", 0, 2018, 7, 19, len(fields)) + b"".join(numbered)


def scp_bytes(
    sections: Mapping[int, bytes], *, with_crc: bool = True, protocol: int = 20, magic: bytes = b"SCPECG"
) -> bytes:
    """Return an SCP-ECG file of these contents by section number."""

    def whole(number: int, content: bytes, reserved: bytes = bytes(6)) -> bytes:
        body = struct.pack("<HIBB", number, 16 + len(content), protocol, protocol) + reserved + content
        return struct.pack("<H", binascii.crc_hqx(body, 0xFFFF) if with_crc else 0) + body

    numbers = range(12)
    padded = {number: content + bytes(len(content) % 2) for number, content in sections.items()}
    lengths = [16 + 10 * len(numbers)] + [16 + len(padded[one]) if one in padded else 0 for one in numbers[1:]]
    starts = [7 + sum(lengths[:place]) for place in range(len(numbers))]
    pointers = [
        struct.pack("<HII", number, length, start if length else 0)
        for number, length, start in zip(numbers, lengths, starts, strict=True)
    ]
    body = whole(0, b"".join(pointers), magic) + b"".join(whole(one, padded[one]) for one in sorted(padded))
    sized = struct.pack("<I", 6 + len(body)) + body
    return struct.pack("<H", binascii.crc_hqx(sized, 0xFFFF) if with_crc else 0) + sized


def scp_sections(
    counts: Counts, *, coding: str = "default", order: int = 2, nv: int = 2500, interval_us: int = 2000
) -> dict[int, bytes]:
    """Return the contents of a good file, in which nothing is subtracted."""
    n_samples = len(next(iter(counts.values())))
    tables = {"plain": {}, "default": {2: struct.pack("<H", 19999)}, "two_tables": {2: TWO_TABLES}}[coding]
    rows = list(counts.values())
    return {
        1: scp_patient(),
        **tables,
        3: scp_lead_table([NUMBER_OF_LEAD.get(lead, 15) for lead in counts], n_samples),
        6: scp_samples(scp_leads(coding, rows, order), nv=nv, interval_us=interval_us, order=order),
        7: scp_global(),
    }


def scp_file(counts: Counts, **changes: str | int) -> bytes:
    """Return a file as devices write it; `changes` go to `scp_sections`."""
    return scp_bytes(scp_sections(counts, **changes))  # type: ignore[arg-type]


def scp_subtracted(
    counts: Counts,
    beats: Counts,
    fiducials: Sequence[int],
    *,
    beat_fiducial: int = 20,
    nv: int = 2500,
    beat_nv: int = 5000,
    types: Sequence[int] | None = None,
    first: int = 1,
    statements: bytes = b"",
) -> bytes:
    """Return a file whose reference beat, (n_beat,) counts by lead, was subtracted at `fiducials`.

    Samples and fiducials count from 1. `types` of the QRS: only those of type 0 have the beat.
    `statements` is section 8.
    """
    n_samples, n_beat = len(counts[LEADS_12[0]]), len(beats[LEADS_12[0]])
    types = types or [0] * len(fiducials)
    rows = {lead: values.astype(np.int64).copy() for lead, values in counts.items()}
    zones = b""
    for kind, fiducial in zip(types, fiducials, strict=True):
        begin = max(fiducial - beat_fiducial + 1, first)
        end = min(begin + n_beat - 1, first + n_samples - 1)
        zones += struct.pack("<HIII", kind, begin, fiducial, end)
        if kind:
            continue
        for lead, row in rows.items():
            for sample in range(begin, end + 1):
                place = sample - fiducial + beat_fiducial - 1
                if place < n_beat:
                    row[sample - first] -= beats[lead][place] * (beat_nv // nv)
    sections = scp_sections({lead: row.astype(np.int16) for lead, row in rows.items()}, nv=nv)
    sections[3] = scp_lead_table([NUMBER_OF_LEAD[lead] for lead in counts], n_samples, flags=0x65, first=first)
    sections[4] = struct.pack("<HHH", 2 * n_beat, beat_fiducial, len(fiducials)) + zones
    sections[5] = scp_samples(scp_leads("default", [beats[lead] for lead in counts], 2), nv=beat_nv)
    return scp_bytes({**sections, 8: statements} if statements else sections)
