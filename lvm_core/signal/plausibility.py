"""May this ECG be scored? Constant leads, amplitudes, proportions and limb leads, by record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import DERIVED_FROM_I_AND_II, LEADS_12
from lvm_core.signal.quality import QualityFlag, Rejection
from lvm_core.signal.scale import TYPICAL_MEDIAN_AMPLITUDE_UV, scale_mistake

# The twelve standard deviations of a real ECG are 2 to 10 fold apart (facts sheet, section 10);
# within 1 % of each other they were scaled lead by lead, and the voltages are lost.
_STANDARDISED_MAX_SD_RATIO: Final = 1.01

# The amplitude of a lead is the largest minus the smallest value within 2 s, the median of the five
# such pieces of a recording. A heart of 30 beats a minute has a QRS complex in each piece, and
# what disturbs one or two pieces does not count. Figures of real ECGs: docs/plausibility.md.
_AMPLITUDE_PIECE_S: Final = 2

# Microvolts of one count: converters of 24 bits have steps near 0.02 uV, of 8 bits near 40 uV.
_STEP_RANGE_UV: Final = (0.001, 100.0)

# Of the median over the twelve leads. 22 real ECGs of CardioSoft, MUSE and four public WFDB
# collections lie between 480 and 1984 uV (geometric mean 1095 uV, SD a factor of 1.38), so that the
# flags are over 3 SDs away and catch most records that are 5 times too large or small.
# "Low QRS voltage" (below 500 uV in all limb leads and below 1000 uV in all chest leads) is not
# flagged by itself. The limits of rejection are over 5 SDs away: 6000 uV is twice what is flagged,
# 100 uV is the width of a line on paper.
_UNUSUAL_MEDIAN_UV: Final = (350.0, 3000.0)
_IMPLAUSIBLE_MEDIAN_UV: Final = (100.0, 6000.0)

# Of any lead. An electrocardiograph must take in signals of plus and minus 5 mV (IEC 60601-2-25),
# and 22 real ECGs reach 9462 uV; twice that range is no ECG.
_UNUSUAL_LEAD_UV: Final = 10000.0
_IMPLAUSIBLE_LEAD_UV: Final = 20000.0

# The largest lead over the second largest: at most 2.05 in 22 real ECGs, 1.28 in 2,000 synthetic.
_LARGE_LEAD_FLAG: Final = 3.0
_LARGE_LEAD_REJECT: Final = 6.0
# The largest limb lead over the largest chest lead: at most 1.03 in real ECGs, 1.72 in synthetic.
_LARGE_LIMB_LEADS_FLAG: Final = 2.0
# A chest lead over its smaller neighbour. V2 to V5: at least 0.54 in real ECGs, 0.43 in synthetic.
# V1 and V6 have one neighbour, and are small beside it in health: 0.21 is the least seen.
_SMALL_CHEST_LEAD_FLAG: Final = 0.25
_SMALL_END_LEAD_FLAG: Final = 0.12
_SMALL_CHEST_LEAD_REJECT: Final = 0.02

# Standard deviation of what III, aVR, aVL and aVF differ from the algebra of I and II, over the
# standard deviation of the largest limb lead: at most 0.015 in 22 real ECGs. Swapping two limb
# leads gives 0.15 to 2, a gain of one limb lead that is five times too large 0.66 to 0.80.
_LIMB_DIFFERENCE_FLAG: Final = 0.10
_LIMB_DIFFERENCE_REJECT: Final = 0.60
# Devices store derived leads rounded and up to 20 uV from the algebra (facts sheet, section 10);
# differences spread evenly to 20 uV on either side have a standard deviation of 11.5 uV.
_LIMB_DIFFERENCE_ALLOWED_UV: Final = 12.0
# Of the means: at most 1 uV in 22 real ECGs.
_LIMB_OFFSET_FLAG_UV: Final = 100.0
# The mean of a lead: at most 430 uV in 22 real ECGs, which were stored without a filter.
_BASELINE_OFFSET_FLAG_UV: Final = 2000.0

# Every eighth sample (62.5 Hz) is enough for means and standard deviations over 10 s.
_N_STATISTIC_SAMPLES: Final = 625

# Rows: III, aVR, aVL, aVF minus their values from I and II. Columns: the six limb leads.
_EINTHOVEN: Final = np.array(
    [
        [1.0, -1.0, 1.0, 0.0, 0.0, 0.0],
        [0.5, 0.5, 0.0, 1.0, 0.0, 0.0],
        [-1.0, 0.5, 0.0, 0.0, 1.0, 0.0],
        [0.5, -1.0, 0.0, 0.0, 0.0, 1.0],
    ],
    dtype=np.float32,
)
_SMALL_LEAD_FLAGS: Final = np.array([_SMALL_END_LEAD_FLAG, *(_SMALL_CHEST_LEAD_FLAG,) * 4, _SMALL_END_LEAD_FLAG])
_RATE_HZ: Final = 500
_N_LIMB: Final = 6
_CHEST: Final = slice(_N_LIMB, None)


def is_about_scale(reason: str) -> bool:
    """Return True for reasons of scale and leads: such an ECG holds a signal that shows both."""
    return reason in (
        RejectReason.AMPLITUDE_IMPLAUSIBLE,
        RejectReason.LEAD_OUT_OF_PROPORTION,
        RejectReason.LIMB_LEADS_INCONSISTENT,
    )


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is wrong with an ECG."""

    rejection: Rejection | None  # why it must not be scored; None when it may be
    flags: tuple[str, ...] = ()  # members of `QualityFlag`, in the order of the class; empty for a rejected ECG

    @property
    def has_signal(self) -> bool:
        """True unless there is no signal in volts to look at."""
        return self.rejection is None or is_about_scale(self.rejection.reason.value)


def lead_amplitudes(samples: NDArray[Any], rate_hz: int) -> NDArray[np.float64]:
    """Return the amplitude of each lead of each ECG, (n, 12), in the unit of the samples.

    `samples` are (n, 12, n_samples); a recording shorter than 2 s is one piece.
    """
    low, high = _piece_limits(samples, rate_hz)
    return _median_range(low, high)


def _piece_limits(samples: NDArray[Any], rate_hz: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (n, 12, n_pieces) smallest and largest values of pieces of `_AMPLITUDE_PIECE_S`."""
    n, n_leads, n_samples = samples.shape
    length = min(_AMPLITUDE_PIECE_S * rate_hz, n_samples)
    n_pieces = n_samples // length
    pieces = samples[:, :, : n_pieces * length].reshape(n, n_leads, n_pieces, length)
    return pieces.min(axis=3), pieces.max(axis=3)


def _median_range(low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(np.median(np.subtract(high, low, dtype=np.float64), axis=2))


def unscorable(counts: NDArray[np.int16], uv_per_count: float) -> Rejection | None:
    """Return why an ECG, (12, n_samples) counts, must not be scored, or None; see `judge_ecgs`."""
    (judgement,) = judge_ecgs(counts[None], np.array([uv_per_count], dtype=np.float32))
    return judgement.rejection


def judge_ecgs(counts: NDArray[np.int16], uv_per_count: NDArray[np.float32]) -> list[Judgement]:
    """Return for each ECG why it must not be scored, or with which flags it may be.

    Rejected is, in this order: a step that is not a finite value above 0 (`non_finite`); samples
    that are all 0 (`lead_all_zero`); a lead that is constant at any value (`lead_flat`); standard
    deviations that agree within 1 % (`lead_standardised`); a step or amplitudes that no ECG
    has (`amplitude_implausible`); a lead far larger than all others or a chest lead far smaller
    than its neighbours (`lead_out_of_proportion`); limb leads that do not follow from I and II
    (`limb_leads_inconsistent`). Nearer limits give flags.

    Args:
        counts: (n, 12, n_samples) int16, leads in `LEADS_12` order, 500 Hz.
        uv_per_count: (n,) float32, microvolts of one count.
    """
    if counts.ndim != 3 or counts.shape[1] != len(LEADS_12) or counts.shape[2] == 0:
        raise ValueError(f"counts has shape {counts.shape}, expected (n, 12, n_samples)")
    if counts.dtype != np.int16:
        raise ValueError(f"counts is {counts.dtype}, expected int16")
    if uv_per_count.shape != (len(counts),):
        raise ValueError(f"uv_per_count has shape {uv_per_count.shape}, expected ({len(counts)},)")
    piece_low, piece_high = _piece_limits(counts, _RATE_HZ)
    whole = counts if counts.shape[2] % (_AMPLITUDE_PIECE_S * _RATE_HZ) else None
    low = piece_low.min(axis=2) if whole is None else whole.min(axis=2)
    high = piece_high.max(axis=2) if whole is None else whole.max(axis=2)
    judgements = [Judgement(r) for r in _signal_rejections(counts, uv_per_count, low, high)]
    # What has no step is rejected above; 1 keeps the arithmetic free of NaN and infinity.
    has_step = np.isfinite(uv_per_count) & (uv_per_count > 0)
    step_uv = np.where(has_step, uv_per_count, np.float32(1))
    scale = _Scale.of(_median_range(piece_low, piece_high) * step_uv[:, None])
    limb = LimbLeads.of(counts, step_uv)
    rejects, flags = _rejects(scale, limb, step_uv), _flags(scale, limb)
    for i in np.flatnonzero(np.any([*rejects.values(), *flags.values()], axis=0)).tolist():
        if judgements[i].rejection is None:
            reason = next((reason for reason, mask in rejects.items() if mask[i]), None)
            if reason is None:
                judgements[i] = Judgement(None, tuple(flag.value for flag, mask in flags.items() if mask[i]))
            else:
                judgements[i] = Judgement(Rejection(reason, _message(reason, scale, limb, step_uv, i)))
    return judgements


def _rejects(scale: _Scale, limb: LimbLeads, step_uv: NDArray[np.float32]) -> dict[RejectReason, NDArray[np.bool_]]:
    """Return (n,) masks of ECGs that must not be scored; the first that applies is the reason."""
    beyond = (limb.difference_uv > _LIMB_DIFFERENCE_ALLOWED_UV) & (limb.share > _LIMB_DIFFERENCE_REJECT)
    return {
        **scale.rejects(_outside(step_uv, _STEP_RANGE_UV)),
        RejectReason.LIMB_LEADS_INCONSISTENT: _of_any_lead(beyond),
    }


def _flags(scale: _Scale, limb: LimbLeads) -> dict[QualityFlag, NDArray[np.bool_]]:
    """Return (n,) masks of ECGs that get a flag because few ECGs are like them."""
    largest_uv = scale.amplitude_uv.max(axis=1)
    small = (scale.chest_lead < _SMALL_LEAD_FLAGS).any(axis=1)
    beyond = (limb.difference_uv > _LIMB_DIFFERENCE_ALLOWED_UV) & (limb.share > _LIMB_DIFFERENCE_FLAG)
    return {
        QualityFlag.AMPLITUDE_UNUSUAL: _outside(scale.median_uv, _UNUSUAL_MEDIAN_UV) | (largest_uv > _UNUSUAL_LEAD_UV),
        QualityFlag.LEAD_OUT_OF_PROPORTION: (
            small | (scale.large_lead > _LARGE_LEAD_FLAG) | (scale.limb_leads > _LARGE_LIMB_LEADS_FLAG)
        ),
        QualityFlag.LIMB_LEADS_INCONSISTENT: _of_any_lead(beyond | (np.abs(limb.offset_uv) > _LIMB_OFFSET_FLAG_UV)),
        QualityFlag.BASELINE_OFFSET: _of_any_lead(np.abs(limb.mean_uv) > _BASELINE_OFFSET_FLAG_UV),
    }


def _message(reason: RejectReason, scale: _Scale, limb: LimbLeads, step_uv: NDArray[np.float32], i: int) -> str:
    if reason is RejectReason.LIMB_LEADS_INCONSISTENT:
        k = int(limb.share[i].argmax())
        return (
            f"lead {DERIVED_FROM_I_AND_II[k]} differs from what I and II give by "
            f"{limb.difference_uv[i, k]:.0f} uV, {limb.share[i, k]:.0%} of the largest limb lead "
            f"(standard deviations), expected below {_LIMB_DIFFERENCE_REJECT:.0%}; correct the names or "
            "the order of leads, or the gain of the lead that is wrong"
        )
    step = float(step_uv[i])
    if not _STEP_RANGE_UV[0] <= step <= _STEP_RANGE_UV[1]:
        return (
            f"uv_per_count is {step:g} uV, expected {_STEP_RANGE_UV[0]:g} to "
            f"{_STEP_RANGE_UV[1]:g} uV; the scale cannot be right, correct it at the source"
        )
    return scale.message(reason, i)


def _signal_rejections(
    counts: NDArray[np.int16], uv_per_count: NDArray[np.float32], low: NDArray[np.int16], high: NDArray[np.int16]
) -> list[Rejection | None]:
    """Return for each ECG why it holds no signal in volts; `low` and `high` are (n, 12) counts."""
    stepped = np.isfinite(uv_per_count) & (uv_per_count > 0)
    moving = np.flatnonzero(stepped & (low != high).all(axis=1))
    ranges = high[moving].astype(np.int32) - low[moving]
    # Of each ECG the two leads that differ most, nearly always enough.
    two = np.stack([ranges.argmin(axis=1), ranges.argmax(axis=1)], axis=1)
    ratio = _standard_deviation_ratio(counts[moving[:, None], two])
    clear = np.zeros(len(counts), dtype=np.bool_)
    clear[moving] = ratio > _STANDARDISED_MAX_SD_RATIO
    problems: list[Rejection | None] = [None] * len(counts)
    for i in np.flatnonzero(~clear).tolist():
        problems[i] = _signal_rejection(counts[i], float(uv_per_count[i]), low[i], high[i])
    return problems


def _constant_lead_message(counts: NDArray[np.int16], uv: float, constant: Sequence[int]) -> str:
    parts = [f"{LEADS_12[lead]} at {counts[lead, 0] * uv:g} uV" for lead in constant]
    n_samples = counts.shape[1]
    if len(parts) == 1:
        lead, value = parts[0].split(" at ")
        return f"lead {lead} is constant at {value} over {n_samples} samples"
    return f"leads {', '.join(parts)} are constant over {n_samples} samples"


def _standard_deviation_ratio(counts: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the largest over the smallest standard deviation of the leads, of which none is 0."""
    # Sums as matrix products: half the time, and this is done for every ECG.
    centred = counts.astype(np.float32)
    ones = np.ones(counts.shape[2], dtype=np.float32)
    centred -= (centred @ ones / np.float32(counts.shape[2]))[:, :, None]
    variance = np.vecdot(centred, centred)
    return np.asarray(np.sqrt(variance.max(axis=1) / variance.min(axis=1)), dtype=np.float32)


def _signal_rejection(
    counts: NDArray[np.int16], uv: float, low: NDArray[np.int16], high: NDArray[np.int16]
) -> Rejection | None:
    """Return what is wrong with one ECG, of which the smallest and largest counts are known."""
    if not (np.isfinite(uv) and uv > 0):
        return Rejection(RejectReason.NON_FINITE, f"uv_per_count is {uv:g} uV, expected a finite value above 0")
    if not (low.any() or high.any()):
        return Rejection(
            RejectReason.LEAD_ALL_ZERO,
            f"all twelve leads are 0 uV over {counts.shape[1]} samples; no signal was recorded",
        )
    constant = np.flatnonzero(low == high).tolist()
    if constant:
        return Rejection(RejectReason.LEAD_FLAT, _constant_lead_message(counts, uv, constant))
    ratio = float(_standard_deviation_ratio(counts[None])[0])
    return _standardised(ratio, "twelve") if ratio <= _STANDARDISED_MAX_SD_RATIO else None


def _standardised(ratio: float, n_leads: int | str) -> Rejection:
    return Rejection(
        RejectReason.LEAD_STANDARDISED,
        f"the standard deviations of the {n_leads} leads agree within {100 * (ratio - 1):.2g} %; "
        "the leads were scaled one by one, expected microvolts or counts as recorded",
    )


def refuse_standardised(samples: NDArray[np.floating]) -> None:
    """Refuse a recording whose leads were all scaled to one standard deviation.

    `samples` are (n_leads, n_samples) as stored, in any unit. Leads that are constant or hold what
    is not finite are left to other checks.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        sd = samples.astype(np.float64).std(axis=1)
        ratio = float(sd.max() / sd.min()) if np.isfinite(sd).all() and sd.min() > 0 else float("inf")
    if ratio <= _STANDARDISED_MAX_SD_RATIO:
        raise EcgRejected(*_standardised(ratio, len(samples)))


def refuse_implausible_scale(leads_uv: NDArray[np.float32], rate_hz: int) -> None:
    """Refuse a recording with amplitudes that no ECG has, before it is rounded to counts.

    One absurd lead would coarsen the step of the other eleven, and resampling would round a signal
    that is far too small to nothing. Leads without amplitude are left to `judge_ecgs`. Takes
    (n_samples, 12) microvolts, all finite, columns in `LEADS_12` order.
    """
    amplitude_uv = lead_amplitudes(np.ascontiguousarray(leads_uv.T)[None], rate_hz)
    moving = amplitude_uv > 0
    if not moving.any():
        return
    amplitude_uv = np.where(moving, amplitude_uv, np.median(amplitude_uv[moving]))
    scale = _Scale.of(amplitude_uv)
    for reason, mask in scale.rejects(np.zeros(1, dtype=np.bool_)).items():
        if mask[0]:
            raise EcgRejected(reason, scale.message(reason, 0))


@dataclass(frozen=True, slots=True)
class _Scale:
    """The amplitudes of n ECGs, and how they compare with each other."""

    amplitude_uv: NDArray[np.floating]  # (n, 12)
    median_uv: NDArray[np.floating]  # (n,) of the twelve leads
    large_lead: NDArray[np.floating]  # (n,) the largest lead over the second largest
    limb_leads: NDArray[np.floating]  # (n,) the largest limb lead over the largest chest lead
    chest_lead: NDArray[np.floating]  # (n, 6) each chest lead over its smaller neighbour

    @classmethod
    def of(cls, amplitude_uv: NDArray[np.floating]) -> _Scale:
        """Return the comparison; a lead of amplitude 0 beside another gives 0, NaN or infinity."""
        ordered = np.sort(amplitude_uv, axis=1)
        chest = amplitude_uv[:, _CHEST]
        neighbour = np.empty_like(chest)
        neighbour[:, 0], neighbour[:, -1] = chest[:, 1], chest[:, -2]
        neighbour[:, 1:-1] = np.minimum(chest[:, :-2], chest[:, 2:])
        with np.errstate(divide="ignore", invalid="ignore"):
            return cls(
                amplitude_uv,
                (ordered[:, 5] + ordered[:, 6]) / 2,
                ordered[:, -1] / ordered[:, -2],
                amplitude_uv[:, :_N_LIMB].max(axis=1) / chest.max(axis=1),
                chest / neighbour,
            )

    def rejects(self, step_outside: NDArray[np.bool_]) -> dict[RejectReason, NDArray[np.bool_]]:
        """Return (n,) masks of ECGs to reject; `step_outside` marks steps that are impossible."""
        one_lead = (self.large_lead > _LARGE_LEAD_REJECT) | (self.chest_lead < _SMALL_CHEST_LEAD_REJECT).any(axis=1)
        all_leads = _outside(self.median_uv, _IMPLAUSIBLE_MEDIAN_UV) | step_outside
        too_large = self.amplitude_uv.max(axis=1) > _IMPLAUSIBLE_LEAD_UV
        return {
            RejectReason.AMPLITUDE_IMPLAUSIBLE: all_leads | (too_large & ~one_lead),
            RejectReason.LEAD_OUT_OF_PROPORTION: one_lead,
        }

    def message(self, reason: RejectReason, i: int) -> str:
        """Return what is wrong with the amplitudes of one ECG that is rejected."""
        leads_uv, median_uv = self.amplitude_uv[i], float(self.median_uv[i])
        largest = int(leads_uv.argmax())
        if reason is RejectReason.LEAD_OUT_OF_PROPORTION:
            return self._one_lead_message(i, largest)
        low_uv, high_uv = _IMPLAUSIBLE_MEDIAN_UV
        if low_uv <= median_uv <= high_uv:
            return (
                f"lead {LEADS_12[largest]} has an amplitude of {leads_uv[largest]:,.0f} uV, expected at most "
                f"{_IMPLAUSIBLE_LEAD_UV:,.0f} uV; correct the unit or the gain at the source"
            )
        _, cause = scale_mistake(max(median_uv, 1e-9) / TYPICAL_MEDIAN_AMPLITUDE_UV)
        return (
            f"median amplitude of the leads is {median_uv:,.4g} uV, expected {low_uv:,.0f} to "
            f"{high_uv:,.0f} uV; it looks {cause} Correct the unit or the gain at the source"
        )

    def _one_lead_message(self, i: int, largest: int) -> str:
        leads_uv = self.amplitude_uv[i]
        advice = "correct the gain of the lead at the source"
        if self.large_lead[i] > _LARGE_LEAD_REJECT:
            return (
                f"lead {LEADS_12[largest]} has an amplitude of {leads_uv[largest]:,.0f} uV, {self.large_lead[i]:,.1f} "
                f"times that of the next largest lead, expected at most {_LARGE_LEAD_REJECT:g} times; {advice}"
            )
        k = int(np.nanargmin(self.chest_lead[i]))
        return (
            f"lead {LEADS_12[_N_LIMB + k]} has an amplitude of {leads_uv[_N_LIMB + k]:,.4g} uV, "
            f"{self.chest_lead[i, k]:.2g} times that of its smaller neighbour, expected at least "
            f"{_SMALL_CHEST_LEAD_REJECT:g} times; {advice}, or see whether its electrode was off"
        )


@dataclass(frozen=True, slots=True)
class LimbLeads:
    """How far III, aVR, aVL and aVF are from the algebra of I and II, in n ECGs."""

    difference_uv: NDArray[np.float32]  # (n, 4) standard deviation of the difference
    share: NDArray[np.float32]  # (n, 4) the same over the standard deviation of the largest limb lead
    offset_uv: NDArray[np.float32]  # (n, 4) mean of the difference
    mean_uv: NDArray[np.float32]  # (n, 12) mean of each lead

    @classmethod
    def of(cls, counts: NDArray[np.int16], uv_per_count: NDArray[np.float32]) -> LimbLeads:
        """Compare the limb leads of (n, 12, n_samples) counts."""
        stride = max(1, counts.shape[2] // _N_STATISTIC_SAMPLES)
        samples = counts[:, :, ::stride].astype(np.float32)
        mean = samples.mean(axis=2)
        limb = samples[:, :_N_LIMB] - mean[:, :_N_LIMB, None]
        difference = _standard_deviations(_EINTHOVEN @ limb)
        # Where no limb lead moves, which is rejected as constant, any share is 0.
        largest = np.maximum(_standard_deviations(limb).max(axis=1), np.float32(1e-6))
        step_uv = uv_per_count[:, None]
        return cls(
            difference * step_uv,
            difference / largest[:, None],
            mean[:, :_N_LIMB] @ _EINTHOVEN.T * step_uv,
            mean * step_uv,
        )


def _standard_deviations(centred: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the standard deviations of samples, (n, leads, n_samples), whose mean is 0."""
    mean_square = np.vecdot(centred, centred) / np.float32(centred.shape[2])
    return np.asarray(np.sqrt(mean_square), dtype=np.float32)


def _of_any_lead(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(mask.any(axis=1))


def _outside(values: NDArray[np.floating], limits: tuple[float, float]) -> NDArray[np.bool_]:
    return np.asarray((values < limits[0]) | (values > limits[1]))
