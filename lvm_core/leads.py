"""The twelve leads: their names, their spellings, their orders, and the four derived ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEADS_12: Final = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The clinical order, used everywhere outside the predictor."""

# Lead order of the published models' input tensor (broadinstitute/ml4h, tensor map
# ecg_rest_raw of the LV mass model; facts sheet section 2).
MODEL_LEADS: Final = ("I", "II", "III", "V1", "V2", "V3", "V4", "V5", "V6", "aVF", "aVL", "aVR")

DERIVED_FROM_I_AND_II: Final = ("III", "aVR", "aVL", "aVF")

# "Derivation" 1 to 3, as devices in Romance languages write the limb leads.
_DERIVATIONS: Final = {"DI": "I", "DII": "II", "DIII": "III", "D1": "I", "D2": "II", "D3": "III"}
_BY_UPPER: Final = {**{lead.upper(): lead for lead in LEADS_12}, **_DERIVATIONS}
# Words before the name and a unit in brackets after it. A minus sign is no separator: `-aVR` is
# the inverted lead.
_SPELLING: Final = re.compile(
    r"(?:(?:MDC_ECG_LEAD|ECG|EKG|LEAD)[ _:.]*){0,2}(?P<lead>[A-Z0-9]+)"
    r"(?:\s*(?:\([MUN\u039c]?V\)|\[[MUN\u039c]?V\]))?"
)
_LONGEST_NAME: Final = 40


def canonical_lead(name: str) -> str | None:
    """Return the canonical spelling of a lead name, or None for a lead outside the twelve.

    Case and surrounding blanks do not matter, nor do the words `Lead`, `ECG` and `MDC_ECG_LEAD_`
    before the name or a voltage in brackets after it: `avr`, `ECG lead aVR`, `MDC_ECG_LEAD_aVR`
    and `aVR (mV)` are all `aVR`; `DI`, `DII` and `DIII` are `I`, `II` and `III`. `vx` is None,
    and so is a changed lead, such as `-aVR` or `I filtered`.
    """
    if len(name) > _LONGEST_NAME:
        return None
    spelling = _SPELLING.fullmatch(name.strip().upper())
    return None if spelling is None else _BY_UPPER.get(spelling["lead"])


def order_indices(source: Sequence[str], target: Sequence[str]) -> NDArray[np.intp]:
    """Return `index` such that `array_in_source_order[index]` is in the order of `target`.

    Args:
        source: lead names of the axis to be reordered, each once.
        target: lead names wanted, all of them in `source`.

    Raises:
        ValueError: a lead of `target` is not in `source`, or `source` names one twice.
    """
    if len(set(source)) != len(source):
        raise ValueError(f"lead order {list(source)} names a lead twice; expected each once")
    missing = [lead for lead in target if lead not in source]
    if missing:
        raise ValueError(f"leads {missing} are missing from {list(source)}")
    return np.array([source.index(lead) for lead in target], dtype=np.intp)


def derive_limb_leads(i: NDArray[np.floating], ii: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    """Return III, aVR, aVL and aVF from leads I and II.

    Args:
        i: lead I, any shape, microvolts or counts.
        ii: lead II, same shape and unit.

    Returns:
        The four leads by name, same shape and unit; half counts can occur.

    Source:
        Einthoven's law and Goldberger's definitions: III = II - I, aVR = -(I + II) / 2,
        aVL = I - II / 2, aVF = II - I / 2.
    """
    return {"III": ii - i, "aVR": -(i + ii) / 2, "aVL": i - ii / 2, "aVF": ii - i / 2}
