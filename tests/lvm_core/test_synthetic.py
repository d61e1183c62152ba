import numpy as np
import pytest
from scipy.signal import find_peaks

from lvm_core.body import bmi_kg_m2
from lvm_core.leads import LEADS_12
from lvm_core.lvh import Sex
from lvm_core.quality import (
    AGE_RANGE_YEARS,
    BMI_RANGE_KG_M2,
    HEIGHT_RANGE_CM,
    WEIGHT_RANGE_KG,
    scorable,
)
from lvm_core.synthetic import SyntheticEcgs, synthetic_ecgs


@pytest.fixture(scope="module")
def cohort() -> SyntheticEcgs:
    return synthetic_ecgs(200, seed=7)


def _lead(cohort: SyntheticEcgs, lead: str) -> np.ndarray:
    return cohort.counts[:, LEADS_12.index(lead)].astype(np.float64)


def test_synthetic_ecgs__shapes_and_dtypes(cohort: SyntheticEcgs) -> None:
    assert cohort.counts.shape == (200, 12, 5000)
    assert cohort.counts.dtype == np.int16
    assert cohort.uv_per_count.shape == (200,)
    assert cohort.uv_per_count.dtype == np.float32
    assert len(set(cohort.ecg_id)) == len(set(cohort.participant_id)) == 200


def test_synthetic_ecgs__any_slice_is_the_same_as_in_the_whole(cohort: SyntheticEcgs) -> None:
    part = synthetic_ecgs(3, seed=7, start=5)
    np.testing.assert_array_equal(part.counts, cohort.counts[5:8])
    np.testing.assert_array_equal(part.weight_kg, cohort.weight_kg[5:8])
    assert (part.ecg_id, part.sex) == (cohort.ecg_id[5:8], cohort.sex[5:8])


def test_synthetic_ecgs__another_seed_gives_other_ecgs(cohort: SyntheticEcgs) -> None:
    assert (synthetic_ecgs(1, seed=8).counts != cohort.counts[:1]).any()


def test_synthetic_ecgs__none_are_asked_for() -> None:
    assert synthetic_ecgs(0, seed=1).counts.shape == (0, 12, 5000)


@pytest.mark.parametrize(("n", "seed", "start"), [(-1, 1, 0), (1, -1, 0), (1, 1, -1)])
def test_synthetic_ecgs__refuses_negative_arguments(n: int, seed: int, start: int) -> None:
    with pytest.raises(ValueError, match=f"are {n}, {seed}, {start}; expected 0 or more"):
        synthetic_ecgs(n, seed, start)


def test_synthetic_ecgs__all_may_be_scored(cohort: SyntheticEcgs) -> None:
    assert scorable(cohort.counts, cohort.uv_per_count) == [None] * 200


def test_synthetic_ecgs__leads_obey_einthoven_and_goldberger(cohort: SyntheticEcgs) -> None:
    i, ii = _lead(cohort, "I"), _lead(cohort, "II")
    np.testing.assert_array_equal(_lead(cohort, "III"), ii - i)
    np.testing.assert_allclose(_lead(cohort, "aVR"), -(i + ii) / 2, rtol=0, atol=0.5)
    np.testing.assert_allclose(_lead(cohort, "aVL"), i - ii / 2, rtol=0, atol=0.5)
    np.testing.assert_allclose(_lead(cohort, "aVF"), ii - i / 2, rtol=0, atol=0.5)


def test_synthetic_ecgs__lead_ii_is_about_1_mv(cohort: SyntheticEcgs) -> None:
    peak_to_peak_uv = 5 * np.ptp(_lead(cohort, "II"), axis=1)
    assert 800 < np.median(peak_to_peak_uv) < 1400


def test_synthetic_ecgs__r_grows_and_s_shrinks_over_the_chest(cohort: SyntheticEcgs) -> None:
    r_uv = {lead: np.median(_lead(cohort, lead).max(axis=1)) for lead in ("V1", "V3", "V5")}
    s_uv = {lead: np.median(-_lead(cohort, lead).min(axis=1)) for lead in ("V1", "V3", "V5")}
    assert r_uv["V1"] < r_uv["V3"] < r_uv["V5"]
    assert s_uv["V5"] < s_uv["V1"]
    assert s_uv["V5"] < s_uv["V3"]


def test_synthetic_ecgs__heart_rates_are_those_of_people_at_rest(cohort: SyntheticEcgs) -> None:
    lead_v5 = _lead(cohort, "V5")
    beats = [len(find_peaks(s, height=0.6 * s.max(), distance=150)[0]) for s in lead_v5]
    assert 55 < 6 * np.median(beats) < 70
    assert 36 <= 6 * min(beats)
    assert 6 * max(beats) <= 114


def test_synthetic_ecgs__the_heart_rate_varies(cohort: SyntheticEcgs) -> None:
    signal = _lead(cohort, "V5")[0]
    peaks, _ = find_peaks(signal, height=0.6 * signal.max(), distance=150)
    assert 0.005 < np.diff(peaks).std() / np.diff(peaks).mean() < 0.10


def test_synthetic_ecgs__people_are_plausible(cohort: SyntheticEcgs) -> None:
    bmi = bmi_kg_m2(cohort.height_cm, cohort.weight_kg)
    assert not AGE_RANGE_YEARS.is_outside(cohort.age_years).any()
    assert not HEIGHT_RANGE_CM.is_outside(cohort.height_cm).any()
    assert not WEIGHT_RANGE_KG.is_outside(cohort.weight_kg).any()
    assert not BMI_RANGE_KG_M2.is_outside(bmi).any()
    np.testing.assert_array_equal(cohort.age_years, np.floor(cohort.age_years))


def test_synthetic_ecgs__both_sexes_and_taller_men(cohort: SyntheticEcgs) -> None:
    is_male = np.array([sex is Sex.MALE for sex in cohort.sex])
    assert 0.3 < is_male.mean() < 0.7
    assert cohort.height_cm[is_male].mean() > cohort.height_cm[~is_male].mean() + 8
