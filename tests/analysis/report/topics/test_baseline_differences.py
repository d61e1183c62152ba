"""Shares and standardised differences of Table 1, from exact counts."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.report.topics import baseline
from analysis.report.topics.baseline_differences import _whole, difference_of_numbers, difference_of_shares
from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(700, seed=3)


def test_difference_of_shares__of_two_levels_is_signed() -> None:
    """By hand: 60 % less 40 % over the root of 0.24."""
    no_yes, other = np.array([40.0, 60.0]), np.array([60.0, 40.0])
    assert difference_of_shares(no_yes, other) == pytest.approx(0.2 / math.sqrt(0.24))
    assert difference_of_shares(other, no_yes) == pytest.approx(-0.2 / math.sqrt(0.24))


def test_difference_of_shares__of_three_levels_equals_r() -> None:
    """R: p <- c(30, 20) / 100; q <- c(15, 20) / 50; S <- (diag(p + q) - p %o% p - q %o% q) / 2."""
    found = difference_of_shares(np.array([50.0, 30, 20]), np.array([15.0, 15, 20]))
    assert found == pytest.approx(0.497782694174, abs=1e-9)
    # The order of levels does not matter.
    assert difference_of_shares(np.array([20.0, 50, 30]), np.array([20.0, 15, 15])) == pytest.approx(found)


def test_differences__without_a_spread_are_none() -> None:
    assert math.isnan(difference_of_shares(np.array([5.0, 0]), np.array([9.0, 0])))
    assert math.isnan(difference_of_numbers(pd.Series([1.0, 1]), pd.Series([1.0, 1])))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=2, max_size=6).filter(lambda counts: sum(counts) > 0))
def test_shares__add_up_to_a_whole(counts: list[int]) -> None:
    exact = 1000 * np.array(counts) / sum(counts)
    shown = _whole(exact)
    assert shown.sum() == 1000
    assert (np.abs(shown - exact) < 1).all()


@pytest.mark.parametrize("rule", [MaskingRule(0, 1), MaskingRule(10, 5)])
def test_table_1__shows_shares_of_exact_counts(data: StudyData, rule: MaskingRule) -> None:
    section = baseline.present(mask_all(baseline.aggregates(data), rule), data.about)
    assert section is not None
    cells = section.items[0].cells.set_axis(range(section.items[0].cells.shape[1]), axis=1)
    start = cells.index[cells[0] == "Sex"][0]
    both = cells.loc[start : start + 1]
    people = data.ecgs.drop_duplicates("participant_id")
    shares = [float(text.split("(")[1].rstrip("%)")) for text in both[2]]
    assert sum(shares) == pytest.approx(100)
    assert shares[0] == pytest.approx(100 * (people["sex"] == "female").mean(), abs=0.06 if rule.base == 1 else 4)


def test_table_1__has_one_difference_for_each_category(data: StudyData) -> None:
    """The shares are those of the exact counts, also where counts are rounded."""
    section = baseline.present(mask_all(baseline.aggregates(data), MaskingRule(10, 5)), data.about)
    assert section is not None
    cells = section.items[0].cells.set_axis(range(section.items[0].cells.shape[1]), axis=1)
    start = cells.index[cells[0] == "Sex"][0]
    last = cells.columns[-1]
    people = data.ecgs.drop_duplicates("participant_id")
    p, q = ((people.loc[people["lvh_group"] == g, "sex"] == "male").mean() for g in ("LVH", "no LVH"))
    expected = (p - q) / math.sqrt((p * (1 - p) + q * (1 - q)) / 2)
    assert float(cells.loc[start, last]) == pytest.approx(expected, abs=0.006)
    assert cells.loc[start + 1, last] == ""
