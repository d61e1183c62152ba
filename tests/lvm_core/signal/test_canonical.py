from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.canonical import (
    FINEST_STEP_UV,
    CanonicalEcg,
    canonicalise,
    filter_reach_samples,
    finest_step_uv,
    interpolate_missing,
    n_zero_samples_at_ends,
    resample_to_500_hz,
    signal_sha256,
    supported_rate_hz,
    without_filling,
)
from lvm_core.signal.ecg import Measurements
from lvm_core.signal.quality import QualityFlag
from tests import builders


def _rejection(**overrides: object) -> EcgRejected:
    with pytest.raises(EcgRejected) as caught:
        canonicalise(builders.ecg(**overrides))
    return caught.value


def _one_level(level_uv: float, **overrides: object) -> CanonicalEcg:
    """Return the canonical form of a recording whose lead V2 reaches `level_uv` once."""
    leads_uv = np.zeros((5000, 12), dtype=np.float32)
    leads_uv[1234, 7] = level_uv
    return canonicalise(builders.ecg(leads_uv=leads_uv, **overrides))


def test_canonicalise__ten_seconds_at_500_hz_are_kept_exactly() -> None:
    ecg = builders.ecg()
    stored = canonicalise(ecg)
    assert stored.counts.shape == (12, 5000)
    assert stored.counts.dtype == np.int16
    assert stored.counts.flags.c_contiguous
    assert (stored.uv_per_count, stored.quality_flags) == (5.0, ())
    assert stored.source_sampling_rate_hz == 500.0
    np.testing.assert_array_equal(stored.counts.T * np.float32(5.0), ecg.leads_uv)


@pytest.mark.parametrize("step_uv", [4.88, 2.44, 1.22, 0.305, 3.3, 1000 / 204.8, 1000 / 6553])
@pytest.mark.parametrize("limits", [(-32768, 32767), (-32767, 32767), (-32768, 0)])
def test_canonicalise__any_step_gives_the_source_counts_back(step_uv: float, limits: tuple[int, int]) -> None:
    low, high = np.clip((-1000 / step_uv, 1000 / step_uv), *limits).astype(int)
    counts = np.random.default_rng(1).integers(low, high, (5000, 12), endpoint=True)
    counts[0] = limits * 6
    ecg = builders.ecg(leads_uv=(counts * step_uv).astype(np.float32), step_uv=step_uv)
    stored = canonicalise(ecg)
    assert stored.uv_per_count == float(np.float32(step_uv))
    np.testing.assert_array_equal(stored.counts.T, counts)


def test_canonicalise__half_counts_of_derived_leads_are_exact() -> None:
    leads_uv = builders.leads_uv()
    leads_uv[:, 3] += 2.5
    stored = canonicalise(builders.ecg(leads_uv=leads_uv, leads_derived=True))
    assert stored.uv_per_count == 2.5
    assert stored.quality_flags == (QualityFlag.LEADS_DERIVED,)
    np.testing.assert_array_equal(stored.counts.T * np.float32(2.5), leads_uv)


@pytest.mark.parametrize(
    ("level_uv", "step_uv"), [(5 * 32767, 5.0), (5 * 32768, 10.0), (-5 * 32768, 5.0), (-5 * 32769, 10.0), (5e6, 160.0)]
)
def test_canonicalise__step_is_doubled_until_nothing_overflows(level_uv: float, step_uv: float) -> None:
    stored = _one_level(level_uv)
    assert stored.uv_per_count == step_uv
    assert abs(stored.counts[7, 1234] * step_uv - level_uv) <= step_uv / 2


def test_canonicalise__resampled_recordings_have_a_step_of_1_25_uv() -> None:
    leads_uv = builders.tone_uv(10.0, 250)
    stored = canonicalise(builders.ecg(leads_uv=leads_uv, sampling_rate_hz=250.0))
    assert (stored.uv_per_count, stored.source_sampling_rate_hz) == (1.25, 250.0)
    assert stored.quality_flags == (QualityFlag.RESAMPLED,)
    expected_uv = builders.tone_uv(10.0, 500).T
    np.testing.assert_allclose(stored.counts * 1.25, expected_uv, rtol=0, atol=5.0)


@pytest.mark.parametrize("n_samples", [4990, 4999])
def test_canonicalise__a_few_missing_samples_repeat_the_last(n_samples: int) -> None:
    leads_uv = builders.leads_uv(n_samples)
    stored = canonicalise(builders.ecg(leads_uv=leads_uv))
    assert stored.quality_flags == (QualityFlag.END_REPEATED,)
    np.testing.assert_array_equal(stored.counts[:, :n_samples].T * np.float32(5.0), leads_uv)
    repeated = np.repeat(stored.counts[:, n_samples - 1 : n_samples], 5000 - n_samples, axis=1)
    np.testing.assert_array_equal(stored.counts[:, n_samples:], repeated)


@pytest.mark.parametrize(
    ("n_samples", "rate_hz", "seconds"),
    [(4989, 500.0, "9.978"), (3650, 500.0, "7.3"), (2494, 250.0, "9.976"), (0, 500.0, "0")],
)
def test_canonicalise__shorter_than_9_98_s_is_refused(n_samples: int, rate_hz: float, seconds: str) -> None:
    error = _rejection(leads_uv=builders.leads_uv(n_samples), sampling_rate_hz=rate_hz)
    assert error.reason is RejectReason.TOO_SHORT
    assert error.message.startswith(f"recording lasts {seconds} s ({n_samples} samples at")


def test_canonicalise__9_98_s_at_250_hz_are_enough() -> None:
    stored = canonicalise(builders.ecg(leads_uv=builders.leads_uv(2495), sampling_rate_hz=250.0))
    assert stored.quality_flags == (QualityFlag.RESAMPLED, QualityFlag.END_REPEATED)
    assert stored.counts.shape == (12, 5000)


@pytest.mark.parametrize("n_samples", [5001, 5500, 15000])
def test_canonicalise__the_first_ten_seconds_of_a_longer_recording(n_samples: int) -> None:
    leads_uv = builders.leads_uv(n_samples)
    stored = canonicalise(builders.ecg(leads_uv=leads_uv))
    assert stored.quality_flags == (QualityFlag.CROPPED,)
    np.testing.assert_array_equal(stored.counts.T * np.float32(5.0), leads_uv[:5000])


def test_canonicalise__the_signal_after_ten_seconds_helps_the_filter() -> None:
    leads_uv = builders.tone_uv(60.3, 1000, duration_s=11.0)
    stored = canonicalise(builders.ecg(leads_uv=leads_uv, sampling_rate_hz=1000.0))
    expected_uv = builders.tone_uv(60.3, 500)[-50:, 0]
    np.testing.assert_allclose(stored.counts[0, -50:] * 1.25, expected_uv, rtol=0, atol=2.0)


def test_canonicalise__what_is_missing_after_ten_seconds_does_not_matter() -> None:
    leads_uv = builders.tone_uv(10.0, 1000, duration_s=11.0)
    leads_uv[10_003:] = np.nan
    stored = canonicalise(builders.ecg(leads_uv=leads_uv, sampling_rate_hz=1000.0))
    assert stored.quality_flags == (QualityFlag.RESAMPLED, QualityFlag.CROPPED)


def test_canonicalise__missing_samples_are_refused_by_lead_and_number() -> None:
    leads_uv = builders.leads_uv()
    leads_uv[10:14, 0] = np.nan
    leads_uv[4999, 11] = np.inf
    error = _rejection(leads_uv=leads_uv)
    assert error.reason is RejectReason.NON_FINITE
    assert "leads I (4), V6 (1) of 5000 samples" in error.message


def test_canonicalise__unsupported_rate_is_refused() -> None:
    error = _rejection(leads_uv=builders.leads_uv(1000), sampling_rate_hz=100.0)
    assert error.reason is RejectReason.UNSUPPORTED_RATE


def test_canonicalise__flags_of_the_device_come_first_and_once() -> None:
    flags = (QualityFlag.POOR_DATA_QUALITY.value, QualityFlag.SATURATED.value)
    stored = canonicalise(builders.ecg(saturated_leads=("V2",), quality_flags=flags))
    assert stored.quality_flags == ("poor_data_quality", "saturated")


def test_canonicalise__saturated_leads_are_flagged() -> None:
    stored = canonicalise(builders.ecg(saturated_leads=("V2",)))
    assert stored.quality_flags == (QualityFlag.SATURATED,)


def test_signal_sha256__counts_then_step_both_little_endian() -> None:
    counts = np.arange(24, dtype=np.int16).reshape(12, 2) - 5
    expected = hashlib.sha256(struct.pack("<24hf", *range(-5, 19), 4.88)).hexdigest()
    assert signal_sha256(counts, 4.88) == expected


@pytest.mark.parametrize("change", ["sample", "step"])
def test_signal_sha256__differs_when_anything_differs(change: str) -> None:
    counts = builders.counts_block(1)[0]
    before = signal_sha256(counts, 5.0)
    counts[11, 4999] += change == "sample"
    assert signal_sha256(counts, 4.88 if change == "step" else 5.0) != before


@pytest.mark.parametrize(
    ("max_abs_uv", "step_uv"), [(0.0, 0.0625), (1000.0, 0.0625), (2047.9375, 0.0625), (2048.0, 0.125), (4096.0, 0.25)]
)
def test_finest_step_uv__both_sides_of_the_first_limits(max_abs_uv: float, step_uv: float) -> None:
    # 32767 counts of 1/16 uV are 2047.9375 uV.
    assert finest_step_uv(np.array(max_abs_uv)) == step_uv


@given(hnp.arrays(np.float64, 5, elements=st.floats(0, 1e12)))
@settings(deadline=None)
def test_finest_step_uv__fits_and_half_of_it_would_overflow(max_abs_uv: np.ndarray) -> None:
    step_uv = finest_step_uv(max_abs_uv)
    assert (np.rint(max_abs_uv / step_uv) <= 32767).all()
    # A tenth of a count of margin below 32767.5, where rounding would overflow.
    overflows_when_halved = max_abs_uv / (step_uv / 2) > 32767.399
    assert (overflows_when_halved | (step_uv == FINEST_STEP_UV)).all()


def _with_gap(start: int, stop: int, lead: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Return the leads of a recording, and the same with a gap in one of them."""
    whole_uv = builders.leads_uv()
    gap_uv = whole_uv.copy()
    gap_uv[start:stop, lead] = np.nan
    return whole_uv, gap_uv


def test_interpolate_missing__short_gap_becomes_a_straight_line() -> None:
    whole_uv, gap_uv = _with_gap(100, 103)
    gap_uv[[99, 103], 7] = 10.0, 50.0
    filled = interpolate_missing(builders.ecg(leads_uv=gap_uv), 3)
    assert filled.leads_uv[99:104, 7].tolist() == [10.0, 20.0, 30.0, 40.0, 50.0]
    assert filled.quality_flags == ("interpolated",)
    others = np.delete(filled.leads_uv, 7, axis=1)
    np.testing.assert_array_equal(others, np.delete(whole_uv, 7, axis=1))
    np.testing.assert_array_equal(filled.leads_uv[104:], whole_uv[104:])
    assert np.isnan(gap_uv[100:103, 7]).all()
    assert "interpolated" in canonicalise(filled).quality_flags


@pytest.mark.parametrize(("start", "stop", "longest"), [(100, 103, 2), (0, 1, 9), (4999, 5000, 9), (100, 101, 0)])
def test_interpolate_missing__other_gaps_stay_and_reject(start: int, stop: int, longest: int) -> None:
    ecg = builders.ecg(leads_uv=_with_gap(start, stop)[1])
    filled = interpolate_missing(ecg, longest)
    assert filled is ecg
    with pytest.raises(EcgRejected, match=r"non_finite: .* in leads V2"):
        canonicalise(filled)


def test_interpolate_missing__each_gap_is_judged_by_itself() -> None:
    _, gap_uv = _with_gap(100, 101)
    gap_uv[200:205, 7] = np.nan
    gap_uv[300, 3] = np.nan
    filled = interpolate_missing(builders.ecg(leads_uv=gap_uv), 1)
    assert filled.quality_flags == ("interpolated",)
    assert np.argwhere(np.isnan(filled.leads_uv)).tolist() == [[i, 7] for i in range(200, 205)]


def test_interpolate_missing__whole_recording_is_returned_as_it_is() -> None:
    ecg = builders.ecg()
    assert interpolate_missing(ecg, 50) is ecg


def test_interpolate_missing__infinite_samples_are_not_missing() -> None:
    leads_uv = builders.leads_uv()
    leads_uv[5, 5] = np.inf
    ecg = builders.ecg(leads_uv=leads_uv)
    assert interpolate_missing(ecg, 50) is ecg


def test_canonicalise__one_absurd_lead_is_refused_before_it_coarsens_the_others() -> None:
    leads_uv = builders.leads_uv()
    leads_uv[:, 11] *= 1000
    error = _rejection(leads_uv=leads_uv)
    assert error.reason is RejectReason.LEAD_OUT_OF_PROPORTION
    assert error.message.startswith("lead V6 has an amplitude of ")


@pytest.mark.parametrize("rate_hz", [500.0, 1000.0])
def test_canonicalise__a_gain_a_thousand_times_too_large_is_a_matter_of_scale(rate_hz: float) -> None:
    leads_uv = builders.leads_uv(round(10 * rate_hz)) / np.float32(1000)
    error = _rejection(leads_uv=leads_uv, sampling_rate_hz=rate_hz, step_uv=0.005)
    assert error.reason is RejectReason.AMPLITUDE_IMPLAUSIBLE
    assert "it looks 1,000 times too small: were millivolts read as microvolts?" in error.message


def test_canonicalise__leads_of_another_gain_are_flagged() -> None:
    stored = canonicalise(builders.ecg(odd_gain_leads=("V2",)))
    assert stored.quality_flags == (QualityFlag.GAIN_DIFFERS,)


def test_canonicalise__measurements_that_the_trace_cannot_have_are_flagged() -> None:
    uv = np.ptp(builders.leads_uv(), axis=0)
    measured = Measurements(r_v5_uv=float(uv[10]), s_v5_uv=0.0)
    assert canonicalise(builders.ecg(measurements=measured)).quality_flags == ()
    measured = Measurements(r_v5_uv=float(2 * uv[10]), s_v5_uv=0.0)
    stored = canonicalise(builders.ecg(measurements=measured))
    assert stored.quality_flags == (QualityFlag.MEASUREMENTS_DISAGREE,)


@pytest.mark.parametrize(("rate_hz", "is_unusual"), [(1000.0, False), (1001.0, True), (510.0, True), (400.0, False)])
def test_canonicalise__a_rate_that_no_device_has_is_flagged(rate_hz: float, is_unusual: bool) -> None:
    stored = canonicalise(builders.ecg(leads_uv=builders.leads_uv(10_020), sampling_rate_hz=rate_hz))
    assert (QualityFlag.SAMPLING_RATE_UNUSUAL in stored.quality_flags) is is_unusual


_RATES_HZ = (200, 240, 250, 257, 360, 400, 512, 600, 977, 1000, 2000)


def _amplitude_uv(leads_uv: np.ndarray, frequency_hz: float) -> float:
    """Return the amplitude of a sine fitted to lead I between 1 and 9 s, by least squares."""
    time_s = np.arange(len(leads_uv)) / 500
    inner = (time_s >= 1) & (time_s <= 9)
    phase = 2 * np.pi * frequency_hz * time_s[inner]
    basis = np.stack([np.sin(phase), np.cos(phase), np.ones(inner.sum())], axis=1)
    (sine, cosine, _), *_ = np.linalg.lstsq(basis, leads_uv[inner, 0], rcond=None)
    return float(np.hypot(sine, cosine))


def _frequency_hz(leads_uv: np.ndarray) -> float:
    """Return the frequency of a tone in lead I from its first and last upward zero crossing."""
    signal = leads_uv[:, 0].astype(np.float64)
    before = np.flatnonzero((signal[:-1] < 0) & (signal[1:] >= 0))
    crossings = before - signal[before] / (signal[before + 1] - signal[before])
    return float((len(crossings) - 1) * 500 / (crossings[-1] - crossings[0]))


@pytest.mark.parametrize("rate_hz", [200.0, 500.0, 2000.0])
def test_supported_rate_hz__whole_numbers_inside_the_limits(rate_hz: float) -> None:
    assert supported_rate_hz(rate_hz) == int(rate_hz)


@pytest.mark.parametrize(
    ("rate_hz", "words"),
    [
        (100.0, r"100 Hz, too low \(100 Hz lacks the high frequencies of the QRS complex\); expected"),
        (199.0, "199 Hz, too low"),
        (2001.0, "2001 Hz, too high"),
        (249.5, "249.5 Hz, not a whole number"),
    ],
)
def test_supported_rate_hz__refuses_the_others(rate_hz: float, words: str) -> None:
    with pytest.raises(EcgRejected, match=f"sampling rate is {words}") as caught:
        supported_rate_hz(rate_hz)
    assert caught.value.reason is RejectReason.UNSUPPORTED_RATE


def test_resample_to_500_hz__500_hz_is_left_alone() -> None:
    leads_uv = builders.leads_uv()
    assert resample_to_500_hz(leads_uv, 500.0) is leads_uv


def test_resample_to_500_hz__refuses_one_sample() -> None:
    with pytest.raises(ValueError, match="leads_uv has 1 samples, expected two or more"):
        resample_to_500_hz(np.zeros((1, 12), dtype=np.float32), 250.0)


@given(rate_hz=st.integers(200, 2000), n_samples=st.integers(2, 3000))
@settings(max_examples=40, deadline=None)
def test_resample_to_500_hz__duration_is_kept(rate_hz: int, n_samples: int) -> None:
    resampled = resample_to_500_hz(np.zeros((n_samples, 12), dtype=np.float32), rate_hz)
    assert 0 <= len(resampled) / 500 - n_samples / rate_hz < 1 / 500
    assert resampled.dtype == np.float32


@pytest.mark.parametrize("rate_hz", _RATES_HZ)
@pytest.mark.parametrize("frequency_hz", [5.0, 17.0, 40.0])
def test_resample_to_500_hz__frequency_of_a_tone_is_kept(rate_hz: int, frequency_hz: float) -> None:
    resampled = resample_to_500_hz(builders.tone_uv(frequency_hz, rate_hz), rate_hz)
    assert _frequency_hz(resampled) == pytest.approx(frequency_hz, rel=1e-3)


@pytest.mark.parametrize("rate_hz", _RATES_HZ)
@pytest.mark.parametrize("frequency_hz", [0.5, 5.0, 40.0, 75.0])
def test_resample_to_500_hz__amplitude_of_a_tone_is_kept(rate_hz: int, frequency_hz: float) -> None:
    resampled = resample_to_500_hz(builders.tone_uv(frequency_hz, rate_hz), rate_hz)
    assert _amplitude_uv(resampled, frequency_hz) == pytest.approx(1000.0, rel=2e-3)


@pytest.mark.parametrize(("rate_hz", "frequency_hz"), [(1000, 251), (1000, 460), (2000, 900)])
def test_resample_to_500_hz__tone_above_the_new_nyquist_is_gone(rate_hz: int, frequency_hz: float) -> None:
    resampled = resample_to_500_hz(builders.tone_uv(frequency_hz, rate_hz), rate_hz)
    inner_uv = np.abs(resampled[500:-500]).max()
    assert inner_uv < 1000.0 * 10 ** (-58 / 20)


def test_resample_to_500_hz__raising_the_rate_leaves_no_image() -> None:
    # A tone of 30 Hz sampled at 250 Hz has its first image at 220 Hz.
    resampled = resample_to_500_hz(builders.tone_uv(30.0, 250), 250)
    assert _amplitude_uv(resampled, 220.0) < 1000.0 * 10 ** (-58 / 20)


@pytest.mark.parametrize("rate_hz", _RATES_HZ)
def test_resample_to_500_hz__sample_instants_do_not_shift(rate_hz: int) -> None:
    resampled = resample_to_500_hz(builders.tone_uv(7.0, rate_hz), rate_hz)
    expected = builders.tone_uv(7.0, 500)
    np.testing.assert_allclose(resampled[100:-100], expected[100:-100], rtol=0, atol=2.0)


@pytest.mark.parametrize("rate_hz", _RATES_HZ)
def test_resample_to_500_hz__constant_stays_constant_to_the_ends(rate_hz: int) -> None:
    constant = np.full((10 * rate_hz, 12), 5000.0, dtype=np.float32)
    np.testing.assert_allclose(resample_to_500_hz(constant, rate_hz), 5000.0, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rate_hz", _RATES_HZ)
def test_resample_to_500_hz__drift_does_not_ring_at_the_ends(rate_hz: int) -> None:
    drift = np.linspace(3000, 4000, 10 * rate_hz, endpoint=False)
    leads_uv = np.repeat(drift[:, None], 12, axis=1).astype(np.float32)
    expected = 3000 + 100 * np.arange(5000) / 500
    resampled = resample_to_500_hz(leads_uv, rate_hz)[:, 0]
    # The last source sample may lie before the last instant asked for, by one source sample.
    np.testing.assert_allclose(resampled, expected, rtol=0, atol=100 / rate_hz)


def test_resample_to_500_hz__leads_do_not_mix() -> None:
    leads_uv = np.zeros((2500, 12), dtype=np.float32)
    leads_uv[:, 4] = builders.tone_uv(10.0, 250)[:, 0]
    resampled = resample_to_500_hz(leads_uv, 250)
    assert np.flatnonzero(np.abs(resampled).max(axis=0) > 0).tolist() == [4]


@pytest.mark.parametrize("rate_hz", [250, 257, 400, 1000, 2000])
def test_filter_reach_samples__nothing_further_away_has_a_part(rate_hz: int) -> None:
    reach = filter_reach_samples(rate_hz)
    impulse = np.zeros((10 * rate_hz, 12), dtype=np.float32)
    impulse[5 * rate_hz] = 1000.0
    touched_s = np.flatnonzero(resample_to_500_hz(impulse, rate_hz)[:, 0]) / 500
    assert 5 - reach / rate_hz <= touched_s.min()
    assert touched_s.max() <= 5 + reach / rate_hz


def test_filter_reach_samples__no_filter_at_500_hz() -> None:
    assert filter_reach_samples(500) == 0


@pytest.mark.parametrize(("n_start", "n_end"), [(0, 0), (3, 0), (0, 2), (4, 5)])
def test_n_zero_samples_at_ends__in_all_leads(n_start: int, n_end: int) -> None:
    samples = np.ones((20, 12))
    samples[:n_start], samples[20 - n_end :] = 0, 0
    samples[:, 3] = 0  # one lead alone says nothing
    assert n_zero_samples_at_ends(samples) == (n_start, n_end)


def test_n_zero_samples_at_ends__all_zero() -> None:
    assert n_zero_samples_at_ends(np.zeros((7, 12))) == (0, 7)


@pytest.mark.parametrize(("n_zeros", "n_left"), [(9, 5000), (10, 4980), (600, 3800)])
def test_without_filling__20_ms_of_zeros_at_both_ends_are_dropped(n_zeros: int, n_left: int) -> None:
    leads_uv = np.full((5000, 12), 7, dtype=np.float32)
    leads_uv[:n_zeros], leads_uv[5000 - n_zeros :] = 0, 0
    assert without_filling(builders.ecg(leads_uv=leads_uv)).n_samples == n_left


def test_without_filling__zeros_throughout_are_no_recording() -> None:
    with pytest.raises(EcgRejected, match="all leads are 0 over all 50 samples") as caught:
        without_filling(builders.ecg(leads_uv=np.zeros((50, 12), dtype=np.float32)))
    assert caught.value.reason is RejectReason.LEAD_ALL_ZERO
