from typing import Any

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
    PredictorInputs,
    input_role,
    input_roles,
    lvm_g_from_z,
)
from tests.fakes import FakePredictor

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


def _inputs(**changes: Any) -> dict[str, Any]:
    counts = np.arange(2 * 12 * 5000, dtype=np.int64).reshape(2, 12, 5000) % 700 - 350
    return {
        "counts": counts.astype(np.int16),
        "uv_per_count": np.array([5.0, 4.88], dtype=np.float32),
        "age_years": np.array([50, 70], dtype=np.float32),
        "sex": np.array([0, 1], dtype=np.int8),
        "bmi_kg_m2": np.array([25, 30], dtype=np.float32),
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": [[0]]}, "counts are list, expected an int16 array"),
        ({"counts": np.zeros((2, 12, 5000))}, "counts are float64, expected an int16 array"),
        ({"counts": np.zeros((2, 5000, 12), np.int16)}, r"shape \(2, 5000, 12\), expected \(n, 12,"),
        ({"counts": np.zeros((12, 5000), np.int16)}, r"shape \(12, 5000\)"),
        ({"uv_per_count": np.ones(2)}, "uv_per_count is float64, expected float32"),
        ({"uv_per_count": 5.0}, "uv_per_count is float, expected float32"),
        ({"uv_per_count": np.ones(3, np.float32)}, r"uv_per_count has shape \(3,\), expected \(2,"),
        ({"uv_per_count": np.array([1, 0], np.float32)}, r"uv_per_count is 0.0 in row 1.*above 0"),
        ({"uv_per_count": np.array([-1, 1], np.float32)}, r"uv_per_count is -1.0 in row 0"),
        ({"uv_per_count": np.array([np.inf, 1], np.float32)}, "uv_per_count is inf in row 0"),
        ({"age_years": np.array([np.nan, 1], np.float32)}, "age_years is nan in row 0"),
        ({"age_years": np.array([50, 60])}, "age_years is int64, expected float32"),
        ({"bmi_kg_m2": np.array([25, np.inf], np.float32)}, "bmi_kg_m2 is inf in row 1"),
        ({"sex": np.array([0, 2], np.int8)}, r"sex is 2 in row 1.*0 \(female\) or 1 \(male\)"),
        ({"sex": np.array([-1, 1], np.int8)}, "sex is -1 in row 0"),
        ({"sex": np.array([0, 1])}, "sex is int64, expected int8"),
        ({"sex": np.array([0], np.int8)}, r"sex has shape \(1,\)"),
    ],
)
def test_predictor_inputs__wrong_input_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PredictorInputs(**_inputs(**changes))


def test_predictor_inputs__rows_are_cut_together() -> None:
    part = PredictorInputs(**_inputs()).rows(1, 2)
    assert part.n_ecgs == 1
    assert part.sex is not None
    assert part.age_years is not None
    assert (part.uv_per_count[0], part.age_years[0], part.sex[0]) == (np.float32(4.88), 70, 1)


def test_require_demographics__names_what_is_missing() -> None:
    inputs = PredictorInputs(**_inputs(sex=None, bmi_kg_m2=None))
    with pytest.raises(ValueError, match="sex and bmi_kg_m2 not given, but model m takes"):
        inputs.require_demographics("m")


def test_fake_predictor__is_deterministic() -> None:
    fake = FakePredictor(needs_demographics=True)
    first, second = fake.predict(**_inputs()), fake.predict(**_inputs())
    np.testing.assert_array_equal(first.lvm_pred_g, second.lvm_pred_g)
    assert len(first) == 2
    assert np.isfinite(first.lvh_score).all()


def test_fake_predictor__ecg_only_needs_no_demographics() -> None:
    fake = FakePredictor(batch_size=2)
    inputs = _inputs()
    result = fake.predict_batch(inputs["counts"], inputs["uv_per_count"])
    assert not fake.needs_demographics
    assert np.isnan(result.lvh_score).all()
    assert fake.batches_seen == [2]


def test_fake_predictor__refuses_more_than_a_batch() -> None:
    with pytest.raises(ValueError, match="batch of 2 ECGs"):
        FakePredictor(batch_size=1).predict_batch(**_inputs())
