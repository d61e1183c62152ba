from __future__ import annotations

import codecs
import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.formats.registry import FORMATS, describe_foreign, format_of, format_with_parts
from tests.file_builders import MUSE_LEADS, cardiosoft_xml, muse_xml, random_counts, wfdb_record
from tests.lvm_core.formats.helpers import SHARED_ECG, needs_real_files

TWELVE = random_counts(n_samples=10)
EIGHT = random_counts(n_samples=10, leads=MUSE_LEADS)
RECORD = wfdb_record(TWELVE)
AECG = b'<?xml version="1.0"?><!-- <RestingECG> --><AnnotatedECG xmlns="urn:hl7-org:v3">'
SIERRA = '<?xml version="1.0" encoding="UTF-16"?><restingecgdata xmlns="http://x">'


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
        (AECG, None),
        (SIERRA.encode("utf-16"), None),
        (SIERRA.encode("utf-8"), None),
        (b"<CardiologyXMLish/>", None),
    ],
)
def test_format_of__goes_by_content(data: bytes, expected: str | None) -> None:
    assert _name_of_format(data) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (bytes(128) + b"DICM\x02\0", "DICOM"),
        (bytes(16) + b"SCPECG", "SCP-ECG"),
        (AECG, "HL7 aECG XML"),
        (SIERRA.encode("utf-16"), "Philips Sierra ECG XML"),
        (b"%PDF-1.7", "PDF"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (_numpy_file(), "a NumPy array"),
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
        ("dicom/*.dcm", None, "DICOM"),
        ("scp/*.scp", None, "SCP-ECG"),
        ("hl7_aecg/*.xml", None, "HL7 aECG XML"),
        ("philips_sierra/*", None, "Philips Sierra ECG XML"),
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
