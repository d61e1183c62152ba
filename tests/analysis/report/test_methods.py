"""What a report says of itself: methods with its numbers, banners, constants of the results."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.disclosure.aggregates import result, results
from analysis.disclosure.masking import MaskingRule, mask_all
from analysis.report.build import constants_of, public_checksums
from analysis.report.methods import author_methods, banners, methods, warnings
from analysis.report.topics import follow_up, rates
from analysis.study.data import RELEASE, StudyData
from analysis.study.settings import CmrSettings, Hospital, Index, Outcome, Release, Study, StudyCovariate, Training
from tests.analysis.report.builders import study, study_data


def with_study(data: StudyData, **changes: Any) -> StudyData:
    return replace(data, study=study(**changes))


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data()


def test_methods__tell_the_masked_numbers_of_each_outcome(data: StudyData) -> None:
    masked = mask_all(rates.TOPIC.aggregates(data), MaskingRule(10, 5))
    text = " ".join(methods(data, masked))
    people = len(data.analysed("af"))
    found = re.search(r"We analysed ([0-9,]+)(?:±10)? people for atrial fibrillation", text)
    assert found
    assert abs(int(found[1].replace(",", "")) - people) <= 10
    assert f"{data.sd['exposure']:.3g} g/m2" in text
    assert "Counts of 1 to 9 are hidden" in text


# A change of each setting, and what Methods then say; None where a setting is no choice of method.
CHOICES: dict[str, tuple[Any, str] | None] = {
    "name": None,
    "cohort": None,
    "inputs": None,
    "columns": None,
    "report": None,
    # The notes of the inputs say what was accepted.
    "accept_people": None,
    "allow_unknown": None,
    "allow_unmatched": None,
    "without_systems": None,
    # The table of codes says what each list caught.
    "code_lists": None,
    "shape": ("omop", "Tables were taken from an extract of OMOP's common data model."),
    "time_zone": ("America/New_York", "Times with a zone were taken as of the day in America/New_York."),
    "events_format": ("ukb_wide", "Events are read as UK Biobank's wide fields"),
    "date_formats": ({"events": "%d/%m/%Y"}, "dates as YYYY-MM-DD but for events %d/%m/%Y"),
    "index": (
        Index(rule="all", date=dt.date(2015, 5, 1)),
        "every usable ECG, each with a follow-up of its own, on or after 2015-05-01",
    ),
    "exposure": ("lvm_pred_g", "The exposure is the column lvm_pred_g;"),
    "exclude_flags": (("saturated",), "ECGs flagged saturated were not used."),
    "exclude_ecg": (
        ("qrs_120", "paced"),
        "People whose index ECG is paced or has a QRS of 120 ms or more were left out, and no other",
    ),
    "outcomes": (
        (Outcome(name="af", incident_sources=("hes",), af_on_ecg=True),),
        "af (incident: hes; prevalent also: no others; AF stated on the index ECG is",
    ),
    "primary_outcome": ("heart_failure", "The primary outcome was heart failure"),
    "negative_control": (
        Outcome(name="cataract", incident_sources=("hes",)),
        "The negative control was cataract (incident: hes;",
    ),
    "covariates": (
        (StudyCovariate(name="smoking", kind="category", reference="former"),),
        "Reference levels were female, former (smoking), no LVH and quartile 1.",
    ),
    "clinical_score": (
        StudyCovariate(name="score2", kind="number", label="SCORE2"),
        "What the ECG adds to SCORE2, and this to age and sex beside it, was examined too.",
    ),
    "rows": ("all", "Each model used all rows that are complete for its own covariates."),
    "missing": ("impute", "Missing covariates were also imputed 20 times by chained equations"),
    "imputations": (7, "Missing covariates were also imputed 7 times"),
    "household": ("home", "errors robust, by household (home)"),
    "prevalent_window_days": (365, "(window: 365 days)"),
    "min_history_days": (90, "had to reach back 90 days"),
    "max_days_body_size": (0, "Height and weight more than 0 days from the ECG left"),
    "latency_days": (30, "a landmark 30 days after the index ECG"),
    "time_scale": ("attained_age", "attained age, with delayed entry"),
    "hospital": (
        Hospital(grace_days=5, min_encounters=3),
        "ended 5 days after the last encounter at the latest; 3 encounters had to come bef",
    ),
    "sd": (7.5, "One SD is 7.5 g/m2 (fixed in the study file)"),
    "horizon_years": (7.0, "Absolute risks had a horizon of 7 years"),
    "cmr": (CmrSettings(max_days_ecg_cmr=7), "(at most 7 days apart)"),
    "training": (
        Training(is_uk_biobank=True, exclude_imaged_before=dt.date(2020, 1, 1)),
        "people whose first CMR is on or after 2020-01-01; before and after stand beside",
    ),
    "lvh_preset": ("petersen2017", "above 55 g/m2 (female) and 70 g/m2 (male)"),
    "bsa_formula": ("mosteller", "by the formula of Mosteller"),
    "model_strata": (True, "Quartiles were cut within sex and prediction model."),
    "release": (Release(rule="none"), "nothing is hidden"),
    "bootstrap": (77, "were bootstrapped with at most 77 draws, too few for the latter."),
    "seed": (5, "Random draws have the seed 5"),
    "hazard_ratios": (False, "No Cox models were fitted"),
}


@pytest.mark.parametrize("setting", Study.model_fields)
def test_methods__tell_every_setting(data: StudyData, setting: str) -> None:
    assert setting in CHOICES
    choice = CHOICES[setting]
    if choice is None:
        return
    changes: dict[str, Any] = {setting: choice[0]}
    if setting == "imputations":
        changes["missing"] = "impute"
    if setting == "shape":
        changes["inputs"] = study().inputs.model_copy(update={"extract": Path("omop")})
    if setting == "hospital":
        changes["inputs"] = study().inputs.model_copy(update={"encounters": Path("e.csv")})
    before = " ".join(methods(data, {}))
    changed = " ".join(methods(with_study(data, **changes), {}))
    assert choice[1] in changed
    assert choice[1] not in before


def test_methods__without_flags_no_flag_is_named(data: StudyData) -> None:
    text = " ".join(methods(data, {}))
    assert "No ECG was left out for its quality flags." in text
    assert "none" not in text.replace("none expected", "")


def test_methods__tell_the_calendar_of_index_ecgs_and_of_records(data: StudyData) -> None:
    masked = mask_all(follow_up.TOPIC.aggregates(data), MaskingRule(10, 5))
    text = " ".join(author_methods(data, masked))
    first, last = (int(day.year) for day in (data.ecgs["index_date"].min(), data.ecgs["index_date"].max()))
    assert f"Index ECGs were recorded from {first} to {last}." in text
    # The last days of records that the drawn study has, and nobody's own day.
    assert (
        "Follow-up was complete to 31 October 2022 (England), 31 August 2022 (Scotland), 31 May 2022 (Wales)." in text
    )


def test_methods__tell_how_subgroups_were_tested(data: StudyData) -> None:
    assert "interactions were tested by likelihood-ratio tests" in " ".join(methods(data, {}))
    clustered = with_study(data, household="home")
    assert "interactions were tested by Wald tests" in " ".join(methods(clustered, {}))


def test_methods__tell_the_lists_and_tables_that_were_used(data: StudyData) -> None:
    assert "No list of people who withdrew or are to be left out was given" in " ".join(methods(data, {}))
    given = {"withdrawn": Path("w"), "predictions_ecg_only": Path("p"), "history_starts": Path("h")}
    inputs = study().inputs.model_copy(update=given)
    training = Training(is_uk_biobank=True, exclude_ids=Path("t"))
    changed = with_study(data, inputs=inputs, training=training, min_history_days=9)
    text = " ".join(methods(changed, {}))
    assert "Lists of people who withdrew and of the training set were given" in text
    assert "had to reach back 9 days; they begin with the days of inputs.history_starts" in text
    assert "Predictions of the model that sees the ECG alone stand beside it" in text


def test_methods__tell_the_sd_of_each_sex_and_of_each_model(data: StudyData) -> None:
    sd = {"exposure": 11.0, "exposure, female": 8.41, "exposure, male": 13.52}
    text = " ".join(methods(replace(with_study(data, sd="by_sex"), sd=sd), {}))
    assert "One SD is 8.41 g/m2 (female) and 13.5 g/m2 (male) (n - 1" in text
    of_models = {"exposure": 11.0, "exposure, one": 9.0, "exposure, two": 12.25}
    models = np.where(np.arange(len(data.ecgs)) % 2, "one", "two")
    changed = replace(with_study(data, model_strata=True), sd=of_models, ecgs=data.ecgs.assign(model_id=models))
    assert "One SD is 9 g/m2 (one) and 12.2 g/m2 (two) (n - 1" in " ".join(methods(changed, {}))


def test_methods__tell_the_horizon_that_was_used(data: StudyData) -> None:
    rows = [
        result("absolute_risk", "AUC", outcome=name, unit="years", unit_value=years)
        for name, years in (("af", 7.77), ("heart_failure", 20.0))
    ]
    masked = mask_all([results("absolute_risk", rows)], MaskingRule(10, 5))
    text = " ".join(methods(with_study(data, horizon_years=20.0), masked))
    assert "a horizon of 20 years, shortened to where at least 50 people and 10% are at risk: " in (text)
    assert "at risk: 7.77 years for atrial fibrillation." in text


def test_methods__tell_the_horizon_of_each_model_and_that_there_is_none(data: StudyData) -> None:
    rows = [
        result("absolute_risk", "AUC", outcome="af", unit="years", unit_value=years, model_id=model)
        for model, years in (("one", 4.5), ("two", 0.0))
    ]
    text = " ".join(methods(data, mask_all([results("absolute_risk", rows)], MaskingRule(10, 5))))
    assert "at risk: 4.5 years for atrial fibrillation, model one, none for atrial fibrillation, model two." in text


def test_methods__tell_the_release_of_the_follow_up_ends(data: StudyData) -> None:
    assert "(release of the ends: not stated)" in " ".join(methods(data, {}))
    stated = replace(data, provenance={**data.provenance, RELEASE: "v19"})
    assert "(release of the ends: v19)" in " ".join(methods(stated, {}))


def test_training_overlap__is_stated_without_cmr(data: StudyData) -> None:
    training, inputs = Training(is_uk_biobank=True), study().inputs
    bare = study(cmr=None, inputs=inputs.model_copy(update={"cmr": None}), training=training)
    text = " ".join(methods(replace(data, study=bare), {}))
    assert "overlap with the people whom the model was trained on: unknown" in text


def test_warnings__tell_what_was_found_in_the_inputs(data: StudyData) -> None:
    noted = replace(data, notes=("inputs.withdrawn is an empty list: it leaves nobody out",))
    assert "Inputs: inputs.withdrawn is an empty list: it leaves nobody out." in warnings(noted)


@pytest.mark.parametrize(
    ("training", "overlap"),
    [
        (Training(), "none expected"),
        (Training(is_uk_biobank=True), "unknown"),
        (
            Training(is_uk_biobank=True, exclude_imaged_before="2020-01-01"),  # type: ignore[arg-type]
            "against CMR imaged on or after 2020-01-01 only; outcomes shown before and after",
        ),
    ],
)
def test_training_overlap__is_in_every_result_row_and_unknown_is_a_banner(
    data: StudyData, training: Training, overlap: str
) -> None:
    changed = with_study(data, training=training)
    provenance = {"sha256 of ids and masses": "0", **data.provenance}
    changed = replace(changed, provenance=provenance)
    assert constants_of(changed)["training_overlap"] == overlap
    is_shown = any(text.startswith("Training overlap unknown") for text in banners(changed))
    assert is_shown == (overlap == "unknown")


def test_banners__tell_of_demonstrations_and_of_masking_that_is_off(data: StudyData) -> None:
    shown = replace(data, about=replace(data.about, is_demo=True))
    shown = with_study(shown, release=Release(rule="none"))
    first, second = banners(shown)
    assert "mean nothing for patients" in first
    assert "Nothing is hidden" in second


def test_warnings__a_raw_prediction_is_not_calibrated(data: StudyData) -> None:
    assert any("not calibrated" in text for text in warnings(data))
    recalibrated = with_study(data, exposure="lvmi_recal_g_m2")
    assert not any("not calibrated" in text for text in warnings(recalibrated))


def test_checksums__none_of_a_list_of_people() -> None:
    others = {"sha256 predictions": "a", "sha256 of ids and masses": "b", "model_sha256": "c"}
    lists = {"sha256 withdrawn": "d", "sha256 deaths": "e", "sha256 participants": "f"}
    assert public_checksums(others | lists | {"python": "3"}) == others
