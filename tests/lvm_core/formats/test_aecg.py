from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from ecgdatakit import FileParser

from lvm_core.errors import RejectReason
from lvm_core.formats.aecg import read_aecg
from lvm_core.signal.ecg import LEADS_12
from tests.file_builders import (
    AECG_LEADS,
    AECG_TIME,
    MUSE_LEADS,
    aecg_annotation,
    aecg_document,
    aecg_sequence,
    aecg_series,
    aecg_xml,
    random_counts,
)
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_is_as_built, assert_rejected, lead_uv, needs_real_files

TWELVE = random_counts(n_samples=20, leads=AECG_LEADS)
RELATIVE = AECG_TIME.replace("TIME_ABSOLUTE", "TIME_RELATIVE").replace("20180719141939.250", "0")


def test_read_aecg__leads_in_microvolts_with_what_the_file_says() -> None:
    ecg = read_aecg(aecg_xml(TWELVE))
    for lead in LEADS_12:
        np.testing.assert_array_equal(lead_uv(ecg, lead), TWELVE[lead] * 2.5)
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.source_format) == (500.0, 2.5, "hl7_aecg")
    assert_is_as_built(ecg)


def test_read_aecg__eight_leads_give_twelve() -> None:
    counts = random_counts(n_samples=20, leads=MUSE_LEADS)
    ecg = read_aecg(aecg_xml(counts))
    assert ecg.leads_derived
    np.testing.assert_array_equal(lead_uv(ecg, "III"), (counts["II"].astype(float) - counts["I"]) * 2.5)


def test_read_aecg__three_leads_are_refused() -> None:
    three = aecg_xml({lead: TWELVE[lead] for lead in ("I", "II", "III")})
    wanted = "lead V1, V2, V3, V4, V5, V6 is missing from the aECG rhythm series, which holds I, II, III; expected"
    assert_rejected(lambda: read_aecg(three), RejectReason.MISSING_LEAD, wanted)


# Worked by hand: 100 digits of 2.5 uV and an origin of -400 uV are -150 uV.
@pytest.mark.parametrize(
    ("changes", "expected_uv"),
    [
        ({}, 250.0),
        ({"origin": "-400"}, -150.0),
        ({"scale": "0.0025", "origin": "-0.4", "unit": "mV"}, -150.0),
        ({"scale": "2500", "origin": "-400000", "unit": "nV"}, -150.0),
        ({"scale": "2.500", "origin": "0.000"}, 250.0),
        ({"kind": "INT_PQ"}, 250.0),
    ],
)
def test_read_aecg__origin_and_scale(changes: dict[str, str], expected_uv: float) -> None:
    counts = {lead: np.full(20, 100) for lead in LEADS_12}
    np.testing.assert_allclose(read_aecg(aecg_xml(counts, **changes)).leads_uv, expected_uv, rtol=1e-6)


def test_read_aecg__origin_has_a_unit_of_its_own() -> None:
    data = aecg_xml(TWELVE).replace(b'<origin value="0" unit="uV"/>', b'<origin value="-0.4" unit="mV"/>')
    np.testing.assert_allclose(lead_uv(read_aecg(data), "V2"), TWELVE["V2"] * 2.5 - 400, rtol=1e-6)


@pytest.mark.parametrize(
    "origin", [b"", b'<origin value="0"/>', b'<origin value="0" unit="mmHg"/>', b'<origin unit="uV"/>']
)
def test_read_aecg__origin_of_nothing_needs_no_unit(origin: bytes) -> None:
    data = aecg_xml(TWELVE).replace(b'<origin value="0" unit="uV"/>', origin)
    np.testing.assert_array_equal(lead_uv(read_aecg(data), "V2"), TWELVE["V2"] * 2.5)


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (
            b'<scale value="2.5" unit="uV"/>',
            b"",
            r"scale of lead I in the aECG rhythm series is absent \(units: absent\)",
        ),
        (b'<scale value="2.5"', b'<scale value="0"', r"scale of lead I .* is 0 \(units: 'uV'\)"),
        (b'<scale value="2.5"', b'<scale value="-2.5"', "scale of lead I .* is -2.5"),
        (b'<scale value="2.5"', b'<scale value="name"', "scale of lead I .* is a text of 4 characters"),
        (b'<scale value="2.5" unit="uV"/>', b'<scale value="2.5"/>', "units: absent"),
        (b'<scale value="2.5" unit="uV"/>', b'<scale value="2.5" unit="mmHg"/>', r"the unit \('mmHg'\) is not"),
        (b'<origin value="0" unit="uV"/>', b'<origin value="5"/>', r"origin of lead I .* is 5 \(units: absent\)"),
        (
            b'<origin value="0" unit="uV"/>',
            b'<origin value="5" unit="x"/>',
            r"origin of lead I .* is 5 \(units: a text",
        ),
        (b'<origin value="0" unit="uV"/>', b'<origin value="name" unit="uV"/>', "origin of lead I .* is a text of 4"),
    ],
)
def test_read_aecg__scale_that_cannot_be_known_is_refused(old: bytes, new: bytes, wanted: str) -> None:
    data = aecg_xml(TWELVE)
    assert old in data
    assert_rejected(lambda: read_aecg(data.replace(old, new)), RejectReason.UNKNOWN_UNIT, wanted)


@pytest.mark.parametrize(
    ("value", "unit", "rate_hz"),
    [
        ("0.002", "s", 500),
        ("2", "ms", 500),
        ("2000", "us", 500),
        ("2000", "µs", 500),
        ("0.0010000", "s", 1000),
        ("4", "ms", 250),
    ],
)
def test_read_aecg__rate_is_one_over_the_increment(value: str, unit: str, rate_hz: float) -> None:
    for time in (AECG_TIME, RELATIVE):
        changed = time.replace('value="0.002" unit="s"', f'value="{value}" unit="{unit}"')
        assert read_aecg(aecg_xml(TWELVE, time=changed)).sampling_rate_hz == rate_hz


@pytest.mark.parametrize(
    ("time", "wanted"),
    [
        ("", "has 0 different sampling rates; expected one"),
        (AECG_TIME + RELATIVE.replace("0.002", "0.004"), "has 2 different sampling rates; expected one"),
        (AECG_TIME.replace(' unit="s"', ""), r"increment of time in .* is 0.002 \(units: absent\)"),
        (AECG_TIME.replace('unit="s"', 'unit="name"'), r"\(units: a text of 4 characters\)"),
        (AECG_TIME.replace("0.002", "0"), r"is 0 \(units: s\)"),
        (AECG_TIME.replace("0.002", "-0.002"), r"is -0.002 \(units: s\)"),
        (AECG_TIME.replace("0.002", "name"), r"is a text of 4 characters \(units: s\)"),
        (AECG_TIME.replace("0.002", "1e-9"), r"is 1e-9 \(units: s\)"),
    ],
)
def test_read_aecg__rate_is_never_guessed(time: str, wanted: str) -> None:
    assert_rejected(lambda: read_aecg(aecg_xml(TWELVE, time=time)), RejectReason.UNSUPPORTED_RATE, wanted)


def test_read_aecg__absolute_and_relative_time_that_agree() -> None:
    assert read_aecg(aecg_xml(TWELVE, time=AECG_TIME + RELATIVE)).sampling_rate_hz == 500


@pytest.mark.parametrize(
    ("time", "old", "new", "expected"),
    [
        (AECG_TIME, "", "", dt.datetime(2018, 7, 19, 14, 19, 39)),
        (RELATIVE, "", "", dt.datetime(2018, 7, 19, 14, 19, 38)),
        (RELATIVE, '<low value="20180719141938"/>', '<center value="201807191419"/>', dt.datetime(2018, 7, 19, 14, 19)),
        (RELATIVE, '<low value="20180719141938"/>', "", dt.datetime(2018, 7, 19)),
        (RELATIVE, "20180719", "2018-07-19 or so", None),
    ],
)
def test_read_aecg__date(time: str, old: str, new: str, expected: dt.datetime | None) -> None:
    data = aecg_xml(TWELVE, time=time).decode().replace(old, new) if old else aecg_xml(TWELVE, time=time).decode()
    ecg = read_aecg(data.encode())
    assert ecg.recorded_at == expected
    assert ecg.quality_flags == (() if expected else ("date_unreadable",))


def test_read_aecg__no_date_and_no_participant() -> None:
    data = aecg_document(aecg_series(TWELVE, time=RELATIVE), participant_id="").decode()
    data = data.replace('<low value="20180719141938"/>', "").replace('<center value="20180719"/>', "")
    ecg = read_aecg(data.encode())
    assert (ecg.recorded_at, ecg.header_participant_id, ecg.quality_flags) == (None, None, ())


def test_read_aecg__representative_beat_is_never_the_signal() -> None:
    beat = aecg_series(random_counts(99, n_samples=600), code="REPRESENTATIVE_BEAT")
    ecg = read_aecg(aecg_document(beat, aecg_series(TWELVE)))
    np.testing.assert_array_equal(lead_uv(ecg, "V4"), TWELVE["V4"] * 2.5)
    wanted = "has no series of rhythm, it has: REPRESENTATIVE_BEAT, of another code; expected"
    only = aecg_document(beat, aecg_series(TWELVE, code="Fake"))
    assert_rejected(lambda: read_aecg(only), RejectReason.TOO_SHORT, wanted)
    assert_rejected(lambda: read_aecg(aecg_document()), RejectReason.TOO_SHORT, "it has: none")


def test_read_aecg__only_series_without_a_code_is_the_rhythm() -> None:
    assert read_aecg(aecg_document(aecg_series(TWELVE, code=""))).n_samples == 20


def test_read_aecg__several_rhythms_are_refused() -> None:
    both = aecg_document(aecg_series(TWELVE), aecg_series(TWELVE))
    assert_rejected(lambda: read_aecg(both), RejectReason.UNREADABLE, "has 2 series of rhythm; expected one")


def test_read_aecg__several_sets_of_leads_are_refused_and_those_without_are_left_out() -> None:
    lead = aecg_sequence("MDC_ECG_LEAD_V6", TWELVE["V6"])
    other = aecg_sequence("MDC_ECG_LEAD_X", TWELVE["V6"])
    for sequence, n_sets in ((lead, 2), (other, 1)):
        second = f"<component><sequenceSet>{sequence}</sequenceSet></component>"
        data = aecg_document(aecg_series(TWELVE, inside=second))
        if n_sets == 1:
            assert read_aecg(data).n_samples == 20
        else:
            assert_rejected(lambda d=data: read_aecg(d), RejectReason.UNREADABLE, "has 2 sets of sequences")


def test_read_aecg__series_without_sequences_has_no_leads() -> None:
    data = aecg_document('<component><series><code code="RHYTHM"/></series></component>')
    assert_rejected(lambda: read_aecg(data), RejectReason.MISSING_LEAD, "holds none of the twelve")


def test_read_aecg__a_lead_twice_is_refused() -> None:
    data = aecg_xml(TWELVE).replace(b"MDC_ECG_LEAD_AVL", b"MDC_ECG_LEAD_AVF")
    assert_rejected(lambda: read_aecg(data), RejectReason.UNREADABLE, "lead aVF is twice in the aECG rhythm series")


def test_read_aecg__inverted_lead_is_another_channel() -> None:
    data = aecg_xml(TWELVE).replace(b"MDC_ECG_LEAD_AVR", b"MDC_ECG_LEAD_AVRNEG")
    ecg = read_aecg(data)
    assert ecg.leads_derived
    expected = -(TWELVE["I"].astype(float) + TWELVE["II"]) / 2 * 2.5
    np.testing.assert_array_equal(lead_uv(ecg, "aVR"), expected)


@pytest.mark.parametrize("damage", [b"1.5 ", b"name ", b"1_0 ", "٣ ".encode(), b"9" * 30 + b" ", b"NaN "])
def test_read_aecg__digits_that_are_no_whole_numbers_are_refused(damage: bytes) -> None:
    data = aecg_xml(TWELVE).replace(b"<digits>", b"<digits>" + damage, 1)
    wanted = (
        "samples of lead I in the aECG rhythm series are not all whole numbers; expected integers separated by white"
    )
    assert_rejected(lambda: read_aecg(data), RejectReason.UNREADABLE, wanted)


def test_read_aecg__leads_of_different_lengths_are_truncated() -> None:
    data = aecg_xml(TWELVE).replace(b"<digits>", b"<digits> 5\n ", 1)
    assert_rejected(lambda: read_aecg(data), RejectReason.TRUNCATED, "leads .* have different numbers of samples")
    counts = {lead: values[:0] for lead, values in TWELVE.items()}
    assert_rejected(lambda: read_aecg(aecg_xml(counts)), RejectReason.TRUNCATED, "hold 0 samples")


def test_read_aecg__number_of_samples_is_limited() -> None:
    data = aecg_xml(TWELVE).replace(b"<digits>", b"<digits>" + b"0 " * 1_000_000, 1)
    assert_rejected(
        lambda: read_aecg(data), RejectReason.UNREADABLE, "lead I .* has more than 1000000 samples, the limit"
    )


@pytest.mark.parametrize(
    ("annotations", "expected_ms"),
    [
        ([aecg_annotation()], 92.0),
        ([aecg_annotation(value="0.092", unit="s")], 92.0),
        ([aecg_annotation(), aecg_annotation()], 92.0),
        ([aecg_annotation(), aecg_annotation(value="93")], None),
        ([aecg_annotation(value="93"), aecg_annotation("MDC_ECG_TIME_PD_QRS_GL")], 92.0),
        ([aecg_annotation(value="0")], None),
        ([aecg_annotation(unit="bpm")], None),
        ([aecg_annotation("MDC_ECG_TIME_PD_QT")], None),
        ([], None),
    ],
)
def test_read_aecg__qrs_duration_of_the_device(annotations: list[str], expected_ms: float | None) -> None:
    measurements = read_aecg(aecg_document(aecg_series(TWELVE, inside="".join(annotations)))).measurements
    assert measurements.qrs_duration_ms == expected_ms
    assert measurements.measured_by == (None if expected_ms is None else "Mortara ELI 25")


def test_read_aecg__malformed_free_text_is_repaired_and_digits_are_not() -> None:
    data = aecg_xml(TWELVE).replace(b"Somebody Any", b"ST & T < 3")
    assert read_aecg(data).quality_flags == ("xml_repaired",)
    assert_rejected(lambda: read_aecg(data.replace(b"<digits>", b"<digits>&")), RejectReason.UNREADABLE, "malformed")


@needs_real_files
def test_read_aecg__real_file_agrees_with_ecgdatakit() -> None:
    path = SHARED_ECG / "hl7_aecg" / "fda_subject1_0.xml"
    ecg = read_aecg(path.read_bytes())
    leads = FileParser().parse(path).leads
    assert [lead.label for lead in leads] == list(AECG_LEADS)
    for lead in leads:
        assert (lead.resolution, lead.resolution_unit) == (2.5, "uV")
        scale = 1e3 if lead.units == "mV" else 1.0 if lead.units == "uV" else 2.5
        np.testing.assert_allclose(lead_uv(ecg, lead.label), lead.samples * scale, rtol=0, atol=0.1)
    assert (ecg.sampling_rate_hz, ecg.recorded_at) == (500.0, dt.datetime(2002, 11, 22, 9, 10))
    assert (ecg.header_participant_id, ecg.measurements.qrs_duration_ms) == ("subject1", 120.0)


@needs_real_files
def test_read_aecg__real_file_of_three_leads_is_refused() -> None:
    data = (SHARED_ECG / "hl7_aecg" / "cvrg_TemplateExample1.xml").read_bytes()
    wanted = "lead V1, V2, V3, V4, V5, V6 is missing from the aECG rhythm series, which holds I, II, III; expected"
    assert_rejected(lambda: read_aecg(data), RejectReason.MISSING_LEAD, wanted)
