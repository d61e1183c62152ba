from __future__ import annotations

import datetime as dt
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lvm_core.errors import RejectReason
from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.signal.ecg import AMPLITUDE_COLUMNS, LEADS_12, Measurements
from tests.file_builders import cardiosoft_table, cardiosoft_xml, random_counts
from tests.lvm_core.formats.helpers import SHARED_ECG, assert_rejected, lead_uv, needs_real_files

COUNTS = random_counts(n_samples=200)


def test_read_cardiosoft__strip_not_median_in_microvolts() -> None:
    ecg = read_cardiosoft(cardiosoft_xml(COUNTS))
    assert ecg.leads_uv.shape == (200, 12)
    for lead in LEADS_12:
        np.testing.assert_array_equal(lead_uv(ecg, lead), COUNTS[lead] * 5.0)
    assert (ecg.sampling_rate_hz, ecg.step_uv, ecg.leads_derived) == (500.0, 5.0, False)
    assert ecg.source_format == "cardiosoft_xml"
    assert ecg.saturated_leads == ()
    assert ecg.quality_flags == ()


@given(hnp.arrays(np.int16, (12, 7)), st.permutations(LEADS_12), st.sampled_from(["ISO-8859-1", "utf-8", "utf-16"]))
def test_read_cardiosoft__decodes_what_was_encoded(array: np.ndarray, order: list[str], encoding: str) -> None:
    counts = dict(zip(order, array, strict=True))
    ecg = read_cardiosoft(cardiosoft_xml(counts, encoding=encoding))
    for lead in LEADS_12:
        np.testing.assert_array_equal(lead_uv(ecg, lead), counts[lead] * np.float64(5))


def test_read_cardiosoft__upper_case_lead_names() -> None:
    counts = {lead.upper(): values for lead, values in COUNTS.items()}
    ecg = read_cardiosoft(cardiosoft_xml(counts))
    np.testing.assert_array_equal(lead_uv(ecg, "aVL"), COUNTS["aVL"] * 5.0)


@pytest.mark.parametrize("path", ["StripData", "Strip/StripData", "StripData/Strip"])
@pytest.mark.parametrize("head_in_outer", [False, True])
def test_read_cardiosoft__every_place_of_the_strip(path: str, head_in_outer: bool) -> None:
    ecg = read_cardiosoft(cardiosoft_xml(COUNTS, strip_path=path, head_in_outer=head_in_outer))
    np.testing.assert_array_equal(lead_uv(ecg, "V3"), COUNTS["V3"] * 5.0)


def test_read_cardiosoft__other_leads_are_ignored() -> None:
    ecg = read_cardiosoft(cardiosoft_xml({**COUNTS, "V4R": COUNTS["V4"]}))
    assert ecg.leads_uv.shape == (200, 12)


def test_read_cardiosoft__comma_at_the_end_is_fine() -> None:
    data = cardiosoft_xml(COUNTS).replace(b"</WaveformData>", b", </WaveformData>")
    assert read_cardiosoft(data).n_samples == 200


def test_read_cardiosoft__resolution_in_other_units() -> None:
    ecg = read_cardiosoft(cardiosoft_xml(COUNTS, resolution='<Resolution units="nVperLsb">2500</Resolution>'))
    assert ecg.step_uv == 2.5
    np.testing.assert_array_equal(lead_uv(ecg, "II"), COUNTS["II"] * 2.5)


def test_read_cardiosoft__rate_of_the_file_is_used() -> None:
    rate = '<SampleRate units="Hz">1000</SampleRate>'
    assert read_cardiosoft(cardiosoft_xml(COUNTS, rate=rate)).sampling_rate_hz == 1000.0
    assert read_cardiosoft(cardiosoft_xml(COUNTS, rate="<SampleRate>250</SampleRate>")).duration_s == 0.8


@pytest.mark.parametrize(
    ("rate", "stated"),
    [
        (None, "absent"),
        ('<SampleRate units="Hz"></SampleRate>', r"empty \(units: Hz\)"),
        ('<SampleRate units="Hz">0</SampleRate>', r"0 \(units: Hz\)"),
        ('<SampleRate units="kHz">1</SampleRate>', r"1 \(units: a text of 3 characters\)"),
        ('<SampleRate units="Hz">1e6</SampleRate>', r"1e6 \(units: Hz\)"),
    ],
)
def test_read_cardiosoft__rate_is_never_guessed(rate: str | None, stated: str) -> None:
    assert_rejected(
        lambda: read_cardiosoft(cardiosoft_xml(COUNTS, rate=rate)),
        RejectReason.UNSUPPORTED_RATE,
        f"SampleRate of the CardioSoft rhythm strip is {stated}; expected a number of Hz",
    )


@pytest.mark.parametrize(
    ("resolution", "stated"),
    [
        (None, r"absent \(units: empty"),
        ("<Resolution>5</Resolution>", r"5 \(units: empty"),
        ('<Resolution units="uVperLsb">0</Resolution>', r"0 \(units: 'uVperLsb'"),
        ('<Resolution units="uV">5</Resolution>', r"5 \(units: 'uV'"),
        ('<Resolution units="Roe">Jane</Resolution>', r"a text of 4 characters \(units: a text"),
    ],
)
def test_read_cardiosoft__resolution_is_never_guessed(resolution: str | None, stated: str) -> None:
    assert_rejected(
        lambda: read_cardiosoft(cardiosoft_xml(COUNTS, resolution=resolution)),
        RejectReason.UNKNOWN_UNIT,
        f"Resolution of the CardioSoft rhythm strip is {stated}",
    )


def test_read_cardiosoft__resolution_of_another_quantity() -> None:
    resolution = '<Resolution units="mmHgperLsb">5</Resolution>'
    assert_rejected(
        lambda: read_cardiosoft(cardiosoft_xml(COUNTS, resolution=resolution)),
        RejectReason.UNKNOWN_UNIT,
        r"the unit \('mmHg'\) is not a known voltage",
    )


@pytest.mark.parametrize("lead", ["II", "V6"])
def test_read_cardiosoft__missing_lead_is_named(lead: str) -> None:
    counts = {name: values for name, values in COUNTS.items() if name != lead}
    assert_rejected(
        lambda: read_cardiosoft(cardiosoft_xml(counts)),
        RejectReason.MISSING_LEAD,
        f"lead {lead} is missing from the CardioSoft rhythm strip",
    )


def test_read_cardiosoft__lead_given_twice() -> None:
    assert_rejected(
        lambda: read_cardiosoft(cardiosoft_xml({**COUNTS, "AVR": COUNTS["aVR"]})),
        RejectReason.UNREADABLE,
        "lead aVR is twice in the CardioSoft rhythm strip",
    )


def test_read_cardiosoft__unequal_lengths() -> None:
    counts = {**COUNTS, "V6": COUNTS["V6"][:-1]}
    assert_rejected(lambda: read_cardiosoft(cardiosoft_xml(counts)), RejectReason.TRUNCATED, "V5 200, V6 199")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"n_leads": 15}, "NumberOfLeads of .* is 15, but the strip holds 12"),
        ({"n_samples": 5000}, "ChannelSampleCountTotal of .* is 5000, but the strip holds 200"),
    ],
)
def test_read_cardiosoft__declared_counts_are_checked(changes: dict[str, int], match: str) -> None:
    assert_rejected(
        lambda: read_cardiosoft(cardiosoft_xml(COUNTS, **changes)),  # type: ignore[arg-type]
        RejectReason.TRUNCATED,
        match,
    )


def test_read_cardiosoft__cut_file_is_truncated() -> None:
    data = cardiosoft_xml(COUNTS)
    assert_rejected(lambda: read_cardiosoft(data[:-400]), RejectReason.TRUNCATED, "XML ends at")


@pytest.mark.parametrize("samples", ["1,x,3", "1,,3", "1.5,2", "1_0,2", "9" * 30 + ",1"])
def test_read_cardiosoft__samples_that_are_no_numbers(samples: str) -> None:
    data = re.sub(
        rb'(?s)(<StripData>.*<WaveformData lead="II">)[^<]*', rb"\g<1>" + samples.encode(), cardiosoft_xml(COUNTS)
    )
    assert_rejected(
        lambda: read_cardiosoft(data),
        RejectReason.UNREADABLE,
        "samples of lead II in the CardioSoft rhythm strip are not all whole numbers",
    )


def test_read_cardiosoft__no_samples() -> None:
    counts = {lead: np.zeros(0, dtype=np.int16) for lead in LEADS_12}
    assert_rejected(lambda: read_cardiosoft(cardiosoft_xml(counts)), RejectReason.TRUNCATED, "hold 0 samples")


def test_read_cardiosoft__median_alone_is_too_short() -> None:
    data = re.sub(rb"(?s)<StripData>.*</StripData>", b"", cardiosoft_xml(COUNTS))
    assert b"MedianSamples" in data
    assert_rejected(lambda: read_cardiosoft(data), RejectReason.TOO_SHORT, "CardioSoft file has no rhythm strip")


def test_read_cardiosoft__two_strips_are_refused() -> None:
    data = cardiosoft_xml(COUNTS)
    strip = re.search(rb"(?s)<StripData>.*</StripData>", data)
    assert strip is not None
    assert_rejected(
        lambda: read_cardiosoft(data.replace(b"</CardiologyXML>", strip[0] + b"</CardiologyXML>")),
        RejectReason.UNREADABLE,
        "CardioSoft file has 2 rhythm strips",
    )


def test_read_cardiosoft__int16_limits_are_saturation() -> None:
    counts = {lead: values.copy() for lead, values in COUNTS.items()}
    counts["V2"][7:11], counts["aVF"][3:7], counts["I"][:9] = 32767, -32768, 32766
    assert read_cardiosoft(cardiosoft_xml(counts)).saturated_leads == ("aVF", "V2")


def test_read_cardiosoft__poor_quality_statement() -> None:
    data = cardiosoft_xml(COUNTS, diagnosis="*** Poor data quality, interpretation may be wrong")
    assert read_cardiosoft(data).quality_flags == ("poor_data_quality",)


@pytest.mark.parametrize(
    ("old", "new", "flags"),
    [
        (b"Resolution", b"Resolution", ()),
        (b">5</Resolution>", b"> 5.0 </Resolution>", ()),
        (b">5</Resolution>", b">4</Resolution>", ("scale_contradicted",)),
        (b'"uVperLsb">5</Resolution>', b'"mVperLsb">5</Resolution>', ("scale_contradicted",)),
        (b">500</SampleRate>", b">250</SampleRate>", ("scale_contradicted",)),
        (b">500</SampleRate>", b">5O0</SampleRate>", ("scale_contradicted",)),
    ],
)
def test_read_cardiosoft__median_beat_of_another_scale_is_flagged(old: bytes, new: bytes, flags: tuple[str]) -> None:
    data = cardiosoft_xml(COUNTS)
    assert data.index(b"<MedianSamples>") < data.index(old)
    assert read_cardiosoft(data.replace(old, new, 1)).quality_flags == flags


def test_read_cardiosoft__median_beat_without_a_scale_contradicts_nothing() -> None:
    data = cardiosoft_xml(COUNTS).replace(b'<Resolution units="uVperLsb">5</Resolution>', b"", 1)
    assert read_cardiosoft(data).quality_flags == ()


def test_read_cardiosoft__participant_and_time() -> None:
    ecg = read_cardiosoft(cardiosoft_xml(COUNTS, participant_id=" 42 "))
    assert ecg.header_participant_id == "42"
    assert ecg.recorded_at == dt.datetime(2018, 7, 19, 14, 19, 39)
    assert read_cardiosoft(cardiosoft_xml(COUNTS, participant_id="")).header_participant_id is None


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        (("2018", "2", "30"), ("1", "2", "3"), None),
        (("2018", "2", ""), ("1", "2", "3"), None),
        (("2018", "2", "3"), ("25", "2", "3"), None),
        (("2018", "2", "3"), ("x", "2", "3"), None),
        (("2018", "May", "3"), ("1", "2", "3"), None),
        (("2018", "2", "3"), ("", "", ""), dt.datetime(2018, 2, 3)),
    ],
)
def test_read_cardiosoft__odd_dates(
    date: tuple[str, str, str], time: tuple[str, str, str], expected: dt.datetime | None
) -> None:
    ecg = read_cardiosoft(cardiosoft_xml(COUNTS, date=date, time=time))
    assert ecg.recorded_at == expected
    assert ecg.quality_flags == (("date_unreadable",) if expected is None else ())


def test_read_cardiosoft__absent_date_is_not_flagged() -> None:
    ecg = read_cardiosoft(cardiosoft_xml(COUNTS, date=("", "", "")))
    assert (ecg.recorded_at, ecg.quality_flags) == (None, ())


def test_read_cardiosoft__four_leads_are_derived_when_absent() -> None:
    absent = ("III", "aVR", "aVL", "aVF")
    counts = {lead: values for lead, values in COUNTS.items() if lead not in absent}
    ecg = read_cardiosoft(cardiosoft_xml(counts))
    assert ecg.leads_derived
    i, ii = (5.0 * COUNTS[lead] for lead in ("I", "II"))
    expected_uv = {"III": ii - i, "aVR": -(i + ii) / 2, "aVL": i - ii / 2, "aVF": ii - i / 2}
    for lead, values in expected_uv.items():
        np.testing.assert_array_equal(lead_uv(ecg, lead), values)


@pytest.mark.parametrize("path", ["StripData", "Strip/StripData", "StripData/Strip"])
@pytest.mark.parametrize("text", ["ST & T abnormality", "QTc < 440 ms", "a\x0bb", "a <b c\x1a"])
def test_read_cardiosoft__statement_that_is_no_xml_is_repaired(path: str, text: str) -> None:
    intact = read_cardiosoft(cardiosoft_xml(COUNTS, strip_path=path))
    ecg = read_cardiosoft(cardiosoft_xml(COUNTS, strip_path=path, diagnosis=text))
    assert ecg.quality_flags == ("xml_repaired",)
    np.testing.assert_array_equal(ecg.leads_uv, intact.leads_uv)
    assert (ecg.recorded_at, ecg.measurements) == (intact.recorded_at, intact.measurements)


def test_read_cardiosoft__zeros_after_the_end_are_dropped() -> None:
    ecg = read_cardiosoft(cardiosoft_xml(COUNTS) + bytes(512))
    assert (ecg.n_samples, ecg.quality_flags) == (200, ())


@needs_real_files
def test_read_cardiosoft__real_file_agrees_with_a_decoding_by_text_search() -> None:
    """No reader of this format is at hand, so the strip is cut out of the text."""
    data = (SHARED_ECG / "cardiosoft_xml" / "ecgprocess_example-XML1.xml").read_bytes()
    ecg = read_cardiosoft(data)
    strip = data[data.index(b"<StripData>") : data.index(b"</StripData>")].decode("latin-1")
    found = dict(re.findall(r'<WaveformData lead="(\w+)">([^<]*)<', strip))
    assert sorted(found) == sorted(LEADS_12)
    for lead, text in found.items():
        expected_uv = 5.0 * np.array(text.split(","), dtype=np.float64)
        np.testing.assert_allclose(lead_uv(ecg, lead), expected_uv, rtol=0, atol=0)
    # Einthoven's law holds exactly in the counts of this file (its manifest).
    np.testing.assert_array_equal(lead_uv(ecg, "III"), lead_uv(ecg, "II") - lead_uv(ecg, "I"))
    assert (ecg.n_samples, ecg.sampling_rate_hz) == (5000, 500.0)
    assert ecg.recorded_at == dt.datetime(2018, 7, 19, 14, 19, 39)
    assert ecg.quality_flags == ()


def test_read_cardiosoft__number_of_samples_of_a_lead_is_limited() -> None:
    counts = {**random_counts(n_samples=10), "I": np.zeros(1_000_001, dtype=np.int16)}
    data = cardiosoft_xml(counts, n_samples=10)
    wanted = "lead I in the CardioSoft rhythm strip has more than 1000000 samples"
    assert_rejected(lambda: read_cardiosoft(data), RejectReason.UNREADABLE, wanted)
    one_less = cardiosoft_xml({**counts, "I": counts["I"][:-1]}, n_samples=10)
    wanted = "different numbers of samples"
    assert_rejected(lambda: read_cardiosoft(one_less), RejectReason.TRUNCATED, wanted)


COUNTS_MEASURED = random_counts(n_samples=20)
ROWS = {
    "QAmplitude": {"V6": 249, "V1": 30, "V3": 40},
    "RAmplitude": {"aVL": 214, "V1": 439, "V3": 1049, "V5": 1650, "V6": 1352},
    "SAmplitude": {"V1": 737, "V3": 717, "V5": 10},
    "R1Amplitude": {"aVL": 78, "V5": 1700},
    "S1Amplitude": {"V3": 800},
}


def _measure(table: str = "", **changes: str) -> Measurements:
    return read_cardiosoft(cardiosoft_xml(COUNTS_MEASURED, table=table, **changes)).measurements  # type: ignore[arg-type]


def _without(row: str) -> dict[str, dict[str, int]]:
    return {tag: values for tag, values in ROWS.items() if tag != row}


def test_measurements__larger_of_r_and_r1_and_of_s_and_s1() -> None:
    assert _measure(cardiosoft_table(ROWS)) == Measurements(
        r_avl_uv=214.0,
        s_v1_uv=737.0,
        s_v3_uv=800.0,
        r_v5_uv=1700.0,
        r_v6_uv=1352.0,
        qrs_duration_ms=92.0,
        measured_by="12SL",
        r_v1_uv=439.0,
        r_v3_uv=1049.0,
        s_avl_uv=0.0,
        s_v5_uv=10.0,
        s_v6_uv=0.0,
        qrs_measured_by="12SL",
    )


def test_measurements__voltage_sum_takes_the_deeper_of_q_and_s() -> None:
    """Eleven leads of R 100 and S 50; in V6 Q 249 is deeper than S 0: 11 x 150 + 1352 + 249."""
    others = [lead for lead in LEADS_12 if lead != "V6"]
    rows = {
        "QAmplitude": {"V6": 249},
        "RAmplitude": {**dict.fromkeys(others, 100), "V6": 1352},
        "SAmplitude": dict.fromkeys(others, 50),
        "R1Amplitude": {"I": 90},
        "S1Amplitude": {},
    }
    assert _measure(cardiosoft_table(rows)).qrs_voltage_sum_uv == 3251.0
    rows["RAmplitude"].pop("I"), rows["SAmplitude"].pop("I"), rows["R1Amplitude"].pop("I")
    assert _measure(cardiosoft_table(rows)).qrs_voltage_sum_uv is None


def test_measurements__columns_go_by_lead_order() -> None:
    order = ("V6", "V5", "V4", "V3", "V2", "V1", "AVF", "AVL", "AVR", "III", "II", "I")
    rows = {tag: {lead if lead != "aVL" else "AVL": value for lead, value in row.items()} for tag, row in ROWS.items()}
    assert _measure(cardiosoft_table(rows, order=order)) == _measure(cardiosoft_table(ROWS))


def test_measurements__signs_and_units() -> None:
    negative = {**ROWS, "SAmplitude": {"V1": -737, "V3": -717, "V5": -10}}
    assert _measure(cardiosoft_table(negative)).s_v1_uv == 737.0
    nanovolts = _measure(cardiosoft_table({**ROWS}, units=' units="nV"'))
    assert nanovolts.s_v1_uv == pytest.approx(0.737, rel=1e-12)


def test_measurements__blank_in_a_present_row_is_zero() -> None:
    rows = {**ROWS, "RAmplitude": {"V5": 100}, "QAmplitude": {"aVL": 20}}
    measured = _measure(cardiosoft_table({**rows, "R1Amplitude": {}}))
    assert measured.r_avl_uv == 0.0


def test_measurements__qs_complex_counts_as_s() -> None:
    rows = {
        "QAmplitude": {"V1": 900, "V3": 70},
        "RAmplitude": {"V3": 50},
        "SAmplitude": {},
        "R1Amplitude": {},
        "S1Amplitude": {},
    }
    measured = _measure(cardiosoft_table(rows))
    assert measured.s_v1_uv == 900.0
    assert measured.s_v3_uv == 0.0


def test_measurements__lead_without_any_value_was_not_measured() -> None:
    rows = {tag: {lead: v for lead, v in row.items() if lead != "V6"} for tag, row in ROWS.items()}
    measured = _measure(cardiosoft_table(rows))
    assert measured.r_v6_uv is None
    assert measured.r_v5_uv == 1700.0


def test_measurements__blank_table_without_duration_is_nothing() -> None:
    blank = cardiosoft_table({tag: {} for tag in ROWS})
    assert _measure(blank, qrs_duration="") == Measurements()


def test_measurements__no_table_leaves_the_duration() -> None:
    assert _measure() == Measurements(qrs_duration_ms=92.0, measured_by="12SL V21", qrs_measured_by="12SL V21")


@pytest.mark.parametrize(
    ("row", "lost"),
    [
        ("RAmplitude", {"r_avl_uv", "r_v5_uv", "r_v6_uv"}),
        ("R1Amplitude", {"r_avl_uv", "r_v5_uv", "r_v6_uv"}),
        ("SAmplitude", {"s_v1_uv", "s_v3_uv"}),
        ("S1Amplitude", {"s_v1_uv", "s_v3_uv"}),
        ("QAmplitude", set()),
    ],
)
def test_measurements__absent_row_is_missing(row: str, lost: set[str]) -> None:
    measured = _measure(cardiosoft_table(_without(row)))
    names = {"r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv"}
    assert {name for name in names if getattr(measured, name) is None} == lost


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('<RAmplitude units="uV">', '<RAmplitude units="uV">1, '),
        ('<RAmplitude units="uV">', '<RAmplitude units="uV">x'),
        ('<RAmplitude units="uV">', '<RAmplitude units="uV">nan'),
        ('<RAmplitude units="uV">', '<RAmplitude units="mmHg">'),
        ('<RAmplitude units="uV">', "<RAmplitude>"),
    ],
)
def test_measurements__unusable_row_is_missing(old: str, new: str) -> None:
    table = cardiosoft_table(ROWS)
    assert old in table
    assert _measure(table.replace(old, new)).r_v5_uv is None


def test_measurements__comma_at_the_end_of_a_row_is_fine() -> None:
    table = cardiosoft_table(ROWS).replace("</RAmplitude>", ", </RAmplitude>")
    assert _measure(table).r_v6_uv == 1352.0


@pytest.mark.parametrize(
    "element",
    [
        "",
        '<QRSDuration units="ms"></QRSDuration>',
        '<QRSDuration units="ms">0</QRSDuration>',
        '<QRSDuration units="s">92</QRSDuration>',
        "<QRSDuration>92</QRSDuration>",
    ],
)
def test_measurements__duration_that_is_not_one(element: str) -> None:
    assert _measure(qrs_duration=element).qrs_duration_ms is None


def test_measurements__program_is_named_by_the_table_first() -> None:
    assert _measure(cardiosoft_table(ROWS, creation=' Creation="HEART"')).measured_by == "HEART"
    assert _measure(cardiosoft_table(ROWS, creation="")).measured_by == "12SL V21"


def test_measurements__file_without_a_measurement_section() -> None:
    data = cardiosoft_xml(COUNTS_MEASURED).replace(b"RestingECGMeasurements", b"Other")
    assert read_cardiosoft(data).measurements == Measurements()


@needs_real_files
def test_measurements__real_file_read_by_eye() -> None:
    """The rows of the file, read by a person: R aVL 214, R' 78; S V1 737, V3 717; R V5, V6."""
    data = (SHARED_ECG / "cardiosoft_xml" / "ecgprocess_example-XML1.xml").read_bytes()
    expected = {
        "r_avl_uv": 214.0,
        "s_v1_uv": 737.0,
        "s_v3_uv": 717.0,
        "r_v5_uv": 1650.0,
        "r_v6_uv": 1352.0,
        "qrs_duration_ms": 92.0,
        "measured_by": "12SL",
        "qrs_measured_by": "12SL",
    }
    measured = read_cardiosoft(data).measurements
    assert {name: getattr(measured, name) for name in expected} == expected
    assert all(getattr(measured, name) is not None for name in AMPLITUDE_COLUMNS)
