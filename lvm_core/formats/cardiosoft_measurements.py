"""Wave amplitudes from the measurement table of a CardioSoft XML file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final
from xml.etree.ElementTree import Element

from lvm_core.ecg import Measurements
from lvm_core.errors import EcgRejected
from lvm_core.formats.xml import number_of, text_of
from lvm_core.leads import canonical_lead
from lvm_core.units import uv_per_unit

_WAVES: Final = ("Q", "R", "S", "R1", "S1")


def read_measurements(root: Element) -> Measurements:
    """Return what the device measured; None for what it did not.

    A blank in a row of the table is a wave that is absent: 0. A lead in which not one of Q, R, S,
    R' and S' has a value was not measured, and neither was a wave whose row is absent: None.
    R is the larger of R and R', S the larger of S and S'. A lead with a Q wave alone is a QS
    complex, whose depth counts as S.
    """
    resting = root.find("RestingECGMeasurements")
    table = None if resting is None else resting.find("MeasurementTable")
    waves_uv = {} if table is None else _waves_uv(table)
    amplitudes_uv = {
        "r_avl_uv": r_uv(waves_uv.get("aVL", {})),
        "s_v1_uv": s_uv(waves_uv.get("V1", {})),
        "s_v3_uv": s_uv(waves_uv.get("V3", {})),
        "r_v5_uv": r_uv(waves_uv.get("V5", {})),
        "r_v6_uv": r_uv(waves_uv.get("V6", {})),
    }
    qrs_duration_ms = _qrs_duration_ms(resting)
    measured = qrs_duration_ms is not None or any(v is not None for v in amplitudes_uv.values())
    return Measurements(
        **amplitudes_uv, qrs_duration_ms=qrs_duration_ms, measured_by=_measured_by(root, table) if measured else None
    )


def r_uv(waves_uv: Mapping[str, float]) -> float | None:
    """Return the R amplitude of one lead, microvolts, the larger of R and R'.

    Args:
        waves_uv: magnitudes by wave (Q R S R1 S1), microvolts, 0 for an absent wave, without the
            waves that were not measured.
    """
    return max(waves_uv["R"], waves_uv["R1"]) if {"R", "R1"} <= waves_uv.keys() else None


def s_uv(waves_uv: Mapping[str, float]) -> float | None:
    """Return the S amplitude of one lead as a magnitude, microvolts, the larger of S and S'.

    Args:
        waves_uv: as for `r_uv`. A Q wave without R and S is a QS complex and counts as S.
    """
    if not {"S", "S1"} <= waves_uv.keys():
        return None
    s = max(waves_uv["S"], waves_uv["S1"])
    if s > 0:
        return s
    r = r_uv(waves_uv)
    if r is None or "Q" not in waves_uv:
        return None
    return waves_uv["Q"] if r == 0 else 0.0


def _waves_uv(table: Element) -> dict[str, dict[str, float]]:
    """Return magnitudes in microvolts by lead and wave; what was not measured is left out."""
    order = [canonical_lead(name) for name in (text_of(table, "LeadOrder") or "").split(",")]
    rows = {wave: _row_uv(table.find(f"{wave}Amplitude"), len(order)) for wave in _WAVES}
    waves_uv: dict[str, dict[str, float]] = {}
    for column, lead in enumerate(order):
        values = {wave: row[column] for wave, row in rows.items() if row is not None}
        if lead is not None and any(value is not None for value in values.values()):
            waves_uv[lead] = {wave: value or 0.0 for wave, value in values.items()}
    return waves_uv


def _row_uv(element: Element | None, n_leads: int) -> list[float | None] | None:
    """Return one row as magnitudes in microvolts, None for a blank; None for an unusable row."""
    if element is None:
        return None
    tokens = (element.text or "").split(",")
    if len(tokens) == n_leads + 1 and not tokens[-1].strip():
        tokens.pop()
    try:
        factor = uv_per_unit(element.get("units", ""))
        row = [abs(float(token)) * factor if token.strip() else None for token in tokens]
    except (EcgRejected, ValueError):
        return None
    usable = len(row) == n_leads and all(v is None or math.isfinite(v) for v in row)
    return row if usable else None


def _qrs_duration_ms(resting: Element | None) -> float | None:
    element = None if resting is None else resting.find("QRSDuration")
    value = number_of(element, ".")
    if element is None or value is None or value <= 0:
        return None
    return value if element.get("units", "").strip().lower() == "ms" else None


def _measured_by(root: Element, table: Element | None) -> str | None:
    created_by = "" if table is None else table.get("Creation", "").strip()
    return (
        created_by
        or text_of(root, "RestingECGMeasurements/DiagnosisVersion")
        or text_of(root, "ClinicalInfo/DeviceInfo/AnalysisVer")
    )
