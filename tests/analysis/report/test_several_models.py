"""Predictions of several models: everything about outcomes is of each model by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose
from scipy import stats

from analysis.disclosure.masking import mask_all
from analysis.report.write import results_table
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import fit_cox
from analysis.study.data import StudyData
from tests.analysis.report.outcome_rows import COMPLETE, OFF, TOPICS, one, rows_of, section_of, table_of
from tests.analysis.report.variations import only, rescaled, two_models, with_study

SEX = Category("sex", reference="female")
MODELS = ["narrow", "wide"]
NUMBERS = ["n_people", "n_events", "unit_value", "estimate", "se", "lo", "hi", "p", "p_ph"]


@pytest.fixture(scope="module")
def data() -> StudyData:
    """The second outcome is the negative control, so that every topic has something to show."""
    made = two_models(n=1600)
    outcomes = made.study.outcomes
    return with_study(made, outcomes=outcomes[:1], negative_control=outcomes[1])


@pytest.fixture(scope="module")
def alone(data: StudyData) -> dict[str, StudyData]:
    """Each model's ECGs as a study of their own."""
    one_model = with_study(data, model_strata=False)
    return {model: rescaled(only(one_model, data.ecgs["model_id"] == model)) for model in MODELS}


@pytest.mark.parametrize("key", list(TOPICS))
def test_topic__has_of_each_model_what_a_study_of_that_model_has(
    data: StudyData, alone: dict[str, StudyData], key: str
) -> None:
    draws = 100 if key == "calibrated" else 4
    rows = rows_of(with_study(data, bootstrap=draws), key)
    assert set(rows["model_id"]) == set(MODELS)
    for model in MODELS:
        own = rows[rows["model_id"] == model]
        wanted = rows_of(with_study(alone[model], bootstrap=draws), key)
        names = ["measure", "outcome", "contrast", "model", "strata", "level", "adjustment"]
        assert own[names].to_numpy().tolist() == wanted[names].to_numpy().tolist()
        numbers = (part[NUMBERS].apply(pd.to_numeric, errors="coerce") for part in (own, wanted))
        assert_allclose(*numbers, rtol=1e-12)


def test_per_sd__is_that_of_the_model_s_own_ecgs(data: StudyData) -> None:
    rows = rows_of(data, "hazard_ratios")
    for model in MODELS:
        sd = data.ecgs.loc[data.ecgs["model_id"] == model, "exposure"].std()
        table = data.analysed("af").dropna(subset=COMPLETE)
        table = table[table["model_id"] == model]
        fit = fit_cox(table, duration="time_days", event="event", covariates=["exposure", "age_years", SEX])
        found = one(rows, contrast="per SD", model=2, model_id=model)
        assert found["unit_value"] == pytest.approx(sd)
        assert math.log(found["estimate"]) == pytest.approx(sd * fit.estimates["coef"][0])


@pytest.mark.parametrize("sd", [7.5, "by_sex"])
def test_fixed_sd_and_sd_by_sex__hold_in_each_model(data: StudyData, sd: float | str) -> None:
    changed = rescaled(with_study(data, sd=sd))
    rows = rows_of(changed, "hazard_ratios")
    own = rows[rows["contrast"].str.startswith("per SD") & (rows["model"] == 2)]
    if sd == 7.5:
        assert own["unit_value"].tolist() == [7.5, 7.5]
        return
    ecgs = changed.ecgs
    by_both = ecgs.groupby(["model_id", "sex"])["exposure"].transform("std")
    assert_allclose(ecgs["exposure_in_sd_of_sex"], ecgs["exposure"] / by_both, rtol=1e-12)


def test_quartiles__are_cut_within_model_and_sex(data: StudyData) -> None:
    shares = data.ecgs.groupby(["model_id", "sex"])["quartile"].value_counts(normalize=True)
    assert np.abs(shares - 0.25).max() < 0.01


def test_q__is_of_one_model_and_all_secondary_outcomes() -> None:
    """With three outcomes q is not p: Benjamini and Hochberg over two, in each model."""
    made = two_models(n=1600)
    third = made.follow_up[made.follow_up["outcome"] == "heart_failure"].assign(outcome="third")
    days = third["time_days"].sample(frac=1, random_state=1).to_numpy()
    third = third.assign(time_days=days).dropna(subset=["time_days"])
    follow_up = pd.concat([made.follow_up, third], ignore_index=True)
    outcomes = (*made.study.outcomes, made.study.outcomes[1].model_copy(update={"name": "third"}))
    changed = with_study(replace(made, follow_up=follow_up), outcomes=outcomes)
    rows = rows_of(changed, "hazard_ratios")
    for model in MODELS:
        own = rows[
            (rows["model_id"] == model) & (rows["model"] == 2) & (rows["contrast"] == "per SD") & ~rows["primary"]
        ]
        assert len(own) == 2
        wanted = stats.false_discovery_control(own["p"].astype(float), method="bh")
        assert_allclose(own["q"].astype(float), wanted)


def test_report__names_models_and_what_is_pooled(data: StudyData) -> None:
    section = section_of(data, "hazard_ratios")
    table = table_of(section, "hazard_ratios")
    assert table.cells["Prediction model"].unique().tolist() == MODELS
    sds = [data.sd[f"exposure, {model}"] for model in MODELS]
    expected = f"One SD is narrow: {sds[0]:.1f} g/m2; wide: {sds[1]:.1f} g/m2, of everybody with an"
    assert any(note.startswith(expected) for note in table.notes)
    figures = [item.key for item in section.items if item.key.startswith("forest_subgroups")]
    assert figures == ["forest_subgroups_af_1", "forest_subgroups_af_2"]
    rates = section_of(data, "rates")
    assert any("several models (narrow, wide). People of all" in text for text in rates.paragraphs)


def test_results__say_the_model_in_every_row(data: StudyData) -> None:
    aggregates = [*TOPICS["competing"].aggregates(data), *TOPICS["rates"].aggregates(data)]
    exported = results_table(mask_all(aggregates, OFF), {"model_id": "narrow, wide", "cohort": "c"})
    assert set(exported["model_id"]) == set(MODELS)
    single = with_study(data, model_strata=False)
    rows = results_table(mask_all(TOPICS["rates"].aggregates(single), OFF), {"model_id": "narrow"})
    assert set(rows["model_id"]) == {"narrow"}
