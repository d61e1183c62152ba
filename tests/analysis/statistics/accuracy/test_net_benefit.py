"""Net benefit against base R, by hand, and laws."""

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

from analysis.statistics.accuracy import net_benefit
from analysis.statistics.columns import TableRefused

GOLDEN = Path(__file__).parents[3] / "golden"
EXPECTED = json.loads((GOLDEN / "roc" / "expected.json").read_text(encoding="utf-8"))
PEOPLE = pd.read_csv(GOLDEN / "roc" / "people.csv")
CUTS = [0.05, 0.1, 0.2, 0.3, 0.5, 0.75]
RISKS = ("risk_a", "risk_b")


def test_net_benefit__equals_base_r_for_models_all_and_none() -> None:
    found = net_benefit(PEOPLE, label="lvh", risk=RISKS, thresholds=CUTS).estimates
    expected = EXPECTED["people"]["net_benefit"]
    assert found["strategy"].unique().tolist() == list(expected)
    for strategy, rows in found.groupby("strategy"):
        reference = pd.DataFrame(expected[strategy])
        names = {"net_benefit_lo": "lo", "net_benefit_hi": "hi"}
        for name in ("threshold", "net_benefit", "se", "net_benefit_lo", "net_benefit_hi"):
            assert_allclose(rows[name], reference[names.get(name, name)], rtol=1e-11, atol=1e-15)


def test_net_benefit__worked_by_hand() -> None:
    table = pd.DataFrame({"ill": [1, 1, 0, 0, 0], "p": [0.9, 0.2, 0.2, 0.5, 0.1]})
    found = net_benefit(table, label="ill", risk="p", thresholds=[0.2]).estimates.iloc[0]
    # At or above 0.2 are two with and two without the outcome, odds 1 to 4.
    assert (found["true_positives"], found["false_positives"]) == (2, 2)
    assert_allclose(found["net_benefit"], 2 / 5 - 2 / 5 / 4, rtol=1e-15, atol=0)


def test_net_benefit__treat_all_is_0_where_the_threshold_is_the_prevalence() -> None:
    found = net_benefit(PEOPLE, label="lvh", risk="risk_a", thresholds=[0.32]).estimates
    by_strategy = found.set_index("strategy")["net_benefit"]
    assert_allclose(by_strategy["treat_all"], 0, rtol=0, atol=1e-15)
    assert by_strategy["treat_none"] == 0


def test_net_benefit__thresholds_come_out_ascending_whatever_their_order() -> None:
    there = net_benefit(PEOPLE, label="lvh", risk="risk_a", thresholds=CUTS).estimates
    back = net_benefit(PEOPLE, label="lvh", risk="risk_a", thresholds=CUTS[::-1]).estimates
    pd.testing.assert_frame_equal(there, back, check_exact=True)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 10)), min_size=3, max_size=30).filter(
        lambda rows: 0 < sum(row[0] for row in rows) < len(rows)
    )
)
@settings(max_examples=30, deadline=None)
def test_net_benefit__of_the_label_itself_is_the_prevalence(rows: list[tuple[bool, int]]) -> None:
    table = pd.DataFrame(rows, columns=["ill", "p"]).assign(perfect=lambda t: t["ill"] * 1.0)
    table["p"] /= 10
    result = net_benefit(table, label="ill", risk=("perfect", "p"), thresholds=CUTS)
    found = result.estimates.pivot(index="threshold", columns="strategy", values="net_benefit")
    assert_allclose(found["perfect"], table["ill"].mean(), rtol=1e-14, atol=0)
    assert (found["p"] <= found["perfect"] + 1e-15).all()
    assert (found["treat_all"] <= found["perfect"]).all()


def test_net_benefit__models_are_judged_on_the_same_people() -> None:
    table = PEOPLE.copy()
    table.loc[[1, 5], "risk_b"] = np.nan
    with pytest.raises(TableRefused, match=r"'risk_b' has 2 missing values \(rows 1, 5\)"):
        net_benefit(table, label="lvh", risk=RISKS, thresholds=CUTS)
    found = net_benefit(table, label="lvh", risk=RISKS, thresholds=CUTS, missing="drop")
    assert (found.n, found.n_dropped_missing) == (198, 2)
    complete = net_benefit(table.drop([1, 5]), label="lvh", risk="risk_a", thresholds=CUTS)
    pd.testing.assert_frame_equal(
        found.estimates.iloc[: len(CUTS)], complete.estimates.iloc[: len(CUTS)], check_exact=True
    )


def test_net_benefit__score_in_place_of_a_risk_is_refused() -> None:
    with pytest.raises(TableRefused, match=r"'marker_a' has .* values outside 0 to 1"):
        net_benefit(PEOPLE, label="lvh", risk="marker_a", thresholds=CUTS)
    with pytest.raises(TableRefused, match="'lvh' has 0 positive"):
        net_benefit(PEOPLE[PEOPLE["lvh"] == 0], label="lvh", risk="risk_a", thresholds=CUTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"thresholds": [0.1, 1]}, "thresholds has 1, expected risks above 0 and below 1"),
        ({"thresholds": [0]}, "thresholds has 0, expected risks above 0"),
        ({"thresholds": [float("nan")]}, "thresholds has nan, expected"),
        ({"thresholds": []}, "expected a list of at least one risk"),
        ({"thresholds": [0.1, 0.1]}, "thresholds has a risk twice"),
        ({"risk": []}, r"risk is \[\], expected at least 1 columns"),
        ({"risk": "treat_all"}, "risk names 'treat_all', which is a strategy"),
        ({"risk": ["risk_a", "lvh"]}, "'lvh' is given in two roles"),
        ({"confidence": 1}, "confidence is 1, expected above 0 and below 1"),
    ],
)
def test_net_benefit__wrong_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        net_benefit(PEOPLE, **{"label": "lvh", "risk": RISKS, "thresholds": CUTS, **arguments})
