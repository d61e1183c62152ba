"""Pages of small prints: a sample of ECGs that were rejected or flagged, grouped by the reason."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from beam_jobs.pictures.paper import ALARM, FINE, GREY, INK, WIDTH_MM, Sheet, in_style
from beam_jobs.pictures.print12 import (
    DURATION_S,
    MM_PER_MV,
    MM_PER_S,
    NOT_CLINICAL,
    ROWS,
    Drawable,
    height_mm,
    segments,
    shown_id,
    wrapped,
)
from lvm_core.wording import counted

# A quarter of the standard print: 62.5 mm for 10 s.
_SCALE: Final = 0.25
_LEFT_MM: Final = 10.0
_TITLE_MM: Final = 200.0
_TOP_MM: Final = 196.0
_N_COLUMNS: Final = 4
_PER_PAGE: Final = 16
_WIDTH_MM: Final = 67.5  # of a thumbnail: 54 x 22 squares
_PITCH_MM: Final = (70.0, 45.5)
_ROW_MM: Final = 27.5 / 3
_INSET_MM: Final = 2.5  # of the trace, half of what 62.5 mm leave
_NAME_PT: Final = 6.0
_DETAIL_PT: Final = 5.2
_LEAD_PT: Final = 4.0
_NAME_CHARACTERS: Final = 42
_DETAIL_CHARACTERS: Final = 62
_DETAIL_LINES: Final = 4
_DETAIL_LINE_MM: Final = 2.3
_BOX_CHARACTERS: Final = 54


@dataclass(frozen=True)
class Group:
    """ECGs that share a reason."""

    title: str  # such as `rejected: lead_flat`
    n_all: int  # ECGs with this reason; the sample may hold fewer
    ecgs: tuple[Drawable, ...]


@in_style
def draw_thumbnails(groups: Sequence[Group], note: str | None = None) -> list[Sheet]:
    """Return pages of thumbnails, group after group; each says its reason in words."""
    return list(_pages(groups, note))


def _pages(groups: Sequence[Group], note: str | None) -> Iterator[Sheet]:
    cells = [(group, ecg) for group in groups for ecg in group.ecgs]
    for start in range(0, len(cells), _PER_PAGE):
        sheet = Sheet.new()
        n_all = sum(group.n_all for group in groups)
        sheet.text(
            _LEFT_MM,
            _TITLE_MM,
            f"{len(cells)} of {counted(n_all, 'ECG')} that were rejected or flagged",
            9.0,
            weight="bold",
        )
        for k, (group, ecg) in enumerate(cells[start : start + _PER_PAGE]):
            row, column = divmod(k, _N_COLUMNS)
            _draw_cell(sheet, group, ecg, _LEFT_MM + column * _PITCH_MM[0], _TOP_MM - row * _PITCH_MM[1])
        _finish(sheet, note)
        yield sheet


def _finish(sheet: Sheet, note: str | None) -> None:
    scale = f"{_SCALE * MM_PER_S:g} mm/s   {_SCALE * MM_PER_MV:g} mm/mV"
    sheet.text(_LEFT_MM, 10.0, scale, 8.0, weight="bold")
    sheet.text(_LEFT_MM + 50.0, 10.0, "what leaves its row is drawn at the edge", 6.5, color=GREY)
    right_mm = WIDTH_MM - _LEFT_MM
    sheet.text(right_mm, 10.0, NOT_CLINICAL, 8.0, ha="right", weight="bold")
    if note:
        sheet.text(WIDTH_MM / 2, 10.0, note, 8.0, ha="center", weight="bold", color=ALARM)


def _draw_cell(sheet: Sheet, group: Group, ecg: Drawable, left_mm: float, top_mm: float) -> None:
    """Draw one ECG and what is said of it; the words alone where it was not decoded."""
    shown = f"{group.title}  ({len(group.ecgs)} of {group.n_all} shown)"
    colour = INK if ecg.reason is None else ALARM
    sheet.text(left_mm, top_mm - 2.2, shown, _NAME_PT, weight="bold", color=colour)
    sheet.text(left_mm, top_mm - 4.8, shown_id(ecg.ecg_id, _NAME_CHARACTERS), _NAME_PT)
    box_top_mm, box_mm = top_mm - 5.8, len(ROWS) * _ROW_MM
    if ecg.leads_uv is None:
        sheet.frame(left_mm, box_top_mm - box_mm, _WIDTH_MM, box_mm)
        lines = ["not decoded", *wrapped(ecg.detail or "no detail", _BOX_CHARACTERS, 6)]
        for k, line in enumerate(lines):
            sheet.text(left_mm + 2.0, box_top_mm - 4.0 - 3.0 * k, line, _NAME_PT, color=INK if k else ALARM)
        return
    sheet.grid(left_mm, box_top_mm - box_mm, _WIDTH_MM, box_mm, 5 * _SCALE, every=0)
    sheet.frame(left_mm, box_top_mm - box_mm, _WIDTH_MM, box_mm, colour=FINE)
    for segment in segments():
        if segment.row == len(ROWS):
            continue
        bottom_mm = box_top_mm - (segment.row + 1) * _ROW_MM
        time_s, heights = height_mm(ecg, segment, _SCALE * MM_PER_MV)
        x_mm = left_mm + _INSET_MM + _SCALE * MM_PER_S * time_s
        # A thumbnail has no room for marks: what leaves its row stays at the edge.
        y_mm = bottom_mm + np.clip(_ROW_MM / 2 + heights, 0.0, _ROW_MM)
        sheet.line(x_mm, y_mm, linewidth=0.4)
        lead_left_mm = left_mm + _INSET_MM + _SCALE * MM_PER_S * segment.start_s
        sheet.text(lead_left_mm + 0.3, bottom_mm + _ROW_MM - 1.6, segment.lead, _LEAD_PT, color=GREY)
    _draw_detail(sheet, ecg, left_mm, box_top_mm - box_mm)


def _draw_detail(sheet: Sheet, ecg: Drawable, left_mm: float, top_mm: float) -> None:
    text = ecg.detail or f"quality flags: {', '.join(ecg.flags)}"
    if ecg.leads_uv is not None and ecg.leads_uv.shape[1] < DURATION_S * ecg.rate_hz:
        text += f" ({ecg.leads_uv.shape[1] / ecg.rate_hz:.3g} s recorded)"
    for k, line in enumerate(wrapped(text, _DETAIL_CHARACTERS, _DETAIL_LINES)):
        sheet.text(left_mm, top_mm - (k + 1) * _DETAIL_LINE_MM, line, _DETAIL_PT)
