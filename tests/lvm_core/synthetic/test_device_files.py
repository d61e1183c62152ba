from __future__ import annotations

import base64
import datetime as dt
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import wfdb
from ecgdatakit import FileParser
from hypothesis import given
from hypothesis import strategies as st

from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.formats.muse import read_muse
from lvm_core.formats.registry import FORMATS, format_of, read_ecg
from lvm_core.formats.wfdb import read_wfdb
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12, Measurements
from lvm_core.synthetic.device_files import WRITERS, median_beat, write_cardiosoft, write_muse, write_wfdb
from lvm_core.synthetic.ecgs import synthetic_ecgs
from tests import builders

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
_WRITTEN = ("r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv", "qrs_duration_ms", "measured_by")
_UV = st.none() | st.integers(0, 5000).map(float)


def _written(measurements: Measurements) -> list[float | str | None]:
    """Return what the writers are given; the other wave of a lead is read as 0."""
    return [getattr(measurements, name) for name in _WRITTEN]


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
    assert _written(ecg.measurements) == _written(KNOWN)


@given(r_avl_uv=_UV, s_v1_uv=_UV, s_v3_uv=_UV, r_v5_uv=_UV, r_v6_uv=_UV)
def test_write_cardiosoft__every_measurement_comes_back(**amplitudes_uv: float | None) -> None:
    known = Measurements(**amplitudes_uv, qrs_duration_ms=88.0, measured_by="synthetic")
    data = write_cardiosoft(COUNTS[:, :600], 5.0, participant_id="1", recorded_at=WHEN, measurements=known)
    assert _written(read_cardiosoft(data).measurements) == _written(known)


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


EIGHT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
COUNTS_MUSE = np.random.default_rng(4).integers(-600, 600, (12, 5000)).astype(np.int16)


def _lead(counts: np.ndarray, lead: str) -> np.ndarray:
    return counts[LEADS_12.index(lead)].astype(int)


def test_write_muse__our_reader_gives_the_same_counts() -> None:
    ecg = canonicalise(read_muse(write_muse(COUNTS_MUSE, 5.0, participant_id="1", recorded_at=WHEN)))
    # Four leads are derived, with half counts: the step is halved.
    assert ecg.uv_per_count == 2.5
    for lead in EIGHT:
        np.testing.assert_array_equal(_lead(ecg.counts, lead), 2 * _lead(COUNTS_MUSE, lead))
    i, ii = _lead(COUNTS_MUSE, "I"), _lead(COUNTS_MUSE, "II")
    derived = {"III": 2 * (ii - i), "aVR": -(i + ii), "aVL": 2 * i - ii, "aVF": 2 * ii - i}
    for lead, expected in derived.items():
        np.testing.assert_array_equal(_lead(ecg.counts, lead), expected)


def test_write_muse__an_independent_reader_gives_the_same_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(write_muse(COUNTS_MUSE, 5.0, participant_id="1", recorded_at=WHEN))
    record = FileParser().parse(path)
    found = {lead.label: lead for lead in record.leads}
    for name in EIGHT:
        lead = found[name]
        assert (lead.sampling_rate, len(lead.samples)) == (500, 5000)
        assert lead.units == "mV"
        samples_uv = np.asarray(lead.samples) * 1e3
        np.testing.assert_allclose(samples_uv, 5.0 * _lead(COUNTS_MUSE, name), rtol=0, atol=1e-6)


def test_write_muse__head_comes_back() -> None:
    known = Measurements(
        r_avl_uv=415.0,
        s_v1_uv=0.0,
        s_v3_uv=905.0,
        r_v5_uv=1230.0,
        r_v6_uv=0.0,
        qrs_duration_ms=94.0,
        measured_by="synthetic",
    )
    data = write_muse(COUNTS_MUSE, 4.88, participant_id="A&B<1>", recorded_at=WHEN, measurements=known)
    ecg = read_muse(data)
    assert (ecg.recorded_at, ecg.header_participant_id, ecg.step_uv) == (WHEN, "A&B<1>", 4.88)
    assert _written(ecg.measurements) == _written(known)


@given(r_avl_uv=_UV, s_v1_uv=_UV, s_v3_uv=_UV, r_v5_uv=_UV, r_v6_uv=_UV)
def test_write_muse__every_measurement_comes_back(**amplitudes_uv: float | None) -> None:
    known = Measurements(**amplitudes_uv, qrs_duration_ms=88.0, measured_by="synthetic")
    data = write_muse(COUNTS_MUSE[:, :600], 5.0, participant_id="1", recorded_at=WHEN, measurements=known)
    assert _written(read_muse(data).measurements) == _written(known)


@pytest.mark.parametrize("measurements", [None, Measurements()])
def test_write_muse__what_was_not_measured_stays_unknown(measurements: Measurements | None) -> None:
    data = write_muse(COUNTS_MUSE, 5.0, participant_id="1", recorded_at=WHEN, measurements=measurements)
    assert read_muse(data).measurements == Measurements()


def test_write_muse__has_doctype_median_first_and_a_checksum_of_each_lead() -> None:
    data = write_muse(COUNTS_MUSE, 5.0, participant_id="1", recorded_at=WHEN)
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
    eight = COUNTS_MUSE[[LEADS_12.index(lead) for lead in EIGHT]]
    np.testing.assert_array_equal(beat, median_beat(eight)[0])


@pytest.mark.parametrize("counts", [COUNTS_MUSE.T, COUNTS_MUSE[0], COUNTS_MUSE[:8], COUNTS_MUSE.astype(np.int32)])
def test_write_muse__refuses_other_shapes(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"counts are .*, expected int16 \(12, n\)"):
        write_muse(counts, 5.0, participant_id="1", recorded_at=WHEN)


WHEN_WFDB = dt.datetime(2021, 6, 1, 13, 5, 9)


def test_write_wfdb__the_wfdb_package_reads_the_same_counts(tmp_path: Path) -> None:
    counts = builders.counts_block(1)[0]
    for name, data in write_wfdb("rec-1", counts, 5.0, recorded_at=WHEN_WFDB).items():
        (tmp_path / name).write_bytes(data)
    record = wfdb.rdrecord(str(tmp_path / "rec-1"), physical=False)
    assert record.sig_name == list(LEADS_12)
    assert record.fs == 500
    assert record.adc_gain == [200.0] * 12
    assert record.base_datetime == WHEN_WFDB
    sums = counts.sum(axis=1, dtype=np.int64)
    assert [c % 65536 for c in record.checksum] == (sums % 65536).tolist()
    np.testing.assert_array_equal(record.d_signal.T, counts)


def test_write_wfdb__our_reader_reads_the_same_microvolts() -> None:
    counts = builders.counts_block(1)[0]
    ecg = read_wfdb(write_wfdb("x", counts, 4.88, recorded_at=WHEN_WFDB), "x.hea")
    np.testing.assert_allclose(ecg.leads_uv.T, counts * 4.88, rtol=1e-6, atol=1e-3)
    assert ecg.recorded_at == WHEN_WFDB


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


BEAT = np.zeros(400, dtype=np.int16)
BEAT[190:203] = [0, -3, -9, 5, 60, 170, 240, 180, 70, -20, -50, -20, -4]


def test_median_beat__of_equal_beats_is_the_beat() -> None:
    counts = np.stack([np.tile(BEAT, 10), np.tile(2 * BEAT, 10)])
    median = median_beat(counts)
    assert (median.shape, median.dtype) == ((2, 600), np.int16)
    # Whatever the alignment is, the beat is somewhere in it, whole, at 200 samples (0.4 s).
    peak = int(median[0].argmax())
    assert 195 <= peak <= 205
    np.testing.assert_array_equal(median[0, peak - 6 : peak + 7], BEAT[190:203])
    np.testing.assert_array_equal(median[1], 2 * median[0])


def test_median_beat__one_disturbed_beat_of_many_does_not_show() -> None:
    counts = np.tile(BEAT, 10)[None]
    disturbed = counts.copy()
    disturbed[0, 5 * 400 + 300 : 5 * 400 + 320] += 35
    np.testing.assert_array_equal(median_beat(disturbed), median_beat(counts))


def test_median_beat__less_noise_than_the_recording() -> None:
    counts = synthetic_ecgs(1, seed=1).counts[0]
    median = median_beat(counts)
    roughness = [np.abs(np.diff(x[7].astype(float), 2)).mean() for x in (counts, median)]
    assert roughness[1] < roughness[0]


def test_median_beat__without_beats_is_the_beginning() -> None:
    flat = np.full((8, 700), 3, dtype=np.int16)
    np.testing.assert_array_equal(median_beat(flat), flat[:, :600])
    late = np.zeros((1, 700), dtype=np.int16)
    late[0, 650] = 100
    np.testing.assert_array_equal(median_beat(late), late[:, :600])


def test_median_beat__refuses_a_short_recording() -> None:
    with pytest.raises(ValueError, match="recording has 599 samples, expected 600 or more"):
        median_beat(np.zeros((12, 599), dtype=np.int16))


@pytest.mark.parametrize("option", WRITERS)
def test_writers__files_are_of_the_format_of_that_name(option: str) -> None:
    known = {"participant_id": "1", "recorded_at": WHEN, "measurements": KNOWN}
    files = WRITERS[option]("rec", COUNTS, 5.0, **known)
    (form,) = (one for one in FORMATS if one.option == option)
    main = f"rec{form.suffix}"
    assert format_of(files[main]) is form
    assert read_ecg(files, main).recorded_at == WHEN
