"""A model as plain arrays, with what Keras says about a few ECGs, kept beside the fetched models.

Reading it takes no TensorFlow: seconds and hundreds of megabytes less per process.
"""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import LvmError
from models.catalog import ModelSource
from models.loading import LoadedModel, load_model
from models.network import Layer, LayerKind, Network
from models.network_reading import read_network
from models.reference import Reference, keras_reference
from models.runtime import Threads, configure_threads
from models.saved_model import write_atomically
from models.spec import InputRole

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
