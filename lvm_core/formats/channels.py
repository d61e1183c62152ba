"""From the channels of a device file to the twelve leads in microvolts."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lvm_core.errors import EcgRejected, RejectReason
from lvm_core.signal.ecg import DERIVED_FROM_I_AND_II, LEADS_12, derive_limb_leads

INT16_LIMITS: Final = (-32768, 32767)
HIGHEST_RATE_HZ: Final = 1e6
_SMALLEST_STEP_UV: Final = 1e-6
_LARGEST_STEP_UV: Final = 1e6
# A clipped wave stays at the limit. One touch is not saturation: WFDB's own writer stretches each
# lead to the full integer range. In 278 of the 282 leads of 24 real recordings at 500 and 1000 Hz
# the largest or smallest count lasts at most 3 samples.
SATURATED_RUN_SAMPLES: Final = 4
# 9 of 12 leads, 6 of 8: then the others look like a slip, and not like a way to store leads.
SHARED_GAIN_SHARE: Final = 0.75
INDEPENDENT_LEADS: Final = tuple(lead for lead in LEADS_12 if lead not in DERIVED_FROM_I_AND_II)


@dataclass(frozen=True, slots=True)
class Channel:
    """One lead as stored.

    Attributes:
        counts: (n_samples,) integers as stored.
        uv_per_count: microvolts of one count, above 0.
        zero_count: the count that means 0 microvolts.
        missing_count: the count that marks a missing sample; None when the format has none.
        limits: smallest and largest count that the source can hold.
    """

    counts: NDArray[np.integer]
    uv_per_count: float
    zero_count: int = 0
    missing_count: int | None = None
    limits: tuple[int, int] = INT16_LIMITS

    def microvolts(self) -> NDArray[np.float64]:
        """Return the signal, (n_samples,) float64, microvolts; NaN where a sample is missing."""
        microvolts = (self.counts.astype(np.float64) - self.zero_count) * self.uv_per_count
        if self.missing_count is not None:
            microvolts[self.counts == self.missing_count] = np.nan
        return microvolts

    def is_saturated(self) -> bool:
        """Return True when `SATURATED_RUN_SAMPLES` in a row lie on or beyond one limit."""
        low, high = self.limits
        at_low, at_high = self.counts <= low, self.counts >= high
        if self.missing_count is not None:
            at_low &= self.counts != self.missing_count
        return _has_run(at_low) or _has_run(at_high)


def _has_run(at_limit: NDArray[np.bool_]) -> bool:
    if np.count_nonzero(at_limit) < SATURATED_RUN_SAMPLES:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(at_limit, SATURATED_RUN_SAMPLES)
    return bool(windows.all(axis=1).any())


@dataclass(frozen=True, slots=True)
class TwelveLeads:
    """What `assemble` makes of the channels.

    Attributes:
        leads_uv: (n_samples, 12) float32, microvolts, columns in `LEADS_12` order.
        step_uv: the smallest microvolts per count of the channels that were used.
        derived: True when one of III, aVR, aVL, aVF was computed from I and II.
        saturated: names of stored leads that stay at a limit of the source.
        odd_gain: leads whose gain or zero differs from the one that nearly all others share.
    """

    leads_uv: NDArray[np.float32]
    step_uv: float
    derived: bool
    saturated: tuple[str, ...]
    odd_gain: tuple[str, ...] = ()


def require_leads(found: Mapping[str, object], where: str, n_other: int = 0) -> None:
    """Check that the eight independent leads were found; the other four can be derived.

    Args:
        found: what was found, by canonical lead name.
        where: the part of the file that was read, for the message.
        n_other: channels with a name that is none of the twelve, for the message.

    Raises:
        EcgRejected: `missing_lead`, naming what is missing.
    """
    missing = [lead for lead in INDEPENDENT_LEADS if lead not in found]
    if missing:
        held = ", ".join(lead for lead in LEADS_12 if lead in found) or "none of the twelve"
        others = f" and {n_other} other channel{'s' if n_other > 1 else ''}" if n_other else ""
        raise EcgRejected(
            RejectReason.MISSING_LEAD,
            f"lead {', '.join(missing)} is missing from {where}, which holds {held}{others}; "
            f"expected {', '.join(INDEPENDENT_LEADS)} at least",
        )


def require_equal_lengths(channels: Mapping[str, Channel], where: str) -> None:
    """Check that every channel has the same number of samples, and at least one.

    Raises:
        EcgRejected: `truncated`, with the lengths.
    """
    lengths = {lead: int(channel.counts.size) for lead, channel in channels.items()}
    if len(set(lengths.values())) != 1:
        told = ", ".join(f"{lead} {n}" for lead, n in lengths.items())
        raise EcgRejected(
            RejectReason.TRUNCATED, f"leads of {where} have different numbers of samples ({told}); expected one length"
        )
    if not next(iter(lengths.values())):
        raise EcgRejected(RejectReason.TRUNCATED, f"leads of {where} hold 0 samples; expected 10 s of signal")


def assemble(channels: Mapping[str, Channel], where: str) -> TwelveLeads:
    """Put the channels together as twelve leads in microvolts.

    The arithmetic is float64 and is rounded once, to float32.

    Args:
        channels: by canonical lead name; the eight independent leads at least. III, aVR, aVL and
            aVF are used as stored where they are there, and derived from I and II otherwise.
        where: the part of the file that was read, for messages.

    Raises:
        EcgRejected: `missing_lead`, `truncated` or `unknown_unit`.
    """
    require_leads(channels, where)
    require_equal_lengths(channels, where)
    _check_steps(channels, where)
    microvolts = {lead: channel.microvolts() for lead, channel in channels.items()}
    absent = [lead for lead in DERIVED_FROM_I_AND_II if lead not in channels]
    if absent:
        derived = derive_limb_leads(microvolts["I"], microvolts["II"])
        microvolts.update({lead: derived[lead].astype(np.float64) for lead in absent})
    return TwelveLeads(
        leads_uv=np.column_stack([microvolts[lead] for lead in LEADS_12]).astype(np.float32),
        step_uv=min(channel.uv_per_count for channel in channels.values()),
        derived=bool(absent),
        saturated=tuple(lead for lead in LEADS_12 if lead in channels and channels[lead].is_saturated()),
        odd_gain=_odd_gain(channels),
    )


def _odd_gain(channels: Mapping[str, Channel]) -> tuple[str, ...]:
    """Return the leads that do not share the gain and the zero of at least three quarters of all.

    A writer that stretches each lead to the full range gives all leads gains of their own: those
    are right as far as can be known, and none is named.
    """
    calibrations = {lead: (c.uv_per_count, c.zero_count) for lead, c in channels.items()}
    shared, n_shared = Counter(calibrations.values()).most_common(1)[0]
    if n_shared < SHARED_GAIN_SHARE * len(channels):
        return ()
    return tuple(lead for lead in LEADS_12 if calibrations.get(lead, shared) != shared)


def _check_steps(channels: Mapping[str, Channel], where: str) -> None:
    for lead, channel in channels.items():
        if not _SMALLEST_STEP_UV <= channel.uv_per_count <= _LARGEST_STEP_UV:
            raise EcgRejected(
                RejectReason.UNKNOWN_UNIT,
                f"one count of lead {lead} in {where} is {channel.uv_per_count:g} uV; "
                "expected 1e-06 to 1e+06 uV. The scale in the file cannot be right",
            )


def local_datetime(date: tuple[int, int, int], time_of_day: tuple[int, int, int] = (0, 0, 0)) -> dt.datetime | None:
    """Return a local date and time without a zone, or None when there is no such moment.

    Args:
        date: year, month, day.
        time_of_day: hour, minute, second; midnight where the file gives a date alone.
    """
    try:
        return dt.datetime(*date, *time_of_day)
    except (ValueError, OverflowError):
        return None


_MONTHS: Final = (
    "JANUARY",
    "FEBRUARY",
    "MARCH",
    "APRIL",
    "MAY",
    "JUNE",
    "JULY",
    "AUGUST",
    "SEPTEMBER",
    "OCTOBER",
    "NOVEMBER",
    "DECEMBER",
)
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
