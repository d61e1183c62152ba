"""Limits of a share on the logit scale."""

from __future__ import annotations

import math

import pytest

from analysis.statistics.limits import logit_limits


def test_logit_limits__by_hand() -> None:
    """C 0.8, se 0.05: logit 1.3863, its error 0.05 / 0.16 = 0.3125, width 0.6125."""
    lo, hi = logit_limits(0.8, 0.05)
    assert (lo, hi) == (pytest.approx(0.68434, abs=2e-4), pytest.approx(0.88068, abs=2e-4))


@pytest.mark.parametrize("share", [0.0, 1.0, math.nan])
def test_logit_limits__have_no_value_at_the_ends(share: float) -> None:
    assert all(math.isnan(one) for one in logit_limits(share, 0.0))
