"""The stored form of a recording: 10 s at 500 Hz as int16 counts, never padded silently."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin, kaiserord, resample_poly

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import N_LEADS, Ecg
from lvm_core.signal.plausibility import refuse_implausible_scale
from lvm_core.signal.quality import QualityFlag, check_finite
from lvm_core.signal.stated import is_usual_rate, measurements_disagree

_TARGET_RATE_HZ: Final = 500
_MIN_RATE_HZ: Final = 200
_MAX_RATE_HZ: Final = 2000

_STOP_BAND_DB: Final = 60.0
_PASS_BAND_SHARE: Final = 0.8  # of the lower Nyquist frequency, where the stop band begins
_DURATION_S: Final = 10
N_SAMPLES: Final = _DURATION_S * _TARGET_RATE_HZ

# 4990 of 5000 samples: devices that count 9.98 to 10 s as ten seconds exist (facts sheet,
# section 10), and 20 ms of a repeated last sample carry no beat.
MIN_DURATION_S: Final = 9.98

# No recorded ECG is 0 in all its leads for so long.
_SHORTEST_FILLING_S: Final = 0.02

# Below the noise of an ECG amplifier; a quarter of the usual 5 uV step.
_RESAMPLED_STEP_UV: Final = 1.25

# The finest step for samples whose own step is not known: 1/16 uV, a power of two, so that
# quantising loses nothing that matters and float32 holds the step exactly.
FINEST_STEP_UV: Final = 0.0625

# What still rounds to the last int16 count: 32767, or -32768 on the negative side.
_MAX_COUNT: Final = 32767.4
_MIN_COUNT: Final = -32768.4


@dataclass(frozen=True, slots=True)
class CanonicalEcg:
    """One recording as the ECG table stores it."""

    counts: NDArray[np.int16]  # (12, 5000) int16, rows in `LEADS_12` order, 500 Hz
    uv_per_count: float  # microvolts of one count; exactly a float32
    quality_flags: tuple[str, ...]  # members of `QualityFlag`, each once: those of the device, then ours
    source_sampling_rate_hz: float  # rate of the source


def n_zero_samples_at_ends(samples: NDArray[np.number]) -> tuple[int, int]:
    """Return how many samples at the start and at the end are 0 in all leads.

    `samples` are (n_samples, n_leads). All of them count as the end where every one is 0.
    """
    (recorded,) = np.nonzero((samples != 0).any(axis=1))
    if not len(recorded):
        return 0, len(samples)
    return int(recorded[0]), len(samples) - 1 - int(recorded[-1])


def without_filling(ecg: Ecg) -> Ecg:
    """Return a recording without the zeros in all leads that fill its start and its end.

    Zeros for less than 20 ms stay. CODE-15, for example, brings every ECG to 4,096 samples so. A
    recording that is 0 throughout is rejected as `lead_all_zero`.
    """
    n_start, n_end = n_zero_samples_at_ends(ecg.leads_uv)
    shortest = _SHORTEST_FILLING_S * ecg.sampling_rate_hz
    start = n_start if n_start >= shortest else 0
    stop = ecg.n_samples - (n_end if n_end >= shortest else 0)
    if stop <= start:
        raise EcgRejected(
            RejectReason.LEAD_ALL_ZERO, f"all leads are 0 over all {ecg.n_samples} samples; there is no recording"
        )
    return replace(ecg, leads_uv=ecg.leads_uv[start:stop])


def interpolate_missing(ecg: Ecg, max_gap_samples: int) -> Ecg:
    """Return the recording with short gaps of missing samples filled by straight lines.

    A gap is a run of NaN in one lead. Gaps of more than `max_gap_samples` samples of the source and
    those at the start or the end stay missing, so that `canonicalise` rejects the recording. Where
    a gap was filled the recording has the flag `interpolated`.
    """
    if max_gap_samples < 1:
        return ecg
    missing = np.isnan(ecg.leads_uv)
    if not missing.any():
        return ecg
    leads_uv = ecg.leads_uv.copy()
    n_filled = 0
    for lead in np.flatnonzero(missing.any(axis=0)).tolist():
        edges = np.flatnonzero(np.diff(missing[:, lead], prepend=False, append=False))
        for start, stop in edges.reshape(-1, 2).tolist():
            if stop - start > max_gap_samples or start == 0 or stop == ecg.n_samples:
                continue
            before_uv, after_uv = leads_uv[start - 1, lead], leads_uv[stop, lead]
            line_uv = np.linspace(before_uv, after_uv, stop - start + 2)
            leads_uv[start:stop, lead] = line_uv[1:-1]
            n_filled += stop - start
    if not n_filled:
        return ecg
    flags = (*ecg.quality_flags, QualityFlag.INTERPOLATED.value)
    return replace(ecg, leads_uv=leads_uv, quality_flags=flags)


def canonicalise(ecg: Ecg) -> CanonicalEcg:
    """Return a recording in its stored form.

    The first 10 s are taken, brought to 500 Hz, completed when a few samples are missing at the
    end, and rounded to counts. The stored step is that of the source, halved when leads were
    derived (half counts stay exact), 1.25 uV when resampled, doubled until nothing overflows.

    Raises:
        EcgRejected: `unsupported_rate`; `too_short`, less than 9.98 s; `non_finite`, a sample of
            the first 10 s is missing; `amplitude_implausible` and `lead_out_of_proportion`, before
            anything is rounded.
    """
    rate_hz = supported_rate_hz(ecg.sampling_rate_hz)
    if ecg.duration_s < MIN_DURATION_S:
        raise EcgRejected(
            RejectReason.TOO_SHORT,
            f"recording lasts {ecg.duration_s:.4g} s ({ecg.n_samples} samples at {rate_hz} Hz), "
            f"expected {_DURATION_S} s, at least {MIN_DURATION_S} s; it is not completed with zeros",
        )
    leads_uv = _at_500_hz(ecg.leads_uv, rate_hz)[:N_SAMPLES]
    source_step_uv = ecg.step_uv / 2 if ecg.leads_derived else ecg.step_uv
    is_resampled = ecg.sampling_rate_hz != _TARGET_RATE_HZ
    counts, step_uv = _to_counts(leads_uv, _RESAMPLED_STEP_UV if is_resampled else source_step_uv)
    n_missing = N_SAMPLES - counts.shape[1]
    if n_missing:
        counts = np.pad(counts, ((0, 0), (0, n_missing)), mode="edge")
    assert counts.shape == (N_LEADS, N_SAMPLES)
    return CanonicalEcg(
        counts=counts,
        uv_per_count=step_uv,
        quality_flags=_flags(ecg, n_missing, disagrees=measurements_disagree(counts, step_uv, ecg.measurements)),
        source_sampling_rate_hz=ecg.sampling_rate_hz,
    )


def _at_500_hz(leads_uv: NDArray[np.float32], rate_hz: int) -> NDArray[np.float32]:
    """Return the first 10 s at 500 Hz, and perhaps a little more, of a plausible recording."""
    n_needed = _DURATION_S * rate_hz
    check_finite(leads_uv[:n_needed])
    refuse_implausible_scale(leads_uv[:n_needed], rate_hz)
    # What follows the 10 s is real signal for the filter, as long as it was recorded.
    margin_uv = leads_uv[n_needed : n_needed + filter_reach_samples(rate_hz)]
    n_margin = len(margin_uv) if np.isfinite(margin_uv).all() else 0
    return resample_to_500_hz(leads_uv[: n_needed + n_margin], rate_hz)


def _to_counts(leads_uv: NDArray[np.float32], source_step_uv: float) -> tuple[NDArray[np.int16], float]:
    """Return (12, n_samples) counts and their step, exactly a float32."""
    low_uv, high_uv = float(leads_uv.min()), float(leads_uv.max())
    # int16 reaches one count further down than up: a source at its lower limit stays exact.
    max_abs_uv = np.asarray(max(high_uv, low_uv * _MAX_COUNT / _MIN_COUNT))
    step_uv = float(np.float32(finest_step_uv(max_abs_uv, float(np.float32(source_step_uv)))))
    counts = np.divide(leads_uv.T, step_uv, dtype=np.float64)
    np.rint(counts, out=counts)
    return np.ascontiguousarray(counts, dtype=np.int16), step_uv


def _flags(ecg: Ecg, n_missing: int, *, disagrees: bool) -> tuple[str, ...]:
    ours = {
        QualityFlag.SATURATED: bool(ecg.saturated_leads),
        QualityFlag.GAIN_DIFFERS: bool(ecg.odd_gain_leads),
        QualityFlag.MEASUREMENTS_DISAGREE: disagrees,
        QualityFlag.SAMPLING_RATE_UNUSUAL: not is_usual_rate(ecg.sampling_rate_hz),
        QualityFlag.LEADS_DERIVED: ecg.leads_derived,
        QualityFlag.RESAMPLED: ecg.sampling_rate_hz != _TARGET_RATE_HZ,
        QualityFlag.END_REPEATED: n_missing > 0,
        QualityFlag.CROPPED: ecg.duration_s > _DURATION_S,
    }
    flags = [*ecg.quality_flags, *(flag.value for flag, is_set in ours.items() if is_set)]
    return tuple(dict.fromkeys(flags))


def signal_sha256(counts: NDArray[np.int16], uv_per_count: float) -> str:
    """Return the SHA-256 of a signal, by which identical recordings are found.

    64 hexadecimal digits, of the little-endian int16 bytes of (12, 5000) counts, lead after lead in
    `LEADS_12` order, followed by the little-endian float32 bytes of `uv_per_count`.
    """
    digest = hashlib.sha256(np.ascontiguousarray(counts, dtype="<i2").data)
    digest.update(np.array(uv_per_count, dtype="<f4").tobytes())
    return digest.hexdigest()


def finest_step_uv(max_abs_uv: NDArray[np.float64], step_uv: float = FINEST_STEP_UV) -> NDArray[np.float64]:
    """Return the step of each recording, microvolts: `step_uv`, doubled until int16 holds all.

    `max_abs_uv` is an array of any shape, the largest magnitude of each recording, microvolts,
    finite. 1/16 uV holds up to 2047.9 uV.
    """
    overflow = np.asarray(max_abs_uv, dtype=np.float64) / (step_uv * _MAX_COUNT)
    _, exponent = np.frexp(overflow)  # overflow < 2**exponent, and at least half of that
    return np.asarray(np.ldexp(step_uv, np.maximum(exponent, 0)))


def supported_rate_hz(sampling_rate_hz: float) -> int:
    """Return the rate as an integer; refuse what is no whole number from 200 to 2000 Hz."""
    if sampling_rate_hz < _MIN_RATE_HZ:
        problem = "too low (100 Hz lacks the high frequencies of the QRS complex)"
    elif sampling_rate_hz > _MAX_RATE_HZ:
        problem = "too high for a 12-lead ECG"
    elif not float(sampling_rate_hz).is_integer():
        problem = "not a whole number"
    else:
        return int(sampling_rate_hz)
    raise EcgRejected(
        RejectReason.UNSUPPORTED_RATE,
        f"sampling rate is {sampling_rate_hz:g} Hz, {problem}; expected a whole number from "
        f"{_MIN_RATE_HZ} to {_MAX_RATE_HZ} Hz as the file states it",
    )


def filter_reach_samples(sampling_rate_hz: int) -> int:
    """Return how many source samples on either side of an instant its new value depends on."""
    if sampling_rate_hz == _TARGET_RATE_HZ:
        return 0
    up, _ = _up_down(sampling_rate_hz)
    return len(_filter(sampling_rate_hz)) // 2 // up + 1


def resample_to_500_hz(leads_uv: NDArray[np.float32], sampling_rate_hz: float) -> NDArray[np.float32]:
    """Return the recording at 500 Hz, sample 0 at the same instant.

    A linear-phase low-pass filter (Kaiser window; flat to 80 % of the lower of the two Nyquist
    frequencies, about 60 dB down from that Nyquist frequency on) in polyphase form. Before
    filtering the recording is continued at both ends by its point reflection about the end sample
    (2 * end - mirrored), which keeps value and slope, so that neither a baseline offset nor a drift
    rings there. Each polyphase branch sums to 1: a constant stays that constant.

    Takes (n_samples, 12) float32, microvolts, all finite, two samples or more; returns
    (ceil(n_samples * 500 / sampling_rate_hz), 12) float32, at 500 Hz the input itself. Rates are
    refused as by `supported_rate_hz`.

    Source:
        Oppenheim AV, Schafer RW, Discrete-Time Signal Processing, chapter 4 (polyphase rate
        change) and section 7.5 (Kaiser window).
    """
    rate_hz = supported_rate_hz(sampling_rate_hz)
    if len(leads_uv) < 2:
        raise ValueError(f"leads_uv has {len(leads_uv)} samples, expected two or more")
    if rate_hz == _TARGET_RATE_HZ:
        return leads_uv
    up, down = _up_down(rate_hz)
    taps = _filter(rate_hz) / up  # resample_poly multiplies by `up`
    resampled = resample_poly(leads_uv, up, down, axis=0, window=taps, padtype="antireflect")
    assert resampled.shape == (-(-len(leads_uv) * up // down), leads_uv.shape[1])
    return np.asarray(resampled, dtype=np.float32)


def _up_down(rate_hz: int) -> tuple[int, int]:
    common = gcd(_TARGET_RATE_HZ, rate_hz)
    return _TARGET_RATE_HZ // common, rate_hz // common


@lru_cache(maxsize=8)
def _filter(rate_hz: int) -> NDArray[np.float64]:
    """Return the low-pass filter at the common rate, of odd length, each branch summing to 1."""
    up, down = _up_down(rate_hz)
    nyquist = 1 / max(up, down)  # the lower one, as a share of the common rate's
    n_taps, beta = kaiserord(_STOP_BAND_DB, (1 - _PASS_BAND_SHARE) * nyquist)
    centre = (1 + _PASS_BAND_SHARE) / 2 * nyquist
    taps = np.asarray(firwin(n_taps | 1, centre, window=("kaiser", beta)), dtype=np.float64)
    for branch in range(up):
        taps[branch::up] /= taps[branch::up].sum()
    taps.setflags(write=False)  # shared by every caller through the cache
    return taps
