"""Tiles, against a convolution written out sample by sample."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.engines.spectral_plan import make_tiling


def _correlate_same(samples: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keras's `same` padding written out: (k - 1) // 2 zeros before the series, the rest after."""
    n_taps, before = len(kernel), (len(kernel) - 1) // 2
    padded = np.concatenate([np.zeros(before), samples, np.zeros(n_taps)])
    return np.array([padded[i : i + n_taps] @ kernel for i in range(len(samples))])


def _by_tiles(samples: NDArray[np.float64], kernel: NDArray[np.float64], taps: set[int]) -> object:
    tiling = make_tiling(len(samples), taps)
    rows = np.zeros(tiling.n_rows)
    rows[tiling.before : tiling.before + len(samples)] = samples
    real = tiling.kernel_spectrum(kernel.astype(np.float32)[:, None, None]).astype(np.float64)
    spectrum = real[:, 0, 0] + 1j * real[:, 0, 1]
    found = []
    for tile in range(tiling.n_tiles):
        first = tile * tiling.step
        product = np.fft.rfft(rows[first : first + tiling.length]) * spectrum
        results = np.fft.irfft(product, n=tiling.length, norm="forward")
        found.append(results[: tiling.step])
    return np.concatenate(found)[: len(samples)]


@settings(max_examples=60, deadline=None)
@given(n_samples=st.integers(1, 900), n_taps=st.integers(1, 120), other=st.integers(1, 120), seed=st.integers(0, 2**16))
@example(n_samples=1, n_taps=1, other=64, seed=0)  # the overlap is all but one sample of the shortest transform
def test_tiles__give_the_convolution_of_keras(n_samples: int, n_taps: int, other: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples, kernel = rng.normal(size=n_samples), rng.normal(size=n_taps)
    expected = _correlate_same(samples, kernel.astype(np.float32).astype(np.float64))
    actual = _by_tiles(samples, kernel, {n_taps, other})
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("n_samples", [5000, 2500, 1250, 625])
def test_make_tiling__of_the_published_lengths(n_samples: int) -> None:
    tiling = make_tiling(n_samples, {71})
    assert tiling.length == 384
    assert tiling.step + 70 <= tiling.length
    assert tiling.step % 2 == 0
    assert (tiling.n_tiles - 1) * tiling.step < n_samples <= tiling.n_tiles * tiling.step


def test_make_tiling__too_long_a_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="a kernel has 3000 taps, expected at most 409"):
        make_tiling(5000, {3000})


def test_kernel_spectrum__is_a_complex_product_written_with_real_numbers() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(5, 3, 2)).astype(np.float32)
    tiling = make_tiling(40, {5})
    real = tiling.kernel_spectrum(kernel)
    parts = rng.normal(size=(tiling.n_frequencies, 4, 3)) + 1j * rng.normal(size=(tiling.n_frequencies, 4, 3))
    interleaved = np.ascontiguousarray(parts).view(np.float64)
    by_real = (interleaved @ real.astype(np.float64)).view(np.complex128)
    placed = np.zeros((tiling.length, 3, 2))
    placed[tiling.before - 2 : tiling.before + 3] = kernel
    expected = parts @ (np.fft.rfft(placed, axis=0).conj() / tiling.length)
    np.testing.assert_allclose(by_real, expected, rtol=0, atol=1e-7)
