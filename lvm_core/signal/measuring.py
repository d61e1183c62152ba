"""R and S of each lead and the duration of QRS, measured on the median beat of a recording.

For recordings of which the device gave no amplitudes. The way is that of electrocardiographs: find
the beats, keep those of the dominant shape, line them up, take the median at each instant, find
where QRS begins and ends over all leads together, and read amplitudes from the level before it.
Bias and limits of agreement against devices: docs/measurements.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from lvm_core.signal.beats import r_peaks
from lvm_core.signal.ecg import INDEPENDENT_LEADS, LEADS_12, N_LEADS, SOFTWARE, Measurements, r_column, s_column

Floats = NDArray[np.float32]

_RATE_HZ: Final = 500
_MS_PER_SAMPLE: Final = 1000 / _RATE_HZ
# III, aVR, aVL and aVF follow from I and II, which would count twice.
_INDEPENDENT: Final = INDEPENDENT_LEADS

# A beat is 260 ms on either side of R, in samples at 500 Hz; spans within it count from its start.
_REACH: Final = 130
_LENGTH: Final = 2 * _REACH + 1
_CORE: Final = slice(_REACH - 50, _REACH + 51)  # 100 ms on either side: QRS and little else
_LEVEL: Final = slice(_REACH - 50, _REACH - 30)  # the same part of PQ in each beat
_LEVEL_CENTRE: Final = _REACH - 40
_BESIDE: Final = np.r_[_REACH - 70 : _REACH - 30, _REACH + 40 : _REACH + 65]  # 80 ms before QRS, 50 ms after
_BEFORE_QRS: Final = slice(_REACH - 110, _REACH - 40)  # 140 ms: 7 or 8.4 cycles of the mains
_LONGEST_SHIFT: Final = 10  # R of a noisy beat may be found 20 ms beside its place

# Correlation over QRS in all leads. Extrasystoles and blocks that come and go are below; beats of
# one shape stay above with noise of 50 uV.
_SAME_SHAPE: Final = 0.85
_FEWEST_BEATS: Final = 3

_MAINS_HZ: Final = (50, 60)
_LEAST_MAINS_UV: Final = 5.0  # the noise of the estimate; smaller ones are left alone

# QRS begins and ends where the speed of the heart vector stays for 10 ms below 5 % of its maximum:
# the share at which eight recordings agree with their devices (docs/measurements.md). Where noise,
# P, ST or T move faster than that, below what they allow.
_SPEED_SHARE: Final = 0.05
_SPEED_OF_NOISE: Final = 1.8  # times the noise: the largest of five values, with room
_SPEED_OF_CALM: Final = 1.2  # times the calmest 10 ms before or after
_CALM_SAMPLES: Final = 5
_QRS_REACH: Final = 80  # 160 ms before and after the fastest instant

# Least height of a wave (CSE Working Party, Eur Heart J 1985;6:815-825: 20 uV).
_LEAST_WAVE_UV: Final = 20.0
_AFTER_END: Final = 5  # 10 ms, in which S may return to ST
_ISOELECTRIC: Final = 10  # 20 ms before QRS

# Standard error of the median beat above which a lead is not measured. R of aVL is often 400 uV.
_MOST_NOISE_UV: Final = 50.0
# Narrower is no QRS of a heart, and wider is QRS with ST or T.
_QRS_RANGE_MS: Final = (40.0, 240.0)
_SE_OF_MEDIAN: Final = 1.25  # over that of the mean
_SD_OF_MEDIAN_SIZE: Final = 1.4826  # of normal values, over their median absolute value


@dataclass(frozen=True, slots=True)
class MedianBeat:
    """The median of the beats of the dominant shape."""

    leads_uv: Floats  # (12, 261) R is at 130; the level before QRS is 0
    n_beats: int  # of the dominant shape
    noise_uv: Floats  # (12,) standard error
    speed_noise_uv: float  # noise of the speed of the heart vector


def measure_ecg(leads_uv: NDArray[np.floating]) -> Measurements:
    """Return R and S of each lead and the duration of QRS.

    R is the highest positive and S the deepest negative deflection of QRS, a Q included, from the
    mean of the 20 ms before QRS; 0 where there is none of 20 uV. All is None where fewer than three
    beats of one shape are found or their QRS is no QRS; a lead is None where it is constant or the
    noise of its median beat is above 50 uV. `measured_by` is `software` in any case.

    Args:
        leads_uv: (12, n_samples) microvolts in `LEADS_12` order, 500 Hz, all finite.

    Source:
        Kligfield P et al., J Am Coll Cardiol 2007;49:1109-1127 (representative beat, global QRS
        duration).
    """
    if leads_uv.ndim != 2 or leads_uv.shape[0] != N_LEADS:
        raise ValueError(f"leads_uv has shape {leads_uv.shape}, expected (12, n_samples)")
    nothing = Measurements(measured_by=SOFTWARE, qrs_measured_by=SOFTWARE)
    beat = median_beat(leads_uv)
    if beat is None:
        return nothing
    start, end = qrs_span(beat)
    duration_ms = (end - start) * _MS_PER_SAMPLE
    if not _QRS_RANGE_MS[0] <= duration_ms <= _QRS_RANGE_MS[1]:
        return nothing
    level_uv = beat.leads_uv[:, start - _ISOELECTRIC : start].mean(axis=1, keepdims=True)
    qrs_uv = beat.leads_uv[:, start : end + _AFTER_END + 1] - level_uv
    is_measured = (np.ptp(leads_uv, axis=1) > 0) & (beat.noise_uv <= _MOST_NOISE_UV)
    r_uv = np.where(is_measured, _largest_wave_uv(qrs_uv), np.nan)
    s_uv = np.where(is_measured, _largest_wave_uv(-qrs_uv), np.nan)
    values = {r_column(lead): value for lead, value in zip(LEADS_12, r_uv.tolist(), strict=True)}
    values |= {s_column(lead): value for lead, value in zip(LEADS_12, s_uv.tolist(), strict=True)}
    values |= {"qrs_voltage_sum_uv": float((r_uv + s_uv).sum()), "qrs_duration_ms": duration_ms}
    known = {name: value for name, value in values.items() if not np.isnan(value)}
    return Measurements(**known, measured_by=SOFTWARE, qrs_measured_by=SOFTWARE)


def median_beat(leads_uv: NDArray[np.floating]) -> MedianBeat | None:
    """Return the median beat of (12, n_samples) microvolts at 500 Hz; None below three beats."""
    independent_uv = leads_uv[_INDEPENDENT].astype(np.float32)
    # Half the rate is enough to find beats, and takes half the time; they are lined up afterwards.
    even = independent_uv.shape[1] // 2 * 2
    peaks = 2 * r_peaks((independent_uv[:, 0:even:2] + independent_uv[:, 1:even:2]) / 2, _RATE_HZ / 2)
    margin = _REACH + 2 * _LONGEST_SHIFT
    peaks = peaks[(peaks >= margin) & (peaks + margin < leads_uv.shape[1])]
    if len(peaks) < _FEWEST_BEATS:
        return None
    peaks = _lined_up(independent_uv, peaks)
    if len(peaks) < _FEWEST_BEATS:
        return None
    beats_uv = _without_mains(_without_wander(_cut(leads_uv, peaks, _REACH), peaks))
    median_uv = _median(beats_uv)
    rest_uv = beats_uv - median_uv
    root_n = float(np.sqrt(len(peaks)))
    # Half the beats may be spoilt: a median does not see them, and its error must not either.
    size_uv = _SD_OF_MEDIAN_SIZE * _median(np.abs(rest_uv[:, :, _CORE])).mean(axis=1)
    noise_uv = _SE_OF_MEDIAN * size_uv / root_n
    steps = _steps(rest_uv[:, _INDEPENDENT, _BEFORE_QRS])
    speed_noise_uv = _SE_OF_MEDIAN * float(np.sqrt(np.square(steps).sum(axis=1).mean())) / root_n
    return MedianBeat(median_uv, len(peaks), noise_uv.astype(np.float32), speed_noise_uv)


def _cut(leads_uv: NDArray[np.floating], peaks: NDArray[np.intp], reach: int) -> Floats:
    """Return (n_beats, n_leads, 2 * reach + 1) samples around peaks."""
    windows = peaks[:, None] + np.arange(-reach, reach + 1)
    return np.ascontiguousarray(leads_uv[:, windows].swapaxes(0, 1), dtype=np.float32)


def _median(beats_uv: Floats) -> Floats:
    # Sorted along the last axis: several times faster than along the first.
    by_instant = np.sort(np.ascontiguousarray(np.moveaxis(beats_uv, 0, -1)), axis=-1)
    n = by_instant.shape[-1]
    return np.asarray((by_instant[..., (n - 1) // 2] + by_instant[..., n // 2]) / 2, dtype=np.float32)


def _lined_up(leads_uv: Floats, peaks: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the peaks of the beats of the dominant shape, moved to where they agree best.

    The dominant shape is that of the beat which most others resemble.
    """
    n = len(peaks)
    reach = _REACH - _CORE.start
    wide_uv = _cut(leads_uv, peaks, reach + _LONGEST_SHIFT)
    wide_uv -= wide_uv.mean(axis=2, keepdims=True)
    shifted = sliding_window_view(wide_uv, 2 * reach + 1, axis=2)
    shift = np.full(n, _LONGEST_SHIFT)
    every = np.arange(n)
    for _ in range(2):
        shape = shifted[every, :, shift].reshape(n, -1)
        shape = shape / np.maximum(np.linalg.norm(shape, axis=1, keepdims=True), np.float32(1e-6))
        likeness = shape @ shape.T
        alike = likeness >= _SAME_SHAPE
        dominant = alike[np.argmax(alike.sum(axis=1) + likeness.mean(axis=1) / 2)]
        template_uv = _median(shifted[every, :, shift][dominant])
        shift = np.tensordot(shifted, template_uv, axes=([1, 3], [0, 1])).argmax(axis=1)
    return np.asarray((peaks + shift - _LONGEST_SHIFT)[dominant], dtype=np.intp)


def _without_wander(beats_uv: Floats, peaks: NDArray[np.intp]) -> Floats:
    """Take from each beat the level before QRS and its slope.

    The slope is that from beat to beat, and then what the beat differs from the median beat before
    and after QRS: wander is faster than beats when they are slow.
    """
    level_uv = beats_uv[:, :, _LEVEL].mean(axis=2)
    place = np.arange(len(peaks))
    before, after = np.maximum(place - 1, 0), np.minimum(place + 1, len(peaks) - 1)
    slope = (level_uv[after] - level_uv[before]) / (peaks[after] - peaks[before]).astype(np.float32)[:, None]
    from_level = np.arange(_LENGTH, dtype=np.float32) - np.float32(_LEVEL_CENTRE)
    level_uv = beats_uv - level_uv[:, :, None] - slope[:, :, None] * from_level
    rest_uv = (level_uv - _median(level_uv))[:, :, _BESIDE]
    x = _BESIDE.astype(np.float32) - np.float32(_LEVEL_CENTRE)
    slope = rest_uv @ x / (x @ x)
    return np.asarray(level_uv - slope[:, :, None] * from_level)


def _without_mains(beats_uv: Floats) -> Floats:
    """Take from each beat and lead the sine of the mains that the 140 ms before QRS show."""
    found = []
    for hz in _MAINS_HZ:
        fit, waves = _mains(hz)
        parts = beats_uv[:, :, _BEFORE_QRS] @ fit
        found.append((float(np.sqrt(np.square(parts).sum(axis=2).mean())), parts, waves))
    size_uv, parts, waves = max(found, key=lambda one: one[0])
    return beats_uv if size_uv < _LEAST_MAINS_UV else np.asarray(beats_uv - parts @ waves, dtype=np.float32)


@lru_cache(maxsize=len(_MAINS_HZ))
def _mains(hz: int) -> tuple[Floats, Floats]:
    """Return (70, 2), which finds cosine and sine beside a cubic, and (2, 261), both over a beat.

    The span is weighted by a Hann window, so that P does not look like mains.
    """
    time_s = np.arange(_LENGTH) / _RATE_HZ
    waves = np.array([np.cos(2 * np.pi * hz * time_s), np.sin(2 * np.pi * hz * time_s)])
    span = waves[:, _BEFORE_QRS]
    x = np.linspace(-1.0, 1.0, span.shape[1])
    weight = np.sqrt(np.hanning(span.shape[1] + 2)[1:-1])
    design = np.column_stack([np.vander(x, 4), span.T]) * weight[:, None]
    fit = np.linalg.pinv(design)[4:] * weight
    return fit.T.astype(np.float32), waves.astype(np.float32)


def _steps(values: Floats) -> Floats:
    return np.asarray(values[..., 2:] - values[..., :-2])


def qrs_span(beat: MedianBeat) -> tuple[int, int]:
    """Return the first and the last sample of QRS in the median beat, over all leads together."""
    length = np.sqrt(np.square(_steps(beat.leads_uv[_INDEPENDENT])).sum(axis=0))
    speed_uv = np.convolve(np.pad(length, 1, mode="edge"), np.full(3, 1 / 3, dtype=np.float32), mode="same")
    fastest = _CORE.start + int(speed_uv[_CORE].argmax())
    calm_uv = sliding_window_view(speed_uv, _CALM_SAMPLES).max(axis=1)  # from each sample on
    first = max(0, fastest - _QRS_REACH)
    before_uv = calm_uv[first : fastest - _CALM_SAMPLES]
    after_uv = calm_uv[fastest + 1 : fastest + _QRS_REACH]
    limit_uv = max(_SPEED_SHARE * float(speed_uv[fastest]), _SPEED_OF_NOISE * beat.speed_noise_uv)
    starts = np.flatnonzero(before_uv <= max(limit_uv, _SPEED_OF_CALM * float(before_uv.min())))
    ends = np.flatnonzero(after_uv <= max(limit_uv, _SPEED_OF_CALM * float(after_uv.min())))
    return first + int(starts[-1]) + _CALM_SAMPLES - 1, fastest + 1 + int(ends[0])


def _largest_wave_uv(qrs_uv: Floats) -> Floats:
    """Return the height of the highest positive wave of each lead; 0 without one.

    A wave falls by 20 uV before QRS ends, so that the rise into a raised ST is none.
    """
    lowest_after = np.minimum.accumulate(qrs_uv[:, ::-1], axis=1)[:, ::-1]
    is_wave = (qrs_uv >= _LEAST_WAVE_UV) & (qrs_uv - lowest_after >= _LEAST_WAVE_UV)
    return np.asarray(np.where(is_wave, qrs_uv, np.float32(0)).max(axis=1))
