"""Standard deviations and quartiles, of everybody, of each sex and of each model."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.study.data import sd_key, standard_deviations, with_scale
from tests.analysis.report.builders import study


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
