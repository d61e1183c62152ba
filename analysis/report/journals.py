"""How journals print numbers: decimal sign, intervals, P values and footnote signs.

One style is in force at a time: `with in_journal("lancet"):` around all that makes texts. The
functions of `analysis.report.words` read it; nothing else formats numbers for readers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Journal:
    """The format of numbers in one journal."""

    key: str  # of the option --journal
    name: str
    decimal: str = "."
    between: str = " to "  # the two limits of an interval
    between_negative: str = " to "  # where one of them is below zero
    p_letter: str = "P"
    p_zero: str = "0"  # before the decimal sign of a P value
    least_p: float = 0.001  # below it, only that is said
    signs: str = "†‡§‖¶#"  # of footnotes, in order; then twice each. "*" is a hidden number
    source: str = ""  # public text behind it


# The AMA Manual of Style (sections 18.7.1 and 19.5, quoted by JMIR's guidelines for reporting
# statistics) prints P, alpha and beta without a zero before the point. The Lancet's formatting
# guidelines ask for midline decimal points ("23·4, not 23.4"); its limit of P is that of the theme
# "lancet" of the R package gtsummary. docs/report.md has the addresses.
JOURNALS: Final = {
    one.key: one
    for one in (
        Journal("plain", "no journal in particular"),
        Journal(
            "jama",
            "JAMA and its family",
            between="-",
            p_zero="",
            signs="abcdefghij",
            source="AMA Manual of Style, sections 18.7.1 and 19.5",
        ),
        Journal("circulation", "Circulation and its family", between="–", source="as printed in Khurshid et al. 2021"),
        Journal(
            "lancet",
            "The Lancet and its family",
            decimal="·",
            between="–",
            p_letter="p",
            least_p=0.0001,
            source="The Lancet, formatting guidelines for electronic submission",
        ),
    )
}
_CURRENT: ContextVar[Journal] = ContextVar("journal", default=JOURNALS["plain"])


def journal() -> Journal:
    """Return the style in force."""
    return _CURRENT.get()


@contextmanager
def in_journal(key: str) -> Iterator[Journal]:
    """Put a style of `JOURNALS` in force inside a `with` block."""
    if key not in JOURNALS:
        raise ValueError(f"journal is {key!r}, expected one of {', '.join(JOURNALS)}")
    token = _CURRENT.set(JOURNALS[key])
    try:
        yield JOURNALS[key]
    finally:
        _CURRENT.reset(token)


def footnote_sign(place: int) -> str:
    """Return the sign of a footnote by its place, from 0: each once, then each twice, and so on."""
    signs = journal().signs
    return signs[place % len(signs)] * (place // len(signs) + 1)
