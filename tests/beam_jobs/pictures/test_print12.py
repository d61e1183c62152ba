"""The standard print, measured on the page: in pixels, in SVG coordinates, and in its texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray

from beam_jobs.pictures.paper import writing
from beam_jobs.pictures.print12 import Drawable, draw_print, segments, shown_id
from beam_jobs.reading.blocks import AMPLITUDES, EcgRow, Reject
from lvm_core.errors import RejectReason
from lvm_core.signal.ecg import LEADS_12, RhythmCodes
from tests.beam_jobs.pictures.reading_pages import page_sizes_mm, pdf_pages, svg_line_mm, svg_texts
from tests.builders import counts_block, ecg

# By hand: A4 on its side; the grid begins 13.5 mm from the left and 23 mm from below, and traces
# 15 mm to its right. Rows have 40 mm, and the level of a row is 20 mm above its lower end.
LEFT_MM = 28.5
LEVEL_MM = {"I": 163.0, "aVR": 163.0, "V1": 163.0, "II": 123.0, "aVF": 83.0, "rhythm": 43.0}
RATE_HZ = 500


def drawable(leads_uv: NDArray[np.floating] | None = None, **changes: Any) -> Drawable:
    flat = np.zeros((12, 5000)) if leads_uv is None else leads_uv
    return replace(Drawable("e1", flat), **changes)


def with_lead(lead: str, values_uv: NDArray[np.floating]) -> NDArray[np.float64]:
    leads_uv = np.zeros((12, 5000))
    leads_uv[LEADS_12.index(lead)] = values_uv
    return leads_uv


def drawn(one: Drawable, folder: Path, kind: str = ".svg", note: str | None = None) -> Path:
    path = folder / f"page{kind}"
    with writing(path, kind) as write:
        write(draw_print(one, note))
    return path


def square_uv() -> NDArray[np.float64]:
    """Return 10 s of 0 uV with 1000 uV from 0.2 to 0.4 s of each second."""
    in_second_s = np.arange(5000) / RATE_HZ % 1
    return np.where((in_second_s > 0.199) & (in_second_s < 0.399), 1000.0, 0.0)


@pytest.mark.parametrize(("lead", "start_s"), [("I", 0.0), ("aVR", 2.5), ("V1", 5.0), ("II", 0.0), ("aVF", 2.5)])
def test_draw_print__square_wave_is_where_it_is_worked_out_by_hand(lead: str, start_s: float, tmp_path: Path) -> None:
    points = svg_line_mm(drawn(drawable(with_lead(lead, square_uv())), tmp_path), f"lead-{lead}")
    # 2.5 s of 500 samples a second, and the first sample of what follows.
    assert len(points) == 1251
    time_s = start_s + np.arange(1251) / RATE_HZ
    np.testing.assert_allclose(points[:, 0], LEFT_MM + 25 * time_s, atol=1e-4)
    is_high = (np.rint(time_s * RATE_HZ) % RATE_HZ >= 100) & (np.rint(time_s * RATE_HZ) % RATE_HZ < 200)
    np.testing.assert_allclose(points[:, 1], LEVEL_MM[lead] + 10 * is_high, atol=1e-4)


def test_draw_print__rhythm_strip_is_lead_ii_for_10_s(tmp_path: Path) -> None:
    points = svg_line_mm(drawn(drawable(with_lead("II", square_uv())), tmp_path), "rhythm-II")
    assert points[:, 0].min() == pytest.approx(LEFT_MM, abs=1e-4)
    assert points[:, 0].max() == pytest.approx(LEFT_MM + 250, abs=0.06)
    assert set(points[:, 1].round(3)) == {LEVEL_MM["rhythm"], LEVEL_MM["rhythm"] + 10}


def test_draw_print__pulse_of_each_row_is_1_mv_for_200_ms(tmp_path: Path) -> None:
    path = drawn(drawable(), tmp_path)
    for row, level_mm in enumerate((163.0, 123.0, 83.0, 43.0), start=1):
        points = svg_line_mm(path, f"pulse-{row}")
        high = points[points[:, 1] > level_mm + 5]
        assert np.ptp(points[:, 1]) == pytest.approx(10.0, abs=1e-4)
        assert np.ptp(high[:, 0]) == pytest.approx(5.0, abs=1e-4)
        assert points[:, 1].min() == pytest.approx(level_mm, abs=1e-4)


def dark(picture: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(picture[:, :, :3].max(axis=2) < 0.4)


def test_draw_print__png_has_its_scale_in_pixels(tmp_path: Path) -> None:
    """254 dpi are 10 pixels a millimetre: 250 pixels a second, 100 pixels a millivolt."""
    spikes_uv = np.where(np.arange(5000) % RATE_HZ == 250, 1000.0, 0.0)
    picture = imread(drawn(drawable(with_lead("II", spikes_uv)), tmp_path, ".png"))
    assert picture.shape[:2] == (2100, 2970)
    ink = dark(picture)
    # Spikes of the rhythm strip: 9 mm above its level, which is 43 mm from below.
    above = np.flatnonzero(ink[2100 - 520, 290:])
    starts = above[np.flatnonzero(np.diff(above, prepend=-10) > 1)]
    np.testing.assert_allclose(np.diff(starts), 250, atol=1)
    # The pulse: its left edge is 5 mm from the left of the grid.
    column = np.flatnonzero(ink[2100 - 600 : 2100 - 400, 135 + 50])
    assert np.ptp(column) == pytest.approx(100, abs=4)  # with the width of the line


def test_draw_print__grid_in_pixels_is_1_mm_with_a_strong_line_each_5_mm(tmp_path: Path) -> None:
    picture = imread(drawn(drawable(), tmp_path, ".png"))
    # A line of pixels between two horizontal lines of the grid, above all traces: 35.5 mm above the
    # lower end of the first row.
    green = picture[2100 - 10 * (23 + 120 + 33) - 5, 130:2840, 1]
    lines = np.flatnonzero(green < 0.97)
    centres = np.array([run.mean() for run in np.split(lines, np.flatnonzero(np.diff(lines) > 1) + 1)])
    np.testing.assert_allclose(np.diff(centres), 10, atol=1)
    strong = np.flatnonzero(green < 0.7)
    centres = np.array([run.mean() for run in np.split(strong, np.flatnonzero(np.diff(strong) > 1) + 1)])
    assert len(centres) == 55
    np.testing.assert_allclose(np.diff(centres), 50, atol=1)


def test_segments__are_those_of_the_standard_print() -> None:
    """Columns are I II III, aVR aVL aVF, V1 to V3, V4 to V6, 2.5 s each (AHA/ACC/HRS 2007)."""
    columns = [[one.lead for one in segments() if one.start_s == start and one.row < 3] for start in (0, 2.5, 5, 7.5)]
    assert columns == [["I", "II", "III"], ["aVR", "aVL", "aVF"], ["V1", "V2", "V3"], ["V4", "V5", "V6"]]
    assert {one.stop_s - one.start_s for one in segments()} == {2.5, 10.0}


def test_draw_print__level_is_the_median_and_moves_where_a_trace_would_leave(tmp_path: Path) -> None:
    offset = svg_line_mm(drawn(drawable(with_lead("V1", square_uv() + 400.0)), tmp_path), "lead-V1")
    assert offset[:, 1].min() == pytest.approx(163.0, abs=1e-4)
    # 2.1 mV are 5 mm more than there is above the level: the whole row goes down by 5 mm.
    tall = drawn(drawable(with_lead("V1", square_uv() * 2.1)), tmp_path)
    assert svg_line_mm(tall, "lead-V1")[:, 1].max() == pytest.approx(163.0 - 5 + 21, abs=1e-4)
    assert svg_line_mm(tall, "pulse-1")[:, 1].min() == pytest.approx(158.0, abs=1e-4)
    assert svg_line_mm(tall, "pulse-2")[:, 1].min() == pytest.approx(123.0, abs=1e-4)
    assert not any("clipped" in text for text in svg_texts(tall))


@pytest.mark.parametrize(
    ("high_mv", "low_mv", "shift_mm"),
    [
        (1.6, 2.0, 0),  # all that there is
        (1.61, 0.5, -1),
        (0.5, 2.31, 4),
        (1.25, 2.31, 3),  # 3.5 mm are left above
        (1.8, 2.3, 0),  # too tall for any level
        (3.0, 0.0, -6),  # no further
    ],
)
def test_draw_print__level_moves_no_further_than_there_is_room(
    high_mv: float, low_mv: float, shift_mm: int, tmp_path: Path
) -> None:
    in_second = np.arange(5000) % RATE_HZ
    waves_uv = np.where(in_second == 100, 1000 * high_mv, np.where(in_second == 150, -1000 * low_mv, 0.0))
    path = drawn(drawable(with_lead("I", waves_uv)), tmp_path)
    assert svg_line_mm(path, "pulse-1")[:, 1].min() == pytest.approx(163.0 + shift_mm, abs=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_draw_print__what_leaves_its_row_is_clipped_and_said(sign: int, tmp_path: Path) -> None:
    path = drawn(drawable(with_lead("V4", sign * square_uv() * 1000)), tmp_path)
    texts = svg_texts(path)
    assert "V4  clipped" in texts
    assert "cut off at the edge of the row: V4" in texts
    assert "V1" in texts
    assert 'clip-path="url(#' in path.read_text(encoding="utf-8").partition('id="lead-V4"')[2].partition("</g>")[0]
    ink = dark(imread(drawn(drawable(with_lead("V4", sign * square_uv() * 1000)), tmp_path, ".png")))
    # Nothing of the trace is in the second row, of which V5 is flat: only its name and its level.
    assert not ink[2100 - 10 * 140 : 2100 - 10 * 126, 10 * 232 : 10 * 276].any()


def test_draw_print__what_is_missing_is_a_gap(tmp_path: Path) -> None:
    values = square_uv()
    values[100:200] = np.nan
    points = svg_line_mm(drawn(drawable(with_lead("I", values)), tmp_path), "lead-I")
    x_mm = points[:, 0] - LEFT_MM
    assert not ((x_mm > 25 * 0.199) & (x_mm < 25 * 0.399)).any()
    short = drawable(np.zeros((12, 3 * RATE_HZ)))
    assert svg_line_mm(drawn(short, tmp_path), "rhythm-II")[:, 0].max() == pytest.approx(LEFT_MM + 75, abs=0.06)
    nothing = drawable(np.full((12, 5000), np.nan))
    assert "25 mm/s   10 mm/mV" in svg_texts(drawn(nothing, tmp_path))


def test_draw_print__says_what_is_known(tmp_path: Path) -> None:
    values = dict.fromkeys(AMPLITUDES, np.nan) | {"r_avl_uv": 214.4, "s_v1_uv": 737.0, "qrs_duration_ms": 92.0}
    one = drawable(
        source_format="muse_xml",
        source_rate_hz=250.0,
        amplitudes=tuple(values.values()),
        measured_by="12SL V21",
        qrs_measured_by="12SL V21",
        rhythm=RhythmCodes("sinus", "none", "device"),
        flags=("resampled", "amplitude_unusual"),
    )
    texts = svg_texts(drawn(one, tmp_path, note="synthetic"))
    for text in (
        "ECG e1",
        "source: muse_xml, 250 Hz",
        "rhythm: sinus, conduction: none (by the device)",
        "R aVL: 214,  S V1: 737,  S V3: - uV",
        "R V5: -,  R V6: - uV",
        "QRS: 92 ms",
        "measured by the device",
        "may be scored",
        "quality flags: resampled, amplitude_unusual",
        "research software, not for clinical use",
        "25 mm/s   10 mm/mV",
        "synthetic",
    ):
        assert text in texts, text
    assert set(LEADS_12) <= set(texts)
    # The name that a device gives itself is text of a file.
    assert not any("12SL" in text for text in texts)


def test_draw_print__unknown_is_said(tmp_path: Path) -> None:
    texts = svg_texts(drawn(drawable(), tmp_path))
    assert {"source: format unknown, rate unknown", "rhythm and conduction: not stated", "no measurements"} <= set(
        texts
    )
    mixed = [np.nan] * len(AMPLITUDES)
    mixed[0] = 100.0
    one = drawable(amplitudes=tuple(mixed), measured_by="software", qrs_measured_by="MAC 5")
    assert "amplitudes by software, QRS duration by the device" in svg_texts(drawn(one, tmp_path))


def test_draw_print__rejected_ecg_has_its_reason_in_words(tmp_path: Path) -> None:
    one = drawable(reason="lead_flat", detail="lead V3 is constant at 0 uV over 5000 samples " * 12)
    texts = svg_texts(drawn(one, tmp_path))
    assert "rejected: lead_flat" in texts
    details = [text for text in texts if "constant" in text]
    assert len(details) == 3
    assert details[-1].endswith("...")


def test_drawable__of_a_row_is_judged_and_measured() -> None:
    row = EcgRow("e", counts_block(1)[0], 5.0, "a.xml", source_format="wfdb", source_sampling_rate_hz=500.0)
    one = Drawable.of(row)
    assert one.leads_uv is not None
    np.testing.assert_array_equal(one.leads_uv, row.counts * np.float32(5.0))
    assert (one.reason, one.measured_by, one.source_format) == (None, "software", "wfdb")
    assert Drawable.of(row, measure=False).measured_by is None
    flat = replace(row, counts=row.counts * np.array([[0]] + [[1]] * 11, np.int16))
    assert Drawable.of(flat).reason == "lead_flat"
    assert "lead I is constant" in str(Drawable.of(flat).detail)
    assert "amplitude_unusual" in Drawable.of(replace(row, uv_per_count=25.0)).flags


def test_drawable__of_a_refused_recording_has_its_trace() -> None:
    recording = ecg(leads_uv=np.full((7500, 12), np.inf, np.float32), sampling_rate_hz=500.0)
    refused = Reject(RejectReason.NON_FINITE.value, "why", "a.xml", None, "e", recording=recording)
    one = Drawable.of(refused)
    assert one.leads_uv is not None
    assert one.leads_uv.shape == (12, 5000)
    assert np.isnan(one.leads_uv).all()
    assert Drawable.of(replace(refused, recording=None, ecg_id=None)).ecg_id == "without ecg_id"


def test_shown_id__is_short_and_printable() -> None:
    assert shown_id("a/b-1") == "a/b-1"
    assert shown_id("x" * 100, 11) == "xxxx...xxxx"
    assert shown_id("a\nb\x00") == "a?b?"


def test_writing__same_pages_give_the_same_bytes(tmp_path: Path) -> None:
    for kind in (".svg", ".png", ".pdf"):
        contents = []
        for name in ("one", "other"):
            (tmp_path / name).mkdir(exist_ok=True)
            path = drawn(drawable(counts_block(1)[0] * 5.0, ecg_id="$x$ <&>"), tmp_path / name, kind)
            contents.append(path.read_bytes())
        assert contents[0] == contents[1]
        assert b"CreationDate" not in contents[0]
        assert b"<dc:date>" not in contents[0]


def test_writing__pages_of_a_pdf_are_a4(tmp_path: Path) -> None:
    path = tmp_path / "x.pdf"
    with writing(path, ".pdf") as write:
        for name in ("e1", "e2", "(e\\3)"):
            write(draw_print(drawable(ecg_id=name)))
    assert page_sizes_mm(path) == [pytest.approx((297.0, 210.0), abs=0.01)] * 3
    names = [next(text for text in page if text.startswith("ECG ")) for page in pdf_pages(path)]
    assert names == ["ECG e1", "ECG e2", "ECG (e\\3)"]
