"""Records that are written are read back by the wfdb package and by our own reader."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import wfdb

from lvm_core.formats.wfdb import read_wfdb
from lvm_core.signal.ecg import LEADS_12
from lvm_core.synthetic.device_files import write_wfdb
from tests import builders

WHEN = dt.datetime(2021, 6, 1, 13, 5, 9)


def test_write_wfdb__the_wfdb_package_reads_the_same_counts(tmp_path: Path) -> None:
    counts = builders.counts_block(1)[0]
    for name, data in write_wfdb("rec-1", counts, 5.0, recorded_at=WHEN).items():
        (tmp_path / name).write_bytes(data)
    record = wfdb.rdrecord(str(tmp_path / "rec-1"), physical=False)
    assert record.sig_name == list(LEADS_12)
    assert record.fs == 500
    assert record.adc_gain == [200.0] * 12
    assert record.base_datetime == WHEN
    sums = counts.sum(axis=1, dtype=np.int64)
    assert [c % 65536 for c in record.checksum] == (sums % 65536).tolist()
    np.testing.assert_array_equal(record.d_signal.T, counts)


def test_write_wfdb__our_reader_reads_the_same_microvolts() -> None:
    counts = builders.counts_block(1)[0]
    ecg = read_wfdb(write_wfdb("x", counts, 4.88, recorded_at=WHEN), "x.hea")
    np.testing.assert_allclose(ecg.leads_uv.T, counts * 4.88, rtol=1e-6, atol=1e-3)
    assert ecg.recorded_at == WHEN


def test_write_wfdb__missing_value_marker_is_refused() -> None:
    counts = np.zeros((12, 10), dtype=np.int16)
    counts[3, 3] = -32768
    with pytest.raises(ValueError, match="a sample is -32768, which WFDB reads as missing"):
        write_wfdb("x", counts, 5.0)


@pytest.mark.parametrize(
    "counts", [np.zeros((10, 12), dtype=np.int16), np.zeros((12, 10)), np.zeros(12, dtype=np.int16)]
)
def test_write_wfdb__other_shapes_and_types_are_refused(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected int16 \(12, n\)"):
        write_wfdb("x", counts, 5.0)
