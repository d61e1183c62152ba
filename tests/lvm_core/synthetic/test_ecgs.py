import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.signal import find_peaks

from lvm_core.medicine.body import bmi_kg_m2
from lvm_core.medicine.lvh import Sex
from lvm_core.signal.ecg import LEADS_12
from lvm_core.signal.plausibility import judge_ecgs
from lvm_core.signal.quality import AGE_RANGE_YEARS, BMI_RANGE_KG_M2, HEIGHT_RANGE_CM, WEIGHT_RANGE_KG
from lvm_core.signal.scale import qrs_amplitude_uv
from lvm_core.synthetic.ecgs import SyntheticEcgs, ecgs_of, synthetic_ecgs
from lvm_core.synthetic.people import SyntheticPeople, synthetic_people

_STEPS = np.full(40, 5.0, dtype=np.float32)


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
    judgements = judge_ecgs(cohort.counts, cohort.uv_per_count)
    assert all(judgement.rejection is None for judgement in judgements)
    assert sum(bool(judgement.flags) for judgement in judgements) <= 2


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


def _nothing_special() -> dict[str, np.ndarray]:
    codes = ("rhythm", "conduction", "misplacement")
    return {name: np.zeros(40, dtype=np.int8) for name in codes} | {"ectopic_share": np.zeros(40)}


def _with(**changes: np.ndarray) -> SyntheticPeople:
    values: dict[str, Any] = _nothing_special() | changes
    return dataclasses.replace(synthetic_people(40, seed=3), **values)


def _codes(value: int) -> np.ndarray:
    return np.full(40, value, dtype=np.int8)


def _median_qrs_uv(people: SyntheticPeople) -> float:
    return float(np.median(qrs_amplitude_uv(ecgs_of(people).counts[:, 1], _STEPS)))


def test_ecgs_of__voltage_and_duration_grow_with_mass_and_fat_weakens() -> None:
    mass_g = np.full(40, 80.0)
    light, heavy = (_with(lvm_true_g=factor * mass_g) for factor in (1.0, 2.0))
    assert _median_qrs_uv(heavy) > 1.3 * _median_qrs_uv(light)
    durations = [np.nanmean(ecgs_of(p).measurements["qrs_duration_ms"]) for p in (light, heavy)]
    assert durations[1] > 1.1 * durations[0]
    thin, fat = (_with(bmi_kg_m2=np.full(40, bmi)) for bmi in (20.0, 40.0))
    assert _median_qrs_uv(thin) > 1.15 * _median_qrs_uv(fat)


def test_ecgs_of__strain_turns_the_t_wave_of_v6() -> None:
    heavy = ecgs_of(_with(lvmi_true_g_m2=np.full(40, 120.0)))
    light = ecgs_of(_with(lvmi_true_g_m2=np.full(40, 45.0)))
    assert _median_t_uv(heavy) < 0 < _median_t_uv(light)


def _median_t_uv(made: SyntheticEcgs) -> float:
    """Return the median of V6 about 290 ms after R, from the median of the lead."""
    values = []
    for signal in _lead(made, "V6"):
        peaks, _ = find_peaks(signal, height=0.6 * signal.max(), distance=150)
        inside = peaks[peaks < 4840]
        values.append(np.median(signal[inside + 145]) - np.median(signal))
    return 5 * float(np.median(values))


def test_ecgs_of__fibrillation_is_irregular_and_bundle_branch_block_wide() -> None:
    sinus, fibrillating = ecgs_of(_with()), ecgs_of(_with(rhythm=_codes(1)))
    assert _median_irregularity(fibrillating) > 3 * _median_irregularity(sinus)
    usual_ms = np.nanmean(sinus.measurements["qrs_duration_ms"])
    for block in (1, 2):
        blocked = ecgs_of(_with(conduction=_codes(block)))
        assert np.nanmean(blocked.measurements["qrs_duration_ms"]) > usual_ms + 30


def _median_irregularity(made: SyntheticEcgs) -> float:
    spreads = []
    for signal in _lead(made, "V5"):
        peaks, _ = find_peaks(signal, height=0.6 * signal.max(), distance=100)
        spreads.append(np.diff(peaks).std() / np.diff(peaks).mean())
    return float(np.median(spreads))


def test_ecgs_of__extrasystoles_are_wide_and_early() -> None:
    ectopic = ecgs_of(_with(ectopic_share=np.full(40, 0.2)))
    assert _median_irregularity(ectopic) > 0.1


def test_ecgs_of__exchanged_arms_negate_lead_i_and_exchange_avl_and_avr() -> None:
    right, wrong = ecgs_of(_with()), ecgs_of(_with(misplacement=_codes(1)))
    for lead, other, sign in (("I", "I", -1), ("II", "III", 1), ("aVL", "aVR", 1), ("V3", "V3", 1)):
        np.testing.assert_allclose(_lead(wrong, lead), sign * _lead(right, other), rtol=0, atol=1.5)


def test_ecgs_of__high_electrodes_weaken_r_in_v1_and_v2() -> None:
    right, wrong = ecgs_of(_with()), ecgs_of(_with(misplacement=_codes(2)))
    assert (_lead(wrong, "V2").min(axis=1) > _lead(right, "V2").min(axis=1)).mean() > 0.5
    np.testing.assert_array_equal(_lead(wrong, "V5"), _lead(right, "V5"))


def test_ecgs_of__repeats_are_other_recordings_of_the_same_heart() -> None:
    people = _with()
    first, second = ecgs_of(people), ecgs_of(people, repeat=1)
    assert (first.counts != second.counts).any(axis=(1, 2)).all()
    assert not set(first.ecg_id) & set(second.ecg_id)
    years = (second.recorded_at - first.recorded_at) / np.timedelta64(365, "D")
    assert ((years > 1.8) & (years < 2.2)).all()
    amplitudes = [qrs_amplitude_uv(made.counts[:, 1], _STEPS) for made in (first, second)]
    assert np.corrcoef(amplitudes[0], amplitudes[1])[0, 1] > 0.9


def test_ecgs_of__refuses_a_negative_repeat() -> None:
    with pytest.raises(ValueError, match="repeat is -1; expected 0 or more"):
        ecgs_of(_with(), repeat=-1)


def test_ecgs_of__the_device_measures_what_is_in_the_signal() -> None:
    made = ecgs_of(_with())
    peaks_uv = 5.0 * np.median(np.sort(_lead(made, "V5"), axis=1)[:, -40:], axis=1)
    r_v5_uv = made.measurements["r_v5_uv"]
    known = np.isfinite(r_v5_uv)
    assert np.corrcoef(peaks_uv[known], r_v5_uv[known])[0, 1] > 0.9


def test_ecgs_of__some_devices_measure_nothing() -> None:
    missing = np.isnan(synthetic_ecgs(400, seed=7).measurements["r_avl_uv"])
    assert 0 < missing.sum() < 20
