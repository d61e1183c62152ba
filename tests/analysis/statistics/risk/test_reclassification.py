from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.statistics.columns import TableRefused
from analysis.statistics.risk import category_nri
from analysis.statistics.risk.reclassification import CAVEAT
from tests.analysis.statistics.references import GOLDEN, close, expected

MONTHS: dict[str, Any] = {
    "duration": "months",
    "event": "status",
    "old": "short",
    "new": "full",
    "thresholds": [0.05, 0.1],
    "at": 120,
}


def _people() -> pd.DataFrame:
    return pd.read_csv(GOLDEN / "risk" / "people.csv")


def test_category_nri__is_equal_to_r() -> None:
    of_r = expected("risk")["nri"]
    found = category_nri(_people(), **MONTHS)
    rows = found.estimates.set_index("part")
    close(rows["nri"], [of_r["events"], of_r["non_events"], of_r["nri"]], rtol=1e-11)
    close(rows["se"], [of_r["se_events"], of_r["se_non_events"], of_r["se"]], rtol=1e-9)
    moves = found.moves.set_index("direction")["n"]
    assert moves.to_dict() == {"up": of_r["n_up"], "down": of_r["n_down"], "same": 529}


def test_category_nri__without_censoring_is_a_count() -> None:
    # Cut 0.2. Events: two up, one down, one same. Others: one up, three down, two same.
    table = pd.DataFrame(
        {
            "t": [1, 1, 2, 3, 9, 9, 9, 9, 2, 9],
            "s": [1, 1, 1, 1, 0, 0, 0, 0, 2, 0],
            "old": [0.1, 0.1, 0.3, 0.3, 0.1, 0.3, 0.3, 0.3, 0.1, 0.3],
            "new": [0.2, 0.4, 0.1, 0.4, 0.3, 0.1, 0.1, 0.1, 0.1, 0.5],
        }
    )
    found = category_nri(table, duration="t", event="s", old="old", new="new", thresholds=[0.2], at=5)
    close(found.estimates["nri"], [(2 - 1) / 4, (3 - 1) / 6, 1 / 4 + 1 / 3], rtol=1e-12)
    close(found.observed, 0.4, rtol=1e-14)


def test_category_nri__exchanged_models_reverse_the_sign() -> None:
    one = category_nri(_people(), **MONTHS).estimates
    two = category_nri(_people(), **{**MONTHS, "old": "full", "new": "short"}).estimates
    close(one["nri"], -two["nri"], rtol=1e-11)
    close(one["se"], two["se"], rtol=1e-11)


def test_category_nri__carries_its_caveat() -> None:
    found = category_nri(_people(), **MONTHS)
    assert found.caveat == CAVEAT
    assert "no proper score" in found.caveat
    assert "no proper score" in (category_nri.__doc__ or "")


def test_category_nri__nobody_moves() -> None:
    people = _people().assign(same=lambda t: t["short"])
    found = category_nri(people, **{**MONTHS, "new": "same"})
    assert found.estimates["nri"].tolist() == [0, 0, 0]
    assert found.estimates["z"].isna().all()
    assert found.moves["observed"].isna().tolist() == [True, True, False]


@pytest.mark.parametrize("thresholds", [[], [0.0], [1.0], [0.1, 0.1], [[0.1]], [np.nan]])
def test_category_nri__wrong_thresholds_are_refused(thresholds: Any) -> None:
    with pytest.raises(ValueError, match=r"thresholds (is|has)"):
        category_nri(_people(), **{**MONTHS, "thresholds": thresholds})


def test_category_nri__score_is_refused() -> None:
    people = _people()
    people.loc[4, "short"] = 1.5
    with pytest.raises(TableRefused, match="'short' has 1 values outside 0 to 1"):
        category_nri(people, **MONTHS)


def test_category_nri__short_follow_up_of_those_who_move_is_refused() -> None:
    people = _people()
    people.loc[people["full"] >= 0.05, "months"] = 100
    with pytest.raises(TableRefused, match=r"people who move up ends at 100, expected .* at=120"):
        category_nri(people, **MONTHS)


def test_category_nri__nobody_with_the_event_is_refused() -> None:
    people = _people().replace({"status": {1: 0}})
    with pytest.raises(TableRefused, match="observed risk of 0 by 120"):
        category_nri(people, **MONTHS)


def test_category_nri__missing_is_refused_or_dropped() -> None:
    people = _people()
    people.loc[4, "short"] = np.nan
    with pytest.raises(TableRefused, match="'short' has 1 missing"):
        category_nri(people, **MONTHS)
    assert category_nri(people, **MONTHS, missing="drop").n_dropped_missing == 1
