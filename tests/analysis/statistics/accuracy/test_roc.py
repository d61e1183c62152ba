"""AUROC, binary c-statistic and average precision against R, brute force and laws."""

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

from analysis.statistics.accuracy.roc import (
    auroc,
    binary_c_statistic,
    compare_auroc,
    compare_binary_c_statistic,
    placements,
    roc_curve,
)
from analysis.statistics.columns import TableRefused

GOLDEN = Path(__file__).parents[3] / "golden"
EXPECTED = json.loads((GOLDEN / "roc" / "expected.json").read_text(encoding="utf-8"))
PEOPLE = pd.read_csv(GOLDEN / "roc" / "people.csv")
MARKERS = ("marker_a", "marker_b", "marker_c")
RULES = ("rule_a", "rule_b")
SMALL = pd.DataFrame({"ill": [1, 1, 1, 0, 0, 0], "x": [3.0, 2.0, 1.0, 2.0, 1.0, 0.0]})


def _veteran() -> pd.DataFrame:
    table = pd.read_csv(GOLDEN / "survival" / "data" / "veteran.csv")
    table["label"] = (table["time"] <= 90) & (table["status"] == 1)
    table["low_karno"] = table["karno"] < 60
    table["large"] = table["celltype"].isin(["large", "smallcell"])
    return table


def _lung() -> pd.DataFrame:
    table = pd.read_csv(GOLDEN / "survival" / "data" / "lung.csv")
    return table.assign(label=table["status"] == 2)


def _assert_estimate(row: Any, name: str, expected: dict[str, float]) -> None:
    assert_allclose(row[name], expected["auc"], rtol=1e-12, atol=0)
    assert_allclose(row["se"], expected["se"], rtol=1e-12, atol=0)
    assert_allclose(row[f"{name}_lo"], expected["lo"], rtol=1e-12, atol=0)
    assert_allclose(row[f"{name}_hi"], expected["hi"], rtol=1e-12, atol=0)


def _assert_pair(row: Any, covariance: float, expected: dict[str, float]) -> None:
    assert_allclose(row["z"], expected["z"], rtol=1e-11, atol=0)
    assert_allclose(row["p"], expected["p"], rtol=1e-11, atol=0)
    assert_allclose(row["difference_lo"], expected["lo"], rtol=1e-11, atol=1e-14)
    assert_allclose(row["difference_hi"], expected["hi"], rtol=1e-11, atol=1e-14)
    assert_allclose(covariance, expected["covariance"], rtol=1e-11, atol=0)


@pytest.mark.parametrize("marker", MARKERS)
def test_auroc__equals_proc(marker: str) -> None:
    found = auroc(PEOPLE, label="lvh", marker=marker).estimates.iloc[0]
    expected = EXPECTED["people"]["auroc"][marker]
    _assert_estimate(found, "auc", expected)
    assert (found["n_positive"], found["n_negative"]) == (expected["n_positive"], expected["n_negative"])


def test_auroc__confidence_sets_the_limits_as_proc() -> None:
    found = auroc(PEOPLE, label="lvh", marker="marker_a", confidence=0.9).estimates.iloc[0]
    _assert_estimate(found, "auc", EXPECTED["people"]["auroc_90"])


def test_auroc__by_group_equals_proc_on_the_rows_of_the_group() -> None:
    found = auroc(PEOPLE, label="lvh", marker="marker_a", by=["sex"]).estimates
    assert found["sex"].tolist() == ["female", "male"]
    _assert_estimate(found.iloc[0], "auc", EXPECTED["people"]["auroc_female"])
    _assert_estimate(found.iloc[1], "auc", EXPECTED["people"]["auroc_male"])


@pytest.mark.parametrize("marker", ["karno", "age", "diagtime"])
def test_auroc__equals_proc_on_veteran(marker: str) -> None:
    found = auroc(_veteran(), label="label", marker=marker).estimates.iloc[0]
    _assert_estimate(found, "auc", EXPECTED["veteran"]["auroc"][marker])


def test_compare_auroc__equals_proc_for_each_pair_of_three() -> None:
    found = compare_auroc(PEOPLE, label="lvh", markers=MARKERS)
    expected = EXPECTED["people"]
    for row in found.estimates.to_dict("records"):
        _assert_estimate(row, "auc", expected["auroc"][row["marker"]])
    names = ("compare_ab", "compare_ac", "compare_bc")
    for name, row in zip(names, found.differences.to_dict("records"), strict=True):
        covariance = found.covariance.loc[row["marker_a"], row["marker_b"]]
        _assert_pair(row, covariance, expected[name])
    errors = np.sqrt(np.diagonal(found.covariance))
    assert_allclose(errors, found.estimates["se"], rtol=1e-14, atol=0)


def test_compare_auroc__drop_compares_on_rows_with_everything_as_proc() -> None:
    table = _lung()
    markers = ("ph.ecog", "wt.loss", "pat.karno")
    found = compare_auroc(table, label="label", markers=markers, missing="drop")
    assert found.n == EXPECTED["lung"]["n"]
    assert found.n_dropped_missing == len(table) - EXPECTED["lung"]["n"]
    for row in found.estimates.to_dict("records"):
        _assert_estimate(row, "auc", EXPECTED["lung"]["auroc"][row["marker"]])
    covariance = found.covariance.loc["ph.ecog", "wt.loss"]
    _assert_pair(found.differences.iloc[0], covariance, EXPECTED["lung"]["compare"])


def test_compare_auroc__equals_proc_on_veteran() -> None:
    found = compare_auroc(_veteran(), label="label", markers=("age", "karno"))
    covariance = found.covariance.loc["age", "karno"]
    _assert_pair(found.differences.iloc[0], covariance, EXPECTED["veteran"]["compare"])


@pytest.mark.parametrize("rule", RULES)
def test_binary_c_statistic__equals_proc_on_the_01_marker(rule: str) -> None:
    found = binary_c_statistic(PEOPLE, label="lvh", marker=rule).estimates.iloc[0]
    _assert_estimate(found, "c", EXPECTED["people"]["binary"][rule])


def test_compare_binary_c_statistic__equals_proc_on_the_01_markers() -> None:
    found = compare_binary_c_statistic(PEOPLE, label="lvh", markers=RULES)
    covariance = found.covariance.loc["rule_a", "rule_b"]
    _assert_pair(found.differences.iloc[0], covariance, EXPECTED["people"]["compare_rules"])


def test_compare_binary_c_statistic__equals_proc_on_veteran() -> None:
    found = compare_binary_c_statistic(_veteran(), label="label", markers=("low_karno", "large"))
    covariance = found.covariance.loc["low_karno", "large"]
    _assert_pair(found.differences.iloc[0], covariance, EXPECTED["veteran"]["compare_rules"])
    for row in found.estimates.to_dict("records"):
        _assert_estimate(row, "c", EXPECTED["veteran"]["binary"][row["marker"]])


@pytest.mark.parametrize("marker", MARKERS)
def test_roc_curve__has_the_points_of_proc(marker: str) -> None:
    points = roc_curve(PEOPLE, label="lvh", marker=marker).points
    expected = EXPECTED["people"]["curve"][marker]
    assert_allclose(points["sensitivity"], expected["sensitivity"], rtol=0, atol=1e-14)
    assert_allclose(points["specificity"], expected["specificity"], rtol=0, atol=1e-14)


def test_roc_curve__worked_by_hand_with_ties() -> None:
    found = roc_curve(SMALL, label="ill", marker="x")
    assert found.points["threshold"].tolist() == [0, 1, 2, 3, np.inf]
    assert_allclose(found.points["sensitivity"], [1, 1, 2 / 3, 1 / 3, 0], rtol=1e-15, atol=0)
    assert_allclose(found.points["specificity"], [0, 1 / 3, 2 / 3, 1, 1], rtol=1e-15, atol=0)
    assert (found.n_positive, found.n_negative) == (3, 3)


def test_roc_curve__area_under_its_lines_is_the_auroc() -> None:
    points = roc_curve(PEOPLE, label="lvh", marker="marker_a").points
    area = -np.trapezoid(points["sensitivity"], 1 - points["specificity"])
    assert_allclose(area, EXPECTED["people"]["auroc"]["marker_a"]["auc"], rtol=1e-13, atol=0)


tied_markers = st.lists(
    st.tuples(st.booleans(), st.integers(-4, 4), st.integers(-4, 4)), min_size=4, max_size=25
).filter(lambda rows: 2 <= sum(row[0] for row in rows) <= len(rows) - 2)


def _table(rows: list[tuple[bool, int, int]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["ill", "x", "y"])


def _area(table: pd.DataFrame, marker: str = "x") -> float:
    return float(auroc(table, label="ill", marker=marker).estimates["auc"].iloc[0])


@given(tied_markers)
@settings(max_examples=40, deadline=None)
def test_auroc__is_the_share_of_pairs_in_order(rows: list[tuple[bool, int, int]]) -> None:
    table = _table(rows)
    ill, well = table.loc[table["ill"], "x"], table.loc[~table["ill"], "x"]
    pairs = [(a > b) + 0.5 * (a == b) for a in ill for b in well]
    assert_allclose(_area(table), np.mean(pairs), rtol=1e-13, atol=1e-15)


@given(tied_markers)
@settings(max_examples=40, deadline=None)
def test_auroc__covariance_is_delongs_from_all_pairs(rows: list[tuple[bool, int, int]]) -> None:
    table = _table(rows)
    found = compare_auroc(table, label="ill", markers=("x", "y")).covariance
    kernels = []
    for name in ("x", "y"):
        ill, well = table.loc[table["ill"], name], table.loc[~table["ill"], name]
        gap = ill.to_numpy()[:, None] - well.to_numpy()[None, :]
        kernels.append((np.sign(gap) + 1) / 2)
    of_ill = np.cov([kernel.mean(axis=1) for kernel in kernels])
    of_well = np.cov([kernel.mean(axis=0) for kernel in kernels])
    m, n = kernels[0].shape
    assert_allclose(found, of_ill / m + of_well / n, rtol=1e-10, atol=1e-16)


@given(tied_markers)
@settings(max_examples=25, deadline=None)
def test_auroc__monotone_transform_changes_nothing(rows: list[tuple[bool, int, int]]) -> None:
    table = _table(rows)
    assert _area(table.assign(x=np.exp(table["x"]))) == _area(table)


@given(tied_markers)
@settings(max_examples=25, deadline=None)
def test_auroc__negated_marker_gives_the_complement(rows: list[tuple[bool, int, int]]) -> None:
    table = _table(rows)
    assert_allclose(_area(table.assign(x=-table["x"])), 1 - _area(table), rtol=0, atol=1e-14)


@given(tied_markers)
@settings(max_examples=25, deadline=None)
def test_compare_auroc__swapping_flips_the_sign(rows: list[tuple[bool, int, int]]) -> None:
    table = _table(rows)
    there = compare_auroc(table, label="ill", markers=("x", "y")).differences.iloc[0]
    back = compare_auroc(table, label="ill", markers=("y", "x")).differences.iloc[0]
    assert there["difference"] == -back["difference"]
    assert_allclose(there["difference_lo"], -back["difference_hi"], rtol=1e-12, atol=1e-14)
    assert_allclose(there["z"], -back["z"], rtol=1e-10, atol=0)
    assert_allclose(there["p"], back["p"], rtol=1e-10, atol=0)


@given(tied_markers)
@settings(max_examples=25, deadline=None)
def test_binary_c_statistic__is_the_mean_of_sensitivity_and_specificity(rows: list[tuple[bool, int, int]]) -> None:
    table = _table(rows)
    table["x"] = table["x"] > 0
    row = binary_c_statistic(table, label="ill", marker="x").estimates.iloc[0]
    sensitivity = table.loc[table["ill"], "x"].mean()
    specificity = 1 - table.loc[~table["ill"], "x"].mean()
    assert_allclose(row["sensitivity"], sensitivity, rtol=1e-14, atol=0)
    assert_allclose(row["specificity"], specificity, rtol=1e-14, atol=1e-15)
    assert_allclose(row["c"], (sensitivity + specificity) / 2, rtol=1e-13, atol=0)
    # DeLong's variance is then that of two shares, each with its own n - 1.
    m, n = int(table["ill"].sum()), int((~table["ill"]).sum())
    variance = (sensitivity * (1 - sensitivity) / (m - 1) + specificity * (1 - specificity) / (n - 1)) / 4
    assert_allclose(row["se"] ** 2, variance, rtol=1e-10, atol=1e-16)


def test_auroc__order_of_rows_and_index_do_not_matter() -> None:
    shuffled = PEOPLE.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(
        auroc(shuffled, label="lvh", marker="marker_a", by=["sex"]).estimates,
        auroc(PEOPLE, label="lvh", marker="marker_a", by=["sex"]).estimates,
        rtol=1e-13,
    )


def test_placements__worked_by_hand() -> None:
    below, above = placements(SMALL[["x"]].to_numpy().T, SMALL["ill"].to_numpy() == 1)
    assert_allclose(below, [[1, 2.5 / 3, 0.5]], rtol=1e-15, atol=0)
    assert_allclose(above, [[0.5, 2.5 / 3, 1]], rtol=1e-15, atol=0)


def test_auroc__below_a_half_is_not_reversed() -> None:
    found = auroc(PEOPLE, label="lvh", marker="marker_c")
    assert found.estimates["auc"].iloc[0] < 0.5
    assert any("lower among positives" in text for text in found.warnings)
    assert found.direction == "a higher marker means positive"


def test_auroc__constant_marker_is_a_half_as_in_proc_and_warned_of() -> None:
    found = auroc(PEOPLE.assign(same=1), label="lvh", marker="same")
    _assert_estimate(found.estimates.iloc[0], "auc", EXPECTED["constant_marker"])
    assert any("is 1 for all 200 people" in text for text in found.warnings)


def test_auroc__complete_separation_is_warned_of() -> None:
    table = pd.DataFrame({"ill": [0] * 12 + [1] * 12, "x": range(24)})
    found = auroc(table, label="ill", marker="x")
    assert found.estimates[["auc", "se", "auc_lo", "auc_hi"]].iloc[0].tolist() == [1, 0, 1, 1]
    assert [text for text in found.warnings if "completely" in text]
    assert len(found.warnings) == 1


def test_auroc__marker_of_two_values_is_warned_of() -> None:
    found = auroc(PEOPLE, label="lvh", marker="rule_a")
    assert any("two values only" in text for text in found.warnings)
    _assert_estimate(found.estimates.iloc[0], "auc", EXPECTED["people"]["binary"]["rule_a"])
    assert not auroc(PEOPLE, label="lvh", marker="marker_a").warnings


@pytest.mark.parametrize(("n_ill", "warned"), [(9, True), (10, False)])
def test_auroc__few_people_of_a_class_are_warned_of(n_ill: int, warned: bool) -> None:
    table = PEOPLE.sort_values("lvh", ascending=False).iloc[64 - n_ill :]
    found = auroc(table, label="lvh", marker="marker_a")
    assert any(f"{n_ill} people in the smaller class" in text for text in found.warnings) == warned


def test_auroc__one_person_of_a_class_has_an_area_without_error() -> None:
    table = pd.DataFrame({"ill": [1, 0, 0, 0], "x": [2, 1, 3, 0]})
    found = auroc(table, label="ill", marker="x")
    row = found.estimates.iloc[0]
    assert_allclose(row["auc"], 2 / 3, rtol=1e-15, atol=0)
    assert row[["se", "auc_lo", "auc_hi"]].isna().all()
    assert any("one person only" in text for text in found.warnings)
    compared = compare_auroc(table.assign(y=table["x"] ** 2), label="ill", markers=("x", "y"))
    assert compared.differences[["se", "z", "p"]].isna().all(axis=None)


def test_auroc__group_with_one_class_is_nan_and_warned_of_by_name() -> None:
    table = PEOPLE.assign(site=np.where(PEOPLE["lvh"] == 1, "a", "b"))
    table.loc[PEOPLE.index[PEOPLE["lvh"] == 0][:30], "site"] = "a"
    found = auroc(table, label="lvh", marker="marker_a", by=["site"])
    assert np.isfinite(found.estimates["auc"].iloc[0])
    assert found.estimates[["auc", "se", "auc_lo", "auc_hi"]].iloc[1].isna().all()
    assert found.warnings == ("site = b: 0 positive and 106 negative people, nothing is estimated",)
    of_rule = binary_c_statistic(table, label="lvh", marker="rule_a", by=["site"]).estimates
    assert of_rule[["sensitivity", "c", "se"]].iloc[1].isna().all()


def test_auroc__by_two_columns_and_a_category_keeps_their_order() -> None:
    band = pd.Categorical(np.where(PEOPLE.index % 2, "old", "young"), ["young", "old"])
    table = PEOPLE.assign(band=band)
    found = auroc(table, label="lvh", marker="marker_a", by=["band", "sex"]).estimates
    assert found["band"].tolist() == ["young", "young", "old", "old"]
    assert found["sex"].tolist() == ["female", "male"] * 2
    assert found["n"].sum() == 200
    one = auroc(table, label="lvh", marker="marker_a", by=["band"]).estimates
    assert one["band"].tolist() == ["young", "old"]


def test_compare_auroc__identical_markers_do_not_differ_as_in_proc() -> None:
    table = PEOPLE.assign(again=2 * PEOPLE["marker_a"])
    row = compare_auroc(table, label="lvh", markers=("marker_a", "again")).differences.iloc[0]
    expected = EXPECTED["identical_markers"]
    assert (row["z"], row["p"]) == (expected["z"], expected["p"])
    assert (row["difference"], row["se"]) == (0, 0)


def test_compare_auroc__difference_without_error_has_no_p() -> None:
    table = pd.DataFrame({"ill": [0] * 12 + [1] * 12, "x": range(24), "y": 1})
    row = compare_auroc(table, label="ill", markers=("x", "y")).differences.iloc[0]
    assert (row["difference"], row["se"]) == (0.5, 0)
    assert np.isnan(row["z"])
    assert np.isnan(row["p"])


def test_labels__bool_and_01_are_the_same() -> None:
    as_bool = PEOPLE.assign(lvh=PEOPLE["lvh"] == 1, rule_a=PEOPLE["rule_a"] == 1)
    pd.testing.assert_frame_equal(
        binary_c_statistic(as_bool, label="lvh", marker="rule_a").estimates,
        binary_c_statistic(PEOPLE, label="lvh", marker="rule_a").estimates,
        check_exact=True,
    )


def test_missing__refused_by_name_and_row_or_dropped_and_counted() -> None:
    table = PEOPLE.astype({"marker_a": float})
    table.loc[[4, 7], "marker_a"] = np.nan
    with pytest.raises(TableRefused, match=r"'marker_a' has 2 missing values \(rows 4, 7\)"):
        auroc(table, label="lvh", marker="marker_a")
    found = auroc(table, label="lvh", marker="marker_a", missing="drop")
    assert found.n_dropped_missing == 2
    assert found.estimates["n"].iloc[0] == 198
    assert roc_curve(table, label="lvh", marker="marker_a", missing="drop").n_dropped_missing == 2


@pytest.mark.parametrize("function", [auroc, binary_c_statistic, roc_curve])
def test_one_class__is_refused(function: Any) -> None:
    table = PEOPLE[PEOPLE["lvh"] == 0]
    with pytest.raises(TableRefused, match="'lvh' has 0 positive and 136 negative rows"):
        function(table, label="lvh", marker="rule_a")


def test_label__other_codes_are_refused() -> None:
    with pytest.raises(TableRefused, match="'lvh' has 64 values that are neither 0 nor 1"):
        auroc(PEOPLE.assign(lvh=2 * PEOPLE["lvh"]), label="lvh", marker="marker_a")


def test_binary_c_statistic__continuous_marker_is_refused() -> None:
    with pytest.raises(TableRefused, match=r"'marker_a' has .* values that are neither 0 nor 1"):
        binary_c_statistic(PEOPLE, label="lvh", marker="marker_a")
    with pytest.raises(TableRefused, match=r"'marker_b' has .* values that are neither 0 nor 1"):
        compare_binary_c_statistic(PEOPLE, label="lvh", markers=("rule_a", "marker_b"))


def test_marker__text_or_infinity_is_refused() -> None:
    with pytest.raises(TableRefused, match="'sex' holds text"):
        auroc(PEOPLE, label="lvh", marker="sex")
    with pytest.raises(TableRefused, match="'marker_a' has 200 infinite values"):
        auroc(PEOPLE.assign(marker_a=np.inf), label="lvh", marker="marker_a")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"markers": {"marker_a"}}, TypeError, "markers is a set, expected a column or a list"),
        ({"markers": ["marker_a"]}, ValueError, r"\['marker_a'\], expected at least 2 columns"),
        ({"markers": ["rule_a", "rule_a"]}, ValueError, "expected each column once"),
        ({"markers": ["rule_a", "lvh"]}, ValueError, "'lvh' is given in two roles"),
        ({"markers": RULES, "confidence": 95}, ValueError, "confidence is 95, expected above 0 and below 1"),
        ({"markers": RULES, "missing": "omit"}, ValueError, "missing is 'omit'"),
    ],
)
def test_compare_auroc__wrong_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare_auroc(PEOPLE, label="lvh", **arguments)


def test_auroc__wrong_groupings_are_named() -> None:
    with pytest.raises(TypeError, match="by is a dict, expected a column or a list of them"):
        auroc(PEOPLE, label="lvh", marker="marker_a", by={"sex": 1})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="by names 'auc', which is a column of the result"):
        auroc(PEOPLE.assign(auc=1), label="lvh", marker="marker_a", by=["auc"])


def test_half_a_million_rows__are_not_quadratic() -> None:
    random = np.random.default_rng(5)
    ill = random.random(500_000) < 0.1
    table = pd.DataFrame({"ill": ill, "x": random.normal(ill, 1), "y": random.integers(0, 9, ill.size)})
    found = compare_auroc(table, label="ill", markers=("x", "y"))
    # Two normals one standard deviation apart: Phi(1 / sqrt 2); within five standard errors.
    assert_allclose(found.estimates["auc"], [0.760250, 0.5], rtol=0, atol=0.007)
