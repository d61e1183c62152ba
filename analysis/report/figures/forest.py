"""Forest plots: ratios with their limits on a log axis, and the same as text."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from analysis.disclosure.masking import HIDDEN
from analysis.report.figures.drawing import (
    GREY,
    SERIES,
    SMALL_PT,
    WIDTH_IN,
    Drawn,
    floats,
    in_style,
    mid_sentence,
    new_canvas,
    ratio_range,
    text_width_in,
    use_ratio_axis,
    wrapped,
)
from analysis.report.words import interval_text, sentence

_LINE_IN: Final = 0.15
_ROW_GAP_IN: Final = 0.035
_GROUP_GAP_IN: Final = 0.07
_EDGE_IN: Final = 0.08
_GAP_IN: Final = 0.16
_INDENT_IN: Final = 0.12
_LABEL_IN: Final = 2.1
_ESTIMATE_IN: Final = 1.55
_AXIS_IN: Final = 0.44


class _Line(NamedTuple):
    """One line of the plot: a heading (`row` None) or an estimate; places in inches."""

    text: str
    middle_in: float
    row: int | None
    p_text: str


class _Columns(NamedTuple):
    """Where columns are, inches from the left."""

    n_right: float
    axis_left: float
    axis_right: float
    estimate_left: float


@in_style
def forest(rows: pd.DataFrame, *, measure_name: str) -> Drawn:
    """Draw a forest plot; `measure_name` is as "Hazard ratio (95% interval)".

    `rows` are masked: `group` (heading or ""), `label`, `estimate`, `lo`, `hi` (ratios, missing
    where hidden), `n_text`, `p_interaction_text` (of the first row of a group). Rows of one heading
    are put together; headings and rows keep their order.
    """
    rows = rows.iloc[np.argsort(pd.factorize(rows["group"])[0], kind="stable")]
    heads = _heads(measure_name)
    lines, height = _lines(rows)
    columns = _columns(rows, lines, heads)
    head = _LINE_IN * max(text.count("\n") + 1 for text in heads) + 0.08
    total = _EDGE_IN + head + height + _AXIS_IN
    canvas = new_canvas(WIDTH_IN, total)
    width = columns.axis_right - columns.axis_left
    axes = canvas.add_axes((columns.axis_left / WIDTH_IN, _AXIS_IN / total, width / WIDTH_IN, height / total))
    _prepare(axes, rows, height, measure_name)
    _write(axes, rows, lines, columns)
    _text(axes, columns.n_right, -0.06, heads[0], ha="right", va="bottom", weight="bold")
    _text(axes, columns.estimate_left, -0.06, heads[1], va="bottom", weight="bold")
    for line in lines:
        if line.row is not None:
            _draw(axes, rows.iloc[line.row], line.middle_in)
    return Drawn(canvas, _alt(rows, mid_sentence(measure_name.partition(" (")[0])))


def _alt(rows: pd.DataFrame, measure: str) -> str:
    texts, hidden = [], ""
    for row in rows.to_dict("records"):
        name = ", ".join(str(row[part]) for part in ("group", "label") if str(row[part]))
        text, p_text = _estimate_text(row), str(row["p_interaction_text"])
        hidden = f" {HIDDEN}: not shown." if text == HIDDEN else hidden
        texts.append(f"{name}: {text}" + (f" [{p_text}]" if p_text else ""))
    return f"Forest plot of {measure} on a log axis. {'; '.join(texts)}.{hidden}"


def _heads(measure_name: str) -> tuple[str, str]:
    name, _, rest = measure_name.partition(" (")
    inside = f"({rest}" if rest else "(95% interval)"
    return "Events", f"{wrapped(sentence(name), _ESTIMATE_IN, SMALL_PT, 'bold')}\n{inside}"


def _lines(rows: pd.DataFrame) -> tuple[list[_Line], float]:
    lines: list[_Line] = []
    down, last = 0.0, ""
    for place, row in enumerate(rows.to_dict("records")):
        group, p_text = str(row["group"]), str(row["p_interaction_text"])
        if group != last:
            down += _GROUP_GAP_IN if lines else 0.0
        if group and group != last:
            room = WIDTH_IN - 2 * _EDGE_IN - _GAP_IN - text_width_in(p_text, SMALL_PT)
            text = wrapped(group, room, SMALL_PT, "bold")
            size = _LINE_IN * (text.count("\n") + 1) + _ROW_GAP_IN
            lines.append(_Line(text, down + size / 2, None, p_text))
            down, p_text = down + size, ""
        elif group:
            p_text = ""
        indent = _INDENT_IN if group else 0.0
        text = wrapped(str(row["label"]), _LABEL_IN - indent, SMALL_PT)
        size = _LINE_IN * (text.count("\n") + 1) + _ROW_GAP_IN
        lines.append(_Line(text, down + size / 2, place, p_text))
        down, last = down + size, group
    return lines, max(down, _LINE_IN)


def _estimate_text(row: Any) -> str:
    """The estimate; without events there is none to hide, so a dash."""
    hidden = bool(pd.isna(row["estimate"])) and str(row["n_text"]) != "0"
    return interval_text(row, hidden=hidden)


def _columns(rows: pd.DataFrame, lines: list[_Line], heads: tuple[str, str]) -> _Columns:
    labels = [text_width_in(line.text, SMALL_PT) + _INDENT_IN for line in lines if line.row is not None]
    n = [text_width_in(str(text), SMALL_PT) for text in rows["n_text"]]
    n.append(text_width_in(heads[0], SMALL_PT, "bold"))
    estimates = [text_width_in(_estimate_text(row), SMALL_PT) for row in rows.to_dict("records")]
    estimates.append(text_width_in(heads[1], SMALL_PT, "bold"))
    n_right = _EDGE_IN + max(labels, default=0.0) + _GAP_IN + max(n)
    estimate_left = WIDTH_IN - _EDGE_IN - max(estimates)
    return _Columns(n_right, n_right + _GAP_IN, estimate_left - _GAP_IN, estimate_left)


def _prepare(axes: Axes, rows: pd.DataFrame, height: float, measure_name: str) -> None:
    # One unit of y is one inch, so that lines of text and squares have the same places.
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    limits = ratio_range(floats(rows, "estimate"), floats(rows, "lo"), floats(rows, "hi"))
    use_ratio_axis(axes, "x", limits)
    axes.axvline(1, color=GREY, linewidth=0.8, zorder=0)
    axes.set_xlabel(f"{sentence(measure_name.partition(' (')[0])}, log scale", fontsize=SMALL_PT)


def _write(axes: Axes, rows: pd.DataFrame, lines: list[_Line], columns: _Columns) -> None:
    for line in lines:
        if line.row is None:
            _text(axes, _EDGE_IN, line.middle_in, line.text, weight="bold")
            _text(axes, WIDTH_IN - _EDGE_IN, line.middle_in, line.p_text, ha="right")
            continue
        row = rows.iloc[line.row]
        indent = _INDENT_IN if str(row["group"]) else 0.0
        _text(axes, _EDGE_IN + indent, line.middle_in, line.text)
        _text(axes, columns.n_right, line.middle_in, str(row["n_text"]), ha="right")
        _text(axes, columns.estimate_left, line.middle_in, _estimate_text(row))


def _text(axes: Axes, left_in: float, down_in: float, text: str, **how: Any) -> None:
    if not text:
        return
    canvas = axes.get_figure(True)
    place = blended_transform_factory(canvas.transFigure, axes.transData)  # type: ignore[union-attr]
    axes.text(
        left_in / WIDTH_IN, down_in, text, transform=place, fontsize=SMALL_PT, **({"va": "center", "ha": "left"} | how)
    )


def _draw(axes: Axes, row: Any, middle: float) -> None:
    """Draw one estimate; a limit beyond the axis ends in an arrow."""
    values = (row[name] for name in ("estimate", "lo", "hi"))
    estimate, lo, hi = (np.nan if pd.isna(value) else float(value) for value in values)
    if not np.isfinite(estimate):
        return
    left, right = axes.get_xlim()
    colour = SERIES[0].colour
    ends = max(lo, left), min(hi, right)
    if not np.isnan(ends).any():
        axes.plot(ends, (middle, middle), color=colour, linewidth=1.3, solid_capstyle="butt")
    for beyond, at, marker in ((lo < left, left, "<"), (hi > right, right, ">")):
        if beyond:
            axes.plot([at], [middle], marker=marker, markersize=5, color=colour, clip_on=False, label="_arrow")
    axes.plot([estimate], [middle], marker="s", markersize=5.5, color=colour, label="_estimate")
