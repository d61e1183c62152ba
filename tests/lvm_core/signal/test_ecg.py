from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lvm_core.signal.ecg import (
    DERIVED_FROM_I_AND_II,
    LEADS_12,
    MODEL_LEADS,
    Measurements,
    canonical_lead,
    derive_limb_leads,
    order_indices,
)
from tests import builders


def test_ecg__duration_is_samples_over_rate() -> None:
    ecg = builders.ecg(leads_uv=builders.leads_uv(3650), sampling_rate_hz=500.0)
    assert (ecg.n_samples, ecg.duration_s) == (3650, 7.3)


def test_ecg__nothing_is_measured_unless_said() -> None:
    assert builders.ecg().measurements == Measurements(None, None, None, None, None, None, None)


@pytest.mark.parametrize("shape", [(12, 5000), (5000, 8), (60000,)])
def test_ecg__refuses_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"leads_uv has shape .*, expected \(n_samples, 12\)"):
        builders.ecg(leads_uv=np.zeros(shape, dtype=np.float32))


def test_ecg__refuses_another_dtype() -> None:
    with pytest.raises(ValueError, match="leads_uv is float64, expected float32"):
        builders.ecg(leads_uv=np.zeros((5000, 12)))


@pytest.mark.parametrize("field", ["sampling_rate_hz", "step_uv"])
@pytest.mark.parametrize("value", [0.0, -5.0, float("nan"), float("inf")])
def test_ecg__refuses_a_rate_or_step_that_is_none(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}, expected a finite value above 0"):
        builders.ecg(**{field: value})


def test_ecg__refuses_a_time_zone() -> None:
    with pytest.raises(ValueError, match="recorded_at has a time zone"):
        builders.ecg(recorded_at=dt.datetime(2015, 6, 1, tzinfo=dt.UTC))


def test_ecg__takes_a_local_time() -> None:
    noon = dt.datetime(2015, 6, 1, 12)
    assert builders.ecg(recorded_at=noon).recorded_at == noon


_LEAD_PAIR = hnp.arrays(np.float64, (2, 50), elements=st.integers(-32768, 32767))


@pytest.mark.parametrize(
    ("name", "lead"),
    [
        ("avr", "aVR"),
        ("AVR", "aVR"),
        (" Lead II ", "II"),
        ("LEAD_V3", "V3"),
        ("MDC_ECG_LEAD_aVF", "aVF"),
        ("v6", "V6"),
        ("DI", "I"),
        ("DII", "II"),
        ("DIII", "III"),
        ("d2", "II"),
        ("ECG_I", "I"),
        ("ECG lead aVR", "aVR"),
        ("ECGleadV1", "V1"),
        ("EKG: V2", "V2"),
        ("aVL (mV)", "aVL"),
        ("aVL [\u00b5V]", "aVL"),
        ("V3(uV)", "V3"),
    ],
)
def test_canonical_lead__knows_the_spellings(name: str, lead: str) -> None:
    assert canonical_lead(name) == lead


@pytest.mark.parametrize(
    "name",
    [
        "vx",
        "V7",
        "V3R",
        "",
        "aVG",
        "-aVR",
        "ECG-aVR",
        "ECG",
        "I filtered",
        "MLII",
        "VR",
        "1",
        "lead 1",
        "I (mmHg)",
        "I (mV",
        "D4",
        "ECG ECG ECG I",
        "ECG " * 20 + "I",
    ],
)
def test_canonical_lead__other_leads_are_none(name: str) -> None:
    assert canonical_lead(name) is None


def test_order_indices__clinical_to_model_order() -> None:
    # Facts sheet, section 2: I II III V1 V2 V3 V4 V5 V6 aVF aVL aVR.
    assert order_indices(LEADS_12, MODEL_LEADS).tolist() == [0, 1, 2, 6, 7, 8, 9, 10, 11, 5, 4, 3]


@given(order=st.permutations(LEADS_12))
@settings(deadline=None)
def test_order_indices__there_and_back_is_the_identity(order: list[str]) -> None:
    there, back = order_indices(LEADS_12, order), order_indices(order, LEADS_12)
    assert np.array(LEADS_12)[there][back].tolist() == list(LEADS_12)


def test_order_indices__picks_a_part() -> None:
    assert order_indices(["V1", "II", "I"], ["I", "II"]).tolist() == [2, 1]


def test_order_indices__refuses_a_missing_lead() -> None:
    with pytest.raises(ValueError, match=r"leads \['V6'\] are missing"):
        order_indices(LEADS_12[:11], LEADS_12)


def test_order_indices__refuses_a_lead_named_twice() -> None:
    with pytest.raises(ValueError, match="names a lead twice"):
        order_indices(["I", "I", "II"], ["I"])


def test_derive_limb_leads__worked_example() -> None:
    derived = derive_limb_leads(np.array([400.0]), np.array([1000.0]))
    assert {lead: float(value[0]) for lead, value in derived.items()} == {
        "III": 600.0,
        "aVR": -700.0,
        "aVL": -100.0,
        "aVF": 800.0,
    }


@given(pair=_LEAD_PAIR)
@settings(deadline=None)
def test_derive_limb_leads__obeys_einthoven(pair: np.ndarray) -> None:
    np.testing.assert_array_equal(derive_limb_leads(*pair)["III"], pair[1] - pair[0])


@given(pair=_LEAD_PAIR)
@settings(deadline=None)
def test_derive_limb_leads__augmented_leads_sum_to_zero(pair: np.ndarray) -> None:
    derived = derive_limb_leads(*pair)
    np.testing.assert_array_equal(derived["aVR"] + derived["aVL"] + derived["aVF"], 0.0)


def test_derived_from_i_and_ii__names_what_derive_limb_leads_gives() -> None:
    assert set(derive_limb_leads(np.zeros(1), np.zeros(1))) == set(DERIVED_FROM_I_AND_II)
