"""What the tests of the formats share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import LEADS_12, Ecg

SHARED_ECG = Path(__file__).resolve().parents[4] / "shared" / "ecg"

needs_real_files = pytest.mark.skipif(
    not SHARED_ECG.is_dir(), reason="the real sample files (../shared/ecg) are not here"
)


def lead_uv(ecg: Ecg, lead: str) -> NDArray[np.float32]:
    return ecg.leads_uv[:, LEADS_12.index(lead)]


def assert_rejected(read: Callable[[], object], reason: RejectReason, match: str) -> None:
    """Check that `read()` is rejected for `reason` with a message that matches."""
    with pytest.raises(EcgRejected, match=match) as caught:
        read()
    assert caught.value.reason is reason


def assert_is_as_built(ecg: Ecg) -> None:
    """Check what the builders of aECG, SCP-ECG and DICOM files write beside the samples."""
    assert ecg.recorded_at == dt.datetime(2018, 7, 19, 14, 19, 39)
    assert ecg.header_participant_id == "1000001"
    assert ecg.measurements.qrs_duration_ms == 92
    assert ecg.measurements.measured_by == "Mortara ELI 25"
    assert ecg.quality_flags == ()
    assert not ecg.leads_derived
