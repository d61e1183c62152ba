"""The two published graphs, built from scratch with fresh weights.

Everywhere: kernel of 71 samples, padding `same`, relu as a layer of its own, max pooling by 2, no
dropout and no normalisation (broadinstitute/ml4h, folder
model_zoo/left_ventricular_mass_from_ecg_student_and_mri_teacher).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lvm_core.ecg import N_LEADS
from models.runtime import import_keras
from models.spec import INPUT_AGE, INPUT_BMI, INPUT_ECG, INPUT_SEX, N_SAMPLES, OUTPUT_LVH, OUTPUT_MASS

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
_FLOAT32: Final = "float32"
_DATA_FORMAT: Final = "channels_last"


def build_ecg_only(hidden_dtype: str = _FLOAT32) -> Any:
    """Return the ECG-only graph, 1,047,497 parameters, as an uncompiled `keras.Model`.

    One input, `INPUT_ECG`: (n, 5000, 12) float32; one output, `OUTPUT_MASS`: (n, 1) float32, z.
    Blocks pass on their last convolution alone.

    Args:
        hidden_dtype: Keras's dtype policy of all layers but the heads, for example
            `mixed_bfloat16` for training; the weights are float32 whatever it is.
    """
    layers = _Layers(import_keras(), hidden_dtype)
    ecg = layers.input(INPUT_ECG, (N_SAMPLES, N_LEADS))
    x = layers.pool(layers.conv(ecg, STEM_FILTERS))
    last = len(BLOCK_FILTERS) - 1
    for index, filters in enumerate(BLOCK_FILTERS):
        x = layers.dense_convs(x, filters, n_convs=3)[-1]
        if index != last:
            x = layers.pool(x)
    embedded = layers.trunk([layers.flatten(x)])
    return layers.keras.Model([ecg], [layers.mass_head(embedded)], name="ecg_only")


def build_age_sex_bmi(hidden_dtype: str = _FLOAT32) -> Any:
    """Return the graph with age, sex and BMI, 1,222,851 parameters, uncompiled.

    Four inputs, in this order: `INPUT_ECG` (n, 5000, 12), `INPUT_AGE` (n, 1), `INPUT_SEX` (n, 2),
    `INPUT_BMI` (n, 1); two outputs: `OUTPUT_MASS` (n, 1), z, and `OUTPUT_LVH` (n, 2), softmax.
    Blocks pass on the concatenation of their pooled convolution and the two after it.

    Args:
        hidden_dtype: as for `build_ecg_only`.
    """
    layers = _Layers(import_keras(), hidden_dtype)
    ecg = layers.input(INPUT_ECG, (N_SAMPLES, N_LEADS))
    age, sex, bmi = (layers.input(name, (width,)) for name, width in ((INPUT_AGE, 1), (INPUT_SEX, 2), (INPUT_BMI, 1)))
    x = layers.conv(ecg, STEM_FILTERS)
    for filters in BLOCK_FILTERS:
        pooled = layers.pool(layers.conv(x, filters))
        x = layers.concatenate([pooled, *layers.dense_convs(pooled, filters, n_convs=2)])
    branches = [
        layers.dense_relu(tensor, units) for tensor, units in ((age, AGE_UNITS), (sex, SEX_UNITS), (bmi, BMI_UNITS))
    ]
    embedded = layers.trunk([layers.flatten(x), *branches])
    outputs = [layers.mass_head(embedded), layers.lvh_head(embedded)]
    return layers.keras.Model([ecg, age, sex, bmi], outputs, name="age_sex_bmi")


@dataclass(frozen=True, slots=True)
class _Layers:
    """The layers of the two graphs, with every default stated.

    Names are counted within the graph, because Keras counts within the process, and a saved model
    must not depend on what was built before it.

    Attributes:
        keras: the module.
        dtype: dtype policy of the hidden layers.
        numbers: layers made so far, by kind.
    """

    keras: Any
    dtype: str
    numbers: Counter[str] = field(default_factory=Counter)

    def input(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.keras.Input(shape=shape, name=name, dtype=_FLOAT32)

    def conv(self, x: Any, filters: int) -> Any:
        linear = self.keras.layers.Conv1D(
            filters, KERNEL_SAMPLES, padding="same", data_format=_DATA_FORMAT, **self._common("conv")
        )(x)
        return self._relu(linear)

    def pool(self, x: Any) -> Any:
        return self.keras.layers.MaxPooling1D(POOL_SAMPLES, data_format=_DATA_FORMAT, **self._common("pool"))(x)

    def flatten(self, x: Any) -> Any:
        return self.keras.layers.Flatten(data_format=_DATA_FORMAT, **self._common("flatten"))(x)

    def concatenate(self, tensors: Sequence[Any]) -> Any:
        return self.keras.layers.Concatenate(**self._common("concatenate"))(list(tensors))

    def dense_relu(self, x: Any, units: int, name: str | None = None) -> Any:
        return self._relu(self.keras.layers.Dense(units, **self._common("dense", name))(x))

    def dense_convs(self, x: Any, filters: int, n_convs: int) -> list[Any]:
        """Return convolutions each of which sees `x` and all convolutions before it."""
        outputs: list[Any] = []
        for _ in range(n_convs):
            seen = self.concatenate([x, *outputs]) if outputs else x
            outputs.append(self.conv(seen, filters))
        return outputs

    def trunk(self, features: Sequence[Any]) -> Any:
        joined = features[0] if len(features) == 1 else self.concatenate(features)
        hidden = self.dense_relu(joined, HIDDEN_UNITS)
        return self.dense_relu(hidden, EMBEDDING_UNITS, name=EMBEDDING_LAYER)

    def mass_head(self, embedded: Any) -> Any:
        return self.keras.layers.Dense(1, name=OUTPUT_MASS, dtype=_FLOAT32)(embedded)

    def lvh_head(self, embedded: Any) -> Any:
        return self.keras.layers.Dense(2, activation="softmax", name=OUTPUT_LVH, dtype=_FLOAT32)(embedded)

    def _relu(self, x: Any) -> Any:
        return self.keras.layers.Activation("relu", **self._common("relu"))(x)

    def _common(self, kind: str, name: str | None = None) -> dict[str, str]:
        self.numbers[kind] += 1
        return {"name": name or f"{kind}_{self.numbers[kind]}", "dtype": self.dtype}
