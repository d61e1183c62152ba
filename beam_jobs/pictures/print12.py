"""The standard print of one ECG: 3 rows of 4 leads and lead II below, 25 mm/s and 10 mm/mV."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from beam_jobs.pictures.paper import ALARM, GREY, INK, POINTS_PER_MM, TRACE_PT, WIDTH_MM, Sheet, in_style
from beam_jobs.reading.blocks import AMPLITUDES, EcgRow, Reject
from beam_jobs.reading.flagged import SignalFlags, with_signal_flags
from beam_jobs.reading.measured import Measure, measured
from lvm_core.signal.ecg import LEADS_12, NOTHING_STATED, SOFTWARE, RhythmCodes
from lvm_core.signal.plausibility import judge_ecgs

Floats = NDArray[np.floating]

MM_PER_S: Final = 25.0
MM_PER_MV: Final = 10.0
_UV_PER_MV: Final = 1000.0
DURATION_S: Final = 10.0
COLUMN_S: Final = 2.5
_RATE_HZ: Final = 500.0

ROWS: Final = (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6"))
RHYTHM_LEAD: Final = "II"

# The grid: 54 x 32 squares of 5 mm. Each of the four rows has 40 mm. The trace may take 16 above
# and 20 below the level of the lead; the names of leads are above that.
GRID_LEFT_MM: Final = 13.5
GRID_BOTTOM_MM: Final = 23.0
_GRID_MM: Final = (270.0, 160.0)
ROW_MM: Final = 40.0
LEVEL_MM: Final = 20.0
_ABOVE_MM: Final = 16.0
_BELOW_MM: Final = 20.0
_NAME_MM: Final = 37.2
# The level moves so far, by whole millimetres, where a trace would leave its row.
_MOST_SHIFT_MM: Final = 6.0
_MARK_MM: Final = 1.4
TRACE_LEFT_MM: Final = GRID_LEFT_MM + 15.0
# The pulse of calibration: 1 mV for 200 ms, with 100 ms before and after.
PULSE_LEFT_MM: Final = GRID_LEFT_MM + 2.5
_PULSE_X_MM: Final = (0.0, 2.5, 2.5, 7.5, 7.5, 10.0)
_PULSE_UP: Final = (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)

_HEADER_MM: Final = 202.5
_LINE_MM: Final = 3.7
_TEXT_PT: Final = 7.5
_SMALL_PT: Final = 6.5
_COLUMNS_MM: Final = (GRID_LEFT_MM, 100.0, 186.0)
_ID_CHARACTERS: Final = 48
_DETAIL_CHARACTERS: Final = 76
_HEADER_LINES: Final = 5
NOT_CLINICAL: Final = "research software, not for clinical use"

# What the paper's rules use, as rows of text.
_RULE_WAVES: Final = (
    (("R aVL", "r_avl_uv"), ("S V1", "s_v1_uv"), ("S V3", "s_v3_uv")),
    (("R V5", "r_v5_uv"), ("R V6", "r_v6_uv")),
)


@dataclass(frozen=True)
class Drawable:
    """One ECG as it is drawn; what may name a person is not part of it."""

    ecg_id: str  # key of the recording
    leads_uv: Floats | None  # (12, n_samples) microvolts, NaN where missing; None when not decoded
    rate_hz: float = _RATE_HZ  # of `leads_uv`
    source_format: str | None = None  # of the closed list of formats
    source_rate_hz: float | None = None
    amplitudes: tuple[float, ...] = (np.nan,) * len(AMPLITUDES)  # as `AMPLITUDES`; NaN when not measured
    measured_by: str | None = None  # who measured the amplitudes
    qrs_measured_by: str | None = None
    rhythm: RhythmCodes = NOTHING_STATED
    flags: tuple[str, ...] = ()  # quality flags
    reason: str | None = None  # why it is rejected; None when it is not
    detail: str | None = None  # the message that goes with it

    @classmethod
    def of(cls, found: EcgRow | Reject, *, measure: bool = True) -> Drawable:
        """Return what was read of an ECG as it is drawn; `measure` is that of `of_row`."""
        return cls.of_row(found, measure=measure) if isinstance(found, EcgRow) else cls.of_reject(found)

    @classmethod
    def of_row(cls, row: EcgRow, *, measure: bool = True) -> Drawable:
        """Return an ECG that was read and judged; `measure`: measured where the device did not."""
        (row,) = with_signal_flags([row], SignalFlags.FILES)
        (judgement,) = judge_ecgs(row.counts[None], np.array([row.uv_per_count], np.float32))
        known = measured(row, Measure.FILES if measure and judgement.rejection is None else Measure.NEVER)
        reason, detail = (None, None) if judgement.rejection is None else judgement.rejection
        return cls(
            row.ecg_id,
            row.counts * np.float32(row.uv_per_count),
            source_format=row.source_format,
            source_rate_hz=row.source_sampling_rate_hz,
            amplitudes=known.amplitudes,
            measured_by=known.measured_by,
            qrs_measured_by=known.qrs_measured_by,
            rhythm=row.rhythm,
            flags=tuple(dict.fromkeys((*row.quality_flags, *judgement.flags))),
            reason=reason,
            detail=detail,
        )

    @classmethod
    def of_reject(cls, reject: Reject) -> Drawable:
        """Return an ECG that was refused, with its trace where the reader kept one."""
        name, ecg = reject.ecg_id or "without ecg_id", reject.recording
        if ecg is None:
            return cls(name, None, reason=reject.reason, detail=reject.detail)
        first_uv = ecg.leads_uv[: int(DURATION_S * ecg.sampling_rate_hz)].T.copy()
        first_uv[~np.isfinite(first_uv)] = np.nan
        return cls(
            name,
            first_uv,
            ecg.sampling_rate_hz,
            ecg.source_format,
            ecg.sampling_rate_hz,
            rhythm=ecg.rhythm,
            flags=ecg.quality_flags,
            reason=reject.reason,
            detail=reject.detail,
        )


@dataclass(frozen=True)
class Segment:
    """A lead in its place of a print."""

    lead: str
    row: int  # from the top
    start_s: float  # of the recording, and of the row
    stop_s: float


def segments() -> list[Segment]:
    """Return what the standard print shows: each lead for 2.5 s, lead II for 10 s below."""
    found = [
        Segment(lead, row, column * COLUMN_S, (column + 1) * COLUMN_S)
        for row, leads in enumerate(ROWS)
        for column, lead in enumerate(leads)
    ]
    return [*found, Segment(RHYTHM_LEAD, len(ROWS), 0.0, DURATION_S)]


def height_mm(ecg: Drawable, segment: Segment, mm_per_mv: float = MM_PER_MV) -> tuple[Floats, Floats]:
    """Return when, seconds, and how high above the level of its lead, millimetres, a segment is.

    The level of a lead is its median over the recording.
    """
    assert ecg.leads_uv is not None
    lead_uv = ecg.leads_uv[LEADS_12.index(segment.lead)]
    start, stop = (round(at_s * ecg.rate_hz) for at_s in (segment.start_s, segment.stop_s))
    part_uv = lead_uv[start : stop + 1]  # to the first sample of the next lead, so that no gap is seen
    time_s = (start + np.arange(len(part_uv))) / ecg.rate_hz
    known_uv = lead_uv[np.isfinite(lead_uv)]
    level_uv = float(np.median(known_uv)) if len(known_uv) else 0.0
    return time_s, (part_uv - level_uv) / _UV_PER_MV * mm_per_mv


@in_style
def draw_print(ecg: Drawable, note: str | None = None) -> Sheet:
    """Return the page of one ECG that was decoded; `note` is printed at its foot."""
    sheet = Sheet.new()
    sheet.grid(GRID_LEFT_MM, GRID_BOTTOM_MM, *_GRID_MM, step_mm=1.0)
    by_row: dict[int, list[tuple[Segment, Floats, Floats]]] = {}
    for segment in segments():
        by_row.setdefault(segment.row, []).append((segment, *height_mm(ecg, segment)))
    clipped: list[str] = []
    for row, traces in by_row.items():
        clipped += _draw_row(sheet, row, traces)
    _draw_header(sheet, ecg)
    _draw_foot(sheet, note, clipped)
    return sheet


def _draw_row(sheet: Sheet, row: int, traces: Sequence[tuple[Segment, Floats, Floats]]) -> list[str]:
    """Draw the leads of a row on one level; return those that leave it."""
    bottom_mm = GRID_BOTTOM_MM + (len(ROWS) - row) * ROW_MM
    level_mm = bottom_mm + LEVEL_MM + _shift_mm([heights for _, _, heights in traces])
    low_mm, high_mm = bottom_mm, bottom_mm + LEVEL_MM + _ABOVE_MM
    sheet.line(PULSE_LEFT_MM + np.array(_PULSE_X_MM), level_mm + MM_PER_MV * np.array(_PULSE_UP), f"pulse-{row + 1}")
    clipped = []
    for segment, time_s, heights in traces:
        x_mm, y_mm = TRACE_LEFT_MM + MM_PER_S * time_s, level_mm + heights
        left_mm = TRACE_LEFT_MM + MM_PER_S * segment.start_s
        name = f"lead-{segment.lead}" if segment.row < len(ROWS) else f"rhythm-{segment.lead}"
        over, under = y_mm > high_mm, y_mm < low_mm
        drawn = sheet.line(x_mm, np.clip(y_mm, low_mm - ROW_MM, high_mm + ROW_MM), name)
        label = segment.lead
        if over.any() or under.any():
            sheet.clip(drawn, left_mm, low_mm, MM_PER_S * (segment.stop_s - segment.start_s), high_mm - low_mm)
            _mark_clipped(sheet, x_mm, over, high_mm - _MARK_MM / 2, "^")
            _mark_clipped(sheet, x_mm, under, low_mm + _MARK_MM / 2, "v")
            clipped.append(segment.lead)
            label += "  clipped"
        colour = INK if label == segment.lead else ALARM
        sheet.text(left_mm + 1.0, bottom_mm + _NAME_MM, label, 8.0, weight="bold", color=colour)
        if segment.start_s > 0:
            tick_mm = np.array([left_mm, left_mm])
            sheet.line(tick_mm, level_mm + np.array([-2.5, 2.5]), color=GREY, linewidth=TRACE_PT, zorder=2)
    return clipped


def _shift_mm(heights: Sequence[Floats]) -> float:
    """Return how far the level of a row moves up so that its traces stay in it, whole millimetres.

    It moves no further than the other side of the row has room.
    """
    values = np.concatenate(heights)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0
    room_above_mm, room_below_mm = _ABOVE_MM - values.max(), _BELOW_MM + values.min()
    up_mm = min(np.ceil(-room_below_mm), np.floor(room_above_mm))
    down_mm = min(np.ceil(-room_above_mm), np.floor(room_below_mm))
    return float(np.clip(max(up_mm, 0.0) - max(down_mm, 0.0), -_MOST_SHIFT_MM, _MOST_SHIFT_MM))


def _mark_clipped(sheet: Sheet, x_mm: Floats, beyond: NDArray[np.bool_], y_mm: float, marker: str) -> None:
    """Mark each place where a trace leaves its row; places nearer than a mark are one."""
    kept: list[float] = []
    for x in x_mm[beyond & ~np.concatenate([[False], beyond[:-1]])].tolist():
        if not kept or x - kept[-1] > _MARK_MM:
            kept.append(x)
    how: dict[str, Any] = {
        "linestyle": "none",
        "marker": marker,
        "markersize": _MARK_MM * POINTS_PER_MM,
        "markeredgewidth": 0,
    }
    sheet.line(np.array(kept), np.full(len(kept), y_mm), color=ALARM, zorder=4, **how)


def shown_id(ecg_id: str, n_characters: int = _ID_CHARACTERS) -> str:
    """Return an ecg_id as a page has room for it; a long one is shortened in its middle."""
    printable = "".join(c if c.isprintable() else "?" for c in ecg_id)
    if len(printable) <= n_characters:
        return printable
    half = (n_characters - 3) // 2
    return f"{printable[:half]}...{printable[-half:]}"


def _draw_header(sheet: Sheet, ecg: Drawable) -> None:
    for left_mm, lines in zip(_COLUMNS_MM, (_about_source(ecg), _about_waves(ecg), _about_quality(ecg)), strict=True):
        for k, (text, how) in enumerate(lines[:_HEADER_LINES]):
            size_pt = float(how.pop("size_pt", _TEXT_PT))
            sheet.text(left_mm, _HEADER_MM - k * _LINE_MM, text, size_pt, **how)


_Lines = list[tuple[str, dict[str, Any]]]


def _about_source(ecg: Drawable) -> _Lines:
    rate = "rate unknown" if ecg.source_rate_hz is None else f"{ecg.source_rate_hz:g} Hz"
    codes = ecg.rhythm
    lines: _Lines = [(f"ECG {shown_id(ecg.ecg_id)}", {"weight": "bold"})]
    lines.append((f"source: {ecg.source_format or 'format unknown'}, {rate}", {}))
    if codes.rhythm is None and codes.conduction is None:
        lines.append(("rhythm and conduction: not stated", {}))
    else:
        by = f" (by the {codes.rhythm_source})" if codes.rhythm_source else ""
        lines.append((f"rhythm: {codes.rhythm}, conduction: {codes.conduction}{by}", {}))
    return lines


def _about_waves(ecg: Drawable) -> _Lines:
    values = dict(zip(AMPLITUDES, ecg.amplitudes, strict=True))
    if all(np.isnan(value) for value in values.values()):
        return [("no measurements", {})]
    lines: _Lines = []
    for waves in _RULE_WAVES:
        shown = [f"{label}: {_whole(values[name])}" for label, name in waves]
        lines.append((f"{',  '.join(shown)} uV", {}))
    lines.append((f"QRS: {_whole(values['qrs_duration_ms'])} ms", {}))
    by, qrs_by = (_measurer(name) for name in (ecg.measured_by, ecg.qrs_measured_by))
    lines.append((f"measured by {by}" if by == qrs_by else f"amplitudes by {by}, QRS duration by {qrs_by}", {}))
    return lines


def _measurer(name: str | None) -> str:
    """Return who measured; the name that a device gives itself is free text of a file."""
    return "nobody" if name is None else SOFTWARE if name == SOFTWARE else "the device"


def _whole(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.0f}"


def _about_quality(ecg: Drawable) -> _Lines:
    lines: _Lines = []
    if ecg.reason is None:
        lines.append(("may be scored", {"weight": "bold"}))
    else:
        lines.append((f"rejected: {ecg.reason}", {"weight": "bold", "color": ALARM}))
    flags = ", ".join(ecg.flags) or "none"
    small = {"size_pt": _SMALL_PT}
    lines += [(line, dict(small)) for line in wrapped(f"quality flags: {flags}", _DETAIL_CHARACTERS, 2)]
    if ecg.detail is not None:
        n_left = _HEADER_LINES - len(lines)
        lines += [(line, dict(small)) for line in wrapped(ecg.detail, _DETAIL_CHARACTERS, n_left)]
    return lines


def wrapped(text: str, n_characters: int, n_lines: int) -> list[str]:
    """Return a text in so many lines at most; what has no room is shown by dots."""
    return textwrap.wrap(text, n_characters, max_lines=n_lines, placeholder=" ...")


def _draw_foot(sheet: Sheet, note: str | None, clipped: Sequence[str]) -> None:
    right_mm = WIDTH_MM - GRID_LEFT_MM
    sheet.text(GRID_LEFT_MM, 17.5, "25 mm/s   10 mm/mV", 8.0, weight="bold")
    sheet.text(right_mm, 17.5, NOT_CLINICAL, 8.0, ha="right", weight="bold")
    how = "baseline of each lead: its median; no filter. Printed at 100 % on A4 the scale is true."
    sheet.text(GRID_LEFT_MM, 13.5, how, _SMALL_PT, color=GREY)
    if clipped:
        leads = ", ".join(lead for lead in LEADS_12 if lead in clipped)
        sheet.text(GRID_LEFT_MM, 9.5, f"cut off at the edge of the row: {leads}", _SMALL_PT, color=ALARM)
    if note:
        sheet.text(right_mm, 13.5, note, 8.0, ha="right", weight="bold", color=ALARM)
