"""A synthetic cohort from its raw tables to hazard ratios: what went in comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.follow_up import FollowUp, FollowUpRules, OutcomeRule, build_follow_up
from analysis.statistics.survival.cox import fit_cox
from beam_jobs import simulate

N_PEOPLE = 30_000


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables with duplicate records, placeholder dates, other codes, moves and losses."""
    folder = tmp_path_factory.mktemp("cohort") / "made"
    arguments = ["--participants", str(N_PEOPLE), "--seed", "3", "--no-ecgs", "--output", str(folder)]
    assert simulate.main(arguments) == 0
    return folder


@pytest.fixture(scope="module")
def said(cohort: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((cohort / "simulation.json").read_text())
    return read


@pytest.fixture(scope="module")
def found(cohort: Path, said: dict[str, Any]) -> FollowUp:
    codes = [
        (code["prefix"], code["system"], "prefix", outcome)
        for outcome, listed in said["code_lists"].items()
        for code in listed
    ]
    sources = (("hes", "death"), ("self_report",))
    return build_follow_up(
        predictions=cohort / "predictions_drawn.parquet",
        persons=cohort / "participants.csv",
        deaths=cohort / "deaths.csv",
        events=cohort / "events.csv",
        ends=cohort / "follow_up_ends.csv",
        code_list=pd.DataFrame(codes, columns=["code", "system", "match", "outcome"]),
        rules=FollowUpRules(tuple(OutcomeRule(name, *sources) for name in said["code_lists"])),
    )


def test_flow__adds_up_and_nobody_is_lost(found: FollowUp) -> None:
    flow = found.flow.set_index(["outcome", "reason"])["n_people"]
    for outcome in ("af", "mi", "heart_failure", "ventricular_arrhythmia"):
        assert flow[outcome]["all"] == N_PEOPLE == flow[outcome].drop("all").sum()
        assert flow[outcome]["prevalent"] > 0


@pytest.mark.parametrize("outcome", ["af", "heart_failure"])
def test_hazard_ratios__of_the_followed_are_those_of_the_generator(
    cohort: Path, said: dict[str, Any], found: FollowUp, outcome: str
) -> None:
    truth = pd.read_parquet(cohort / "truth.parquet")
    people = found.people[(found.people["outcome"] == outcome) & found.people["excluded"].isna()]
    table = people.merge(truth, on="participant_id", validate="one_to_one")
    table = table.assign(
        days=table["time_days"].astype(int),
        event=table["status"] == 1,
        lvmi=table["lvmi_true_g_m2"] / 10,
        male=table["sex"].astype(str) == "male",
        sbp=table["sbp_mmhg"] / 10,
    )
    covariates = ["lvmi", "index_age_years", "male", "sbp", "diabetes", "smoking"]
    fit = fit_cox(table, duration="days", event="event", covariates=covariates)
    assert fit.n_events > 250
    hazard = said["hazards"][outcome]
    names = ("lvmi_per_10_g_m2", "age_per_year", "male", "sbp_per_10_mmhg", "diabetes", "smoking")
    wanted = [hazard[name] for name in names]
    off = (fit.estimates["coef"] - wanted).abs() / fit.estimates["se"]
    assert (off < 3.5).all(), fit.estimates.assign(wanted=wanted)
