from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path

import numpy as np
import pytest
import sierraecg
from ecgdatakit import FileParser

from lvm_core.errors import RejectReason
from lvm_core.formats.philips import read_philips
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import LEADS_12, Measurements, RhythmCodes
from tests.file_builders import PHILIPS_PULSE, philips_filled, philips_measured, philips_xml, random_counts, xli_chunk
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_rejected, lead_uv, needs_real_files

SHORT = random_counts(n_samples=50)
RECORDED = random_counts(3, n_samples=5300, largest=60)
FILLED = philips_filled(RECORDED)
STANDARD = philips_xml(FILLED)
# The word of ecgdatakit on version 1.03, which states no rate and scale of representative beats.
beats_as_in_103 = pytest.mark.filterwarnings("ignore:Sierra XML. <repbeats> has no")
REAL = sorted(SHARED_ECG.glob("philips_sierra/*"))


@pytest.mark.parametrize("version", ["1.03", "1.04", "1.04.01", "1.04.02"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-be"])
def test_read_philips__rhythm_in_microvolts(version: str, compressed: bool, encoding: str) -> None:
    ecg = read_philips(philips_xml(SHORT, version=version, compressed=compressed, encoding=encoding))
    for lead in LEADS_12:
        np.testing.assert_array_equal(lead_uv(ecg, lead), SHORT[lead] * np.float32(5))
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.source_format) == (500.0, 5.0, "philips_xml")
    assert (ecg.recorded_at, ecg.header_participant_id) == (dt.datetime(2018, 7, 19, 14, 19, 39), "1000001")
    assert (ecg.quality_flags, ecg.leads_derived) == ((), False)


def test_read_philips__first_10_s_are_the_recording_and_the_pulse_is_gone() -> None:
    ecg = read_philips(STANDARD)
    assert ecg.n_samples == 5000
    for lead in LEADS_12:
        np.testing.assert_array_equal(lead_uv(ecg, lead), RECORDED[lead][:5000] * np.float32(5))
    assert canonicalise(ecg).quality_flags == ()


@beats_as_in_103
def test_read_philips__agrees_with_two_independent_decoders(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(STANDARD)
    _assert_agree(path)


def _assert_agree(path: Path) -> None:
    ecg = read_philips(path.read_bytes())
    theirs = {lead.label: lead for lead in FileParser().parse(path).leads}
    for lead in sierraecg.read_file(str(path)).leads:
        assert (lead.samples[5350], lead.samples[5449]) == (PHILIPS_PULSE, PHILIPS_PULSE)
        np.testing.assert_array_equal(lead_uv(ecg, lead.label), lead.samples[:5000] * np.float32(5))
        assert theirs[lead.label].units == "mV"
        kit_uv = theirs[lead.label].samples[:5000] * 1e3
        np.testing.assert_allclose(lead_uv(ecg, lead.label), kit_uv, rtol=0, atol=1e-3)


@needs_real_files
@beats_as_in_103
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_read_philips__real_file_agrees_with_two_independent_decoders(path: Path) -> None:
    _assert_agree(path)
    ecg = read_philips(path.read_bytes())
    assert (ecg.n_samples, ecg.sampling_rate_hz, ecg.step_uv) == (5000, 500.0, 5.0)
    i, ii, iii = (lead_uv(ecg, lead) for lead in ("I", "II", "III"))
    assert np.abs(ii - i - iii).max() <= 10  # two counts


@needs_real_files
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_measurements__real_r_and_s_are_those_of_the_trace(path: Path) -> None:
    """The device measures beats on their own baseline; wander of the strip moves the extremes."""
    ecg = read_philips(path.read_bytes())
    measured = ecg.measurements
    for lead, size in {"aVL": measured.r_avl_uv, "V5": measured.r_v5_uv, "V6": measured.r_v6_uv}.items():
        assert size is not None
        assert abs(np.percentile(lead_uv(ecg, lead), 99.9) - np.median(lead_uv(ecg, lead)) - size) < 260
    assert measured.qrs_duration_ms in {102.0, 110.0, 135.0}


@pytest.mark.parametrize(("start", "n_left"), [(4000, 4000), (4999, 4999), (5000, 5000), (5350, 5000)])
def test_read_philips__recording_ends_before_the_pulse_wherever_it_is(start: int, n_left: int) -> None:
    counts = {lead: np.resize(values, 5500) for lead, values in RECORDED.items()}
    for values in counts.values():
        values[start : start + 100] = PHILIPS_PULSE
    assert read_philips(philips_xml(counts)).n_samples == n_left


@pytest.mark.parametrize(("n_recorded", "n_left"), [(4500, 4500), (4979, 4979), (4981, 5000)])
def test_read_philips__zeros_that_fill_the_end_are_no_recording(n_recorded: int, n_left: int) -> None:
    counts = {lead: values[:n_recorded] for lead, values in RECORDED.items()}
    # The last sample is not 0, so that the number of zeros is known.
    counts["V6"][-1] = 3
    assert read_philips(philips_xml(philips_filled(counts))).n_samples == n_left


def test_read_philips__a_file_of_zeros_has_no_recording() -> None:
    counts = {lead: np.zeros(5000, dtype=np.int16) for lead in LEADS_12}
    assert_rejected(lambda: read_philips(philips_xml(counts)), RejectReason.TRUNCATED, "hold 0 samples")


def test_read_philips__compressed_files_may_hold_16_waveforms() -> None:
    extra = base64.b64encode(4 * xli_chunk(np.zeros(50, dtype=np.int16)))
    closing = b"\n</parsedwaveforms>"
    data = philips_xml(SHORT)
    start = data.index(b">\n", data.index(b"<parsedwaveforms")) + 2
    text = base64.b64decode(data[start : data.index(closing)]) + base64.b64decode(extra)
    sixteen = data[:start] + base64.b64encode(text) + data[data.index(closing) :]
    np.testing.assert_array_equal(read_philips(sixteen).leads_uv, read_philips(data).leads_uv)


def test_read_philips__labels_map_the_leads_of_an_uncompressed_file() -> None:
    order = ("V6", "aVF", "I", "II", "V1", "V2", "V3", "V4", "V5", "III", "aVR", "aVL")
    counts = {lead: SHORT[lead] for lead in order}
    ecg = read_philips(philips_xml(counts, version="1.04", compressed=False))
    np.testing.assert_array_equal(lead_uv(ecg, "V6"), SHORT["V6"] * np.float32(5))


def test_read_philips__offset_is_the_count_of_zero() -> None:
    data = philips_xml(SHORT).replace(b"<signaloffset>0<", b"<signaloffset>100<")
    np.testing.assert_array_equal(lead_uv(read_philips(data), "V2"), (SHORT["V2"] - 100.0) * np.float32(5))


V104 = philips_xml(SHORT, version="1.04")
V103 = philips_xml(SHORT)
PLAIN = philips_xml(SHORT, compressed=False)


@pytest.mark.parametrize(
    ("data", "old", "new", "reason", "message"),
    [
        (V103, b"SierraECG<", b"OtherECG<", RejectReason.UNREADABLE, "type a text of 8 characters and version 1.03"),
        (V103, b"1.03<", b"1.05<", RejectReason.UNREADABLE, "is of type SierraECG and version 1.05; expected"),
        (V103, b">500<", b">0<", RejectReason.UNSUPPORTED_RATE, "samplingrate .* is 0; expected one number of Hz"),
        (V103, b"<samplingrate>500</samplingrate>", b"", RejectReason.UNSUPPORTED_RATE, "is absent"),
        (V104, b">500<", b">1000<", RejectReason.UNSUPPORTED_RATE, "is 500 and 1000; expected one number"),
        (V103, b">5<", b">five<", RejectReason.UNKNOWN_UNIT, "resolution .* is a text of 4 characters"),
        (V103, b">5<", b">-5<", RejectReason.UNKNOWN_UNIT, "resolution .* is -5; expected one number of microvolts"),
        (V104, b">5<", b">2.5<", RejectReason.UNKNOWN_UNIT, "resolution .* is 5 and 2.5; expected one"),
        (V103, b"<signaloffset>0<", b"<signaloffset>0.5<", RejectReason.UNKNOWN_UNIT, "signaloffset .* is 0.5"),
        (V103, b"<signaloffset>0<", b"<signaloffset>x<", RejectReason.UNKNOWN_UNIT, "signaloffset .* is a text of 1"),
        (V104, b'numberofleads="12"', b'numberofleads="13"', RejectReason.TRUNCATED, "numberofleads .* is 13, but 12"),
        (V104, b'numberofleads="12"', b'numberofleads="6"', RejectReason.MISSING_LEAD, "lead V1, V2"),
        (V104, b'leadlabels="I II', b'leadlabels="II I', RejectReason.UNREADABLE, "another order than I, II, III"),
        (V104, b'leadlabels="I II', b'leadlabels="I I', RejectReason.UNREADABLE, "lead I is twice"),
        (V103, b"STD-12", b"MIDA-16", RejectReason.MISSING_LEAD, "acquisitiontype a text of 7 characters and 12 chan"),
        (V103, b"located>12<", b"located>8<", RejectReason.MISSING_LEAD, "and 8 channels; expected STD-12 or 10-WIRE"),
        (V103, b'nel="100"', b'nel="99"', RejectReason.UNREADABLE, "durationperchannel .* is 99 at 500 Hz"),
        (V103, b'nel="100"', b'nel="1e9"', RejectReason.UNREADABLE, "is 1e9 at 500 Hz; expected milliseconds"),
        (V103, b'durationperchannel="100"', b"", RejectReason.UNREADABLE, "durationperchannel .* is absent"),
        (V103, b'nel="100"', b'nel="102"', RejectReason.TRUNCATED, "gives 100 bytes, expected 102"),
        (V103, b'"XLI"', b'"ZIP"', RejectReason.UNREADABLE, "compression a text of 3 characters; expected Base64"),
        (
            V103,
            b'dataencoding="Base64"',
            b"",
            RejectReason.UNREADABLE,
            "dataencoding .* is empty and its compression XLI",
        ),
        (V103, b"\n</parsed", b"!</parsed", RejectReason.UNREADABLE, "is not valid base64"),
        (PLAIN, b'nel="100"', b'nel="102"', RejectReason.TRUNCATED, "holds 600 samples; expected 51 for each of 12"),
        (PLAIN, b'nel="100"', b'nel="98"', RejectReason.TRUNCATED, "holds 600 samples; expected 49 for each of 12"),
        (V103, b"bitspersample>16<", b"bitspersample>8<", RejectReason.UNREADABLE, "bitspersample .* is 8 and"),
        (V103, b">True<", b">False<", RejectReason.UNREADABLE, "signalsigned a text of 5 characters; expected 16 and"),
        (V103, b"parsedwaveforms", b"otherwaveforms", RejectReason.TOO_SHORT, "no rhythm waveform"),
        (V103, b"<repbeats", b"<parsedwaveforms/><repbeats", RejectReason.UNREADABLE, "has 2 rhythm waveforms"),
    ],
)
def test_read_philips__is_refused_with_what_was_found(
    data: bytes, old: bytes, new: bytes, reason: RejectReason, message: str
) -> None:
    assert old in data
    assert_rejected(lambda: read_philips(data.replace(old, new)), reason, message)


@pytest.mark.parametrize(
    ("when", "expected", "flags"),
    [
        ('date="2008-12-23"', dt.datetime(2008, 12, 23), ()),
        ('date="2008-12-23" time="---"', dt.datetime(2008, 12, 23), ()),
        ('date="2008-12-23" time="19:44"', dt.datetime(2008, 12, 23, 19, 44), ()),
        ('date="23/12/2008" time="19:44:46"', None, ("date_unreadable",)),
        ('date="2008-13-23" time="19:44:46"', None, ("date_unreadable",)),
        ('date="2008-12-23" time="soon"', None, ("date_unreadable",)),
        ('date="---" time="19:44:46"', None, ()),
        ("", None, ()),
    ],
)
def test_read_philips__date_of_the_recording(when: str, expected: dt.datetime | None, flags: tuple[str, ...]) -> None:
    ecg = read_philips(philips_xml(SHORT, when=when))
    assert (ecg.recorded_at, ecg.quality_flags) == (expected, flags)


def test_read_philips__file_without_acquisition_states_no_rate() -> None:
    data = V103.replace(b"dataacquisition", b"other")
    assert_rejected(lambda: read_philips(data), RejectReason.UNSUPPORTED_RATE, "absent")
    new = V104.replace(b"dataacquisition", b"other")
    assert read_philips(new).recorded_at is None


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"action": "Poor ECG, retry if possible"}, ("poor_data_quality",)),
        ({"statement": "*** Poor Data  Quality ***"}, ("poor_data_quality",)),
        ({"statement": "RATE < 50 & ST"}, ("xml_repaired",)),
    ],
)
def test_read_philips__remarks_become_flags(changes: dict[str, str], flags: tuple[str, ...]) -> None:
    assert read_philips(philips_xml(SHORT, **changes)).quality_flags == flags  # type: ignore[arg-type]


def test_read_philips__dashes_are_no_participant() -> None:
    assert read_philips(philips_xml(SHORT, participant_id="---")).header_participant_id is None
    assert read_philips(philips_xml(SHORT, participant_id="")).header_participant_id is None


WAVES = {
    "aVL": {"qamp": "-90", "ramp": "710", "samp": "0", "rpamp": "0", "spamp": "0"},
    "V1": {"qamp": "-900", "ramp": "0", "samp": "0", "rpamp": "0", "spamp": "0"},
    "V3": {"qamp": "0", "ramp": "300", "samp": "-2010", "rpamp": "0", "spamp": "-40"},
    "V5": {"qamp": "0", "ramp": "Failed", "samp": "-40", "rpamp": "0", "spamp": "0"},
    "V6": {"qamp": "0", "ramp": "0", "samp": "0", "rpamp": "0", "spamp": "0"},
}


def test_measurements__by_lead_and_wave_as_magnitudes() -> None:
    ecg = read_philips(philips_xml(SHORT, measured=philips_measured(WAVES)))
    assert ecg.measurements == Measurements(
        r_avl_uv=710.0,
        r_v1_uv=0.0,
        r_v3_uv=300.0,
        s_avl_uv=0.0,  # a Q beside an R is no S
        s_v1_uv=900.0,
        s_v3_uv=2010.0,
        s_v5_uv=40.0,
        qrs_duration_ms=110.0,
        measured_by="Philips 8",
        qrs_measured_by="Philips 8",
    )


def test_measurements__program_and_duration_of_other_places() -> None:
    data = V103.replace(b'measurementversion="8"', b'measurementversion="Custom" custommeasurementversion="10"')
    assert read_philips(data).measurements.measured_by == "Philips 10"
    data = data.replace(b'"10"', b'"Anna"').replace(b"meanqrsdur>110", b"meanqrsdur>Failed")
    assert read_philips(data).measurements == Measurements()
    data = data.replace(b"<qaactioncode>", b"<meanqrsdur>96</meanqrsdur><qaactioncode>")
    assert read_philips(data).measurements == Measurements(
        qrs_duration_ms=96.0, measured_by="Philips", qrs_measured_by="Philips"
    )


def test_rhythm__is_that_of_the_conclusions() -> None:
    data = philips_xml(SHORT, statement="ATRIAL FIBRILLATION, V-RATE  70-110")
    assert read_philips(data).rhythm == RhythmCodes("af_flutter", "none", "device")
    # What a conclusion follows from is on the right, and is none itself.
    data = data.replace(b"leftstatement", b"rightstatement")
    assert read_philips(data).rhythm == RhythmCodes(None, None, None)


@needs_real_files
def test_rhythm__of_real_files_is_what_their_conclusions_say() -> None:
    codes = {path.name: read_philips(path.read_bytes()).rhythm for path in REAL}
    assert {name: (one.rhythm, one.conduction) for name, one in codes.items()} == {
        "129DYPRG.XML": ("sinus", "other"),  # nonspecific intraventricular conduction delay
        "cvrg_Philips103Example01.xml": ("sinus", "other"),  # incomplete right bundle branch block
        "philips-ecg-parser_example.xml": ("sinus", "none"),
    }
