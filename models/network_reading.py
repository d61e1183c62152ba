"""Reading a Keras model into plain arrays; whatever is not computed here exactly is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from models.network import POOL, Layer, LayerKind, Network, UnsupportedNetworkError

_FLOAT32: Final = "float32"
_CHANNELS_LAST: Final = "channels_last"
_ACTIVATIONS: Final = {"relu": LayerKind.RELU, "softmax": LayerKind.SOFTMAX}


def read_network(keras_model: Any) -> Network:
    """Return a functional Keras model as plain arrays, copies of its weights.

    Args:
        keras_model: of the layers that `LayerKind` names; a relu or softmax may be a layer of its
            own or the activation of a layer.

    Raises:
        UnsupportedNetworkError: another layer, or another setting of one.
    """
    makers = {id(layer.output): layer.name for layer in keras_model.layers}
    last: dict[str, str] = {}
    layers: list[Layer] = []
    for keras_layer in keras_model.layers:
        made = _layers_of(keras_layer, tuple(last[makers[id(t)]] for t in _inputs(keras_layer)))
        layers += made
        last[keras_layer.name] = made[-1].name
    outputs = tuple(last[makers[id(tensor)]] for tensor in keras_model.outputs)
    return Network(tuple(layers), outputs)


def _inputs(keras_layer: Any) -> list[Any]:
    if type(keras_layer).__name__ == "InputLayer":
        return []
    given = keras_layer.input
    return list(given) if isinstance(given, list | tuple) else [given]


def _layers_of(keras_layer: Any, inputs: tuple[str, ...]) -> list[Layer]:
    """Return the layers that a Keras layer stands for: itself, and its activation if it has one."""
    kind = type(keras_layer).__name__
    reader = _READERS.get(kind)
    if reader is None:
        known = ", ".join(sorted(_READERS))
        raise _refused(keras_layer, f"is a {kind}, which is not computed here; expected {known}")
    policy = keras_layer.dtype_policy.compute_dtype
    _require(keras_layer, "the dtype it computes in", policy, _FLOAT32)
    shape = tuple(keras_layer.output.shape[1:])
    if None in shape or len(shape) not in (1, 2):
        raise _refused(keras_layer, f"gives shape {shape}, expected one or two known sizes")
    return reader(keras_layer, inputs, shape)


def _input(keras_layer: Any, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    return [Layer(keras_layer.name, LayerKind.INPUT, inputs, shape)]


def _convolution(keras_layer: Any, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    for what, value, expected in (
        ("stride", keras_layer.strides, (1,)),
        ("dilation", keras_layer.dilation_rate, (1,)),
        ("padding", keras_layer.padding, "same"),
        ("groups", keras_layer.groups, 1),
        ("data format", keras_layer.data_format, _CHANNELS_LAST),
    ):
        _require(keras_layer, what, value, expected)
    return _weighted(keras_layer, LayerKind.CONVOLUTION, inputs, shape)


def _dense(keras_layer: Any, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    if len(shape) != 1:
        raise _refused(keras_layer, f"gives shape {shape}, expected one size: flatten before it")
    return _weighted(keras_layer, LayerKind.DENSE, inputs, shape)


def _weighted(keras_layer: Any, kind: LayerKind, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    kernel, *biases = (np.asarray(array, dtype=np.float32) for array in keras_layer.get_weights())
    bias = biases[0] if biases else np.zeros(shape[-1], dtype=np.float32)
    linear = Layer(keras_layer.name, kind, inputs, shape, kernel, bias)
    activation = keras_layer.activation.__name__
    if activation == "linear":
        return [linear]
    if activation not in _ACTIVATIONS or (activation == "softmax" and len(shape) != 1):
        raise _refused(keras_layer, f"has activation {activation}, expected linear or relu")
    after = f"{keras_layer.name}/{activation}"
    return [linear, Layer(after, _ACTIVATIONS[activation], (keras_layer.name,), shape)]


def _activation(keras_layer: Any, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    activation = keras_layer.activation.__name__
    if activation not in _ACTIVATIONS or (activation == "softmax" and len(shape) != 1):
        raise _refused(keras_layer, f"is the activation {activation}, expected relu")
    return [Layer(keras_layer.name, _ACTIVATIONS[activation], inputs, shape)]


def _relu(keras_layer: Any, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    plain = (keras_layer.max_value, float(keras_layer.negative_slope), float(keras_layer.threshold))
    _require(keras_layer, "limit, slope and threshold", plain, (None, 0.0, 0.0))
    return [Layer(keras_layer.name, LayerKind.RELU, inputs, shape)]


def _pool(keras_layer: Any, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    _require(keras_layer, "pool size", keras_layer.pool_size, (POOL,))
    _require(keras_layer, "stride", keras_layer.strides, (POOL,))
    _require(keras_layer, "data format", keras_layer.data_format, _CHANNELS_LAST)
    n_in = keras_layer.input.shape[1]
    if keras_layer.padding != "valid" and n_in % POOL:
        raise _refused(keras_layer, f"pads {n_in} samples, expected padding valid or an even number")
    return [Layer(keras_layer.name, LayerKind.POOL, inputs, shape)]


def _concatenate(keras_layer: Any, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    if keras_layer.axis not in (-1, len(shape)):
        raise _refused(keras_layer, f"joins along axis {keras_layer.axis}, expected the last one")
    return [Layer(keras_layer.name, LayerKind.CONCATENATE, inputs, shape)]


def _flatten(keras_layer: Any, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    _require(keras_layer, "data format", keras_layer.data_format, _CHANNELS_LAST)
    return [Layer(keras_layer.name, LayerKind.FLATTEN, inputs, shape)]


_Reader = Callable[[Any, tuple[str, ...], tuple[int, ...]], list[Layer]]
_READERS: Final[Mapping[str, _Reader]] = {
    "InputLayer": _input,
    "Conv1D": _convolution,
    "Dense": _dense,
    "Activation": _activation,
    "ReLU": _relu,
    "MaxPooling1D": _pool,
    "Concatenate": _concatenate,
    "Flatten": _flatten,
}


def _require(keras_layer: Any, what: str, value: Any, expected: Any) -> None:
    if value != expected:
        raise _refused(keras_layer, f"has {what} {value}, expected {expected}")


def _refused(keras_layer: Any, what: str) -> UnsupportedNetworkError:
    return UnsupportedNetworkError(
        f"layer {keras_layer.name!r} {what}. The TensorFlow engine computes it: --engine tensorflow"
    )
