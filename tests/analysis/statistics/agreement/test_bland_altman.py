"""Agreement measures against R, by hand and by their laws."""

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

from analysis.statistics.agreement.bland_altman import MEASURES, Agreement, agreement
from analysis.statistics.columns import TableRefused

GOLDEN = Path(__file__).parents[3] / "golden" / "agreement"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))["agreement"]
PEOPLE = pd.read_csv(GOLDEN / "people.csv")
FIGURES = ["estimate", "se", "lo", "hi", "null", "statistic", "df", "p"]


def _agreement(table: pd.DataFrame, **arguments: Any) -> Agreement:
    return agreement(table, predicted="predicted", reference="reference", **arguments)


def _figures(found: Agreement) -> pd.DataFrame:
    return found.estimates.set_index("measure")[FIGURES]


def _table(predicted: Any, reference: Any) -> pd.DataFrame:
    return pd.DataFrame({"predicted": predicted, "reference": reference})


def _drawn(seed: int, n: int = 30) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    reference = rng.normal(100, 20, n).round(1)
    return _table((60 + 0.4 * reference + rng.normal(0, 8, n)).round(1), reference)


def _assert_equals_r(found: pd.DataFrame, expected: dict[str, Any]) -> None:
    assert found.index.tolist() == list(expected) == list(MEASURES)
    for measure, reference in expected.items():
        values = [np.nan if reference[name] is None else reference[name] for name in FIGURES]
        assert_allclose(found.loc[measure], values, rtol=1e-11, atol=0, err_msg=measure)


@pytest.mark.parametrize(("name", "confidence"), [("all", 0.95), ("all_90", 0.9)])
def test_agreement__equals_r(name: str, confidence: float) -> None:
    _assert_equals_r(_figures(_agreement(PEOPLE, confidence=confidence)), EXPECTED[name])


def test_agreement__equals_r_for_close_methods() -> None:
    found = agreement(PEOPLE, predicted="method_a", reference="method_b")
    _assert_equals_r(_figures(found), EXPECTED["methods"])


def test_agreement__by_sex_equals_r_within_each() -> None:
    found = _agreement(PEOPLE, by=["sex"]).estimates
    assert found.columns[:4].tolist() == ["sex", "measure", "unit", "n"]
    for sex, rows in found.groupby("sex"):
        _assert_equals_r(rows.set_index("measure")[FIGURES], EXPECTED[str(sex)])
        assert (rows["n"] == (PEOPLE["sex"] == sex).sum()).all()


def test_agreement__hand_worked_figures() -> None:
    found = _figures(_agreement(_table([1, 2, 3, 6], [2, 2, 5, 7])))["estimate"]
    # Differences -1, 0, -2, -1: mean -1, squares about it 0, 1, 1, 0.
    assert found["bias"] == -1
    assert_allclose(found["sd_of_differences"], np.sqrt(2 / 3), rtol=1e-15, atol=0)
    assert found["mae"] == 1
    assert_allclose(found["rmse"], np.sqrt(6 / 4), rtol=1e-15, atol=0)
    # Sums of squares 14 and 18, of products 15: slope 15/14, r = 15/sqrt(252).
    assert_allclose(found["calibration_slope"], 15 / 14, rtol=1e-15, atol=0)
    assert_allclose(found["calibration_intercept"], 4 - 45 / 14, rtol=1e-14, atol=0)
    assert_allclose(found["pearson"], 15 / np.sqrt(252), rtol=1e-15, atol=0)
    # Lin: 2 (15/4) / (14/4 + 18/4 + 1).
    assert_allclose(found["lin_concordance"], 7.5 / 9, rtol=1e-15, atol=0)


def test_agreement__unit_is_given_for_measures_that_have_one() -> None:
    units = _agreement(PEOPLE, unit="g").estimates.set_index("measure")["unit"]
    with_unit = set(units[units == "g"].index)
    assert with_unit == {
        "bias",
        "sd_of_differences",
        "lower_limit_of_agreement",
        "upper_limit_of_agreement",
        "mae",
        "rmse",
        "calibration_intercept",
    }
    assert set(units[units != "g"]) == {"1"}


def test_agreement__always_remarks_on_the_slope_of_difference() -> None:
    (remark,) = _agreement(PEOPLE).remarks
    assert "negative even for a perfectly calibrated predictor" in remark


def test_agreement__slope_of_difference_is_negative_for_a_calibrated_predictor() -> None:
    rng = np.random.default_rng(3)
    predicted = rng.normal(100, 10, 2000)
    error = rng.normal(0, 10, 2000)
    error -= np.polyval(np.polyfit(predicted, error, 1), predicted)  # calibration is then exact
    found = _figures(_agreement(_table(predicted, predicted + error)))
    assert_allclose(found.loc["calibration_slope", "estimate"], 1, rtol=1e-12, atol=0)
    slope = found["estimate"]["slope_of_difference_on_mean"]
    assert slope < -0.3
    assert_allclose(slope, found["estimate"]["slope_of_difference_if_calibrated"], rtol=1e-10, atol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_agreement__swapping_predicted_and_reference_flips_the_bias(seed: int) -> None:
    table = _drawn(seed)
    found = _figures(_agreement(table))
    swapped = _figures(agreement(table, predicted="reference", reference="predicted"))
    same = ["sd_of_differences", "mae", "rmse", "pearson", "spearman", "lin_concordance"]
    assert_allclose(found.loc[same], swapped.loc[same], rtol=1e-10, atol=1e-12)
    for measure in ("bias", "slope_of_difference_on_mean"):
        flipped = -swapped.loc[measure, ["estimate", "hi", "lo", "statistic"]]
        assert_allclose(found.loc[measure, ["estimate", "lo", "hi", "statistic"]], flipped, rtol=1e-9, atol=1e-12)
    assert_allclose(
        found.loc["lower_limit_of_agreement", "estimate"],
        -swapped.loc["upper_limit_of_agreement", "estimate"],
        rtol=1e-10,
        atol=1e-12,
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.floats(-50, 50))
def test_agreement__a_constant_added_shifts_the_bias_only(seed: int, constant: float) -> None:
    table = _drawn(seed)
    found = _figures(_agreement(table))
    moved = _figures(_agreement(table.assign(predicted=table["predicted"] + constant)))
    located = ["bias", "lower_limit_of_agreement", "upper_limit_of_agreement"]
    for name in ("estimate", "lo", "hi"):
        assert_allclose(moved.loc[located, name] - found.loc[located, name], constant, atol=1e-9)
    same = ["sd_of_differences", "slope_of_difference_on_mean", "pearson", "calibration_slope"]
    assert_allclose(moved.loc[same], found.loc[same], rtol=1e-8, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_agreement__lin_is_at_most_pearson_and_limits_hold_the_estimate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = _figures(_agreement(_table(rng.normal(size=12), rng.normal(size=12))))
    estimate = found["estimate"]
    assert abs(estimate["lin_concordance"]) <= abs(estimate["pearson"])
    assert 0 < estimate["lin_accuracy"] <= 1
    with_limits = found[found["lo"].notna()]
    assert (with_limits["lo"] <= with_limits["estimate"]).all()
    assert (with_limits["estimate"] <= with_limits["hi"]).all()


def test_agreement__order_of_rows_does_not_matter() -> None:
    shuffled = PEOPLE.sample(frac=1, random_state=5)
    assert_allclose(_figures(_agreement(shuffled)), _figures(_agreement(PEOPLE)), rtol=1e-10, atol=0)


def test_agreement__perfect_agreement_has_no_tests_and_a_warning() -> None:
    values = [80.1, 90.7, 101.3, 120.9, 95.2]
    found = _agreement(_table(values, values))
    figures = _figures(found)
    assert figures.loc["lin_concordance", ["estimate", "lo", "hi"]].tolist() == [1, 1, 1]
    assert figures.loc["bias", ["estimate", "se", "lo", "hi"]].tolist() == [0, 0, 0, 0]
    assert figures["p"].isna().all()
    assert found.warnings == (
        "no test, since there is no error: bias, slope_of_difference_on_mean, pearson, spearman, "
        "calibration_intercept, calibration_slope",
    )


def test_agreement__constant_difference_has_no_error_but_rounding() -> None:
    reference = np.array([80.1, 90.7, 101.3, 120.9, 95.2])
    found = _agreement(_table(reference + 0.1, reference))
    bias = _figures(found).loc["bias"]
    assert_allclose(bias["estimate"], 0.1, rtol=1e-12, atol=0)
    assert bias["se"] == 0
    assert found.warnings[0].startswith("no test, since there is no error: bias")


def test_agreement__mirrored_prediction_has_no_slope_of_difference() -> None:
    reference = np.array([80.0, 90.0, 100.0, 130.0])
    found = _agreement(_table(200 - reference, reference))
    assert found.warnings[0].startswith("not defined, since a column is constant: slope_of_difference_on_mean")


def test_agreement__small_and_constant_groups_are_warned_of() -> None:
    table = _drawn(1).assign(site=["a"] * 20 + ["b"] * 3 + ["c"] * 7)
    table.loc[table["site"] == "c", "predicted"] = 90.0
    found = _agreement(table, by=["site"])
    assert found.warnings[0] == "site = b: 3 rows, fewer than 4: no estimates"
    assert found.warnings[1].startswith(
        "site = c: not defined, since a column is constant: slope_of_difference_on_mean"
    )
    rows = found.estimates
    assert rows.loc[rows["site"] == "b", "estimate"].isna().all()
    assert rows.loc[(rows["site"] == "c") & (rows["measure"] == "bias"), "estimate"].notna().all()


def test_agreement__refuses_or_drops_missing_values() -> None:
    table = _drawn(2)
    table.loc[[3, 8], "predicted"] = np.nan
    with pytest.raises(TableRefused, match=r"'predicted' has 2 missing values \(rows 3, 8\)"):
        _agreement(table)
    found = _agreement(table, missing="drop")
    assert (found.n, found.n_dropped_missing) == (28, 2)


def test_agreement__refuses_what_it_cannot_use() -> None:
    with pytest.raises(TableRefused, match="3 rows with 'predicted' and 'reference'"):
        _agreement(_drawn(1, n=3))
    with pytest.raises(TableRefused, match="column 'reference' is constant at 5 over 4 rows"):
        _agreement(_table([1, 2, 3, 4], [5, 5, 5, 5]))
    with pytest.raises(TableRefused, match="column 'predicted' has 1 infinite"):
        _agreement(_table([1, np.inf, 3, 4], [5, 6, 5, 5]))
    with pytest.raises(TableRefused, match="column 'sex' holds text"):
        agreement(PEOPLE, predicted="sex", reference="reference")


def test_agreement__refuses_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="confidence is 95"):
        _agreement(PEOPLE, confidence=95)
    with pytest.raises(ValueError, match="'reference' and 'reference' by none: a column is given"):
        agreement(PEOPLE, predicted="reference", reference="reference")
    with pytest.raises(TypeError, match="by is a int, expected a column or a list of them"):
        _agreement(PEOPLE, by=3)
