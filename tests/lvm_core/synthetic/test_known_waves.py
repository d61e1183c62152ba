"""ECGs of known waves: heights, places and disturbances by hand."""

import numpy as np
import pytest

from lvm_core.synthetic.known_waves import disturbed, irregular_starts, known_ecg, regular_starts

R_UV = np.arange(12) * 100.0
S_UV = np.arange(12)[::-1] * 50.0


def test_known_ecg__waves_have_their_heights_and_places() -> None:
    ecg_uv = known_ecg(R_UV, S_UV, np.array([1000]))
    assert ecg_uv.shape == (12, 5000)
    # R is at its top 12 samples (24 ms) after the start of QRS, S 36 samples; QRS ends after 48.
    np.testing.assert_array_equal(ecg_uv[:, 1012], R_UV)
    np.testing.assert_array_equal(ecg_uv[:, 1036], -S_UV)
    assert not ecg_uv[:, 971:1001].any()
    assert not ecg_uv[:, 1048:1091].any()
    assert ecg_uv[0, 945] == 100.0
    assert ecg_uv[0, 1135] == 250.0


def test_known_ecg__beats_beyond_the_ends_are_cut() -> None:
    ecg_uv = known_ecg(R_UV, S_UV, np.array([-1000, -12, 4990, 9000]), has_p=False)
    np.testing.assert_array_equal(ecg_uv[:, 0], R_UV)
    assert ecg_uv[11, 4999] == pytest.approx(1100 * np.hanning(25)[9])


def test_known_ecg__refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"shapes \(3,\) and \(12,\), expected \(12,\) each"):
        known_ecg(np.zeros(3), S_UV, np.array([1000]))


def test_starts__rates() -> None:
    assert np.diff(regular_starts(60)).tolist() == [500] * 9
    cycles = np.diff(irregular_starts(np.random.default_rng(1)))
    assert 249 <= cycles.min() < 300
    assert 500 < cycles.max() <= 551


def test_disturbed__each_disturbance_has_its_size() -> None:
    flat_uv = np.zeros((12, 5000))
    rng = np.random.default_rng(2)
    assert disturbed(flat_uv, rng, noise_uv=30.0).std() == pytest.approx(30.0, rel=0.02)
    for name in ("wander_uv", "mains_uv", "fibrillation_uv"):
        made_uv = disturbed(flat_uv, rng, **{name: 40.0})
        assert made_uv.std(axis=1) == pytest.approx(np.full(12, 40 / np.sqrt(2)), rel=1e-3)
    np.testing.assert_array_equal(disturbed(flat_uv, rng), flat_uv)
