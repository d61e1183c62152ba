"""What makes an ECG unusable, what is only worth a flag, and whether a run's scale is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.leads import LEADS_12

# The twelve standard deviations of a real ECG are 2 to 10 fold apart (facts sheet, section 10);
# within 1 % of each other they were scaled lead by lead, and the voltages are lost.
STANDARDISED_MAX_SD_RATIO: Final = 1.01


class QualityFlag(StrEnum):
    """A remark that travels with a recording into `quality_flags`; the list is closed."""

    POOR_DATA_QUALITY = "poor_data_quality"  # the device's own statement
    SATURATED = "saturated"  # a lead stays at a limit of the source's integer type
    XML_REPAIRED = "xml_repaired"  # stray &, < or control characters outside the waveform
    CHECKSUM_ABSENT = "checksum_absent"  # a WFDB header with 0 in place of every checksum
    UNIT_ASSUMED = "unit_assumed"  # MUSE: 4.88 without a unit, which can only be microvolts
    DATE_UNREADABLE = "date_unreadable"  # a date is given, but cannot be read: recorded_at is null
    INTERPOLATED = "interpolated"  # short gaps of missing samples filled, only when asked for
    LEADS_DERIVED = "leads_derived"  # III, aVR, aVL, aVF computed from I and II
    RESAMPLED = "resampled"  # another rate than 500 Hz
    END_REPEATED = "end_repeated"  # at least 9.98 s, completed by repeating the last sample
    CROPPED = "cropped"  # longer than 10 s: the first 10 s are used
    AGE_NOT_AT_RECORDING = "age_not_at_recording"  # one age for ECGs over a year apart
    BIRTH_DAY_ASSUMED = "birth_day_assumed"  # age from a birth of which month and year are known
    AGE_OUT_OF_RANGE = "age_out_of_range"  # given, but implausible: not used
    BMI_OUT_OF_RANGE = "bmi_out_of_range"
    HEIGHT_OUT_OF_RANGE = "height_out_of_range"
    WEIGHT_OUT_OF_RANGE = "weight_out_of_range"


class Rejection(NamedTuple):
    """Why a recording cannot be scored.

    Attributes:
        reason: member of `RejectReason`.
        message: what is wrong with its value and unit; no personal data.
    """

    reason: RejectReason
    message: str


def _constant_lead_message(counts: NDArray[np.int16], uv: float, constant: Sequence[int]) -> str:
    parts = [f"{LEADS_12[lead]} at {counts[lead, 0] * uv:g} uV" for lead in constant]
    n_samples = counts.shape[1]
    if len(parts) == 1:
        lead, value = parts[0].split(" at ")
        return f"lead {lead} is constant at {value} over {n_samples} samples"
    return f"leads {', '.join(parts)} are constant over {n_samples} samples"


def _standard_deviation_ratio(counts: NDArray[np.int16]) -> NDArray[np.float32]:
    """Return the largest of the leads' standard deviations over the smallest; none is 0.

    Args:
        counts: (n, leads, n_samples).
    """
    # Sums as matrix products: half the time, and this is done for every ECG.
    centred = counts.astype(np.float32)
    ones = np.ones(counts.shape[2], dtype=np.float32)
    centred -= (centred @ ones / np.float32(counts.shape[2]))[:, :, None]
    variance = np.vecdot(centred, centred)
    return np.asarray(np.sqrt(variance.max(axis=1) / variance.min(axis=1)), dtype=np.float32)


def unscorable(counts: NDArray[np.int16], uv_per_count: float) -> Rejection | None:
    """Return why an ECG must not be scored, or None when it may be; see `scorable`.

    Args:
        counts: (12, n_samples) int16, leads in `LEADS_12` order.
        uv_per_count: microvolts of one count.
    """
    (problem,) = scorable(counts[None], np.array([uv_per_count], dtype=np.float32))
    return problem


def scorable(
    counts: NDArray[np.int16], uv_per_count: NDArray[np.float32]
) -> list[Rejection | None]:
    """Return for each ECG why it must not be scored, or None when it may be.

    In this order: the step is not a finite value above 0 (`non_finite`); all samples of all leads
    are 0 (`lead_all_zero`); a lead is constant at any value (`lead_flat`; only exact constants, as
    a lead that fell off is, because a threshold on small signals would reject real low voltage);
    the standard deviations of the leads agree within 1 % (`lead_standardised`).

    Args:
        counts: (n, 12, n_samples) int16, leads in `LEADS_12` order.
        uv_per_count: (n,) float32, microvolts of one count.

    Raises:
        ValueError: a shape or the dtype is not what is stated above.
    """
    if counts.ndim != 3 or counts.shape[1] != len(LEADS_12) or counts.shape[2] == 0:
        raise ValueError(f"counts has shape {counts.shape}, expected (n, 12, n_samples)")
    if counts.dtype != np.int16:
        raise ValueError(f"counts is {counts.dtype}, expected int16")
    if uv_per_count.shape != (len(counts),):
        raise ValueError(f"uv_per_count has shape {uv_per_count.shape}, expected ({len(counts)},)")
    low, high = counts.min(axis=2), counts.max(axis=2)
    stepped = np.isfinite(uv_per_count) & (uv_per_count > 0)
    moving = np.flatnonzero(stepped & (low != high).all(axis=1))
    ranges = high[moving].astype(np.int32) - low[moving]
    # Of each ECG the two leads that differ most, nearly always enough.
    two = np.stack([ranges.argmin(axis=1), ranges.argmax(axis=1)], axis=1)
    ratio = _standard_deviation_ratio(counts[moving[:, None], two])
    clear = np.zeros(len(counts), dtype=np.bool_)
    clear[moving] = ratio > STANDARDISED_MAX_SD_RATIO
    problems: list[Rejection | None] = [None] * len(counts)
    for i in np.flatnonzero(~clear).tolist():
        problems[i] = _rejection(counts[i], float(uv_per_count[i]), low[i], high[i])
    return problems


def _rejection(
    counts: NDArray[np.int16], uv: float, low: NDArray[np.int16], high: NDArray[np.int16]
) -> Rejection | None:
    """Return what is wrong with one ECG, of which the smallest and largest counts are known."""
    if not (np.isfinite(uv) and uv > 0):
        return Rejection(
            RejectReason.NON_FINITE,
            f"uv_per_count is {uv:g} uV, expected a finite value above 0",
        )
    if not (low.any() or high.any()):
        return Rejection(
            RejectReason.LEAD_ALL_ZERO,
            f"all twelve leads are 0 uV over {counts.shape[1]} samples; no signal was recorded",
        )
    constant = np.flatnonzero(low == high).tolist()
    if constant:
        return Rejection(RejectReason.LEAD_FLAT, _constant_lead_message(counts, uv, constant))
    ratio = float(_standard_deviation_ratio(counts[None])[0])
    if ratio <= STANDARDISED_MAX_SD_RATIO:
        return Rejection(
            RejectReason.LEAD_STANDARDISED,
            f"the standard deviations of the twelve leads agree within {100 * (ratio - 1):.2g} %; "
            "the leads were scaled one by one, expected microvolts or counts as recorded",
        )
    return None


def non_finite_message(n_bad_by_lead: Sequence[int] | NDArray[np.integer], n_samples: int) -> str:
    """Return the message for samples that are NaN or infinite, lead by lead.

    Args:
        n_bad_by_lead: twelve counts of bad samples in `LEADS_12` order, one above 0 at least.
        n_samples: samples of each lead.
    """
    parts = [
        f"{lead} ({n_bad})" for lead, n_bad in zip(LEADS_12, n_bad_by_lead, strict=True) if n_bad
    ]
    return (
        f"samples that are missing, NaN or infinite in leads {', '.join(parts)} "
        f"of {n_samples} samples; expected finite microvolts"
    )


def check_finite(leads_uv: NDArray[np.float32]) -> None:
    """Refuse a recording that has missing samples.

    Args:
        leads_uv: (n_samples, 12) float32, microvolts, columns in `LEADS_12` order.

    Raises:
        EcgRejected: `non_finite`, naming each lead and its number of bad samples.
    """
    n_bad = np.count_nonzero(~np.isfinite(leads_uv), axis=0)
    if n_bad.any():
        raise EcgRejected(RejectReason.NON_FINITE, non_finite_message(n_bad, len(leads_uv)))


@dataclass(frozen=True, slots=True)
class PlausibleRange:
    """Limits of a quantity of a person, both included.

    Attributes:
        name: of the quantity, with its unit.
        low: smallest plausible value.
        high: largest plausible value.
    """

    name: str
    low: float
    high: float

    def is_outside(self, values: NDArray[np.float64] | float) -> NDArray[np.bool_]:
        """Return, elementwise, whether a value is known and outside; an unknown one (NaN) is not.

        Args:
            values: number or array of any shape, in the unit of `name`; NaN where unknown.
        """
        array = np.asarray(values, dtype=np.float64)
        return np.asarray((array < self.low) | (array > self.high))

    def message(self, value: float) -> str:
        """Return the message for a value outside."""
        return f"{self.name} is {value:g}, expected {self.low:g} to {self.high:g}"


# Plausibility limits of this project, not of a paper: wide enough for every adult in whom a 12-lead
# ECG and CMR are compared, narrow enough to catch months for years, metres for centimetres, pounds
# read twice and placeholders (0, -1, 999).
AGE_RANGE_YEARS: Final = PlausibleRange("age_years", 18.0, 110.0)
BMI_RANGE_KG_M2: Final = PlausibleRange("bmi_kg_m2", 10.0, 80.0)
HEIGHT_RANGE_CM: Final = PlausibleRange("height_cm", 100.0, 250.0)
WEIGHT_RANGE_KG: Final = PlausibleRange("weight_kg", 25.0, 350.0)


def _check_range(
    value: float | None, limits: PlausibleRange, missing: RejectReason, outside: RejectReason
) -> Rejection | None:
    if value is None or np.isnan(value):
        return Rejection(missing, f"{limits.name} is not known, and the model needs it")
    if limits.is_outside(value):
        return Rejection(outside, limits.message(value))
    return None


def check_age_years(age_years: float | None) -> Rejection | None:
    """Return why an age must not be fed to a model, or None: 18 to 110 years are plausible."""
    return _check_range(
        age_years, AGE_RANGE_YEARS, RejectReason.AGE_MISSING, RejectReason.AGE_OUT_OF_RANGE
    )


def check_bmi_kg_m2(bmi_kg_m2: float | None) -> Rejection | None:
    """Return why a BMI must not be fed to a model, or None: 10 to 80 kg/m2 are plausible."""
    return _check_range(
        bmi_kg_m2, BMI_RANGE_KG_M2, RejectReason.BMI_MISSING, RejectReason.BMI_OUT_OF_RANGE
    )


def qrs_amplitude_uv(
    lead_ii_counts: NDArray[np.int16], uv_per_count: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return the 99.5th minus the 0.5th percentile of lead II, which follows the QRS amplitude.

    A measure of a run's scale, not of a person: use the device's measurements for the ECG rules.

    Args:
        lead_ii_counts: (n, n_samples) int16.
        uv_per_count: (n,) float32, microvolts of one count.

    Returns:
        (n,) microvolts; about 1000 in the median of a cohort.
    """
    low, high = np.percentile(lead_ii_counts, [0.5, 99.5], axis=1)
    return np.asarray((high - low) * uv_per_count.astype(np.float64))


# Plausibility limits of this project: medians of cohorts lie between 700 and 1400 uV, so that a
# scale wrong by 5 in either direction leaves the range.
PLAUSIBLE_MEDIAN_AMPLITUDE_UV: Final = (300.0, 3300.0)
TYPICAL_MEDIAN_AMPLITUDE_UV: Final = 1000.0

# How many times too large, and what usually makes it so.
_SCALE_MISTAKES: Final = (
    (5.0, "were microvolts read as counts of 5 uV?"),
    (200.0, "were counts of 5 uV read as millivolts?"),
    (1000.0, "were microvolts read as millivolts?"),
    (2000.0, "were microvolts read as values divided by 2000?"),
    (10000.0, "were microvolts read as the model's input, microvolts / 10000?"),
    (1e6, "were microvolts read as volts?"),
    (1 / 5.0, "were counts of 5 uV read as microvolts?"),
    (1 / 10.0, "was the model's input, microvolts / 10000, read as millivolts?"),
    (1 / 1000.0, "were millivolts read as microvolts?"),
    (1 / 2000.0, "were microvolts / 2000 read as microvolts?"),
    (1 / 10000.0, "was the model's input, microvolts / 10000, read as microvolts?"),
    (1e-6, "were volts read as microvolts?"),
)


@dataclass(frozen=True, slots=True)
class ScaleVerdict:
    """Whether the voltages of a run can be right, judged by the median amplitude of lead II.

    Attributes:
        plausible: None when no amplitude is known.
        times_too_large: the suspected factor, below 1 when too small; None when plausible or
            when no factor explains the amplitude.
        message: one sentence for the user.
    """

    plausible: bool | None
    times_too_large: float | None
    message: str


def scale_verdict(median_amplitude_uv: float) -> ScaleVerdict:
    """Return whether the median lead II amplitude of many ECGs is plausible, else the likely error.

    Args:
        median_amplitude_uv: median of `qrs_amplitude_uv` over a run, microvolts; NaN when no ECG
            was measured. Not for a single ECG, which may be small for good reasons.
    """
    if np.isnan(median_amplitude_uv):
        return ScaleVerdict(None, None, "no ECG was measured, the scale is not known")
    low_uv, high_uv = PLAUSIBLE_MEDIAN_AMPLITUDE_UV
    seen = f"median lead II amplitude is {median_amplitude_uv:.4g} uV"
    expected = f"expected {low_uv:g} to {high_uv:g} uV"
    if low_uv <= median_amplitude_uv <= high_uv:
        return ScaleVerdict(True, None, f"{seen}, plausible ({expected})")
    if not 0 < median_amplitude_uv < np.inf:
        return ScaleVerdict(False, None, f"{seen}, {expected}; no unit explains it")
    ratio = median_amplitude_uv / TYPICAL_MEDIAN_AMPLITUDE_UV
    factor, cause = min(_SCALE_MISTAKES, key=lambda mistake: abs(np.log(ratio / mistake[0])))
    size = f"{factor:,.0f} times too large" if factor > 1 else f"{1 / factor:,.0f} times too small"
    return ScaleVerdict(False, factor, f"{seen}, {expected}; it looks {size}: {cause}")


_BINS_PER_DECADE: Final = 20
_BIN_EDGES_UV: Final = 10 ** np.linspace(-2, 8, 10 * _BINS_PER_DECADE + 1)


@dataclass(frozen=True, slots=True)
class AmplitudeHistogram:
    """Counts of lead II amplitudes in fixed bins, to carry a run's distribution in little JSON.

    20 bins per decade from 0.01 to 1e8 uV, one bin below (for 0, too) and one above: 202 integers.

    Invariant: adding and merging give the same counts in any order.

    Attributes:
        counts: 202 counts, smallest amplitudes first.
    """

    counts: tuple[int, ...] = (0,) * 202

    def __post_init__(self) -> None:
        if len(self.counts) != len(_BIN_EDGES_UV) + 1 or min(self.counts) < 0:
            raise ValueError(
                f"an amplitude histogram has {len(_BIN_EDGES_UV) + 1} counts of 0 or more, "
                f"got {len(self.counts)} with smallest {min(self.counts, default=0)}"
            )

    @classmethod
    def from_list(cls, counts: Sequence[int]) -> AmplitudeHistogram:
        """Return the histogram that `to_list` gave."""
        return cls(tuple(counts))

    def to_list(self) -> list[int]:
        """Return the counts, as JSON can hold them."""
        return list(self.counts)

    @property
    def n(self) -> int:
        """Number of amplitudes counted."""
        return sum(self.counts)

    def add(self, amplitudes_uv: NDArray[np.float64]) -> AmplitudeHistogram:
        """Return the histogram with more amplitudes (microvolts); those not finite are left out."""
        finite = amplitudes_uv[np.isfinite(amplitudes_uv)]
        bins = np.searchsorted(_BIN_EDGES_UV, finite, side="right")
        added = np.bincount(bins, minlength=len(self.counts))
        return AmplitudeHistogram(tuple((np.array(self.counts) + added).tolist()))

    def merge(self, other: AmplitudeHistogram) -> AmplitudeHistogram:
        """Return the sum of two histograms."""
        pairs = zip(self.counts, other.counts, strict=True)
        return AmplitudeHistogram(tuple(a + b for a, b in pairs))

    def median_uv(self) -> float:
        """Return the median, microvolts, within a bin's width (12 %); NaN when empty.

        0 when it lies below the first edge, 1e8 uV when above the last.
        """
        if self.n == 0:
            return float("nan")
        below = np.cumsum((0, *self.counts))
        bin_index = int(np.searchsorted(below[1:], self.n / 2, side="left"))
        if bin_index == 0:
            return 0.0
        if bin_index == len(_BIN_EDGES_UV):
            return float(_BIN_EDGES_UV[-1])
        inside = (self.n / 2 - below[bin_index]) / self.counts[bin_index]
        return float(_BIN_EDGES_UV[bin_index - 1] * 10 ** (inside / _BINS_PER_DECADE))
