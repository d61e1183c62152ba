import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.canonical import filter_reach_samples, resample_to_500_hz, supported_rate_hz
from tests import builders

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
