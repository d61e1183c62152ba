"""The batch of a GPU, by rates that are made up."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lvm_core.errors import LvmError
from models.engines.choosing import fastest_batch, measured_rate
from models.engines.tensorflow_engine import OutOfMemoryError, Reference


def _rates(rates: dict[int, float]) -> Callable[[int], float]:
    def rate(batch: int) -> float:
        if batch not in rates:
            raise OutOfMemoryError("too large")
        return rates[batch]

    return rate


@pytest.mark.parametrize(
    ("rates", "best"),
    [
        ({32: 100, 64: 190, 128: 300, 256: 310, 512: 900}, 128),  # hardly faster: stop there
        ({32: 100, 64: 105}, 64),  # exactly worth it, then out of memory
        ({32: 100, 64: 104}, 32),
        ({32: 100}, 32),
    ],
)
def test_fastest_batch__stops_where_it_gets_hardly_faster(rates: dict[int, float], best: int) -> None:
    assert fastest_batch(_rates(rates)) == best


def test_fastest_batch__no_memory_at_all() -> None:
    with pytest.raises(LvmError, match="too little memory for 32 ECGs at once"):
        fastest_batch(_rates({}))


class _Counting:
    def __init__(self) -> None:
        self.n_calls = 0

    def compute(self, counts: Any, per_unit: Any, features: Any) -> Any:
        assert len(counts) == len(per_unit) == 6
        self.n_calls += 1
        return np.zeros(6), None

    def description(self) -> dict[str, Any]:
        return {}


def test_measured_rate__counts_every_batch() -> None:
    reference = Reference(
        np.zeros((4, 12, 10), dtype=np.int16), np.ones(4, dtype=np.float32), {}, np.zeros(4), None, {}
    )
    engine = _Counting()
    rate = measured_rate(engine, reference, 6, 0.05)
    assert 0.3 < rate * 0.05 / (6 * (engine.n_calls - 1)) <= 1.01
