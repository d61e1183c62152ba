"""What every predictor takes and gives, whatever computes it; no TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lvm_core.ecg import N_LEADS
from models.spec import N_SAMPLES, SEX_FEMALE, SEX_MALE, ModelSpec


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model says about n ECGs, in the order in which they were given.

    Attributes:
        lvm_pred_g: (n,) float32, predicted LV mass, grams, finite.
        lvh_score: (n,) float32, 0 to 1, from the LVH head; NaN where the model has none. A
            score, not a calibrated probability.
    """

    lvm_pred_g: NDArray[np.float32]
    lvh_score: NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.lvm_pred_g.shape[0])


class EcgPredictor(Protocol):
    """What the scoring job needs; `LvmPredictor` and the fake of the tests have it."""

    @property
    def spec(self) -> ModelSpec:
        """Identity of the model."""

    @property
    def batch_size(self) -> int:
        """ECGs computed together."""

    @property
    def needs_demographics(self) -> bool:
        """True when age, sex and BMI must be given."""

    def predict(
        self,
        counts: NDArray[np.int16],
        uv_per_count: NDArray[np.float32],
        age_years: NDArray[np.float32] | None = None,
        sex: NDArray[np.int8] | None = None,
        bmi_kg_m2: NDArray[np.float32] | None = None,
    ) -> Predictions:
        """Return the predictions of any number of ECGs."""

    def predict_batch(
        self,
        counts: NDArray[np.int16],
        uv_per_count: NDArray[np.float32],
        age_years: NDArray[np.float32] | None = None,
        sex: NDArray[np.int8] | None = None,
        bmi_kg_m2: NDArray[np.float32] | None = None,
    ) -> Predictions:
        """Return the predictions of one batch of at most `batch_size` ECGs."""

    def engine_description(self) -> dict[str, Any]:
        """Return what computed the numbers, for the record."""


@dataclass(frozen=True, slots=True)
class PredictorInputs:
    """Checked inputs of n ECGs.

    Attributes:
        counts: (n, 12, 5000) int16, leads in `LEADS_12` order.
        uv_per_count: (n,) float32, microvolts of one count, finite and above 0.
        age_years: (n,) float32, finite; None for a model that takes none.
        sex: (n,) int8, 0 female, 1 male; None for a model that takes none.
        bmi_kg_m2: (n,) float32, finite; None for a model that takes none.

    Raises:
        ValueError: a shape, dtype, code or value is not what is stated above.
    """

    counts: NDArray[np.int16]
    uv_per_count: NDArray[np.float32]
    age_years: NDArray[np.float32] | None = None
    sex: NDArray[np.int8] | None = None
    bmi_kg_m2: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        _check_counts(self.counts)
        n_ecgs = self.counts.shape[0]
        _check_vector("uv_per_count", self.uv_per_count, np.float32, n_ecgs)
        _check_values("uv_per_count", self.uv_per_count, self.uv_per_count > 0, "above 0")
        for name, values in (("age_years", self.age_years), ("bmi_kg_m2", self.bmi_kg_m2)):
            if values is not None:
                _check_vector(name, values, np.float32, n_ecgs)
                _check_values(name, values, np.isfinite(values), "")
        if self.sex is not None:
            _check_vector("sex", self.sex, np.int8, n_ecgs)
            _check_sex(self.sex)

    @property
    def n_ecgs(self) -> int:
        """Number of ECGs."""
        return int(self.counts.shape[0])

    def rows(self, start: int, stop: int) -> PredictorInputs:
        """Return the ECGs from `start` up to, not including, `stop`."""
        part = slice(start, stop)
        return PredictorInputs(
            self.counts[part],
            self.uv_per_count[part],
            None if self.age_years is None else self.age_years[part],
            None if self.sex is None else self.sex[part],
            None if self.bmi_kg_m2 is None else self.bmi_kg_m2[part],
        )

    def require_demographics(self, model_id: str) -> None:
        """Raise unless age, sex and BMI are given.

        Raises:
            ValueError: one of them is None.
        """
        given = {"age_years": self.age_years, "sex": self.sex, "bmi_kg_m2": self.bmi_kg_m2}
        missing = [name for name, values in given.items() if values is None]
        if missing:
            raise ValueError(
                f"{' and '.join(missing)} not given, but model {model_id} takes age, sex and BMI; "
                "give them, or choose an ECG-only model"
            )


def _check_counts(counts: NDArray[np.int16]) -> None:
    if not isinstance(counts, np.ndarray) or counts.dtype != np.int16:
        kind = getattr(counts, "dtype", type(counts).__name__)
        raise ValueError(f"counts are {kind}, expected an int16 array (n, 12, 5000)")
    if counts.ndim != 3 or counts.shape[1:] != (N_LEADS, N_SAMPLES):
        raise ValueError(
            f"counts have shape {counts.shape}, expected (n, {N_LEADS}, {N_SAMPLES}): ECGs, "
            "leads in clinical order, samples at 500 Hz"
        )


def _check_vector(name: str, values: NDArray[np.generic], dtype: type, n_ecgs: int) -> None:
    expected = np.dtype(dtype)
    if not isinstance(values, np.ndarray) or values.dtype != expected:
        kind = getattr(values, "dtype", type(values).__name__)
        raise ValueError(f"{name} is {kind}, expected {expected} of shape ({n_ecgs},)")
    if values.shape != (n_ecgs,):
        raise ValueError(f"{name} has shape {values.shape}, expected ({n_ecgs},): one value for each ECG")


def _check_values(name: str, values: NDArray[np.float32], good: NDArray[np.bool_], condition: str) -> None:
    bad = np.flatnonzero(~(good & np.isfinite(values)))
    if bad.size:
        raise ValueError(
            f"{name} is {values[bad[0]]} in row {bad[0]} ({bad.size} such rows), expected a "
            f"finite value {condition}".rstrip()
        )


def _check_sex(sex: NDArray[np.int8]) -> None:
    bad = np.flatnonzero((sex != SEX_FEMALE) & (sex != SEX_MALE))
    if bad.size:
        raise ValueError(
            f"sex is {sex[bad[0]]} in row {bad[0]} ({bad.size} such rows), expected "
            f"{SEX_FEMALE} (female) or {SEX_MALE} (male)"
        )
