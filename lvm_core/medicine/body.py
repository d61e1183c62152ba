"""Body size: surface area, body mass index, and the LV mass indexed to surface area."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Quantity = TypeVar("Quantity", float, NDArray[np.float64])
"""A number or an array of numbers: what goes in comes out."""


class Bsa(StrEnum):
    """Formula of the body surface area; the two differ by about 1 %."""

    DUBOIS = "dubois"
    MOSTELLER = "mosteller"


def _check_positive(name: str, unit: str, value: Quantity) -> None:
    array = np.atleast_1d(np.asarray(value, dtype=np.float64))
    bad = array[~np.isnan(array) & ~((array > 0) & (array < np.inf))]
    if bad.size:
        raise ValueError(f"{name} is {bad[0]:g} {unit}, expected a finite value above 0, or NaN where unknown")


def body_surface_area_m2(height_cm: Quantity, weight_kg: Quantity, formula: Bsa = Bsa.DUBOIS) -> Quantity:
    """Return the body surface area.

    Args:
        height_cm: standing height, cm, above 0; NaN where unknown.
        weight_kg: body weight, kg, above 0; NaN where unknown; same shape.
        formula: `Bsa.DUBOIS` or `Bsa.MOSTELLER`; store it beside the result.

    Returns:
        Body surface area, m2, same shape; 1.8097 (DuBois) and 1.8181 (Mosteller) for 170 cm and
        70 kg; NaN where the height or the weight is.

    Raises:
        ValueError: a value is infinite, or not above 0; the formula is unknown.

    Source:
        Du Bois D, Du Bois EF, Arch Intern Med 1916;17:863-871: 0.007184 * H^0.725 * W^0.425.
        Mosteller RD, N Engl J Med 1987;317:1098: sqrt(H * W / 3600).
    """
    _check_positive("height_cm", "cm", height_cm)
    _check_positive("weight_kg", "kg", weight_kg)
    bsa_m2: Quantity
    if Bsa(formula) is Bsa.MOSTELLER:
        bsa_m2 = (height_cm * weight_kg / 3600.0) ** 0.5
    else:
        bsa_m2 = 0.007184 * height_cm**0.725 * weight_kg**0.425
    return bsa_m2


def bmi_kg_m2(height_cm: Quantity, weight_kg: Quantity) -> Quantity:
    """Return the body mass index, weight / height squared.

    Args:
        height_cm: standing height, cm, above 0; NaN where unknown.
        weight_kg: body weight, kg, above 0; NaN where unknown; same shape.

    Returns:
        Body mass index, kg/m2, same shape; 24.22 for 170 cm and 70 kg; NaN where the height or
        the weight is.

    Raises:
        ValueError: a value is infinite, or not above 0.

    Source:
        Keys A et al., J Chronic Dis 1972;25:329-343, after Quetelet.
    """
    _check_positive("height_cm", "cm", height_cm)
    _check_positive("weight_kg", "kg", weight_kg)
    return weight_kg / (height_cm / 100.0) ** 2


def lv_mass_index_g_m2(lvm_g: Quantity, bsa_m2: Quantity) -> Quantity:
    """Return the LV mass index, LV mass / body surface area.

    Args:
        lvm_g: LV mass, g, predicted or measured; NaN where unknown. A value at or below 0 is
            passed on: a regression can give one, and one odd ECG must not stop a run.
        bsa_m2: body surface area, m2, above 0; NaN where unknown; same shape.

    Returns:
        LV mass index, g/m2, same shape; NaN where the mass or the area is.

    Raises:
        ValueError: the mass is infinite; the area is infinite or not above 0.

    Source:
        Khurshid S et al., Circ Cardiovasc Imaging 2021;14:e012281.
    """
    if np.isinf(lvm_g).any():
        raise ValueError("lvm_g is infinite, expected finite grams, or NaN where unknown")
    _check_positive("bsa_m2", "m2", bsa_m2)
    return lvm_g / bsa_m2
