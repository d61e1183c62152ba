"""Who is followed for an outcome, whose rows belong together, and the parts of several models."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.study.data import StudyData
from tests.analysis.report.builders import study_data
from tests.analysis.report.variations import repeated_ecgs, two_models, with_households


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(n=400)


def test_analysed__is_the_follow_up_joined_with_the_ecgs(data: StudyData) -> None:
    rows = data.follow_up
    own = rows[(rows["outcome"] == "af") & rows["excluded"].isna()]
    new = ["ecg_id", *(name for name in data.ecgs if name not in own)]
    wanted = own.merge(data.ecgs[new], on="ecg_id", validate="one_to_one")
    found = data.analysed("af")
    names = [name for name in wanted if name not in ("time_days", "status")]
    pd.testing.assert_frame_equal(found[names], wanted[names])
    assert (found["years"] == wanted["time_days"].astype(float) / 365.25).all()
    assert (found["event"] == (wanted["status"] == 1)).all()
    assert data.analysed("af") is found  # made once
    assert "error_cluster" not in found
    assert replace(data, ecgs=data.ecgs.head(9)).analysed("af")["ecg_id"].nunique() <= 9


def test_analysed__from_the_index_is_another_follow_up(data: StudyData) -> None:
    assert data.analysed("af", from_index=True) is data.analysed("af")
    other = replace(data, follow_up_from_index=data.follow_up.assign(time_days=77))
    assert set(other.analysed("af", from_index=True)["time_days"]) == {77.0}
    assert other.analysed("af")["time_days"].nunique() > 9


def test_error_cluster__is_the_person_or_the_household(data: StudyData) -> None:
    table = repeated_ecgs(n=300).analysed("af")
    people = table.groupby("error_cluster")["participant_id"].nunique()
    assert (people == 1).all()
    assert len(people) == table["participant_id"].nunique()
    homes = with_households(data, size=2)
    shared = homes.persons.set_index("participant_id")["household_id"]
    table = homes.analysed("af").assign(home=lambda t: t["participant_id"].map(shared))
    assert (table.groupby("error_cluster")["home"].nunique() == 1).all()
    assert (table.groupby("home")["error_cluster"].nunique() == 1).all()
    assert table["home"].str.startswith("person").sum() > 9


def test_parts__of_one_model_are_the_study_itself(data: StudyData) -> None:
    assert data.by_prediction_model() == (data,)
    made = two_models(n=400)
    parts = made.by_prediction_model()
    assert [part.model_id for part in parts] == ["narrow", "wide"]
    assert sum(len(part.ecgs) for part in parts) == len(made.ecgs)
    assert [part.sd["exposure"] for part in parts] == [made.sd["exposure, narrow"], made.sd["exposure, wide"]]
    assert parts[1].by_prediction_model() == (parts[1],)
    assert parts[1].keys("af") == {"outcome": "af", "primary": True, "model_id": "wide"}
