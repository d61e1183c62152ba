"""A network as plain arrays: read from a Keras model, and kept in an `.npz` file."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import LvmError
from models.catalogue.known import ModelSource
from models.catalogue.loading import LoadedModel, load_model
from models.catalogue.saved_model import write_atomically
from models.catalogue.spec import InputRole
from models.engines.tensorflow_engine import Reference, keras_reference
from models.machine.host import home_dir
from models.machine.runtime import configure_threads

POOL: Final = 2
"""Samples of which a pooling layer takes the maximum, and its stride."""

_FORMAT: Final = 1
_LOG: Final = logging.getLogger("lvm_ai.models")


class UnsupportedNetworkError(LvmError):
    """The spectral engine cannot compute a model exactly; the message says why."""


class NetworkFileError(LvmError):
    """A file of a network cannot be used; the message says why."""


class LayerKind(StrEnum):
    """What a layer computes from its inputs.

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
    """One layer; only convolutions and dense layers have a kernel and a bias."""

    name: str  # unique in its network
    kind: LayerKind
    inputs: tuple[str, ...]  # names of the layers whose results it takes, in order
    shape: tuple[int, ...]  # of its result for one ECG: (samples, channels) or (width,)
    # (taps, channels in, channels out) of a convolution, (width in, width out) of a dense layer.
    kernel: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None  # (channels out,) or (width out,)

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
    """Layers, each after its inputs, and the names of those that give the network's results."""

    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        known: dict[str, Layer] = {}
        for layer in self.layers:
            missing = [name for name in layer.inputs if name not in known]
            if missing or layer.name in known:
                raise ValueError(
                    f"layer {layer.name!r} appears twice or takes {missing}, which come later or "
                    "never; expected each layer once, after its inputs"
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


_ACTIVATIONS: Final = {"relu": LayerKind.RELU, "softmax": LayerKind.SOFTMAX}
_KINDS: Final = {
    "InputLayer": LayerKind.INPUT,
    "Conv1D": LayerKind.CONVOLUTION,
    "Dense": LayerKind.DENSE,
    "Activation": LayerKind.RELU,
    "ReLU": LayerKind.RELU,
    "MaxPooling1D": LayerKind.POOL,
    "Concatenate": LayerKind.CONCATENATE,
    "Flatten": LayerKind.FLATTEN,
}
_CHANNELS_LAST: Final = ("data format", "data_format", "channels_last")
# Settings of Keras layers: in words, the attribute, and the only value that is computed here.
_SETTINGS: Final[Mapping[str, tuple[tuple[str, str, Any], ...]]] = {
    "Conv1D": (
        ("stride", "strides", (1,)),
        ("dilation", "dilation_rate", (1,)),
        ("padding", "padding", "same"),
        ("groups", "groups", 1),
        _CHANNELS_LAST,
    ),
    "ReLU": (("limit", "max_value", None), ("slope", "negative_slope", 0), ("threshold", "threshold", 0)),
    "MaxPooling1D": (("pool size", "pool_size", (POOL,)), ("stride", "strides", (POOL,)), _CHANNELS_LAST),
    "Flatten": (_CHANNELS_LAST,),
}


def read_network(keras_model: Any) -> Network:
    """Return a functional Keras model as plain arrays, copies of its weights.

    A relu or softmax may be a layer of its own or the activation of a layer.

    Raises:
        UnsupportedNetworkError: `LayerKind` does not hold a layer, or a layer has other settings.
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
    """Return what a Keras layer becomes: one layer, and one for its activation if it has any."""
    kind = type(keras_layer).__name__
    if kind not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        raise _refused(keras_layer, f"is a {kind}, which the spectral engine does not compute; expected {known}")
    _require(keras_layer, "the compute dtype", keras_layer.dtype_policy.compute_dtype, "float32")
    for what, attribute, expected in _SETTINGS.get(kind, ()):
        _require(keras_layer, what, getattr(keras_layer, attribute), expected)
    shape = tuple(keras_layer.output.shape[1:])
    _check_shape(keras_layer, kind, shape)
    if kind in ("Conv1D", "Dense"):
        return _weighted(keras_layer, _KINDS[kind], inputs, shape)
    made = _activation(keras_layer, shape) if kind == "Activation" else _KINDS[kind]
    return [Layer(keras_layer.name, made, inputs, shape)]


def _check_shape(keras_layer: Any, kind: str, shape: tuple[int, ...]) -> None:
    if None in shape or len(shape) not in (1, 2):
        raise _refused(keras_layer, f"gives shape {shape}, expected one or two known sizes")
    if kind == "Dense" and len(shape) != 1:
        raise _refused(keras_layer, f"gives shape {shape}, expected one size: flatten before it")
    if kind == "Concatenate" and keras_layer.axis not in (-1, len(shape)):
        raise _refused(keras_layer, f"joins along axis {keras_layer.axis}, expected the last one")
    if kind == "MaxPooling1D" and keras_layer.padding != "valid" and keras_layer.input.shape[1] % POOL:
        n_in = keras_layer.input.shape[1]
        raise _refused(keras_layer, f"pads {n_in} samples, expected padding valid or an even number")


def _weighted(keras_layer: Any, kind: LayerKind, inputs: tuple[str, ...], shape: tuple[int, ...]) -> list[Layer]:
    kernel, *biases = (np.asarray(array, dtype=np.float32) for array in keras_layer.get_weights())
    bias = biases[0] if biases else np.zeros(shape[-1], dtype=np.float32)
    linear = Layer(keras_layer.name, kind, inputs, shape, kernel, bias)
    activation = keras_layer.activation.__name__
    if activation == "linear":
        return [linear]
    after = Layer(f"{linear.name}/{activation}", _activation(keras_layer, shape), (linear.name,), shape)
    return [linear, after]


def _activation(keras_layer: Any, shape: tuple[int, ...]) -> LayerKind:
    activation = keras_layer.activation.__name__
    if activation not in _ACTIVATIONS or (activation == "softmax" and len(shape) != 1):
        raise _refused(keras_layer, f"has activation {activation}, expected relu or none")
    return _ACTIVATIONS[activation]


def _require(keras_layer: Any, what: str, value: Any, expected: Any) -> None:
    if value != expected:
        raise _refused(keras_layer, f"has {what} {value}, expected {expected}")


def _refused(keras_layer: Any, what: str) -> UnsupportedNetworkError:
    return UnsupportedNetworkError(
        f"layer {keras_layer.name!r} {what}. The TensorFlow engine computes it: --engine tensorflow"
    )


@dataclass(frozen=True, slots=True, eq=False)
class CheckedNetwork:
    """A network and the reference with which its engine is compared."""

    network: Network
    inputs: Mapping[InputRole, str]  # the input layer of each role
    outputs: tuple[str, ...]  # the published name of each output of the network
    reference: Reference  # ECGs and the results of the Keras graph

    def to_bytes(self, sha256: str) -> bytes:
        """Return the content of an `.npz` file; `sha256` is the checksum of the model file."""
        reference = self.reference
        arrays: dict[str, NDArray[Any]] = {
            "counts": reference.counts,
            "counts_per_unit": reference.counts_per_unit,
            "lvm_z": reference.lvm_z,
            **{f"feature/{role}": values for role, values in reference.features.items()},
        }
        if reference.lvh_score is not None:
            arrays["lvh_score"] = reference.lvh_score
        for number, layer in enumerate(self.network.layers):
            if layer.kernel is not None and layer.bias is not None:
                arrays[f"kernel/{number}"], arrays[f"bias/{number}"] = layer.kernel, layer.bias
        content = {
            "lvm_ai_network": _FORMAT,
            "model_sha256": sha256,
            "layers": [[layer.name, layer.kind.value, layer.inputs, layer.shape] for layer in self.network.layers],
            "network_outputs": self.network.outputs,
            "inputs": dict(self.inputs),
            "outputs": self.outputs,
            "made_by": dict(reference.made_by),
        }
        text = np.frombuffer(json.dumps(content, sort_keys=True).encode(), dtype=np.uint8)
        sink = io.BytesIO()
        np.savez(sink, allow_pickle=False, **arrays, content=text)
        return sink.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, sha256: str) -> CheckedNetwork:
        """Read what `to_bytes` wrote; `sha256` is the checksum of the model file.

        Raises:
            NetworkFileError: the content is damaged, of another version or of another model.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = dict(file)
            content = json.loads(arrays["content"].tobytes())
            found = content["lvm_ai_network"], content["model_sha256"]
            if found != (_FORMAT, sha256):
                raise NetworkFileError(f"version and model are {found}, not {(_FORMAT, sha256)}")
            return cls(
                Network(_layers(content["layers"], arrays), tuple(content["network_outputs"])),
                {InputRole(role): name for role, name in content["inputs"].items()},
                tuple(content["outputs"]),
                _reference(arrays, content["made_by"]),
            )
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise NetworkFileError(f"it is damaged ({error!r})") from error


def _layers(rows: list[Any], arrays: Mapping[str, NDArray[Any]]) -> tuple[Layer, ...]:
    return tuple(
        Layer(
            name,
            LayerKind(kind),
            tuple(inputs),
            tuple(shape),
            arrays.get(f"kernel/{number}"),
            arrays.get(f"bias/{number}"),
        )
        for number, (name, kind, inputs, shape) in enumerate(rows)
    )


def _reference(arrays: Mapping[str, NDArray[Any]], made_by: Mapping[str, Any]) -> Reference:
    features = {
        InputRole(name.removeprefix("feature/")): values
        for name, values in arrays.items()
        if name.startswith("feature/")
    }
    return Reference(
        arrays["counts"], arrays["counts_per_unit"], features, arrays["lvm_z"], arrays.get("lvh_score"), made_by
    )


def check_with_keras(loaded: LoadedModel) -> CheckedNetwork:
    """Return a Keras model as plain arrays, with the results of its own graph for a few ECGs.

    `configure_threads` must have been called before the model was loaded.

    Raises:
        UnsupportedNetworkError: the spectral engine cannot compute the model.
    """
    return CheckedNetwork(
        read_network(loaded.keras_model), dict(loaded.inputs), loaded.outputs, keras_reference(loaded)
    )


def network_dir() -> Path:
    """Return the folder in which networks are kept as plain arrays."""
    return home_dir() / ".lvm-ai" / "networks"


def checked_network(source: ModelSource, cores: int | None = None) -> CheckedNetwork:
    """Return a model as plain arrays, from the file that is known or kept, else through Keras.

    The arrays are then kept in `network_dir()`; where it cannot be written, Keras is needed each
    time. `configure_threads` receives `cores` where TensorFlow is needed.

    Raises:
        LvmError: as for `load_model` and `configure_threads`.
        UnsupportedNetworkError: the spectral engine cannot compute the model.
    """
    path = network_dir() / f"{source.spec.sha256}.npz"
    for known in (source.network, path):
        try:
            if known is not None:
                return CheckedNetwork.from_bytes(known.read_bytes(), source.spec.sha256)
        except FileNotFoundError:
            pass
        except (NetworkFileError, OSError) as error:
            _LOG.warning("%s cannot be used, so the model file is read again: %s", known, error)
    configure_threads(cores)  # before loading, which starts TensorFlow
    made = check_with_keras(load_model(source))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, made.to_bytes(source.spec.sha256))
    except OSError as error:
        _LOG.warning("%s cannot be written, so each process needs TensorFlow: %s", path, error)
    return made
