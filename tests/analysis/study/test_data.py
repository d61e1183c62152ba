"""The data of a study: people followed, rows that belong together, several models, the scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.study.data import StudyData, sd_key, standard_deviations, with_scale
from tests.analysis.report.builders import study, study_data
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


@pytest.fixture
def indexed() -> pd.DataFrame:
    """Two models; the second spreads twice as much. The last person has two ECGs."""
    rng = np.random.default_rng(1)
    model = np.array(["a", "b"] * 100)
    values = rng.normal(50, 8, 200) * np.where(model == "b", 2, 1)
    return pd.DataFrame(
        {
            "participant_id": [f"P{min(i, 198)}" for i in range(200)],
            "sex": np.repeat(["female", "male"], 100),
            "model_id": model,
            "exposure": values,
            "mass_g": values * 2,
            "index_g_m2": values,
        }
    )


def test_sd__is_of_one_row_a_person(indexed: pd.DataFrame) -> None:
    sd = standard_deviations(study(), indexed)
    assert sd["exposure"] == pytest.approx(np.std(indexed["exposure"].iloc[:199], ddof=1))
    women = indexed["exposure"].iloc[:100]
    assert sd[sd_key(sex="female")] == pytest.approx(np.std(women, ddof=1))
    assert sd_key(sex="female") == "exposure, female"


def test_sd__of_each_model_and_sex(indexed: pd.DataFrame) -> None:
    sd = standard_deviations(study(model_strata=True), indexed)
    own = indexed[(indexed["model_id"] == "b") & (indexed["sex"] == "female")]["exposure"]
    assert sd["exposure, b, female"] == pytest.approx(np.std(own, ddof=1))
    assert sd["exposure, b"] > 1.5 * sd["exposure, a"]
    fixed = standard_deviations(study(model_strata=True, sd=7.5), indexed)
    assert [fixed[key] for key in ("exposure", "exposure, a", "exposure, b")] == [7.5] * 3
    assert "exposure, b" not in standard_deviations(study(), indexed)


def test_sd__of_the_ecg_only_model_is_there_where_its_masses_are(indexed: pd.DataFrame) -> None:
    sd = standard_deviations(study(model_strata=True), indexed.assign(lvm_ecg_only_g=indexed["mass_g"]))
    for part in ("", "female", "a, male"):
        key = ", ".join(filter(None, ("exposure", part)))
        assert sd[key.replace("exposure", "lvm_ecg_only_g")] == pytest.approx(2 * sd[key])
    without = standard_deviations(study(), indexed)
    assert not [key for key in without if "ecg_only" in key]


@pytest.mark.parametrize("apart", [False, True])
def test_scale__is_within_sex_and_model(indexed: pd.DataFrame, apart: bool) -> None:
    settings = study(model_strata=apart)
    made = with_scale(settings, indexed, standard_deviations(settings, indexed))
    by = ["sex", "model_id"] if apart else ["sex"]
    shares = made.groupby(by)["quartile"].value_counts(normalize=True)
    assert shares.between(0.23, 0.27).all()
    one = made.drop_duplicates(["participant_id", *by])
    spread = one.groupby(by)["exposure_in_sd_of_sex"].std()
    assert np.allclose(spread, 1)


def test_scale__unknown_exposure_has_neither(indexed: pd.DataFrame) -> None:
    indexed.loc[3, "exposure"] = np.nan
    indexed["sex"] = indexed["sex"].mask(indexed.index == 5)
    made = with_scale(study(), indexed, standard_deviations(study(), indexed))
    assert made.loc[[3, 5], ["quartile", "exposure_in_sd_of_sex"]].isna().all(axis=None)
