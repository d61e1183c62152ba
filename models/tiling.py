"""How a series is cut into overlapping tiles for convolution through the Fourier transform."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

# Lengths whose transforms are fast.
_LENGTHS: Final = (64, 128, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048)
# A longer tile wastes less on the overlap, but its kernels' spectra leave the cache. Lengths of 320
# to 576 were equally fast within 10 % for the published networks.
_LARGEST_OVERLAP: Final = 0.2


@dataclass(frozen=True, slots=True)
class Tiling:
    """Overlap-save: each tile of `step` results comes from `length` samples.

    Row r of a signal holds sample r - `before`; tile t is made of rows t * step up to, not
    including, t * step + length, and its first `step` results are right.

    Attributes:
        n_samples: of the series.
        length: of one transform, even.
        step: results of one tile, even, so that no pair of samples that is pooled is cut.
        n_tiles: tiles that cover the series.
        before: rows of zeros before the first sample.
    """

    n_samples: int
    length: int
    step: int
    n_tiles: int
    before: int

    @property
    def n_rows(self) -> int:
        """Rows of a signal, with the zeros before and after it."""
        return (self.n_tiles - 1) * self.step + self.length

    @property
    def n_frequencies(self) -> int:
        """Frequencies of a tile's spectrum."""
        return self.length // 2 + 1

    @property
    def samples(self) -> slice:
        """Rows of a signal that hold its samples."""
        return slice(self.before, self.before + self.n_samples)

    def tile(self, number: int) -> slice:
        """Return the rows that a tile is made of."""
        return slice(number * self.step, number * self.step + self.length)

    def n_results(self, number: int) -> int:
        """Return how many results of a tile belong to the series; the last tile may have fewer."""
        return min(self.step, self.n_samples - number * self.step)

    def kernel_spectrum(self, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what a tile's spectrum is multiplied by, as real numbers.

        A complex product written with real numbers: interleaved real and imaginary parts of
        (n, c) times this (2c, 2d) are those of (n, d). Matrix products of that form run at full
        speed where complex ones do not.

        Args:
            kernel: (taps, c, d) float32, at most as long as the tiling was made for.

        Returns:
            (frequencies, 2c, 2d) float32, computed in float64 and rounded once.
        """
        n_taps, n_in, n_out = kernel.shape
        shift = self.before - (n_taps - 1) // 2
        placed = np.zeros((self.length, n_in, n_out))
        placed[shift : shift + n_taps] = kernel
        # Conjugated, because a convolution layer correlates; divided here, not after the inverse.
        spectrum = np.fft.rfft(placed, axis=0).conj() / self.length
        real = np.empty((self.n_frequencies, n_in, 2, n_out, 2), dtype=np.float32)
        real[:, :, 0, :, 0] = real[:, :, 1, :, 1] = spectrum.real
        real[:, :, 0, :, 1] = spectrum.imag
        real[:, :, 1, :, 0] = -spectrum.imag
        return real.reshape(self.n_frequencies, 2 * n_in, 2 * n_out)


def make_tiling(n_samples: int, taps: Iterable[int]) -> Tiling:
    """Return a tiling of a series for convolutions of some lengths, padded as `same`.

    It has the shortest transforms that spend a fifth on the overlap at most, or that do in one.

    Args:
        n_samples: of the series, 1 or more.
        taps: lengths of the kernels that it will be convolved with.

    Raises:
        ValueError: no length is long enough.
    """
    lengths = tuple(taps)
    before = max((n_taps - 1) // 2 for n_taps in lengths)
    overlap = before + max(n_taps // 2 for n_taps in lengths)
    for length in _LENGTHS:
        if overlap <= _LARGEST_OVERLAP * length or n_samples + overlap <= length:
            longest = (length - overlap) // 2 * 2
            step = -(-n_samples // -(-n_samples // longest))
            step += step % 2
            return Tiling(n_samples, length, step, -(-n_samples // step), before)
    raise ValueError(f"a kernel has {max(lengths)} taps, expected at most {int(_LARGEST_OVERLAP * _LENGTHS[-1])}")
