"""R, S and QRS duration of ECGs with known waves, and of real files beside their device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lvm_core.formats.cardiosoft import read_cardiosoft
from lvm_core.formats.muse import read_muse
from lvm_core.signal import measuring
from lvm_core.signal.canonical import canonicalise
from lvm_core.signal.ecg import AMPLITUDE_COLUMNS, LEADS_12, Measurements, r_column, s_column
from lvm_core.signal.measuring import measure_ecg
from lvm_core.synthetic.ecgs import synthetic_ecgs
from lvm_core.synthetic.known_waves import QRS_DURATION_MS, disturbed, irregular_starts, known_ecg, regular_starts
from tests.benchmarks.measurements import ecgs_per_s
from tests.lvm_core.formats.helpers import SHARED_ECG, needs_real_files

R_UV = np.array([600.0, 900.0, 300.0, 0.0, 1200.0, 500.0, 200.0, 400.0, 700.0, 1100.0, 1500.0, 1300.0])
S_UV = np.array([100.0, 0.0, 250.0, 800.0, 60.0, 40.0, 1000.0, 1700.0, 900.0, 500.0, 200.0, 30.0])


def _waves(measured: Measurements) -> tuple[np.ndarray, np.ndarray]:
    """Return (12,) R and (12,) S; NaN where not measured."""
    return tuple(  # type: ignore[return-value]
        np.array([getattr(measured, name(lead)) for lead in LEADS_12], dtype=float) for name in (r_column, s_column)
    )


def _assert_waves(measured: Measurements, atol_uv: float) -> None:
    r_uv, s_uv = _waves(measured)
    np.testing.assert_allclose(r_uv, R_UV, rtol=0, atol=atol_uv)
    np.testing.assert_allclose(s_uv, S_UV, rtol=0, atol=atol_uv)
    assert measured.qrs_voltage_sum_uv == pytest.approx(r_uv.sum() + s_uv.sum())


@pytest.mark.parametrize("rate_per_min", [40, 60, 75, 100, 130])
def test_measure_ecg__exact_without_disturbance(rate_per_min: float) -> None:
    measured = measure_ecg(known_ecg(R_UV, S_UV, regular_starts(rate_per_min)))
    _assert_waves(measured, atol_uv=0.1)
    # A raised cosine begins and ends flat: the first and last 4 ms are too slow to be seen.
    assert measured.qrs_duration_ms == pytest.approx(QRS_DURATION_MS, abs=8)
    assert (measured.measured_by, measured.qrs_measured_by) == ("software", "software")


def test_measure_ecg__absent_waves_are_zero_and_small_ones_too() -> None:
    r_uv, s_uv = R_UV.copy(), S_UV.copy()
    r_uv[0], s_uv[0] = 19.0, 21.0
    measured = measure_ecg(known_ecg(r_uv, s_uv, regular_starts(70)))
    assert (measured.r_avr_uv, measured.s_ii_uv, measured.r_i_uv) == (0.0, 0.0, 0.0)
    assert measured.s_i_uv == pytest.approx(21.0, abs=0.1)


@pytest.mark.parametrize(
    ("disturbance", "atol_uv"),
    [
        ({"noise_uv": 10.0}, 20.0),
        ({"noise_uv": 25.0}, 45.0),
        ({"wander_uv": 300.0}, 40.0),
        ({"mains_uv": 100.0}, 25.0),
        ({"mains_uv": 100.0, "mains_hz": 60.0}, 25.0),
        ({"mains_uv": 50.0, "mains_hz": 50.05}, 25.0),
        ({"noise_uv": 15.0, "wander_uv": 150.0, "mains_uv": 30.0}, 45.0),
    ],
)
def test_measure_ecg__disturbed(disturbance: dict[str, Any], atol_uv: float) -> None:
    ecg_uv = disturbed(known_ecg(R_UV, S_UV, regular_starts(72)), np.random.default_rng(3), **disturbance)
    measured = measure_ecg(ecg_uv)
    _assert_waves(measured, atol_uv)
    assert measured.qrs_duration_ms == pytest.approx(QRS_DURATION_MS, abs=16)


def test_measure_ecg__atrial_fibrillation() -> None:
    rng = np.random.default_rng(5)
    ecg_uv = known_ecg(R_UV, S_UV, irregular_starts(rng), has_p=False)
    _assert_waves(measure_ecg(disturbed(ecg_uv, rng, fibrillation_uv=40.0, noise_uv=5.0)), atol_uv=60.0)


def test_measure_ecg__bias_is_small_over_many() -> None:
    """Noise makes extremes larger, and lining up makes them smaller: less than 5 uV together."""
    rng = np.random.default_rng(7)
    present_r, present_s = R_UV > 0, S_UV > 0
    errors: list[float] = []
    for rate_per_min in range(50, 110, 3):
        ecg_uv = disturbed(known_ecg(R_UV, S_UV, regular_starts(rate_per_min)), rng, noise_uv=10.0, wander_uv=50.0)
        r_uv, s_uv = _waves(measure_ecg(ecg_uv))
        errors += [*(r_uv - R_UV)[present_r], *(s_uv - S_UV)[present_s]]
    assert abs(np.mean(errors)) < 5.0
    assert np.std(errors) < 10.0


def test_measure_ecg__extrasystoles_are_left_out() -> None:
    starts = regular_starts(70)
    ecg_uv = known_ecg(R_UV, S_UV, np.delete(starts, [2, 6])) + known_ecg(3 * S_UV, 2 * R_UV, starts[[2, 6]])
    _assert_waves(measure_ecg(ecg_uv), atol_uv=0.1)


def test_measure_ecg__q_deeper_than_s_is_the_deepest_deflection() -> None:
    """QRS turned around in time is Q before R."""
    ecg_uv = known_ecg(R_UV, S_UV, regular_starts(70), has_p=False)[:, ::-1]
    r_uv, s_uv = _waves(measure_ecg(np.ascontiguousarray(ecg_uv)))
    np.testing.assert_allclose(r_uv, R_UV, rtol=0, atol=0.1)
    np.testing.assert_allclose(s_uv, S_UV, rtol=0, atol=0.1)


def test_measure_ecg__raised_st_is_no_r() -> None:
    ecg_uv = known_ecg(np.zeros(12), S_UV + 200.0, regular_starts(60))
    raised = known_ecg(np.zeros(12), np.zeros(12), regular_starts(60) - 60)  # its T begins in S
    r_uv, _ = _waves(measure_ecg(ecg_uv + 0.5 * raised))
    assert not r_uv.any()


def _assert_nothing(measured: Measurements) -> None:
    assert measured == Measurements(measured_by="software", qrs_measured_by="software")
    assert not measured.has_amplitudes


def test_measure_ecg__nothing_where_nothing_beats() -> None:
    _assert_nothing(measure_ecg(np.zeros((12, 5000))))
    _assert_nothing(measure_ecg(known_ecg(R_UV, S_UV, np.array([1000, 3000]))))


def test_measure_ecg__nothing_where_no_three_beats_are_alike() -> None:
    shapes = np.random.default_rng(8).permuted(np.tile(np.append(R_UV, S_UV), (6, 1)), axis=1)
    starts = np.arange(6) * 800 + 300
    ecg_uv = sum(known_ecg(one[:12], one[12:], starts[[k]]) for k, one in enumerate(shapes))
    _assert_nothing(measure_ecg(np.asarray(ecg_uv)))


def test_measure_ecg__nothing_where_qrs_is_no_qrs() -> None:
    """Spikes of 4 ms, as of a pacemaker alone, are narrower than any QRS."""
    ecg_uv = np.zeros((12, 5000))
    ecg_uv[:, 300::400] = 3000.0
    _assert_nothing(measure_ecg(ecg_uv))


def test_measure_ecg__constant_and_noisy_leads_are_unknown() -> None:
    ecg_uv = known_ecg(R_UV, S_UV, regular_starts(70))
    ecg_uv[2] = 35.0
    ecg_uv[5] += np.random.default_rng(9).normal(scale=400.0, size=5000)
    measured = measure_ecg(ecg_uv)
    unknown = {name for name in AMPLITUDE_COLUMNS if getattr(measured, name) is None}
    assert unknown == {"r_iii_uv", "s_iii_uv", "r_avf_uv", "s_avf_uv"}
    assert measured.qrs_voltage_sum_uv is None
    assert measured.r_v5_uv == pytest.approx(1500.0, abs=5)


def test_measure_ecg__refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"shape \(5000, 12\), expected \(12, n_samples\)"):
        measure_ecg(np.zeros((5000, 12)))


def test_measure_ecg__same_bits_again() -> None:
    counts = synthetic_ecgs(3, seed=4).counts
    first, again = ([measure_ecg(5.0 * one) for one in counts] for _ in range(2))
    assert first == again


@needs_real_files
@pytest.mark.parametrize(
    "name",
    [
        "cardiosoft_xml/ecgprocess_example-XML1.xml",
        "muse_xml/braveheart_example1.xml",
        "muse_xml/braveheart_example2.xml",
    ],
)
def test_measure_ecg__real_files_agree_with_their_device(name: str) -> None:
    """docs/measurements.md: limits of agreement over 72 leads are about 80 uV."""
    data = (SHARED_ECG / name).read_bytes()
    ecg = (read_cardiosoft if name.startswith("cardiosoft") else read_muse)(data)
    canonical = canonicalise(ecg)
    measured = measure_ecg(canonical.counts * np.float32(canonical.uv_per_count))
    for wave in ("r_avl_uv", "s_v1_uv", "s_v3_uv", "r_v5_uv", "r_v6_uv"):
        assert getattr(measured, wave) == pytest.approx(getattr(ecg.measurements, wave), abs=80)
    assert measured.qrs_duration_ms == pytest.approx(ecg.measurements.qrs_duration_ms, abs=16)
    assert measured.qrs_voltage_sum_uv == pytest.approx(ecg.measurements.qrs_voltage_sum_uv, rel=0.03)


@pytest.mark.benchmark
def test_measure_ecg__two_hundred_a_second_on_one_core() -> None:
    assert ecgs_per_s(100) > 200


def test_mains__of_one_frequency_are_found_whole() -> None:
    fit, waves = measuring._mains(50)
    span = waves[:, measuring._BEFORE_QRS]
    np.testing.assert_allclose(span @ fit, np.eye(2), rtol=0, atol=1e-4)
