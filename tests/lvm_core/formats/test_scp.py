from __future__ import annotations

import datetime as dt
import struct
from pathlib import Path

import numpy as np
import pytest
from ecgdatakit import FileParser
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.errors import RejectReason
from lvm_core.formats.aecg import read_aecg
from lvm_core.formats.dicom import read_dicom
from lvm_core.formats.scp import is_scp, read_scp
from lvm_core.formats.scp_huffman import decode, from_differences, tables_of
from lvm_core.signal.ecg import LEADS_12, Ecg
from tests.dicom_builders import dicom_file
from tests.file_builders import MUSE_LEADS, Counts, aecg_xml, random_counts
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_is_as_built, assert_rejected, lead_uv, needs_real_files
from tests.scp_builders import (
    DEFAULT_CODES,
    SCP_ORDER,
    TWO_TABLES,
    differences,
    scp_bytes,
    scp_file,
    scp_global,
    scp_lead_measurements,
    scp_lead_table,
    scp_leads,
    scp_patient,
    scp_samples,
    scp_sections,
    scp_subtracted,
    scp_tag,
)

TWELVE = random_counts(n_samples=200, leads=SCP_ORDER)
REAL = SHARED_ECG / "scp" / "ecgtoolkit_Example.scp"
CODINGS = ("plain", "default", "two_tables")


def _with(**changed: bytes | None) -> bytes:
    """Return a good file with sections changed, by names such as `s6`; None leaves one out."""
    sections: dict[int, bytes | None] = {**scp_sections(TWELVE)}
    sections |= {int(name[1:]): content for name, content in changed.items()}
    return scp_bytes({number: content for number, content in sections.items() if content is not None})


def _assert_is(ecg: Ecg, counts: Counts, step_uv: float) -> None:
    for lead in counts:
        np.testing.assert_allclose(lead_uv(ecg, lead), counts[lead] * step_uv, rtol=1e-6, atol=0)


def test_read_scp__leads_in_microvolts_with_what_the_file_says() -> None:
    ecg = read_scp(scp_file(TWELVE))
    _assert_is(ecg, TWELVE, 2.5)
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.source_format) == (500.0, 2.5, "scp_ecg")
    assert_is_as_built(ecg)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("coding", CODINGS)
def test_read_scp__every_coding_and_order_agrees_with_ecgdatakit(tmp_path: Path, coding: str, order: int) -> None:
    data = scp_file(TWELVE, coding=coding, order=order)
    _assert_is(read_scp(data), TWELVE, 2.5)
    path = tmp_path / "a.scp"
    path.write_bytes(data)
    for lead in FileParser().parse(path).leads:
        scale = {"uV": 1.0, "mV": 1e3, "": 2.5}[lead.units]
        np.testing.assert_allclose(lead.samples * scale, TWELVE[lead.label] * 2.5, rtol=0, atol=0.01)


@pytest.mark.parametrize(("nv", "interval_us", "rate_hz"), [(1000, 1000, 1000), (4880, 4000, 250), (5000, 2500, 400)])
def test_read_scp__step_and_rate_are_those_of_the_rhythm(nv: int, interval_us: int, rate_hz: float) -> None:
    ecg = read_scp(scp_file(TWELVE, nv=nv, interval_us=interval_us))
    assert ecg.sampling_rate_hz == rate_hz
    _assert_is(ecg, TWELVE, nv / 1000)


def test_read_scp__eight_leads_give_twelve_and_others_are_left_out() -> None:
    counts = random_counts(n_samples=50, leads=(*MUSE_LEADS, "CC5"))
    ecg = read_scp(scp_file(counts))
    assert ecg.leads_derived
    np.testing.assert_array_equal(lead_uv(ecg, "III"), (counts["II"].astype(float) - counts["I"]) * 2.5)


def test_read_scp__three_leads_are_refused() -> None:
    three = scp_file({lead: TWELVE[lead] for lead in ("I", "II", "III")})
    assert_rejected(lambda: read_scp(three), RejectReason.MISSING_LEAD, "lead V1, V2, V3, V4, V5, V6 is missing")


def test_read_scp__scp_aecg_and_dicom_of_one_recording_agree() -> None:
    found = (
        read_scp(scp_file(TWELVE)),
        read_aecg(aecg_xml(TWELVE)),
        read_dicom(dicom_file(TWELVE, sensitivity="2.5")),
        read_dicom(dicom_file(TWELVE, sensitivity="0.0025", unit="mV")),
    )
    for ecg in found[1:]:
        np.testing.assert_allclose(ecg.leads_uv, found[0].leads_uv, rtol=0, atol=0.1)
        assert ecg.recorded_at == found[0].recorded_at
        assert ecg.measurements == found[0].measurements


# Huffman codes and differences.


@pytest.mark.parametrize("value", [*range(-10, 11), 127, 128, -128, -129, 32767, -32768])
def test_decode__default_table(value: int) -> None:
    (data,) = scp_leads("default", [np.array([value, 3, value])], 0)
    found = decode(data, 3, tables_of(struct.pack("<H", 19999)))
    assert found is not None
    assert found.tolist() == [value, 3, value]


def test_decode__default_table_as_bits() -> None:
    # 1100 is 2, 101 is -1, 0 is 0, 1111111110 and 8 bits is a byte (EN 1064, C.3.7.6).
    bits = "1100" + "101" + "0" + "1111111110" + "11110000" + "000000"
    found = decode(int(bits, 2).to_bytes(4, "big"), 4, tables_of(struct.pack("<H", 19999)))
    assert found is not None
    assert found.tolist() == [2, -1, 0, -16]
    assert DEFAULT_CODES[2] == "1100"


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=40), st.integers(0, 2), st.sampled_from(CODINGS[1:]))
def test_decode__gives_back_what_was_coded(values: list[int], order: int, coding: str) -> None:
    halved = np.array(values, np.int64) // 4  # second differences stay within 16 bits
    if coding == "two_tables":
        halved //= 2
    (data,) = scp_leads(coding, [halved], order)
    tables = tables_of(TWO_TABLES if coding == "two_tables" else struct.pack("<H", 19999))
    found = decode(data, len(halved), tables)
    assert found is not None
    np.testing.assert_array_equal(from_differences(found, order), halved)


@given(st.binary(max_size=60), st.integers(0, 100))
def test_decode__any_bytes_give_the_numbers_asked_for_or_none(data: bytes, n_values: int) -> None:
    for content in (TWO_TABLES, struct.pack("<H", 19999)):
        found = decode(data, n_values, tables_of(content))
        assert found is None or len(found) == n_values


def test_from_differences__worked_by_hand() -> None:
    samples = np.array([5, 7, 4, 4, 10])
    assert differences(samples, 2) == [5, 7, -5, 3, 6]
    for order in (0, 1, 2):
        np.testing.assert_array_equal(from_differences(np.array(differences(samples, order)), order), samples)
    for short in ([], [4], [4, -3]):
        np.testing.assert_array_equal(from_differences(np.array(short, np.int64), 2), short)


@pytest.mark.parametrize(
    ("content", "reason", "wanted"),
    [
        (b"", RejectReason.TRUNCATED, "Huffman tables of the SCP-ECG file end too early"),
        (struct.pack("<H", 0), RejectReason.UNREADABLE, "has 0 Huffman tables; expected 1 to 2"),
        (struct.pack("<H", 3), RejectReason.UNREADABLE, "has 3 Huffman tables"),
        (struct.pack("<HH", 1, 1), RejectReason.TRUNCATED, "end too early"),
        (struct.pack("<HH", 1, 1001), RejectReason.UNREADABLE, "has 1001 codes; expected at most 1000"),
        (struct.pack("<HHBBBhI", 1, 1, 0, 0, 1, 0, 0), RejectReason.UNREADABLE, "has 0 bits of 0"),
        (struct.pack("<HHBBBhI", 1, 1, 17, 17, 1, 0, 0), RejectReason.UNREADABLE, "has 17 bits of 17"),
        (struct.pack("<HHBBBhI", 1, 1, 8, 4, 1, 0, 0), RejectReason.UNREADABLE, "has 8 bits of 4"),
        (struct.pack("<HHBBBhI", 1, 1, 8, 25, 1, 0, 0), RejectReason.UNREADABLE, "has 8 bits of 25"),
    ],
)
def test_tables_of__what_cannot_be_used_is_refused(content: bytes, reason: RejectReason, wanted: str) -> None:
    assert_rejected(lambda: tables_of(content), reason, wanted)


def test_decode__switch_to_a_table_that_is_not_there() -> None:
    tables = tables_of(struct.pack("<HH", 1, 1) + struct.pack("<BBBhI", 1, 1, 0, 7, 1))
    assert decode(b"\xff", 1, tables) is None
    assert decode(b"\0", 1, tables) is None  # no code begins with 0


def test_decode__number_that_is_cut_off_is_none() -> None:
    tables = tables_of(struct.pack("<H", 19999))
    assert decode(b"\xff\x80\x00", 1, tables) is not None
    assert decode(b"\xff\x80", 1, tables) is None


def test_tables_of__table_without_codes_decodes_nothing() -> None:
    assert decode(b"\0\0", 1, tables_of(struct.pack("<HH", 1, 0))) is None


# Reference beat.

BEATS = random_counts(7, n_samples=60, leads=SCP_ORDER, largest=100)


@pytest.mark.parametrize("first", [1, 501])
@pytest.mark.parametrize("fiducials", [(30,), (5, 90, 195)])
def test_read_scp__subtracted_beat_is_added_again(tmp_path: Path, fiducials: tuple[int, ...], first: int) -> None:
    data = scp_subtracted(TWELVE, BEATS, [one + first - 1 for one in fiducials], first=first)
    ecg = read_scp(data)
    _assert_is(ecg, TWELVE, 2.5)
    assert ecg.step_uv == 2.5
    path = tmp_path / "a.scp"
    path.write_bytes(data)
    for lead in FileParser().parse(path).leads:
        scale = {"uV": 1.0, "mV": 1e3, "": 2.5}[lead.units]
        np.testing.assert_allclose(lead_uv(ecg, lead.label), lead.samples * scale, rtol=0, atol=0.01)


def test_read_scp__no_complex_leaves_the_rhythm_as_it_is() -> None:
    _assert_is(read_scp(scp_subtracted(TWELVE, BEATS, ())), TWELVE, 2.5)


def test_read_scp__beat_is_added_to_its_own_type_only() -> None:
    _assert_is(read_scp(scp_subtracted(TWELVE, BEATS, (30, 120), types=(1, 0))), TWELVE, 2.5)


def test_read_scp__beat_and_rhythm_of_different_steps() -> None:
    ecg = read_scp(scp_subtracted(TWELVE, BEATS, (30, 120), nv=1500, beat_nv=4500))
    _assert_is(ecg, TWELVE, 1.5)


def _subtracted_with(number: int, content: bytes | None) -> bytes:
    whole = scp_subtracted(TWELVE, BEATS, (30,))
    sections = _contents(whole)
    if content is None:
        del sections[number]
    else:
        sections[number] = content
    return scp_bytes(sections)


def _contents(data: bytes) -> dict[int, bytes]:
    pointers = [struct.unpack_from("<HII", data, 22 + 10 * place) for place in range(12)]
    return {number: data[start + 15 : start - 1 + length] for number, length, start in pointers if number and length}


@pytest.mark.parametrize(
    ("number", "content", "reason", "wanted"),
    [
        (4, None, RejectReason.UNREADABLE, "has no section 4, it has: 1, 2, 3, 5, 6, 7"),
        (5, None, RejectReason.UNREADABLE, "has no section 5"),
        (4, struct.pack("<HHH", 120, 20, 3), RejectReason.TRUNCATED, "section 4 of the SCP-ECG file ends too early"),
        (
            4,
            struct.pack("<HHH", 120, 20, 9) + struct.pack("<HIII", 0, 1, 20, 60) * 9,
            RejectReason.UNREADABLE,
            "QRS complexes in section 4 of the SCP-ECG file overlap",
        ),
        (
            5,
            scp_samples(scp_leads("default", list(BEATS.values()), 2), interval_us=4000),
            RejectReason.UNREADABLE,
            "reference beat of the SCP-ECG file has a sample each 4000 us, the rhythm each 2000 us",
        ),
        (
            4,
            struct.pack("<HHH", 65000, 20, 1) + struct.pack("<HIII", 0, 1, 20, 60),
            RejectReason.TRUNCATED,
            "lead 1 in section 5 of the SCP-ECG file has .* bytes, which do not hold its 32500 samples",
        ),
    ],
)
def test_read_scp__beat_that_cannot_be_added_is_refused(
    number: int, content: bytes | None, reason: RejectReason, wanted: str
) -> None:
    assert_rejected(lambda: read_scp(_subtracted_with(number, content)), reason, wanted)


def test_read_scp__bimodal_compression_is_refused_up_to_version_2() -> None:
    sections = scp_sections(TWELVE)
    sections[6] = scp_samples(scp_leads("default", list(TWELVE.values()), 2), bimodal=1)
    assert_rejected(lambda: read_scp(scp_bytes(sections)), RejectReason.UNREADABLE, "has bimodal compression")
    _assert_is(read_scp(scp_bytes(sections, protocol=30)), TWELVE, 2.5)


# Structure, checksums and damage.


@pytest.mark.parametrize("number", [3, 6])
def test_read_scp__missing_section_is_refused(number: int) -> None:
    data = _with(**{f"s{number}": None})
    assert_rejected(lambda: read_scp(data), RejectReason.UNREADABLE, f"has no section {number}, it has: 1, 2, ")


def test_read_scp__long_rhythm_of_version_3_is_named() -> None:
    # The pointer of section 11, which is empty, becomes one of section 12 on section 7.
    data = bytearray(_with(s6=None))
    start = struct.unpack_from("<HII", data, 22 + 70)[2]
    struct.pack_into("<HII", data, 22 + 110, 12, 38, start)
    struct.pack_into("<H", data, start - 1 + 2, 12)
    struct.pack_into("<HII", data, 22 + 70, 7, 0, 0)
    wanted = "has no section 6, it has: 1, 2, 3, 12; .*; the long rhythm of version 3 is not read"
    assert_rejected(lambda: read_scp(bytes(data)), RejectReason.UNREADABLE, wanted)


@pytest.mark.parametrize(
    ("content", "reason", "wanted"),
    [
        (b"\1\2", RejectReason.TRUNCATED, "section 6 of the SCP-ECG file ends too early"),
        (
            struct.pack("<HHBB", 2500, 2000, 2, 0),
            RejectReason.TRUNCATED,
            "section 6 of the SCP-ECG file ends too early",
        ),
        (
            struct.pack("<HHBB12H", 2500, 2000, 2, 0, *[9] * 12),
            RejectReason.TRUNCATED,
            "leads in section 6 of the SCP-ECG file have 108 bytes, but it ends before",
        ),
        (scp_samples([b""] * 12, nv=0), RejectReason.UNKNOWN_UNIT, "one count of section 6 is 0 nV"),
        (
            scp_samples([b""] * 12, interval_us=0),
            RejectReason.UNSUPPORTED_RATE,
            "time between samples of section 6 is 0",
        ),
        (scp_samples([b""] * 12, order=3), RejectReason.UNREADABLE, "has differences of order 3; expected 0 to 2"),
        (
            scp_samples([b""] * 12),
            RejectReason.TRUNCATED,
            "lead 1 in section 6 of the SCP-ECG file has 0 bytes, which do not hold its 200 samples",
        ),
        (
            scp_samples(scp_leads("default", [np.full(200, 300)] * 12, 0)),
            RejectReason.UNREADABLE,
            "lead 1 in section 6 of the SCP-ECG file reaches 300 to 5910600 counts; expected -32768 to 32767",
        ),
    ],
)
def test_read_scp__rhythm_that_cannot_be_used_is_refused(content: bytes, reason: RejectReason, wanted: str) -> None:
    assert_rejected(lambda: read_scp(_with(s6=content)), reason, wanted)


@pytest.mark.parametrize("n_bytes", [399, 398, 402])
def test_read_scp__plain_samples_must_be_as_many_as_stated(n_bytes: int) -> None:
    sections = scp_sections(TWELVE, coding="plain")
    parts = scp_leads("plain", list(TWELVE.values()), 2)
    sections[6] = scp_samples([*parts[:3], (parts[3] + bytes(2))[:n_bytes], *parts[4:]])
    wanted = f"lead 4 in section 6 of the SCP-ECG file has {n_bytes} bytes, which do not hold its 200 samples"
    assert_rejected(lambda: read_scp(scp_bytes(sections)), RejectReason.TRUNCATED, wanted)


NUMBERS = [1, 2, 3, 4, 5, 6, 7, 8, 61, 62, 63, 64]


@pytest.mark.parametrize(
    ("content", "reason", "wanted"),
    [
        (b"", RejectReason.TRUNCATED, "section 3 of the SCP-ECG file ends too early"),
        (struct.pack("<BB", 12, 0), RejectReason.TRUNCATED, "section 3 of the SCP-ECG file ends too early"),
        (
            scp_lead_table(NUMBERS, 200, lasts={4: 100}),
            RejectReason.UNREADABLE,
            "leads of the SCP-ECG rhythm cover diff",
        ),
        (scp_lead_table([1, *NUMBERS[:11]], 200), RejectReason.UNREADABLE, "lead I is twice"),
        (scp_lead_table(NUMBERS, 0), RejectReason.TRUNCATED, "hold 0 samples"),
        (scp_lead_table(NUMBERS, 100_001), RejectReason.UNREADABLE, "has 100001 samples, the limit is 100000"),
        (scp_lead_table(NUMBERS, 100_000), RejectReason.TRUNCATED, "do not hold its 100000 samples"),
        (scp_lead_table(NUMBERS, 1, lasts=dict.fromkeys(range(12), 0)), RejectReason.TRUNCATED, "hold 0 samples"),
        (
            scp_lead_table(NUMBERS, 1, first=9, lasts=dict.fromkeys(range(12), 1)),
            RejectReason.TRUNCATED,
            "its -7 samples",
        ),
    ],
)
def test_read_scp__lead_table_that_cannot_be_used_is_refused(content: bytes, reason: RejectReason, wanted: str) -> None:
    assert_rejected(lambda: read_scp(_with(s3=content)), reason, wanted)


def test_read_scp__short_file_is_truncated_and_bytes_after_the_end_do_not_matter() -> None:
    data = scp_file(TWELVE)
    np.testing.assert_array_equal(read_scp(data + b"more").leads_uv, read_scp(data).leads_uv)
    wanted = f"SCP-ECG file states {len(data)} bytes and has {len(data) - 1}"
    assert_rejected(lambda: read_scp(data[:-1]), RejectReason.TRUNCATED, wanted)
    assert_rejected(lambda: read_scp(data[:5]), RejectReason.TRUNCATED, "section 0 of the SCP-ECG file ends too early")
    short = data[:2] + struct.pack("<I", 300) + data[6:]
    assert_rejected(lambda: read_scp(short), RejectReason.TRUNCATED, "ends at byte .*, the file at 300")


def _pointer(place: int, number: int, length: int, start: int) -> bytes:
    data = scp_file(TWELVE)
    at = 22 + 10 * place
    return data[:at] + struct.pack("<HII", number, length, start) + data[at + 10 :]


@pytest.mark.parametrize(
    ("pointer", "reason", "wanted"),
    [
        ((6, 6, 100, 0), RejectReason.TRUNCATED, "section 6 of the SCP-ECG file ends at byte 99"),
        ((6, 6, 100, 7), RejectReason.UNREADABLE, "where section 6 .* should be, section 0 of 136 bytes begins"),
        ((6, 6, 10, 7), RejectReason.TRUNCATED, "section 6 of the SCP-ECG file ends too early"),
        ((6, 6, 2**31, 7), RejectReason.TRUNCATED, "section 6 of the SCP-ECG file ends at byte 2147483654"),
    ],
)
def test_read_scp__pointer_to_nowhere_is_refused(
    pointer: tuple[int, int, int, int], reason: RejectReason, wanted: str
) -> None:
    assert_rejected(lambda: read_scp(_pointer(*pointer)), reason, wanted)


def test_read_scp__section_twice_is_refused() -> None:
    data = scp_file(TWELVE)
    first = data[22 + 10 : 22 + 20]
    damaged = data[: 22 + 110] + first + data[22 + 120 :]
    assert_rejected(lambda: read_scp(damaged), RejectReason.UNREADABLE, "section 1 is twice in the SCP-ECG file")


def test_read_scp__damaged_samples_are_noticed_by_the_checksum() -> None:
    data = bytearray(scp_file(TWELVE, coding="plain"))
    data[-300] ^= 1
    wanted = r"checksum of section 6 of the SCP-ECG file is \d+, but its bytes give \d+"
    assert_rejected(lambda: read_scp(bytes(data)), RejectReason.UNREADABLE, wanted)


def test_read_scp__section_that_is_not_read_may_be_edited() -> None:
    data = bytearray(scp_file(TWELVE))
    data[-1] ^= 1  # in section 7, so that only the checksum of the file and of section 7 are wrong
    ecg = read_scp(bytes(data))
    _assert_is(ecg, TWELVE, 2.5)
    assert ecg.quality_flags == ()


def test_read_scp__no_checksums_at_all_are_flagged() -> None:
    ecg = read_scp(scp_bytes(scp_sections(TWELVE), with_crc=False))
    _assert_is(ecg, TWELVE, 2.5)
    assert ecg.quality_flags == ("checksum_absent",)


def test_is_scp__first_version_without_the_word() -> None:
    old = scp_bytes(scp_sections(TWELVE), magic=bytes(6))
    assert is_scp(old)
    _assert_is(read_scp(old), TWELVE, 2.5)
    assert is_scp(scp_file(TWELVE)[:40])
    for other in (b"", old[:20], bytes(60), b"x" * 60):
        assert not is_scp(other)


# Who, when, and what the device measured.


@pytest.mark.parametrize(
    ("changes", "expected", "unreadable"),
    [
        ({}, dt.datetime(2018, 7, 19, 14, 19, 39), False),
        ({"time": b""}, dt.datetime(2018, 7, 19), False),
        ({"date": b""}, None, False),
        ({"date": bytes(4)}, None, False),
        ({"date": struct.pack("<HBB", 2018, 13, 19)}, None, True),
        ({"date": b"\1\2\3"}, None, True),
        ({"time": b"\1\2"}, None, True),
        ({"time": b"\x19\2\1"}, None, True),
    ],
)
def test_read_scp__date(changes: dict[str, bytes], expected: dt.datetime | None, unreadable: bool) -> None:
    ecg = read_scp(_with(s1=scp_patient(**changes)))  # type: ignore[arg-type]
    assert ecg.recorded_at == expected
    assert ecg.quality_flags == (("date_unreadable",) if unreadable else ())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (scp_patient(participant_id=b" A-7 \0rest"), "A-7"),
        (scp_patient(participant_id=b"\0"), None),
        (scp_patient(participant_id="A-77".encode("utf-16-le") + b"\0\0", language=0x07), "A-77"),
        (scp_tag(2, b"first\0") + scp_tag(2, b"second\0"), "first"),
        (b"", None),
        (None, None),
    ],
)
def test_read_scp__participant(content: bytes | None, expected: str | None) -> None:
    assert read_scp(_with(s1=content)).header_participant_id == expected


def test_read_scp__wrong_lengths_in_section_1_leave_who_and_when_unknown() -> None:
    ecg = read_scp(_with(s1=scp_tag(2, b"A-7\0") + b"\x19\xff\xff\1"))
    assert (ecg.header_participant_id, ecg.recorded_at, ecg.quality_flags) == (None, None, ("date_unreadable",))


@pytest.mark.parametrize(
    ("content", "expected_ms"),
    [
        (scp_global(434, 554), 120.0),
        (scp_global(434, 554, n_blocks=3), 120.0),
        (scp_global(29999, 554), None),
        (scp_global(434, 29999), None),
        (scp_global(554, 434), None),
        (scp_global(0, 100), None),
        (scp_global(434, 19999), None),
        (scp_global(n_blocks=0), None),
        (b"\1", None),
        (None, None),
    ],
)
def test_read_scp__qrs_duration(content: bytes | None, expected_ms: float | None) -> None:
    measurements = read_scp(_with(s7=content)).measurements
    assert measurements.qrs_duration_ms == expected_ms
    assert measurements.measured_by == (None if expected_ms is None else "Mortara ELI 25")


def test_read_scp__amplitudes_of_section_10() -> None:
    waves = {
        "aVL": {"Q": 19999, "R": 639, "S": 0, "R1": 19999, "S1": 19999},
        "V1": {"Q": 0, "R": 195, "S": -1054, "R1": 0, "S1": 0},
        "V3": {"Q": -900, "R": 0, "S": 0, "R1": 0, "S1": 0},
        "V5": {"Q": 0, "R": 29999, "S": 0, "R1": 0, "S1": -20},
        "V6": {"Q": 0, "R": 0, "S": 0, "R1": 0, "S1": 0},
        "V9": {"R": 500},
    }
    found = read_scp(_with(s10=scp_lead_measurements(waves))).measurements
    assert (found.r_avl_uv, found.s_v1_uv, found.s_v3_uv) == (639.0, 1054.0, 900.0)
    # V5: R was not measured. V6: nothing was.
    assert (found.r_v5_uv, found.r_v6_uv) == (None, None)


@pytest.mark.parametrize("content", [b"", b"\1\0\0\0\1", struct.pack("<HHHH", 1, 0, 1, 4) + bytes(4)])
def test_read_scp__short_section_10_measures_nothing(content: bytes) -> None:
    assert read_scp(_with(s10=content)).measurements.r_avl_uv is None


@pytest.mark.parametrize(("n_before", "expected_uv"), [(254, 639.0), (255, None)])
def test_read_scp__number_of_measured_leads_is_limited(n_before: int, expected_uv: float | None) -> None:
    measured = scp_lead_measurements({"aVL": {"Q": 0, "R": 639, "S": 0, "R1": 0, "S1": 0}})
    others = struct.pack("<HH", 15, 0) * n_before
    found = read_scp(_with(s10=measured[:4] + others + measured[4:])).measurements
    assert found.r_avl_uv == expected_uv


@pytest.mark.parametrize(("n_before", "is_read"), [(999, True), (1000, False)])
def test_read_scp__number_of_fields_about_the_person_is_limited(n_before: int, is_read: bool) -> None:
    content = scp_tag(9, b"") * n_before + scp_tag(2, b"A-7\0")
    assert read_scp(_with(s1=content + scp_tag(255, b""))).header_participant_id == ("A-7" if is_read else None)


# The real file.


@needs_real_files
def test_read_scp__real_file_agrees_with_ecgdatakit_and_with_its_aecg() -> None:
    ecg = read_scp(REAL.read_bytes())
    for lead in FileParser().parse(REAL).leads:
        scale = {"uV": 1.0, "mV": 1e3, "": 2.5}[lead.units]
        np.testing.assert_allclose(lead_uv(ecg, lead.label), lead.samples * scale, rtol=0, atol=0.1)
    twin = read_aecg((SHARED_ECG / "hl7_aecg" / "fda_subject1_0.xml").read_bytes())
    np.testing.assert_allclose(ecg.leads_uv, twin.leads_uv, rtol=0, atol=0.1)
    assert (ecg.sampling_rate_hz, ecg.recorded_at) == (twin.sampling_rate_hz, twin.recorded_at)
    assert ecg.measurements.qrs_duration_ms == twin.measurements.qrs_duration_ms == 120.0
    assert len(LEADS_12) == ecg.leads_uv.shape[1]
