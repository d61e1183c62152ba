import numpy as np
import pytest

from lvm_core.synthetic.outcomes import drawn_amplitudes_uv, drawn_predictions, lowest_correlation, mass_given_body
from lvm_core.synthetic.people import SyntheticPeople, synthetic_people

SEED = 8


@pytest.fixture(scope="module")
def people() -> SyntheticPeople:
    return synthetic_people(60_000, SEED)


@pytest.mark.parametrize("r", [0.75, 0.79, 0.9])
def test_drawn_predictions__correlate_as_asked(people: SyntheticPeople, r: float) -> None:
    drawn_g = drawn_predictions(people, seed=1, r=r)
    assert np.corrcoef(drawn_g, people.lvm_true_g)[0, 1] == pytest.approx(r, abs=0.01)


@pytest.mark.parametrize("sex_code", [0, 1])
def test_drawn_predictions__are_calibrated_with_an_error_of_berkson_type(
    people: SyntheticPeople, sex_code: int
) -> None:
    theirs = people.sex_code == sex_code
    drawn_g, true_g = drawn_predictions(people, 1, 0.79)[theirs], people.lvm_true_g[theirs]
    slope, intercept_g = np.polyfit(drawn_g, true_g, 1)
    assert slope == pytest.approx(1.0, abs=0.03)
    assert slope * drawn_g.mean() + intercept_g == pytest.approx(drawn_g.mean(), abs=0.4)
    # No covariate of the model explains what is left.
    for covariate in (people.age_years, people.bmi_kg_m2):
        assert abs(np.corrcoef(true_g - drawn_g, covariate[theirs])[0, 1]) < 0.03


def test_drawn_predictions__at_the_ends_are_the_truth_and_the_body(people: SyntheticPeople) -> None:
    np.testing.assert_allclose(drawn_predictions(people, 1, 1.0), people.lvm_true_g, rtol=1e-12)
    lowest = drawn_predictions(people, 1, lowest_correlation())
    np.testing.assert_allclose(lowest, mass_given_body().predict_g(people), atol=1e-3)


def test_drawn_predictions__belong_to_the_person_and_the_seed(people: SyntheticPeople) -> None:
    whole = drawn_predictions(people, 1, 0.79)
    part = drawn_predictions(synthetic_people(30, SEED, 1010), 1, 0.79)
    np.testing.assert_array_equal(part, whole[1010:1040])
    body_g = mass_given_body().predict_g(people)
    again = drawn_predictions(people, 2, 0.79)
    # Given the truth, another seed draws an independent noise.
    residual = people.lvm_true_g - body_g
    noise = [(p - body_g) - np.polyval(np.polyfit(residual, p - body_g, 1), residual) for p in (whole, again)]
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.02


@pytest.mark.parametrize("r", [0.5, 1.01, float("nan")])
def test_drawn_predictions__refuse_what_cannot_be(people: SyntheticPeople, r: float) -> None:
    with pytest.raises(ValueError, match=r"r is .*, expected 0\.7\d\d to 1"):
        drawn_predictions(people, 1, r)


def test_drawn_predictions__refuse_a_negative_seed(people: SyntheticPeople) -> None:
    with pytest.raises(ValueError, match="seed is -1; expected 0 or more"):
        drawn_predictions(people, -1, 0.8)


def test_drawn_amplitudes__tell_a_little_of_the_true_index_in_either_sex(people: SyntheticPeople) -> None:
    for values_uv in drawn_amplitudes_uv(people, 1).values():
        assert (values_uv > 0).all()
        for sex_code in (0, 1):
            own = people.sex_code == sex_code
            r = np.corrcoef(np.log(values_uv[own]), people.lvmi_true_g_m2[own])[0, 1]
            assert r == pytest.approx(0.2, abs=0.06)


def test_drawn_amplitudes__of_a_slice_are_those_of_the_whole(people: SyntheticPeople) -> None:
    whole = drawn_amplitudes_uv(people, 1)
    part = drawn_amplitudes_uv(synthetic_people(30, people.seed, 1010), 1)
    for name, values_uv in part.items():
        np.testing.assert_array_equal(values_uv, whole[name][1010:1040])
