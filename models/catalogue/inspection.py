"""The names of a model file's inputs and outputs, read without TensorFlow."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lvm_core.errors import LvmError


@dataclass(frozen=True, slots=True)
class ModelInterface:
    """Names of the input and output layers of a model file, in the file's order."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def read_interface(path: Path) -> ModelInterface:
    """Return the names of the input and output layers of an .h5 or .keras file.

    Raises:
        LvmError: the file is damaged, or holds no functional Keras model.
    """
    text = _keras_config(path) if zipfile.is_zipfile(path) else _hdf5_config(path)
    try:
        config = json.loads(text)["config"]
        inputs = _layer_names(config["input_layers"])
        outputs = _layer_names(config["output_layers"])
    except (ValueError, KeyError, TypeError) as error:
        raise LvmError(
            f"{path} holds no functional Keras model ({error!r}); expected a model with named "
            "input and output layers, saved whole and not as weights only"
        ) from error
    return ModelInterface(tuple(inputs), tuple(outputs))


def _hdf5_config(path: Path) -> str:
    import h5py  # here: it takes a quarter of a second that only files of the user need

    try:
        with h5py.File(path, "r") as file:
            text = file.attrs.get("model_config")
    except OSError as error:
        raise LvmError(f"{path} cannot be read as HDF5 ({error}); copy or fetch the file again") from error
    if text is None:
        raise LvmError(
            f"{path} holds no model configuration; expected a whole model, saved with model.save(), not weights only"
        )
    return text.decode() if isinstance(text, bytes) else str(text)


def _keras_config(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read("config.json").decode()
    except (KeyError, zipfile.BadZipFile) as error:
        raise LvmError(f"{path} is not a .keras archive ({error}); expected a file of model.save()") from error


def _layer_names(node: object) -> list[str]:
    """Return the layer names of Keras's nested `[name, node index, tensor index]` lists."""
    if isinstance(node, dict):
        return [name for child in node.values() for name in _layer_names(child)]
    if not isinstance(node, list):
        raise TypeError(f"layer reference {node!r}")
    if node and isinstance(node[0], str):
        return [node[0]]
    return [name for child in node for name in _layer_names(child)]
