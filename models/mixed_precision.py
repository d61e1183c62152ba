"""Convolutions in half precision on a GPU, allowed only where they are close to float32."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from lvm_core.errors import LvmError
from models.engine import Engine
from models.loading import LoadedModel, bind_model
from models.reference import Reference
from models.runtime import import_keras

# Half precision moves a mass by about 0.2 g (facts sheet, section 4); bfloat16 by 1.2 g.
PARITY_G: Final = 0.5
"""Largest difference from float32 that is let through, grams."""

_POLICY: Final = "mixed_float16"


def with_mixed_precision(loaded: LoadedModel) -> LoadedModel:
    """Return a copy whose hidden layers compute in float16; weights and heads stay float32."""
    keras = import_keras()
    heads = set(loaded.outputs)

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name not in heads and not isinstance(layer, keras.layers.InputLayer):
            config["dtype"] = _POLICY
        return type(layer).from_config(config)

    copy = keras.models.clone_model(loaded.keras_model, clone_function=clone)
    copy.set_weights(loaded.keras_model.get_weights())
    return bind_model(copy, loaded.spec)


def require_parity(mixed: Engine, reference: Reference, batch_size: int, g_per_z: float) -> float:
    """Compare mixed precision with float32 and return the largest difference, grams.

    Args:
        mixed: the engine.
        reference: what the graph says in float32.
        batch_size: of the engine.
        g_per_z: grams of one z of the model's output.

    Raises:
        LvmError: a mass differs by more than `PARITY_G`.
    """
    rows, given = reference.batch(batch_size)
    lvm_z, _ = mixed.compute(*given)
    difference_g = np.abs(lvm_z - reference.lvm_z[rows]) * g_per_z
    largest_g = float(difference_g.max())
    if not largest_g <= PARITY_G:  # also when it is not a number
        raise LvmError(
            f"mixed precision moves a mass by up to {largest_g:.2g} g with this model, expected at "
            f"most {PARITY_G} g; score with --precision float32"
        )
    return largest_g
