import numpy as np
import pytest

from lvm_core.synthetic.device_files import median_beat
from lvm_core.synthetic.ecgs import synthetic_ecgs

BEAT = np.zeros(400, dtype=np.int16)
BEAT[190:203] = [0, -3, -9, 5, 60, 170, 240, 180, 70, -20, -50, -20, -4]


def test_median_beat__of_equal_beats_is_the_beat() -> None:
    counts = np.stack([np.tile(BEAT, 10), np.tile(2 * BEAT, 10)])
    median = median_beat(counts)
    assert (median.shape, median.dtype) == ((2, 600), np.int16)
    # Whatever the alignment is, the beat is somewhere in it, whole, at 200 samples (0.4 s).
    peak = int(median[0].argmax())
    assert 195 <= peak <= 205
    np.testing.assert_array_equal(median[0, peak - 6 : peak + 7], BEAT[190:203])
    np.testing.assert_array_equal(median[1], 2 * median[0])


def test_median_beat__one_disturbed_beat_of_many_does_not_show() -> None:
    counts = np.tile(BEAT, 10)[None]
    disturbed = counts.copy()
    disturbed[0, 5 * 400 + 300 : 5 * 400 + 320] += 35
    np.testing.assert_array_equal(median_beat(disturbed), median_beat(counts))


def test_median_beat__less_noise_than_the_recording() -> None:
    counts = synthetic_ecgs(1, seed=1).counts[0]
    median = median_beat(counts)
    roughness = [np.abs(np.diff(x[7].astype(float), 2)).mean() for x in (counts, median)]
    assert roughness[1] < roughness[0]


def test_median_beat__without_beats_is_the_beginning() -> None:
    flat = np.full((8, 700), 3, dtype=np.int16)
    np.testing.assert_array_equal(median_beat(flat), flat[:, :600])
    late = np.zeros((1, 700), dtype=np.int16)
    late[0, 650] = 100
    np.testing.assert_array_equal(median_beat(late), late[:, :600])


def test_median_beat__refuses_a_short_recording() -> None:
    with pytest.raises(ValueError, match="recording has 599 samples, expected 600 or more"):
        median_beat(np.zeros((12, 599), dtype=np.int16))
