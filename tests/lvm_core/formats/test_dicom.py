from __future__ import annotations

import datetime as dt
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from lvm_core.errors import RejectReason
from lvm_core.formats import dicom_elements
from lvm_core.formats.dicom import read_dicom
from lvm_core.signal.ecg import LEADS_12
from tests.dicom_builders import (
    dicom_annotation,
    dicom_bytes,
    dicom_channel,
    dicom_data_set,
    dicom_file,
    dicom_group,
    dicom_median,
)
from tests.file_builders import MUSE_LEADS, random_counts
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_is_as_built, assert_rejected, lead_uv, needs_real_files

TWELVE = random_counts(n_samples=20)
LONG = random_counts()
REAL = sorted((SHARED_ECG / "dicom").glob("*.dcm"))


def _of(*groups: Dataset) -> bytes:
    return dicom_bytes(dicom_data_set(groups))


def test_read_dicom__leads_in_microvolts_with_what_the_file_says() -> None:
    ecg = read_dicom(dicom_file(TWELVE))
    for lead in LEADS_12:
        np.testing.assert_allclose(lead_uv(ecg, lead), TWELVE[lead] * 4.88, rtol=1e-6)
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.source_format) == (500.0, 4.88, "dicom")
    assert_is_as_built(ecg)


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_read_dicom__every_transfer_syntax(syntax: str) -> None:
    data = dicom_bytes(dicom_data_set([dicom_group(TWELVE), dicom_median()], dicom_annotation()), syntax)
    np.testing.assert_array_equal(read_dicom(data).leads_uv, read_dicom(dicom_file(TWELVE)).leads_uv)
    assert read_dicom(data).measurements.qrs_duration_ms == 92


def test_read_dicom__sequences_of_undefined_length() -> None:
    data_set = dicom_data_set([dicom_group(TWELVE)])
    data_set["WaveformSequence"].is_undefined_length = True
    for group in data_set.WaveformSequence:
        group.is_undefined_length_sequence_item = True
        group["ChannelDefinitionSequence"].is_undefined_length = True
    np.testing.assert_array_equal(
        read_dicom(dicom_bytes(data_set)).leads_uv, read_dicom(_of(dicom_group(TWELVE))).leads_uv
    )


@pytest.mark.parametrize("median_first", [True, False])
def test_read_dicom__median_is_never_the_signal_in_any_order(median_first: bool) -> None:
    rhythm = dicom_group(LONG)
    ecg = read_dicom(_of(*((dicom_median(), rhythm) if median_first else (rhythm, dicom_median()))))
    np.testing.assert_allclose(lead_uv(ecg, "V3"), LONG["V3"] * 4.88, rtol=1e-6)


def test_read_dicom__median_marked_as_original_is_known_by_its_label() -> None:
    median = dicom_group(random_counts(99, n_samples=600), label="MEDIAN BEAT")
    assert read_dicom(_of(median, dicom_group(TWELVE))).n_samples == 20
    assert_rejected(lambda: read_dicom(_of(median)), RejectReason.TOO_SHORT, "it has: a median beat")


def test_read_dicom__only_derived_groups_are_refused() -> None:
    other = dicom_group(TWELVE, originality="FAKE NAME")
    nameless = dicom_group(TWELVE, originality="")
    wanted = "it has: DERIVED, of another originality, without an originality; expected the rhythm"
    assert_rejected(lambda: read_dicom(_of(dicom_median(), other, nameless)), RejectReason.TOO_SHORT, wanted)


def test_read_dicom__of_several_original_groups_the_whole_one_is_read() -> None:
    quarter = dicom_group({lead: LONG[lead][:1250] for lead in ("I", "II", "III")})
    short = dicom_group(TWELVE)
    ecg = read_dicom(_of(quarter, dicom_group(LONG, sensitivity="2.5"), short))
    np.testing.assert_allclose(lead_uv(ecg, "aVF"), LONG["aVF"] * 2.5, rtol=1e-6)


def test_read_dicom__several_original_groups_that_fit_are_refused() -> None:
    both = _of(dicom_group(LONG), dicom_group(random_counts(2)))
    assert_rejected(
        lambda: read_dicom(both), RejectReason.UNREADABLE, "has 2 waveform groups that are ORIGINAL and last"
    )


def test_read_dicom__leads_spread_over_groups_are_refused() -> None:
    rows = (("I", "II", "III"), ("aVR", "aVL", "aVF"), ("V1", "V2", "V3"), ("V4", "V5", "V6"))
    spread = _of(*(dicom_group({lead: LONG[lead] for lead in row}) for row in rows))
    assert_rejected(
        lambda: read_dicom(spread), RejectReason.MISSING_LEAD, "has 4 waveform groups that are ORIGINAL, and none"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "SCPECG"},
        {"scheme": "MDC"},
        {"scheme": "MDC", "meaning": "another text"},
        {"scheme": "99LOCAL", "code": "x17"},
        {"scheme": "SCPECG", "code": "", "meaning": None},
    ],
)
def test_read_dicom__lead_is_known_by_code_or_meaning(changes: dict[str, str]) -> None:
    reversed_order = {lead: TWELVE[lead] for lead in reversed(LEADS_12)}
    ecg = read_dicom(_of(dicom_group(reversed_order, **changes)))
    np.testing.assert_allclose(lead_uv(ecg, "aVL"), TWELVE["aVL"] * 4.88, rtol=1e-6)


@pytest.mark.parametrize("spelling", ["Lead {}", "{}", "Lead {} (Einthoven)", "MDC_ECG_LEAD_{}"])
def test_read_dicom__meaning_in_any_spelling(spelling: str) -> None:
    group = dicom_group(TWELVE)
    for lead, channel in zip(TWELVE, group.ChannelDefinitionSequence, strict=True):
        channel.ChannelSourceSequence[0].CodeMeaning = spelling.format(lead)
        channel.ChannelSourceSequence[0].CodeValue = "local"
    assert read_dicom(_of(group)).n_samples == 20


def test_read_dicom__code_that_is_a_lead_name() -> None:
    group = dicom_group(TWELVE, scheme="MDC", meaning="")
    for lead, channel in zip(TWELVE, group.ChannelDefinitionSequence, strict=True):
        channel.ChannelSourceSequence[0].CodeValue = f"MDC_ECG_LEAD_{lead}"
    np.testing.assert_allclose(lead_uv(read_dicom(_of(group)), "V6"), TWELVE["V6"] * 4.88, rtol=1e-6)


def test_read_dicom__label_names_the_lead_where_no_source_does() -> None:
    group = dicom_group(TWELVE)
    for lead, channel in zip(TWELVE, group.ChannelDefinitionSequence, strict=True):
        del channel.ChannelSourceSequence
        channel.ChannelLabel = lead
    assert read_dicom(_of(group)).n_samples == 20


def test_read_dicom__code_and_meaning_of_two_leads_are_refused() -> None:
    group = dicom_group(TWELVE)
    group.ChannelDefinitionSequence[0].ChannelSourceSequence[0].CodeMeaning = "V1"
    wanted = "has the code of lead I and the meaning of lead V1"
    assert_rejected(lambda: read_dicom(_of(group)), RejectReason.UNREADABLE, wanted)


def test_read_dicom__inverted_and_unknown_leads_are_other_channels() -> None:
    counts = random_counts(n_samples=20, leads=(*MUSE_LEADS, "-aVR", "Pacing"))
    group = dicom_group(counts)
    group.ChannelDefinitionSequence[8].ChannelSourceSequence[0].CodeValue = "5.6.3-9-65"
    ecg = read_dicom(_of(group))
    assert ecg.leads_derived
    expected = -(counts["I"].astype(float) + counts["II"]) / 2 * 4.88
    np.testing.assert_allclose(lead_uv(ecg, "aVR"), expected, rtol=1e-6)


def test_read_dicom__three_leads_are_refused() -> None:
    three = dicom_file({lead: TWELVE[lead] for lead in ("I", "II", "III")})
    assert_rejected(lambda: read_dicom(three), RejectReason.MISSING_LEAD, "lead V1, V2, V3, V4, V5, V6 is missing")


# Worked by hand: 100 counts of 2.5 uV, corrected by 1.02, are 255 uV; a baseline of -0.4 mV makes
# them -145 uV.
@pytest.mark.parametrize(
    ("changes", "expected_uv"),
    [
        ({"sensitivity": "2.5"}, 250.0),
        ({"sensitivity": "2.5", "correction": "1.02"}, 255.0),
        ({"sensitivity": "2.5", "correction": "1.02", "baseline": "-400"}, -145.0),
        ({"sensitivity": "0.0025", "correction": "1.02", "unit": "mV", "baseline": "-0.4"}, -145.0),
        ({"sensitivity": "2500", "correction": "1.02", "unit": "nV", "baseline": "-400000"}, -145.0),
        ({"sensitivity": "2.5", "correction": "", "baseline": ""}, 250.0),
    ],
)
def test_read_dicom__baseline_is_added_after_scaling_in_the_unit(changes: dict[str, str], expected_uv: float) -> None:
    counts = {lead: np.full(20, 100, np.int16) for lead in LEADS_12}
    ecg = read_dicom(dicom_file(counts, **changes))
    np.testing.assert_allclose(ecg.leads_uv, expected_uv, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"sensitivity": ""}, r"ChannelSensitivity of lead I is absent with the correction factor 1 \(units: 'uV'\)"),
        ({"sensitivity": "0"}, "ChannelSensitivity of lead I is 0"),
        ({"sensitivity": "-4.88"}, "ChannelSensitivity of lead I is -4.88"),
        ({"correction": "0"}, "with the correction factor 0 "),
        ({"unit": "mmHg"}, r"the unit \('mmHg'\) is not a known voltage"),
        ({"sensitivity": "1e9"}, r"one count of lead I in the DICOM waveform is 1e\+09 uV"),
        ({"baseline": "1e12"}, r"offset of lead I in the DICOM waveform is 1e\+12 uV"),
    ],
)
def test_read_dicom__scale_that_cannot_be_known_is_refused(changes: dict[str, str], wanted: str) -> None:
    assert_rejected(lambda: read_dicom(dicom_file(TWELVE, **changes)), RejectReason.UNKNOWN_UNIT, wanted)


def _with_raw(keyword: str, raw: bytes) -> bytes:
    """Return a file in which a decimal string of the first channel is replaced by other bytes."""
    data = dicom_file(TWELVE, sensitivity="4.88123", correction="1.00123", baseline="0.00123", rate="500.00")
    good = {"sensitivity": b"4.88123 ", "correction": b"1.00123 ", "baseline": b"0.00123 ", "rate": b"500.00"}[keyword]
    assert good in data
    return data.replace(good, raw.ljust(len(good)), 1)


@pytest.mark.parametrize("raw", [b"name", b"1_0", b"nan", b"inf", b"1\\2"])
@pytest.mark.parametrize("keyword", ["sensitivity", "correction", "baseline"])
def test_read_dicom__text_for_a_number_is_refused(keyword: str, raw: bytes) -> None:
    data = _with_raw(keyword, raw)
    assert_rejected(lambda: read_dicom(data), RejectReason.UNKNOWN_UNIT, "a text of")


@pytest.mark.parametrize(("raw", "stated"), [(b"", "absent"), (b"0", "0"), (b"-500", "-500"), (b"1e7", "1e7")])
def test_read_dicom__rate_is_never_guessed(raw: bytes, stated: str) -> None:
    wanted = f"SamplingFrequency of the DICOM waveform is {stated}; expected a number of Hz"
    assert_rejected(lambda: read_dicom(_with_raw("rate", raw)), RejectReason.UNSUPPORTED_RATE, wanted)


def test_read_dicom__no_units_is_an_unknown_unit() -> None:
    group = dicom_group(TWELVE)
    for channel in group.ChannelDefinitionSequence:
        del channel.ChannelSensitivityUnitsSequence
    assert_rejected(lambda: read_dicom(_of(group)), RejectReason.UNKNOWN_UNIT, r"\(units: absent\)")


def test_read_dicom__unit_by_its_meaning_where_it_has_no_code() -> None:
    group = dicom_group(TWELVE)
    for channel in group.ChannelDefinitionSequence:
        channel.ChannelSensitivityUnitsSequence[0].CodeValue = ""
        channel.ChannelSensitivityUnitsSequence[0].CodeMeaning = "microvolt"
    assert read_dicom(_of(group)).step_uv == 4.88


def test_read_dicom__padding_value_is_a_missing_sample() -> None:
    counts = random_counts(n_samples=20)
    counts["V2"][3:5] = -32768
    ecg = read_dicom(dicom_file(counts, padding=-32768))
    assert np.flatnonzero(np.isnan(ecg.leads_uv).any(axis=1)).tolist() == [3, 4]
    assert ecg.saturated_leads == ()
    np.testing.assert_allclose(lead_uv(ecg, "V2")[5:], counts["V2"][5:] * 4.88, rtol=1e-6)


def test_read_dicom__padding_at_the_upper_limit_is_no_saturation() -> None:
    counts = random_counts(n_samples=20)
    counts["V2"][:9] = 32767
    assert read_dicom(dicom_file(counts, padding=32767)).saturated_leads == ()
    assert read_dicom(dicom_file(counts)).saturated_leads == ("V2",)


@pytest.mark.parametrize(
    ("sample_type", "interpretation", "largest"),
    [
        ("i1", "SB", 100),
        ("u1", "UB", 255),
        ("i2", "SS", 400),
        ("u2", "US", 65000),
        ("i4", "SL", 70_000),
        ("u4", "UL", 70_000),
    ],
)
def test_read_dicom__every_integer_type(sample_type: str, interpretation: str, largest: int) -> None:
    rng = np.random.default_rng(3)
    low = 0 if sample_type[0] == "u" else -largest
    counts = {lead: rng.integers(low, largest, 21, endpoint=True) for lead in LEADS_12}
    bits = 8 * int(sample_type[1])
    group = dicom_group(counts, sample_type=sample_type, interpretation=interpretation, bits_stored=bits)  # type: ignore[arg-type]
    ecg = read_dicom(_of(group))
    for lead in LEADS_12:
        np.testing.assert_allclose(lead_uv(ecg, lead), counts[lead] * 4.88, rtol=1e-6)


@pytest.mark.parametrize(
    ("interpretation", "sample_type", "named"),
    [("MB", "i1", "8-bit mu-law"), ("AB", "i1", "8-bit A-law"), ("SS", "i1", "SS"), ("QX", "i2", "of an unknown type")],
)
def test_read_dicom__other_sample_types_are_named_in_the_refusal(
    interpretation: str, sample_type: str, named: str
) -> None:
    counts = random_counts(n_samples=20, largest=100)
    data = dicom_file(counts, interpretation=interpretation, sample_type=sample_type)
    bits = 8 * int(sample_type[1])
    wanted = f"samples of the DICOM waveform are {named} with {bits} bits allocated; expected SS or US"
    assert_rejected(lambda: read_dicom(data), RejectReason.UNREADABLE, wanted)


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("padding", [None, -32768])
def test_read_dicom__12_bits_in_16_with_the_sign_extended_or_not(extended: bool, padding: int | None) -> None:
    counts = random_counts(n_samples=20, largest=2047)
    stored = {lead: values if extended else values & 0x0FFF for lead, values in counts.items()}
    if padding is not None:
        stored["II"][7] = padding
    ecg = read_dicom(dicom_file(stored, bits_stored=12, padding=padding))
    expected = np.column_stack([counts[lead] for lead in LEADS_12]) * 4.88
    if padding is not None:
        expected[7, 1] = np.nan
    np.testing.assert_allclose(ecg.leads_uv, expected, rtol=1e-6)


def test_read_dicom__limits_are_those_of_the_bits_stored() -> None:
    counts = random_counts(n_samples=20)
    counts["V4"][2:8] = 2047
    assert read_dicom(dicom_file(counts, bits_stored=12)).saturated_leads == ("V4",)


def test_read_dicom__samples_beyond_the_bits_stored_are_refused() -> None:
    counts = random_counts(n_samples=20)
    counts["V4"][2] = 9000
    wanted = "samples of lead V4 in the DICOM waveform reach from -.* to 9000, but WaveformBitsStored is 12"
    assert_rejected(lambda: read_dicom(dicom_file(counts, bits_stored=12)), RejectReason.UNREADABLE, wanted)


def test_read_dicom__lead_of_nothing_but_padding_is_missing() -> None:
    counts = random_counts(n_samples=20)
    counts["V4"][:] = -32768
    assert np.isnan(lead_uv(read_dicom(dicom_file(counts, bits_stored=12, padding=-32768)), "V4")).all()


@pytest.mark.parametrize("missing_bytes", [2, 100, 479])
def test_read_dicom__fewer_samples_than_stated_are_truncated(missing_bytes: int) -> None:
    group = dicom_group(TWELVE)
    group["WaveformData"].value = group.WaveformData[:-missing_bytes] + bytes(missing_bytes % 2)
    wanted = "of 12 channels and 20 samples has .* bytes; expected 480"
    assert_rejected(lambda: read_dicom(_of(group)), RejectReason.TRUNCATED, wanted)


def test_read_dicom__more_samples_than_stated_are_refused() -> None:
    group = dicom_group(TWELVE)
    group["WaveformData"].value = group.WaveformData + bytes(2)
    assert_rejected(lambda: read_dicom(_of(group)), RejectReason.TRUNCATED, "has 482 bytes; expected 480")


def test_read_dicom__channels_that_are_not_described_are_truncated() -> None:
    group = dicom_group(TWELVE)
    group.NumberOfWaveformChannels = 13
    wanted = "states 13 channels of 20 samples and describes 12 channels"
    assert_rejected(lambda: read_dicom(_of(group)), RejectReason.TRUNCATED, wanted)
    del group.NumberOfWaveformSamples
    assert_rejected(lambda: read_dicom(_of(group)), RejectReason.TRUNCATED, "13 channels of None samples")


def test_read_dicom__number_of_samples_is_limited() -> None:
    group = dicom_group(TWELVE)
    group.NumberOfWaveformSamples = 1_000_001
    assert_rejected(
        lambda: read_dicom(_of(group)), RejectReason.UNREADABLE, "1000001 samples a lead, the limit is 1000000"
    )


@pytest.mark.parametrize(("keyword", "value"), [("ChannelSampleSkew", "1"), ("ChannelTimeSkew", "0.002")])
def test_read_dicom__leads_recorded_one_after_the_other_are_refused(keyword: str, value: str) -> None:
    group = dicom_group(TWELVE)
    setattr(group.ChannelDefinitionSequence[5], keyword, value)
    assert_rejected(lambda: read_dicom(_of(group)), RejectReason.UNREADABLE, "start 1 samples apart")


def test_read_dicom__skew_of_less_than_a_sample_is_read() -> None:
    group = dicom_group(TWELVE)
    group.ChannelDefinitionSequence[5].ChannelSampleSkew = "0.25"
    assert read_dicom(_of(group)).n_samples == 20


@pytest.mark.parametrize(
    ("uid", "named"),
    [
        ("1.2.840.10008.5.1.4.1.1.104.1", "an encapsulated PDF"),
        ("1.2.840.10008.5.1.4.1.1.2", "of another class"),
        ("1.2.840.10008.5.1.4.1.1.9.1.1", "of another class"),
    ],
)
def test_read_dicom__file_without_waveforms_is_named(uid: str, named: str) -> None:
    data_set = dicom_data_set([])
    del data_set.WaveformSequence
    data_set.SOPClassUID = uid
    data = dicom_bytes(data_set)
    assert_rejected(lambda: read_dicom(data), RejectReason.NOT_AN_ECG, f"holds no waveforms, it is {named}")


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.9.1.2", "1.2.840.10008.5.1.4.1.1.9.1.3", "1.2.3"])
def test_read_dicom__any_class_with_waveforms_is_read(uid: str) -> None:
    data_set = dicom_data_set([dicom_group(TWELVE)])
    data_set.SOPClassUID = uid
    assert read_dicom(dicom_bytes(data_set)).n_samples == 20


@pytest.mark.parametrize(
    ("stated", "expected", "unreadable"),
    [
        ({"AcquisitionDateTime": "20180719141939.25+0200"}, dt.datetime(2018, 7, 19, 14, 19, 39), False),
        ({"AcquisitionDateTime": "201807191419"}, dt.datetime(2018, 7, 19, 14, 19), False),
        ({"AcquisitionDateTime": "20180719"}, dt.datetime(2018, 7, 19), False),
        ({"AcquisitionDateTime": "20181319141939"}, None, True),
        ({"AcquisitionDateTime": "2018"}, None, True),
        ({"AcquisitionDate": "20180719", "AcquisitionTime": "1419"}, dt.datetime(2018, 7, 19, 14, 19), False),
        ({"ContentDate": "20180719", "ContentTime": "141939.5"}, dt.datetime(2018, 7, 19, 14, 19, 39), False),
        ({"ContentTime": "141939.5"}, None, False),
        ({}, None, False),
    ],
)
def test_read_dicom__date(stated: dict[str, str], expected: dt.datetime | None, unreadable: bool) -> None:
    data_set = dicom_data_set([dicom_group(TWELVE)])
    del data_set.AcquisitionDateTime
    with pydicom.config.disable_value_validation():
        for keyword, text in stated.items():
            setattr(data_set, keyword, text)
        ecg = read_dicom(dicom_bytes(data_set))
    assert ecg.recorded_at == expected
    assert ecg.quality_flags == (("date_unreadable",) if unreadable else ())


@pytest.mark.parametrize(
    ("annotations", "expected_ms"),
    [
        ([dicom_annotation()], 92.0),
        ([dicom_annotation(code="2:16156", meaning="x")], 92.0),
        ([dicom_annotation(code="x")], 92.0),
        ([dicom_annotation(code="5.13.5-7", meaning="PR Interval")], None),
        ([dicom_annotation(unit="s")], None),
        ([dicom_annotation(value="0")], None),
        ([dicom_annotation(value="")], None),
        ([dicom_annotation(), dicom_annotation(value="93")], None),
        ([dicom_annotation(), dicom_annotation()], 92.0),
        ([Dataset()], None),
        ([], None),
    ],
)
def test_read_dicom__qrs_duration_of_the_device(annotations: list[Dataset], expected_ms: float | None) -> None:
    measurements = read_dicom(dicom_bytes(dicom_data_set([dicom_group(TWELVE)], *annotations))).measurements
    assert measurements.qrs_duration_ms == expected_ms
    assert measurements.measured_by == (None if expected_ms is None else "Mortara ELI 25")


def test_read_dicom__no_participant_in_the_file() -> None:
    data_set = dicom_data_set([dicom_group(TWELVE)])
    data_set.PatientID = ""
    assert read_dicom(dicom_bytes(data_set)).header_participant_id is None


# What surrounds the waveform in real archives.


def test_read_dicom__private_sequence_of_unknown_kind_is_implicit_and_skipped() -> None:
    # (0009,1010) UN of undefined length: an item with (0009,1011), 4 bytes, implicit.
    inner = struct.pack("<HHI", 0x0009, 0x1011, 4) + b"Fake"
    private = struct.pack("<HH2sHI", 0x0009, 0x1010, b"UN", 0, 0xFFFFFFFF)
    private += struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    assert read_dicom(_inserted(private)).n_samples == 20


def test_read_dicom__waveform_sequence_that_an_archive_kept_as_unknown() -> None:
    # Archives without a dictionary keep a sequence as UN; its content stays implicit.
    data_set = dicom_data_set([dicom_group(TWELVE), dicom_median()])
    implicit, explicit = dicom_bytes(data_set, ImplicitVRLittleEndian), dicom_bytes(data_set)
    content = implicit[implicit.index(struct.pack("<HH", 0x5400, 0x0100)) + 8 :]
    at = explicit.index(struct.pack("<HH2s", 0x5400, 0x0100, b"SQ"))
    unknown = explicit[:at] + struct.pack("<HH2sHI", 0x5400, 0x0100, b"UN", 0, len(content)) + content
    np.testing.assert_array_equal(read_dicom(unknown).leads_uv, read_dicom(explicit).leads_uv)


def test_read_dicom__compressed_icon_is_skipped() -> None:
    # (0008,2001) OB of undefined length, in two fragments.
    icon = struct.pack("<HH2sHI", 0x0009, 0x1010, b"OB", 0, 0xFFFFFFFF)
    for fragment in (b"", b"\xff\xd8\xff\xe0"):
        icon += struct.pack("<HHI", 0xFFFE, 0xE000, len(fragment)) + fragment
    icon += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    assert read_dicom(_inserted(icon)).n_samples == 20


def _inserted(element: bytes) -> bytes:
    """Return a good file with an element before the patient's name."""
    data = dicom_file(TWELVE)
    at = data.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    return data[:at] + element + data[at:]


def test_read_dicom__what_follows_the_pixels_is_not_looked_at() -> None:
    data = dicom_file(TWELVE) + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 4) + b"\0\0\0\0damage"
    assert read_dicom(data).n_samples == 20


# Damage and hostile files.


def _head(syntax: bytes) -> bytes:
    element = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    return bytes(128) + b"DICM" + element


EXPLICIT = _head(b"1.2.840.10008.1.2.1\0")
DEFLATED = _head(b"1.2.840.10008.1.2.1.99")


@pytest.mark.parametrize(
    ("data", "reason", "wanted"),
    [
        (bytes(128) + b"DICM", RejectReason.UNREADABLE, "states no transfer syntax"),
        (EXPLICIT, RejectReason.NOT_AN_ECG, "holds no waveforms, it is of another class"),
        (EXPLICIT + b"\x08\0", RejectReason.TRUNCATED, "ends before its last element"),
        (EXPLICIT + struct.pack("<HH2sH", 8, 0x16, b"UI", 9), RejectReason.TRUNCATED, "ends before its last element"),
        (EXPLICIT + struct.pack("<HH2sH", 8, 0x16, b"??", 0), RejectReason.UNREADABLE, "no known value representation"),
        (
            EXPLICIT + struct.pack("<HH2sHI", 0x5400, 0x100, b"SQ", 0, 8) + struct.pack("<HH2sH", 8, 0x16, b"UI", 0),
            RejectReason.UNREADABLE,
            "a sequence holds something else than items",
        ),
        (DEFLATED + b"\xff\xff", RejectReason.UNREADABLE, "deflated data set of the DICOM file is damaged"),
    ],
)
def test_read_dicom__damage_is_refused(data: bytes, reason: RejectReason, wanted: str) -> None:
    assert_rejected(lambda: read_dicom(data), reason, wanted)


def test_read_dicom__depth_of_sequences_is_limited() -> None:
    nested = (
        struct.pack("<HH2sHI", 0x5400, 0x100, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    ) * 5000
    assert_rejected(lambda: read_dicom(EXPLICIT + nested), RejectReason.UNREADABLE, "sequences more than 8 deep")


@pytest.mark.parametrize(
    "element", [struct.pack("<HH2sH", 8, 0x16, b"UI", 0), struct.pack("<HH2sHI", 0x5400, 0x100, b"SQ", 0, 0)]
)
def test_read_dicom__number_of_elements_is_limited(element: bytes) -> None:
    n = dicom_elements.MAX_ELEMENTS
    assert_rejected(lambda: read_dicom(EXPLICIT + element * n), RejectReason.NOT_AN_ECG, "no waveforms")
    assert_rejected(
        lambda: read_dicom(EXPLICIT + element * (n + 1)),
        RejectReason.UNREADABLE,
        "holds more than 50000 elements, the limit",
    )


def test_read_dicom__number_of_items_is_limited() -> None:
    items = (
        struct.pack("<HH2sHI", 0x5400, 0x100, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 60_000
    )
    assert_rejected(lambda: read_dicom(EXPLICIT + items), RejectReason.UNREADABLE, "more than 50000 elements")


def test_read_dicom__deflated_bomb_is_not_inflated() -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = b"".join(deflater.compress(bytes(10**6)) for _ in range(60)) + deflater.flush()
    assert_rejected(lambda: read_dicom(DEFLATED + bomb), RejectReason.UNREADABLE, "more than 20000000 bytes, the limit")


# Real files and the independent decoder.


@needs_real_files
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_read_dicom__real_file_agrees_with_pydicom(path: Path) -> None:
    theirs = pydicom.dcmread(path)
    ecg = read_dicom(path.read_bytes())
    channels = theirs.WaveformSequence[0].ChannelDefinitionSequence
    order = [one.ChannelSourceSequence[0].CodeMeaning.removeprefix("Lead ").partition(" ")[0] for one in channels]
    expected_uv = theirs.waveform_array(0)[:, [order.index(lead) for lead in LEADS_12]]
    np.testing.assert_allclose(ecg.leads_uv, expected_uv, rtol=0, atol=0.01)


@needs_real_files
def test_read_dicom__real_files_say_when_and_who() -> None:
    found = [read_dicom(path.read_bytes()) for path in REAL]
    assert [ecg.sampling_rate_hz for ecg in found] == [500, 1000]
    assert [ecg.recorded_at for ecg in found] == [
        dt.datetime(2023, 1, 4, 8, 58, 44),
        dt.datetime(2013, 1, 25, 10, 59, 19),
    ]
    assert [ecg.measurements.qrs_duration_ms for ecg in found] == [None, 75.0]


@pytest.mark.parametrize("unit", ["uV", "mV"])
def test_read_dicom__built_file_agrees_with_pydicom(unit: str) -> None:
    data = dicom_file(
        TWELVE, sensitivity="0.00125" if unit == "mV" else "1.25", unit=unit, correction="1.01", baseline="0.5"
    )
    theirs = pydicom.dcmread(io.BytesIO(data)).waveform_array(0) * (1000 if unit == "mV" else 1)
    np.testing.assert_allclose(read_dicom(data).leads_uv, theirs, rtol=1e-6)


def test_dicom_channel__is_a_lead_by_its_code() -> None:
    assert dicom_channel("V6", scheme="MDC").ChannelSourceSequence[0].CodeValue == "2:8"
