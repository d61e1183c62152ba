from __future__ import annotations

import base64
import datetime as dt
import re
import struct
import zlib

import numpy as np
import pytest
from ecgdatakit import FileParser
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lvm_core.errors import RejectReason
from lvm_core.formats.muse import read_muse
from lvm_core.signal.ecg import LEADS_12, Measurements
from tests.file_builders import (
    MUSE_LEADS,
    muse_document,
    muse_lead,
    muse_matrix,
    muse_waveform,
    muse_xml,
    random_counts,
)
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_rejected, lead_uv, needs_real_files

EIGHT = random_counts(n_samples=200, leads=MUSE_LEADS)
TWELVE = random_counts(seed=2, n_samples=200)


def test_read_muse__rhythm_not_median_in_microvolts() -> None:
    ecg = read_muse(muse_xml(EIGHT))
    assert ecg.leads_uv.shape == (200, 12)
    for lead in MUSE_LEADS:
        expected_uv = (EIGHT[lead].astype(np.float64) * 4.88).astype(np.float32)
        np.testing.assert_array_equal(lead_uv(ecg, lead), expected_uv)
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.source_format) == (500.0, 4.88, "muse_xml")
    assert ecg.quality_flags == ()
    assert ecg.saturated_leads == ()


def test_read_muse__four_leads_are_derived() -> None:
    ecg = read_muse(muse_xml(EIGHT))
    i, ii = (EIGHT[lead].astype(np.float64) * 4.88 for lead in ("I", "II"))
    assert ecg.leads_derived
    expected_uv = {"III": ii - i, "aVR": -(i + ii) / 2, "aVL": i - ii / 2, "aVF": ii - i / 2}
    for lead, values in expected_uv.items():
        np.testing.assert_allclose(lead_uv(ecg, lead), values, rtol=1e-6, atol=1e-4)


def test_read_muse__twelve_stored_leads_are_used_as_stored() -> None:
    ecg = read_muse(muse_xml(TWELVE))
    assert not ecg.leads_derived
    np.testing.assert_array_equal(lead_uv(ecg, "aVR"), (TWELVE["aVR"].astype(np.float64) * 4.88).astype(np.float32))


@given(hnp.arrays(np.int16, (8, 5)), st.permutations(MUSE_LEADS))
def test_read_muse__decodes_what_was_encoded(array: np.ndarray, order: list[str]) -> None:
    counts = dict(zip(order, array, strict=True))
    ecg = read_muse(muse_xml(counts, median_first=False, LeadAmplitudeUnitsPerBit="5"))
    for lead in MUSE_LEADS:
        np.testing.assert_array_equal(lead_uv(ecg, lead), counts[lead] * np.float64(5))


def test_read_muse__units_of_each_lead() -> None:
    leads = [
        muse_lead(lead, EIGHT[lead], LeadAmplitudeUnitsPerBit="2.5" if lead == "V2" else "4.88") for lead in MUSE_LEADS
    ]
    ecg = read_muse(muse_document(muse_waveform("Rhythm", leads)))
    assert ecg.step_uv == 2.5
    np.testing.assert_array_equal(lead_uv(ecg, "V2"), EIGHT["V2"] * 2.5)


def test_read_muse__millivolts() -> None:
    changes = {"LeadAmplitudeUnits": "MILLIVOLTS", "LeadAmplitudeUnitsPerBit": "0.005"}
    assert read_muse(muse_xml(EIGHT, **changes)).step_uv == 5.0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("base", "exponent", "expected"),
    [("500", "0", 500.0), ("250", "0", 250.0), ("5", "2", 500.0), ("2500", "-1", 250.0), ("500", "", 500.0)],
)
def test_read_muse__rate(base: str, exponent: str, expected: float) -> None:
    ecg = read_muse(muse_xml(EIGHT, base=base, exponent=exponent))
    assert ecg.sampling_rate_hz == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("base", "exponent"),
    [("", "0"), ("0", "0"), ("-500", "0"), ("500", "x"), ("500", "7"), ("5", "0.5"), ("1e308", "6"), ("1", "6")],
)
def test_read_muse__rate_is_never_guessed(base: str, exponent: str) -> None:
    assert_rejected(
        lambda: read_muse(muse_xml(EIGHT, base=base, exponent=exponent)),
        RejectReason.UNSUPPORTED_RATE,
        "SampleBase of the MUSE rhythm waveform is .* and SampleExponent is .*; expected",
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"LeadAmplitudeUnits": None, "LeadAmplitudeUnitsPerBit": "5"},
        {"LeadAmplitudeUnits": None, "LeadAmplitudeUnitsPerBit": "0.00488"},
        {"LeadAmplitudeUnitsPerBit": None},
        {"LeadAmplitudeUnitsPerBit": "5,000"},
        {"LeadAmplitudeUnitsPerBit": "0"},
        {"LeadAmplitudeUnitsPerBit": "x"},
    ],
)
def test_read_muse__scale_is_never_guessed(changes: dict[str, str | None]) -> None:
    assert_rejected(
        lambda: read_muse(muse_xml(EIGHT, **changes)),  # type: ignore[arg-type]
        RejectReason.UNKNOWN_UNIT,
        r"LeadAmplitudeUnitsPerBit of lead I is .* \(units: .*\); expected",
    )


def test_read_muse__unknown_unit() -> None:
    assert_rejected(
        lambda: read_muse(muse_xml(EIGHT, LeadAmplitudeUnits="FURLONGS")),
        RejectReason.UNKNOWN_UNIT,
        r"the unit \(a text of 8 characters\) is not a known voltage",
    )


def test_read_muse__step_of_muse_without_a_unit_is_microvolts() -> None:
    ecg = read_muse(muse_xml(EIGHT, LeadAmplitudeUnits=None))
    assert ecg.quality_flags == ("unit_assumed",)
    np.testing.assert_array_equal(ecg.leads_uv, read_muse(muse_xml(EIGHT)).leads_uv)


def test_read_muse__decimal_comma() -> None:
    ecg = read_muse(muse_xml(EIGHT, LeadAmplitudeUnitsPerBit="4,88"))
    assert ecg.quality_flags == ()
    np.testing.assert_array_equal(ecg.leads_uv, read_muse(muse_xml(EIGHT)).leads_uv)


def test_read_muse__missing_lead_is_named() -> None:
    counts = {lead: values for lead, values in EIGHT.items() if lead != "V4"}
    assert_rejected(
        lambda: read_muse(muse_xml(counts)),
        RejectReason.MISSING_LEAD,
        "lead V4 is missing from the MUSE rhythm waveform, which holds I, II, V1, V2, V3, V5, V6",
    )


def test_read_muse__lead_given_twice() -> None:
    leads = [muse_lead(lead, EIGHT[lead]) for lead in (*MUSE_LEADS, "V1")]
    data = muse_document(muse_waveform("Rhythm", leads))
    assert_rejected(lambda: read_muse(data), RejectReason.UNREADABLE, "lead V1 is twice in")


def test_read_muse__other_leads_are_ignored() -> None:
    assert read_muse(muse_xml({**EIGHT, "V3R": EIGHT["V3"]})).leads_uv.shape == (200, 12)


def test_read_muse__unequal_lengths() -> None:
    assert_rejected(
        lambda: read_muse(muse_xml({**EIGHT, "V6": EIGHT["V6"][:-1]})), RejectReason.TRUNCATED, "V5 200, V6 199"
    )


def test_read_muse__single_rhythm_waveform() -> None:
    assert read_muse(muse_xml(EIGHT, median_first=False)).n_samples == 200


@pytest.mark.parametrize(
    ("body", "held"),
    [
        (muse_waveform("Median", [muse_lead("I", EIGHT["I"])]), "Median"),
        (muse_waveform(None, [muse_lead("I", EIGHT["I"])]), "without a type"),
        ("", "none"),
    ],
)
def test_read_muse__median_alone_is_too_short(body: str, held: str) -> None:
    assert_rejected(
        lambda: read_muse(muse_document(body)),
        RejectReason.TOO_SHORT,
        f"MUSE file has no waveform of type Rhythm, it has: {held}; expected",
    )


def _waveform(kind: str | None, n_samples: int) -> str:
    counts = random_counts(n_samples=n_samples, leads=MUSE_LEADS)
    return muse_waveform(kind, [muse_lead(lead, counts[lead]) for lead in MUSE_LEADS])


@pytest.mark.parametrize("others", ["", _waveform(None, 600), _waveform("Median", 600)])
def test_read_muse__only_waveform_of_10_s_without_a_type_is_the_rhythm(others: str) -> None:
    ecg = read_muse(muse_document(others + _waveform(None, 5000)))
    expected = read_muse(muse_document(_waveform("Rhythm", 5000)))
    np.testing.assert_array_equal(ecg.leads_uv, expected.leads_uv)


def test_read_muse__rhythm_wins_over_a_waveform_without_a_type() -> None:
    ecg = read_muse(muse_document(_waveform(None, 5500) + _waveform("Rhythm", 5000)))
    assert ecg.n_samples == 5000


@pytest.mark.parametrize(("n_samples", "is_read"), [(4989, False), (4990, True)])
def test_read_muse__waveform_without_a_type_lasts_9_98_s(n_samples: int, is_read: bool) -> None:
    data = muse_document(_waveform(None, n_samples))
    if is_read:
        assert read_muse(data).n_samples == n_samples
    else:
        assert_rejected(lambda: read_muse(data), RejectReason.TOO_SHORT, "it has: without a type")


def test_read_muse__other_types_are_not_quoted() -> None:
    data = muse_document(_waveform("Jane Roe", 5000) + _waveform("median", 600))
    assert_rejected(lambda: read_muse(data), RejectReason.TOO_SHORT, "it has: of another type, Median; expected")


def test_read_muse__two_waveforms_without_a_type_are_refused() -> None:
    data = muse_document(_waveform(None, 5000) * 2)
    assert_rejected(lambda: read_muse(data), RejectReason.UNREADABLE, "has 2 waveforms of type")


@pytest.mark.parametrize("text", ["ST & T abnormality", "QTc < 440 ms", "a\x1fb", "<<&;\x00>>"])
def test_read_muse__statement_that_is_no_xml_is_repaired(text: str) -> None:
    intact = read_muse(muse_xml(EIGHT))
    ecg = read_muse(muse_xml(EIGHT, statement=text))
    assert ecg.quality_flags == ("xml_repaired",)
    np.testing.assert_array_equal(ecg.leads_uv, intact.leads_uv)
    assert (ecg.recorded_at, ecg.measurements) == (intact.recorded_at, intact.measurements)


def test_read_muse__poor_quality_is_seen_in_a_repaired_statement() -> None:
    ecg = read_muse(muse_xml(EIGHT, statement="Poor data quality & artefact"))
    assert ecg.quality_flags == ("poor_data_quality", "xml_repaired")


def test_read_muse__waveform_that_is_no_xml_is_not_repaired() -> None:
    data = muse_xml(EIGHT, statement="ST & T").replace(b"<LeadID>V6", b"<LeadID>V&6")
    assert_rejected(lambda: read_muse(data), RejectReason.UNREADABLE, "XML is malformed at line")


def test_read_muse__zeros_after_the_end_are_dropped() -> None:
    ecg = read_muse(muse_xml(EIGHT) + bytes(512))
    assert (ecg.n_samples, ecg.quality_flags) == (200, ())


def test_read_muse__two_rhythms_are_refused() -> None:
    rhythm = muse_waveform("Rhythm", [muse_lead(lead, EIGHT[lead]) for lead in MUSE_LEADS])
    assert_rejected(
        lambda: read_muse(muse_document(rhythm * 2)),
        RejectReason.UNREADABLE,
        "MUSE file has 2 waveforms of type Rhythm",
    )


def test_read_muse__signed_spelling_of_the_crc() -> None:
    seen = set()
    leads = []
    for lead in MUSE_LEADS:
        crc = zlib.crc32(EIGHT[lead].astype("<i2").tobytes())
        signed = crc - 2**32 if crc >= 2**31 else crc
        seen.add(signed < 0)
        leads.append(muse_lead(lead, EIGHT[lead], LeadDataCRC32=str(signed)))
    assert seen == {True, False}
    assert read_muse(muse_document(muse_waveform("Rhythm", leads))).n_samples == 200


def test_read_muse__absent_crc_is_fine() -> None:
    assert read_muse(muse_xml(EIGHT, LeadDataCRC32=None)).n_samples == 200


@pytest.mark.parametrize("stated", ["1", "x"])
def test_read_muse__wrong_crc_is_unreadable(stated: str) -> None:
    found = zlib.crc32(EIGHT["I"].astype("<i2").tobytes())
    assert_rejected(
        lambda: read_muse(muse_xml(EIGHT, LeadDataCRC32=stated)),
        RejectReason.UNREADABLE,
        f"LeadDataCRC32 of lead I in the MUSE rhythm waveform is not {found}, which the samples",
    )


@pytest.mark.parametrize("text", ["AAA", "AA!A", "ÄÄÄÄ"])
def test_read_muse__damaged_base64_is_unreadable(text: str) -> None:
    assert_rejected(
        lambda: read_muse(muse_xml(EIGHT, WaveFormData=text)),
        RejectReason.UNREADABLE,
        "WaveFormData of lead I in the MUSE rhythm waveform is not valid base64",
    )


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"LeadSampleCountTotal": "201"}, "LeadSampleCountTotal of lead I .* is 201, but 400 bytes"),
        ({"LeadByteCountTotal": "399"}, "LeadByteCountTotal of lead I .* is 399, but 400 bytes"),
        (
            {
                "LeadByteCountTotal": None,
                "LeadSampleCountTotal": None,
                "WaveFormData": base64.b64encode(b"abc").decode(),
            },
            "lead I in the MUSE rhythm waveform has 3 bytes; expected two for each sample",
        ),
        ({"n_leads": 12}, "NumberofLeads of the MUSE rhythm waveform is 12, but it holds 8"),
    ],
)
def test_read_muse__declared_counts_are_checked(changes: dict[str, str | None], match: str) -> None:
    assert_rejected(
        lambda: read_muse(muse_xml(EIGHT, **changes)),  # type: ignore[arg-type]
        RejectReason.TRUNCATED,
        match,
    )


def test_read_muse__no_samples() -> None:
    empty = {lead: np.zeros(0, dtype=np.int16) for lead in MUSE_LEADS}
    assert_rejected(lambda: read_muse(muse_xml(empty)), RejectReason.TRUNCATED, "hold 0 samples")


def test_read_muse__sample_size_other_than_two_bytes() -> None:
    assert_rejected(
        lambda: read_muse(muse_xml(EIGHT, LeadSampleSize="4")),
        RejectReason.UNREADABLE,
        "LeadSampleSize of lead I is 4 bytes; expected 2",
    )


def test_read_muse__leads_that_do_not_start_together() -> None:
    leads = [muse_lead(lead, EIGHT[lead], LeadTimeOffset="2500" if lead == "V6" else "0") for lead in MUSE_LEADS]
    assert_rejected(
        lambda: read_muse(muse_document(muse_waveform("Rhythm", leads))),
        RejectReason.UNREADABLE,
        "leads of the MUSE rhythm waveform start at 2 different times",
    )


def test_read_muse__cut_file_is_truncated() -> None:
    assert_rejected(lambda: read_muse(muse_xml(EIGHT)[:-300]), RejectReason.TRUNCATED, "XML ends at line")


def test_read_muse__stated_limits_are_saturation() -> None:
    counts = {lead: np.clip(values, -400, 399) for lead, values in EIGHT.items()}
    counts["V2"][5:9], counts["I"][5:9] = 400, -401
    changes = {"LeadHighLimit": "400", "LeadLowLimit": "-401"}
    assert read_muse(muse_xml(counts, **changes)).saturated_leads == ("I", "V2")  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"LeadHighLimit": None}, {"LeadLowLimit": "5"}, {"LeadHighLimit": "0"}])
def test_read_muse__without_usable_limits_those_of_int16(changes: dict[str, str | None]) -> None:
    counts = {lead: values.copy() for lead, values in EIGHT.items()}
    counts["V2"][5:9], counts["V3"][5:9], counts["V4"][5:9] = 32767, -32768, 32766
    assert read_muse(muse_xml(counts, **changes)).saturated_leads == ("V2", "V3")  # type: ignore[arg-type]


def test_read_muse__poor_quality_statement() -> None:
    data = muse_xml(EIGHT, statement="Poor data quality, interpretation may be adversely affected")
    assert read_muse(data).quality_flags == ("poor_data_quality",)


def test_read_muse__participant() -> None:
    assert read_muse(muse_xml(EIGHT, participant_id="0042")).header_participant_id == "0042"


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("07-19-2018", "14:19:39", dt.datetime(2018, 7, 19, 14, 19, 39)),
        ("03-04-2018", "14:19", dt.datetime(2018, 3, 4, 14, 19)),
        ("07/19/2018", "14:19:39.5", dt.datetime(2018, 7, 19, 14, 19, 39)),
        ("07-19-2018", "", dt.datetime(2018, 7, 19)),
        ("19-07-2018", "14:19:39", None),
        ("2018-07-19", "14:19:39", dt.datetime(2018, 7, 19, 14, 19, 39)),
        ("19-JUL-2018", "14:19:39", dt.datetime(2018, 7, 19, 14, 19, 39)),
        ("19.07.2018", "14:19:39", None),
        ("07-19-2018", "25:00:00", None),
        ("07-19-2018", "noon", None),
        ("", "14:19:39", None),
    ],
)
def test_read_muse__dates_are_month_day_year(date: str, time: str, expected: dt.datetime | None) -> None:
    ecg = read_muse(muse_xml(EIGHT, date=date, time=time))
    assert ecg.recorded_at == expected
    unreadable = bool(date) and expected is None
    assert ecg.quality_flags == (("date_unreadable",) if unreadable else ())


@needs_real_files
@pytest.mark.parametrize("name", ["braveheart_example1.xml", "braveheart_example2.xml"])
def test_read_muse__real_file_agrees_with_ecgdatakit(name: str) -> None:
    path = SHARED_ECG / "muse_xml" / name
    ecg = read_muse(path.read_bytes())
    record = FileParser().parse(path)
    stored = {lead.label: lead for lead in record.leads}
    assert sorted(stored) == sorted(MUSE_LEADS)
    for label, lead in stored.items():
        assert lead.units == "mV"
        np.testing.assert_allclose(lead_uv(ecg, label), lead.samples * 1e3, rtol=0, atol=4.88 / 2)
    assert (ecg.n_samples, ecg.sampling_rate_hz) == (5000, 500.0)
    assert ecg.leads_derived
    assert len(LEADS_12) == ecg.leads_uv.shape[1]


EIGHT_MEASURED = random_counts(n_samples=20, leads=MUSE_LEADS)
Q, R, S, R1, S1 = 9, 13, 17, 21, 25
AMPLITUDES_UV = {
    "aVL": {R: 639, Q: 58},
    "V1": {R: 195, S: 1054},
    "V3": {R: 1328, S: 493, S1: 600},
    "V5": {R: 1508, R1: 1600},
    "V6": {R: 1328},
}


def _measure(matrix: str, **changes: str) -> Measurements:
    return read_muse(muse_xml(EIGHT_MEASURED, matrix=matrix, **changes)).measurements  # type: ignore[arg-type]


def test_measurements__matrix_is_read_by_lead_and_wave() -> None:
    assert _measure(muse_matrix(AMPLITUDES_UV)) == Measurements(
        r_avl_uv=639.0,
        s_v1_uv=1054.0,
        s_v3_uv=600.0,
        r_v5_uv=1600.0,
        r_v6_uv=1328.0,
        qrs_duration_ms=96.0,
        measured_by="12SL 241",
        r_v1_uv=195.0,
        r_v3_uv=1328.0,
        s_avl_uv=0.0,
        s_v5_uv=0.0,
        s_v6_uv=0.0,
        qrs_measured_by="12SL 241",
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
    assert _measure(matrix) == Measurements(qrs_duration_ms=96.0, measured_by="12SL 241", qrs_measured_by="12SL 241")


@pytest.mark.parametrize(
    ("confirmed", "original", "expected"), [("96", "98", 96.0), ("", "98", 98.0), ("0", "98", 98.0), ("x", "", None)]
)
def test_measurements__duration(confirmed: str, original: str, expected: float | None) -> None:
    measured = _measure("", qrs_duration=confirmed, original_qrs_duration=original)
    assert measured.qrs_duration_ms == expected


def test_measurements__nothing_measured_by_nobody() -> None:
    assert _measure("", qrs_duration="", original_qrs_duration="") == Measurements()


def test_measurements__program_not_named() -> None:
    data = muse_xml(EIGHT_MEASURED).replace(b"12SL 241", b"")
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
