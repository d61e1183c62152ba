from __future__ import annotations

import re

import pytest

from lvm_core.wording import counted
from tests.test_architecture import ROOT


@pytest.mark.parametrize(
    ("number", "noun", "form", "expected"),
    [
        (0, "ECG", "", "0 ECGs"),
        (1, "ECG", "", "1 ECG"),
        (2, "unit", "", "2 units"),
        (1, "person", "", "1 person"),
        (1234567, "person", ",", "1,234,567 people"),
        (3, "process", "", "3 processes"),
    ],
)
def test_counted__noun_agrees_with_the_number(number: int, noun: str, form: str, expected: str) -> None:
    assert counted(number, noun, form=form) == expected


def test_counted__verb_agrees_too() -> None:
    assert [counted(n, "unit", "are") for n in (0, 1, 2)] == ["0 units are", "1 unit is", "2 units are"]
    assert [counted(n, "ECG", "do") for n in (1, 2)] == ["1 ECG does", "2 ECGs do"]
    assert [counted(n, "ECG", "need") for n in (1, 2)] == ["1 ECG needs", "2 ECGs need"]
    assert counted(1000, "ECG", "have", form=",") == "1,000 ECGs have"


# A number in braces right before one of these nouns in the plural.
_BY_HAND = re.compile(r"\{[^{}]+\} (?:ECGs|units|files|people|inputs|archives|processes|workers|recordings)\b")
# What is never 1 where the message is shown, or a column of a table.
_EXCEPTIONS = ("{_SHOWN}", "unit_ecgs}", "sum(", "n_refused", "shape[0]")


def test_messages_of_jobs__have_no_plural_by_hand() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sorted((ROOT / "beam_jobs").rglob("*.py"))
        for match in _BY_HAND.finditer(path.read_text(encoding="utf-8"))
        if not any(exception in match[0] for exception in _EXCEPTIONS)
    ]
    assert found == []
