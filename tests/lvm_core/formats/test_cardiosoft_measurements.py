from __future__ import annotations

import pytest

from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.signal.ecg import Measurements
from tests.file_builders import cardiosoft_table, cardiosoft_xml, random_counts
from tests.lvm_core.formats.helpers import SHARED_ECG, needs_real_files

COUNTS = random_counts(n_samples=20)
ROWS = {
    "QAmplitude": {"V6": 249, "V1": 30, "V3": 40},
    "RAmplitude": {"aVL": 214, "V1": 439, "V3": 1049, "V5": 1650, "V6": 1352},
    "SAmplitude": {"V1": 737, "V3": 717, "V5": 10},
    "R1Amplitude": {"aVL": 78, "V5": 1700},
    "S1Amplitude": {"V3": 800},
}


def _measure(table: str = "", **changes: str) -> Measurements:
    return read_cardiosoft(cardiosoft_xml(COUNTS, table=table, **changes)).measurements  # type: ignore[arg-type]


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
    )


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
    assert _measure() == Measurements(qrs_duration_ms=92.0, measured_by="12SL V21")


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
    data = cardiosoft_xml(COUNTS).replace(b"RestingECGMeasurements", b"Other")
    assert read_cardiosoft(data).measurements == Measurements()


@needs_real_files
def test_measurements__real_file_read_by_eye() -> None:
    """The rows of the file, read by a person: R aVL 214, R' 78; S V1 737, V3 717; R V5, V6."""
    data = (SHARED_ECG / "cardiosoft_xml" / "ecgprocess_example-XML1.xml").read_bytes()
    assert read_cardiosoft(data).measurements == Measurements(
        r_avl_uv=214.0,
        s_v1_uv=737.0,
        s_v3_uv=717.0,
        r_v5_uv=1650.0,
        r_v6_uv=1352.0,
        qrs_duration_ms=92.0,
        measured_by="12SL",
    )
