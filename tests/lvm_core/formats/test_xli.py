from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sierraecg.xli import xli_decode

from lvm_core.errors import RejectReason
from lvm_core.formats.xli import decode_xli
from tests.file_builders import lzw_bytes, lzw_codes, random_counts, xli_chunk
from tests.lvm_core.formats.helpers import assert_rejected

LEAD = random_counts(leads=["I"], n_samples=5500, largest=60)["I"]
# Steps of at most 30 keep each second difference, with 64 added, within 16 bits.
SMALL = hnp.arrays(np.int16, st.integers(2, 60), elements=st.integers(-8000, 8000))


def _chunk(body: bytes, size: int | None = None) -> bytes:
    return (len(body) if size is None else size).to_bytes(4, "little", signed=True) + bytes(4) + body


@given(SMALL)
def test_decode_xli__decodes_what_was_encoded(counts: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_xli(xli_chunk(counts), 1, len(counts)), counts[None])


def test_decode_xli__agrees_with_sierraecg() -> None:
    data = xli_chunk(LEAD) + xli_chunk(LEAD[::-1])
    theirs = xli_decode(data, ["I", "II"])
    np.testing.assert_array_equal(decode_xli(data, 2, len(LEAD)), np.stack(theirs))
    np.testing.assert_array_equal(theirs[0], LEAD)


def test_decode_xli__hand_worked() -> None:
    # Samples 10, 12, 15: the second difference of the third is 1, so that the header holds -1.
    # High bytes 0 0 0, low bytes 10 12 0.
    body = lzw_bytes([0, 256, 10, 12, 0, 1023])
    data = _chunk(body)[:6] + (-1).to_bytes(2, "little", signed=True) + body
    np.testing.assert_array_equal(decode_xli(data, 1, 3), [[10, 12, 15]])


def test_decode_xli__chunks_after_the_last_lead_are_not_read() -> None:
    assert decode_xli(xli_chunk(LEAD) + b"anything", 1, len(LEAD)).shape == (1, len(LEAD))


def test_decode_xli__codes_may_end_without_the_end_code() -> None:
    body = lzw_bytes(lzw_codes(bytes([0, 0, 7, 9]))[:-1])
    np.testing.assert_array_equal(decode_xli(_chunk(body), 1, 2), [[7, 9]])


@pytest.mark.parametrize(
    ("data", "reason", "message"),
    [
        (b"", RejectReason.TRUNCATED, "waveform 1 of 1 states 0 bytes and 0 are there"),
        (b"\x05\0\0\0\0\0", RejectReason.TRUNCATED, "waveform 1 of 1 states 5 bytes and 0 are there"),
        (_chunk(bytes(9), size=10), RejectReason.TRUNCATED, "states 10 bytes and 9 are there"),
        (_chunk(bytes(9), size=-1), RejectReason.TRUNCATED, "states -1 bytes"),
        (_chunk(b""), RejectReason.TRUNCATED, "gives 0 bytes, expected 4"),
        (_chunk(lzw_bytes([0, 0, 0, 1023])), RejectReason.TRUNCATED, "gives 3 bytes, expected 4"),
        (_chunk(lzw_bytes([0] * 5)), RejectReason.TRUNCATED, "gives more than 4 bytes, expected 4"),
        (_chunk(lzw_bytes([256, 0])), RejectReason.UNREADABLE, "has the code 256 where 256 are known"),
        (_chunk(lzw_bytes([0, 258])), RejectReason.UNREADABLE, "has the code 258 where 256 are known"),
    ],
)
def test_decode_xli__damage_is_refused(data: bytes, reason: RejectReason, message: str) -> None:
    assert_rejected(lambda: decode_xli(data, 1, 2), reason, message)


def test_decode_xli__samples_beyond_16_bits_are_refused() -> None:
    data = xli_chunk(np.full(60, 30000, dtype=np.int16), first=-30000)
    assert_rejected(lambda: decode_xli(data, 1, 60), RejectReason.UNREADABLE, "beyond 16 bits")


def test_decode_xli__memory_follows_the_samples_not_the_size_of_a_chunk() -> None:
    data = _chunk(bytes(4_000_000))
    tracemalloc.start()
    assert_rejected(lambda: decode_xli(data, 1, 2), RejectReason.TRUNCATED, "more than 4")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_000_000


def test_decode_xli__output_of_a_chunk_is_limited() -> None:
    codes = [0, *range(256, 1023)]  # strings of 1 to 768 bytes
    assert_rejected(lambda: decode_xli(_chunk(lzw_bytes(codes)), 1, 1000), RejectReason.TRUNCATED, "more than 2000")
