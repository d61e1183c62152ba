"""Average precision against base R, scikit-learn's documented example and laws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from analysis.statistics.accuracy.roc import average_precision
from analysis.statistics.columns import TableRefused

GOLDEN = Path(__file__).parents[3] / "golden"
EXPECTED = json.loads((GOLDEN / "roc" / "expected.json").read_text(encoding="utf-8"))
PEOPLE = pd.read_csv(GOLDEN / "roc" / "people.csv")


@pytest.mark.parametrize("marker", ["marker_a", "marker_b", "marker_c"])
def test_average_precision__equals_base_r(marker: str) -> None:
    found = average_precision(PEOPLE, label="lvh", marker=marker)
    expected = EXPECTED["people"]["average_precision"][marker]
    assert_allclose(found.average_precision, expected["average_precision"], rtol=1e-13, atol=0)
    assert_allclose(found.average_precision_lo, expected["lo"], rtol=1e-12, atol=0)
    assert_allclose(found.average_precision_hi, expected["hi"], rtol=1e-12, atol=0)
    assert (found.n_positive, found.n_negative, found.interval) == (64, 136, "logit")


def test_average_precision__equals_base_r_on_veteran() -> None:
    table = pd.read_csv(GOLDEN / "survival" / "data" / "veteran.csv")
    table["label"] = (table["time"] <= 90) & (table["status"] == 1)
    found = average_precision(table, label="label", marker="age")
    expected = EXPECTED["veteran"]["average_precision"]
    assert_allclose(found.average_precision, expected["average_precision"], rtol=1e-13, atol=0)
    assert_allclose(found.average_precision_lo, expected["lo"], rtol=1e-12, atol=0)


def test_average_precision__documented_example_of_scikit_learn() -> None:
    table = pd.DataFrame({"ill": [0, 0, 1, 1], "x": [0.1, 0.4, 0.35, 0.8]})
    found = average_precision(table, label="ill", marker="x").average_precision
    assert_allclose(found, 0.5 * 1 + 0.5 * 2 / 3, rtol=1e-15, atol=0)  # printed there as 0.83


def test_average_precision__constant_marker_has_the_prevalence() -> None:
    found = average_precision(PEOPLE.assign(same=3), label="lvh", marker="same")
    assert_allclose(found.average_precision, 0.32, rtol=1e-14, atol=0)
    assert_allclose(found.prevalence, 0.32, rtol=1e-15, atol=0)


def test_average_precision__complete_separation_has_no_limits() -> None:
    table = pd.DataFrame({"ill": [0, 0, 1, 1], "x": [1, 2, 3, 4]})
    found = average_precision(table, label="ill", marker="x")
    assert found.average_precision == 1
    assert np.isnan([found.average_precision_lo, found.average_precision_hi]).all()
    assert found.warnings == ("marker 'x' separates the classes completely, no limits are estimated",)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(-4, 4)), min_size=2, max_size=25).filter(
        lambda rows: 0 < sum(row[0] for row in rows) < len(rows)
    )
)
@settings(max_examples=40, deadline=None)
def test_average_precision__is_the_mean_precision_at_the_positives(rows: list[tuple[bool, int]]) -> None:
    table = pd.DataFrame(rows, columns=["ill", "x"])
    at_each = [table.loc[table["x"] >= x, "ill"].mean() for x in table.loc[table["ill"], "x"]]
    found = average_precision(table, label="ill", marker="x").average_precision
    assert_allclose(found, np.mean(at_each), rtol=1e-13, atol=0)
    stretched = table.assign(x=np.exp(table["x"]))
    assert average_precision(stretched, label="ill", marker="x").average_precision == found


def test_average_precision__refuses_by_column_and_counts_what_it_drops() -> None:
    with pytest.raises(TableRefused, match="'lvh' has 0 positive and 136 negative"):
        average_precision(PEOPLE[PEOPLE["lvh"] == 0], label="lvh", marker="marker_a")
    with pytest.raises(ValueError, match="'lvh' is given in two roles"):
        average_precision(PEOPLE, label="lvh", marker="lvh")
    with pytest.raises(ValueError, match="confidence is 2, expected above 0 and below 1"):
        average_precision(PEOPLE, label="lvh", marker="marker_a", confidence=2)
    table = PEOPLE.astype({"marker_a": float})
    table.loc[2, "marker_a"] = np.nan
    with pytest.raises(TableRefused, match=r"'marker_a' has 1 missing values \(rows 2\)"):
        average_precision(table, label="lvh", marker="marker_a")
    dropped = average_precision(table, label="lvh", marker="marker_a", missing="drop")
    assert dropped.n_dropped_missing == 1
