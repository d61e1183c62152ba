"""Disturbances that a reader of the trace would see: noise, mains, wander and the like.

All numbers come from one pass over eight leads in pieces of 100 ms, cheap enough for every ECG. The
limits have one principle: what is 1 mm on paper, 100 uV at 10 mm/mV, is seen by a reader.
Sensitivity and false alarms: docs/quality_flags.md.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft

from lvm_core.signal.ecg import INDEPENDENT_LEADS, N_LEADS
from lvm_core.signal.electrodes import arm_leads_look_reversed, may_be_reversed
from lvm_core.signal.pacing import n_pacing_spikes
from lvm_core.signal.quality import QualityFlag

Floats = NDArray[np.float32]

_RATE_HZ: Final = 500
_N_SAMPLES: Final = 5000

# 1 mm on paper. A lead that moves by less within 2 s shows no QRS complex: "low voltage" ends at
# 500 uV, and a heart of 30 beats a minute has a beat within 2 s. The smallest lead of 29 real ECGs
# moves by 150 uV.
_NEAR_FLAT_UV: Final = 100.0
# One large square of the paper, half the calibration signal of 1 mV.
_WANDER_UV: Final = 500.0
# Amplitude of the sine: 100 uV from peak to peak.
_MAINS_UV: Final = 50.0
# Standard deviation: 100 uV is the width of 2 SDs on either side. Amplitudes on a median beat are
# 4 uV too large at 25 uV and 13 uV at 50 uV (docs/measurements.md).
_NOISE_UV: Final = 25.0
# Three in 10 s: a single spike may be a loose contact.
_FEWEST_SPIKES: Final = 3

# 100 ms hold 5 periods of 50 Hz and 6 of 60 Hz, so that both are found exactly and apart.
_BLOCK: Final = 50
_BLOCKS: Final = _N_SAMPLES // _BLOCK
_MAINS_HZ: Final = (50, 60)
# The mains may be 0.2 Hz beside their nominal frequency; bins of 10 s are 0.1 Hz apart.
_LINE_BINS: Final = np.arange(-5, 6)
# A line has this many times the power of the strongest of the bins around it that are as wide.
# QRS complexes spread evenly there, as their own spectrum is smooth.
_LINE_CLARITY: Final = 2.0

# Noise is looked for between beats: of the 20 blocks of 2 s the sixth quietest is still free of QRS
# at 200 beats a minute. The most disturbed 2 s of a lead count.
_PIECES: Final = 5
_QUIET_BLOCK: Final = 5

# Clipping: the steps and microvolts by which the samples beside a plateau differ from it. A round
# top that is three samples wide after rounding falls by two to three steps beside them.
_CORNER_COUNTS: Final = 6.0
_CORNER_UV: Final = 20.0
_PLATEAU_SAMPLES: Final = 3
_FEWEST_PLATEAUS: Final = 3
# 200 ms at the largest or smallest value, 500 uV or more from the mean of the lead: tops of T are
# shorter, and a still baseline is nearer. They hold a block of 100 ms in which nothing moves.
_LONG_PLATEAU_SAMPLES: Final = 100
_LONG_PLATEAU_UV: Final = 500.0


class Disturbances(NamedTuple):
    """The disturbances of one ECG, each that of its most disturbed lead."""

    least_range_uv: float  # by which the stillest lead moves in its stillest 2 s
    wander_uv: float  # from the lowest to the highest baseline, medians of 1 s
    mains_uv: float  # amplitude of a sine of 50 or 60 Hz, 0 where there is no clear line
    noise_uv: float  # standard deviation of white noise, mains and signal left out
    n_clipped_leads: int  # leads that stay at their largest or smallest value
    n_spikes: int  # as of a pacemaker
    arm_leads_reversed: bool  # P and QRS say that the electrodes of the arms were exchanged

    @property
    def flags(self) -> tuple[str, ...]:
        """Members of `QualityFlag`, in the order of the class."""
        found = {
            QualityFlag.SATURATED: self.n_clipped_leads > 0,
            QualityFlag.ARM_LEADS_REVERSED: self.arm_leads_reversed,
            QualityFlag.LEAD_NEAR_FLAT: self.least_range_uv < _NEAR_FLAT_UV,
            QualityFlag.BASELINE_WANDER: self.wander_uv > _WANDER_UV,
            QualityFlag.MAINS_NOISE: self.mains_uv > _MAINS_UV,
            QualityFlag.HIGH_FREQUENCY_NOISE: self.noise_uv > _NOISE_UV,
            QualityFlag.PACING_SPIKES: self.n_spikes >= _FEWEST_SPIKES,
        }
        return tuple(flag.value for flag, is_set in found.items() if is_set)


def disturbances(counts: NDArray[np.int16], uv_per_count: float) -> Disturbances:
    """Measure the disturbances of one ECG.

    Args:
        counts: (12, 5000) int16, leads in `LEADS_12` order, 500 Hz.
        uv_per_count: microvolts of one count, finite and above 0.
    """
    if counts.shape != (N_LEADS, _N_SAMPLES) or counts.dtype != np.int16:
        raise ValueError(f"counts is {counts.dtype} {counts.shape}, expected int16 ({N_LEADS}, {_N_SAMPLES})")
    if not (np.isfinite(uv_per_count) and uv_per_count > 0):
        raise ValueError(f"uv_per_count is {uv_per_count}, expected a finite value above 0")
    low, high = _limits_of_seconds(counts)
    leads = counts[INDEPENDENT_LEADS].astype(np.float32)
    bent = bends(leads)
    squares = bent * bent
    energy = np.asarray(squares.reshape(-1, _BLOCK) @ _SUM, dtype=np.float32).reshape(len(leads), _BLOCKS)
    noise, mains = _noise_and_mains(bent, energy)
    means = (leads.reshape(-1, _BLOCK) @ _MEAN).reshape(len(leads), _BLOCKS)
    # The middle between the extremes of a second, from the mean: below 0 where S exceeds R.
    middle = _median((high.astype(np.float32) + low)[INDEPENDENT_LEADS]) / 2 - means @ _MEAN_OF_BLOCKS
    return Disturbances(
        float(_ranges_of_2_s(low, high).min() * uv_per_count),
        _wander(means) * uv_per_count,
        mains * uv_per_count,
        noise * uv_per_count,
        _n_clipped_leads(counts, low, high, energy == 0, uv_per_count),
        n_pacing_spikes(bent, squares, uv_per_count),
        may_be_reversed(middle) and arm_leads_look_reversed(leads * np.float32(uv_per_count)),
    )


def bends(leads: Floats) -> Floats:
    """Return how far each sample is from the middle of those 4 ms before and after it.

    This leaves little of P, T and the baseline, 0.36 of 35 Hz, and 2 of 125 Hz. Takes and returns
    (n_leads, n_samples), 0 for the two samples at each end.
    """
    # As one row, because operations on parts of many rows take twice as long.
    row = leads.reshape(-1)
    bent = np.empty_like(row)
    inner = bent[2:-2]
    np.add(row[:-4], row[4:], out=inner)
    inner *= np.float32(-0.5)
    inner += row[2:-2]
    by_lead = bent.reshape(leads.shape)
    by_lead[:, :2] = by_lead[:, -2:] = 0
    return by_lead


def _gain(hz: float) -> float:
    """Return by how much `bends` multiplies a sine."""
    return float(1 - np.cos(4 * np.pi * hz / _RATE_HZ))


def _mains_waves() -> Floats:
    """Return (50, 4) of orthonormal cosine and sine of 50 and of 60 Hz over a block."""
    angle = 2 * np.pi * np.outer(np.arange(_BLOCK), _MAINS_HZ) / _RATE_HZ
    waves = np.stack([np.cos(angle), -np.sin(angle)], axis=2).reshape(_BLOCK, 4)
    return np.asarray(waves * np.sqrt(2 / _BLOCK), dtype=np.float32)


def _line_sums() -> Floats:
    """Return (200, 7), which adds up bins: those of the line, and six spans as wide beside it.

    Each bin has two rows, for the real and the imaginary part.
    """
    sums = np.zeros((_BLOCKS, 7), dtype=np.float32)
    for column, shift in enumerate((0, -33, -22, -11, 11, 22, 33)):
        sums[_LINE_BINS + shift, column] = 1
    return np.repeat(sums, 2, axis=0)


def _median(values: Floats) -> Floats:
    """Return the median over the last axis, of an even length; `np.median` takes longer."""
    ordered, half = np.sort(values, axis=-1), values.shape[-1] // 2
    return np.asarray((ordered[..., half - 1] + ordered[..., half]) / 2)


_WAVES: Final = _mains_waves()
_LINE_SUMS: Final = _line_sums()
_SUM: Final[Floats] = np.ones(_BLOCK, dtype=np.float32)
_MEAN: Final[Floats] = _SUM / np.float32(_BLOCK)
_MEAN_OF_BLOCKS: Final = np.full(_BLOCKS, 1 / _BLOCKS, dtype=np.float32)
# The sum of squares over a block, of what is orthonormal to `_WAVES`, for white noise of SD 1:
# `bends` multiplies its variance by 1 + 2 / 4.
_WHITE: Final = 1.5 * (_BLOCK - 4)
# A sine of amplitude 1 has a length of sqrt(25) in each block; the 100 blocks add up in one bin.
_UNIT_LINE: Final = _BLOCKS * np.sqrt(_BLOCK / 2) * np.array([_gain(hz) for hz in _MAINS_HZ])


def _noise_and_mains(bent: Floats, energy: Floats) -> tuple[float, float]:
    """Return the SD of noise and the amplitude of mains of the most disturbed leads, in counts."""
    n = len(bent)
    parts = bent.reshape(-1, _BLOCK) @ _WAVES
    rest = energy.reshape(-1) - np.vecdot(parts, parts)
    quiet = np.sort(rest.reshape(n, _PIECES, -1), axis=2)[:, :, _QUIET_BLOCK]
    noise = np.sqrt(max(float(quiet.max()), 0.0) / _WHITE)
    turns = parts.view(np.complex64).reshape(n, _BLOCKS, len(_MAINS_HZ)).swapaxes(1, 2)
    spectrum = fft(turns.reshape(-1, _BLOCKS)).view(np.float32)
    sums = (spectrum * spectrum) @ _LINE_SUMS
    line = np.where(sums[:, 0] > _LINE_CLARITY * sums[:, 1:].max(axis=1), sums[:, 0], np.float32(0))
    return float(noise), float((np.sqrt(line).reshape(n, -1) / _UNIT_LINE).max())


def _wander(means: Floats) -> float:
    """Return the range of the baseline of the lead that wanders most, in counts.

    The baseline is the median of ten means over 100 ms, in each second: QRS, and T unless the beats
    follow fast, are the smaller part.
    """
    level = _median(means.reshape(len(means), 10, -1))
    return float((level.max(axis=1) - level.min(axis=1)).max())


def _limits_of_seconds(counts: NDArray[np.int16]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return (12, 10) smallest and largest counts of each second."""
    seconds = counts.reshape(N_LEADS, -1, _RATE_HZ)
    return seconds.min(axis=2), seconds.max(axis=2)


def _ranges_of_2_s(low: NDArray[np.int16], high: NDArray[np.int16]) -> NDArray[np.int32]:
    """Return (12, 9) ranges within 2 s that begin at each second."""
    lowest, highest = np.minimum(low[:, :-1], low[:, 1:]), np.maximum(high[:, :-1], high[:, 1:])
    return np.asarray(highest.astype(np.int32) - lowest)


def _n_clipped_leads(
    counts: NDArray[np.int16],
    low: NDArray[np.int16],
    high: NDArray[np.int16],
    is_still: NDArray[np.bool_],
    uv_per_count: float,
) -> int:
    """Return how many leads stay at their own limits, as behind an amplifier that clips.

    Either for 200 ms, of I, II and V1 to V6, or three times with corners on both sides. `low` and
    `high` are those of each second, `is_still` marks blocks that do not move.
    """
    lowest, highest = low.min(axis=1), high.max(axis=1)
    moves = (highest.astype(np.int32) - lowest) * uv_per_count >= _NEAR_FLAT_UV
    stays = np.zeros(N_LEADS, dtype=np.bool_)
    stays[INDEPENDENT_LEADS] = is_still.any(axis=1)
    corner = max(_CORNER_COUNTS, _CORNER_UV / uv_per_count)
    clipped = set()
    for by_second, limit in ((low, lowest), (high, highest)):
        # Most leads end here: they are at their limit once.
        often = (by_second == limit[:, None]).sum(axis=1) > 1
        for lead in np.flatnonzero((often | stays) & moves).tolist():
            if _is_clipped(counts[lead], limit[lead], corner, _LONG_PLATEAU_UV / uv_per_count):
                clipped.add(lead)
    return len(clipped)


def _is_clipped(counts: NDArray[np.int16], limit: np.int16, corner: float, far: float) -> bool:
    at_limit = counts == limit
    if np.count_nonzero(at_limit) < _FEWEST_PLATEAUS * _PLATEAU_SAMPLES:
        return False
    edges = np.flatnonzero(np.diff(at_limit, prepend=False, append=False)).reshape(-1, 2)
    start, stop = edges[:, 0], edges[:, 1]
    if ((stop - start) >= _LONG_PLATEAU_SAMPLES).any() and abs(float(limit) - counts.mean()) >= far:
        return True
    inner = (start > 0) & (stop < len(counts)) & (stop - start >= _PLATEAU_SAMPLES)
    start, stop = start[inner], stop[inner]
    wide = counts.astype(np.int32)
    falls = np.minimum(np.abs(wide[start - 1] - limit), np.abs(wide[stop] - limit))
    return int((falls >= corner).sum()) >= _FEWEST_PLATEAUS
