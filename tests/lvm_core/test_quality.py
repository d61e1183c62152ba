import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.quality import (
    AGE_RANGE_YEARS,
    BMI_RANGE_KG_M2,
    HEIGHT_RANGE_CM,
    WEIGHT_RANGE_KG,
    AmplitudeHistogram,
    PlausibleRange,
    Rejection,
    check_age_years,
    check_bmi_kg_m2,
    check_finite,
    non_finite_message,
    qrs_amplitude_uv,
    scale_verdict,
    scorable,
)
from tests import builders

_V3 = 8


def _only(counts: np.ndarray, uv_per_count: float = 5.0) -> Rejection:
    """Return the rejection of one ECG."""
    (rejection,) = scorable(counts[None], builders.steps(1, uv_per_count))
    assert rejection is not None
    return rejection


def _scaled_lead_by_lead(spread: float) -> np.ndarray:
    """Return (12, 5000) counts with standard deviations from 4000 to 4000 * spread."""
    noise = np.random.default_rng(3).standard_normal((12, 5000))
    noise = (noise - noise.mean(axis=1, keepdims=True)) / noise.std(axis=1, keepdims=True)
    counts: np.ndarray = np.rint(noise * 4000 * np.linspace(1, spread, 12)[:, None])
    return counts.astype(np.int16)


def test_scorable__real_looking_ecgs_pass() -> None:
    assert scorable(builders.counts_block(20), builders.steps(20)) == [None] * 20


def test_scorable__answers_for_each_ecg() -> None:
    counts = builders.counts_block(3)
    counts[1, _V3] = 0
    reasons = [r and r.reason for r in scorable(counts, builders.steps(3))]
    assert reasons == [None, RejectReason.LEAD_FLAT, None]


def test_scorable__nothing_gives_nothing() -> None:
    assert scorable(np.zeros((0, 12, 5000), dtype=np.int16), builders.steps(0)) == []


def test_scorable__no_signal_at_all_is_all_zero() -> None:
    rejection = _only(np.zeros((12, 5000), dtype=np.int16))
    assert rejection.reason is RejectReason.LEAD_ALL_ZERO
    assert rejection.message.startswith("all twelve leads are 0 uV over 5000 samples")


@pytest.mark.parametrize(("constant", "value"), [(0, "0 uV"), (-7, "-35 uV"), (32767, "163835 uV")])
def test_scorable__constant_lead_is_flat_whatever_the_constant(constant: int, value: str) -> None:
    counts = builders.counts_block(1)[0]
    counts[_V3] = constant
    expected = f"lead V3 is constant at {value} over 5000 samples"
    assert _only(counts) == (RejectReason.LEAD_FLAT, expected)


def test_scorable__several_flat_leads_are_all_named() -> None:
    counts = builders.counts_block(1)[0]
    counts[[0, _V3]] = [[1], [0]]
    expected = "leads I at 5 uV, V3 at 0 uV are constant over 5000 samples"
    assert _only(counts).message == expected


def test_scorable__all_leads_constant_but_not_zero_is_flat() -> None:
    assert _only(np.ones((12, 5000), dtype=np.int16)).reason is RejectReason.LEAD_FLAT


def test_scorable__one_differing_sample_is_not_flat() -> None:
    counts = builders.counts_block(1)
    counts[0, _V3] = 0
    counts[0, _V3, 2500] = 1
    assert scorable(counts, builders.steps(1)) == [None]


@pytest.mark.parametrize("spread", [1.0, 1.009])
def test_scorable__equal_standard_deviations_are_standardised(spread: float) -> None:
    rejection = _only(_scaled_lead_by_lead(spread))
    assert rejection.reason is RejectReason.LEAD_STANDARDISED
    assert "standard deviations of the twelve leads agree within" in rejection.message


def test_scorable__standard_deviations_over_1_percent_apart_pass() -> None:
    counts = _scaled_lead_by_lead(1.011)
    assert scorable(counts[None], builders.steps(1)) == [None]


def test_scorable__standardised_in_spite_of_an_offset() -> None:
    counts = _scaled_lead_by_lead(1.0) // 4
    counts += np.arange(0, 24000, 2000, dtype=np.int16)[:, None]
    assert _only(counts).reason is RejectReason.LEAD_STANDARDISED


@pytest.mark.parametrize("step_uv", [0.0, -5.0, float("nan"), float("inf")])
def test_scorable__step_that_is_none_is_not_finite(step_uv: float) -> None:
    expected = f"uv_per_count is {step_uv:g} uV, expected a finite value above 0"
    assert _only(builders.counts_block(1)[0], step_uv) == (RejectReason.NON_FINITE, expected)


@pytest.mark.parametrize("shape", [(12, 5000), (1, 8, 5000), (1, 12, 0)])
def test_scorable__refuses_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"counts has shape .*, expected \(n, 12, n_samples\)"):
        scorable(np.zeros(shape, dtype=np.int16), builders.steps(1))


def test_scorable__refuses_floats() -> None:
    with pytest.raises(ValueError, match="counts is float32, expected int16"):
        scorable(np.zeros((1, 12, 10), dtype=np.float32), builders.steps(1))


def test_scorable__refuses_another_number_of_steps() -> None:
    with pytest.raises(ValueError, match=r"uv_per_count has shape \(1,\), expected \(2,\)"):
        scorable(builders.counts_block(2), builders.steps(1))


def test_check_finite__finite_passes() -> None:
    check_finite(builders.leads_uv())


def test_check_finite__names_leads_and_numbers() -> None:
    leads_uv = builders.leads_uv()
    leads_uv[:3, 1] = np.nan
    leads_uv[7, _V3] = -np.inf
    with pytest.raises(EcgRejected, match=r"leads II \(3\), V3 \(1\) of 5000 samples") as caught:
        check_finite(leads_uv)
    assert caught.value.reason is RejectReason.NON_FINITE


def test_non_finite_message__leaves_good_leads_out() -> None:
    assert "leads aVR (2) of 10 samples" in non_finite_message([0, 0, 0, 2] + [0] * 8, 10)


def test_qrs_amplitude_uv__hand_made_signals() -> None:
    # 98 % of the samples at 0, 1 % at 200 counts, 1 % at -40: percentiles 0.5 and 99.5 are those.
    counts = np.zeros((2, 5000), dtype=np.int16)
    counts[:, :50], counts[:, 50:100] = 200, -40
    amplitudes = qrs_amplitude_uv(counts, np.array([5.0, 2.5], dtype=np.float32))
    np.testing.assert_allclose(amplitudes, [1200.0, 600.0], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("limits", "low", "high"),
    [
        (AGE_RANGE_YEARS, 18, 110),
        (BMI_RANGE_KG_M2, 10, 80),
        (HEIGHT_RANGE_CM, 100, 250),
        (WEIGHT_RANGE_KG, 25, 350),
    ],
)
def test_plausible_range__both_sides_of_both_limits(
    limits: PlausibleRange, low: float, high: float
) -> None:
    outside = limits.is_outside(np.array([low - 0.01, low, high, high + 0.01]))
    assert outside.tolist() == [True, False, False, True]


def test_plausible_range__unknown_is_not_outside() -> None:
    assert not HEIGHT_RANGE_CM.is_outside(float("nan"))


def test_plausible_range__message_names_value_and_limits() -> None:
    assert WEIGHT_RANGE_KG.message(999.0) == "weight_kg is 999, expected 25 to 350"


@pytest.mark.parametrize("age_years", [18.0, 63.4, 110.0])
def test_check_age_years__plausible_ages_pass(age_years: float) -> None:
    assert check_age_years(age_years) is None


@pytest.mark.parametrize("age_years", [17.99, 110.5, 760.0, -1.0, float("inf")])
def test_check_age_years__outside_is_out_of_range(age_years: float) -> None:
    expected = f"age_years is {age_years:g}, expected 18 to 110"
    assert check_age_years(age_years) == (RejectReason.AGE_OUT_OF_RANGE, expected)


@pytest.mark.parametrize("age_years", [None, float("nan")])
def test_check_age_years__unknown_is_missing(age_years: float | None) -> None:
    rejection = check_age_years(age_years)
    assert rejection is not None
    assert rejection.reason is RejectReason.AGE_MISSING


@pytest.mark.parametrize("bmi_kg_m2", [10.0, 27.3, 80.0])
def test_check_bmi_kg_m2__plausible_values_pass(bmi_kg_m2: float) -> None:
    assert check_bmi_kg_m2(bmi_kg_m2) is None


@pytest.mark.parametrize("bmi_kg_m2", [9.99, 80.01])
def test_check_bmi_kg_m2__outside_is_out_of_range(bmi_kg_m2: float) -> None:
    expected = f"bmi_kg_m2 is {bmi_kg_m2:g}, expected 10 to 80"
    assert check_bmi_kg_m2(bmi_kg_m2) == (RejectReason.BMI_OUT_OF_RANGE, expected)


def test_check_bmi_kg_m2__unknown_is_missing() -> None:
    rejection = check_bmi_kg_m2(None)
    assert rejection is not None
    assert rejection.reason is RejectReason.BMI_MISSING


@pytest.mark.parametrize("median_uv", [300.0, 1000.0, 3300.0])
def test_scale_verdict__plausible_inside_the_limits(median_uv: float) -> None:
    verdict = scale_verdict(median_uv)
    assert (verdict.plausible, verdict.times_too_large) == (True, None)


@pytest.mark.parametrize("median_uv", [299.9, 3300.1])
def test_scale_verdict__not_plausible_outside(median_uv: float) -> None:
    assert scale_verdict(median_uv).plausible is False


@pytest.mark.parametrize("true_uv", [720.0, 1000.0, 1350.0])
@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (5.0, "5 times too large: were microvolts read as counts of 5 uV"),
        (200.0, "200 times too large: were counts of 5 uV read as millivolts"),
        (1000.0, "1,000 times too large: were microvolts read as millivolts"),
        (1 / 5, "5 times too small: were counts of 5 uV read as microvolts"),
        (1e-3, "1,000 times too small: were millivolts read as microvolts"),
        (1e-4, "10,000 times too small: was the model's input"),
        (1e-6, "1,000,000 times too small: were volts read as microvolts"),
    ],
)
def test_scale_verdict__finds_the_usual_mistakes(factor: float, words: str, true_uv: float) -> None:
    verdict = scale_verdict(true_uv * factor)
    assert verdict.times_too_large == pytest.approx(factor, rel=1e-12)
    assert f"expected 300 to 3300 uV; it looks {words}" in verdict.message


@pytest.mark.parametrize("median_uv", [0.0, float("inf")])
def test_scale_verdict__no_factor_explains_zero_or_infinity(median_uv: float) -> None:
    verdict = scale_verdict(median_uv)
    assert (verdict.plausible, verdict.times_too_large) == (False, None)
    assert "no unit explains it" in verdict.message


def test_scale_verdict__nothing_measured_is_unknown() -> None:
    verdict = scale_verdict(float("nan"))
    assert (verdict.plausible, verdict.times_too_large) == (None, None)


def test_amplitude_histogram__empty_has_no_median() -> None:
    assert math.isnan(AmplitudeHistogram().median_uv())


def test_amplitude_histogram__is_202_integers_that_json_can_hold() -> None:
    histogram = AmplitudeHistogram().add(np.array([1000.0]))
    counts = histogram.to_list()
    assert (len(counts), sum(counts), {type(count) for count in counts}) == (202, 1, {int})
    assert AmplitudeHistogram.from_list(counts) == histogram


def test_amplitude_histogram__bins_are_a_20th_of_a_decade() -> None:
    edges_uv = [1000.0 * 10**0.001, 1000.0 * 10**0.049, 1000.0 * 10**0.051]
    counts = AmplitudeHistogram().add(np.array(edges_uv)).to_list()
    # 1000 uV is 5 decades above 0.01: 100 bins, and one below the first edge.
    assert {index: count for index, count in enumerate(counts) if count} == {101: 2, 102: 1}


def test_amplitude_histogram__does_not_count_what_is_not_finite() -> None:
    histogram = AmplitudeHistogram().add(np.array([np.nan, np.inf, 900.0]))
    assert histogram.n == 1


@given(st.lists(st.floats(0.02, 1e7), min_size=1, max_size=99).filter(lambda v: len(v) % 2 == 1))
@settings(deadline=None)
def test_amplitude_histogram__median_is_within_a_bin(values: list[float]) -> None:
    median_uv = AmplitudeHistogram().add(np.array(values)).median_uv()
    assert abs(math.log10(median_uv / np.median(values))) <= 1 / 20 + 1e-9


@given(
    st.lists(st.floats(0, 1e9), max_size=30),
    st.lists(st.floats(0, 1e9), max_size=30),
)
@settings(deadline=None)
def test_amplitude_histogram__merging_is_adding(first: list[float], second: list[float]) -> None:
    empty = AmplitudeHistogram()
    merged = empty.add(np.array(second)).merge(empty.add(np.array(first)))
    assert merged == empty.add(np.array(first + second))


def test_amplitude_histogram__median_below_the_first_edge_is_zero() -> None:
    assert AmplitudeHistogram().add(np.array([0.0, 0.0, 1000.0])).median_uv() == 0.0


def test_amplitude_histogram__median_above_the_last_edge_is_the_edge() -> None:
    assert AmplitudeHistogram().add(np.array([1e9])).median_uv() == pytest.approx(1e8)


@pytest.mark.parametrize("counts", [[], [1] * 201, [0] * 201 + [-1]])
def test_amplitude_histogram__refuses_other_counts(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="an amplitude histogram has 202 counts of 0 or more"):
        AmplitudeHistogram.from_list(counts)
