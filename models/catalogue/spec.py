"""What a model is: its identity, its constants, what it takes and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import LvmError
from lvm_core.signal.ecg import N_LEADS

N_SAMPLES: Final = 5000
"""Samples of each lead in the input tensor: 10 s at 500 Hz."""

SAMPLING_RATE_HZ: Final = 500.0

# Names of the input and output layers of the published files (broadinstitute/ml4h, folder
# model_zoo/left_ventricular_mass_from_ecg_student_and_mri_teacher).
INPUT_ECG: Final = "input_ecg_rest_raw_continuous"
INPUT_AGE: Final = "input_21003_Age-when-attended-assessment-centre_2_0_continuous"
INPUT_SEX: Final = "input_Sex_Male_0_0_categorical"
INPUT_BMI: Final = "input_21001_Body-mass-index-BMI_0_0_continuous"
OUTPUT_MASS: Final = "output_adjusted_myocardium_mass_continuous"
OUTPUT_LVH: Final = "output_lvh_from_indexed_lvm_categorical"

SEX_FEMALE: Final = 0
SEX_MALE: Final = 1
"""Codes of sex in arrays; also the index in the one-hot input [female, male]."""

LVH_CLASS: Final = 1
"""Index of LVH in the softmax output: a score, not calibrated (trained with class weights 1:25)."""


@dataclass(frozen=True, slots=True)
class Standardisation:
    """A mean and a standard deviation above 0, both in `unit`: `years`, `kg_m2` or `g`."""

    mean: float
    sd: float
    unit: str

    def standardise(self, values: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return `(values - mean) / sd` of any shape, computed in float64 and rounded once."""
        wide = np.asarray(values, dtype=np.float64)
        return ((wide - self.mean) / self.sd).astype(np.float32)


# From the tensor maps of broadinstitute/ml4h: 21003_Age-when-attended-assessment-centre_2_0,
# 21001_Body-mass-index-BMI_0_0 and 23104_Body-mass-index-BMI_0_0 (the numbers are fields of UK
# Biobank), and adjusted_myocardium_mass: grams = 24.80 * z + 89.70.
AGE_YEARS: Final = Standardisation(63.35798891483556, 7.554638350423902, "years")
BMI_21001_KG_M2: Final = Standardisation(27.3397, 4.77216, "kg_m2")
BMI_23104_KG_M2: Final = Standardisation(27.432061533712652, 4.785244772462738, "kg_m2")
LVM_G: Final = Standardisation(89.70, 24.80, "g")


class InputConvention(StrEnum):
    """How microvolts become the numbers the network sees; recorded with every prediction.

    `ukb_counts`: microvolts / 10000, that is CardioSoft integers (5 microvolts per count) / 2000,
        what the published models were trained on. An R peak is 0.05 to 0.2.
    `microvolts_over_2000`: 5 times larger; only to reproduce results that were obtained so.
    """

    UKB_COUNTS = "ukb_counts"
    MICROVOLTS_OVER_2000 = "microvolts_over_2000"

    @property
    def input_unit_uv(self) -> float:
        """Microvolts that become 1.0 in the input tensor."""
        return 10_000.0 if self is InputConvention.UKB_COUNTS else 2_000.0


class InputRole(StrEnum):
    """What an input layer holds."""

    ECG = "ecg"
    AGE = "age"
    SEX = "sex"
    BMI = "bmi"


INPUT_WIDTHS: Final = {InputRole.AGE: 1, InputRole.SEX: 2, InputRole.BMI: 1}
"""Columns of each demographic input."""

_ROLE_MARKS: Final = {
    "ecg_rest_raw": InputRole.ECG,
    "21003": InputRole.AGE,
    "Sex_Male": InputRole.SEX,
    "21001": InputRole.BMI,
    "23104": InputRole.BMI,
}


def input_role(name: str) -> InputRole:
    """Return what the input layer `name` holds, found by name and never by position.

    Raises:
        LvmError: the name fits none of the known inputs, or more than one.
    """
    roles = {role for mark, role in _ROLE_MARKS.items() if mark in name}
    if len(roles) != 1:
        raise LvmError(
            f"input layer {name!r} fits {len(roles)} known inputs, expected a name that holds "
            f"exactly one of {', '.join(_ROLE_MARKS)}; rename the input layer of the model"
        )
    return roles.pop()


def input_roles(names: tuple[str, ...]) -> dict[InputRole, str]:
    """Return the input layer of each role.

    Raises:
        LvmError: an unknown input, two inputs of one role, or no ECG input.
    """
    by_role: dict[InputRole, str] = {}
    for name in names:
        role = input_role(name)
        if role in by_role:
            raise LvmError(
                f"input layers {by_role[role]!r} and {name!r} both hold {role.value}; expected one layer of each kind"
            )
        by_role[role] = name
    if InputRole.ECG not in by_role:
        raise LvmError(f"inputs {list(names)} hold no ECG, expected a layer like {INPUT_ECG!r}")
    return by_role


@dataclass(frozen=True, slots=True)
class ModelConstants:
    """The constants that standardise age and BMI for one model and turn its output into grams.

    Where `bmi_kg_m2` is None, the published constants of the UK Biobank field apply that the name
    of the input layer holds, 21001 or 23104.
    """

    age_years: Standardisation = AGE_YEARS
    bmi_kg_m2: Standardisation | None = None
    lvm_g: Standardisation = LVM_G

    def bmi_of(self, layer_name: str) -> Standardisation:
        """Return the constants of BMI for an input layer."""
        published = BMI_23104_KG_M2 if "23104" in layer_name else BMI_21001_KG_M2
        return self.bmi_kg_m2 or published


PUBLISHED_CONSTANTS: Final = ModelConstants()


def lvm_g_from_z(lvm_z: NDArray[np.float32], scale: Standardisation = LVM_G) -> NDArray[np.float32]:
    """Return LV mass, (n,) float32 grams, from the output of the mass head, (n,) float32 z.

    With the published constants it is 24.80 * z + 89.70: a float32 product and then a float32 sum
    in numpy, so that every engine and processor rounds in the same way.
    """
    scaled = lvm_z.astype(np.float32) * np.float32(scale.sd)
    return (scaled + np.float32(scale.mean)).astype(np.float32)


class ModelOrigin(StrEnum):
    """Where the weights come from: published, embedded in the package, or a file of the user."""

    PUBLISHED = "published"
    EMBEDDED = "embedded"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Identity and interface of one model."""

    model_id: str  # its name in commands and in the predictions
    title: str  # one line for people
    file_name: str  # as it was published or given
    sha256: str  # of the uncompressed file, 64 hexadecimal digits
    size_bytes: int  # of the uncompressed file
    inputs: tuple[str, ...]  # names of the input layers
    outputs: tuple[str, ...]  # names of the output layers
    origin: ModelOrigin
    # True where the weights were fitted to patients' ECGs and CMR, which does not make the output a
    # medical result. False for a file of the user, because nothing is known about it.
    clinical: bool
    licence: str  # what is known about the right to use and to pass on the weights
    description: str  # where the weights come from, in words
    warning: str = ""  # is shown wherever the model's numbers appear
    constants: ModelConstants = PUBLISHED_CONSTANTS

    @property
    def needs_demographics(self) -> bool:
        """True when the model takes age, sex or BMI beside the ECG."""
        return set(input_roles(self.inputs)) != {InputRole.ECG}

    @property
    def has_lvh_head(self) -> bool:
        """True when the model also gives an LVH score."""
        return OUTPUT_LVH in self.outputs


@dataclass(frozen=True, slots=True)
class PredictorInputs:
    """Checked inputs of n ECGs; age, sex and BMI are None for a model that takes none.

    Raises:
        ValueError: a shape, dtype, code or value is not what is stated here.
    """

    counts: NDArray[np.int16]  # (n, 12, 5000), leads in `LEADS_12` order
    uv_per_count: NDArray[np.float32]  # (n,) microvolts of one count, finite and above 0
    age_years: NDArray[np.float32] | None = None  # (n,) finite
    sex: NDArray[np.int8] | None = None  # (n,) 0 female, 1 male
    bmi_kg_m2: NDArray[np.float32] | None = None  # (n,) finite

    def __post_init__(self) -> None:
        _check_counts(self.counts)
        n_ecgs, step_uv = self.n_ecgs, self.uv_per_count
        _check_vector("uv_per_count", step_uv, np.float32, n_ecgs)
        _refuse_rows("uv_per_count", step_uv, ~((step_uv > 0) & np.isfinite(step_uv)), "a finite value above 0")
        for name, values in (("age_years", self.age_years), ("bmi_kg_m2", self.bmi_kg_m2)):
            if values is not None:
                _check_vector(name, values, np.float32, n_ecgs)
                _refuse_rows(name, values, ~np.isfinite(values), "a finite value")
        if self.sex is not None:
            _check_vector("sex", self.sex, np.int8, n_ecgs)
            unknown = (self.sex != SEX_FEMALE) & (self.sex != SEX_MALE)
            _refuse_rows("sex", self.sex, unknown, f"{SEX_FEMALE} (female) or {SEX_MALE} (male)")

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
        """Raise `ValueError` unless age, sex and BMI are given."""
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


def _refuse_rows(name: str, values: NDArray[np.generic], bad: NDArray[np.bool_], expected: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        raise ValueError(f"{name} is {values[rows[0]]} in row {rows[0]} ({rows.size} such rows), expected {expected}")


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a model predicts for n ECGs, in the order in which they were given."""

    lvm_pred_g: NDArray[np.float32]  # (n,) predicted LV mass, grams, finite
    # (n,) 0 to 1, from the LVH head; NaN where the model has none. Not a calibrated probability.
    lvh_score: NDArray[np.float32]

    def __len__(self) -> int:
        return int(self.lvm_pred_g.shape[0])
