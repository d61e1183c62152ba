"""Many fits to samples: each as `fit_cox` makes of a table with the drawn rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused
from analysis.statistics.design import Category
from analysis.statistics.survival.cox import CoxSamples, fit_cox
from tests.analysis.statistics.references import close, lung

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
