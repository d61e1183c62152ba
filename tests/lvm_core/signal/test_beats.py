"""R peaks of built signals with known beats, and the phases around them."""

import numpy as np
import pytest

from lvm_core.signal.beats import PHASES, average_beat, phase_of_samples, r_peaks

RATE_HZ = 500.0


def _signal(r_s: np.ndarray, *, qrs_sd_s: float = 0.011, sign: float = 1.0, noise_uv: float = 8.0) -> np.ndarray:
    """Return (3, 5000) uV with a QRS of 1 mV, a T wave and a wander of 100 uV."""
    time_s = np.arange(5000) / RATE_HZ
    beat = np.exp(-0.5 * ((time_s[:, None] - r_s) / qrs_sd_s) ** 2).sum(axis=1) * sign
    beat += 0.3 * np.exp(-0.5 * ((time_s[:, None] - r_s - 0.28) / 0.04) ** 2).sum(axis=1)
    wander = 0.1 * np.sin(2 * np.pi * 0.3 * time_s)
    noise = np.random.default_rng(1).normal(scale=noise_uv, size=(3, 5000))
    return np.asarray(1000 * (np.array([[1.0], [-0.6], [0.3]]) * beat + wander) + noise)


def _assert_found(signal_uv: np.ndarray, r_s: np.ndarray) -> None:
    inside = r_s[(r_s > 0.1) & (r_s < 9.9)]
    found_s = r_peaks(signal_uv, RATE_HZ) / RATE_HZ
    found_s = found_s[(found_s > 0.1) & (found_s < 9.9)]
    assert found_s.size == inside.size
    np.testing.assert_allclose(found_s, inside, rtol=0, atol=0.010)


@pytest.mark.parametrize("rate_per_min", [45, 60, 90, 120, 150])
def test_r_peaks__at_every_rate(rate_per_min: int) -> None:
    r_s = np.arange(0.3, 10, 60 / rate_per_min)
    _assert_found(_signal(r_s), r_s)


def test_r_peaks__irregular_inverted_and_wide() -> None:
    cycles_s = np.random.default_rng(4).uniform(0.45, 1.2, 12)
    r_s = 0.2 + np.cumsum(cycles_s)
    _assert_found(_signal(r_s), r_s)
    _assert_found(_signal(r_s, sign=-1.0), r_s)
    _assert_found(_signal(r_s, qrs_sd_s=0.025), r_s)


@pytest.mark.parametrize("level_uv", [0.0, 700.0])
def test_r_peaks__none_in_a_constant_signal(level_uv: float) -> None:
    assert r_peaks(np.full((12, 5000), level_uv), RATE_HZ).size == 0


def test_phase_of_samples__by_hand_around_one_beat() -> None:
    phases = [PHASES[k] for k in phase_of_samples(np.array([1000]), 5000, RATE_HZ)]
    # 500 Hz: P from 250 ms (125 samples) before R, QRS +-60 ms, ST to 160 ms, T to 420 ms.
    bounds = [
        (0, 875, "rest"),
        (875, 970, "P"),
        (970, 1030, "QRS"),
        (1030, 1080, "ST"),
        (1080, 1210, "T"),
        (1210, 5000, "rest"),
    ]
    assert phases == [name for start, stop, name in bounds for _ in range(start, stop)]


def test_phase_of_samples__t_wins_over_p_and_qrs_over_both() -> None:
    fast = np.array([1000, 1150])  # 200 a minute
    phases = phase_of_samples(fast, 5000, RATE_HZ)
    assert PHASES[phases[1100]] == "T"
    assert PHASES[phases[1150]] == "QRS"


def test_average_beat__is_the_mean_of_whole_beats() -> None:
    values = np.zeros((2, 100))
    values[:, 20], values[:, 50], values[:, 99] = 1.0, 3.0, 100.0
    made = average_beat(values, np.array([20, 50, 99]), 2, 3)
    np.testing.assert_array_equal(made, [[0, 0, 2.0, 0, 0, 0]] * 2)


def test_average_beat__no_whole_beat_is_refused() -> None:
    with pytest.raises(ValueError, match="none of 1 R peaks has 5 samples before"):
        average_beat(np.zeros((2, 100)), np.array([2]), 5, 5)
