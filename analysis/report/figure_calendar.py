"""Events by calendar time, a small plot for each region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.report.figures import (
    SERIES,
    SMALL_PT,
    WIDTH_IN,
    count_text,
    floats,
    in_order,
    in_style,
    new_canvas,
    text_width_in,
    wrapped,
)
from analysis.report.masking import HIDDEN

_REGION_IN: Final = 1.15
_LABELS_IN: Final = 0.75
_GAP_IN: Final = 0.12
_MARK_AT: Final = 0.93
_FIRST_OF_YEAR: Final = ("-01", "-Q1", " Q1")


@in_style
def calendar(rows: pd.DataFrame, *, outcome_name: str) -> Figure:
    """Return bars of events by period, a plot for each region, all on one scale.

    Args:
        rows: masked; `period` (or `month`: text as 2012-03, 2012-Q1 or 2012, or a date),
            `region`, `n_events`, missing where hidden. Periods come in the order of their text
            when all begin with a year, else as they stand; none may be left out, or bars that
            are far apart in time would stand side by side.
        outcome_name: in words.
    """
    periods, regions = _periods(rows), in_order(rows["region"])
    canvas = new_canvas(WIDTH_IN, _LABELS_IN + _REGION_IN * len(regions), "constrained")
    all_axes = canvas.subplots(len(regions), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    place_of = np.array([periods.index(text) for text in _texts(rows)])
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
    canvas.supylabel(
        wrapped(f"Events of {outcome_name}", max(_REGION_IN * len(regions) - 0.2, 1.1), SMALL_PT), fontsize=SMALL_PT
    )
    return canvas


def _texts(rows: pd.DataFrame) -> list[str]:
    column = rows["period" if "period" in rows.columns else "month"]
    if pd.api.types.is_datetime64_any_dtype(column):
        return list(column.dt.strftime("%Y-%m"))
    return [str(value) for value in column]


def _periods(rows: pd.DataFrame) -> list[str]:
    found = in_order(_texts(rows))
    return sorted(found) if all(text[:4].isdigit() for text in found) else found


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


def calendar_alt(rows: pd.DataFrame, *, outcome_name: str) -> str:
    """Return what `calendar` shows, for who cannot see it; same arguments."""
    periods = _periods(rows)
    told = []
    for region in in_order(rows["region"]):
        own = rows[rows["region"].astype(str) == region]
        known = own[own["n_events"].notna()]
        n_hidden = len(own) - len(known)
        most = known.iloc[int(np.argmax(floats(known, "n_events")))] if len(known) else None
        peak = (
            f"at most {count_text(most['n_events'])} events, in {_texts(known.loc[[most.name]])[0]}"
            if most is not None and most["n_events"] > 0
            else "no shown period has events"
            if most is not None
            else "no period is shown"
        )
        told.append(f"{region}: {peak}" + (f", periods hidden: {n_hidden}" if n_hidden else ""))
    span = f"{periods[0]} to {periods[-1]}" if periods else "no period"
    return f"Bars of events of {outcome_name} by calendar time, {span}. {'; '.join(told)}."
