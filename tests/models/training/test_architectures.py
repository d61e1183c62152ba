from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from models.catalogue.loading import bind_model, load_model
from models.catalogue.spec import (
    AGE_YEARS,
    BMI_21001_KG_M2,
    INPUT_AGE,
    INPUT_BMI,
    INPUT_ECG,
    INPUT_SEX,
    OUTPUT_LVH,
    OUTPUT_MASS,
)
from models.training.architectures import build_age_sex_bmi, build_ecg_only
from tests.models.golden import ECG_ONLY, FULL, golden_source, load_golden

pytestmark = [pytest.mark.tf, pytest.mark.usefixtures("tensorflow_threads")]


def test_build_ecg_only__published_number_of_parameters() -> None:
    assert build_ecg_only().count_params() == 1_047_497


def test_build_age_sex_bmi__published_number_of_parameters() -> None:
    assert build_age_sex_bmi().count_params() == 1_222_851


def test_build_age_sex_bmi__published_names() -> None:
    model = build_age_sex_bmi()
    assert [tensor.name for tensor in model.inputs] == [INPUT_ECG, INPUT_AGE, INPUT_SEX, INPUT_BMI]
    assert model.output_names == [OUTPUT_MASS, OUTPUT_LVH]


@pytest.mark.parametrize(
    ("build", "name"), [(build_ecg_only, ECG_ONLY), (build_age_sex_bmi, FULL)], ids=["ecg_only", "age_sex_bmi"]
)
def test_builders__graph_equals_the_tensorflow_2_1_file(build: Callable[[], Any], name: str) -> None:
    golden = load_golden()
    feeds = {
        INPUT_ECG: golden.tensor_counts[:4].astype(np.float32) / 2000,
        INPUT_AGE: AGE_YEARS.standardise(golden.age_years)[:4, None],
        INPUT_SEX: np.eye(2, dtype=np.float32)[golden.sex[:4]],
        INPUT_BMI: BMI_21001_KG_M2.standardise(golden.bmi_kg_m2)[:4, None],
    }
    reference = load_model(golden_source(name))
    built = bind_model(build(), reference.spec)
    built.keras_model.set_weights(reference.keras_model.get_weights())
    expected, actual = reference.call_by_name(feeds), built.call_by_name(feeds)
    assert set(actual) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(actual[name].numpy(), expected[name].numpy())
