"""The spectral engine: a network's convolutions through the Fourier transform, exactly, on numpy.

A direct convolution of 71 taps costs 142 operations per sample and pair of channels; overlap-save
costs a twentieth. Same weights, same float32, same result to rounding: no TensorFlow here.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import scipy
import scipy.fft
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from lvm_core.signal.ecg import LEADS_12, MODEL_LEADS, order_indices
from models.catalogue.spec import LVH_CLASS, OUTPUT_LVH, OUTPUT_MASS, InputRole
from models.engines.network import POOL, Layer, LayerKind, Network
from models.engines.spectral_plan import Convolve, Flatten, Pointwise, Signal, SpectralPlan, Tiling, plan_network
from models.engines.tensorflow_engine import Features, Outputs

# ECGs that are computed side by side at most; larger batches are computed in parts.
_LANES: Final = 8
# Rows of the matrix products at most: small ones stay in the cache, and OpenBLAS multiplies them
# without packing.
_ROWS_PER_PRODUCT: Final = 16
_ORDER: Final = order_indices(LEADS_12, MODEL_LEADS)


class SpectralEngine:
    """A network computed without TensorFlow; see `models.engines.tensorflow_engine.Engine`.

    Several threads may call it at once: each call takes buffers of its own from a pool, and
    computes on one thread.

    Invariant: an ECG's bits depend on the network, the batch size, its place in the batch and the
    processor's instruction set; not on threads, other ECGs or earlier calls.
    """

    def __init__(
        self, network: Network, inputs: Mapping[InputRole, str], outputs: tuple[str, ...], batch_size: int
    ) -> None:
        """Transform the kernels, in a tenth of a second.

        Args:
            network: the model.
            inputs: input layer of each role.
            outputs: what each output of the network is: `OUTPUT_MASS` or `OUTPUT_LVH`.
            batch_size: ECGs per call, 1 or more.

        Raises:
            UnsupportedNetworkError: the network cannot be computed here.
        """
        # Threads of the matrix library would wait for one another on each of the many small
        # products; cores are used by computing several batches at once.
        threadpool_limits(limits=1, user_api="blas")
        self._plan = plan_network(network)
        self._batch_size = batch_size
        self._roles = dict(inputs)
        self._named = dict(zip(outputs, network.outputs, strict=True))
        self._idle: list[_Workspace] = []
        self._lock = threading.Lock()

    @property
    def bytes_shared(self) -> int:
        """Memory of the transformed kernels, once per process."""
        return self._plan.shared_bytes

    @property
    def bytes_per_thread(self) -> int:
        """Memory of the buffers that each thread needs."""
        signals = sum(signal.n_rows * signal.n_channels * 4 for signal in self._plan.signals)
        spectra = sum(one.tiling.n_tiles * one.tiling.n_frequencies * one.n_channels * 8 for one in self._plan.spectra)
        return self._n_lanes * (signals + spectra)

    @property
    def _n_lanes(self) -> int:
        return min(self._batch_size, _LANES)

    def compute(self, counts: NDArray[np.int16], counts_per_unit: NDArray[np.float32], features: Features) -> Outputs:
        """Compute one batch, as `models.engines.tensorflow_engine.Engine.compute`."""
        workspace = self._take()
        try:
            parts = [
                self._part(workspace, counts, counts_per_unit, features, start)
                for start in range(0, self._batch_size, self._n_lanes)
            ]
        finally:
            with self._lock:
                self._idle.append(workspace)
        lvm_z = np.concatenate([part[OUTPUT_MASS][:, 0] for part in parts])
        if OUTPUT_LVH not in self._named:
            return lvm_z, None
        return lvm_z, np.concatenate([part[OUTPUT_LVH][:, LVH_CLASS] for part in parts])

    def description(self) -> dict[str, Any]:
        """Return name, versions and thread settings of the engine."""
        return {"engine": "spectral", "scipy": scipy.__version__, "blas_threads": 1}

    def _take(self) -> _Workspace:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return _Workspace(self._plan, self._n_lanes)

    def _part(
        self,
        workspace: _Workspace,
        counts: NDArray[np.int16],
        counts_per_unit: NDArray[np.float32],
        features: Features,
        start: int,
    ) -> dict[str, NDArray[np.float32]]:
        stop = min(start + self._n_lanes, self._batch_size)
        given = {self._roles[role]: values[start:stop] for role, values in features.items()}
        results = workspace.run(counts[start:stop], counts_per_unit[start:stop], given)
        return {name: results[layer] for name, layer in self._named.items()}


def _tiles_per_product(tiling: Tiling, n_lanes: int) -> int:
    """Return how many tiles are multiplied together: a divisor of their number."""
    most = max(1, _ROWS_PER_PRODUCT // n_lanes)
    return max(n for n in range(1, most + 1) if tiling.n_tiles % n == 0)


class _Workspace:
    """The buffers of one thread; rows of zeros around each signal are written once, here."""

    def __init__(self, plan: SpectralPlan, n_lanes: int) -> None:
        self._plan = plan
        self._n_lanes = n_lanes
        self._signals = {
            signal.name: np.zeros((signal.n_rows, n_lanes, signal.n_channels), dtype=np.float32)
            for signal in plan.signals
        }
        self._spectra = []
        for one in plan.spectra:
            n_together = _tiles_per_product(one.tiling, n_lanes)
            shape = (one.tiling.n_tiles // n_together, one.tiling.n_frequencies, n_together, n_lanes, one.n_channels)
            self._spectra.append(np.zeros(shape, dtype=np.complex64))

    def run(
        self,
        counts: NDArray[np.int16],
        counts_per_unit: NDArray[np.float32],
        features: Mapping[str, NDArray[np.float32]],
    ) -> dict[str, NDArray[np.float32]]:
        """Return the results of all layers without samples, (n, width) each, by name.

        Arguments are those of `Engine.compute` for n ECGs, at most as many as lanes; features are
        given by input layer.
        """
        n_ecgs = counts.shape[0]
        self._load(counts, counts_per_unit)
        results = dict(features)
        for step in self._plan.steps:
            match step:
                case Convolve():
                    self._convolve(step)
                case Pointwise():
                    _write(self._samples(step.source), self._samples(step.target), step)
                case Flatten():
                    results[step.name] = self._flat(step.signals)[:n_ecgs]
                case Layer():
                    results[step.name] = _evaluate(step, [results[name] for name in step.inputs])
        return results

    def _load(self, counts: NDArray[np.int16], counts_per_unit: NDArray[np.float32]) -> None:
        """Write counts to the first signal, cast, scaled and in the network's order of leads."""
        samples = self._samples(self._plan.signals[0])
        for lane, (own, unit) in enumerate(zip(counts, counts_per_unit, strict=True)):
            np.divide(own[_ORDER].T, unit, out=samples[:, lane])

    def _samples(self, signal: Signal) -> NDArray[np.float32]:
        first = signal.first_row
        return self._signals[signal.name][first : first + signal.n_samples]

    def _convolve(self, step: Convolve) -> None:
        groups = self._spectra[step.spectra]
        tiling = self._plan.spectra[step.spectra].tiling
        _, n_frequencies, n_together, n_lanes, n_channels = groups.shape
        n_rows, n_out = n_together * n_lanes, step.bias.shape[0]
        fresh = [
            (_frames(self._signals[signal.name], tiling), slice(first, first + signal.n_channels))
            for signal, first in step.fresh
        ]
        product = np.empty((n_frequencies, n_rows, n_out), dtype=np.complex64)
        for number, group in enumerate(groups):
            tiles = slice(number * n_together, (number + 1) * n_together)
            for frames, channels in fresh:
                group[..., channels] = _to_spectrum(frames[:, tiles])
            flat = group.reshape(n_frequencies, n_rows, n_channels).view(np.float32)
            np.matmul(flat[:, :, : 2 * step.n_channels], step.kernel, out=product.view(np.float32))
            product[0] += step.bias
            results = _to_samples(product, tiling.length)[: tiling.step]
            self._write_tiles(results.reshape(-1, n_together, n_lanes, n_out), tiles, step)

    def _write_tiles(self, results: NDArray[np.float32], tiles: slice, step: Convolve) -> None:
        """Write the results of some tiles, (step, tiles, lanes, channels), where they belong."""
        target = self._samples(step.target)
        n_samples = results.shape[0] // (POOL if step.pool else 1)
        own = target[tiles.start * n_samples : tiles.stop * n_samples]
        n_whole = own.shape[0] // n_samples  # all but the last tile of a series
        whole = own[: n_whole * n_samples].reshape(n_whole, n_samples, *own.shape[1:])
        _write(results[:, :n_whole], whole.swapaxes(0, 1), step)
        if n_whole < results.shape[1]:
            rest = own[n_whole * n_samples :]
            _write(results[: rest.shape[0] * (POOL if step.pool else 1), n_whole], rest, step)

    def _flat(self, signals: tuple[Signal, ...]) -> NDArray[np.float32]:
        """Return (lanes, samples * channels), as Keras flattens (lanes, samples, channels)."""
        joined = np.concatenate([self._samples(signal).transpose(1, 0, 2) for signal in signals], axis=2)
        return joined.reshape(self._n_lanes, -1)


def _frames(rows: NDArray[np.float32], tiling: Tiling) -> NDArray[np.float32]:
    """Return the overlapping tiles of a signal as a view, (length, tiles, lanes, channels)."""
    stride = rows.strides[0]
    return np.lib.stride_tricks.as_strided(
        rows,
        (tiling.length, tiling.n_tiles, *rows.shape[1:]),
        (stride, stride * tiling.step, *rows.strides[1:]),
        writeable=False,
    )


def _to_spectrum(tile: NDArray[np.float32]) -> NDArray[np.complex64]:
    """Return the transform of tiles along their samples."""
    spectrum: NDArray[np.complex64] = scipy.fft.rfft(tile, axis=0, workers=1)
    return spectrum


def _to_samples(spectrum: NDArray[np.complex64], length: int) -> NDArray[np.float32]:
    """Return the samples of a spectrum along its frequencies, not divided by their number."""
    samples: NDArray[np.float32] = scipy.fft.irfft(spectrum, n=length, axis=0, norm="forward", workers=1)
    return samples


def _write(source: NDArray[np.float32], target: NDArray[np.float32], step: Convolve | Pointwise) -> None:
    """Write samples to the start of a signal, through relu and pooling where the step has them.

    The maximum of two neighbours is taken first: it commutes with relu, and leaves half the work.
    """
    if step.pool:
        n_pairs = source.shape[0] // 2
        pooled = target[:n_pairs]
        np.maximum(source[0 : 2 * n_pairs : 2], source[1 : 2 * n_pairs : 2], out=pooled)
        if step.relu:
            np.maximum(pooled, 0, out=pooled)
    elif step.relu:
        np.maximum(source, 0, out=target[: source.shape[0]])
    else:
        target[: source.shape[0]] = source


def _evaluate(layer: Layer, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the result of a layer without samples."""
    if layer.kind is LayerKind.CONCATENATE:
        return np.concatenate(inputs, axis=1)
    (values,) = inputs
    if layer.kind is LayerKind.DENSE:
        kernel, bias = layer.weights
        return np.asarray(np.matmul(values, kernel) + bias, dtype=np.float32)
    if layer.kind is LayerKind.RELU:
        return np.maximum(values, 0)
    if layer.kind is LayerKind.SOFTMAX:
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
    raise AssertionError(layer.kind)
