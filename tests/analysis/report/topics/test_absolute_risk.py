"""Absolute and standardised risk: exact averages, repeated cross-fitting, few events, no deaths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.report.topics import absolute_risk
from analysis.report.topics.rates import _at_risk
from analysis.statistics.design import Category
from analysis.statistics.survival.cause_specific import predict_cumulative_incidence
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData
from analysis.study.settings import Release
from tests.analysis.report.builders import study_data
from tests.analysis.report.outcome_rows import one, rows_of

COVARIATES = ["lvh", "age_years", Category("sex", reference="female")]
GAIN = f"{absolute_risk.AUC}{absolute_risk._GAIN}"


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(n=1500, seed=2)


def seeded(data: StudyData, seed: int, **more: object) -> StudyData:
    return replace(data, study=data.study.model_copy(update={"seed": seed, **more}))


def without_deaths(data: StudyData) -> StudyData:
    """Who died is lost on that day."""
    own = data.follow_up
    died = own["status"] == 2
    changed = own.assign(status=own["status"].mask(died, 0), end_reason=own["end_reason"].mask(died, "lost"))
    return replace(data, follow_up=changed)


def test_standardised__is_the_mean_risk_of_everybody(data: StudyData) -> None:
    """By predicting each person with and without LVH, with ages that are all different."""
    rng = np.random.default_rng(1)
    ages = data.ecgs["age_years"] + rng.uniform(0, 1, len(data.ecgs))
    own = seeded(replace(data, ecgs=data.ecgs.assign(age_years=ages)), 1, bootstrap=0)
    rows = rows_of(own, "standardised").set_index("measure")
    table = own.analysed("af").dropna(subset=["lvh", "age_years", "sex"])
    fits = {
        cause: fit_cox(
            table.assign(own=table["status_code"] == cause), duration="years", event="own", covariates=COVARIATES
        )
        for cause in (1, 2)
    }
    at = float(rows["unit_value"].iloc[0])
    for lvh, measure in ((1.0, "risk if all had LVH"), (0.0, "risk if none had LVH")):
        found = predict_cumulative_incidence(fits, table.assign(lvh=lvh), [at])
        expected = found.loc[found["cause"] == 1, "cumulative_incidence"].mean()
        assert_allclose(rows.loc[measure, "estimate"], expected, rtol=1e-9)


def test_standardised__does_not_depend_on_the_seed_and_says_what_its_errors_are_of(data: StudyData) -> None:
    off = {"release": Release(rule="none"), "bootstrap": 50}
    one_seed, other = (rows_of(seeded(data, seed, **off), "standardised").set_index("measure") for seed in (1, 2))
    assert_allclose(one_seed["estimate"], other["estimate"], rtol=0)
    assert (one_seed["se"] != other["se"]).all()
    assert one_seed["se_type"].tolist() == [
        f"bootstrap by person, {of}"
        for of in ("of the risk", "of the risk", "of the difference", "of the logarithm of the ratio")
    ]
    # The delta method: the error of a risk is its share of the error of the logarithm.
    row = one_seed.loc["risk if all had LVH"]
    of_logarithm = np.log(row["hi"] / row["lo"]) / (2 * 1.959964)
    assert row["se"] / row["estimate"] == pytest.approx(of_logarithm, rel=0.05)


def test_standardised__classes_of_age_give_the_same_mean(data: StudyData) -> None:
    rng = np.random.default_rng(4)
    table = data.analysed("af").dropna(subset=["lvh", "age_years", "sex"]).reset_index(drop=True)
    table = table.assign(age_years=table["age_years"] + rng.uniform(0, 1, len(table)))
    exact = absolute_risk._distinct(table, ["age_years", "sex"])
    coarse = absolute_risk._distinct(
        table.assign(age_years=(table["age_years"] * 10).round() / 10), ["age_years", "sex"]
    )
    fits = {
        cause: fit_cox(
            table.assign(own=table["status_code"] == cause), duration="years", event="own", covariates=COVARIATES
        )
        for cause in (1, 2)
    }
    means = []
    for people in (exact, coarse):
        risks = predict_cumulative_incidence(fits, people.rows.assign(lvh=1.0), [5.0]).query("cause == 1")
        counts = people.counts(np.ones(len(table), dtype=np.int64))
        assert counts.sum() == len(table)
        means.append(np.average(risks["cumulative_incidence"], weights=counts))
    assert len(coarse.rows) < len(exact.rows)
    assert_allclose(means[1], means[0], rtol=1e-4)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_gain_in_auc__of_two_seeds_agree_within_its_interval(data: StudyData, seed: int) -> None:
    """Few people, so that the split and the fits matter: 250 of whom some 40 have the outcome."""
    small = study_data(n=250, seed=seed)
    found = [one(rows_of(seeded(small, own), "absolute_risk"), outcome="af", measure=GAIN) for own in (1, 2)]
    for row, other in (found, found[::-1]):
        assert row["lo"] < other["estimate"] < row["hi"]
    assert abs(found[0]["estimate"] - found[1]["estimate"]) < max(row["se"] for row in found)


def test_over_repeats__adds_the_spread_of_the_repeats() -> None:
    """By hand: mean 2, variances 1 and 1, squared distances 1 and 1: root of 2."""
    assert absolute_risk._over_repeats([1.0, 3.0], [1.0, 1.0]) == (2.0, pytest.approx(np.sqrt(2.0)))


def test_judged__says_that_events_are_few(data: StudyData) -> None:
    own = data.follow_up
    events = own.index[(own["outcome"] == "af") & (own["status"] == 1)]
    few = replace(data, follow_up=own.assign(status=own["status"].where(~own.index.isin(events[25:]), 0)))
    rows = rows_of(few, "absolute_risk")
    judged = rows[(rows["outcome"] == "af") & (rows["measure"] == GAIN)].iloc[0]
    assert "for 3 parameters, fewer than 10 each" in judged["warnings"]
    assert rows_of(data, "absolute_risk").query("outcome == 'af'")["warnings"].eq("").all()


def test_no_deaths__leave_risks_of_the_outcome_alone(data: StudyData) -> None:
    alive = without_deaths(data)
    rows = rows_of(alive, "absolute_risk")
    assert one(rows, outcome="af", measure=GAIN)["estimate"] > 0
    risks = rows_of(seeded(alive, 1, bootstrap=0), "standardised").set_index("measure")["estimate"]
    with_deaths = rows_of(seeded(data, 1, bootstrap=0), "standardised").set_index("measure")["estimate"]
    assert (risks.iloc[:2] > with_deaths.iloc[:2]).all()  # nobody dies before the outcome


def test_no_deaths__every_other_topic_goes_on(data: StudyData) -> None:
    alive = without_deaths(data)
    tests = rows_of(alive, "rates")
    assert tests["p"].notna().all()
    competing = rows_of(alive, "competing")
    dead = competing[competing["measure"] == "cause-specific hazard ratio of death without the outcome"]
    assert dead["estimate"].isna().all()
    assert set(dead["warnings"]) == {"nobody died without the outcome, so that no event competes"}
    # Without a competing event Fine and Gray's model is Cox's.
    per_sd = competing[(competing["contrast"] == "per SD") & (competing["outcome"] == "af")].set_index("measure")
    ours = per_sd.loc["subdistribution hazard ratio", "estimate"]
    assert_allclose(ours, per_sd.loc["cause-specific hazard ratio", "estimate"], rtol=1e-8)


def test_at_risk__counts_who_ends_on_the_day_as_survfit_does() -> None:
    """Exits on days 1460, 1461 (4 years), 1462 and later.

    R: `summary(survfit(Surv(c(1460, 1461, 1462, 3000), c(1, 0, 0, 0)) ~ 1), times = 1461)$n.risk`.
    """
    table = pd.DataFrame(
        {"time_days": [1460.0, 1461.0, 1462.0, 3000.0], "status": [1, 2, 0, 0], "lvh_group": "LVH"}
    ).assign(years=lambda t: t["time_days"] / 365.25)
    rows = pd.DataFrame(_at_risk(table, "af", "lvh_group")).query("group == 'LVH' and years == 4")
    assert rows[["n_at_risk", "n_censored", "n_events", "n_deaths"]].iloc[0].tolist() == [3, 0, 1, 0]
