"""Bands of age and body mass index by which people are told apart, the same in every table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

Bands = Mapping[str, tuple[float, float]]

AGE_BANDS_YEARS: Final[Bands] = {"<50": (0, 50), "50-59": (50, 60), "60-69": (60, 70), "70+": (70, np.inf)}
# World Health Organization: 25 overweight, 30 obesity; underweight is too rare for a class.
BMI_CLASSES_KG_M2: Final[Bands] = {"<25": (0, 25), "25-29.9": (25, 30), "30+": (30, np.inf)}


def banded(values: pd.Series[Any], bands: Bands) -> pd.Series[Any]:
    """Return the name of each value's band, None where it is unknown.

    Args:
        values: numbers.
        bands: lower bound, within, and upper bound, outside, by name.
    """
    named = pd.Series(None, values.index, dtype=object)
    for name, (low, high) in bands.items():
        named[((values >= low) & (values < high)).fillna(False).astype(bool)] = name
    return named
