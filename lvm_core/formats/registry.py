"""The formats of device files that are read: bytes of any of them in, `Ecg` out.

A new format is a module of this folder with its reader, an entry in `FORMATS`, a test and a section
of docs/formats.md. Everything else that depends on formats asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats import wfdb
from lvm_core.formats.aecg import read_aecg
from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.formats.dicom import read_dicom
from lvm_core.formats.dicom_elements import is_dicom
from lvm_core.formats.edf import is_edf, read_edf
from lvm_core.formats.muse import read_muse
from lvm_core.formats.philips import read_philips
from lvm_core.formats.scp import is_scp, read_scp
from lvm_core.formats.xml import root_name
from lvm_core.signal.ecg import Ecg

MAX_RECORD_BYTES: Final = 20_000_000
"""All files of one recording together, unpacked.

The largest real recordings seen are WFDB of 1.2 MB (PTB, 38 s of 15 leads at 1000 Hz) and
CardioSoft XML of 0.5 MB. Up to this size a file that is no ECG costs less than 500 MB and 2 s.
"""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of device files."""

    name: str  # in the column `source_format`
    option: str  # in the option `--format`
    title: str  # in messages, and of its section in docs/formats.md
    suffix: str  # that main files usually have, in lower case
    # Name of the root element of an XML format; else a function that recognises a main file by its
    # beginning.
    recognised_by: str | Callable[[bytes], bool]
    read: Callable[[Mapping[str, bytes], str], Ecg]  # the reader of (files by name, name of the main file)
    part_suffixes: tuple[str, ...] = ()  # that further files of a recording usually have
    # Names of the further files as a main file states them, each once; none when it cannot be
    # understood. None for a format whose recordings are one file.
    part_names: Callable[[bytes], tuple[str, ...]] | None = None
    max_main_bytes: int = MAX_RECORD_BYTES  # of a main file


def _one_file(read: Callable[[bytes], Ecg]) -> Callable[[Mapping[str, bytes], str], Ecg]:
    return lambda files, main: read(files[main])


FORMATS: Final = (
    Format("cardiosoft_xml", "cardiosoft", "CardioSoft XML", ".xml", "CardiologyXML", _one_file(read_cardiosoft)),
    Format("muse_xml", "muse", "MUSE XML", ".xml", "RestingECG", _one_file(read_muse)),
    Format("philips_xml", "philips", "Philips XML", ".xml", "restingecgdata", _one_file(read_philips)),
    Format("edf", "edf", "EDF", ".edf", is_edf, _one_file(read_edf)),
    Format(
        "wfdb",
        "wfdb",
        "WFDB",
        ".hea",
        wfdb.is_header,
        wfdb.read_wfdb,
        part_suffixes=(".dat", ".mat"),
        part_names=wfdb.signal_files,
        max_main_bytes=wfdb.MAX_HEADER_BYTES,
    ),
    Format("hl7_aecg", "aecg", "HL7 aECG", ".xml", "AnnotatedECG", _one_file(read_aecg)),
    Format("dicom", "dicom", "DICOM", ".dcm", is_dicom, _one_file(read_dicom)),
    Format("scp_ecg", "scp", "SCP-ECG", ".scp", is_scp, _one_file(read_scp)),
)

_THROUGH_LAYOUT: Final = "which is read with --layout FILE (docs/layouts.md)"

# Kinds of file that are named in messages, and not read: root element and name of XML documents;
# offset, bytes and name of others.
_FOREIGN_BY_ROOT: Final = {"sapphire": "GE Sapphire XML", "html": "an HTML page"}
# XML documents whose root element has a common name: words that all stand in them.
_FOREIGN_BY_WORDS: Final = (
    ((b"<eventdata", b"<wavedata", b"ECG_RHYTHMS"), "Schiller XML"),
    ((b"<ECG", b"<CHANNEL", b"UNITS_PER_MV"), "Mortara ELI XML"),
)
_FOREIGN_BY_MAGIC: Final = (
    (0, b"%PDF", "PDF"),
    (0, b"\x89HDF\r\n\x1a\n", f"HDF5, {_THROUGH_LAYOUT}"),
    (0, b"\x93NUMPY", f"a NumPy array, {_THROUGH_LAYOUT}"),
    (0, b"\x1f\x8b", "gzip-compressed data"),
    (0, b"BZh", "bzip2-compressed data"),
    (0, b"\xfd7zXZ\0", "xz-compressed data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"PAR1", "Parquet"),
    (0, b"MATLAB 5.0", f"a MATLAB file, {_THROUGH_LAYOUT}"),
    (20, b"val\0", "the MATLAB signal file of a WFDB record, whose header is the .hea file"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"\xffBIOSEMI", "BDF"),
    (0, b"ISHNE1.0", "ISHNE Holter"),
    (0, b"@ MFR ", "MFER"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
)
# Those of them that are ECGs, which another program can export in another format.
_OTHER_ECGS: Final = frozenset({"GE Sapphire XML", "Schiller XML", "Mortara ELI XML", "BDF", "ISHNE Holter", "MFER"})

MAIN_SUFFIXES: Final = tuple(dict.fromkeys(one.suffix for one in FORMATS))
"""Suffixes of files that are an ECG of their own, and never a part of another."""

ECG_SUFFIXES: Final = (*MAIN_SUFFIXES, *(suffix for one in FORMATS for suffix in one.part_suffixes))
"""Suffixes of files that are an ECG or a part of one."""


def format_of(data: bytes) -> Format | None:
    """Return the format of a main file by its content, or None for a file that is not read here.

    Only the beginning is judged, so that a truncated file still has its format.
    """
    root = root_name(data)
    for one in FORMATS:
        mark = one.recognised_by
        is_of = mark == root if isinstance(mark, str) else root is None and mark(data)
        if is_of:
            return one
    return None


def format_with_parts(path: str) -> Format | None:
    """Return the format whose main files have this suffix and name further files, or None."""
    name = path.lower()
    return next((one for one in FORMATS if one.part_names and name.endswith(one.suffix)), None)


def describe_foreign(data: bytes) -> str | None:
    """Return the name of a known kind of file that is not read here, or None.

    Knows other ECG formats (Schiller, Mortara, ISHNE) and what is often found beside ECGs (PDF,
    HDF5, NumPy, archives, pictures).
    """
    for offset, magic, name in _FOREIGN_BY_MAGIC:
        if data[offset : offset + len(magic)] == magic:
            return name
    root = root_name(data)
    if root is None or format_of(data) is not None:
        return None
    for words, name in _FOREIGN_BY_WORDS:
        if all(word in data for word in words):
            return name
    unknown = f"an XML document with an unknown root element (a name of {len(root)} characters)"
    return _FOREIGN_BY_ROOT.get(root, unknown)


def size_problem(n_bytes: int) -> str | None:
    """Return what is wrong with the size of a recording; None where it can be read."""
    if n_bytes <= MAX_RECORD_BYTES:
        return None
    return (
        f"recording has more than {MAX_RECORD_BYTES} bytes, the limit; expected a resting ECG, "
        "which has about 1,000,000 or fewer"
    )


def read_ecg(files: Mapping[str, bytes], main: str) -> Ecg:
    """Decode one recording, whose format its content shows.

    `files` holds the bytes of each file of the recording, by name; `main` is the name of the
    file that is the recording, or of the WFDB header.

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
    found = format_of(data)
    if found is None:
        names = [f"{one.title} (the {one.suffix} file)" if one.part_names else one.title for one in FORMATS]
        kind = describe_foreign(data) or "of an unknown format"
        mend = ", which is not read; export it as" if kind in _OTHER_ECGS else "; expected"
        raise EcgRejected(RejectReason.NOT_AN_ECG, f"file is {kind}{mend} {', '.join(names[:-1])} or {names[-1]}")
    return found.read(files, main)
