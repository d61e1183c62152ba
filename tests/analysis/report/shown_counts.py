"""Shown counts as a reader understands them."""

from __future__ import annotations


def interval(text: str, base: int = 5) -> tuple[float, float]:
    """Between what a count lies that is shown, rounded to `base`, or to more: "1,240±20"."""
    value, _, off = text.replace(",", "").partition("±")
    half = float(off or base / 2)
    return float(value) - half, float(value) + half


def left_for(total: str, *others: str, base: int = 5) -> tuple[float, float]:
    """Between what lies the part of a total that is hidden, where the other parts are shown."""
    low, high = interval(total, base)
    for other in others:
        its_low, its_high = interval(other, base)
        low, high = low - its_high, high - its_low
    return low, high
