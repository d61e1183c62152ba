"""Which ECGs are measured, and whose values they get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from beam_jobs.reading.blocks import AMPLITUDES, EcgRow
from beam_jobs.reading.measured import Measure, Measured, measured
from lvm_core.synthetic.known_waves import known_ecg, regular_starts

R_UV, S_UV = np.full(12, 1000.0), np.full(12, 500.0)
COUNTS = np.rint(known_ecg(R_UV, S_UV, regular_starts(70)) / 2.5).astype(np.int16)
BARE = EcgRow("e", COUNTS, 2.5, "e.dat")


def _named(found: Measured) -> dict[str, float]:
    return dict(zip(AMPLITUDES, found.amplitudes, strict=True))


def _with(**values: float) -> tuple[float, ...]:
    return tuple(values.get(name, np.nan) for name in AMPLITUDES)


@pytest.mark.parametrize(
    ("row", "measure"), [(BARE, Measure.FILES), (BARE, Measure.MISSING), (replace(BARE, row=3), Measure.MISSING)]
)
def test_measured__software_where_the_device_measured_nothing(row: EcgRow, measure: Measure) -> None:
    found = measured(row, measure)
    assert (found.measured_by, found.qrs_measured_by) == ("software", "software")
    values = _named(found)
    assert values["r_avl_uv"] == pytest.approx(1000.0, abs=2.5)
    assert values["s_v6_uv"] == pytest.approx(500.0, abs=2.5)
    assert values["qrs_voltage_sum_uv"] == pytest.approx(12 * 1500.0, abs=60)
    assert values["qrs_duration_ms"] == pytest.approx(96.0, abs=8)


def test_measured__one_amplitude_of_the_device_keeps_the_software_out() -> None:
    row = replace(BARE, amplitudes=_with(s_v3_uv=700.0), measured_by="12SL")
    found = measured(row, Measure.MISSING)
    np.testing.assert_array_equal(found.amplitudes, row.amplitudes)
    assert (found.measured_by, found.qrs_measured_by) == ("12SL", None)


def test_measured__a_duration_of_the_device_stays() -> None:
    row = replace(BARE, amplitudes=_with(qrs_duration_ms=88.0), measured_by="12SL", qrs_measured_by="12SL")
    found = measured(row, Measure.MISSING)
    assert _named(found)["qrs_duration_ms"] == 88.0
    assert _named(found)["r_v5_uv"] == pytest.approx(1000.0, abs=2.5)
    assert (found.measured_by, found.qrs_measured_by) == ("software", "12SL")


@pytest.mark.parametrize(
    ("row", "measure"),
    [
        (BARE, Measure.NEVER),
        (replace(BARE, row=3), Measure.FILES),
        (replace(BARE, measured_by="software", qrs_measured_by="software"), Measure.MISSING),
    ],
    ids=["never", "Parquet", "ingest could not measure it"],
)
def test_measured__left_as_it_is(row: EcgRow, measure: Measure) -> None:
    found = measured(row, measure)
    assert np.isnan(found.amplitudes).all()
    assert (found.measured_by, found.qrs_measured_by) == (row.measured_by, row.qrs_measured_by)


def test_measured__what_cannot_be_measured_is_unknown_and_says_who_tried() -> None:
    found = measured(replace(BARE, counts=np.zeros((12, 5000), np.int16)), Measure.MISSING)
    assert np.isnan(found.amplitudes).all()
    assert found.measured_by == "software"
