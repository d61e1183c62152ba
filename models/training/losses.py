"""The losses that the published models were trained with, and plain ones to compare them with."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from models.machine.runtime import import_keras


class MassLoss(StrEnum):
    """Loss of the standardised LV mass.

    `symmetric`: log(cosh(prediction - truth)); `log_cosh` is another name for it.
    `asymmetric`: the published one, which punishes under-estimated large hearts.
    `mse`, `mae`: mean squared and mean absolute error.
    `huber`: half the square up to 1, linear beyond.
    """

    SYMMETRIC = "symmetric"
    ASYMMETRIC = "asymmetric"
    MSE = "mse"
    MAE = "mae"
    HUBER = "huber"
    LOG_COSH = "log_cosh"


Loss = Callable[[Any, Any], Any]
"""Takes truth and prediction, (n, 1) z, and returns the loss of each ECG, (n,) float32."""


def mass_loss(kind: MassLoss | str) -> Loss:
    """Return the function of a loss."""
    return {
        MassLoss.SYMMETRIC: log_cosh,
        MassLoss.LOG_COSH: log_cosh,
        MassLoss.ASYMMETRIC: _asymmetric,
        MassLoss.MSE: _squared,
        MassLoss.MAE: _absolute,
        MassLoss.HUBER: _huber,
    }[MassLoss(kind)]


def log_cosh(lvm_z: Any, lvm_pred_z: Any) -> Any:
    """Return log(cosh(prediction - truth)) of each ECG, in a form that does not overflow."""
    ops = import_keras().ops
    size = ops.abs(_error(lvm_z, lvm_pred_z))
    return _per_ecg(size + ops.softplus(-2.0 * size) - math.log(2.0))


def _asymmetric(lvm_z: Any, lvm_pred_z: Any) -> Any:
    """Return the published asymmetric loss of each ECG.

    With truth y, prediction p, and s = (p - y)^2:
    log(cosh(p - y)) + 40 max(y-2, 0) max(y-p, 0) s + 20 max(y-1, 0) max(y-p, 0) s
    + 5 max(y-1, 0) max(p-y, 0) s.

    Up to y = 1 (114.5 g with the published constants) it is the symmetric loss. Above, an
    under-estimate adds 4 times as much as an equal over-estimate, and 8 times at y = 3. Expect a
    model that over-predicts on average: do not use this loss for calibrated masses.

    Source:
        broadinstitute/ml4h, folder model_zoo/left_ventricular_mass_from_ecg_student_and_mri_teacher
        (formula only); Khurshid S et al., Circ Cardiovasc Imaging 2021;14:e012281.
    """
    keras = import_keras()
    relu = keras.ops.relu
    truth = keras.ops.cast(lvm_z, "float32")
    error = _error(lvm_z, lvm_pred_z)
    under, over = relu(-error), relu(error)
    weight = (40.0 * relu(truth - 2.0) + 20.0 * relu(truth - 1.0)) * under
    weight = weight + 5.0 * relu(truth - 1.0) * over
    return log_cosh(lvm_z, lvm_pred_z) + _per_ecg(weight * keras.ops.square(error))


def _squared(lvm_z: Any, lvm_pred_z: Any) -> Any:
    return _per_ecg(import_keras().ops.square(_error(lvm_z, lvm_pred_z)))


def _absolute(lvm_z: Any, lvm_pred_z: Any) -> Any:
    return _per_ecg(import_keras().ops.abs(_error(lvm_z, lvm_pred_z)))


def _huber(lvm_z: Any, lvm_pred_z: Any) -> Any:
    ops = import_keras().ops
    size = ops.abs(_error(lvm_z, lvm_pred_z))
    inner = ops.minimum(size, 1.0)
    return _per_ecg(inner * (size - 0.5 * inner))


def cross_entropy(is_lvh: Any, lvh_softmax: Any) -> Any:
    """Return -log of the probability of the true class, (n,) float32.

    `is_lvh` is (n, 1), 1 for LVH, and `lvh_softmax` (n, 2). The class weights 1 and 25 are sample
    weights, so that a person with unknown LVH can have weight 0.
    """
    ops = import_keras().ops
    right = ops.cast(is_lvh, "float32")[:, 0]
    score = ops.cast(lvh_softmax, "float32")
    chosen = right * score[:, 1] + (1.0 - right) * score[:, 0]
    return -ops.log(ops.maximum(chosen, 1e-7))


def _error(lvm_z: Any, lvm_pred_z: Any) -> Any:
    ops = import_keras().ops
    return ops.cast(lvm_pred_z, "float32") - ops.cast(lvm_z, "float32")


def _per_ecg(values: Any) -> Any:
    return import_keras().ops.mean(values, axis=-1)
