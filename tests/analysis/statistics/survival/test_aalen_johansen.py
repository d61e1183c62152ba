import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.columns import TableRefused
from analysis.statistics.survival.aalen_johansen import cumulative_incidence
from analysis.statistics.survival.kaplan_meier import survival_curve

GOLDEN = Path(__file__).parents[3] / "golden"
SURVIVAL = json.loads((GOLDEN / "survival" / "expected.json").read_text())
CURVES = json.loads((GOLDEN / "curves" / "expected.json").read_text())
OF_R = {"se": "se", "lo": "lo", "hi": "hi"}


def _close(actual: Any, expected: Any, *, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(
        np.asarray(actual, dtype=np.float64),
        np.array(expected, dtype=np.float64),  # null becomes NaN
        rtol=rtol,
        atol=1e-14,
    )


def _mgus2() -> pd.DataFrame:
    table = pd.read_csv(GOLDEN / "survival" / "data" / "mgus2.csv")
    progressed = table["pstat"] == 1
    return table.assign(
        months=np.where(progressed, table["ptime"], table["futime"]), status=np.where(progressed, 1, 2 * table["death"])
    )


def _people() -> pd.DataFrame:
    return pd.read_csv(GOLDEN / "curves" / "people.csv")


def _random(seed: int, n: int = 50) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    entry = rng.integers(0, 5, n)
    return pd.DataFrame(
        {
            "entry": entry,
            "time": entry + rng.integers(1, 15, n),
            "status": rng.choice(4, n),
            "group": rng.choice(["a", "b"], n),
            "whole": rng.integers(1, 4, n),
            "weight": rng.uniform(0.3, 2.7, n),
        }
    )


@pytest.mark.parametrize(("key", "by"), [("aj_all", ()), ("aj_sex", "sex")])
def test_cumulative_incidence__mgus2_is_equal_to_r(key: str, by: Any) -> None:
    expected = SURVIVAL["mgus2"][key]
    found = cumulative_incidence(_mgus2(), duration="months", event="status", by=by)
    read = found.at([60, 120, 240, 360])
    names = {"cumulative_incidence": "pstate", "se": "se", "lo": "lower", "hi": "upper"}
    for cause in (1, 2):
        own = read[read["cause"] == cause]
        for name, of_r in names.items():
            _close(own[name], np.array(expected[of_r])[:, cause])
        assert own["n_at_risk"].tolist() == expected["n_risk"]
    free = found.event_free
    groups = [rows for _, rows in free.groupby(by)] if by else [free]
    places = [np.searchsorted(rows["time"], [60, 120, 240, 360], side="right") - 1 for rows in groups]
    free = pd.concat([rows.iloc[place] for rows, place in zip(groups, places, strict=True)])
    for name, of_r in names.items():
        own_name = "probability" if name == "cumulative_incidence" else name
        _close(free[own_name], np.array(expected[of_r])[:, 0])


def test_cumulative_incidence__mgus2_is_equal_to_cuminc() -> None:
    expected = SURVIVAL["mgus2"]["cuminc_sex"]
    found = cumulative_incidence(_mgus2(), duration="months", event="status", by="sex")
    read = found.at(expected["times"])
    for row, values in zip(expected["rows"], expected["est"], strict=True):
        sex, cause = row.split()
        own = read[(read["sex"] == sex) & (read["cause"] == int(cause))]
        _close(own["cumulative_incidence"], values)


@pytest.mark.parametrize("ci", ["log-log", "log", "plain"])
@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("aj_length", {"duration": "length"}),
        ("aj_entry", {"duration": "exit", "entry": "entry"}),
        ("aj_weight", {"duration": "length", "weights": "weight"}),
        ("aj_weight_entry", {"duration": "exit", "entry": "entry", "weights": "weight"}),
    ],
)
def test_cumulative_incidence__delayed_entry_and_weights_are_equal_to_r(
    key: str, arguments: dict[str, str], ci: Any
) -> None:
    expected = CURVES[key][ci]
    found = cumulative_incidence(_people(), event="status", ci=ci, **arguments)  # type: ignore[arg-type]
    for cause in (0, 1, 2):
        own = found.curve[found.curve["cause"] == cause] if cause else found.event_free
        probability = "cumulative_incidence" if cause else "probability"
        _close(own["time"], expected["time"])
        # Where nobody is left R's product of weights ends at some 1e-16, and its limits with it.
        rounded = np.array(expected["probability"])[:, cause] < 1e-13
        for name, of_r in {probability: "probability", **OF_R}.items():
            values = np.array(expected[of_r], dtype=float)[:, cause]
            if name in ("lo", "hi"):
                _close(own[name][~rounded], values[~rounded])
            else:
                _close(own[name], values)


def test_at__between_before_and_after_steps_is_equal_to_r() -> None:
    expected = CURVES["aj_at"]
    found = cumulative_incidence(_people(), duration="exit", entry="entry", event="status")
    read = found.at(expected["time"])
    for cause in (1, 2):
        own = read[read["cause"] == cause]
        _close(own["n_at_risk"], expected["n_at_risk"])
        _close(own["n_events"], np.array(expected["n_events"])[:, cause])
        for name, of_r in {"cumulative_incidence": "probability", **OF_R}.items():
            _close(own[name], np.array(expected[of_r], dtype=float)[:, cause])


def test_cumulative_incidence__worked_example() -> None:
    # Five people: cause 1 at 1, cause 2 at 2, censored at 3, cause 1 at 4, censored at 5.
    table = pd.DataFrame({"time": [1, 2, 3, 4, 5], "status": [1, 2, 0, 1, 0]})
    found = cumulative_incidence(table, duration="time", event="status")
    first = found.curve[found.curve["cause"] == 1]
    _close(first["cumulative_incidence"], [0.2, 0.2, 0.2, 0.2 + 0.6 / 2, 0.5])
    assert first["n_at_risk"].tolist() == [5, 4, 3, 2, 1]
    assert first["n_events"].tolist() == [1, 0, 0, 1, 0]
    _close(first["se"].iloc[0], np.sqrt(0.2 * 0.8 / 5))
    assert found.event_free["n_censored"].tolist() == [0, 0, 1, 0, 1]


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_cumulative_incidence__without_competing_events_is_one_less_survival(seed: int, delayed: bool) -> None:
    table = _random(seed).assign(status=lambda t: (t["status"] > 0).astype(int))
    names: Any = {"duration": "time", "event": "status", "entry": "entry" if delayed else None}
    found = cumulative_incidence(table, causes=[1], weights="weight", **names).curve
    curve = survival_curve(table, weights="weight", **names).curve
    np.testing.assert_allclose(found["cumulative_incidence"], 1 - curve["survival"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(found["se"], curve["se"], rtol=1e-9, atol=1e-12)


def test_cumulative_incidence__errors_are_greenwoods_without_competing_events() -> None:
    table = _random(4).assign(status=lambda t: (t["status"] > 0).astype(int))
    found = cumulative_incidence(table, duration="time", event="status", causes=[1]).curve
    greenwood = survival_curve(table, duration="time", event="status").curve
    inside = greenwood["survival"] > 0
    _close(found["se"][inside], greenwood["se"][inside], rtol=1e-10)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_cumulative_incidence__all_states_add_up_to_1(seed: int) -> None:
    table = _random(seed)
    found = cumulative_incidence(table, duration="time", event="status", causes=[1, 2, 3], entry="entry", by="group")
    total = found.curve.groupby(["group", "time"])["cumulative_incidence"].sum()
    free = found.event_free.set_index(["group", "time"])["probability"]
    np.testing.assert_allclose(total + free, 1, rtol=0, atol=1e-13)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_cumulative_incidence__order_of_rows_and_of_causes_does_not_matter(seed: int) -> None:
    table = _random(seed)
    names: Any = {"duration": "time", "event": "status", "entry": "entry", "weights": "weight"}
    first = cumulative_incidence(table, causes=[1, 2, 3], **names).curve
    mixed = table.sample(frac=1, random_state=seed)
    second = cumulative_incidence(mixed, causes=[3, 1, 2], **names).curve
    pd.testing.assert_frame_equal(
        first, second.sort_values(["cause", "time"], ignore_index=True), rtol=1e-8, atol=1e-10
    )


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_cumulative_incidence__weight_counts_as_repeated_rows(seed: int) -> None:
    table = _random(seed)
    repeated = table.loc[table.index.repeat(table["whole"])]
    names: Any = {"duration": "time", "event": "status", "causes": (1, 2, 3), "entry": "entry"}
    first = cumulative_incidence(table, weights="whole", **names).curve
    second = cumulative_incidence(repeated, **names).curve
    same = ["time", "cause", "n_at_risk", "n_events", "cumulative_incidence"]
    pd.testing.assert_frame_equal(first[same], second[same], check_dtype=False, rtol=1e-12)


def _by_person(table: pd.DataFrame, causes: int) -> tuple[Any, Any]:
    """Probabilities by definition, and errors by changing the weight of each person in turn."""
    entry, exits, status = (table[name].to_numpy() for name in ("entry", "time", "status"))
    weight = table["weight"].to_numpy()

    def estimate(w: Any) -> Any:
        free, incidence, rows = 1.0, np.zeros(causes), []
        for time in np.unique(exits):
            n = w[(entry < time) & (exits >= time)].sum()
            here = exits == time
            d = np.array([w[here & (status == k + 1)].sum() for k in range(causes)])
            incidence = incidence + free * d / n
            free *= 1 - d.sum() / n
            rows.append([free, *incidence])
        return np.array(rows)

    total = 0.0
    for person in range(len(table)):
        step = 1e-5 * (np.arange(len(table)) == person)
        change = (estimate(weight + step) - estimate(weight - step)) / 2e-5
        total = total + (weight[person] * change) ** 2
    return estimate(weight), np.sqrt(total)


def test_cumulative_incidence__errors_are_the_jackknife_by_definition() -> None:
    table = _random(8, n=40)
    probability, se = _by_person(table, 3)
    found = cumulative_incidence(
        table, duration="time", event="status", causes=(1, 2, 3), entry="entry", weights="weight"
    )
    for cause in (1, 2, 3):
        own = found.curve[found.curve["cause"] == cause]
        _close(own["cumulative_incidence"], probability[:, cause])
        np.testing.assert_allclose(own["se"], se[:, cause], rtol=1e-6, atol=1e-9)


def test_cumulative_incidence__a_cause_that_takes_everybody_ends_at_1_without_error() -> None:
    table = pd.DataFrame({"time": [1, 2, 3], "status": [1, 1, 1]})
    curve = cumulative_incidence(table, duration="time", event="status").curve
    last = curve[(curve["cause"] == 1) & (curve["time"] == 3)].iloc[0]
    assert (last["cumulative_incidence"], last["se"]) == (1, 0)
    assert np.isnan(last["lo"])


def test_cumulative_incidence__warns_of_an_emptied_risk_set() -> None:
    table = pd.DataFrame({"entry": [0, 2, 2], "time": [1, 5, 6], "status": [2, 0, 1]})
    found = cumulative_incidence(table, duration="time", event="status", entry="entry")
    assert "all 1 at risk at time 1 had an event" in found.warnings[0]


def test_cumulative_incidence__drops_and_counts_missing_rows() -> None:
    table = pd.DataFrame({"time": [1.0, 2.0, np.nan], "status": [1, 0, 2]})
    found = cumulative_incidence(table, duration="time", event="status", missing="drop")
    assert (found.n, found.n_dropped_missing) == (2, 1)


def test_cumulative_incidence__several_columns_make_groups() -> None:
    table = _random(1).assign(sex=lambda t: np.arange(len(t)) % 2)
    names: Any = {"duration": "time", "event": "status", "causes": (1, 2, 3)}
    read = cumulative_incidence(table, by=["group", "sex"], **names).at([4, 8])
    assert list(read.columns[:4]) == ["group", "sex", "cause", "time"]
    alone = table[(table["group"] == "b") & (table["sex"] == 0)]
    expected = cumulative_incidence(alone, **names).at([4, 8])
    found = read[(read["group"] == "b") & (read["sex"] == 0)]
    _close(found["se"], expected["se"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"time": [1, 2, np.nan]}, "column 'time' has 1 missing values"),
        ({"time": [1, 0, -2]}, "column 'time' has 2 negative or zero times"),
        ({"status": [0, 1, 3]}, "column 'status' has 1 statuses outside the codes"),
        ({"entry": [0, 2, 0]}, "entry times at or after the exit in 'time'"),
        ({"weight": [1, -1, 1]}, "column 'weight' has 1 weights of 0 or less"),
    ],
)
def test_cumulative_incidence__refuses_a_column(changes: dict[str, Any], message: str) -> None:
    table = pd.DataFrame({"time": [1, 2, 3], "status": [0, 1, 2], "entry": 0, "weight": 1})
    with pytest.raises(TableRefused, match=message):
        cumulative_incidence(table.assign(**changes), duration="time", event="status", entry="entry", weights="weight")


@pytest.mark.parametrize(
    ("causes", "message"),
    [
        ((), "expected one or more codes, each once"),
        ((1, 1), "expected one or more codes, each once"),
        ((0, 1), "expected whole numbers of 1 or above"),
        ((1.5,), "expected whole numbers of 1 or above"),
    ],
)
def test_cumulative_incidence__refuses_causes(causes: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cumulative_incidence(_random(1), duration="time", event="status", causes=causes)
