"""Deming's line against R and by its laws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from analysis.statistics.agreement.regression import deming_regression
from analysis.statistics.columns import TableRefused

GOLDEN = Path(__file__).parents[3] / "golden" / "agreement"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))["deming"]
PEOPLE = pd.read_csv(GOLDEN / "people.csv")
FIGURES = ["estimate", "se", "lo", "hi", "null", "statistic", "df", "p"]


def _drawn(seed: int, n: int = 25) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 3, n)
    return pd.DataFrame({"x": true + rng.normal(size=n), "y": 1 + 0.8 * true + rng.normal(size=n)})


def _figures(table: pd.DataFrame, **arguments: Any) -> pd.DataFrame:
    found = deming_regression(table, **arguments)
    return found.estimates.set_index("term")[FIGURES]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("methods_1", {"x": "method_a", "y": "method_b", "variance_ratio": 1}),
        ("methods_1.96", {"x": "method_a", "y": "method_b", "variance_ratio": 1.96, "confidence": 0.9}),
        ("prediction_0.2", {"x": "predicted", "y": "reference", "variance_ratio": 0.2}),
    ],
)
def test_deming_regression__equals_r(name: str, arguments: Any) -> None:
    found = _figures(PEOPLE, **arguments)
    for term, reference in EXPECTED[name].items():
        # R leaves every row out in turn; here all lines come from the sums.
        assert_allclose(found.loc[term], [reference[key] for key in FIGURES], rtol=1e-9, atol=0)


def test_deming_regression__hand_worked_orthogonal_line() -> None:
    table = pd.DataFrame({"x": [0, 0, 1, 2, 2], "y": [0, 1, 1, 1, 2]})
    # Sums of squares 4 and 2, of products 2: slope (2 - 4 + sqrt(4 + 16)) / 4.
    found = _figures(table, x="x", y="y", variance_ratio=1)
    assert_allclose(found.loc["slope", "estimate"], (np.sqrt(20) - 2) / 4, rtol=1e-15, atol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.05, 20))
def test_deming_regression__swapped_columns_give_the_inverse_line(seed: int, ratio: float) -> None:
    table = _drawn(seed)
    line = _figures(table, x="x", y="y", variance_ratio=ratio)["estimate"]
    other = _figures(table, x="y", y="x", variance_ratio=1 / ratio)["estimate"]
    assert_allclose(other["slope"], 1 / line["slope"], rtol=1e-10, atol=0)
    assert_allclose(other["intercept"], -line["intercept"] / line["slope"], rtol=1e-9, atol=1e-10)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_deming_regression__order_of_rows_and_units_do_not_matter(seed: int) -> None:
    table = _drawn(seed)
    line = _figures(table, x="x", y="y", variance_ratio=2)
    shuffled = _figures(table.sample(frac=1, random_state=seed), x="x", y="y", variance_ratio=2)
    assert_allclose(shuffled, line, rtol=1e-8, atol=1e-10)
    scaled = _figures(table * 10, x="x", y="y", variance_ratio=2)
    assert_allclose(scaled.loc["slope"], line.loc["slope"], rtol=1e-8, atol=1e-12)


def test_deming_regression__large_ratio_is_least_squares() -> None:
    table = _drawn(4)
    slope, intercept = np.polyfit(table["x"], table["y"], 1)
    found = _figures(table, x="x", y="y", variance_ratio=1e10)["estimate"]
    assert_allclose(found, [intercept, slope], rtol=1e-8, atol=0)


def test_deming_regression__exact_line_has_no_error() -> None:
    table = pd.DataFrame({"x": [0.0, 1, 2, 3, 4], "y": [1.0, 3, 5, 7, 9]})
    found = _figures(table, x="x", y="y", variance_ratio=1)
    assert_allclose(found["estimate"], [1, 2], rtol=1e-14, atol=1e-14)
    assert_allclose(found["se"], 0, rtol=0, atol=1e-13)


def test_deming_regression__is_not_for_recalibration() -> None:
    (remark,) = deming_regression(PEOPLE, x="method_a", y="method_b", variance_ratio=1).remarks
    assert "not used to recalibrate" in remark


def test_deming_regression__needs_a_usable_variance_ratio() -> None:
    with pytest.raises(TypeError, match="variance_ratio"):
        deming_regression(PEOPLE, x="method_a", y="method_b")  # type: ignore[call-arg]
    for ratio in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="expected a finite number above 0"):
            deming_regression(PEOPLE, x="method_a", y="method_b", variance_ratio=ratio)


def test_deming_regression__refuses_what_it_cannot_use() -> None:
    cross = pd.DataFrame({"x": [0, 0, 1, -1, 0], "y": [1, -1, 0, 0, 0]})
    with pytest.raises(TableRefused, match="'x' and 'y' are uncorrelated over 5 rows"):
        deming_regression(cross, x="x", y="y", variance_ratio=1)
    one_apart = pd.DataFrame({"x": [0, 0, 0, 1], "y": [1, 2, 3, 4]})
    with pytest.raises(TableRefused, match="or without one of them"):
        deming_regression(one_apart, x="x", y="y", variance_ratio=1)
    with pytest.raises(TableRefused, match="column 'x' is constant"):
        deming_regression(cross.assign(x=1), x="x", y="y", variance_ratio=1)
    with pytest.raises(TableRefused, match="3 rows with 'x' and 'y', expected at least 4"):
        deming_regression(cross[:3], x="x", y="y", variance_ratio=1)
    with pytest.raises(TableRefused, match="column 'x' has 1 missing"):
        deming_regression(cross.assign(x=[1, np.nan, 2, 3, 4]), x="x", y="y", variance_ratio=1)
    with pytest.raises(ValueError, match="x and y are both 'x'"):
        deming_regression(cross, x="x", y="x", variance_ratio=1)
    with pytest.raises(ValueError, match=r"confidence is 1\.5"):
        deming_regression(cross, x="x", y="y", variance_ratio=1, confidence=1.5)
