"""Concordance against R's, against a count of all pairs, and what must hold for any data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.accuracy.concordance import concordance, count_pairs, delta_concordance, uno_concordance
from analysis.statistics.survival import CoxFit
from analysis.statistics.survival.cox import fit_cox
from tests.analysis.statistics.references import close, expected, heart, lung, rossi
from tests.analysis.statistics.survival.test_cox import CASES, LUNG, WEIGHTED, fitted, reference


@pytest.mark.parametrize("case", CASES)
def test_concordance__equals_r(case: str) -> None:
    got, wanted = concordance(fitted(case)), reference(case)["concordance"]
    close(got.c, wanted["C"], rtol=1e-10)
    close(got.se, wanted["se"], rtol=1e-8)
    assert got.counts["pairs"].tolist() == wanted["count"][:3]
    assert got.lo < got.c < got.hi


def test_concordance__of_a_few_events_stays_within_0_and_1() -> None:
    """Three events, two of them of the highest risks: c +- 1.96 se would go beyond 1."""
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"time": rng.uniform(1, 9, 300), "event": False, "x": np.linspace(-3, 3, 300)})
    table.loc[[299, 298, 270], ["time", "event"]] = [[1.0, True], [2.0, True], [1.5, True]]
    found = concordance(fit_cox(table, duration="time", event="event", covariates=["x"]))
    assert found.c + 1.96 * found.se > 1 - 1e-3
    assert 0 < found.lo < found.c < found.hi < 1
    # By hand: odds times exp of 1.96 errors of the logit.
    width = 1.959964 * found.se / (found.c * (1 - found.c))
    odds = found.c / (1 - found.c) * np.exp(width)
    close(found.hi, odds / (1 + odds), rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "arguments"), [("rossi_weighted", {}), ("rossi_weighted_cluster", {"cluster": "home"})]
)
def test_concordance__weights(key: str, arguments: dict[str, Any]) -> None:
    got = concordance(fit_cox(rossi(), weights="w", **WEIGHTED, **arguments))
    close(got.c, expected("cox")[key]["c"], rtol=1e-10)
    close(got.se, expected("cox")[key]["c_se"], rtol=1e-8)


def test_concordance__strata_with_delayed_entry() -> None:
    fit = fit_cox(
        heart(),
        duration="stop",
        entry="start",
        event="event",
        covariates=["age", "year", "transplant"],
        strata=["surgery"],
    )
    wanted = expected("cox")["heart_strata"]
    close(concordance(fit).c, wanted["c"], rtol=1e-10)
    close(concordance(fit).se, wanted["c_se"], rtol=1e-8)


@pytest.mark.parametrize(("key", "tau"), [("uno_G2", None), ("uno_G2_ymax500", 500)])
def test_uno_concordance__equals_r(key: str, tau: float | None) -> None:
    got, wanted = (uno_concordance(fit_cox(lung(), **LUNG), tau=tau), expected("survival")["lung"][key])
    close(got.c, wanted["C"], rtol=1e-10)
    close(got.se, wanted["se"], rtol=1e-8)


def test_uno_concordance__refuses() -> None:
    with pytest.raises(ValueError, match="the fit has delayed entry"):
        uno_concordance(fitted("heart entry"))
    with pytest.raises(ValueError, match="tau is 0, expected a time above 0"):
        uno_concordance(fit_cox(lung(), **LUNG), tau=0)


def _two() -> tuple[CoxFit, CoxFit]:
    return fit_cox(lung(), **LUNG), fit_cox(lung(), **(LUNG | {"covariates": ["age", "sex"]}))


def test_delta_concordance__equals_r() -> None:
    large, small = _two()
    got, wanted = delta_concordance(large, small), expected("survival")["lung"]["deltaC"]
    close([got.c_b, got.c_a], wanted["C"], rtol=1e-10)
    close(got.difference, wanted["diff"], rtol=1e-10)
    close(got.se, wanted["se_diff"], rtol=1e-8)
    assert got.nested


def test_delta_concordance__swapped_flips_the_sign() -> None:
    large, small = _two()
    forth, back = delta_concordance(large, small), delta_concordance(small, large)
    assert (back.difference, back.se) == (-forth.difference, forth.se)
    assert (back.lo, back.hi) == (-forth.hi, -forth.lo)


def test_delta_concordance__refuses_other_people() -> None:
    large, _ = _two()
    others = fit_cox(lung().iloc[1:], **LUNG)
    with pytest.raises(ValueError, match="226 and 225 rows that are not the same people"):
        delta_concordance(large, others)
    clustered = fit_cox(lung(), cluster="inst", **LUNG)
    with pytest.raises(ValueError, match="not the same people with the same outcome and clusters"):
        delta_concordance(large, clustered)


def test_concordance__without_a_pair_is_refused() -> None:
    table = pd.DataFrame({"time": [5, 5, 3, 3], "event": [1, 1, 0, 0], "x": [1, 2, 1.5, 3]})
    with pytest.raises(ValueError, match="no pair is comparable"):
        concordance(fit_cox(table, duration="time", event="event", covariates=["x"]))


def _brute(exits: Any, events: Any, risk: Any, entries: Any, stratum: Any, weights: Any) -> list[float]:
    totals = [0.0, 0.0, 0.0]
    for i in np.flatnonzero(events):
        for j in range(len(exits)):
            later = exits[j] > exits[i] or (exits[j] == exits[i] and not events[j])
            if later and entries[j] < exits[i] and stratum[i] == stratum[j]:
                kind = 0 if risk[i] > risk[j] else 1 if risk[i] < risk[j] else 2
                totals[kind] += weights[i] * weights[j]
    return totals


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.booleans(), st.booleans())
def test_count_pairs__equals_a_count_of_all_pairs(seed: int, n: int, delayed: bool, stratified: bool) -> None:
    rng = np.random.default_rng(seed)
    exits = rng.integers(2, 9, n).astype(float)
    entries = np.floor(exits * rng.uniform(0, 0.9, n)) if delayed else np.zeros(n)
    stratum = rng.integers(0, 3, n) if stratified else np.zeros(n, dtype=np.int64)
    events, risk = rng.random(n) < 0.6, rng.integers(0, 5, n).astype(float)
    weights = rng.integers(1, 4, n).astype(float)
    got = count_pairs(
        exits,
        events,
        risk,
        entries=entries if delayed else None,
        stratum=stratum,
        weights=weights,
        event_weights=np.ones(n),
    )
    assert list(got.totals) == _brute(exits, events, risk, entries, stratum, weights)
    for both, total in zip((got.concordant, got.discordant, got.tied_risk), got.totals, strict=True):
        assert weights @ both == 2 * total
