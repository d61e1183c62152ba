"""Figures from which single people or events can be read, by the coordinates of their paths."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from analysis.release_check.findings import Finding, Worst
from analysis.release_check.reading import Table, svg_texts

_TICKS: Final = re.compile(r'id="[^"]*ytick_\d+"')
_USE_Y: Final = re.compile(r'<use [^>]*\by="([-\d.]+)"')
_NUMBER: Final = re.compile(r"<!--\s*([−-]?[\d.]+)\s*-->|<text[^>]*>\s*([−-]?[\d.]+)\s*</text>")
_PATH: Final = re.compile(r'<path d="([^"]*)"[^>]*style="fill: none[^"]*stroke:')
_POINT: Final = re.compile(r"[ML]\s*([-\d.]+)[ ,]+([-\d.]+)")
_GROUP: Final = re.compile(r'<g id="[^"]*(?:PathCollection|line2d)_\d+">(.*?)</g>\s*</g>', re.DOTALL)
_MOST_MARKERS: Final = 100
_FEWEST_STEPS: Final = 2


def curves_of(svg: str) -> list[list[tuple[float, float]]]:
    """Return the step curves of a figure as points of x (pixels) and y (values of its axis)."""
    scale = _y_scale(svg)
    if scale is None:
        return []
    slope, start = scale
    found = []
    for path in _PATH.findall(svg):
        points = [(float(x), float(y)) for x, y in _POINT.findall(path)]
        straight = all(a[0] == b[0] or a[1] == b[1] for a, b in pairwise(points))
        if len({y for _, y in points}) > _FEWEST_STEPS and straight:
            found.append([(x, slope * y + start) for x, y in points])
    return found


def _y_scale(svg: str) -> tuple[float, float] | None:
    """Return slope and start of values by pixels, from the labels of the first y axis."""
    places = [match.start() for match in _TICKS.finditer(svg)]
    pairs = []
    for start, end in pairwise([*places, places[-1] + 6000] if places else []):
        part = svg[start:end]
        y, label = _USE_Y.search(part), _NUMBER.search(part)
        if y and label:
            pairs.append((float(y[1]), float((label[1] or label[2]).replace("−", "-"))))
    if len({y for y, _ in pairs}) < 2:
        return None
    (y0, v0), (y1, v1) = pairs[0], pairs[-1]
    slope = (v1 - v0) / (y1 - y0)
    return slope, v0 - slope * y0


def check_figure(file: str, svg: str, k: int) -> Iterator[Finding]:
    """Yield curves with steps of few people at risk, and clouds of single points.

    A step that one event makes is one over the people at risk, times those without an event so far.
    """
    texts = " ".join(svg_texts(svg))
    if "incidence" in texts.lower() or "survival" in file.lower():
        share = 100.0 if "%" in texts else 1.0
        for number, curve in enumerate(curves_of(svg), 1):
            values = [value / share for _, value in curve]
            yield from _steep(file, f"curve {number} of the figure", values, k)
    for group in _GROUP.findall(svg):
        n = group.count("<use ")
        if n > _MOST_MARKERS:
            yield Finding(Worst.FIGURE, file, "markers", str(n), "a point for each of many people or events")


def check_curves(table: Table, k: int) -> Iterator[Finding]:
    """Yield the same of curves in a table: columns of incidence and time."""
    names = {head.strip().lower(): place for place, head in enumerate(table.heads)}
    if "incidence" not in names or "years" not in names:
        return
    labels = [p for p, head in enumerate(table.heads) if head in ("outcome", "classification", "group")]
    curves: dict[tuple[str, ...], list[float]] = {}
    for row in table.rows:
        text = row[names["incidence"]]
        if text not in ("", "*"):
            curves.setdefault(tuple(row[p] for p in labels), []).append(float(text))
    for label, values in curves.items():
        yield from _steep(table.file, " / ".join(label), values, k)


def _steep(file: str, place: str, values: Sequence[float], k: int) -> Iterator[Finding]:
    steps = np.diff(values)
    left = 1 - np.asarray(values[:-1])
    rising = steps > 1e-9
    if not rising.any():
        return
    at_risk = np.where(rising, left / np.where(rising, steps, 1.0), np.inf)
    few = at_risk < k - 0.5
    if few.any():
        text = f"{int(few.sum())} of {int(rising.sum())} steps; about {at_risk.min():.1f} at risk"
        yield Finding(Worst.FIGURE, file, place, text, f"steps of a curve with fewer than {k} people at risk")
