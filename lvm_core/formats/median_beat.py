"""The median beat that device files hold beside the rhythm; for writers, never for results."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

DURATION_S: Final = 1.2
_BEFORE_S: Final = 0.4
_REFRACTORY_S: Final = 0.3
_STEEP_SHARE: Final = 0.5


def median_beat(counts: NDArray[np.int16], sampling_rate_hz: int = 500) -> NDArray[np.int16]:
    """Return the median of the beats of a recording, aligned at their steepest place.

    Args:
        counts: (n_leads, n_samples) int16, at least 1.2 s.
        sampling_rate_hz: samples per second.

    Returns:
        (n_leads, 1.2 s) int16. The first 1.2 s where no whole beat is found.

    Raises:
        ValueError: the recording is shorter than 1.2 s.
    """
    length, before = (int(s * sampling_rate_hz) for s in (DURATION_S, _BEFORE_S))
    if counts.shape[1] < length:
        raise ValueError(
            f"recording has {counts.shape[1]} samples, expected {length} or more: "
            f"{DURATION_S} s at {sampling_rate_hz} Hz"
        )
    starts = _steepest(counts, int(_REFRACTORY_S * sampling_rate_hz)) - before
    starts = starts[(starts >= 0) & (starts + length <= counts.shape[1])]
    if not len(starts):
        return counts[:, :length].copy()
    beats = np.stack([counts[:, start : start + length] for start in starts])
    return np.asarray(np.rint(np.median(beats, axis=0)), dtype=np.int16)


def _steepest(counts: NDArray[np.int16], refractory: int) -> NDArray[np.int64]:
    """Return the places where all leads together are steepest, one for each beat."""
    slope = np.abs(np.diff(counts.astype(np.float32), axis=1)).sum(axis=0)
    steep = np.flatnonzero(slope >= _STEEP_SHARE * slope.max()) if slope.any() else np.zeros(0, int)
    beats = np.split(steep, np.flatnonzero(np.diff(steep) > refractory) + 1)
    return np.array([b[np.argmax(slope[b])] for b in beats if len(b)], dtype=np.int64)
