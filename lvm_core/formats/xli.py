"""XLI, the compression of the waveforms in Philips XML: LZW over second differences."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason

_CODE_BITS: Final = 10
_END_CODE: Final = 2**_CODE_BITS - 1
_N_BYTE_CODES: Final = 256
_HEADER_BYTES: Final = 8
_DELTA_OFFSET: Final = 64  # added to each difference when it is stored
_INT16: Final = np.iinfo(np.int16)


def decode_xli(data: bytes, n_leads: int, n_samples: int) -> NDArray[np.int64]:
    """Return the first leads of compressed waveforms, (n_leads, n_samples) int64 counts.

    Each lead is a chunk: its size as int32, two bytes without a use, its first second difference as
    int16, all little-endian, then LZW in codes of 10 bits. The codes give the high bytes of all
    words, then the low bytes. Chunks after the first `n_leads` are not decoded: devices write 16,
    of which the last four hold nothing.

    Raises:
        EcgRejected: `truncated` when chunks are missing or hold another number of samples;
            `unreadable` when the codes or the samples are not such as a compressor makes.

    Source:
        The format is described in the MIT-licensed project sierra-ecg-tools of C. A. Watford. Its
        package sierraecg reads files by their path only, trusts the sizes in them and takes 0.2 s a
        file, as does ecgdatakit; both are the independent decoders of the tests.
    """
    leads = np.empty((n_leads, n_samples), dtype=np.int64)
    offset = 0
    for number in range(n_leads):
        body = offset + _HEADER_BYTES
        size = int.from_bytes(data[offset : offset + 4], "little", signed=True)
        if body > len(data) or not 0 <= size <= len(data) - body:
            raise EcgRejected(
                RejectReason.TRUNCATED,
                f"compressed waveform {number + 1} of {n_leads} states {size} bytes and "
                f"{max(len(data) - body, 0)} are there; copy the file again",
            )
        first = int.from_bytes(data[offset + 6 : body], "little", signed=True)
        leads[number] = _samples(_unpacked(data[body : body + size], number, 2 * n_samples), first, number)
        offset = body + size
    return leads


def _unpacked(data: bytes, number: int, n_bytes: int) -> bytes:
    """Return the `n_bytes` that the LZW codes of a chunk give."""
    strings = [bytes([value]) for value in range(_N_BYTE_CODES)]
    parts: list[bytes] = []
    previous = b""
    found = 0
    # Each code gives one byte at least: what comes after so many is never needed.
    for code in _codes(data[: (n_bytes + 2) * _CODE_BITS // 8 + 1]):
        if code == _END_CODE:
            break
        if code < len(strings):
            string = strings[code]
        elif code == len(strings) and previous:
            string = previous + previous[:1]
        else:
            raise EcgRejected(
                RejectReason.UNREADABLE,
                f"compressed waveform {number + 1} has the code {code} where {len(strings)} are known; "
                "the file was damaged",
            )
        if previous and len(strings) < _END_CODE:
            strings.append(previous + string[:1])
        previous = string
        parts.append(string)
        found += len(string)
        if found > n_bytes:
            break
    if found != n_bytes:
        stated = f"more than {n_bytes}" if found > n_bytes else str(found)
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"compressed waveform {number + 1} gives {stated} bytes, expected {n_bytes} for the duration and the "
            "rate that the file states; copy the file again",
        )
    return b"".join(parts)


def _codes(data: bytes) -> list[int]:
    """Return the codes of 10 bits, the most significant bit first; what is left is padding."""
    n_codes = len(data) * 8 // _CODE_BITS
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8))[: n_codes * _CODE_BITS]
    weights = 1 << np.arange(_CODE_BITS - 1, -1, -1)
    codes: list[int] = (bits.reshape(n_codes, _CODE_BITS) @ weights).tolist()
    return codes


def _samples(unpacked: bytes, first: int, number: int) -> NDArray[np.int64]:
    """Return the samples of a lead from its words: two samples, then second differences.

    A difference is stored negated, with `_DELTA_OFFSET` added, one place late: `first`, from the
    header, belongs to the third sample, and the last word has no use.
    """
    planes = np.frombuffer(unpacked, dtype=np.uint8).reshape(2, -1).astype(np.uint16)
    words: NDArray[np.int64] = (planes[0] << 8 | planes[1]).view(np.int16).astype(np.int64)
    if len(words) <= 2:
        return words
    second = -np.concatenate([[first], words[2:-1] - _DELTA_OFFSET])
    slopes = (words[1] - words[0]) + np.cumsum(second)
    samples: NDArray[np.int64] = np.concatenate([words[:2], words[1] + np.cumsum(slopes)])
    if samples.min() < _INT16.min or samples.max() > _INT16.max:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"compressed waveform {number + 1} gives samples beyond 16 bits; the file was damaged",
        )
    return samples
