"""The two published graphs with fresh weights, and their convolutions through the FFT for training.

Both graphs have kernels of 71 samples, padding `same`, relu as a layer of its own, max pooling by
2, no dropout and no normalisation (broadinstitute/ml4h, folder
model_zoo/left_ventricular_mass_from_ecg_student_and_mri_teacher).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.signal.ecg import N_LEADS
from models.catalogue.spec import INPUT_AGE, INPUT_BMI, INPUT_ECG, INPUT_SEX, N_SAMPLES, OUTPUT_LVH, OUTPUT_MASS
from models.machine.runtime import import_keras, import_tensorflow

_KERNEL_SAMPLES: Final = 71
_POOL_SAMPLES: Final = 2
_STEM_FILTERS: Final = 32
_BLOCK_FILTERS: Final = (32, 24, 16)
_AGE_UNITS: Final = 32
_SEX_UNITS: Final = 2
_BMI_UNITS: Final = 1
_HIDDEN_UNITS: Final = 16
_EMBEDDING_UNITS: Final = 64

# Samples of a tile; divides 5000, 2500, 1250 and 625, the lengths in the published graphs.
_TILE_SAMPLES: Final = 125

# Keras's own defaults can be changed by a file in the home folder, so they are stated.
_FLOAT32: Final = "float32"
_DATA_FORMAT: Final = "channels_last"


def build_ecg_only(hidden_dtype: str = _FLOAT32) -> Any:
    """Return the ECG-only graph, 1,047,497 parameters, as an uncompiled `keras.Model`.

    One input, `INPUT_ECG`: (n, 5000, 12) float32; one output, `OUTPUT_MASS`: (n, 1) float32, z.
    Each block gives its last convolution. `hidden_dtype` is Keras's dtype policy of all layers but
    the heads, for example `mixed_bfloat16`; the weights are float32 whatever it is.
    """
    layers = _Layers(import_keras(), hidden_dtype)
    ecg = layers.input(INPUT_ECG, (N_SAMPLES, N_LEADS))
    x = layers.pool(layers.conv(ecg, _STEM_FILTERS))
    last = len(_BLOCK_FILTERS) - 1
    for index, filters in enumerate(_BLOCK_FILTERS):
        x = layers.dense_convs(x, filters, n_convs=3)[-1]
        if index != last:
            x = layers.pool(x)
    embedded = layers.trunk([layers.flatten(x)])
    return layers.keras.Model([ecg], [layers.mass_head(embedded)], name="ecg_only")


def build_age_sex_bmi(hidden_dtype: str = _FLOAT32) -> Any:
    """Return the graph with age, sex and BMI, 1,222,851 parameters, uncompiled.

    Four inputs, in this order: `INPUT_ECG` (n, 5000, 12), `INPUT_AGE` (n, 1), `INPUT_SEX` (n, 2),
    `INPUT_BMI` (n, 1); two outputs: `OUTPUT_MASS` (n, 1), z, and `OUTPUT_LVH` (n, 2), softmax.
    Each block gives the concatenation of its pooled convolution and the two after it.
    """
    layers = _Layers(import_keras(), hidden_dtype)
    ecg = layers.input(INPUT_ECG, (N_SAMPLES, N_LEADS))
    age, sex, bmi = (layers.input(name, (width,)) for name, width in ((INPUT_AGE, 1), (INPUT_SEX, 2), (INPUT_BMI, 1)))
    x = layers.conv(ecg, _STEM_FILTERS)
    for filters in _BLOCK_FILTERS:
        pooled = layers.pool(layers.conv(x, filters))
        x = layers.concatenate([pooled, *layers.dense_convs(pooled, filters, n_convs=2)])
    branches = [
        layers.dense_relu(tensor, units) for tensor, units in ((age, _AGE_UNITS), (sex, _SEX_UNITS), (bmi, _BMI_UNITS))
    ]
    embedded = layers.trunk([layers.flatten(x), *branches])
    outputs = [layers.mass_head(embedded), layers.lvh_head(embedded)]
    return layers.keras.Model([ecg, age, sex, bmi], outputs, name="age_sex_bmi")


@dataclass(frozen=True, slots=True)
class _Layers:
    """Makes the layers of the two graphs, with every default stated.

    Names are counted within the graph, because Keras counts within the process, and a saved model
    must not depend on what was built before it.
    """

    keras: Any
    dtype: str
    numbers: Counter[str] = field(default_factory=Counter)

    def input(self, name: str, shape: tuple[int, ...]) -> Any:
        return self.keras.Input(shape=shape, name=name, dtype=_FLOAT32)

    def conv(self, x: Any, filters: int) -> Any:
        linear = self.keras.layers.Conv1D(
            filters, _KERNEL_SAMPLES, padding="same", data_format=_DATA_FORMAT, **self._common("conv")
        )(x)
        return self._relu(linear)

    def pool(self, x: Any) -> Any:
        return self.keras.layers.MaxPooling1D(_POOL_SAMPLES, data_format=_DATA_FORMAT, **self._common("pool"))(x)

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
        hidden = self.dense_relu(joined, _HIDDEN_UNITS)
        return self.dense_relu(hidden, _EMBEDDING_UNITS, name="embed")

    def mass_head(self, embedded: Any) -> Any:
        return self.keras.layers.Dense(1, name=OUTPUT_MASS, dtype=_FLOAT32)(embedded)

    def lvh_head(self, embedded: Any) -> Any:
        return self.keras.layers.Dense(2, activation="softmax", name=OUTPUT_LVH, dtype=_FLOAT32)(embedded)

    def _relu(self, x: Any) -> Any:
        return self.keras.layers.Activation("relu", **self._common("relu"))(x)

    def _common(self, kind: str, name: str | None = None) -> dict[str, str]:
        self.numbers[kind] += 1
        return {"name": name or f"{kind}_{self.numbers[kind]}", "dtype": self.dtype}


def with_spectral_convolutions(keras_model: Any) -> Any:
    """Return a copy of a functional model whose 1-D convolutions go through the Fourier transform.

    The copy has the same layers in the same order and copies of the weights, so weights can be
    taken from either for the other. Convolutions with stride 1, dilation 1, padding `same`, no
    activation of their own and a length divisible by 125 are replaced, others are kept.
    """
    keras = import_keras()
    spectral = _layer_class()

    def clone(layer: Any) -> Any:
        replaced = isinstance(layer, keras.layers.Conv1D) and _is_supported(layer)
        return (spectral if replaced else type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(keras_model, clone_function=clone)
    copy.set_weights(keras_model.get_weights())
    return copy


def _is_supported(layer: Any) -> bool:
    return bool(
        layer.padding == "same"
        and layer.strides == (1,)
        and layer.dilation_rate == (1,)
        and layer.groups == 1
        and layer.use_bias
        and layer.activation.__name__ == "linear"
        and layer.data_format == "channels_last"
        and layer.input.shape[1] is not None
        and layer.input.shape[1] % _TILE_SAMPLES == 0
    )


@cache
def _layer_class() -> Any:
    """Return the class of the layer, made when called because Keras is imported late."""
    keras = import_keras()

    class SpectralConv1D(keras.layers.Conv1D):  # type: ignore[misc,name-defined]
        """`Conv1D` by overlap-save; the same weights, configuration and result."""

        def call(self, inputs: Any) -> Any:
            """Return (n, length, filters) for (n, length, channels)."""
            return _convolve(inputs, self.kernel) + self.bias

    return SpectralConv1D


def _convolve(inputs: Any, kernel: Any) -> Any:
    """Return the correlation of (n, length, c) with a (taps, c, d) kernel, padded as `same`."""
    tf = import_tensorflow()
    n_taps, n_in, n_out = kernel.shape
    n_tiles = inputs.shape[1] // _TILE_SAMPLES
    n_ecgs = tf.shape(inputs)[0]
    to_spectrum, kernel_cos, kernel_sin, to_samples = _transforms(n_taps)
    n_bins = kernel_cos.shape[0]

    before = (n_taps - 1) // 2
    time_major = tf.transpose(inputs, [1, 0, 2])
    padded = tf.pad(time_major, [[before, _TILE_SAMPLES - before], [0, 0], [0, 0]])
    tiles = tf.reshape(padded, [n_tiles + 1, _TILE_SAMPLES, n_ecgs * n_in])
    frames = tf.concat([tiles[:-1], tiles[1:, : n_taps - 1]], axis=1)

    spectrum = tf.reshape(tf.matmul(to_spectrum, frames), [n_tiles, 2, n_bins, n_ecgs, n_in])
    by_bin = tf.reshape(tf.transpose(spectrum, [2, 0, 3, 1, 4]), [n_bins, n_tiles * n_ecgs, 2 * n_in])
    product = tf.matmul(by_bin, _kernel_spectrum(tf, kernel, kernel_cos, kernel_sin))
    parts = tf.reshape(product, [n_bins, n_tiles, n_ecgs, 2, n_out])
    by_tile = tf.reshape(tf.transpose(parts, [1, 3, 0, 2, 4]), [n_tiles, 2 * n_bins, n_ecgs * n_out])
    samples = tf.reshape(tf.matmul(to_samples, by_tile), [n_tiles * _TILE_SAMPLES, n_ecgs, n_out])
    return tf.transpose(samples, [1, 0, 2])


def _kernel_spectrum(tf: Any, kernel: Any, kernel_cos: Any, kernel_sin: Any) -> Any:
    """Return the factor of the spectrum, (bins, 2c, 2d): a complex product in real numbers."""
    n_taps, n_in, n_out = kernel.shape
    flat = tf.reshape(kernel, [n_taps, n_in * n_out])
    real = tf.reshape(tf.matmul(kernel_cos, flat), [-1, n_in, n_out])
    imaginary = tf.reshape(tf.matmul(kernel_sin, flat), [-1, n_in, n_out])
    upper = tf.concat([real, imaginary], axis=2)
    return tf.concat([upper, tf.concat([-imaginary, real], axis=2)], axis=1)


def _transforms(n_taps: int) -> tuple[NDArray[np.float32], ...]:
    """Return the matrices of the transforms, computed in float64 and rounded once.

    Samples to real and imaginary parts (2 bins, length); taps to the real and to the imaginary
    part of a correlation's spectrum (bins, taps), conjugate to that of a convolution; parts to the
    valid samples of a tile (tile, 2 bins). The length is that of a tile and its overlap.
    """
    length = _TILE_SAMPLES + n_taps - 1
    bins = np.arange(length // 2 + 1)
    angle = 2 * np.pi * np.outer(bins, np.arange(length)) / length
    to_spectrum = np.concatenate([np.cos(angle), -np.sin(angle)])
    taps = angle[:, :n_taps]
    weight = np.where((bins == 0) | (2 * bins == length), 1.0, 2.0) / length
    valid = angle[:, :_TILE_SAMPLES].T
    to_samples = np.concatenate([weight * np.cos(valid), -weight * np.sin(valid)], axis=1)
    wide = (to_spectrum, np.cos(taps), np.sin(taps), to_samples)
    return tuple(matrix.astype(np.float32) for matrix in wide)
