from typing import Any

import numpy as np
import pytest

from models.catalogue.spec import EcgPredictor, PredictorInputs
from tests.fakes import FakePredictor


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


def test_fake_predictor__has_the_interface_and_is_deterministic() -> None:
    fake: EcgPredictor = FakePredictor(needs_demographics=True)
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
