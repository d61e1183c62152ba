"""Regression calibration and repeatability against R, and against a known truth."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.statistics.agreement import repeatability
from analysis.statistics.agreement.measurement_error import ASSUMPTIONS, calibrate_exposure
from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category
from tests.analysis.statistics.references import GOLDEN, close, expected

ARGUMENTS: dict[str, Any] = {
    "exposure": "predicted",
    "reference": "measured",
    "duration": "time",
    "event": "event",
    "covariates": ["age", "male"],
    "seed": 7,
    "unit": 1.0,
}


def people() -> pd.DataFrame:
    return pd.read_csv(GOLDEN / "measurement_error" / "people.csv")


def test_calibrate_exposure__equals_lm_and_coxph() -> None:
    got, wanted = (calibrate_exposure(people(), n_bootstrap=400, **ARGUMENTS), expected("measurement_error"))
    estimates = got.estimates.set_index("exposure")
    close(estimates["coef"], [wanted["naive"], wanted["calibrated"]], rtol=1e-8)
    close(estimates.loc["naive", "se"], wanted["naive_se"], rtol=1e-8)
    close(got.calibration["coef"], wanted["step"], rtol=1e-9)
    close(got.calibration["se"], wanted["step_se"], rtol=1e-9)
    close(got.r2, wanted["r2"], rtol=1e-10)
    # Two independent bootstraps of 2,000 and 400 samples: 4 % error each, three times that.
    close(estimates.loc["calibrated", "se"], wanted["bootstrap"]["se"], rtol=0.13)
    close(
        np.log(estimates.loc["calibrated", ["hr_lo", "hr_hi"]].astype(float)), wanted["bootstrap"]["limits"], rtol=0.25
    )
    assert (got.n, got.n_measured, got.n_failed, len(got.samples)) == (900, 300, 0, 400)
    assert got.assumptions == ASSUMPTIONS


def test_calibrate_exposure__does_not_depend_on_the_scale_of_the_prediction() -> None:
    """A shrunken prediction doubles the naive estimate and leaves the calibrated one."""
    shrunken = people().assign(predicted=lambda t: 30 + t["predicted"] / 2)
    one = calibrate_exposure(people(), n_bootstrap=100, **ARGUMENTS)
    two = calibrate_exposure(shrunken, n_bootstrap=100, **ARGUMENTS)
    close(two.estimates["coef"] / one.estimates["coef"], [2, 1], rtol=1e-8)
    close(two.samples, one.samples, rtol=1e-8)
    # The generator's log hazard ratio is 0.05 per g/m2.
    assert abs(one.estimates["coef"][1] - 0.05) < 2 * one.estimates["se"][1]


def test_calibrate_exposure__unit_is_a_power_of_the_hazard_ratio_and_the_seed_decides() -> None:
    one = calibrate_exposure(people(), n_bootstrap=100, **ARGUMENTS)
    ten = calibrate_exposure(people(), n_bootstrap=100, **(ARGUMENTS | {"unit": 10.0}))
    other = calibrate_exposure(people(), n_bootstrap=100, **(ARGUMENTS | {"seed": 8}))
    for column in ("hr", "hr_lo", "hr_hi"):
        close(ten.estimates[column], one.estimates[column] ** 10, rtol=1e-9)
    assert one.samples.tolist() == ten.samples.tolist() != other.samples.tolist()


def test_calibrate_exposure__a_person_is_drawn_as_a_whole() -> None:
    """Every row twice under one number: the same errors as every row once, not smaller ones."""
    twice = pd.concat([people(), people()], ignore_index=True)
    twice["person"] = np.tile(np.arange(900), 2)
    once = calibrate_exposure(people(), n_bootstrap=100, **ARGUMENTS)
    double = calibrate_exposure(twice, n_bootstrap=100, person="person", **ARGUMENTS)
    close(double.estimates["se"][1], once.estimates["se"][1], rtol=0.1)


def test_calibrate_exposure__calls_after_each_sample() -> None:
    seen: list[int] = []
    calibrate_exposure(people(), n_bootstrap=100, on_sample=lambda: seen.append(1), **ARGUMENTS)
    assert len(seen) == 100


@pytest.mark.parametrize(
    ("changes", "arguments", "error", "message"),
    [
        ({}, {"unit": 0.0}, ValueError, "unit is 0.0, expected a step of exposure above 0"),
        ({}, {"n_bootstrap": 20}, ValueError, "n_bootstrap is 20, expected at least 100"),
        ({"predicted": None}, {}, TableRefused, "column 'predicted' has 900 missing values"),
        ({"measured": None}, {}, TableRefused, "no row of 900 is complete in measured"),
        ({"measured": 40.0}, {}, TableRefused, "column 'measured' is constant at 40"),
    ],
)
def test_calibrate_exposure__refuses(
    changes: dict[str, Any], arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        calibrate_exposure(people().assign(**changes), **({"n_bootstrap": 100} | ARGUMENTS | arguments))


def test_calibrate_exposure__refuses_too_few_measurements() -> None:
    table = people()
    table.loc[30:, "measured"] = np.nan
    with pytest.raises(TableRefused, match="'measured' has 30 measurements for 4 parameters"):
        calibrate_exposure(table, n_bootstrap=100, **ARGUMENTS)


def test_calibrate_exposure__refuses_when_many_samples_have_no_estimate() -> None:
    """One person of a kind is in 63 % of the samples."""
    table = people().assign(rare=lambda t: t.index == t.index[t["event"] == 1][0])
    with pytest.raises(TableRefused, match="of 100 bootstrap samples have no estimate"):
        calibrate_exposure(table, n_bootstrap=100, **(ARGUMENTS | {"covariates": ["age", "rare"]}))


def test_calibrate_exposure__a_level_that_is_not_drawn_is_left_out_of_its_sample() -> None:
    """One person without an event has a level to himself, and is in 63 % of the samples."""
    alone = people().index == people().index[people()["event"] == 0][0]
    others = np.where(np.arange(len(alone)) % 2, "a", "c")
    table = people().assign(site=np.where(alone, "b", others))
    arguments = ARGUMENTS | {"covariates": ["age", Category("site", reference="a")]}
    found = calibrate_exposure(table, n_bootstrap=100, **arguments)
    assert found.n_failed == 0


EXPECTED = expected("repeatability")
TABLES = {
    "judges": pd.DataFrame(EXPECTED["judges_data"]),
    "uneven": pd.read_csv(GOLDEN / "repeatability" / "uneven.csv"),
}


@pytest.mark.parametrize("name", TABLES)
def test_repeatability__equals_r(name: str) -> None:
    found = dataclasses.asdict(repeatability(TABLES[name], value="value", person="person"))
    for key, figure in EXPECTED[name].items():
        assert_allclose(found[key], figure, rtol=1e-11, atol=0, err_msg=key)


def test_repeatability__people_with_one_value_are_counted_and_left_out() -> None:
    table = TABLES["judges"]
    more = pd.concat([table, pd.DataFrame({"person": [98, 99], "value": [1000.0, -1000.0]})])
    alone, with_more = (repeatability(t, value="value", person="person") for t in (table, more))
    assert dataclasses.replace(with_more, n_single=0) == alone
    assert with_more.n_single == 2


def test_repeatability__the_differences_of_pairs_lie_within_it() -> None:
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(4000), 2)
    table = pd.DataFrame({"p": people, "x": rng.normal(0, 3, 4000)[people] + rng.normal(0, 2, 8000)})
    found = repeatability(table, value="x", person="p")
    pairs = table["x"].to_numpy().reshape(-1, 2)
    share = np.mean(np.abs(pairs[:, 0] - pairs[:, 1]) <= found.repeatability)
    assert share == pytest.approx(0.95, abs=0.01)
    assert found.icc == pytest.approx(9 / 13, abs=0.02)
    assert found.within_sd == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"p": [1, 1, 2], "x": [1.0, 2, 3]}, "1 people have two values of 'x' or more"),
        ({"p": [1, 1, 2, 2], "x": [1.0, 1, 3, 3]}, "do not vary within people"),
    ],
)
def test_repeatability__refuses(table: dict[str, list[float]], message: str) -> None:
    with pytest.raises(TableRefused, match=message):
        repeatability(pd.DataFrame(table), value="x", person="p")
