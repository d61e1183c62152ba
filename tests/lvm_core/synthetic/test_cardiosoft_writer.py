import datetime as dt
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12, Measurements
from lvm_core.synthetic.device_files import median_beat, write_cardiosoft

WHEN = dt.datetime(2019, 3, 4, 9, 5, 6)
COUNTS = np.random.default_rng(3).integers(-600, 600, (12, 5000)).astype(np.int16)
KNOWN = Measurements(
    r_avl_uv=415.0,
    s_v1_uv=0.0,
    s_v3_uv=905.0,
    r_v5_uv=1230.0,
    r_v6_uv=1.0,
    qrs_duration_ms=94.0,
    measured_by="synthetic",
)
_UV = st.none() | st.integers(0, 5000).map(float)


def test_write_cardiosoft__our_reader_gives_the_same_counts() -> None:
    data = write_cardiosoft(COUNTS, 5.0, participant_id="S1", recorded_at=WHEN)
    ecg = canonicalise(read_cardiosoft(data))
    np.testing.assert_array_equal(ecg.counts, COUNTS)
    assert (ecg.uv_per_count, ecg.quality_flags) == (5.0, ())
    assert ecg.source_sampling_rate_hz == 500


def test_write_cardiosoft__head_comes_back() -> None:
    data = write_cardiosoft(COUNTS, 2.5, participant_id="A&B<1>", recorded_at=WHEN, measurements=KNOWN)
    ecg = read_cardiosoft(data)
    assert (ecg.recorded_at, ecg.header_participant_id, ecg.step_uv) == (WHEN, "A&B<1>", 2.5)
    assert ecg.measurements == KNOWN


@given(r_avl_uv=_UV, s_v1_uv=_UV, s_v3_uv=_UV, r_v5_uv=_UV, r_v6_uv=_UV)
def test_write_cardiosoft__every_measurement_comes_back(**amplitudes_uv: float | None) -> None:
    known = Measurements(**amplitudes_uv, qrs_duration_ms=88.0, measured_by="synthetic")
    data = write_cardiosoft(COUNTS[:, :600], 5.0, participant_id="1", recorded_at=WHEN, measurements=known)
    assert read_cardiosoft(data).measurements == known


@pytest.mark.parametrize("measurements", [None, Measurements()])
def test_write_cardiosoft__what_was_not_measured_stays_unknown(measurements: Measurements | None) -> None:
    data = write_cardiosoft(COUNTS, 5.0, participant_id="1", recorded_at=WHEN, measurements=measurements)
    assert read_cardiosoft(data).measurements == Measurements()


def test_write_cardiosoft__median_beat_comes_before_the_strip() -> None:
    root = ElementTree.fromstring(write_cardiosoft(COUNTS, 5.0, participant_id="1", recorded_at=WHEN))
    waveforms = list(root.iter("WaveformData"))
    assert [w.get("lead") for w in waveforms] == [*LEADS_12, *LEADS_12]
    first = [int(value) for value in (waveforms[1].text or "").split(",")]
    assert first == median_beat(COUNTS)[1].tolist()


@pytest.mark.parametrize("counts", [COUNTS.T, COUNTS[0], COUNTS[:8], COUNTS.astype(np.int32), COUNTS / 2])
def test_write_cardiosoft__refuses_other_shapes(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"counts are .*, expected int16 \(12, n\)"):
        write_cardiosoft(counts, 5.0, participant_id="1", recorded_at=WHEN)
