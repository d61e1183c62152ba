"""What all figures of a report share: style, sizes of text, legends, and files of equal bytes.

Figures are drawn with matplotlib's objects alone (no pyplot), from masked tables alone. They are as
wide as one or two columns of a journal, and are read at that size. In SVG, text is text: it can be
searched, read aloud, compared with the tables and edited by a journal. It asks for the fonts that
journals ask for (Arial, Helvetica) and for others that are everywhere; it is measured in DejaVu
Sans, which comes with matplotlib and is wider than all of them, so nothing overlaps. PNG has the
same text drawn in DejaVu Sans.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextToPath
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MM_PER_IN: Final = 25.4
ONE_COLUMN_IN: Final = 85 / _MM_PER_IN
WIDTH_IN: Final = 178 / _MM_PER_IN  # two columns
SMALL_PT: Final = 7.0
TEXT_PT: Final = 8.0
PNG_DPI: Final = 300
FONTS: Final = "Arial, Helvetica, 'Liberation Sans', 'DejaVu Sans', sans-serif"
GREY: Final = "0.45"
LIGHT: Final = "0.82"
BAND_ALPHA: Final = 0.16
_POINTS_PER_IN: Final = 72.0

STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",
    "font.size": TEXT_PT,
    "axes.labelsize": TEXT_PT,
    "axes.titlesize": TEXT_PT,
    "xtick.labelsize": SMALL_PT,
    "ytick.labelsize": SMALL_PT,
    "legend.fontsize": SMALL_PT,
    "legend.title_fontsize": SMALL_PT,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
    "lines.linewidth": 1.6,
    "text.parse_math": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
    "svg.hashsalt": "lvm-ai",
    "path.simplify": False,
}


@dataclass(frozen=True, slots=True)
class SeriesStyle:
    """How one group is drawn; each of the three sets it apart, so it is seen in grey print too.

    Colours are Okabe and Ito's; dashes are matplotlib's offset, and lengths of dashes and gaps in
    line widths.
    """

    colour: str
    dashes: tuple[float, tuple[float, ...]]
    marker: str


# Okabe M, Ito K, Color Universal Design, 2008; those first that stand out most from white.
SERIES: Final = (
    SeriesStyle("#0072B2", (0, ()), "o"),
    SeriesStyle("#D55E00", (0, (5, 2)), "s"),
    SeriesStyle("#000000", (0, (1.2, 1.4)), "^"),
    SeriesStyle("#009E73", (0, (6, 1.6, 1.2, 1.6)), "D"),
    SeriesStyle("#CC79A7", (0, (9, 3)), "v"),
    SeriesStyle("#E69F00", (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)), "P"),
    SeriesStyle("#56B4E9", (0, (2.5, 2.5)), "X"),
)


def series_style(place: int) -> SeriesStyle:
    """Return the style of a group by its place, from 0; styles return after the seventh."""
    return SERIES[place % len(SERIES)]


class Drawn(NamedTuple):
    """A figure, and in words what it shows, for people who cannot see it."""

    canvas: Figure
    alt: str


def in_style(draw: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a function draw in the style of the report, whatever the user's settings are."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return drawn


def new_canvas(width_in: float, height_in: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Return an empty figure at print size; "constrained" makes room for labels."""
    return Figure(figsize=(width_in, height_in), dpi=100, layout=layout)


def save(canvas: Figure, path_svg: Path, path_png: Path) -> None:
    """Write a figure as SVG and PNG; the same figure gives the same bytes."""
    path_svg.write_bytes(svg_bytes(canvas))
    with mpl.rc_context(STYLE):
        canvas.savefig(path_png, format="png", dpi=PNG_DPI, metadata={"Software": None})


def svg_bytes(canvas: Figure) -> bytes:
    """Return a figure as SVG without date, version or random names."""
    sink = io.BytesIO()
    with mpl.rc_context(STYLE):
        canvas.savefig(sink, format="svg", metadata={"Date": None, "Creator": None})
    return sink.getvalue().replace(b"'DejaVu Sans'", FONTS.encode())


def floats(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return a column as floats, NaN where it is missing or hidden."""
    return np.asarray(rows[name].astype("Float64").to_numpy(dtype=float, na_value=np.nan))


def mid_sentence(text: str) -> str:
    """Return a text with a small first letter, unless its first word is an abbreviation."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def in_order(values: Iterable[Any]) -> list[str]:
    """Return the different values as text, in order of first appearance."""
    return list(dict.fromkeys(str(value) for value in values))


@cache
def text_width_in(text: str, size_pt: float, weight: str = "normal") -> float:
    """Return the width of a text, inches; of several lines, that of the widest."""
    font = FontProperties(family="DejaVu Sans", size=size_pt, weight=weight)
    ruler = TextToPath()
    widths = [
        ruler.get_text_width_height_descent(line, font, ismath=False)[0] if line else 0.0 for line in text.split("\n")
    ]
    return float(max(widths)) / _POINTS_PER_IN


def wrapped(text: str, width_in: float, size_pt: float = TEXT_PT, weight: str = "normal") -> str:
    """Return a text broken at spaces (not at U+00A0) to a width; longer words stay whole."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width_in(longer, size_pt, weight) <= width_in:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def use_round_steps(axis: Axis, most: int = 8) -> None:
    """Put ticks in steps of 1, 2 or 5 times a power of ten, at most `most` of them."""
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))


def key_line(label: str, **style: Any) -> Line2D:
    """Return a line or a marker of a legend."""
    return Line2D([], [], label=label, **style)


# A handle is 2.8 letters wide; with its gaps so much comes to each label.
_HANDLE_IN: Final = 0.6


def legend_above(canvas: Figure, handles: Sequence[Any], title: str = "") -> None:
    """Put a legend above all axes, where it covers no curve, in as many columns as fit."""
    width = canvas.get_size_inches()[0] - 0.2
    labels = [wrapped(str(handle.get_label()), width - _HANDLE_IN, SMALL_PT) for handle in handles]
    for handle, label in zip(handles, labels, strict=True):
        handle.set_label(label)
    widest = max((text_width_in(label, SMALL_PT) for label in labels), default=0.0)
    n_columns = max(1, min(len(labels), int(width / (widest + _HANDLE_IN))))
    canvas.legend(
        handles=list(handles),
        loc="outside upper left",
        ncols=n_columns,
        alignment="left",
        title=wrapped(title, width, SMALL_PT) or None,
        borderaxespad=0.2,
    )


_LADDERS: Final = (
    tuple(step * 10.0**power for power in range(-6, 7) for step in (1,)),
    tuple(step * 10.0**power for power in range(-4, 5) for step in (1, 2, 5)),
    tuple(step * 10.0**power for power in range(-3, 4) for step in (1, 1.5, 2, 3, 5, 7)),
    tuple(round(0.2 * place, 1) for place in range(1, 31)),
    tuple(round(0.1 * place, 1) for place in range(1, 31)),
    tuple(round(0.05 * place, 2) for place in range(1, 61)),
    tuple(round(0.02 * place, 2) for place in range(1, 151)),
)
_FEWEST_TICKS: Final = 4


def ratio_ticks(lowest: float, highest: float) -> list[float]:
    """Return round ticks for ratios on a log axis: the coarsest set with at least four."""
    found: list[float] = []
    for ladder in _LADDERS:
        found = [tick for tick in ladder if lowest <= tick * (1 + 1e-9) and tick <= highest]
        if len(found) >= _FEWEST_TICKS:
            return found
    return found or [1.0]


def ratio_range(
    estimates: NDArray[np.float64], lows: NDArray[np.float64], highs: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the range of a log axis: all estimates and 1, and limits up to three times beyond."""
    own = np.append(estimates[np.isfinite(estimates) & (estimates > 0)], 1.0)
    reach = np.concatenate([own, lows[np.isfinite(lows) & (lows > 0)], highs[np.isfinite(highs)]])
    least = max(float(reach.min()), float(own.min()) / 3)
    most = min(float(reach.max()), float(own.max()) * 3)
    return min(least / 1.05, 0.9), max(most * 1.05, 1.1)


def use_ratio_axis(axes: Axes, which: Literal["x", "y"], limits: tuple[float, float]) -> None:
    """Make an axis logarithmic for ratios, with plain numbers at round ticks."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(*limits)
    ticks = ratio_ticks(*limits)
    axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
