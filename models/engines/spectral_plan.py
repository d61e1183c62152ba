"""The plan of the spectral engine, made once from a network: buffers, spectra and steps.

Each series of a network is a list of *signals*, its parts along the channels: a concatenation
copies nothing. Convolutions that take the same signals share their transforms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.engines.network import Layer, LayerKind, Network, UnsupportedNetworkError

# Lengths of fast transforms.
_LENGTHS: Final = (64, 128, 256, 320, 384, 512, 640, 768, 1024, 1280, 1536, 2048)
# A longer tile wastes less on the overlap, but its kernels' spectra leave the cache. Lengths of 320
# to 576 were equally fast within 10 % for the published networks.
_LARGEST_OVERLAP: Final = 0.2


@dataclass(frozen=True, slots=True)
class Tiling:
    """Overlap-save: each tile of `step` results is computed from `length` samples.

    Row r of a signal holds sample r - `before`. Tile t takes the rows from t * step up to, not
    including, t * step + length; its first `step` results are valid.
    """

    length: int  # of one transform, even
    step: int  # results of one tile; even, so that no tile ends within a pair of pooled samples
    n_tiles: int  # of the series
    before: int  # rows of zeros before the first sample

    @property
    def n_rows(self) -> int:
        """Rows of a signal, with the zeros before and after it."""
        return (self.n_tiles - 1) * self.step + self.length

    @property
    def n_frequencies(self) -> int:
        """Frequencies of a tile's spectrum."""
        return self.length // 2 + 1

    def kernel_spectrum(self, kernel: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the factor of a tile's spectrum for a kernel (taps, c, d).

        It is (frequencies, 2c, 2d) float32, computed in float64 and rounded once: a complex product
        written with real numbers, because such matrix products run at full speed and complex ones
        do not. Interleaved real and imaginary parts of (n, c) times (2c, 2d) are those of (n, d).
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
    """Return a tiling of a series for convolutions with kernels of some lengths, padded as `same`.

    Its transforms are the shortest that spend at most a fifth on the overlap, or that hold the
    whole series in one tile. `taps` are the lengths of the kernels.

    Raises:
        ValueError: no length is long enough.
    """
    lengths = tuple(taps)
    before = max((n_taps - 1) // 2 for n_taps in lengths)
    overlap = before + max(n_taps // 2 for n_taps in lengths)
    for length in _LENGTHS:
        longest = (length - overlap) // 2 * 2
        if longest > 0 and (overlap <= _LARGEST_OVERLAP * length or n_samples + overlap <= length):
            step = -(-n_samples // -(-n_samples // longest))
            step += step % 2
            return Tiling(length, step, -(-n_samples // step), before)
    raise ValueError(f"a kernel has {max(lengths)} taps, expected at most {int(_LARGEST_OVERLAP * _LENGTHS[-1])}")


@dataclass(frozen=True, slots=True)
class Signal:
    """A stored series: the ECG, or the result of a convolution, relu or pooling."""

    name: str  # of the layer that gives it
    n_samples: int
    n_channels: int
    tiling: Tiling | None  # of the convolutions that take it; None when none does

    @property
    def n_rows(self) -> int:
        """Rows of its buffer."""
        return self.n_samples if self.tiling is None else self.tiling.n_rows

    @property
    def first_row(self) -> int:
        """Row of its first sample."""
        return 0 if self.tiling is None else self.tiling.before


@dataclass(frozen=True, slots=True)
class Spectra:
    """The transforms of some signals side by side, in the order of the channels.

    Convolutions of these signals, or of the first of them, share the transforms.
    """

    tiling: Tiling
    signals: tuple[Signal, ...]

    @property
    def n_channels(self) -> int:
        """Channels of all signals."""
        return sum(signal.n_channels for signal in self.signals)


@dataclass(frozen=True, slots=True, eq=False)
class Convolve:
    """A convolution, with the relu and the pooling after it where nothing else takes its result."""

    spectra: int  # index of the spectra of which it takes the leading channels
    fresh: tuple[tuple[Signal, int], ...]  # signals to be transformed now, with their first channel
    n_channels: int  # that it takes
    kernel: NDArray[np.float32]  # as `Tiling.kernel_spectrum` gives it
    bias: NDArray[np.float32]  # (channels out,)
    target: Signal
    relu: bool  # negative results become 0
    pool: bool  # two neighbouring results become their maximum


@dataclass(frozen=True, slots=True)
class Pointwise:
    """A relu or a pooling by itself, of a signal that another layer takes too."""

    source: Signal
    target: Signal
    relu: bool
    pool: bool


@dataclass(frozen=True, slots=True)
class Flatten:
    """Signals side by side as one row of numbers for each ECG, samples before channels."""

    name: str
    signals: tuple[Signal, ...]


Step: TypeAlias = Convolve | Pointwise | Flatten | Layer
"""One step; a `Layer` is one without samples: dense, relu, softmax or concatenate."""


@dataclass(frozen=True, slots=True, eq=False)
class SpectralPlan:
    """The plan, which threads share and do not change."""

    signals: tuple[Signal, ...]  # to be stored, the ECG first
    spectra: tuple[Spectra, ...]  # to be stored
    steps: tuple[Step, ...]

    @property
    def shared_bytes(self) -> int:
        """Memory of the kernels' spectra."""
        return sum(step.kernel.nbytes for step in self.steps if isinstance(step, Convolve))


def plan_network(network: Network) -> SpectralPlan:
    """Plan how a network is computed.

    Raises:
        UnsupportedNetworkError: the network does not take exactly one series, gives a series, or
            has a kernel that is too long.
    """
    return _Planner(_over_parts(network)).plan()


def _over_parts(network: Network) -> Network:
    """Return the same network with each relu and pooling before, not after, a concatenation."""
    layers: list[Layer] = []
    parts: dict[str, tuple[Layer, ...]] = {}
    for layer in network.layers:
        of_inputs = [parts.get(name, ()) for name in layer.inputs]
        if layer.is_series and layer.kind in (LayerKind.RELU, LayerKind.POOL) and of_inputs[0]:
            made = tuple(
                Layer(f"{layer.name}/{part.name}", layer.kind, (part.name,), (layer.shape[0], part.shape[1]))
                for part in of_inputs[0]
            )
            joined = tuple(one.name for one in made)
            layers += [*made, Layer(layer.name, LayerKind.CONCATENATE, joined, layer.shape)]
            parts[layer.name] = made
            continue
        layers.append(layer)
        if layer.is_series and layer.kind is LayerKind.CONCATENATE:
            parts[layer.name] = tuple(
                part for name, known in zip(layer.inputs, of_inputs, strict=True) for part in known or (network[name],)
            )
    return Network(tuple(layers), network.outputs)


class _Planner:
    """Plans a network whose relus and poolings take one signal each."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._series = [layer for layer in network.layers if layer.is_series]
        _check_ends(network, self._series)
        self._convolutions = [layer for layer in self._series if layer.kind is LayerKind.CONVOLUTION]
        self._fused = {layer.name: self._fuse(layer) for layer in self._convolutions}
        self._signals: dict[str, Signal] = {}
        tilings = self._tilings()
        taken = {name for layer in self._convolutions for name in self._sources(layer.inputs[0])}
        for layer in self._series:
            if layer.kind is LayerKind.CONCATENATE:
                continue
            stored = self._stored_as(layer.name)
            if stored not in self._signals:
                samples, channels = network[stored].shape
                tiling = tilings[samples] if stored in taken else None
                self._signals[stored] = Signal(stored, samples, channels, tiling)
        self._spectra = self._shared_spectra()
        self._transformed: dict[int, int] = {}  # leading signals, by index of the spectra

    def plan(self) -> SpectralPlan:
        # The relus and poolings that are computed with their convolution.
        fused = {name for chain in self._fused.values() for name in chain}
        steps: list[Step] = []
        for layer in self._network.layers:
            if layer.kind is LayerKind.CONVOLUTION:
                steps.append(self._convolve(layer))
            elif layer.kind is LayerKind.FLATTEN:
                steps.append(Flatten(layer.name, self._signals_of(layer.inputs[0])))
            elif layer.kind in (LayerKind.RELU, LayerKind.POOL) and layer.is_series:
                if layer.name not in fused:
                    (source,) = self._signals_of(layer.inputs[0])
                    pool = layer.kind is LayerKind.POOL
                    steps.append(Pointwise(source, self._signals[layer.name], not pool, pool))
            elif not layer.is_series and layer.kind is not LayerKind.INPUT:
                steps.append(layer)
        return SpectralPlan(tuple(self._signals.values()), self._spectra, tuple(steps))

    def _fuse(self, layer: Layer) -> tuple[str, ...]:
        """Return the relu and pooling after a convolution that can be computed together with it."""
        chain: list[Layer] = []
        while True:
            takers = self._network.takers(chain[-1].name if chain else layer.name)
            kinds = {LayerKind.RELU, LayerKind.POOL} - {one.kind for one in chain}
            if len(takers) != 1 or takers[0].kind not in kinds:
                return tuple(one.name for one in chain)
            chain.append(takers[0])

    def _stored_as(self, name: str) -> str:
        """Return the layer under whose name the result of a layer is stored."""
        for start, chain in self._fused.items():
            if name == start or name in chain:
                return chain[-1] if chain else start
        return name

    def _sources(self, name: str) -> tuple[str, ...]:
        """Return the stored layers that, side by side, are the result of a layer."""
        layer = self._network[name]
        if layer.kind is LayerKind.CONCATENATE:
            return tuple(source for given in layer.inputs for source in self._sources(given))
        return (self._stored_as(name),)

    def _signals_of(self, name: str) -> tuple[Signal, ...]:
        return tuple(self._signals[source] for source in self._sources(name))

    def _tilings(self) -> dict[int, Tiling]:
        """Return one tiling for each length of a series that is convolved."""
        taps: dict[int, set[int]] = {}
        for layer in self._convolutions:
            taps.setdefault(layer.shape[0], set()).add(layer.weights[0].shape[0])
        try:
            return {samples: make_tiling(samples, found) for samples, found in taps.items()}
        except ValueError as error:
            raise UnsupportedNetworkError(str(error)) from error

    def _shared_spectra(self) -> tuple[Spectra, ...]:
        """Return the spectra to store; a convolution takes the leading signals of one of them."""
        wanted = {self._signals_of(layer.inputs[0]) for layer in self._convolutions}
        longest = sorted(wanted, key=lambda signals: (-len(signals), [one.name for one in signals]))
        found: list[Spectra] = []
        for signals in longest:
            tiling = signals[0].tiling
            assert tiling is not None
            if not any(one.signals[: len(signals)] == signals for one in found):
                found.append(Spectra(tiling, signals))
        return tuple(found)

    def _convolve(self, layer: Layer) -> Convolve:
        signals = self._signals_of(layer.inputs[0])
        number, spectra = next(
            (n, one) for n, one in enumerate(self._spectra) if one.signals[: len(signals)] == signals
        )
        firsts = np.cumsum([0, *(one.n_channels for one in signals)])
        done = self._transformed.get(number, 0)
        fresh = [(signal, int(first)) for signal, first in zip(signals, firsts[:-1], strict=True)][done:]
        self._transformed[number] = max(done, len(signals))
        kinds = {self._network[name].kind for name in self._fused[layer.name]}
        kernel, bias = layer.weights
        return Convolve(
            spectra=number,
            fresh=tuple(fresh),
            n_channels=int(firsts[-1]),
            kernel=spectra.tiling.kernel_spectrum(kernel),
            bias=bias,
            target=self._signals[self._stored_as(layer.name)],
            relu=LayerKind.RELU in kinds,
            pool=LayerKind.POOL in kinds,
        )


def _check_ends(network: Network, series: list[Layer]) -> None:
    n_inputs = sum(layer.kind is LayerKind.INPUT for layer in series)
    given = [name for name in network.outputs if network[name].is_series]
    if n_inputs == 1 and not given:
        return
    problem = f"gives the series {given}, expected numbers" if given else f"takes {n_inputs} series, expected one"
    raise UnsupportedNetworkError(f"the network {problem}; the TensorFlow engine computes it: --engine tensorflow")
