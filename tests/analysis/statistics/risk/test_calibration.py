from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.columns import TableRefused
from analysis.statistics.risk import calibration_by_group, observed_expected, pseudo_values, smooth_calibration
from analysis.statistics.survival.aalen_johansen import cumulative_incidence
from tests.analysis.statistics.references import GOLDEN, close, expected

MONTHS: dict[str, Any] = {"duration": "months", "event": "status", "at": 120}
DEATH: dict[str, Any] = {"duration": "futime", "event": "death", "at": 120, "causes": (1,)}
ALL = (observed_expected, calibration_by_group, smooth_calibration)


def _people() -> pd.DataFrame:
    return pd.read_csv(GOLDEN / "risk" / "people.csv")


def _random(seed: int, n: int, *, longest: int = 9) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {"time": rng.integers(1, longest, n), "status": rng.choice(3, n), "risk": rng.uniform(0.05, 0.6, n)}
    )


def _incidence(table: pd.DataFrame, at: float) -> float:
    curves = cumulative_incidence(table, duration="time", event="status")
    return float(curves.at([at])["cumulative_incidence"].iloc[0])


# Observed and expected


def test_observed_expected__is_equal_to_r() -> None:
    of_r = expected("risk")["observed_expected"]
    found = observed_expected(_people(), risk="full", **MONTHS)
    row = found.estimates.iloc[0]
    names = {"observed_se": "se", "observed_lo": "lo", "observed_hi": "hi"}
    for name in row.index.drop("model"):
        close(row[name], of_r[names.get(name, name)], rtol=1e-12)


def test_observed_expected__counts_everybody_once() -> None:
    found = observed_expected(_people(), risk=["full", "short"], **MONTHS)
    parts = found.n_events + found.n_competing + found.n_censored + found.n_beyond
    assert found.n == parts == 1338
    assert found.estimates["model"].tolist() == ["full", "short"]


@given(seed=st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_observed_expected__of_the_observed_risk_itself_is_one(seed: int) -> None:
    table = _random(seed, 80)
    table["risk"] = _incidence(table, 5)
    found = observed_expected(table, duration="time", event="status", risk="risk", at=5)
    close(found.estimates["ratio"], [1.0], rtol=1e-12)


def test_observed_expected__without_events_has_no_limits() -> None:
    table = pd.DataFrame({"time": [1, 2, 3, 9], "status": [2, 0, 0, 0], "risk": 0.2})
    row = observed_expected(table, duration="time", event="status", risk="risk", at=5).estimates.iloc[0]
    assert row["ratio"] == 0
    assert np.isnan(row["ratio_lo"])
    assert np.isnan(row["ratio_hi"])


def test_observed_expected__bool_event_without_competing_is_one_less_kaplan_meier() -> None:
    # By hand: survival 3/4 x 2/3 x 1/2 = 1/4 at time 3.
    table = pd.DataFrame({"t": [1, 2, 3, 4], "e": [True, True, True, False], "r": 0.5})
    found = observed_expected(table, duration="t", event="e", risk="r", at=3, causes=(1,))
    close(found.estimates["observed"], [0.75], rtol=1e-14)
    close(found.estimates["ratio"], [1.5], rtol=1e-14)


def test_observed_expected__all_risks_zero_are_refused() -> None:
    with pytest.raises(TableRefused, match="column 'risk' is 0 for everybody"):
        observed_expected(_random(1, 50).assign(risk=0.0), duration="time", event="status", risk="risk", at=5)


# Groups


@pytest.mark.parametrize("model", ["full", "rounded"])
def test_calibration_by_group__is_equal_to_r(model: str) -> None:
    of_r = pd.DataFrame(expected("risk")["groups"][model])
    found = calibration_by_group(_people(), risk=model, **MONTHS).estimates
    assert found["n"].tolist() == of_r["n"].tolist()
    assert found["n_events"].tolist() == of_r["n_events"].tolist()
    assert found["group"].tolist() == list(range(1, len(of_r) + 1))
    names = {"se": "se", "observed": "observed", "observed_lo": "lo", "observed_hi": "hi"}
    for name in ("expected", "risk_min", "risk_max"):
        close(found[name], of_r[name], rtol=1e-12)
    for name, of in names.items():
        close(found[name], of_r[of], rtol=1e-12)


def test_calibration_by_group__equal_risks_stay_together_and_are_warned_about() -> None:
    found = calibration_by_group(_people(), risk="rounded", **MONTHS)
    groups = found.estimates
    assert (groups["risk_max"].to_numpy()[:-1] < groups["risk_min"].to_numpy()[1:]).all()
    assert any("8 groups, not 10" in text for text in found.warnings)


def test_calibration_by_group__short_follow_up_of_a_group_is_warned_about() -> None:
    table = _random(3, 200)
    table.loc[table["risk"] > table["risk"].median(), "time"] = 2
    found = calibration_by_group(table, duration="time", event="status", risk="risk", at=5, n_groups=2)
    assert any("groups [2] ends before 5" in text for text in found.warnings)


def test_calibration_by_group__several_models_are_stacked() -> None:
    found = calibration_by_group(_people(), risk=["full", "short"], n_groups=4, **MONTHS)
    assert found.estimates["model"].tolist() == ["full"] * 4 + ["short"] * 4


@pytest.mark.parametrize("n_groups", [1, 2.5, True])
def test_calibration_by_group__wrong_number_of_groups_is_refused(n_groups: Any) -> None:
    with pytest.raises(ValueError, match="n_groups is"):
        calibration_by_group(_people(), risk="full", n_groups=n_groups, **MONTHS)


def test_calibration_by_group__constant_risk_is_refused() -> None:
    with pytest.raises(TableRefused, match="column 'full' is constant"):
        calibration_by_group(_people().assign(full=0.1), risk="full", **MONTHS)


# Pseudo-values


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("months", MONTHS),
        ("months_cause2", {**MONTHS, "event_of_interest": 2}),
        ("years2", {"duration": "years2", "event": "status", "at": 5}),
        ("death", DEATH),
    ],
)
def test_pseudo_values__are_equal_to_prodlim(key: str, arguments: dict[str, Any]) -> None:
    found = pseudo_values(_people(), **arguments)
    close(found.iloc[::5], expected("risk")["pseudo"][key], rtol=1e-10, atol=1e-11)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 12), at=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_pseudo_values__are_those_of_leaving_each_out(seed: int, n: int, at: int) -> None:
    table = _random(seed, n)
    table.loc[0, "time"] = 8
    whole = _incidence(table, at)
    without = [_incidence(table.drop(index=row), at) for row in table.index]
    found = pseudo_values(table, duration="time", event="status", at=at)
    close(found, n * whole - (n - 1) * np.array(without), rtol=1e-11, atol=1e-11)


def test_pseudo_values__without_censoring_are_the_status() -> None:
    table = _random(5, 40).replace({"status": {0: 1}})
    found = pseudo_values(table, duration="time", event="status", at=4)
    close(found, (table["time"] <= 4) & (table["status"] == 1), rtol=0, atol=1e-12)


def test_pseudo_values__keep_the_index_and_drop_missing() -> None:
    table = _random(5, 40).astype({"status": float}).set_index(np.arange(100, 140))
    table.loc[101, "status"] = np.nan
    found = pseudo_values(table, duration="time", event="status", at=4, missing="drop")
    assert found.index.tolist() == [100, *range(102, 140)]


# Smooth


@pytest.mark.parametrize("model", ["full", "short", "death_full"])
def test_smooth_calibration__is_equal_to_r(model: str) -> None:
    of_r = expected("risk")["smooth"][model]
    arguments = DEATH if model == "death_full" else MONTHS
    found = smooth_calibration(_people(), risk=model, n_grid=5, **arguments)
    indices = found.indices.iloc[0]
    for name in ("ici", "e50", "e90", "emax"):
        close(indices[name], of_r[name], rtol=1e-8)
    close(found.curve["risk"], of_r["grid"], rtol=1e-12)
    close(found.curve["observed"], np.clip(of_r["observed"], 0, 1), rtol=1e-8)
    close(found.curve["se"], of_r["se"], rtol=1e-7)
    wanted = [f"leaves 0 to 1 for {of_r['n_outside']} people"] if of_r["n_outside"] else []
    assert len(found.warnings) == len(wanted)
    assert all(text in found.warnings[0] for text in wanted)


def test_smooth_calibration__names_its_smoother_and_knots() -> None:
    found = smooth_calibration(_people(), risk="full", **MONTHS)
    assert "pseudo-values" in found.smoother
    knots = found.knots["knots"].iloc[0]
    quantiles = np.quantile(_people()["full"], [0.05, 0.35, 0.65, 0.95])
    close(knots, quantiles, rtol=1e-3)  # quantiles of a function of the risk, linear between


def test_smooth_calibration__of_a_right_model_is_near_the_diagonal() -> None:
    rng = np.random.default_rng(7)
    n = 20_000
    rate = rng.uniform(0.02, 0.2, n)
    time, end = rng.exponential(1 / rate), rng.uniform(2, 9, n)
    table = pd.DataFrame({"t": np.minimum(time, end), "e": time <= end, "r": 1 - np.exp(-5 * rate)})
    found = smooth_calibration(table, duration="t", event="e", risk="r", at=5, causes=(1,))
    assert found.indices["ici"].iloc[0] < 0.015  # about twice the error of an observed risk


def test_smooth_calibration__order_of_rows_does_not_matter() -> None:
    people = _people()
    mixed = people.sample(frac=1, random_state=1)
    first = smooth_calibration(people, risk="full", **MONTHS).indices
    second = smooth_calibration(mixed, risk="full", **MONTHS).indices
    close(first.drop(columns="model"), second.drop(columns="model"), rtol=1e-9)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_smooth_calibration__risk_of_exactly_zero_or_one_is_refused(value: float) -> None:
    people = _people()
    people.loc[2, "full"] = value
    with pytest.raises(TableRefused, match=r"1 risks of exactly 0 or 1 \(row 2"):
        smooth_calibration(people, risk="full", **MONTHS)


def test_smooth_calibration__too_few_different_risks_are_refused() -> None:
    with pytest.raises(TableRefused, match=r"column 'full' is constant at 0\.1"):
        smooth_calibration(_people().assign(full=0.1), risk="full", **MONTHS)
    two = _people().assign(full=lambda t: np.where(t["full"] > 0.2, 0.3, 0.1))
    with pytest.raises(TableRefused, match=r"column 'log\(-log\(1 - full\)\)' has knots at"):
        smooth_calibration(two, risk="full", **MONTHS)


def test_smooth_calibration__wrong_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="n_grid is 1"):
        smooth_calibration(_people(), risk="full", n_grid=1, **MONTHS)


# What all refuse and warn about


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("value", [-0.1, 1.2])
def test_calibration__score_in_place_of_a_risk_is_refused(function: Any, value: float) -> None:
    people = _people()
    people.loc[4, "full"] = value
    with pytest.raises(TableRefused, match=r"'full' has 1 values outside.*a probability, not a sc"):
        function(people, risk="full", **MONTHS)


@pytest.mark.parametrize("function", ALL)
def test_calibration__missing_risk_is_refused_or_dropped(function: Any) -> None:
    people = _people()
    people.loc[[4, 7], "full"] = np.nan
    with pytest.raises(TableRefused, match=r"'full' has 2 missing values \(rows 4, 7\)"):
        function(people, risk="full", **MONTHS)
    found = function(people, risk="full", missing="drop", **MONTHS)
    assert (found.n, found.n_dropped_missing) == (1336, 2)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"at": 0}, ValueError, "at is 0, expected a finite time above 0"),
        ({"at": np.inf}, ValueError, "at is inf"),
        ({"at": 1e4}, TableRefused, "'months' ends at 424, expected follow-up to at=10000"),
        ({"event_of_interest": 3}, ValueError, "event_of_interest is 3"),
        ({"causes": (1,)}, TableRefused, "statuses outside the codes"),
        ({"risk": []}, ValueError, "risk is"),
        ({"risk": ["full", "full"]}, ValueError, "expected each column once"),
        ({"risk": "months"}, ValueError, "column 'months' is given in two roles"),
        ({"risk": 3}, TypeError, "risk is a int"),
        ({"confidence": 95}, ValueError, "confidence is 95"),
    ],
)
def test_calibration__wrong_arguments_are_refused(
    function: Any, changed: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(_people(), **{"risk": "full", **MONTHS, **changed})


@pytest.mark.parametrize("function", ALL)
def test_calibration__few_people_at_the_horizon_are_warned_about(function: Any) -> None:
    found = function(_people(), risk="full", **{**MONTHS, "at": 300})
    assert any("people are at risk at 300" in text for text in found.warnings)
