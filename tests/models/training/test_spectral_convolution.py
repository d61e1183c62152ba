from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]


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

    from models.training.architectures import with_spectral_convolutions

    rng = np.random.default_rng(3)
    given = keras.Input((length, 3))
    plain = keras.Model(given, keras.layers.Conv1D(4, taps, padding="same")(given))
    plain.set_weights([rng.normal(size=(taps, 3, 4)), rng.normal(size=4)])
    x = rng.normal(size=(5, length, 3))
    actual = with_spectral_convolutions(plain)(x.astype(np.float32)).numpy()
    np.testing.assert_allclose(actual, _in_float64(x, *plain.get_weights()), rtol=0, atol=1e-4)


def test_with_spectral_convolutions__gradients_equal_those_of_the_direct_graph() -> None:
    import tensorflow as tf

    from models.training.architectures import with_spectral_convolutions

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
def test_with_spectral_convolutions__leaves_what_it_cannot_do(options: dict[str, Any]) -> None:
    from models.training.architectures import with_spectral_convolutions

    copy = with_spectral_convolutions(_model(**options))
    names = [type(layer).__name__ for layer in copy.layers]
    assert names == ["InputLayer", "Conv1D", "Activation", "SpectralConv1D"]


def test_with_spectral_convolutions__a_length_that_tiles_do_not_fill_stays_direct() -> None:
    from models.training.architectures import with_spectral_convolutions

    copy = with_spectral_convolutions(_model(length=130))
    assert "SpectralConv1D" not in [type(layer).__name__ for layer in copy.layers]
