"""Arrays of numbers in MATLAB 5 files.

Own code, and not `scipy.io.loadmat`, with which the tests compare: a few changed bytes end its
process with a segmentation fault, which would end a run with thousands of good files.

Source:
    The MathWorks, MAT-File Format (Level 5 MAT-files).
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason

_HEADER_BYTES: Final = 128
_TAG_BYTES: Final = 8
_MATRIX, _COMPRESSED = 14, 15
_STRUCTURE, _OBJECT = 2, 17  # classes of arrays
_NUMBERS: Final = range(6, 16)  # classes: double, single, and integers of 8 to 64 bits
_COMPLEX: Final = 0x0800
# NumPy types by the type of a stored element.
_TYPES: Final = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# Of a file and of a structure; the largest real one seen has 3 variables and 3 fields.
_MOST_ARRAYS: Final = 1000
_MOST_DIMENSIONS: Final = 32
# Enough of a compressed variable for its name, which has 63 letters at most.
_HEAD_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class _Element:
    kind: int
    data: memoryview
    end: int  # where the next one begins, within what it was read from


@dataclass(frozen=True, slots=True)
class _Array:
    """The head of an array, and what follows it."""

    array_class: int
    flags: int
    shape: tuple[int, ...]
    name: str
    body: memoryview


@dataclass(frozen=True, slots=True)
class MatFile:
    """A file in memory, of which arrays are read by their names.

    What is damaged raises `ValueError`, `struct.error` or `zlib.error`.
    """

    data: bytes
    most_bytes: int  # of one variable, unpacked

    def array(self, name: str) -> NDArray[Any] | None:
        """Return a variable, or a field `a.b` of a structure; None when absent.

        Numbers have the type in which they are stored, which may be smaller than that of the
        variable. A text, a cell array or complex numbers are refused as `unreadable`.
        """
        first, *fields = name.split(".")
        found = self._variable(first)
        for field in fields:
            found = None if found is None else self._field(found, field)
        return None if found is None else self._numbers(found)

    @property
    def _order(self) -> str:
        return "<" if self.data[_HEADER_BYTES - 2 : _HEADER_BYTES] == b"IM" else ">"

    def _variable(self, name: str) -> _Array | None:
        for element in self._elements(memoryview(self.data)[_HEADER_BYTES:], is_padded=False):
            if element.kind == _COMPRESSED:
                head = zlib.decompressobj().decompress(element.data, _HEAD_BYTES)
                if self._head(memoryview(head)[_TAG_BYTES:]).name != name:
                    continue
                whole = memoryview(self._unpacked(element.data))
                return self._head(self._element(whole, 0).data)
            if element.kind == _MATRIX:
                found = self._head(element.data)
                if found.name == name:
                    return found
        return None

    def _unpacked(self, data: memoryview) -> bytes:
        unpacked = zlib.decompressobj().decompress(data, self.most_bytes + 1)
        if len(unpacked) > self.most_bytes:
            raise unpacks_too_much(self.most_bytes)
        return unpacked

    def _elements(self, data: memoryview, *, is_padded: bool = True) -> Iterator[_Element]:
        """Yield the elements of a file, in which compressed ones are not padded, or of an array."""
        position = n = 0
        while position + _TAG_BYTES <= len(data):
            n += 1
            if n > _MOST_ARRAYS:
                raise EcgRejected(
                    RejectReason.UNREADABLE,
                    f"MATLAB file has more than {_MOST_ARRAYS} arrays, the limit; expected one resting ECG",
                )
            element = self._element(data, position, is_padded=is_padded)
            yield element
            position = element.end

    def _element(self, data: memoryview, position: int, *, is_padded: bool = True) -> _Element:
        kind, size = struct.unpack_from(f"{self._order}II", data, position)
        start = position + _TAG_BYTES
        if kind >> 16:  # four bytes or fewer stand in the tag itself
            kind, size, start = kind & 0xFFFF, kind >> 16, position + 4
            if size > 4:
                raise ValueError(f"an element of {size} bytes in a tag")
            return _Element(kind, data[start : start + size], position + _TAG_BYTES)
        if size > len(data) - start:
            raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
        padding = -size % _TAG_BYTES if is_padded or kind != _COMPRESSED else 0
        return _Element(kind, data[start : start + size], start + size + padding)

    def _head(self, content: memoryview) -> _Array:
        """Return the head of an array: its class, its shape and its name."""
        if not content:  # an empty array in a structure
            return _Array(0, 0, (0,), "", content)
        flags = self._element(content, 0)
        (word,) = struct.unpack_from(f"{self._order}I", flags.data)
        shape = self._element(content, flags.end)
        if word & 0xFF == _OBJECT:  # a table, a date or the like: its name in place of a shape
            return _Array(_OBJECT, word, (), bytes(shape.data).decode("latin-1"), content[shape.end :])
        name = self._element(content, shape.end)
        sides = tuple(np.frombuffer(shape.data, f"{self._order}i4").tolist())
        if len(sides) > _MOST_DIMENSIONS or any(side < 0 for side in sides):
            raise ValueError("the shape of an array")
        return _Array(word & 0xFF, word, sides, bytes(name.data).decode("latin-1"), content[name.end :])

    def _field(self, found: _Array, field: str) -> _Array | None:
        """Return a field of a structure of one element, or None."""
        if found.array_class != _STRUCTURE or math.prod(found.shape) != 1:
            return None
        width_element = self._element(found.body, 0)
        names_element = self._element(found.body, width_element.end)
        (width,) = struct.unpack_from(f"{self._order}i", width_element.data)
        if width < 1:
            raise ValueError(f"field names of {width} letters")
        listed = bytes(names_element.data)
        values = self._elements(found.body[names_element.end :])
        for start in range(0, len(listed), width):
            value = next(values, None)
            if value is None:
                raise ValueError("a structure with fewer values than names")
            if listed[start : start + width].split(b"\0")[0] == field.encode("latin-1", "replace"):
                return self._head(value.data)
        return None

    def _numbers(self, found: _Array) -> NDArray[Any]:
        if found.array_class not in _NUMBERS or found.flags & _COMPLEX:
            raise EcgRejected(RejectReason.UNREADABLE, "array of the layout holds no numbers")
        stored = self._element(found.body, 0)
        if stored.kind not in _TYPES:
            raise ValueError(f"numbers of the type {stored.kind}")
        values = np.frombuffer(stored.data, f"{self._order}{_TYPES[stored.kind]}")
        return values.reshape(found.shape, order="F")


def unpacks_too_much(most_bytes: int) -> EcgRejected:
    """Return the reject of a file that unpacks to more bytes than that."""
    return EcgRejected(
        RejectReason.UNREADABLE, f"file unpacks to more than {most_bytes} bytes, the limit; expected one resting ECG"
    )
