"""What a spreadsheet would run gets an apostrophe; numbers stay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.tables.values import no_formula


@pytest.mark.parametrize(
    "text",
    [
        "=cmd|' /C calc'!A0",
        "@SUM(1)",
        "+1+cmd|' /C calc'!A0",
        "-2+3+cmd|' /C calc'!A0",
        "-1-2",
        "\t=1",
        "\r=1",
        "- 2 years",
        "-",
        "-0.5 (=1 to 2)",
        "-1\n=2",
    ],
)
def test_no_formula__an_apostrophe_before_what_runs(text: str) -> None:
    assert no_formula(text) == f"'{text}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "60-69",
        "< 0.001",
        "'=a",
        "-0.5",
        "+3",
        "-.5",
        "-1,234",
        "-2e-05",
        "-3.1 %",
        "-0.5 (-1.0 to 0.1)",
        "-5.0 (3.2)",
    ],
)
def test_no_formula__other_text_and_numbers_stay(text: str) -> None:
    assert no_formula(text) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_formula__numbers_as_text_stay(number: float) -> None:
    assert no_formula(repr(number)) == repr(number)


@given(st.text())
def test_no_formula__twice_is_once(text: str) -> None:
    assert no_formula(no_formula(text)) == no_formula(text)
