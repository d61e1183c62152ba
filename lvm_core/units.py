"""Units of voltage and time."""

from __future__ import annotations

from typing import Final

from lvm_core.errors import EcgRejected, RejectReason, described

DAYS_PER_YEAR: Final = 365.25
_UV_PER_UNIT: Final = {
    "uv": 1.0,
    "microvolt": 1.0,
    "microvolts": 1.0,
    "\u00b5v": 1.0,
    "\u03bcv": 1.0,
    "mv": 1e3,
    "millivolt": 1e3,
    "millivolts": 1e3,
    "nv": 1e-3,
    "nanovolt": 1e-3,
    "nanovolts": 1e-3,
    "v": 1e6,
    "volt": 1e6,
    "volts": 1e6,
}
# Units that device files state and that are no voltage; a message may quote them.
_NO_VOLTAGE: Final = frozenset({"adu", "counts", "lsb", "nu", "mmhg", "bpm", "ma"})


def is_voltage(unit: str) -> bool:
    """Return True when `uv_per_unit` knows the unit."""
    return unit.strip().lower() in _UV_PER_UNIT


def uv_per_unit(unit: str) -> float:
    """Return the microvolts in one `unit` (`uV`, `mV`, `mv`, `MICROVOLTS`, `nV`, `V`).

    Raises:
        EcgRejected: `unknown_unit`, the unit is not a voltage that is known here.
    """
    factor = _UV_PER_UNIT.get(unit.strip().lower())
    if factor is None:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"the unit ({described_unit(unit)}) is not a known voltage; expected uV, mV, nV or V",
        )
    return factor


def described_unit(unit: str | None) -> str:
    """Return how a message may show the unit that a file states: a known one, or its length."""
    if unit is None or not (is_voltage(unit) or unit.strip().lower() in _NO_VOLTAGE):
        return described(unit)
    return f"'{unit.strip()}'"
