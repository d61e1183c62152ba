"""What the tests of the formats share."""

from __future__ import annotations

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
