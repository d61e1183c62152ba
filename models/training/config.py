"""The configuration of a training run, read from a file and checked before any work."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

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


class SplitShares(StrictSettings):
    """Shares of people; the side of a person depends on `salt` and the id alone.

    Attributes:
        train: to fit the weights.
        valid: to choose the checkpoint and to stop the training.
        test: not used for any choice.
        salt: any text; another one gives another split.
    """

    train: _Share = 0.8
    valid: _Share = 0.1
    test: _Share = 0.1
    salt: str = "lvm-ai"

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

    Attributes:
        noise_uv: standard deviation of white noise, per lead, microvolts.
        wander_uv: amplitude of a slow sine of each lead (0.1 to 0.5 Hz), microvolts.
        shift_ms: largest shift in time, either way, milliseconds; samples that leave at one end
            come back at the other.
    """

    noise_uv: _NotNegative = 0.0
    wander_uv: _NotNegative = 0.0
    shift_ms: Annotated[float, Field(ge=0, le=5000)] = 0.0

    @property
    def active(self) -> bool:
        """True when anything is on."""
        return max(self.noise_uv, self.wander_uv, self.shift_ms) > 0


class TrainingConfig(StrictSettings):
    """A training run. Relative paths are taken from the folder of the configuration file.

    Attributes:
        ecgs: folder with ECG Parquet files (searched with its subfolders), or one file.
        participants: CSV or Parquet, keyed by participant_id or ecg_id: sex, birth_date or
            age_years, bmi_kg_m2 or height_cm and weight_kg.
        participants_layout: what its columns mean: a preset (`ukb`, `ukb-rap`, `omop`) or a file.
        accept_people: go on although the participant table looks wrong as a whole.
        cmr: CSV or Parquet: participant_id, lvm_cmr_g, and cmr_date where known.
        output: run folder.
        name: id of the model.
        description: of the training data, in words, stored in the model.
        licence: of the weights, stored in the model.
        architecture: `age_sex_bmi` (with an LVH head) or `ecg_only`.
        loss: of LV mass.
        lvh_class_weights: weights of people without and with LVH in the cross-entropy.
        lvh_loss_weight: weight of that cross-entropy; 0 leaves the head untrained.
        max_days: largest distance of ECG and CMR; null for any.
        one_ecg_per_person: keep the ECG nearest to the CMR only.
        split: shares of people.
        scaling: `published` or `training_set` constants.
        epochs: passes over the training set, at most.
        batch_size: ECGs of a step, over all GPUs.
        learning_rate: at the end of the warm-up.
        warmup_epochs: over which it rises from 0; may be a fraction.
        final_learning_rate_share: what is left of it after the last epoch (cosine decay).
        weight_decay: of AdamW; 0 makes it Adam.
        clip_norm: largest norm of the gradient; null for no limit.
        patience: epochs without a better validation loss before it stops; null for never.
        precision: arithmetic of the hidden layers.
        convolution: how convolutions are computed while training.
        augmentation: disturbances of training ECGs.
        seed: of the weights, the order and the augmentation.
        signals: `memory` (120 kB an ECG) or `file` (a memory map in the run folder).
    """

    ecgs: Path
    participants: Path
    participants_layout: Path | None = None
    accept_people: bool = False
    cmr: Path
    output: Path
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "trained-model"
    description: str = ""
    licence: str = "not stated"
    architecture: Architecture = Architecture.AGE_SEX_BMI
    loss: MassLoss = MassLoss.ASYMMETRIC
    # Khurshid et al. 2021, as in broadinstitute/ml4h: 1 to 25.
    lvh_class_weights: tuple[_NotNegative, _NotNegative] = (1.0, 25.0)
    lvh_loss_weight: _NotNegative = 1.0
    max_days: Annotated[int, Field(ge=0)] | None = None
    one_ecg_per_person: bool = True
    split: SplitShares = SplitShares()
    scaling: Scaling = Scaling.PUBLISHED
    epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=1)] = 32
    learning_rate: _Positive = 1e-3
    warmup_epochs: _NotNegative = 1.0
    final_learning_rate_share: _Share = 0.02
    weight_decay: _NotNegative = 1e-4
    clip_norm: _Positive | None = 1.0
    patience: Annotated[int, Field(ge=1)] | None = 5
    precision: TrainingPrecision = TrainingPrecision.FLOAT32
    convolution: Convolution = Convolution.AUTO
    augmentation: Augmentation = Augmentation()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    signals: Annotated[str, Field(pattern="^(memory|file)$")] = "memory"

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
        UsageError: it cannot be read, a name is unknown, or a value is not what is expected;
            all mistakes at once.
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
