"""Flags and rejections of records, and the plausible ranges of people's values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import LEADS_12


class QualityFlag(StrEnum):
    """A remark that travels with a recording into `quality_flags`; the list is closed."""

    POOR_DATA_QUALITY = "poor_data_quality"  # the device's own statement
    SATURATED = "saturated"  # a lead stays at a limit of the source's integer type, or at its own as if clipped
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
    AMPLITUDE_UNUSUAL = "amplitude_unusual"  # outside the range of nearly all ECGs
    LEAD_OUT_OF_PROPORTION = "lead_out_of_proportion"  # one lead far larger or smaller than others
    LIMB_LEADS_INCONSISTENT = "limb_leads_inconsistent"  # they do not follow from I and II
    GAIN_DIFFERS = "gain_differs"  # a few leads state another gain or zero than all others
    SCALE_CONTRADICTED = "scale_contradicted"  # the file states another rate or step for its median beat
    MEASUREMENTS_DISAGREE = "measurements_disagree"  # the trace cannot have the device's R and S
    SAMPLING_RATE_UNUSUAL = "sampling_rate_unusual"  # a rate that no device is known to have
    BASELINE_OFFSET = "baseline_offset"  # the mean of a lead is far from 0
    ARM_LEADS_REVERSED = "arm_leads_reversed"  # suspected: P and QRS are negative in I, V6 is as usual
    LEAD_NEAR_FLAT = "lead_near_flat"  # a lead moves by less than 100 uV for 2 s
    BASELINE_WANDER = "baseline_wander"  # the baseline of a lead moves by over 500 uV
    MAINS_NOISE = "mains_noise"  # a sine of 50 or 60 Hz of over 50 uV in a lead
    HIGH_FREQUENCY_NOISE = "high_frequency_noise"  # noise between beats above an SD of 25 uV in a lead
    PACING_SPIKES = "pacing_spikes"  # spikes as those of a pacemaker in three beats or more
    MASS_IMPLAUSIBLE = "mass_implausible"  # a prediction outside MASS_RANGE_G
    INDEX_UNKNOWN = "index_unknown"  # no LV mass index: height or weight is not known


FLAGS_OF_SIGNALS: Final = frozenset(
    flag.value
    for flag in (
        QualityFlag.ARM_LEADS_REVERSED,
        QualityFlag.LEAD_NEAR_FLAT,
        QualityFlag.BASELINE_WANDER,
        QualityFlag.MAINS_NOISE,
        QualityFlag.HIGH_FREQUENCY_NOISE,
        QualityFlag.PACING_SPIKES,
    )
)
"""Flags that only a look at the signal gives (`lvm_core.signal.disturbances`)."""

FLAGS_OF_SCORING: Final = frozenset(
    flag.value
    for flag in QualityFlag
    if flag.name.endswith("_OUT_OF_RANGE")
    or flag
    in (
        QualityFlag.AGE_NOT_AT_RECORDING,
        QualityFlag.BIRTH_DAY_ASSUMED,
        QualityFlag.MASS_IMPLAUSIBLE,
        QualityFlag.INDEX_UNKNOWN,
    )
)
"""Flags that come from the table of people or from a prediction, not from the recording."""


class Rejection(NamedTuple):
    """Why a recording cannot be scored."""

    reason: RejectReason  # member of `RejectReason`
    message: str  # what is wrong with its value and unit; no personal data


def non_finite_message(n_bad_by_lead: Sequence[int] | NDArray[np.integer], n_samples: int) -> str:
    """Return the message for missing, NaN or infinite samples, counted in `LEADS_12` order."""
    parts = [f"{lead} ({n_bad})" for lead, n_bad in zip(LEADS_12, n_bad_by_lead, strict=True) if n_bad]
    return (
        f"samples that are missing, NaN or infinite in leads {', '.join(parts)} "
        f"of {n_samples} samples; expected finite microvolts"
    )


def check_finite(leads_uv: NDArray[np.float32]) -> None:
    """Refuse a recording, (n_samples, 12), that has missing samples: `non_finite`."""
    if not (is_finite := np.isfinite(leads_uv)).all():
        n_bad = np.count_nonzero(~is_finite, axis=0)
        raise EcgRejected(RejectReason.NON_FINITE, non_finite_message(n_bad, len(leads_uv)))


@dataclass(frozen=True, slots=True)
class PlausibleRange:
    """Limits of a quantity of a person, both included."""

    name: str  # of the quantity, with its unit
    low: float  # smallest plausible value
    high: float  # largest plausible value

    def is_outside(self, values: NDArray[np.floating] | float) -> NDArray[np.bool_]:
        """Return, elementwise, whether a value is outside; an unknown one (NaN) is not."""
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

# Predictions outside are flagged. CMR in healthy adults of UK Biobank: 42 (SD 7) g/m2 in women, 53
# (SD 9) g/m2 in men (Petersen SE et al., J Cardiovasc Magn Reson 2017;19:18), so that three SDs
# below the mean of a woman of 1.5 m2 are 32 g. The published models give 89.7 g with an SD of
# 24.8 g (facts of the training set): 250 g are 6.5 SDs above, and beyond what they were trained on.
MASS_RANGE_G: Final = PlausibleRange("lvm_pred_g", 30.0, 250.0)


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
    return _check_range(age_years, AGE_RANGE_YEARS, RejectReason.AGE_MISSING, RejectReason.AGE_OUT_OF_RANGE)


def check_bmi_kg_m2(bmi_kg_m2: float | None) -> Rejection | None:
    """Return why a BMI must not be fed to a model, or None: 10 to 80 kg/m2 are plausible."""
    return _check_range(bmi_kg_m2, BMI_RANGE_KG_M2, RejectReason.BMI_MISSING, RejectReason.BMI_OUT_OF_RANGE)
