"""Tests of proportional hazards against R's cox.zph, and follow-up cut into periods."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category
from analysis.statistics.survival import proportional_hazards_test, scaled_schoenfeld, split_follow_up
from analysis.statistics.survival.cox import fit_cox
from tests.analysis.statistics.references import close, expected, heart, lung, veteran
from tests.analysis.statistics.survival.test_cox import CASES, LUNG, fitted, reference

TESTED = [case for case in CASES if "zph" in reference(case)]


@pytest.mark.parametrize("transform", ["km", "rank", "identity", "log"])
@pytest.mark.parametrize("case", TESTED)
def test_proportional_hazards_test__equals_r(case: str, transform: Any) -> None:
    got = proportional_hazards_test(fitted(case), transform=transform, by_level=True)
    wanted = reference(case)["zph"][transform]
    close(got["chi2"], wanted["chisq"], rtol=1e-8)
    close(got["p"], wanted["p"], rtol=1e-6)
    assert got["df"].tolist() == wanted["df"]
    assert got["term"].iloc[-1] == "GLOBAL"


def test_proportional_hazards_test__strata_with_delayed_entry() -> None:
    fit = fit_cox(
        heart(),
        duration="stop",
        entry="start",
        event="event",
        covariates=["age", "year", "transplant"],
        strata=["surgery"],
    )
    wanted = expected("cox")["heart_strata"]
    close(proportional_hazards_test(fit)["chi2"], wanted["zph"]["chi2"], rtol=1e-8)
    ranked = proportional_hazards_test(fit, transform="rank")
    close(ranked["chi2"], wanted["zph_rank"]["chi2"], rtol=1e-8)


def test_proportional_hazards_test__takes_the_levels_of_a_category_together() -> None:
    covariates = ["trt", Category("celltype", reference="squamous"), "karno"]
    fit = fit_cox(veteran(), duration="time", event="status", covariates=covariates)
    together = proportional_hazards_test(fit)
    wanted = expected("cox")["veteran_terms"]
    assert together["term"].tolist() == ["trt", "celltype", "karno", "GLOBAL"]
    close(together[["chi2", "df", "p"]], np.transpose([wanted[k] for k in ("chi2", "df", "p")]), rtol=1e-8)
    levels = proportional_hazards_test(fit, by_level=True)
    close(levels["chi2"], expected("cox")["veteran_levels"]["chi2"], rtol=1e-8)


def test_proportional_hazards_test__does_without_a_level_that_has_no_estimate() -> None:
    table = veteran()
    table.loc[table["celltype"] == "adeno", "status"] = 0
    kinds = Category("celltype", reference="squamous")
    fit = fit_cox(table, duration="time", event="status", covariates=["trt", kinds])
    without = fit_cox(table[table["celltype"] != "adeno"], duration="time", event="status", covariates=["trt", kinds])
    rows = proportional_hazards_test(fit)
    pd.testing.assert_frame_equal(rows, proportional_hazards_test(without), rtol=1e-9)
    assert rows["df"].tolist() == [1, 2, 3]


def test_proportional_hazards_test__refuses_another_word() -> None:
    with pytest.raises(ValueError, match="transform is 'sqrt', expected km, rank, identity or log"):
        proportional_hazards_test(fit_cox(lung(), **LUNG), transform="sqrt")  # type: ignore[arg-type]


def test_proportional_hazards_test__refuses_events_at_one_time() -> None:
    table = pd.DataFrame({"time": [3, 3, 3, 5, 6], "event": [1, 1, 1, 0, 0], "x": [1, 3, 2, 2, 1]})
    fit = fit_cox(table, duration="time", event="event", covariates=["x"])
    with pytest.raises(ValueError, match="all 3 events are at one value of the transform 'km'"):
        proportional_hazards_test(fit)


def test_scaled_schoenfeld__equals_r() -> None:
    wanted = expected("cox")["lung_schoenfeld"]
    got = scaled_schoenfeld(fit_cox(lung(), **LUNG))
    values = got["value"].to_numpy().reshape(-1, 3)
    times, shape = got["time"].to_numpy()[::3], got["transformed_time"].to_numpy()[::3]
    close(times, wanted["time"], rtol=0)
    close(shape, wanted["x"], rtol=1e-12)
    # Within tied times R has another order of people: compare sums at each time.
    theirs = np.array(wanted["y"])
    for time in np.unique(times):
        close(values[times == time].sum(axis=0), theirs[times == time].sum(axis=0), rtol=1e-7)


def test_scaled_schoenfeld__breslow() -> None:
    fit = fit_cox(lung(), ties="breslow", **LUNG)
    got = scaled_schoenfeld(fit, transform="identity")
    mine = got["value"].to_numpy().reshape(-1, 3)
    theirs = np.array(expected("cox")["lung_breslow_schoenfeld"])
    close(np.sort(mine, axis=0), np.sort(theirs, axis=0), rtol=1e-7)


def test_split_follow_up__equals_r() -> None:
    wanted = expected("cox")["split"]
    pieces = split_follow_up(lung(), cuts=[100, 365], duration="time", event="event")
    assert (len(pieces), pieces["event"].sum()) == (wanted["rows"], wanted["events"])
    assert (pieces["time"] - pieces["entry"]).sum() == wanted["time"]
    assert pieces["period"].value_counts().sort_index().tolist() == wanted["period"]
    for period in (1, 2, 3):
        pieces[f"sex_{period}"] = pieces["sex"] * (pieces["period"] == period)
    fit = fit_cox(pieces, duration="time", event="event", entry="entry", covariates=["age", "sex_1", "sex_2", "sex_3"])
    close(np.sort(fit.estimates["coef"]), np.sort(wanted["fit"]["coef"]), rtol=1e-8)
    close(np.sort(fit.estimates["se"]), np.sort(wanted["fit"]["se"]), rtol=1e-8)


def test_split_follow_up__periods_of_veteran_equal_r() -> None:
    """Hazard ratios of karno in three strata of time, R's vignette on time-dependent effects."""
    wanted = expected("survival")["veteran"]["split"]
    pieces = split_follow_up(veteran(), cuts=[90, 180], duration="time", event="status")
    for period in (1, 2, 3):
        pieces[f"karno_{period}"] = pieces["karno"] * (pieces["period"] == period)
    fit = fit_cox(
        pieces,
        duration="time",
        event="status",
        entry="entry",
        strata=["period"],
        covariates=["trt", "prior", "karno_1", "karno_2", "karno_3"],
    )
    assert len(pieces) == int(wanted["nrow"])
    close(fit.estimates["coef"], wanted["coef"], rtol=1e-8)
    close(fit.estimates["se"], wanted["se"], rtol=1e-8)


def test_split_follow_up__at_every_event_gives_time_dependent_effects() -> None:
    """The effect of karno changing with log(time + 20): R's tt()."""
    wanted = expected("survival")["veteran"]["tt_log"]
    table = veteran()
    cuts = np.unique(table.loc[table["status"] == 1, "time"])
    pieces = split_follow_up(table, cuts=cuts, duration="time", event="status")
    pieces["tt"] = pieces["karno"] * np.log(pieces["time"] + 20)
    fit = fit_cox(pieces, duration="time", event="status", entry="entry", covariates=["trt", "prior", "karno", "tt"])
    close(fit.estimates["coef"], wanted["coef"], rtol=1e-8)
    close(fit.estimates["se"], wanted["se"], rtol=1e-8)
    close(fit.log_likelihood, wanted["loglik"], rtol=1e-10)


def test_split_follow_up__delayed_entry_keeps_the_fit() -> None:
    table = heart()
    pieces = split_follow_up(table, cuts=[10, 50, 50.5, 300], duration="stop", event="event", entry="start")
    arguments: dict[str, Any] = {
        "duration": "stop",
        "event": "event",
        "entry": "start",
        "covariates": ["age", "transplant"],
    }
    whole, cut = fit_cox(table, **arguments), fit_cox(pieces, **arguments)
    close(cut.estimates["coef"], whole.estimates["coef"], rtol=1e-9)
    close(cut.log_likelihood, whole.log_likelihood, rtol=1e-12)
    assert (pieces["start"] < pieces["stop"]).all()
    assert pieces["event"].sum() == table["event"].sum()


def test_split_follow_up__refuses() -> None:
    table = lung()
    arguments: dict[str, Any] = {"duration": "time", "event": "event"}
    for cuts in ([], [0, 5], [5, 5], [9, 5]):
        with pytest.raises(ValueError, match="expected ascending times above 0"):
            split_follow_up(table, cuts=cuts, **arguments)
    with pytest.raises(ValueError, match="column 'entry' exists"):
        split_follow_up(table.assign(entry=0), cuts=[5], **arguments)
    with pytest.raises(TableRefused, match="neither 0 nor 1"):
        split_follow_up(table, cuts=[5], duration="time", event="status")
