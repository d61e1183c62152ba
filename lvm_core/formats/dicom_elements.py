"""Data elements of a DICOM file: bytes in, values by tag out, within limits.

Own code, and not pydicom: damaged files of 20 MB keep pydicom 3.0 busy for 7 to over 60 s, one of
1 MB that inflates to 1 GB takes 2 GB of memory, and importing it costs every command 0.7 s. It is
the decoder that the tests compare with.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from lvm_core.errors import EcgRejected, RejectReason

MAX_ELEMENTS: Final = 50_000
"""Elements and items that are looked at in one file; real files hold about 3,000."""

MAX_INFLATED_BYTES: Final = 20_000_000
"""Of a data set in the deflated transfer syntax."""

Kept: TypeAlias = "Mapping[int, Kept | None]"
"""Tags that are wanted: of a sequence with those that are wanted in its items, else with None."""

_MAX_DEPTH: Final = 8  # of sequences in sequences; annotations of real files have 3
_PREAMBLE_BYTES: Final = 128
_MAGIC: Final = b"DICM"
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_ITEM: Final = 0xFFFEE000
_ITEM_END: Final = 0xFFFEE00D
_SEQUENCE_END: Final = 0xFFFEE0DD
_TRANSFER_SYNTAX: Final = 0x00020010
# Pixels and what follows them: no waveform is there.
_PIXELS: Final = 0x7FE00000
# Value representations whose length has four bytes, after two reserved ones (PS3.5 section 7.1.2).
_LONG: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_MAY_HOLD_ITEMS: Final = (b"SQ", b"UN", b"")
_FRAGMENTS: Final = (b"OB", b"OW")  # of undefined length: compressed pictures, in pieces
_SHORT: Final = frozenset(
    {b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS"}
    | {b"ST", b"TM", b"UI", b"UL", b"US"}
)
_IMPLICIT: Final = "1.2.840.10008.1.2"
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
_DEFLATED: Final = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True, slots=True)
class DataSet:
    """The elements of a file, or of an item of a sequence, that were asked for."""

    is_little_endian: bool
    values: dict[int, memoryview] = field(default_factory=dict)  # bytes of the value, by tag
    sequences: dict[int, list[DataSet]] = field(default_factory=dict)  # items, by tag

    def text(self, tag: int) -> str:
        """Return the value as text of Latin-1, without padding; empty when absent."""
        return bytes(self.values.get(tag, b"")).decode("latin-1").strip(" \0")

    def whole_number(self, tag: int) -> int | None:
        """Return the value of an unsigned integer of 2 or 4 bytes; None when there is none."""
        value = self.values.get(tag, b"")
        if len(value) not in (2, 4):
            return None
        return int.from_bytes(value, "little" if self.is_little_endian else "big")

    def first(self, tag: int) -> DataSet | None:
        """Return the first item of a sequence; None when there is none."""
        items = self.sequences.get(tag)
        return items[0] if items else None


def is_dicom(data: bytes) -> bool:
    """Return True for a file with a DICOM preamble."""
    return data[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == _MAGIC


def read_data_set(data: bytes, kept: Kept) -> DataSet:
    """Return the elements of a DICOM file whose tags are in `kept`, down to the pixels.

    Nothing else is copied or decoded. Big endian and implicit files are read, and deflated
    ones up to `MAX_INFLATED_BYTES`.

    Raises:
        EcgRejected: `truncated` when an element goes beyond the end; `unreadable` when the file has
            no transfer syntax, an unknown value representation, more than `MAX_ELEMENTS` elements,
            or sequences too deep.
    """
    start = _PREAMBLE_BYTES + len(_MAGIC)
    meta = _Walk(memoryview(data), is_explicit=True, is_little_endian=True)
    head, start = meta.head(start)
    syntax = head.text(_TRANSFER_SYNTAX)
    if not syntax:
        raise EcgRejected(RejectReason.UNREADABLE, "DICOM file states no transfer syntax; expected one in its head")
    body = memoryview(data)[start:]
    if syntax == _DEFLATED:
        body = memoryview(_inflated(body))
    walk = _Walk(body, is_explicit=syntax != _IMPLICIT, is_little_endian=syntax != _BIG_ENDIAN)
    found, _ = walk.data_set(0, len(body), kept, depth=0)
    return found


def _inflated(body: memoryview) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, MAX_INFLATED_BYTES)
    except zlib.error as error:
        raise EcgRejected(
            RejectReason.UNREADABLE, "deflated data set of the DICOM file is damaged; copy the file again"
        ) from error
    if inflater.unconsumed_tail:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"deflated data set of the DICOM file has more than {MAX_INFLATED_BYTES} bytes, the limit; "
            "expected a resting ECG",
        )
    return inflated


@dataclass(slots=True)
class _Walk:
    """A walk over the elements of one transfer syntax, from front to back."""

    data: memoryview
    is_explicit: bool
    is_little_endian: bool
    n_elements: int = 0

    def head(self, start: int) -> tuple[DataSet, int]:
        """Return the file meta information (group 2), and where the data set starts."""
        found = DataSet(is_little_endian=True)
        position = start
        while int.from_bytes(self.data[position : position + 2], "little") == 2:
            tag, _, length, position = self._element(position, len(self.data))
            if tag == _TRANSFER_SYNTAX:
                found.values[tag] = self.data[position : position + length]
            position += length
        return found, position

    def data_set(self, start: int, end: int, kept: Kept, depth: int) -> tuple[DataSet, int]:
        """Return the elements of a data set or item, and the position after it."""
        found = DataSet(self.is_little_endian)
        position = start
        while position < end:
            tag, vr, length, position = self._element(position, end)
            if tag == _ITEM_END or (depth == 0 and tag >= _PIXELS):
                break
            inner = kept.get(tag)
            if length == _UNDEFINED_LENGTH or (inner is not None and vr in _MAY_HOLD_ITEMS):
                stop = end if length == _UNDEFINED_LENGTH else position + length
                below = None if vr in _FRAGMENTS else inner or {}
                # A sequence of unknown kind is implicit, whatever surrounds it (PS3.5, 6.2.2).
                walk = replace(self, is_explicit=False, is_little_endian=True) if vr == b"UN" else self
                items, position = walk._items(position, stop, below, depth + 1)
                self.n_elements = walk.n_elements
                found.sequences[tag] = items
            else:
                if tag in kept:
                    found.values[tag] = self.data[position : position + length]
                position += length
        return found, position

    def _items(self, start: int, end: int, kept: Kept | None, depth: int) -> tuple[list[DataSet], int]:
        """Return the items of a sequence, and the position after it; fragments give none.

        `kept` is None for fragments.
        """
        if depth > _MAX_DEPTH:
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"DICOM file has sequences more than {_MAX_DEPTH} deep; expected those of an ECG",
            )
        items: list[DataSet] = []
        position = start
        while position < end:
            tag, _, length, position = self._element(position, end)
            if tag == _SEQUENCE_END:
                return items, position
            if tag != _ITEM:
                raise _damaged("a sequence holds something else than items")
            if kept is None:
                position += length
                continue
            item_end = end if length == _UNDEFINED_LENGTH else position + length
            item, position = self.data_set(position, item_end, kept, depth)
            items.append(item)
        return items, position

    def _element(self, position: int, end: int) -> tuple[int, bytes, int, int]:
        """Return tag, value representation, length, and the position of the value."""
        self.n_elements += 1
        if self.n_elements > MAX_ELEMENTS:
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"DICOM file holds more than {MAX_ELEMENTS} elements, the limit; expected those of an ECG",
            )
        order = "<" if self.is_little_endian else ">"
        try:
            group, number = struct.unpack_from(f"{order}HH", self.data, position)
            tag = group << 16 | number
            vr = b"" if group == 0xFFFE or not self.is_explicit else bytes(self.data[position + 4 : position + 6])
            if vr in _SHORT:
                (length,) = struct.unpack_from(f"{order}H", self.data, position + 6)
                position += 8
            else:
                skipped = 8 if vr in _LONG else 4
                (length,) = struct.unpack_from(f"{order}I", self.data, position + skipped)
                position += skipped + 4
        except struct.error as error:
            raise _ends_early() from error
        if vr and vr not in _SHORT and vr not in _LONG:
            raise _damaged("an element has no known value representation")
        if position > end or (length != _UNDEFINED_LENGTH and position + length > end):
            raise _ends_early()
        return tag, vr, length, position


def _damaged(what: str) -> EcgRejected:
    return EcgRejected(RejectReason.UNREADABLE, f"DICOM file is damaged: {what}; copy the file again")


def _ends_early() -> EcgRejected:
    return EcgRejected(RejectReason.TRUNCATED, "DICOM file ends before its last element does; copy the file again")
