"""Numbers as people read them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from analysis.disclosure.aggregates import Aggregate, count, label
from analysis.disclosure.masking import HIDDEN, NOT_APPLICABLE, mask
from analysis.report.words import (
    interval_text,
    levels_in_order,
    number_text,
    of_model,
    outcomes_and_models,
    p_text,
    percent_texts,
    side_by_side,
    sorted_as_met,
)
from tests.analysis.report.outcome_rows import OFF
from tests.analysis.report.sample_report import ABOUT


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0004, "<0.001"),
        (0.0044, "0.004"),
        (0.0312, "0.03"),
        (0.0494, "0.049"),
        (0.45, "0.45"),
        (float("nan"), NOT_APPLICABLE),
    ],
)
def test_p_text(p: float, text: str) -> None:
    assert p_text(p) == text


def test_number_text__has_no_minus_before_zero() -> None:
    assert number_text(-0.04, 1) == "0.0"
    assert number_text(-1234.56, 1) == "-1,234.6"
    assert number_text(float("inf")) == NOT_APPLICABLE
    assert number_text(3.0, hidden=True) == HIDDEN


def test_interval_text__without_limits_is_the_estimate_alone() -> None:
    row = {"estimate": 1.234, "lo": 1.0, "hi": 1.5}
    assert interval_text(row) == "1.23 (1.00 to 1.50)"
    assert interval_text(row | {"lo": float("nan")}) == "1.23"
    assert interval_text(row, hidden=True) == HIDDEN


def test_percent_texts__of_what_is_hidden_are_hidden() -> None:
    parts, wholes = pd.Series([5, None, 0, 15]), pd.Series([20, 20, 0, 10])
    # 15 of 10 can come of rounding both.
    assert percent_texts(parts, wholes).tolist() == ["25.0%", HIDDEN, NOT_APPLICABLE, "100.0%"]


def test_levels_in_order__what_is_below_comes_first() -> None:
    assert levels_in_order(["70+", "50-59", "<50"]) == ["<50", "50-59", "70+"]


def test_side_by_side__keeps_the_order_of_rows_and_of_columns() -> None:
    rows = pd.DataFrame({"a": ["y", "y", "x"], "m": ["two", "one", "two"], "text": ["1", "2", "3"]})
    cells = side_by_side(rows, by=["a"], over="m", values=["text"])
    assert cells.to_dict("list") == {"a": ["y", "x"], "two": ["1", "3"], "one": ["2", "–"]}


def test_sorted_as_met__keeps_the_order_in_which_values_come_first() -> None:
    cells = pd.DataFrame({"a": ["y", "x", "y", "x"], "b": ["2", "1", "1", "2"], "n": [0, 1, 2, 3]})
    assert sorted_as_met(cells, ["a"])["n"].tolist() == [0, 2, 1, 3]
    assert sorted_as_met(cells, ["a", "b"])["n"].tolist() == [0, 2, 3, 1]


def test_of_model__is_nothing_where_there_is_one() -> None:
    assert of_model("") == ""
    assert of_model("khurshid") == ", model khurshid"


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ([""], [("af", "", "_af"), ("mi", "", "_mi")]),
        (
            ["narrow", "wide", "narrow"],
            [("af", "narrow", "_af_1"), ("af", "wide", "_af_2"), ("mi", "narrow", "_mi_1"), ("mi", "wide", "_mi_2")],
        ),
    ],
)
def test_outcomes_and_models__each_has_a_key_of_its_own(
    models: list[str], expected: list[tuple[str, str, str]]
) -> None:
    rows = pd.DataFrame({"model_id": models, "n": [10] * len(models)})
    found = mask(Aggregate("t", rows, (label("model_id", ""), count("n", ""))), OFF)
    about = replace(ABOUT, outcomes={"af": "atrial fibrillation", "mi": "myocardial infarction"})
    assert list(outcomes_and_models(found, about)) == expected
