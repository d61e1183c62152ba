"""The one entry point: bytes of any supported format in, `Ecg` out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from lvm_core.ecg import Ecg
from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.formats.muse import read_muse
from lvm_core.formats.sniff import describe_foreign, sniff
from lvm_core.formats.wfdb import read_wfdb

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
