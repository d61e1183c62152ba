import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import LEADS_12
from lvm_core.signal.plausibility import (
    Judgement,
    LimbLeads,
    is_about_scale,
    judge_ecgs,
    lead_amplitudes,
    refuse_implausible_scale,
    refuse_standardised,
    unscorable,
)
from lvm_core.signal.quality import Rejection
from tests import builders

_V1, _V3, _V6 = 6, 8, 11


def _reason(judgement: Judgement) -> RejectReason | None:
    return None if judgement.rejection is None else judgement.rejection.reason


def _only(counts: np.ndarray, uv_per_count: float = 5.0) -> Rejection:
    """Return the rejection of one ECG."""
    rejection = unscorable(counts, uv_per_count)
    assert rejection is not None
    return rejection


def _scaled_lead_by_lead(spread: float) -> np.ndarray:
    """Return (12, 5000) counts with standard deviations from 4000 to 4000 * spread."""
    noise = np.random.default_rng(3).standard_normal((12, 5000))
    noise = (noise - noise.mean(axis=1, keepdims=True)) / noise.std(axis=1, keepdims=True)
    counts: np.ndarray = np.rint(noise * 4000 * np.linspace(1, spread, 12)[:, None])
    return counts.astype(np.int16)


def test_judge_ecgs__real_looking_ecgs_pass() -> None:
    assert judge_ecgs(builders.counts_block(20), builders.steps(20)) == [Judgement(None)] * 20


def test_judge_ecgs__answers_for_each_ecg() -> None:
    counts = builders.counts_block(3)
    counts[1, _V3] = 0
    reasons = [_reason(judgement) for judgement in judge_ecgs(counts, builders.steps(3))]
    assert reasons == [None, RejectReason.LEAD_FLAT, None]


def test_judge_ecgs__nothing_gives_nothing() -> None:
    assert judge_ecgs(np.zeros((0, 12, 5000), dtype=np.int16), builders.steps(0)) == []


def test_judge_ecgs__no_signal_at_all_is_all_zero() -> None:
    rejection = _only(np.zeros((12, 5000), dtype=np.int16))
    assert rejection.reason is RejectReason.LEAD_ALL_ZERO
    assert rejection.message.startswith("all twelve leads are 0 uV over 5000 samples")


@pytest.mark.parametrize(("constant", "value"), [(0, "0 uV"), (-7, "-35 uV"), (32767, "163835 uV")])
def test_judge_ecgs__constant_lead_is_flat_whatever_the_constant(constant: int, value: str) -> None:
    counts = builders.counts_block(1)[0]
    counts[_V3] = constant
    expected = f"lead V3 is constant at {value} over 5000 samples"
    assert _only(counts) == (RejectReason.LEAD_FLAT, expected)


def test_judge_ecgs__several_flat_leads_are_all_named() -> None:
    counts = builders.counts_block(1)[0]
    counts[[0, _V3]] = [[1], [0]]
    expected = "leads I at 5 uV, V3 at 0 uV are constant over 5000 samples"
    assert _only(counts).message == expected


def test_judge_ecgs__all_leads_constant_but_not_zero_is_flat() -> None:
    assert _only(np.ones((12, 5000), dtype=np.int16)).reason is RejectReason.LEAD_FLAT


def test_judge_ecgs__one_differing_sample_is_not_flat() -> None:
    counts = builders.counts_block(1)
    counts[0, _V3] = 0
    counts[0, _V3, 2500] = 1
    assert _reason(judge_ecgs(counts, builders.steps(1))[0]) is RejectReason.LEAD_OUT_OF_PROPORTION


@pytest.mark.parametrize("spread", [1.0, 1.009])
def test_judge_ecgs__equal_standard_deviations_are_standardised(spread: float) -> None:
    rejection = _only(_scaled_lead_by_lead(spread))
    assert rejection.reason is RejectReason.LEAD_STANDARDISED
    assert "standard deviations of the twelve leads agree within" in rejection.message


def test_judge_ecgs__standard_deviations_over_1_percent_apart_pass() -> None:
    counts = _scaled_lead_by_lead(1.011)
    assert _only(counts).reason is not RejectReason.LEAD_STANDARDISED


def test_judge_ecgs__standardised_in_spite_of_an_offset() -> None:
    counts = _scaled_lead_by_lead(1.0) // 4
    counts += np.arange(0, 24000, 2000, dtype=np.int16)[:, None]
    assert _only(counts).reason is RejectReason.LEAD_STANDARDISED


@pytest.mark.parametrize("step_uv", [0.0, -5.0, float("nan"), float("inf")])
def test_judge_ecgs__step_that_is_none_is_not_finite(step_uv: float) -> None:
    expected = f"uv_per_count is {step_uv:g} uV, expected a finite value above 0"
    assert _only(builders.counts_block(1)[0], step_uv) == (RejectReason.NON_FINITE, expected)


@pytest.mark.parametrize("shape", [(12, 5000), (1, 8, 5000), (1, 12, 0)])
def test_judge_ecgs__refuses_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"counts has shape .*, expected \(n, 12, n_samples\)"):
        judge_ecgs(np.zeros(shape, dtype=np.int16), builders.steps(1))


def test_judge_ecgs__refuses_floats() -> None:
    with pytest.raises(ValueError, match="counts is float32, expected int16"):
        judge_ecgs(np.zeros((1, 12, 10), dtype=np.float32), builders.steps(1))


def test_judge_ecgs__refuses_another_number_of_steps() -> None:
    with pytest.raises(ValueError, match=r"uv_per_count has shape \(1,\), expected \(2,\)"):
        judge_ecgs(builders.counts_block(2), builders.steps(1))


def _beats_uv(amplitudes_uv: dict[str, float], beats_per_minute: int = 60) -> np.ndarray:
    """Return (12, 5000) microvolts: one QRS of 80 ms a beat with these amplitudes, limb leads true.

    The amplitudes are those of I, II and the chest leads; III, aVR, aVL and aVF follow from I and
    II. The wave is a triangle, so that its height is exact at a sample.
    """
    wave = np.concatenate([np.linspace(0, 1, 21), np.linspace(1, 0, 21)[1:]])
    shape = np.zeros(5000)
    for start in range(100, 5000 - len(wave), 30000 // beats_per_minute):
        shape[start : start + len(wave)] = wave
    i_uv, ii_uv = amplitudes_uv["I"], amplitudes_uv["II"]
    limb = {"III": ii_uv - i_uv, "aVR": -(i_uv + ii_uv) / 2, "aVL": i_uv - ii_uv / 2, "aVF": ii_uv - i_uv / 2}
    heights = {**amplitudes_uv, **limb}
    return np.stack([shape * heights[lead] for lead in LEADS_12])


_ORDINARY_UV = {
    "I": 800.0,
    "II": 1200.0,
    "V1": 1000.0,
    "V2": 1600.0,
    "V3": 1800.0,
    "V4": 2000.0,
    "V5": 1600.0,
    "V6": 1200.0,
}


def _judged(leads_uv: np.ndarray, step_uv: float = 1.0) -> Judgement:
    counts = np.rint(leads_uv / step_uv).astype(np.int16)
    (judgement,) = judge_ecgs(counts[None], builders.steps(1, step_uv))
    return judgement


def _scaled(factor: float) -> np.ndarray:
    return _beats_uv({lead: factor * uv for lead, uv in _ORDINARY_UV.items()})


def _with_lead(lead: str, factor: float, offset_uv: float = 0.0) -> np.ndarray:
    leads_uv = _beats_uv(_ORDINARY_UV)
    leads_uv[LEADS_12.index(lead)] *= factor
    leads_uv[LEADS_12.index(lead)] += offset_uv
    return leads_uv


# Of the made ECG: leads 800, 1200, 400, 1000, 200, 800, 1000, 1600, 1800, 2000, 1600, 1200 uV, so
# that the median is 1100 uV, by hand.
_MEDIAN_UV = 1100.0


def test_judge_ecgs__an_ordinary_ecg_has_no_remark() -> None:
    assert _judged(_beats_uv(_ORDINARY_UV)) == Judgement(None)


@pytest.mark.parametrize(
    ("median_uv", "flags"), [(349, ("amplitude_unusual",)), (351, ()), (2999, ()), (3001, ("amplitude_unusual",))]
)
def test_judge_ecgs__median_amplitude_beyond_350_to_3000_uv_is_unusual(
    median_uv: float, flags: tuple[str, ...]
) -> None:
    assert _judged(_scaled(median_uv / _MEDIAN_UV), 0.25) == Judgement(None, flags)


@pytest.mark.parametrize(
    ("median_uv", "reason"),
    [(99, RejectReason.AMPLITUDE_IMPLAUSIBLE), (101, None), (5999, None), (6001, RejectReason.AMPLITUDE_IMPLAUSIBLE)],
)
def test_judge_ecgs__median_amplitude_beyond_100_to_6000_uv_is_rejected(
    median_uv: float, reason: RejectReason | None
) -> None:
    assert _reason(_judged(_scaled(median_uv / _MEDIAN_UV), 0.5)) is reason


def test_judge_ecgs__names_the_likely_cause_of_a_scale() -> None:
    rejection = _judged(_scaled(1000), 100.0).rejection
    assert rejection is not None
    assert rejection.message == (
        "median amplitude of the leads is 1.1e+06 uV, expected 100 to 6,000 uV; it looks 1,000 "
        "times too large: were microvolts read as millivolts? Correct the unit or the gain at the "
        "source"
    )


def test_judge_ecgs__a_lead_beyond_10_and_20_mv() -> None:
    two_large = {**_ORDINARY_UV, "V3": 9000.0}
    for v2_uv, flags in ((9900.0, ()), (10100.0, ("amplitude_unusual",))):
        chest = {**two_large, "V1": 3000.0, "V2": v2_uv, "V4": 4000.0}
        assert _judged(_beats_uv(chest)).flags == flags
    at_most = {**_ORDINARY_UV, "V1": 6000.0, "V2": 19900.0, "V3": 9000.0, "V4": 4000.0}
    assert _judged(_beats_uv(at_most), 2.0).rejection is None
    beyond = _judged(_beats_uv({**at_most, "V2": 20100.0}), 2.0).rejection
    assert beyond == (
        RejectReason.AMPLITUDE_IMPLAUSIBLE,
        "lead V2 has an amplitude of 20,100 uV, expected at most 20,000 uV; correct the unit or the gain at the source",
    )


@pytest.mark.parametrize("step_uv", [1e30, 101.0, 0.0009])
def test_judge_ecgs__a_step_of_no_converter_is_rejected(step_uv: float) -> None:
    rejection = unscorable(builders.counts_block(1)[0], step_uv)
    assert rejection == (
        RejectReason.AMPLITUDE_IMPLAUSIBLE,
        f"uv_per_count is {step_uv:g} uV, expected 0.001 to 100 uV; the scale cannot be right, "
        "correct it at the source",
    )


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (2.9, Judgement(None)),
        (3.1, Judgement(None, ("lead_out_of_proportion",))),
        (5.9, Judgement(None, ("amplitude_unusual", "lead_out_of_proportion"))),
    ],
)
def test_judge_ecgs__a_lead_three_times_the_next_is_flagged(ratio: float, expected: Judgement) -> None:
    # V3 is 1,800 uV and the largest of the others 2,000 uV, so V6 becomes a multiple of that.
    assert _judged(_with_lead("V6", ratio * 2000 / 1200)) == expected


def test_judge_ecgs__a_lead_six_times_the_next_is_rejected() -> None:
    assert _judged(_with_lead("V6", 6.1 * 2000 / 1200)).rejection == (
        RejectReason.LEAD_OUT_OF_PROPORTION,
        "lead V6 has an amplitude of 12,200 uV, 6.1 times that of the next largest lead, expected "
        "at most 6 times; correct the gain of the lead at the source",
    )


@pytest.mark.parametrize(
    ("lead", "factor", "flags"),
    [
        ("V3", 0.90, ()),
        ("V3", 0.20, ("lead_out_of_proportion",)),  # 360 uV beside 1,600 uV: 0.225
        ("V3", 0.25, ()),  # 450 uV beside 1,600 uV: 0.28
        ("V1", 0.20, ()),  # 200 uV beside 1,600 uV: 0.125
        ("V1", 0.18, ("lead_out_of_proportion",)),
    ],
)
def test_judge_ecgs__a_chest_lead_far_below_its_neighbours_is_flagged(
    lead: str, factor: float, flags: tuple[str, ...]
) -> None:
    assert _judged(_with_lead(lead, factor)) == Judgement(None, flags)


def test_judge_ecgs__a_chest_lead_of_two_per_cent_is_rejected() -> None:
    rejection = _judged(_with_lead("V3", 0.0167), 0.25).rejection  # 30 uV beside 1,600 uV
    assert rejection is not None
    assert rejection.reason is RejectReason.LEAD_OUT_OF_PROPORTION
    assert "lead V3 has an amplitude of 30 uV, 0.019 times that of its smaller" in rejection.message
    assert _judged(_with_lead("V3", 0.02), 0.25).rejection is None  # 36 uV


def test_judge_ecgs__limb_leads_twice_the_chest_leads_are_flagged() -> None:
    for factor, flags in ((3.3, ()), (3.4, ("lead_out_of_proportion",))):
        limb = {"I": 800.0 * factor, "II": 1200.0 * factor}  # V4 is 2,000 uV
        judged = _judged(_beats_uv({**_ORDINARY_UV, **limb}))
        assert [f for f in judged.flags if f == "lead_out_of_proportion"] == list(flags)


def test_judge_ecgs__slow_hearts_and_single_spikes_do_not_move_an_amplitude() -> None:
    slow = _beats_uv(_ORDINARY_UV, beats_per_minute=30)
    spiked = slow.copy()
    spiked[_V3, [500, 2900]] = 30000.0
    for leads_uv in (slow, spiked):
        (amplitudes_uv,) = lead_amplitudes(leads_uv[None], 500)
        assert amplitudes_uv[_V3] == pytest.approx(1800.0)
        assert _judged(leads_uv) == Judgement(None)


def test_lead_amplitudes__short_recordings_are_one_piece() -> None:
    samples = np.zeros((1, 12, 30))
    samples[0, :, 3], samples[0, :, 20] = -10.0, 15.0
    assert lead_amplitudes(samples, 500).tolist() == [[25.0] * 12]


def test_limb_leads__are_zero_where_leads_follow() -> None:
    i = np.array([10, -20, 30, 50], dtype=np.int16) * 2
    ii = np.array([40, 10, -30, 20], dtype=np.int16) * 2
    counts = np.zeros((1, 12, 4), dtype=np.int16)
    counts[0, :6] = [i, ii, ii - i, -(i + ii) // 2, i - ii // 2, ii - i // 2]
    limb = LimbLeads.of(counts, builders.steps(1))
    np.testing.assert_array_equal(limb.share, np.zeros((1, 4)))
    np.testing.assert_array_equal(limb.offset_uv, np.zeros((1, 4)))


def test_limb_leads__in_microvolts_and_as_a_share() -> None:
    # I is a square wave of 2 counts (SD 2), II is 0, and III, which should be -I, is 0: its
    # difference has the SD 2. aVF is right but for its mean, which is 3 counts.
    i = np.array([2, -2, 2, -2], dtype=np.int16)
    counts = np.zeros((1, 12, 4), dtype=np.int16)
    counts[0, :6] = [i, 0 * i, 0 * i, -i // 2, i, 3 - i // 2]
    limb = LimbLeads.of(counts, builders.steps(1, 5.0))
    assert limb.difference_uv.tolist() == [[10.0, 0.0, 0.0, 0.0]]
    assert limb.share.tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert limb.offset_uv.tolist() == [[0.0, 0.0, 0.0, 15.0]]


@pytest.mark.parametrize("pair", [("I", "II"), ("I", "aVR"), ("II", "aVR"), ("aVR", "aVF")])
def test_judge_ecgs__swapped_limb_leads_are_rejected(pair: tuple[str, str]) -> None:
    leads_uv = _beats_uv(_ORDINARY_UV)
    a, b = (LEADS_12.index(lead) for lead in pair)
    leads_uv[[a, b]] = leads_uv[[b, a]]
    assert _reason(_judged(leads_uv)) is RejectReason.LIMB_LEADS_INCONSISTENT


@pytest.mark.parametrize(
    ("excess", "reason", "flags"),
    [(0.09, None, ()), (0.11, None, ("limb_leads_inconsistent",)), (0.59, None, ("limb_leads_inconsistent",))],
)
def test_judge_ecgs__limb_leads_off_by_a_tenth_of_the_largest_are_flagged(
    excess: float, reason: RejectReason | None, flags: tuple[str, ...]
) -> None:
    # II is the largest limb lead, 1,200 uV. What is added to aVF (800 uV) makes the difference, and
    # all leads have one shape, so that heights stand for standard deviations.
    judged = _judged(_with_lead("aVF", (800 - excess * 1200) / 800), 0.5)
    assert (_reason(judged), judged.flags) == (reason, flags)


def test_judge_ecgs__limb_leads_off_by_over_60_per_cent_are_rejected() -> None:
    rejection = _judged(_with_lead("aVF", (800 - 0.61 * 1200) / 800), 0.5).rejection
    assert rejection is not None
    assert rejection.reason is RejectReason.LIMB_LEADS_INCONSISTENT
    assert rejection.message.startswith("lead aVF differs from what I and II give by ")
    assert ", 61% of the largest limb lead (standard deviations), expected below 60%" in (rejection.message)


def test_judge_ecgs__rounding_of_devices_is_no_inconsistency() -> None:
    # A small ECG, whose derived leads are stored up to 20 uV away from the algebra.
    leads_uv = _scaled(0.33)
    leads_uv[2:6] += np.random.default_rng(1).uniform(-20, 20, (4, 5000))
    assert "limb_leads_inconsistent" not in _judged(leads_uv).flags
    leads_uv[2:6] += np.random.default_rng(2).uniform(-30, 30, (4, 5000))
    assert "limb_leads_inconsistent" in _judged(leads_uv).flags


def test_judge_ecgs__moved_baseline_of_a_limb_lead_is_inconsistent() -> None:
    assert _judged(_with_lead("aVL", 1.0, 99.0)) == Judgement(None)
    assert _judged(_with_lead("aVL", 1.0, 101.0)).flags == ("limb_leads_inconsistent",)


def test_judge_ecgs__moved_baseline_of_a_chest_lead_is_flagged() -> None:
    # The mean of the triangles of V6 is 1,200 uV * 20 / 500 = 48 uV.
    assert _judged(_with_lead("V6", 1.0, 1940.0)) == Judgement(None)
    assert _judged(_with_lead("V6", 1.0, 1965.0)).flags == ("baseline_offset",)


def test_judge_ecgs__judges_each_ecg_by_itself() -> None:
    counts = np.concatenate([builders.counts_block(3), builders.counts_block(3)])
    steps = np.array([5.0, 5000.0, 5.0, np.nan, 30.0, 5.0], dtype=np.float32)
    together = judge_ecgs(counts, steps)
    alone = [judge_ecgs(counts[i : i + 1], steps[i : i + 1])[0] for i in range(6)]
    assert together == alone
    assert [_reason(j) for j in together] == [
        None,
        RejectReason.AMPLITUDE_IMPLAUSIBLE,
        None,
        RejectReason.NON_FINITE,
        *[None] * 2,
    ]


@given(st.integers(0, 10_000), st.floats(0.8, 1.25))
@settings(max_examples=20, deadline=None)
def test_judge_ecgs__synthetic_ecgs_of_any_calibration_pass(seed: int, gain: float) -> None:
    (judgement,) = judge_ecgs(builders.counts_block(1, seed), builders.steps(1, 5.0 * gain))
    assert judgement.rejection is None


def test_judgement__has_signal_unless_there_is_none_in_volts() -> None:
    counts = np.concatenate([builders.counts_block(1)] * 4)
    counts[1, _V3], counts[2, [0, 1]] = 0, counts[2, [1, 0]]
    steps = np.array([5.0, 5.0, 5.0, 5000.0], dtype=np.float32)
    assert [judgement.has_signal for judgement in judge_ecgs(counts, steps)] == [True, False, True, True]
    assert [is_about_scale(reason) for reason in ("lead_flat", "amplitude_implausible")] == [False, True]


def test_refuse_implausible_scale__says_what_the_judgement_of_counts_says() -> None:
    for leads_uv in (_scaled(1e-3), _scaled(1e3), _with_lead("V6", 100.0)):
        judged = _judged(leads_uv, 0.05 if leads_uv.max() < 100 else 80.0).rejection
        assert judged is not None
        with pytest.raises(EcgRejected) as caught:
            refuse_implausible_scale(leads_uv.T.astype(np.float32), 500)
        assert caught.value.reason is judged.reason


def test_refuse_implausible_scale__accepts_ordinary_recordings_of_any_rate() -> None:
    refuse_implausible_scale(builders.leads_uv(), 500)
    refuse_implausible_scale(builders.leads_uv()[::2], 250)


def test_refuse_implausible_scale__leaves_leads_without_signal_to_scoring() -> None:
    refuse_implausible_scale(np.zeros((5000, 12), dtype=np.float32), 500)
    one_flat = builders.leads_uv()
    one_flat[:, _V1] = 3.0
    refuse_implausible_scale(one_flat, 500)


@pytest.mark.parametrize(("wider", "refused"), [(1.0, True), (1.009, True), (1.011, False)])
def test_refuse_standardised__leads_of_one_standard_deviation(wider: float, refused: bool) -> None:
    samples = np.random.default_rng(1).standard_normal((8, 500))
    samples /= samples.std(axis=1, keepdims=True)
    samples[3] *= wider
    if not refused:
        refuse_standardised(samples)
        return
    with pytest.raises(EcgRejected, match="standard deviations of the 8 leads agree within") as caught:
        refuse_standardised(samples)
    assert caught.value.reason is RejectReason.LEAD_STANDARDISED


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_refuse_standardised__what_has_no_standard_deviation_is_left(value: float) -> None:
    refuse_standardised(np.full((8, 50), value))
