import numpy as np
import pytest

from lvm_core.medicine.body import Bsa, bmi_kg_m2, body_surface_area_m2, lv_mass_index_g_m2


@pytest.mark.parametrize(("formula", "bsa_m2"), [(Bsa.DUBOIS, 1.8097), (Bsa.MOSTELLER, 1.8181)])
def test_body_surface_area_m2__worked_example(formula: Bsa, bsa_m2: float) -> None:
    # Facts sheet, section 3: 170 cm, 70 kg.
    assert body_surface_area_m2(170.0, 70.0, formula) == pytest.approx(bsa_m2, abs=5e-5)


def test_body_surface_area_m2__dubois_is_the_default() -> None:
    assert body_surface_area_m2(170.0, 70.0) == body_surface_area_m2(170.0, 70.0, Bsa.DUBOIS)


def test_body_surface_area_m2__mosteller_of_round_numbers() -> None:
    # 180 cm and 80 kg: the square root of 14400 / 3600.
    assert body_surface_area_m2(180.0, 80.0, Bsa.MOSTELLER) == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize("formula", list(Bsa))
def test_body_surface_area_m2__arrays_are_elementwise_and_keep_unknown(formula: Bsa) -> None:
    area_m2 = body_surface_area_m2(
        np.array([170.0, np.nan, 160.0, 150.0]), np.array([70.0, 70.0, np.nan, 50.0]), formula
    )
    expected = [body_surface_area_m2(170.0, 70.0, formula), np.nan, np.nan, body_surface_area_m2(150.0, 50.0, formula)]
    np.testing.assert_allclose(area_m2, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("formula", list(Bsa))
def test_body_surface_area_m2__unknown_number_is_unknown(formula: Bsa) -> None:
    assert np.isnan(body_surface_area_m2(float("nan"), 70.0, formula))


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf")])
def test_body_surface_area_m2__refuses_an_impossible_height(bad: float) -> None:
    with pytest.raises(ValueError, match=f"height_cm is {bad:g} cm, expected a finite value"):
        body_surface_area_m2(bad, 70.0)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("inf")])
def test_body_surface_area_m2__refuses_an_impossible_weight_in_an_array(bad: float) -> None:
    with pytest.raises(ValueError, match=f"weight_kg is {bad:g} kg, expected a finite value"):
        body_surface_area_m2(np.array([170.0, 170.0]), np.array([70.0, bad]))


def test_body_surface_area_m2__refuses_an_unknown_formula() -> None:
    with pytest.raises(ValueError, match="'haycock' is not a valid Bsa"):
        body_surface_area_m2(170.0, 70.0, "haycock")  # type: ignore[arg-type]


def test_bmi_kg_m2__worked_example() -> None:
    # 80 kg at 2 m.
    assert bmi_kg_m2(200.0, 80.0) == pytest.approx(20.0, rel=1e-12)


def test_bmi_kg_m2__arrays_keep_unknown() -> None:
    bmi = bmi_kg_m2(np.array([200.0, np.nan]), np.array([80.0, 80.0]))
    np.testing.assert_allclose(bmi, [20.0, np.nan], rtol=1e-12, atol=0)


def test_bmi_kg_m2__refuses_an_impossible_height() -> None:
    with pytest.raises(ValueError, match="height_cm is 0 cm"):
        bmi_kg_m2(0.0, 80.0)


def test_bmi_kg_m2__refuses_an_impossible_weight() -> None:
    with pytest.raises(ValueError, match="weight_kg is -1 kg"):
        bmi_kg_m2(200.0, -1.0)


def test_lv_mass_index_g_m2__worked_example() -> None:
    assert lv_mass_index_g_m2(90.0, 2.0) == 45.0


def test_lv_mass_index_g_m2__arrays_keep_unknown() -> None:
    index = lv_mass_index_g_m2(np.array([90.0, np.nan, 90.0]), np.array([2.0, 2.0, np.nan]))
    np.testing.assert_array_equal(index, [45.0, np.nan, np.nan])


def test_lv_mass_index_g_m2__passes_on_a_negative_prediction() -> None:
    assert lv_mass_index_g_m2(-3.0, 2.0) == -1.5


def test_lv_mass_index_g_m2__refuses_an_infinite_mass() -> None:
    with pytest.raises(ValueError, match="lvm_g is infinite"):
        lv_mass_index_g_m2(np.array([90.0, np.inf]), np.array([2.0, 2.0]))


def test_lv_mass_index_g_m2__refuses_an_impossible_area() -> None:
    with pytest.raises(ValueError, match="bsa_m2 is 0 m2"):
        lv_mass_index_g_m2(90.0, 0.0)
