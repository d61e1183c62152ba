"""Small networks as Keras models, and a plain evaluation of a network in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalogue.spec import OUTPUT_LVH, OUTPUT_MASS
from models.engines.network import Layer, LayerKind, Network
from models.machine.runtime import import_keras


def evaluate(network: Network, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Compute every layer in float64, convolutions sample by sample; nothing of the engine."""
    found: dict[str, NDArray[np.float64]] = {
        name: np.asarray(values, dtype=np.float64) for name, values in feeds.items()
    }
    for layer in network.layers:
        if layer.kind is not LayerKind.INPUT:
            found[layer.name] = _layer(layer, [found[name] for name in layer.inputs])
    return found


def _layer(layer: Layer, given: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    match layer.kind:
        case LayerKind.CONVOLUTION:
            kernel, bias = (array.astype(np.float64) for array in layer.weights)
            n_taps = len(kernel)
            before = (n_taps - 1) // 2
            padded = np.pad(given[0], ((0, 0), (before, n_taps - 1 - before), (0, 0)))
            windows = np.lib.stride_tricks.sliding_window_view(padded, n_taps, axis=1)
            return np.einsum("ntcj,jcd->ntd", windows, kernel, optimize=True) + bias
        case LayerKind.RELU:
            return np.maximum(given[0], 0)
        case LayerKind.POOL:
            pairs = given[0].shape[1] // 2
            return given[0][:, : 2 * pairs].reshape(len(given[0]), pairs, 2, -1).max(axis=2)
        case LayerKind.CONCATENATE:
            return np.concatenate(given, axis=-1)
        case LayerKind.FLATTEN:
            return given[0].reshape(len(given[0]), -1)
        case LayerKind.DENSE:
            kernel, bias = (array.astype(np.float64) for array in layer.weights)
            return given[0] @ kernel + bias
        case LayerKind.SOFTMAX:
            powers = np.exp(given[0] - given[0].max(axis=1, keepdims=True))
            return powers / powers.sum(axis=1, keepdims=True)
    raise AssertionError(layer.kind)


def small_model(n_samples: int, taps: tuple[int, int], odd: str = "") -> Any:
    """Return a graph with every layer that is computed here, joined in ways that are not published.

    Args:
        n_samples: of the ECG.
        taps: of the first and last, and of the other convolutions.
        odd: what is unusual about it: `pool_of_joined`, `relu_of_joined`, `pool_then_relu`, `bare`
            (no bias, relu or pooling after the third convolution) or nothing.
    """
    layers = import_keras().layers
    ecg = layers.Input((n_samples, 12), name="ecg")
    sex = layers.Input((2,), name="sex")

    def conv(x: Any, filters: int, n_taps: int, **options: Any) -> Any:
        return layers.Conv1D(filters, n_taps, padding="same", **options)(x)

    first = layers.ReLU()(conv(ecg, 4, taps[0]))
    joined = layers.Concatenate()([first, conv(first, 5, taps[1], activation="relu")])
    if odd == "pool_of_joined":
        joined = layers.MaxPooling1D(2)(joined)
    if odd == "relu_of_joined":
        joined = layers.ReLU()(layers.Concatenate()([conv(ecg, 2, 3), joined]))
    third = conv(joined, 3, taps[1], use_bias=odd != "bare")
    if odd == "pool_then_relu":
        third = layers.ReLU()(layers.MaxPooling1D(2)(third))
    elif odd != "bare":
        third = layers.MaxPooling1D(2)(layers.ReLU()(third))
    # The same series in another order: its transforms cannot be shared with those above.
    last = conv(layers.Concatenate()([joined, joined]), 2, taps[0])
    flat = layers.Concatenate()([layers.Flatten()(third), layers.Flatten()(last), sex])
    hidden = layers.Activation("relu")(layers.Dense(6)(flat))
    mass = layers.Dense(1, name=OUTPUT_MASS)(hidden)
    lvh = layers.Dense(2, activation="softmax", name=OUTPUT_LVH)(hidden)
    return import_keras().Model([ecg, sex], [mass, lvh])
