from __future__ import annotations

import codecs
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.registry import (
    FORMATS,
    MAX_RECORD_BYTES,
    describe_foreign,
    format_of,
    format_with_parts,
    read_ecg,
    size_problem,
)
from tests.dicom_builders import dicom_file
from tests.file_builders import (
    MUSE_LEADS,
    aecg_document,
    aecg_series,
    aecg_xml,
    cardiosoft_xml,
    muse_xml,
    random_counts,
    wfdb_record,
)
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_rejected, needs_real_files
from tests.scp_builders import scp_bytes, scp_file, scp_sections

TWELVE = random_counts(n_samples=10)
EIGHT = random_counts(n_samples=10, leads=MUSE_LEADS)
RECORD = wfdb_record(TWELVE)
AECG = b'<?xml version="1.0"?><!-- <RestingECG> --><AnnotatedECG xmlns="urn:hl7-org:v3">'
SIERRA = '<?xml version="1.0" encoding="UTF-16"?><restingecgdata xmlns="http://x">'


SCHILLER = b"<examdescript><eventdata><event><wavedata><type>ECG_RHYTHMS</type></wavedata></event></eventdata>"


def _name_of_format(data: bytes) -> str | None:
    found = format_of(data)
    return None if found is None else found.name


def _numpy_file() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (cardiosoft_xml(TWELVE), "cardiosoft_xml"),
        (cardiosoft_xml(TWELVE, encoding="utf-16"), "cardiosoft_xml"),
        (cardiosoft_xml(TWELVE, declaration=""), "cardiosoft_xml"),
        (cardiosoft_xml(TWELVE, declaration='<?xml version="1.0" encoding="x"?>'), "cardiosoft_xml"),
        (codecs.BOM_UTF8 + cardiosoft_xml(TWELVE, encoding="utf-8"), "cardiosoft_xml"),
        (cardiosoft_xml(TWELVE)[:300], "cardiosoft_xml"),
        (muse_xml(EIGHT), "muse_xml"),
        (muse_xml(EIGHT, matrix=""), "muse_xml"),
        (RECORD["rec1.hea"], "wfdb"),
        (codecs.BOM_UTF8 + RECORD["rec1.hea"], "wfdb"),
        (wfdb_record(TWELVE, record_line="a.b 12 500/500(0) 10 10:00:00")["rec1.hea"], "wfdb"),
        (b"# a comment\r\nrec1 12\r\nrec1.dat 16 200 16 0 0 0 0 I\r\n", "wfdb"),
        (b"rec1/3 12 500 30\nrec1_1 10\n", "wfdb"),
        (b"rec1 12 500 5000\n", "wfdb"),
        (b"rec1 12\n", None),
        (b"rec1 0 500 5000\n", None),
        (b"hello 12 monkeys\nand more text\n", None),
        (b"rec1 12 500 5000\n\0\0\0", None),
        (b"# only comments\n", None),
        (b"ecg_id,age\n1,50\n", None),
        (b"", None),
        (b"\0\0\0\0", None),
        (AECG, "hl7_aecg"),
        (aecg_xml(TWELVE), "hl7_aecg"),
        (bytes(128) + b"DICM", "dicom"),
        (b"<RestingECG/>".ljust(128) + b"DICM", "muse_xml"),
        (dicom_file(TWELVE), "dicom"),
        (scp_file(TWELVE), "scp_ecg"),
        (scp_file(TWELVE)[:22], "scp_ecg"),
        (scp_bytes(scp_sections(TWELVE), magic=bytes(6)), "scp_ecg"),
        (SIERRA.encode("utf-16"), "philips_xml"),
        (SIERRA.encode("utf-8"), "philips_xml"),
        (b"<CardiologyXMLish/>", None),
    ],
)
def test_format_of__goes_by_content(data: bytes, expected: str | None) -> None:
    assert _name_of_format(data) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (SCHILLER, "Schiller XML"),
        (b'<ECG ACQUISITION_TIME="x"><CHANNEL UNITS_PER_MV="400"/></ECG>', "Mortara ELI XML"),
        (b"<ECG><CHANNEL/></ECG>", "an XML document with an unknown root element (a name of 3 characters)"),
        (b"@ MFR Standard 12 leads ECG", "MFER"),
        (b"ISHNE1.0", "ISHNE Holter"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89HDF\r\n\x1a\n", "HDF5, which is read with --layout FILE (docs/layouts.md)"),
        (_numpy_file(), "a NumPy array, which is read with --layout FILE (docs/layouts.md)"),
        (gzip.compress(b"x", mtime=0), "gzip-compressed data"),
        (b"<html><body/>", "an HTML page"),
        (b"<unheard_of/>", "an XML document with an unknown root element (a name of 10 characters)"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer, not the file itself"),
        (b"any text", None),
        (b"", None),
        (cardiosoft_xml(TWELVE), None),
        (RECORD["rec1.hea"], None),
    ],
)
def test_describe_foreign__names_what_it_knows(data: bytes, expected: str | None) -> None:
    assert describe_foreign(data) == expected


@given(st.binary(max_size=200))
def test_format_of__any_bytes_have_a_format_or_none(data: bytes) -> None:
    assert format_of(data) in {None, *FORMATS}
    described = describe_foreign(data)
    assert described is None or described


@needs_real_files
@pytest.mark.parametrize(
    ("pattern", "format_name", "foreign"),
    [
        ("cardiosoft_xml/*.xml", "cardiosoft_xml", None),
        ("muse_xml/*.xml", "muse_xml", None),
        ("wfdb/*/*.hea", "wfdb", None),
        ("dicom/*.dcm", "dicom", None),
        ("scp/*.scp", "scp_ecg", None),
        ("hl7_aecg/*.xml", "hl7_aecg", None),
        ("philips_sierra/*", "philips_xml", None),
    ],
)
def test_format_of__real_files(pattern: str, format_name: str | None, foreign: str | None) -> None:
    paths = sorted(SHARED_ECG.glob(pattern))
    assert paths
    for path in paths:
        assert _name_of_format(path.read_bytes()) == format_name, path.name
        assert describe_foreign(path.read_bytes()) == foreign, path.name


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/rec.hea", "wfdb"), ("A.HEA", "wfdb"), ("rec.dat", None), ("rec.xml", None), ("hea", None), ("a.hea.gz", None)],
)
def test_format_with_parts__goes_by_the_suffix(path: str, expected: str | None) -> None:
    found = format_with_parts(path)
    assert (None if found is None else found.name) == expected


@pytest.mark.parametrize(("data", "expected"), [(RECORD["rec1.hea"], ("rec1.dat",)), (b"\0", ()), (b"", ())])
def test_part_names__are_those_of_the_header(data: bytes, expected: tuple[str, ...]) -> None:
    names = next(one.part_names for one in FORMATS if one.name == "wfdb")
    assert names is not None
    assert names(data) == expected


def test_formats__each_has_its_own_names_and_a_section_in_the_documents() -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    for field in ("name", "option", "title"):
        assert len({getattr(one, field) for one in FORMATS}) == len(FORMATS)
    assert [one.title for one in FORMATS if f"\n## {one.title}\n" not in page] == []


TWELVE_OF_50 = random_counts(n_samples=50)
SHORT = random_counts(n_samples=6)


@pytest.mark.parametrize(
    ("files", "main", "expected"),
    [
        ({"a": cardiosoft_xml(TWELVE_OF_50)}, "a", "cardiosoft_xml"),
        ({"b": muse_xml(random_counts(n_samples=50, leads=MUSE_LEADS))}, "b", "muse_xml"),
        (wfdb_record(TWELVE_OF_50), "rec1.hea", "wfdb"),
        ({"a": dicom_file(TWELVE_OF_50)}, "a", "dicom"),
        ({"a": aecg_xml(TWELVE_OF_50)}, "a", "hl7_aecg"),
        ({"a": scp_file(TWELVE_OF_50)}, "a", "scp_ecg"),
    ],
)
def test_read_ecg__goes_by_content(files: dict[str, bytes], main: str, expected: str) -> None:
    ecg = read_ecg(files, main)
    assert ecg.source_format == expected
    assert ecg.n_samples == 50


DICOM_OF_6, AECG_OF_6, SCP_OF_6 = (
    dicom_file(SHORT, with_median=False),
    aecg_document(aecg_series(SHORT)),
    scp_file(SHORT),
)


def _files(kind: int) -> tuple[dict[str, bytes], str]:
    if kind == 0:
        return {"a": cardiosoft_xml(SHORT)}, "a"
    if kind == 1:
        return {"a": muse_xml(SHORT, median_first=False)}, "a"
    if kind > 2:
        return {"a": (DICOM_OF_6, AECG_OF_6, SCP_OF_6)[kind - 3]}, "a"
    return wfdb_record(SHORT), "rec1.hea"


@given(st.integers(0, 5), st.integers(0, 10**6), st.binary(max_size=6), st.integers(0, 6))
def test_read_ecg__damage_is_rejected_and_nothing_worse(
    kind: int, position: int, inserted: bytes, n_removed: int
) -> None:
    files, main = _files(kind)
    data = files[main]
    position %= len(data)
    damaged = data[:position] + inserted + data[position + n_removed :]
    try:
        ecg = read_ecg({**files, main: damaged}, main)
    except EcgRejected:
        return
    assert ecg.leads_uv.shape[1] == 12


@given(st.integers(0, 5), st.integers(0, 10**6))
def test_read_ecg__cut_file_never_gives_another_signal(kind: int, position: int) -> None:
    files, main = _files(kind)
    cut = {**files, main: files[main][: position % len(files[main])]}
    try:
        ecg = read_ecg(cut, main)
    except EcgRejected:
        return
    np.testing.assert_array_equal(ecg.leads_uv, read_ecg(files, main).leads_uv)


def test_read_ecg__empty_file_is_truncated() -> None:
    assert_rejected(lambda: read_ecg({"a.xml": b""}, "a.xml"), RejectReason.TRUNCATED, "file is empty, 0 bytes")


def test_read_ecg__size_of_all_files_together_is_limited() -> None:
    files = {"a": cardiosoft_xml(TWELVE_OF_50)}
    files["b"] = bytes(MAX_RECORD_BYTES - len(files["a"]))
    assert read_ecg(files, "a").n_samples == 50
    files["b"] += b"?"
    wanted = "recording has more than 20000000 bytes, the limit"
    assert_rejected(lambda: read_ecg(files, "a"), RejectReason.UNREADABLE, wanted)


def test_size_problem__real_files_are_far_below_the_limit() -> None:
    # The record s0010_re of PTB: 921,600 and 230,400 bytes of signals.
    assert size_problem(10 * 1_152_000) is None
    assert size_problem(MAX_RECORD_BYTES) is None
    assert size_problem(MAX_RECORD_BYTES + 1) is not None


def test_read_ecg__foreign_file_is_named() -> None:
    wanted = r"file is PDF; expected CardioSoft XML, MUSE XML, .* WFDB \(the .hea file\), .* or SCP-ECG"
    assert_rejected(lambda: read_ecg({"a": b"%PDF-1.7"}, "a"), RejectReason.NOT_AN_ECG, wanted)
    wanted = "file is Schiller XML, which is not read; export it as CardioSoft XML, .* or SCP-ECG"
    assert_rejected(lambda: read_ecg({"a": SCHILLER}, "a"), RejectReason.NOT_AN_ECG, wanted)


def test_read_ecg__unknown_file_is_not_an_ecg() -> None:
    assert_rejected(lambda: read_ecg({"a": b"some text"}, "a"), RejectReason.NOT_AN_ECG, "file is of an unknown format")


def test_read_ecg__main_not_given_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="main is 'b', expected one of the 1 names"):
        read_ecg({"a": b"x"}, "b")
