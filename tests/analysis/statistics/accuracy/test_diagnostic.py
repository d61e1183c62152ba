"""Accuracy, Wilson's limits, McNemar's test and net benefit against R, by hand, and laws."""

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

from analysis.statistics.accuracy.diagnostic import diagnostic_accuracy, mcnemar_test, wilson_limits
from analysis.statistics.columns import TableRefused

GOLDEN = Path(__file__).parents[3] / "golden"
EXPECTED = json.loads((GOLDEN / "roc" / "expected.json").read_text(encoding="utf-8"))
PEOPLE = pd.read_csv(GOLDEN / "roc" / "people.csv")
RULES = ("rule_a", "rule_b")
LIMITS = ["estimate", "lo", "hi"]


def _people(tp: int, fp: int, fn: int, tn: int) -> pd.DataFrame:
    ill = np.repeat([1, 0, 1, 0], [tp, fp, fn, tn])
    found = np.repeat([1, 1, 0, 0], [tp, fp, fn, tn])
    return pd.DataFrame({"ill": ill, "found": found})


def _measures(table: pd.DataFrame, **arguments: Any) -> pd.DataFrame:
    result = diagnostic_accuracy(table, label="ill", marker="found", **arguments)
    return result.estimates.set_index("measure")


def _assert_accuracy(table: pd.DataFrame, label: str, marker: str, expected: Any) -> None:
    found = diagnostic_accuracy(table, label=label, marker=marker)
    cells = found.counts.iloc[0]
    assert [cells[name] for name in ("tp", "fp", "fn", "tn")] == [expected[name] for name in ("tp", "fp", "fn", "tn")]
    assert found.estimates["measure"].tolist() == list(expected["measures"])
    for row in found.estimates.to_dict("records"):
        reference = expected["measures"][row["measure"]]
        assert_allclose([row[name] for name in LIMITS], [reference[name] for name in LIMITS], rtol=1e-12, atol=0)


@pytest.mark.parametrize("rule", RULES)
def test_diagnostic_accuracy__equals_prop_test_and_epir(rule: str) -> None:
    _assert_accuracy(PEOPLE, "lvh", rule, EXPECTED["people"]["accuracy"][rule])


def test_diagnostic_accuracy__equals_r_on_veteran() -> None:
    table = pd.read_csv(GOLDEN / "survival" / "data" / "veteran.csv")
    table["label"] = (table["time"] <= 90) & (table["status"] == 1)
    table["low_karno"] = table["karno"] < 60
    _assert_accuracy(table, "label", "low_karno", EXPECTED["veteran"]["accuracy"])


def test_diagnostic_accuracy__worked_by_hand() -> None:
    found = _measures(_people(tp=8, fp=10, fn=2, tn=80))
    shares = {
        "sensitivity": 0.8,
        "specificity": 8 / 9,
        "ppv": 8 / 18,
        "npv": 80 / 82,
        "prevalence": 0.1,
        "predicted_prevalence": 0.18,
        "lr_positive": 7.2,
        "lr_negative": 0.225,
    }
    assert_allclose(found["estimate"], [shares[name] for name in found.index], rtol=1e-14, atol=0)
    assert found.loc["ppv", ["numerator", "denominator"]].tolist() == [8, 18]


def test_diagnostic_accuracy__by_group_is_that_of_its_rows() -> None:
    found = diagnostic_accuracy(PEOPLE, label="lvh", marker="rule_a", by=["sex"])
    assert found.counts["sex"].tolist() == ["female", "male"]
    assert found.counts["n"].sum() == 200
    women = PEOPLE[PEOPLE["sex"] == "female"]
    alone = diagnostic_accuracy(women, label="lvh", marker="rule_a").estimates
    of_group = found.estimates[found.estimates["sex"] == "female"].drop(columns="sex")
    pd.testing.assert_frame_equal(of_group, alone, check_exact=True)


def test_diagnostic_accuracy__a_denominator_of_0_gives_nan_and_a_warning() -> None:
    table = _people(tp=0, fp=0, fn=3, tn=5)
    result = diagnostic_accuracy(table, label="ill", marker="found")
    found = result.estimates.set_index("measure")
    assert found.loc[["ppv", "lr_positive"], LIMITS].isna().all(axis=None)
    assert found.loc["sensitivity", "estimate"] == 0
    assert result.warnings == ("not defined, since the denominator is 0: ppv, lr_positive",)


def test_diagnostic_accuracy__ratio_of_zero_has_no_limits() -> None:
    found = _measures(_people(tp=0, fp=2, fn=3, tn=5))
    assert found.loc["lr_positive", "estimate"] == 0
    assert found.loc["lr_positive", ["lo", "hi"]].isna().all()


def test_diagnostic_accuracy__group_with_one_class_is_nan_and_warned_of() -> None:
    table = _people(tp=3, fp=2, fn=1, tn=4).assign(site="a")
    table.loc[len(table)] = [0, 0, "b"]
    result = diagnostic_accuracy(table, label="ill", marker="found", by=["site"])
    of_b = result.estimates[result.estimates["site"] == "b"].set_index("measure")
    assert of_b.loc[["sensitivity", "ppv"], "estimate"].isna().all()
    assert of_b.loc["specificity", "estimate"] == 1
    assert result.warnings[0].startswith("site = b: not defined")


def test_diagnostic_accuracy__refuses_by_column() -> None:
    with pytest.raises(TableRefused, match="'lvh' has 64 positive and 0 negative rows"):
        diagnostic_accuracy(PEOPLE[PEOPLE["lvh"] == 1], label="lvh", marker="rule_a")
    with pytest.raises(TableRefused, match=r"'marker_a' has .* neither 0 nor 1"):
        diagnostic_accuracy(PEOPLE, label="lvh", marker="marker_a")
    table = PEOPLE.assign(rule_a=PEOPLE["rule_a"].astype("boolean"))
    table.loc[3, "rule_a"] = pd.NA
    with pytest.raises(TableRefused, match=r"'rule_a' has 1 missing values \(rows 3\)"):
        diagnostic_accuracy(table, label="lvh", marker="rule_a")
    dropped = diagnostic_accuracy(table, label="lvh", marker="rule_a", missing="drop")
    assert dropped.n_dropped_missing == 1
    assert dropped.counts["n"].tolist() == [199]


def test_diagnostic_accuracy__wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="confidence is 0, expected above 0 and below 1"):
        diagnostic_accuracy(PEOPLE, label="lvh", marker="rule_a", confidence=0)
    with pytest.raises(ValueError, match="'lvh' is given in two roles"):
        diagnostic_accuracy(PEOPLE, label="lvh", marker="lvh")


def test_wilson_limits__equal_prop_test_at_the_ends_too() -> None:
    rows = pd.DataFrame(EXPECTED["wilson"])
    x, n = rows["x"].to_numpy(float), rows["n"].to_numpy(float)
    lo, hi = wilson_limits(x, n, confidence=0.95)
    assert_allclose(lo, rows["lo"], rtol=1e-12, atol=0)
    assert_allclose(hi, rows["hi"], rtol=1e-12, atol=0)


def test_wilson_limits__published_example() -> None:
    # Newcombe RG, Stat Med 1998;17:857-872, table I: 81 of 263.
    lo, hi = wilson_limits(np.array([81.0]), np.array([263.0]), confidence=0.95)
    assert_allclose([lo[0], hi[0]], [0.2553, 0.3662], rtol=0, atol=5e-5)


def test_wilson_limits__no_trials_have_no_limits() -> None:
    lo, hi = wilson_limits(np.array([0.0]), np.array([0.0]), confidence=0.95)
    assert np.isnan([lo[0], hi[0]]).all()


@given(st.integers(0, 400), st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_wilson_limits__contain_the_share_and_mirror(x: int, n: int) -> None:
    x = min(x, n)
    lo, hi = wilson_limits(np.array([float(x), n - x]), np.array([float(n), n]), confidence=0.9)
    assert (lo >= 0).all()
    assert (hi <= 1).all()
    assert lo[0] <= x / n <= hi[0]
    assert_allclose(lo[0], 1 - hi[1], rtol=0, atol=1e-14)


WITHIN = {
    "all": ("mcnemar_all", {}),
    "positive": ("mcnemar_positive", {"label": "lvh"}),
    "negative": ("mcnemar_negative", {"label": "lvh"}),
}


@pytest.mark.parametrize("within", WITHIN)
def test_mcnemar_test__equals_r(within: Any) -> None:
    name, arguments = WITHIN[within]
    expected = EXPECTED["people"][name]
    arguments = {**arguments, "within": within, "marker_a": "rule_a", "marker_b": "rule_b"}
    exact = mcnemar_test(PEOPLE, **arguments)
    for count in ("n", "both", "only_a", "only_b", "neither"):
        assert getattr(exact, count) == expected[count]
    assert (exact.method, np.isnan(exact.statistic)) == ("exact", True)
    assert_allclose(exact.p, expected["exact"], rtol=1e-12, atol=0)
    limits = [exact.difference, exact.difference_lo, exact.difference_hi]
    assert_allclose(limits, [expected[x] for x in ("difference", "lo", "hi")], rtol=1e-11, atol=0)
    plain = mcnemar_test(PEOPLE, method="chi-square", **arguments)
    assert_allclose([plain.statistic, plain.p], [expected["chi2"], expected["p"]], rtol=1e-12)
    edwards = mcnemar_test(PEOPLE, method="chi-square corrected", **arguments)
    assert_allclose(
        [edwards.statistic, edwards.p], [expected["chi2_corrected"], expected["p_corrected"]], rtol=1e-12, atol=0
    )


def _pairs(both: int, only_a: int, only_b: int, neither: int) -> pd.DataFrame:
    counts = [both, only_a, only_b, neither]
    return pd.DataFrame({"a": np.repeat([1, 1, 0, 0], counts), "b": np.repeat([1, 0, 1, 0], counts)})


def test_mcnemar_test__worked_by_hand() -> None:
    # 1 against 5 of 6 discordant people: 2 (1 + 6) / 64.
    found = mcnemar_test(_pairs(4, 1, 5, 10), marker_a="a", marker_b="b")
    assert_allclose(found.p, 14 / 64, rtol=1e-14, atol=0)
    assert_allclose(found.difference, -0.2, rtol=1e-14, atol=0)


def test_mcnemar_test__difference_within_positives_is_that_of_sensitivities() -> None:
    found = mcnemar_test(PEOPLE, label="lvh", within="positive", marker_a="rule_a", marker_b="rule_b")
    both = [diagnostic_accuracy(PEOPLE, label="lvh", marker=rule).estimates for rule in RULES]
    first, second = (frame["estimate"].iloc[0] for frame in both)
    assert_allclose(found.difference, first - second, rtol=1e-13, atol=0)


def test_mcnemar_test__as_many_each_way_is_no_difference() -> None:
    table = _pairs(4, 3, 3, 10)
    assert mcnemar_test(table, marker_a="a", marker_b="b").p == 1
    corrected = mcnemar_test(table, marker_a="a", marker_b="b", method="chi-square corrected")
    assert (corrected.statistic, corrected.p) == (0, 1)  # as R: no correction where they are equal


def test_mcnemar_test__without_discordant_people() -> None:
    table = _pairs(4, 0, 0, 10)
    exact = mcnemar_test(table, marker_a="a", marker_b="b")
    assert (exact.p, exact.difference, exact.difference_lo) == (1, 0, 0)
    assert exact.warnings == ("no discordant people: the limits have no width",)
    plain = mcnemar_test(table, marker_a="a", marker_b="b", method="chi-square")
    assert np.isnan([plain.statistic, plain.p]).all()


@given(st.tuples(*[st.integers(0, 12)] * 3), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_mcnemar_test__swapping_flips_the_sign(counts: tuple[int, int, int], neither: int) -> None:
    table = _pairs(*counts, neither)
    there = mcnemar_test(table, marker_a="a", marker_b="b")
    back = mcnemar_test(table, marker_a="b", marker_b="a")
    assert there.p == back.p
    assert there.difference == -back.difference
    assert there.difference_lo == -back.difference_hi


def test_mcnemar_test__missing_anywhere_leaves_the_comparison() -> None:
    table = PEOPLE.astype({"rule_a": float, "rule_b": float})
    table.loc[0, "rule_a"] = np.nan
    table.loc[1, "rule_b"] = np.nan
    with pytest.raises(TableRefused, match=r"'rule_a' has 1 missing .* 'rule_b' has 1 missing"):
        mcnemar_test(table, marker_a="rule_a", marker_b="rule_b")
    found = mcnemar_test(table, marker_a="rule_a", marker_b="rule_b", missing="drop")
    assert (found.n, found.n_dropped_missing) == (198, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"within": "ill", "label": "lvh"}, "within is 'ill', expected"),
        ({"method": "mid-p"}, "method is 'mid-p', expected"),
        ({"within": "positive"}, "label is None and within is 'positive'"),
        ({"label": "lvh"}, "label is 'lvh' and within is 'all'"),
        ({"marker_b": "rule_a"}, "'rule_a' is given in two roles"),
    ],
)
def test_mcnemar_test__wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mcnemar_test(PEOPLE, **{"marker_a": "rule_a", "marker_b": "rule_b", **arguments})


def test_mcnemar_test__no_row_with_the_label_is_refused() -> None:
    well = PEOPLE[PEOPLE["lvh"] == 0]
    with pytest.raises(TableRefused, match="'lvh' has no positive row of 136"):
        mcnemar_test(well, label="lvh", within="positive", marker_a="rule_a", marker_b="rule_b")
