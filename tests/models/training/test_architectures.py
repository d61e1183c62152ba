from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.catalogue.loading import bind_model, load_model
from models.catalogue.spec import (
    AGE_YEARS,
    BMI_21001_KG_M2,
    INPUT_AGE,
    INPUT_BMI,
    INPUT_ECG,
    INPUT_SEX,
    OUTPUT_LVH,
    OUTPUT_MASS,
)
from models.training.architectures import build_age_sex_bmi, build_ecg_only, with_spectral_convolutions
from tests.models.golden import ECG_ONLY, FULL, golden_source, load_golden

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]


def test_build_ecg_only__published_number_of_parameters() -> None:
    assert build_ecg_only().count_params() == 1_047_497


def test_build_age_sex_bmi__published_number_of_parameters() -> None:
    assert build_age_sex_bmi().count_params() == 1_222_851


def test_build_age_sex_bmi__published_names() -> None:
    model = build_age_sex_bmi()
    assert [tensor.name for tensor in model.inputs] == [INPUT_ECG, INPUT_AGE, INPUT_SEX, INPUT_BMI]
    assert model.output_names == [OUTPUT_MASS, OUTPUT_LVH]


@pytest.mark.parametrize(
    ("build", "name"), [(build_ecg_only, ECG_ONLY), (build_age_sex_bmi, FULL)], ids=["ecg_only", "age_sex_bmi"]
)
def test_builders__graph_equals_the_tensorflow_2_1_file(build: Callable[[], Any], name: str) -> None:
    golden = load_golden()
    feeds = {
        INPUT_ECG: golden.tensor_counts[:4].astype(np.float32) / 2000,
        INPUT_AGE: AGE_YEARS.standardise(golden.age_years)[:4, None],
        INPUT_SEX: np.eye(2, dtype=np.float32)[golden.sex[:4]],
        INPUT_BMI: BMI_21001_KG_M2.standardise(golden.bmi_kg_m2)[:4, None],
    }
    reference = load_model(golden_source(name))
    built = bind_model(build(), reference.spec)
    built.keras_model.set_weights(reference.keras_model.get_weights())
    expected, actual = reference.call_by_name(feeds), built.call_by_name(feeds)
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(actual[name].numpy(), expected[name].numpy())


def _model(length: int = 250, taps: int = 71, **options: Any) -> Any:
    import keras

    given = keras.Input((length, 3))
    settings = {"padding": "same"} | options
    x = keras.layers.Conv1D(4, taps, name="first", **settings)(given)
    x = keras.layers.Activation("relu")(x)
    return keras.Model(given, keras.layers.Conv1D(2, taps, padding="same")(x))


def _in_float64(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Return the correlation by its definition."""
    taps = kernel.shape[0]
    padded = np.pad(x, [(0, 0), ((taps - 1) // 2, taps // 2), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=1)
    return np.asarray(np.einsum("ntck,kcd->ntd", windows, kernel.astype(np.float64)) + bias)


@pytest.mark.parametrize(("length", "taps"), [(125, 71), (625, 71), (250, 8), (250, 1)])
def test_with_spectral_convolutions__equals_the_definition(length: int, taps: int) -> None:
    import keras

    rng = np.random.default_rng(3)
    given = keras.Input((length, 3))
    plain = keras.Model(given, keras.layers.Conv1D(4, taps, padding="same")(given))
    plain.set_weights([rng.normal(size=(taps, 3, 4)), rng.normal(size=4)])
    x = rng.normal(size=(5, length, 3))
    actual = with_spectral_convolutions(plain)(x.astype(np.float32)).numpy()
    np.testing.assert_allclose(actual, _in_float64(x, *plain.get_weights()), rtol=0, atol=1e-4)


def test_with_spectral_convolutions__gradients_equal_those_of_the_direct_graph() -> None:
    import tensorflow as tf

    plain = _model()
    x = tf.constant(np.random.default_rng(4).normal(size=(3, 250, 3)).astype(np.float32))
    gradients = []
    for model in (plain, with_spectral_convolutions(plain)):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(model(x) ** 2)
        gradients.append([g.numpy() for g in tape.gradient(loss, model.trainable_variables)])
    for direct, spectral in zip(*gradients, strict=True):
        np.testing.assert_allclose(spectral, direct, rtol=0, atol=1e-5 * np.abs(direct).max())


@pytest.mark.parametrize("options", [{"dilation_rate": 2}, {"padding": "causal"}, {"activation": "relu"}])
def test_with_spectral_convolutions__other_convolutions_are_kept(options: dict[str, Any]) -> None:
    copy = with_spectral_convolutions(_model(**options))
    names = [type(layer).__name__ for layer in copy.layers]
    assert names == ["InputLayer", "Conv1D", "Activation", "SpectralConv1D"]


def test_with_spectral_convolutions__a_length_that_tiles_do_not_fill_stays_direct() -> None:
    copy = with_spectral_convolutions(_model(length=130))
    assert "SpectralConv1D" not in [type(layer).__name__ for layer in copy.layers]
