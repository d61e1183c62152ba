"""Spikes as those of a pacemaker: far narrower than any wave of the heart."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

# IEC 60601-2-25 asks that pulses of a pacemaker be visible on the record with 0.2 mV or more. Here
# the root of the sum of squares over eight leads.
_LEAST_SPIKE_UV: Final = 200.0
# A pulse lasts 0.1 to 2 ms, three samples behind the filters of 150 Hz before it is sampled. It
# stands alone: from 8 to 20 ms beside it the trace bends by a third at most. A QRS complex bends
# up and down for over 40 ms.
_SIDE: Final = np.r_[-10:-3, 4:11]
_REACH: Final = 10
_ISOLATION: Final = 3.0
# Spikes of one pacemaker have the same direction in eight leads: the cosine of the angle between.
_SAME_DIRECTION: Final = 0.9
# 250 ms: spikes of the atrium and the ventricle of one beat count as one.
_APART: Final = 125


def n_pacing_spikes(bent: NDArray[np.float32], bent_squares: NDArray[np.float32], uv_per_count: float) -> int:
    """Return the number of beats with a spike.

    Args:
        bent: (n_leads, n_samples) of `lvm_core.signal.disturbances.bends`, in counts, 500 Hz.
        bent_squares: its squares.
        uv_per_count: microvolts of one count.
    """
    squares = np.ones(len(bent), dtype=np.float32) @ bent_squares
    limit = np.float32((_LEAST_SPIKE_UV / uv_per_count) ** 2)
    inner = squares[_REACH:-_REACH]
    found = np.flatnonzero(inner > limit) + _REACH
    is_top = (squares[found] >= squares[found - 1]) & (squares[found] > squares[found + 1])
    found = found[is_top]
    beside = squares[found[:, None] + _SIDE].max(axis=1, initial=0.0)
    found = found[squares[found] > np.float32(_ISOLATION**2) * beside]
    if not len(found):
        return 0
    directions = bent[:, found] / np.sqrt(squares[found])
    strongest = directions[:, squares[found].argmax()]
    found = found[np.abs(strongest @ directions) > _SAME_DIRECTION]
    return 1 + int(np.count_nonzero(np.diff(found) > _APART))
