"""Which samples of an ECG move the predicted mass: gradients and integrated gradients.

They show what the network uses, not what causes a large heart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import LEADS_12, MODEL_LEADS, order_indices
from models.catalogue.known import ModelSource
from models.catalogue.loading import LoadedModel, load_model
from models.catalogue.spec import OUTPUT_MASS, InputConvention, InputRole, PredictorInputs
from models.engines.predictor import standardised_features
from models.machine.runtime import configure_threads, import_tensorflow

DEFAULT_STEPS: Final = 32
_BATCH: Final = 8


class Saliency:
    """Derivatives of a model's predicted mass with respect to the ECG."""

    def __init__(
        self, model: ModelSource | LoadedModel, input_convention: InputConvention | str = InputConvention.UKB_COUNTS
    ) -> None:
        """Load the model."""
        configure_threads()  # before loading, which starts TensorFlow
        self._loaded = load_model(model) if isinstance(model, ModelSource) else model
        self._unit_uv = InputConvention(input_convention).input_unit_uv
        self._value_and_gradient = self._compile()

    @property
    def needs_demographics(self) -> bool:
        """True when age, sex and BMI must be given."""
        return set(self._loaded.inputs) != {InputRole.ECG}

    def lvm_pred_g(self, inputs: PredictorInputs) -> NDArray[np.float32]:
        """Return (n,) float32, the predicted mass in grams."""
        return self._in_batches(inputs, lambda rows: self._at(rows, _leads_uv(rows))[0])

    def gradient_g_per_uv(self, inputs: PredictorInputs) -> NDArray[np.float32]:
        """Return (n, 12, 5000) float32: grams of predicted mass per microvolt of each sample.

        Leads are in `LEADS_12` order.

        Raises:
            ValueError: age, sex or BMI is missing.

        Source:
            Simonyan K, Vedaldi A, Zisserman A, arXiv:1312.6034.
        """
        return self._in_batches(inputs, lambda rows: self._at(rows, _leads_uv(rows))[1])

    def integrated_gradients_g(self, inputs: PredictorInputs, n_steps: int = DEFAULT_STEPS) -> NDArray[np.float32]:
        """Return (n, 12, 5000) float32: grams that each sample adds, compared with a silent ECG.

        Invariant: the sum over leads and samples is the mass of the ECG minus that of an ECG of
        zeros with the same age, sex and BMI, up to the error of the sum over steps.

        Args:
            inputs: n ECGs, with age, sex and BMI for a model that takes them.
            n_steps: points of the midpoint rule between silence and the ECG, 1 or more.

        Raises:
            ValueError: `n_steps` is below 1, or age, sex or BMI is missing.

        Source:
            Sundararajan M, Taly A, Yan Q, ICML 2017, PMLR 70:3319-3328.
        """
        if n_steps < 1:
            raise ValueError(f"n_steps is {n_steps}, expected 1 or more")

        def contributions_g(rows: PredictorInputs) -> NDArray[np.float32]:
            leads_uv = _leads_uv(rows)
            total = np.zeros(leads_uv.shape, dtype=np.float64)
            for step in range(n_steps):
                share = np.float32((step + 0.5) / n_steps)
                total += self._at(rows, leads_uv * share)[1]
            return (leads_uv * total / n_steps).astype(np.float32)

        return self._in_batches(inputs, contributions_g)

    def _in_batches(
        self, inputs: PredictorInputs, compute: Callable[[PredictorInputs], NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        if self.needs_demographics:
            inputs.require_demographics(self._loaded.spec.model_id)
        starts = range(0, inputs.n_ecgs, _BATCH)
        return np.concatenate([compute(inputs.rows(start, start + _BATCH)) for start in starts])

    def _at(
        self, inputs: PredictorInputs, leads_uv: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return mass in g and gradient in g/uV at the given voltages of these people."""
        features = standardised_features(inputs, self._loaded.inputs, self._loaded.spec.constants)
        named = {self._loaded.inputs[role]: values for role, values in features.items()}
        mass_g, gradient = self._value_and_gradient(leads_uv, named)
        return mass_g.numpy(), gradient.numpy()

    def _compile(self) -> Any:
        tf = import_tensorflow()
        loaded = self._loaded
        scale = loaded.spec.constants.lvm_g
        order = order_indices(LEADS_12, MODEL_LEADS).astype(np.int32)

        def value_and_gradient(leads_uv: Any, features: dict[str, Any]) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                tape.watch(leads_uv)
                samples = tf.transpose(tf.gather(leads_uv, order, axis=1), (0, 2, 1))
                feeds = {loaded.inputs[InputRole.ECG]: samples / self._unit_uv, **features}
                mass_g = loaded.call_by_name(feeds)[OUTPUT_MASS][:, 0] * scale.sd + scale.mean
            return mass_g, tape.gradient(mass_g, leads_uv)

        return tf.function(value_and_gradient, autograph=False, reduce_retracing=True)


def _leads_uv(inputs: PredictorInputs) -> NDArray[np.float32]:
    """Return (n, 12, 5000) float32 microvolts."""
    return np.asarray(inputs.counts * inputs.uv_per_count[:, None, None], dtype=np.float32)
