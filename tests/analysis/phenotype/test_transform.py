from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analysis.phenotype.transform import inverse_normal


def test_inverse_normal__is_that_of_r() -> None:
    # x <- c(3, 1, 4, 1, 5); qnorm((rank(x) - 3/8) / (5 + 1/4)) in R 4.2.2.
    expected = [0, -0.791638607743, 0.497200570682, -0.791638607743, 1.179761117612]
    found = inverse_normal(np.array([3.0, 1.0, 4.0, 1.0, 5.0, np.nan]))
    np.testing.assert_allclose(found[:5], expected, atol=1e-11)
    assert np.isnan(found[5])


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=50))
def test_inverse_normal__keeps_the_order_and_turns_round_with_the_sign(values: list[int]) -> None:
    table = np.array(values, dtype=float)
    found = inverse_normal(table)
    np.testing.assert_allclose(inverse_normal(-table), -found, atol=1e-9)
    order = np.argsort(table, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()
