"""Passing and Bablok's line against R, by hand and by its laws."""

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

from analysis.statistics.agreement import regression as module
from analysis.statistics.agreement.regression import passing_bablok
from analysis.statistics.columns import TableRefused

GOLDEN = Path(__file__).parents[3] / "golden" / "agreement"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))["passing_bablok"]
PEOPLE = pd.read_csv(GOLDEN / "people.csv")
FIGURES = ["estimate", "lo", "hi", "null"]


def _figures(table: pd.DataFrame, **arguments: Any) -> pd.DataFrame:
    return passing_bablok(table, **arguments).estimates.set_index("term")[FIGURES]


@pytest.mark.parametrize(
    ("name", "rows", "arguments"),
    [
        ("methods", 120, {"x": "method_a", "y": "method_b"}),
        ("methods_90", 120, {"x": "method_b", "y": "method_a", "confidence": 0.9}),
        ("prediction", 120, {"x": "predicted", "y": "reference"}),
        ("odd", 30, {"x": "predicted", "y": "reference"}),
    ],
)
def test_passing_bablok__equals_r(name: str, rows: int, arguments: Any) -> None:
    # Data with equal points, slopes of -1 and infinite ones: `counts` in expected.json.
    found = _figures(PEOPLE[:rows], **arguments)
    for term in ("intercept", "slope"):
        reference = [EXPECTED[name][term][key] for key in FIGURES]
        assert_allclose(found.loc[term], reference, rtol=1e-12, atol=0)


def test_passing_bablok__hand_worked_limits() -> None:
    table = pd.DataFrame({"x": [0.0, 1, 2, 3, 4], "y": [0.0, 2, 2, 3, 10]})
    slopes = sorted([2, 1, 1, 2.5, 0, 0.5, 8 / 3, 1, 4, 7])  # of the ten pairs; none below -1
    found = _figures(table, x="x", y="y")
    # N = 10, the middle of the 5th and 6th; C = 1.96 sqrt(5 x 4 x 15 / 18) = 8.0, ranks 1 and 10.
    assert found.loc["slope"].tolist() == [(slopes[4] + slopes[5]) / 2, 0, 7, 1]


def test_passing_bablok__outlier_does_not_move_an_exact_line() -> None:
    x = np.arange(30.0)
    y = 3 + 2 * x
    y[29] = 1000
    found = _figures(pd.DataFrame({"x": x, "y": y}), x="x", y="y")
    assert_allclose(found["estimate"], [3, 2], rtol=1e-12, atol=0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_passing_bablok__order_of_rows_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 4, 25)
    table = pd.DataFrame({"x": true + rng.normal(size=25), "y": true + rng.normal(size=25)})
    table = table.round(0)  # ties
    line = _figures(table, x="x", y="y")
    shuffled = _figures(table.sample(frac=1, random_state=seed), x="x", y="y")
    pd.testing.assert_frame_equal(shuffled, line, check_exact=True)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_passing_bablok__swapped_columns_give_the_inverse_slope(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 4, 23)  # 253 slopes: the middle is one of them
    table = pd.DataFrame({"x": true + rng.normal(size=23), "y": true + rng.normal(size=23)})
    line = _figures(table, x="x", y="y").loc["slope"]
    other = _figures(table, x="y", y="x").loc["slope"]
    assert_allclose(other["estimate"], 1 / line["estimate"], rtol=1e-12, atol=0)
    assert_allclose(other["lo"], 1 / line["hi"], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("x", "y"), [("method_a", "method_b"), ("predicted", "reference"), ("reference", "predicted")])
def test_passing_bablok__counted_slopes_give_the_line_of_listed_ones(
    x: str, y: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = _figures(PEOPLE, x=x, y=y)
    monkeypatch.setattr(module, "_ALL_PAIRS_ROWS", 0)
    assert_allclose(_figures(PEOPLE, x=x, y=y), listed, rtol=1e-9, atol=1e-12)
    odd = PEOPLE[:31]
    counted = _figures(odd, x=x, y=y)
    monkeypatch.undo()
    assert_allclose(counted, _figures(odd, x=x, y=y), rtol=1e-9, atol=1e-12)


def test_passing_bablok__twenty_thousand_rows_recover_the_line() -> None:
    rng = np.random.default_rng(8)
    true = rng.normal(100, 20, 20_000)
    x, y = true + rng.normal(0, 5, true.size), 2 + 1.1 * true + rng.normal(0, 5.5, true.size)
    found = _figures(pd.DataFrame({"x": x, "y": y}), x="x", y="y").loc["slope"]
    assert found["lo"] < 1.1 < found["hi"]
    assert found["hi"] - found["lo"] < 0.02


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40))
def test_count_inversions__equals_all_pairs(values: list[int]) -> None:
    counted = sum(a > b for i, a in enumerate(values) for b in values[i + 1 :])
    assert module.count_inversions(np.array(values, float)) == counted


@pytest.mark.parametrize("all_pairs_rows", [5_000, 0])
def test_passing_bablok__unbounded_slope_is_warned_of(all_pairs_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ALL_PAIRS_ROWS", all_pairs_rows)
    table = pd.DataFrame({"x": [0.0, 1, 1, 1, 1, 2, 2], "y": [0.0, 1, 2, 3, 4, 5, 6]})
    found = passing_bablok(table, x="x", y="y")
    assert found.estimates["hi"].tolist()[1] == np.inf
    assert found.estimates["lo"].tolist()[0] == -np.inf
    assert found.warnings == ("the slope has no upper limit",)


def test_passing_bablok__refuses_what_it_cannot_use() -> None:
    table = pd.DataFrame({"x": [0.0, 1, 2, 3, 4], "y": [0.0, 2, 2, 3, 10]})
    with pytest.raises(TableRefused, match=r"too few for limits of confidence 0\.99"):
        passing_bablok(table, x="x", y="y", confidence=0.99)
    x = np.arange(20.0)
    with pytest.raises(TableRefused, match="do not rise together: 190 of 190 slopes are below -1"):
        passing_bablok(pd.DataFrame({"x": x, "y": -3 * x}), x="x", y="y")
    many = np.arange(100_001.0)
    with pytest.raises(TableRefused, match="100001 rows have 5000050000 slopes, expected at most"):
        passing_bablok(pd.DataFrame({"x": many, "y": many}), x="x", y="y")
    with pytest.raises(TableRefused, match="column 'y' has 1 missing"):
        passing_bablok(table.assign(y=[1, 2, np.nan, 4, 5]), x="x", y="y")
    with pytest.raises(ValueError, match="confidence is 0"):
        passing_bablok(table, x="x", y="y", confidence=0)
