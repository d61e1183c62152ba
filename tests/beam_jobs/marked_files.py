"""Files of every format whose personal fields hold marked fakes: good ones, and damaged ones."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from lvm_core.synthetic.device_files import MUSE_LEADS
from tests.beam_jobs.job_helpers import CLINICAL_LEADS, people
from tests.dicom_builders import dicom_bytes, dicom_data_set, dicom_group, dicom_statement
from tests.file_builders import (
    aecg_document,
    aecg_series,
    aecg_statements,
    cardiosoft_xml,
    edf_file,
    muse_xml,
    philips_xml,
    wfdb_record,
)
from tests.scp_builders import (
    NUMBER_OF_LEAD,
    SCP_ORDER,
    scp_bytes,
    scp_lead_table,
    scp_sections,
    scp_statements,
    scp_tag,
)

Files = dict[str, bytes]
Counts = dict[str, NDArray[np.int16]]

NAME, ADDRESS, PHYSICIAN, INSTITUTION = "Quorvex", "Zwibbelgasse", "Drokkelmann", "Mumblestift"
COMMENT, STATEMENT = "Flimmerkist", "Trallaband"
BIRTH = "1907-11-23"
IDENTIFIER = "QX7700123"
TECHNICAL = "Wozzelu"  # stands where a unit, a lead, a number or a date is expected
TEXTS = (NAME, ADDRESS, PHYSICIAN, INSTITUTION, COMMENT, STATEMENT, TECHNICAL)
"""What no output may hold, in any case."""

BIRTHS = (BIRTH, "19071123", "11-23-1907", "23.11.1907", "23-NOV-1907", "11/23/1907", "23/11/1907", "1907, 11, 23")

FAILURES = ("good", "truncated", "gain", "lead", "checksum", "amplitude", "date")
"""What is wrong with a file; formats lack some of them."""

WITHOUT = {
    "cardiosoft_xml": {"checksum"},
    "philips_xml": {"checksum"},
    "edf": {"checksum"},
    "hl7_aecg": {"checksum"},
    "dicom": {"checksum"},
    "hdf5": {"checksum", "date"},
    "npz": {"checksum", "date"},
    "mat": {"checksum", "date"},
    "zip": {"date", "gain", "lead", "amplitude"},
    "tar": {"date", "gain", "lead", "amplitude"},
    "gz": {"date", "gain", "lead", "amplitude"},
}
"""Failures that a format cannot have: no checksum, no date, or those of what an archive holds."""


def recording(failure: str) -> Counts:
    """Return counts of 5 uV by lead; too large for a heart, or one lead of no known name."""
    counts = dict(zip(CLINICAL_LEADS, people(1).counts[0], strict=True))
    if failure == "amplitude":
        return {
            lead: np.clip(values.astype(np.int64) * 40, -32000, 32000).astype(np.int16)
            for lead, values in counts.items()
        }
    if failure == "lead":
        return {TECHNICAL if lead == "V3" else lead: values for lead, values in counts.items()}
    return counts


def _cut(data: bytes, failure: str) -> bytes:
    return data[: len(data) * 3 // 5] if failure == "truncated" else data


def _replaced(data: bytes, old: str, new: str) -> bytes:
    assert data.count(old.encode()) >= 1, old
    return data.replace(old.encode(), new.encode())


def _elements(birth: str = BIRTH) -> str:
    """Return elements of XML about a person, as files of several vendors have them."""
    return (
        f"<Name><FamilyName>{NAME}</FamilyName></Name><DateofBirth>{birth}</DateofBirth>"
        f"<Address>{ADDRESS} 5</Address><Physician>{PHYSICIAN}</Physician><Site>{INSTITUTION}</Site>"
        f"<Comment>{COMMENT}</Comment>"
    )


def cardiosoft(failure: str) -> Files:
    changes: dict[str, object] = {}
    if failure == "gain":
        changes["resolution"] = f'<Resolution units="{TECHNICAL}">{TECHNICAL}</Resolution>'
    if failure == "date":
        changes["date"] = (TECHNICAL, "7", "19")
    data = cardiosoft_xml(recording(failure), participant_id=IDENTIFIER, diagnosis=STATEMENT, **changes)  # type: ignore[arg-type]
    return {"a.xml": _cut(_replaced(data, "</PatientInfo>", f"{_elements()}</PatientInfo>"), failure)}


def muse(failure: str) -> Files:
    counts = {lead: values for lead, values in recording(failure).items() if lead in (*MUSE_LEADS, TECHNICAL)}
    changes: dict[str, str] = {}
    if failure == "gain":
        changes = {"LeadAmplitudeUnitsPerBit": TECHNICAL, "LeadAmplitudeUnits": TECHNICAL}
    if failure == "checksum":
        changes["LeadDataCRC32"] = "12345"
    if failure == "date":
        changes["date"] = TECHNICAL
    data = muse_xml(counts, participant_id=IDENTIFIER, statement=STATEMENT, **changes)  # type: ignore[arg-type]
    inside = _elements("11-23-1907")
    return {"a.xml": _cut(_replaced(data, "</PatientDemographics>", f"{inside}</PatientDemographics>"), failure)}


def philips(failure: str) -> Files:
    changes = {"when": f'date="{TECHNICAL}" time="14:19:39"'} if failure == "date" else {}
    data = philips_xml(
        recording(failure), version="1.04", compressed=False, participant_id=IDENTIFIER, statement=STATEMENT, **changes
    )
    if failure == "gain":
        data = _replaced(data, 'resolution="5"', f'resolution="{TECHNICAL}"')
    return {"a.xml": _cut(_replaced(data, "</generalpatientdata>", f"{_elements()}</generalpatientdata>"), failure)}


def edf(failure: str) -> Files:
    data = edf_file(recording(failure), uv_per_count=5, unit=TECHNICAL if failure == "gain" else "uV")
    start = TECHNICAL if failure == "date" else "19-JUL-2018"
    patient = f"{IDENTIFIER} F 23-NOV-1907 {NAME} {ADDRESS} {STATEMENT}".encode()
    made = f"Startdate {start} {INSTITUTION} {PHYSICIAN} {COMMENT}".encode()
    return {"a.edf": _cut(data[:8] + patient.ljust(80) + made.ljust(80) + data[168:], failure)}


def wfdb(failure: str) -> Files:
    comments = (
        f"# Name: {NAME}\n# Birth: {BIRTH}\n# Address: {ADDRESS}\n# Dx: {STATEMENT}, {IDENTIFIER}\n"
        f"# Doctor: {PHYSICIAN} at {INSTITUTION}\n# {COMMENT}\n"
    )
    changes: dict[str, object] = {"gain": "200.0(0)/mV"}
    if failure == "gain":
        changes["gain"] = f"200/{TECHNICAL}"
    if failure == "checksum":
        changes["checksum"] = 12345
    day = TECHNICAL if failure == "date" else "19/07/2018"
    files = wfdb_record(
        recording(failure),
        comments=comments,
        record_line=f"rec1 12 500 5000 14:19:39 {day}",
        **changes,  # type: ignore[arg-type]
    )
    return {name: _cut(data, failure) if name.endswith(".dat") else data for name, data in files.items()}


def aecg(failure: str) -> Files:
    changes = {"unit": TECHNICAL} if failure == "gain" else {"scale": "5"}
    value = '<value xsi:type="ST">{}</value>'
    stated = aecg_statements(
        ("MDC_ECG_INTERPRETATION_STATEMENT", value.format(STATEMENT)),
        ("MDC_ECG_INTERPRETATION_COMMENT", value.format(COMMENT)),
    )
    data = aecg_document(aecg_series(recording(failure), inside=stated, **changes), participant_id=IDENTIFIER)
    data = _replaced(data, "Somebody Any", NAME)
    data = _replaced(data, '"19500102"/>', f'"19071123"/>{_elements("19071123")}')
    if failure == "date":
        data = _replaced(data, "20180719141939.250", TECHNICAL)
    return {"a.xml": _cut(data, failure)}


def dicom(failure: str) -> Files:
    group = dicom_group(recording(failure), sensitivity="5", unit=TECHNICAL if failure == "gain" else "uV")
    data = dicom_data_set([group], dicom_statement(STATEMENT), dicom_statement(value=COMMENT))
    data.PatientName, data.PatientID, data.PatientBirthDate = f"{NAME}^Any", IDENTIFIER, "19071123"
    data.PatientAddress, data.InstitutionName, data.ReferringPhysicianName = ADDRESS, INSTITUTION, PHYSICIAN
    data.PatientComments = COMMENT
    data.private_block(0x0011, "OURS", create=True).add_new(0x01, "LO", NAME)
    made = dicom_bytes(data)
    if failure == "date":
        made = _replaced(made, "20180719141939.250", TECHNICAL.ljust(18))
    return {"a.dcm": _cut(made, failure)}


def scp(failure: str) -> Files:
    counts = recording(failure)
    ordered = {lead: counts[lead] for lead in (*SCP_ORDER, TECHNICAL) if lead in counts}
    sections = scp_sections(ordered, nv=0 if failure == "gain" else 5000)
    if failure == "lead":
        sections[3] = scp_lead_table([NUMBER_OF_LEAD.get(lead, 15) for lead in ordered], 5000)
    device = bytes(8) + b"Cart 1" + bytes([20, 0xA0, 0]) + bytes(19) + b"prog\0serial\0system\0scp\0Maker\0"
    texts = {0: NAME, 1: NAME, 2: IDENTIFIER, 16: INSTITUTION, 20: PHYSICIAN, 30: COMMENT, 31: ADDRESS}
    fields = {tag: text.encode() + b"\0" for tag, text in texts.items()}
    fields |= {5: struct.pack("<HBB", 1907, 11, 23), 14: device}
    fields |= {
        25: TECHNICAL.encode() if failure == "date" else struct.pack("<HBB", 2018, 7, 19),
        26: bytes((14, 19, 39)),
    }
    sections[1] = b"".join(scp_tag(tag, value) for tag, value in sorted(fields.items())) + scp_tag(255, b"")
    sections[8] = scp_statements(STATEMENT.encode() + b"\0")
    data = scp_bytes(sections)
    if failure == "checksum":
        place = data.index(bytes(sections[6][100:140]))
        data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    return {"a.scp": _cut(data, failure)}


_STRINGS = {"name": NAME, "birth": BIRTH, "id": IDENTIFIER, "address": ADDRESS, "doctor": PHYSICIAN}
_STRINGS |= {"site": INSTITUTION, "comment": COMMENT, "statement": STATEMENT}


def _array_mv(failure: str) -> NDArray[np.generic]:
    """Return (5000, 12) float32 mV; as texts, or with a lead too few."""
    values = (
        np.column_stack(list(recording("good" if failure == "lead" else failure).values())).astype(np.float32) * 0.005
    )
    if failure == "gain":
        return np.full(values.shape, TECHNICAL.encode())
    return values[:, :11] if failure == "lead" else values


def hdf5(failure: str) -> Files:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for field, text in _STRINGS.items():
            file[field] = file.attrs[field] = np.bytes_(text)
        samples = file.create_dataset("x", data=_array_mv(failure))
        samples.attrs["comment"] = COMMENT
    return {"a.hdf5": _cut(buffer.getvalue(), failure)}


def npz(failure: str) -> Files:
    buffer = io.BytesIO()
    # Texts of NumPy are UTF-32; bytes are what can be looked for.
    texts = {field: np.array([text.encode()]) for field, text in _STRINGS.items()}
    np.savez(buffer, **texts, x=_array_mv(failure))
    return {"a.npz": _cut(buffer.getvalue(), failure)}


def mat(failure: str) -> Files:
    buffer = io.BytesIO()
    array = _array_mv(failure)
    scipy.io.savemat(buffer, {**_STRINGS, "x": array.astype(str) if failure == "gain" else array})
    return {"a.mat": _cut(buffer.getvalue(), failure)}


_ARCHIVE_COMMENT = " ".join((NAME, BIRTH, ADDRESS, PHYSICIAN, INSTITUTION, COMMENT, STATEMENT, IDENTIFIER))


def zipped(failure: str) -> Files:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as packed:
        packed.comment = _ARCHIVE_COMMENT.encode()
        entry = zipfile.ZipInfo("a.xml")
        entry.comment = _ARCHIVE_COMMENT.encode()
        packed.writestr(entry, cardiosoft("good")["a.xml"])
    return {"a.zip": _damaged(sink.getvalue(), failure)}


def tarred(failure: str) -> Files:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as packed:
        data = cardiosoft("good")["a.xml"]
        entry = tarfile.TarInfo("a.xml")
        entry.size, entry.uname, entry.gname = len(data), NAME, PHYSICIAN
        entry.pax_headers = {"comment": _ARCHIVE_COMMENT}
        packed.addfile(entry, io.BytesIO(data))
    made = sink.getvalue()
    if failure == "checksum":  # of the header of the member
        place = made.index(b"a.xml")
        return {"a.tar": made[:place] + b"b" + made[place + 1 :]}
    return {"a.tar": _cut(made, failure)}


def gzipped(failure: str) -> Files:
    sink = io.BytesIO()
    with gzip.GzipFile(_ARCHIVE_COMMENT, "wb", fileobj=sink) as packed:
        packed.write(cardiosoft("good")["a.xml"])
    made = sink.getvalue()
    if failure == "checksum":
        made = made[:-8] + bytes(4) + made[-4:]
    return {"a.xml.gz": _cut(made, failure)}


def _damaged(made: bytes, failure: str) -> bytes:
    """Return an archive whose member is stored as it is, damaged in its middle or cut."""
    if failure == "checksum":
        place = made.index(b"StripData") + 2000
        made = (
            made[:place] + b"7" + made[place + 1 :]
            if made[place : place + 1] != b"7"
            else made[:place] + b"8" + made[place + 1 :]
        )
    return _cut(made, failure)


DEVICE_FILES: Mapping[str, Callable[[str], Files]] = {
    "cardiosoft_xml": cardiosoft,
    "muse_xml": muse,
    "philips_xml": philips,
    "edf": edf,
    "wfdb": wfdb,
    "hl7_aecg": aecg,
    "dicom": dicom,
    "scp_ecg": scp,
}
"""Makers of files by the name of their format."""

ARRAYS: Mapping[str, Callable[[str], Files]] = {"hdf5": hdf5, "npz": npz, "mat": mat}
ARCHIVES: Mapping[str, Callable[[str], Files]] = {"zip": zipped, "tar": tarred, "gz": gzipped}


def as_written(kind: str, files: Files) -> bytes:
    """Return what the files hold, unpacked where they are compressed."""
    data = b"".join(files.values())
    return (
        data + zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[data.index(b"\0", 10) + 1 :])
        if kind == "gz"
        else data
    )
