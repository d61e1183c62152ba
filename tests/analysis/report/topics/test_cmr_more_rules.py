"""The rules beside the paper's three, compared in the people who have all nine."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from analysis.disclosure.masking import Masked, MaskingRule
from analysis.report.topics.cmr import present
from analysis.report.topics.cmr_lvh import ALL_NINE, ALL_THREE, FROM_ROUNDED, MORE_YES_NO, YES_NO, C
from analysis.report.topics.cmr_pairs import MORE_RULES, cmr_pairs, estimate_of
from analysis.study.settings import Release
from lvm_core.tables.schemas import PREDICTIONS
from tests.analysis.report.cmr_people import hand_data, masked_of

NEGATIVE = dict.fromkeys(MORE_RULES, False)
# Women of 2 m2: LVH by CMR above 110 g.
LVH, NO_LVH = {**NEGATIVE, "lvm_cmr_g": 120.0}, {**NEGATIVE, "lvm_cmr_g": 100.0}


def _people() -> list[dict[str, Any]]:
    """Of 10 with LVH Peguero-Lo Presti finds 7, of 20 without it finds 4."""
    found = {"rule_peguero_lo_presti": True}
    return [{**LVH, **found}] * 7 + [LVH] * 3 + [{**NO_LVH, **found}] * 4 + [NO_LVH] * 16


def _all_nine(masked: dict[str, Masked]) -> pd.DataFrame:
    rows = masked["cmr_lvh"].rows
    return rows[rows["population"] == ALL_NINE].set_index("marker")


def test_more_rules__are_those_of_the_predictions() -> None:
    rules = {name for name in PREDICTIONS.names if name.startswith("rule_")}
    assert rules == {name for name in {**YES_NO, **MORE_YES_NO} if name.startswith("rule_")}
    assert tuple(MORE_YES_NO) == MORE_RULES


def test_counts__by_hand_on_the_people_with_all_nine() -> None:
    lacking = {**LVH, "rule_lewis": None, "rule_peguero_lo_presti": True}
    masked = masked_of(hand_data([*_people(), *[lacking] * 5]))
    rows = _all_nine(masked)
    assert list(rows.index) == [*YES_NO.values(), *MORE_YES_NO.values()]
    assert rows.loc["Peguero-Lo Presti", ["tp", "fn", "fp", "tn"]].tolist() == [7, 3, 4, 16]
    assert rows.loc["Lewis", ["tp", "fn", "fp", "tn"]].tolist() == [0, 10, 0, 20]
    three = masked["cmr_lvh"].rows
    assert set(three.loc[three["population"] == ALL_THREE, "n_people"]) == {35}


def test_c_statistic__by_hand() -> None:
    """The mean of 7 of 10 and 16 of 20; a rule that never speaks has 0.5."""
    masked = masked_of(hand_data(_people()))
    found = {
        name: estimate_of(masked["results_cmr"], C, words, ALL_NINE)["estimate"]  # type: ignore[index]
        for name, words in MORE_YES_NO.items()
    }
    assert found.pop("rule_peguero_lo_presti") == pytest.approx(0.75)
    assert set(found.values()) == {0.5}


def test_predictions_of_earlier_versions__have_no_comparison_of_nine() -> None:
    data = hand_data([{"lvm_cmr_g": mass} for mass in (120.0, 100.0) * 10])
    assert not cmr_pairs(data)["all_nine"].any()
    masked = masked_of(data)
    assert _all_nine(masked).empty
    assert ALL_NINE not in set(masked["results_cmr"].rows["strata"])


def test_masking__hides_small_cells_and_rounds_the_rest() -> None:
    rule, release = MaskingRule(5, 5), Release(rule="strict", k=5, base=5)

    def shown(people: list[dict[str, Any]]) -> tuple[pd.Series[Any], dict[str, Any]]:
        masked = masked_of(hand_data(people, release=release), rule)
        row = estimate_of(masked["results_cmr"], C, "Peguero-Lo Presti", ALL_NINE)
        assert row is not None
        return _all_nine(masked).loc["Peguero-Lo Presti", ["tp", "fn", "fp", "tn"]], dict(row)

    cells, row = shown(_people())
    assert cells.isna().all()
    assert row["hidden_estimate"]
    cells, row = shown(_people() * 4)  # 28, 12, 16 and 64
    assert cells.tolist() == [30, 10, 15, 65]
    assert row["warnings"] == FROM_ROUNDED
    # The mean of 30 of 40 and 65 of 80, to three decimals.
    assert row["estimate"] == pytest.approx(0.781)


def test_present__has_a_table_of_nine_rules() -> None:
    data = hand_data(_people())
    section = present(masked_of(data), data.about)
    assert section is not None
    tables = {item.key: item for item in section.items}
    assert len(tables["cmr_more_rules"].cells) == 11  # type: ignore[union-attr]
    lines = tables["cmr_c_statistic"].cells  # type: ignore[union-attr]
    assert (lines["Group"] == "All nine ECG rules measured").sum() == 11
