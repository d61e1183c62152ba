"""Fine and Gray against survival's finegray + coxph and against cmprsk's crr."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused
from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.fine_gray import FineGrayFit, fit_fine_gray
from tests.analysis.statistics.references import close, expected, mgus2, ties

MGUS: dict[str, Any] = {
    "duration": "etime",
    "event": "ev",
    "event_of_interest": 1,
    "covariates": ["age", "male", "mspike", "hgb"],
}
TIES: dict[str, Any] = {"duration": "time", "event": "status", "event_of_interest": 1, "covariates": ["x", "z"]}


def _compare(fit: FineGrayFit, wanted: dict[str, Any], *, rtol: float) -> None:
    close(fit.estimates["coef"], wanted["coef"], rtol=rtol)
    close(fit.estimates["se"], wanted.get("se_robust") or wanted["se"], rtol=rtol)
    close(np.sqrt(np.diagonal(fit.covariance)), fit.estimates["se"], rtol=1e-12)


def test_fit_fine_gray__equals_finegray_and_coxph() -> None:
    fit = fit_fine_gray(mgus2(), missing="drop", **MGUS)
    wanted = expected("survival")["mgus2"]["finegray_coxph"]
    _compare(fit, wanted, rtol=1e-8)
    close(fit.estimates["se_model"], wanted["se_naive"], rtol=1e-8)
    close(fit.log_likelihood, wanted["loglik"], rtol=1e-10)
    assert (fit.n, fit.n_events, fit.n_competing, fit.n_dropped_missing) == (1360, 114, 849, 24)
    assert fit.warnings == ()


def test_fit_fine_gray__equals_crr_at_its_default_tolerance() -> None:
    fit = fit_fine_gray(mgus2(complete=True), convention="crr", **MGUS)
    wanted = expected("survival")["mgus2"]["crr"]
    _compare(fit, wanted, rtol=1e-6)
    close(fit.log_likelihood, [wanted["loglik_null"], wanted["loglik"]], rtol=1e-10)


@pytest.mark.parametrize(
    ("key", "table", "arguments"), [("mgus2_crr", mgus2(complete=True), MGUS), ("ties_crr", ties(), TIES)]
)
def test_fit_fine_gray__equals_crr_run_to_the_end(key: str, table: pd.DataFrame, arguments: dict[str, Any]) -> None:
    wanted = expected("cox")[key]
    fit = fit_fine_gray(table, convention="crr", **arguments)
    _compare(fit, wanted, rtol=1e-7)
    close(fit.log_likelihood, wanted["loglik"], rtol=1e-10)


@pytest.mark.parametrize(("key", "cluster"), [("ties_finegray", None), ("ties_finegray_cluster", "home")])
def test_fit_fine_gray__heavy_ties_and_clusters(key: str, cluster: str | None) -> None:
    fit, wanted = fit_fine_gray(ties(), cluster=cluster, **TIES), expected("cox")[key]
    _compare(fit, wanted, rtol=1e-8)
    close(fit.log_likelihood, wanted["loglik"], rtol=1e-10)
    assert fit.n_clusters == (None if cluster is None else ties()["home"].nunique())


def test_predict_cumulative_incidence__equals_survfit_of_the_expanded_fit() -> None:
    wanted = expected("cox")["ties_finegray"]
    got = fit_fine_gray(ties(), **TIES).predict_cumulative_incidence(pd.DataFrame(wanted["new"]), times=wanted["times"])
    values = got["cumulative_incidence"].to_numpy().reshape(2, -1).T
    close(values, wanted["cif"], rtol=1e-8)


@pytest.mark.parametrize("convention", ["survival", "crr"])
def test_fit_fine_gray__without_competing_events_is_cox(convention: Any) -> None:
    table = ties().assign(status=lambda t: t["status"] % 2)
    fit = fit_fine_gray(table, convention=convention, **TIES)
    method: Any = "efron" if convention == "survival" else "breslow"
    cox = fit_cox(table, duration="time", event="status", covariates=["x", "z"], ties=method, robust=True)
    close(fit.estimates["coef"], cox.estimates["coef"], rtol=1e-9)
    close(fit.estimates["se"], cox.estimates["se"], rtol=1e-9)


def test_fit_fine_gray__the_order_of_rows_does_not_matter() -> None:
    shuffled = ties().sample(frac=1, random_state=5)
    for convention in ("survival", "crr"):
        a = fit_fine_gray(ties(), convention=convention, **TIES)  # type: ignore[arg-type]
        b = fit_fine_gray(shuffled, convention=convention, **TIES)  # type: ignore[arg-type]
        pd.testing.assert_frame_equal(a.estimates, b.estimates, rtol=1e-9)


@pytest.mark.parametrize(
    ("changes", "arguments", "error", "message"),
    [
        ({"status": 3}, {}, TableRefused, "has 400 statuses outside the codes .*expected one of 0, 1, 2"),
        ({"status": 2}, {}, TableRefused, "column 'status' has no event 1, expected some"),
        ({"time": -1}, {}, TableRefused, "column 'time' has 400 negative or zero times"),
        ({"x": np.nan}, {}, TableRefused, "column 'x' has 400 missing values"),
        ({}, {"event_of_interest": 3}, ValueError, "event_of_interest is 3, expected one of"),
        ({}, {"convention": "sas"}, ValueError, "convention is 'sas'"),
    ],
)
def test_fit_fine_gray__refuses(
    changes: dict[str, Any], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        fit_fine_gray(ties().assign(**changes), **(TIES | arguments))


def test_fit_fine_gray__other_codes_are_named_by_causes() -> None:
    table = ties().assign(status=lambda t: t["status"].map({0: 0, 1: 7, 2: 9}))
    fit = fit_fine_gray(table, causes=(7, 9), **(TIES | {"event_of_interest": 7}))
    same = fit_fine_gray(ties(), **TIES)
    pd.testing.assert_frame_equal(fit.estimates, same.estimates, rtol=0, atol=0)


def test_predict_cumulative_incidence__of_a_fit_refuses_times_that_are_none() -> None:
    fit = fit_fine_gray(ties(), **TIES)
    assert len(fit.predict_cumulative_incidence(ties().head(3), times=5)) == 3
    with pytest.raises(ValueError, match="times are -1, expected finite times of 0 or above"):
        fit.predict_cumulative_incidence(ties(), times=-1)
