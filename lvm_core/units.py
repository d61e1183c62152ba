"""Units of voltage and time."""

from __future__ import annotations

from typing import Final

from lvm_core.errors import EcgRejected, RejectReason

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


def uv_per_unit(unit: str) -> float:
    """Return the microvolts in one `unit` (`uV`, `mV`, `mv`, `MICROVOLTS`, `nV`, `V`).

    Raises:
        EcgRejected: `unknown_unit`, the unit is not a voltage that is known here.
    """
    factor = _UV_PER_UNIT.get(unit.strip().lower())
    if factor is None:
        raise EcgRejected(
            RejectReason.UNKNOWN_UNIT,
            f"unit {unit.strip()!r} is not a known voltage; expected uV, mV, nV or V",
        )
    return factor
