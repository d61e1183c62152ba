"""No message quotes free text of a file: it may be a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from lvm_core.errors import EcgRejected
from lvm_core.formats.registry import read_ecg
from tests.dicom_builders import dicom_annotation, dicom_bytes, dicom_data_set, dicom_file, dicom_group
from tests.file_builders import (
    MUSE_LEADS,
    aecg_annotation,
    aecg_document,
    aecg_series,
    aecg_xml,
    cardiosoft_table,
    cardiosoft_xml,
    muse_xml,
    philips_xml,
    random_counts,
    wfdb_record,
)
from tests.scp_builders import scp_bytes, scp_file, scp_sections, scp_subtracted

NAME = "Quillfeather"
COUNTS = random_counts(n_samples=6)
TABLE = cardiosoft_table({"RAmplitude": {"V1": 3}, "SAmplitude": {"V1": 4}})
CARDIOSOFT = cardiosoft_xml(COUNTS, table=TABLE).decode("latin-1")
MUSE = muse_xml({lead: COUNTS[lead] for lead in MUSE_LEADS}).decode("latin-1")
PHILIPS_103 = philips_xml(COUNTS).decode()
PHILIPS_104 = philips_xml(COUNTS, version="1.04", compressed=False).decode()
RECORD = wfdb_record(COUNTS, record_line="rec1 12 500 6 10:20:30 01/02/2003")
HEADER = RECORD["rec1.hea"].decode()
AECG = aecg_document(aecg_series(COUNTS, inside=aecg_annotation())).decode("latin-1")
_XML_PARTS = re.compile(r'(?<=>)[^<>]*[^<>\s][^<>]*(?=<)|(?<=")[^"<>]*(?=")|(?<=<)[A-Za-z]\w*')
_HEADER_PARTS = re.compile(r"[^\s/()]+")


def _message(files: dict[str, bytes], main: str) -> str:
    try:
        read_ecg(files, main)
    except EcgRejected as rejected:
        return str(rejected)
    return ""


def _message_of_xml(text: str) -> str:
    return _message({f"{NAME}.xml": text.encode("latin-1")}, f"{NAME}.xml")


def _message_of_header(text: str) -> str:
    dat = RECORD["rec1.dat"]
    return _message({"rec1.hea": text.encode(), "rec1.dat": dat}, "rec1.hea")


DOCUMENTS = [
    pytest.param(CARDIOSOFT, _XML_PARTS, _message_of_xml, id="cardiosoft"),
    pytest.param(MUSE, _XML_PARTS, _message_of_xml, id="muse"),
    pytest.param(PHILIPS_103, _XML_PARTS, _message_of_xml, id="philips_103"),
    pytest.param(PHILIPS_104, _XML_PARTS, _message_of_xml, id="philips_104"),
    pytest.param(AECG, _XML_PARTS, _message_of_xml, id="aecg"),
    pytest.param(HEADER, _HEADER_PARTS, _message_of_header, id="wfdb"),
]


def _named(text: str, parts: re.Pattern[str], by: str) -> Iterator[str]:
    """Yield the text with one part after the other replaced."""
    for match in parts.finditer(text):
        yield f"{text[: match.start()]}{by}{text[match.end() :]}"


@pytest.mark.parametrize("by", [NAME, f"{NAME} & <{NAME}>", f"7 {NAME}"])
@pytest.mark.parametrize(("text", "parts", "message_of"), DOCUMENTS)
def test_read_ecg__a_name_in_any_place_is_in_no_message(
    text: str, parts: re.Pattern[str], message_of: Callable[[str], str], by: str
) -> None:
    messages = [message_of(named) for named in _named(text, parts, by)]
    assert sum(bool(message) for message in messages) > 10
    assert [message for message in messages if NAME.lower() in message.lower()] == []


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_read_ecg__names_in_several_places_are_in_no_message(data: st.DataObject) -> None:
    text, parts, message_of = data.draw(st.sampled_from([d.values for d in DOCUMENTS]))
    n_parts = len(parts.findall(text))
    chosen = data.draw(st.sets(st.integers(0, n_parts - 1), max_size=6))
    numbered = iter(range(n_parts))
    named = parts.sub(lambda match: NAME if next(numbered) in chosen else match[0], text)
    cut = data.draw(st.integers(0, len(named)))
    for damaged in (named, named[:cut]):
        assert NAME.lower() not in message_of(damaged).lower()


@pytest.mark.parametrize("layout", ["16", "212"])
@pytest.mark.parametrize("kept", [0, 5, None])
def test_read_ecg__names_of_files_are_in_no_message(layout: str, kept: int | None) -> None:
    record = wfdb_record(COUNTS, name=NAME, layout=layout)
    record[f"{NAME}.dat"] = record[f"{NAME}.dat"][:kept]
    if kept == 0:
        del record[f"{NAME}.dat"]
    message = _message(record, f"{NAME}.hea")
    assert bool(message) == (layout == "212" or kept is not None)
    assert NAME not in message


def test_read_ecg__foreign_files_are_not_quoted() -> None:
    for data in (f"<{NAME}>", f'<?xml version="1.0" encoding="{NAME}"?><RestingECG/>', f"{NAME} x"):
        message = _message({"a": data.encode()}, "a")
        assert message
        assert NAME not in message


# Formats of bytes: a name laid over any place, and a file that says one in every text.

COUNTS_OF_60 = random_counts(n_samples=60)
BINARY = {
    "dicom": dicom_file(COUNTS, with_median=False),
    "scp": scp_subtracted(COUNTS_OF_60, random_counts(2, n_samples=20), (25,)),
    "scp_without_checksum": scp_bytes(scp_sections(COUNTS), with_crc=False),
}


@pytest.mark.parametrize("name", BINARY)
def test_read_ecg__a_name_over_any_bytes_is_in_no_message(name: str) -> None:
    data = BINARY[name]
    mark = NAME.encode()
    messages = [
        _message({"a": data[:at] + mark + data[at + len(mark) :]}, "a") for at in range(0, len(data) - len(mark), 5)
    ]
    assert sum(bool(message) for message in messages) > 10
    assert [message for message in messages if NAME[:5].lower() in message.lower()] == []


_TEXT_REPRESENTATIONS = frozenset("AE CS DS DT LO LT PN SH ST TM UI".split())


def _text_elements(data_set: Dataset) -> Iterator[DataElement]:
    for element in data_set:
        if element.VR == "SQ":
            for item in element.value:
                yield from _text_elements(item)
        elif element.VR in _TEXT_REPRESENTATIONS:
            yield element


def test_read_ecg__a_name_in_any_text_of_a_dicom_file_is_in_no_message() -> None:
    def made() -> Dataset:
        return dicom_data_set([dicom_group(COUNTS)], dicom_annotation())

    messages = []
    with pydicom.config.disable_value_validation():
        for place in range(len(list(_text_elements(made())))):
            data_set = made()
            element = list(_text_elements(data_set))[place]
            element._value = NAME  # as it is, whatever the representation
            messages.append(_message({"a": _written(data_set)}, "a"))
    assert sum(bool(message) for message in messages) > 10
    assert [message for message in messages if NAME.lower() in message.lower()] == []


def _written(data_set: Dataset) -> bytes:
    for element in _text_elements(data_set):
        if element._value == NAME:
            element.VR = "LO"
    return dicom_bytes(data_set)


@pytest.mark.parametrize("data", [dicom_file(COUNTS), aecg_xml(COUNTS), scp_file(COUNTS)], ids=["dicom", "aecg", "scp"])
def test_read_ecg__names_and_births_are_in_nothing_that_is_read(data: bytes) -> None:
    # The builders put this person into the places of patients' names and births.
    assert b"Somebody" in data
    said = repr(read_ecg({"a": data}, "a"))
    for private in ("Somebody", "Any", "1950", "19500102"):
        assert private not in said
