import math
from typing import Any

import numpy as np
import pytest

from models.machine.runtime import import_keras, import_tensorflow
from models.training.losses import MassLoss, cross_entropy, log_cosh, mass_loss

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]

LN_COSH_HALF = 0.12011450695827752
LN_COSH_1 = 0.4337808304830271
LN_COSH_4 = 3.307188195868152


def _loss(kind: str, truth_z: float, prediction_z: float) -> float:
    y, p = (np.array([[value]], dtype=np.float32) for value in (truth_z, prediction_z))
    return float(np.asarray(mass_loss(kind)(y, p))[0])


@pytest.mark.parametrize(
    ("kind", "truth_z", "prediction_z", "expected"),
    [
        ("symmetric", 0.7, 0.7, 0.0),
        ("symmetric", 0.0, 1.0, LN_COSH_1),
        ("symmetric", 3.0, 2.0, LN_COSH_1),
        ("log_cosh", 0.0, -1.0, LN_COSH_1),
        # cosh(100) is beyond float32; log(cosh(x)) is |x| - log(2) there.
        ("symmetric", 0.0, 100.0, 100 - math.log(2)),
        # 40 * (3 - 2) * 1 * 1 + 20 * (3 - 1) * 1 * 1, and 5 * (3 - 1) * 1 * 1 on the other side.
        ("asymmetric", 3.0, 2.0, LN_COSH_1 + 80),
        ("asymmetric", 3.0, 4.0, LN_COSH_1 + 10),
        # 20 * 0.5 * 0.5 * 0.25, and 5 * 0.5 * 0.5 * 0.25.
        ("asymmetric", 1.5, 1.0, LN_COSH_HALF + 1.25),
        ("asymmetric", 1.5, 2.0, LN_COSH_HALF + 0.3125),
        # Up to z = 1 nothing is added, on either side.
        ("asymmetric", 1.0, 0.0, LN_COSH_1),
        ("asymmetric", 0.5, -3.5, LN_COSH_4),
        ("asymmetric", 0.5, 4.5, LN_COSH_4),
        ("mse", 1.0, 4.0, 9.0),
        ("mae", 1.0, -2.0, 3.0),
        ("huber", 0.0, 0.5, 0.125),
        ("huber", 0.0, 3.0, 2.5),
    ],
)
def test_mass_loss__hand_computed(kind: str, truth_z: float, prediction_z: float, expected: float) -> None:
    assert _loss(kind, truth_z, prediction_z) == pytest.approx(expected, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize(("truth_z", "ratio"), [(1.2, 4.0), (2.0, 4.0), (3.0, 8.0)])
def test_asymmetric__punishes_underestimated_large_hearts(truth_z: float, ratio: float) -> None:
    under = _loss("asymmetric", truth_z, truth_z - 0.5) - LN_COSH_HALF
    over = _loss("asymmetric", truth_z, truth_z + 0.5) - LN_COSH_HALF
    assert under / over == pytest.approx(ratio, rel=1e-3)


@pytest.mark.parametrize("kind", list(MassLoss))
def test_mass_loss__each_ecg_has_its_own(kind: MassLoss) -> None:
    truth = np.array([[0.0], [1.5], [3.0]], dtype=np.float32)
    prediction = np.array([[0.5], [1.0], [4.0]], dtype=np.float32)
    together = np.asarray(mass_loss(kind)(truth, prediction))
    pairs = zip(truth[:, 0], prediction[:, 0], strict=True)
    alone = [_loss(kind.value, float(y), float(p)) for y, p in pairs]
    assert together.shape == (3,)
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def _gradient(prediction_z: float) -> Any:
    tf = import_tensorflow()
    prediction = tf.Variable([[prediction_z]], dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = log_cosh(np.zeros((1, 1), np.float32), prediction)
    return float(tape.gradient(loss, prediction)[0, 0])


@pytest.mark.parametrize("prediction_z", [-100.0, -1.0, 0.5, 100.0])
def test_log_cosh__gradient_is_tanh_and_finite(prediction_z: float) -> None:
    assert _gradient(prediction_z) == pytest.approx(math.tanh(prediction_z), rel=1e-5)


def test_cross_entropy__hand_computed() -> None:
    is_lvh = np.array([[1.0], [0.0], [1.0]], dtype=np.float32)
    softmax = np.array([[0.75, 0.25], [0.75, 0.25], [1.0, 0.0]], dtype=np.float32)
    expected = [math.log(4), -math.log(0.75), -math.log(1e-7)]
    np.testing.assert_allclose(np.asarray(cross_entropy(is_lvh, softmax)), expected, rtol=1e-5)


def test_cross_entropy__agrees_with_keras() -> None:
    keras = import_keras()
    rng = np.random.default_rng(1)
    score = rng.uniform(0.01, 0.99, 20).astype(np.float32)
    is_lvh = rng.integers(0, 2, (20, 1)).astype(np.float32)
    theirs = keras.losses.binary_crossentropy(is_lvh, score[:, None])
    ours = cross_entropy(is_lvh, np.stack([1 - score, score], axis=1))
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4)
