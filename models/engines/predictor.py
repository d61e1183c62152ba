"""Predict LV mass: integer counts and demographics in, grams out."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import LvmError
from models.catalogue.known import ModelSource
from models.catalogue.loading import LoadedModel
from models.catalogue.spec import (
    InputConvention,
    InputRole,
    ModelConstants,
    ModelSpec,
    Predictions,
    PredictorInputs,
    lvm_g_from_z,
)
from models.engines.choosing import EngineSettings, make_engine
from models.machine.host import instruction_set

# Batches of 8 and 16 on two threads were equally fast, 32 a few per cent slower.
DEFAULT_BATCH_SIZE: Final = 16
_TENSORFLOW: Final = EngineSettings()


class LvmPredictor:
    """One model, ready to predict, in one fixed batch shape.

    Several threads may call it at once. Each call computes its batches one after the other on one
    thread, so call it from as many threads as there are cores.

    Invariant: an ECG's prediction depends on the model, the engine, the batch size, the ECG's
    place in its batch and the processor's instruction set; not on other ECGs of its batch, on
    padding, on the number of cores or on other calls.
    """

    def __init__(
        self,
        model: ModelSource | LoadedModel,
        *,
        batch_size: int = DEFAULT_BATCH_SIZE,
        input_convention: InputConvention | str = InputConvention.UKB_COUNTS,
        engine: EngineSettings = _TENSORFLOW,
        cores: int | None = None,
    ) -> None:
        """Load the model; takes seconds with TensorFlow, a few tenths with the spectral engine.

        Args:
            model: from `resolve_model`, or a model in memory from `bind_model`.
            batch_size: ECGs computed together, 1 or more; the bits depend on it.
            input_convention: how microvolts become the numbers that the network sees.
            engine: what computes it, in which precision and where.
            cores: batches that will be computed at once; None for the cores of this process.

        Raises:
            ValueError: a batch size below 1, or an unknown convention.
            LvmError: the model cannot be loaded, the engine cannot compute it, or TensorFlow has
                already started with other threads: call `configure_threads` first where something
                else, for example a model in memory, starts it.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size} ECGs, expected 1 or more")
        self._batch_size = batch_size
        self._convention = InputConvention(input_convention)
        self._settings = engine
        self._spec, self._inputs, self._engine = make_engine(model, engine, batch_size, cores=cores)

    @property
    def spec(self) -> ModelSpec:
        """Identity of the model."""
        return self._spec

    @property
    def batch_size(self) -> int:
        """ECGs computed together."""
        return self._batch_size

    @property
    def needs_demographics(self) -> bool:
        """True when age, sex and BMI must be given."""
        return set(self._inputs) != {InputRole.ECG}

    def predict(
        self,
        counts: NDArray[np.int16],
        uv_per_count: NDArray[np.float32],
        age_years: NDArray[np.float32] | None = None,
        sex: NDArray[np.int8] | None = None,
        bmi_kg_m2: NDArray[np.float32] | None = None,
    ) -> Predictions:
        """Predict any number of ECGs, batch by batch.

        Args:
            counts: (n, 12, 5000) int16, leads in `LEADS_12` order, 500 Hz; n may be 0. Signals
                must have passed the quality checks: a flat lead would get a plausible mass.
            uv_per_count: (n,) float32, microvolts of one count, above 0.
            age_years: (n,) float32, years. Age, sex and BMI are needed when `needs_demographics`,
                else they are checked and not used.
            sex: (n,) int8, 0 female, 1 male.
            bmi_kg_m2: (n,) float32, kg/m2.

        Returns:
            Mass in grams and LVH score of each ECG, in the order given.

        Raises:
            ValueError: a shape, dtype, code or value is not as stated.
            LvmError: the model gave a value that is not finite.
        """
        inputs = self._checked(PredictorInputs(counts, uv_per_count, age_years, sex, bmi_kg_m2))
        parts = [
            self._predict_padded(inputs.rows(start, start + self._batch_size))
            for start in range(0, inputs.n_ecgs, self._batch_size)
        ]
        empty = np.empty(0, dtype=np.float32)
        return Predictions(
            np.concatenate([empty, *(part.lvm_pred_g for part in parts)]),
            np.concatenate([empty, *(part.lvh_score for part in parts)]),
        )

    def predict_batch(
        self,
        counts: NDArray[np.int16],
        uv_per_count: NDArray[np.float32],
        age_years: NDArray[np.float32] | None = None,
        sex: NDArray[np.int8] | None = None,
        bmi_kg_m2: NDArray[np.float32] | None = None,
    ) -> Predictions:
        """Predict one batch: arguments and result as for `predict`, 1 to `batch_size` ECGs.

        Raises:
            ValueError: as for `predict`, or another number of ECGs.
        """
        inputs = self._checked(PredictorInputs(counts, uv_per_count, age_years, sex, bmi_kg_m2))
        if not 1 <= inputs.n_ecgs <= self._batch_size:
            raise ValueError(
                f"a batch of {inputs.n_ecgs} ECGs was given, expected 1 to {self._batch_size}; "
                "use predict for any number"
            )
        return self._predict_padded(inputs)

    def engine_description(self) -> dict[str, Any]:
        """Return all that fixes the bits of a prediction beside the model."""
        return {
            **self._engine.description(),
            "numpy": np.__version__,
            "precision": self._settings.precision.value,
            "device": self._settings.device.value,
            "batch_size": self._batch_size,
            "input_convention": self._convention.value,
            "instruction_set": instruction_set(),
        }

    def _checked(self, inputs: PredictorInputs) -> PredictorInputs:
        if self.needs_demographics:
            inputs.require_demographics(self._spec.model_id)
        return inputs

    def _predict_padded(self, inputs: PredictorInputs) -> Predictions:
        n_ecgs = inputs.n_ecgs
        # In float32: 10000 uV over 5 uV per count is exactly the published division by 2000.
        counts_per_unit = np.float32(self._convention.input_unit_uv) / inputs.uv_per_count
        features = standardised_features(inputs, self._inputs, self._spec.constants)
        lvm_z, lvh_score = self._engine.compute(
            _padded(inputs.counts, self._batch_size, 0),
            _padded(counts_per_unit, self._batch_size, 1),
            {role: _padded(rows, self._batch_size, 0) for role, rows in features.items()},
        )
        if lvh_score is None:
            lvh_score = np.full(self._batch_size, np.nan, dtype=np.float32)
        elif not np.isfinite(lvh_score[:n_ecgs]).all():
            raise LvmError(self._not_finite("LVH score"))
        if not np.isfinite(lvm_z[:n_ecgs]).all():
            raise LvmError(self._not_finite("LV mass"))
        lvm_pred_g = lvm_g_from_z(lvm_z[:n_ecgs], self._spec.constants.lvm_g)
        return Predictions(lvm_pred_g, lvh_score[:n_ecgs].copy())

    def _not_finite(self, what: str) -> str:
        return (
            f"model {self._spec.model_id} gave a {what} that is not finite for finite inputs; "
            "expected finite weights. Fetch or train the model again"
        )


def standardised_features(
    inputs: PredictorInputs, layers: Mapping[InputRole, str], constants: ModelConstants
) -> dict[InputRole, NDArray[np.float32]]:
    """Return the demographics that a model takes, (n, 1) or for sex (n, 2) one-hot.

    `layers` holds the model's input layer of each role.
    """
    features: dict[InputRole, NDArray[np.float32]] = {}
    if InputRole.AGE in layers and inputs.age_years is not None:
        features[InputRole.AGE] = constants.age_years.standardise(inputs.age_years)[:, None]
    if InputRole.SEX in layers and inputs.sex is not None:
        features[InputRole.SEX] = np.eye(2, dtype=np.float32)[inputs.sex]
    if InputRole.BMI in layers and inputs.bmi_kg_m2 is not None:
        bmi = constants.bmi_of(layers[InputRole.BMI])
        features[InputRole.BMI] = bmi.standardise(inputs.bmi_kg_m2)[:, None]
    return features


def _padded(rows: NDArray[Any], batch_size: int, value: int) -> NDArray[Any]:
    """Return `rows` as a contiguous array, with rows of `value` added up to `batch_size`."""
    n_rows = rows.shape[0]
    if n_rows == batch_size:
        return np.ascontiguousarray(rows)
    padded = np.full((batch_size, *rows.shape[1:]), value, dtype=rows.dtype)
    padded[:n_rows] = rows
    return padded


_shared: dict[tuple[Any, ...], LvmPredictor] = {}
_shared_lock = threading.Lock()


def shared_predictor(
    model: ModelSource,
    *,
    batch_size: int = DEFAULT_BATCH_SIZE,
    input_convention: InputConvention | str = InputConvention.UKB_COUNTS,
    engine: EngineSettings = _TENSORFLOW,
    cores: int | None = None,
) -> LvmPredictor:
    """Return this process's predictor, made by the first call; arguments as for `LvmPredictor`."""
    convention = InputConvention(input_convention)
    key = (model.spec, batch_size, convention, engine, cores)
    with _shared_lock:
        if key not in _shared:
            _shared[key] = LvmPredictor(
                model, batch_size=batch_size, input_convention=convention, engine=engine, cores=cores
            )
        return _shared[key]
