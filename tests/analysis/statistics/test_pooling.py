"""Pooling of cohorts against metafor, and by its laws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.pooling import pool

EXPECTED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "golden" / "pooling" / "expected.json").read_text(encoding="utf-8")
)
SETS = [name for name in EXPECTED if name != "versions"]
FIGURES = ["estimate", "low", "high", "p", "tau2", "q", "p_heterogeneity", "i2", "fixed", "fixed_se"]


@pytest.mark.parametrize("name", SETS)
def test_pool__equals_r(name: str) -> None:
    given_set = EXPECTED[name]
    found = pool(np.array(given_set["y"]), np.array(given_set["se"]))
    for figure in FIGURES:
        assert getattr(found, figure) == pytest.approx(given_set[figure], rel=1e-8, abs=1e-10), figure
    assert found.se == pytest.approx(given_set["hk_se"], rel=1e-8)
    for figure in ("prediction_low", "prediction_high"):
        if given_set[figure] is None:
            assert np.isnan(getattr(found, figure))
        else:
            assert getattr(found, figure) == pytest.approx(given_set[figure], rel=1e-8)


cohorts = st.lists(
    st.tuples(st.floats(-2, 2, allow_nan=False), st.floats(0.02, 1, allow_nan=False)), min_size=2, max_size=12
)


@given(cohorts, st.floats(-3, 3))
def test_pool__moves_with_all_estimates_and_stays_between_them(rows: list[tuple[float, float]], shift: float) -> None:
    y, se = np.array(rows).T
    found, moved = pool(y, se), pool(y + shift, se)
    assert moved.estimate == pytest.approx(found.estimate + shift, abs=1e-6)
    assert moved.tau2 == pytest.approx(found.tau2, abs=1e-6)
    for mean in (found.estimate, found.fixed):
        assert y.min() - 1e-9 <= mean <= y.max() + 1e-9
    assert found.tau2 >= 0
    assert found.se >= found.fixed_se - 1e-12


def test_pool__without_spread_is_the_fixed_effect() -> None:
    found = pool(np.full(5, 0.3), np.full(5, 0.1))
    assert (found.tau2, found.q, found.i2) == (0, 0, 0)
    assert found.se == pytest.approx(0.1 / np.sqrt(5))


@pytest.mark.parametrize(("y", "se"), [([0.1], [0.1]), ([0.1, 0.2], [0.1, 0.0]), ([0.1, np.nan], [0.1, 0.1])])
def test_pool__refuses(y: list[float], se: list[float]) -> None:
    with pytest.raises(ValueError, match="expected two or more estimates"):
        pool(np.array(y), np.array(se))
