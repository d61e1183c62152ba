import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.statistics.columns import TableRefused
from analysis.statistics.survival.aalen_johansen import gray_test
from analysis.statistics.survival.kaplan_meier import logrank_test

GOLDEN = Path(__file__).parents[3] / "golden"
SURVIVAL = json.loads((GOLDEN / "survival" / "expected.json").read_text())
CURVES = json.loads((GOLDEN / "curves" / "expected.json").read_text())


def _close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-10, atol=0)


def _people() -> pd.DataFrame:
    people = pd.read_csv(GOLDEN / "curves" / "people.csv")
    return people.assign(coarse=np.ceil(people["length"] / 4))


def test_gray_test__mgus2_is_equal_to_cmprsk() -> None:
    table = pd.read_csv(GOLDEN / "survival" / "data" / "mgus2.csv")
    progressed = table["pstat"] == 1
    table["months"] = np.where(progressed, table["ptime"], table["futime"])
    table["status"] = np.where(progressed, 1, 2 * table["death"])
    found = gray_test(table, duration="months", event="status", by="sex")
    expected = np.array(SURVIVAL["mgus2"]["cuminc_sex"]["gray"])
    _close(found[["chi2", "p", "df"]].to_numpy(), expected)


@pytest.mark.parametrize(
    ("key", "duration", "by"),
    [
        ("tied", "length", "group"),
        ("untied", "untied", "group"),
        ("two", "length", "stratum"),
        ("coarse", "coarse", "group"),
    ],
)
def test_gray_test__groups_and_ties_are_equal_to_cmprsk(key: str, duration: str, by: str) -> None:
    found = gray_test(_people(), duration=duration, event="status", by=by)
    for name in ("chi2", "df", "p"):
        _close(found[name], CURVES["gray"][key][name])


def test_gray_test__last_group_alone_is_left_out_of_the_comparison() -> None:
    # Nobody of group b is followed beyond 3: later events of a compare nothing.
    table = pd.DataFrame(
        {"time": [1, 2, 3, 4, 5, 6, 1.5, 2.5, 3], "status": [1, 2, 1, 1, 1, 0, 1, 1, 0], "group": ["a"] * 6 + ["b"] * 3}
    )
    later = table.assign(time=table["time"].where(table["time"] < 4, table["time"] + 10))
    names: Any = {"duration": "time", "event": "status", "by": "group", "causes": (1, 2)}
    _close(gray_test(table, **names)["chi2"], gray_test(later, **names)["chi2"])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_gray_test__names_and_order_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {"time": rng.integers(1, 12, 90), "status": rng.choice(3, 90), "group": rng.choice(["a", "b", "c"], 90)}
    )
    names: Any = {"duration": "time", "event": "status", "by": "group"}
    first = gray_test(table, **names)
    mixed = table.assign(group=table["group"].map({"a": 3, "b": 1, "c": 2}), time=table["time"] * 7)
    second = gray_test(mixed.sample(frac=1, random_state=seed), causes=(2, 1), **names)
    np.testing.assert_allclose(first["chi2"], second["chi2"][::-1], rtol=1e-8, atol=1e-10)


def test_gray_test__without_competing_events_is_close_to_the_log_rank_test() -> None:
    rng = np.random.default_rng(2)
    group = rng.choice(2, 4000)
    table = pd.DataFrame({"time": rng.exponential(1 + 0.1 * group), "status": rng.choice(2, 4000), "group": group})
    gray = gray_test(table, duration="time", event="status", by="group", causes=[1])
    rank = logrank_test(table, duration="time", event="status", by="group")
    # The score is the same; the variances are two estimates of one.
    np.testing.assert_allclose(gray["chi2"].iloc[0], rank.chi2, rtol=0.02, atol=0)


def test_gray_test__refusals() -> None:
    table = _people()
    names: Any = {"duration": "length", "event": "status"}
    with pytest.raises(TableRefused, match="column 'group' has one group, 'a', over 150 rows"):
        gray_test(table.assign(group="a"), by="group", **names)
    with pytest.raises(TableRefused, match="column 'status' has no event of cause 3"):
        gray_test(table, by="group", causes=(1, 2, 3), **names)
    with pytest.raises(TableRefused, match="column 'status' has 53 statuses outside the codes"):
        gray_test(table.assign(status=(["9"] * 53 + ["0"] * 97)).astype({"status": int}), by="group", **names)
    with pytest.raises(TableRefused, match="column 'length' has 1 missing values"):
        gray_test(table.assign(length=[None, *table["length"][1:]]), by="group", **names)
    with pytest.raises(ValueError, match="by is empty"):
        gray_test(table, by=[], **names)
    with pytest.raises(ValueError, match="expected whole numbers of 1 or above"):
        gray_test(table, by="group", causes=(-1,), **names)
    apart = pd.DataFrame({"length": [1, 2, 3, 4], "status": [0, 0, 1, 2], "group": list("aabb")})
    with pytest.raises(TableRefused, match="no event of cause 1 at which all groups could be"):
        gray_test(apart, by="group", **names)
