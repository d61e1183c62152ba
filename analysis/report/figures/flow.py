"""Flow of people: everybody, who was left out and why, and who was analysed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Rectangle

from analysis.disclosure.masking import HIDDEN
from analysis.report.figures.drawing import SMALL_PT, WIDTH_IN, Drawn, in_style, new_canvas, wrapped
from analysis.report.words import counted_text, sentence

_LINE_IN: Final = 0.135
_PAD_IN: Final = 0.09
_GAP_IN: Final = 0.12
_EDGE_IN: Final = 0.06
_MAIN_IN: Final = 2.35
_SIDE_LEFT_IN: Final = 2.9
_ENDS_GAP_IN: Final = 0.22


@dataclass(frozen=True, slots=True)
class _Box:
    """A box with its text; places in inches, y downwards."""

    text: str
    left: float
    top: float
    width: float

    @property
    def height(self) -> float:
        return _LINE_IN * (self.text.count("\n") + 1) + 2 * _PAD_IN

    @property
    def middle(self) -> float:
        return self.top + self.height / 2


@in_style
def flow_diagram(rows: pd.DataFrame) -> Drawn:
    """Draw a flow diagram; exclusions of nobody share one box.

    `rows` are masked and in order: everybody first, exclusions, the analysed last. They have
    `reason`, `label` (in words) and `n_people`; missing is `HIDDEN`.
    """
    start = _main(rows.iloc[0], _EDGE_IN)
    down = start.top + start.height + _ENDS_GAP_IN
    sides = []
    for text in _exclusions(rows.iloc[1:-1]):
        box = _Box(text, _SIDE_LEFT_IN, down, WIDTH_IN - _EDGE_IN - _SIDE_LEFT_IN)
        sides.append(box)
        down += box.height + _GAP_IN
    end = _main(rows.iloc[-1], down + _ENDS_GAP_IN - _GAP_IN * bool(sides))
    height = end.top + end.height + _EDGE_IN
    canvas = new_canvas(WIDTH_IN, height)
    axes = canvas.add_axes((0, 0, 1, 1))
    # One unit is one inch, y downwards.
    axes.set(xlim=(0, WIDTH_IN), ylim=(height, 0))
    axes.axis("off")
    for box in (start, *sides, end):
        _draw(axes, box)
    trunk = start.left + start.width / 2
    _arrow(axes, (trunk, start.top + start.height), (trunk, end.top))
    for box in sides:
        _arrow(axes, (trunk, box.middle), (box.left, box.middle))

    first, *between, last = (f"{row['label']} {counted_text(row, 'n_people')}" for row in rows.to_dict("records"))
    hidden = f" {HIDDEN}: a small number, not shown." if rows["n_people"].isna().any() else ""
    return Drawn(canvas, f"Flow diagram. {first}; left out: {'; '.join(between) or 'nobody'}; {last}.{hidden}")


def _main(row: Any, top: float) -> _Box:
    label = wrapped(sentence(str(row["label"])), _MAIN_IN - 2 * _PAD_IN, SMALL_PT)
    return _Box(f"{label}\nn = {counted_text(row, 'n_people')}", _EDGE_IN, top, _MAIN_IN)


def _exclusions(rows: pd.DataFrame) -> list[str]:
    """The text of each exclusion, and one for all that nobody met."""
    width = WIDTH_IN - _EDGE_IN - _SIDE_LEFT_IN - 2 * _PAD_IN
    nobody = (rows["n_people"] == 0).fillna(False).astype(bool)
    texts = [
        wrapped(f"{sentence(str(row['label']))}: n\u00a0=\u00a0{counted_text(row, 'n_people')}", width, SMALL_PT)
        for row in rows[~nobody].to_dict("records")
    ]
    if nobody.any():
        names = "; ".join(str(name) for name in rows.loc[nobody, "label"])
        texts.append(wrapped(f"Nobody (n = 0): {names}", width, SMALL_PT))
    return texts


def _draw(axes: Axes, box: _Box) -> None:
    frame: dict[str, Any] = {"facecolor": "white", "edgecolor": "black", "linewidth": 0.9}
    axes.add_patch(Rectangle((box.left, box.top), box.width, box.height, **frame))
    spacing = _LINE_IN * 72 / SMALL_PT / 1.16
    axes.text(box.left + _PAD_IN, box.middle, box.text, va="center", fontsize=SMALL_PT, linespacing=spacing)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    how: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 8, "color": "black", "linewidth": 0.9}
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=0, shrinkB=0, **how))
