"""Repeatability against R, and by its laws."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.statistics.agreement import repeatability
from analysis.statistics.columns import TableRefused
from tests.analysis.statistics.references import GOLDEN, expected

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
