"""Seeded mutants of files: what damage on disks, in transfers and by programs does to them."""

from __future__ import annotations

import bz2
import gzip
import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tests.dicom_builders import dicom_file
from tests.file_builders import (
    MUSE_LEADS,
    aecg_xml,
    cardiosoft_xml,
    edf_file,
    muse_xml,
    philips_filled,
    philips_xml,
    random_counts,
    wfdb_packed_212,
    wfdb_record,
    wfdb_segments,
)
from tests.scp_builders import scp_bytes, scp_sections, scp_subtracted

Files = dict[str, bytes]
Rng = np.random.Generator

_NUMBER = re.compile(rb"(?<=[>\s\"/(])-?\d+")
_HUGE = (
    b"0",
    b"-1",
    b"1e308",
    b"-1e-308",
    b"nan",
    b"inf",
    b"65536",
    b"2147483648",
    b"999999999",
    b"99999999999999999999",
    b"1" * 400,
    b"1_000",
    b"0x10",
    b"\xd9\xa3",
)
_WORDS = (
    b"<",
    b"&",
    b"]]>",
    b"<!--",
    b"\0",
    b"\xff\xfe",
    b"&#x0;",
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>",
    b"\n",
    b"#",
    b"/",
    b"..",
    b"<a>" * 50,
    b"-32768,",
)


def seeds() -> dict[str, tuple[Files, str]]:
    """Return a good recording of each format: its files and the name of the main one.

    Those without checksums let damage of the samples through to what comes after decoding.
    """
    twelve = random_counts(3)
    muse = muse_xml(random_counts(4, leads=MUSE_LEADS))
    beats = random_counts(8, n_samples=300)
    scp = scp_subtracted(twelve, beats, (400, 1400, 2400), statements=b"Sinus rhythm\0" * 4000)
    without_crc = re.sub(rb"<LeadDataCRC32>.*?</LeadDataCRC32>", b"", muse)
    assert len(without_crc) < len(muse)
    return {
        "cardiosoft": ({"a.xml": cardiosoft_xml(twelve)}, "a.xml"),
        "muse": ({"a.xml": muse}, "a.xml"),
        "muse_without_crc": ({"a.xml": without_crc}, "a.xml"),
        "philips": ({"a.xml": philips_xml(philips_filled(random_counts(7, largest=60)))}, "a.xml"),
        "philips_uncompressed": ({"a.xml": philips_xml(twelve, version="1.04", compressed=False)}, "a.xml"),
        "wfdb": (wfdb_record(twelve), "rec1.hea"),
        "edf": ({"a.edf": edf_file(twelve, record_s=1)}, "a.edf"),
        "wfdb_212": (wfdb_packed_212(twelve), "rec1.hea"),
        "wfdb_segments": (
            wfdb_segments(random_counts(8, n_samples=3000), random_counts(9, n_samples=2000)),
            "rec1.hea",
        ),
        "wfdb_without_checksum": (wfdb_record(twelve, initial_value=0, checksum=0), "rec1.hea"),
        "aecg": ({"a.xml": aecg_xml(twelve)}, "a.xml"),
        "dicom": ({"a.dcm": dicom_file(twelve)}, "a.dcm"),
        "scp": ({"a.scp": scp}, "a.scp"),
        "scp_without_checksum": (
            {"a.scp": scp_bytes(scp_sections(twelve, coding="plain", order=0), with_crc=False)},
            "a.scp",
        ),
    }


def archive_seeds() -> dict[str, bytes]:
    """Return a small good archive of each kind, by its name."""
    files = {"a.xml": cardiosoft_xml(random_counts(5, n_samples=200)), "b/readme.txt": b"x" * 300}
    files |= wfdb_record(random_counts(6))
    made: dict[str, bytes] = {}
    methods = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
    methods |= {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}
    for name, method in methods.items():
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", method) as packed:
            for member, data in files.items():
                packed.writestr(member, data)
        made[f"{name}.zip"] = sink.getvalue()
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        for mode in ("", "gz", "bz2", "xz"):
            sink = io.BytesIO()
            with tarfile.open(fileobj=sink, mode=f"w:{mode}", format=form) as tar:
                for member, data in {**files, "long/" * 30 + "name.xml": b"<x/>"}.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
                link = tarfile.TarInfo("link.xml")
                link.type, link.linkname = tarfile.LNKTYPE, "a.xml"
                tar.addfile(link)
            made[f"{form}.tar" + (f".{mode}" if mode else "")] = sink.getvalue()
    return made


def repacked(name: str, data: bytes, mutate: Callable[[bytes], bytes]) -> bytes:
    """Mutate a compressed TAR inside its compression, so that the damage reaches the TAR."""
    if name.endswith(".tar.gz"):
        return gzip.compress(mutate(gzip.decompress(data)), 1)
    if name.endswith(".tar.bz2"):
        return bz2.compress(mutate(bz2.decompress(data)), 1)
    return mutate(data)


def _flip_bits(data: bytearray, rng: Rng) -> bytearray:
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return data


def _truncate(data: bytearray, rng: Rng) -> bytearray:
    return data[: int(rng.integers(len(data)))]


def _span(data: bytearray, rng: Rng) -> tuple[int, int]:
    start = int(rng.integers(len(data)))
    return start, min(len(data), start + int(2 ** rng.uniform(0, 14)))


def _duplicate(data: bytearray, rng: Rng) -> bytearray:
    start, stop = _span(data, rng)
    return data[:stop] + data[start:stop] * int(rng.integers(1, 4)) + data[stop:]


def _delete(data: bytearray, rng: Rng) -> bytearray:
    start, stop = _span(data, rng)
    return data[:start] + data[stop:]


def _swap(data: bytearray, rng: Rng) -> bytearray:
    (a, b), (c, d) = sorted((_span(data, rng), _span(data, rng)))
    b = min(b, c)
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _zero(data: bytearray, rng: Rng) -> bytearray:
    start, stop = _span(data, rng)
    data[start:stop] = bytes(stop - start)
    return data


def _other_number(data: bytearray, rng: Rng) -> bytearray:
    # Mostly at the start: values of elements and fields of headers, not only samples.
    at = int(rng.integers(min(len(data), 5000) if rng.random() < 0.8 else len(data)))
    found = _NUMBER.search(data, at) or _NUMBER.search(data)
    if found is None:
        return _flip_bits(data, rng)
    return data[: found.start()] + _HUGE[int(rng.integers(len(_HUGE)))] + data[found.end() :]


def _binary_number(data: bytearray, rng: Rng) -> bytearray:
    at, width = int(rng.integers(len(data))), int(rng.choice((2, 4, 8)))
    value = int(rng.choice((0, 1, 2**15, 2**16 - 1))) << int(rng.integers(0, 48))
    data[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, "little")
    return data


def _insert(data: bytearray, rng: Rng) -> bytearray:
    at = int(rng.integers(len(data)))
    return data[:at] + _WORDS[int(rng.integers(len(_WORDS)))] + data[at:]


_KINDS = (_flip_bits, _truncate, _duplicate, _delete, _swap, _zero, _other_number, _binary_number, _insert)


def mutant(data: bytes, seed: int) -> bytes:
    """Return a damaged copy: one to three changes, the same for the same seed.

    Every second one has other numbers only: it is still a document of its format, so that what
    reads the values is reached.
    """
    rng = np.random.default_rng(seed)
    kinds = _KINDS if seed % 2 else (_other_number,)
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if changed:
            changed = kinds[int(rng.integers(len(kinds)))](changed, rng)
    return bytes(changed)


def _retyped(text: bytes, rng: Rng) -> bytes:
    """Return a number as a slip would write it: near the old one, and still a number."""
    at = int(rng.integers(len(text)))
    digit = b"%d" % rng.integers(10)
    changes = (
        text[:at] + digit + text[at + 1 :],
        text[:at] + text[at + 1 :],
        text[:at] + digit + text[at:],
        text[:at] + b"." + text[at:],
        text[:at] + text[at + 1 : at + 2] + text[at : at + 1] + text[at + 2 :],
    )
    return changes[int(rng.integers(len(changes)))]


def _retype(data: bytearray, rng: Rng) -> bytearray:
    found = _NUMBER.search(data, int(rng.integers(len(data)))) or _NUMBER.search(data)
    if found is None:
        return _flip_bits(data, rng)
    return data[: found.start()] + _retyped(found[0], rng) + data[found.end() :]


def mutant_beside(data: bytes, parts: Sequence[bytes], seed: int) -> bytes:
    """Return a copy that is damaged beside `parts`, which hold the samples and stand in this order.

    A part is lost where the damage strikes its place. Every second one has other numbers only,
    most of them near the old ones, and every fourth one other bit.
    """
    rng = np.random.default_rng((seed, 1))
    marks = [b"@%s@" % bytes(97 + int(digit) for digit in f"{place:03d}") for place in range(len(parts))]
    short, position = bytearray(), 0
    for mark, part in zip(marks, parts, strict=True):
        start = data.index(part, position)
        short += data[position:start] + mark
        position = start + len(part)
    short += data[position:]
    kinds = (*_KINDS, _retype) if seed % 2 else (_retype, _retype, _retype, _other_number)
    if seed % 4 == 1:
        short[int(rng.integers(len(short)))] ^= 1 << int(rng.integers(8))
    for _ in range(0 if seed % 4 == 1 else int(rng.integers(1, 4))):
        if short:
            short = kinds[int(rng.integers(len(kinds)))](short, rng)
    changed = bytes(short)
    for mark, part in zip(marks, parts, strict=True):
        changed = changed.replace(mark, part)
    return changed


def mutant_record(files: Mapping[str, bytes], seed: int) -> Files:
    """Return a recording of which one file is a mutant, or is gone."""
    names = sorted(files)
    name = names[seed // 2 % len(names)]
    damaged = {**files, name: mutant(files[name], seed)}
    if len(names) > 1 and seed % 50 == 0:
        del damaged[names[-1 if name == names[0] else 0]]
    return damaged
