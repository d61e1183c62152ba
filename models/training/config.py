"""The configuration of a training run, read from a file and checked before any work."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from lvm_core.errors import UsageError
from lvm_core.settings_text import StrictSettings, parse_settings
from lvm_core.tables import PRESETS
from models.training.losses import MassLoss

_SHARE_TOLERANCE: Final = 1e-9


class Architecture(StrEnum):
    """Which of the two published graphs is trained."""

    ECG_ONLY = "ecg_only"
    AGE_SEX_BMI = "age_sex_bmi"


class Scaling(StrEnum):
    """Where the constants of age, BMI and LV mass come from."""

    PUBLISHED = "published"
    TRAINING_SET = "training_set"


class TrainingPrecision(StrEnum):
    """Arithmetic of the hidden layers while training; weights, heads and losses are float32."""

    FLOAT32 = "float32"
    MIXED_BFLOAT16 = "mixed_bfloat16"
    MIXED_FLOAT16 = "mixed_float16"


class Convolution(StrEnum):
    """How convolutions are computed while training; the saved model is the same plain graph.

    `auto`: direct where a GPU is visible, else spectral.
    `direct`: TensorFlow's own.
    `spectral`: through the Fourier transform, about four times faster on CPUs; float32 only.
    """

    AUTO = "auto"
    DIRECT = "direct"
    SPECTRAL = "spectral"


_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]
_NotNegative = Annotated[float, Field(ge=0)]
_Count = Annotated[int, Field(ge=1)]


class SplitShares(StrictSettings):
    """Shares of people; the side of a person depends on `salt` and the id alone."""

    train: _Share = 0.8  # to fit the weights
    valid: _Share = 0.1  # to choose the epoch and to stop the training
    test: _Share = 0.1  # not used for any choice
    salt: str = "lvm-ai"  # any text; another one gives another split

    @model_validator(mode="after")
    def _complete(self) -> Self:
        total = self.train + self.valid + self.test
        if abs(total - 1) > _SHARE_TOLERANCE or self.train == 0 or self.valid == 0:
            raise ValueError(
                f"train, valid and test are {self.train:g}, {self.valid:g} and {self.test:g}; "
                "expected shares that add up to 1, with train and valid above 0"
            )
        return self


class Augmentation(StrictSettings):
    """Disturbances of the training ECGs, all off by default.

    The amplitude is never changed: it carries the signal.
    """

    noise_uv: _NotNegative = 0.0  # standard deviation of white noise, per lead
    wander_uv: _NotNegative = 0.0  # amplitude of a slow sine of each lead (0.1 to 0.5 Hz)
    # Largest shift in time, either way; samples that leave at one end come back at the other.
    shift_ms: Annotated[float, Field(ge=0, le=5000)] = 0.0

    @property
    def active(self) -> bool:
        """True when anything is on."""
        return max(self.noise_uv, self.wander_uv, self.shift_ms) > 0


class TrainingConfig(StrictSettings):
    """A training run; docs/training.md describes each setting for users.

    Relative paths are taken from the folder of the configuration file.
    """

    ecgs: Path  # folder with ECG Parquet files (searched with its subfolders), or one file
    # Keyed by participant_id or ecg_id: sex, birth_date or age_years, BMI or height and weight.
    participants: Path
    participants_layout: Path | None = None  # a preset (`ukb`, `ukb-rap`, `omop`) or a file
    accept_people: bool = False  # go on although the participant table looks wrong as a whole
    cmr: Path  # participant_id, lvm_cmr_g, and cmr_date where known
    output: Path  # the run folder
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "trained-model"
    description: str = ""  # of the training data, in words; stored in the model
    licence: str = "not stated"  # of the weights; stored in the model
    architecture: Architecture = Architecture.AGE_SEX_BMI
    loss: MassLoss = MassLoss.ASYMMETRIC
    # Of people without and with LVH; Khurshid et al. 2021, as in broadinstitute/ml4h: 1 to 25.
    lvh_class_weights: tuple[_NotNegative, _NotNegative] = (1.0, 25.0)
    lvh_loss_weight: _NotNegative = 1.0  # of the cross-entropy; 0 leaves the head untrained
    max_days: Annotated[int, Field(ge=0)] | None = None  # largest distance of ECG and CMR
    one_ecg_per_person: bool = True  # keep only the ECG nearest to the CMR
    split: SplitShares = SplitShares()
    scaling: Scaling = Scaling.PUBLISHED
    epochs: _Count = 10  # passes over the training set, at most
    batch_size: _Count = 32  # ECGs of a step, over all GPUs
    learning_rate: _Positive = 1e-3  # at the end of the warm-up
    warmup_epochs: _NotNegative = 1.0  # over which the rate rises from 0; may be a fraction
    final_learning_rate_share: _Share = 0.02  # what is left after the last epoch (cosine decay)
    weight_decay: _NotNegative = 1e-4  # of AdamW; 0 makes it Adam
    clip_norm: _Positive | None = 1.0  # largest norm of the gradient
    patience: _Count | None = 5  # epochs without a better validation loss before the training stops
    precision: TrainingPrecision = TrainingPrecision.FLOAT32
    convolution: Convolution = Convolution.AUTO
    augmentation: Augmentation = Augmentation()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1  # of the weights, the order and the augmentation
    signals: Literal["memory", "file"] = "memory"  # 120 kB an ECG, or a memory map in the run folder

    @model_validator(mode="after")
    def _float32_for_spectral(self) -> Self:
        mixed = self.precision is not TrainingPrecision.FLOAT32
        if mixed and self.convolution is Convolution.SPECTRAL:
            raise ValueError(
                f"precision is {self.precision.value} and convolution is spectral, which is for "
                "float32 only; expected convolution auto or direct"
            )
        return self

    @property
    def has_lvh_head(self) -> bool:
        """True when the architecture gives an LVH score."""
        return self.architecture is Architecture.AGE_SEX_BMI


def load_config(path: Path) -> TrainingConfig:
    """Read and check a configuration file.

    Raises:
        UsageError: the file cannot be read, a name is unknown, or a value is not what is expected;
            the message lists all mistakes.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    config = parse_settings(text, TrainingConfig, str(path))
    folder = path.resolve().parent
    names = ["ecgs", "participants", "cmr", "output"]
    layout = config.participants_layout
    if layout is not None and str(layout) not in PRESETS:
        names.append("participants_layout")
    return config.model_copy(update={name: folder / getattr(config, name) for name in names})
