"""Where the texts of a figure really are, and whether any is cut off or lies on another."""

from __future__ import annotations

from itertools import combinations
from typing import Any
from unittest.mock import patch

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from analysis.report.figures.drawing import STYLE


def drawn_texts(canvas: Figure) -> list[tuple[Text, Bbox]]:
    """Draw, and return the texts that were drawn, with their boxes in pixels."""
    found: list[Text] = []
    draw = Text.draw

    def noted(text: Text, renderer: Any) -> None:
        if text.get_visible() and text.get_text().strip():
            found.append(text)
        draw(text, renderer)

    with mpl.rc_context(STYLE), patch.object(Text, "draw", noted):
        agg = FigureCanvasAgg(canvas)
        agg.draw()
        once = dict.fromkeys(found)
        return [(text, text.get_window_extent(agg.get_renderer())) for text in once]


def faults(canvas: Figure, fewest_pt: float = 7.0) -> list[str]:
    """Return what is wrong with a figure's texts: cut off, on each other, too small."""
    texts = drawn_texts(canvas)
    width, height = canvas.get_size_inches() * canvas.dpi
    found = [
        f"{text.get_text()!r} is cut off"
        for text, box in texts
        if box.x0 < -0.5 or box.y0 < -0.5 or box.x1 > width + 0.5 or box.y1 > height + 0.5
    ]
    for (one, a), (other, b) in combinations(texts, 2):
        # Half a pixel of each side is the edge of a letter.
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1:
            found.append(f"{one.get_text()!r} lies on {other.get_text()!r}")
    found += [f"{t.get_text()!r} is small" for t, _ in texts if t.get_fontsize() < fewest_pt]
    return found
