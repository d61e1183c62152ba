"""The smallest detectable hazard ratio against R's formula and against simulated cohorts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.power import minimum_detectable_hazard_ratio


@pytest.mark.parametrize(
    ("n_events", "variance", "explained", "expected"),
    [(100, 1.0, 0.2, 1.3678316512), (250, 0.15 * 0.85, 0.0, 1.6425092688)],
)
def test_minimum_detectable__equals_r(n_events: int, variance: float, explained: float, expected: float) -> None:
    found = minimum_detectable_hazard_ratio(n_events, variance, explained=explained)
    assert found == pytest.approx(expected, rel=1e-9)


def test_minimum_detectable__is_found_in_80_percent_of_cohorts() -> None:
    ratio = minimum_detectable_hazard_ratio(120, 1.0)
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(200):
        x = rng.normal(size=120)
        table = pd.DataFrame({"x": x, "time": rng.exponential(1 / ratio**x), "event": True})
        hits += fit_cox(table, duration="time", event="event", covariates=["x"]).estimates["p"][0] < 0.05
    assert 0.70 < hits / 200 < 0.88


def test_minimum_detectable__without_events_is_infinite() -> None:
    assert math.isinf(minimum_detectable_hazard_ratio(0, 1.0))


@pytest.mark.parametrize(
    "changes", [{"variance": 0.0}, {"n_events": -1}, {"explained": 1.0}, {"power": 1.0}, {"alpha": 0.0}]
)
def test_minimum_detectable__refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        minimum_detectable_hazard_ratio(**({"n_events": 10, "variance": 1.0} | changes))
