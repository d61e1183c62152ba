"""What a report says of itself: methods with its numbers, banners, constants of the results."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from analysis.report import topic_rates
from analysis.report.build import constants_of
from analysis.report.masking import MaskingRule, mask_all
from analysis.report.methods import banners, methods, warnings
from analysis.report.study_data import StudyData
from analysis.study_settings import Masking, Training
from tests.analysis.report.builders import study, study_data


def with_study(data: StudyData, **changes: Any) -> StudyData:
    return replace(data, study=study(**changes))


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data()


def test_methods__tell_the_masked_numbers_of_each_outcome(data: StudyData) -> None:
    masked = mask_all(topic_rates.aggregates(data), MaskingRule(10, 5))
    text = " ".join(methods(data, masked))
    people = len(data.analysed("af"))
    rounded = 5 * round(people / 5)
    assert f"Analysed were {rounded} people for atrial fibrillation (" in text
    assert f"{data.sd['exposure']:.3g} g/m2" in text
    assert "Counts of 1 to 9 are hidden" in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latency_days": 30}, "The clock starts 30 days after the ECG"),
        ({"time_scale": "attained_age"}, "attained age, with delayed entry"),
        ({"prevalent_window_days": 365}, "(window: 365 days)"),
        ({"masking": Masking(k=0, base=1)}, "Masking is off"),
        ({"exclude_flags": ("saturated",)}, "ECGs with the flags saturated are not used"),
    ],
)
def test_methods__tell_each_choice(data: StudyData, changes: dict[str, Any], said: str) -> None:
    assert said in " ".join(methods(with_study(data, **changes), {}))


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
    told = any(text.startswith("Training overlap unknown") for text in banners(changed))
    assert told == (overlap == "unknown")


def test_banners__tell_of_demonstrations_and_of_masking_that_is_off(data: StudyData) -> None:
    shown = replace(data, about=replace(data.about, is_demo=True))
    shown = with_study(shown, masking=Masking(k=0, base=1))
    first, second = banners(shown)
    assert "mean nothing for patients" in first
    assert "must not leave" in second


def test_warnings__a_raw_prediction_is_not_calibrated(data: StudyData) -> None:
    assert any("not calibrated" in text for text in warnings(data))
    recalibrated = with_study(data, exposure="lvmi_recal_g_m2")
    assert not any("not calibrated" in text for text in warnings(recalibrated))
