"""How WFDB signal files pack their samples: formats 8, 16, 24, 32, 61, 80, 212, 310 and 311."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SampleFormat:
    """One way to pack samples.

    Source:
        WFDB Applications Guide, signal(5).
    """

    bits: int  # of a sample; 32 for format 8, whose differences may add up to any number
    block_samples: int = 1  # samples that share bytes
    # Bytes that the first 1, 2 ... samples of a block need.
    block_bytes: tuple[int, ...] = (2,)
    has_missing: bool = True  # the smallest number marks a missing sample

    @property
    def missing_count(self) -> int | None:
        """The count that marks a missing sample; None where the format has none."""
        return -(2 ** (self.bits - 1)) if self.has_missing else None

    def n_bytes(self, n_samples: int) -> int:
        """Return the bytes that samples need, at least: the last block may be written whole."""
        whole, rest = divmod(n_samples, self.block_samples)
        return whole * self.block_bytes[-1] + (self.block_bytes[rest - 1] if rest else 0)

    def n_samples(self, n_bytes: int) -> int:
        """Return the samples that bytes hold, at most."""
        whole, rest = divmod(n_bytes, self.block_bytes[-1])
        return whole * self.block_samples + sum(need <= rest for need in self.block_bytes[:-1])


SAMPLE_FORMATS: Final = {
    8: SampleFormat(32, block_bytes=(1,), has_missing=False),
    16: SampleFormat(16),
    24: SampleFormat(24, block_bytes=(3,)),
    32: SampleFormat(32, block_bytes=(4,)),
    61: SampleFormat(16),
    80: SampleFormat(8, block_bytes=(1,)),
    212: SampleFormat(12, 2, (2, 3)),
    310: SampleFormat(10, 3, (2, 4, 4)),
    311: SampleFormat(10, 3, (2, 3, 4)),
}
"""The formats that are read, by their number."""


def unpack(raw: bytes, number: int, n_samples: int) -> NDArray[np.signedinteger]:
    """Return the samples of a signal file, (n_samples,) counts, in the order of the file.

    `raw` holds at least what `SAMPLE_FORMATS[number].n_bytes(n_samples)` says. Format 8 gives the
    differences between samples of one signal.
    """
    packing = SAMPLE_FORMATS[number]
    n_blocks = -(-n_samples // packing.block_samples)
    data = raw[: n_blocks * packing.block_bytes[-1]].ljust(n_blocks * packing.block_bytes[-1], b"\0")
    if number in (8, 16, 32, 61):
        return np.frombuffer(data, dtype={8: "i1", 16: "<i2", 32: "<i4", 61: ">i2"}[number])
    octets = np.frombuffer(data, dtype=np.uint8).astype(np.int32)
    if number == 80:
        return octets - 128
    blocks = octets.reshape(n_blocks, packing.block_bytes[-1]).T
    columns = _columns(blocks, number)
    counts: NDArray[np.int32] = np.stack(columns, axis=1).reshape(-1)[:n_samples]
    counts[counts >= 2 ** (packing.bits - 1)] -= 2**packing.bits
    return counts


def _columns(blocks: NDArray[np.int32], number: int) -> list[NDArray[np.int32]]:
    """Return the samples of each block without their sign, by their place in the block."""
    if number == 24:
        low, middle, high = blocks
        return [low | middle << 8 | high << 16]
    if number == 212:
        first, shared, second = blocks
        return [first | (shared & 15) << 8, second | (shared & 240) << 4]
    a, b, c, d = blocks
    if number == 310:
        one, two = a | b << 8, c | d << 8
        return [one >> 1 & 1023, two >> 1 & 1023, one >> 11 | (two >> 11) << 5]
    return [a | (b & 3) << 8, b >> 2 | (c & 15) << 6, c >> 4 | (d & 63) << 4]
