"""A level without events: the other terms, tests and concordance equal R's in the limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.accuracy.concordance import concordance, delta_concordance, uno_concordance
from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category
from analysis.statistics.survival import CoxFit, fit_fine_gray
from analysis.statistics.survival.cox import fit_cox
from tests.analysis.statistics.references import GOLDEN, close, expected

R = expected("separated")
LEVEL = Category("level", reference="a")
OTHERS = ["x", "male", "level=b"]


def people() -> pd.DataFrame:
    table = pd.read_csv(GOLDEN / "separated" / "people.csv")
    return table.assign(event=table["status"] == 1)


def fitted(*covariates: Any, table: pd.DataFrame | None = None, **more: Any) -> CoxFit:
    rows = people() if table is None else table
    return fit_cox(rows, duration="time", event="event", covariates=covariates, **more)


def large(**more: Any) -> CoxFit:
    return fitted("x", "male", LEVEL, **more)


def test_fit__equals_r_in_the_limit() -> None:
    fit = large()
    own = fit.estimates.set_index("term")
    close(own.loc[OTHERS, "coef"], R["coef"], rtol=1e-7)
    close(own.loc[OTHERS, "se"], R["se"], rtol=1e-7)
    close(fit.log_likelihood, R["loglik"], rtol=1e-9)
    assert np.isnan(own.loc["level=none", "coef"])
    close(large(cluster="home").estimates.set_index("term").loc[OTHERS, "se"], R["cluster_se"], rtol=1e-7)


def test_likelihood_ratio_test__has_a_limit_where_the_coefficient_has_none() -> None:
    found = large().likelihood_ratio_test(fitted("x", "male"))
    close(found.chi2, R["lr_level"][0], rtol=1e-7)
    assert found.df == R["lr_level_df"][0]
    close(large().likelihood_ratio_test(fitted("male", LEVEL)).chi2, R["lr_x"][0], rtol=1e-7)


def test_concordance__ranks_a_level_without_events_below_all_others() -> None:
    fit = large()
    found = concordance(fit)
    close([found.c, found.se], [R["c"][0], R["c_se"][0]], rtol=1e-7)
    assert found.counts["pairs"].tolist() == R["counts"]
    assert found.n == len(people())
    gain = delta_concordance(fit, fitted("x", "male"))
    close([gain.difference, gain.se], [R["c"][0] - R["c"][1], R["delta_se"][0]], rtol=1e-7)
    close(uno_concordance(fit, tau=15).c, R["uno"][0], rtol=1e-7)
    close(concordance(large(cluster="home")).se, R["cluster_c_se"][0], rtol=1e-7)


@pytest.mark.parametrize(("convention", "key", "rtol"), [("survival", "finegray", 1e-7), ("crr", "crr", 1e-6)])
def test_fine_gray__keeps_the_other_terms(convention: Any, key: str, rtol: float) -> None:
    fit = fit_fine_gray(
        people(),
        duration="time",
        event="status",
        event_of_interest=1,
        covariates=["x", "male", LEVEL],
        convention=convention,
    )
    own = fit.estimates.set_index("term")
    close(own.loc[OTHERS, "coef"], R[f"{key}_coef"], rtol=rtol)
    close(own.loc[OTHERS, "se"], R[f"{key}_se"], rtol=rtol)
    assert own.loc["level=none"].isna().all()
    assert "'level=none': none of the" in fit.warnings[0]
    if convention == "survival":
        close(fit.log_likelihood, R["finegray_loglik"], rtol=1e-9)
    with pytest.raises(TableRefused, match="level without an estimate"):
        fit.predict_cumulative_incidence(people().query("level == 'none'"), times=[5])
    assert len(fit.predict_cumulative_incidence(people().query("level == 'a'").head(3), times=[5])) == 3


def test_fine_gray__with_no_estimate_at_all_is_refused() -> None:
    table = people().assign(none=lambda t: t["level"] == "none")
    with pytest.raises(TableRefused, match="no covariate has an estimate"):
        fit_fine_gray(table, duration="time", event="status", event_of_interest=1, covariates=["none"])


def test_fit__a_reference_of_two_levels_without_events_is_as_the_other_level() -> None:
    table = people().assign(kind=lambda t: np.where(t["level"] == "none", "none", "some"))
    from_some, from_none = (
        fitted("x", "male", Category("kind", reference=one), table=table).estimates.set_index("term")
        for one in ("some", "none")
    )
    close(from_none.loc[["x", "male"], "coef"], from_some.loc[["x", "male"], "coef"], rtol=1e-10)
