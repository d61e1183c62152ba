"""Cumulative incidence by group, with rows of numbers under the ticks of the axis."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from analysis.report.figures import (
    BAND_ALPHA,
    GREY,
    SMALL_PT,
    WIDTH_IN,
    count_text,
    floats,
    in_order,
    in_style,
    legend_above,
    mid_sentence,
    new_canvas,
    series_style,
    text_width_in,
    use_round_steps,
    wrapped,
)
from analysis.report.masking import HIDDEN

_BLOCKS: Final = (("n_at_risk", "At risk"), ("n_censored", "Censored"), ("n_events", "Events"))
# Of the plot itself; legend and labels come to it.
_CURVES_IN: Final = 2.6
_LABELS_IN: Final = 0.62
_LEGEND_LINE_IN: Final = 0.19
_FIRST_ROW_PT: Final = 48.0
_ROW_PT: Final = 11.0
_BLOCK_GAP_PT: Final = 3.0
_LABEL_IN: Final = 1.3
_GAP_IN: Final = 0.12


@in_style
def cumulative_incidence(
    points: pd.DataFrame, at_risk: pd.DataFrame, *, outcome_name: str, group_name: str, horizon_years: float
) -> Figure:
    """Return curves of cumulative incidence by group, numbers below.

    Args:
        points: masked; `group`, `years`, `incidence`, `lo`, `hi` (0 to 1), a row a step; groups
            whose incidence is missing are named as hidden.
        at_risk: masked; `group`, `years` (the ticks), `n_at_risk`, `n_censored`, `n_events` so
            far; missing is `HIDDEN`.
        outcome_name: in words.
        group_name: what the groups are, title of the legend.
        horizon_years: marked with a vertical line.
    """
    groups = in_order([*points["group"], *at_risk["group"]])
    labels = {group: wrapped(group, _LABEL_IN, SMALL_PT) for group in groups}
    height_in = _CURVES_IN + _LABELS_IN + (2 + len(groups)) * _LEGEND_LINE_IN + _table_in(labels)
    canvas = new_canvas(WIDTH_IN, height_in, "constrained")
    axes = canvas.subplots()
    ticks = np.unique(floats(at_risk, "years"))
    end = float(ticks.max(initial=0.0)) or float(max([*floats(points, "years"), horizon_years]))
    for place, group in enumerate(groups):
        _draw_group(axes, place, points[points["group"].astype(str) == group], _last_known(at_risk, group, end))
    axes.set_xlim(0, end)
    axes.set_ylim(0, max(axes.get_ylim()[1], 0.1))
    use_round_steps(axes.yaxis)
    axes.set_xlabel("Years since the index ECG")
    axes.set_ylabel(wrapped(f"Cumulative incidence of {outcome_name},\u00a0%", _CURVES_IN - 0.2))
    handles = [_handle(place, group, points) for place, group in enumerate(groups)]
    if 0 < horizon_years < end:
        handles.append(
            axes.axvline(horizon_years, color=GREY, linewidth=0.7, zorder=0, label=f"{horizon_years:g} years")
        )
    legend_above(canvas, handles, group_name)
    _write_rows(axes, at_risk, labels, _fitting(ticks, at_risk, labels, end))
    return canvas


def _table_in(labels: dict[str, str]) -> float:
    lines = sum(label.count("\n") + 1 for label in labels.values()) + 1
    return len(_BLOCKS) * (lines * _ROW_PT + _BLOCK_GAP_PT) / 72


def _last_known(at_risk: pd.DataFrame, group: str, end: float) -> float:
    """The time to which a curve is drawn: its last tick with people at risk, of any number.

    Beyond it too few are left for a step to mean much. The end where no tick but 0 is there.
    """
    own = at_risk[at_risk["group"].astype(str) == group]
    followed = floats(own, "years")[floats(own, "n_at_risk") > 0]
    return float(followed.max(initial=0.0)) or end


def _draw_group(axes: Axes, place: int, rows: pd.DataFrame, last: float) -> None:
    style = series_style(place)
    rows = rows[(floats(rows, "incidence") >= 0) & (floats(rows, "years") <= last)]
    if not len(rows):
        return
    years, incidence = floats(rows, "years"), 100 * floats(rows, "incidence")
    lo, hi = 100 * floats(rows, "lo"), 100 * floats(rows, "hi")
    # Before the first event there are no limits: they start at the curve.
    lo, hi = np.where(np.isnan(lo), incidence, lo), np.where(np.isnan(hi), incidence, hi)
    years, incidence, lo, hi = (
        np.append(column, value)
        for column, value in ((years, last), (incidence, incidence[-1]), (lo, lo[-1]), (hi, hi[-1]))
    )
    axes.plot(years, incidence, color=style.colour, linestyle=style.dashes, drawstyle="steps-post")
    axes.fill_between(years, lo, hi, step="post", color=style.colour, alpha=BAND_ALPHA, linewidth=0)


def _handle(place: int, group: str, points: pd.DataFrame) -> Line2D:
    style, own = series_style(place), points[points["group"].astype(str) == group]
    known = bool(np.isfinite(floats(own, "incidence")).any())
    label = group if known else f"{group} (not shown: few events)"
    return Line2D([], [], color=style.colour if known else "none", linestyle=style.dashes, label=label)


def _fitting(
    ticks: NDArray[np.float64], at_risk: pd.DataFrame, labels: dict[str, str], end: float
) -> NDArray[np.float64]:
    """Every tick, or every second, third ... so that numbers side by side stay apart."""
    widest = max((text_width_in(count_text(n), SMALL_PT) for name, _ in _BLOCKS for n in at_risk[name]), default=0.0)
    left = max(text_width_in(label, SMALL_PT) for label in labels.values()) + widest / 2
    room = WIDTH_IN - max(left, 0.7) - widest / 2 - 3 * _GAP_IN
    steps = np.diff(ticks).min() if len(ticks) > 1 else end
    every = int(np.ceil((widest + _GAP_IN) / max(room * steps / max(end, 1e-9), 1e-9)))
    return ticks[:: max(every, 1)]


def _write_rows(axes: Axes, at_risk: pd.DataFrame, labels: dict[str, str], ticks: NDArray[np.float64]) -> None:
    """Write numbers centred under the ticks, and what they are at the left."""
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    first = at_risk[floats(at_risk, "years") == ticks[0]] if len(ticks) else at_risk
    half = max((text_width_in(count_text(n), SMALL_PT) for name, _ in _BLOCKS for n in first[name]), default=0.0) / 2
    widest = max(text_width_in(label, SMALL_PT) for label in labels.values())
    left_pt = -72 * (half + _GAP_IN + max(widest, text_width_in("Censored", SMALL_PT, "bold")))
    keyed = at_risk.assign(group=at_risk["group"].astype(str), years=floats(at_risk, "years"))
    keyed = keyed.set_index(["group", "years"])
    down = _FIRST_ROW_PT
    for name, heading in _BLOCKS:
        _text(axes, (0, down, left_pt), heading, ha="left", weight="bold")
        for group, label in labels.items():
            for tick in ticks:
                text = count_text(keyed[name].get((group, tick), None))
                _text(axes, (tick, down + _ROW_PT), text, ha="center", label=f"_{name}:{group}")
            for line in label.split("\n"):
                down += _ROW_PT
                _text(axes, (0, down, left_pt), line, ha="left")
        down += _ROW_PT
        down += _BLOCK_GAP_PT


def _text(axes: Axes, place: tuple[float, ...], text: str, **how: Any) -> None:
    """Write below the axis: place in years, points down, and points to the right."""
    years, down_pt, right_pt = (*place, 0.0)[:3]
    canvas = axes.get_figure(True)
    assert canvas is not None
    moved = ScaledTranslation(right_pt / 72, -down_pt / 72, canvas.dpi_scale_trans)
    axes.text(years, 0, text, transform=axes.get_xaxis_transform() + moved, va="baseline", fontsize=SMALL_PT, **how)


def cumulative_incidence_alt(
    points: pd.DataFrame, at_risk: pd.DataFrame, *, outcome_name: str, group_name: str, horizon_years: float
) -> str:
    """Return what `cumulative_incidence` shows, for who cannot see it; same arguments."""
    groups = in_order([*points["group"], *at_risk["group"]])
    followed = float(np.max([0.0, *floats(points, "years"), *floats(at_risk, "years")]))
    at = min(horizon_years, followed)
    told = [_told(points[points["group"].astype(str) == one], one, at) for one in groups]
    return (
        f"Step curves of the cumulative incidence of {outcome_name} by "
        f"{mid_sentence(group_name)}, with 95 % limits. At {at:.3g} years: {'; '.join(told)}. "
        "Numbers at risk, censored and with events stand below the axis."
    )


def _told(rows: pd.DataFrame, group: str, at: float) -> str:
    known = rows[(floats(rows, "years") <= at) & (floats(rows, "incidence") >= 0)]
    if not len(known):
        return f"{group} {HIDDEN} (not shown)"
    last = known.sort_values("years", kind="stable").iloc[-1]
    values = [100 * float(last[name]) for name in ("incidence", "lo", "hi") if pd.notna(last[name])]
    limits = f" ({values[1]:.1f} to {values[2]:.1f})" if len(values) == 3 else ""
    return f"{group} {values[0]:.1f} %{limits}"
