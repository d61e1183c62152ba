"""Load a model file and find its inputs and outputs by name."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lvm_core.errors import LvmError
from lvm_core.signal.ecg import N_LEADS
from models.catalogue.known import ModelSource
from models.catalogue.saved_model import CARD_MEMBER, ModelCard, read_card, weights_digest
from models.catalogue.spec import INPUT_WIDTHS, N_SAMPLES, OUTPUT_LVH, OUTPUT_MASS, InputRole, ModelSpec, input_roles
from models.machine.runtime import import_keras

_OUTPUT_WIDTHS: Final = {OUTPUT_MASS: 1, OUTPUT_LVH: 2}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A Keras model and the names of its input and output layers."""

    spec: ModelSpec
    # A functional `keras.Model` with a list of inputs and a list of outputs, whatever structure the
    # file had; its type is Any because Keras has no hints.
    keras_model: Any
    inputs: Mapping[InputRole, str]  # the input layer of each role
    input_order: tuple[str, ...]  # the input layers in the order of the Keras model
    outputs: tuple[str, ...]  # the output layers in the order of the Keras model

    @property
    def has_lvh_head(self) -> bool:
        """True when the model also gives an LVH score."""
        return OUTPUT_LVH in self.outputs

    def call_by_name(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        """Run the Keras model on tensors by input name and return its tensors by output name."""
        results = self.keras_model([feeds[name] for name in self.input_order], training=False)
        listed = results if isinstance(results, (list, tuple)) else [results]  # Keras unwraps one
        return dict(zip(self.outputs, listed, strict=True))


def load_model(source: ModelSource) -> LoadedModel:
    """Load a model, without its training configuration, and check its inputs and outputs.

    Raises:
        LvmError: the bytes are not those of `source.spec`, Keras cannot read them, the inputs or
            outputs are not those of an LV mass model, or the weights or constants are not those
            that the file's own card states.
    """
    content = source.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != source.spec.sha256:
        raise LvmError(
            f"model {source.spec.model_id} has SHA-256 {sha256}, expected {source.spec.sha256}; "
            "the file changed after it was chosen, or is damaged: fetch it again"
        )
    suffix = Path(source.spec.file_name).suffix
    with tempfile.TemporaryDirectory(prefix="lvm-ai-") as folder:
        path = Path(folder) / f"model{suffix}"
        path.write_bytes(content)
        card = read_card(path)
        keras_model = _read_keras(path, source.spec)
    if card is not None:
        _check_card(card, keras_model, source.spec)
    return bind_model(keras_model, source.spec)


def bind_model(keras_model: Any, spec: ModelSpec) -> LoadedModel:
    """Check the inputs and outputs of a functional Keras model and return it as a `LoadedModel`.

    The weights are shared, not copied; `spec` is recorded with the predictions.

    Raises:
        LvmError: the inputs or outputs are not those of an LV mass model.
    """
    names = tuple(str(tensor.name) for tensor in keras_model.inputs)
    roles = input_roles(names)
    _check_input_shapes(keras_model, names, roles)
    outputs = tuple(str(name) for name in keras_model.output_names)
    _check_outputs(keras_model, outputs)
    as_lists = import_keras().Model(list(keras_model.inputs), list(keras_model.outputs), name=keras_model.name)
    return LoadedModel(spec, as_lists, roles, names, outputs)


def _read_keras(path: Path, spec: ModelSpec) -> Any:
    keras = import_keras()
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise LvmError(
            f"model {spec.model_id} ({spec.file_name}) cannot be loaded by Keras "
            f"{keras.__version__}: {error}; expected a functional model without custom layers, "
            "as .h5 or .keras. Legacy .h5 files need Keras 3.3 or later"
        ) from error


def _check_card(card: ModelCard, keras_model: Any, spec: ModelSpec) -> None:
    if card.constants != spec.constants:
        raise LvmError(
            f"model {spec.model_id} states the constants {card.constants}, but {spec.constants} were "
            "asked for; expected the same. Choose the model by the path of its file"
        )
    digest = weights_digest(keras_model.get_weights())
    if digest != card.weights_sha256:
        raise LvmError(
            f"the weights of {spec.file_name} have SHA-256 {digest}, but its {CARD_MEMBER} states "
            f"{card.weights_sha256}: the file was changed after training. Save it again with "
            "`lvm-ai train` or `lvm-ai models convert`"
        )


def _check_input_shapes(keras_model: Any, names: tuple[str, ...], roles: Mapping[InputRole, str]) -> None:
    role_of = {name: role for role, name in roles.items()}
    for name, tensor in zip(names, keras_model.inputs, strict=True):
        width = INPUT_WIDTHS.get(role_of[name])
        expected = (N_SAMPLES, N_LEADS) if width is None else (width,)
        if tuple(tensor.shape[1:]) != expected:
            raise LvmError(f"input {name!r} has shape {tuple(tensor.shape[1:])} per ECG, expected {expected}")


def _check_outputs(keras_model: Any, outputs: tuple[str, ...]) -> None:
    if OUTPUT_MASS not in outputs:
        raise LvmError(f"outputs {list(outputs)} hold no LV mass, expected a layer named {OUTPUT_MASS!r}")
    for name, tensor in zip(outputs, keras_model.outputs, strict=True):
        expected = _OUTPUT_WIDTHS.get(name)
        if expected is not None and tuple(tensor.shape[1:]) != (expected,):
            raise LvmError(f"output {name!r} has shape {tuple(tensor.shape[1:])} per ECG, expected ({expected},)")
