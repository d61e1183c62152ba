import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused
from analysis.statistics.survival.rates import incidence_rates, poisson_limits, rate_ratio

GOLDEN = Path(__file__).parents[3] / "golden"
RATES = json.loads((GOLDEN / "rates" / "expected.json").read_text())
PYEARS = json.loads((GOLDEN / "survival" / "expected.json").read_text())["lung"]["pyears"]


def _close(actual: Any, expected: Any, *, rtol: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(actual, dtype=float), np.asarray(expected, dtype=float), rtol=rtol, atol=0)


def _table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "years": [2.0, 3.0, 5.0, 1.0, 4.0, 5.0],
            "entry": [0.0, 1.0, 0.0, 0.5, 0.0, 1.0],
            "event": [1, 0, 1, 1, 0, 0],
            "arm": ["low", "low", "low", "high", "high", "high"],
            "sex": [0, 1, 0, 1, 0, 1],
        }
    )


def test_incidence_rates__lung_is_equal_to_r() -> None:
    lung = pd.read_csv(GOLDEN / "survival" / "data" / "lung.csv")
    lung = lung.assign(years=lung["time"] / 365.25, event=lung["status"] == 2)
    rates = incidence_rates(lung, duration="years", event="event", by="sex").rates
    for name, of_r in {
        "sex": "sex",
        "n_events": "events",
        "person_time": "py",
        "rate": "rate1000",
        "rate_lo": "lo",
        "rate_hi": "hi",
    }.items():
        _close(rates[name], PYEARS[of_r])


@pytest.mark.parametrize("case", RATES["rates"])
def test_poisson_limits__are_equal_to_r(case: dict[str, Any]) -> None:
    lo, hi = poisson_limits(np.array([case["events"]]), confidence=case["level"])
    _close(lo / case["person_time"], [case["lo"]])
    _close(hi / case["person_time"], [case["hi"]])


@pytest.mark.parametrize("case", RATES["ratios"])
def test_rate_ratio__is_equal_to_r(case: dict[str, Any]) -> None:
    names = ("events", "person_time", "reference_events", "reference_person_time")
    ratio, lo, hi, p = rate_ratio(**{n: case[n] for n in names}, confidence=case["level"])
    expected = [math.inf if case[name] is None else case[name] for name in ("ratio", "hi")]
    _close([ratio, hi], expected, rtol=1e-10)
    _close([lo, p], [case["lo"], case["p"]], rtol=1e-10)


def test_incidence_rates__worked_example() -> None:
    # Breslow and Day: 100 events in 1,000 person-years; exact limits 81.4 to 121.6.
    table = pd.DataFrame({"years": [10.0] * 100, "event": [1] * 100})
    rates = incidence_rates(table, duration="years", event="event").rates
    assert list(rates.columns)[:2] == ["n", "n_events"]
    assert rates["rate"].tolist() == [100]
    np.testing.assert_allclose(rates[["rate_lo", "rate_hi"]].to_numpy(), [[81.364, 121.627]], rtol=1e-5, atol=0)


def test_incidence_rates__delayed_entry_shortens_person_time() -> None:
    found = incidence_rates(_table(), duration="years", event="event", by="arm", entry="entry", per=100)
    assert found.rates["person_time"].tolist() == [8.5, 9.0]
    _close(found.rates["rate"], [100 / 8.5, 200 / 9])
    assert found.ratios.empty
    assert list(found.ratios.columns)[:2] == ["arm", "rate_ratio"]


def test_incidence_rates__ratios_to_the_stated_reference() -> None:
    found = incidence_rates(_table(), duration="years", event="event", by="arm", reference="low")
    assert found.ratios["arm"].tolist() == ["high"]
    _close(found.ratios["rate_ratio"], [(1 / 10) / (2 / 10)])
    turned = incidence_rates(_table(), duration="years", event="event", by="arm", reference="high")
    _close(turned.ratios["rate_ratio"], 1 / found.ratios["rate_ratio"])
    _close(turned.ratios["rate_ratio_lo"], 1 / found.ratios["rate_ratio_hi"])
    _close(turned.ratios["p"], found.ratios["p"])


def test_incidence_rates__several_columns_make_groups() -> None:
    found = incidence_rates(_table(), duration="years", event="event", by=["arm", "sex"], reference=("low", 0))
    assert found.rates[["arm", "sex"]].to_numpy().tolist() == [["high", 0], ["high", 1], ["low", 0], ["low", 1]]
    assert len(found.ratios) == 3
    assert found.reference == ("low", 0)


def test_rate_ratio__without_events() -> None:
    nothing = rate_ratio(events=0, person_time=3, reference_events=0, reference_person_time=4)
    assert math.isnan(nothing[0])
    assert nothing[1:] == (0, math.inf, 1)


def test_incidence_rates__drops_and_counts_missing_rows() -> None:
    table = _table().assign(event=[1, 0, 1, None, 0, 0])
    found = incidence_rates(table, duration="years", event="event", missing="drop")
    assert (found.rates["n"].tolist(), found.n_dropped_missing) == ([5], 1)


def test_incidence_rates__refusals() -> None:
    names: Any = {"duration": "years", "event": "event"}
    with pytest.raises(TableRefused, match="no row belongs to the reference 'middle' of by="):
        incidence_rates(_table(), by="arm", reference="middle", **names)
    with pytest.raises(TableRefused, match="every row belongs to the reference 'low'"):
        incidence_rates(_table().assign(arm="low"), by="arm", reference="low", **names)
    with pytest.raises(TableRefused, match="no row belongs to the reference 'low' of by="):
        incidence_rates(_table(), reference="low", **names)
    with pytest.raises(TableRefused, match="column 'years' has 1 negative or zero times"):
        incidence_rates(_table().assign(years=[0, 1, 1, 1, 1, 1]), **names)
    with pytest.raises(TableRefused, match="column 'event' has 6 values that are neither 0 nor 1"):
        incidence_rates(_table().assign(event=2), **names)
    with pytest.raises(TableRefused, match="column 'event' has 1 missing values"):
        incidence_rates(_table().assign(event=[1, 0, 1, None, 0, 0]), **names)
    with pytest.raises(ValueError, match="per is 0, expected a finite person-time above 0"):
        incidence_rates(_table(), per=0, **names)
    with pytest.raises(ValueError, match=r"confidence is 1.5, expected above 0 and below 1"):
        incidence_rates(_table(), confidence=1.5, **names)
