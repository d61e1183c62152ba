"""The one entry point: bytes of any supported format in, `Ecg` out."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Final

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.formats.muse import read_muse
from lvm_core.formats.wfdb import read_wfdb
from lvm_core.formats.xml import decode_xml, root_name
from lvm_core.signal.ecg import Ecg

_OURS_BY_ROOT: Final = {"CardiologyXML": "cardiosoft_xml", "RestingECG": "muse_xml"}
_FOREIGN_BY_ROOT: Final = {
    "AnnotatedECG": "HL7 aECG XML",
    "restingecgdata": "Philips Sierra ECG XML",
    "sapphire": "GE Sapphire XML",
    "html": "an HTML page",
}
# Offset, bytes, name.
_FOREIGN_BY_MAGIC: Final = (
    (128, b"DICM", "DICOM"),
    (16, b"SCPECG", "SCP-ECG"),
    (0, b"%PDF", "PDF"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x1f\x8b", "gzip-compressed data"),
    (0, b"BZh", "bzip2-compressed data"),
    (0, b"\xfd7zXZ\0", "xz-compressed data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"PAR1", "Parquet"),
    (0, b"MATLAB 5.0", "a MATLAB file"),
    (20, b"val\0", "the MATLAB signal file of a WFDB record, whose header is the .hea file"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"0       ", "EDF"),
    (0, b"\xffBIOSEMI", "BDF"),
    (0, b"ISHNE1.0", "ISHNE Holter"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)
_RECORD_LINE: Final = re.compile(
    r"[^\s#<>,;]+?(?P<segments>/\d{1,9})?[ \t]+(?P<n_signals>\d{1,9})"
    r"(?P<rest>(?:[ \t]+\d[\d.eE+]*(?:/[\d.eE+]+)?(?:\(-?[\d.eE+]+\))?(?:[ \t]+.*)?)?)",
    re.ASCII,
)
_SIGNAL_LINE: Final = re.compile(r"\S+[ \t]+\d+(?:x\d+)?(?::\d+)?(?:\+\d+)?(?:[ \t].*)?", re.ASCII)
_TEXT_HEAD_BYTES: Final = 65_536


def sniff(data: bytes) -> str | None:
    """Return `cardiosoft_xml`, `muse_xml` or `wfdb` (a header), or None for anything else.

    Only the beginning is judged, so a truncated file of ours is still ours.
    """
    name = _root_name(data)
    if name is not None:
        return _OURS_BY_ROOT.get(name)
    return "wfdb" if _is_wfdb_header(data) else None


def describe_foreign(data: bytes) -> str | None:
    """Return the name of a known kind of file that is not read here, or None.

    Knows other ECG formats (DICOM, SCP-ECG, HL7 aECG, Philips Sierra) and what is often found
    beside ECGs (PDF, HDF5, NumPy, archives, pictures).
    """
    for offset, magic, name in _FOREIGN_BY_MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return name
    root = _root_name(data)
    if root is None or root in _OURS_BY_ROOT:
        return None
    unknown = f"an XML document with an unknown root element (a name of {len(root)} characters)"
    return _FOREIGN_BY_ROOT.get(root, unknown)


def _root_name(data: bytes) -> str | None:
    head = data[:_TEXT_HEAD_BYTES]
    if b"<" not in head:
        return None
    try:
        return root_name(decode_xml(head))
    except EcgRejected:
        return root_name(head.decode("latin-1"))


def _is_wfdb_header(data: bytes) -> bool:
    head = data[:_TEXT_HEAD_BYTES].removeprefix(codecs.BOM_UTF8)
    if b"\0" in head:
        return False
    lines = [line.strip() for line in head.decode("latin-1").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    record = _RECORD_LINE.fullmatch(lines[0]) if lines else None
    if record is None or int(record["n_signals"]) < 1:
        return False
    if record["segments"]:
        return True
    if len(lines) == 1:
        return len(record["rest"].split()) >= 2
    return _SIGNAL_LINE.fullmatch(lines[1]) is not None


MAX_RECORD_BYTES: Final = 20_000_000
"""All files of one recording together, unpacked.

The largest real recordings seen are WFDB of 1.2 MB (PTB, 38 s of 15 leads at 1000 Hz) and
CardioSoft XML of 0.5 MB. Up to this size a file that is no ECG costs less than 500 MB and 2 s.
"""


def size_problem(n_bytes: int) -> str | None:
    """Return what is wrong with the size of a recording; None where it can be read."""
    if n_bytes <= MAX_RECORD_BYTES:
        return None
    return (
        f"recording has more than {MAX_RECORD_BYTES} bytes, the limit; expected a resting ECG, "
        "which has about 1,000,000 or fewer"
    )


def read_ecg(files: Mapping[str, bytes], main: str) -> Ecg:
    """Decode one recording, whose format is told from its content.

    Args:
        files: the bytes of each file of the recording, by name: one entry for XML; the header and
            its signal files for WFDB.
        main: the name in `files` of the XML file or the WFDB header.

    Raises:
        EcgRejected: `unreadable` when the files have more than `MAX_RECORD_BYTES` together,
            `truncated` when the file is empty, `not_an_ecg` when its content is of no
            format that is read here; otherwise what the reader of the format says.
        ValueError: `main` is not in `files`.
    """
    if main not in files:
        raise ValueError(f"main is {main!r}, expected one of the {len(files)} names in files")
    too_large = size_problem(sum(len(data) for data in files.values()))
    if too_large is not None:
        raise EcgRejected(RejectReason.UNREADABLE, too_large)
    data = files[main]
    if not data:
        raise EcgRejected(RejectReason.TRUNCATED, "file is empty, 0 bytes; copy it again")
    match sniff(data):
        case "cardiosoft_xml":
            return read_cardiosoft(data)
        case "muse_xml":
            return read_muse(data)
        case "wfdb":
            return read_wfdb(files, main)
    raise EcgRejected(
        RejectReason.NOT_AN_ECG,
        f"file is {describe_foreign(data) or 'of an unknown format'}; "
        "expected CardioSoft XML, MUSE XML or a WFDB header",
    )
