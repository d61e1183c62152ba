from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import wfdb
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.errors import RejectReason
from lvm_core.formats.wfdb import parse_segments, read_wfdb, signal_files
from lvm_core.formats.wfdb_samples import SAMPLE_FORMATS, unpack
from lvm_core.signal.ecg import LEADS_12, Ecg
from tests.file_builders import random_counts, wfdb_packed_212, wfdb_record, wfdb_segments
from tests.lvm_core.formats.helpers import assert_rejected

LARGEST = {80: 127, 212: 2047, 16: 32767, 24: 2**23 - 1, 32: 2**30}


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _expected_uv(path: Path) -> np.ndarray:
    """Return the leads as the wfdb package reads them, (n_samples, 12) microvolts."""
    record = wfdb.rdrecord(str(path), physical=False)
    counts = record.d_signal.astype(np.float64)
    missing = np.array([SAMPLE_FORMATS[int(fmt)].missing_count or 2**60 for fmt in record.fmt])
    uv = (counts - record.baseline) * 1e3 / np.array(record.adc_gain)
    return np.where(counts == missing, np.nan, uv).astype(np.float32)


@pytest.mark.parametrize("number", LARGEST)
@pytest.mark.parametrize("n_samples", [50, 51])
@pytest.mark.parametrize("leads", [LEADS_12, ("II", "I", "V6", "V5", "V4", "V3", "V2", "V1", "aVR")])
def test_read_wfdb__what_the_wfdb_package_wrote(
    number: int, n_samples: int, leads: tuple[str, ...], tmp_path: Path
) -> None:
    rng = np.random.default_rng(number)
    counts = rng.integers(-LARGEST[number], LARGEST[number], (n_samples, len(leads)), endpoint=True)
    counts[3, 2] = SAMPLE_FORMATS[number].missing_count
    n = len(leads)
    wfdb.wrsamp(
        "r",
        500,
        ["mV"] * n,
        list(leads),
        d_signal=counts,
        fmt=[str(number)] * n,
        adc_gain=[200.0] * n,
        baseline=[3] * n,
        write_dir=str(tmp_path),
    )
    ecg = read_wfdb(_files(tmp_path), "r.hea")
    theirs = _expected_uv(tmp_path / "r")
    for column, lead in enumerate(leads):
        np.testing.assert_array_equal(ecg.leads_uv[:, LEADS_12.index(lead)], theirs[:, column])
    assert np.isnan(theirs).sum() == 1
    assert ecg.quality_flags == ()


def _record(number: int, raw: bytes, n_frames: int) -> dict[str, bytes]:
    counts = random_counts(n_samples=n_frames)
    record = wfdb_record(counts, layout=str(number), checksum=0)
    return {**record, "rec1.dat": raw}


@pytest.mark.parametrize("number", SAMPLE_FORMATS)
@pytest.mark.parametrize("n_frames", [6, 7])
def test_read_wfdb__any_bytes_are_what_the_wfdb_package_reads(number: int, n_frames: int, tmp_path: Path) -> None:
    raw = np.random.default_rng(number).integers(0, 256, SAMPLE_FORMATS[number].n_bytes(12 * n_frames), dtype=np.uint8)
    if number == 311:
        raw[3::4] &= 63  # two bits without a use, of which the package reads one
    record = _record(number, raw.tobytes(), n_frames)
    for name, data in record.items():
        (tmp_path / name).write_bytes(data)
    np.testing.assert_array_equal(read_wfdb(record, "rec1.hea").leads_uv, _expected_uv(tmp_path / "rec1"))


@pytest.mark.parametrize(
    ("number", "raw", "expected"),
    [
        (8, "01 ff 80", [1, -1, -128]),
        (16, "01 00 ff ff", [1, -1]),
        (24, "01 00 00 ff ff ff 00 00 80", [1, -1, -(2**23)]),
        (32, "01 00 00 00 00 00 00 80", [1, -(2**31)]),
        (61, "00 01 80 00", [1, -32768]),
        (80, "80 81 00 ff", [0, 1, -128, 127]),
        # The low byte of the first, high bits of both, the low byte of the second.
        (212, "01 f0 ff", [1, -1]),
        (212, "ff 7f 00", [-1, 1792]),
        (212, "05 00", [5]),
        # Ten bits above the lowest one of each pair of bytes, and five bits of both for the third.
        (310, "02 00 fe 07 ", [1, -1, 0]),
        (310, "00 08 00 00", [0, 0, 1]),
        (310, "00 00 00 80", [0, 0, -512]),
        (310, "04 00", [2]),
        # Ten bits each of a word of 32 bits, the lowest first.
        (311, "01 08 30 00", [1, 2, 3]),
        (311, "ff ff ff 3f", [-1, -1, -1]),
        (311, "01 08 00", [1, 2]),
        (311, "00 02", [-512]),
    ],
)
def test_unpack__hand_worked(number: int, raw: str, expected: list[int]) -> None:
    data = bytes.fromhex(raw)
    assert unpack(data, number, len(expected)).tolist() == expected
    packing = SAMPLE_FORMATS[number]
    assert packing.n_bytes(len(expected)) == len(data)
    assert packing.n_samples(len(data)) == len(expected)


@given(st.sampled_from(sorted(SAMPLE_FORMATS)), st.integers(0, 400))
def test_sample_format__bytes_of_samples_hold_these_samples(number: int, n_samples: int) -> None:
    packing = SAMPLE_FORMATS[number]
    assert packing.n_samples(packing.n_bytes(n_samples)) >= n_samples
    assert packing.n_bytes(packing.n_samples(n_samples)) <= n_samples


def test_read_wfdb__format_212_of_the_tests_is_that_of_format_16() -> None:
    counts = random_counts(n_samples=20)
    expected = read_wfdb(wfdb_record(counts), "rec1.hea").leads_uv
    np.testing.assert_array_equal(read_wfdb(wfdb_packed_212(counts), "rec1.hea").leads_uv, expected)


@pytest.mark.parametrize("number", [8, 24, 32, 80, 212, 310, 311])
def test_read_wfdb__another_size_than_the_header_says_is_refused(number: int) -> None:
    size = SAMPLE_FORMATS[number].n_bytes(12 * 7)
    for n_bytes in (size - 1, size + 4):
        record = _record(number, bytes(n_bytes), 7)
        wanted = f"holds {n_bytes} bytes of samples; expected 7 samples of"
        assert_rejected(lambda r=record: read_wfdb(r, "rec1.hea"), RejectReason.TRUNCATED, wanted)


def test_read_wfdb__length_not_stated_in_a_packed_format() -> None:
    record = _record(212, bytes(range(180)), 10)
    unstated = {**record, "rec1.hea": record["rec1.hea"].replace(b"500 10\n", b"500\n")}
    np.testing.assert_array_equal(read_wfdb(unstated, "rec1.hea").leads_uv, read_wfdb(record, "rec1.hea").leads_uv)


@pytest.mark.parametrize(("number", "expected"), [(8, -77), (16, 0), (212, 0)])
def test_read_wfdb__initial_value_counts_in_format_8_alone(number: int, expected: int) -> None:
    counts = random_counts(n_samples=2)
    record = wfdb_record(counts, layout=str(number), checksum=0, initial_value=-77)
    zeros = bytes(SAMPLE_FORMATS[number].n_bytes(24))
    np.testing.assert_array_equal(read_wfdb({**record, "rec1.dat": zeros}, "rec1.hea").leads_uv, expected)


def test_read_wfdb__samples_of_a_lead_are_limited() -> None:
    record = _record(80, bytes(24), 2)
    record["rec1.hea"] = record["rec1.hea"].replace(b"500 2\n", b"500 1300001\n")
    wanted = "has 1300001 samples of a lead, the limit is 1300000"
    assert_rejected(lambda: read_wfdb(record, "rec1.hea"), RejectReason.UNREADABLE, wanted)


# Records that are cut into segments


def _segments(*lengths: int) -> dict[str, bytes]:
    return wfdb_segments(*(random_counts(number, n_samples=n) for number, n in enumerate(lengths, start=1)))


def _read(files: dict[str, bytes]) -> Ecg:
    return read_wfdb(files, "rec1.hea")


def test_read_segments__are_joined_as_the_wfdb_package_joins_them(tmp_path: Path) -> None:
    files = _segments(40, 7, 53)
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    ecg = _read(files)
    theirs = wfdb.rdrecord(str(tmp_path / "rec1"), m2s=True)
    assert ecg.n_samples == 100
    np.testing.assert_allclose(ecg.leads_uv, theirs.p_signal * 1e3, rtol=1e-6, atol=0)
    assert (str(ecg.recorded_at), ecg.sampling_rate_hz, ecg.quality_flags) == ("2019-05-17 10:11:12", 500.0, ())


def test_read_segments__gap_is_missing_samples_and_an_empty_segment_is_none() -> None:
    files = _segments(40, 60)
    head = b"rec1/4 12 500 130\nlayout 0\nrec1_1 40\n~ 30\nrec1_2 60\n"
    ecg = _read({**files, "rec1.hea": head})
    assert np.flatnonzero(np.isnan(ecg.leads_uv).all(axis=1)).tolist() == list(range(40, 70))
    assert int(np.isnan(ecg.leads_uv).sum()) == 30 * 12
    whole = _read(files).leads_uv
    np.testing.assert_array_equal(np.delete(ecg.leads_uv, range(40, 70), axis=0), whole)


def test_read_segments__a_segment_may_come_twice_and_ten_follows_nine() -> None:
    names = [f"rec1_{number}" for number in (1, 9, 9, 10)]
    lines = "".join(f"{name} 5\n" for name in ["other_20", *names])
    found = parse_segments(f"rec1/5 12 500 25\n{lines}".encode())
    assert found is not None
    assert [name for name, _ in found.segments] == ["other_20", *names]


def test_read_segments__missing_samples_of_a_segment_stay_missing() -> None:
    files = _segments(40)
    counts = random_counts(9, n_samples=10)
    counts["V3"][4] = -32768
    files |= wfdb_record(counts, name="rec1_2", gain="200.0(0)/mV")
    files["rec1.hea"] = b"rec1/2 12 500 50\nrec1_1 40\nrec1_2 10\n"
    ecg = _read(files)
    assert np.argwhere(np.isnan(ecg.leads_uv)).tolist() == [[44, LEADS_12.index("V3")]]


def _without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {key: data for key, data in files.items() if key != name}


GOOD = _segments(40, 60)


@pytest.mark.parametrize(
    ("files", "reason", "message"),
    [
        (
            _without(GOOD, "rec1_2.hea"),
            RejectReason.TRUNCATED,
            "header of segment 2 of 2 of the WFDB record is missing",
        ),
        (_without(GOOD, "rec1_2.dat"), RejectReason.TRUNCATED, "signal file 1 of 1 of the WFDB record is missing"),
        (
            GOOD | {"rec1_2.hea": GOOD["rec1_2.hea"].replace(b" 500 ", b" 250 ")},
            RejectReason.UNREADABLE,
            "segment 2 of 2 .* states 250 Hz and 60 samples, its record 500 Hz and 60 samples",
        ),
        (
            GOOD | {"rec1.hea": GOOD["rec1.hea"].replace(b"rec1_2 60", b"rec1_2 61")},
            RejectReason.UNREADABLE,
            "states 500 Hz and 60 samples, its record 500 Hz and 61 samples",
        ),
        (
            GOOD
            | {
                "rec1.hea": GOOD["rec1.hea"].replace(b"rec1_2 60", b"rec1_2 61"),
                "rec1_2.hea": GOOD["rec1_2.hea"].replace(b"500 60", b"500"),
            },
            RejectReason.TRUNCATED,
            "segment 2 of 2 of the WFDB record holds another number of samples than 61",
        ),
        (
            GOOD | {"rec1_2.hea": GOOD["rec1_2.hea"].replace(b"200.0(0)/mV", b"100.0(0)/mV", 1)},
            RejectReason.UNREADABLE,
            "segments of the WFDB record state different leads or scales of lead I;",
        ),
        (GOOD | {"rec1_1.hea": GOOD["rec1.hea"]}, RejectReason.UNREADABLE, "is itself cut into segments"),
        (
            GOOD | {"rec1.hea": b"rec1/3 12 500 100\nrec1_1 40\nrec1_2 60\n"},
            RejectReason.TRUNCATED,
            "declares 3 segments but has 2 segment lines",
        ),
        (GOOD | {"rec1.hea": b"rec1/1 12 500 100\nrec1_1\n"}, RejectReason.UNREADABLE, "segment line 1 cannot be"),
        (
            GOOD | {"rec1.hea": b"rec1/3 12 500\nrec1_2 60\n~ 10\nrec1_1 40\n"},
            RejectReason.UNREADABLE,
            "segment line 3 names an earlier segment than the line before",
        ),
        (GOOD | {"rec1.hea": b"rec1/1 12 500 9\n~ 999999999\n"}, RejectReason.UNREADABLE, "1 segments with 999999999"),
        (GOOD | {"rec1.hea": b"rec1/1 12 500 9\n~ 9\n"}, RejectReason.MISSING_LEAD, "none of the twelve"),
        (GOOD | {"rec1.hea": b"rec1/1 12 0 40\nrec1_1 40\n"}, RejectReason.UNSUPPORTED_RATE, "a sampling rate of 0 Hz"),
        (
            GOOD | {"rec1.hea": b"rec1/1001 12 500 1001\n" + 1001 * b"rec1_1 1\n"},
            RejectReason.UNREADABLE,
            "has 1001 segments",
        ),
    ],
)
def test_read_segments__damage_is_refused(files: dict[str, bytes], reason: RejectReason, message: str) -> None:
    assert_rejected(lambda: _read(files), reason, message)


def test_read_segments__checksums_are_compared() -> None:
    assert _read(_segments(40)).quality_flags == ()
    damaged = bytearray(GOOD["rec1_2.dat"])
    damaged[5] ^= 1
    assert_rejected(lambda: _read({**GOOD, "rec1_2.dat": bytes(damaged)}), RejectReason.UNREADABLE, "checksum of lead")


def test_signal_files__of_segments_are_their_headers_without_gaps() -> None:
    header = b"rec1/4 8 500 20\nrec1_1 5\n~ 5\nrec1_1 5\nrec1_2 5\n"
    assert signal_files(header) == ("rec1_1.hea", "rec1_2.hea")
