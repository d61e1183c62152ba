"""The measures of the model card, by hand."""

import dataclasses

import numpy as np
import pytest

from lvm_core.synthetic.people import synthetic_people
from models.demo.model_card import mean_error_by_size_g, sensitivity_specificity


def test_mean_error_by_size__groups_end_at_the_corners_of_the_loss() -> None:
    true_g = np.array([50.0, 89.7, 89.8, 114.5, 139.3, 139.4])
    predicted_g = true_g + np.array([2.0, 4.0, -1.0, -3.0, 5.0, -7.0])
    expected = [(2, 3.0), (2, -2.0), (1, 5.0), (1, -7.0)]
    groups = mean_error_by_size_g(predicted_g, true_g)
    np.testing.assert_allclose(groups, expected, rtol=0, atol=1e-9)


def test_mean_error_by_size__nobody_in_a_group_is_not_zero() -> None:
    groups = mean_error_by_size_g(np.array([60.0]), np.array([60.0]))
    assert [n for n, _ in groups] == [1, 0, 0, 0]
    assert np.isnan([error for _, error in groups[1:]]).all()


def test_sensitivity_specificity__by_hand() -> None:
    # Women, limit 55 g/m2, body surface area 2 m2: LVH above 110 g.
    people = dataclasses.replace(
        synthetic_people(5, 1),
        sex_code=np.zeros(5, dtype=np.int8),
        bsa_m2=np.full(5, 2.0),
        lvmi_true_g_m2=np.array([60.0, 60.0, 60.0, 50.0, 50.0]),
    )
    predicted_g = np.array([120.0, 111.0, 110.0, 130.0, 90.0])
    assert sensitivity_specificity(predicted_g, people) == pytest.approx((2 / 3, 1 / 2))
