from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.accuracy.roc import auroc
from analysis.statistics.columns import TableRefused
from analysis.statistics.risk import auc_at, brier_score
from analysis.statistics.survival.aalen_johansen import cumulative_incidence
from tests.analysis.statistics.references import GOLDEN, close, expected

COMPETING = ["full", "short", "rounded"]
RUNS: dict[str, dict[str, Any]] = {
    "months": {"duration": "months", "event": "status", "risk": COMPETING, "at": 120},
    "untied": {"duration": "untied", "event": "status", "risk": COMPETING, "at": 120},
    "years2": {"duration": "years2", "event": "status", "risk": COMPETING, "at": 5},
    "death": {"duration": "futime", "event": "death", "risk": ["death_full", "death_age"], "at": 120, "causes": (1,)},
}
MONTHS = {**RUNS["months"], "risk": "full"}
BOTH = (brier_score, auc_at)


def _people() -> pd.DataFrame:
    people = pd.read_csv(GOLDEN / "risk" / "people.csv")
    return people.assign(death_years2=np.ceil(people["futime"] / 24))


def _of_r(run: str, part: str) -> pd.DataFrame:
    return pd.DataFrame(expected("risk")["score"][run][part])


def _random(seed: int, n: int = 60, *, censored: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "time": rng.integers(1, 9, n),
            "status": rng.choice([0, 1, 2] if censored else [1, 2], n),
            "risk": rng.uniform(0, 1, n).round(1),
            "other": rng.uniform(0, 1, n),
        }
    )


ARGUMENTS: dict[str, Any] = {"duration": "time", "event": "status", "at": 4}


# Equal to riskRegression


@pytest.mark.parametrize("run", list(RUNS))
def test_brier_score__is_equal_to_r(run: str) -> None:
    of_r = _of_r(run, "brier").set_index("model")
    found = brier_score(_people(), **RUNS[run])
    null = of_r.loc[["Null model"]]
    close([found.null_brier], null["Brier"], rtol=1e-12)
    close([found.null_se], null["se"], rtol=1e-12)
    models = of_r.loc[found.estimates["model"]]
    names = {"brier": "Brier", "se": "se", "brier_lo": "lower", "brier_hi": "upper"}
    for name, of in names.items():
        close(found.estimates[name], models[of], rtol=1e-12)
    close(found.estimates["scaled_brier"], models["IPA"], rtol=1e-11)


@pytest.mark.parametrize("run", list(RUNS))
def test_auc_at__is_equal_to_r(run: str) -> None:
    of_r = _of_r(run, "auc").set_index("model")
    found = auc_at(_people(), **RUNS[run]).estimates
    models = of_r.loc[found["model"]]
    close(found["auc"], models["AUC"], rtol=1e-12)
    close(found["se"], models["se"], rtol=1e-12)
    # R has c +- 1.96 se, which leaves 0 to 1 with few events; ours are the same on the logit scale.
    c, half = models["AUC"].to_numpy(), (models["upper"] - models["lower"]).to_numpy() / 2
    inside = (models["upper"] < 1).to_numpy()
    width = half / (c * (1 - c))
    for name, side in (("auc_lo", -1), ("auc_hi", 1)):
        odds = c / (1 - c) * np.exp(side * width)
        close(found[name].to_numpy()[inside], (odds / (1 + odds))[inside], rtol=1e-10)


@pytest.mark.parametrize("n_cases", [1, 2, 3])
def test_auc_at__of_a_few_events_stays_within_0_and_1(n_cases: int) -> None:
    """Nearly all cases are ranked first: c +- 1.96 se would go beyond 1."""
    risk = np.linspace(0.01, 0.9, 200)
    status = np.zeros(200, dtype=int)
    status[[199, 180, 198][:n_cases]] = 1
    table = pd.DataFrame({"time": np.where(status == 1, 2.0, 9.0), "status": status, "risk": risk})
    table.loc[0:60, "time"] = 3.0
    table.loc[150, ["time", "status"]] = [1.0, 1]
    row = auc_at(table, duration="time", event="status", risk="risk", at=5).estimates.iloc[0]
    assert 0 < row["auc_lo"] < row["auc"] < row["auc_hi"] < 1


@pytest.mark.parametrize("run", list(RUNS))
@pytest.mark.parametrize(("function", "part"), [(brier_score, "brier"), (auc_at, "auc")])
def test_differences__are_equal_to_r(run: str, function: Any, part: str) -> None:
    of_r = _of_r(run, f"{part}_difference").set_index(["reference", "model"])
    found = function(_people(), **RUNS[run]).differences
    pairs = of_r.loc[list(zip(found["model_a"], found["model_b"], strict=True))]
    delta = "delta.AUC" if part == "auc" else "delta.Brier"
    close(found["difference"], -pairs[delta], rtol=1e-10)
    close(found["difference_lo"], -pairs["upper"], rtol=1e-10)
    close(found["difference_hi"], -pairs["lower"], rtol=1e-10)
    close(found["se"], pairs["se"], rtol=1e-11)
    close(found["p"], pairs["p"], rtol=1e-9)


def test_errors__are_near_the_exact_derivative_in_the_weights() -> None:
    # R's convention differs from the derivative with ties, here of periods of two years.
    of_r = expected("risk")["derivative_errors"]["years2"]
    third = _people().iloc[::3]
    arguments = {**RUNS["years2"], "risk": ["full", "rounded"]}
    brier, area = brier_score(third, **arguments), auc_at(third, **arguments)
    close(brier.null_se, of_r["null"], rtol=1e-3)
    close(brier.estimates["se"], [of_r["brier_x"], of_r["brier_y"]], rtol=1e-3)
    close(brier.differences["se"], [of_r["brier_difference"]], rtol=1e-3)
    close(brier.estimates["scaled_brier_se"], [of_r["scaled_x"], of_r["scaled_y"]], rtol=2e-3)
    close(area.estimates["se"], [of_r["auc_x"], of_r["auc_y"]], rtol=1e-4)
    close(area.differences["se"], [of_r["auc_difference"]], rtol=1e-3)


def test_errors__without_competing_events_are_near_the_exact_derivative() -> None:
    of_r = expected("risk")["derivative_errors"]["death"]
    arguments = {**RUNS["death"], "duration": "death_years2", "at": 5}
    third = _people().iloc[::3]
    brier, area = brier_score(third, **arguments), auc_at(third, **arguments)
    close(brier.estimates["scaled_brier_se"], [of_r["scaled_x"], of_r["scaled_y"]], rtol=1e-3)
    close(brier.differences["se"], [of_r["brier_difference"]], rtol=1e-3)
    close(area.estimates["se"], [of_r["auc_x"], of_r["auc_y"]], rtol=1e-4)


# Laws


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_brier_score__without_censoring_is_the_mean_squared_error(seed: int) -> None:
    table = _random(seed, censored=False)
    case = (table["time"] <= 4) & (table["status"] == 1)
    square = (case - table["risk"]) ** 2
    found = brier_score(table, risk="risk", **ARGUMENTS).estimates.iloc[0]
    close(found["brier"], square.mean(), rtol=1e-12)
    close(found["se"], square.std(ddof=1) / np.sqrt(len(table)), rtol=1e-10)
    close(found["scaled_brier"], 1 - square.mean() / (case.mean() * (1 - case.mean())), rtol=1e-10)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_auc_at__without_censoring_is_the_plain_auroc(seed: int) -> None:
    table = _random(seed, censored=False)
    table["case"] = (table["time"] <= 4) & (table["status"] == 1)
    plain = auroc(table, label="case", marker="risk").estimates.iloc[0]
    found = auc_at(table, risk="risk", **ARGUMENTS).estimates.iloc[0]
    close(found["auc"], plain["auc"], rtol=1e-12)


@pytest.mark.parametrize("function", BOTH)
def test_accuracy__order_of_rows_does_not_matter(function: Any) -> None:
    people = _people()
    first = function(people, **RUNS["months"])
    second = function(people.sample(frac=1, random_state=3), **RUNS["months"])
    for name in ("estimates", "differences"):
        one, other = (getattr(result, name).select_dtypes("number") for result in (first, second))
        close(one, other, rtol=1e-9)


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_brier_score__of_the_observed_risk_is_that_of_the_null_model(seed: int) -> None:
    table = _random(seed)
    table.loc[0, "time"] = 8
    curves = cumulative_incidence(table, duration="time", event="status")
    observed = curves.at([4])["cumulative_incidence"].iloc[0]
    found = brier_score(table.assign(risk=observed), risk="risk", **ARGUMENTS)
    close(found.null_brier, observed * (1 - observed), rtol=1e-12)
    close(found.estimates["brier"], [found.null_brier], rtol=1e-12)
    close(found.estimates["scaled_brier"], [0], rtol=0, atol=1e-12)
    close(found.estimates["scaled_brier_se"], [0], rtol=0, atol=1e-12)


def test_auc_at__reversed_risks_give_one_less_the_area() -> None:
    table = _random(4).assign(turned=lambda t: 1 - t["risk"])
    found = auc_at(table, risk=["risk", "turned"], **ARGUMENTS)
    close(found.estimates["auc"].sum(), 1, rtol=1e-12)
    close(found.estimates["se"].iloc[0], found.estimates["se"].iloc[1], rtol=1e-12)


def test_auc_at__constant_risk_has_one_half() -> None:
    found = auc_at(_random(4).assign(risk=0.3), risk="risk", **ARGUMENTS).estimates.iloc[0]
    close(found["auc"], 0.5, rtol=1e-12)
    close(found["se"], 0, rtol=0, atol=1e-12)


def test_auc_at__by_hand() -> None:
    # Censored at 2 with 3 at risk of it: weights 1 up to then, 3/2 after it. Cases: A (1), D
    # (3/2). Controls: C (competing at 2, before the censoring: 1), E (3/2). A > C, A < E; D > both.
    table = pd.DataFrame(
        {"time": [1, 2, 2, 3, 9], "status": [1, 0, 2, 1, 0], "risk": [0.4, 0.9, 0.1, 0.8, 0.5]}, index=list("ABCDE")
    )
    found = auc_at(table, risk="risk", **ARGUMENTS)
    close(found.estimates["auc"], [(1 * 1 + 1.5 * 1 + 1.5 * 1.5) / (2.5 * 2.5)], rtol=1e-14)
    brier = (1 * 0.6**2 + 1 * 0.1**2 + 1.5 * 0.2**2 + 1.5 * 0.5**2) / 5
    close(brier_score(table, risk="risk", **ARGUMENTS).estimates["brier"], [brier], rtol=1e-14)
    assert (found.n_events, found.n_competing, found.n_censored, found.n_beyond) == (2, 1, 1, 1)


@pytest.mark.parametrize("function", BOTH)
def test_differences__of_a_model_from_its_copy_are_zero_without_a_test(function: Any) -> None:
    table = _random(6).assign(copy=lambda t: t["risk"])
    row = function(table, risk=["risk", "copy"], **ARGUMENTS).differences.iloc[0]
    assert (row["difference"], row["se"]) == (0, 0)
    assert np.isnan(row["z"])
    assert np.isnan(row["p"])


@pytest.mark.parametrize("function", BOTH)
def test_differences__reverse_sign_with_the_order(function: Any) -> None:
    table = _random(6)
    one = function(table, risk=["risk", "other"], **ARGUMENTS).differences.iloc[0]
    two = function(table, risk=["other", "risk"], **ARGUMENTS).differences.iloc[0]
    close(one["difference"], -two["difference"], rtol=1e-12)
    close(one["p"], two["p"], rtol=1e-12)


@pytest.mark.parametrize("function", BOTH)
def test_differences__of_one_model_are_an_empty_table(function: Any) -> None:
    found = function(_random(6), risk="risk", **ARGUMENTS).differences
    assert len(found) == 0
    assert "difference_lo" in found


@pytest.mark.parametrize("function", BOTH)
def test_accuracy__event_of_interest_and_codes_may_be_others(function: Any) -> None:
    table = _random(6)
    turned = table.assign(status=table["status"].map({0: 0, 1: 7, 2: 4}))
    found = function(turned, risk="risk", event_of_interest=7, causes=(4, 7), **ARGUMENTS)
    wanted = function(table, risk="risk", **ARGUMENTS)
    close(found.estimates["se"], wanted.estimates["se"], rtol=1e-14)


# Refusals


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize("value", [-1e-9, 1.01, np.inf])
def test_accuracy__score_in_place_of_a_risk_is_refused(function: Any, value: float) -> None:
    table = _random(6)
    table.loc[3, "risk"] = value
    with pytest.raises(TableRefused, match=r"column 'risk' has 1 (infinite )?values.*\(row 3"):
        function(table, risk="risk", **ARGUMENTS)


@pytest.mark.parametrize("function", BOTH)
def test_accuracy__missing_is_refused_or_dropped_for_all_models(function: Any) -> None:
    table = _random(6)
    table.loc[3, "risk"] = np.nan
    with pytest.raises(TableRefused, match=r"'risk' has 1 missing values \(rows 3\)"):
        function(table, risk=["risk", "other"], **ARGUMENTS)
    found = function(table, risk=["risk", "other"], missing="drop", **ARGUMENTS)
    assert (found.n, found.n_dropped_missing) == (59, 1)


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize(
    ("status", "cases"), [([2, 2, 0, 0], "has 0 people with the event"), ([1, 1, 1, 1], "and 0 known to be without")]
)
def test_accuracy__one_class_is_refused(function: Any, status: list[int], cases: str) -> None:
    table = pd.DataFrame({"time": [1, 2, 3, 4], "status": status, "risk": 0.3})
    with pytest.raises(TableRefused, match=cases):
        function(table, risk="risk", **ARGUMENTS)


@pytest.mark.parametrize("function", BOTH)
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"at": -1}, ValueError, "at is -1"),
        ({"at": 9.5}, TableRefused, "'time' ends at 8, expected follow-up to at=9.5"),
        ({"event": "time"}, ValueError, "column 'time' is given in two roles"),
        ({"risk": ["status"]}, ValueError, "column 'status' is given in two roles"),
        ({"event_of_interest": 3}, ValueError, "event_of_interest is 3"),
        ({"causes": (1,)}, TableRefused, "statuses outside the codes"),
        ({"confidence": 1}, ValueError, "confidence is 1"),
        ({"missing": "skip"}, ValueError, "missing is 'skip'"),
    ],
)
def test_accuracy__wrong_arguments_are_refused(
    function: Any, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(_random(6), **{"risk": "risk", **ARGUMENTS, **changed})


@pytest.mark.parametrize("function", BOTH)
def test_accuracy__few_people_at_the_horizon_are_warned_about(function: Any) -> None:
    found = function(_people(), **{**MONTHS, "at": 300})
    assert any("people are at risk at 300" in text for text in found.warnings)
    assert not function(_people(), **MONTHS).warnings
