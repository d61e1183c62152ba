"""Rubin's rules against mice and mitools, and by their laws."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from analysis.statistics.missing import PooledFit, pool_rubin, pool_scalar
from analysis.statistics.survival.cox import fit_cox

GOLDEN = Path(__file__).parents[2] / "golden"
EXPECTED = json.loads((GOLDEN / "rubin" / "expected.json").read_text(encoding="utf-8"))
FIGURES = ["coef", "se", "t", "df", "p", "lo", "hi", "riv", "lambda", "fmi"]


@dataclass(frozen=True)
class _Fit:
    estimates: pd.DataFrame
    covariance: pd.DataFrame
    n: int
    n_events: int | None = None


def _fit(terms: list[str], coef: Any, covariance: Any, n: int, n_events: int | None = None) -> _Fit:
    frame = pd.DataFrame({"term": terms, "coef": np.asarray(coef, float)})
    return _Fit(frame, pd.DataFrame(np.asarray(covariance), terms, terms), n, n_events)


LUNG = [_fit(**one) for one in EXPECTED["lung"]["fits"]]
NHANES = [_fit(**one) for one in EXPECTED["nhanes"]["fits"]]


def _drawn(seed: int, m: int = 4) -> list[_Fit]:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(3, 3))
    covariance = root @ root.T + 3 * np.eye(3)
    return [_fit(["a", "b", "c"], rng.normal(size=3), covariance, n=80) for _ in range(m)]


def _assert_pooled(found: PooledFit, expected: dict[str, Any]) -> None:
    assert found.complete_df == float(expected["complete_df"])
    table = pd.DataFrame(expected["estimates"])
    assert found.estimates["term"].tolist() == table["term"].tolist()
    assert_allclose(found.estimates[FIGURES], table[FIGURES], rtol=1e-12, atol=0)
    assert_allclose(found.covariance, expected["covariance"], rtol=1e-12, atol=0)


def test_pool_rubin__equals_mice_for_cox_fits() -> None:
    found = pool_rubin(LUNG)
    # mice takes the events (164 in lung without missing ph.ecog) less the terms.
    assert found.complete_df == 160
    _assert_pooled(found, EXPECTED["lung"]["pooled"])


def test_pool_rubin__equals_mice_for_infinite_complete_df() -> None:
    found = pool_rubin(LUNG, complete_df=math.inf, confidence=0.9)
    _assert_pooled(found, EXPECTED["lung"]["pooled_90_infinite"])


def test_pool_rubin__equals_mice_for_linear_fits() -> None:
    _assert_pooled(pool_rubin(NHANES), EXPECTED["nhanes"]["pooled"])


@pytest.mark.parametrize(("name", "complete_df"), [("finite", 227), ("infinite", math.inf)])
def test_pool_scalar__equals_mice(name: str, complete_df: float) -> None:
    given_ = EXPECTED["scalar"]
    found = pool_scalar(given_["estimates"], variances=given_["variances"], complete_df=complete_df)
    for key in ("estimate", "within", "between", "se", "df", "riv", "fmi", "lo", "hi"):
        assert_allclose(getattr(found, key), given_[name][key], rtol=1e-12, atol=0, err_msg=key)
    assert_allclose(found.lambda_, found.riv / (1 + found.riv), rtol=1e-12, atol=0)


def test_pool_scalar__hand_worked_figures() -> None:
    found = pool_scalar([1.0, 2.0, 3.0], variances=[1.0, 2.0, 3.0])
    # Within 2, between 1, total 2 + 4/3; df 2 (10/3 / (4/3))^2.
    assert (found.estimate, found.within, found.between) == (2, 2, 1)
    assert_allclose([found.se**2, found.riv, found.df], [10 / 3, 2 / 3, 12.5], rtol=1e-12, atol=0)


def test_pool_rubin__of_identical_cox_fits_is_the_fit() -> None:
    table = pd.read_csv(GOLDEN / "survival" / "data" / "lung.csv")
    table["died"] = table["status"] == 2
    fit = fit_cox(table, duration="time", event="died", covariates=["age", "sex"])
    found = pool_rubin([fit] * 3, complete_df=math.inf)
    same = ["coef", "se", "p", "hr", "hr_lo", "hr_hi"]
    assert_allclose(found.estimates[same], fit.estimates[same], rtol=1e-6, atol=0)
    assert_allclose(found.covariance, fit.covariance, rtol=1e-12, atol=0)
    assert (found.estimates["riv"].to_numpy() == 0).all()
    assert pool_rubin([fit] * 3).complete_df == fit.n_events - 2
    assert found.warnings == ()


def test_pool_rubin__has_hazard_ratios_only_where_the_fits_have() -> None:
    assert "hr" not in pool_rubin(NHANES).estimates


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_pool_rubin__order_of_fits_and_terms_does_not_matter(seed: int) -> None:
    fits = _drawn(seed)
    turned = [
        fits[0],
        *(
            replace(fit, estimates=fit.estimates.iloc[::-1], covariance=fit.covariance.iloc[::-1, [1, 0, 2]])
            for fit in reversed(fits[1:])
        ),
    ]
    pooled, other = pool_rubin(fits), pool_rubin(turned)
    assert_allclose(other.estimates[FIGURES], pooled.estimates[FIGURES], rtol=1e-9, atol=1e-12)
    assert_allclose(other.covariance, pooled.covariance, rtol=1e-12, atol=1e-13)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_pool_rubin__degrees_of_freedom_stay_below_those_of_complete_data(seed: int) -> None:
    found = pool_rubin(_drawn(seed), complete_df=50)
    assert (found.estimates["df"] < 50).all()
    assert found.estimates["fmi"].between(0, 1).all()


def test_pool_rubin__too_few_imputations_are_warned_of() -> None:
    (warning,) = pool_rubin(NHANES).warnings
    assert warning.startswith("5 imputations, and ")
    assert "are advised (White IR et al." in warning


def test_pool_rubin__takes_the_least_of_different_event_counts() -> None:
    fits = [replace(fit, n_events=events) for fit, events in zip(_drawn(1), [40, 38, 41, 40], strict=True)]
    found = pool_rubin(fits)
    assert found.complete_df == 35
    assert found.warnings[0].startswith("fits have 38 to 41 events")
    assert pool_rubin([replace(fit, n_events=2) for fit in fits]).complete_df == 1


def test_pool_rubin__refuses_what_is_no_set_of_fits() -> None:
    fits = _drawn(1)
    with pytest.raises(ValueError, match="1 fits, expected at least 2"):
        pool_rubin(fits[:1])
    with pytest.raises(TypeError, match="fit 0 is a int without estimates, covariance, n"):
        pool_rubin([3, 4])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="fits is a _Fit, expected a list"):
        pool_rubin(fits[0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="fits have 80, 80, 80, 79 rows"):
        pool_rubin([*fits[:3], replace(fits[3], n=79)])
    with pytest.raises(ValueError, match="complete_df is 0, expected"):
        pool_rubin(fits, complete_df=0)
    with pytest.raises(ValueError, match="confidence is 2"):
        pool_rubin(fits, confidence=2)


def test_pool_rubin__refuses_other_terms_and_missing_estimates() -> None:
    fits = _drawn(1)
    other = _fit(["a", "b", "d"], [1, 2, 3], np.eye(3), 80)
    with pytest.raises(ValueError, match="fit 1 has a, b, d as terms of the estimates, expected a, b, c"):
        pool_rubin([fits[0], other])
    with pytest.raises(ValueError, match="as terms of the rows of the covariance"):
        pool_rubin([fits[0], replace(fits[1], covariance=other.covariance)])
    lacking = _fit(["a", "b", "c"], [1, np.nan, 3], np.eye(3), 80)
    with pytest.raises(ValueError, match=r"'b' has no estimate in fit 1 \(1 of 2 fits\)"):
        pool_rubin([fits[0], lacking])
    with pytest.raises(ValueError, match="'c' has no variance above 0 in fit 1"):
        pool_rubin([fits[0], _fit(["a", "b", "c"], [1, 2, 3], np.diag([1.0, 1, 0]), 80)])


def test_pool_scalar__refuses_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="1 estimates and 1 variances"):
        pool_scalar([1.0], variances=[1.0])
    with pytest.raises(ValueError, match="2 estimates and 3 variances"):
        pool_scalar([1.0, 2.0], variances=[1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match=r"estimates are .* expected finite"):
        pool_scalar([1.0, math.nan], variances=[1.0, 1.0])
    with pytest.raises(ValueError, match=r"variances are .* expected finite numbers above 0"):
        pool_scalar([1.0, 2.0], variances=[1.0, 0.0])
    with pytest.raises(ValueError, match="complete_df is -1"):
        pool_scalar([1.0, 2.0], variances=[1.0, 1.0], complete_df=-1)
