from __future__ import annotations

import numpy as np
import pytest

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.quality import (
    AGE_RANGE_YEARS,
    BMI_RANGE_KG_M2,
    HEIGHT_RANGE_CM,
    WEIGHT_RANGE_KG,
    PlausibleRange,
    check_age_years,
    check_bmi_kg_m2,
    check_finite,
    non_finite_message,
)
from tests import builders

_V3 = 8


def test_check_finite__finite_passes() -> None:
    check_finite(builders.leads_uv())


def test_check_finite__names_leads_and_numbers() -> None:
    leads_uv = builders.leads_uv()
    leads_uv[:3, 1] = np.nan
    leads_uv[7, _V3] = -np.inf
    with pytest.raises(EcgRejected, match=r"leads II \(3\), V3 \(1\) of 5000 samples") as caught:
        check_finite(leads_uv)
    assert caught.value.reason is RejectReason.NON_FINITE


def test_non_finite_message__leaves_good_leads_out() -> None:
    assert "leads aVR (2) of 10 samples" in non_finite_message([0, 0, 0, 2] + [0] * 8, 10)


@pytest.mark.parametrize(
    ("limits", "low", "high"),
    [(AGE_RANGE_YEARS, 18, 110), (BMI_RANGE_KG_M2, 10, 80), (HEIGHT_RANGE_CM, 100, 250), (WEIGHT_RANGE_KG, 25, 350)],
)
def test_plausible_range__both_sides_of_both_limits(limits: PlausibleRange, low: float, high: float) -> None:
    outside = limits.is_outside(np.array([low - 0.01, low, high, high + 0.01]))
    assert outside.tolist() == [True, False, False, True]


def test_plausible_range__unknown_is_not_outside() -> None:
    assert not HEIGHT_RANGE_CM.is_outside(float("nan"))


def test_plausible_range__message_names_value_and_limits() -> None:
    assert WEIGHT_RANGE_KG.message(999.0) == "weight_kg is 999, expected 25 to 350"


@pytest.mark.parametrize("age_years", [18.0, 63.4, 110.0])
def test_check_age_years__plausible_ages_pass(age_years: float) -> None:
    assert check_age_years(age_years) is None


@pytest.mark.parametrize("age_years", [17.99, 110.5, 760.0, -1.0, float("inf")])
def test_check_age_years__outside_is_out_of_range(age_years: float) -> None:
    expected = f"age_years is {age_years:g}, expected 18 to 110"
    assert check_age_years(age_years) == (RejectReason.AGE_OUT_OF_RANGE, expected)


@pytest.mark.parametrize("age_years", [None, float("nan")])
def test_check_age_years__unknown_is_missing(age_years: float | None) -> None:
    rejection = check_age_years(age_years)
    assert rejection is not None
    assert rejection.reason is RejectReason.AGE_MISSING


@pytest.mark.parametrize("bmi_kg_m2", [10.0, 27.3, 80.0])
def test_check_bmi_kg_m2__plausible_values_pass(bmi_kg_m2: float) -> None:
    assert check_bmi_kg_m2(bmi_kg_m2) is None


@pytest.mark.parametrize("bmi_kg_m2", [9.99, 80.01])
def test_check_bmi_kg_m2__outside_is_out_of_range(bmi_kg_m2: float) -> None:
    expected = f"bmi_kg_m2 is {bmi_kg_m2:g}, expected 10 to 80"
    assert check_bmi_kg_m2(bmi_kg_m2) == (RejectReason.BMI_OUT_OF_RANGE, expected)


def test_check_bmi_kg_m2__unknown_is_missing() -> None:
    rejection = check_bmi_kg_m2(None)
    assert rejection is not None
    assert rejection.reason is RejectReason.BMI_MISSING
