"""Decision curves: base R without censoring, and what must hold with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from analysis.statistics.columns import TableRefused
from analysis.statistics.risk import decision_curve
from tests.analysis.statistics.references import GOLDEN, expected

CUTS = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75]
RISKS = ("risk_a", "risk_b")
OPTIONS: dict[str, Any] = {"duration": "time", "event": "event", "at": 1.5}


def people() -> pd.DataFrame:
    """Those with LVH have the event at 1, the others are followed to 2."""
    table = pd.read_csv(GOLDEN / "roc" / "people.csv")
    return table.assign(time=np.where(table["lvh"] == 1, 1.0, 2.0), event=table["lvh"].astype(int))


def test_decision_curve__without_censoring_equals_base_r() -> None:
    found = decision_curve(people(), risk=RISKS, thresholds=CUTS, **OPTIONS).estimates
    reference = expected("roc")["people"]["net_benefit"]
    for strategy, rows in found.groupby("strategy"):
        own = pd.DataFrame(reference[strategy])
        names = {"net_benefit_lo": "lo", "net_benefit_hi": "hi"}
        for name in ("threshold", "net_benefit", "se", "net_benefit_lo", "net_benefit_hi"):
            assert_allclose(rows[name], own[names.get(name, name)], rtol=1e-11, atol=1e-15)


def test_decision_curve__worked_by_hand_with_a_competing_event_and_censoring() -> None:
    """Of 4 at risk at 2 one is censored: G is 3/4 after it, weights of the later three 4/3."""
    table = pd.DataFrame({"time": [1.0, 2.0, 3.0, 3.5, 9.0], "event": [1, 0, 1, 2, 0], "p": [0.9, 0.9, 0.1, 0.5, 0.3]})
    found = decision_curve(table, duration="time", event="event", risk="p", at=5, thresholds=[0.2]).estimates
    own = found.set_index("strategy")["net_benefit"]
    # Acted on: the case at 1 (weight 1), the dead and the one followed (4/3 each), odds 1 to 4.
    assert_allclose(own["p"], (1 - 2 * (4 / 3) / 4) / 5, rtol=1e-12)
    assert_allclose(own["treat_all"], (1 + 4 / 3 - 2 * (4 / 3) / 4) / 5, rtol=1e-12)


def test_decision_curve__errors_are_those_of_repeated_samples() -> None:
    rng = np.random.default_rng(6)

    def one(n: int) -> pd.DataFrame:
        risk = rng.uniform(0.02, 0.5, n)
        event, gone = rng.exponential(-5 / np.log(1 - risk)), rng.uniform(0, 12, n)
        status = np.where(event <= gone, 1, 0)
        return pd.DataFrame({"time": np.minimum(event, gone) + 1e-9, "event": status, "p": risk})

    runs = [
        decision_curve(one(400), duration="time", event="event", risk="p", at=5, thresholds=[0.2]) for _ in range(300)
    ]
    rows = pd.concat([run.estimates[run.estimates["strategy"] == "p"] for run in runs])
    assert rows["se"].mean() == pytest.approx(rows["net_benefit"].std(ddof=1), rel=0.15)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=3, max_size=30).filter(
        lambda rows: 0 < sum(row[0] for row in rows) < len(rows)
    )
)
@settings(max_examples=30, deadline=None)
def test_decision_curve__of_the_outcome_itself_is_the_prevalence(rows: list[tuple[bool, int]]) -> None:
    table = pd.DataFrame(rows, columns=["ill", "p"]).assign(perfect=lambda t: t["ill"] * 1.0)
    table = table.assign(p=table["p"] / 10, time=np.where(table["ill"], 1.0, 2.0), event=table["ill"].astype(int))
    found = decision_curve(table, risk=("perfect", "p"), thresholds=CUTS, **OPTIONS).estimates
    own = found.pivot(index="threshold", columns="strategy", values="net_benefit")
    assert_allclose(own["perfect"], table["ill"].mean(), rtol=1e-14, atol=0)
    assert (own["p"] <= own["perfect"] + 1e-15).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": [0.1, 1]}, "thresholds has 1, expected risks above 0 and below 1"),
        ({"thresholds": [float("nan")]}, "thresholds has nan, expected"),
        ({"thresholds": []}, "expected a list of at least one risk"),
        ({"thresholds": [0.1, 0.1]}, "thresholds has a risk twice"),
        ({"risk": "treat_all"}, "risk names 'treat_all', which is a strategy"),
        ({"confidence": 1}, "confidence is 1, expected above 0 and below 1"),
    ],
)
def test_decision_curve__wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    table = people().assign(treat_all=0.5)
    with pytest.raises(ValueError, match=message):
        decision_curve(table, **{**OPTIONS, "risk": RISKS, "thresholds": CUTS, **arguments})


def test_decision_curve__a_score_in_place_of_a_risk_is_refused() -> None:
    with pytest.raises(TableRefused, match=r"'marker_a' has .* values outside 0 to 1"):
        decision_curve(people(), risk="marker_a", thresholds=CUTS, **OPTIONS)
