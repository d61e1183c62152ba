"""The two published graphs, built from scratch with fresh weights.

Everywhere: kernel of 71 samples, padding `same`, relu as a layer of its own, max pooling by 2, no
dropout and no normalisation (broadinstitute/ml4h, folder
model_zoo/left_ventricular_mass_from_ecg_student_and_mri_teacher).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from lvm_core.ecg import N_LEADS
from models.runtime import import_keras
from models.spec import (
    INPUT_AGE,
    INPUT_BMI,
    INPUT_ECG,
    INPUT_SEX,
    N_SAMPLES,
    OUTPUT_LVH,
    OUTPUT_MASS,
)

KERNEL_SAMPLES: Final = 71
POOL_SAMPLES: Final = 2
BLOCK_FILTERS: Final = (32, 24, 16)
STEM_FILTERS: Final = 32
AGE_UNITS: Final = 32
SEX_UNITS: Final = 2
BMI_UNITS: Final = 1
HIDDEN_UNITS: Final = 16
EMBEDDING_UNITS: Final = 64
EMBEDDING_LAYER: Final = "embed"

# Keras's own defaults can be changed by a file in the home folder, so they are stated.
_DTYPE: Final = "float32"
_DATA_FORMAT: Final = "channels_last"


def build_ecg_only() -> Any:
    """Return the ECG-only graph, 1,047,497 parameters, as an uncompiled `keras.Model`.

    One input, `INPUT_ECG`: (n, 5000, 12) float32; one output, `OUTPUT_MASS`: (n, 1) float32, z.
    Blocks pass on their last convolution alone.
    """
    keras = import_keras()
    ecg = _input(keras, INPUT_ECG, (N_SAMPLES, N_LEADS))
    x = _pool(keras, _conv(keras, ecg, STEM_FILTERS))
    last = len(BLOCK_FILTERS) - 1
    for index, filters in enumerate(BLOCK_FILTERS):
        x = _dense_convs(keras, x, filters, n_convs=3)[-1]
        if index != last:
            x = _pool(keras, x)
    embedded = _trunk(keras, [_flatten(keras, x)])
    return keras.Model([ecg], [_mass_head(keras, embedded)])


def build_age_sex_bmi() -> Any:
    """Return the graph with age, sex and BMI, 1,222,851 parameters, uncompiled.

    Four inputs, in this order: `INPUT_ECG` (n, 5000, 12), `INPUT_AGE` (n, 1), `INPUT_SEX` (n, 2),
    `INPUT_BMI` (n, 1); two outputs: `OUTPUT_MASS` (n, 1), z, and `OUTPUT_LVH` (n, 2), softmax.
    Blocks pass on the concatenation of their pooled convolution and the two after it.
    """
    keras = import_keras()
    ecg = _input(keras, INPUT_ECG, (N_SAMPLES, N_LEADS))
    age, sex, bmi = (
        _input(keras, name, (width,))
        for name, width in ((INPUT_AGE, 1), (INPUT_SEX, 2), (INPUT_BMI, 1))
    )
    x = _conv(keras, ecg, STEM_FILTERS)
    for filters in BLOCK_FILTERS:
        pooled = _pool(keras, _conv(keras, x, filters))
        convs = _dense_convs(keras, pooled, filters, n_convs=2)
        x = keras.layers.Concatenate()([pooled, *convs])
    branches = [
        _dense_relu(keras, tensor, units)
        for tensor, units in ((age, AGE_UNITS), (sex, SEX_UNITS), (bmi, BMI_UNITS))
    ]
    embedded = _trunk(keras, [_flatten(keras, x), *branches])
    lvh = keras.layers.Dense(2, activation="softmax", name=OUTPUT_LVH, dtype=_DTYPE)(embedded)
    return keras.Model([ecg, age, sex, bmi], [_mass_head(keras, embedded), lvh])


def _input(keras: Any, name: str, shape: tuple[int, ...]) -> Any:
    return keras.Input(shape=shape, name=name, dtype=_DTYPE)


def _conv(keras: Any, x: Any, filters: int) -> Any:
    linear = keras.layers.Conv1D(
        filters, KERNEL_SAMPLES, padding="same", data_format=_DATA_FORMAT, dtype=_DTYPE
    )(x)
    return keras.layers.Activation("relu", dtype=_DTYPE)(linear)


def _pool(keras: Any, x: Any) -> Any:
    return keras.layers.MaxPooling1D(POOL_SAMPLES, data_format=_DATA_FORMAT, dtype=_DTYPE)(x)


def _flatten(keras: Any, x: Any) -> Any:
    return keras.layers.Flatten(data_format=_DATA_FORMAT, dtype=_DTYPE)(x)


def _dense_relu(keras: Any, x: Any, units: int, name: str | None = None) -> Any:
    linear = keras.layers.Dense(units, name=name, dtype=_DTYPE)(x)
    return keras.layers.Activation("relu", dtype=_DTYPE)(linear)


def _dense_convs(keras: Any, x: Any, filters: int, n_convs: int) -> list[Any]:
    """Return convolutions each of which sees `x` and all convolutions before it."""
    outputs: list[Any] = []
    for _ in range(n_convs):
        seen = keras.layers.Concatenate()([x, *outputs]) if outputs else x
        outputs.append(_conv(keras, seen, filters))
    return outputs


def _trunk(keras: Any, features: Sequence[Any]) -> Any:
    joined = features[0] if len(features) == 1 else keras.layers.Concatenate()(list(features))
    hidden = _dense_relu(keras, joined, HIDDEN_UNITS)
    return _dense_relu(keras, hidden, EMBEDDING_UNITS, name=EMBEDDING_LAYER)


def _mass_head(keras: Any, embedded: Any) -> Any:
    return keras.layers.Dense(1, name=OUTPUT_MASS, dtype=_DTYPE)(embedded)
