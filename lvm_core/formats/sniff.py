"""What kind of file some bytes are, told from the content and never from a name."""

from __future__ import annotations

import codecs
import re
from typing import Final

from lvm_core.errors import EcgRejected
from lvm_core.formats.xml import decode_xml, root_name

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
