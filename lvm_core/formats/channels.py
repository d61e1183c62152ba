"""What the formats share: from named channels to twelve leads, wave amplitudes, and dates."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import (
    DERIVED_FROM_I_AND_II,
    LEADS_12,
    Measurements,
    canonical_lead,
    derive_limb_leads,
    r_column,
    s_column,
)

Item = TypeVar("Item")

INT16_LIMITS: Final = (-32768, 32767)
SCP_LEADS: Final = dict(zip((1, 2, 61, 62, 63, 64, 3, 4, 5, 6, 7, 8), LEADS_12, strict=True))
"""Leads by their number, the same in SCP-ECG (EN 1064, 5.6.3) and in MDC (ISO 11073-10102)."""

HIGHEST_RATE_HZ: Final = 1e6
MAX_SAMPLES: Final = 1_000_000
"""Of a lead: 16 minutes at 1000 Hz; bounds the memory of reading."""

_SMALLEST_STEP_UV: Final = 1e-6
_LARGEST_STEP_UV: Final = 1e6
_LARGEST_OFFSET_UV: Final = 1e9
# A clipped wave stays at the limit. One touch is not saturation: WFDB's own writer stretches each
# lead to the full integer range. In 278 of the 282 leads of 24 real recordings at 500 and 1000 Hz
# the largest or smallest count lasts at most 3 samples.
_SATURATED_RUN_SAMPLES: Final = 4
# 9 of 12 leads, 6 of 8: then the others look like a slip, and not like a way to store leads.
_SHARED_GAIN_SHARE: Final = 0.75
_OF_INTEGERS: Final = b"0123456789-,"
_SIGN_ALONE: Final = re.compile(r"-(?!\d)")  # 0 for NumPy
_INT64: Final = np.iinfo(np.int64)
_INDEPENDENT_LEADS: Final = tuple(lead for lead in LEADS_12 if lead not in DERIVED_FROM_I_AND_II)


@dataclass(frozen=True, slots=True)
class Channel:
    """One lead as stored."""

    counts: NDArray[np.integer]  # (n_samples,) integers as stored
    uv_per_count: float  # microvolts of one count, above 0
    zero_count: float = 0  # the count that means 0 microvolts, before the offset; in EDF it need not be whole
    missing_count: int | None = None  # the count that marks a missing sample; None when the format has none
    limits: tuple[int, int] = INT16_LIMITS  # smallest and largest count that the source can hold
    offset_uv: float = 0.0  # microvolts that are added after scaling

    def microvolts(self) -> NDArray[np.float64]:
        """Return the signal, (n_samples,) float64, microvolts; NaN where a sample is missing."""
        microvolts = self.counts.astype(np.float64)
        microvolts -= self.zero_count
        microvolts *= self.uv_per_count
        microvolts += self.offset_uv
        if self.missing_count is not None:
            microvolts[self.counts == self.missing_count] = np.nan
        return microvolts

    def is_saturated(self) -> bool:
        """Return True when four samples in a row lie on or beyond one limit."""
        low, high = self.limits
        if low < self.counts.min() and self.counts.max() < high:
            return False
        at_low, at_high = self.counts <= low, self.counts >= high
        if self.missing_count is not None:
            at_low &= self.counts != self.missing_count
            at_high &= self.counts != self.missing_count
        return _has_run(at_low) or _has_run(at_high)


def _has_run(at_limit: NDArray[np.bool_]) -> bool:
    if np.count_nonzero(at_limit) < _SATURATED_RUN_SAMPLES:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(at_limit, _SATURATED_RUN_SAMPLES)
    return bool(windows.all(axis=1).any())


class LeadFields(TypedDict):
    """The fields of an `Ecg` that its channels give; see there."""

    leads_uv: NDArray[np.float32]
    step_uv: float
    leads_derived: bool
    saturated_leads: tuple[str, ...]
    odd_gain_leads: tuple[str, ...]


def leads_by_name(named: Iterable[tuple[str, Item]], where: str) -> dict[str, Item]:
    """Return what belongs to the twelve leads, by canonical name; other channels are left out.

    Refuses a file in which a lead is there twice (`unreadable`) or one of the eight independent
    leads is missing (`missing_lead`). `where` names the part of the file in messages.
    """
    found: dict[str, Item] = {}
    n_other = 0
    for name, item in named:
        lead = canonical_lead(name)
        if lead in found:
            raise EcgRejected(RejectReason.UNREADABLE, f"lead {lead} is twice in {where}; expected each once")
        if lead is None:
            n_other += 1
        else:
            found[lead] = item
    _require_leads(found, where, n_other)
    return found


def _require_leads(found: Mapping[str, object], where: str, n_other: int = 0) -> None:
    """Refuse a file without one of the eight independent leads; the other four can be derived."""
    missing = [lead for lead in _INDEPENDENT_LEADS if lead not in found]
    if missing:
        held = ", ".join(lead for lead in LEADS_12 if lead in found) or "none of the twelve"
        others = f" and {n_other} other channel{'s' if n_other > 1 else ''}" if n_other else ""
        raise EcgRejected(
            RejectReason.MISSING_LEAD,
            f"lead {', '.join(missing)} is missing from {where}, which holds {held}{others}; "
            f"expected {', '.join(_INDEPENDENT_LEADS)} at least",
        )


def _check_lengths_and_steps(channels: Mapping[str, Channel], where: str) -> None:
    lengths = {lead: int(channel.counts.size) for lead, channel in channels.items()}
    if len(set(lengths.values())) != 1:
        listed = ", ".join(f"{lead} {n}" for lead, n in lengths.items())
        raise EcgRejected(
            RejectReason.TRUNCATED,
            f"leads of {where} have different numbers of samples ({listed}); expected one length",
        )
    if not next(iter(lengths.values())):
        raise EcgRejected(RejectReason.TRUNCATED, f"leads of {where} hold 0 samples; expected 10 s of signal")
    for lead, channel in channels.items():
        if not _SMALLEST_STEP_UV <= channel.uv_per_count <= _LARGEST_STEP_UV:
            raise EcgRejected(
                RejectReason.UNKNOWN_UNIT,
                f"one count of lead {lead} in {where} is {channel.uv_per_count:g} uV; "
                "expected 1e-06 to 1e+06 uV. The scale in the file cannot be right",
            )
        if not abs(channel.offset_uv) <= _LARGEST_OFFSET_UV:
            raise EcgRejected(
                RejectReason.UNKNOWN_UNIT,
                f"offset of lead {lead} in {where} is {channel.offset_uv:g} uV; "
                "expected -1e+09 to 1e+09 uV. The offset in the file cannot be right",
            )


def assemble(channels: Mapping[str, Channel], where: str) -> LeadFields:
    """Put channels, by canonical lead name, together as twelve leads in microvolts.

    III, aVR, aVL and aVF are used as stored where they are there, and derived from I and II
    otherwise. The arithmetic is float64 and is rounded once, to float32. Refuses a recording with
    `missing_lead`, `truncated` or `unknown_unit`; `where` names the part of the file in messages.
    """
    _require_leads(channels, where)
    _check_lengths_and_steps(channels, where)
    leads_uv = np.empty((len(LEADS_12), channels["I"].counts.size))
    for i, lead in enumerate(LEADS_12):
        if lead in channels:
            leads_uv[i] = channels[lead].microvolts()
    absent = [lead for lead in DERIVED_FROM_I_AND_II if lead not in channels]
    if absent:
        derived = derive_limb_leads(leads_uv[LEADS_12.index("I")], leads_uv[LEADS_12.index("II")])
        for lead in absent:
            leads_uv[LEADS_12.index(lead)] = derived[lead]
    return LeadFields(
        leads_uv=leads_uv.astype(np.float32).T,
        step_uv=min(channel.uv_per_count for channel in channels.values()),
        leads_derived=bool(absent),
        saturated_leads=tuple(lead for lead in LEADS_12 if lead in channels and channels[lead].is_saturated()),
        odd_gain_leads=_odd_gain(channels),
    )


def _odd_gain(channels: Mapping[str, Channel]) -> tuple[str, ...]:
    """Return the leads that do not share the gain and the zero of at least three quarters of all.

    A writer that stretches each lead to the full range gives all leads gains of their own: those
    are right as far as can be known, and none is named.
    """
    calibrations = {lead: (c.uv_per_count, c.zero_count, c.offset_uv) for lead, c in channels.items()}
    shared, n_shared = Counter(calibrations.values()).most_common(1)[0]
    if n_shared < _SHARED_GAIN_SHARE * len(channels):
        return ()
    return tuple(lead for lead in LEADS_12 if calibrations.get(lead, shared) != shared)


_WAVES: Final = frozenset({"Q", "R", "S", "R1", "S1"})

# Words of makers, devices and programs of measurement, and numbers of models and versions.
_MAKERS: Final = frozenset(
    "amps allyn btl burdick calecg cardiac cardiosoft clinic denshi dxl edan eli fukuda ge glasgow healthcare "
    "heart heartstart hillrom instrument kohden mac marquette medical mindray mortara mrx muse nihon norav "
    "pagewriter philips schiller science siemens spacelabs synthetic systems uni-g veritas welch".split()
)
_MODEL: Final = re.compile(r"[A-Za-z]{0,4}\d{1,3}(?:\.\d{1,3}){0,3}[A-Za-z]{0,2}", re.ASCII)


def whole_counts(text: str, separator: str | None, lead: str, where: str) -> NDArray[np.int64]:
    """Return the integers of a text, (n_samples,); `separator` None stands for any white space.

    Refuses more than `MAX_SAMPLES` and what is no whole number (`unreadable`); `where` names the
    part of the file in messages.
    """
    if not text:
        return np.zeros(0, dtype=np.int64)
    listed = text if separator == "," else ",".join(text.split(separator, MAX_SAMPLES))
    if listed.count(",") >= MAX_SAMPLES:
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"lead {lead} in {where} has more than {MAX_SAMPLES} samples, the limit; expected a resting ECG of 10 s",
        )
    try:
        if "_" in text or not text.isascii():  # int() would take them
            raise ValueError("an underscore and a letter are no part of a number")
        if separator is None and "," in text:
            raise ValueError("a comma is no white space")
        counts = _parsed(listed)
        return np.array([int(token) for token in listed.split(",")], dtype=np.int64) if counts is None else counts
    except (ValueError, OverflowError) as error:
        separated = "white space" if separator is None else "commas"
        raise EcgRejected(
            RejectReason.UNREADABLE,
            f"samples of lead {lead} in {where} are not all whole numbers; expected integers separated by {separated}",
        ) from error


def _parsed(listed: str) -> NDArray[np.int64] | None:
    """Return the integers between commas, four times as fast as int(); None if int() must decide.

    White space is dropped where a line ends with a comma. NumPy takes what is no number for 0 or
    stops there, so that only digits, signs and commas may reach it, and the number of commas and
    the last number must agree. Of a number that is too large it takes the limit.
    """
    *lines, last = listed.split()
    joined = "".join([*lines, last]) if all(line.endswith(",") for line in lines) else listed
    if joined.encode("ascii").translate(None, _OF_INTEGERS) or _SIGN_ALONE.search(joined):
        return None
    try:
        counts = np.fromstring(joined, dtype=np.int64, sep=",")
    except (ValueError, DeprecationWarning):  # some versions of NumPy warn, others refuse
        return None
    if counts.size != joined.count(",") + 1 or counts[-1] != int(joined[joined.rfind(",") + 1 :]):
        return None
    is_whole = _INT64.min < counts.min() and counts.max() < _INT64.max
    return np.asarray(counts, dtype=np.int64) if is_whole else None


def finite_number(text: str) -> float | None:
    """Return the number that a text states; None when it states none, or one that is not finite."""
    try:
        value = math.nan if "_" in text else float(text)  # float() would take an underscore
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def measurements_of(
    waves_uv: Mapping[str, Mapping[str, float]], qrs_duration_ms: float | None, measured_by: str | None
) -> Measurements:
    """Return what the device measured; None for what it did not.

    `waves_uv` holds magnitudes by lead and wave (Q R S R1 S1), microvolts, 0 for an absent wave,
    without the leads and waves that were not measured. Of `measured_by`, the program or the device
    as the file names it, known words and numbers of models and versions are kept, and `device`
    where there are none: the field is free text. It is dropped where nothing was measured.
    """
    measured_by = _known_words(measured_by)
    amplitudes_uv = {r_column(lead): _r_uv(waves_uv.get(lead, {})) for lead in LEADS_12}
    amplitudes_uv |= {s_column(lead): _s_uv(waves_uv.get(lead, {})) for lead in LEADS_12}
    measured = qrs_duration_ms is not None or any(v is not None for v in amplitudes_uv.values())
    return Measurements(
        **amplitudes_uv,
        qrs_voltage_sum_uv=_voltage_sum_uv(waves_uv),
        qrs_duration_ms=qrs_duration_ms,
        measured_by=measured_by if measured else None,
        qrs_measured_by=None if qrs_duration_ms is None else measured_by,
    )


def _known_words(measured_by: str | None) -> str:
    words = [word.strip(",.") for word in (measured_by or "").split()]
    kept = [word for word in words if word.lower() in _MAKERS or _MODEL.fullmatch(word)]
    return " ".join(kept) or "device"


def _voltage_sum_uv(waves_uv: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the sum of R and the deeper of Q and S over all leads; None unless all are there."""
    if any(not _WAVES <= waves_uv.get(lead, {}).keys() for lead in LEADS_12):
        return None
    leads = [waves_uv[lead] for lead in LEADS_12]
    return sum(max(one["R"], one["R1"]) + max(one["Q"], one["S"], one["S1"]) for one in leads)


def _r_uv(waves_uv: Mapping[str, float]) -> float | None:
    """Return the R amplitude of one lead, the larger of R and R'."""
    return max(waves_uv["R"], waves_uv["R1"]) if {"R", "R1"} <= waves_uv.keys() else None


def _s_uv(waves_uv: Mapping[str, float]) -> float | None:
    """Return the larger of S and S'; a Q wave without R and S is a QS complex and counts as S."""
    if not {"S", "S1"} <= waves_uv.keys():
        return None
    s = max(waves_uv["S"], waves_uv["S1"])
    if s > 0:
        return s
    r = _r_uv(waves_uv)
    if r is None or "Q" not in waves_uv:
        return None
    return waves_uv["Q"] if r == 0 else 0.0


def local_datetime(date: tuple[int, int, int], time_of_day: tuple[int, int, int] = (0, 0, 0)) -> dt.datetime | None:
    """Return the local moment of (year, month, day) and (hour, minute, second); None if invalid."""
    try:
        return dt.datetime(*date, *time_of_day)
    except (ValueError, OverflowError):
        return None


_COMPACT: Final = re.compile(r"(\d{4})(\d{2})(\d{2})(\d{2})?(\d{2})?(\d{2})?(?:\.\d*)?(?:[-+]\d{2,4})?", re.ASCII)


def compact_datetime(text: str) -> dt.datetime | None:
    """Return the local moment of `20190517101112.25+0200`, as DICOM and HL7 write it, or None.

    Fractions of a second and the zone are dropped; what is left out of the time of day is 0.
    """
    match = _COMPACT.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
    return local_datetime((year, month, day), (hour, minute, second))


_MONTHS: Final = ("JANUARY FEBRUARY MARCH APRIL MAY JUNE JULY AUGUST SEPTEMBER OCTOBER NOVEMBER DECEMBER").split()
_NAMED_DATES: Final = (
    re.compile(r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})", re.ASCII),
    re.compile(r"(?P<day>\d{1,2})[-/. ](?P<month>[A-Z]{3,9})[-/. ](?P<year>\d{4})", re.ASCII),
    re.compile(r"(?P<month>[A-Z]{3,9})[-/. ](?P<day>\d{1,2})[-/., ]+(?P<year>\d{4})", re.ASCII),
)


def unambiguous_date(text: str) -> tuple[int, int, int] | None:
    """Return year, month and day of a date that can be read in one way only, or None.

    Those are `2019-05-17` and dates with an English month name, in full or its first three letters:
    `17-MAY-2019`, `May 17, 2019`. A date in numbers with the year last is read by the format's own
    order, never here.
    """
    for pattern in _NAMED_DATES:
        match = pattern.fullmatch(text.strip().upper())
        if match is not None:
            month = _month(match["month"])
            return None if month is None else (int(match["year"]), month, int(match["day"]))
    return None


def _month(text: str) -> int | None:
    if text.isdigit():
        return int(text)
    names = [name for name in _MONTHS if text in (name, name[:3])]
    return _MONTHS.index(names[0]) + 1 if names else None
