"""Absolute risks from all causes against riskRegression::CSC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.survival import CoxFit, cumulative_incidence, predict_cumulative_incidence
from analysis.statistics.survival.cox import fit_cox
from tests.analysis.statistics.references import close, expected, mgus2, ties


def _by_cause(table: pd.DataFrame, event: str, **arguments: Any) -> dict[int, CoxFit]:
    fits = {}
    for cause in (1, 2):
        table = table.assign(**{f"cause_{cause}": table[event] == cause})
        fits[cause] = fit_cox(table, event=f"cause_{cause}", **arguments)
    return fits


@pytest.mark.parametrize(
    ("key", "table", "event", "duration", "covariates"),
    [
        ("mgus2_csc", mgus2(complete=True), "ev", "etime", ["age", "male", "mspike", "hgb"]),
        ("ties_csc", ties(), "status", "time", ["x", "z"]),
    ],
)
def test_predict_cumulative_incidence__equals_csc(
    key: str, table: pd.DataFrame, event: str, duration: str, covariates: list[str]
) -> None:
    wanted = expected("cox")[key]
    fits = _by_cause(table, event, duration=duration, covariates=covariates)
    got = predict_cumulative_incidence(fits, pd.DataFrame(wanted["new"]), wanted["times"])
    for cause in (1, 2):
        mine = got[got["cause"] == cause]["cumulative_incidence"].to_numpy()
        close(mine.reshape(-1, 3), wanted[f"cause_{cause}"], rtol=1e-8)


def test_predict_cumulative_incidence__causes_and_survival_add_up_to_1() -> None:
    fits = _by_cause(ties(), "status", duration="time", covariates=["x", "z"])
    got = predict_cumulative_incidence(fits, ties().head(20), [0, 1, 5, 1000])
    totals = got.groupby(["row", "time"])["cumulative_incidence"].sum().unstack()
    assert (totals[0] == 0).all()
    assert ((totals.diff(axis=1).iloc[:, 1:] >= 0) & (totals.iloc[:, 1:] <= 1 + 1e-12)).all(axis=None)


def test_predict_cumulative_incidence__before_the_first_event_is_0() -> None:
    fits = _by_cause(ties(), "status", duration="time", covariates=["x"])
    for times in ([0], [0, 1e-6]):
        got = predict_cumulative_incidence(fits, ties().head(3), times)
        assert (got["cumulative_incidence"] == 0).all()
        assert len(got) == 3 * 2 * len(times)


def test_predict_cumulative_incidence__later_times_do_not_change_earlier_ones() -> None:
    fits = _by_cause(ties(), "status", duration="time", covariates=["x"])
    short, long = (predict_cumulative_incidence(fits, ties().head(9), times) for times in ([2], [2, 1000]))
    first = long[long["time"] == 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(short, first)


def test_predict_cumulative_incidence__at_null_coefficients_is_near_aalen_johansen() -> None:
    """A covariate of noise leaves the marginal incidence; Efron's hazard differs in ties only."""
    rng = np.random.default_rng(2)
    table = ties().assign(time=lambda t: t["time"] + rng.random(len(t)) / 2, noise=rng.normal(size=400) * 1e-6)
    fits = _by_cause(table, "status", duration="time", covariates=["noise"])
    person = pd.DataFrame({"noise": [table["noise"].mean()]})
    got = predict_cumulative_incidence(fits, person, [2.0, 5.0, 10.0])
    curve = cumulative_incidence(table, duration="time", event="status").at([2.0, 5.0, 10.0])
    for cause in (1, 2):
        mine = got[got["cause"] == cause]["cumulative_incidence"]
        theirs = curve[curve["cause"] == cause]["cumulative_incidence"]
        close(mine, theirs, rtol=0.01)


def test_predict_cumulative_incidence__in_pieces_of_rows_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = _by_cause(ties(), "status", duration="time", covariates=["x"])
    whole = predict_cumulative_incidence(fits, ties(), [2, 5])
    monkeypatch.setattr("analysis.statistics.survival.cause_specific._CHUNK", 100)
    pd.testing.assert_frame_equal(predict_cumulative_incidence(fits, ties(), [2, 5]), whole)


def test_predict_cumulative_incidence__refuses() -> None:
    fits = _by_cause(ties(), "status", duration="time", covariates=["x"])
    with pytest.raises(ValueError, match="no fit given, expected one for each cause"):
        predict_cumulative_incidence({}, ties(), [1])
    with pytest.raises(ValueError, match="a row has the event of two causes"):
        predict_cumulative_incidence({1: fits[1], 2: fits[1]}, ties(), [1])
    other = _by_cause(ties().iloc[1:], "status", duration="time", covariates=["x"])
    with pytest.raises(ValueError, match="400 and 399 rows that are not the same"):
        predict_cumulative_incidence({1: fits[1], 2: other[2]}, ties(), [1])
    with pytest.raises(ValueError, match="times are"):
        predict_cumulative_incidence(fits, ties(), [np.nan])


def test_predict_cumulative_incidence__a_level_without_one_cause_has_none_of_it() -> None:
    """As where no woman died: for her the other cause stands alone, by its own hazard."""
    table = ties()
    table = table.assign(woman=(table["status"] == 1) & (np.arange(len(table)) % 2 == 0))
    fits = _by_cause(table, "status", duration="time", covariates=["x", "woman"])
    person = pd.DataFrame({"x": [0.3], "woman": [True]})
    got = predict_cumulative_incidence(fits, person, [5.0]).set_index("cause")["cumulative_incidence"]
    alone = predict_cumulative_incidence({1: fits[1]}, person, [5.0])["cumulative_incidence"].iloc[0]
    close([got[1], got[2]], [alone, 0.0], rtol=1e-12)


def test_predict_cumulative_incidence__of_one_cause_is_that_of_the_baseline() -> None:
    """Nobody died: 1 - the product of (1 - hazard), here by hand of three events."""
    table = pd.DataFrame({"time": [1.0, 2, 3, 4, 5, 6], "status": [1, 0, 1, 0, 1, 0], "x": [0.0, 1, 1, 0, 0, 1]})
    fit = fit_cox(table.assign(event=table["status"] == 1), duration="time", event="event", covariates=["x"])
    found = predict_cumulative_incidence({1: fit}, pd.DataFrame({"x": [1.0]}), [5.0])
    ratio = float(np.exp(fit.estimates["coef"][0]))
    at_risk = [3 + 3 * ratio, 2 + 2 * ratio, 1 + 1 * ratio]
    free = np.prod([1 - ratio / one for one in at_risk])
    close(found["cumulative_incidence"], [1 - free], rtol=1e-9)


def test_predict_cumulative_incidence__people_alike_have_the_same_risk_to_the_last_bit() -> None:
    """Ties in an AUC count half; rounding that differs from row to row would break them."""
    fits = _by_cause(ties(), "status", duration="time", covariates=["x", "z"])
    rng = np.random.default_rng(3)
    people = ties()[["x", "z"]].head(7)
    many = people.iloc[rng.integers(0, 7, 5000)].reset_index(drop=True)
    got = predict_cumulative_incidence(fits, many, [5.0])
    risks = got.loc[got["cause"] == 1, "cumulative_incidence"].to_numpy()
    assert len(np.unique(risks)) == len(people.drop_duplicates())
