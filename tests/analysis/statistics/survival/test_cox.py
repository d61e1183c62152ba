"""Cox models against R's survival: data sets, weights, strata, entry; refusals; many samples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category
from analysis.statistics.survival import CoxFit
from analysis.statistics.survival.cox import CoxSamples, fit_cox
from tests.analysis.statistics.references import bladder2, close, expected, heart, lung, rossi, veteran

LUNG = {"duration": "time", "event": "event", "covariates": ["age", "sex", "ph.ecog"]}
ROSSI = {"duration": "week", "event": "arrest", "covariates": ["fin", "age", "race", "wexp", "mar", "paro", "prio"]}
WEIGHTED = {"duration": "week", "event": "arrest", "covariates": ["fin", "age", "prio"]}
HEART = {"duration": "stop", "entry": "start", "event": "event", "covariates": ["age", "year", "surgery", "transplant"]}
BLADDER = {
    "duration": "stop",
    "entry": "start",
    "event": "event",
    "covariates": ["rx", "number", "size"],
    "cluster": "id",
}
VETERAN = {
    "duration": "time",
    "event": "status",
    "covariates": [
        "trt",
        Category("celltype", reference="squamous", levels=("squamous", "smallcell", "adeno", "large")),
        "karno",
        "age",
        "prior",
    ],
}
NO_RACE = [name for name in ROSSI["covariates"] if name != "race"]

CASES: dict[str, tuple[Any, dict[str, Any], str, str | None]] = {
    "lung efron": (lung, LUNG, "lung", "efron"),
    "lung breslow": (lung, LUNG | {"ties": "breslow"}, "lung", "breslow"),
    "lung strata": (lung, LUNG | {"covariates": ["age", "ph.ecog"], "strata": ["sex"]}, "lung", "strata_sex"),
    "lung robust": (lung, LUNG | {"robust": True}, "lung", "robust"),
    "lung cluster": (lung, LUNG | {"cluster": "inst"}, "lung", "cluster_inst"),
    "veteran efron": (veteran, VETERAN, "veteran", "efron"),
    "veteran breslow": (veteran, VETERAN | {"ties": "breslow"}, "veteran", "breslow"),
    "rossi efron": (rossi, ROSSI, "rossi", "efron"),
    "rossi breslow": (rossi, ROSSI | {"ties": "breslow"}, "rossi", "breslow"),
    "rossi robust": (rossi, ROSSI | {"robust": True}, "rossi", "robust"),
    "rossi strata": (rossi, ROSSI | {"covariates": NO_RACE, "strata": ["race"]}, "rossi", "strata_race"),
    "heart entry": (heart, HEART, "heart_start_stop", "efron"),
    "heart cluster": (heart, HEART | {"cluster": "id"}, "heart_start_stop", "cluster_id"),
    "bladder cluster": (bladder2, BLADDER, "bladder2_ag_cluster", None),
}


def reference(case: str) -> dict[str, Any]:
    _, _, topic, key = CASES[case]
    found: dict[str, Any] = expected("survival")[topic]
    return found if key is None else found[key]


def fitted(case: str) -> CoxFit:
    table, arguments, _, _ = CASES[case]
    return fit_cox(table(), **arguments)


@pytest.mark.parametrize("case", CASES)
def test_fit_cox__equals_r(case: str) -> None:
    fit, wanted = fitted(case), reference(case)
    close(fit.estimates["coef"], wanted["coef"], rtol=1e-8)
    close(fit.estimates["se"], wanted["se"], rtol=1e-8)
    close(fit.estimates["se_model"], wanted["naive_se"] or wanted["se"], rtol=1e-8)
    close(fit.covariance, wanted["vcov"], rtol=1e-8, atol=1e-12)
    close(fit.log_likelihood, wanted["loglik"], rtol=1e-12)
    close(fit.estimates["hr_lo"], wanted["conf_low"], rtol=1e-8)
    close(fit.estimates["hr_hi"], wanted["conf_high"], rtol=1e-8)
    assert (fit.n, fit.n_events) == (wanted["n"], wanted["nevent"])


@pytest.mark.parametrize(
    ("key", "arguments"),
    [
        ("rossi_weighted", {"robust": True}),
        ("rossi_weighted", {}),
        ("rossi_weighted_cluster", {"cluster": "home"}),
        ("rossi_weighted_breslow", {"ties": "breslow"}),
    ],
)
def test_fit_cox__weights_that_are_not_whole_give_robust_errors(key: str, arguments: dict[str, Any]) -> None:
    fit, wanted = fit_cox(rossi(), weights="w", **WEIGHTED, **arguments), expected("cox")[key]
    close(fit.estimates["coef"], wanted["coef"], rtol=1e-8)
    close(fit.estimates["se"], wanted["se"], rtol=1e-8)
    close(fit.estimates["se_model"], wanted["se_model"], rtol=1e-8)
    close(fit.log_likelihood, wanted["loglik"], rtol=1e-12)
    assert fit.robust


def test_fit_cox__whole_weights_keep_the_model_errors() -> None:
    fit = fit_cox(rossi().assign(w=2), weights="w", **WEIGHTED)
    assert not fit.robust


def test_fit_cox__strata_with_delayed_entry() -> None:
    wanted = expected("cox")["heart_strata"]
    fit = fit_cox(
        heart(),
        duration="stop",
        entry="start",
        event="event",
        covariates=["age", "year", "transplant"],
        strata=["surgery"],
    )
    close(fit.estimates["coef"], wanted["coef"], rtol=1e-8)
    close(fit.estimates["se"], wanted["se"], rtol=1e-8)
    close(fit.log_likelihood, wanted["loglik"], rtol=1e-12)
    predicted = wanted["predicted"]
    got = survival_of(fit, pd.DataFrame(predicted["new"]), predicted["times"])
    close(got, [curve["survival"] for curve in predicted["curves"]], rtol=1e-10)


def survival_of(fit: CoxFit, table: pd.DataFrame, times: list[float]) -> np.ndarray:
    """Survival of each row at each time by its hazard ratio and the baseline of its stratum."""
    risks, strata = fit.relative_risks(table)
    grid = np.unique(np.concatenate([fit.state.ranges.times, times]))
    hazard = np.cumsum(fit.baseline_steps(grid), axis=1)[:, np.searchsorted(grid, times)]
    return np.exp(-risks[:, None] * hazard[strata])


@pytest.mark.parametrize(("key", "ties"), [("predict", "efron"), ("predict_breslow_ties", "breslow")])
def test_risks_and_baseline__give_the_survival_of_r(key: str, ties: Any) -> None:
    wanted = expected("survival")["lung"][key]
    people = pd.DataFrame({"age": [50, 70], "sex": [1, 2], "ph.ecog": [0, 2]})
    got = survival_of(fit_cox(lung(), ties=ties, **LUNG), people, wanted["times"])
    close(got.T, wanted["surv"], rtol=1e-8)


def test_relative_risks__refuse_a_stratum_that_was_not_in_the_fit() -> None:
    fit = fit_cox(lung(), duration="time", event="event", covariates=["age"], strata=["sex"])
    with pytest.raises(TableRefused, match="strata sex: 3 was not in the fit; expected one of 1, 2"):
        fit.relative_risks(pd.DataFrame({"age": [60], "sex": [3]}))


def test_relative_risks__are_relative_to_the_means() -> None:
    fit = fit_cox(lung(), **LUNG)
    close(np.log(fit.relative_risks(lung().head(10))[0]), expected("cox")["lung_lp"], rtol=1e-8)


def _veteran(covariates: list[Any]) -> CoxFit:
    return fit_cox(veteran(), duration="time", event="status", covariates=covariates)


def test_tests_between_models__equal_r() -> None:
    cells = Category("celltype", reference="squamous")
    large, small = _veteran(["trt", cells, "karno"]), _veteran(["trt", "karno"])
    wanted = expected("cox")
    close(large.estimates["coef"], wanted["veteran_coef"], rtol=1e-8)
    close(large.likelihood_ratio_test(small), list(wanted["veteran_lr"].values()), rtol=1e-8)
    assert small.likelihood_ratio_test(large) == large.likelihood_ratio_test(small)
    terms = [term for term in large.estimates["term"] if term.startswith("celltype")]
    assert large.wald_test(terms)[:2] == (pytest.approx(wanted["veteran_wald"], rel=1e-8), 3)


def test_likelihood_ratio_test__refuses_models_that_it_does_not_compare() -> None:
    full = fit_cox(lung(), **LUNG)

    def fit(**changes: Any) -> CoxFit:
        return fit_cox(lung(), **(LUNG | {"covariates": ["age"]} | changes))

    with pytest.raises(ValueError, match="not nested"):
        full.likelihood_ratio_test(fit(covariates=["pat.karno"], missing="drop"))
    with pytest.raises(ValueError, match=r"not of the same data: .* 226 rows"):
        full.likelihood_ratio_test(fit_cox(lung().iloc[1:], **(LUNG | {"covariates": ["age"]})))
    with pytest.raises(ValueError, match="not of the same data"):
        full.likelihood_ratio_test(fit(ties="breslow"))
    with pytest.raises(ValueError, match="use wald_test"):
        full.likelihood_ratio_test(fit(robust=True))
    with pytest.raises(ValueError, match=r"\['x'\] has no estimate"):
        full.wald_test(["x"])


def test_fit_cox__missing_values_are_refused_or_counted() -> None:
    table = lung()
    with pytest.raises(TableRefused, match=r"column 'wt.loss' has 14 missing values \(rows 0, "):
        fit_cox(table, duration="time", event="event", covariates=["age", "wt.loss"])
    fit = fit_cox(table, duration="time", event="event", covariates=["age", "wt.loss"], missing="drop")
    assert (fit.n, fit.n_dropped_missing) == (226 - 14, 14)


def test_fit_cox__few_events_are_a_warning_in_the_result() -> None:
    table = lung().head(60)
    table["event"] &= table.index < 30
    fit = fit_cox(table, **LUNG)
    assert fit.n_events < 30
    assert fit.warnings == (
        f"{fit.n_events} events for 3 parameters, fewer than 10 each: estimates are unstable and limits too narrow",
    )
    assert fit_cox(lung(), **LUNG).warnings == ()


def test_fit_cox__a_level_without_events_has_no_estimate_and_does_not_change_the_others() -> None:
    """The limit of an infinite coefficient: the fit without these people."""
    table = lung().assign(smoking="never")
    rng = np.random.default_rng(3)
    table["smoking"] = rng.choice(["never", "former", "current"], len(table))
    table.loc[table["smoking"] == "former", "event"] = False
    smoking = Category("smoking", reference="never")
    fit = fit_cox(table, duration="time", event="event", covariates=["age", smoking])
    without = fit_cox(table[table["smoking"] != "former"], duration="time", event="event", covariates=["age", smoking])
    estimates = fit.estimates.set_index("term")
    assert estimates.loc["smoking=former"].isna().all()
    same = ["age", "smoking=current"]
    close(estimates.loc[same], without.estimates.set_index("term").loc[same], rtol=1e-9)
    count = (table["smoking"] == "former").sum()
    assert f"'smoking=former': none of the {count} rows with the value 1" in fit.warnings[0]
    assert (fit.n, fit.n_events) == (len(table), int(table["event"].sum()))
    assert len(fit.relative_risks(table[table["smoking"] == "never"].head(2))[0]) == 2
    with pytest.raises(TableRefused, match="level without an estimate"):
        fit.relative_risks(table[table["smoking"] == "former"])


def test_fit_cox__all_events_on_one_side_of_a_yes_no() -> None:
    table = lung().assign(exposed=lambda t: t["event"] | (t["age"] > 60))
    fit = fit_cox(table, duration="time", event="event", covariates=["age", "exposed"])
    assert math.isnan(fit.estimates.set_index("term").loc["exposed", "hr"])
    assert "with the value 0 has an event" in fit.warnings[0]


def test_fit_cox__separation_by_a_number_is_refused() -> None:
    """The one who has the event is always the one with the greatest value at risk."""
    table = pd.DataFrame({"time": range(1, 41), "event": True, "age": range(40, 0, -1)})
    table["x"] = np.random.default_rng(0).normal(size=40)
    with pytest.raises(TableRefused, match="covariate 'age' separates rows with an event"):
        fit_cox(table, duration="time", event="event", covariates=["age", "x"])


def test_fit_cox__separation_that_runs_out_of_numbers_is_refused_without_a_warning() -> None:
    """Found by comparing random data with R, which does not converge here."""
    table = pd.DataFrame(
        {
            "time": [0.61, 0.81, 3.95, 8.75, 9.65, 10.15, 11.88, 14.2, 15.83, 17.24, 17.81, 24.18, 26.93, 28.19, 44.56],
            "event": [0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1],
            "x": [
                -1.075643,
                -0.373596,
                -0.960723,
                -1.070612,
                -0.233183,
                -0.874497,
                1.036868,
                -0.6383,
                0.344253,
                -0.915986,
                -0.692537,
                0.3524,
                -0.137271,
                1.011469,
                1.635601,
            ],
            "y": [0, 0, 1, 1, 1, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0],
            "z": [0, 2.5, 1, 0, 2.5, 1, 1, -1, -1, 1, 1, 2.5, -1, 0, -1],
        }
    )
    with pytest.raises(TableRefused, match="separates rows with an event"):
        fit_cox(table, duration="time", event="event", covariates=["x", "y", "z"], ties="breslow")


def test_fit_cox__separation_by_two_covariates_together_is_refused() -> None:
    """Neither separates alone: the one with the event has the greatest sum of both at risk."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"x": rng.integers(0, 9, 30), "z": rng.integers(0, 9, 30)})
    total = table["x"] + table["z"] + rng.uniform(0, 0.5, 30)
    table = table.assign(event=True, time=(-total).rank())
    with pytest.raises(TableRefused, match="covariate 'x', 'z' separates rows with an event"):
        fit_cox(table, duration="time", event="event", covariates=["x", "z"])


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [
        ({"time": 0}, {}, r"column 'time' has 226 negative or zero times \(row 0: 0, 1: 0, "),
        ({"event": 2}, {}, "column 'event' has 226 values that are neither 0 nor 1"),
        ({"event": 0}, {}, "column 'event' has no event in 226 rows"),
        ({"age": 60}, {}, "column 'age' is constant at 60 over 226 rows"),
        ({"age": "old"}, {}, r"column 'age' holds text \(for example 'old'\), expected numbers"),
        ({"age": np.inf}, {}, "column 'age' has 226 infinite values"),
        ({"w": -1.0}, {"weights": "w"}, "column 'w' has 226 weights of 0 or less"),
        ({"start": 5000}, {"entry": "start"}, "entry times at or after the exit in 'time'"),
        ({"start": -1}, {"entry": "start"}, "column 'start' has 226 negative times"),
        ({}, {"strata": ["sex"]}, "covariate 'sex' does not vary among people at risk"),
        ({}, {"covariates": ["age", "nothing"]}, "column 'nothing' occurs 0 times"),
    ],
)
def test_fit_cox__refuses_by_column(changes: dict[str, Any], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TableRefused, match=message):
        fit_cox(lung().assign(**changes), **(LUNG | arguments))


def test_fit_cox__refuses_covariates_that_depend_on_each_other() -> None:
    table = lung().assign(double=lambda t: 2 * t["age"] - t["ph.ecog"])
    with pytest.raises(TableRefused, match="'double' is a linear combination of 'age', 'sex'"):
        fit_cox(table, **(LUNG | {"covariates": [*LUNG["covariates"], "double"]}))


def test_fit_cox__refuses_a_reference_without_events() -> None:
    table = veteran()
    table.loc[table["celltype"] == "large", "status"] = 0
    with pytest.raises(TableRefused, match="rows with the reference 'large' has an event"):
        fit_cox(table, duration="time", event="status", covariates=[Category("celltype", reference="large")])


def test_fit_cox__refuses_other_words() -> None:
    with pytest.raises(ValueError, match="ties is 'exact', expected 'efron' or 'breslow'"):
        fit_cox(lung(), **LUNG, ties="exact")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="missing is 'keep'"):
        fit_cox(lung(), **LUNG, missing="keep")  # type: ignore[arg-type]


def test_relative_risks__refuse_a_row_that_is_far_from_the_fit() -> None:
    person = pd.DataFrame({"age": [60, 70_000], "sex": 1, "ph.ecog": 1})
    with pytest.raises(TableRefused, match=r"1 rows \(the first: 1\) .* log hazard ratio is 786"):
        fit_cox(lung(), **LUNG).relative_risks(person)


COVARIATES = ["age", Category("sex", reference=1)]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return lung()


def _drawn(n: int, seed: int) -> np.ndarray:
    return np.bincount(np.random.default_rng(seed).integers(0, n, n), minlength=n)


@pytest.mark.parametrize("seed", [1, 2])
def test_repeated__is_the_fit_of_the_table_with_rows_repeated(table: pd.DataFrame, seed: int) -> None:
    drawn = _drawn(len(table), seed)
    rows = table.loc[np.repeat(table.index, drawn)].reset_index(drop=True)
    options = {"duration": "time", "event": "event", "covariates": COVARIATES}
    expected = fit_cox(rows, **options)
    found = CoxSamples.of(table, **options).repeated(drawn)
    names = ["coef", "se"]
    close(found.estimates[names], expected.estimates[names], rtol=1e-10)
    assert (found.n, found.n_events) == (expected.n, expected.n_events)


def test_weighted__is_the_fit_with_weights_and_another_first_covariate(table: pd.DataFrame) -> None:
    drawn = _drawn(len(table), 3)
    values = table["age"].to_numpy(dtype=float) ** 1.1
    options = {"duration": "time", "event": "event", "covariates": COVARIATES}
    weighted = table.assign(age=values, w=drawn)[drawn > 0]
    expected = fit_cox(weighted, weights="w", **options)
    found = CoxSamples.of(table, **options).weighted(drawn, values)
    names = ["coef", "se"]
    close(found.estimates[names], expected.estimates[names], rtol=1e-10)
    again = CoxSamples.of(table, **options).weighted(drawn)
    assert again.estimates["coef"][0] != found.estimates["coef"][0]


def test_sample__of_one_value_or_without_events_is_refused(table: pd.DataFrame) -> None:
    made = CoxSamples.of(table, duration="time", event="event", covariates=["sex"])
    men = (table["sex"] == 1).to_numpy().astype(int)
    with pytest.raises(TableRefused, match="'sex' is constant in the sample"):
        made.repeated(men)
    with pytest.raises(TableRefused, match="the sample has no event"):
        made.repeated((~table["event"].to_numpy()).astype(int))
