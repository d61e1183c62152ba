"""Stand-ins for slow parts, so that jobs are tested without TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.catalogue.known import EMBEDDED_MODELS
from models.catalogue.spec import ModelSpec, Predictions, PredictorInputs


class FakePredictor:
    """A predictor without a network: same interface and checks, a cheap fixed formula.

    Mass = 60 g + (sum of |counts| modulo 1000) / 10 g + 1000 * uv_per_count modulo 7 g, plus
    age / 10, 20 for men and BMI / 10 where demographics are needed. The LVH score is
    (mass modulo 10) / 10, NaN for the ECG-only one. Any change of an ECG nearly always shows.
    """

    def __init__(self, *, needs_demographics: bool = False, batch_size: int = 4) -> None:
        self._spec = EMBEDDED_MODELS[0 if needs_demographics else 1]
        self._batch_size = batch_size
        self.batches_seen: list[int] = []

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def batch_size(self) -> int:
        return self._batch_size

    @property
    def needs_demographics(self) -> bool:
        return self._spec.needs_demographics

    def predict(
        self,
        counts: NDArray[np.int16],
        uv_per_count: NDArray[np.float32],
        age_years: NDArray[np.float32] | None = None,
        sex: NDArray[np.int8] | None = None,
        bmi_kg_m2: NDArray[np.float32] | None = None,
    ) -> Predictions:
        inputs = PredictorInputs(counts, uv_per_count, age_years, sex, bmi_kg_m2)
        if self.needs_demographics:
            inputs.require_demographics(self._spec.model_id)
        self.batches_seen.append(inputs.n_ecgs)
        mass_g = self._mass_g(inputs)
        if self._spec.has_lvh_head:
            score = (mass_g % 10 / 10).astype(np.float32)
        else:
            score = np.full(inputs.n_ecgs, np.nan, dtype=np.float32)
        return Predictions(mass_g.astype(np.float32), score)

    def predict_batch(
        self,
        counts: NDArray[np.int16],
        uv_per_count: NDArray[np.float32],
        age_years: NDArray[np.float32] | None = None,
        sex: NDArray[np.int8] | None = None,
        bmi_kg_m2: NDArray[np.float32] | None = None,
    ) -> Predictions:
        if not 1 <= len(counts) <= self._batch_size:
            raise ValueError(f"a batch of {len(counts)} ECGs was given, expected 1 to {self._batch_size}")
        return self.predict(counts, uv_per_count, age_years, sex, bmi_kg_m2)

    def engine_description(self) -> dict[str, Any]:
        return {"engine": "fake", "batch_size": self._batch_size}

    def _mass_g(self, inputs: PredictorInputs) -> NDArray[np.float64]:
        totals = np.abs(inputs.counts.astype(np.int64)).sum(axis=(1, 2))
        steps_uv = inputs.uv_per_count.astype(np.float64)
        mass_g = 60 + totals % 1000 / 10 + 1000 * steps_uv % 7
        if self.needs_demographics:
            assert inputs.age_years is not None
            assert inputs.sex is not None
            assert inputs.bmi_kg_m2 is not None
            mass_g = mass_g + inputs.age_years / 10 + 20 * inputs.sex + inputs.bmi_kg_m2 / 10
        return np.asarray(mass_g, dtype=np.float64)
