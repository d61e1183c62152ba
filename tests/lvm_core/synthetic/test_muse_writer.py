import base64
import datetime as dt
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from ecgdatakit import FileParser
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.formats.muse import read_muse
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12, Measurements
from lvm_core.synthetic.device_files import median_beat, write_muse

WHEN = dt.datetime(2019, 3, 4, 9, 5, 6)
EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
COUNTS = np.random.default_rng(4).integers(-600, 600, (12, 5000)).astype(np.int16)
_UV = st.none() | st.integers(0, 5000).map(float)


def _lead(counts: np.ndarray, lead: str) -> np.ndarray:
    return counts[LEADS_12.index(lead)].astype(int)


def test_write_muse__our_reader_gives_the_same_counts() -> None:
    ecg = canonicalise(read_muse(write_muse(COUNTS, 5.0, participant_id="1", recorded_at=WHEN)))
    # Four leads are derived, with half counts: the step is halved.
    assert ecg.uv_per_count == 2.5
    for lead in EIGHT:
        np.testing.assert_array_equal(_lead(ecg.counts, lead), 2 * _lead(COUNTS, lead))
    i, ii = _lead(COUNTS, "I"), _lead(COUNTS, "II")
    derived = {"III": 2 * (ii - i), "aVR": -(i + ii), "aVL": 2 * i - ii, "aVF": 2 * ii - i}
    for lead, expected in derived.items():
        np.testing.assert_array_equal(_lead(ecg.counts, lead), expected)


def test_write_muse__an_independent_reader_gives_the_same_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(write_muse(COUNTS, 5.0, participant_id="1", recorded_at=WHEN))
    record = FileParser().parse(path)
    found = {lead.label: lead for lead in record.leads}
    for name in EIGHT:
        lead = found[name]
        assert (lead.sampling_rate, len(lead.samples)) == (500, 5000)
        assert lead.units == "mV"
        samples_uv = np.asarray(lead.samples) * 1e3
        np.testing.assert_allclose(samples_uv, 5.0 * _lead(COUNTS, name), rtol=0, atol=1e-6)


def test_write_muse__head_comes_back() -> None:
    known = Measurements(
        r_avl_uv=415.0,
        s_v1_uv=0.0,
        s_v3_uv=905.0,
        r_v5_uv=1230.0,
        r_v6_uv=0.0,
        qrs_duration_ms=94.0,
        measured_by="synthetic & more",
    )
    data = write_muse(COUNTS, 4.88, participant_id="A&B<1>", recorded_at=WHEN, measurements=known)
    ecg = read_muse(data)
    assert (ecg.recorded_at, ecg.header_participant_id, ecg.step_uv) == (WHEN, "A&B<1>", 4.88)
    assert ecg.measurements == known


@given(r_avl_uv=_UV, s_v1_uv=_UV, s_v3_uv=_UV, r_v5_uv=_UV, r_v6_uv=_UV)
def test_write_muse__every_measurement_comes_back(**amplitudes_uv: float | None) -> None:
    known = Measurements(**amplitudes_uv, qrs_duration_ms=88.0, measured_by="synthetic")
    data = write_muse(COUNTS[:, :600], 5.0, participant_id="1", recorded_at=WHEN, measurements=known)
    assert read_muse(data).measurements == known


@pytest.mark.parametrize("measurements", [None, Measurements()])
def test_write_muse__what_was_not_measured_stays_unknown(measurements: Measurements | None) -> None:
    data = write_muse(COUNTS, 5.0, participant_id="1", recorded_at=WHEN, measurements=measurements)
    assert read_muse(data).measurements == Measurements()


def test_write_muse__has_doctype_median_first_and_a_checksum_of_each_lead() -> None:
    data = write_muse(COUNTS, 5.0, participant_id="1", recorded_at=WHEN)
    assert data.splitlines()[1] == b'<!DOCTYPE RestingECG SYSTEM "restecg.dtd">'
    median, rhythm = ElementTree.fromstring(data).findall("Waveform")
    assert (median.findtext("WaveformType"), rhythm.findtext("WaveformType")) == ("Median", "Rhythm")
    for waveform in (median, rhythm):
        leads = waveform.findall("LeadData")
        assert [lead.findtext("LeadID") for lead in leads] == list(EIGHT)
        for lead in leads:
            raw = base64.b64decode(lead.findtext("WaveFormData") or "")
            assert lead.findtext("LeadDataCRC32") == str(zlib.crc32(raw))
    beat = np.frombuffer(
        base64.b64decode(median.find("LeadData").findtext("WaveFormData") or ""),  # type: ignore[union-attr]
        dtype="<i2",
    )
    eight = COUNTS[[LEADS_12.index(lead) for lead in EIGHT]]
    np.testing.assert_array_equal(beat, median_beat(eight)[0])


@pytest.mark.parametrize("counts", [COUNTS.T, COUNTS[0], COUNTS[:8], COUNTS.astype(np.int32)])
def test_write_muse__refuses_other_shapes(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"counts are .*, expected int16 \(12, n\)"):
        write_muse(counts, 5.0, participant_id="1", recorded_at=WHEN)
