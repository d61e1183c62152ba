"""Formats of numbers by journal; expected texts are written by hand."""

from __future__ import annotations

import pytest

from analysis.disclosure.masking import rounded_p
from analysis.report.journals import JOURNALS, footnote_sign, in_journal, journal
from analysis.report.words import digits_of, interval_text, number_text, p_phrase, p_text, percent_interval_text

ROW = {"estimate": 1.534, "lo": 1.272, "hi": 1.836}
NEGATIVE = {"estimate": -0.5, "lo": -1.25, "hi": 0.25}


@pytest.mark.parametrize(
    ("key", "ratio", "difference", "small", "tiny", "share"),
    [
        ("plain", "1.53 (1.27 to 1.84)", "-0.50 (-1.25 to 0.25)", "P=0.004", "P<0.001", "4.1% (3.2 to 5.0)"),
        ("jama", "1.53 (1.27-1.84)", "-0.50 (-1.25 to 0.25)", "P=.004", "P<.001", "4.1% (3.2-5.0)"),
        ("circulation", "1.53 (1.27–1.84)", "-0.50 (-1.25 to 0.25)", "P=0.004", "P<0.001", "4.1% (3.2–5.0)"),
        ("lancet", "1·53 (1·27–1·84)", "-0·50 (-1·25 to 0·25)", "p=0·004", "p<0·0001", "4·1% (3·2–5·0)"),
    ],
)
def test_in_journal__numbers_as_the_journal_prints_them(
    key: str, ratio: str, difference: str, small: str, tiny: str, share: str
) -> None:
    with in_journal(key):
        assert interval_text(ROW) == ratio
        assert interval_text(NEGATIVE) == difference
        assert p_phrase(0.0044) == small
        assert p_phrase(0.00002) == tiny
        assert percent_interval_text(0.041, 0.032, 0.05) == share


def test_in_journal__ends_with_its_block_also_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), in_journal("lancet"):
        1 / 0  # noqa: B018 - the error is the point
    assert journal() is JOURNALS["plain"]
    assert number_text(1.5, 1) == "1.5"


def test_in_journal__unknown_is_refused() -> None:
    with pytest.raises(ValueError, match=r"journal is 'bmj', expected one of plain, jama"), in_journal("bmj"):
        pass


def test_lancet__has_four_decimals_between_its_two_limits() -> None:
    with in_journal("lancet"):
        assert p_text(0.0004) == "0·0004"


def test_lancet__a_masked_p_value_is_not_told_as_a_number() -> None:
    with in_journal("lancet"):
        assert p_text(rounded_p(1e-30)) == "<0·001"


def test_p_text__does_not_round_across_one_in_twenty() -> None:
    assert [p_text(one) for one in (0.044, 0.0496, 0.0504, 0.056)] == ["0.04", "0.050", "0.050", "0.06"]


@pytest.mark.parametrize(
    ("numbers", "digits"),
    [((2.04, 1.26, 3.32), 2), ((0.00032, 0.00011, 0.00053), 5), ((0.712, 0.701, 0.723), 3), ((0.5, 0.5, 0.5), 2)],
)
def test_digits_of__two_digits_of_what_lies_between(numbers: tuple[float, float, float], digits: int) -> None:
    assert digits_of(*numbers) == digits


def test_footnote_sign__each_once_then_each_twice() -> None:
    assert [footnote_sign(place) for place in range(8)] == ["†", "‡", "§", "‖", "¶", "#", "††", "‡‡"]
    with in_journal("jama"):
        assert footnote_sign(1) == "b"
