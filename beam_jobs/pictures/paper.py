"""A sheet of A4 in millimetres: its style, its grid, its text, and files of equal bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Transform
from numpy.typing import NDArray
from PIL import Image

_P = ParamSpec("_P")
_T = TypeVar("_T")

WIDTH_MM: Final = 297.0
HEIGHT_MM: Final = 210.0
_MM_PER_IN: Final = 25.4
POINTS_PER_MM: Final = 72 / _MM_PER_IN

# 10 pixels a millimetre: every line of the grid is on a pixel.
PNG_DPI: Final = 254
_N_COLOURS: Final = 64

FINE: Final = "#f6c7cd"
STRONG: Final = "#e58a97"
INK: Final = "#101010"
GREY: Final = "0.35"
ALARM: Final = "#a01010"
_FINE_PT: Final = 0.25
_STRONG_PT: Final = 0.55
TRACE_PT: Final = 0.7

_STYLE: Final[Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "text.parse_math": False,  # a dollar sign of an ecg_id is a dollar sign
    "svg.fonttype": "path",
    "svg.hashsalt": "lvm-ai",
    "pdf.fonttype": 3,  # a subset of another kind would hold the time of writing
    "pdf.compression": 6,
    "path.simplify": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


def in_style(draw: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a function draw in the style of these pages, whatever the user's settings are."""

    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


@dataclass(frozen=True)
class Sheet:
    """A page of A4 on its side; all places are millimetres from its lower left corner."""

    figure: Figure  # without axes, which cost half of the time of a page
    in_mm: Transform  # from millimetres to the figure

    @classmethod
    def new(cls) -> Sheet:
        """Return an empty page."""
        figure = Figure(figsize=(WIDTH_MM / _MM_PER_IN, HEIGHT_MM / _MM_PER_IN))
        return cls(figure, Affine2D().scale(1 / _MM_PER_IN) + figure.dpi_scale_trans)

    def line(
        self, x_mm: NDArray[np.floating], y_mm: NDArray[np.floating], name: str | None = None, **how: Any
    ) -> Artist:
        """Draw a line, broken where a value is NaN; `name` is its id in SVG."""
        style = {"color": INK, "linewidth": TRACE_PT, "solid_joinstyle": "round", "zorder": 3, **how}
        drawn = Line2D(x_mm, y_mm, transform=self.in_mm, **style)
        drawn.set_gid(name)
        return self.figure.add_artist(drawn)

    def clip(self, drawn: Artist, left_mm: float, bottom_mm: float, width_mm: float, height_mm: float) -> None:
        """Show of something drawn only what lies in a rectangle."""
        drawn.set_clip_path(Rectangle((left_mm, bottom_mm), width_mm, height_mm, transform=self.in_mm))

    def frame(self, left_mm: float, bottom_mm: float, width_mm: float, height_mm: float, *, colour: str = GREY) -> None:
        """Draw a rectangle."""
        style: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": 0.4, "zorder": 2}
        self.figure.add_artist(Rectangle((left_mm, bottom_mm), width_mm, height_mm, transform=self.in_mm, **style))

    def text(self, x_mm: float, y_mm: float, text: str, size_pt: float, **how: Any) -> None:
        """Write a line whose baseline begins here, or ends or is centred here by `ha`."""
        style = {"color": INK, "zorder": 4, "fontsize": size_pt, **how}
        self.figure.add_artist(Text(x_mm, y_mm, text, transform=self.in_mm, **style))

    def grid(
        self, left_mm: float, bottom_mm: float, width_mm: float, height_mm: float, step_mm: float, *, every: int = 5
    ) -> None:
        """Draw a grid; each `every`-th line is strong, none where it is 0."""
        for strong in (False, True):
            if strong and not every:
                continue
            x_mm, y_mm = _grid_lines(left_mm, bottom_mm, width_mm, height_mm, step_mm * (every if strong else 1))
            colour, width_pt = (STRONG, _STRONG_PT) if strong else (FINE, _FINE_PT)
            name = "grid-strong" if strong else "grid-fine"
            self.line(x_mm, y_mm, name, color=colour, linewidth=width_pt, zorder=1, solid_capstyle="butt")


def _grid_lines(
    left_mm: float, bottom_mm: float, width_mm: float, height_mm: float, step_mm: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return all lines of a grid as one line that is broken by NaN."""
    across = left_mm + step_mm * np.arange(round(width_mm / step_mm) + 1)
    up = bottom_mm + step_mm * np.arange(round(height_mm / step_mm) + 1)
    gap = np.full(len(across), np.nan)
    x_mm = [np.stack([across, across, gap], axis=1).ravel()]
    y_mm = [np.tile([bottom_mm, bottom_mm + height_mm, np.nan], len(across))]
    gap = np.full(len(up), np.nan)
    x_mm.append(np.tile([left_mm, left_mm + width_mm, np.nan], len(up)))
    y_mm.append(np.stack([up, up, gap], axis=1).ravel())
    return np.concatenate(x_mm), np.concatenate(y_mm)


Writer = Callable[[Sheet], None]


@contextmanager
def writing(path: Path, kind: str) -> Iterator[Writer]:
    """Give what writes pages into a PDF, one after the other; or the one page of an SVG or PNG.

    `kind` is `.pdf`, `.svg` or `.png`, whatever the name of the file. The same pages give the same
    bytes: no file holds a date, or a number drawn at random.
    """
    if kind != ".pdf":
        yield lambda sheet: _write_picture(sheet, path, kind)
        return
    with mpl.rc_context(_STYLE), PdfPages(path, metadata={"CreationDate": None}) as pages:
        yield lambda sheet: pages.savefig(sheet.figure)


@in_style
def _write_picture(sheet: Sheet, path: Path, kind: str) -> None:
    if kind == ".svg":
        sheet.figure.savefig(path, format="svg", metadata={"Date": None})
        return
    pixels = io.BytesIO()
    sheet.figure.savefig(pixels, format="raw", dpi=PNG_DPI)
    size = round(WIDTH_MM / _MM_PER_IN * PNG_DPI), round(HEIGHT_MM / _MM_PER_IN * PNG_DPI)
    picture = Image.frombytes("RGBA", size, pixels.getvalue()).convert("RGB")
    # A third of the bytes: paper, grid and ink have few colours.
    few = picture.quantize(_N_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, format="png", dpi=(PNG_DPI, PNG_DPI))
