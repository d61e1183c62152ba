from __future__ import annotations

import base64
import re
import struct

import numpy as np
import pytest

from lvm_core.formats.muse import read_muse
from lvm_core.signal.ecg import Measurements
from tests.file_builders import MUSE_LEADS, muse_matrix, muse_xml, random_counts
from tests.lvm_core.formats.helpers import SHARED_ECG, needs_real_files

EIGHT = random_counts(n_samples=20, leads=MUSE_LEADS)
Q, R, S, R1, S1 = 9, 13, 17, 21, 25
AMPLITUDES_UV = {
    "aVL": {R: 639, Q: 58},
    "V1": {R: 195, S: 1054},
    "V3": {R: 1328, S: 493, S1: 600},
    "V5": {R: 1508, R1: 1600},
    "V6": {R: 1328},
}


def _measure(matrix: str, **changes: str) -> Measurements:
    return read_muse(muse_xml(EIGHT, matrix=matrix, **changes)).measurements  # type: ignore[arg-type]


def test_measurements__matrix_is_read_by_lead_and_wave() -> None:
    assert _measure(muse_matrix(AMPLITUDES_UV)) == Measurements(
        r_avl_uv=639.0,
        s_v1_uv=1054.0,
        s_v3_uv=600.0,
        r_v5_uv=1600.0,
        r_v6_uv=1328.0,
        qrs_duration_ms=96.0,
        measured_by="12SL 241",
    )


def test_measurements__qs_complex_counts_as_s() -> None:
    assert _measure(muse_matrix({"V1": {Q: 900}, "V3": {Q: 70, R: 50}})).s_v1_uv == 900.0
    assert _measure(muse_matrix({"V1": {Q: 900}, "V3": {Q: 70, R: 50}})).s_v3_uv == 0.0


def test_measurements__lead_without_any_wave_was_not_measured() -> None:
    measured = _measure(muse_matrix({"V5": {R: 1}, "V6": {30: 5}}))
    assert (measured.r_v5_uv, measured.r_v6_uv) == (1.0, None)


@pytest.mark.parametrize(
    "matrix",
    [
        "",
        "AAAA",
        "not base64!",
        muse_matrix(AMPLITUDES_UV, first_word=38),
        muse_matrix(AMPLITUDES_UV, n_entries=635),
        muse_matrix(AMPLITUDES_UV, first_key=1),
    ],
)
def test_measurements__matrix_of_another_shape_is_not_read(matrix: str) -> None:
    assert _measure(matrix) == Measurements(qrs_duration_ms=96.0, measured_by="12SL 241")


@pytest.mark.parametrize(
    ("confirmed", "original", "expected"), [("96", "98", 96.0), ("", "98", 98.0), ("0", "98", 98.0), ("x", "", None)]
)
def test_measurements__duration(confirmed: str, original: str, expected: float | None) -> None:
    measured = _measure("", qrs_duration=confirmed, original_qrs_duration=original)
    assert measured.qrs_duration_ms == expected


def test_measurements__nothing_measured_by_nobody() -> None:
    assert _measure("", qrs_duration="", original_qrs_duration="") == Measurements()


def test_measurements__program_not_named() -> None:
    data = muse_xml(EIGHT).replace(b"12SL 241", b"")
    assert read_muse(data).measurements.measured_by == "MUSE"


def _median_extremes_uv(data: bytes) -> dict[str, tuple[float, float]]:
    """Return the highest R and the deepest S of the median beat between QRS onset and offset."""
    text = data.decode("latin-1")
    onset, offset = (int(re.findall(f"<{tag}>(\\d+)</{tag}>", text)[0]) for tag in ("QOnset", "QOffset"))
    median = text[text.index("<WaveformType>Median") : text.index("<WaveformType>Rhythm")]
    leads = {}
    for name, block in re.findall(r"(?s)<LeadID>(\w+)</LeadID>.*?<WaveFormData>(.*?)<", median):
        raw = base64.b64decode(block)
        leads[name] = 4.88 * np.array(struct.unpack(f"<{len(raw) // 2}h", raw))
    leads["aVL"] = leads["I"] - leads["II"] / 2
    qrs = {name: beat[onset : offset + 1] - beat[onset] for name, beat in leads.items()}
    return {name: (float(beat.max()), float(-beat.min())) for name, beat in qrs.items()}


@needs_real_files
@pytest.mark.parametrize("name", ["braveheart_example1.xml", "braveheart_example2.xml"])
def test_measurements__real_matrix_agrees_with_the_median_beat(name: str) -> None:
    """20 uV would do; the two agree within 1 uV."""
    data = (SHARED_ECG / "muse_xml" / name).read_bytes()
    measured = read_muse(data).measurements
    extremes = _median_extremes_uv(data)
    found = [measured.r_avl_uv, measured.s_v1_uv, measured.s_v3_uv, measured.r_v5_uv, measured.r_v6_uv]
    expected = [extremes["aVL"][0], extremes["V1"][1], extremes["V3"][1], extremes["V5"][0], extremes["V6"][0]]
    np.testing.assert_allclose(np.array(found, dtype=float), expected, rtol=0, atol=1.0)
