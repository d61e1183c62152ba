"""A network as plain arrays: the layers that this project computes itself, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import LvmError

POOL: Final = 2
"""Samples that a pooling layer takes the maximum of, and its stride."""


class UnsupportedNetworkError(LvmError):
    """A model has something that cannot be computed here exactly; the message says what."""


class LayerKind(StrEnum):
    """What a layer does to the tensors that it is given.

    `convolution`: stride 1, no dilation, padding `same`, channels last, linear. `pool`: maximum of
    two neighbouring samples; of an odd number the last is left out. `dense`: linear.
    """

    INPUT = "input"
    CONVOLUTION = "convolution"
    RELU = "relu"
    POOL = "pool"
    CONCATENATE = "concatenate"
    FLATTEN = "flatten"
    DENSE = "dense"
    SOFTMAX = "softmax"


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer.

    Attributes:
        name: unique in its network.
        kind: what it does.
        inputs: layers whose results it takes, in order.
        shape: of its result for one ECG: (samples, channels) or (width,).
        kernel: float32; (taps, channels in, channels out) of a convolution, (width in, width out)
            of a dense layer, else None.
        bias: (channels out,) or (width out,) float32, or None.
    """

    name: str
    kind: LayerKind
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    kernel: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None

    @property
    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Kernel and bias of a convolution or dense layer."""
        assert self.kernel is not None
        assert self.bias is not None
        return self.kernel, self.bias

    @property
    def is_series(self) -> bool:
        """True when the result has samples and channels."""
        return len(self.shape) == 2


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Layers in an order in which they can be computed.

    Attributes:
        layers: each after those that it takes.
        outputs: names of the layers whose results are the network's.
    """

    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        known: dict[str, Layer] = {}
        for layer in self.layers:
            missing = [name for name in layer.inputs if name not in known]
            if missing or layer.name in known:
                raise ValueError(
                    f"layer {layer.name!r} is there twice or takes {missing}, which come later or "
                    "never; expected each layer once, after those that it takes"
                )
            known[layer.name] = layer
        unknown = [name for name in self.outputs if name not in known]
        if unknown or not self.outputs:
            raise ValueError(f"outputs {unknown or 'none'}, expected names of layers")

    def __getitem__(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def takers(self, name: str) -> list[Layer]:
        """Return the layers that take a layer's result."""
        return [layer for layer in self.layers if name in layer.inputs]
