"""Each disturbance on signals that are built exactly, on both sides of its limit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lvm_core.signal.disturbances import Disturbances, bends, disturbances
from lvm_core.signal.ecg import LEADS_12
from lvm_core.synthetic.known_waves import known_ecg, regular_starts

STEP_UV = 2.5
R_UV = np.array([600.0, 900.0, 300.0, 200.0, 1200.0, 500.0, 200.0, 400.0, 700.0, 1100.0, 1500.0, 1300.0])
S_UV = np.array([100.0, 200.0, 250.0, 800.0, 60.0, 40.0, 1000.0, 1700.0, 900.0, 500.0, 200.0, 30.0])
# One beat a second: all seconds are alike.
ECG_UV = known_ecg(R_UV, S_UV, np.arange(150, 5000, 500))
TIME_S = np.arange(5000) / 500


def _of(ecg_uv: NDArray[np.float64], step_uv: float = STEP_UV) -> Disturbances:
    return disturbances(np.rint(ecg_uv / step_uv).astype(np.int16), step_uv)


def _with(lead: str, added_uv: NDArray[np.floating]) -> NDArray[np.float64]:
    changed = ECG_UV.copy()
    changed[LEADS_12.index(lead)] += added_uv
    return changed


def _replaced(lead: str, lead_uv: NDArray[np.float64]) -> NDArray[np.float64]:
    changed = ECG_UV.copy()
    changed[LEADS_12.index(lead)] = lead_uv
    return changed


def test_disturbances__an_undisturbed_ecg_has_no_flag() -> None:
    found = _of(ECG_UV)
    assert found.flags == ()
    assert (found.mains_uv, found.n_clipped_leads, found.n_spikes) == (0.0, 0, 0)
    # The rounding to 2.5 uV has a standard deviation of 0.7 uV.
    assert found.noise_uv < 2
    assert found.wander_uv < 5


@pytest.mark.parametrize("hz", [50.0, 60.0, 49.9, 60.15])
@pytest.mark.parametrize("lead", ["I", "V6"])
def test_mains__flagged_above_50_uv(hz: float, lead: str) -> None:
    for amplitude_uv in (47.0, 53.0, 500.0):
        found = _of(_with(lead, amplitude_uv * np.sin(2 * np.pi * hz * TIME_S + 1)))
        assert found.mains_uv == pytest.approx(amplitude_uv, rel=0.03)
        assert ("mains_noise" in found.flags) == (amplitude_uv > 50)


@pytest.mark.parametrize("hz", [40.0, 55.0, 75.0])
def test_mains__a_sine_of_another_frequency_is_none(hz: float) -> None:
    assert _of(_with("V3", 100 * np.sin(2 * np.pi * hz * TIME_S))).mains_uv < 15


@pytest.mark.parametrize("hz", [50.0, 60.0])
def test_noise__mains_are_not_counted(hz: float) -> None:
    found = _of(_with("V3", 500 * np.sin(2 * np.pi * hz * TIME_S)))
    assert found.noise_uv < 2
    assert found.flags == ("mains_noise",)


@pytest.mark.parametrize("sd_uv", [20.0, 30.0, 100.0])
@pytest.mark.parametrize("rate_per_min", [45, 75, 150, 180])
def test_noise__flagged_above_25_uv_at_every_heart_rate(sd_uv: float, rate_per_min: int) -> None:
    ecg_uv = known_ecg(R_UV, S_UV, regular_starts(rate_per_min))
    ecg_uv[7] += sd_uv * np.random.default_rng(rate_per_min).standard_normal(5000)
    found = _of(ecg_uv)
    assert found.noise_uv == pytest.approx(sd_uv, rel=0.15)
    assert ("high_frequency_noise" in found.flags) == (sd_uv > 25)
    assert "mains_noise" not in found.flags


def test_noise__of_2_s_is_enough() -> None:
    noise_uv = 60 * np.random.default_rng(1).standard_normal(5000)
    noise_uv[(TIME_S < 4) | (TIME_S >= 6)] = 0
    assert _of(_with("II", noise_uv)).flags == ("high_frequency_noise",)


def test_noise__qrs_is_none() -> None:
    tall_uv = known_ecg(4 * R_UV, 4 * S_UV, regular_starts(180))
    assert _of(tall_uv).noise_uv < 3


@pytest.mark.parametrize("lead", ["II", "V1"])
def test_wander__flagged_above_500_uv(lead: str) -> None:
    for size_uv in (490.0, 510.0):
        found = _of(_with(lead, size_uv * (TIME_S >= 5)))
        assert found.wander_uv == pytest.approx(size_uv, abs=5)
        assert found.flags == (("baseline_wander",) if size_uv > 500 else ())


def test_wander__of_breathing_is_nearly_its_range() -> None:
    # Medians of a second keep sin(pi f) / (pi f) = 0.95 of 0.2 Hz, and may miss the tops.
    assert 850 < _of(_with("V2", 500 * np.sin(2 * np.pi * 0.2 * TIME_S))).wander_uv < 1005


@pytest.mark.parametrize("rate_per_min", [40, 75, 110, 140])
def test_wander__beats_are_none(rate_per_min: float) -> None:
    assert _of(known_ecg(2 * R_UV, 2 * S_UV, regular_starts(rate_per_min))).wander_uv < 200


@pytest.mark.parametrize("lead", ["III", "aVL", "V4"])
def test_near_flat__flagged_below_100_uv(lead: str) -> None:
    for range_uv in (95.0, 105.0):
        sway_uv = range_uv / 2 * np.sign(np.sin(2 * np.pi * 3 * TIME_S + 0.1))
        found = _of(_replaced(lead, sway_uv))
        assert found.least_range_uv == pytest.approx(range_uv, abs=STEP_UV)
        assert ("lead_near_flat" in found.flags) == (range_uv < 100)


def test_near_flat__three_seconds_of_a_lead_are_enough() -> None:
    lead_uv = ECG_UV[8].copy()
    lead_uv[1200:2700] = 0
    assert "lead_near_flat" in _of(_replaced("V3", lead_uv)).flags


@pytest.mark.parametrize("lead", ["aVR", "V2", "V5"])
@pytest.mark.parametrize("sign", [1, -1])
def test_clipped__waves_that_are_cut_within_the_range(lead: str, sign: int) -> None:
    lead_uv = sign * np.minimum(ECG_UV[LEADS_12.index("V5")], 900.0)
    assert _of(_replaced(lead, lead_uv)).n_clipped_leads == 1
    assert "saturated" in _of(_replaced(lead, lead_uv)).flags
    thrice_uv = lead_uv.copy()
    thrice_uv[1500:] *= 0.9  # at the limit in three beats of ten
    assert _of(_replaced(lead, thrice_uv)).n_clipped_leads == 1
    twice_uv = lead_uv.copy()
    twice_uv[1000:] *= 0.9
    assert _of(_replaced(lead, twice_uv)).n_clipped_leads == 0


def test_clipped__an_overloaded_amplifier() -> None:
    for n_samples, is_clipped in ((250, True), (110, True), (60, False)):
        held_uv = ECG_UV[6].copy()
        held_uv[700 : 700 + n_samples] = 3000
        assert _of(_replaced("V1", held_uv)).n_clipped_leads == int(is_clipped)


def test_clipped__round_tops_are_not() -> None:
    # The highest wave is T, whose top is one value for several samples after rounding, in every
    # beat; the lowest value is the baseline, which stays for over 200 ms.
    flat_r_uv = known_ecg(np.full(12, 100.0), np.zeros(12), np.arange(150, 5000, 500))
    for step_uv in (1.0, 2.5, 5.0):
        assert _of(flat_r_uv, step_uv).n_clipped_leads == 0


def test_spikes__flagged_in_three_beats() -> None:
    for n_spikes in (2, 3):
        spikes_uv = np.zeros(5000)
        spikes_uv[140 + 500 * np.arange(n_spikes)] = 600
        found = _of(_with("V2", spikes_uv))
        assert found.n_spikes == n_spikes
        assert ("pacing_spikes" in found.flags) == (n_spikes == 3)


def test_arms__flagged_where_lead_i_alone_is_upside_down() -> None:
    assert _of(_replaced("I", -ECG_UV[0])).flags == ("arm_leads_reversed",)


@pytest.mark.parametrize("factor", [2, 4])
def test_disturbances__the_step_does_not_matter(factor: int) -> None:
    rng = np.random.default_rng(3)
    counts = np.rint((_with("V2", 300 * np.sin(TIME_S)) + rng.normal(0, 20, (12, 5000))) / 10).astype(np.int16)
    fine = disturbances(counts * np.int16(factor), 10.0 / factor)
    coarse = disturbances(counts, 10.0)
    np.testing.assert_allclose(fine[:4], coarse[:4], rtol=1e-4)
    assert fine[4:] == coarse[4:]


def test_disturbances__the_sign_does_not_matter_but_for_electrodes() -> None:
    rng = np.random.default_rng(4)
    counts = np.rint((ECG_UV + rng.normal(0, 20, (12, 5000))) / STEP_UV).astype(np.int16)
    upside_down, as_is = disturbances(-counts, STEP_UV), disturbances(counts, STEP_UV)
    np.testing.assert_allclose(upside_down[:6], as_is[:6], rtol=1e-4)


def test_disturbances__an_ecg_of_a_batch_is_as_alone() -> None:
    batch = np.rint(ECG_UV / STEP_UV).astype(np.int16) * np.arange(1, 4, dtype=np.int16)[:, None, None]
    for i in range(3):
        assert disturbances(batch[i], STEP_UV) == disturbances(batch[i].copy(), STEP_UV)
        assert disturbances(np.asfortranarray(batch[i]), STEP_UV) == disturbances(batch[i], STEP_UV)


@pytest.mark.parametrize("fill", [0, 32767, -32768])
def test_disturbances__a_constant_ecg_is_near_flat(fill: int) -> None:
    assert disturbances(np.full((12, 5000), fill, dtype=np.int16), 5.0).flags == ("lead_near_flat",)


def test_disturbances__full_range_noise_overflows_nothing() -> None:
    counts = np.random.default_rng(5).integers(-32768, 32768, (12, 5000)).astype(np.int16)
    found = disturbances(counts, 100.0)
    assert "high_frequency_noise" in found.flags
    assert np.isfinite(found[:4]).all()


def test_bends__of_a_sine() -> None:
    # A sine minus the middle of itself 4 ms before and after is 1 - cos(w 4 ms) times the sine.
    for hz, factor in ((125.0, 2.0), (62.5, 1.0), (0.0, 0.0)):
        wave = np.cos(2 * np.pi * hz * TIME_S)[None].astype(np.float32)
        bent = bends(wave)
        np.testing.assert_allclose(bent[:, 2:-2], factor * wave[:, 2:-2], rtol=0, atol=1e-4)
        assert not bent[:, [0, 1, -2, -1]].any()


def test_disturbances__wrong_arguments() -> None:
    with pytest.raises(ValueError, match=r"counts is int16 \(12, 4999\), expected int16 \(12, 5000\)"):
        disturbances(np.zeros((12, 4999), dtype=np.int16), 5.0)
    with pytest.raises(ValueError, match="counts is float64"):
        disturbances(np.zeros((12, 5000)), 5.0)  # type: ignore[arg-type]
    for step_uv in (0.0, float("nan")):
        with pytest.raises(ValueError, match=f"uv_per_count is {step_uv}"):
            disturbances(np.zeros((12, 5000), dtype=np.int16), step_uv)
