"""A network as plain arrays: the layers that this project computes itself, and nothing else."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Callable, Mapping
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
from models.engines.runtime import Threads, configure_threads
from models.engines.tensorflow_engine import Reference, keras_reference

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


_FORMAT: Final = 1
_LOG: Final = logging.getLogger("lvm_ai.models")


class NetworkFileError(LvmError):
    """A file of a network cannot be used; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class CheckedNetwork:
    """A network and what to compare an engine for it with.

    Attributes:
        network: layers and weights.
        inputs: input layer of each role.
        outputs: what each output of the network is, by the names of the published layers.
        reference: ECGs and what Keras says about them.
    """

    network: Network
    inputs: Mapping[InputRole, str]
    outputs: tuple[str, ...]
    reference: Reference

    def to_bytes(self, sha256: str) -> bytes:
        """Return the file of a network: arrays in numpy's own format, the rest as JSON.

        Args:
            sha256: of the model file that it was read from.
        """
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
        """Return what `to_bytes` wrote for the model file of that checksum.

        Raises:
            NetworkFileError: it is damaged, of another version or of another model.
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


def check_with_keras(loaded: LoadedModel, threads: Threads) -> CheckedNetwork:
    """Return a Keras model as plain arrays, with what its own graph says about a few ECGs.

    Args:
        loaded: the model.
        threads: what `configure_threads` returned before it was loaded.

    Raises:
        UnsupportedNetworkError: the model has something that is not computed here.
    """
    network = read_network(loaded.keras_model)
    return CheckedNetwork(network, dict(loaded.inputs), loaded.outputs, keras_reference(loaded, threads))


def default_network_dir() -> Path:
    """Return the folder in which networks are kept as plain arrays."""
    return Path.home() / ".lvm-ai" / "networks"


def checked_network(source: ModelSource, cores: int | None = None, folder: Path | None = None) -> CheckedNetwork:
    """Return a model as plain arrays, from `folder` if it is there, else through Keras.

    What Keras gave is kept in `folder`; where that is not writable it is read again each time.

    Args:
        source: from `resolve_model`.
        cores: for `configure_threads`, where TensorFlow is needed.
        folder: None for `default_network_dir()`.

    Raises:
        LvmError: as for `load_model` and `configure_threads`.
        UnsupportedNetworkError: the model has something that is not computed here.
    """
    path = (folder or default_network_dir()) / f"{source.spec.sha256}.npz"
    try:
        return CheckedNetwork.from_bytes(path.read_bytes(), source.spec.sha256)
    except FileNotFoundError:
        pass
    except (NetworkFileError, OSError) as error:
        _LOG.warning("%s is read from the model file again: %s", path, error)
    threads = configure_threads(cores)  # before loading, which starts TensorFlow
    made = check_with_keras(load_model(source), threads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, made.to_bytes(source.spec.sha256))
    except OSError as error:
        _LOG.warning("%s cannot be kept, so each process needs TensorFlow: %s", path, error)
    return made
