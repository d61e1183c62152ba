import numpy as np
import pytest

from lvm_core.errors import LvmError
from models.catalogue.known import EMBEDDED_MODELS
from models.catalogue.spec import (
    AGE_YEARS,
    BMI_21001_KG_M2,
    BMI_23104_KG_M2,
    PUBLISHED_CONSTANTS,
    InputConvention,
    InputRole,
    input_role,
    input_roles,
    lvm_g_from_z,
)

ECG = "input_ecg_rest_raw_continuous"
AGE = "input_21003_Age-when-attended-assessment-centre_2_0_continuous"
SEX = "input_Sex_Male_0_0_categorical"
BMI = "input_21001_Body-mass-index-BMI_0_0_continuous"
BMI_OTHER = "input_23104_Body-mass-index-BMI_0_0_continuous"


@pytest.mark.parametrize(("z", "grams"), [(0.0, 89.70), (1.0, 114.50), (-1.0, 64.90), (3.0, 164.1)])
def test_lvm_g_from_z__worked_by_hand(z: float, grams: float) -> None:
    result = lvm_g_from_z(np.array([z], dtype=np.float32))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [grams], rtol=1e-7, atol=0)


@pytest.mark.parametrize(
    ("standardisation", "value", "expected"),
    [
        (AGE_YEARS, 63.35798891483556, 0.0),
        (AGE_YEARS, 63.35798891483556 + 7.554638350423902, 1.0),
        (AGE_YEARS, 50.0, -1.7681837),
        (BMI_21001_KG_M2, 30.0, 0.5574624),
        (BMI_23104_KG_M2, 30.0, 0.5366364),
    ],
)
def test_standardise__worked_by_hand(standardisation, value: float, expected: float) -> None:
    result = standardisation.standardise(np.array([value]))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [expected], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        (ECG, InputRole.ECG),
        (AGE, InputRole.AGE),
        (SEX, InputRole.SEX),
        (BMI, InputRole.BMI),
        (BMI_OTHER, InputRole.BMI),
    ],
)
def test_input_role__is_found_by_name(name: str, role: InputRole) -> None:
    assert input_role(name) is role


@pytest.mark.parametrize(("name", "n_fits"), [("input_height", 0), ("input_21003_21001", 2), ("input_Sex_Female", 0)])
def test_input_role__unknown_or_ambiguous_name_is_refused(name: str, n_fits: int) -> None:
    with pytest.raises(LvmError, match=f"'{name}' fits {n_fits} known inputs"):
        input_role(name)


def test_input_roles__order_does_not_matter() -> None:
    assert input_roles((BMI, SEX, ECG, AGE)) == input_roles((ECG, AGE, SEX, BMI))


def test_input_roles__two_layers_of_one_kind_are_refused() -> None:
    with pytest.raises(LvmError, match="both hold bmi"):
        input_roles((ECG, BMI, BMI_OTHER))


def test_input_roles__no_ecg_is_refused() -> None:
    with pytest.raises(LvmError, match="hold no ECG"):
        input_roles((AGE, SEX))


def test_model_constants__bmi_follows_the_field_in_the_name() -> None:
    assert PUBLISHED_CONSTANTS.bmi_of(BMI).mean == 27.3397
    assert PUBLISHED_CONSTANTS.bmi_of(BMI_OTHER).mean == 27.432061533712652


def test_input_convention__one_millivolt() -> None:
    # 1 mV is 200 CardioSoft counts of 5 uV; 200 / 2000 = 0.1.
    assert 1000 / InputConvention.UKB_COUNTS.input_unit_uv == 200 / 2000
    assert 1000 / InputConvention.MICROVOLTS_OVER_2000.input_unit_uv == 1000 / 2000


def test_model_spec__knows_what_it_needs() -> None:
    full, ecg_only = EMBEDDED_MODELS
    assert full.needs_demographics
    assert not ecg_only.needs_demographics
    assert full.has_lvh_head
    assert not ecg_only.has_lvh_head
