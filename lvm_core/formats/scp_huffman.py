"""Huffman coding and differences of SCP-ECG samples (EN 1064, sections 5.5 and annex C)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason

MAX_TABLES: Final = 2
"""Huffman tables of one file; those of real files are one, the default."""

_DEFAULT_TABLE: Final = 19999
_MAX_CODES: Final = 1000  # of a table; the default has 19
_LONGEST_CODE: Final = 16  # bits of a code, and of the number after it
_SWITCH: Final = 0  # mode of a code that names the table to go on with


@dataclass(frozen=True, slots=True)
class Table:
    """A Huffman table; index 0 of the arrays stands for bits that are no code."""

    code_bits: int  # of the longest code
    entry_of_bits: NDArray[np.int32]  # entry by the next `code_bits` bits
    n_bits: NDArray[np.int64]  # of the code, by entry
    n_more_bits: NDArray[np.int64]  # of the number after the code, by entry
    values: NDArray[np.int64]  # that is added to that number, or the table to go on with, by entry
    is_switch: NDArray[np.bool_]  # by entry


class _Found(NamedTuple):
    """What a table finds from every bit on, (n_bits,) each."""

    n_bits: NDArray[np.int64]  # to the next code; 0: no code begins here
    is_switch: NDArray[np.bool_]
    values: NDArray[np.int64]


def tables_of(section: bytes) -> list[Table]:
    """Return the Huffman tables of the content of section 2."""
    try:
        (n_tables,) = struct.unpack_from("<H", section)
        if n_tables == _DEFAULT_TABLE:
            return [_table(_default_codes())]
        if not 0 < n_tables <= MAX_TABLES:
            raise EcgRejected(
                RejectReason.UNREADABLE, f"SCP-ECG file has {n_tables} Huffman tables; expected 1 to {MAX_TABLES}"
            )
        position = 2
        tables = []
        for _ in range(n_tables):
            (n_codes,) = struct.unpack_from("<H", section, position)
            position += 2
            if n_codes > _MAX_CODES:
                raise EcgRejected(
                    RejectReason.UNREADABLE,
                    f"a Huffman table of the SCP-ECG file has {n_codes} codes; expected at most {_MAX_CODES}",
                )
            codes = [struct.unpack_from("<BBBhI", section, position + 9 * index) for index in range(n_codes)]
            position += 9 * n_codes
            tables.append(_table(codes))
        return tables
    except struct.error as error:
        raise EcgRejected(
            RejectReason.TRUNCATED, "Huffman tables of the SCP-ECG file end too early; copy the file again"
        ) from error


def _default_codes() -> list[tuple[int, int, int, int, int]]:
    """Return code bits, all bits, mode, value, and the code, first bit lowest (C.3.7.6)."""
    codes = [(1, 1, 1, 0, 0)]
    for size in range(1, 9):
        ones = 2**size - 1
        codes += [(size + 2, size + 2, 1, size, ones), (size + 2, size + 2, 1, -size, ones | 2 ** (size + 1))]
    return [*codes, (10, 18, 1, 0, 0x1FF), (10, 26, 1, 0, 0x3FF)]


def _table(codes: list[tuple[int, int, int, int, int]]) -> Table:
    longest = max((n_bits for n_bits, *_ in codes), default=0)
    for n_bits, n_all, *_ in codes:
        if not 0 < n_bits <= _LONGEST_CODE or not 0 <= n_all - n_bits <= _LONGEST_CODE:
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"a Huffman code of the SCP-ECG file has {n_bits} bits of {n_all}; "
                f"expected 1 to {_LONGEST_CODE}, and up to {_LONGEST_CODE} more",
            )
    entry_of_bits = np.zeros(2**longest, np.int32)
    for entry, (n_bits, _, _, _, code) in enumerate(codes, start=1):
        first_bit_highest = int(f"{code & (2**n_bits - 1):0{n_bits}b}"[::-1], 2)
        start = first_bit_highest << (longest - n_bits)
        entry_of_bits[start : start + 2 ** (longest - n_bits)] = entry
    columns = np.array([(0, 0, 1, 0, 0), *codes], np.int64).T
    return Table(longest, entry_of_bits, columns[0], columns[1] - columns[0], columns[3], columns[2] == _SWITCH)


def decode(data: bytes, n_values: int, tables: list[Table]) -> NDArray[np.int64] | None:
    """Return the first `n_values` numbers of a stream of bits; None when it does not hold them.

    The stream is looked at from every bit on at once; then the codes are followed one by one.
    """
    windows = _windows(data)
    found = [_look_up(windows, table) for table in tables]
    # No code begins after the end, as far as the longest code reaches.
    steps = [[*one.n_bits.tolist(), *[0] * (2 * _LONGEST_CODE)] for one in found]
    if len(tables) == 1 and not tables[0].is_switch.any():
        places = _places(steps[0], n_values)
        values = found[0].values
    else:
        places = _places_of_tables(steps, found, n_values)
        values = np.concatenate([one.values for one in found])
    return None if places is None else values[np.array(places, np.intp)]


def _places(steps: list[int], n_values: int) -> list[int] | None:
    """Return the first bits of `n_values` codes; None when a code or its end is not there."""
    places = []
    position = 0
    for _ in range(n_values):
        step = steps[position]
        if not step:
            return None
        places.append(position)
        position += step
    return places if position <= len(steps) - 2 * _LONGEST_CODE else None


def _places_of_tables(steps: list[list[int]], found: list[_Found], n_values: int) -> list[int] | None:
    """Return the same for several tables, each of which comes after the bits of the one before."""
    n_bits = len(found[0].values)
    switches = [one.is_switch.tolist() for one in found]
    places: list[int] = []
    table = position = 0
    while len(places) < n_values:
        step = steps[table][position]
        if not step:
            return None
        if switches[table][position]:
            target = int(found[table].values[position]) - 1
            if not 0 <= target < len(found):
                return None
            table = target
        else:
            places.append(table * n_bits + position)
        position += step
    return places if position <= n_bits else None


def _windows(data: bytes) -> NDArray[np.uint64]:
    """Return the 32 bits from every bit on, (8 x bytes,); after the end come zeros."""
    padded = np.frombuffer(data + bytes(5), np.uint8).astype(np.uint64)
    n_bytes = len(data)
    forty = np.zeros(n_bytes, np.uint64)
    for index in range(5):
        forty = forty << np.uint64(8) | padded[index : index + n_bytes]
    shifts = np.arange(8, 0, -1, dtype=np.uint64)
    return (forty[:, None] >> shifts[None, :] & np.uint64(0xFFFFFFFF)).reshape(-1)


def _look_up(windows: NDArray[np.uint64], table: Table) -> _Found:
    entries = table.entry_of_bits[(windows >> np.uint64(32 - table.code_bits)).astype(np.intp)]
    n_code, n_more = table.n_bits[entries], table.n_more_bits[entries]
    after = windows << n_code.astype(np.uint64) & np.uint64(0xFFFFFFFF)
    more = np.where(n_more > 0, after.astype(np.int64) >> (32 - n_more), 0)
    signed = np.where((n_more > 0) & (more >= 1 << np.maximum(n_more - 1, 0)), more - (1 << n_more), more)
    return _Found(n_code + n_more, table.is_switch[entries], table.values[entries] + signed)


def from_differences(values: NDArray[np.int64], order: int) -> NDArray[np.int64]:
    """Return samples, (..., n_samples), from differences of `order` 0, 1 or 2 along the last axis.

    The first sample, of second differences the first two, are stored as they are (EN 1064, C.3.3).
    """
    if order == 0:
        return values
    if order == 1:
        return np.cumsum(values, axis=-1)
    slopes = values.copy()
    slopes[..., 1:2] -= values[..., :1]
    slopes[..., 1:] = np.cumsum(slopes[..., 1:], axis=-1)
    return np.cumsum(slopes, axis=-1)
