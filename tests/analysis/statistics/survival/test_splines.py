"""Restricted cubic splines against Hmisc and rms; the shape that they must have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused
from analysis.statistics.survival import CoxFit, proportional_hazards_test
from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.splines import (
    RestrictedCubicSpline,
    nonlinearity_test,
    restricted_cubic_spline,
    spline_contrast,
)
from tests.analysis.statistics.references import close, expected, lung


@pytest.mark.parametrize("n_knots", [3, 4, 5, 6, 7])
def test_restricted_cubic_spline__knots_equal_hmisc(n_knots: int) -> None:
    spline = restricted_cubic_spline(lung(), column="age", n_knots=n_knots)
    close(spline.knots, expected("splines")["knots"][n_knots - 3], rtol=1e-12)


def test_restricted_cubic_spline__few_rows_take_the_fifth_values() -> None:
    spline = restricted_cubic_spline(lung().head(60), column="age")
    close(spline.knots, expected("splines")["few"], rtol=1e-12)


def test_basis__equals_hmisc() -> None:
    spline = restricted_cubic_spline(lung(), column="age", n_knots=5)
    got = spline.basis(np.array([30.0, 45, 60, 75, 90]))
    close(got, expected("splines")["basis"], rtol=1e-12, atol=1e-12)


def test_basis__is_straight_beyond_the_outer_knots_and_smooth_between() -> None:
    spline = RestrictedCubicSpline("x", (1.0, 2.0, 4.0, 7.0))
    for outside in (np.arange(-5.0, 1.1), np.arange(7.0, 20.0)):
        assert np.abs(np.diff(spline.basis(outside), n=2, axis=0)).max() < 1e-12
    step = 1e-4
    inside = np.arange(0.5, 8, step)
    second = np.diff(spline.basis(inside), n=2, axis=0) / step**2
    assert np.abs(np.diff(second, axis=0)).max() < 0.01


def _fit() -> tuple[CoxFit, RestrictedCubicSpline]:
    spline = restricted_cubic_spline(lung(), column="age")
    fit = fit_cox(lung(), duration="time", event="event", covariates=[spline, "sex"])
    return fit, spline


def test_fit_cox__with_a_spline_equals_rms() -> None:
    fit, spline = _fit()
    wanted = expected("splines")
    assert fit.estimates["term"].tolist() == ["age", "age'", "age''", "sex"]
    close(fit.estimates["coef"], wanted["coef"], rtol=1e-7)
    close(fit.estimates["se"], wanted["se"], rtol=1e-7)
    close(nonlinearity_test(fit, spline=spline), wanted["nonlinear"], rtol=1e-7)


def test_spline_contrast__equals_rms() -> None:
    fit, spline = _fit()
    wanted = expected("splines")["contrast"]
    got = spline_contrast(fit, spline=spline, values=wanted["values"], reference=65)
    close(got["log_hr"], wanted["log_hr"], rtol=1e-7)
    close(got["se"], wanted["se"], rtol=1e-7)
    close(np.log(got["hr_lo"]), wanted["lo"], rtol=1e-6)
    close(np.log(got["hr_hi"]), wanted["hi"], rtol=1e-6)


def test_spline_contrast__the_reference_has_a_hazard_ratio_of_1_without_error() -> None:
    fit, spline = _fit()
    row = spline_contrast(fit, spline=spline, values=[65], reference=65).iloc[0]
    assert row[["hr", "hr_lo", "hr_hi", "se"]].tolist() == [1, 1, 1, 0]


def test_proportional_hazards_test__takes_the_terms_of_a_spline_together() -> None:
    rows = proportional_hazards_test(_fit()[0])
    assert rows["df"].tolist() == [3, 1, 4]


@pytest.mark.parametrize("seed", [1, 3, 5])
def test_fit_cox__a_spline_of_a_heavy_tail_is_not_taken_for_separation(seed: int) -> None:
    """Its terms are nearly dependent; the same space spanned by others has the same likelihood."""
    rng = np.random.default_rng(seed)
    x = np.exp(rng.normal(2, 1.6, 400))
    event, censored = rng.exponential(10, 400) / (1 + x) ** 0.1, rng.uniform(1, 12, 400)
    table = pd.DataFrame({"x": x, "time": np.minimum(event, censored), "event": event <= censored})
    spline = restricted_cubic_spline(table, column="x", n_knots=5)
    basis = spline.basis(x) - spline.basis(x).mean(axis=0)
    spanning = np.linalg.qr(basis / basis.std(axis=0))[0]
    names = [f"q{place}" for place in range(4)]
    table[names] = spanning
    arguments: dict[str, Any] = {"duration": "time", "event": "event"}
    ours = fit_cox(table, covariates=[spline], **arguments)
    other = fit_cox(table, covariates=names, **arguments)
    close(ours.log_likelihood, other.log_likelihood, rtol=1e-9)
    close(nonlinearity_test(ours, spline=spline).df, 3, rtol=0)


def test_spline__predicts_for_other_tables_with_the_knots_of_the_fit() -> None:
    fit, spline = _fit()
    new = pd.DataFrame({"age": [45.0, 80.0], "sex": [1, 1]})
    log_hr = spline_contrast(fit, spline=spline, values=[45], reference=80)["log_hr"][0]
    low, high = np.log(fit.relative_risks(new)[0])
    assert low - high == pytest.approx(log_hr, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_knots": 2}, ValueError, "n_knots is 2, expected 3 to 7"),
        ({"knots": [50, 60]}, ValueError, "expected 3 or more ascending numbers"),
        ({"knots": [50, 70, 60]}, ValueError, "expected 3 or more ascending numbers"),
        ({"column": "ph.ecog"}, TableRefused, "column 'ph.ecog' has knots at 0, 1, 1, 2 with n_knots=4"),
        ({"column": "wt.loss"}, TableRefused, "column 'wt.loss' has 14 missing values"),
    ],
)
def test_restricted_cubic_spline__refuses(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        restricted_cubic_spline(lung(), **({"column": "age"} | arguments))


def test_spline_functions__refuse_a_spline_that_is_not_in_the_fit() -> None:
    fit, spline = _fit()
    other = RestrictedCubicSpline("age", (40.0, 60.0, 80.0))
    with pytest.raises(ValueError, match=r"the spline of 'age' with knots \(40.0, 60.0, 80.0\) is not"):
        nonlinearity_test(fit, spline=other)
    with pytest.raises(ValueError, match="expected finite ones"):
        spline_contrast(fit, spline=spline, values=[np.nan], reference=60)
