"""The TensorFlow engine, a compiled Keras graph, and the reference that checks other engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import LvmError
from lvm_core.signal.ecg import LEADS_12, MODEL_LEADS, N_LEADS, order_indices
from lvm_core.synthetic.ecgs import synthetic_ecgs
from models.catalogue.loading import LoadedModel, bind_model
from models.catalogue.spec import (
    INPUT_WIDTHS,
    LVH_CLASS,
    N_SAMPLES,
    OUTPUT_LVH,
    OUTPUT_MASS,
    InputConvention,
    InputRole,
)
from models.machine.runtime import import_keras, import_tensorflow, tensorflow_description

Features = Mapping[InputRole, NDArray[np.float32]]
"""(batch, width) float32, dimensionless, for each demographic input of the model."""

Outputs = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""(batch,) float32 z of LV mass; (batch,) float32 LVH score, or None without that head."""

# The ECGs of a `Reference`, and standardised demographics that people have.
_N_ECGS: Final = 4
_SEED: Final = 71
_AGE: Final = (-1.5, -0.2, 0.6, 1.9)
_SEX: Final = (0, 1, 0, 1)
_BMI: Final = (-1.1, 0.0, 0.8, 2.4)


class Engine(Protocol):
    """What computes one batch of fixed size; may be called by several threads at once."""

    def compute(self, counts: NDArray[np.int16], counts_per_unit: NDArray[np.float32], features: Features) -> Outputs:
        """Compute one batch.

        Args:
            counts: (batch, 12, 5000) int16, leads in `LEADS_12` order.
            counts_per_unit: (batch,) float32; a sample enters the network as
                count / counts_per_unit.
            features: standardised demographics, for each role that the model takes.
        """

    def description(self) -> dict[str, Any]:
        """Return name, versions and settings of the engine, for the record."""


class OutOfMemoryError(LvmError):
    """The device has too little memory for a batch."""


class TensorFlowEngine:
    """The Keras graph with casting, scaling and reordering in front, compiled once.

    Invariant: every operation runs on one thread, so the bits of a batch do not depend on the
    number of cores or on other batches under way.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int) -> None:
        """Compile the graph; call `configure_threads` before loading the model."""
        self._loaded = loaded
        self._batch_size = batch_size
        self._roles = tuple(role for role in loaded.inputs if role is not InputRole.ECG)
        tf = import_tensorflow()
        # TensorFloat-32 would round the inputs of convolutions to 10 bits on recent GPUs.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._out_of_memory = tf.errors.ResourceExhaustedError
        self._graph = _compile(tf, loaded, batch_size, self._roles)

    def compute(self, counts: NDArray[np.int16], counts_per_unit: NDArray[np.float32], features: Features) -> Outputs:
        """Compute one batch, as `Engine.compute`.

        Raises:
            OutOfMemoryError: the device has too little memory for the batch.
        """
        given = (features[role] for role in self._roles)
        try:
            arrays = [tensor.numpy() for tensor in self._graph(counts, counts_per_unit, *given)]
        except self._out_of_memory as error:
            raise OutOfMemoryError(
                f"the device is out of memory with {self._batch_size} ECGs in a batch; start again "
                "with a smaller --batch (it does not change within a run, because the last bits of "
                "a prediction depend on it)"
            ) from error
        return arrays[0], (arrays[1] if self._loaded.has_lvh_head else None)

    def description(self) -> dict[str, Any]:
        """Return name, versions and thread settings of the engine."""
        return {"engine": "tensorflow", **tensorflow_description()}


def _compile(tf: Any, loaded: LoadedModel, batch_size: int, roles: tuple[InputRole, ...]) -> Any:
    """Return the concrete function (counts, counts per unit, features of `roles`) -> tensors."""
    order = order_indices(LEADS_12, MODEL_LEADS).astype(np.int32)

    def graph(counts: Any, counts_per_unit: Any, *features: Any) -> tuple[Any, ...]:
        # Cast first: TensorFlow logs an error line when it transposes int16 without AVX-512.
        in_model_order = tf.gather(tf.cast(counts, tf.float32), order, axis=1)
        samples = tf.transpose(in_model_order, (0, 2, 1))
        feeds = {loaded.inputs[InputRole.ECG]: samples / counts_per_unit[:, None, None]}
        feeds.update((loaded.inputs[role], value) for role, value in zip(roles, features, strict=True))
        outputs = loaded.call_by_name(feeds)
        mass = outputs[OUTPUT_MASS][:, 0]
        return (mass, outputs[OUTPUT_LVH][:, LVH_CLASS]) if loaded.has_lvh_head else (mass,)

    signature = [
        tf.TensorSpec((batch_size, N_LEADS, N_SAMPLES), tf.int16),
        tf.TensorSpec((batch_size,), tf.float32),
        *(tf.TensorSpec((batch_size, INPUT_WIDTHS[role]), tf.float32) for role in roles),
    ]
    compiled = tf.function(graph, input_signature=signature, autograph=False, jit_compile=False)
    return compiled.get_concrete_function()


def with_mixed_precision(loaded: LoadedModel) -> LoadedModel:
    """Return a copy whose hidden layers compute in float16; weights and heads stay float32."""
    keras = import_keras()

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name not in loaded.outputs and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = "mixed_float16"
        return type(layer).from_config(config)

    copy = keras.models.clone_model(loaded.keras_model, clone_function=clone)
    copy.set_weights(loaded.keras_model.get_weights())
    return bind_model(copy, loaded.spec)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A few ECGs, as `Engine.compute` takes them, and what a model's Keras graph gives for them."""

    counts: NDArray[np.int16]
    counts_per_unit: NDArray[np.float32]
    features: Features
    lvm_z: NDArray[np.float32]  # (n,) z of LV mass
    lvh_score: NDArray[np.float32] | None  # (n,), or None without that head
    made_by: Mapping[str, Any]  # description of the engine that computed these results

    def batch(self, size: int) -> tuple[NDArray[np.intp], tuple[NDArray[np.int16], NDArray[np.float32], Features]]:
        """Return the rows that fill a batch, repeated, and the arguments of `Engine.compute`."""
        rows = np.arange(size) % len(self.counts)
        features = {role: values[rows] for role, values in self.features.items()}
        return rows, (self.counts[rows], self.counts_per_unit[rows], features)


def keras_reference(loaded: LoadedModel) -> Reference:
    """Compute the reference of a model, in float32; call `configure_threads` before loading it."""
    ecgs = synthetic_ecgs(_N_ECGS, _SEED)
    counts_per_unit = np.float32(InputConvention.UKB_COUNTS.input_unit_uv) / ecgs.uv_per_count
    everybody = {
        InputRole.AGE: np.array(_AGE, dtype=np.float32)[:, None],
        InputRole.SEX: np.eye(2, dtype=np.float32)[list(_SEX)],
        InputRole.BMI: np.array(_BMI, dtype=np.float32)[:, None],
    }
    features = {role: values for role, values in everybody.items() if role in loaded.inputs}
    engine = TensorFlowEngine(loaded, _N_ECGS)
    lvm_z, lvh_score = engine.compute(ecgs.counts, counts_per_unit, features)
    return Reference(ecgs.counts, counts_per_unit, features, lvm_z, lvh_score, engine.description())
