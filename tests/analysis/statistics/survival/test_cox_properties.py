"""What must hold for a Cox fit whatever the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.accuracy.concordance import concordance
from analysis.statistics.survival import CoxFit, proportional_hazards_test, scaled_schoenfeld
from analysis.statistics.survival.cox import fit_cox
from tests.analysis.statistics.references import close

seeds = st.integers(0, 10**6)
quick = settings(max_examples=15, deadline=None)


def _people(seed: int, *, n: int = 80, tied: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, group = rng.normal(size=n), rng.integers(0, 3, n)
    time = 6 * rng.exponential(size=n) * np.exp(-0.5 * x) + 0.5
    table = pd.DataFrame(
        {
            "time": np.ceil(time) if tied else time,
            "event": rng.random(n) < 0.7,
            "x": x,
            "z": rng.random(n) < 0.5,
            "group": group,
            "id": rng.permutation(n),
        }
    )
    return table.assign(entry=lambda t: np.floor(t["time"] * rng.uniform(0, 0.9, n)))


def _fit(table: pd.DataFrame, **more: Any) -> CoxFit:
    arguments = {"duration": "time", "event": "event", "covariates": ["x", "z"]} | more
    return fit_cox(table, **arguments)


ENTRY = {"entry": "entry", "strata": ["group"]}


@quick
@given(seeds)
def test_weight_2__is_the_row_twice(seed: int) -> None:
    """Under Breslow's ties; under Efron's tied copies share the risk set and weights do not."""
    table = _people(seed)
    twice = pd.concat([table, table[table["id"] % 2 == 0]])
    weighted = table.assign(w=np.where(table["id"] % 2 == 0, 2, 1))
    one = _fit(weighted, ties="breslow", weights="w", **ENTRY)
    two = _fit(twice, ties="breslow", **ENTRY)
    for column in ("coef", "se"):
        close(one.estimates[column], two.estimates[column], rtol=1e-7, atol=1e-9)
    close(one.log_likelihood, two.log_likelihood, rtol=1e-10)
    assert concordance(one).c == pytest.approx(concordance(two).c, rel=1e-12)


@quick
@given(seeds, st.sampled_from(["efron", "breslow"]))
def test_order_of_rows__does_not_matter(seed: int, ties: Any) -> None:
    table = _people(seed)
    more = ENTRY | {"ties": ties, "robust": True}
    one, two = _fit(table, **more), _fit(table.sample(frac=1, random_state=seed), **more)
    pd.testing.assert_frame_equal(one.estimates, two.estimates, rtol=1e-7, atol=1e-9)
    a, b = (proportional_hazards_test(fit) for fit in (one, two))
    pd.testing.assert_frame_equal(a, b, rtol=1e-6, atol=1e-9)
    assert concordance(one).se == pytest.approx(concordance(two).se, rel=1e-9)


@quick
@given(seeds, st.floats(-1e4, 1e4), st.sampled_from([1e-6, 0.1, -3.0, 1e5]))
def test_shift_and_scale__of_a_covariate(seed: int, shift: float, scale: float) -> None:
    """The hazard ratio is per unit, and where 0 lies does not matter."""
    table = _people(seed)
    moved = table.assign(x=shift + scale * table["x"])
    # A shift of 1e4 leaves 12 digits of x, or 6 where it is scaled down by 1e-6.
    rtol = 1e-8 + 1e-11 * abs(shift / scale)
    one, two = _fit(table, **ENTRY), _fit(moved, **ENTRY)
    if rtol > 1e-4:
        return
    close(two.estimates["coef"] * [scale, 1], one.estimates["coef"], rtol=rtol, atol=1e-8)
    close(two.estimates["se"] * [abs(scale), 1], one.estimates["se"], rtol=rtol)
    close(two.log_likelihood, one.log_likelihood, rtol=1e-6)


@quick
@given(seeds)
def test_cluster_by_row__is_robust(seed: int) -> None:
    table = _people(seed)
    robust, clustered = _fit(table, robust=True, **ENTRY), _fit(table, cluster="id", **ENTRY)
    close(clustered.estimates["se"], robust.estimates["se"], rtol=1e-10)
    assert (robust.n_clusters, clustered.n_clusters) == (None, 80)


@quick
@given(seeds)
def test_without_ties__efron_is_breslow(seed: int) -> None:
    table = _people(seed, tied=False)
    efron, breslow = _fit(table, robust=True), _fit(table, robust=True, ties="breslow")
    pd.testing.assert_frame_equal(efron.estimates, breslow.estimates, rtol=1e-10)


@quick
@given(seeds)
def test_score_residuals_and_schoenfeld__add_up_to_the_score(seed: int) -> None:
    """At the maximum the unscaled residuals sum to 0; the mean of the scaled is the coefficient."""
    fit = _fit(_people(seed), **ENTRY)
    sums = scaled_schoenfeld(fit).groupby("term", sort=False)["value"].mean()
    close(sums, fit.estimates["coef"], rtol=1e-6, atol=1e-7)


@quick
@given(seeds)
def test_entries_at_0_and_one_stratum__change_nothing(seed: int) -> None:
    table = _people(seed).assign(zero=0, one="all")
    plain, same = _fit(table), _fit(table, entry="zero", strata=["one"])
    pd.testing.assert_frame_equal(plain.estimates, same.estimates, rtol=0, atol=1e-12)
    assert concordance(plain).c == concordance(same).c


@quick
@given(seeds)
def test_strata__add_their_likelihoods(seed: int) -> None:
    """With one covariate fixed at 0 each stratum's null likelihood stands alone."""
    table = _people(seed)
    parts = [_fit(part, covariates=["x"]).log_likelihood.null for _, part in table.groupby("group")]
    whole = _fit(table, covariates=["x"], strata=["group"]).log_likelihood.null
    assert whole == pytest.approx(sum(parts), rel=1e-12)


def test_many_strata__matched_sets_equal_conditional_logistic_counts() -> None:
    """One event and one control a set, all of one time: the odds ratio is b / c of the pairs."""
    rows = []
    for number, (case, control) in enumerate([(1, 0)] * 30 + [(0, 1)] * 12 + [(1, 1)] * 20):
        rows += [(number, 1, True, case), (number, 1, False, control)]
    table = pd.DataFrame(rows, columns=["set", "time", "event", "x"])
    fit = fit_cox(table, duration="time", event="event", covariates=["x"], strata=["set"])
    assert fit.estimates["hr"][0] == pytest.approx(30 / 12, rel=1e-9)
    assert fit.estimates["se"][0] == pytest.approx((1 / 30 + 1 / 12) ** 0.5, rel=1e-9)


def test_outlier_far_away__is_fitted_without_a_word_on_the_console() -> None:
    """Full steps of Newton's method overflow here; halved ones arrive. Warnings are errors."""
    table = _people(1, n=60)
    table.loc[0, "x"] = 5e4
    fit = _fit(table)
    gradient = scaled_schoenfeld(fit).groupby("term", sort=False)["value"].mean()
    close(gradient, fit.estimates["coef"], rtol=1e-6, atol=1e-7)
