"""The TensorFlow graph behind the predictor: one compiled function of one fixed shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lvm_core.ecg import N_LEADS
from lvm_core.errors import LvmError
from lvm_core.leads import LEADS_12, MODEL_LEADS, order_indices
from models.loading import LoadedModel
from models.runtime import Threads, import_keras, import_tensorflow, onednn_enabled
from models.spec import INPUT_WIDTHS, LVH_CLASS, N_SAMPLES, OUTPUT_LVH, OUTPUT_MASS, InputRole

Features = Mapping[InputRole, NDArray[np.float32]]
"""(batch, width) float32, dimensionless, for each demographic input of the model."""


class OutOfMemoryError(LvmError):
    """The device has too little memory for a batch."""


class Engine(Protocol):
    """What computes one batch of fixed size; may be called by several threads at once."""

    def compute(
        self, counts: NDArray[np.int16], counts_per_unit: NDArray[np.float32], features: Features
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return (batch,) z of LV mass and (batch,) LVH score or None; see `TensorFlowEngine`."""

    def description(self) -> dict[str, Any]:
        """Return name, versions and settings of the engine, for the record."""


class TensorFlowEngine:
    """The Keras graph with casting, scaling and reordering in front, compiled once.

    Invariant: every operation runs on one thread, so the bits of a batch do not depend on the
    number of cores or on other batches under way.
    """

    def __init__(self, loaded: LoadedModel, batch_size: int, threads: Threads) -> None:
        """Compile the graph.

        Args:
            loaded: the model.
            batch_size: ECGs per call, 1 or more.
            threads: what `configure_threads` returned, called before the model was loaded.
        """
        self._threads = threads
        self._loaded = loaded
        tf = import_tensorflow()
        # TensorFloat-32 would round the inputs of convolutions to 10 bits on recent GPUs.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        self._roles = tuple(role for role in loaded.inputs if role is not InputRole.ECG)
        self._batch_size = batch_size
        self._out_of_memory = tf.errors.ResourceExhaustedError
        self._graph = _compile(tf, loaded, batch_size, self._roles)

    def compute(
        self, counts: NDArray[np.int16], counts_per_unit: NDArray[np.float32], features: Features
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Run one batch.

        Args:
            counts: (batch, 12, 5000) int16, leads in `LEADS_12` order.
            counts_per_unit: (batch,) float32; a sample enters the network as
                count / counts_per_unit.
            features: standardised demographics, for each role that the model takes.

        Returns:
            (batch,) float32 z of LV mass; (batch,) float32 LVH score, or None without that head.

        Raises:
            OutOfMemoryError: the device has too little memory for the batch.
        """
        given = (features[role] for role in self._roles)
        try:
            arrays = [tensor.numpy() for tensor in self._graph(counts, counts_per_unit, *given)]
        except self._out_of_memory as error:
            raise OutOfMemoryError(
                f"the device is out of memory with {self._batch_size} ECGs in a batch; start anew "
                "with a smaller --batch (the batch is part of what fixes the bits, so it is not "
                "changed within a run)"
            ) from error
        return arrays[0], (arrays[1] if self._loaded.has_lvh_head else None)

    def description(self) -> dict[str, Any]:
        """Return name, versions and thread settings of the engine."""
        return {
            "engine": "tensorflow",
            "tensorflow": str(import_tensorflow().__version__),
            "keras": str(import_keras().__version__),
            "onednn": onednn_enabled(),
            "intra_op_threads": self._threads.intra_op,
        }


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
