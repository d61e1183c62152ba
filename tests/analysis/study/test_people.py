"""Bands of age and body mass index: both sides of each bound."""

from __future__ import annotations

import pandas as pd

from analysis.study.people import AGE_BANDS_YEARS, BMI_CLASSES_KG_M2, banded


def test_banded__a_bound_belongs_to_the_band_that_begins_there() -> None:
    ages = pd.Series([49.99, 50.0, 59.99, 60.0, 69.99, 70.0, 104.0, None])
    expected = ["<50", "50-59", "50-59", "60-69", "60-69", "70+", "70+", None]
    assert banded(ages, AGE_BANDS_YEARS).fillna("").tolist() == [one or "" for one in expected]
    assert banded(pd.Series([24.9, 25.0, 30.0]), BMI_CLASSES_KG_M2).tolist() == ["<25", "25-29.9", "30+"]
