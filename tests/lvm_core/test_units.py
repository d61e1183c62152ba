import pytest

from lvm_core.errors import EcgRejected
from lvm_core.units import described_unit, is_voltage, uv_per_unit


@pytest.mark.parametrize(
    ("unit", "uv"),
    [
        ("uV", 1.0),
        (" MICROVOLTS ", 1.0),
        ("\u00b5V", 1.0),
        ("\u03bcV", 1.0),
        ("mv", 1000.0),
        ("mV", 1000.0),
        ("nV", 0.001),
        ("V", 1e6),
    ],
)
def test_uv_per_unit__known_spellings(unit: str, uv: float) -> None:
    assert uv_per_unit(unit) == uv


@pytest.mark.parametrize("unit", ["mmHg", "adu", "NU"])
def test_uv_per_unit__refuses_what_is_no_voltage(unit: str) -> None:
    with pytest.raises(EcgRejected, match=rf"unknown_unit: the unit \('{unit}'\) is not a known voltage"):
        uv_per_unit(unit)


def test_uv_per_unit__quotes_no_free_text() -> None:
    with pytest.raises(EcgRejected, match=r"the unit \(a text of 9 characters\) is not a known"):
        uv_per_unit("Jane Roe\u00e9")
    with pytest.raises(EcgRejected, match=r"the unit \(empty\) is not a known voltage"):
        uv_per_unit("")


def test_described_unit__known_units_and_lengths() -> None:
    assert [described_unit(unit) for unit in (" mV ", "adu", "xx", None)] == [
        "'mV'",
        "'adu'",
        "a text of 2 characters",
        "absent",
    ]
    assert is_voltage("microvolts")
    assert not is_voltage("adu")
