"""Figures of follow-up: events by calendar time, and cumulative incidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from analysis.disclosure.masking import HIDDEN
from analysis.report.figures.drawing import (
    BAND_ALPHA,
    GREY,
    SERIES,
    SMALL_PT,
    WIDTH_IN,
    Drawn,
    floats,
    in_order,
    in_style,
    key_line,
    legend_above,
    mid_sentence,
    new_canvas,
    series_style,
    text_width_in,
    use_round_steps,
    wrapped,
)
from analysis.report.words import count_text, counted_text, limits_text, percent_text

_REGION_IN: Final = 1.15
_LABELS_IN: Final = 0.75
_GAP_IN: Final = 0.12
_MARK_AT: Final = 0.93
_FIRST_OF_YEAR: Final = ("-01", "-Q1", " Q1")


@in_style
def calendar(rows: pd.DataFrame, *, outcome_name: str) -> Drawn:
    """Draw bars of events by period, a plot for each region, all on one scale.

    `rows` are masked: `period` (text as 2012-03, 2012-Q1 or 2012), `region`, `n_events`, missing
    where hidden. Periods are sorted if all begin with a year; else they keep their order. None may
    be left out, or bars that are far apart in time would be drawn side by side.
    """
    periods, regions = in_order(rows["period"]), in_order(rows["region"])
    if all(text[:4].isdigit() for text in periods):
        periods = sorted(periods)
    canvas = new_canvas(WIDTH_IN, _LABELS_IN + _REGION_IN * len(regions), "constrained")
    all_axes = canvas.subplots(len(regions), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    place_of = np.array([periods.index(str(text)) for text in rows["period"]])
    hidden = False
    for axes, region in zip(all_axes, regions, strict=True):
        own = (rows["region"].astype(str) == region).to_numpy()
        places = place_of[own]
        hidden |= _draw(axes, places, floats(rows[own], "n_events"))
        axes.set_title(wrapped(region, WIDTH_IN - 1, SMALL_PT), loc="left", fontsize=SMALL_PT, weight="bold", pad=3)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.locator_params(axis="y", nbins=3, integer=True)
    most = float(np.nanmax(np.append(floats(rows, "n_events"), 1.0)))
    all_axes[0].set(xlim=(-0.7, len(periods) - 0.3), ylim=(0, most / (_MARK_AT - 0.06)))
    ticks = _ticks(periods)
    all_axes[-1].set_xticks(list(ticks), list(ticks.values()))
    note = f"\n{HIDDEN} and a grey ground: a small number, not shown" if hidden else ""
    canvas.supxlabel(f"Calendar time of the outcome{note}", fontsize=SMALL_PT)
    room = max(_REGION_IN * len(regions) - 0.2, 1.1)
    canvas.supylabel(wrapped(f"Events of {outcome_name}", room, SMALL_PT), fontsize=SMALL_PT)
    span = f"{periods[0]} to {periods[-1]}" if periods else "no period"
    texts = [_region_text(rows[rows["region"].astype(str) == region], region) for region in regions]
    return Drawn(canvas, f"Bars of events of {outcome_name} by calendar time, {span}. {'; '.join(texts)}.")


def _region_text(own: pd.DataFrame, region: str) -> str:
    known = own[own["n_events"].notna()]
    peak = "no period is shown"
    if len(known):
        most = known.iloc[int(np.argmax(floats(known, "n_events")))]
        peak = "no shown period has events"
        if most["n_events"] > 0:
            peak = f"at most {count_text(most['n_events'])} events, in {most['period']}"
    n_hidden = len(own) - len(known)
    return f"{region}: {peak}" + (f", periods hidden: {n_hidden}" if n_hidden else "")


def _ticks(periods: Sequence[str]) -> dict[int, str]:
    """Labels by place: years where periods are parts of years, and no more than fit."""
    firsts = [place for place, text in enumerate(periods) if text.endswith(_FIRST_OF_YEAR)]
    by_year = len(firsts) > 1 and periods[firsts[0]][:4].isdigit()
    places = firsts if by_year else list(range(len(periods)))
    labels = [periods[place][:4] if by_year else periods[place] for place in places]
    widest = max((text_width_in(label, SMALL_PT) for label in labels), default=1.0)
    room = (WIDTH_IN - 1.0) / max(len(periods), 1)
    apart = (places[1] - places[0]) * room if len(places) > 1 else WIDTH_IN
    every = max(1, int(np.ceil((widest + _GAP_IN) / apart)))
    return dict(zip(places[::every], labels[::every], strict=True))


def _draw(axes: Axes, places: NDArray[np.int64], n_events: NDArray[np.float64]) -> bool:
    """Draw the bars of a region; return whether any period is hidden."""
    known = np.isfinite(n_events)
    axes.bar(places[known], n_events[known], width=0.86, color=SERIES[0].colour, linewidth=0)
    for place in places[~known]:
        axes.axvspan(place - 0.5, place + 0.5, color="0.87", linewidth=0, zorder=0, label="_hidden")
    # Above all bars, or the stars would lie on those beside them.
    axes.plot(
        places[~known],
        np.full((~known).sum(), _MARK_AT),
        linestyle="none",
        color="0.3",
        marker=(6, 2, 0),
        markersize=4,
        transform=axes.get_xaxis_transform(),
    )
    return bool((~known).any())


_BLOCKS: Final[tuple[tuple[str, str], ...]] = (
    ("n_at_risk", "At risk"),
    ("n_censored", "Censored"),
    ("n_events", "Events"),
    ("n_deaths", "Deaths"),
)
# Of the plot itself; legend and labels come to it.
_CURVES_IN: Final = 2.6
_AXIS_LABELS_IN: Final = 0.62
_LEGEND_LINE_IN: Final = 0.19
_FIRST_ROW_PT: Final = 42.0
_ROW_PT: Final = 9.5
_BLOCK_GAP_PT: Final = 3.0
_LABEL_IN: Final = 1.3


@in_style
def cumulative_incidence(
    points: pd.DataFrame, at_risk: pd.DataFrame, *, outcome_name: str, group_name: str, horizon_years: float
) -> Drawn:
    """Draw curves of cumulative incidence by group, numbers below, a vertical line at the horizon.

    `points` are masked: `group`, `years`, `incidence`, `lo`, `hi` (0 to 1), a row per step; groups
    without any incidence are named as hidden. `at_risk` is masked: `group`, `years` (the ticks),
    `n_at_risk`, `n_censored`, `n_events`, `n_deaths` before the tick, which add up; missing is
    `HIDDEN`. A column that is not there has no rows, nor have deaths where nobody died.
    """
    groups = in_order([*points["group"], *at_risk["group"]])
    labels = {group: wrapped(group, _LABEL_IN, SMALL_PT) for group in groups}
    lines = sum(label.count("\n") + 1 for label in labels.values()) + 1
    table_in = len(_blocks(at_risk)) * (lines * _ROW_PT + _BLOCK_GAP_PT) / 72
    height_in = _CURVES_IN + _AXIS_LABELS_IN + (2 + len(groups)) * _LEGEND_LINE_IN + table_in
    canvas = new_canvas(WIDTH_IN, height_in, "constrained")
    axes = canvas.subplots()
    ticks = np.unique(floats(at_risk, "years"))
    end = float(ticks.max(initial=0.0)) or float(max([*floats(points, "years"), horizon_years]))
    tops: list[float] = []
    for place, group in enumerate(groups):
        own = points[points["group"].astype(str) == group]
        _draw_group(axes, place, own, _last_known(at_risk, group, end))
        tops += _tops(own, end)
    axes.set_xlim(0, end)
    axes.set_ylim(0, max(1.05 * max(tops, default=0.0), 0.1))
    use_round_steps(axes.yaxis)
    axes.set_xlabel("Years since the index ECG")
    axes.set_ylabel(wrapped(f"Cumulative incidence of {outcome_name},\u00a0%", _CURVES_IN - 0.2))
    handles = [_handle(place, group, points) for place, group in enumerate(groups)]
    if 0 < horizon_years < end:
        line: dict[str, Any] = {"color": GREY, "linewidth": 0.7, "zorder": 0}
        handles.append(axes.axvline(horizon_years, **line, label=f"{horizon_years:g} years"))
    legend_above(canvas, handles, group_name)
    _write_rows(axes, at_risk, labels, _fitting(ticks, at_risk, labels, end))

    at = min(horizon_years, float(np.max([0.0, *floats(points, "years"), *ticks])))
    texts = [_group_text(points[points["group"].astype(str) == one], one, at) for one in groups]
    alt = (
        f"Step curves of the cumulative incidence of {outcome_name} by "
        f"{mid_sentence(group_name)}, with 95% limits. At {at:.3g} years: {'; '.join(texts)}. "
        f"Below the axis: {', '.join(title.lower() for _, title in _blocks(at_risk))}."
    )
    return Drawn(canvas, alt)


def _tops(rows: pd.DataFrame, end: float) -> list[float]:
    """How high a curve and its limits are, in per cent, as far as the axis goes."""
    drawn = rows[floats(rows, "years") <= end]
    return [100 * float(value) for name in ("incidence", "hi") for value in floats(drawn, name) if value >= 0]


def _last_known(at_risk: pd.DataFrame, group: str, end: float) -> float:
    """The last tick with people at risk, to which a curve is drawn; the end if there is none."""
    own = at_risk[at_risk["group"].astype(str) == group]
    followed = floats(own, "years")[floats(own, "n_at_risk") > 0]
    return float(followed.max(initial=0.0)) or end


def _draw_group(axes: Axes, place: int, rows: pd.DataFrame, last: float) -> None:
    style = series_style(place)
    rows = rows[floats(rows, "incidence") >= 0]
    if not len(rows):
        return
    last = max(last, float(floats(rows, "years").max()))
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
    return key_line(label, color=style.colour if known else "none", linestyle=style.dashes)


def _fitting(
    ticks: NDArray[np.float64], at_risk: pd.DataFrame, labels: dict[str, str], end: float
) -> NDArray[np.float64]:
    """Every tick, or every second, third ... so that numbers side by side stay apart."""
    widest = _widest_count(at_risk)
    left = max(text_width_in(label, SMALL_PT) for label in labels.values()) + widest / 2
    room = WIDTH_IN - max(left, 0.7) - widest / 2 - 3 * _GAP_IN
    steps = np.diff(ticks).min() if len(ticks) > 1 else end
    every = int(np.ceil((widest + _GAP_IN) / max(room * steps / max(end, 1e-9), 1e-9)))
    return ticks[:: max(every, 1)]


def _widest_count(rows: pd.DataFrame) -> float:
    texts = (counted_text(row, name) for name, _ in _blocks(rows) for row in rows.to_dict("records"))
    return max((text_width_in(text, SMALL_PT) for text in texts), default=0.0)


def _write_rows(axes: Axes, at_risk: pd.DataFrame, labels: dict[str, str], ticks: NDArray[np.float64]) -> None:
    """Write numbers centred under the ticks, and what they are at the left."""
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    first = at_risk[floats(at_risk, "years") == ticks[0]] if len(ticks) else at_risk
    half = _widest_count(first) / 2
    widest = max(text_width_in(label, SMALL_PT) for label in labels.values())
    left_pt = -72 * (half + _GAP_IN + max(widest, text_width_in("Censored", SMALL_PT, "bold")))
    rows = at_risk.assign(group=at_risk["group"].astype(str), years=floats(at_risk, "years"))
    keyed = {(row["group"], row["years"]): row for row in rows.to_dict("records")}
    down = _FIRST_ROW_PT
    for name, heading in _blocks(at_risk):
        _text(axes, (0, down, left_pt), heading, ha="left", weight="bold")
        for group, label in labels.items():
            for tick in ticks:
                text = counted_text(keyed.get((group, tick), {}), name)
                _text(axes, (tick, down + _ROW_PT), text, ha="center", label=f"_{name}:{group}")
            for line in label.split("\n"):
                down += _ROW_PT
                _text(axes, (0, down, left_pt), line, ha="left")
        down += _ROW_PT + _BLOCK_GAP_PT


def _blocks(at_risk: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the blocks of rows below the axis that there are; none of deaths where nobody died."""
    died = "n_deaths" in at_risk and bool((at_risk["n_deaths"].isna() | (at_risk["n_deaths"] > 0)).any())
    return [one for one in _BLOCKS if one[0] in at_risk and (died or one[0] != "n_deaths")]


def _text(axes: Axes, place: tuple[float, ...], text: str, **how: Any) -> None:
    """Write below the axis: place in years, points down, and points to the right."""
    years, down_pt, right_pt = (*place, 0.0)[:3]
    canvas = axes.get_figure(True)
    assert canvas is not None
    moved = ScaledTranslation(right_pt / 72, -down_pt / 72, canvas.dpi_scale_trans)
    axes.text(years, 0, text, transform=axes.get_xaxis_transform() + moved, va="baseline", fontsize=SMALL_PT, **how)


def _group_text(rows: pd.DataFrame, group: str, at: float) -> str:
    known = rows[(floats(rows, "years") <= at) & (floats(rows, "incidence") >= 0)]
    if not len(known):
        return f"{group} {HIDDEN} (not shown)"
    last = known.sort_values("years", kind="stable").iloc[-1]
    values = [100 * float(last[name]) for name in ("incidence", "lo", "hi") if pd.notna(last[name])]
    limits = f" ({limits_text(values[1], values[2], 1)})" if len(values) == 3 else ""
    return f"{group} {percent_text(values[0] / 100)}{limits}"
