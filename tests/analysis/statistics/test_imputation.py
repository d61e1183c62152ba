"""Multiple imputation beside mice, and what must hold of any imputed table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused
from analysis.statistics.imputation import Target, imputed_tables
from analysis.statistics.missing import pool_rubin
from analysis.statistics.survival.cox import fit_cox
from analysis.statistics.survival.risk_sets import nelson_aalen
from tests.analysis.statistics.references import GOLDEN, close, expected

R = expected("imputation")
TARGETS = [Target("sbp", "number"), Target("diabetes", "yes_no")]
MODEL = ["x", "age", "sbp", "diabetes"]
OPTIONS = {"duration": "time", "event": "event", "covariates": MODEL}


def people() -> pd.DataFrame:
    table = pd.read_csv(GOLDEN / "imputation" / "people.csv")
    hazard = nelson_aalen(table["time"].to_numpy(float), table["event"].to_numpy(bool))
    return table.assign(hazard=hazard, happened=table["event"].astype(float))


def made(m: int, seed: int = 1, **changes: object) -> list[pd.DataFrame]:
    return list(imputed_tables(people().assign(**changes), TARGETS, ["x", "age", "happened", "hazard"], m=m, seed=seed))


def test_nelson_aalen__equals_r() -> None:
    """But for a few ties, in which mice's hazard is Efron's; by hand 1/4 and 1/4 + 2/2."""
    close(people()["hazard"].head(10), R["hazard"], rtol=1e-4)
    exits, events = np.array([1.0, 2.0, 3.0, 3.0]), np.array([True, False, True, True])
    close(nelson_aalen(exits, events), [0.25, 0.25, 1.25, 1.25], rtol=1e-12)


def test_imputation__gives_the_pooled_fit_of_mice() -> None:
    """Of 100 imputations; mice's own differ from seed to seed by some hundredths of an error."""
    pooled = pool_rubin([fit_cox(one, **OPTIONS) for one in made(100)])
    own = pooled.estimates.set_index("term").loc[MODEL]
    assert (np.abs(own["coef"].to_numpy() - R["coef"]) < 0.15 * np.array(R["se"])).all()
    close(own["se"], R["se"], rtol=0.06)
    close(own["fmi"], R["fmi"], rtol=0.0, atol=0.09)
    # Complete rows alone are further off, and less precise.
    complete = fit_cox(people().dropna(), **OPTIONS).estimates.set_index("term").loc[MODEL]
    close(complete["coef"], R["complete_coef"], rtol=1e-6)
    assert (own["se"] < complete["se"]).all()


def test_imputation__changes_missing_values_only_and_takes_values_that_occur() -> None:
    table = people()
    one, other = made(2)
    for name in ("sbp", "diabetes"):
        known = table[name].notna()
        assert (one.loc[known, name] == table.loc[known, name]).all()
        assert set(one[name]) <= set(table[name].dropna())
        assert (one.loc[~known, name] != other.loc[~known, name]).any()
    again = made(2)[0]
    pd.testing.assert_frame_equal(one, again)
    assert not made(2, seed=2)[0].equals(one)


def test_imputation__of_a_category_keeps_its_association() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=3000)
    level = np.array(["low", "middle", "top"])[np.clip(np.round(x + rng.normal(0, 0.5, 3000)) + 1, 0, 2).astype(int)]
    gone = rng.random(3000) < 0.3
    table = pd.DataFrame({"x": x, "level": np.where(gone, None, level)})
    (drawn, _) = imputed_tables(table, [Target("level", "category")], ["x"], m=2, seed=1)
    shares = [pd.Series(each[gone]).value_counts(normalize=True) for each in (level, drawn["level"].to_numpy())]
    assert np.abs(shares[0] - shares[1]).max() < 0.05
    means = [pd.Series(x[gone]).groupby(each[gone]).mean() for each in (level, drawn["level"].to_numpy())]
    assert np.abs(means[0] - means[1]).max() < 0.15


def test_imputation__refuses() -> None:
    with pytest.raises(ValueError, match="m is 1, expected 2 or more"):
        made(1)
    with pytest.raises(TableRefused, match=r"predictors .*'x': 1"):
        made(2, x=people()["x"].mask(people().index == 3))
    with pytest.raises(TableRefused, match="'sbp' is missing in 83% of the rows, expected at most 50%"):
        made(2, sbp=np.where(np.arange(600) < 100, 120.0 + np.arange(600), np.nan))
