"""Mixed precision, on the CPU as far as it goes: the same weights, heads in float32, a gate."""

from typing import Any

import numpy as np
import pytest

from lvm_core.errors import LvmError
from models.catalogue.loading import load_model
from models.engines.choosing import require_parity
from models.engines.tensorflow_engine import TensorFlowEngine, keras_reference, with_mixed_precision
from tests.models.golden import FULL, golden_source

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]


def test_with_mixed_precision__hidden_layers_in_half_heads_in_float32() -> None:
    loaded = load_model(golden_source(FULL))
    mixed = with_mixed_precision(loaded)
    policies = {layer.name: layer.dtype_policy.name for layer in mixed.keras_model.layers}
    assert {policies[name] for name in mixed.outputs} == {"float32"}
    convolutions = [la for la in mixed.keras_model.layers if type(la).__name__ == "Conv1D"]
    assert {policies[layer.name] for layer in convolutions} == {"mixed_float16"}
    for one, other in zip(mixed.keras_model.get_weights(), loaded.keras_model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    reference = keras_reference(loaded)
    engine = TensorFlowEngine(mixed, 4)
    moved_g = require_parity(engine, reference, 4, 24.80)
    assert 0 < moved_g < 0.5  # it is another arithmetic, and a close one


class _Moved:
    def __init__(self, lvm_z: Any) -> None:
        self._lvm_z = lvm_z

    def compute(self, *_: object) -> Any:
        return self._lvm_z, None

    def description(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(("by_z", "refused"), [(0.49 / 24.80, False), (0.51 / 24.80, True)])
def test_require_parity__half_a_gram(by_z: float, refused: bool) -> None:
    reference = keras_reference(load_model(golden_source(FULL)))
    moved = reference.lvm_z.copy()
    moved[2] += by_z
    if not refused:
        assert require_parity(_Moved(moved), reference, 4, 24.80) == pytest.approx(0.49, abs=1e-3)
        return
    with pytest.raises(LvmError, match=r"moves a mass by up to 0\.51 g .* at most 0\.5 g"):
        require_parity(_Moved(moved), reference, 4, 24.80)


def test_require_parity__not_a_number_is_refused() -> None:
    reference = keras_reference(load_model(golden_source(FULL)))
    with pytest.raises(LvmError, match="moves a mass by up to nan g"):
        require_parity(_Moved(reference.lvm_z * np.nan), reference, 4, 24.80)
