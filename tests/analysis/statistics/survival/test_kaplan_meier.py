import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from lifelines.statistics import multivariate_logrank_test

from analysis.statistics.columns import TableRefused, named_columns
from analysis.statistics.limits import confidence_limits
from analysis.statistics.survival.kaplan_meier import follow_up_curve, logrank_test, survival_curve

GOLDEN = Path(__file__).parents[3] / "golden"
SURVIVAL = json.loads((GOLDEN / "survival" / "expected.json").read_text())
CURVES = json.loads((GOLDEN / "curves" / "expected.json").read_text())
KINDS = ("log-log", "log", "plain")
COLUMNS = {
    "time": "time",
    "n_at_risk": "n_at_risk",
    "n_events": "n_events",
    "n_censored": "n_censored",
    "survival": "survival",
    "se": "se",
    "survival_lo": "lo",
    "survival_hi": "hi",
}


def _numbers(values: Any) -> Any:
    return np.array(values, dtype=np.float64)  # null becomes NaN


def _close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual, dtype=np.float64), _numbers(expected), rtol=1e-12, atol=1e-14)


def _lung() -> pd.DataFrame:
    lung = pd.read_csv(GOLDEN / "survival" / "data" / "lung.csv")
    return lung.assign(event=lung["status"] == 2)


def _people() -> pd.DataFrame:
    people = pd.read_csv(GOLDEN / "curves" / "people.csv")
    return people.assign(event=people["status"] > 0)


def _random(seed: int, n: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    entry = rng.integers(0, 5, n)
    return pd.DataFrame(
        {
            "entry": entry,
            "time": entry + rng.integers(1, 15, n),
            "event": rng.random(n) < 0.5,
            "group": rng.choice(["a", "b", "c"], n),
            "whole": rng.integers(1, 4, n),
            "weight": rng.uniform(0.3, 2.7, n),
        }
    )


@pytest.mark.parametrize("ci", KINDS)
@pytest.mark.parametrize(("key", "by"), [("km_all", ()), ("km_sex", "sex")])
def test_survival_curve__lung_is_equal_to_r(key: str, by: Any, ci: Any) -> None:
    expected = SURVIVAL["lung"][key]
    curve = survival_curve(_lung(), duration="time", event="event", by=by, ci=ci)
    read = curve.at(expected["times"])
    for name, of_r in {
        "survival": "surv",
        "se": "std_err",
        "survival_lo": "lower",
        "survival_hi": "upper",
        "n_at_risk": "n_risk",
        "n_events": "n_event_between",
        "n_censored": "n_censor_between",
    }.items():
        _close(read[name], expected[ci][of_r])
    quantiles = curve.quantiles([0.1, 0.25, 0.5])
    _close(quantiles["quantile"], np.ravel(expected[ci]["q10_25_50"]))
    _close(quantiles["quantile_lo"], np.ravel(expected[ci]["q_lower"]))
    _close(quantiles["quantile_hi"], np.ravel(expected[ci]["q_upper"]))


@pytest.mark.parametrize("ci", KINDS)
@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("km_length", {"duration": "length"}),
        ("km_entry", {"duration": "exit", "entry": "entry"}),
        ("km_whole", {"duration": "length", "weights": "whole"}),
        ("km_weight", {"duration": "length", "weights": "weight"}),
        ("km_weight_entry", {"duration": "exit", "entry": "entry", "weights": "weight"}),
    ],
)
def test_survival_curve__delayed_entry_and_weights_are_equal_to_r(key: str, arguments: dict[str, str], ci: Any) -> None:
    curve = survival_curve(_people(), event="event", ci=ci, **arguments).curve  # type: ignore[arg-type]
    for name, of_r in COLUMNS.items():
        _close(curve[name], CURVES[key][ci][of_r])


@pytest.mark.parametrize(
    ("key", "arguments"),
    [("at_entry", {"duration": "exit", "entry": "entry"}), ("at_whole", {"duration": "length", "weights": "whole"})],
)
def test_at__between_before_and_after_steps_is_equal_to_r(key: str, arguments: dict[str, str]) -> None:
    expected = CURVES[key]
    curve = survival_curve(_people(), event="event", **arguments)  # type: ignore[arg-type]
    read = curve.at(expected["time"])
    for name, of_r in COLUMNS.items():
        _close(read[name], expected[of_r])


def test_restricted_mean__lung_is_equal_to_r() -> None:
    curve = survival_curve(_lung(), duration="time", event="event", by=["sex"])
    mean = curve.restricted_mean(730)
    expected = SURVIVAL["lung"]["rmst_730"]
    _close(mean["restricted_mean"], expected["rmean"])
    _close(mean["se"], expected["se"])
    half = 1.959963984540054 * mean["se"]
    _close(mean["restricted_mean_hi"] - mean["restricted_mean"], half)


@pytest.mark.parametrize(
    ("key", "tau", "arguments"),
    [
        ("length", 9.5, {"duration": "length"}),
        ("whole", 12, {"duration": "length", "weights": "whole"}),
        ("entry", 14.25, {"duration": "exit", "entry": "entry"}),
    ],
)
def test_restricted_mean__entry_and_whole_weights_are_equal_to_r(
    key: str, tau: float, arguments: dict[str, str]
) -> None:
    mean = survival_curve(_people(), event="event", **arguments).restricted_mean(tau)  # type: ignore[arg-type]
    _close(mean["restricted_mean"], [CURVES["rmean"][key]["rmean"]])
    _close(mean["se"], [CURVES["rmean"][key]["se(rmean)"]])


def test_restricted_mean__weights_give_the_jackknife_of_the_area() -> None:
    table = _random(5)
    names = {"duration": "time", "event": "event", "entry": "entry", "weights": "weight"}

    def area(changed: pd.DataFrame) -> float:
        curve = survival_curve(changed, **names)  # type: ignore[arg-type]
        return float(curve.restricted_mean(9.5)["restricted_mean"].iloc[0])

    step, total = 1e-5, 0.0
    for row, weight in enumerate(table["weight"]):
        more, less = table.copy(), table.copy()
        more.loc[row, "weight"] = weight + step
        less.loc[row, "weight"] = weight - step
        total += (weight * (area(more) - area(less)) / (2 * step)) ** 2
    found = survival_curve(table, **names).restricted_mean(9.5)["se"].iloc[0]  # type: ignore[arg-type]
    np.testing.assert_allclose(found, np.sqrt(total), rtol=1e-7, atol=0)


def test_restricted_mean__is_the_horizon_before_the_first_event() -> None:
    table = pd.DataFrame({"time": [5.0, 6.0, 8.0], "event": [1, 0, 1]})
    mean = survival_curve(table, duration="time", event="event").restricted_mean(4)
    assert mean[["restricted_mean", "se"]].iloc[0].tolist() == [4, 0]


def test_restricted_mean__after_the_curve_has_reached_zero_is_the_mean() -> None:
    table = pd.DataFrame({"time": [2.0, 4.0, 9.0], "event": [1, 1, 1]})
    mean = survival_curve(table, duration="time", event="event").restricted_mean(50)
    # The mean is 5; Greenwood's error is the root of the sum of squares about it, by 3.
    _close(mean["restricted_mean"], [5])
    _close(mean["se"], [np.sqrt((9 + 1 + 16) / 9)])


@pytest.mark.parametrize("ci", KINDS)
@pytest.mark.parametrize("key", list(CURVES["quantiles"]))
def test_quantiles__level_stretches_are_equal_to_r(key: str, ci: Any) -> None:
    case = CURVES["quantiles"][key]
    table = pd.DataFrame({name: case[name] for name in ("time", "event")})
    curve = survival_curve(table, duration="time", event="event", ci=ci)
    expected = case["q"][ci]
    found = curve.quantiles(expected["probs"])
    _close(found["quantile"], expected["quantile"])
    _close(found["quantile_lo"], expected["lo"])
    _close(found["quantile_hi"], expected["hi"])


def test_quantiles__middle_of_a_level_stretch() -> None:
    table = pd.DataFrame({"time": [1, 2, 3, 4], "event": [1, 1, 0, 1]})
    median = survival_curve(table, duration="time", event="event").quantiles(0.5)
    assert median["quantile"].tolist() == [3.0]  # level at 0.5 from 2 to 4


def test_follow_up_curve__is_equal_to_r() -> None:
    people = _people()
    expected = CURVES["follow_up"]
    found = follow_up_curve(people, duration="length", event="event")
    quantiles = found.quantiles(expected["probs"])
    _close(quantiles["quantile"], expected["quantile"])
    _close(quantiles["quantile_lo"], expected["lo"])
    _close(quantiles["quantile_hi"], expected["hi"])
    assert found.n_events == (~people["event"]).sum()


def test_follow_up_curve__counts_dropped_rows() -> None:
    table = pd.DataFrame({"time": [1.0, 2.0, np.nan], "event": [1, 0, 1]})
    found = follow_up_curve(table, duration="time", event="event", missing="drop")
    assert (found.n, found.n_dropped_missing) == (2, 1)


def test_survival_curve__worked_example() -> None:
    # 6-mercaptopurine arm, Freireich 1963, as in Kalbfleisch and Prentice: 0.857 after 6 weeks.
    weeks = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    event = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    table = pd.DataFrame({"weeks": weeks, "event": event})
    curve = survival_curve(table, duration="weeks", event="event")
    read = curve.at([6, 7, 10, 13, 16, 22, 23])
    by_hand = np.cumprod([18 / 21, 16 / 17, 14 / 15, 11 / 12, 10 / 11, 6 / 7, 5 / 6])
    _close(read["survival"], by_hand)
    assert curve.curve["n_at_risk"].iloc[0] == 21
    assert read["n_at_risk"].tolist() == [21, 17, 15, 12, 11, 7, 6]


def test_survival_curve__error_and_limits_where_survival_is_0_or_1() -> None:
    table = pd.DataFrame({"time": [1, 2, 3], "event": [0, 1, 1]})
    curve = survival_curve(table, duration="time", event="event").curve
    assert curve["survival"].tolist() == [1, 0.5, 0]
    assert curve["se"].isna().tolist() == [False, False, True]
    assert curve["survival_lo"].isna().tolist() == [True, False, True]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_survival_curve__is_equal_to_lifelines(seed: int) -> None:
    table = _random(seed)
    found = survival_curve(table, duration="time", event="event", entry="entry")
    fitter = KaplanMeierFitter()
    plain = survival_curve(table, duration="time", event="event").curve
    fitter.fit(table["time"], table["event"])
    np.testing.assert_allclose(
        plain["survival"], fitter.survival_function_at_times(plain["time"]), rtol=1e-10, atol=1e-13
    )
    assert found.curve["survival"].is_monotonic_decreasing


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_survival_curve__order_of_rows_does_not_matter(seed: int) -> None:
    table = _random(seed)
    names: Any = {"duration": "time", "event": "event", "entry": "entry", "by": "group"}
    first = survival_curve(table, weights="weight", **names).curve
    second = survival_curve(table.sample(frac=1, random_state=seed), weights="weight", **names)
    pd.testing.assert_frame_equal(first, second.curve, rtol=1e-9, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_survival_curve__weight_counts_as_repeated_rows(seed: int) -> None:
    table = _random(seed)
    repeated = table.loc[table.index.repeat(table["whole"])]
    names: Any = {"duration": "time", "event": "event", "entry": "entry"}
    first = survival_curve(table, weights="whole", **names)
    second = survival_curve(repeated, **names)
    pd.testing.assert_frame_equal(first.curve, second.curve, check_dtype=False, rtol=1e-12)
    _close(first.restricted_mean(4)["se"], second.restricted_mean(4)["se"])


def test_survival_curve__several_columns_make_groups() -> None:
    table = _random(1).assign(sex=lambda t: np.arange(len(t)) % 2)
    curve = survival_curve(table, duration="time", event="event", by=["group", "sex"])
    assert list(curve.curve.columns[:3]) == ["group", "sex", "time"]
    read = curve.at([3, 6])
    alone = table[(table["group"] == "b") & (table["sex"] == 1)]
    expected = survival_curve(alone, duration="time", event="event").at([3, 6])
    found = read[(read["group"] == "b") & (read["sex"] == 1)]
    _close(found["survival"], expected["survival"])
    assert len(curve.quantiles()) == 18
    assert len(curve.restricted_mean(1)) == 6


def test_survival_curve__warns_of_an_emptied_risk_set() -> None:
    table = pd.DataFrame({"entry": [0, 2, 2], "time": [1, 5, 6], "event": [1, 0, 1]})
    curve = survival_curve(table, duration="time", event="event", entry="entry")
    assert "all 1 at risk at time 1 had an event" in curve.warnings[0]
    assert curve.curve["survival"].tolist() == [0, 0, 0]


def test_survival_curve__warns_of_jackknife_errors() -> None:
    curve = survival_curve(_people(), duration="length", event="event", weights="weight")
    assert curve.warnings == ("column 'weight' has weights that are not whole: jackknife errors",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": [1, 2, np.nan]}, "column 'time' has 1 missing values"),
        ({"time": [1, 0, -2]}, "column 'time' has 2 negative or zero times"),
        ({"event": [0, 1, 2]}, "column 'event' has 1 values that are neither 0 nor 1"),
        ({"entry": [0, 2, 0]}, "entry times at or after the exit in 'time'"),
        ({"weight": [1, 0, 1]}, "column 'weight' has 1 weights of 0 or less"),
    ],
)
def test_survival_curve__refuses_a_column(changes: dict[str, Any], message: str) -> None:
    table = pd.DataFrame({"time": [1, 2, 3], "event": [0, 1, 1], "entry": 0, "weight": 1})
    with pytest.raises(TableRefused, match=message):
        survival_curve(table.assign(**changes), duration="time", event="event", entry="entry", weights="weight")


def test_survival_curve__refuses_wrong_arguments() -> None:
    table = _random(1)
    names: Any = {"duration": "time", "event": "event"}
    with pytest.raises(ValueError, match="ci is 'logit', expected one of"):
        survival_curve(table, ci="logit", **names)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="confidence is 95, expected above 0 and below 1"):
        survival_curve(table, confidence=95, **names)
    renamed = table.rename(columns={"whole": "survival"})
    with pytest.raises(ValueError, match="by names 'survival', which is a column of the result"):
        survival_curve(renamed, by=["group", "survival"], **names)
    with pytest.raises(ValueError, match="expected each column once"):
        survival_curve(table, by=["group", "group"], **names)
    with pytest.raises(TypeError, match="by is a set, expected a column or a list"):
        named_columns({"group"}, "by")  # type: ignore[arg-type]


def test_readings__refuse_wrong_arguments() -> None:
    curve = survival_curve(_random(1), duration="time", event="event")
    for times in ([], [-1], [np.nan], [[1, 2]]):
        with pytest.raises(ValueError, match="expected one or more finite times of 0 or above"):
            curve.at(times)
    with pytest.raises(ValueError, match="expected ascending times without repetition"):
        curve.at([2, 2])
    for share in (0, 1, np.nan):
        with pytest.raises(ValueError, match="expected above 0 and below 1"):
            curve.quantiles([share])
    with pytest.raises(ValueError, match="tau is -1, expected a finite time above 0"):
        curve.restricted_mean(-1)
    open_ended = pd.DataFrame({"time": [1, 4], "event": [1, 0]})
    with pytest.raises(ValueError, match="tau is 5, expected at most 4, the last exit of group"):
        survival_curve(open_ended, duration="time", event="event").restricted_mean(5)


def test_confidence_limits__log_log_by_hand() -> None:
    # Survival 0.5 with error 0.1: log(-log 0.5) -+ 1.96 x 0.1 / (0.5 log 2).
    lo, hi = confidence_limits(np.array([0.5]), np.array([0.1]), ci="log-log", confidence=0.95)
    width = 1.959963984540054 * 0.1 / (0.5 * np.log(2))
    _close(lo, [np.exp(-np.log(2) * np.exp(width))])
    _close(hi, [np.exp(-np.log(2) * np.exp(-width))])


def test_logrank__lung_is_equal_to_r() -> None:
    found = logrank_test(_lung(), duration="time", event="event", by="sex")
    expected = SURVIVAL["lung"]["logrank"]
    _close([found.chi2, found.df, found.p], [expected[name] for name in ("chisq", "df", "p")])
    _close(found.groups["observed"], expected["obs"])
    _close(found.groups["expected"], expected["exp"])
    complete = _lung().dropna(subset=["inst", "ph.ecog"])
    stratified = logrank_test(complete, duration="time", event="event", by="sex", strata="inst")
    _close(stratified.chi2, SURVIVAL["lung"]["logrank_strata"]["chisq"])


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("logrank", {"duration": "length"}),
        ("logrank_strata", {"duration": "length", "strata": "stratum"}),
        ("logrank_entry", {"duration": "exit", "entry": "entry"}),
    ],
)
def test_logrank__three_groups_are_equal_to_r(key: str, arguments: dict[str, str]) -> None:
    found = logrank_test(_people(), event="event", by="group", **arguments)  # type: ignore[arg-type]
    expected = CURVES[key]
    _close(found.chi2, expected["chi2"])
    _close(found.groups["observed"], expected["observed"])
    _close(found.groups["expected"], expected["expected"])
    if "p" in expected:
        _close([found.df, found.p], [expected["df"], expected["p"]])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_logrank__is_equal_to_lifelines_in_any_order(seed: int) -> None:
    table = _random(seed)
    found = logrank_test(table, duration="time", event="event", by="group")
    lifelines = multivariate_logrank_test(table["time"], table["group"], table["event"])
    np.testing.assert_allclose(found.chi2, lifelines.test_statistic, rtol=1e-8, atol=1e-10)
    mixed = table.sample(frac=1, random_state=1)
    np.testing.assert_allclose(
        found.chi2, logrank_test(mixed, duration="time", event="event", by="group").chi2, rtol=1e-10, atol=1e-12
    )


def test_logrank__group_without_expected_events_leaves_a_degree_of_freedom() -> None:
    table = _random(3).assign(group=lambda t: np.where(t.index % 2, "a", "b"))
    late = pd.DataFrame({"time": [0.5], "event": [False], "group": ["early"]})
    both = pd.concat([table[["time", "event", "group"]], late])
    found = logrank_test(both, duration="time", event="event", by="group")
    alone = logrank_test(table, duration="time", event="event", by="group")
    assert (found.df, alone.df) == (1, 1)
    _close(found.chi2, alone.chi2)


def test_logrank__refusals() -> None:
    table = _random(1)
    names: Any = {"duration": "time", "event": "event"}
    with pytest.raises(TableRefused, match="column 'group' has one group, 'a', over"):
        logrank_test(table.assign(group="a"), by="group", **names)
    with pytest.raises(TableRefused, match="column 'event' has no event at which"):
        logrank_test(table.assign(event=0), by="group", **names)
    with pytest.raises(ValueError, match="by is empty"):
        logrank_test(table, by=(), **names)
    with pytest.raises(TableRefused, match="column 'group' has 1 missing values"):
        logrank_test(table.assign(group=[None, *table["group"][1:]]), by="group", **names)
